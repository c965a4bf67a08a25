"""`python -m benchmarks.peers`: install the peers, load the same bundles with each, print, renew the page."""

from __future__ import annotations

import gzip
import json
import os
import sys
import tempfile
import venv
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated, Any

import duckdb
import msgspec
import requests
import typer

from benchmarks.inputs import START, day, traffic
from benchmarks.process import Cost, command, work
from benchmarks.table import HEAD, Row, record
from fullstory_dagster.simulator.config import DEFAULT_KEY, SimulatorConfig
from fullstory_dagster.simulator.process import SimulatorProcess

_HERE = Path(__file__).parent
_N_BUNDLES = 12
_SECTION = "CPU from download to committed rows, to other tools"

Load = Callable[[str, Path], Cost]


def ours(url: str, folder: Path) -> Cost:
    """`fullstory-dagster sync`, without models."""
    environment = {
        "FULLSTORY_API_KEY": DEFAULT_KEY,
        "FULLSTORY_API_URL": url,
        "FULLSTORY_EXPORT_API": "bundle",
        "FULLSTORY_START_DATE": f"{START:%Y-%m-%d}",
        "FULLSTORY_DATA_DIR": str(folder),
        "FULLSTORY_DOWNLOADS_PER_MINUTE": "0",
    }
    until = f"{day(_N_BUNDLES).start:%Y-%m-%d}"
    return command([sys.executable, "-m", "fullstory_dagster.cli", "sync", "--to", until, "--no-dbt"], environment)


def singer(url: str, folder: Path, *, environments: Path) -> Cost:
    """tap-fullstory, piped into target-duckdb."""
    tap, target = (_environment(environments, name) for name in ("tap-fullstory", "target-duckdb"))
    tap_config, target_config = folder / "tap.json", folder / "target.json"
    tap_config.write_text(json.dumps({"api_key": DEFAULT_KEY, "start_date": f"{START:%Y-%m-%dT%H:%M:%SZ}"}))
    target_config.write_text(
        json.dumps(
            {
                "filepath": str(folder / "warehouse.duckdb"),
                "default_target_schema": "fullstory",
                # The tap names no key.
                "primary_key_required": False,
            }
        )
    )
    pipe = f'"{tap}" "{_HERE / "tap.py"}" "{url}" --config "{tap_config}" | '
    pipe += f'"{target.with_name("target-duckdb")}" --config "{target_config}"'
    return command(["sh", "-c", pipe], cwd=folder)


def dlt(url: str, folder: Path, *, environments: Path) -> Cost:
    """dlt to DuckDB, by way of Parquet."""
    python = _environment(environments, "dlt[duckdb,parquet]")
    return command([str(python), str(_HERE / "dlt_pipeline.py"), url, DEFAULT_KEY, str(folder)], cwd=folder)


def main(
    events: Annotated[int, typer.Option(help="Events in all bundles together.")] = 200_000,
    environments: Annotated[Path, typer.Option(help="Where the peers are installed.")] = Path("data/peers"),
) -> None:
    """Load with each, one after the other."""
    environments = environments.absolute()
    with tempfile.TemporaryDirectory(prefix="peers-") as name:
        folder = Path(name)
        n_events, data = _write(folder, events)
        config = SimulatorConfig(data=data, days=_N_BUNDLES + 1, now=day(_N_BUNDLES + 2).start)
        costs: dict[str, Cost] = {}
        rows_loaded: dict[str, int] = {}
        contestants: dict[str, Load] = {
            "fullstory-dagster": ours,
            "tap-fullstory | target-duckdb": lambda url, place: singer(url, place, environments=environments),
            "dlt, by way of Parquet": lambda url, place: dlt(url, place, environments=environments),
        }
        with SimulatorProcess(config, start_timeout_s=300) as simulator:
            bundles = _downloaded(simulator.url, folder)
            for who, load in contestants.items():
                place = folder / who.split()[0].strip(",")
                place.mkdir()
                costs[who] = load(simulator.url, place)
                rows_loaded[who] = _count(place / "warehouse.duckdb")
        for who, contestant in (("read_json_auto", "one_liner"), ("a bare loop of gunzip and orjson", "loop")):
            costs[who] = work("benchmarks.contestants", contestant, bundles, folder / contestant)
            rows_loaded[who] = costs[who].told["rows"]
    goals = {"tap-fullstory | target-duckdb": 1 / 25, "dlt, by way of Parquet": 1 / 10, "read_json_auto": 1.0}
    goals["a bare loop of gunzip and orjson"] = 2.0
    mine = costs.pop("fullstory-dagster")
    rows = []
    print("\t".join(("rows", *HEAD)))
    for who, cost in costs.items():
        figures = (f"{each.cpu_s / n_events * 1e6:.1f} µs an event" for each in (mine, cost))
        row = Row(_SECTION, f"to {who}", *figures, mine.cpu_s / cost.cpu_s, goals[who])
        rows.append(row)
        print("\t".join((str(rows_loaded[who]), *row.cells())), flush=True)
    how = (
        f"Measured on {datetime.now(timezone.utc):%F}, {n_events:,} events in {_N_BUNDLES} bundles, start-up included."
    )
    lost = {who: n for who, n in rows_loaded.items() if n != n_events}
    if lost:
        how += " Rows that arrived, where it was not each event once: "
        how += ", ".join(f"{who} {n:,}" for who, n in lost.items()) + "."
    record("peers", rows, how)


def _write(folder: Path, n_events: int) -> tuple[int, Path]:
    """A file of the site's events for the simulator, and how many it has: the traffic's days are not all the same."""
    data = folder / "events.ndjson"
    encode = msgspec.json.Encoder().encode
    n = 0
    with data.open("wb") as file:
        for number in range(_N_BUNDLES):
            window = day(number)
            shop = traffic(n_events // _N_BUNDLES, _N_BUNDLES)
            for row in shop.events(window.start, window.end):
                file.write(encode(row) + b"\n")
                n += 1
    return n, data


def _downloaded(url: str, folder: Path) -> Path:
    """All bundles, one after the other in one gzip file with a row a line, for who only reads files."""
    headers = {"Authorization": f"Basic {DEFAULT_KEY}"}
    listed: list[dict[str, Any]] = requests.get(
        f"{url}/api/v1/export/list", params={"start": int(START.timestamp())}, headers=headers, timeout=60
    ).json()["exports"]
    target = folder / "all.ndjson.gz"
    with gzip.open(target, "wb", compresslevel=6) as file:
        for export in listed[:_N_BUNDLES]:
            answer = requests.get(f"{url}/api/v1/export/get", params={"id": export["Id"]}, headers=headers, timeout=600)
            content = answer.content
            for row in msgspec.json.decode(
                gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content, type=list[msgspec.Raw]
            ):
                file.write(bytes(row) + b"\n")
    return target


def _count(warehouse: Path) -> int:
    with duckdb.connect(str(warehouse), read_only=True) as connection:
        counted = connection.execute("SELECT count(*) FROM fullstory.events").fetchall()
        return int(counted[0][0])


def _environment(folder: Path, requirement: str) -> Path:
    """Python of an environment that has the requirement and nothing of ours."""
    place = folder / requirement.partition("[")[0]
    python = place / "bin" / "python"
    if not python.exists():
        venv.create(place, with_pip=True)
        # DuckDB of the version that we use, in all of them.
        requirements = [requirement, f"duckdb=={duckdb.__version__}"]
        command([str(python), "-m", "pip", "install", "--quiet", *requirements], dict(os.environ))
    return python


if __name__ == "__main__":
    typer.run(main)
