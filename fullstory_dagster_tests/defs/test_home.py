"""DAGSTER_HOME is made once, and Dagster accepts it."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pytest
import yaml

from fullstory_dagster.defs.dbt.parsed import PROJECT_DIR
from fullstory_dagster.defs.history import report_loads_to_home
from fullstory_dagster.defs.home import PROJECT_ROOT, prepare_home
from fullstory_dagster.defs.names import WAREHOUSE_POOL
from fullstory_dagster.ingest.sync import sync
from fullstory_dagster.settings import Settings

from .conftest import INGEST, START, AccountAt, key_of


@pytest.fixture
def fresh(tmp_path: Path) -> Settings:
    return Settings(start=START, data_dir=tmp_path / "data")


def test_a_home_is_made_with_the_pools_in_it_and_dagster_accepts_it(fresh: Settings) -> None:
    home = prepare_home(fresh)
    assert home == fresh.data_dir / "dagster"
    assert home.is_absolute()
    with dg.DagsterInstance.from_config(str(home)) as instance:
        config = instance.get_concurrency_config().pool_config
        assert config.default_pool_limit == 1
        assert config.pool_granularity is not None
        assert config.pool_granularity.value == "op"
        assert instance.run_monitoring_enabled
        assert not instance.telemetry_enabled
        assert not instance.nux_enabled
        instance.event_log_storage.initialize_concurrency_limit_to_default(WAREHOUSE_POOL)
        assert instance.event_log_storage.get_concurrency_info(WAREHOUSE_POOL).slot_count == 1


def test_a_home_that_somebody_edited_stays_as_it_is(fresh: Settings) -> None:
    edited = prepare_home(fresh) / "dagster.yaml"
    edited.write_text("telemetry: {enabled: false}\n")
    prepare_home(fresh)
    assert yaml.safe_load(edited.read_text()) == {"telemetry": {"enabled": False}}


def test_the_files_it_relies_on_lie_where_it_looks() -> None:
    assert (PROJECT_ROOT / "workspace.yaml").exists()
    assert (PROJECT_ROOT / "dagster.yaml").exists()
    assert (PROJECT_DIR / "dbt_project.yml").exists()


@pytest.mark.slow
def test_loads_are_told_to_the_home_of_the_account(account: AccountAt) -> None:
    prepare_home(account.settings)
    sync(account.ingestion())
    for _ in range(2):
        report_loads_to_home(account.ingestion())
    with dg.DagsterInstance.from_config(str(account.settings.dagster_home)) as instance:
        for name in INGEST:
            assert len(instance.get_materialized_partitions(key_of(name))) == 6
            records = instance.fetch_materializations(key_of(name), limit=100).records
            assert len(records) == 6
