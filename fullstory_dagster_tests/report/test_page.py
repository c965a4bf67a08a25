"""The HTML file: whole, alone, and safe against what visitors typed."""

from __future__ import annotations

import json
import re
from datetime import datetime, timezone

from fullstory_dagster.report.charts import pictures
from fullstory_dagster.report.page import html_of, key_figures

from .made_up import HOSTILE, report_data

MADE_AT = datetime(2026, 6, 16, 7, 30, tzinfo=timezone.utc)


def page() -> str:
    data = report_data()
    return html_of(data, pictures(data), MADE_AT)


def test_it_names_no_address_that_a_browser_would_fetch() -> None:
    assert re.findall(r'(?:src|href|xlink:href)="(?!data:,")[^"]*"', page()) == []
    assert "url(http" not in page()
    assert "default-src &#39;none&#39;" in page() or "default-src 'none'" in page()


def test_it_says_when_it_was_drawn_and_of_which_days() -> None:
    assert "18 May 2026 to 14 June 2026, days and hours in UTC. Drawn 2026-06-16 07:30 UTC" in page()


def test_texts_of_visitors_are_never_markup() -> None:
    assert "<img" not in page()
    assert page().count("</script>") == 2
    [held] = re.findall(r'<script id="sessions" type="application/json">(.*?)</script>', page(), flags=re.DOTALL)
    assert not set(held) & set("<>&\u2028")
    [session] = json.loads(held)
    assert session["steps"][1] == [61.5, HOSTILE, "frustration", HOSTILE]


def test_figures_are_of_seven_days_with_the_change_from_the_seven_before() -> None:
    days = report_data().days
    for row in days[-7:]:
        row["n_sessions"] = 15
    figures = {figure["name"]: (figure["value"], figure["change"]) for figure in key_figures(days)}
    assert figures == {
        "sessions": ("105", "+50 %"),
        "new people": ("21", "+0 %"),
        "converted sessions": ("6.7 %", "-3.3 points"),
        "frustrated sessions": ("13.3 %", "-6.7 points"),
        "page errors": ("35", "+0 %"),
    }


def test_without_two_whole_weeks_nothing_is_compared() -> None:
    assert {figure["change"] for figure in key_figures(report_data().days[-13:])} == {""}
