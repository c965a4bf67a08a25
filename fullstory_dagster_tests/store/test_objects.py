"""Objects appear whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from fullstory_dagster.store.objects import LocalStore, publish_text


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


def files(store: LocalStore) -> list[str]:
    return [path.relative_to(store.root).as_posix() for path in sorted(store.root.rglob("*")) if path.is_file()]


def test_a_published_object_is_read_back(store: LocalStore) -> None:
    publish_text(store, "a/b=1/c.txt", "é")
    with store.open("a/b=1/c.txt") as file:
        assert file.read() == "é".encode()
    assert store.size("a/b=1/c.txt") == 2
    assert Path(store.location("a/b=1/c.txt")).read_text(encoding="utf-8") == "é"
    assert files(store) == ["a/b=1/c.txt"]


def test_what_is_not_there_is_not_there(store: LocalStore) -> None:
    assert store.size("a") is None
    assert list(store.keys("a/")) == []
    store.delete("a")
    with pytest.raises(FileNotFoundError):
        store.open("a")


def test_keys_are_those_below_a_prefix_in_order(store: LocalStore) -> None:
    for key in ("b/2", "b/1/x", "b2/1", "a"):
        publish_text(store, key, key)
    assert list(store.keys("b/")) == ["b/1/x", "b/2"]


def test_a_reader_of_the_replaced_object_reads_on(store: LocalStore) -> None:
    publish_text(store, "a", "old" * 1000)
    with store.open("a") as reader:
        begun = reader.read(3)
        publish_text(store, "a", "new")
        assert begun + reader.read() == b"old" * 1000
    with store.open("a") as reader:
        assert reader.read() == b"new"


def test_a_failure_while_writing_leaves_the_old_object_and_no_scratch(store: LocalStore) -> None:
    publish_text(store, "a", "old")

    def fail() -> None:
        with store.scratch() as scratch:
            scratch.write_text("half of the n")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert files(store) == ["a"]
    assert store.size("a") == 3


@pytest.mark.parametrize("broken", ["os.fsync", "pathlib.Path.replace"])
def test_a_failure_while_publishing_leaves_the_old_object(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    publish_text(store, "a", "old")
    monkeypatch.setattr(broken, fail)
    with pytest.raises(OSError, match="No space"):
        publish_text(store, "a", "new")
    assert files(store) == ["a"]
    assert store.size("a") == 3


def test_objects_are_for_their_owner_only(store: LocalStore) -> None:
    publish_text(store, "a", "personal")
    assert Path(store.location("a")).stat().st_mode & 0o077 == 0
