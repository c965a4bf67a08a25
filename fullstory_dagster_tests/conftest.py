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
from fullstory_dagster_tests.s3_server import Bucket, S3Server

# The same examples on every machine and in every run; a number of a test's own says how many.
hypothesis.settings.register_profile("reproducible", derandomize=True, deadline=None)
hypothesis.settings.load_profile("reproducible")

_IS_READ = ("FULLSTORY_", "DAGSTER_", "AWS_", "GOOGLE_", "AZURE_")

_ASKS_FOR_TESTS = ("FULLSTORY_REAL_", "FULLSTORY_CONTRACT_", "FULLSTORY_TESTS_")
"""Variables that say which tests to run; they are no settings."""


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """One more than there are cores: tests of the browser and of daemons wait most of their time."""
    return (os.cpu_count() or 1) + 1


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that take longest first, so that no worker is left alone with one at the end."""
    weights: dict[Path, int] = {}
    for item in items:
        weight = 1 if item.get_closest_marker("slow") else 0
        weight = 2 if item.get_closest_marker("soak") else weight
        weight = 3 if item.get_closest_marker("browser") else weight
        weights[item.path] = max(weight, weights.get(item.path, 0))
    items.sort(key=lambda item: -weights[item.path])


@pytest.fixture(autouse=True)
def _clean_surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith(_IS_READ) and not name.startswith(_ASKS_FOR_TESTS):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def _s3_server() -> Iterator[S3Server]:
    with S3Server() as server:
        yield server


@pytest.fixture
def bucket(_s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """An empty bucket in an S3 on this machine, and an environment in which it is found."""
    for name, value in _s3_server.environment.items():
        monkeypatch.setenv(name, value)
    return _s3_server.new_bucket()


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
