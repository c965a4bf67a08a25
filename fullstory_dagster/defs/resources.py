"""What assets ask for."""

from __future__ import annotations

import dagster as dg
from dagster_duckdb import DuckDBResource

from fullstory_dagster.ingest.ingestion import Ingestion, open_ingestion
from fullstory_dagster.settings import Settings


class FullStoryAccount(dg.ConfigurableResource):  # type: ignore[type-arg]
    """One FullStory account and where it is loaded to.

    The settings are not resource config, which Dagster stores and shows: the key is read in the process that needs it.
    """

    _settings: Settings

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self._settings = settings

    @property
    def settings(self) -> Settings:
        """The account's settings."""
        return self._settings

    def ingestion(self) -> Ingestion:
        """The account, ready to be loaded."""
        return open_ingestion(self._settings)


def warehouse_resource(settings: Settings) -> DuckDBResource:
    """The warehouse for users' own assets, which should take the pool of the warehouse when they write."""
    return DuckDBResource(database=str(settings.warehouse))
