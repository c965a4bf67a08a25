"""What the marts could say, by hand: the smallest report with something in every chart."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import Any

from fullstory_dagster.report.reading import ReportData
from fullstory_dagster_tests.sample_loads import load

LAST = date(2026, 6, 14)
HOSTILE = "</script><img src=x onerror=alert(1)>&\u2028"
"""What a visitor may type, or a site may call things."""


def report_data(**changes: Any) -> ReportData:
    """Fourteen days that are all alike, one page, one session; ``changes`` replace fields."""
    day = {
        "n_sessions": 10,
        "n_people": 8,
        "n_new_people": 3,
        "n_frustrated_sessions": 2,
        "n_converted_sessions": 1,
        "n_events": 400,
        "n_errors": 5,
        "median_duration_s": 60.0,
        "bounce_pct": 20.0,
    }
    vital = {"page": "/cart", "p75": 2000.0, "n_pages": 9, "good_pct": 80.0, "middling_pct": 15.0, "poor_pct": 5.0}
    session = {
        "session_key": "1:9",
        "reasons": ["frustrating", "longest"],
        "session_start_at": datetime(2026, 6, 14, 12),  # noqa: DTZ001 - as DuckDB gives it
        "duration_s": 61.5,
        "active_duration_s": 30.0,
        "n_events": 3,
        "n_pages": 1,
        "frustration_score": 4,
        "is_converted": False,
        "device": "Desktop",
        "browser": None,
        "replay_url": None,
        "steps": [
            {"session_key": "1:9", "at_s": 0.0, "page": "/cart", "kind": "page", "description": "Went to the cart"},
            {"session_key": "1:9", "at_s": 61.5, "page": HOSTILE, "kind": "frustration", "description": HOSTILE},
        ],
    }
    data = ReportData(
        first_date=LAST - timedelta(days=27),
        last_date=LAST,
        days=[{"metric_date": LAST - timedelta(days=back), **day} for back in reversed(range(14))],
        hours=[{"hour_at": datetime(2026, 6, 14, hour), "n_sessions": hour} for hour in range(24)],  # noqa: DTZ001
        pages=[{"page": HOSTILE, "n_views": 9, "active_h": 1.5}],
        durations=[{"label": "under 10 s", "n_sessions": 10}],
        frustration=[{"place": "/cart", "kind": "rage_click", "n_signals": 2}],
        elements=[{"place": HOSTILE, "kind": "dead_click", "n_signals": 2}],
        vitals=[{**vital, "metric": metric} for metric in ("LCP", "CLS")],
        funnel=[
            {"funnel": "checkout", "step_number": 1, "step_name": "Cart", "n_reached": 8},
            {"funnel": "checkout", "step_number": 2, "step_name": "Order", "n_reached": 2},
        ],
        errors=[
            {"kind": "exception", "message": "boom", "n_events": 4, "n_sessions": 3},
            {"kind": "console_error", "message": "boom", "n_events": 1, "n_sessions": 1},
            {"kind": "crash", "message": None, "n_events": 1, "n_sessions": 1},
        ],
        devices=[{"device": "Desktop", "n_sessions": 140}],
        browsers=[{"browser": "Chrome", "n_sessions": 140}],
        sessions=[session],
        loads=[load(number) for number in (1, 2, 3)],
    )
    return replace(data, **changes)
