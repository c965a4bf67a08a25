"""The bundle store: what FullStory sent for a window, byte for byte, with a sidecar that says how it came."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from fullstory_dagster.compression import gunzip
from fullstory_dagster.errors import (
    BundleDamagedError,
    BundleFormatError,
    BundleIncompleteError,
    BundleMissingError,
    BundleTooLargeError,
    StoreTooNewError,
    WarehouseMismatchError,
)
from fullstory_dagster.store.objects import ObjectStore, publish_text, read_json
from fullstory_dagster.windows import Window

_READ_BYTES = 1 << 20

_VERSION = 1
"""Of the sidecar and what it means."""


@dataclass(frozen=True)
class BundleFile:
    """One file as it was sent.

    Attributes:
        key: in the object store.
        export_id: FullStory's id of the export or bundle.
        bytes: size as kept.
        sha256: of the bytes as kept, hex.
        rows_forgotten: rows of erased people that were taken out; without any, the file is as it was sent.
    """

    key: str
    export_id: str
    bytes: int
    sha256: str
    rows_forgotten: int = 0


@dataclass(frozen=True)
class StoredBundle:
    """The sidecar: everything known of one window's bundle. Times are aware UTC.

    Attributes:
        window: the range asked for.
        api: ``segment`` or ``bundle``.
        files: one for a segment export; one or several legacy bundles, oldest first.
        requested_at: when the export was asked for; decides whether the window was settled.
        received_at: when its last byte came.
        fetch_s: seconds from the one to the other, waiting included.
        shaping: what FullStory was asked for.
    """

    window: Window
    api: str
    files: tuple[BundleFile, ...]
    requested_at: datetime
    received_at: datetime
    fetch_s: float
    shaping: dict[str, Any]

    @property
    def bytes(self) -> int:
        """Size of all files as sent."""
        return sum(file.bytes for file in self.files)

    @property
    def export_id(self) -> str:
        """The ids of all files, separated by commas."""
        return ",".join(file.export_id for file in self.files)

    @property
    def sha256(self) -> str:
        """Hashes of all files, separated by commas."""
        return ",".join(file.sha256 for file in self.files)

    @property
    def is_settled(self) -> bool:
        """Whether the export was asked for late enough to stay as it is."""
        return self.requested_at >= self.window.settled_at


class BundleStore:
    """Bundles by window, in an object store, for the events of one schema.

    Args:
        objects: where they are kept.
        schema: whose events they hold.
        max_bytes: a bundle that unpacks to more is not read on; no bound when None.
        max_ratio: nor one that unpacks to more than this many times its size.
    """

    def __init__(
        self, objects: ObjectStore, schema: str, *, max_bytes: int | None = None, max_ratio: float | None = None
    ) -> None:
        self._objects = objects
        self._schema = schema
        self._max_bytes = max_bytes
        self._max_ratio = max_ratio

    @contextmanager
    def receive(self) -> Iterator[Path]:
        """A scratch file to download into; it vanishes unless it is handed to :meth:`publish` in time."""
        with self._objects.scratch() as scratch:
            yield scratch

    def publish_file(self, window: Window, source: Path, *, export_id: str, size: int, sha256: str) -> BundleFile:
        """Keep one downloaded file. It belongs to the window only when :meth:`publish` names it."""
        # The name is the content's: the same file twice is one object, and a reader of the old bundle is not disturbed.
        key = f"{_folder(window)}{sha256[:32]}.json.gz"
        self._objects.publish(key, source)
        return BundleFile(key=key, export_id=export_id, bytes=size, sha256=sha256)

    def publish(self, bundle: StoredBundle) -> None:
        """Make the files the window's bundle, replacing what it was before, in one step."""
        sidecar = asdict(bundle) | {
            "version": _VERSION,
            "schema": self._schema,
            "window_start": bundle.window.start.isoformat(),
            "window_end": bundle.window.end.isoformat(),
            "requested_at": bundle.requested_at.isoformat(),
            "received_at": bundle.received_at.isoformat(),
        }
        del sidecar["window"]
        publish_text(self._objects, _sidecar_key(bundle.window), json.dumps(sidecar, indent=1))
        self._delete_all(bundle.window, but={_sidecar_key(bundle.window), *(file.key for file in bundle.files)})

    def get(self, window: Window) -> StoredBundle | None:
        """The window's bundle, None if none was kept; one of another length or schema is not the window's."""
        sidecar = self._sidecar(window)
        if sidecar is None or not self._is_ours(sidecar, window):
            return None
        return StoredBundle(
            window=window,
            api=sidecar["api"],
            files=tuple(BundleFile(**file) for file in sidecar["files"]),
            requested_at=datetime.fromisoformat(sidecar["requested_at"]),
            received_at=datetime.fromisoformat(sidecar["received_at"]),
            fetch_s=sidecar["fetch_s"],
            shaping=sidecar["shaping"],
        )

    def slugs(self) -> set[str]:
        """Of windows for which something is kept, whole or not and whoever's: one listing tells of all of them."""
        return {key.split("/")[1].removeprefix("window_start=") for key in self._objects.keys("bundles/")}

    def windows(self, length: timedelta) -> list[Window]:
        """Windows for which something is kept, whole or not, oldest first; those of another schema are not ours.

        Args:
            length: of windows whose bundle was never finished.
        """
        windows = []
        for slug in sorted(self.slugs()):
            start = datetime.strptime(slug, "%Y%m%dT%H%MZ").replace(tzinfo=timezone.utc)
            sidecar = self._sidecar(Window(start, start + length))
            if sidecar is None:
                windows.append(Window(start, start + length))
            elif sidecar["schema"] == self._schema:
                windows.append(Window(start, datetime.fromisoformat(sidecar["window_end"])))
        return windows

    def sweep(self) -> None:
        """Delete what killed downloads left in the scratch folder."""
        self._objects.sweep()

    def delete_unnamed(self, window: Window) -> int:
        """Delete what a killed fetch left beside the bundle, with the window locked; how many files it were."""
        bundle = self.get(window)
        named = {_sidecar_key(window), *(file.key for file in bundle.files)} if bundle else set()
        return self._delete_all(window, but=named)

    def refuse_other_owner(self, window: Window) -> None:
        """Stop before somebody else's bundle that begins at the same instant is written over.

        Raises:
            WarehouseMismatchError: there is one of another schema, or of another window length.
        """
        sidecar = self._sidecar(window)
        if sidecar is None or self._is_ours(sidecar, window):
            return
        kept = Window(window.start, datetime.fromisoformat(sidecar["window_end"]))
        raise WarehouseMismatchError(
            f"The window {window} was not fetched: the bundle of {kept} for schema {sidecar['schema']!r} is kept in "
            "its place, and would be lost. Another FULLSTORY_SCHEMA or FULLSTORY_BUNDLE_HOURS needs another "
            "FULLSTORY_STORE_URL.",
            setting="FULLSTORY_STORE_URL",
        )

    def require(self, window: Window) -> StoredBundle:
        """The window's bundle.

        Raises:
            BundleMissingError: none is kept.
        """
        bundle = self.get(window)
        if bundle is None:
            raise BundleMissingError(
                f"No bundle is kept for the window {window}; materialize raw_bundles for it, or sync it, first."
            )
        return bundle

    def read(self, file: BundleFile) -> Iterator[bytes]:
        """The unpacked bytes of one file, at most 1 MiB at a time.

        Raises:
            BundleDamagedError: they are not the bytes that were kept.
            BundleFormatError: they are, and cannot be unpacked.
            BundleIncompleteError: they are, and end before the gzip trailer.
            BundleTooLargeError: they are, and unpack to more than allowed.
        """
        digest = hashlib.sha256()

        def packed() -> Iterator[bytes]:
            while chunk := kept.read(_READ_BYTES):
                digest.update(chunk)
                yield chunk

        with self._objects.open(file.key) as kept:
            chunks = packed()
            try:
                yield from gunzip(
                    chunks, max_bytes=self._max_bytes, max_ratio=self._max_ratio, what=f"The kept bundle {file.key}"
                )
            except (BundleFormatError, BundleIncompleteError, BundleTooLargeError):
                for _ in chunks:
                    pass
                if digest.hexdigest() == file.sha256:
                    raise
        if digest.hexdigest() != file.sha256:
            raise BundleDamagedError(
                f"The kept bundle {file.key} is not what was received; the disk has damaged it. The rows in the "
                "warehouse were kept; materialize raw_bundles for the window, or sync it, and look at the disk."
            )

    def delete(self, window: Window) -> None:
        """Forget the window's bundle, the sidecar first."""
        self._objects.delete(_sidecar_key(window))
        self._delete_all(window, but=set())

    def _is_ours(self, sidecar: dict[str, Any], window: Window) -> bool:
        return sidecar["schema"] == self._schema and datetime.fromisoformat(sidecar["window_end"]) == window.end

    def _sidecar(self, window: Window) -> dict[str, Any] | None:
        sidecar = read_json(self._objects, _sidecar_key(window))
        if sidecar is not None and sidecar.get("version", _VERSION) > _VERSION:
            raise StoreTooNewError(
                f"The bundle of the window {window} was kept by a newer version of fullstory-dagster (sidecar version "
                f"{sidecar['version']}, this one knows {_VERSION}); nothing was changed. Upgrade, or use another "
                "FULLSTORY_STORE_URL."
            )
        return sidecar

    def _delete_all(self, window: Window, but: set[str]) -> int:
        keys = [key for key in self._objects.keys(_folder(window)) if key not in but]
        for key in keys:
            self._objects.delete(key)
        return len(keys)


def _folder(window: Window) -> str:
    return f"bundles/window_start={window.slug}/"


def _sidecar_key(window: Window) -> str:
    return f"{_folder(window)}bundle.json"
