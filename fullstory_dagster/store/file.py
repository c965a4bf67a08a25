"""The DuckDB file: opened late, closed early, one writer at a time.

DuckDB lets one process in when it writes and shuts readers out meanwhile. Every opening of ours, dbt's included, takes
the file lock beside the database first, so that our own processes queue up; somebody else's connection shows as
DuckDB's own lock error and is waited for as well.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path

import duckdb
from duckdb import DuckDBPyConnection
from filelock import FileLock, Timeout

from fullstory_dagster.disk import disk_error, is_writable, refuse_small_disk
from fullstory_dagster.errors import FullStoryError, PermanentError, WarehouseLockedError
from fullstory_dagster.store.database import NOT_CHANGED, configuration, engine_error
from fullstory_dagster.store.objects import sync_folder
from fullstory_dagster.store.tables import quote, quote_text, table

_POLL_S = 0.1
_HOLDER = re.compile(r"PID (\d+)")
_FRESH = "_fullstory_rewritten"
_STORAGE_VERSION = "v1.4.0"
"""Of a new file; no older DuckDB reads it. What DuckDB writes by itself, for its oldest readers, takes a quarter more
time and room, and twice the memory where events have many variables."""
_ROW_GROUP_ROWS = 40_960
"""Of what is written. In DuckDB's own 122,880 a window of as many events keeps two threads from sharing its insert, and
a checkpoint writes the halves they leave once more; one of many variables does not fit into a load's memory."""


