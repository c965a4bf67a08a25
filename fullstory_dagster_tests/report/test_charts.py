"""Pictures: what they show, and that they are the same wherever they are drawn."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from datetime import date, timedelta
from pathlib import Path
from xml.etree import ElementTree

import pytest

from fullstory_dagster.report.charts import NARROW_PX, WIDE_PX, Picture, pictures

from .made_up import HOSTILE, report_data

PROJECT = Path(__file__).parents[2]


def picture(name: str, **changes: object) -> Picture:
    return next(picture for picture in pictures(report_data(**changes)) if picture.name == name)


def texts(drawn: Picture) -> list[str]:
    tree = ElementTree.fromstring(drawn.svg(WIDE_PX))  # noqa: S314 - drawn a line above
    return [text for element in tree.iter() if element.tag.endswith("text") for text in element.itertext()]


@pytest.mark.parametrize("drawn", pictures(report_data()), ids=lambda drawn: drawn.name)
@pytest.mark.parametrize("width", [NARROW_PX, WIDE_PX])
def test_every_picture_is_drawn_as_wide_as_asked(drawn: Picture, width: int) -> None:
    tree = ElementTree.fromstring(drawn.svg(width))  # noqa: S314 - drawn in this line
    assert abs(float(tree.attrib["width"]) - width) <= 1
    assert any(element.tag.endswith("path") for element in tree.iter())


def test_ids_of_one_picture_are_not_those_of_another_on_the_same_page() -> None:
    ids = [
        found
        for drawn in pictures(report_data())
        for width in (NARROW_PX, WIDE_PX)
        for found in set(re.findall(r'\bid="([^"]+)"', drawn.svg(width)))
    ]
    assert len(ids) == len(set(ids))


def test_text_takes_the_colour_of_the_page_and_png_has_one_of_its_own() -> None:
    drawn = picture("durations")
    assert 'fill="currentColor"' in drawn.svg(WIDE_PX)
    assert drawn.png().startswith(b"\x89PNG")
    assert len(drawn.png()) < 60_000


def test_a_picture_without_numbers_is_none() -> None:
    empty = {
        name: []
        for name in ("hours", "days", "pages", "durations", "frustration", "elements", "vitals", "funnel", "errors")
    }
    drawn = pictures(report_data(**empty, devices=[], browsers=[]))
    assert [picture.name for picture in drawn if picture.chart is not None] == []
    nobody = [{"label": "under 10 s", "n_sessions": 0}]
    assert picture("durations", durations=nobody).chart is None


def test_a_funnel_tells_which_share_of_the_step_before_came_on() -> None:
    assert {"8", "2 (25 % of before)"} <= set(texts(picture("funnel")))


def test_two_errors_of_one_text_have_a_bar_each_and_one_without_a_text_goes_by_its_kind() -> None:
    assert {"boom", "boom (2)", "crash"} <= set(texts(picture("errors")))


def test_shares_of_a_vital_are_over_all_its_page_loads_and_not_over_pages() -> None:
    common = {"metric": "LCP", "p75": 1.0, "middling_pct": 0.0}
    rows = [
        {**common, "page": "/", "n_pages": 9, "good_pct": 100.0, "poor_pct": 0.0},
        {**common, "page": "/cart", "n_pages": 1, "good_pct": 0.0, "poor_pct": 100.0},
    ]
    shares = {row["rating"]: row["share"] for row in picture("vitals", vitals=rows).chart.data.to_dicts()}
    assert shares == {"good": 90.0, "needs improvement": 0.0, "poor": 10.0}


def test_what_a_site_calls_a_page_is_text_in_the_picture() -> None:
    assert "<img" not in picture("pages").svg(WIDE_PX)
    assert any(text.startswith(HOSTILE[:6]) for text in texts(picture("pages")))


def test_dagster_is_shown_no_page_no_element_and_no_message() -> None:
    hidden = {picture.name for picture in pictures(report_data()) if not picture.is_public}
    assert hidden == {"pages", "frustration", "elements", "slowest", "errors"}


def test_a_few_days_are_all_named_and_of_many_the_mondays() -> None:
    fortnight = report_data().days
    assert [text for text in texts(picture("people", days=fortnight[-8:])) if text.endswith("Jun")] == [
        f"{day:02} Jun" for day in range(7, 15)
    ]
    month = [fortnight[0] | {"metric_date": date(2026, 6, 1) + timedelta(days=n)} for n in range(28)]
    named = [text for text in texts(picture("people", days=month)) if text.endswith("Jun")]
    assert named == ["01 Jun", "08 Jun", "15 Jun", "22 Jun"]


@pytest.mark.slow
def test_days_and_hours_are_utc_wherever_the_machine_stands() -> None:
    script = (
        "from fullstory_dagster.report.charts import pictures\n"
        "from fullstory_dagster_tests.report.made_up import report_data\n"
        "print(''.join(picture.svg(400) for picture in pictures(report_data())[:2]))"
    )
    drawn = set()
    for zone in ("UTC", "Pacific/Kiritimati", "America/New_York"):
        environment = {**os.environ, "TZ": zone}
        command = [sys.executable, "-c", script]
        drawn.add(subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, check=True).stdout)
    assert len(drawn) == 1
