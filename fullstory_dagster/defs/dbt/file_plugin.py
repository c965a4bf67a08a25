"""How dbt's connection writes to a warehouse that is a file; dbt_project/profiles.yml names it."""

from pathlib import Path
from typing import Any

from dbt.adapters.duckdb.plugins import BasePlugin

from fullstory_dagster.store.file import write_small_row_groups


class Plugin(BasePlugin):
    """Writes row groups of the loader's size: with DuckDB's own each build would merge those of the loads before it."""

    def configure_connection(self, conn: Any) -> None:
        """Called by dbt once, with its connection."""
        # To trace columns dbt compiles in memory, and MotherDuck has row groups of its own.
        if self.creds and Path(self.creds.path).is_file():
            write_small_row_groups(conn)
