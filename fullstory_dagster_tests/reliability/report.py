"""What the reliability tests saw, kept as numbers, and ``docs/reliability.md`` made from them.

``make reliability`` runs the tests and then this module, so that no number on that page was ever typed.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock

REPORT_VARIABLE = "FULLSTORY_TESTS_REPORT"
"""Names the folder that tests write their sections into; without it they write nothing."""

_ROOT = Path(__file__).parents[2]
SECTIONS_FOLDER = _ROOT / "docs" / "reliability"
PAGE = _ROOT / "docs" / "reliability.md"

_HEAD = """\
# Reliability

Made by `make reliability` from what its tests saw; nothing on this page is typed. The tests drive the real client
against the simulator in a process of its own, over HTTP.
"""

_ABOUT_MATRIX = """\
## What each failure does

Each row is one failure, seen once (so that a remedy can heal it) and always (so that its bound shows), through both
export APIs, from the first request to the kept bundle. *Attempts* are the requests that the failing step took;
*seconds* are those of the whole fetch as production would take them, its pauses and its rate limit included (the tests'
clock counts them without waiting; for drips alone the patience of a minute is cut to a fraction of a second). A failure
that can happen at several requests was tried at each, with the same outcome; the seconds are the longest. After every
cell either the whole bundle is kept, or nothing of the window and one sentence that says why. "-" stands where an API
cannot fail in this way.
"""

_ABOUT = {
    "kills": "## Killed in the middle\n",
    "many_writers": "## Many writers of one lake\n\nProcesses that load the same windows of one DuckLake, each in an "
    "order of its own, without the locks of the\nwindows. *Locks lost* are connections that held the writers' lock and "
    "were ended while their writer went on; *looks*\nare those of a reader meanwhile, who found every window whole and "
    "once each time.\n",
    "examples": "## Made-up inputs\n\nProperty-based tests: whatever goes in comes out equal, or is rejected with a "
    "reason.\n",
    "hosts": "## Two hosts\n\nDagster's runs on two hosts with an address each, by Celery; PostgreSQL and Redis are "
    "shared.\n",
    "processes": "## Who can see the key\n\nThe command lines of a sync with dbt, of its children and of the "
    "simulator, while they ran.\n",
    "canary": "## Where the key was looked for\n\nEvery cell above ran with a key that stands out. All that the runs "
    "wrote was searched for it (as\nit is, percent-encoded, in base64) and for the signatures of locations.\n",
}


def record(section: str, data: dict[str, Any]) -> None:
    """Keep a section for the page, in place of the one before; nothing happens unless the run was asked to report."""
    folder = os.environ.get(REPORT_VARIABLE)
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        path = Path(folder) / f"{section}.json"
        path.write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def record_rows(section: str, rows: dict[str, Any]) -> None:
    """Keep some rows of a section, beside those that other tests keep in it; as :func:`record` otherwise."""
    folder = os.environ.get(REPORT_VARIABLE)
    if folder:
        # Tests of one section may run in several processes.
        with FileLock(Path(tempfile.gettempdir(), "fullstory-tests-report.lock")):
            record(section, (recorded(section, Path(folder)) or {}) | rows)


def recorded(section: str, folder: Path = SECTIONS_FOLDER) -> dict[str, Any] | None:
    """A section as it was kept; None when there is none."""
    path = folder / f"{section}.json"
    if not path.exists():
        return None
    data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return data


def render(folder: Path = SECTIONS_FOLDER, page: Path = PAGE) -> None:
    """Write the page from the sections that are there."""
    parts = [_HEAD]
    if (matrix := recorded("matrix", folder)) is not None:
        parts += [_ABOUT_MATRIX, _matrix_table(matrix)]
    for section, about in _ABOUT.items():
        if (data := recorded(section, folder)) is not None:
            parts += [about, _numbers_table(data)]
    page.write_text("\n".join(parts), encoding="utf-8")


def _matrix_table(matrix: dict[str, Any]) -> str:
    apis = matrix["apis"]
    head = ["failure", "seen"]
    for api in apis:
        head += [f"{api}: what happened", "attempts", "seconds"]
    rows = []
    for row in matrix["rows"]:
        cells = [row["failure"], row["seen"]]
        for api in apis:
            cell = row[api]
            cells += ["-"] * 3 if cell is None else [cell["outcome"], cell["attempts"], f"{cell['seconds']:.2f}"]
        rows.append(cells)
    return _table(head, rows)


def _numbers_table(data: dict[str, Any]) -> str:
    """Labels and numbers; where the numbers have labels of their own, those are the columns."""
    groups = {label: value for label, value in data.items() if isinstance(value, dict)}
    columns = list(dict.fromkeys(name for value in groups.values() for name in value))
    parts = []
    if plain := [[label, value] for label, value in data.items() if label not in groups]:
        parts.append(_table(["", "number"], plain))
    if groups:
        rows = [[label, *(value.get(name, "-") for name in columns)] for label, value in groups.items()]
        parts.append(_table(["", *columns], rows))
    return "\n".join(parts)


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(_cell(value) for value in line)} |\n" for line in lines)


def _cell(value: object) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return str(value).replace("|", "\\|").replace("\n", " ")


if __name__ == "__main__":
    render()
