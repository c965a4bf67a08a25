"""Named objects that appear whole or not at all: what bundles and Parquet are kept in."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, Protocol

_ABANDONED_AFTER_S = 24 * 3600.0


class ObjectStore(Protocol):
    """What a folder and an object store can both do. Keys are made by us: ASCII words, `=`, `.` and `/`."""

    def scratch(self) -> AbstractContextManager[Path]:
        """A context manager that gives a local file to write an object in; it is removed after."""
        ...

    def publish(self, key: str, source: Path) -> None:
        """Make the bytes of a scratch file the object; readers see the old object or the new one, never a part."""
        ...

    def open(self, key: str) -> BinaryIO:
        """The object's bytes, to be read from the start or to be sought in. Raises FileNotFoundError.

        A replaced object is read to its end as it was, or ends in an error: never in the new one's bytes.
        """
        ...

    def local(self, key: str) -> AbstractContextManager[Path]:
        """A context manager that gives a file with the object's bytes, for engines, to read only. FileNotFoundError."""
        ...

    def location(self, key: str) -> str:
        """What people and other engines call the object: a path or a URL, without secrets."""
        ...

    def size(self, key: str) -> int | None:
        """Bytes of the object, None if there is none."""
        ...

    def keys(self, prefix: str) -> Iterator[str]:
        """Keys below a prefix that ends in a slash, in order."""
        ...

    def delete(self, key: str) -> None:
        """Remove the object if it is there."""
        ...

    def sweep(self) -> int:
        """Remove scratch files whose process is gone; how many there were."""
        ...


class LocalStore:
    """Objects as files below one folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """See :class:`ObjectStore`. On the same file system as the objects, so that publishing is a rename."""
        folder = self.root / ".scratch"
        folder.mkdir(parents=True, exist_ok=True)
        self.sweep()
        descriptor, path = _locked_file(folder)
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)
            os.close(descriptor)

    def publish(self, key: str, source: Path) -> None:
        """See :class:`ObjectStore`. Synced to disk before and after the rename, so that a power cut leaves no half."""
        path = self._path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        with source.open("rb") as written:
            os.fsync(written.fileno())
        source.replace(path)
        sync_folder(path.parent)

    def open(self, key: str) -> BinaryIO:
        """See :class:`ObjectStore`."""
        return self._path(key).open("rb")

    @contextmanager
    def local(self, key: str) -> Iterator[Path]:
        """See :class:`ObjectStore`: the object itself."""
        path = self._path(key)
        if not path.is_file():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
        yield path

    def location(self, key: str) -> str:
        """See :class:`ObjectStore`: a path."""
        return str(self._path(key))

    def size(self, key: str) -> int | None:
        """See :class:`ObjectStore`."""
        try:
            return self._path(key).stat().st_size
        except FileNotFoundError:
            return None

    def keys(self, prefix: str) -> Iterator[str]:
        """See :class:`ObjectStore`."""
        for path in sorted(self._path(prefix).rglob("*")):
            if path.is_file():
                yield path.relative_to(self.root).as_posix()

    def delete(self, key: str) -> None:
        """See :class:`ObjectStore`."""
        self._path(key).unlink(missing_ok=True)

    def sweep(self) -> int:
        """See :class:`ObjectStore`. The lock on a scratch file ends with its process, also on another machine's."""
        n_removed = 0
        for path in (self.root / ".scratch").glob("*"):
            with suppress(FileNotFoundError):
                # To write, because a network file system gives no lock on what is open for reading only.
                descriptor = os.open(path, os.O_RDWR)
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    path.unlink()
                    n_removed += 1
                except BlockingIOError:
                    pass
                except OSError:
                    n_removed += _remove_if_old(path)
                finally:
                    os.close(descriptor)
        return n_removed

    def _path(self, key: str) -> Path:
        return self.root.joinpath(*key.split("/"))


def _locked_file(folder: Path) -> tuple[int, Path]:
    """A new file in the folder, and the descriptor that holds its lock: who has it is alive."""
    while True:
        descriptor, name = tempfile.mkstemp(dir=folder)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pass  # a sweep came in between and takes the file for one left behind
        except OSError:
            return descriptor, Path(name)  # no locks here: age decides
        else:
            if os.fstat(descriptor).st_nlink:
                return descriptor, Path(name)
        os.close(descriptor)


def _remove_if_old(path: Path) -> bool:
    """Where the file system knows no locks: whatever nobody has written to for a day was left by a killed process."""
    if time.time() - path.stat().st_mtime <= _ABANDONED_AFTER_S:
        return False
    path.unlink()
    return True


def publish_text(store: ObjectStore, key: str, text: str) -> None:
    """Publish a small text object, UTF-8."""
    with store.scratch() as scratch:
        scratch.write_text(text, encoding="utf-8")
        store.publish(key, scratch)


def read_json(store: ObjectStore, key: str) -> dict[str, Any] | None:
    """A small JSON object of ours; None if there is none, or nothing that can be read as one.

    What a failing disk has left of a note is as good as none: everything noted can be found out again.
    """
    try:
        with store.open(key) as file:
            document = json.load(file)
    except (FileNotFoundError, ValueError):
        return None
    return document if isinstance(document, dict) else None


def sync_folder(folder: Path) -> None:
    """Make a rename in the folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
