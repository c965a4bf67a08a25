"""One account on one simulator for all tests of this folder, emptied between them; time stands still at ``NOW``.

The data dir keeps its path and its dbt target: another path is another profile, and dbt would parse the project again.
"""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path

import dagster as dg
import pytest

with warnings.catch_warnings():
    # What dbt is made of warns of its own parts when it is imported; once is enough, and here is the first time.
    warnings.simplefilter("ignore")
    import dagster_dbt  # noqa: F401

from fullstory_dagster.api.clock import SystemClock
from fullstory_dagster.definitions import build_definitions
from fullstory_dagster.defs.names import LOAD_JOB, asset_key
from fullstory_dagster.defs.partitions import key_range_tags
from fullstory_dagster.defs.resources import FullStoryAccount
from fullstory_dagster.ingest.ingestion import Ingestion
from fullstory_dagster.settings import Settings
from fullstory_dagster.simulator.config import SimulatorConfig
from fullstory_dagster.simulator.process import SimulatorProcess
from fullstory_dagster.windows import Window

START = datetime(2026, 6, 1, tzinfo=timezone.utc)
NOW = datetime(2026, 6, 8, 12, tzinfo=timezone.utc)
"""Six daily windows are available: June 1 to 6."""
CANARY_KEY = "na1.Y2FuYXJ5/key+that=must.never.be.seen"
SCHEMA = "fullstory"
INGEST = ("raw_bundles", "parsed_events", "events")
MARTS = (
    "sessions",
    "page_durations",
    "session_timeline",
    "custom_events",
    "error_events",
    "forms",
    "frustration_signals",
    "funnel_steps",
    "requests",
    "web_vitals",
)
VIEWS = ("daily_metrics", "devices", "errors", "funnels", "identities", "pages_daily", "users")
BETWEEN = ("int_sessions_identified", "time_spine_daily")
MODELS = ("stg_fullstory__events", *MARTS, *VIEWS, *BETWEEN)

_FOLDER = Path(__file__).parent

_NOT_OURS = (
    # Backfill policies and partitioned checks are beta in Dagster's words.
    "ignore::dagster.BetaWarning",
    "ignore::dagster.PreviewWarning",
    # The stages' policies differ on purpose; see definitions.py.
    "ignore:(?s)Asset job .* varying BackfillPolicies",
    # Dagster's and dbt's own dependencies, and the SQLite connections they leave to the garbage collector.
    "ignore::DeprecationWarning",
    "ignore::ResourceWarning",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(_FOLDER):
            for warning in _NOT_OURS:
                item.add_marker(pytest.mark.filterwarnings(warning))


@dataclass
class StillClock(SystemClock):
    """Time of day that a test sets; waiting still takes its time."""

    at: datetime = NOW

    def now(self) -> datetime:
        return self.at


@dataclass(frozen=True)
class AccountAt(FullStoryAccount):
    """An account that lives at the clock's time."""

    clock: StillClock = field(default_factory=StillClock)

    def ingestion(self, patience_s: int | None = None) -> Ingestion:
        return replace(super().ingestion(patience_s), clock=self.clock)


def day(number: int) -> Window:
    """The daily window of a day of June."""
    return Window(START.replace(day=number), START.replace(day=number + 1))


def key_of(name: str) -> dg.AssetKey:
    return asset_key(SCHEMA, name)


@pytest.fixture(scope="session")
def started_simulator() -> Iterator[SimulatorProcess]:
    with SimulatorProcess(SimulatorConfig(days=6, now=NOW, scale=0.05, export_s=0, api_key=CANARY_KEY)) as simulator:
        yield simulator


@pytest.fixture
def simulator(started_simulator: SimulatorProcess) -> SimulatorProcess:
    started_simulator.clear()
    return started_simulator


@pytest.fixture(scope="session")
def settings(started_simulator: SimulatorProcess, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return Settings(
        start=START,
        data_dir=tmp_path_factory.mktemp("account") / "data",
        api_key=CANARY_KEY,
        api_url=started_simulator.url,
        lock_timeout_s=5,
        duckdb_threads=1,
    )


@pytest.fixture(scope="session")
def _account(settings: Settings) -> AccountAt:
    return AccountAt(settings)


@pytest.fixture
def account(_account: AccountAt, simulator: SimulatorProcess) -> AccountAt:
    """The account with nothing in its data dir but what dbt parsed, at ``NOW``."""
    _account.clock.at = NOW
    data_dir = _account.settings.data_dir
    for path in data_dir.iterdir() if data_dir.exists() else ():
        if path.is_dir() and path.name != "dbt":
            shutil.rmtree(path)
        elif path.is_file():
            path.unlink()
    (data_dir / "dbt" / "published" / "test_results.json").unlink(missing_ok=True)
    return _account


@pytest.fixture(scope="session")
def definitions(settings: Settings, _account: AccountAt) -> dg.Definitions:
    return build_definitions(settings, account=_account)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


@pytest.fixture
def stored_instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    """Dagster's storage on disk, in ``home`` below the test's own folder."""
    (tmp_path / "home").mkdir()
    overrides = {"telemetry": {"enabled": False}, "nux": {"enabled": False}}
    with dg.DagsterInstance.local_temp(str(tmp_path / "home"), overrides=overrides) as instance:
        yield instance


Materialize = Callable[..., dg.ExecuteInProcessResult]


@pytest.fixture
def materialize(definitions: dg.Definitions, account: AccountAt, instance: dg.DagsterInstance) -> Materialize:
    """Run some assets for one day of June, or for a range of days in one run, as the sensor's job does it."""

    def run(
        names: str | Sequence[str], first: int, last: int | None = None, config: dict[str, object] | None = None
    ) -> dg.ExecuteInProcessResult:
        keys = [f"2026-06-{number:02}" for number in (first, last or first)]
        return definitions.resolve_job_def(LOAD_JOB).execute_in_process(
            instance=instance,
            asset_selection=[key_of(name) for name in ([names] if isinstance(names, str) else names)],
            partition_key=None if last else keys[0],
            tags=key_range_tags(keys) if last else {},
            run_config=config,
            raise_on_error=False,
        )

    return run
