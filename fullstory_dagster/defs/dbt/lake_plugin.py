"""What dbt's connection needs before it attaches a lake; dbt_project/profiles.yml names it."""

import os
from pathlib import Path
from typing import Any

from dbt.adapters.duckdb.plugins import BasePlugin

from fullstory_dagster.store.extensions import load_extensions
from fullstory_dagster.store.lake import LAKE_EXTENSIONS
from fullstory_dagster.store.lake_files import reach_lake_files


class Plugin(BasePlugin):
    """Loads the extensions from their Python packages, which dbt would download, and finds the files' credentials."""

    def configure_connection(self, conn: Any) -> None:
        """Called by dbt once, with its connection."""
        if scratch := os.environ.get("FULLSTORY_SCRATCH_DIR"):
            # DuckDB makes the last folder only of those that it spills to.
            Path(scratch).parent.mkdir(parents=True, exist_ok=True)
        load_extensions(conn, LAKE_EXTENSIONS)
        reach_lake_files(conn, os.environ.get("FULLSTORY_LAKE_FILES", ""))
