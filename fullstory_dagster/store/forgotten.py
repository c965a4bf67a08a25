"""The list of people who were erased: one small file beside the bundles, which every load reads."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from typing import Any

from fullstory_dagster.errors import ErasureBusyError, PermanentError, StoreTooNewError
from fullstory_dagster.forgotten import Erasure, Forgotten
from fullstory_dagster.store.named_locks import LockHeldError, NamedLocks
from fullstory_dagster.store.objects import ObjectStore, publish_text

_KEY = "forgotten.json"
_VERSION = 1
_SETS = ("app_keys", "indv_ids", "emails", "devices")


class ForgottenList:
    """The list in an object store, and the two locks around it.

    ``erasing`` is held by a whole erasure and taken first; ``held`` is short, is taken while a window is locked, and
    nothing else is waited for while it is held.
    """

    def __init__(self, objects: ObjectStore, new_locks: Callable[[], NamedLocks], *, lock_timeout_s: float) -> None:
        """Nothing is read yet.

        Args:
            objects: the store.
            new_locks: locks of a holder of their own each time, so that threads shut each other out as well.
            lock_timeout_s: how long another erasure is waited for.
        """
        self._objects = objects
        self._new_locks = new_locks
        self._lock_timeout_s = lock_timeout_s

    def read(self) -> Forgotten:
        """The list as it is now.

        Raises:
            PermanentError: it is there and cannot be read: loads stop, or they would bring erased people back.
            StoreTooNewError: a newer version of this project wrote it.
        """
        try:
            with self._objects.open(_KEY) as file:
                entry = json.load(file)
            if entry["version"] > _VERSION:
                raise StoreTooNewError(
                    f"The list of erased people {self._objects.location(_KEY)} was written by a newer version of "
                    f"fullstory-dagster (version {entry['version']}, this one knows {_VERSION}); nothing was changed. "
                    "Upgrade, or use another FULLSTORY_STORE_URL."
                )
            return Forgotten(
                salt=entry["salt"],
                revision=entry["revision"],
                erasures=tuple(_erasure(erasure) for erasure in entry["erasures"]),
            )
        except FileNotFoundError:
            return Forgotten()
        except (ValueError, KeyError, TypeError, AttributeError):
            raise PermanentError(
                f"The list of erased people {self._objects.location(_KEY)} cannot be read; nothing was changed, and "
                "nothing is loaded without it. Put a backup in its place.",
                setting="FULLSTORY_STORE_URL",
            ) from None

    def write(self, forgotten: Forgotten) -> None:
        """Replace the list, in one step; only while it is held."""
        entry = asdict(forgotten) | {
            "version": _VERSION,
            "erasures": [
                asdict(erasure)
                | {"at": erasure.at.isoformat()}
                | {name: sorted(getattr(erasure, name)) for name in _SETS}
                for erasure in forgotten.erasures
            ],
        }
        publish_text(self._objects, _KEY, json.dumps(entry, indent=1))

    @contextmanager
    def held(self) -> Iterator[Forgotten]:
        """The list, with nobody changing it meanwhile.

        Raises:
            ErasureBusyError: somebody else held it for too long.
        """
        with self._lock("forgotten"):
            yield self.read()

    @contextmanager
    def erasing(self) -> Iterator[None]:
        """One erasure at a time.

        Raises:
            ErasureBusyError: another one goes on for too long.
        """
        with self._lock("forget"):
            yield

    @contextmanager
    def _lock(self, name: str) -> Iterator[None]:
        locks = self._new_locks()
        try:
            locks.acquire(name, self._lock_timeout_s)
        except LockHeldError as held:
            raise ErasureBusyError(
                f"Another run ({held}) has been erasing somebody for more than {self._lock_timeout_s:g} s; nothing was "
                "changed. Wait until it ends and try again."
            ) from None
        try:
            yield
        finally:
            locks.release(name)


def _erasure(entry: dict[str, Any]) -> Erasure:
    sets = {name: frozenset(entry.pop(name)) for name in _SETS}
    return Erasure(**(entry | sets | {"at": datetime.fromisoformat(entry["at"])}))
