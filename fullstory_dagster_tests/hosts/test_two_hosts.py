"""Runs on two hosts: every window exactly once, while a host dies and comes back and PostgreSQL restarts."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import duckdb
import psycopg
import pytest
import yaml

from fullstory_dagster.simulator.config import SimulatorConfig
from fullstory_dagster.simulator.process import SimulatorProcess
from fullstory_dagster.store.opening import open_database
from fullstory_dagster.warehouse_location import read_location
from fullstory_dagster_tests import postgres as postgres_server
from fullstory_dagster_tests.counts import IS_SOAK
from fullstory_dagster_tests.reliability.report import record
from fullstory_dagster_tests.running_dev import surroundings
from fullstory_dagster_tests.s3_server import S3Server

from .network import HUB, Host, are_possible, free_port, network
from .service import Service

pytestmark = [
    pytest.mark.slow,
    pytest.mark.soak,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(not IS_SOAK, reason="takes minutes, most of them a daemon's pauses; make soak runs it"),
    pytest.mark.skipif(
        postgres_server.is_missing() or shutil.which("redis-server") is None or not are_possible(),
        reason="needs PostgreSQL, Redis and the right to make network namespaces",
    ),
]

ROOT = Path(__file__).resolve().parents[2]
HOSTS = ROOT / "deploy" / "hosts"
BIN = Path(sys.executable).parent
N_WINDOWS = 60
GIVEN_UP_AFTER_S = 240
"""How long a run may take here before it is given up: what tells of a host that is gone."""
PATIENCE_S = 1200
TODAY = datetime.now(timezone.utc).replace(hour=0, minute=0, second=0, microsecond=0)
START = TODAY - timedelta(days=N_WINDOWS + 1)


class Deployment:
    """What ``deploy/hosts`` makes: a daemon, PostgreSQL and Redis on this machine, a Celery worker on each host."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder = folder
        self.hosts = stack.enter_context(network(2))
        self.simulator = stack.enter_context(SimulatorProcess(SimulatorConfig(days=N_WINDOWS + 1, scale=0.1)))
        self.postgres = postgres_server.PostgresServer(HUB)
        stack.callback(self.postgres.close)
        self.postgres.execute("postgres", "CREATE DATABASE dagster TEMPLATE template0")
        self.postgres.execute("postgres", "CREATE DATABASE lake TEMPLATE template0")
        self.s3 = stack.enter_context(S3Server())
        self.bucket = self.s3.new_bucket()
        self.redis_port = free_port(HUB)
        redis = ["redis-server", "--bind", HUB, "--port", str(self.redis_port), "--save", "", "--protected-mode", "no"]
        stack.enter_context(Service(redis, folder, surroundings({}), "redis"))
        for url in (self.simulator.url, self.s3.endpoint):
            self._let_hosts_reach(url, stack)
        self.daemon = stack.enter_context(self._daemon())
        self.workers = [stack.enter_context(self._worker(host)) for host in self.hosts]

    @property
    def settings(self) -> dict[str, str]:
        """Those that all hosts share."""
        return {
            "FULLSTORY_API_KEY": self.simulator.api_key,
            "FULLSTORY_API_URL": self.simulator.url,
            "FULLSTORY_START_DATE": f"{START:%Y-%m-%d}",
            "FULLSTORY_STORE_URL": self.bucket.url,
            "FULLSTORY_WAREHOUSE": f"ducklake:postgres:{self.postgres.conninfo('lake')}",
            **self.s3.environment,
            "DAGSTER_POSTGRES_HOST": HUB,
            "DAGSTER_POSTGRES_PORT": str(self.postgres.port),
            "DAGSTER_POSTGRES_USER": "lake",
            "DAGSTER_POSTGRES_PASSWORD": "unused",
            "DAGSTER_POSTGRES_DB": "dagster",
            "DAGSTER_CELERY_BROKER": f"redis://{HUB}:{self.redis_port}/0",
            "DAGSTER_CELERY_BACKEND": f"redis://{HUB}:{self.redis_port}/1",
        }

    def environment(self, place: str) -> dict[str, str]:
        """The settings of one host: a data dir and a Dagster home of its own."""
        home = self.folder / place / "dagster"
        if not home.exists():
            home.mkdir(parents=True)
            instance = yaml.safe_load((HOSTS / "dagster.yaml").read_text())
            instance["run_monitoring"]["max_runtime_seconds"] = GIVEN_UP_AFTER_S
            (home / "dagster.yaml").write_text(yaml.safe_dump(instance))
        own = {"DAGSTER_HOME": str(home), "FULLSTORY_DATA_DIR": str(self.folder / place / "data")}
        return surroundings(self.settings | own)

    def status(self) -> dict[str, Any]:
        """What ``status`` says on a host."""
        command = [sys.executable, "-m", "fullstory_dagster.cli", "status", "--json"]
        said = subprocess.run(
            command, cwd=self.folder, env=self.environment("hub"), capture_output=True, text=True, check=False
        )
        assert said.returncode == 0, said.stderr
        return dict(json.loads(said.stdout))

    def n_loaded(self) -> int:
        """How many windows are loaded."""
        return int(self.status()["counts"].get("loaded", 0))

    def runs(self, sql: str) -> list[tuple[Any, ...]]:
        """Ask Dagster's storage, whose tables the daemon makes."""
        with suppress(psycopg.errors.UndefinedTable):
            return self.postgres.execute("dagster", sql)
        return []

    def until(self, what: str, is_so: Callable[[], bool]) -> None:
        """Wait for something, and say all that was said if it does not come."""
        deadline = time.monotonic() + PATIENCE_S
        while not is_so():
            if time.monotonic() > deadline:
                logs = "\n".join(f"--- {path.name}\n{path.read_text()[-4000:]}" for path in self.folder.glob("*.log"))
                pytest.fail(f"{what} did not come within {PATIENCE_S} s:\n{logs}")
            time.sleep(5)

    def _let_hosts_reach(self, url: str, stack: ExitStack) -> None:
        """A server of this machine's loopback, under the same address: a key is sent without TLS to loopback alone."""
        port = url.rpartition(":")[2]

        def forward(listen: str, target: str) -> list[str]:
            return [sys.executable, "-m", "fullstory_dagster_tests.hosts.forwarding", listen, target]

        environment = surroundings({"PYTHONPATH": str(ROOT)})
        here = forward(f"{HUB}:{port}", f"127.0.0.1:{port}")
        stack.enter_context(Service(here, self.folder, environment, f"forward {port}"))
        for host in self.hosts:
            there = host.command(*forward(f"127.0.0.1:{port}", f"{HUB}:{port}"))
            stack.enter_context(Service(there, self.folder, environment, f"forward {port} on {host.address}"))

    def _daemon(self) -> Service:
        command = [str(BIN / "dagster-daemon"), "run", "--workspace", str(ROOT / "workspace.yaml")]
        return Service(command, self.folder, self.environment("hub"), "daemon")

    def _worker(self, host: Host) -> Service:
        command = [str(BIN / "dagster-celery"), "worker", "start", "--app", "dagster_celery.app"]
        command += ["--config-yaml", str(HOSTS / "celery.yaml"), "--name", host.address]
        command += ["--", "--concurrency", "2", "--max-tasks-per-child", "1"]
        environment = self.environment(host.address) | {"PATH": f"{BIN}:/usr/sbin:/usr/bin:/bin"}
        return Service(host.command(*command), self.folder, environment, f"worker {host.address}")


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[Deployment]:
    with ExitStack() as stack:
        yield Deployment(tmp_path, stack)


