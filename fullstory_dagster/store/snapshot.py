"""The read snapshot: a copy of the warehouse that people and BI tools open while runs go on."""

from __future__ import annotations

import os
import shutil
import time
from contextlib import ExitStack, suppress
from datetime import datetime, timedelta, timezone
from pathlib import Path

from fullstory_dagster.disk import disk_error, refuse_small_disk
from fullstory_dagster.store.file import DatabaseFile
from fullstory_dagster.store.objects import sync_folder
from fullstory_dagster.store.warehouse import Warehouse

_COPY_BYTES = 8 << 20
_NOT_RENEWED = "The read snapshot was not renewed"


class ReadSnapshot:
    """The copy, under the warehouse's own base name: views store the catalog's name, which is the file's.

    Attributes:
        path: of the copy.
        every: it is renewed at most this often; zero never makes one.
    """

    def __init__(self, folder: Path, warehouse: Warehouse, file: DatabaseFile, every: timedelta) -> None:
        """Nothing is copied yet.

        Args:
            folder: of the copy.
            warehouse: of which a copy is made.
            file: that it is in.
            every: as the attribute.
        """
        self._warehouse = warehouse
        self._file = file
        self.path = folder / file.path.name
        self.every = every

    def is_due(self, now: datetime) -> bool:
        """Whether the copy is missing, or old enough at ``now`` (aware UTC) and older than the warehouse."""
        if not self.every or not self._file.exists:
            return False
        made_at = self.made_at()
        if made_at is None:
            return True
        changed_at = datetime.fromtimestamp(self._file.path.stat().st_mtime, timezone.utc)
        return now - made_at >= self.every and changed_at > made_at

    def made_at(self) -> datetime | None:
        """When the copy was published, aware UTC; None without one."""
        try:
            return datetime.fromtimestamp(self.path.stat().st_mtime, timezone.utc)
        except FileNotFoundError:
            return None

    def publish(self) -> float:
        """Copy the warehouse and put the copy in place in one step; readers of the old copy go on undisturbed.

        Returns:
            float: seconds it took.

        Raises:
            WarehouseLockedError: somebody else held the warehouse for too long.
            DiskFullError: there is no room for the copy; the old one stays.
        """
        started = time.perf_counter()
        scratch = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        try:
            size = self._file.path.stat().st_size if self._file.exists else 0
            refuse_small_disk(self.path.parent, size, "The read snapshot")
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # Whoever closes a file loses all locks that its process has on it (POSIX), DuckDB's on the warehouse too:
            # the file we read is closed after the connection.
            with ExitStack() as closed_last:
                # The connection keeps every other writer out while the file is copied, and leaves nothing in the WAL.
                with self._warehouse.writing(_NOT_RENEWED) as connection:
                    self.delete_unfinished()
                    connection.execute("CHECKPOINT")
                    source = closed_last.enter_context(self._file.path.open("rb"))
                    with scratch.open("wb") as copy:
                        shutil.copyfileobj(source, copy, _COPY_BYTES)
                        copy.flush()
                        os.fsync(copy.fileno())
                    # Still under the lock: a copy made before somebody was erased must not come after the one made
                    # then.
                    scratch.replace(self.path)
            sync_folder(self.path.parent)
        except OSError as error:
            raise disk_error(error, _NOT_RENEWED, self.path) or error from error
        finally:
            with suppress(OSError):
                scratch.unlink(missing_ok=True)
        return time.perf_counter() - started

    def delete_unfinished(self) -> None:
        """Remove the copies that killed processes left, with the warehouse locked: nobody else makes one meanwhile."""
        for path in self.path.parent.glob(f".{self.path.name}.*"):
            path.unlink(missing_ok=True)
