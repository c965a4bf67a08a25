"""``docs/analytics.md`` out of its questions: each SELECT is run on the demo, and its answer stands below it.

`make analytics` runs this module, so that no answer on that page was ever typed.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb
import yaml

_ROOT = Path(__file__).parents[1]
QUESTIONS = _ROOT / "docs" / "analytics" / "questions.yml"
PAGE = _ROOT / "docs" / "analytics.md"

_HEAD = """\
# Analytics: questions and answers

Made by `make analytics`, which runs each SELECT on the demo's seven days; no answer on this page is typed. The
questions stand in `docs/analytics/questions.yml`. Run them yourself after `make demo`, on
`data/demo/read/warehouse.duckdb`.
"""


def questions() -> list[dict[str, str]]:
    """Area, question, mart and SELECT of each, in the order of the page."""
    loaded: list[dict[str, str]] = yaml.safe_load(QUESTIONS.read_text())
    return loaded


def page_of(snapshot: Path) -> str:
    """The page, with the answers that a warehouse gives."""
    parts, summary = [], ["| area | mart | question | time, ms |", "|---|---|---|---|"]
    with duckdb.connect(str(snapshot), read_only=True) as connection:
        for entry in questions():
            started = time.perf_counter()
            answer = connection.sql(entry["sql"])
            rows = answer.fetchall()
            took_ms = 1000 * (time.perf_counter() - started)
            summary.append(f"| {entry['area']} | `{entry['mart']}` | {entry['question']} | {took_ms:.0f} |")
            parts.append(
                f"## {entry['area']}: {entry['question']}\n\n```sql\n{entry['sql']}```\n\n"
                + _table(answer.columns, rows)
            )
    return "\n".join([_HEAD, "\n".join(summary), "", *parts])


def _table(columns: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> str:
    lines = [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
    lines += [f"| {' | '.join(_cell(value) for value in row)} |" for row in rows]
    return "\n".join(lines) + "\n"


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:,.1f}".removesuffix(".0")
    return str(value).replace("|", "\\|").replace("\n", " ")


def main() -> None:
    """Run the demo in a folder of its own and write the page."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("FULLSTORY_", "DAGSTER_"))}
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "fullstory_dagster.cli", "demo", "--days", "7"]
        subprocess.run(command, cwd=folder, env=clean | {"PYTHONPATH": str(_ROOT)}, check=True)
        PAGE.write_text(page_of(Path(folder) / "data" / "demo" / "read" / "warehouse.duckdb"))


if __name__ == "__main__":
    main()
