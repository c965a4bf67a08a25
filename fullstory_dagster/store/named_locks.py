"""Locks with a name, for all who share a store: files of one machine, or PostgreSQL where several hosts share a lake.

Whoever dies lets go: the kernel sees to it, or PostgreSQL when the connection ends.
"""

from __future__ import annotations

import os
import threading
import time
import zlib
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from filelock import FileLock, Timeout

from fullstory_dagster.store.postgres import CatalogServer

if TYPE_CHECKING:
    from psycopg import Connection

_POLL_S = 0.2
_SPACE = 0x66736C6B
"""First half of the keys of our locks in PostgreSQL; the second half is made of the name."""


class LockHeldError(Exception):
    """Somebody else held the lock for too long; the text says who."""


class NamedLocks(Protocol):
    """A holder's locks. The holder may take one again, in any thread; two holders shut each other out."""

    def acquire(self, name: str, timeout_s: float) -> None:
        """Take a lock; as many releases give it back.

        Raises:
            LockHeldError: another holder had it for longer than ``timeout_s``.
        """
        ...

    def release(self, name: str) -> None:
        """Give a lock back once; nothing if it is not held."""
        ...


class FileLocks:
    """Locks as files below one folder, which is made when it is missing."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._locks: dict[str, FileLock] = {}
        self._guard = threading.Lock()

    def acquire(self, name: str, timeout_s: float) -> None:
        """See :class:`NamedLocks`. Raises OSError where the folder cannot be written."""
        path = self._folder / f"{name}.lock"
        holder = path.with_suffix(".holder")
        with self._guard:
            # The thread that gives it back is not always the one that took it.
            lock = self._locks.setdefault(name, FileLock(path, thread_local=False))
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=timeout_s)
        except Timeout:
            raise LockHeldError(_named(holder)) from None
        with suppress(OSError):  # a full disk: only the name in a message would have been better
            holder.write_text(str(os.getpid()))

    def release(self, name: str) -> None:
        """See :class:`NamedLocks`."""
        if (lock := self._locks.get(name)) is not None and lock.is_locked:
            lock.release()


class CatalogLocks:
    """PostgreSQL's advisory locks in the database of a lake's catalog, on one connection while any is held.

    A connection that breaks takes its locks with it. What they keep apart is right without them as well, and only more
    work: the lake's own fence keeps rows single.

    Args:
        server: of the catalog.
        place: what the names are names in, such as the URL of the store.
    """

    def __init__(self, server: CatalogServer, place: str) -> None:
        self._server = server
        self._place = place
        self._counts: dict[str, int] = {}
        self._guard = threading.Lock()
        self._stack = ExitStack()
        self._connection: Connection[Any] | None = None

    def acquire(self, name: str, timeout_s: float) -> None:
        """See :class:`NamedLocks`.

        Raises:
            WarehouseUnreachableError: PostgreSQL does not answer.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            with self._guard:
                if self._counts.get(name) or self._try(name):
                    self._counts[name] = self._counts.get(name, 0) + 1
                    return
                if time.monotonic() >= deadline:
                    held_by = self._server.holder_of(self._connected(), _SPACE, self._key(name))
                    self._close_if_idle()
                    raise LockHeldError(held_by)
            time.sleep(_POLL_S)

    def release(self, name: str) -> None:
        """See :class:`NamedLocks`."""
        with self._guard:
            if not self._counts.get(name):
                return
            self._counts[name] -= 1
            if self._counts[name]:
                return
            del self._counts[name]
            if self._connection is not None:
                self._execute("SELECT pg_advisory_unlock(%s, %s)", name)
            self._close_if_idle()

    def _try(self, name: str) -> bool:
        for _ in range(2):
            # A connection may have died since it was used last: once more, with a new one.
            if (taken := self._execute("SELECT pg_try_advisory_lock(%s, %s)", name)) is not None:
                return taken
        return False

    def _execute(self, sql: str, name: str) -> bool | None:
        import psycopg

        try:
            row = self._connected().execute(sql.encode(), [_SPACE, self._key(name)]).fetchone()
        except psycopg.OperationalError:
            self._close()
            return None
        return bool(row and row[0])

    def _connected(self) -> Connection[Any]:
        if self._connection is None:
            self._connection = self._stack.enter_context(self._server.connected())
        return self._connection

    def _close_if_idle(self) -> None:
        if not self._counts:
            self._close()

    def _close(self) -> None:
        self._stack.close()
        self._connection = None

    def _key(self, name: str) -> int:
        # Four bytes with a sign. Two names with one key wait for each other, and that is all.
        return zlib.crc32(f"{self._place} {name}".encode()) - (1 << 31)


def _named(holder: Path) -> str:
    try:
        return f"process {int(holder.read_text())}"
    except (OSError, ValueError):
        return "of an unknown process"
