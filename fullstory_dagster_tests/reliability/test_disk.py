"""A disk that runs full in the middle of any stage: a sentence, nothing lost, and the next run is as ever."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fullstory_dagster import disk
from fullstory_dagster.errors import DiskFullError, FullStoryError
from fullstory_dagster.ingest.ingestion import Ingestion
from fullstory_dagster.ingest.opening import open_ingestion
from fullstory_dagster.settings import Settings
from fullstory_dagster.simulator.config import SimulatorConfig
from fullstory_dagster.simulator.process import SimulatorProcess
from fullstory_dagster.windows import Window

from .account import KEY, RANGE, START, Account, write_traffic

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        os.geteuid() != 0 and not os.environ.get("FULLSTORY_TESTS_REQUIRE_SYSTEM_PACKAGES"),
        reason="only root may mount a file system",
    ),
]

DAY = Window(START, START.replace(day=2))


@pytest.fixture(scope="module")
def simulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimulatorProcess]:
    data = tmp_path_factory.mktemp("traffic") / "events.ndjson"
    write_traffic(data, 0.5)
    with SimulatorProcess(SimulatorConfig(data=data, now=START.replace(day=8), export_s=0)) as simulator:
        yield simulator


@pytest.fixture(scope="module")
def undisturbed(simulator: SimulatorProcess, tmp_path_factory: pytest.TempPathFactory) -> Account:
    account = Account(tmp_path_factory.mktemp("undisturbed"), simulator.url)
    account.sync("--no-dbt")
    return account


class SmallDisk:
    """A file system of its own, in memory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def mount(self, options: str) -> None:
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(self.folder)], check=True)

    @contextmanager
    def filled(self, but_bytes: int) -> Iterator[None]:
        """Leave so little room."""
        filler = self.folder / "filler"
        with filler.open("wb") as file:
            file.write(b"\0" * max(0, shutil.disk_usage(self.folder).free - but_bytes))
        try:
            yield
        finally:
            filler.unlink()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    small_disk = SmallDisk(tmp_path / "disk")
    small_disk.folder.mkdir()
    small_disk.mount("size=256m")
    yield small_disk
    subprocess.run(["umount", "-l", str(small_disk.folder)], check=True)


def test_a_disk_without_a_byte_is_told_and_not_that_it_could_not_be_noted(
    simulator: SimulatorProcess, undisturbed: Account, small_disk: SmallDisk
) -> None:
    account = Account(small_disk.folder / "account", simulator.url)
    with small_disk.filled(but_bytes=0):
        ended = account.run("sync", *RANGE, "--no-dbt")
    assert ended.returncode == 1
    said = " ".join((ended.stdout + ended.stderr).split())
    assert "disk is full" in said
    assert "Make room and try again." in said
    assert "Traceback" not in said
    account.sync("--no-dbt")
    assert account.differences(undisturbed) == {}


@pytest.fixture
def ingestion(simulator: SimulatorProcess, small_disk: SmallDisk, monkeypatch: pytest.MonkeyPatch) -> Ingestion:
    # As if somebody else took the room after it was asked for.
    monkeypatch.setattr(disk, "MARGIN_BYTES", -(1 << 40))
    settings = {"api_key": KEY, "api_url": simulator.url, "export_api": "bundle", "downloads_per_minute": 0}
    return open_ingestion(Settings(start=START, data_dir=small_disk.folder / "data", **settings))


def fetch(ingestion: Ingestion) -> object:
    with ingestion.client() as client:
        return ingestion.fetch(DAY, client)


STAGES: list[Callable[[Ingestion], object]] = [
    fetch,
    lambda ingestion: ingestion.parse(DAY),
    lambda ingestion: ingestion.append(DAY),
    lambda ingestion: ingestion.snapshot.publish(),
]
NAMES = ["fetch", "parse", "append", "snapshot"]


@pytest.mark.parametrize("is_first_time", [True, False], ids=["first load", "replacement"])
@pytest.mark.parametrize("stage", range(len(STAGES)), ids=NAMES)
def test_a_disk_that_runs_full_in_the_middle_leaves_what_was_there(
    ingestion: Ingestion, small_disk: SmallDisk, stage: int, is_first_time: bool
) -> None:
    def rows() -> list[dict[str, object]]:
        return ingestion.warehouse.query(
            "SELECT * EXCLUDE (_load_id, _loaded_at) FROM fullstory.events ORDER BY _event_id"
        )

    for work in STAGES if not is_first_time else STAGES[:stage]:
        work(ingestion)
    before = rows()
    with small_disk.filled(but_bytes=100_000), pytest.raises(FullStoryError) as caught:
        STAGES[stage](ingestion)
    assert isinstance(caught.value, DiskFullError), caught.value
    assert str(caught.value).endswith("Make room and try again.")
    if stage < 3:
        assert "2026-06-01" in str(caught.value) or "warehouse" in str(caught.value)
    assert rows() == before
    scratch = ingestion.settings.store_dir / ".scratch"
    assert not scratch.exists() or list(scratch.iterdir()) == []
    for work in STAGES[stage:]:
        work(ingestion)
    assert len(rows()) == ingestion.warehouse.current_loads()[DAY].rows_kept > 1000
    if not is_first_time:
        assert rows() == before
    assert ingestion.attempts.all() == {}
