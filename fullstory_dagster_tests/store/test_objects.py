"""Objects appear whole or not at all."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fullstory_dagster.store.objects import LocalStore, ObjectStore, publish_text, read_json
from fullstory_dagster_tests.s3_server import KEYS_AN_ANSWER


@pytest.fixture
def store(folder: LocalStore) -> LocalStore:
    return folder


def files(store: LocalStore) -> list[str]:
    return [path.relative_to(store.root).as_posix() for path in sorted(store.root.rglob("*")) if path.is_file()]


def test_a_published_object_is_read_back(objects: ObjectStore) -> None:
    publish_text(objects, "a/b=1/c.txt", "é")
    with objects.open("a/b=1/c.txt") as file:
        assert file.read() == "é".encode()
    with objects.local("a/b=1/c.txt") as path:
        assert path.read_text(encoding="utf-8") == "é"
    assert objects.size("a/b=1/c.txt") == 2
    assert objects.location("a/b=1/c.txt").endswith("/a/b=1/c.txt")
    assert list(objects.keys("")) == ["a/b=1/c.txt"]


def test_an_empty_object_is_one(objects: ObjectStore) -> None:
    publish_text(objects, "a", "")
    with objects.open("a") as file:
        assert file.read() == b""
    with objects.local("a") as path:
        assert path.read_bytes() == b""
    assert objects.size("a") == 0


def test_any_part_of_an_object_can_be_read(objects: ObjectStore) -> None:
    content = bytes(range(256)) * 1000
    with objects.scratch() as scratch:
        scratch.write_bytes(content)
        objects.publish("a", scratch)
    with objects.open("a") as file:
        assert file.read(3) == content[:3]
        assert file.seek(-8, os.SEEK_END) == len(content) - 8
        assert file.read() == content[-8:]
        assert file.read(1) == b""
        file.seek(100_001)
        file.seek(99, os.SEEK_CUR)
        assert (file.read(5), file.tell()) == (content[100_100:100_105], 100_105)
        file.seek(0)
        assert file.read() == content


def test_what_is_not_there_is_not_there(objects: ObjectStore) -> None:
    assert objects.size("a") is None
    assert list(objects.keys("a/")) == []
    objects.delete("a")
    with pytest.raises(FileNotFoundError):
        objects.open("a")
    with pytest.raises(FileNotFoundError), objects.local("a"):
        pass
    assert read_json(objects, "a") is None


def test_keys_are_those_below_a_prefix_in_order(objects: ObjectStore) -> None:
    for key in ("b/2", "b/1/x", "b2/1", "a"):
        publish_text(objects, key, key)
    assert list(objects.keys("b/")) == ["b/1/x", "b/2"]
    objects.delete("b/1/x")
    assert list(objects.keys("b/")) == ["b/2"]


def test_more_keys_than_an_answer_holds_are_listed(objects: ObjectStore) -> None:
    names = [f"a/{n:02}" for n in range(KEYS_AN_ANSWER * 2 + 1)]
    for name in reversed(names):
        publish_text(objects, name, "")
    assert list(objects.keys("a/")) == names


def test_a_reader_of_the_replaced_object_reads_on(objects: ObjectStore) -> None:
    publish_text(objects, "a", "old" * 1000)
    with objects.open("a") as reader:
        begun = reader.read(3)
        publish_text(objects, "a", "new")
        assert begun + reader.read() == b"old" * 1000
    with objects.open("a") as reader:
        assert reader.read() == b"new"


def test_a_failure_while_writing_leaves_the_old_object_and_no_scratch(objects: ObjectStore, tmp_path: Path) -> None:
    publish_text(objects, "a", "old")

    def fail() -> None:
        with objects.scratch() as scratch:
            scratch.write_text("half of the n")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert list(objects.keys("")) == ["a"]
    assert [path for path in tmp_path.rglob(".scratch/*") if path.is_file()] == []
    with objects.open("a") as file:
        assert file.read() == b"old"


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


LEAVE_A_FILE = """
import os, signal, sys
from pathlib import Path
from fullstory_dagster.store.objects import LocalStore
with LocalStore(Path(sys.argv[1])).scratch() as scratch:
    scratch.write_text("personal")
    if sys.argv[2] == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    sys.stdout.write("written\\n"); sys.stdout.flush()
    sys.stdin.readline()
"""


@pytest.mark.slow
def test_what_a_killed_process_left_is_swept_at_once_and_what_a_living_one_writes_is_not(store: LocalStore) -> None:
    command = [sys.executable, "-c", LEAVE_A_FILE, str(store.root)]
    assert subprocess.run([*command, "die"], check=False).returncode == -signal.SIGKILL
    living = subprocess.Popen([*command, "live"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert living.stdout is not None
    try:
        assert living.stdout.readline() == b"written\n"
        # The living process has swept what the dead one left; its own file is old, as a clock ahead would have it.
        (scratch,) = files(store)
        os.utime(store.root / scratch, (0, 0))
        publish_text(store, "a", "x")
        assert files(store) == [scratch, "a"]
    finally:
        living.kill()
        living.communicate()
    assert store.sweep() == 1
    assert files(store) == ["a"]


def test_where_there_are_no_locks_age_decides(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", no_locks)
    with store.scratch() as old, store.scratch() as new:
        os.utime(old, (0, 0))
        assert store.sweep() == 1
        assert (old.exists(), new.exists()) == (False, True)


def test_a_scratch_file_that_is_being_published_is_not_swept(store: LocalStore) -> None:
    with store.scratch() as scratch:
        scratch.write_text("x")
        assert store.sweep() == 0
        store.publish("a", scratch)
        assert store.sweep() == 0
    assert files(store) == ["a"]
