"""The PostgreSQL of a lake's catalog, where it is no business of DuckLake's: who writes, and what bounds tell."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from fullstory_dagster.errors import (
    FullStoryError,
    PermanentError,
    WarehouseLockedError,
    WarehouseUnreachableError,
)
from fullstory_dagster.store.extensions import INSTALL_LAKE
from fullstory_dagster.warehouse_location import LakeCatalog

if TYPE_CHECKING:
    from psycopg import Connection

_WRITER = 0x66756C6C  # "full", in every place where a lock of this project's is taken; the database keeps lakes apart
_WORD = 0xFFFFFFFF
_RECONNECT_S = 15
"""How long a server that does not answer is tried: about what a restart takes."""
_CONNECT = {"connect_timeout": "10", "keepalives_idle": "30", "keepalives_interval": "10", "keepalives_count": "3"}
_FOR_GOOD = ("password authentication failed", "does not exist", "no pg_hba.conf entry", "permission denied")

_HOLDER = """
    SELECT activity.pid, activity.application_name, coalesce(host(activity.client_addr), 'this machine')
    FROM pg_locks AS locks JOIN pg_stat_activity AS activity USING (pid)
    WHERE locks.locktype = 'advisory' AND locks.granted AND locks.classid = %s AND locks.objid = %s
        AND locks.database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""

_WIDEN = """
    WITH in_files AS (
        SELECT table_id, column_id, array_agg(min_value) AS lows, array_agg(max_value) AS highs
        FROM ducklake_file_column_stats GROUP BY table_id, column_id
    ),
    left_over AS (
        SELECT known.table_id, known.column_id, columns.column_type, in_files.lows, in_files.highs
        FROM ducklake_table_column_stats AS known
        JOIN ducklake_column AS columns USING (table_id, column_id)
        LEFT JOIN in_files USING (table_id, column_id)
        WHERE columns.end_snapshot IS NULL
            AND columns.column_type IN ('varchar', 'json', 'int64')
            AND NOT coalesce(known.min_value = ANY(in_files.lows) AND known.max_value = ANY(in_files.highs), false)
            -- The loader's logs, whose rows are no files.
            AND NOT EXISTS (
                SELECT 1 FROM ducklake_metadata AS options
                WHERE options.key = 'data_inlining_row_limit' AND options.scope = 'table'
                    AND options.scope_id = known.table_id
            )
    )
    UPDATE ducklake_table_column_stats AS known
    SET min_value = CASE
            WHEN known.min_value IS NULL THEN NULL
            WHEN column_type = 'int64' THEN coalesce((SELECT min(low::bigint) FROM unnest(lows) AS low), 0)::text
            ELSE ''
        END,
        max_value = CASE
            WHEN known.max_value IS NULL THEN NULL
            WHEN column_type = 'int64' THEN coalesce((SELECT max(high::bigint) FROM unnest(highs) AS high), 0)::text
            ELSE repeat(chr(1114111), 2)
        END
    FROM left_over
    WHERE left_over.table_id = known.table_id AND left_over.column_id = known.column_id
"""


