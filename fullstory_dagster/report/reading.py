"""What the report shows: the load log, then a handful of short SELECTs on the marts, all under one lock."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import groupby
from operator import itemgetter
from typing import Any

from fullstory_dagster.errors import FullStoryError
from fullstory_dagster.store.tables import table
from fullstory_dagster.store.warehouse import Load, Query, Warehouse

Rows = list[dict[str, Any]]

REPORT_DAYS = 28
LATEST_DAYS = 7
N_BARS = 10
N_SESSIONS = 8
N_STEPS = 250
"""Of a session in the explorer, the first so many steps; it says how many it leaves out."""

MARTS = (
    "daily_metrics",
    "error_events",
    "frustration_signals",
    "funnels",
    "page_durations",
    "session_timeline",
    "sessions",
    "web_vitals",
)
"""What the report reads."""


class NothingToReportError(FullStoryError):
    """The marts hold no session, or were never built; an older report stays where it is."""


@dataclass(frozen=True)
class ReportData:
    """What the marts say of the trailing four weeks. All times are UTC.

    Attributes:
        first_date: first day of the four weeks.
        last_date: the newest day with a session: yesterday's windows are not there yet, today's neither.
        days: a row a day, oldest first, with counts of ``daily_metrics``.
        hours: sessions that began in each hour of the latest seven days.
        pages: pages by the time people were active on them.
        durations: sessions by length, shortest class first.
        frustration: signals by page and kind.
        elements: signals by element and kind.
        vitals: 75th percentile of each vital, by page.
        funnel: steps of the first funnel, in order.
        errors: kinds and messages by the sessions they hit.
        devices: sessions by class of device.
        browsers: sessions by browser.
        sessions: those of the explorer; each with the ``reasons`` why it is there and its ``steps``.
        loads: of all windows, oldest first.
    """

    first_date: date
    last_date: date
    days: Rows
    hours: Rows
    pages: Rows
    durations: Rows
    frustration: Rows
    elements: Rows
    vitals: Rows
    funnel: Rows
    errors: Rows
    devices: Rows
    browsers: Rows
    sessions: Rows
    loads: list[Load]


def read_report(warehouse: Warehouse) -> ReportData:
    """Read what the report shows of the four weeks that end with the newest session.

    Raises:
        NothingToReportError: there is no session to speak of.
        WarehouseLockedError: somebody else held the warehouse for too long.
    """
    loads = list(warehouse.current_loads().values())
    with warehouse.querying() as query:
        tables = query(
            "select table_name from information_schema.tables where table_schema = $schema",
            {"schema": warehouse.schema},
        )
        missing = set(MARTS) - {row["table_name"] for row in tables}
        if missing:
            raise NothingToReportError(
                f"The models {', '.join(sorted(missing))} are not built, so there is nothing to draw. Run "
                "'fullstory-dagster sync' first, or 'fullstory-dagster demo' to try it."
            )
        return _Reader(query, warehouse.schema).read(loads)


class _Reader:
    """The SELECTs; in each, ``{sessions}`` and the like stand for the quoted names of the marts."""

    def __init__(self, query: Query, schema: str) -> None:
        self._ask = query
        self._names = {mart: table(schema, mart) for mart in MARTS}
        self._period: dict[str, Any] = {}

    def read(self, loads: list[Load]) -> ReportData:
        [newest] = self._query("select max(cast(session_start_at as date)) as last_date from {sessions}")
        last_date: date | None = newest["last_date"]
        if last_date is None:
            raise NothingToReportError(
                "The sessions table is empty, so there is nothing to draw. Load a window with events first "
                "('fullstory-dagster status' tells which are there)."
            )
        first_date = last_date - timedelta(days=REPORT_DAYS - 1)
        self._period = {"first_date": first_date, "end_date": last_date + timedelta(days=1)}
        # One query for all splits: the view counts the whole history, whoever asks for four weeks of it.
        metrics = self._query(
            """
            select metric_date, dimension, dimension_value, n_sessions, n_people, n_new_people, n_frustrated_sessions,
                n_converted_sessions, n_errors
            from {daily_metrics}
            where dimension in ('all', 'device', 'browser') and metric_date >= $first_date and metric_date < $end_date
            """
        )
        return ReportData(
            first_date=first_date,
            last_date=last_date,
            days=sorted((day for day in metrics if day["dimension"] == "all"), key=itemgetter("metric_date")),
            hours=self._query(
                f"""
                select hours.hour_at, count(sessions.session_key) as n_sessions
                from generate_series(
                    cast($end_date as timestamp) - interval {LATEST_DAYS} day,
                    cast($end_date as timestamp) - interval 1 hour,
                    interval 1 hour
                ) as hours (hour_at)
                left join {{sessions}} as sessions
                    on sessions.session_start_at >= hours.hour_at
                    and sessions.session_start_at < hours.hour_at + interval 1 hour
                where $first_date <= hours.hour_at
                group by hours.hour_at
                order by hours.hour_at
                """
            ),
            pages=self._query(
                f"""
                select coalesce(page, 'unknown') as page, count(*) as n_views,
                    sum(coalesce(active_duration_ms, 0)) / 3600000.0 as active_h
                from {{page_durations}}
                where page_start_at >= $first_date and page_start_at < $end_date
                group by all
                order by active_h desc, page
                limit {N_BARS}
                """
            ),
            durations=self._query(
                """
                select classes.label, count(sessions.session_key) as n_sessions
                from (
                    values (1, 'under 10 s', 0, 10), (2, '10 to 30 s', 10, 30), (3, '30 s to 1 min', 30, 60),
                        (4, '1 to 3 min', 60, 180), (5, '3 to 10 min', 180, 600), (6, '10 to 30 min', 600, 1800),
                        (7, '30 min and more', 1800, 1e12)
                ) as classes (place, label, from_s, to_s)
                left join {sessions} as sessions
                    on sessions.duration_s >= classes.from_s and sessions.duration_s < classes.to_s
                    and sessions.session_start_at >= $first_date and sessions.session_start_at < $end_date
                group by classes.place, classes.label
                order by classes.place
                """
            ),
            frustration=self._frustration("page"),
            elements=self._frustration("element"),
            vitals=self._query(
                f"""
                with told as (
                    select * from {{web_vitals}}
                    where measured_at >= $first_date and measured_at < $end_date and page is not null
                ),

                busiest as (
                    select page from told group by page
                    order by count(distinct page_instance_key) desc, page
                    limit {N_BARS}
                )

                select page, metric, quantile_cont(metric_value, 0.75) as p75, count(*) as n_pages,
                    100.0 * count_if(rating = 'good') / count(*) as good_pct,
                    100.0 * count_if(rating = 'needs improvement') / count(*) as middling_pct,
                    100.0 * count_if(rating = 'poor') / count(*) as poor_pct
                from told
                where page in (select page from busiest)
                group by page, metric
                order by page, metric
                """
            ),
            funnel=self._query(
                """
                with shown as (select * from {funnels} where week_start_date >= $first_date - 6)

                select funnel, step_number, step_name, sum(n_reached) as n_reached
                from shown
                where funnel = (select min(funnel) from shown)
                group by all
                order by step_number
                """
            ),
            errors=self._query(
                f"""
                select kind, left(max_by(message, error_at), 120) as message, count(*) as n_events,
                    count(distinct session_key) as n_sessions
                from {{error_events}}
                where error_at >= $first_date and error_at < $end_date
                group by fingerprint, kind
                order by n_sessions desc, n_events desc, fingerprint
                limit {N_BARS}
                """
            ),
            devices=_totals(metrics, "device"),
            browsers=_totals(metrics, "browser"),
            sessions=self._sessions(),
            loads=loads,
        )

    def _frustration(self, by: str) -> Rows:
        named = "coalesce(page, 'unknown')" if by == "page" else "coalesce(element_text, element, 'no element')"
        return self._query(
            f"""
            with signals as (
                select left({named}, 60) as place, kind from {{frustration_signals}}
                where signal_at >= $first_date and signal_at < $end_date
            ),

            worst as (select place from signals group by place order by count(*) desc, place limit {N_BARS})

            select place, kind, count(*) as n_signals
            from signals
            where place in (select place from worst)
            group by place, kind
            order by place, kind
            """
        )

    def _sessions(self) -> Rows:
        chosen = self._query(
            f"""
            with period as (
                select * from {{sessions}}
                where session_start_at >= $first_date and session_start_at < $end_date
            ),

            ranked as (
                (select session_key, 'frustrating' as reason from period where frustration_score > 0
                order by frustration_score desc, session_key limit {N_SESSIONS})
                union all
                (select session_key, 'longest' as reason from period
                order by active_duration_s desc nulls last, duration_s desc, session_key limit {N_SESSIONS})
                union all
                (select session_key, 'converting' as reason from period where is_converted
                order by session_start_at desc, session_key limit {N_SESSIONS})
            ),

            reasons as (select session_key, list(reason order by reason) as reasons from ranked group by session_key)

            select period.session_key, reasons.reasons, session_start_at, duration_s, active_duration_s, n_events,
                n_pages, frustration_score, is_converted, device, browser, replay_url,
                first_window_start, last_window_start
            from period
            inner join reasons
                on period.session_key = reasons.session_key
            order by frustration_score desc, period.session_key
            """
        )
        steps = self._query(
            f"""
            select timeline.session_key, timeline.since_session_start_s as at_s, timeline.description,
                coalesce(pages.page, timeline.app_view_name, 'unknown') as page,
                case
                    when is_rage_click or is_dead_click or is_error_click or event_type in ('thrash', 'abandon')
                        then 'frustration'
                    when event_type in ('exception', 'crashed', 'click_error') or req_status >= 400 then 'error'
                    when event_type in ('navigate', 'pageview', 'load') then 'page'
                    when event_type = 'custom' then 'custom event'
                    else 'other'
                end as kind
            from {{session_timeline}} as timeline
            left join {{page_durations}} as pages
                on timeline.page_instance_key = pages.page_instance_key
            where
                timeline.session_key in (select unnest($keys))
                -- So that the engine can skip what is older: the timeline has a row for every event there ever was.
                and timeline.window_start between $first_window and $last_window
                and timeline.step_number <= {N_STEPS}
            order by timeline.session_key, timeline.step_number
            """,
            keys=[session["session_key"] for session in chosen],
            first_window=min(session["first_window_start"] for session in chosen),
            last_window=max(session["last_window_start"] for session in chosen),
        )
        of_session = {key: list(rows) for key, rows in groupby(steps, itemgetter("session_key"))}
        for session in chosen:
            session["steps"] = of_session.get(session["session_key"], [])
        return chosen

    def _query(self, sql: str, **parameters: Any) -> Rows:
        wanted = {**self._period, **parameters}
        named = {name: value for name, value in wanted.items() if f"${name}" in sql}
        return self._ask(sql.format(**self._names), named)


def _totals(metrics: Rows, dimension: str) -> Rows:
    """Sessions of the four weeks by the values of a dimension, most first."""
    totals = Counter[str]()
    for row in metrics:
        if row["dimension"] == dimension:
            totals[row["dimension_value"]] += row["n_sessions"]
    ranked = sorted(totals.items(), key=lambda total: (-total[1], total[0]))
    return [{dimension: name, "n_sessions": n_sessions} for name, n_sessions in ranked[:N_BARS]]
