"""The charts of the report, drawn by Altair, without a browser, to SVG for the page and to PNG for Dagster.

A chart holds its own numbers and needs no script. Its text takes the colour of the text around it, so that one picture
serves the light page and the dark one.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, time, timezone
from typing import Any

import altair as alt
import polars as pl

from fullstory_dagster.report.reading import LATEST_DAYS, REPORT_DAYS, ReportData, Rows
from fullstory_dagster.store.load_summary import hours_after_end
from fullstory_dagster.store.tables import LOADS
from fullstory_dagster.store.warehouse import Load

WIDE_PX = 560
NARROW_PX = 330
_HEIGHT_PX = 220
_N_WINDOWS = 60
"""The charts of windows show the newest so many."""

_BAR_PX = 26

_BLUE, _GREEN, _AMBER, _RED, _PURPLE = "#4a86cf", "#3a9d6e", "#d98f2b", "#d2554f", "#8a6fd1"
"""Readable on white and on near black."""

_KIND_COLOURS = {
    "rage_click": _RED,
    "dead_click": _AMBER,
    "error_click": _PURPLE,
    "thrash": _BLUE,
    "abandoned_form": _GREEN,
}
_VITALS = {"LCP": "largest paint", "FCP": "first paint", "CLS": "layout shift", "FID": "input delay", "load": "load"}
_RATINGS = {"good": _GREEN, "needs improvement": _AMBER, "poor": _RED}


@dataclass(frozen=True)
class Picture:
    """One chart.

    Attributes:
        name: of the element in the page and of the metadata in Dagster.
        title: what it answers.
        note: how to read it, units included.
        chart: Altair's chart, without a width; None if there was nothing to draw.
        mart: the model that the numbers are from.
        is_public: whether it shows nothing that could be personal, so that Dagster may show it: a page's name, an
            element's text and an error's message may be.
    """

    name: str
    title: str
    note: str
    chart: Any
    mart: str
    is_public: bool = False

    def svg(self, width: int) -> str:
        """The picture for a page, as wide as told in px; its ids are its own among those of other pictures."""
        drawn = io.StringIO()
        self._drawn(width, "currentColor", "transparent").save(drawn, format="svg")
        own = f"{self.name}-{width}-"
        text = re.sub(r'\bid="', f'id="{own}', drawn.getvalue())
        return re.sub(r"url\(#", f"url(#{own}", text)

    def png(self) -> bytes:
        """A small picture on white."""
        drawn = io.BytesIO()
        self._drawn(NARROW_PX, "#333333", "white").save(drawn, format="png")
        return drawn.getvalue()

    def _drawn(self, width: int, text_colour: str, background: str) -> Any:
        fitted = self.chart.properties(width=width, autosize=alt.AutoSizeParams(type="fit-x", contains="padding"))
        return fitted.configure(**_look(width, text_colour, background))


def pictures(data: ReportData) -> list[Picture]:
    """All charts in the order of the page."""
    return [
        Picture(
            "traffic",
            "When do people come?",
            f"Sessions that began in each hour of the latest {LATEST_DAYS} days, UTC.",
            _traffic(data.hours),
            "sessions",
            is_public=True,
        ),
        Picture(
            "people",
            "How many people are active?",
            f"People with a session on each of the last {REPORT_DAYS} days, and how many of them were new.",
            _people(data.days),
            "daily_metrics",
            is_public=True,
        ),
        Picture(
            "pages",
            "Which pages hold people?",
            "Hours of activity, all visitors together, on the ten pages with most of it.",
            _bars(data.pages, "page", "active_h", "hours"),
            "page_durations",
        ),
        Picture(
            "durations",
            "How long are sessions?",
            "Sessions by the time from their first event to their last.",
            _bars(data.durations, "label", "n_sessions", "sessions"),
            "sessions",
            is_public=True,
        ),
        Picture(
            "frustration",
            "Where are people frustrated?",
            "Signals on the ten pages with most of them, by kind.",
            _by_kind(data.frustration),
            "frustration_signals",
        ),
        Picture(
            "elements",
            "What frustrates them?",
            "Signals on the ten elements with most of them, by kind.",
            _by_kind(data.elements),
            "frustration_signals",
        ),
        Picture(
            "vitals",
            "How do pages feel?",
            "Share of page loads by the public thresholds of each web vital, over the ten busiest pages.",
            _vitals(data.vitals),
            "web_vitals",
            is_public=True,
        ),
        Picture(
            "slowest",
            "Which pages keep people waiting?",
            "75th percentile of the largest paint, in ms: up to 2,500 is good, above 4,000 is poor.",
            _slowest(data.vitals),
            "web_vitals",
        ),
        Picture(
            "funnel",
            f"Where does the funnel “{data.funnel[0]['funnel']}” lose people?"
            if data.funnel
            else "Where do funnels end?",
            "Attempts that reached each step, over the weeks of the report.",
            _funnel(data.funnel),
            "funnels",
            is_public=True,
        ),
        Picture(
            "errors",
            "What breaks?",
            "Sessions in which an error came up, for the ten errors that hit most.",
            _errors(data.errors),
            "error_events",
        ),
        Picture(
            "devices",
            "On what?",
            "Sessions by class of device.",
            _bars(data.devices, "device", "n_sessions", "sessions"),
            "daily_metrics",
            is_public=True,
        ),
        Picture(
            "browsers",
            "In which browser?",
            "Sessions by browser.",
            _bars(data.browsers, "browser", "n_sessions", "sessions"),
            "daily_metrics",
            is_public=True,
        ),
    ]


def load_pictures(loads: Sequence[Load]) -> list[Picture]:
    """How the data came in, from the load log; nothing in it is of any person."""
    shown = loads[-_N_WINDOWS:]
    return [
        Picture(
            "rows",
            "How much came in?",
            f"Rows of each window, the newest {_N_WINDOWS} at most, by what became of them.",
            _windows(shown, _FATES, "rows"),
            LOADS,
            is_public=True,
        ),
        Picture(
            "lateness",
            "How long after its end was a window there?",
            "Hours from the end of the window to its rows being in the warehouse.",
            _windows(shown, {"hours": (hours_after_end, _BLUE)}, "hours"),
            LOADS,
            is_public=True,
        ),
        Picture(
            "stages",
            "Where did the time go?",
            "Seconds that each stage took for a window.",
            _windows(shown, _STAGES, "seconds"),
            LOADS,
            is_public=True,
        ),
        Picture(
            "bytes",
            "How large were the bundles?",
            "Megabytes of each window's bundles, compressed as FullStory sent them.",
            _windows(shown, {"MB": (lambda load: load.bundle_bytes / 1e6, _GREEN)}, "MB"),
            LOADS,
            is_public=True,
        ),
    ]


_FATES = {
    "kept": (lambda load: load.rows_kept, _BLUE),
    "of other windows": (lambda load: load.rows_outside + load.rows_duplicate, "#9dbde6"),
    "forgotten or expired": (lambda load: load.rows_forgotten + load.rows_expired, _AMBER),
    "rejected": (lambda load: load.rows_rejected, _RED),
}
_STAGES = {
    "fetch": (lambda load: load.fetch_s, _BLUE),
    "parse": (lambda load: load.parse_s, _GREEN),
    "append": (lambda load: load.append_s, _PURPLE),
}


def _windows(loads: Sequence[Load], parts: Mapping[str, tuple[Callable[[Load], float], str]], unit: str) -> Any:
    """A bar a window, made of its parts."""
    if not loads:
        return None
    rows = [
        {"window": load.window.start, "part": part, "number": float(number(load)), "place": place}
        for load in loads
        for place, (part, (number, _)) in enumerate(parts.items())
    ]
    named = [part for part in parts if any(row["number"] for row in rows if row["part"] == part)] or list(parts)
    colours = [parts[part][1] for part in named]
    is_named = "true" if len(loads) <= LATEST_DAYS else "utcday(datum.value) == 1 && utchours(datum.value) == 0"
    axis = alt.Axis(
        labelExpr=f"{is_named} ? utcFormat(datum.value, '%d %b') : ''", labelAngle=0, labelOverlap=len(loads) <= 7
    )
    return (
        alt.Chart(pl.DataFrame([row for row in rows if row["part"] in named]))
        .mark_bar()
        .encode(
            alt.X("window:O", timeUnit="utcyearmonthdatehours", title=None, axis=axis),
            alt.Y("number:Q", title=unit, axis=alt.Axis(tickCount=4)),
            alt.Color(
                "part:N",
                scale=alt.Scale(domain=named, range=colours),
                legend=alt.Undefined if len(named) > 1 else None,
            ),
            alt.Order("place:Q"),
        )
        .properties(height=_HEIGHT_PX)
    )


def _look(width: int, text_colour: str, background: str) -> dict[str, Any]:
    text = {"labelColor": text_colour, "titleColor": text_colour, "labelFontSize": 12, "titleFontSize": 12}
    return {
        "background": background,
        # A reader's font may be wider than the one that was measured here.
        "padding": {"left": 14, "right": 8, "top": 4, "bottom": 4},
        "font": "system-ui, sans-serif",
        "view": {"stroke": None},
        "axis": {
            **text,
            "titleFontWeight": "normal",
            "gridColor": text_colour,
            "gridOpacity": 0.12,
            "domain": False,
            "ticks": False,
            "labelPadding": 6,
            "labelLimit": 150,
        },
        "legend": {
            **text,
            "title": None,
            "orient": "bottom",
            "columns": 3 if width > NARROW_PX else 2,
            "columnPadding": 24,
            "symbolType": "square",
            "labelLimit": 140,
        },
        "text": {"color": text_colour, "fontSize": 12},
    }


def _traffic(rows: Rows) -> Any:
    if not any(row["n_sessions"] for row in rows):
        return None
    # In UTC, told to be so: the machine that draws may stand anywhere.
    hours = [{**row, "hour_at": row["hour_at"].replace(tzinfo=timezone.utc)} for row in rows]
    return (
        alt.Chart(pl.DataFrame(hours))
        .mark_area(color=_BLUE, opacity=0.35, line={"color": _BLUE, "strokeWidth": 1.5}, interpolate="monotone")
        .encode(
            alt.X(
                "hour_at:T",
                title=None,
                scale=alt.Scale(type="utc"),
                axis=alt.Axis(format="%a %d", tickCount="day", labelFlush=False),
            ),
            alt.Y("n_sessions:Q", title="sessions an hour", axis=alt.Axis(tickCount=4)),
        )
        .properties(height=_HEIGHT_PX)
    )


def _people(rows: Rows) -> Any:
    if not rows:
        return None
    split = [
        {
            "day": datetime.combine(row["metric_date"], time(), timezone.utc),
            "who": who,
            "people": number,
            "place": place,
        }
        for row in rows
        for place, who, number in (
            (0, "new", row["n_new_people"]),
            (1, "seen before", row["n_people"] - row["n_new_people"]),
        )
    ]
    return (
        alt.Chart(pl.DataFrame(split))
        .mark_bar()
        .encode(
            alt.X("day:O", timeUnit="utcyearmonthdate", title=None, axis=_day_axis(len(rows))),
            alt.Y("people:Q", title="people a day", axis=alt.Axis(tickCount=4)),
            alt.Color("who:N", scale=alt.Scale(domain=["new", "seen before"], range=[_BLUE, "#9dbde6"])),
            alt.Order("place:Q"),
        )
        .properties(height=_HEIGHT_PX)
    )


def _day_axis(n_days: int) -> alt.Axis:
    # A week's windows have sessions that began the day before.
    are_few = n_days <= 2 * LATEST_DAYS
    expression = f"{'true' if are_few else 'utcday(datum.value) == 1'} ? utcFormat(datum.value, '%d %b') : ''"
    return alt.Axis(labelExpr=expression, labelAngle=0, labelOverlap=are_few)


def _bars(rows: Rows, name: str, number: str, unit: str, colour: str = _BLUE) -> Any:
    if not any(row[number] for row in rows):
        return None
    # Not a list of names: Vega would make an expression of what a visitor or a site may have typed.
    placed = [{**row, "place": place} for place, row in enumerate(rows)]
    base = alt.Chart(pl.DataFrame(placed)).encode(
        alt.Y(f"{name}:N", sort=alt.EncodingSortField("place", op="min"), title=None),
        alt.X(f"{number}:Q", title=unit, axis=alt.Axis(tickCount=4), scale=_room_for_words(rows, number)),
    )
    numbers = base.mark_text(align="left", dx=5).encode(
        alt.Text(f"{number}:Q", format=",.3~r" if unit == "hours" else ",")
    )
    return (base.mark_bar(color=colour, cornerRadiusEnd=2) + numbers).properties(height=_BAR_PX * len(rows) + 10)


def _room_for_words(rows: Rows, number: str) -> alt.Scale:
    """The words stand behind the bars, the longest one's too."""
    return alt.Scale(domain=[0, 1.2 * max(row[number] for row in rows)], nice=False)


