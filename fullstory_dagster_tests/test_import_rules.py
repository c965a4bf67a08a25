"""Who imports whom: nothing below the orchestrator loads it, and the lint rules would say so."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]
PACKAGE = PROJECT / "fullstory_dagster"


def loaded_by(statement: str) -> set[str]:
    """Top-level packages that a fresh interpreter holds after a statement."""
    script = f"import sys\n{statement}\nprint('|'.join({{name.split('.')[0] for name in sys.modules}}))"
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(ended.stdout.splitlines()[-1].split("|"))


@pytest.mark.parametrize(
    ("module", "others"),
    [
        ("settings", {"polars", "duckdb", "requests", "starlette", "rich"}),
        ("api", {"polars", "duckdb", "starlette"}),
        ("parse.bundle", {"duckdb", "requests", "starlette"}),
        ("store.warehouse", {"requests", "starlette"}),
        ("ingest.sync", {"obstore", "starlette"}),
        ("ingest.status", {"obstore", "starlette"}),
        ("simulator.server", {"duckdb", "requests", "polars"}),
        ("demo", {"starlette"}),
        ("report.page", {"requests", "starlette"}),
        ("console", {"starlette"}),
        ("cli", {"polars", "duckdb", "requests", "starlette"}),
    ],
)
def test_what_knows_nothing_of_the_orchestrator_does_not_load_it(module: str, others: set[str]) -> None:
    loaded = loaded_by(f"import fullstory_dagster.{module}")
    assert loaded & {"dagster", "dagster_dbt", "dagster_duckdb", "dbt"} == set()
    assert loaded & others == set()


def test_help_is_quick_because_it_loads_nothing_heavy() -> None:
    loaded = loaded_by(
        "import sys\nsys.argv = ['fullstory-dagster', 'sync', '--help']\n"
        "from fullstory_dagster.cli import main\n"
        "try:\n    main()\nexcept SystemExit as ended:\n    assert not ended.code"
    )
    assert loaded & {"dagster", "dbt", "polars", "duckdb", "requests", "starlette"} == set()


def test_the_code_location_loads_no_storage_of_dagster_s_and_nothing_that_few_runs_need() -> None:
    loaded = loaded_by("import fullstory_dagster.definitions")
    assert loaded & {"sqlalchemy", "alembic", "psycopg", "obstore", "altair", "starlette"} == set()


def ours(*names: str) -> list[str]:
    return [f"fullstory_dagster.{name}" for name in names]


WRONG = {
    ".": ["dagster", "dagster_dbt", "dbt", "duckdb", "obstore", "requests", "starlette"],
    "api": [
        "dagster",
        "duckdb",
        "obstore",
        "polars",
        "starlette",
        *ours("parse", "store", "ingest", "defs", "simulator"),
    ],
    "parse": ["dagster", "duckdb", "obstore", "requests", *ours("api", "store", "ingest", "defs", "simulator")],
    "store": ["dagster", "requests", "starlette", *ours("api", "parse", "ingest", "defs", "simulator")],
    "ingest": ["dagster", "duckdb", "obstore", "requests", "starlette", *ours("defs", "simulator")],
    "simulator": [
        *("dagster", "duckdb", "obstore", "requests"),
        *ours("api", "parse", "store", "ingest", "defs", "settings", "errors"),
    ],
    "report": [
        *("dagster", "duckdb", "obstore", "requests", "starlette"),
        *ours("api", "parse", "ingest", "defs", "simulator"),
    ],
    "defs": ["duckdb", "obstore", "requests", "starlette"],
}
RIGHT = {
    ".": ["fullstory_dagster.settings"],
    "api": ["requests", "fullstory_dagster.errors"],
    "parse": ["polars", "fullstory_dagster.fields"],
    "store": ["duckdb", "obstore", "polars"],
    "ingest": ["fullstory_dagster.api", "fullstory_dagster.parse", "fullstory_dagster.store"],
    "report": ["altair", "polars", "fullstory_dagster.store"],
    "simulator": ["starlette", "fullstory_dagster.fields", "fullstory_dagster.windows"],
    "defs": ["dagster", "dagster_dbt", "dagster_duckdb", "dbt", "fullstory_dagster.ingest"],
}


@pytest.fixture(scope="module")
def findings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """What ruff bans, by the folder of a file that imports everything named above, with the project's own rules."""
    copy = tmp_path_factory.mktemp("rules")
    shutil.copy(PROJECT / "pyproject.toml", copy)
    for rules in PACKAGE.rglob("ruff.toml"):
        target = copy / rules.relative_to(PROJECT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(rules, target)
    lines: dict[Path, list[str]] = {}
    for folder in WRONG:
        file = copy / "fullstory_dagster" / folder / "snippet.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        lines[file.resolve()] = [*WRONG[folder], *RIGHT[folder]]
        file.write_text("".join(f"import {name}\n" for name in lines[file.resolve()]))
    ruff = [sys.executable, "-m", "ruff", "check", "--select", "TID251", "--output-format", "json", "--no-cache", copy]
    found = json.loads(subprocess.run(ruff, capture_output=True, text=True, check=False).stdout)
    banned: dict[str, list[str]] = {folder: [] for folder in WRONG}
    for finding in found:
        file = Path(finding["filename"])
        folder = str(file.parent.relative_to((copy / "fullstory_dagster").resolve()))
        banned[folder].append(lines[file][finding["location"]["row"] - 1])
    return banned


@pytest.mark.parametrize("folder", WRONG)
def test_the_linter_refuses_an_import_against_the_arrows(folder: str, findings: dict[str, list[str]]) -> None:
    assert sorted(findings[folder]) == sorted(WRONG[folder])


def test_the_project_itself_keeps_the_rules() -> None:
    ruff = [sys.executable, "-m", "ruff", "check", "--select", "TID251", "--no-cache", PACKAGE]
    ended = subprocess.run(ruff, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout
