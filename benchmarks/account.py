"""An account whose bundles are there already, without FullStory."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

from benchmarks.inputs import START
from fullstory_dagster.ingest.ingestion import Ingestion
from fullstory_dagster.ingest.opening import open_ingestion
from fullstory_dagster.settings import Settings
from fullstory_dagster.store.bundles import StoredBundle
from fullstory_dagster.warehouse_location import read_location
from fullstory_dagster.windows import Window


def open_account(folder: Path, warehouse: str | None = None) -> Ingestion:
    """An account with the settings that a user has who sets none, but for where the warehouse is."""
    if warehouse is None:
        return open_ingestion(Settings(start=START, data_dir=folder))
    return open_ingestion(Settings(start=START, data_dir=folder, warehouse=read_location(warehouse)))


def keep_bundle(ingestion: Ingestion, window: Window, source: Path) -> None:
    """Make a copy of the file the window's bundle, as a fetch would."""
    with ingestion.bundles.receive() as scratch:
        shutil.copyfile(source, scratch)
        digest = hashlib.sha256()
        with scratch.open("rb") as file:
            # Not all at once: the process's memory is measured.
            while read := file.read(1 << 20):
                digest.update(read)
        size = scratch.stat().st_size
        file_kept = ingestion.bundles.publish_file(window, scratch, export_id="1", size=size, sha256=digest.hexdigest())
    ingestion.bundles.publish(
        StoredBundle(
            window=window,
            api="segment",
            files=(file_kept,),
            requested_at=window.settled_at,
            received_at=window.settled_at,
            fetch_s=0.0,
            shaping=ingestion.settings.export_shaping,
        )
    )
