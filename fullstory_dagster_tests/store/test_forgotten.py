"""The list of erased people in stores of either kind."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from fullstory_dagster.errors import PermanentError
from fullstory_dagster.forgotten import Forgotten, Given, Names
from fullstory_dagster.store.forgotten import ForgottenList
from fullstory_dagster.store.named_locks import FileLocks
from fullstory_dagster.store.objects import LocalStore, ObjectStore, publish_text

AT = datetime(2026, 6, 5, tzinfo=timezone.utc)


@pytest.fixture
def people(objects: ObjectStore, tmp_path: Path) -> ForgottenList:
    return ForgottenList(objects, lambda: FileLocks(tmp_path / "locks"), lock_timeout_s=5)


def listed(n_people: int) -> Forgotten:
    forgotten = Forgotten()
    for n in range(n_people):
        key = f"key-{n}"
        names = Names(
            Given("app_key", key), frozenset({key}), frozenset(), frozenset(), frozenset(range(n * 9, n * 9 + 9))
        )
        forgotten = forgotten.with_person(names, AT, always=False, privacy_hash_key="")
    return forgotten


def test_the_list_is_read_back_as_it_was_written(people: ForgottenList) -> None:
    assert people.read() == Forgotten()
    with people.held() as forgotten:
        assert forgotten == Forgotten()
        people.write(listed(3))
    assert len(people.read().erasures) == 3


def test_a_list_that_cannot_be_read_is_not_taken_for_none(people: ForgottenList, objects: ObjectStore) -> None:
    publish_text(objects, "forgotten.json", "{")
    with pytest.raises(PermanentError, match=r"list of erased people .*forgotten\.json cannot be read"):
        people.read()


def test_a_list_that_is_replaced_while_it_is_read_is_not_taken_for_none(
    people: ForgottenList, objects: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    # More than comes with the first answer of a bucket.
    before, after = listed(200), listed(201)
    people.write(before)
    load = json.load

    def replaced_meanwhile(file: Any) -> Any:
        people.write(after)
        return load(file)

    monkeypatch.setattr("fullstory_dagster.store.forgotten.json.load", replaced_meanwhile)
    if isinstance(objects, LocalStore):
        assert people.read() == before
    else:
        with pytest.raises(OSError, match=r"replaced while it was read"):
            people.read()
