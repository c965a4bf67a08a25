"""A day and the smallest event in it."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

from fullstory_dagster.windows import Window

DAY = Window(datetime(2026, 6, 1, tzinfo=timezone.utc), datetime(2026, 6, 2, tzinfo=timezone.utc))


def event(**fields: Any) -> dict[str, Any]:
    """The fields every event has, at noon of ``DAY``, and the given ones."""
    return {
        "UserId": 5189870820212736,
        "SessionId": 2,
        "EventStart": "2026-06-01T12:00:00.000Z",
        "EventType": "click",
    } | fields
