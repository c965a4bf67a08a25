"""What a column is made of, from the models' SQL to the bundle."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from fullstory_dagster.defs.dbt import parsed
from fullstory_dagster.defs.dbt.lineage import column_sources
from fullstory_dagster.defs.dbt.project import DbtProject
from fullstory_dagster.errors import DiskFullError
from fullstory_dagster.settings import Settings

from .conftest import BETWEEN, MODELS, key_of

_OF_NO_COLUMN = {"replay_url", "kind", "metric", "unit", "funnel", "step_name", "step_number", "dimension"}
"""Texts of our own, numbers of rows, and links that the demo's account would have."""


def lineage_of(definitions: dg.Definitions, name: str) -> dict[str, list[tuple[str, str]]]:
    found = definitions.resolve_asset_graph().get(key_of(name)).metadata["dagster/column_lineage"]
    assert isinstance(found, dg.TableColumnLineage)
    return {
        column: [(dep.asset_key.path[-1], dep.column_name) for dep in deps]
        for column, deps in found.deps_by_column.items()
    }


def test_a_column_of_a_mart_leads_back_to_the_field_in_the_parquet(definitions: dg.Definitions) -> None:
    path = ("page_durations", "duration_ms")
    seen = [path]
    while "dagster/column_lineage" in definitions.resolve_asset_graph().get(key_of(path[0])).metadata:
        [path] = lineage_of(definitions, path[0])[path[1]]
        seen.append(path)
    assert seen[1:] == [
        ("stg_fullstory__events", "page_duration_ms"),
        ("events", "PageDuration"),
        ("parsed_events", "PageDuration"),
    ]


def test_every_column_of_every_model_is_traced(definitions: dg.Definitions) -> None:
    for name in MODELS:
        traced = lineage_of(definitions, name)
        schema = definitions.resolve_asset_graph().get(key_of(name)).metadata["dagster/column_schema"]
        assert isinstance(schema, dg.TableSchema)
        columns = {column.name for column in schema.columns}
        assert columns <= traced.keys() if name in BETWEEN else columns == traced.keys(), name
        untraced = {column for column, deps in traced.items() if not deps}
        counts = {column for column in untraced if column.startswith(("n_", "of_first"))}
        assert untraced - counts <= _OF_NO_COLUMN, name


def test_columns_are_traced_once_for_all_accounts(
    definitions: dg.Definitions, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, another = DbtProject(settings), DbtProject(settings.with_changes(data_dir=tmp_path, warehouse=None))
    traced = mine.column_sources(mine.manifest())

    def refuse(*_: object) -> None:
        raise AssertionError("the models were compiled")

    monkeypatch.setattr(DbtProject, "_compiled", refuse)
    assert another.column_sources(mine.manifest()) == traced


def test_lineage_that_a_full_disk_cut_short_is_traced_again(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "dbt_project").mkdir()
    monkeypatch.setattr(parsed, "PROJECT_DIR", tmp_path / "dbt_project")
    manifest = {
        "nodes": {"m": {"name": "m", "unique_id": "m", "resource_type": "model", "depends_on": {"nodes": []}}},
        "sources": {"s": {"name": "s", "columns": {"a": {}}}},
    }

    def no_room(_: DbtProject, arguments: Sequence[str], **__: object) -> None:
        raise DiskFullError(f"dbt {arguments[0]} found the disk full.")

    def compiled(_: DbtProject, __: Sequence[str], *, target: Path, warehouse: str) -> None:
        target.mkdir()
        node = {"name": "m", "compiled_code": "select a as b from s"}
        (target / "manifest.json").write_text(json.dumps({"nodes": {"m": node}}))

    project = DbtProject(settings)
    monkeypatch.setattr(DbtProject, "_invoke", no_room)
    assert project.column_sources(manifest) == {}
    monkeypatch.setattr(DbtProject, "_invoke", compiled)
    assert project.column_sources(manifest) == {"m": {"b": [["s", "a"]]}}


def test_the_code_and_its_page_of_the_docs_are_a_click_away(definitions: dg.Definitions) -> None:
    for name, *endings in (
        ("events", "docs/troubleshooting.md", "defs/assets.py"),
        ("sessions", "models/marts/sessions.sql", "docs/analytics.md"),
    ):
        references = definitions.resolve_asset_graph().get(key_of(name)).metadata["dagster/code_references"]
        assert isinstance(references, dg.CodeReferencesMetadataValue)
        for reference, ending in zip(references.code_references, endings, strict=True):
            assert isinstance(reference, dg.LocalFileCodeReference)
            assert reference.file_path.endswith(ending)
            assert Path(reference.file_path).exists()


def traced(sql: str) -> Any:
    manifest = {
        "sources": {"source.raw": {"name": "raw", "identifier": "raw", "columns": {"Id": {}, "Value": {}}}},
        "nodes": {
            "model.m": {
                "name": "m",
                "unique_id": "model.m",
                "resource_type": "model",
                "columns": {},
                "depends_on": {"nodes": ["source.raw"]},
            }
        },
    }
    return column_sources(manifest, {"m": sql}).get("m")


def test_columns_are_followed_through_unions_stars_and_recursion() -> None:
    assert traced('select * from "a"."b"."raw"') == {"id": [("raw", "Id")], "value": [("raw", "Value")]}
    assert traced("select id as a from raw union all select value from raw") == {"a": [("raw", "Id"), ("raw", "Value")]}
    recursive = (
        "with recursive r as (select id as n from raw union all select n + 1 as n from r where n < 9) select n from r"
    )
    assert traced(recursive) == {"n": [("raw", "Id")]}
    assert traced("select 1 as one, count(*) as n from raw") == {"one": [], "n": []}


def test_sql_that_is_not_understood_has_no_lineage_and_breaks_nothing() -> None:
    assert traced("select from where") is None
