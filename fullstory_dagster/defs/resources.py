"""What assets ask for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dagster_duckdb import DuckDBResource

from fullstory_dagster.ingest.ingestion import Ingestion
from fullstory_dagster.ingest.opening import open_ingestion
from fullstory_dagster.settings import Settings


@dataclass(frozen=True)
class FullStoryAccount:
    """One FullStory account and where it is loaded to.

    A plain object and not a configurable resource: Dagster stores and shows resource config, and the settings hold the
    key.
    """

    settings: Settings

    def ingestion(self, patience_s: int | None = None) -> Ingestion:
        """The account, ready to be loaded.

        Args:
            patience_s: waits no longer than this for a locked warehouse, whatever the settings allow, nor for an
                object store.
        """
        if patience_s is None:
            return open_ingestion(self.settings)
        lock_timeout_s = min(patience_s, self.settings.lock_timeout_s)
        return open_ingestion(self.settings.with_changes(lock_timeout_s=lock_timeout_s), patience_s=patience_s)


def warehouse_resource(settings: Settings) -> DuckDBResource:
    """The warehouse for users' own assets, which should take the pool of the warehouse when they write."""
    if isinstance(settings.warehouse, Path):
        return DuckDBResource(database=str(settings.warehouse))

    class AttachedWarehouse(DuckDBResource):
        """Hands out connections in which the lake is attached and in use."""

        @contextmanager
        def get_connection(self) -> Iterator[Any]:
            """A connection that may write, closed after."""
            # Not as configuration of the resource, which Dagster stores and shows: the settings may hold a password.
            connection = open_ingestion(settings).warehouse.database.connect(read_only=False)
            try:
                yield connection
            finally:
                connection.close()

    return AttachedWarehouse(database=str(settings.warehouse))
