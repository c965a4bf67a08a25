"""What follows a bundle by itself, evaluated as Dagster's daemon does, over real runs."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import dagster as dg
import pytest

from fullstory_dagster.defs.dbt.project import DbtProject
from fullstory_dagster.defs.history import report_loads
from fullstory_dagster.defs.names import EXPERIENCE_REPORT
from fullstory_dagster.ingest.sync import sync
from fullstory_dagster.simulator.process import SimulatorProcess

from .conftest import INGEST, MODELS, NOW, AccountAt, Materialize, day, key_of

pytestmark = pytest.mark.slow

FOLLOWERS = (*INGEST[1:], *MODELS)

Asked = dict[str, set[str]]
Follow = Callable[..., Asked]


@pytest.fixture
def follow(definitions: dg.Definitions, instance: dg.DagsterInstance) -> Follow:
    """One evaluation of the automation sensor; remembers where the last one left off."""
    state: dict[str, object] = {"cursor": None, "at": NOW}

    def evaluate(after: timedelta = timedelta(seconds=30)) -> Asked:
        at = state["at"] + after  # type: ignore[operator]
        result = dg.evaluate_automation_conditions(
            definitions,
            instance,
            asset_selection=dg.AssetSelection.assets(*map(key_of, FOLLOWERS)),
            evaluation_time=at,
            cursor=state["cursor"],  # type: ignore[arg-type]
        )
        state["cursor"], state["at"] = result.cursor, at
        asked = {name: result.get_requested_partitions(key_of(name)) for name in FOLLOWERS}
        return {name: {str(key) for key in keys} for name, keys in asked.items() if keys}

    evaluate()
    return evaluate


def everything(*keys: str) -> Asked:
    """Dagster asks for a whole chain at once: in one run for one window, in a backfill, tier by tier, for several."""
    return {name: set(keys) for name in FOLLOWERS}


def models(*keys: str) -> Asked:
    return {name: set(keys) for name in MODELS}


def test_a_new_bundle_is_followed_by_everything_once(follow: Follow, materialize: Materialize) -> None:
    assert follow() == {}
    assert materialize("raw_bundles", 1, 2).success
    assert follow() == everything("2026-06-01", "2026-06-02")
    for name in (*INGEST[1:], MODELS):
        assert materialize(name, 1, 2).success
    assert follow() == {}
    assert follow(timedelta(hours=2)) == {}


def test_one_window_is_followed_in_a_single_run(follow: Follow, materialize: Materialize, account: AccountAt) -> None:
    assert materialize("raw_bundles", 2).success
    assert follow() == everything("2026-06-02")
    assert materialize(FOLLOWERS, 2).success
    assert follow() == {}
    assert set(account.ingestion().warehouse.built_up_to().values()) == {1}


def test_a_window_fetched_again_goes_all_the_way_again(follow: Follow, materialize: Materialize) -> None:
    for name in (*INGEST, MODELS):
        assert materialize(name, 1, 2).success
    follow()
    assert materialize("raw_bundles", 2).success
    assert follow() == everything("2026-06-02")
    for name in (*INGEST[1:], MODELS):
        assert materialize(name, 2).success
    assert follow() == {}


def test_a_window_appended_again_is_modelled_again(follow: Follow, materialize: Materialize) -> None:
    for name in (*INGEST, MODELS):
        assert materialize(name, 1, 2).success
    follow()
    assert materialize("events", 2).success
    assert follow() == models("2026-06-02")


def test_good_windows_go_on_when_one_of_their_range_failed(
    follow: Follow, materialize: Materialize, simulator: SimulatorProcess, account: AccountAt
) -> None:
    simulator.set_faults([{"route": "export_start", "status": 404, "times": 1}])
    assert not materialize("raw_bundles", 1, 3).success
    [bad] = account.ingestion().attempts.all()
    assert follow() == everything(*(f"{day(n).start:%Y-%m-%d}" for n in (1, 2, 3) if day(n) != bad))


def test_a_window_that_cannot_be_parsed_is_not_hammered(
    follow: Follow, materialize: Materialize, account: AccountAt
) -> None:
    assert materialize("raw_bundles", 1).success
    assert follow() == everything("2026-06-01")
    account.ingestion().bundles.delete(day(1))
    assert not materialize(FOLLOWERS, 1).success
    assert follow() == {}
    assert follow(timedelta(hours=5)) == {}
    # Another bundle is another chance.
    assert materialize("raw_bundles", 1).success
    assert follow() == everything("2026-06-01")


def test_an_append_that_the_sensor_asked_for_again_is_modelled(
    follow: Follow, materialize: Materialize, account: AccountAt
) -> None:
    assert materialize("raw_bundles", 1).success
    assert follow() == everything("2026-06-01")
    with account.ingestion().warehouse.database.locked():
        assert not materialize(FOLLOWERS, 1).success
    assert follow() == {}
    assert materialize("events", 1).success
    assert follow() == models("2026-06-01")


def test_models_that_failed_are_tried_again_every_hour(
    follow: Follow, materialize: Materialize, account: AccountAt
) -> None:
    for name in INGEST:
        assert materialize(name, 1).success
    assert follow() == models("2026-06-01")
    with account.ingestion().warehouse.database.locked():
        assert not materialize(MODELS, 1).success
    assert follow() == {}
    assert follow(timedelta(hours=1)) == models("2026-06-01")


def test_windows_that_the_command_line_loaded_and_built_are_left_alone(
    follow: Follow, account: AccountAt, instance: dg.DagsterInstance, materialize: Materialize
) -> None:
    assert materialize("raw_bundles", 6).success
    ingestion = account.ingestion()
    sync(ingestion, end=day(3).end)
    DbtProject(account.settings).build(ingestion.warehouse)
    with ingestion.warehouse.writing() as connection:
        # A model that an upgrade took away is built no more, and its mark stays behind.
        connection.execute("INSERT INTO fullstory._builds VALUES ('of_an_older_version', 1, TIMESTAMP '2026-06-01')")
    report_loads(instance, ingestion, [key_of(name) for name in MODELS])
    assert follow() == everything("2026-06-06")


def test_windows_that_the_command_line_loaded_without_dbt_are_modelled(
    follow: Follow, account: AccountAt, instance: dg.DagsterInstance
) -> None:
    sync(account.ingestion(), end=day(2).end)
    report_loads(instance, account.ingestion(), [key_of(name) for name in MODELS])
    assert follow() == models("2026-06-01", "2026-06-02")


def test_the_report_is_drawn_once_after_models_were_built_and_not_before_the_first(
    definitions: dg.Definitions, instance: dg.DagsterInstance, materialize: Materialize
) -> None:
    report = key_of(EXPERIENCE_REPORT)
    cursor = None

    def is_asked_for() -> bool:
        nonlocal cursor
        result = dg.evaluate_automation_conditions(
            definitions, instance, asset_selection=dg.AssetSelection.assets(report), cursor=cursor
        )
        cursor = result.cursor
        return result.get_num_requested(report) == 1

    assert not is_asked_for()
    for name in INGEST:
        assert materialize(name, 1).success
    assert not is_asked_for()
    assert materialize(MODELS, 1).success
    assert is_asked_for()
    assert not is_asked_for()
