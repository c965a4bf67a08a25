"""The experience report on the disk: one HTML file, drawn by one process at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from fullstory_dagster.disk import disk_error

_NOT_RENEWED = "The experience report was not renewed"


class ReportFile:
    """The file and its lock. Sessions of real people stand in it, so it is readable by its owner only.

    Attributes:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

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

    def publish(self, page: bytes) -> None:
        """Put a report in place in one step; whoever has the old one open keeps it.

        Raises:
            DiskFullError: there is no room; the old one stays.
            OSError: the file could not be written; the old one stays.
        """
        scratch = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        try:
            scratch.touch(mode=0o600)
            scratch.write_bytes(page)
            scratch.replace(self.path)
        except OSError as error:
            raise disk_error(error, _NOT_RENEWED, self.path) or error from error
        finally:
            scratch.unlink(missing_ok=True)

    def delete(self) -> None:
        """Delete the report, and what killed processes left of others. The next one is drawn from the marts."""
        if not self.path.parent.exists():
            return
        with self.renewing():
            for left in (self.path, *self.path.parent.glob(f".{self.path.name}.*")):
                left.unlink(missing_ok=True)
