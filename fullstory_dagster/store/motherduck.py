"""MotherDuck, DuckDB as a service.

Nobody here has an account: what is tested is how it is named, and what is said without its extension.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import duckdb
from duckdb import DuckDBPyConnection

from fullstory_dagster.errors import FullStoryError, WarehouseLockedError
from fullstory_dagster.store.database import NOT_CHANGED, configuration, engine_error
from fullstory_dagster.store.extensions import connect_with
from fullstory_dagster.store.fence import ensure_fence, raise_fence
from fullstory_dagster.store.tables import quote, quote_text
from fullstory_dagster.warehouse_location import MotherDuckDatabase

_INSTALL = f"pip install duckdb-extension-motherduck=={duckdb.__version__}"


class MotherDuck:
    """A database at MotherDuck, whose token the extension takes from ``motherduck_token``.

    Attributes:
        location: its name.
        lock_timeout_s: of no use: there is no lock, writers are kept apart by the fence alone.
    """

    def __init__(
        self,
        location: MotherDuckDatabase,
        *,
        lock_timeout_s: float = 600,
        memory_limit: str | None = None,
        threads: int | None = None,
    ) -> None:
        self.location = location
        self.lock_timeout_s = lock_timeout_s
        self._config = configuration(memory_limit, threads)

    def __str__(self) -> str:
        return str(self.location)

    @property
    def exists(self) -> bool:
        """Always: databases are made at MotherDuck."""
        return True

    @property
    def folder(self) -> Path | None:
        """None: its rows are at MotherDuck."""
        return None

    def create(self) -> None:
        """Nothing: databases are made at MotherDuck."""

    def locked(self) -> AbstractContextManager[None]:
        """Nothing: MotherDuck has no lock that would outlive a statement."""
        return nullcontext()

    def shared(self) -> AbstractContextManager[None]:
        """Nothing: readers shut nobody out."""
        return nullcontext()

    def connect(self, *, read_only: bool) -> DuckDBPyConnection:
        """A connection to the database.

        Raises:
            PermanentError: the extension is missing, or MotherDuck does not let us in.
        """
        connection = connect_with(["motherduck"], self._config, _INSTALL)
        try:
            connection.execute(f"ATTACH {quote_text(str(self))}")
            connection.execute(f"USE {quote(self.location.name)}")
            if read_only:
                connection.execute("BEGIN TRANSACTION READ ONLY")
            else:
                ensure_fence(connection)
        except duckdb.Error as error:
            connection.close()
            raise self.error_of(error, "The warehouse was not opened") from error
        except BaseException:
            connection.close()
            raise
        return connection

    def arrange(self, connection: DuckDBPyConnection, schema: str) -> None:
        """Nothing: there is nothing to be said."""

    def fence(self, connection: DuckDBPyConnection) -> None:
        """Of two transactions with a fence beside each other one fails to commit."""
        raise_fence(connection)

    def purge(self) -> int:
        """Nothing that could be done from here: MotherDuck keeps what was deleted as long as its plan says."""
        return 0

    def is_conflict(self, error: duckdb.Error) -> bool:
        """Whether another transaction was committed first."""
        return isinstance(error, duckdb.TransactionException) and "conflict" in str(error).lower()

    def error_of(self, error: duckdb.Error, failed: str = NOT_CHANGED) -> FullStoryError:
        """What DuckDB says, as a sentence."""
        if self.is_conflict(error):
            return WarehouseLockedError(
                f"{failed}: other writers of the warehouse {self} were first each time it was tried; what was there "
                "before is unchanged. Try again."
            )
        return engine_error(error, failed, str(self))