def _by_kind(rows: Rows) -> Any:
    if not rows:
        return None
    names = {kind: kind.replace("_", " ") for kind in _KIND_COLOURS}
    named = [{**row, "kind": names.get(row["kind"], row["kind"])} for row in rows]
    return (
        alt.Chart(pl.DataFrame(named))
        .mark_bar()
        .encode(
            alt.Y("place:N", sort=alt.EncodingSortField("n_signals", op="sum", order="descending"), title=None),
            alt.X("sum(n_signals):Q", title="signals", axis=alt.Axis(tickCount=4)),
            alt.Color("kind:N", scale=alt.Scale(domain=list(names.values()), range=list(_KIND_COLOURS.values()))),
        )
        .properties(height=_BAR_PX * len({row["place"] for row in rows}) + 10)
    )


def _vitals(rows: Rows) -> Any:
    if not rows:
        return None
    shares = []
    for metric, name in _VITALS.items():
        told = [row for row in rows if row["metric"] == metric]
        n_pages = sum(row["n_pages"] for row in told)
        columns = zip(_RATINGS, ("good_pct", "middling_pct", "poor_pct"), strict=True)
        for place, (rating, column) in enumerate(columns):
            if n_pages:
                share = sum(row[column] * row["n_pages"] for row in told) / n_pages
                shares.append({"vital": name, "rating": rating, "share": share, "place": place})
    return (
        alt.Chart(pl.DataFrame(shares))
        .mark_bar()
        .encode(
            alt.Y("vital:N", sort=list(_VITALS.values()), title=None),
            alt.X("share:Q", title="% of page loads", scale=alt.Scale(domain=[0, 100]), axis=alt.Axis(tickCount=4)),
            alt.Color("rating:N", scale=alt.Scale(domain=list(_RATINGS), range=list(_RATINGS.values()))),
            alt.Order("place:Q"),
        )
        .properties(height=_BAR_PX * len(_VITALS) + 10)
    )


