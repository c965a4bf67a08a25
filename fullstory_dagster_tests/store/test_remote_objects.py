"""What only an object store can do to an object, and to whoever asks for it."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fullstory_dagster.errors import SettingsError, StoreRefusedError, StoreUnreachableError
from fullstory_dagster.store import object_store_access
from fullstory_dagster.store.objects import LocalStore, publish_text
from fullstory_dagster.store.remote_objects import RemoteStore
from fullstory_dagster_tests.s3_server import ACCESS_KEY, SECRET_KEY, AnsweringServer, Bucket, StallingProxy

MIB = 1 << 20


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., RemoteStore]:
    return lambda url: RemoteStore(url, LocalStore(tmp_path / "data"))


@pytest.fixture
def store(bucket: Bucket, make: Callable[..., RemoteStore]) -> RemoteStore:
    return make(bucket.url)


asked_once = pytest.mark.usefixtures("_asked_once")


@pytest.fixture
def _asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_store_access, "_MAX_RETRIES", 0)


def publish(store: RemoteStore, key: str, content: bytes) -> None:
    with store.scratch() as scratch:
        scratch.write_bytes(content)
        store.publish(key, scratch)


def test_what_is_published_is_below_the_prefix_for_everybody(store: RemoteStore, bucket: Bucket) -> None:
    publish_text(store, "a/window_start=20260601T0000Z/b.txt", "é")
    assert bucket.object("a/window_start=20260601T0000Z/b.txt") == "é".encode()
    assert store.location("a") == f"{bucket.url}/a"


def test_a_large_object_goes_in_parts_and_comes_back_the_same(store: RemoteStore, bucket: Bucket) -> None:
    content = os.urandom(MIB) * 20
    publish(store, "a", content)
    assert store.size("a") == len(content)
    with store.local("a") as path:
        assert path.read_bytes() == content
    assert bucket.n_unfinished_uploads() == 0


MEASURE = """if True:
    import os, resource, sys
    from pathlib import Path
    from fullstory_dagster.store.objects import LocalStore
    from fullstory_dagster.store.remote_objects import RemoteStore
    store = RemoteStore(sys.argv[1], LocalStore(Path(sys.argv[2])))
    def peak():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    with store.scratch() as scratch:
        store.publish("small", scratch)
        before = peak()
        os.truncate(scratch, 100 << 20)
        store.publish("a", scratch)
    with store.local("a") as path, path.open("rb") as file:
        assert sum(len(chunk) for chunk in iter(lambda: file.read(1 << 20), b"")) == 100 << 20
    print(peak() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="memory is counted in another unit elsewhere")
def test_an_object_of_any_size_goes_up_and_comes_down_within_bounds_of_memory(bucket: Bucket, tmp_path: Path) -> None:
    command = [sys.executable, "-c", MEASURE, bucket.url, str(tmp_path)]
    grown = int(subprocess.run(command, capture_output=True, check=True, text=True).stdout)
    assert grown < 80, "MiB"


def test_a_reader_of_a_large_object_that_is_replaced_ends_in_an_error_and_mixes_nothing(store: RemoteStore) -> None:
    publish(store, "a", b"old!" * MIB)
    with store.open("a") as reader:
        assert reader.read(4) == b"old!"
        publish(store, "a", b"new!" * MIB)
        # Not as if there were none: that would be somebody's answer.
        with pytest.raises(OSError, match=r"replaced while it was read: 's3://.*/a'") as told:
            reader.read()
        assert told.value.errno == errno.ESTALE
    with store.open("a") as reader:
        assert reader.read() == b"new!" * MIB


def test_a_reader_of_a_large_object_that_is_deleted_ends_in_an_error(store: RemoteStore) -> None:
    publish(store, "a", bytes(MIB))
    with store.open("a") as reader:
        store.delete("a")
        with pytest.raises(FileNotFoundError):
            reader.read()


def test_two_that_publish_one_key_at_once_leave_one_of_the_two_whole(bucket: Bucket, tmp_path: Path) -> None:
    script = """if True:
    import sys
    from pathlib import Path
    from fullstory_dagster.store.objects import LocalStore
    from fullstory_dagster.store.remote_objects import RemoteStore
    store = RemoteStore(sys.argv[1], LocalStore(Path(sys.argv[2])))
    for _ in range(3):
        with store.scratch() as scratch:
            scratch.write_bytes(sys.argv[3].encode() * (9 << 20))
            store.publish("a", scratch)
    """
    command = [sys.executable, "-c", script, bucket.url, str(tmp_path)]
    running = [subprocess.Popen([*command, letter]) for letter in "xy"]
    assert [process.wait(60) for process in running] == [0, 0]
    content = bucket.object("a")
    assert len(content) == 9 * MIB
    assert len(set(content)) == 1
    assert bucket.n_unfinished_uploads() == 0


