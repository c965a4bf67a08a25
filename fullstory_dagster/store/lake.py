"""A DuckLake: Parquet files on a disk or in an object store, and their catalog in PostgreSQL.

Readers take no lock and see one moment. Writers queue up at PostgreSQL's advisory lock. That lock can be lost, with a
connection, so the fence decides, in DuckLake's own commit; see :mod:`fullstory_dagster.store.fence`.
"""

from __future__ import annotations

import itertools
import os
import re
import shutil
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path

import duckdb
from duckdb import DuckDBPyConnection

from fullstory_dagster.disk import disk_error
from fullstory_dagster.errors import FullStoryError, PermanentError, WarehouseLockedError, WarehouseUnreachableError
from fullstory_dagster.store.database import NOT_CHANGED, configuration, engine_error, transaction
from fullstory_dagster.store.extensions import connect_with
from fullstory_dagster.store.fence import FENCE, ensure_fence, raise_fence
from fullstory_dagster.store.lake_files import files_error, reach_lake_files
from fullstory_dagster.store.postgres import CatalogServer
from fullstory_dagster.store.tables import BUILDS, LOADS, SCHEMA_VERSION, quote, quote_text
from fullstory_dagster.warehouse_location import LAKE_ALIAS, LAKE_PREFIX, LakeCatalog

LAKE_EXTENSIONS = ("ducklake", "postgres_scanner")
_INLINED_ROWS = 1000
_CONNECTIONS = itertools.count()
_LOST = (
    "server closed the connection",
    "terminating connection",
    "Unable to connect to Postgres",
    "connection to serv",
)


