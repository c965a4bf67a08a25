"""Which bundles make up a window, or why none do. Pure: no request is made here."""

from __future__ import annotations

from collections.abc import Iterable

from fullstory_dagster.api.answers import ListedBundle
from fullstory_dagster.errors import WindowNotOfferedError, WindowUnavailableError
from fullstory_dagster.windows import Window


def cover_window(window: Window, bundles: Iterable[ListedBundle], *, older_exist: bool) -> list[ListedBundle]:
    """The bundles that tile a window: every instant of it lies in exactly one of them.

    A bundle may begin before the window or end after it (the account's bundle period is a FullStory setting and may be
    longer than the window, or offset); its other events are left out later, by EventStart.

    Args:
        window: what is wanted.
        bundles: what FullStory lists, in any order; those that do not touch the window are passed over.
        older_exist: whether FullStory lists bundles older than all of ``bundles``.

    Returns:
        list[ListedBundle]: oldest first.

    Raises:
        WindowNotOfferedError: the window begins before the first bundle of the account.
        WindowUnavailableError: a part of the window is in no bundle yet, or in two.

    Source: data export reference (bundle period, availability), read 2026-11.
    """
    known = sorted(set(bundles))
    touching = [bundle for bundle in known if bundle.start < window.end and bundle.stop > window.start]
    first_start = known[0].start if known else None
    if not older_exist and (first_start is None or window.start < first_start):
        since = f"; the first one starts {first_start:%Y-%m-%d %H:%M} UTC" if first_start is not None else ""
        raise WindowNotOfferedError(
            f"FullStory offers no bundle for the beginning of {window}{since}; "
            "a FULLSTORY_START_DATE after that leaves such windows out.",
            setting="FULLSTORY_START_DATE",
        )
    covered_until = window.start
    previous: ListedBundle | None = None
    for bundle in touching:
        if previous is not None and bundle.start < previous.stop:
            raise WindowUnavailableError(
                f"The bundles for {window} overlap: {previous} and {bundle} both hold its events from "
                f"{max(bundle.start, window.start):%Y-%m-%d %H:%M} UTC on, so they cannot be told apart."
            )
        if bundle.start > covered_until:
            raise WindowUnavailableError(_gap(window, f"{Window(covered_until, bundle.start)} is missing"))
        covered_until, previous = bundle.stop, bundle
    if covered_until < window.end:
        raise WindowUnavailableError(_gap(window, f"nothing from {covered_until:%Y-%m-%d %H:%M} UTC on is listed"))
    return touching


def _gap(window: Window, missing: str) -> str:
    return f"FullStory's bundles do not cover {window} yet: {missing}; a bundle is listed 24 h after its last event."
