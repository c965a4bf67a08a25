"""Raw bundles and what is known of them."""

from __future__ import annotations

import gzip
import hashlib
from datetime import datetime, timedelta, timezone

import pytest

from fullstory_dagster.errors import BundleDamagedError, BundleMissingError, BundleTooLargeError
from fullstory_dagster.store.bundles import BundleFile, BundleStore, StoredBundle
from fullstory_dagster.store.objects import ObjectStore
from fullstory_dagster_tests.sample_events import DAY

REQUESTED = datetime(2026, 6, 3, 0, 0, 0, 5, tzinfo=timezone.utc)


@pytest.fixture
def store(objects: ObjectStore) -> BundleStore:
    return BundleStore(objects, "fullstory")


def keep_file(store: BundleStore, content: bytes, export_id: str) -> BundleFile:
    with store.receive() as scratch:
        scratch.write_bytes(content)
        return store.publish_file(
            DAY, scratch, export_id=export_id, size=len(content), sha256=hashlib.sha256(content).hexdigest()
        )


def keep(store: BundleStore, *contents: bytes, requested_at: datetime = REQUESTED) -> StoredBundle:
    files = tuple(keep_file(store, content, f"id-{n}") for n, content in enumerate(contents))
    bundle = StoredBundle(
        DAY,
        "bundle",
        files,
        requested_at,
        requested_at + timedelta(seconds=9),
        9.5,
        {"fields": ["é"], "segment_id": None},
    )
    store.publish(bundle)
    return bundle


def test_a_bundle_is_known_again_with_all_that_was_said_of_it(store: BundleStore) -> None:
    bundle = keep(store, b"[1]", gzip.compress(b"[2]"))
    again = store.get(DAY)
    assert again == bundle
    assert again.export_id == "id-0,id-1"
    assert again.bytes == 3 + len(gzip.compress(b"[2]"))
    assert again.sha256 == ",".join(file.sha256 for file in bundle.files)
    assert [b"".join(store.read(file)) for file in again.files] == [b"[1]", b"[2]"]


def test_the_bytes_are_kept_as_they_were_sent(store: BundleStore, objects: ObjectStore) -> None:
    packed = gzip.compress(b"[]")
    (file,) = keep(store, packed).files
    with objects.local(file.key) as path:
        assert path.read_bytes() == packed


def test_a_bundle_asked_for_a_day_after_its_end_is_settled(store: BundleStore) -> None:
    assert keep(store, b"[]", requested_at=DAY.settled_at).is_settled
    assert not keep(store, b"[]", requested_at=DAY.settled_at - timedelta(microseconds=1)).is_settled


def test_the_files_of_a_replaced_bundle_vanish(store: BundleStore, objects: ObjectStore) -> None:
    keep(store, b"[1]", b"[2]")
    bundle = keep(store, b"[2]", b"[3]")
    kept = {*(file.key for file in bundle.files), "bundles/window_start=20260601T0000Z/bundle.json"}
    assert set(objects.keys("bundles/")) == kept


def test_two_bundles_of_the_same_bytes_are_two(store: BundleStore) -> None:
    bundle = keep(store, b"[]", b"[]")
    assert [b"".join(store.read(file)) for file in bundle.files] == [b"[]", b"[]"]
    assert store.get(DAY) == bundle


def test_a_file_that_no_bundle_names_changes_nothing_and_goes_with_the_next(
    store: BundleStore, objects: ObjectStore
) -> None:
    bundle = keep(store, b"[1]")
    keep_file(store, b"[2]", "half of a bundle")
    assert store.get(DAY) == bundle
    assert len(list(objects.keys("bundles/"))) == 3
    keep(store, b"[3]")
    assert len(list(objects.keys("bundles/"))) == 2


def test_a_download_that_fails_leaves_nothing(store: BundleStore, objects: ObjectStore) -> None:
    def fail() -> None:
        with store.receive() as scratch:
            scratch.write_bytes(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert list(objects.keys(".scratch/")) == []
    assert store.get(DAY) is None


def test_a_deleted_bundle_is_gone_and_missed_by_name(store: BundleStore, objects: ObjectStore) -> None:
    keep(store, b"[1]")
    store.delete(DAY)
    assert store.get(DAY) is None
    assert list(objects.keys("bundles/")) == []
    with pytest.raises(BundleMissingError, match=r"2026-06-01 00:00 to 2026-06-02 00:00 UTC.*raw_bundles"):
        store.require(DAY)


@pytest.mark.parametrize("export_id", ["../../etc/passwd", "a/b", "…"])
def test_an_id_of_fullstorys_is_no_path(store: BundleStore, objects: ObjectStore, export_id: str) -> None:
    file = keep_file(store, b"[]", export_id)
    assert file.export_id == export_id
    assert file.key.startswith("bundles/window_start=20260601T0000Z/")
    assert export_id not in file.key


def test_a_kept_bomb_is_refused_by_the_name_of_the_setting(objects: ObjectStore) -> None:
    bomb = gzip.compress(b" " * (1 << 20), mtime=0) * 100
    by_ratio = BundleStore(objects, "fullstory", max_ratio=200)
    (file,) = keep(by_ratio, bomb).files
    with pytest.raises(BundleTooLargeError, match=r"kept bundle .* FULLSTORY_MAX_BUNDLE_RATIO"):
        list(by_ratio.read(file))
    by_size = BundleStore(objects, "fullstory", max_bytes=1_000_000)
    with pytest.raises(BundleTooLargeError, match=r"kept bundle .* FULLSTORY_MAX_BUNDLE_GB"):
        list(by_size.read(file))
    assert sum(map(len, BundleStore(objects, "fullstory").read(file))) == 100 << 20


def test_a_bundle_that_the_disk_turned_into_a_bomb_is_called_damaged(objects: ObjectStore) -> None:
    store = BundleStore(objects, "fullstory", max_bytes=1_000_000)
    (file,) = keep(store, gzip.compress(b"[]")).files
    with objects.scratch() as scratch:
        scratch.write_bytes(gzip.compress(bytes(2_000_000)))
        objects.publish(file.key, scratch)
    with pytest.raises(BundleDamagedError):
        list(store.read(file))
