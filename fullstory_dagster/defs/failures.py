"""Errors as Dagster failures, in one place."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import dagster as dg

from fullstory_dagster.errors import FullStoryError
from fullstory_dagster.ingest.sync import Outcome

_SHOWN = 20


@contextmanager
def as_failure() -> Iterator[None]:
    """Let a step that raises one of our errors fail with its sentence, and not with where in the code it came from."""
    try:
        yield
    except FullStoryError as error:
        raise dg.Failure(str(error), allow_retries=False) from error


def raise_for_failed(context: dg.AssetExecutionContext, outcomes: Sequence[Outcome[Any]]) -> None:
    """Fail the step if any window failed, after the good ones were reported.

    Dagster would not report a step that fails: the good windows are logged by hand, so that they stay green and what is
    downstream of them goes on. Nothing is retried by Dagster: the client has tried, and the sensor will.

    Raises:
        dagster.Failure: names every window that failed, with its sentence.
    """
    failed = [outcome for outcome in outcomes if outcome.error]
    if not failed:
        return
    sentences = {str(outcome.window): str(outcome.error) for outcome in failed}
    n_good = len(outcomes) - len(failed)
    first = next(iter(sentences.values()))
    description = (
        first
        if len(outcomes) == 1
        else f"{len(failed)} of {len(outcomes)} windows failed, {n_good} are done and kept. The first: {first}"
    )
    table = "\n".join(f"- **{window}**: {sentence}" for window, sentence in list(sentences.items())[:_SHOWN])
    raise dg.Failure(
        description=description,
        metadata={"failed windows": dg.MetadataValue.md(table), "windows failed": len(failed), "windows done": n_good},
        allow_retries=False,
    ) from failed[0].error