PUBLISH = """if True:
    import sys
    from pathlib import Path
    from fullstory_dagster.store.objects import LocalStore
    from fullstory_dagster.store.remote_objects import RemoteStore
    store = RemoteStore(sys.argv[1], LocalStore(Path(sys.argv[2])))
    with store.scratch() as scratch:
        scratch.write_bytes(b"new!" * (10 << 20))
        store.publish("a", scratch)
"""


@pytest.mark.slow
@pytest.mark.parametrize("before", [b"old", None])
def test_who_is_killed_in_the_midst_of_an_upload_leaves_the_old_object_or_none(
    store: RemoteStore, bucket: Bucket, tmp_path: Path, before: bytes | None
) -> None:
    if before:
        publish(store, "a", before)
    with StallingProxy(bucket.endpoint, after_bytes=20 * MIB) as proxy:
        environment = os.environ | {"AWS_ENDPOINT_URL": proxy.url}
        process = subprocess.Popen([sys.executable, "-c", PUBLISH, bucket.url, str(tmp_path / "data")], env=environment)
        proxy.wait()
        # Parts of it are there by now, and the process waits for an answer.
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert bucket.n_unfinished_uploads() == 1
    assert list(store.keys("")) == (["a"] if before else [])
    if before:
        assert bucket.object("a") == before
    assert store.sweep() == 1
    publish(store, "a", b"next")
    assert bucket.object("a") == b"next"


