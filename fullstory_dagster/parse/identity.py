"""``_event_id``: what makes two rows the same event, in every export of it.

FullStory's events have no id of their own. The identity is what happened, to whom, when and where, together with the
``evt_*`` variables; what settles later (``user_*``, ``page_*``, totals of the page, load timings, identify fields) is
not in it. Changing anything here changes every id: a golden test freezes it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import polars as pl

from fullstory_dagster.fields import FIELDS

IDENTITY_COLUMNS = (
    "UserId",
    "SessionId",
    "PageId",
    "EventStart",
    "EventType",
    "EventSubType",
    "EventCustomName",
    "EventTargetSelector",
    "EventTargetText",
    "ReqUrl",
    "ReqMethod",
    "ReqStatus",
)

VERSION = "1"


def event_id(values: Sequence[str | None], variables: Sequence[tuple[str, str]]) -> str:
    """The id of the first of all events that agree in their identity.

    Args:
        values: the columns of ``IDENTITY_COLUMNS`` as text, EventStart as epoch milliseconds, the selector without
            percent escapes; None and "" are the same.
        variables: ``evt_*`` names and their values as text, without empty ones, in any order.

    Returns:
        str: md5 as 32 hex digits, over netstrings (length in UTF-8 bytes, colon, bytes) of the version, the values and
            the variables sorted by name.
    """
    parts = [VERSION, *(value or "" for value in values)]
    for name, value in sorted(variables):
        parts += (name, value)
    encoded = [part.encode() for part in parts]
    return hashlib.md5(b"".join(b"%d:%b" % (len(part), part) for part in encoded), usedforsecurity=False).hexdigest()


def twin_id(first_id: str, ordinal: int) -> str:
    """The id of the ``ordinal``-th further event that agrees with the one called ``first_id`` (1 is the second)."""
    return hashlib.md5(f"{first_id}:{ordinal}".encode(), usedforsecurity=False).hexdigest()


def number_twins(rows: pl.LazyFrame) -> pl.DataFrame | None:
    """Find events that share an id and give each but the first one of its own.

    Twins are put in order by the rest of their content, then by position, so that an export in another order gives the
    same rows the same ids. They are seen as they are stored: twins that differ in nothing but an excluded column are
    the same row by then, and may change places.

    Args:
        rows: one window's rows in the order they were sent: ``_event_id``, every field, ``CustomVars``.

    Returns:
        DataFrame: ``_row`` (UInt32, position) and ``_event_id``, one row for each event to be renamed; None without
            twins.
    """
    shared = rows.select("_event_id").group_by("_event_id").len().filter(pl.col("len") > 1).collect(engine="streaming")
    if shared.is_empty():
        return None
    # What the export was called says nothing of the event.
    said = [pl.col(name).cast(pl.String).fill_null("") for name in (*(field.name for field in FIELDS), "CustomVars")]
    content = pl.concat_str(said, separator="\x1f")
    twins = (
        rows.with_row_index("_row")
        .join(shared.lazy().select("_event_id"), on="_event_id", how="semi")
        .select("_row", "_event_id", content.alias("content"))
        .sort("_event_id", "content", "_row")
        .with_columns(ordinal=pl.int_range(pl.len()).over("_event_id"))
        .filter(pl.col("ordinal") > 0)
        .collect(engine="streaming")
    )
    ids = [twin_id(first_id, n) for first_id, n in zip(twins["_event_id"], twins["ordinal"], strict=True)]
    return twins.select("_row").with_columns(_event_id=pl.Series(ids, dtype=pl.String))
