"""No room for a file, and folders nobody may write to, at every stage of the commands a person types; without root."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import fullstory_dagster
from fullstory_dagster.defs.dbt.parsed import PROJECT_DIR
from fullstory_dagster.disk import MARGIN_BYTES
from fullstory_dagster.simulator.process import SimulatorProcess

from .account import N_DAYS, RANGE, Account

pytestmark = pytest.mark.slow

FIRST_WINDOW = "2026-06-01 00:00 to 2026-06-02 00:00 UTC"
SYNC = ("sync", *RANGE, "--jobs", "1")
RESET = ("reset", *RANGE, "--jobs", "1", "--yes")

UNPRIVILEGED = ("setpriv", "--inh-caps=-all", "--bounding-set=-all") if os.geteuid() == 0 else ()
"""Root may write where the file's mode says that nobody may, unless it is told to do without."""


def no_file_above(n_bytes: int) -> list[str]:
    """A command's prefix under which a file that grows further is refused by the kernel, as by a disk that is full."""
    return ["prlimit", f"--fsize={n_bytes}"]


def said(ended: subprocess.CompletedProcess[str]) -> str:
    assert "Traceback" not in ended.stderr + ended.stdout
    return " ".join((ended.stdout + ended.stderr).split())


def contents(account: Account) -> dict[str, bytes]:
    """What a person cares for below the data dir."""
    patterns = ("warehouse.duckdb", "bundles/**/*.*", "events/**/*.parquet", "parses/**/*.*")
    files = (path for pattern in patterns for path in account.data.glob(pattern) if path.is_file())
    return {str(path.relative_to(account.data)): path.read_bytes() for path in files}


def size_of(account: Account, pattern: str) -> int:
    return max(path.stat().st_size for path in account.data.glob(pattern))


@pytest.fixture
def account(simulator: SimulatorProcess, tmp_path: Path) -> Account:
    return Account(tmp_path / "account", simulator.url)


@pytest.fixture
def loaded(account: Account, undisturbed: Account) -> Account:
    shutil.copytree(undisturbed.data, account.data)
    return account


