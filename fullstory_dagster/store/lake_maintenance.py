"""What a lake needs now and then: each load leaves files, and nothing of the past goes by itself."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import duckdb

from fullstory_dagster.store.lake import Lake
from fullstory_dagster.store.tables import quote_text
from fullstory_dagster.warehouse_location import LAKE_ALIAS


@dataclass(frozen=True)
class LakeFiles:
    """What a lake consists of at one moment.

    Attributes:
        n_files: data files and files of deletions that its tables are made of now.
        n_bytes: of these.
        n_kept: all files that the catalog knows, those of older states included.
        n_snapshots: states that can be queried.
    """

    n_files: int
    n_bytes: int
    n_kept: int
    n_snapshots: int


@dataclass(frozen=True)
class Maintained:
    """What maintenance did.

    Attributes:
        before: the lake before.
        after: the lake after.
        n_deleted: files that were deleted.
    """

    before: LakeFiles
    after: LakeFiles
    n_deleted: int


def maintain(lake: Lake, keep: timedelta) -> Maintained | None:
    """Merge small files, give up states that are older than ``keep``, and delete files that nothing needs any more.

    A query that takes less long than ``keep`` is not disturbed. Writers wait for one step at a time.

    Returns:
        Maintained: None while there is no lake.

    Raises:
        WarehouseLockedError: a writer held the lake for too long; what was done stays.
        WarehouseUnreachableError: PostgreSQL does not answer.
    """
    if not lake.exists:
        return None
    name = quote_text(LAKE_ALIAS)
    seconds = int(keep.total_seconds())
    older = f"older_than => now() - INTERVAL {seconds} SECOND"
    before = _files(lake)
    # Files most of whose rows are deleted first, so that what is left of them is merged.
    _run(lake, f"FROM ducklake_rewrite_data_files({name})")
    _run(lake, f"FROM ducklake_merge_adjacent_files({name})")
    # Its rows are times with a zone, which Python is to be spared.
    _run(lake, f"SELECT count(*) FROM ducklake_expire_snapshots({name}, {older})")
    # A file that was merged into another one may be open: it waits for as long as any other that is out of date.
    n_deleted = _run(lake, f"FROM ducklake_cleanup_old_files({name}, {older})")
    n_deleted += _run(lake, f"FROM ducklake_delete_orphaned_files({name}, {older})")
    return Maintained(before, _files(lake), n_deleted)


def _run(lake: Lake, sql: str) -> int:
    """Do one step under the writers' lock; how many rows it gave."""
    with lake.locked():
        connection = lake.connect(read_only=False)
        try:
            return len(connection.execute(sql).fetchall())
        except duckdb.Error as error:
            raise lake.error_of(error, "The lake was not maintained to the end") from error
        finally:
            connection.close()


_FILES = """
    SELECT
        (SELECT count(*) FROM ducklake_data_file WHERE end_snapshot IS NULL)
        + (SELECT count(*) FROM ducklake_delete_file WHERE end_snapshot IS NULL),
        (SELECT coalesce(sum(file_size_bytes), 0) FROM ducklake_data_file WHERE end_snapshot IS NULL)
        + (SELECT coalesce(sum(file_size_bytes), 0) FROM ducklake_delete_file WHERE end_snapshot IS NULL),
        (SELECT count(*) FROM ducklake_data_file) + (SELECT count(*) FROM ducklake_delete_file)
        + (SELECT count(*) FROM ducklake_files_scheduled_for_deletion),
        (SELECT count(*) FROM ducklake_snapshot)
"""


def _files(lake: Lake) -> LakeFiles:
    with lake.server.connected() as connection:
        row = connection.execute(_FILES).fetchone()
    assert row is not None  # noqa: S101 (aggregates give a row)
    return LakeFiles(*map(int, row))
