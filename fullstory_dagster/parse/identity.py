"""``_event_id``: what makes two rows the same event, in every export of it.

FullStory's events have no id of their own. The identity is what happened, to whom, when and where, together with the
``evt_*`` variables; what settles later (``user_*``, ``page_*``, totals of the page, load timings, identify fields) is
not in it. Changing anything here changes every id: a golden test freezes it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

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
