"""One limit for all threads and processes of an account."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

import pytest

from fullstory_dagster.api import FileLedger, FullStoryClient, Limit, RateLimiter, RetryPolicy
from fullstory_dagster.errors import RateLimitedError, SettingsError
from fullstory_dagster.simulator.config import SimulatorConfig
from fullstory_dagster.simulator.process import SimulatorProcess

from .conftest import CANARY_KEY
from .fake_clock import FakeClock

URL = "https://api.fullstory.com"


class Account:
    """Limiters that share a directory and a clock, as processes share a machine."""

    def __init__(self, directory: Path, clock: FakeClock) -> None:
        self.directory = directory
        self.clock = clock

    def limiter(self, key: str = CANARY_KEY, max_wait_s: float = 3600) -> RateLimiter:
        return RateLimiter(
            FileLedger(self.directory, self.clock), base_url=URL, api_key=key, clock=self.clock, max_wait_s=max_wait_s
        )


@pytest.fixture
def account(tmp_path: Path) -> Account:
    return Account(tmp_path / "rate_limit", FakeClock())


def test_two_downloads_a_minute_and_a_second_for_the_way(account: Account) -> None:
    limiter = account.limiter()
    taken = []
    for _ in range(5):
        limiter.acquire("get")
        taken.append(account.clock.monotonic())
    assert taken == [0, 0, 61, 61, 122]


def test_another_process_stands_behind_in_the_queue(account: Account) -> None:
    account.limiter().acquire("get")
    account.limiter().acquire("get")
    account.limiter().acquire("get")
    assert account.clock.slept == [61]


def test_other_calls_and_other_accounts_do_not_wait(account: Account) -> None:
    for _ in range(5):
        account.limiter().acquire("list")
    for n in range(5):
        account.limiter(key=f"key-{n}").acquire("get")
    assert account.clock.slept == []


def test_a_penalty_holds_everybody_back(account: Account) -> None:
    account.limiter().penalize("operation", 40)
    account.limiter().acquire("export_start")
    account.limiter().acquire("operation")
    assert account.clock.slept == [40]


def test_the_longer_of_two_penalties_counts(account: Account) -> None:
    account.limiter().penalize("operation", 40)
    account.limiter().penalize("operation", 10)
    account.limiter().acquire("operation")
    assert account.clock.slept == [40]


def test_a_penalty_that_comes_in_while_waiting_is_kept_too(account: Account) -> None:
    class Interrupted(FakeClock):
        def sleep(self, seconds: float) -> None:
            if not self.slept:
                account.limiter().penalize("get", 100)
            super().sleep(seconds)

    account.clock = Interrupted()
    for _ in range(3):
        account.limiter().acquire("get")
    assert account.clock.monotonic() >= 100


def test_a_queue_that_is_too_long_is_not_joined(account: Account) -> None:
    limiter = account.limiter(max_wait_s=60)
    limiter.acquire("get")
    limiter.acquire("get")
    with pytest.raises(RateLimitedError, match="run fewer at once") as caught:
        limiter.acquire("get")
    assert caught.value.retry_after_s == 61
    account.clock.advance(61)
    limiter.acquire("get")
    assert account.clock.slept == []


def test_a_clock_that_was_set_back_blocks_nobody(account: Account) -> None:
    account.clock.advance(7 * 86_400)
    for _ in range(2):
        account.limiter().acquire("get")
    account.limiter().penalize("get", 100)
    account.clock.advance(-7 * 86_400)
    account.limiter().acquire("get")
    assert account.clock.slept == []


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[1]", b'{"get": 3}', b'{"get": {"slots": ["x"], "closed_until": 0}}', b"\xff"]
)
def test_a_damaged_file_is_begun_afresh(account: Account, content: bytes) -> None:
    account.limiter().acquire("get")
    (path,) = account.directory.glob("*.json")
    path.write_bytes(content)
    account.limiter().acquire("get")
    assert account.clock.slept == []


def test_the_key_is_neither_in_the_files_nor_in_their_names(account: Account) -> None:
    account.limiter().penalize("get", 1)
    for path in account.directory.iterdir():
        assert CANARY_KEY not in path.name
        assert CANARY_KEY.encode() not in path.read_bytes()
    assert CANARY_KEY not in repr(vars(account.limiter()))


def test_a_directory_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match="FULLSTORY_DATA_DIR has to be writable"):
        RateLimiter(FileLedger(tmp_path / "file" / "below"), base_url=URL, api_key="k").acquire("get")


def test_threads_share_the_limit(tmp_path: Path) -> None:
    limiter = RateLimiter(FileLedger(tmp_path), base_url=URL, api_key="k", limits={"get": Limit(2, 0.2, margin_s=0)})
    began = datetime.now(timezone.utc)
    threads = [threading.Thread(target=limiter.acquire, args=("get",)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (datetime.now(timezone.utc) - began).total_seconds() >= 0.4


WORKER = """
import sys, time
from pathlib import Path
from fullstory_dagster.api import FileLedger, Limit, RateLimiter

