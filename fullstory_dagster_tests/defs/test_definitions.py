"""The code location as a whole: what is in it, and that it is complete."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path

import dagster as dg
import pytest

from fullstory_dagster.defs.names import (
    EXPERIENCE_REPORT,
    GROUP_INGEST,
    GROUP_MARTS,
    GROUP_REPORT,
    GROUP_STAGING,
    WAREHOUSE_POOL,
)
from fullstory_dagster.defs.partitions import key_range_tags, window_partitions
from fullstory_dagster.windows import WindowGrid

from .conftest import BETWEEN, INGEST, MARTS, MODELS, START, VIEWS, key_of

PROJECT = Path(__file__).parents[2]
PARSED = PROJECT / "dbt_project" / "target" / "parsed"


def test_the_assets_are_the_design_s_and_no_other(definitions: dg.Definitions) -> None:
    keys = {key.to_user_string() for key in definitions.resolve_all_asset_keys()}
    assert keys == {
        "fullstory/raw_bundles",
        "fullstory/parsed_events",
        "fullstory/events",
        "fullstory/stg_fullstory__events",
        *(f"fullstory/{name}" for name in (*MARTS, *VIEWS, *BETWEEN)),
        "fullstory/experience_report",
    }
    # A source of dbt's that is no asset of ours would show as one more box without an owner.
    assert definitions.resolve_asset_graph().get_all_asset_keys() == {
        key_of(name) for name in (*INGEST, *MODELS, EXPERIENCE_REPORT)
    }


def test_lineage_runs_from_the_bundles_to_the_marts(definitions: dg.Definitions) -> None:
    graph = definitions.resolve_asset_graph()
    parents = {name: {key.path[-1] for key in graph.get(key_of(name)).parent_keys} for name in (*INGEST, *MODELS)}
    assert parents["raw_bundles"] == set()
    assert parents["parsed_events"] == {"raw_bundles"}
    assert parents["events"] == {"parsed_events"}
    assert all("events" in key_path_closure(parents, name) for name in MODELS)


def key_path_closure(parents: dict[str, set[str]], name: str) -> set[str]:
    return parents[name] | {above for parent in parents[name] for above in key_path_closure(parents, parent)}


def test_groups_follow_the_data_in_the_order_the_ui_sorts_them(definitions: dg.Definitions) -> None:
    graph = definitions.resolve_asset_graph()
    groups = {name: graph.get(key_of(name)).group_name for name in (*INGEST, *MODELS, EXPERIENCE_REPORT)}
    assert groups == {
        **dict.fromkeys(INGEST, GROUP_INGEST),
        "stg_fullstory__events": GROUP_STAGING,
        **dict.fromkeys((*MARTS, *VIEWS, *BETWEEN), GROUP_MARTS),
        EXPERIENCE_REPORT: GROUP_REPORT,
    }
    assert sorted(groups.values())[0] == GROUP_INGEST < GROUP_STAGING < GROUP_MARTS < GROUP_REPORT


def test_kinds_name_the_technology(definitions: dg.Definitions) -> None:
    graph = definitions.resolve_asset_graph()
    kinds = {name: graph.get(key_of(name)).kinds for name in (*INGEST, *MODELS)}
    assert kinds == {
        "raw_bundles": {"fullstory", "gzip"},
        "parsed_events": {"polars", "parquet"},
        "events": {"duckdb"},
        **{name: {"dbt", "duckdb"} for name in MODELS},
    }


def test_every_asset_and_every_column_is_described(definitions: dg.Definitions) -> None:
    graph = definitions.resolve_asset_graph()
    for name in (*INGEST, *MODELS):
        node = graph.get(key_of(name))
        assert node.description, name
        assert "{{" not in node.description
        if name == "raw_bundles":
            continue
        schema = node.metadata["dagster/column_schema"]
        assert isinstance(schema, dg.TableSchema), name
        assert [column.name for column in schema.columns if not column.description] == [], name
        assert len(schema.columns) > 5 or name in BETWEEN


def test_checks_are_described_and_sit_on_assets_of_ours(definitions: dg.Definitions) -> None:
    graph = definitions.resolve_asset_graph()
    ours = {key.name for key in graph.asset_check_keys if key.asset_key == key_of("events")}
    assert ours == {
        "every_row_is_accounted_for",
        "no_event_stands_twice",
        "events_lie_in_their_window",
        "window_is_not_unusually_quiet",
        "no_row_is_rejected",
        "every_value_fits_its_column",
        "every_window_is_loaded",
    }
    checks = [graph.get(key) for key in graph.asset_check_keys]
    assert all(check.description for check in checks)
    assert {key.asset_key for key in graph.asset_check_keys} >= {key_of(n) for n in ("events", *MARTS)}


def test_whoever_opens_the_warehouse_takes_the_pool(definitions: dg.Definitions) -> None:
    graph = definitions.resolve_asset_graph()
    pools = {name: graph.get(key_of(name)).pools for name in (*INGEST, *MODELS)}
    assert pools == {
        "raw_bundles": set(),
        "parsed_events": set(),
        **{name: {WAREHOUSE_POOL} for name in ("events", *MODELS)},
    }


def test_backfill_policies_differ_so_that_the_stages_are_runs_of_their_own(definitions: dg.Definitions) -> None:
    graph = definitions.resolve_asset_graph()
    policies = [graph.get(key_of(name)).backfill_policy for name in (*INGEST, "sessions")]
    assert len(set(policies)) == 4
    assert policies[-1] == dg.BackfillPolicy.single_run()
    assert {graph.get(key_of(name)).backfill_policy for name in MODELS} == {dg.BackfillPolicy.single_run()}


@pytest.mark.parametrize(("hours", "delay"), [(24, 24), (24, 0), (24, 72), (6, 24), (6, 6), (1, 3), (12, 24)])
@pytest.mark.parametrize("hour", [0, 3, 6, 12, 18, 23])
def test_partitions_are_the_windows_that_are_available(hours: int, delay: int, hour: int) -> None:
    grid = WindowGrid(first=START, hours=hours, delay_hours=delay)
    for minute in (0, 1, 59):
        now = datetime(2026, 6, 9, hour, minute, tzinfo=timezone.utc)
        keys = window_partitions(grid).get_partition_keys(current_time=now)
        assert keys == [grid.key(window) for window in grid.available(now)]


def test_a_delay_that_is_no_multiple_of_the_length_shows_a_window_early_never_late() -> None:
    grid = WindowGrid(first=START, hours=24, delay_hours=30)
    now = START + timedelta(days=8, hours=2)
    offered = window_partitions(grid).get_partition_keys(current_time=now)
    available = [grid.key(window) for window in grid.available(now)]
    assert offered[: len(available)] == available
    assert len(offered) - len(available) == 1


def test_a_fresh_account_has_no_partition_and_can_be_defined() -> None:
    grid = WindowGrid(first=START, hours=24, delay_hours=24)
    assert window_partitions(grid).get_partition_keys(current_time=START + timedelta(hours=47)) == []
    assert window_partitions(grid).get_partition_keys(current_time=START + timedelta(hours=48)) == ["2026-06-01"]


def test_a_range_run_is_named_by_its_first_and_last_key() -> None:
    assert key_range_tags(["2026-06-01", "2026-06-02", "2026-06-03"]) == {
        "dagster/asset_partition_range_start": "2026-06-01",
        "dagster/asset_partition_range_end": "2026-06-03",
    }


def test_everything_resolves_and_validates(definitions: dg.Definitions) -> None:
    dg.Definitions.validate_loadable(definitions)


@pytest.mark.slow
def test_the_manifest_is_not_made_again_while_the_project_is_the_same(tmp_path: Path) -> None:
    script = (
        "import warnings; warnings.simplefilter('ignore')\n"
        "from fullstory_dagster.settings import Settings\n"
        "from fullstory_dagster.definitions import build_definitions\n"
        "from datetime import datetime, timezone\n"
        "from pathlib import Path\n"
        "import sys\n"
        "build_definitions(Settings(start=datetime(2026, 6, 1, tzinfo=timezone.utc), data_dir=Path(sys.argv[1])))\n"
    )
    made_at = []
    for account in ("first", "second"):
        subprocess.run([sys.executable, "-c", script, str(tmp_path / account)], check=True, cwd=PROJECT)
        assert not (tmp_path / account / "dbt" / "manifest.json").exists()
        made_at.append({path: path.stat().st_mtime_ns for path in PARSED.iterdir()})
    assert made_at[0] == made_at[1]


@pytest.mark.slow
def test_importing_the_definitions_leaves_no_trace_until_dagster_asks_for_them(tmp_path: Path) -> None:
    script = "import warnings; warnings.simplefilter('ignore'); import fullstory_dagster.definitions"
    subprocess.run([sys.executable, "-c", script], check=True, cwd=tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_dagster_loads_the_workspace_without_an_account(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("FULLSTORY_", "DAGSTER_"))}
    validated = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "dagster", "definitions", "validate", "-w", PROJECT / "workspace.yaml"],
        cwd=tmp_path,
        env=environment | {"FULLSTORY_DATA_DIR": str(tmp_path / "data")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert validated.returncode == 0, validated.stdout + validated.stderr
    assert "All code locations passed validation" in validated.stdout + validated.stderr
    assert (tmp_path / "data" / "demo" / "demo.env").exists()
