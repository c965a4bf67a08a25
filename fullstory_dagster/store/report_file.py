"""The experience report on the disk: one HTML file, drawn by one process at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from fullstory_dagster.disk import disk_error
from fullstory_dagster.store.objects import LocalStore, publish_text

_NOT_RENEWED = "The experience report was not renewed"


class ReportFile:
    """The file and its lock. Sessions of real people stand in it, so it is readable by its owner only.

    Attributes:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._store = LocalStore(path.parent)

    @contextmanager
    def renewing(self) -> Iterator[None]:
        """Nobody else draws or deletes the report meanwhile, from reading the marts to :meth:`publish`.

        A report that was read before somebody was erased can't come after the one from before was deleted.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            lock = FileLock(f"{self.path}.lock")
            lock.acquire()
        except OSError as error:
            raise disk_error(error, _NOT_RENEWED, self.path) or error from error
        try:
            yield
        finally:
            lock.release()

    def publish(self, page: str) -> None:
        """Put a report in place in one step; whoever has the old one open keeps it.

        Raises:
            DiskFullError: there is no room; the old one stays.
            OSError: the file could not be written; the old one stays.
        """
        try:
            # Scratch files are their owner's only, and so is what becomes of one.
            publish_text(self._store, self.path.name, page)
        except OSError as error:
            raise disk_error(error, _NOT_RENEWED, self.path) or error from error

    def delete(self) -> None:
        """Delete the report, and what killed processes left of others. The next one is drawn from the marts."""
        if not self.path.parent.exists():
            return
        with self.renewing():
            self._store.delete(self.path.name)
            self._store.sweep()
