"""The experience report as an asset: what it needs, what it shows, and when it is drawn."""

from __future__ import annotations

import dagster as dg
import pytest

from fullstory_dagster.defs.names import EXPERIENCE_REPORT
from fullstory_dagster.report.reading import MARTS as READ

from .conftest import INGEST, MODELS, AccountAt, Materialize, key_of

pytestmark = pytest.mark.slow


def draw(definitions: dg.Definitions, instance: dg.DagsterInstance, account: AccountAt) -> dg.ExecuteInProcessResult:
    return dg.materialize(
        [definitions.get_assets_def(key_of(EXPERIENCE_REPORT))], instance=instance, resources={"account": account}
    )


def test_it_is_drawn_from_marts_that_dbt_builds(definitions: dg.Definitions) -> None:
    parents = definitions.resolve_asset_graph().get(key_of(EXPERIENCE_REPORT)).parent_keys
    assert parents == {key_of(name) for name in READ} <= {key_of(name) for name in MODELS}


def test_it_tells_where_the_file_is_and_shows_small_pictures_here_and_on_their_marts(
    definitions: dg.Definitions, instance: dg.DagsterInstance, account: AccountAt, materialize: Materialize
) -> None:
    assert materialize([*INGEST, *MODELS], 1, 2).success
    result = draw(definitions, instance, account)

    [event] = result.asset_materializations_for_node(f"fullstory__{EXPERIENCE_REPORT}")
    assert event.metadata["report"] == dg.MetadataValue.path(account.settings.report_path)
    assert event.metadata["last day (UTC)"].value == "2026-06-02"
    html = account.settings.report_path.read_text()
    assert html.startswith("<!doctype html>")
    assert event.metadata["bytes"].value == len(html.encode())
    pictures = [value.md_str for value in event.metadata.values() if isinstance(value, dg.MarkdownMetadataValue)]
    assert len(pictures) >= 5
    assert all(text.startswith("![") and len(text) < 90_000 for text in pictures)

    seen = {
        event.asset_observation_data.asset_observation.asset_key.path[-1]
        for event in result.all_events
        if event.event_type_value == "ASSET_OBSERVATION"
    }
    assert {"sessions", "daily_metrics", "web_vitals"} <= seen


def test_nothing_to_draw_wakes_nobody(
    definitions: dg.Definitions, instance: dg.DagsterInstance, account: AccountAt
) -> None:
    result = draw(definitions, instance, account)
    assert result.success
    [event] = result.asset_materializations_for_node(f"fullstory__{EXPERIENCE_REPORT}")
    assert "are not built" in str(event.metadata["not drawn"].value)
    assert not account.settings.report_path.exists()


def test_it_is_no_part_of_the_job_that_loads_windows(definitions: dg.Definitions) -> None:
    job = definitions.resolve_job_def("load_windows")
    assert key_of(EXPERIENCE_REPORT) not in job.asset_layer.selected_asset_keys
