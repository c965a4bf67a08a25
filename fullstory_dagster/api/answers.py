"""FullStory's answers as values, and the readers that turn JSON into them.

Sources: segment export reference (exports, operations, results) and data export reference (list, get); read 2026-11.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from fullstory_dagster.errors import RequestRefusedError

_ID = re.compile(r"(?!\.+$)[!-~]{1,256}")
"""Printable ASCII without blanks. An id of dots alone would walk up the URL's path."""

_RFC_3339 = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d+)?(Z|[+-]\d\d:\d\d)")


@dataclass(frozen=True)
class Location:
    """Where an export can be downloaded for a while, by anyone who has the URL.

    Attributes:
        url: signed URL on another company's host; kept out of ``repr`` because it needs no key.
        expires_at: UTC; None when FullStory did not say it in a way that can be read.
    """

    url: str = field(repr=False)
    expires_at: datetime | None


@dataclass(frozen=True, order=True)
class ListedBundle:
    """One completed bundle of the legacy API.

    Attributes:
        start: first instant of event time, UTC.
        stop: end of event time, UTC, excluded.
        id: FullStory's id, exact; FullStory sends it as a number or as text. Never a path.
    """

    start: datetime
    stop: datetime
    id: str

    def __str__(self) -> str:
        """``bundle 42 (2026-06-01 00:00 to 2026-06-02 00:00 UTC)``."""
        return f"bundle {self.id} ({self.start:%Y-%m-%d %H:%M} to {self.stop:%Y-%m-%d %H:%M} UTC)"


@dataclass(frozen=True)
class FetchedBundle:
    """What is known about a bundle that arrived whole.

    Attributes:
        export_id: the export's or bundle's id at FullStory. Never a path.
        bytes: size as written.
        sha256: hex digest of the bytes as written.
        requested_at: when FullStory was asked for these events, UTC; what changed later is not among them.
        received_at: when the bundle had been written and found whole, UTC.
        n_attempts: download requests it took, resumed and repeated ones included.
    """

    export_id: str
    bytes: int
    sha256: str
    requested_at: datetime
    received_at: datetime
    n_attempts: int


def id_of(answer: Mapping[str, Any], key: str, what: str) -> str:
    """An id, exact, whether it was sent as a number or as text.

    Raises:
        RequestRefusedError: there is none, or it could not stand in a URL.
    """
    value = answer.get(key)
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not _ID.fullmatch(value):
        raise not_fullstorys(what, f"has no usable {key}")
    return value


def location_of(answer: Mapping[str, Any], what: str) -> Location:
    """The signed location of an export.

    Raises:
        RequestRefusedError: the answer names none.
    """
    url = answer.get("location")
    if not isinstance(url, str) or not url:
        raise not_fullstorys(what, "has no location")
    return Location(url, _instant_of(answer.get("expires")))


def bundles_of(answer: Mapping[str, Any], what: str) -> list[ListedBundle]:
    """One page of the bundle list, oldest first.

    Raises:
        RequestRefusedError: the answer is no list of bundles.
    """
    rows = answer.get("exports", [])
    if rows is None:
        return []  # how Go spells an empty list
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise not_fullstorys(what, "has no list of exports")
    bundles = []
    for row in rows:
        start, stop = _unix_seconds_of(row.get("Start"), what), _unix_seconds_of(row.get("Stop"), what)
        if start >= stop:
            raise not_fullstorys(what, "has a bundle that ends before it starts")
        bundles.append(ListedBundle(start, stop, id_of(row, "Id", what)))
    return sorted(bundles)


def not_fullstorys(what: str, problem: str) -> RequestRefusedError:
    """The error for an answer with a good status and a content FullStory does not send."""
    return RequestRefusedError(
        f"The answer to {what} {problem}, so it is not FullStory's; check FULLSTORY_API_URL.",
        setting="FULLSTORY_API_URL",
    )


def html_for_a_bundle(what: str) -> RequestRefusedError:
    """The error for a page where a bundle is due: a sign-in page, a proxy's notice, whatever the status says.

    Not tried again: such a page is not gone in minutes, and what it stands for is mended by a person.
    """
    return RequestRefusedError(
        f"The download of {what} is an HTML page and no bundle, so something between here and FullStory answered; "
        "check the network and FULLSTORY_API_URL.",
        setting="FULLSTORY_API_URL",
    )


def _unix_seconds_of(value: object, what: str) -> datetime:
    try:
        if isinstance(value, bool) or not isinstance(value, (int, str)):
            raise ValueError
        return datetime.fromtimestamp(int(value), timezone.utc)
    except (ValueError, OverflowError, OSError):
        raise not_fullstorys(what, "has a bundle without Start or Stop in unix seconds") from None


def _instant_of(value: object) -> datetime | None:
    match = _RFC_3339.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        return None
    # Python 3.10 reads neither Z nor nanoseconds.
    seconds, fraction, offset = match.groups()
    micros = (fraction or ".0")[:7].ljust(7, "0")
    try:
        instant = datetime.fromisoformat(seconds + micros + ("+00:00" if offset == "Z" else offset))
    except ValueError:
        return None
    return instant.astimezone(timezone.utc)
