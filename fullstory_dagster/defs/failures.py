"""Errors as Dagster failures, in one place: each says which window, what happened, what was kept and what to do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import dagster as dg

from fullstory_dagster.defs.names import EVENTS, PARSED_EVENTS, RAW_BUNDLES
from fullstory_dagster.errors import FullStoryError, WindowNotOfferedError, WindowUnavailableError, sentence_of
from fullstory_dagster.ingest.side_by_side import Outcome
from fullstory_dagster.store.attempts import may_pass
from fullstory_dagster.windows import Window

_DONE = {RAW_BUNDLES: "fetched", PARSED_EVENTS: "parsed", EVENTS: "loaded"}

_KEPT = {
    RAW_BUNDLES: "What was fetched and loaded of it before is unchanged",
    PARSED_EVENTS: "What was loaded of it before is unchanged",
    EVENTS: "What the warehouse held of it before is unchanged",
}


class UnexpectedError(Exception):
    """Stands in for an error that is not ours, with its traceback and without the values it quotes."""


@contextmanager
def as_failure(what: str) -> Iterator[None]:
    """Let a step fail with a sentence, and not with where in the code it came from.

    Args:
        what: was to be done, as a sentence begins: ``The check of …``.
    """
    try:
        yield
    except dg.Failure:
        raise
    except FullStoryError as error:
        # Without what it came from: its sentence is all there is to know, and a library may quote a value.
        raise dg.Failure(sentence_of(error), allow_retries=False) from None
    except Exception as error:
        raise dg.Failure(
            f"{what} failed with an error nobody expected, which may be a mistake in this project: "
            f"{sentence_of(error)} The traceback follows.",
            allow_retries=False,
        ) from _traceback_of(error)


def window_failure(window: Window, asset_name: str, error: BaseException) -> str:
    """What a person on call has to know of one window that failed."""
    said = sentence_of(error)
    if not isinstance(error, FullStoryError | OSError):
        said = f"an error nobody expected, which may be a mistake in this project: {said}"
    if str(window) not in said:
        said = f"The window {window} was not {_DONE[asset_name]}: {said}"
    if isinstance(error, WindowUnavailableError | WindowNotOfferedError):
        # Nothing is wrong, and the error says when it can be had, or that it never can.
        return said
    if may_pass(error):
        then = "the sensor asks for it again within an hour"
    else:
        then = f"it is not tried again by itself: mend that, then materialize {asset_name} for it again"
    return f"{said} {_KEPT[asset_name]}; {then}."


def raise_for_failed(asset_name: str, outcomes: Sequence[Outcome[Any]]) -> None:
    """Fail the step if any window failed, after the good ones were reported.

    Nothing is retried by Dagster: the client has tried, and the sensor will.

    Raises:
        dagster.Failure: names every window that failed, with its sentence.
    """
    sentences = {
        outcome.window: window_failure(outcome.window, asset_name, outcome.error)
        for outcome in outcomes
        if outcome.error
    }
    if not sentences:
        return
    n_good = len(outcomes) - len(sentences)
    [first, *others] = (sentences[window] for window in sorted(sentences))
    description = first
    if len(outcomes) > 1:
        rest = "".join(f"\n{sentence}" for sentence in others)
        are_done = "1 is" if n_good == 1 else f"{n_good} are"
        description = f"{len(sentences)} of {len(outcomes)} windows failed, {are_done} done and kept. {first}{rest}"
    table = "\n".join(f"- **{window}**: {sentence}" for window, sentence in sorted(sentences.items()))
    unforeseen = [o.error for o in outcomes if o.error and not isinstance(o.error, FullStoryError)]
    raise dg.Failure(
        description=description,
        metadata={
            "failed windows": dg.MetadataValue.md(table),
            "windows failed": len(sentences),
            "windows done": n_good,
        },
        allow_retries=False,
    ) from _traceback_of(unforeseen[0] if unforeseen else None)


def _traceback_of(error: BaseException | None) -> UnexpectedError | None:
    if error is None:
        return None
    return UnexpectedError(sentence_of(error)).with_traceback(error.__traceback__)
