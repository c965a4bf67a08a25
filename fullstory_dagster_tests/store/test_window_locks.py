"""One run a window."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from fullstory_dagster.errors import TransientError, WindowBusyError
from fullstory_dagster.store.window_locks import WindowLocks
from fullstory_dagster.windows import Window
from fullstory_dagster_tests.sample_events import DAY

NEXT_DAY = Window(DAY.end, DAY.end + (DAY.end - DAY.start))


def test_two_runs_shut_each_other_out_of_a_window_and_of_no_other(tmp_path: Path) -> None:
    one, other = (WindowLocks(tmp_path, 0.05) for _ in range(2))
    with one.held(DAY):
        with pytest.raises(
            WindowBusyError, match=rf"process {os.getpid()}\) .* 2026-06-01 00:00 .* nothing was changed"
        ):
            other.acquire(DAY)
        with other.held(NEXT_DAY):
            pass
    with other.held(DAY):
        pass
    assert issubclass(WindowBusyError, TransientError)


def test_whoever_holds_a_window_may_take_it_again_in_another_thread(tmp_path: Path) -> None:
    locks = WindowLocks(tmp_path, 0.05)
    thread = threading.Thread(target=locks.acquire, args=(DAY,))
    thread.start()
    thread.join()
    with locks.held(DAY):
        pass
    with pytest.raises(WindowBusyError):
        WindowLocks(tmp_path, 0).acquire(DAY)
    locks.release(DAY)
    WindowLocks(tmp_path, 0).acquire(DAY)


def test_giving_back_what_is_not_held_is_nothing(tmp_path: Path) -> None:
    locks = WindowLocks(tmp_path, 0)
    locks.release(DAY)
    with locks.held(DAY):
        pass
    locks.release(DAY)
    with locks.held(DAY):
        pass


@pytest.mark.slow
def test_a_process_that_was_killed_holds_no_window(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path\n"
        "from fullstory_dagster.store.window_locks import WindowLocks\n"
        "from fullstory_dagster_tests.sample_events import DAY\n"
        "locks = WindowLocks(Path(sys.argv[1]), 0); locks.acquire(DAY); print('held', flush=True); time.sleep(60)"
    )
    root = {"PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=os.environ | root) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(WindowBusyError, match=f"process {process.pid}"):
            WindowLocks(tmp_path, 0).acquire(DAY)
        process.kill()
    WindowLocks(tmp_path, 0).acquire(DAY)
