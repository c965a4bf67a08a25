"""What every test starts from: an environment without settings, a folder without `.env`, the same examples always."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from fullstory_dagster_tests import postgres as postgres_server
from fullstory_dagster_tests.reliability.report import record_rows

# The same examples on every machine and in every run; a number of a test's own says how many.
hypothesis.settings.register_profile("reproducible", derandomize=True, deadline=None)
hypothesis.settings.load_profile("reproducible")

_ASKS_FOR_TESTS = ("FULLSTORY_REAL_", "FULLSTORY_CONTRACT_", "FULLSTORY_TESTS_")
"""Variables that say which tests to run; they are no settings."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that take longest first, so that no worker is left alone with one at the end."""
    weights: dict[Path, int] = {}
    for item in items:
        weight = 2 if item.get_closest_marker("soak") else 1 if item.get_closest_marker("slow") else 0
        weights[item.path] = max(weight, weights.get(item.path, 0))
    items.sort(key=lambda item: -weights[item.path])


@pytest.fixture(autouse=True)
def _clean_surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith(("FULLSTORY_", "DAGSTER_")) and not name.startswith(_ASKS_FOR_TESTS):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def examples() -> Iterator[Counter[str]]:
    """How many examples each property was tested with, by what it says; the page on reliability has it."""
    counted: Counter[str] = Counter()
    yield counted
    record_rows("examples", {what: {"examples": n} for what, n in counted.items()})


@pytest.fixture(scope="session")
def postgres() -> Iterator[postgres_server.PostgresServer]:
    """A PostgreSQL server for the whole session; a laptop may do without one."""
    if postgres_server.is_missing():
        pytest.skip("needs PostgreSQL")
    server = postgres_server.PostgresServer()
    yield server
    server.close()
