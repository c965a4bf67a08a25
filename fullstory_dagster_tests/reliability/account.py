"""An account that real processes of the command line load, and what is in its warehouse afterwards."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import duckdb
import msgspec

from fullstory_dagster.simulator.config import SimulatorConfig
from fullstory_dagster.simulator.traffic.source import ShopTraffic
from fullstory_dagster.store.extensions import connect_with
from fullstory_dagster.store.lake import LAKE_EXTENSIONS
from fullstory_dagster.store.tables import quote_text
from fullstory_dagster_tests.dbt_project.warehouse import MARTS as TABLES

START = datetime(2026, 6, 1, tzinfo=timezone.utc)
N_DAYS = 3
KEY = "simulator-key"
CLI = (sys.executable, "-m", "fullstory_dagster.cli")
RANGE = ("--from", f"{START:%Y-%m-%d}", "--to", f"{START + timedelta(days=N_DAYS):%Y-%m-%d}")
MARTS = tuple(TABLES)


def write_traffic(path: Path, scale: float) -> int:
    """A file for the simulator: days of the shop, with rows that are none, odd ones and twins among them.

    Returns:
        int: rows in it.
    """
    now = START + timedelta(days=N_DAYS + 2)
    traffic = ShopTraffic(SimulatorConfig(days=N_DAYS + 1, now=now, scale=scale))
    encode = msgspec.json.Encoder().encode
    rows: list[bytes] = []
    for n, row in enumerate(traffic.events(START, START + timedelta(days=N_DAYS))):
        text = encode(row)
        rows.append(text)
        if n % 250 == 10:
            rows += [text, b'{"no":"event"}', text[:-1] + b',"evt_x":1.50,"PageName":17}']
    path.write_bytes(b"\n".join(rows))
    return len(rows)


class Account:
    """A folder with settings in it, loaded by processes.

    Attributes:
        folder: where the processes run; the data dir is ``data`` below it.
    """

    def __init__(self, folder: Path, url: str, **settings: str) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._environment = {
            "FULLSTORY_API_KEY": KEY,
            "FULLSTORY_API_URL": url,
            # Its ids and bytes are the same every time.
            "FULLSTORY_EXPORT_API": "bundle",
            "FULLSTORY_START_DATE": f"{START:%Y-%m-%d}",
            "FULLSTORY_DOWNLOADS_PER_MINUTE": "0",
            "FULLSTORY_DUCKDB_THREADS": "1",
        } | settings
        self._lake = settings.get("FULLSTORY_WAREHOUSE")

    @property
    def data(self) -> Path:
        """The data dir."""
        return self.folder / "data"

    def start(self, *arguments: str, prefix: Sequence[str] = (), **options: Any) -> subprocess.Popen[bytes]:
        """Start a command."""
        return self._popen([*prefix, *CLI, *arguments], **options)

    def start_script(self, script: str, *arguments: str, **options: Any) -> subprocess.Popen[bytes]:
        """Start a Python script with the account's settings in its environment."""
        return self._popen([sys.executable, "-c", script, *arguments], **options)

    def _popen(self, command: Sequence[str], **options: Any) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env=os.environ | self._environment,
            **{"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options,
        )

    def run(self, *arguments: str, prefix: Sequence[str] = (), **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            [*prefix, *CLI, *arguments],
            cwd=self.folder,
            env=os.environ | self._environment | environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=240,
        )

    def sync(self, *arguments: str) -> dict[str, Any]:
        """Load the range, which has to work."""
        ended = self.run("sync", *RANGE, "--json", *arguments)
        assert ended.returncode == 0, ended.stderr + ended.stdout
        summary: dict[str, Any] = json.loads(ended.stdout)
        return summary

    def states(self) -> list[str]:
        """States of the range's windows."""
        ended = self.run("status", "--json")
        assert ended.returncode == 0, ended.stderr
        return [window["state"] for window in json.loads(ended.stdout)["windows"]][:N_DAYS]

    def differences(self, other: Account, *, with_marts: bool = False) -> dict[str, int]:
        """Rows that only one of two warehouses has, by table; both must be there. Nothing is the same warehouse."""
        queries = {
            "events": "SELECT * EXCLUDE (_loaded_at, _load_id) FROM {}.fullstory.events",
            "rejects": "SELECT * EXCLUDE (load_id) FROM {}.fullstory._rejected",
            "loads": "SELECT window_start, api, export_id, bundle_sha256, COLUMNS('rows_.*'), values_misfit "
            "FROM {}.fullstory._loads QUALIFY row_number() OVER (PARTITION BY window_start ORDER BY load_id DESC) = 1",
        }
        if with_marts:
            queries |= {mart: f"SELECT * FROM {{}}.fullstory.{mart}" for mart in MARTS}
        differences = {}
        with connect_with(LAKE_EXTENSIONS if self._lake or other._lake else (), {}) as connection:
            for name, account in (("mine", self), ("theirs", other)):
                warehouse = account._lake or str(account.data / "warehouse.duckdb")
                connection.execute(f"ATTACH {quote_text(warehouse)} AS {name} (READ_ONLY)")
            for table, query in queries.items():
                mine, theirs = query.format("mine"), query.format("theirs")
                n_rows, n_different = connection.execute(
                    f"SELECT (SELECT count(*) FROM ({mine})), (SELECT count(*) FROM ({mine} EXCEPT ALL {theirs})) "
                    f"+ (SELECT count(*) FROM ({theirs} EXCEPT ALL {mine}))"
                ).fetchall()[0]
                assert n_rows, table
                if n_different:
                    differences[table] = n_different
        return differences

    def progress(self) -> str:
        """How far the range had come, told by what is on the disk."""
        warehouse = self.data / "warehouse.duckdb"
        if warehouse.exists():
            try:
                with duckdb.connect(str(warehouse), read_only=True) as connection:
                    found = connection.execute("SELECT count(DISTINCT window_start) FROM fullstory._loads").fetchone()
                    if found and found[0]:
                        return "all loaded" if found[0] == N_DAYS else "some windows loaded"
            except duckdb.Error:
                pass
        for what, pattern in (("parsed", "events/*/events.parquet"), ("fetched", "bundles/*/bundle.json")):
            if list(self.data.glob(pattern)):
                return what
        return "nothing kept yet"
