"""Many rows at once, column by column, when every one of them is as FullStory documents it.

``_plain_rows.c`` beside this file does it, without Python's lock. Whatever is not plain is left to
:mod:`fullstory_dagster.parse.rows`, which reads one value at a time and gives the same result.
"""

from __future__ import annotations

import logging

import polars as pl

from fullstory_dagster.fields import FIELDS, LEGACY_NAMES
from fullstory_dagster.parse.identity import IDENTITY_COLUMNS, VERSION

_log = logging.getLogger(__name__)

try:
    from fullstory_dagster.parse._plain_rows import Reader
except ImportError:
    _reader = None
    _log.warning(
        "Every row of a bundle is read one value at a time, which takes more than ten times as long: this project was "
        "installed where there was no C compiler. Install one and run `make install` (or `pip install`) again."
    )
else:

    def reader(identity: tuple[str, ...] = IDENTITY_COLUMNS) -> Reader:
        """A reader of our columns, whose ids are made of some of them."""
        return Reader(
            columns=tuple((field.name, field.type, field.is_required) for field in FIELDS),
            older_names=LEGACY_NAMES,
            identity=identity,
            selector="EventTargetSelector",
            start="EventStart",
            version=VERSION,
        )

    _reader = reader()


def read_plain_rows(text: bytes, n_rows: int | None = None, *, is_array: bool = False) -> pl.DataFrame | None:
    """Read rows, in any thread.

    Args:
        text: a row a line.
        n_rows: how many there are, where it is known better than by the text.
        is_array: they are elements of an array instead, with commas between them.

    Returns:
        DataFrame: the fields, ``CustomVars`` and ``_event_id`` of every row, in order; None when the rows are not
            all plain, or there is no telling, and have to be read one at a time.
    """
    columns = _reader.read(text, is_array) if _reader else None
    if columns is None:
        return None
    rows = pl.DataFrame(columns)
    return rows if n_rows in (None, rows.height) else None