@pytest.mark.parametrize("stage", ["lock and rate limit", "download", "Parquet", "warehouse"])
def test_a_disk_that_is_full_at_any_stage_fails_the_window_with_a_sentence_and_the_next_sync_loads_it(
    account: Account, undisturbed: Account, stage: str
) -> None:
    bundle, parquet = (size_of(undisturbed, pattern) for pattern in ("bundles/*/*.gz", "events/*/*.parquet"))
    if stage in ("Parquet", "warehouse"):
        # What the stages before need is there, and a note of it still fits.
        account.sync("--no-dbt", "--to", "2026-06-02")
        for path in account.data.glob("warehouse.duckdb*" if stage == "warehouse" else "[we]*/**/*.*"):
            path.unlink()
        (account.data / "warehouse.duckdb").unlink(missing_ok=True)
    limit = {"lock and rate limit": 0, "download": bundle // 2, "Parquet": 8000, "warehouse": 2 * parquet}[stage]
    ended = account.run(*SYNC, "--no-dbt", "--to", "2026-06-02", prefix=no_file_above(limit))
    assert ended.returncode == 1, said(ended)
    sentence = said(ended)
    assert FIRST_WINDOW in sentence
    assert "full" in sentence
    assert "Make room" in sentence
    if limit:
        shown = json.loads(account.run("status", "--json").stdout)["windows"][0]
        assert (shown["state"], shown["attempts"]) == ("failed", 1)
        assert "Make room" in shown["error"]
    assert list(account.data.glob(".scratch/*")) == []
    account.sync("--no-dbt")
    assert account.differences(undisturbed) == {}
    assert account.states() == ["loaded"] * N_DAYS
    assert list(account.data.glob("attempts/**/*Z.json")) == []


def test_a_disk_that_is_full_while_rows_are_replaced_keeps_the_old_ones(loaded: Account, undisturbed: Account) -> None:
    limit = 2 * size_of(loaded, "events/*/*.parquet")
    ended = loaded.run(*RESET, "--no-dbt", prefix=no_file_above(limit))
    assert ended.returncode == 1, said(ended)
    assert "Make room" in said(ended)
    assert loaded.differences(undisturbed, with_marts=True) == {}
    assert loaded.run(*RESET).returncode == 0
    assert loaded.differences(undisturbed, with_marts=True) == {}


@pytest.mark.parametrize("of", ["dbt", "the models"])
def test_a_disk_that_is_full_while_dbt_builds_keeps_the_windows_and_the_next_sync_builds(
    account: Account, undisturbed: Account, of: str
) -> None:
    account.sync("--no-dbt")
    if of == "dbt":
        # In a clone where it has parsed nothing yet.
        shutil.copytree(PROJECT_DIR, account.folder / "dbt_project", ignore=shutil.ignore_patterns("target"))
        shutil.copytree(Path(fullstory_dagster.__file__).parent, account.folder / "fullstory_dagster")
        ended = account.run(*SYNC, prefix=no_file_above(50_000), PYTHONPATH=str(account.folder))
    else:
        ended = account.run(*SYNC, prefix=no_file_above(size_of(undisturbed, "dbt/**/*.*")))
    assert ended.returncode == 1, said(ended)
    assert ("dbt built nothing: the disk is full" if of == "dbt" else "failed: model ") in said(ended)
    assert account.differences(undisturbed) == {}
    account.sync()
    assert account.differences(undisturbed, with_marts=True) == {}


def test_a_disk_that_is_full_for_the_read_snapshot_keeps_the_old_copy_and_everything_else(
    loaded: Account, undisturbed: Account
) -> None:
    copy = loaded.data / "read" / "warehouse.duckdb"
    copy.unlink()
    ended = loaded.run(*SYNC, prefix=no_file_above(size_of(loaded, "warehouse.duckdb") // 2))
    assert ended.returncode == 1, said(ended)
    assert "read snapshot" in said(ended)
    assert "Make room" in said(ended)
    assert list(copy.parent.iterdir()) == []
    assert loaded.run(*SYNC).returncode == 0
    assert copy.exists()
    assert loaded.differences(undisturbed, with_marts=True) == {}


@pytest.fixture
def read_only(loaded: Account) -> Iterator[Account]:
    """A loaded account whose folders and files are not to be changed."""
    modes = {path: path.stat().st_mode for path in (loaded.data, *loaded.data.rglob("*"))}
    for path in modes:
        path.chmod(0o555 if path.is_dir() else 0o444)
    yield loaded
    for path, mode in modes.items():
        path.chmod(mode)


@pytest.mark.parametrize("command", [SYNC, RESET, (*SYNC, "--to", "2026-06-06")], ids=["sync", "reset", "sync more"])
def test_a_data_dir_that_cannot_be_written_is_named_before_anything_is_done(
    read_only: Account, command: tuple[str, ...]
) -> None:
    before = contents(read_only)
    ended = read_only.run(*command, prefix=UNPRIVILEGED)
    assert ended.returncode == 2, said(ended)
    assert "FULLSTORY_DATA_DIR has to be writable" in said(ended)
    assert "nothing was done" in said(ended)
    assert contents(read_only) == before


def test_a_data_dir_that_cannot_be_made_is_named(account: Account) -> None:
    account.folder.chmod(0o555)
    try:
        ended = account.run(*SYNC, prefix=UNPRIVILEGED)
    finally:
        account.folder.chmod(0o755)
    assert ended.returncode == 2, said(ended)
    assert "FULLSTORY_DATA_DIR has to be writable" in said(ended)


def test_status_reads_a_data_dir_that_cannot_be_written(read_only: Account, undisturbed: Account) -> None:
    ended = read_only.run("status", "--json", prefix=UNPRIVILEGED)
    assert ended.returncode == 0, said(ended)
    assert json.loads(ended.stdout)["counts"] == json.loads(undisturbed.run("status", "--json").stdout)["counts"]


def test_a_store_that_cannot_be_written_is_named_by_its_own_setting(account: Account, tmp_path: Path) -> None:
    store = tmp_path / "store"
    store.mkdir(mode=0o555)
    ended = account.run(*SYNC, prefix=UNPRIVILEGED, FULLSTORY_STORE_URL=str(store))
    assert ended.returncode == 2, said(ended)
    assert f"FULLSTORY_STORE_URL has to be writable, but {store} is not" in said(ended)


# --- a real disk


def can_mount() -> bool:
    return subprocess.run(["unshare", "-rm", "true"], check=False, capture_output=True).returncode == 0


ON_A_SMALL_DISK = """
set -e
mount -t tmpfs -o size="$1" tmpfs "$2"
shift 2
"$@" || code=$?
{ head -c 1M /dev/zero > data/room && rm data/room; } || code=90
cp -r data/. ../copied
exit ${code:-0}
"""


@pytest.mark.skipif(not can_mount(), reason="no file system can be mounted here, not even in a name space of its own")
@pytest.mark.parametrize("doing", ["Parsing", "Loading"])
def test_a_load_looks_for_room_first(account: Account, undisturbed: Account, doing: str) -> None:
    bundle = size_of(undisturbed, "bundles/window_start=20260601T0000Z/*.gz")
    # Either hardly any, or enough for what is needed to parse, which is less than it takes to load.
    size = 8 << 20 if doing == "Parsing" else MARGIN_BYTES + 3 * bundle + 100_000
    account.data.mkdir()
    copied = account.folder.parent / "copied"
    copied.mkdir()
    shell = ["unshare", "-rm", "sh", "-c", ON_A_SMALL_DISK, "sh", str(size), str(account.data)]
    ended = account.run(*SYNC, "--no-dbt", "--to", "2026-06-02", prefix=shell)
    assert ended.returncode == 1, said(ended)
    assert f"{doing} the window {FIRST_WINDOW} needs about 67 MB on the disk of {account.data}" in said(ended)
    # There is room now.
    account.data.rmdir()
    copied.rename(account.data)
    account.sync("--no-dbt")
    assert account.differences(undisturbed) == {}