class Lake:
    """A DuckLake with its catalog in PostgreSQL.

    Attributes:
        catalog: how to reach it.
        files: folder or URL of the Parquet files, with a slash at the end.
        lock_timeout_s: how long another writer is waited for.
    """

    def __init__(
        self,
        catalog: LakeCatalog,
        files: str,
        *,
        scratch: Path,
        lock_timeout_s: float = 600,
        memory_limit: str | None = None,
        threads: int | None = None,
    ) -> None:
        """Nothing is opened yet.

        Args:
            catalog: how to reach it.
            files: as the attribute.
            scratch: local folder for what DuckDB has no memory for.
            lock_timeout_s: as the attribute.
            memory_limit: DuckDB's.
            threads: DuckDB's.
        """
        self.catalog = catalog
        self.files = files
        self.lock_timeout_s = lock_timeout_s
        self.server = CatalogServer(catalog)
        self._scratch = scratch
        self._config = configuration(memory_limit, threads)

    def __str__(self) -> str:
        return str(self.catalog)

    @property
    def exists(self) -> bool:
        """Whether the database has a DuckLake's catalog."""
        return self.server.has_table("ducklake_metadata")

    @property
    def folder(self) -> Path | None:
        """The Parquet files', unless they are in an object store."""
        return None if "://" in self.files else Path(self.files)

    def create(self) -> None:
        """Make the catalog if there is none, with the lock held.

        Raises:
            PermanentError: the folder for the files has files already, which may be another lake's.
        """
        if not self.exists:
            self.connect(read_only=False).close()

    def locked(self) -> AbstractContextManager[None]:
        """Hold PostgreSQL's advisory lock, whoever writes then: DuckLake, or dbt.

        Raises:
            WarehouseLockedError: another writer held it for longer than ``lock_timeout_s``.
            WarehouseUnreachableError: PostgreSQL does not answer.
        """
        return self.server.writer_lock(self.lock_timeout_s)

    def shared(self) -> AbstractContextManager[None]:
        """Nothing: readers and writers do not meet."""
        return nullcontext()

    def connect(self, *, read_only: bool) -> DuckDBPyConnection:
        """A connection to the lake; a reader's is in a transaction, so that all of its queries see one moment.

        Raises:
            WarehouseUnreachableError: PostgreSQL does not answer.
            PermanentError: an extension is missing, or the files are not where the settings say.
        """
        config = self._config | {"temp_directory": str(self._scratch_of_this_process())}
        connection = connect_with(LAKE_EXTENSIONS, config)
        try:
            if self.catalog.password:
                # Not in what is attached: DuckDB shows that in its catalog and in its errors.
                connection.execute(f"CREATE SECRET (TYPE postgres, PASSWORD {quote_text(self.catalog.password)})")
            reach_lake_files(connection, self.files)
            if read_only:
                self._attach(connection, read_only=True)
                connection.execute("BEGIN TRANSACTION")
            else:
                self._delete_scratch_of_the_dead()
                if not self.exists:
                    self._refuse_used_folder(connection)
                self._attach(connection, read_only=False)
                if ensure_fence(connection):
                    # What visitors did belongs into files alone: PostgreSQL keeps deleted rows in places of its own.
                    connection.execute(f"CALL {quote(LAKE_ALIAS)}.set_option('data_inlining_row_limit', 0)")
                    self._inline(connection, "main", FENCE)
        except duckdb.Error as error:
            connection.close()
            raise self.error_of(error, "The warehouse was not opened") from error
        except BaseException:
            connection.close()
            raise
        return connection

    def arrange(self, connection: DuckDBPyConnection, schema: str) -> None:
        """Keep the rows of the loader's logs, which are few at a time, in the catalog instead of a file for each."""
        for name in (LOADS, BUILDS, SCHEMA_VERSION):
            self._inline(connection, schema, name)

    def fence(self, connection: DuckDBPyConnection) -> None:
        """Of two transactions with a fence beside each other one fails to commit."""
        raise_fence(connection)

    def purge(self) -> int:
        """Write files with deleted rows anew, and delete all older ones, with what could be queried of the past.

        A query that began before and still runs may miss its files, and fail.

        Returns:
            int: bytes of the new files.

        Raises:
            WarehouseLockedError: another writer held the lake for too long.
            WarehouseUnreachableError: PostgreSQL does not answer.
            PermanentError: it did not work; the rows are deleted, and traces may be left.
        """
        if not self.exists:
            return 0
        newest = self.server.newest_file()
        with self.locked():
            connection = self.connect(read_only=False)
            try:
                with transaction(connection):
                    # Who wrote on without his lock can commit no more: his files are nobody's, and deleted below.
                    self.fence(connection)
                lake = quote_text(LAKE_ALIAS)
                # Without a fetch nothing of it is done.
                connection.execute(f"FROM ducklake_rewrite_data_files({lake}, delete_threshold => 0)").fetchall()
                connection.execute(
                    f"SELECT count(*) FROM ducklake_expire_snapshots({lake}, older_than => now())"
                ).fetchall()
                connection.execute(f"FROM ducklake_cleanup_old_files({lake}, cleanup_all => true)").fetchall()
                connection.execute(f"FROM ducklake_delete_orphaned_files({lake}, cleanup_all => true)").fetchall()
            except duckdb.Error as error:
                told = self.error_of(error, "The rows are deleted, but traces of them may be left in the lake's files")
                raise told from error
            finally:
                connection.close()
            self.server.widen_bounds()
        return self.server.bytes_since(newest)

    def is_conflict(self, error: duckdb.Error) -> bool:
        """Whether another transaction was committed first."""
        return isinstance(error, duckdb.TransactionException) and "conflict" in str(error).lower()

    def error_of(self, error: duckdb.Error, failed: str = NOT_CHANGED) -> FullStoryError:
        """What DuckDB says, as a sentence."""
        said = str(error)
        if self.is_conflict(error):
            return WarehouseLockedError(
                f"{failed}: other writers of the warehouse {self} were first each time it was tried; what was there "
                "before is unchanged. Try again."
            )
        if any(words in said for words in _LOST):
            return WarehouseUnreachableError(
                f"{failed}: PostgreSQL, with the catalog {self}, does not answer or went away meanwhile. What was "
                "being written is there as a whole or not at all; try again once it is back."
            )
        if "does not match existing data path" in said:
            (where,) = re.findall(r'catalog "([^"]*)"', said) or ("elsewhere",)
            return PermanentError(
                f"{failed}: the files of the lake {self} are in {where}, and FULLSTORY_STORE_URL says {self.files}; "
                "nothing was changed. Set it back, or tell the lake where its files were moved: see docs/scaling.md.",
                setting="FULLSTORY_STORE_URL",
            )
        if told := files_error(said, self.files, failed):
            return told
        return disk_error(error, failed, self.folder) or engine_error(error, failed, str(self))

    def _attach(self, connection: DuckDBPyConnection, *, read_only: bool) -> None:
        option = "READ_ONLY" if read_only else f"DATA_PATH {quote_text(self.files)}"
        connection.execute(
            f"ATTACH {quote_text(LAKE_PREFIX + self.catalog.conninfo)} AS {quote(LAKE_ALIAS)} ({option})"
        )
        connection.execute(f"USE {quote(LAKE_ALIAS)}")

    def _inline(self, connection: DuckDBPyConnection, schema: str, name: str) -> None:
        connection.execute(
            f"CALL {quote(LAKE_ALIAS)}.set_option('data_inlining_row_limit', {_INLINED_ROWS}, "
            f"schema => {quote_text(schema)}, table_name => {quote_text(name)})"
        )

    def _refuse_used_folder(self, connection: DuckDBPyConnection) -> None:
        (used,) = connection.execute("SELECT count(*) FROM glob(?)", [f"{self.files}**"]).fetchone() or (0,)
        if used:
            # Each of two catalogs over one folder would take the other's files for what killed processes left.
            raise PermanentError(
                f"The lake {self} was not made: {self.files} has {used} files, of another lake or of one whose catalog "
                "is gone. Nothing was changed; name another FULLSTORY_STORE_URL, or empty that folder.",
                setting="FULLSTORY_STORE_URL",
            )

    def _scratch_of_this_process(self) -> Path:
        # DuckDB makes the last folder only, and that when it needs it. A reader who never does may have no data dir.
        with suppress(OSError):
            self._scratch.mkdir(parents=True, exist_ok=True)
        return self._scratch / f"{os.getpid()}-{next(_CONNECTIONS)}"

    def _delete_scratch_of_the_dead(self) -> None:
        for left in self._scratch.glob("*-*"):
            pid = left.name.partition("-")[0]
            if pid.isdecimal() and not _is_alive(int(pid)):
                shutil.rmtree(left, ignore_errors=True)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
