"""What was measured, as rows with a ratio each; the page they make; and the ratios that are usual."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

_DOCS = Path(__file__).parents[1] / "docs"
PAGE = _DOCS / "benchmarks.md"
RESULTS = _DOCS / "benchmarks"
PARTS = (
    "loading",
    "wide",
    "memory",
    "growth",
    "scaling_file",
    "scaling_lake",
    "workers",
    "backfill",
    "overhead",
    "peers",
)
"""What can be measured by itself, in the order of the page."""

USUAL = Path(__file__).parent / "usual.json"

GROSS = 2.0
"""A ratio this many times worse than usual is a regression and not noise."""

_LIBRARIES = ("polars", "duckdb", "msgspec", "numpy", "dagster", "dbt-core", "dbt-duckdb")


@dataclass(frozen=True)
class Row:
    """One comparison.

    Attributes:
        section: the target it belongs to.
        what: what is compared with what; unique in its section.
        ours: our figure, with its unit.
        reference: the other one.
        ratio: ours to the reference.
        goal: what the ratio should be; None where it is only told.
        is_floor: whether a larger ratio is a better one.
    """

    section: str
    what: str
    ours: str
    reference: str
    ratio: float
    goal: float | None = None
    is_floor: bool = False

    @property
    def key(self) -> str:
        """Its name among the usual ratios."""
        return f"{self.section}: {self.what}"

    @property
    def is_met(self) -> bool | None:
        """Whether the goal is met, None without one."""
        if self.goal is None:
            return None
        return self.ratio >= self.goal if self.is_floor else self.ratio <= self.goal

    @property
    def is_steady(self) -> bool:
        """Whether the ratio is much the same beside other work, as that of two times is not."""
        return "CPU" in self.what or "memory" in self.what

    def times_worse(self, usual: float) -> float:
        """How many times worse than usual the ratio is; below 1 it is better."""
        return usual / self.ratio if self.is_floor else self.ratio / usual

    def cells(self) -> list[str]:
        """As a line of a table."""
        goal = "" if self.goal is None else f"{'≥' if self.is_floor else '≤'} {self.goal:g}"
        met = {None: "", True: "yes", False: "**no**"}[self.is_met]
        return [self.what, self.ours, self.reference, f"{self.ratio:.2f}", goal, met]


_HEAD = """\
# Benchmarks

Made by `make bench` and `python -m benchmarks.peers`; nothing on this page is typed. Each line compares two figures of
one run, taken on the same input one after the other, because seconds differ from machine to machine and ratios hardly
do. What is measured, and how, is in `benchmarks/`.
"""

HEAD = ("what", "ours", "reference", "ratio", "goal", "met")


def record(part: str, rows: Sequence[Row], how: str) -> None:
    """Keep what one part came to, in place of what it came to before, and make the page anew.

    Args:
        part: one of ``PARTS``.
        rows: in the order they were measured.
        how: the run in a sentence or two.
    """
    libraries = ", ".join(f"{name} {version(name)}" for name in _LIBRARIES)
    surroundings = f"Python {platform.python_version()}, {libraries}; {_machine()}."
    RESULTS.mkdir(exist_ok=True)
    kept = {"how": how, "surroundings": surroundings, "rows": [asdict(row) for row in rows]}
    (RESULTS / f"{part}.json").write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    PAGE.write_text(page(), encoding="utf-8")


def page(folder: Path = RESULTS) -> str:
    """The page of all parts that were ever measured."""
    parts = [_HEAD]
    for part in PARTS:
        path = folder / f"{part}.json"
        if not path.exists():
            continue
        kept = json.loads(path.read_text(encoding="utf-8"))
        rows = [Row(**row) for row in kept["rows"]]
        for section in dict.fromkeys(row.section for row in rows):
            parts.append(f"## {section}\n")
            parts.append(_table(HEAD, (row.cells() for row in rows if row.section == section)))
        parts.append(f"{kept['how']} {kept['surroundings']}\n")
    return "\n".join(parts)


def usual() -> dict[str, float]:
    """Ratios of a quick run, by the row's key."""
    ratios: dict[str, float] = json.loads(USUAL.read_text(encoding="utf-8"))
    return ratios


def record_usual(rows: Iterable[Row]) -> None:
    """Make the steady ratios of a quick run the usual ones; those of rows that were not measured stay."""
    known = usual() if USUAL.exists() else {}
    ratios = known | {row.key: float(f"{row.ratio:.3g}") for row in rows if row.is_steady}
    USUAL.write_text(json.dumps(ratios, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _machine() -> str:
    try:
        models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    except OSError:
        models = []
    name = models[0].partition(":")[2].strip() if models else platform.machine()
    return f"{os.cpu_count()} cores, {name}, {platform.system()}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)