class DatabaseFile:
    """A DuckDB file.

    Attributes:
        path: of the file; it need not exist yet.
        lock_timeout_s: how long others are waited for.
    """

    def __init__(
        self, path: Path, *, lock_timeout_s: float = 600, memory_limit: str | None = None, threads: int | None = None
    ) -> None:
        self.path = path
        self.lock_timeout_s = lock_timeout_s
        self._config = configuration(memory_limit, threads)

    def __str__(self) -> str:
        return str(self.path)

    @property
    def exists(self) -> bool:
        """Whether there is a database. An empty file is none: whatever made it was killed before it wrote to it."""
        try:
            return self.path.stat().st_size > 0 or Path(f"{self.path}.wal").exists()
        except FileNotFoundError:
            return False

    @property
    def folder(self) -> Path:
        """The file's."""
        return self.path.parent

    def create(self) -> None:
        """Make the database if there is none, with the warehouse locked; whole or not at all.

        DuckDB makes a file and writes its header later, and opens none that a killed process left in between.
        """
        if self.exists:
            return
        begun = self.path.with_name(f".{self.path.name}.new")
        for left in (begun, Path(f"{begun}.wal")):
            left.unlink(missing_ok=True)
        duckdb.connect(str(begun), config=self._config | {"storage_compatibility_version": _STORAGE_VERSION}).close()
        begun.replace(self.path)
        sync_folder(self.path.parent)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the file lock, for a writer that opens the file itself (dbt).

        Raises:
            WarehouseLockedError: somebody else held it for longer than ``lock_timeout_s``.
        """
        lock = FileLock(f"{self.path}.lock", timeout=self.lock_timeout_s)
        holder = Path(f"{self.path}.lock.holder")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        except Timeout:
            raise self._locked_error(_pid_in(holder)) from None
        except OSError as error:
            raise disk_error(error, f"The warehouse {self.path} was not opened") or error from error
        try:
            with suppress(OSError):  # a full disk: only the message of whoever waits would have been better
                holder.write_text(str(os.getpid()))
            yield
        finally:
            lock.release()

    def shared(self) -> AbstractContextManager[None]:
        """The file lock too: one writer shuts all readers out, and they him."""
        # Where nothing can be written no lock can be taken, and DuckDB's own keeps writers from elsewhere out.
        return self.locked() if is_writable(self.path.parent) else nullcontext()

    def connect(self, *, read_only: bool) -> DuckDBPyConnection:
        """A connection, once nobody else has one that shuts it out. A file that is not there is made to write to.

        Raises:
            WarehouseLockedError: somebody else held the file for longer than ``lock_timeout_s``.
            DiskFullError: there is no room for the file.
            PermanentError: it cannot be opened, or is no database.
        """
        deadline = time.monotonic() + self.lock_timeout_s
        while True:
            try:
                if not read_only:
                    self.create()
                return self._opened(read_only=read_only)
            except OSError as error:
                raise disk_error(error, f"The warehouse {self.path} was not opened") or error from error
            except duckdb.IOException as error:
                # Its other errors may speak of a block, or of a path that has the word in it.
                if "Could not set lock on file" not in str(error):
                    if told := disk_error(error, f"The warehouse {self.path} was not opened", self.path):
                        raise told from error
                    raise PermanentError(
                        f"The warehouse {self.path} cannot be opened: {' '.join(str(error).split())} Nothing was "
                        "changed; put a backup in its place, or move the file away and run 'fullstory-dagster reset'.",
                        setting="FULLSTORY_WAREHOUSE",
                    ) from error
                if time.monotonic() >= deadline:
                    pid = _HOLDER.search(str(error))
                    raise self._locked_error(int(pid[1]) if pid else None) from None
            time.sleep(_POLL_S)

    def _opened(self, *, read_only: bool) -> DuckDBPyConnection:
        connection = duckdb.connect(str(self.path), read_only=read_only, config=self._config)
        if read_only:
            return connection
        try:
            write_small_row_groups(connection)
        except BaseException:
            connection.close()
            raise
        # Nobody else has the file open now: what DuckDB spilled here belonged to a process that was killed.
        shutil.rmtree(f"{self.path}.tmp", ignore_errors=True)
        return connection

    def arrange(self, connection: DuckDBPyConnection, schema: str) -> None:
        """Nothing: a file has nothing to be said."""

    def fence(self, connection: DuckDBPyConnection) -> None:
        """Nothing: the file lets no second writer in."""

    def is_conflict(self, error: duckdb.Error) -> bool:
        """Never: there is one writer."""
        return False

    def purge(self) -> int:
        """Copy everything into a fresh file and put it in the place of the old one, whose free pages hold deleted rows.

        Tables, views, macros, types and sequences of every schema come along. The old file stays until the copy is
        whole.

        Returns:
            int: bytes of the fresh file.

        Raises:
            WarehouseLockedError: somebody else held the file for too long.
            DiskFullError: there is no room for the copy.
            PermanentError: the copy is not the same; the old file is kept.
        """
        path = self.path
        fresh = path.with_name(f".{path.name}.rewritten")
        if not path.exists():
            return 0
        with self.locked():
            connection = self.connect(read_only=False)
            try:
                _remove(fresh)
                refuse_small_disk(
                    path.parent, path.stat().st_size, f"Copying {path} so that no deleted row is left in it"
                )
                connection.execute("CHECKPOINT")
                is_same = _copy(connection, fresh)
                # The lock is still held: nobody of ours opens the old file before the fresh one is there.
                connection.close()
                if not is_same:
                    raise _not_rewritten(path, "the copy does not hold the same tables, views and rows.")
                if _wal(path).exists() or _wal(fresh).exists():
                    raise _not_rewritten(path, "a write-ahead log is left.")
                shutil.copymode(path, fresh)
                with fresh.open("rb") as written:
                    os.fsync(written.fileno())
                fresh.replace(path)
                sync_folder(path.parent)
            except duckdb.Error as error:
                raise _not_rewritten(path, " ".join(str(error).split())) from error
            finally:
                connection.close()
                _remove(fresh)
            # What killed processes of DuckDB wrote there when memory was short.
            shutil.rmtree(f"{path}.tmp", ignore_errors=True)
            return path.stat().st_size

    def error_of(self, error: duckdb.Error, failed: str = NOT_CHANGED) -> FullStoryError:
        """What DuckDB says, as a sentence; its transaction was rolled back."""
        return disk_error(error, failed, self.path) or engine_error(error, failed, str(self))

    def _locked_error(self, holder_pid: int | None) -> WarehouseLockedError:
        holder = f"process {holder_pid}" if holder_pid else "another process"
        return WarehouseLockedError(
            f"The warehouse {self.path} was held by {holder} for more than {self.lock_timeout_s:g} s; nothing was "
            "changed. Close that connection, or query the read snapshot instead, and try again.",
            holder_pid=holder_pid,
        )


def write_small_row_groups(connection: DuckDBPyConnection) -> None:
    """Attach the open file anew, so that what is written to it is in smaller row groups than DuckDB's own.

    The file does not keep the size, and whoever opens it with a larger one merges what he finds when he closes it.

    Args:
        connection: opened to write to a file; what its names mean is the same afterwards.

    Raises:
        duckdb.IOException: somebody else opened the file meanwhile; the connection has none any more.
    """
    opened = connection.execute(
        "SELECT database_name, path FROM duckdb_databases() WHERE database_name = current_catalog()"
    ).fetchone()
    assert opened is not None  # noqa: S101 (a connection has a catalog)
    name, path = opened
    if _wal(Path(path)).exists():
        # Of somebody who was killed, or whose disk was full. Detaching writes it to the file, which may fail again, and
        # then there would be no connection; as it is the next closing does.
        return
    # The catalog in use cannot be detached.
    aside = f"{name}_aside"
    connection.execute(f"ATTACH ':memory:' AS {quote(aside)}")
    connection.execute(f"USE {quote(aside)}")
    connection.execute(f"DETACH {quote(name)}")
    connection.execute(f"ATTACH {quote_text(path)} AS {quote(name)} (ROW_GROUP_SIZE {_ROW_GROUP_ROWS})")
    connection.execute(f"USE {quote(name)}")
    connection.execute(f"DETACH {quote(aside)}")


def _pid_in(holder: Path) -> int | None:
    try:
        return int(holder.read_text())
    except (OSError, ValueError):
        return None


def _copy(connection: DuckDBPyConnection, fresh: Path) -> bool:
    """Copy the open database; whether the copy holds the same."""
    (catalog,) = connection.execute("SELECT current_catalog()").fetchone() or ("",)
    connection.execute(
        f"ATTACH {quote_text(str(fresh))} AS {quote(_FRESH)} "
        f"(STORAGE_VERSION '{_STORAGE_VERSION}', ROW_GROUP_SIZE {_ROW_GROUP_ROWS})"
    )
    connection.execute(f"COPY FROM DATABASE {quote(catalog)} TO {quote(_FRESH)}")
    is_same = _contents(connection, catalog) == _contents(connection, _FRESH)
    connection.execute(f"CHECKPOINT {quote(_FRESH)}")
    connection.execute(f"DETACH {quote(_FRESH)}")
    return is_same


def _contents(connection: DuckDBPyConnection, catalog: str) -> tuple[object, ...]:
    """What a database holds: tables with their columns and numbers of rows, and views."""
    columns = connection.execute(
        "SELECT schema_name, table_name, column_name, column_index, data_type, is_nullable FROM duckdb_columns() "
        "WHERE database_name = ? AND NOT internal ORDER BY schema_name, table_name, column_index",
        [catalog],
    ).fetchall()
    views = connection.execute(
        "SELECT schema_name, view_name FROM duckdb_views() WHERE database_name = ? AND NOT internal ORDER BY ALL",
        [catalog],
    ).fetchall()
    tables = connection.execute(
        "SELECT schema_name, table_name FROM duckdb_tables() WHERE database_name = ? AND NOT internal ORDER BY ALL",
        [catalog],
    ).fetchall()
    counts = [
        connection.execute(f"SELECT count(*) FROM {quote(catalog)}.{table(schema, name)}").fetchone()
        for schema, name in tables
    ]
    return columns, views, tables, counts


def _not_rewritten(path: Path, why: str) -> PermanentError:
    return PermanentError(
        f"The rows are deleted, but the warehouse {path} could not be copied, so that traces of them may be left in "
        f"its free pages: {why} The file is as it was; mend that and run the same command again.",
        setting="FULLSTORY_WAREHOUSE",
    )


def _wal(path: Path) -> Path:
    return Path(f"{path}.wal")


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)
    _wal(path).unlink(missing_ok=True)
    shutil.rmtree(f"{path}.tmp", ignore_errors=True)