def _slowest(rows: Rows) -> Any:
    told = sorted((row for row in rows if row["metric"] == "LCP"), key=lambda row: (-row["p75"], row["page"]))
    whole = [{"page": row["page"], "p75_ms": round(row["p75"])} for row in told]
    return _bars(whole, "page", "p75_ms", "ms", _PURPLE)


def _funnel(rows: Rows) -> Any:
    if not rows or not rows[0]["n_reached"]:
        return None
    first = rows[0]["n_reached"]
    shown = [
        {**row, "label": f"{row['n_reached']:,} ({_percent(row['n_reached'], before['n_reached'])} of before)"}
        for before, row in zip([rows[0], *rows], rows, strict=False)
    ]
    shown[0]["label"] = f"{first:,}"
    base = alt.Chart(pl.DataFrame(shown)).encode(
        alt.Y("step_name:N", sort=alt.EncodingSortField("step_number", op="min"), title=None),
        alt.X("n_reached:Q", title=None, axis=None, scale=_room_for_words(rows, "n_reached")),
    )
    words = base.mark_text(align="left", dx=5).encode(alt.Text("label:N"))
    return (base.mark_bar(color=_GREEN, cornerRadiusEnd=2) + words).properties(height=_BAR_PX * len(rows) + 10)


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.0f} %" if whole else "0 %"


def _errors(rows: Rows) -> Any:
    named = [{**row, "error": row["message"] or row["kind"].replace("_", " ")} for row in rows]
    return _bars(_distinct(named, "error"), "error", "n_sessions", "sessions", _RED)


def _distinct(rows: Sequence[dict[str, Any]], name: str) -> Rows:
    """Rows whose names differ: two errors of one text would share a bar."""
    seen: dict[str, int] = {}
    distinct = []
    for row in rows:
        seen[row[name]] = seen.get(row[name], 0) + 1
        distinct.append(row if seen[row[name]] == 1 else {**row, name: f"{row[name]} ({seen[row[name]]})"})
    return distinct