@asked_once
def test_a_store_that_does_not_answer_is_worth_another_try(
    bucket: Bucket, make: Callable[..., RemoteStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    store = make(bucket.url)
    for ask in asking(store):
        with pytest.raises(StoreUnreachableError, match=rf"{bucket.url}/a/? was not .*: it does not answer\. .*"):
            ask()


def test_a_request_that_failed_is_sent_again(
    bucket: Bucket, make: Callable[..., RemoteStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    with AnsweringServer(lambda _, n_before: ((503, 500, 200)[n_before], "SlowDown")) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        publish_text(make(bucket.url), "a", "x")
        assert server.n_asked == 3


ANSWERS = {
    403: ("AccessDenied", StoreRefusedError, "403 AccessDenied. The credentials in the environment have to be right"),
    401: ("Unauthorized", StoreRefusedError, "401 Unauthorized. The credentials"),
    400: ("ExpiredToken", StoreRefusedError, "400 ExpiredToken"),
    301: ("PermanentRedirect", StoreRefusedError, r"AWS_REGION"),
    404: ("NoSuchBucket", StoreRefusedError, "no bucket or container of that name"),
    503: ("SlowDown", StoreUnreachableError, "503 SlowDown. What was there before is unchanged; it is worth"),
}


@asked_once
@pytest.mark.parametrize("status", ANSWERS)
def test_what_the_store_answers_is_told_in_a_sentence(
    bucket: Bucket, make: Callable[..., RemoteStore], monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    code, kind, sentence = ANSWERS[status]
    with AnsweringServer(lambda *_: (status, code)) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        store = make(bucket.url)
        for ask in asking(store):
            with pytest.raises(kind, match=sentence) as told:
                ask()
            assert ACCESS_KEY not in repr(told.value)
            assert SECRET_KEY not in repr(told.value)
            assert "Signature" not in repr(told.value)
            assert told.value.__context__ is None
            assert "\n" not in str(told.value)


def asking(store: RemoteStore) -> list[Callable[[], Any]]:
    def copy() -> None:
        with store.local("a"):
            pass

    return [
        lambda: publish_text(store, "a", "x"),
        lambda: store.open("a"),
        copy,
        lambda: list(store.keys("a/")),
        lambda: store.delete("a"),
    ]


def test_a_bucket_that_is_not_there_is_no_empty_one(make: Callable[..., RemoteStore], bucket: Bucket) -> None:
    store = make("s3://not-there/prefix")
    # S3 does not say that there was nothing to delete.
    for ask in asking(store)[:-1]:
        with pytest.raises(StoreRefusedError, match=r"no bucket or container of that name\. Make it"):
            ask()


def test_credentials_are_in_no_repr_and_in_no_url(store: RemoteStore) -> None:
    shown = repr(store) + repr(vars(store)) + store.location("a")
    assert ACCESS_KEY not in shown
    assert SECRET_KEY not in shown


@asked_once
def test_without_credentials_it_is_said_which_are_looked_for(
    bucket: Bucket, make: Callable[..., RemoteStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    # Where a machine in the cloud would be told of its role.
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(StoreRefusedError, match=r"no credentials that work were found \(AWS_ACCESS_KEY_ID and"):
        make(bucket.url).open("a")


def test_a_profile_s_credentials_are_used(
    bucket: Bucket, make: Callable[..., RemoteStore], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION"):
        monkeypatch.delenv(name)
    (tmp_path / "credentials").write_text(
        f"[analytics]\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET_KEY}\nregion = eu-west-1\n"
    )
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_PROFILE", "analytics")
    store = make(bucket.url)
    publish_text(store, "a", "x")
    assert bucket.object("a") == b"x"
    assert SECRET_KEY not in repr(vars(store))
    # As when a single sign-on has expired.
    monkeypatch.setattr("botocore.credentials.Credentials.get_frozen_credentials", lambda _: 1 / 0)
    with pytest.raises(StoreRefusedError, match=r"no credentials that work were found \(.*AWS_PROFILE"):
        make(bucket.url).open("a")
    monkeypatch.setenv("AWS_PROFILE", "not-there")
    with pytest.raises(SettingsError, match=r"AWS_PROFILE is 'not-there', which gives no credentials"):
        make(bucket.url)


@pytest.mark.parametrize("url", ["s3://bucket/prefix", "gs://bucket/prefix"])
def test_a_missing_package_is_told_with_the_command_that_installs_it(
    make: Callable[..., RemoteStore], monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setitem(sys.modules, "obstore.store", None)
    with pytest.raises(SettingsError, match=r"FULLSTORY_STORE_URL names .*: pip install .*'\.\[objects\]'"):
        make(url)


def test_the_package_for_profiles_may_be_missing_as_well(
    make: Callable[..., RemoteStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_PROFILE", "analytics")
    monkeypatch.setitem(sys.modules, "obstore.auth.boto3", None)
    with pytest.raises(SettingsError, match=r"AWS_PROFILE is set, for which .*: pip install .*'\.\[objects\]'"):
        make("s3://bucket/prefix")


CLOUDS = {
    "gs://bucket/some/prefix": ({}, "some/prefix"),
    "gs://bucket": ({}, None),
    "az://container/some/prefix": ({"AZURE_STORAGE_ACCOUNT_NAME": "account"}, "some/prefix"),
    "abfs://container/prefix": ({"AZURE_STORAGE_ACCOUNT_NAME": "account"}, "prefix"),
    "abfss://container@account.dfs.core.windows.net/some/prefix": ({}, "some/prefix"),
}


@pytest.mark.parametrize("url", CLOUDS)
def test_the_urls_of_other_clouds_are_understood(
    make: Callable[..., RemoteStore], monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    environment, prefix = CLOUDS[url]
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    bucket = object_store_access.connect(url)
    assert bucket.prefix == prefix
    assert set(bucket.config.values()) <= {"bucket", "container", "account"}
    assert make(url).location("a/b") == f"{url}/a/b"


def test_a_container_without_an_account_is_told(make: Callable[..., RemoteStore]) -> None:
    with pytest.raises(SettingsError, match=r"is az://container/prefix, but AZURE_STORAGE_ACCOUNT_NAME does not say"):
        make("az://container/prefix")


@pytest.mark.parametrize(
    ("url", "name"),
    [("gs://bucket/prefix", "GOOGLE_APPLICATION_CREDENTIALS"), ("az://c/p", "AZURE_STORAGE_ACCOUNT_KEY")],
)
def test_credentials_that_make_no_sense_are_told_and_not_shown(
    make: Callable[..., RemoteStore], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, url: str, name: str
) -> None:
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "account")
    file = tmp_path / "canary.json"
    file.write_text('{"private_key": "canary"}')
    monkeypatch.setenv(name, str(file) if name.startswith("GOOGLE") else "canary!")
    with pytest.raises((SettingsError, StoreRefusedError)) as told:
        make(url).open("a")
    assert "canary" not in str(told.value)
    assert told.value.__context__ is None