def test_sixty_windows_are_loaded_exactly_once_whatever_dies_meanwhile(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    began = time.monotonic()
    seen: dict[str, Any] = {}

    def tell(what: str) -> None:
        seen[what] = f"after {time.monotonic() - began:.0f} s"

    deployment.until("A run", lambda: bool(deployment.runs("SELECT 1 FROM runs WHERE status = 'STARTED'")))
    tell("first run started")
    [(n_started,)] = deployment.runs("SELECT count(*) FROM runs WHERE status = 'STARTED'")
    deployment.workers[0].kill()
    tell(f"first host lost its worker, with {n_started} runs under way, and got a new one")
    deployment.until("Twenty windows", lambda: deployment.n_loaded() >= 20)
    tell(f"PostgreSQL restarted, with {deployment.n_loaded()} windows loaded")
    deployment.postgres.stop()
    time.sleep(3)
    deployment.postgres.start()
    deployment.until("All windows", lambda: deployment.n_loaded() == N_WINDOWS)
    tell(f"all {N_WINDOWS} windows loaded")
    deployment.until("The last build", lambda: deployment.status()["pending_loads"] == 0)
    tell("all models built")
    for worker, host in zip(deployment.workers, deployment.hosts, strict=True):
        n_runs = worker.log.read_text().count("] received")
        assert n_runs > 0
        seen[f"runs on the host {host.address}"] = n_runs
    assert deployment.workers[0].n_starts == 2

    alone = deployment.folder / "alone"
    alone.mkdir()
    settings = deployment.settings | {"FULLSTORY_STORE_URL": "data", "FULLSTORY_WAREHOUSE": "data/alone.duckdb"}
    command = [sys.executable, "-m", "fullstory_dagster.cli", "sync"]
    subprocess.run(command, cwd=alone, env=surroundings(settings), check=True, capture_output=True)
    with duckdb.connect(str(alone / "data" / "alone.duckdb"), read_only=True) as connection:
        expected = contents(connection)
    assert len(expected["events"]) > 10_000
    for name, value in deployment.s3.environment.items():
        monkeypatch.setenv(name, value)
    lake = open_database(
        read_location(deployment.settings["FULLSTORY_WAREHOUSE"]),
        lake_files=f"{deployment.bucket.url}/lake/",
        scratch=deployment.folder / "scratch",
    )
    found = contents(lake.connect(read_only=True))
    assert {name: len(rows) for name, rows in found.items()} == {name: len(rows) for name, rows in expected.items()}
    assert found == expected
    seen |= {f"{name}, the same as one process makes them": len(rows) for name, rows in found.items()}
    record("hosts", seen)


def contents(connection: duckdb.DuckDBPyConnection) -> dict[str, list[Any]]:
    """Events, but for when they were loaded, and what the models made of them."""
    columns = {"events": "* EXCLUDE (_loaded_at, _load_id, _export_id)", "sessions": "*", "session_timeline": "*"}
    return {
        name: connection.execute(f"SELECT {chosen} FROM fullstory.{name} ORDER BY ALL").fetchall()
        for name, chosen in columns.items()
    }
