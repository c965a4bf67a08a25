"""What is remembered of failures."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from fullstory_dagster.errors import (
    BundleFormatError,
    ServerError,
    StoreRefusedError,
    WarehouseLockedError,
    WindowNotOfferedError,
    WindowUnavailableError,
)
from fullstory_dagster.store.attempts import AttemptLog
from fullstory_dagster.store.objects import LocalStore, ObjectStore
from fullstory_dagster.windows import Window
from fullstory_dagster_tests.sample_events import DAY

NOW = datetime(2026, 6, 3, 12, tzinfo=timezone.utc)
NEXT_DAY = Window(DAY.end, DAY.end + timedelta(days=1))


@pytest.fixture
def log(objects: ObjectStore) -> AttemptLog:
    return AttemptLog(objects, "fullstory")


def test_accounts_in_one_store_keep_their_failures_apart(log: AttemptLog, objects: ObjectStore) -> None:
    log.record_failure(DAY, "fetch", ServerError("FullStory answered 500."), NOW)
    assert AttemptLog(objects, "another").all() == {}
    AttemptLog(objects, "another").clear(DAY)
    assert log.all().keys() == {DAY}


def test_failures_in_a_row_are_counted_and_the_last_is_kept(log: AttemptLog) -> None:
    log.record_failure(DAY, "fetch", ServerError("FullStory answered 500."), NOW)
    attempt = log.record_failure(DAY, "parse", BundleFormatError("no JSON, é."), NOW + timedelta(hours=1))
    assert log.get(DAY) == attempt
    assert (attempt.stage, attempt.error, attempt.kind, attempt.count) == (
        "parse",
        "no JSON, é.",
        "BundleFormatError",
        2,
    )
    assert attempt.last_at == NOW + timedelta(hours=1)
    assert log.all() == {DAY: attempt}


@pytest.mark.parametrize(
    ("error", "is_transient"),
    [
        (ServerError("x"), True),
        (WarehouseLockedError("x", holder_pid=1), True),
        (WindowUnavailableError("x"), True),
        (OSError(28, "No space left on device"), True),
        (WindowNotOfferedError("x"), False),
        (BundleFormatError("x"), False),
        (KeyError("x"), False),
    ],
)
def test_what_passes_by_itself_is_told_from_what_needs_a_person(
    log: AttemptLog, error: Exception, is_transient: bool
) -> None:
    assert log.record_failure(DAY, "fetch", error, NOW).is_transient is is_transient


def test_a_window_that_was_loaded_is_forgotten_alone(log: AttemptLog) -> None:
    for window in (DAY, NEXT_DAY):
        log.record_failure(window, "fetch", ServerError("x"), NOW)
    log.clear(DAY)
    log.clear(DAY)
    assert list(log.all()) == [NEXT_DAY]
    assert log.record_failure(DAY, "fetch", ServerError("x"), NOW).count == 1


def test_no_failures_are_no_folder(log: AttemptLog, tmp_path: Path) -> None:
    assert log.all() == {}
    assert log.get(DAY) is None
    assert list(tmp_path.iterdir()) == []


def test_a_window_that_is_loaded_while_failures_are_listed_is_left_out(
    log: AttemptLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    for window in (DAY, NEXT_DAY):
        log.record_failure(window, "fetch", ServerError("x"), NOW)
    listed = list(log._objects.keys(""))
    monkeypatch.setattr(log._objects, "keys", lambda _prefix: listed)
    log.clear(DAY)
    assert list(log.all()) == [NEXT_DAY]


def test_what_a_killed_process_left_half_noted_goes_with_the_next_success(log: AttemptLog, tmp_path: Path) -> None:
    log.record_failure(DAY, "fetch", ValueError("x"), DAY.end)
    (folder,) = tmp_path.rglob(".scratch")
    (folder / "tmpleft").write_text("half a note")
    log.clear(DAY)
    assert list(folder.iterdir()) == []


def test_what_the_store_does_not_take_is_noted_at_hand_and_cleared_with_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, at_hand = LocalStore(tmp_path / "store"), LocalStore(tmp_path / "here")
    log = AttemptLog(store, "fullstory", at_hand)
    log.record_failure(DAY, "fetch", ServerError("FullStory answered 500."), NOW)

    def refuse(*_: object) -> None:
        raise StoreRefusedError("The bucket answers 403.")

    with monkeypatch.context() as broken:
        broken.setattr(store, "publish", refuse)
        later = log.record_failure(DAY, "fetch", StoreRefusedError("The bucket answers 403."), NOW + timedelta(hours=1))
    assert later.count == 2
    assert log.get(DAY) == later
    assert log.all() == {DAY: later}
    log.clear(DAY)
    assert log.all() == {}
