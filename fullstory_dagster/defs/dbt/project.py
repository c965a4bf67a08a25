"""The dbt project on disk, its manifest, and dbt itself, run inside this process.

A dbt process of its own costs several times what its models cost, and so does a manifest rebuilt in every run worker.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from dagster import AssetKey

from fullstory_dagster.defs.dbt.parsed import PROJECT_DIR, kept
from fullstory_dagster.defs.dbt.results import TestResult, keep_results, results_of
from fullstory_dagster.defs.names import asset_key
from fullstory_dagster.disk import disk_error
from fullstory_dagster.errors import FullStoryError
from fullstory_dagster.settings import Settings
from fullstory_dagster.store.objects import LocalStore
from fullstory_dagster.store.warehouse import Warehouse
from fullstory_dagster.warehouse_location import LAKE_PREFIX, LakeCatalog, catalog_name

if TYPE_CHECKING:
    from dbt.contracts.graph.manifest import Manifest

    from fullstory_dagster.defs.dbt.lineage import Sources

T = TypeVar("T")

_COLUMN_SOURCES = "column_sources.json"

Event = dict[str, Any]


class DbtBuildError(FullStoryError):
    """dbt could not parse the project, or a model or a test failed; the loaded events are not touched by that."""


@dataclass(frozen=True)
class DbtBuild:
    """What a build did.

    Attributes:
        n_models: models built.
        n_tests: tests that passed or warned.
        failures: one sentence for every model or test that failed.
        seconds: as dbt counts them.
        events: dbt's structured log events about nodes, in order.
        tests: what each test said.
    """

    n_models: int
    n_tests: int
    failures: list[str]
    seconds: float
    events: list[Event] = field(repr=False, default_factory=list)
    tests: list[TestResult] = field(repr=False, default_factory=list)

    def __str__(self) -> str:
        """``dbt: 4 models built, 46 tests passed, 3.1 s.``, or what failed."""
        done = f"dbt: {self.n_models} models built, {self.n_tests} tests passed, {self.seconds:.1f} s"
        return f"{done}; {len(self.failures)} failed: {'; '.join(self.failures)}" if self.failures else f"{done}."


class DbtProject:
    """The project, as one account uses it.

    Attributes:
        settings: where the warehouse is; dbt's profile reads it from the environment.
        target: dbt's target folder, the account's own.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.target = settings.data_dir / "dbt"

    def manifest(self) -> dict[str, Any]:
        """The manifest, made anew only if a file of the project has changed."""

        def read(folder: Path) -> dict[str, Any]:
            manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_text())
            return manifest

        return self._parsed(read)

    def column_sources(self, manifest: dict[str, Any]) -> Sources:
        """What columns of the manifest's models are made of, traced anew only if a file of the project has changed.

        dbt compiles the models against an empty database in memory: the warehouse may be held by somebody, or not be
        there yet. Without lineage, because a model cannot be compiled so or there is no room, everything else works.
        """

        def trace(folder: Path) -> None:
            # Only here: the SQL parser takes longer to import than most commands run.
            from fullstory_dagster.defs.dbt.lineage import column_sources

            traced = column_sources(manifest, self._compiled(folder))
            (folder / _COLUMN_SOURCES).write_text(json.dumps(traced))

        def read(folder: Path) -> Sources:
            sources: Sources = json.loads((folder / _COLUMN_SOURCES).read_text())
            return sources

        try:
            # What a column is made of is the same for all accounts.
            return kept("lineage", (), self.target, make=trace, read=read)
        except (FullStoryError, OSError):
            return {}

    def _parsed(self, read: Callable[[Path], T]) -> T:
        """What dbt parsed, for others to read and for dbt itself."""
        warehouse = self.settings.warehouse
        # These stand in the manifest.
        names = (type(warehouse).__name__, catalog_name(warehouse), self.settings.schema)

        def parse(folder: Path) -> None:
            self._invoke(["parse"], target=folder)

        return kept("parsed", names, self.target, make=parse, read=read)

    def _manifest_for_dbt(self) -> Manifest:
        from dbt.contracts.graph.manifest import Manifest

        # Each time anew, because a run writes into it.
        manifest = self._parsed(lambda folder: Manifest.from_msgpack((folder / "partial_parse.msgpack").read_bytes()))
        manifest.build_flat_graph()  # type: ignore[no-untyped-call]
        return manifest

    def _compiled(self, folder: Path) -> dict[str, str]:
        folder.mkdir(parents=True)
        target = folder / "compiled"
        try:
            self._invoke(["compile"], target=target, warehouse=":memory:")
            nodes = json.loads((target / "manifest.json").read_text())["nodes"].values()
            return {node["name"]: node["compiled_code"] for node in nodes if node.get("compiled_code")}
        except DbtBuildError:
            return {}
        finally:
            shutil.rmtree(target, ignore_errors=True)

    def asset_keys(self) -> list[AssetKey]:
        """Asset keys of all models."""
        nodes = self.manifest()["nodes"].values()
        names = sorted(node["name"] for node in nodes if node["resource_type"] == "model")
        return [asset_key(self.settings.schema, name) for name in names]

    def build(
        self,
        warehouse: Warehouse,
        *,
        select: Sequence[str] = (),
        full_refresh: bool = False,
        tests_alone: bool = False,
        on_event: Callable[[Event], None] | None = None,
    ) -> DbtBuild:
        """Build models and run their tests, with the warehouse's lock held.

        The tests look at what the windows taken in have touched; in a full refresh, or alone, at whole models.

        Args:
            warehouse: locked meanwhile.
            select: dbt selectors; none builds everything.
            full_refresh: build incremental models anew, from all events.
            tests_alone: build nothing.
            on_event: called for every structured log event about a node.

        Raises:
            DbtBuildError: dbt could not even begin.
            WarehouseLockedError: somebody else held the warehouse for too long.
        """
        # Unit tests speak of the SQL, not of the data: they belong to `make dbt`.
        arguments = ["test" if tests_alone else "build", "--exclude-resource-type", "unit_test"]
        # The manifest and the results as files, which nobody reads here, cost a build a sixth of its time.
        arguments.append("--no-write-json")
        if select:
            arguments += ["--indirect-selection", "cautious", "--select", *select]
        if full_refresh:
            arguments.append("--full-refresh")
        with warehouse.database.locked():
            warehouse.database.create()
            build = self._invoke(arguments, on_event, manifest=self._manifest_for_dbt())
            keep_results(LocalStore(self.target), build.tests, is_whole=not select)
        return build

    def delete_logs(self, warehouse: Warehouse) -> None:
        """Delete what earlier builds left to read: a failed one may have quoted rows."""
        with warehouse.database.locked():
            shutil.rmtree(self.target / "logs", ignore_errors=True)
            (self.target / "run_results.json").unlink(missing_ok=True)

    def _invoke(
        self,
        arguments: Sequence[str],
        on_event: Callable[[Event], None] | None = None,
        *,
        manifest: Manifest | None = None,
        target: Path | None = None,
        warehouse: str | None = None,
    ) -> DbtBuild:
        from dbt.cli.main import dbtRunner
        from google.protobuf.json_format import MessageToDict  # type: ignore[import-untyped]

        events: list[Event] = []

        def keep(message: Any) -> None:
            if message.info.name in ("LogModelResult", "LogTestResult", "LogSeedResult", "LogSnapshotResult"):
                event = MessageToDict(message, preserving_proto_field_name=True)
                events.append(event)
                if on_event:
                    on_event(event)

        folders = {"project": PROJECT_DIR, "profiles": PROJECT_DIR, "target": target or self.target}
        flags = [f"--{name}-{'path' if name == 'target' else 'dir'}={path}" for name, path in folders.items()]
        with _environment(self.environment() | ({"FULLSTORY_WAREHOUSE": warehouse} if warehouse else {})):
            try:
                outcome = dbtRunner(manifest, callbacks=[keep]).invoke(
                    ["--log-level=none", f"--log-path={self.target / 'logs'}", "--no-use-colors", *arguments, *flags]
                )
            finally:
                _close_connections()
        if outcome.exception is not None:
            if told := disk_error(outcome.exception, "dbt built nothing"):
                raise told from outcome.exception
            raise DbtBuildError(f"dbt {arguments[0]} did not begin: {_one_line(str(outcome.exception))}")
        return _summary(outcome.result, events)

    def environment(self) -> dict[str, str]:
        """What the profile and the models read from the environment."""
        settings = self.settings
        warehouse, password = str(settings.warehouse), None
        if isinstance(settings.warehouse, LakeCatalog):
            # dbt tells what it attaches, so the password goes libpq's way.
            warehouse, password = LAKE_PREFIX + settings.warehouse.conninfo, settings.warehouse.password
        return ({"PGPASSWORD": password} if password else {}) | {
            "FULLSTORY_WAREHOUSE": warehouse,
            "FULLSTORY_LAKE_FILES": settings.lake_files,
            "FULLSTORY_SCRATCH_DIR": str(settings.scratch_dir / f"{os.getpid()}-dbt"),
            "FULLSTORY_SCHEMA": settings.schema,
            "FULLSTORY_ORG_ID": settings.org_id or "",
            "FULLSTORY_APP_URL": settings.app_url,
            "FULLSTORY_DUCKDB_MEMORY_LIMIT": settings.duckdb_memory_limit,
            "FULLSTORY_DUCKDB_THREADS": str(settings.duckdb_threads or os.cpu_count() or 1),
            "DO_NOT_TRACK": "1",
        }


def _summary(result: Any, events: list[Event]) -> DbtBuild:
    results = list(getattr(result, "results", ()))
    failures = []
    n_models = n_tests = 0
    for node_result in results:
        kind, status = node_result.node.resource_type.value, node_result.status.value
        if status in ("error", "fail", "runtime error", "partial success"):
            failures.append(f"{kind} {node_result.node.name}: {_one_line(node_result.message or status)}")
        elif status in ("success", "pass", "warn"):
            n_models += kind == "model"
            n_tests += kind == "test"
    return DbtBuild(
        n_models, n_tests, failures, float(getattr(result, "elapsed_time", 0.0)), events, results_of(results)
    )


def _one_line(message: str) -> str:
    return " ".join(message.split())


def _close_connections() -> None:
    # dbt keeps the file open, and locked, for the life of the process.
    from dbt.adapters.duckdb.connections import DuckDBConnectionManager

    DuckDBConnectionManager.close_all_connections()  # type: ignore[no-untyped-call]


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
