"""The measured part of docs/scaling.md: a file beside a lake, at each size and with each number of workers."""

from __future__ import annotations

import json
import re
from pathlib import Path

from benchmarks.table import RESULTS, Row

PAGE = RESULTS.parent / "scaling.md"
PARTS = ("scaling", "workers")
"""What of the benchmarks the page shows."""

_BEGIN = "<!-- measured by python -m benchmarks --only scaling,workers; not typed -->\n"
_END = "<!-- end of what was measured -->\n"
_BY_SIZE = re.compile(r"(?P<what>.+), lake to file with (?P<size>\S+) million events")
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
    parts = []
    for part in PARTS:
        path = folder / f"{part}.json"
        if path.exists():
            kept = json.loads(path.read_text(encoding="utf-8"))
            table = (_by_size if part == "scaling" else _by_workers)([Row(**row) for row in kept["rows"]])
            parts.append(f"{table}\n{kept['how']} {kept['surroundings']}\n")
    return "\n" + "\n".join(parts) + "\n"


def _by_size(rows: list[Row]) -> str:
    lines = ["| | events, millions | in a file | in a lake | lake to file |", "|---|---|---|---|---|"]
    for row in rows:
        if found := _BY_SIZE.fullmatch(row.what):
            what = f"{row.section.partition(', by size')[0]}: {found['what']}"
            lines.append(f"| {what} | {found['size']} | {row.reference} | {row.ours} | {row.ratio:.2f} |")
    return "\n".join(lines) + "\n"


def _by_workers(rows: list[Row]) -> str:
    lines = ["| workers | windows a minute into a file | into a lake | lake to file |", "|---|---|---|---|"]
    for row in rows:
        if found := _BY_WORKERS.fullmatch(row.what):
            lines.append(f"| {found['n']} | {_number(row.reference)} | {_number(row.ours)} | {row.ratio:.2f} |")
    return "\n".join(lines) + "\n"


def _number(rate: str) -> str:
    return rate.removesuffix(" a minute")
