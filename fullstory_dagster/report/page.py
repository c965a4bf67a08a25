"""The report as one HTML file that needs nothing else: no network, no fonts, no library."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from fullstory_dagster.report.charts import NARROW_PX, WIDE_PX, Picture, load_pictures, pictures
from fullstory_dagster.report.reading import LATEST_DAYS, ReportData, Rows, read_report
from fullstory_dagster.store.load_summary import LoadSummary, summarize_loads
from fullstory_dagster.store.report_file import ReportFile
from fullstory_dagster.store.tables import LOADS
from fullstory_dagster.store.warehouse import Warehouse

_REASONS = {"frustrating": "most frustrating", "longest": "longest", "converting": "converting"}


@dataclass(frozen=True)
class Report:
    """What was written.

    Attributes:
        path: of the file.
        bytes: its size.
        data: the numbers in it.
        pictures: its charts; those without numbers are left out.
    """

    path: Path
    bytes: int
    data: ReportData
    pictures: list[Picture]


def write_report(warehouse: Warehouse, file: ReportFile, made_at: datetime) -> Report:
    """Draw the report and put it in the place of the last one.

    Args:
        warehouse: read for a moment; the drawing holds no lock of it.
        file: where the report goes.
        made_at: aware UTC, told in the report.

    Raises:
        NothingToReportError: there is no session; an older report stays.
        WarehouseLockedError: somebody else held the warehouse for too long.
        DiskFullError: there is no room; an older report stays.
    """
    with file.renewing():
        data = read_report(warehouse)
        all_pictures = [*pictures(data), *load_pictures(data.loads)]
        drawn = [picture for picture in all_pictures if picture.chart is not None]
        page = html_of(data, drawn, made_at)
        file.publish(page)
    return Report(file.path, file.path.stat().st_size, data, drawn)


def html_of(data: ReportData, drawn: list[Picture], made_at: datetime) -> str:
    """The page. What people typed or sites called things is escaped, in text and in the data of the explorer."""
    loader = PackageLoader("fullstory_dagster.report", "template")
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined)
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":")}
    charts = [
        {
            "name": picture.name,
            "title": picture.title,
            "note": picture.note,
            "mart": picture.mart,
            # Made of numbers and escaped texts by Vega's own SVG writer.
            "wide": Markup(picture.svg(WIDE_PX)),  # noqa: S704
            "narrow": Markup(picture.svg(NARROW_PX)),  # noqa: S704
        }
        for picture in drawn
    ]
    return environment.get_template("report.html").render(
        first_date=data.first_date,
        last_date=data.last_date,
        made_at=made_at,
        figures=key_figures(data.days),
        charts=[chart for chart in charts if chart["mart"] != LOADS],
        loading=[chart for chart in charts if chart["mart"] == LOADS],
        facts=loading_facts(summarize_loads(data.loads)),
        reasons=_REASONS,
        sessions=[_for_explorer(session) for session in data.sessions],
        style=Markup(loader.get_source(environment, "report.css")[0]),  # noqa: S704 (ours)
        script=Markup(loader.get_source(environment, "explorer.js")[0]),  # noqa: S704 (ours)
    )


def key_figures(days: Rows) -> list[dict[str, str]]:
    """Numbers of the latest seven days, each with its change from the seven days before them, if those are whole."""
    latest, before = days[-LATEST_DAYS:], days[-2 * LATEST_DAYS : -LATEST_DAYS]

    def total(rows: Rows, column: str) -> float:
        return float(sum(row[column] or 0 for row in rows))

    def share(rows: Rows, column: str) -> float:
        return 100 * total(rows, column) / max(total(rows, "n_sessions"), 1)

    figures = []
    for name, of, column, unit in (
        ("sessions", total, "n_sessions", ""),
        ("new people", total, "n_new_people", ""),
        ("converted sessions", share, "n_converted_sessions", " %"),
        ("frustrated sessions", share, "n_frustrated_sessions", " %"),
        ("page errors", total, "n_errors", ""),
    ):
        now = of(latest, column)
        text = f"{now:.1f}{unit}" if unit else f"{now:,.0f}"
        change = ""
        if len(before) == LATEST_DAYS:
            then = of(before, column)
            if unit:
                change = f"{now - then:+.1f} points"
            elif then:
                change = f"{100 * (now - then) / then:+.0f} %"
        figures.append({"name": name, "value": text, "change": change})
    return figures


def loading_facts(summary: LoadSummary | None) -> list[tuple[str, str]]:
    """How the data came in, as names and texts."""
    if summary is None:
        return []
    return [
        (
            "in the warehouse",
            f"{summary.n_windows} windows, {summary.first:%Y-%m-%d %H:%M} to {summary.last:%Y-%m-%d %H:%M} UTC: "
            f"{summary.rows:,} rows in {_megabytes(summary.bytes)} of bundles, {summary.rejected:,} rejected",
        ),
        ("asked of FullStory", summary.asked_for),
        (
            f"the newest {summary.n_recent} windows",
            f"{summary.rows_a_window:,.0f} rows and {_megabytes(summary.bytes_a_window)} each; fetched in "
            f"{summary.fetch_s:.1f} s, parsed in {summary.parse_s:.1f} s, appended in {summary.append_s:.1f} s, there "
            f"{summary.hours_after_end:.1f} h after their end (medians)",
        ),
        (
            "a year of these",
            f"{summary.rows_a_year:,.0f} rows in {_megabytes(summary.bytes_a_year)} of bundles",
        ),
    ]


def _megabytes(n_bytes: float) -> str:
    return f"{n_bytes / 1e6:,.1f} MB"


def _for_explorer(session: dict[str, Any]) -> dict[str, Any]:
    return {
        "key": session["session_key"],
        "reasons": session["reasons"],
        "start": f"{session['session_start_at']:%Y-%m-%d %H:%M} UTC",
        "duration": session["duration_s"],
        "events": session["n_events"],
        "pages": session["n_pages"],
        "score": session["frustration_score"],
        "converted": session["is_converted"],
        "device": " · ".join(text for text in (session["device"], session["browser"]) if text),
        "replay": session["replay_url"],
        "steps": [[step["at_s"], step["page"], step["kind"], step["description"]] for step in session["steps"]],
    }
