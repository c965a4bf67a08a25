"""The field list, the dbt source and staging name the same columns and say the same of them."""

from __future__ import annotations

import re
from typing import Any

import yaml

from fullstory_dagster.fields import EVENT_COLUMNS, Field
from fullstory_dagster.report.reading import MARTS as READ
from fullstory_dagster.store.tables import BUILD_COLUMNS, EVENTS, LOAD_COLUMNS

from .warehouse import MARTS, PROJECT, VIEWS

STAGING = PROJECT / "models" / "staging" / "fullstory"
KEYS = ["session_key", "page_instance_key"]


def columns_of(entry: dict[str, Any]) -> dict[str, str]:
    return {column["name"]: column["description"] for column in entry["columns"]}


def source_table(name: str) -> dict[str, str]:
    [source] = yaml.safe_load((STAGING / "_fullstory__sources.yml").read_text())["sources"]
    return columns_of(next(table for table in source["tables"] if table["name"] == name))


def staging_columns() -> dict[str, str]:
    [model] = yaml.safe_load((STAGING / "stg_fullstory__events.yml").read_text())["models"]
    return columns_of(model)


def renamed() -> dict[str, str]:
    """Column of the source → column of staging, as the model's SQL has it."""
    sql = (STAGING / "stg_fullstory__events.sql").read_text()
    return dict(re.findall(r'^ +"(\w+)" as (\w+),?$', sql, flags=re.MULTILINE))


def unit_of(field: Field) -> str:
    """The ending that the field's unit asks for."""
    if field.type == "timestamp" and field.group != "system":
        return "_at"
    units = re.findall(r", (ms|px|%)(?=[.;])", field.description)
    return {"ms": "_ms", "px": "_px", "%": "_pct"}[units[0]] if units else ""


def test_the_source_has_the_columns_of_the_field_list_and_their_descriptions() -> None:
    assert source_table(EVENTS) == {field.name: field.description for field in EVENT_COLUMNS}


def test_the_source_describes_the_loaders_own_tables() -> None:
    assert list(source_table("_loads")) == list(LOAD_COLUMNS)
    assert list(source_table("_builds")) == list(BUILD_COLUMNS)


def test_staging_renames_every_column_once() -> None:
    names = renamed()
    assert list(names) == [field.name for field in EVENT_COLUMNS]
    assert len(set(names.values())) == len(names)


def test_staging_says_of_each_column_what_the_field_list_says() -> None:
    names = renamed()
    described = staging_columns()
    assert list(described)[: len(KEYS)] == KEYS
    assert {name: text for name, text in described.items() if name not in KEYS} == {
        names[field.name]: field.description for field in EVENT_COLUMNS
    }


def test_a_staging_name_ends_in_its_unit() -> None:
    names = renamed()
    wrong = {field.name: names[field.name] for field in EVENT_COLUMNS if not names[field.name].endswith(unit_of(field))}
    assert wrong == {}


def test_the_exposure_of_the_report_names_what_the_report_reads() -> None:
    [exposure] = yaml.safe_load((PROJECT / "models" / "marts" / "_exposures.yml").read_text())["exposures"]
    assert exposure["depends_on"] == [f"ref('{mart}')" for mart in READ]


def test_every_mart_states_its_grain_and_describes_every_column() -> None:
    for mart in MARTS | VIEWS:
        [model] = yaml.safe_load((PROJECT / "models" / "marts" / f"{mart}.yml").read_text())["models"]
        assert model["description"].startswith("One row per "), mart
        assert all(columns_of(model).values()), mart
