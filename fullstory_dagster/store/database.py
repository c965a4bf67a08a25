"""What the warehouse asks of the database it is in, whichever kind that is, and what they all say and do alike."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Protocol

import duckdb
from duckdb import DuckDBPyConnection

from fullstory_dagster.errors import DiskFullError, FullStoryError, PermanentError, sentence_of

NOT_CHANGED = "The warehouse was not changed"


class Database(Protocol):
    """A database that DuckDB opens. ``str()`` names it in sentences, without a password.

    Attributes:
        lock_timeout_s: how long others are waited for.
    """

    lock_timeout_s: float

    @property
    def exists(self) -> bool:
        """Whether there is one."""

    @property
    def folder(self) -> Path | None:
        """Where on this machine its rows lie; None if elsewhere."""

    def create(self) -> None:
        """Make it if there is none, with the lock held; whole or not at all."""

    def locked(self) -> AbstractContextManager[None]:
        """Keep every other writer out.

        Raises:
            WarehouseLockedError: somebody else held it for longer than ``lock_timeout_s``.
        """

    def shared(self) -> AbstractContextManager[None]:
        """What a reader has to hold meanwhile.

        Raises:
            WarehouseLockedError: as for :meth:`locked`.
        """

    def connect(self, *, read_only: bool) -> DuckDBPyConnection:
        """A connection whose names without a catalog are the database's; it is made if it is to be written to.

        A reader sees all of its queries at one moment.

        Raises:
            WarehouseLockedError: somebody else held it for too long.
            WarehouseUnreachableError: the machine it is on does not answer.
            PermanentError: it cannot be opened.
        """

    def arrange(self, connection: DuckDBPyConnection, schema: str) -> None:
        """What is to be said of the loader's tables after they were made or changed, outside of a transaction."""

    def fence(self, connection: DuckDBPyConnection) -> None:
        """Make the open transaction one that cannot be committed beside another one with a fence."""

    def purge(self) -> int:
        """Leave nothing of deleted rows in any file, and nothing that can be queried; how many bytes were written.

        Raises:
            WarehouseLockedError: somebody else held it for too long.
            PermanentError: it did not work; the rows are deleted, and traces may be left.
        """

    def is_conflict(self, error: duckdb.Error) -> bool:
        """Whether another writer's transaction was committed first; the same again may succeed."""

    def error_of(self, error: duckdb.Error, failed: str = NOT_CHANGED) -> FullStoryError:
        """What DuckDB says, as a sentence that begins with what did not happen; its transaction was rolled back."""


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


def configuration(memory_limit: str | None, threads: int | None) -> dict[str, str | bool | int | float | list[str]]:
    """What every connection is opened with."""
    config: dict[str, str | bool | int | float | list[str]] = {"autoinstall_known_extensions": False}
    if memory_limit:
        config["memory_limit"] = memory_limit
    if threads:
        config["threads"] = threads
    return config


def engine_error(error: duckdb.Error, failed: str, where: str) -> FullStoryError:
    """What DuckDB says that has to do with neither a lock nor a disk.

    Args:
        error: DuckDB's.
        failed: what did not happen, as a sentence.
        where: the database, by its name.
    """
    # What it quotes is a path in these, and may be a value of somebody's event in all others.
    said = " ".join(str(error).split()) if isinstance(error, duckdb.IOException) else sentence_of(error)
    if isinstance(error, duckdb.OutOfMemoryException):
        if "max_temp_directory_size" in said:
            # It spills to the disk what does not fit into memory, and leaves some of the disk to others.
            return DiskFullError(
                f"{failed}: DuckDB had neither the memory nor the room on the disk of {where}; what was there "
                f"before is unchanged. Make room, or raise FULLSTORY_DUCKDB_MEMORY_LIMIT. DuckDB said: {said}"
            )
        return PermanentError(
            f"{failed}: DuckDB needs more memory for the warehouse {where} than FULLSTORY_DUCKDB_MEMORY_LIMIT "
            f"allows; what was there before is unchanged. Raise the limit. DuckDB said: {said}",
            setting="FULLSTORY_DUCKDB_MEMORY_LIMIT",
        )
    return PermanentError(
        f"{failed}: DuckDB could not work on the warehouse {where}; what was there before is unchanged: {said}"
    )


def naive(instant: datetime) -> datetime:
    """An aware UTC instant as the tables have it."""
    return instant.replace(tzinfo=None)


def aware(instant: datetime) -> datetime:
    """A time of the tables as an aware UTC instant."""
    return instant.replace(tzinfo=timezone.utc)
