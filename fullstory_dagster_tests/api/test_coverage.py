"""Which bundles make up a window."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from fullstory_dagster.api import ListedBundle, cover_window
from fullstory_dagster.errors import WindowNotOfferedError, WindowUnavailableError
from fullstory_dagster.windows import Window

MIDNIGHT = datetime(2026, 6, 1, tzinfo=timezone.utc)
DAY = Window(MIDNIGHT, MIDNIGHT + timedelta(hours=24))


def bundle(start_h: float, stop_h: float, name: str = "") -> ListedBundle:
    start, stop = MIDNIGHT + timedelta(hours=start_h), MIDNIGHT + timedelta(hours=stop_h)
    return ListedBundle(start, stop, name or f"{start_h:g}-{stop_h:g}")


def ids(*bundles: ListedBundle) -> list[str]:
    return [b.id for b in cover_window(DAY, bundles, older_exist=True)]


def test_one_bundle_of_the_windows_own_length_covers_it() -> None:
    assert ids(bundle(-24, 0), bundle(0, 24), bundle(24, 48)) == ["0-24"]


def test_several_shorter_bundles_tile_the_window_whatever_their_order() -> None:
    assert ids(bundle(12, 18), bundle(0, 6), bundle(18, 24), bundle(6, 12)) == ["0-6", "6-12", "12-18", "18-24"]


def test_a_longer_bundle_covers_the_window() -> None:
    assert ids(bundle(-24, 48)) == ["-24-48"]


def test_offset_bundles_cover_the_window_together() -> None:
    assert ids(bundle(-18, 6), bundle(6, 30)) == ["-18-6", "6-30"]


def test_a_bundle_listed_twice_is_one_bundle() -> None:
    assert ids(bundle(0, 24), bundle(0, 24)) == ["0-24"]


def test_a_period_changed_in_the_account_is_no_gap() -> None:
    assert ids(bundle(0, 6), bundle(6, 24)) == ["0-6", "6-24"]


@pytest.mark.parametrize(
    ("bundles", "missing"),
    [
        ([bundle(0, 6), bundle(12, 24)], "2026-06-01 06:00 to 12:00 UTC is missing"),
        ([bundle(6, 24)], "2026-06-01 00:00 to 06:00 UTC is missing"),
        ([bundle(0, 18)], "nothing from 2026-06-01 18:00 UTC on is listed"),
        ([bundle(-24, 0)], "nothing from 2026-06-01 00:00 UTC on is listed"),
        ([], "nothing from 2026-06-01 00:00 UTC on is listed"),
    ],
)
def test_a_gap_is_named(bundles: list[ListedBundle], missing: str) -> None:
    with pytest.raises(WindowUnavailableError, match=missing):
        cover_window(DAY, bundles, older_exist=True)


@pytest.mark.parametrize(
    "bundles",
    [
        [bundle(0, 13), bundle(12, 24)],
        [bundle(0, 24), bundle(6, 12)],
        [bundle(-24, 1), bundle(0, 24)],
        [bundle(0, 24, "a"), bundle(0, 24, "b")],
    ],
)
def test_an_overlap_is_refused_with_both_bundles_named(bundles: list[ListedBundle]) -> None:
    with pytest.raises(WindowUnavailableError, match="overlap") as caught:
        cover_window(DAY, bundles, older_exist=True)
    assert bundles[0].id in str(caught.value)
    assert bundles[1].id in str(caught.value)


def test_an_overlap_outside_the_window_does_not_matter() -> None:
    assert ids(bundle(-24, -10), bundle(-12, 0), bundle(0, 24)) == ["0-24"]


@pytest.mark.parametrize("bundles", [[], [bundle(24, 48)], [bundle(12, 24)]])
def test_a_window_before_the_first_bundle_is_not_offered(bundles: list[ListedBundle]) -> None:
    with pytest.raises(WindowNotOfferedError) as caught:
        cover_window(DAY, bundles, older_exist=False)
    assert caught.value.setting == "FULLSTORY_START_DATE"


def test_the_first_bundle_itself_is_offered() -> None:
    assert cover_window(DAY, [bundle(0, 24)], older_exist=False) == [bundle(0, 24)]
