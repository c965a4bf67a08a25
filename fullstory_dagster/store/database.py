"""The DuckDB file: opened late, closed early, one writer at a time.

DuckDB lets one process in when it writes and shuts readers out meanwhile. Every opening of ours, dbt's included, takes
the file lock beside the database first, so that our own processes queue up; somebody else's connection shows as
DuckDB's own lock error and is waited for as well.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from pathlib import Path

import duckdb
from duckdb import DuckDBPyConnection
from filelock import FileLock, Timeout

from fullstory_dagster.disk import disk_error
from fullstory_dagster.errors import DiskFullError, FullStoryError, PermanentError, WarehouseLockedError, sentence_of
from fullstory_dagster.store.objects import sync_folder

_POLL_S = 0.1
_HOLDER = re.compile(r"PID (\d+)")

NOT_CHANGED = "The warehouse was not changed"


class Database:
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
        self._config: dict[str, str | bool | int | float | list[str]] = {"autoinstall_known_extensions": False}
        if memory_limit:
            self._config["memory_limit"] = memory_limit
        if threads:
            self._config["threads"] = threads

    @property
    def exists(self) -> bool:
        """Whether there is a database. An empty file is none: whatever made it was killed before it wrote to it."""
        try:
            return self.path.stat().st_size > 0 or Path(f"{self.path}.wal").exists()
        except FileNotFoundError:
            return False

    def create(self) -> None:
        """Make the database if there is none, with the warehouse locked; whole or not at all.

        DuckDB makes a file and writes its header later, and opens none that a killed process left in between.
        """
        if self.exists:
            return
        begun = self.path.with_name(f".{self.path.name}.new")
        for left in (begun, Path(f"{begun}.wal")):
            left.unlink(missing_ok=True)
        duckdb.connect(str(begun), config=self._config).close()
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
                return duckdb.connect(str(self.path), read_only=read_only, config=self._config)
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

    def error_of(self, error: duckdb.Error, failed: str = NOT_CHANGED) -> FullStoryError:
        """What DuckDB says, as a sentence; its transaction was rolled back."""
        # What it quotes is a path in these, and may be a value of somebody's event in all others.
        said = " ".join(str(error).split()) if isinstance(error, duckdb.IOException) else sentence_of(error)
        if told := disk_error(error, failed, self.path):
            return told
        if isinstance(error, duckdb.OutOfMemoryException):
            if "max_temp_directory_size" in said:
                # It spills to the disk what does not fit into memory, and leaves some of the disk to others.
                return DiskFullError(
                    f"{failed}: DuckDB had neither the memory nor the room on the disk of {self.path}; what was there "
                    f"before is unchanged. Make room, or raise FULLSTORY_DUCKDB_MEMORY_LIMIT. DuckDB said: {said}"
                )
            return PermanentError(
                f"{failed}: DuckDB needs more memory for the warehouse {self.path} than FULLSTORY_DUCKDB_MEMORY_LIMIT "
                f"allows; what was there before is unchanged. Raise the limit. DuckDB said: {said}",
                setting="FULLSTORY_DUCKDB_MEMORY_LIMIT",
            )
        return PermanentError(
            f"{failed}: DuckDB could not work on the warehouse {self.path}; what was there before is unchanged: {said}"
        )

    def _locked_error(self, holder_pid: int | None) -> WarehouseLockedError:
        holder = f"process {holder_pid}" if holder_pid else "another process"
        return WarehouseLockedError(
            f"The warehouse {self.path} was held by {holder} for more than {self.lock_timeout_s:g} s; nothing was "
            "changed. Close that connection, or query the read snapshot instead, and try again.",
            holder_pid=holder_pid,
        )


@contextmanager
def transaction(connection: DuckDBPyConnection) -> Iterator[None]:
    """Commit at the end, or roll back what was done if anything is raised."""
    connection.execute("BEGIN TRANSACTION")
    try:
        yield
    except BaseException:
        # DuckDB may have rolled back by itself, or take no statement any more: the first error is the one to tell.
        with suppress(duckdb.Error):
            connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _pid_in(holder: Path) -> int | None:
    try:
        return int(holder.read_text())
    except (OSError, ValueError):
        return None


def naive(instant: datetime) -> datetime:
    """An aware UTC instant as the tables have it."""
    return instant.replace(tzinfo=None)


def aware(instant: datetime) -> datetime:
    """A time of the tables as an aware UTC instant."""
    return instant.replace(tzinfo=timezone.utc)
