"""What a simulator can be told, and the command line that says it."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Literal

from fullstory_dagster.windows import WINDOW_HOURS

DEFAULT_KEY = "simulator-key"

KEY_VARIABLE = "SIMULATOR_API_KEY"
"""Where a program that starts a simulator puts the key: a command line is everybody's to read."""


@dataclass(frozen=True)
class SimulatorConfig:
    """One simulator.

    Attributes:
        port: port on 127.0.0.1; 0 takes a free one.
        days: how many whole UTC days of traffic are over and settled at ``now``; yesterday and today come on top.
        seed: which made-up site; the same seed gives the same bytes.
        scale: multiplies the number of visits.
        data: a file of events served in place of made-up traffic: a JSON array or NDJSON, gzip or not.
        now: the moment up to which traffic exists and bundles are complete, UTC; None follows the clock. Operations and
            signed locations always go by the clock, because the client that waits for them does.
        bundle_hours: length of a legacy bundle.
        bundle_ids: whether the legacy API gives its ids as JSON numbers or as text; both have been seen.
        api_key: the only key that is let in.
        rate_limit: legacy downloads a minute and key; 0 is no limit. FullStory's own limit is 2.
        rate_limit_s: how long the minute of that limit is, so that a test need not wait for a real one.
        export_s: how long a segment export stays pending; with 0 it is ready before its start is answered.
        location_s: how long a signed location works.
    """

    port: int = 0
    days: int = 30
    seed: int = 1
    scale: float = 1.0
    data: Path | None = None
    now: datetime | None = None
    bundle_hours: int = 24
    bundle_ids: Literal["number", "text"] = "number"
    api_key: str = DEFAULT_KEY
    rate_limit: int = 0
    rate_limit_s: float = 60.0
    export_s: float = 0.5
    location_s: float = 3600.0

    def at(self) -> datetime:
        """The simulator's present, UTC."""
        return self.now or datetime.now(timezone.utc)

    def first_day(self) -> datetime:
        """Midnight UTC of the first day that has traffic."""
        today = self.at().replace(hour=0, minute=0, second=0, microsecond=0)
        return today - timedelta(days=self.days + 1)

    def arguments(self) -> list[str]:
        """The command line that ``parse_arguments`` reads back as this configuration, but for the key."""
        given: dict[str, object] = {
            "--port": self.port,
            "--days": self.days,
            "--seed": self.seed,
            "--scale": self.scale,
            "--data": self.data,
            "--now": self.now and self.now.isoformat(),
            "--bundle-hours": self.bundle_hours,
            "--bundle-ids": self.bundle_ids,
            "--rate-limit": self.rate_limit,
            "--rate-limit-seconds": self.rate_limit_s,
            "--export-seconds": self.export_s,
            "--location-seconds": self.location_s,
        }
        # The equals sign keeps a value that begins with a dash from being taken for an option.
        return [f"{option}={value}" for option, value in given.items() if value is not None]


def parse_instant(text: str) -> datetime:
    """An RFC 3339 instant as an aware UTC datetime.

    Raises:
        ValueError: the text is no instant, or names no offset.
    """
    # Python 3.10 reads neither the Z nor fractions of other than 3 or 6 digits.
    head, dot, tail = text.strip().replace("Z", "+00:00").replace("z", "+00:00").partition(".")
    if dot:
        digits = tail[: len(tail) - len(tail.lstrip("0123456789"))]
        head = f"{head}.{digits[:6].ljust(6, '0')}{tail[len(digits) :]}"
    instant = datetime.fromisoformat(head)
    if instant.tzinfo is None:
        raise ValueError(f"{text!r} names no time zone")
    return instant.astimezone(timezone.utc)


def format_instant(instant: datetime) -> str:
    """RFC 3339 in UTC to the millisecond, as FullStory writes it."""
    return instant.astimezone(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def parse_arguments(arguments: Sequence[str]) -> tuple[SimulatorConfig, bool]:
    """Read a command line.

    Returns:
        The configuration, and whether the simulator ends when its standard input does.
    """
    parser = argparse.ArgumentParser(
        prog="fullstory-dagster simulate",
        description="A FullStory for a laptop: both export APIs on loopback, over made-up traffic of a small shop.",
    )
    default = SimulatorConfig()
    parser.add_argument("--port", type=int, default=default.port, help="port on 127.0.0.1; 0 takes a free one")
    parser.add_argument(
        "--days", type=_positive(int), default=default.days, help="settled days of traffic (%(default)s)"
    )
    parser.add_argument("--seed", type=int, default=default.seed, help="which made-up site (%(default)s)")
    parser.add_argument("--scale", type=_positive(float), default=default.scale, help="factor on visits (%(default)s)")
    parser.add_argument("--data", type=Path, help="serve this file's events: JSON array or NDJSON, gzip or not")
    parser.add_argument("--now", type=_instant, help="the simulator's present, RFC 3339; default: the clock")
    parser.add_argument("--bundle-hours", type=int, choices=WINDOW_HOURS, default=default.bundle_hours)
    parser.add_argument("--bundle-ids", choices=("number", "text"), default=default.bundle_ids)
    parser.add_argument(
        "--api-key",
        default=os.environ.get(KEY_VARIABLE) or default.api_key,
        help=f"the only key that is let in ({default.api_key}, or what {KEY_VARIABLE} says)",
    )
    parser.add_argument(
        "--rate-limit",
        type=int,
        default=default.rate_limit,
        help="legacy downloads a minute; FullStory allows 2, the default 0 is no limit, so that a demo is quick",
    )
    parser.add_argument("--rate-limit-seconds", type=_positive(float), default=default.rate_limit_s)
    parser.add_argument("--export-seconds", type=float, default=default.export_s, help="time an export is pending")
    parser.add_argument("--location-seconds", type=float, default=default.location_s, help="time a location works")
    parser.add_argument("--until-stdin-closes", action="store_true", help="end when standard input does")
    given = parser.parse_args(arguments)
    config = SimulatorConfig(
        port=given.port,
        days=given.days,
        seed=given.seed,
        scale=given.scale,
        data=given.data,
        now=given.now,
        bundle_hours=given.bundle_hours,
        bundle_ids=given.bundle_ids,
        api_key=given.api_key,
        rate_limit=given.rate_limit,
        rate_limit_s=given.rate_limit_seconds,
        export_s=given.export_seconds,
        location_s=given.location_seconds,
    )
    return config, given.until_stdin_closes


def _instant(text: str) -> datetime:
    try:
        return parse_instant(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no RFC 3339 instant: {error}") from error


class _positive:  # noqa: N801 - argparse shows the name of a type in its message
    """An argparse type that takes numbers above zero."""

    def __init__(self, number: type[int] | type[float]) -> None:
        self._number = number

    def __call__(self, text: str) -> float:
        value = self._number(text)
        if value <= 0:
            raise argparse.ArgumentTypeError(f"{text} is not above zero")
        return value
