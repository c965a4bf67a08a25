"""Marts that dbt built from hand-made events, and the warehouse as the product opens it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fullstory_dagster.store.file import DatabaseFile
from fullstory_dagster.store.warehouse import Warehouse
from fullstory_dagster_tests.dbt_project.warehouse import SCHEMA, TestWarehouse


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestWarehouse]:
    """A warehouse without a window."""
    folder = tmp_path_factory.mktemp("report")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("FULLSTORY_ORG_ID", "FULLSTORY_APP_URL", "FULLSTORY_SCHEMA"):
            patch.delenv(name, raising=False)
        patch.setenv("FULLSTORY_WAREHOUSE", str(folder / "warehouse.duckdb"))
        patch.setenv("DBT_TARGET_PATH", str(folder / "target"))
        patch.setenv("DBT_LOG_PATH", str(folder / "logs"))
        patch.setenv("DO_NOT_TRACK", "1")
        yield TestWarehouse(folder / "warehouse.duckdb")


def opened(made: TestWarehouse | Path) -> Warehouse:
    """The warehouse as commands and assets have it."""
    return Warehouse(DatabaseFile(made.path if isinstance(made, TestWarehouse) else made), SCHEMA)
