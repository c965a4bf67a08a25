"""One lock a window: two runs never work on the same one at once. Whoever dies lets go: the kernel sees to it."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from fullstory_dagster.disk import disk_error
from fullstory_dagster.errors import WindowBusyError
from fullstory_dagster.windows import Window


class WindowLocks:
    """Locks below one folder, which everybody who shares the bundles shares too.

    A holder may take a lock again, in any of its threads: a sync holds a window from its fetch to its append, and each
    stage takes it for itself as well. Two objects of this class shut each other out, in one process or in two.

    Args:
        folder: where the lock files lie; made when it is missing.
        timeout_s: how long another holder is waited for.
    """

    def __init__(self, folder: Path, timeout_s: float) -> None:
        self._folder = folder
        self._timeout_s = timeout_s
        self._locks: dict[Window, FileLock] = {}
        self._guard = threading.Lock()

    @contextmanager
    def held(self, window: Window, *, timeout_s: float | None = None) -> Iterator[None]:
        """Hold the window's lock.

        Args:
            window: which.
            timeout_s: waits no longer than this.

        Raises:
            WindowBusyError: somebody else held it for longer.
            DiskFullError: there is no room for the lock file.
            PermanentError: the folder cannot be written.
        """
        self.acquire(window, timeout_s=timeout_s)
        try:
            yield
        finally:
            self.release(window)

    def acquire(self, window: Window, *, timeout_s: float | None = None) -> None:
        """Take the window's lock; as many releases give it back. Raises as :meth:`held`."""
        timeout_s = self._timeout_s if timeout_s is None else timeout_s
        path = self._folder / f"{window.slug}.lock"
        holder = path.with_suffix(".holder")
        with self._guard:
            # The thread that appends is not the one that fetched.
            lock = self._locks.setdefault(window, FileLock(path, thread_local=False))
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=timeout_s)
        except Timeout:
            raise WindowBusyError(
                f"Another run ({_named(holder)}) has been working on the window {window} for more than {timeout_s:g} "
                "s, so it was left to that one; nothing was changed here. Look at that run, or try again later."
            ) from None
        except OSError as error:
            raise disk_error(error, f"Nothing was done for the window {window}", path) or error from error
        with suppress(OSError):  # a full disk: only the message above would have been better
            holder.write_text(str(os.getpid()))

    def release(self, window: Window) -> None:
        """Give the lock back once; nothing if it is not held."""
        if (lock := self._locks.get(window)) is not None and lock.is_locked:
            lock.release()


def _named(holder: Path) -> str:
    try:
        return f"process {int(holder.read_text())}"
    except (OSError, ValueError):
        return "of an unknown process"
