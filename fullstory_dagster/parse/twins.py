"""Events that agree in their identity: told apart while a window is written, or after it where that is too early."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import polars as pl

from fullstory_dagster.fields import FIELDS
from fullstory_dagster.parse.identity import twin_id

_MAX_HELD = 20_000
"""Rows of one instant that are held back, at most: a bundle may have nothing else."""

_SLICE_ROWS = 50_000


class TwinNumbering:
    """Gives the events of one window that share an id an id each.

    Twins have one EventStart, and the exports seen are in the order of time: nearly always twins come one after the
    other, and are numbered on their way into the file. Those that come apart are found by eight bytes that
    are kept of every id, and numbered when the whole window is there.
    """

    def __init__(self) -> None:
        self._seen: list[np.ndarray] = []
        self._first_ids: dict[str, str] = {}

    def number(self, batches: Iterable[pl.DataFrame]) -> Iterator[pl.DataFrame]:
        """Number the twins that stand together; the rows in the order they came.

        Args:
            batches: rows of ``BATCH_SCHEMA`` and more columns, in the order they were sent.
        """
        held: pl.DataFrame | None = None
        for batch in batches:
            rows = batch if held is None else pl.concat([held, batch])
            if rows.is_empty():
                yield rows
                continue
            starts = rows["EventStart"]
            before_last = (starts != starts[-1]).arg_true()
            n_given = before_last[-1] + 1 if len(before_last) else 0
            if rows.height - n_given > _MAX_HELD:
                n_given = rows.height
            yield self._numbered(rows.head(n_given))
            held = rows.slice(n_given)
        if held is not None:
            yield self._numbered(held)

    def renumber(self, rows: pl.LazyFrame) -> Iterator[pl.DataFrame] | None:
        """Number the twins that came apart.

        Args:
            rows: what became of the batches of :meth:`number`, in their order.

        Returns:
            Iterator: all the rows, with other ids where these were wrong; None where none is.
        """
        seen = np.concatenate(self._seen) if self._seen else np.empty(0, dtype=np.uint64)
        self._seen.clear()
        seen.sort()
        apart = np.unique(seen[1:][seen[1:] == seen[:-1]])
        if not len(apart):
            return None
        among = pl.Series(apart).implode()
        # In one batch some of them may have been numbered, without those in others.
        renamed = {"new": list(self._first_ids), "first": list(self._first_ids.values())}
        back = pl.DataFrame(renamed, schema={"new": pl.String, "first": pl.String})
        back = back.filter(pl.col("first").hash().is_in(among))
        shared = rows.with_columns(pl.col("_event_id").replace(back["new"], back["first"]))
        candidates = shared.with_row_index("_row").filter(pl.col("_event_id").hash().is_in(among))
        return _with_ids(shared, number_twins(candidates.collect(engine="streaming")))

    def _numbered(self, rows: pl.DataFrame) -> pl.DataFrame:
        short_ids = rows["_event_id"].hash()
        different = short_ids.unique()
        self._seen.append(different.to_numpy())
        if len(different) == rows.height:
            return rows
        new_ids = number_twins(rows.with_row_index("_row").filter(short_ids.is_duplicated()))
        ids = rows["_event_id"]
        self._first_ids.update(zip(new_ids["_event_id"], ids.gather(new_ids["_row"]), strict=True))
        return rows.with_columns(_event_id=ids.scatter(new_ids["_row"], new_ids["_event_id"]))


def number_twins(rows: pl.DataFrame) -> pl.DataFrame:
    """Find events that share an id and give each but the first one of its own.

    Twins are put in order by the rest of their content, then by position, so that an export in another order gives the
    same rows the same ids. They are seen as they are stored: twins that differ in nothing but an excluded column are
    the same row by then, and may change places.

    Args:
        rows: at least all that share an id, in the order they were sent: ``_row`` (UInt32, position), ``_event_id``,
            every field, ``CustomVars``.

    Returns:
        DataFrame: ``_row`` and ``_event_id``, one row for each event to be renamed, by position.
    """
    shared = rows.filter(pl.col("_event_id").is_duplicated())
    # What the export was called says nothing of the event.
    said = [pl.col(name).cast(pl.String).fill_null("") for name in (*(field.name for field in FIELDS), "CustomVars")]
    twins = (
        shared.select("_row", "_event_id", content=pl.concat_str(said, separator="\x1f"))
        .sort("_event_id", "content", "_row")
        .with_columns(ordinal=pl.int_range(pl.len()).over("_event_id"))
        .filter(pl.col("ordinal") > 0)
        .sort("_row")
    )
    twin_ids = [twin_id(first_id, n) for first_id, n in zip(twins["_event_id"], twins["ordinal"], strict=True)]
    return twins.select("_row").with_columns(_event_id=pl.Series(twin_ids, dtype=pl.String))


def _with_ids(rows: pl.LazyFrame, new_ids: pl.DataFrame) -> Iterator[pl.DataFrame]:
    n_rows = rows.select(pl.len()).collect().item()
    for start in range(0, n_rows, _SLICE_ROWS):
        part = rows.slice(start, _SLICE_ROWS).collect()
        new = new_ids.filter(pl.col("_row").is_between(start, start + _SLICE_ROWS, closed="left"))
        yield part.with_columns(_event_id=part["_event_id"].scatter(new["_row"] - start, new["_event_id"]))
