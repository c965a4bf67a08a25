"""Target 6 and 7: what a run through Dagster costs, and how soon the command line answers."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.inputs import START, day
from benchmarks.process import Cost, command, least
from benchmarks.table import Row
from fullstory_dagster.simulator.config import DEFAULT_KEY, SimulatorConfig
from fullstory_dagster.simulator.process import SimulatorProcess

_CLI = (sys.executable, "-m", "fullstory_dagster.cli")
_MODELS = ("stg_fullstory__events", "sessions", "page_durations", "session_timeline")


def measure(folder: Path, rounds: int) -> Iterator[Row]:
    """Start-up, then one window of the demo's site through Dagster."""
    nothing = _python("pass", max(rounds, 3) * 3)
    dagster = _python("import dagster, dagster_dbt", rounds)
    definitions = _python("import fullstory_dagster.definitions", rounds)
    section = "Start-up"
    what = "CPU of import fullstory_dagster.definitions, to import dagster, dagster_dbt"
    yield Row(section, what, _s(definitions), _s(dagster), definitions.cpu_s / dagster.cpu_s, 1.5)
    answer = _least([*_CLI, "--help"], rounds)
    yield Row(
        section, "time of fullstory-dagster --help, to half a second", _wall(answer), "0.50 s", answer.wall_s / 0.5, 1.0
    )
    run = _window_through_dagster(folder, rounds)
    what = "CPU of one window from fetch to models, to python -c pass"
    yield Row("A run of Dagster", what, _s(run), _s(nothing, 3), run.cpu_s / nothing.cpu_s, 450)
    what = "CPU of one window from fetch to models, to import dagster, dagster_dbt"
    yield Row("A run of Dagster", what, _s(run), _s(dagster), run.cpu_s / dagster.cpu_s)


def _window_through_dagster(folder: Path, rounds: int) -> Cost:
    """The least cost of several windows, the first of which is left out: it makes the home and parses the models."""
    now = day(rounds + 3).start
    with SimulatorProcess(SimulatorConfig(days=rounds + 2, now=now, export_s=0)) as simulator:
        home = folder / "home"
        environment = {
            "FULLSTORY_API_KEY": DEFAULT_KEY,
            "FULLSTORY_API_URL": simulator.url,
            "FULLSTORY_START_DATE": f"{START:%Y-%m-%d}",
            "FULLSTORY_DATA_DIR": str(folder / "data"),
            "DAGSTER_HOME": str(home),
        }
        prepare = (
            "import sys, shutil; from fullstory_dagster.settings import read_settings; "
            "from fullstory_dagster.defs.home import prepare_home; "
            "shutil.copytree(prepare_home(read_settings()), sys.argv[1], dirs_exist_ok=True)"
        )
        command([sys.executable, "-c", prepare, str(home)], environment)
        names = ("raw_bundles", "parsed_events", "events", *_MODELS)
        selection = " or ".join(f'key:"fullstory/{name}"' for name in names)
        runs = []
        for number in range(rounds + 1):
            arguments = [sys.executable, "-m", "dagster", "asset", "materialize", "--select", selection]
            arguments += ["--partition", f"{day(number).start:%Y-%m-%d}", "-m", "fullstory_dagster.definitions"]
            runs.append(command(arguments, environment, cwd=folder))
    return least(runs[1:])


def _python(code: str, rounds: int) -> Cost:
    return _least([sys.executable, "-c", code], rounds)


def _least(arguments: Sequence[str], rounds: int) -> Cost:
    return least([command(arguments) for _ in range(rounds)])


def _s(cost: Cost, digits: int = 2) -> str:
    return f"{cost.cpu_s:.{digits}f} CPU-s"


def _wall(cost: Cost) -> str:
    return f"{cost.wall_s:.2f} s"