class CatalogServer:
    """A database of a PostgreSQL server.

    Attributes:
        catalog: how to connect.
    """

    def __init__(self, catalog: LakeCatalog) -> None:
        self.catalog = catalog

    @contextmanager
    def connected(self, patience_s: float = _RECONNECT_S) -> Iterator[Connection[Any]]:
        """A connection of its own, each statement a transaction. Closed on the way out.

        Args:
            patience_s: how long a server that does not answer is tried.

        Raises:
            WarehouseUnreachableError: it did not answer, or went away meanwhile.
            PermanentError: it does not let us in, or psycopg is not installed.
        """
        try:
            import psycopg
        except ImportError:
            raise PermanentError(
                "The warehouse was not opened: a lake needs psycopg, which is not installed. Install it: "
                f"{INSTALL_LAKE}",
                setting="FULLSTORY_WAREHOUSE",
            ) from None
        ours = {"application_name": f"fullstory-dagster {socket.gethostname()[:30]} {os.getpid()}"}
        given = self.catalog.parameters
        deadline = time.monotonic() + patience_s
        while True:
            try:
                connection: Connection[Any] = psycopg.connect(
                    autocommit=True,
                    **(_CONNECT | given | ours),  # type: ignore[arg-type]
                )
                break
            except psycopg.Error as error:
                told = self.error_of(str(error))
                if isinstance(told, PermanentError) or time.monotonic() >= deadline:
                    raise told from None
            time.sleep(0.5)
        try:
            yield connection
        except psycopg.OperationalError as error:
            raise self.error_of(str(error)) from error
        finally:
            connection.close()

    @contextmanager
    def writer_lock(self, timeout_s: float) -> Iterator[None]:
        """The one lock of all who write to the lake, on whatever machine, held by a connection of its own.

        It is PostgreSQL's advisory lock, so it goes with the connection, whatever ends that. Who loses it so writes on
        without knowing; see :meth:`fullstory_dagster.store.lake.Lake.fence`.

        Raises:
            WarehouseLockedError: somebody else held it for longer than ``timeout_s``; it names them.
            WarehouseUnreachableError: as for :meth:`connected`.
        """
        with self.connected(min(timeout_s, _RECONNECT_S)) as connection:
            self._acquire(connection, timeout_s)
            yield

    def _acquire(self, connection: Connection[Any], timeout_s: float) -> None:
        import psycopg

        # 0 would be no limit at all.
        connection.execute("SELECT set_config('lock_timeout', %s, false)", [f"{max(1, round(timeout_s * 1000))}ms"])
        try:
            connection.execute("SELECT pg_advisory_lock(%s)", [_WRITER])
        except psycopg.errors.LockNotAvailable:
            raise self._locked_error(connection, timeout_s) from None

    def holder_of(self, connection: Connection[Any], space: int, key: int) -> str:
        """Who holds an advisory lock, in words.

        Args:
            connection: to this database.
            space: first half of the lock's key; 0 where it has one alone.
            key: second half, or the only one.
        """
        # Four bytes with a sign go in, and come out without.
        holder = connection.execute(_HOLDER, [space & _WORD, key & _WORD]).fetchone()
        return _named(*holder)[0] if holder else "of an unknown process"

    def _locked_error(self, connection: Connection[Any], timeout_s: float) -> WarehouseLockedError:
        holder = connection.execute(_HOLDER, [0, _WRITER]).fetchone()
        named, pid = _named(*holder) if holder else ("another process", None)
        return WarehouseLockedError(
            f"The warehouse {self.catalog} was held by {named} for more than {timeout_s:g} s; nothing was changed. "
            "Readers are not shut out. Wait for it, or end that process, and try again.",
            holder_pid=pid,
        )

    def error_of(self, said: str) -> FullStoryError:
        """What libpq says, which never quotes a password, as a sentence."""
        first = next((line.strip() for line in said.splitlines() if line.strip()), "it gave no reason")
        if any(reason in said for reason in _FOR_GOOD):
            return PermanentError(
                f"The warehouse was not opened: PostgreSQL, with the catalog {self.catalog}, does not let us in: "
                f"{first}. Nothing was changed.",
                setting="FULLSTORY_WAREHOUSE",
            )
        return WarehouseUnreachableError(
            f"PostgreSQL, with the catalog {self.catalog}, does not answer: {first}. What was being written is in the "
            "warehouse as a whole or not at all; try again once it is back."
        )

    def has_table(self, name: str) -> bool:
        """Whether a table is there."""
        with self.connected() as connection:
            found = connection.execute("SELECT to_regclass(%s) IS NOT NULL", [name]).fetchone()
        return bool(found and found[0])

    def newest_file(self) -> int:
        """Number of the newest data file of the lake, -1 without one."""
        with self.connected() as connection:
            row = connection.execute("SELECT coalesce(max(data_file_id), -1) FROM ducklake_data_file").fetchone()
        return int(row[0]) if row else -1

    def bytes_since(self, data_file_id: int) -> int:
        """Size of all data files that are newer than one."""
        with self.connected() as connection:
            row = connection.execute(
                "SELECT coalesce(sum(file_size_bytes), 0) FROM ducklake_data_file WHERE data_file_id > %s",
                [data_file_id],
            ).fetchone()
        return int(row[0]) if row else 0

    def widen_bounds(self) -> None:
        """Forget the least and the greatest value of columns where no file has it any more.

        DuckLake keeps them of every table, and never narrows them: an e-mail address may stand there after its row is
        gone. Wider bounds are always right. None at all would be wrong: the next insert would make its own the table's.
        """
        with self.connected() as connection:
            connection.execute(_WIDEN)
            connection.execute("VACUUM ducklake_table_column_stats, ducklake_file_column_stats")


def _named(backend: int, application: str, address: str) -> tuple[str, int | None]:
    """A connection in words, and the id of its process where it is one of ours: `fullstory-dagster <host> <pid>`."""
    words = application.split()
    if len(words) == 3 and words[0] == "fullstory-dagster" and words[2].isdecimal():
        return f"process {words[2]} on {words[1]} (PostgreSQL's process {backend})", int(words[2])
    return f"{application or 'a connection'} from {address} (PostgreSQL's process {backend})", None
