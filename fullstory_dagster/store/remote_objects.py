"""Objects in S3, Google Cloud Storage or Azure: published by an upload, which is whole or is not there.

Engines read copies of them in local scratch files, so that credentials are needed here and nowhere else: obstore finds
them where the clouds' own tools do.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from io import BufferedReader, RawIOBase
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypeVar

from fullstory_dagster.disk import refuse_small_disk
from fullstory_dagster.store.object_store_access import connect, store_error
from fullstory_dagster.store.objects import LocalStore

if TYPE_CHECKING:
    from obstore import GetOptions

T = TypeVar("T")

_FIRST_BYTES = 64 << 10
"""Asked for to see whether an object is there: small ones, and footers of small Parquet files, are whole in it."""
_BLOCK_BYTES = 8 << 20
"""Read at a time, each in a request of its own, which is short and is tried again alone."""
_PART_BYTES = 8 << 20
_PARTS_AT_ONCE = 4
_MAX_PARTS = 9_000
"""S3 takes 10,000 parts of an upload."""


class RemoteStore:
    """Objects below a URL.

    Every method raises StoreUnreachableError if the store does not answer after the library's own retries, and
    StoreRefusedError if it does not let us.

    Args:
        url: ``s3://…``, ``gs://…``, ``az://…`` or ``abfss://…``, without credentials and without a slash at its end.
        scratch: whose scratch files are used.
        patience_s: for a caller who cannot wait for minutes until an answer is given up.

    Raises:
        SettingsError: the package for it is not installed, or the environment does not say enough.
    """

    def __init__(self, url: str, scratch: LocalStore, patience_s: float | None = None) -> None:
        self._url = url
        self._scratch = scratch
        self._bucket = connect(url, patience_s)

    def scratch(self) -> AbstractContextManager[Path]:
        """See :class:`ObjectStore`."""
        return self._scratch.scratch()

    def publish(self, key: str, source: Path) -> None:
        """See :class:`ObjectStore`. Large files go in parts; some are in memory at a time, and none is seen before all.

        Parts of a process that was killed are no object and stay hidden in the bucket until a lifecycle rule ends them.
        """
        import obstore

        part_bytes = max(_PART_BYTES, -(-source.stat().st_size // _MAX_PARTS))
        self._ask(
            key,
            "written",
            lambda: obstore.put(self._bucket, key, source, chunk_size=part_bytes, max_concurrency=_PARTS_AT_ONCE),
        )

    def open(self, key: str) -> BinaryIO:
        """See :class:`ObjectStore`. No connection is held while nothing is read."""
        return BufferedReader(_Reader(lambda start, end, tag: self._read(key, start, end, tag)), _BLOCK_BYTES)

    @contextmanager
    def local(self, key: str) -> Iterator[Path]:
        """See :class:`ObjectStore`: a copy in a scratch file.

        Raises:
            DiskFullError: there is no room for it.
        """
        with self.scratch() as path:
            with self.open(key) as kept, path.open("wb") as file:
                refuse_small_disk(path.parent, kept.seek(0, os.SEEK_END), f"Downloading {self.location(key)}")
                kept.seek(0)
                shutil.copyfileobj(kept, file, _BLOCK_BYTES)
            yield path

    def location(self, key: str) -> str:
        """See :class:`ObjectStore`: a URL."""
        return f"{self._url}/{key}"

    def size(self, key: str) -> int | None:
        """See :class:`ObjectStore`."""
        import obstore

        try:
            return self._ask(key, "read", lambda: obstore.head(self._bucket, key)["size"])
        except FileNotFoundError:
            return None

    def keys(self, prefix: str) -> Iterator[str]:
        """See :class:`ObjectStore`."""
        import obstore

        def listed() -> list[str]:
            return [entry["path"] for page in obstore.list(self._bucket, prefix) for entry in page]

        yield from sorted(self._ask(prefix, "listed", listed))

    def delete(self, key: str) -> None:
        """See :class:`ObjectStore`."""
        import obstore

        with suppress(FileNotFoundError):  # S3 does not mind, others do
            self._ask(key, "deleted", lambda: obstore.delete(self._bucket, key))

    def sweep(self) -> int:
        """See :class:`ObjectStore`."""
        return self._scratch.sweep()

    def _read(self, key: str, start: int, end: int, tag: str | None) -> tuple[bytes, int, str | None]:
        import obstore
        from obstore.exceptions import GenericError

        options: GetOptions = {"range": (start, end)}
        if tag:
            options["if_match"] = tag

        def get() -> tuple[bytes, int, str | None]:
            try:
                found = obstore.get(self._bucket, key, options=options)
            except GenericError as error:
                # An empty object has no range.
                if "status code: 416" not in str(error):
                    raise
                meta = obstore.head(self._bucket, key)
                return b"", meta["size"], meta["e_tag"]
            return bytes(found.bytes()), found.meta["size"], found.meta["e_tag"]

        return self._ask(key, "read", get)

    def _ask(self, key: str, failed: str, request: Callable[[], T]) -> T:
        """The answer to a request.

        Args:
            key: of the object, or a prefix.
            failed: what did not happen to it if there is none: ``read``, ``written``, ``listed`` or ``deleted``.
            request: makes it.
        """
        from obstore.exceptions import BaseError

        try:
            return request()
        except (BaseError, FileNotFoundError) as error:
            told = store_error(error, self._url, self.location(key), failed)
        # Not chained: what the library says holds addresses and answers, and may hold a token.
        raise told


class _Reader(RawIOBase):
    """An object in an object store as a file that can be sought in.

    Args:
        read: given the first byte, the byte after the last, and the tag of an earlier reading: the bytes there are, the
            object's size, and a tag that changes with its content. Raises OSError if that is not its tag any more.
    """

    def __init__(self, read: Callable[[int, int, str | None], tuple[bytes, int, str | None]]) -> None:
        super().__init__()
        self._read = read
        self._first, self._n_bytes, self._tag = read(0, _FIRST_BYTES, None)
        self._at = 0

    def readable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Always."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """As every file."""
        self._at = max(0, offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._n_bytes}[whence])
        return self._at

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """As every file; one request at most."""
        found = self._some(len(buffer))
        buffer[: len(found)] = found
        return len(found)

    def readall(self) -> bytes:
        """As every file; the caller has the memory."""
        parts = []
        while part := self._some(_BLOCK_BYTES):
            parts.append(part)
        return b"".join(parts)

    def _some(self, n_bytes: int) -> bytes:
        end = min(self._at + n_bytes, self._n_bytes)
        if self._at >= end:
            return b""
        is_known = self._at < len(self._first)
        found = self._first[self._at : end] if is_known else self._read(self._at, end, self._tag)[0]
        self._at += len(found)
        return found
