"""The demo: an account of its own, below the data dir, that lives on the simulator."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from dotenv import dotenv_values, set_key

from fullstory_dagster.errors import UsageError
from fullstory_dagster.settings import Settings, read_settings, settings_exist
from fullstory_dagster.simulator.config import DEFAULT_KEY, SimulatorConfig
from fullstory_dagster.simulator.process import SimulatorProcess
from fullstory_dagster.store.tables import table
from fullstory_dagster.store.warehouse import Warehouse

DEFAULT_DAYS = 7
DEFAULT_SEED = 1
ORG_ID = "demo"
DEMO_URL = "FULLSTORY_DEMO_URL"
"""Where ``dev`` tells the processes it starts that its simulator is."""


@dataclass(frozen=True)
class DemoAccount:
    """What is fixed for the demo once and for all. Made-up rows share nothing with a real warehouse.

    Attributes:
        home: data dir of the demo.
        start: start date, aware UTC midnight.
        seed: which made-up site.
        schema: as for the real account.
    """

    home: Path
    start: datetime
    seed: int
    schema: str

    def simulator(self) -> SimulatorProcess:
        """A simulator with the account's traffic, as a process of its own."""
        days = (datetime.now(timezone.utc) - self.start).days + 1
        return SimulatorProcess(SimulatorConfig(days=days, seed=self.seed))

    def settings(self, api_url: str | None = None) -> Settings:
        """The account's settings, whatever the real account's say, with the simulator at ``api_url``.

        Without one there is no key and nothing to ask.
        """
        environment = {
            "FULLSTORY_API_KEY": DEFAULT_KEY if api_url else "",
            "FULLSTORY_API_URL": api_url or "",
            "FULLSTORY_DATA_DIR": str(self.home),
            "FULLSTORY_START_DATE": f"{self.start:%Y-%m-%d}",
            "FULLSTORY_SCHEMA": self.schema,
            "FULLSTORY_ORG_ID": ORG_ID,
        }
        return read_settings(environment, dotenv=Path(os.devnull))


def demo_account(*, days: int | None = None, seed: int | None = None, now: datetime | None = None) -> DemoAccount:
    """The demo in ``<data dir>/demo``, made when it is first asked for.

    Args:
        days: daily windows from the start date to the newest available one; moves the start date when it is given.
        seed: which made-up site; can't be changed later.
        now: aware UTC, by default the clock.

    Raises:
        UsageError: the demo holds another site.
    """
    configured = read_settings(default_start=datetime(2000, 1, 1, tzinfo=timezone.utc))
    home = configured.data_dir / "demo"
    notes = home / "demo.env"
    known = dotenv_values(notes)
    known_seed = known.get("SEED")
    if seed is not None and known_seed is not None and int(known_seed) != seed:
        raise UsageError(f"The demo in {home} holds the site of seed {known_seed}; delete the folder for another one.")
    if known.get("START_DATE") is None or days is not None:
        today = (now or datetime.now(timezone.utc)).replace(hour=0, minute=0, second=0, microsecond=0)
        # The newest available window began two days ago: it lasted one, and was waited for another.
        start = f"{today - timedelta(days=(days or DEFAULT_DAYS) + 1):%Y-%m-%d}"
        known = {"START_DATE": start, "SEED": known_seed or str(DEFAULT_SEED if seed is None else seed)}
        home.mkdir(parents=True, exist_ok=True)
        for name, value in known.items():
            set_key(notes, name, str(value), quote_mode="never")
    start_at = datetime.strptime(str(known["START_DATE"]), "%Y-%m-%d").replace(tzinfo=timezone.utc)
    return DemoAccount(home=home, start=start_at, seed=int(str(known["SEED"])), schema=configured.schema)


def settings_or_demo() -> Settings:
    """The account's settings, or the demo's while there is no API key.

    Raises:
        SettingsError: there is a key, and another setting is wrong or missing.
    """
    return read_settings() if settings_exist() else demo_account().settings(os.environ.get(DEMO_URL))


def example_session(warehouse: Warehouse, n_steps: int = 16) -> list[dict[str, Any]]:
    """The first steps of a session worth reading: identified, on several pages, neither short nor endless."""
    timeline, sessions = (table(warehouse.schema, name) for name in ("session_timeline", "sessions"))
    return warehouse.query(
        f"""
        WITH chosen AS (
            SELECT session_key FROM {sessions}
            WHERE n_events BETWEEN 15 AND 60 AND n_pages > 2 AND is_identified
            ORDER BY n_rage_clicks DESC, n_events DESC, session_key LIMIT 1
        )
        SELECT step_number AS step, since_session_start_s AS "at s", description AS "what happened"
        FROM {timeline} WHERE session_key = (SELECT session_key FROM chosen)
        ORDER BY step_number LIMIT $n_steps
        """,
        {"n_steps": n_steps},
    )


def longest_pages(warehouse: Warehouse, n_pages: int = 8) -> list[dict[str, Any]]:
    """Pages by the time people spend on them."""
    return warehouse.query(
        f"""
        SELECT url_path AS page, count(*) AS views,
            round(median(duration_ms) / 1000, 1) AS "median s",
            round(median(active_duration_ms) / 1000, 1) AS "median active s"
        FROM {table(warehouse.schema, "page_durations")}
        WHERE url_path IS NOT NULL
        GROUP BY url_path
        ORDER BY sum(duration_ms) DESC NULLS LAST
        LIMIT $n_pages
        """,
        {"n_pages": n_pages},
    )
