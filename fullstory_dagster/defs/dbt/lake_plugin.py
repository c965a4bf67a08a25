"""What dbt's connection needs before it attaches a lake; dbt_project/profiles.yml names it."""

from typing import Any

from dbt.adapters.duckdb.plugins import BasePlugin

from fullstory_dagster.store.extensions import load_extensions
from fullstory_dagster.store.lake import LAKE_EXTENSIONS


class Plugin(BasePlugin):
    """Loads the extensions from their Python packages. dbt would download them."""

    def configure_connection(self, conn: Any) -> None:
        """Called by dbt once, with its connection."""
        load_extensions(conn, LAKE_EXTENSIONS)
