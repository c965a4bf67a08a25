"""The read snapshot: a copy of the warehouse that people and BI tools open while runs go on."""

from __future__ import annotations

import os
import shutil
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path

from fullstory_dagster.errors import DiskFullError
from fullstory_dagster.store.disk import is_disk_full, refuse_small_disk
from fullstory_dagster.store.objects import sync_folder
from fullstory_dagster.store.warehouse import Warehouse


class ReadSnapshot:
    """The copy, under the warehouse's own base name: views store the catalog's name, which is the file's.

    Attributes:
        path: of the copy.
        every: it is renewed at most this often; zero never makes one.
    """

    def __init__(self, folder: Path, warehouse: Warehouse, every: timedelta) -> None:
        self._warehouse = warehouse
        self.path = folder / warehouse.path.name
        self.every = every

    def is_due(self, now: datetime) -> bool:
        """Whether the copy is missing, or old enough at ``now`` (aware UTC) and older than the warehouse."""
        if not self.every or not self._warehouse.path.exists():
            return False
        made_at = self.made_at()
        if made_at is None:
            return True
        changed_at = datetime.fromtimestamp(self._warehouse.path.stat().st_mtime, timezone.utc)
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
            DiskFullError: there is no room for the copy.
        """
        started = time.perf_counter()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        size = self._warehouse.path.stat().st_size if self._warehouse.path.exists() else 0
        refuse_small_disk(self.path.parent, size, "The read snapshot")
        scratch = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        try:
            # The connection keeps every other writer out while the file is copied, and leaves nothing in the WAL.
            with self._warehouse.writing() as connection:
                connection.execute("CHECKPOINT")
                shutil.copyfile(self._warehouse.path, scratch)
                with scratch.open("rb") as written:
                    os.fsync(written.fileno())
                # Still under the lock: a copy made before somebody was erased must not come after the one made then.
                scratch.replace(self.path)
            sync_folder(self.path.parent)
        except OSError as error:
            if is_disk_full(error):
                raise DiskFullError(
                    f"The disk ran full while the read snapshot {self.path} was made; an older one is unchanged. Make "
                    "room and try again."
                ) from error
            raise
        finally:
            scratch.unlink(missing_ok=True)
        return time.perf_counter() - started

    def delete_unfinished(self) -> None:
        """Remove the copies that killed processes left, with the warehouse locked: nobody else makes one meanwhile."""
        for path in self.path.parent.glob(f".{self.path.name}.*"):
            path.unlink(missing_ok=True)