n_times, n_requests, per_s = int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
limits = {"get": Limit(n_requests, per_s, margin_s=0)}
limiter = RateLimiter(FileLedger(Path(sys.argv[1])), base_url="https://api.fullstory.com", api_key="k", limits=limits)
print(time.time(), flush=True)
for _ in range(n_times):
    limiter.acquire("get")
    print(time.time(), flush=True)
"""

Worker = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start_worker(tmp_path: Path) -> Worker:
    def start(n_times: int, n_requests: int, per_s: float) -> subprocess.Popen[str]:
        arguments = [str(tmp_path / "shared"), str(n_times), str(n_requests), str(per_s)]
        return subprocess.Popen([sys.executable, "-c", WORKER, *arguments], stdout=subprocess.PIPE, text=True)

    return start


def test_processes_share_the_limit(start_worker: Worker) -> None:
    workers = [start_worker(4, 2, 0.4) for _ in range(2)]
    times = [[float(line) for line in worker.communicate(timeout=30)[0].split()] for worker in workers]
    assert [len(of_one) for of_one in times] == [5, 5]
    # Eight requests, two at a time: the last pair is three pauses behind the first. Alone, a process would need one.
    assert max(of_one[-1] for of_one in times) - min(of_one[0] for of_one in times) >= 1.2


def test_a_process_that_dies_while_it_waits_holds_nobody_up(start_worker: Worker, tmp_path: Path) -> None:
    with start_worker(2, 1, 0.5) as waiting:
        assert waiting.stdout is not None
        waiting.stdout.readline()
        waiting.stdout.readline()  # it has its first slot and now waits for the second
        os.kill(waiting.pid, signal.SIGKILL)
    heir = start_worker(1, 1, 0.5)
    began, got = (float(line) for line in heir.communicate(timeout=30)[0].split())
    assert got - began < 5


def test_downloads_that_keep_to_the_limit_meet_no_429(tmp_path: Path) -> None:
    config = SimulatorConfig(days=4, scale=0.01, rate_limit=2, rate_limit_s=0.5, api_key=CANARY_KEY)
    with SimulatorProcess(config) as simulator:
        limiter = RateLimiter(
            FileLedger(tmp_path),
            base_url=simulator.url,
            api_key=CANARY_KEY,
            limits={"get": Limit(2, 0.5, margin_s=0.1)},
        )
        with FullStoryClient(api_key=CANARY_KEY, base_url=simulator.url, limiter=limiter) as client:
            bundle = client.oldest_bundle()
            assert bundle is not None
            for _ in range(5):
                client.download_bundle(bundle, into=io.BytesIO())
        assert [r["status"] for r in simulator.requests() if r["path"].endswith("/get")] == [200] * 5


def test_a_limit_nobody_knew_of_is_learnt_from_the_429(tmp_path: Path) -> None:
    config = SimulatorConfig(days=4, scale=0.01, rate_limit=1, rate_limit_s=0.5, api_key=CANARY_KEY)
    with SimulatorProcess(config) as simulator:
        limiter = RateLimiter(FileLedger(tmp_path), base_url=simulator.url, api_key=CANARY_KEY, limits={})
        with FullStoryClient(
            api_key=CANARY_KEY, base_url=simulator.url, limiter=limiter, retry=RetryPolicy(backoff_base_s=0.01)
        ) as client:
            bundle = client.oldest_bundle()
            assert bundle is not None
            assert client.download_bundle(bundle, into=io.BytesIO()).n_attempts == 1
            assert client.download_bundle(bundle, into=io.BytesIO()).n_attempts == 2
        statuses = [r["status"] for r in simulator.requests() if r["path"].endswith("/get")]
        assert statuses == [200, 429, 200]
