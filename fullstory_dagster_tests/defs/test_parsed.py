"""What is made of the dbt project: once, until a file of it changes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from fullstory_dagster.defs.dbt import parsed
from fullstory_dagster.defs.dbt.project import DbtProject
from fullstory_dagster.settings import Settings
from fullstory_dagster_tests.sample_events import DAY


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "dbt_project"
    (folder / "models").mkdir(parents=True)
    (folder / "models" / "sessions.sql").write_text("select 1")
    monkeypatch.setattr(parsed, "PROJECT_DIR", folder)
    return folder


def kept(what: str, names: tuple[str, ...], own: Path, make: Callable[[Path], None]) -> Path:
    """The folder."""
    return parsed.kept(what, names, own, make=make, read=lambda folder: folder)


class Maker:
    """Makes a file, and counts how often."""

    def __init__(self) -> None:
        self.n_made = 0

    def __call__(self, folder: Path) -> None:
        folder.mkdir()
        self.n_made += 1
        (folder / "made").write_text(str(self.n_made))


def test_it_is_made_once_for_all_accounts(project: Path, tmp_path: Path) -> None:
    make = Maker()
    places = {kept("parsed", ("warehouse",), tmp_path / account, make) for account in ("mine", "yours")}
    assert make.n_made == 1
    [place] = places
    assert place.is_relative_to(project)


def test_it_is_made_again_when_a_file_or_a_name_is_another(project: Path, tmp_path: Path) -> None:
    make = Maker()
    first = kept("parsed", ("warehouse",), tmp_path, make)
    assert kept("parsed", ("lake",), tmp_path, make) != first
    model = project / "models" / "sessions.sql"
    model.write_text("select 2")
    assert kept("parsed", ("warehouse",), tmp_path, make) != first
    assert make.n_made == 3
    # An older file put back, as a checkout does.
    model.write_text("select 1")
    assert kept("parsed", ("warehouse",), tmp_path, make) == first
    assert make.n_made == 3


def test_dbt_s_own_files_are_none_of_the_project_s(project: Path, tmp_path: Path) -> None:
    make = Maker()
    first = kept("parsed", (), tmp_path, make)
    (project / "target" / "compiled.sql").write_text("select 1")
    (project / "logs").mkdir()
    (project / "logs" / "notes.md").write_text("ran")
    assert kept("parsed", (), tmp_path, make) == first


def test_a_project_that_cannot_be_written_to_is_read_and_else_the_account_keeps_it(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = Maker()
    in_image = kept("parsed", (), tmp_path / "mine", make)
    monkeypatch.setattr(parsed, "is_writable", lambda folder: not folder.is_relative_to(project))
    assert kept("parsed", (), tmp_path / "mine", make) == in_image
    assert kept("parsed", ("another",), tmp_path / "mine", make).is_relative_to(tmp_path / "mine")
    assert make.n_made == 2


def test_what_fails_leaves_nothing_and_is_made_by_the_next(project: Path, tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        folder.mkdir()
        (folder / "half").touch()
        raise OSError("no room")

    with pytest.raises(OSError, match="no room"):
        kept("parsed", (), tmp_path, fail)
    assert [path.name for path in (project / "target" / "parsed").iterdir()] == [".lock"]
    assert (kept("parsed", (), tmp_path, Maker()) / "made").exists()


def test_what_cannot_be_read_is_made_again(project: Path, tmp_path: Path) -> None:
    make = Maker()
    (kept("parsed", (), tmp_path, make) / "made").write_text("damaged")
    number = parsed.kept("parsed", (), tmp_path, make=make, read=lambda folder: int((folder / "made").read_text()))
    assert number == make.n_made == 2


def test_only_the_latest_states_are_kept(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parsed, "_KEPT", 8)
    make = Maker()
    places = [kept("parsed", (str(n),), tmp_path, make) for n in range(10)]
    assert [place.exists() for place in places] == [False] * 2 + [True] * 8


@pytest.mark.slow
def test_a_second_account_takes_the_parse_of_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = (DbtProject(Settings(start=DAY.start, data_dir=tmp_path / name)) for name in ("first", "second"))
    manifest = first.manifest()

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("dbt was asked")

    monkeypatch.setattr(DbtProject, "_invoke", refuse)
    assert second.manifest() == manifest
