"""One lock a window: two runs never work on the same one at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from fullstory_dagster.disk import disk_error
from fullstory_dagster.errors import WindowBusyError
from fullstory_dagster.store.named_locks import LockHeldError, NamedLocks
from fullstory_dagster.windows import Window


class WindowLocks:
    """Locks of windows, for everybody who shares the bundles.

    A holder may take a lock again, in any of its threads: a sync holds a window from its fetch to its append, and each
    stage takes it for itself as well. Two objects of this class shut each other out, in one process or in two.

    Args:
        locks: of this holder alone.
        timeout_s: how long another holder is waited for.
    """

    def __init__(self, locks: NamedLocks, timeout_s: float) -> None:
        self._locks = locks
        self._timeout_s = timeout_s

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
            WarehouseUnreachableError: the locks are in a lake's catalog, which does not answer.
        """
        self.acquire(window, timeout_s=timeout_s)
        try:
            yield
        finally:
            self.release(window)

    def acquire(self, window: Window, *, timeout_s: float | None = None) -> None:
        """Take the window's lock; as many releases give it back. Raises as :meth:`held`."""
        timeout_s = self._timeout_s if timeout_s is None else timeout_s
        try:
            self._locks.acquire(window.slug, timeout_s)
        except LockHeldError as held:
            raise WindowBusyError(
                f"Another run ({held}) has been working on the window {window} for more than {timeout_s:g} s, so it "
                "was left to that one; nothing was changed here. Look at that run, or try again later."
            ) from None
        except OSError as error:
            raise disk_error(error, f"Nothing was done for the window {window}") or error from error

    def release(self, window: Window) -> None:
        """Give the lock back once; nothing if it is not held."""
        self._locks.release(window.slug)
