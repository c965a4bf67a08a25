"""The measured part of docs/scaling.md: a file beside a lake, at each size and with each number of workers."""

from __future__ import annotations

import json
import re
from pathlib import Path

from benchmarks.table import RESULTS, Row

PAGE = RESULTS.parent / "scaling.md"
PARTS = ("scaling_file", "scaling_lake", "workers")
"""What of the benchmarks the page shows."""

_BEGIN = "<!-- measured by python -m benchmarks --only scaling_file,scaling_lake,workers; not typed -->\n"
_END = "<!-- end of what was measured -->\n"
_GROWN = re.compile(r"(?P<what>time of \w+), with (?P<size>\S+) million events to with (?P<least>\S+)")
_BY_WORKERS = re.compile(r"windows a minute with (?P<n>\d+) workers?, into a lake to into a file")


def renewed(page: str, folder: Path = RESULTS) -> str:
    """The page with what was measured last in its place."""
    before, begin, rest = page.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    assert begin, "docs/scaling.md has no place for what is measured"
    assert end, "docs/scaling.md has no place for what is measured"
    return before + _BEGIN + measured(folder) + _END + after


def measured(folder: Path = RESULTS) -> str:
    """The tables, of what was ever measured."""
    kept = {part: _kept(folder / f"{part}.json") for part in PARTS}
    told = [f"{how} {surroundings}" for how, surroundings, _ in kept.values() if how]
    (_, _, file), (_, _, lake), (_, _, workers) = kept.values()
    return "\n" + "\n".join([_by_size(file, lake), _by_workers(workers), *(f"{line}\n" for line in told)]) + "\n"


def _kept(path: Path) -> tuple[str, str, list[Row]]:
    if not path.exists():
        return "", "", []
    part = json.loads(path.read_text(encoding="utf-8"))
    return part["how"], part["surroundings"], [Row(**row) for row in part["rows"]]


def _by_size(file: list[Row], lake: list[Row]) -> str:
    """A line for each piece and size."""
    seconds: dict[tuple[str, str], dict[str, str]] = {}
    for kind, rows in (("file", file), ("lake", lake)):
        for row in rows:
            if found := _GROWN.fullmatch(row.what):
                what = f"{row.section.partition(', in a')[0]}: {found['what']}"
                seconds.setdefault((what, found["least"]), {})[kind] = row.reference
                seconds.setdefault((what, found["size"]), {})[kind] = row.ours
    lines = ["| | events, millions | in a file | in a lake |", "|---|---|---|---|"]
    lines += [
        f"| {what} | {size} | {kinds.get('file', '')} | {kinds.get('lake', '')} |"
        for (what, size), kinds in seconds.items()
    ]
    return "\n".join(lines) + "\n"


def _by_workers(rows: list[Row]) -> str:
    lines = ["| workers | windows a minute into a file | into a lake | lake to file |", "|---|---|---|---|"]
    for row in rows:
        if found := _BY_WORKERS.fullmatch(row.what):
            lines.append(f"| {found['n']} | {_number(row.reference)} | {_number(row.ours)} | {row.ratio:.2f} |")
    return "\n".join(lines) + "\n"


def _number(rate: str) -> str:
    return rate.removesuffix(" a minute")
