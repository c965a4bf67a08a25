"""When people come, and what happens to the site in the course of a week.

Everything repeats weekly, so that any seven days in a row show all of it. Instants are Unix milliseconds, UTC.
"""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone

from fullstory_dagster.simulator.traffic.seeded import rng_for

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS

SESSIONS_A_DAY = 200

_WEEKDAY_FACTORS = (1.04, 1.0, 0.98, 1.04, 0.94, 0.86, 1.1)
"""Monday to Sunday: a shop that people visit from the sofa, not on a Saturday afternoon."""

# Share of a place's visits by local hour: quiet nights, a lunch break, and most of it after supper.
_HOUR_WEIGHTS = (
    1.0, 0.5, 0.3, 0.2, 0.2, 0.5, 1.2, 2.4, 3.4, 4.0, 4.4, 4.9,
    5.6, 5.2, 4.4, 4.2, 4.4, 4.8, 5.4, 6.6, 8.2, 8.0, 5.4, 2.6,
)  # fmt: skip
_WEEKEND_HOUR_WEIGHTS = (
    1.6, 0.9, 0.5, 0.3, 0.2, 0.3, 0.6, 1.2, 2.8, 4.8, 6.2, 6.4,
    5.6, 5.0, 5.2, 5.6, 5.8, 5.6, 5.4, 6.0, 7.0, 6.6, 4.8, 2.8,
)  # fmt: skip

_THURSDAY = 3
_WEDNESDAY = 2
_DEPLOY_AT = timedelta(hours=13, minutes=10)
_HOTFIX_AT = timedelta(hours=21, minutes=40)
_NEWSLETTER_HOURS = range(13, 21)
_NEWSLETTER_FACTOR = 1.9
_CAMPAIGN_FROM = timedelta(hours=9)


def midnight_ms(day: date) -> int:
    """The beginning of a day, UTC."""
    return int(datetime(day.year, day.month, day.day, tzinfo=timezone.utc).timestamp()) * 1000


def day_of(instant_ms: int) -> date:
    """The UTC day of an instant."""
    return datetime.fromtimestamp(instant_ms / 1000, timezone.utc).date()


def n_visits(seed: int, day: date, scale: float) -> int:
    """How many sessions begin on a day."""
    noise = rng_for(seed, "visits", day.isoformat()).gauss(1, 0.05)
    return max(1, round(SESSIONS_A_DAY * scale * _WEEKDAY_FACTORS[day.weekday()] * min(max(noise, 0.88), 1.12)))


def hour_weights(day: date, utc_offset_h: int) -> tuple[float, ...]:
    """Weight of each hour of a UTC day for people at a place that is so many hours ahead."""
    local = _WEEKEND_HOUR_WEIGHTS if day.weekday() >= 5 else _HOUR_WEIGHTS
    weights = [local[(hour + utc_offset_h) % 24] for hour in range(24)]
    if day.weekday() == _THURSDAY:
        # The newsletter that goes out with the release brings people just then.
        weights = [w * _NEWSLETTER_FACTOR if h in _NEWSLETTER_HOURS else w for h, w in enumerate(weights)]
    return tuple(weights)


def _in_week(instant_ms: int) -> tuple[int, timedelta]:
    """Weekday and time of day, UTC."""
    at = datetime.fromtimestamp(instant_ms / 1000, timezone.utc)
    return at.weekday(), timedelta(hours=at.hour, minutes=at.minute, seconds=at.second)


def is_order_button_broken(instant_ms: int) -> bool:
    """Thursday's release breaks “Place order” until the hotfix of the same evening."""
    weekday, time = _in_week(instant_ms)
    return weekday == _THURSDAY and _DEPLOY_AT <= time < _HOTFIX_AT


def is_newsletter_time(instant_ms: int) -> bool:
    """Thursday's newsletter is being read."""
    weekday, time = _in_week(instant_ms)
    return weekday == _THURSDAY and time // timedelta(hours=1) in _NEWSLETTER_HOURS


def is_sale_page_heavy(instant_ms: int) -> bool:
    """From Wednesday morning to Sunday night the sale page carries a campaign film and loads slowly."""
    weekday, time = _in_week(instant_ms)
    return weekday > _WEDNESDAY or (weekday == _WEDNESDAY and time >= _CAMPAIGN_FROM)


def release(instant_ms: int) -> str:
    """The site's version: one release on Thursday, one hotfix the same evening, numbered by ISO week."""
    weekday, time = _in_week(instant_ms)
    is_new = weekday > _THURSDAY or (weekday == _THURSDAY and time >= _DEPLOY_AT)
    week = (day_of(instant_ms) - timedelta(days=0 if is_new else 7)).isocalendar()
    return f"{week.year}.{week.week:02d}.{1 if is_order_button_broken(instant_ms) else 2}"
