"""A store and a warehouse of their own for every test, filled from rows as FullStory would send them."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from fullstory_dagster.errors import WindowShrankError
from fullstory_dagster.parse.bundle import BATCH_SCHEMA, REJECT_SCHEMA, BundleParser
from fullstory_dagster.parse.twins import TwinNumbering
from fullstory_dagster.store.bundles import BundleStore, StoredBundle
from fullstory_dagster.store.database import Database
from fullstory_dagster.store.dataset import EventDataset, ParsedWindow
from fullstory_dagster.store.file import DatabaseFile
from fullstory_dagster.store.objects import LocalStore, ObjectStore
from fullstory_dagster.store.opening import open_database
from fullstory_dagster.store.remote_objects import RemoteStore
from fullstory_dagster.store.upgrade import Promote
from fullstory_dagster.store.warehouse import Load, Warehouse
from fullstory_dagster.warehouse_location import read_location
from fullstory_dagster.windows import Window
from fullstory_dagster_tests.postgres import PostgresServer
from fullstory_dagster_tests.s3_server import Bucket
from fullstory_dagster_tests.sample_events import DAY

SHAPING = {"export_api": "segment", "bundle_hours": 24}


class Loader:
    """Takes rows through the store, one stage or all of them."""

    def __init__(self, folder: Path, database: OpenDatabase, objects: ObjectStore | None = None) -> None:
        self.objects = objects or LocalStore(folder / "store")
        self.bundles = BundleStore(self.objects, "fullstory")
        self.dataset = EventDataset(self.objects)
        self._database = database
        self.warehouse = self.reopened()

    def reopened(self, promote: Promote | None = None, **options: Any) -> Warehouse:
        """The same warehouse, opened otherwise."""
        return Warehouse(self._database(**{"lock_timeout_s": 20} | options), "fullstory", promote=promote)

    def keep(
        self,
        rows: Sequence[Any] | bytes,
        window: Window = DAY,
        *,
        export_id: str = "e1",
        requested_at: datetime | None = None,
    ) -> StoredBundle:
        content = rows if isinstance(rows, bytes) else json.dumps(rows).encode()
        packed = gzip.compress(content, mtime=0)
        with self.bundles.receive() as scratch:
            scratch.write_bytes(packed)
            file = self.bundles.publish_file(
                window, scratch, export_id=export_id, size=len(packed), sha256=hashlib.sha256(packed).hexdigest()
            )
        requested_at = requested_at or window.settled_at
        bundle = StoredBundle(
            window, "segment", (file,), requested_at, requested_at + timedelta(minutes=1), 60.0, SHAPING
        )
        self.bundles.publish(bundle)
        return bundle

    def parse(self, window: Window = DAY) -> ParsedWindow:
        bundle = self.bundles.require(window)
        parser = BundleParser(window)
        bounds = [pl.lit(bound.replace(tzinfo=None), dtype=pl.Datetime("us")) for bound in (window.start, window.end)]
        export_id = pl.lit(bundle.export_id)

        def batches() -> Any:
            for batch in parser.parse(self.bundles.read(bundle.files[0])):
                rows = batch.rows.with_columns(_window_start=bounds[0], _window_end=bounds[1], _export_id=export_id)
                yield rows, batch.rejects.with_columns(export_id=export_id)

        times = {"_window_start": pl.Datetime("us"), "_window_end": pl.Datetime("us")}
        return self.dataset.publish(
            window,
            schema=pl.Schema(dict(BATCH_SCHEMA) | times | {"_export_id": pl.String()}),
            rejects_schema=pl.Schema(dict(REJECT_SCHEMA) | {"export_id": pl.String()}),
            batches=batches(),
            twins=TwinNumbering(),
            summary=lambda: (
                asdict(parser.counts) | {"parse_s": 0.5, "bundle_sha256": bundle.sha256, "shaping": bundle.shaping}
            ),
        )

    def append(self, window: Window = DAY, **options: Any) -> Load:
        (load,) = self.append_all(window, **options)
        if isinstance(load, WindowShrankError):
            raise load
        return load

    def append_all(self, *windows: Window, **options: Any) -> list[Load | WindowShrankError]:
        with ExitStack() as held:
            at_hand = [held.enter_context(self.dataset.at_hand(self.dataset.require(window))) for window in windows]
            return self.warehouse.replace_windows(
                [(parsed, self.bundles.require(parsed.window)) for parsed in at_hand],
                **{"loaded_at": max(windows).settled_at + timedelta(hours=1)} | options,
            )

    def load(self, rows: Sequence[Any] | bytes, window: Window = DAY, **options: Any) -> Load:
        self.keep(rows, window, **options)
        self.parse(window)
        return self.append(window)

    def events(self, columns: str = "*") -> list[dict[str, Any]]:
        return self.warehouse.query(f'SELECT {columns} FROM "fullstory"."events" ORDER BY EventStart, _event_id')


def rows_of(loader: Loader, table: str = "events", columns: str = "*") -> list[dict[str, Any]]:
    return loader.warehouse.query(f'SELECT {columns} FROM "fullstory"."{table}" ORDER BY ALL')


OpenDatabase = Callable[..., Database]
"""Takes how it is to be opened; the same database each time."""

KINDS = ("file", "lake")


@pytest.fixture
def folder(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


@pytest.fixture(params=["folder", "S3", "Google"])
def objects(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    """A store of each kind."""
    if request.param == "folder":
        return LocalStore(tmp_path / "store")
    bucket: Bucket = request.getfixturevalue("bucket")
    return RemoteStore(bucket.url if request.param == "S3" else bucket.google_url, LocalStore(tmp_path / "data"))


@pytest.fixture
def open_database_of(tmp_path: Path, request: pytest.FixtureRequest) -> Callable[[str], OpenDatabase]:
    """Takes a kind, gives what opens a database of it that is the test's own."""

    def of(kind: str) -> OpenDatabase:
        if kind == "file":
            return partial(DatabaseFile, tmp_path / "warehouse.duckdb")
        server: PostgresServer = request.getfixturevalue("postgres")
        location = read_location(f"ducklake:postgres:{server.conninfo(server.new_database())}")
        return partial(open_database, location, lake_files=f"{tmp_path}/lake/", scratch=tmp_path / "scratch")

    return of


@pytest.fixture
def loader(tmp_path: Path, open_database_of: Callable[[str], OpenDatabase]) -> Loader:
    """Loads into a file."""
    return Loader(tmp_path, open_database_of("file"))


@pytest.fixture(params=KINDS)
def any_loader(
    tmp_path: Path, open_database_of: Callable[[str], OpenDatabase], request: pytest.FixtureRequest
) -> Loader:
    """Loads into a file, and into a lake."""
    return Loader(tmp_path, open_database_of(request.param))


@pytest.fixture
def lake_loader(tmp_path: Path, open_database_of: Callable[[str], OpenDatabase]) -> Loader:
    """Loads into a lake."""
    return Loader(tmp_path, open_database_of("lake"))
