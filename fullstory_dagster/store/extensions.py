"""DuckDB's extensions from Python packages: nothing is downloaded at run time."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import duckdb
from duckdb import DuckDBPyConnection

from fullstory_dagster.errors import PermanentError
from fullstory_dagster.store.tables import quote_text

INSTALL_LAKE = "pip install --constraint constraints.txt '.[lake]'"


_seen: set[str] = set()
"""Extensions whose signature DuckDB has looked at in this process, which takes longer than all else of an opening."""


def connect_with(
    names: Sequence[str], config: dict[str, str | bool | int | float | list[str]], install: str = INSTALL_LAKE
) -> DuckDBPyConnection:
    """A connection to a new database in memory that has extensions.

    Args:
        names: of the extensions.
        config: of the database.
        install: the command that installs their packages.

    Raises:
        PermanentError: a package is not there, or is made for another version of DuckDB.
    """
    connection = duckdb.connect(config=config | {"allow_unsigned_extensions": _seen.issuperset(names)})
    try:
        load_extensions(connection, names, install)
    except BaseException:
        connection.close()
        raise
    _seen.update(names)
    return connection


def load_extensions(connection: DuckDBPyConnection, names: Sequence[str], install: str = INSTALL_LAKE) -> None:
    """Load extensions into a connection that somebody else made.

    Raises:
        PermanentError: as :func:`connect_with`.
    """
    for name in names:
        path = _path_of(name)
        if path is None:
            raise PermanentError(
                f"The warehouse was not opened: DuckDB {duckdb.__version__} needs its extension {name}, whose package "
                f"for this version is not installed. Install it: {install}",
                setting="FULLSTORY_WAREHOUSE",
            )
        connection.execute(f"LOAD {quote_text(str(path))}")


def _path_of(name: str) -> Path | None:
    spec = find_spec(f"duckdb_extension_{name}")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        # One made for another version lies in another folder, and DuckDB would refuse it.
        path = Path(folder) / "extensions" / f"v{duckdb.__version__}" / f"{name}.duckdb_extension"
        if path.exists():
            return path
    return None
