"""Made-up bundles: the simulator's traffic in three shapes and both layouts, the same bytes in every run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
from isal import igzip

from fullstory_dagster.fields import FIELDS_BY_NAME
from fullstory_dagster.simulator.config import SimulatorConfig
from fullstory_dagster.simulator.traffic.source import ShopTraffic
from fullstory_dagster.windows import Window

START = datetime(2025, 6, 1, tzinfo=timezone.utc)
LAYOUTS = ("NDJSON", "array")

_EVENTS_A_DAY = 7_000
"""Of the shop at scale 1, fewer than it has on its quietest day."""
_LATE = 2 / 3
"""Where in the file the late variables begin."""

Row = dict[str, Any]


@dataclass(frozen=True)
class DataSet:
    """A shape of events.

    Attributes:
        name: in tables and file names.
        about: what is in it.
        shaped: makes the n-th of n_events rows of the traffic one of its own.
    """

    name: str
    about: str
    shaped: Callable[[Row, int, int], Row]


def _plain(row: Row, n: int, n_events: int) -> Row:
    return {name: value for name, value in row.items() if name in FIELDS_BY_NAME}


def _wide(row: Row, n: int, n_events: int) -> Row:
    more: Row = {}
    for k in range(0, 50, 5):
        more[f"evt_text_{k}_str"] = f"value {n % 97} of {k}"
        more[f"evt_count_{k}_int"] = n % 1000 + k
        more[f"evt_price_{k}_real"] = (n % 10_000) / 100 + k
        more[f"evt_tags_{k}_strs"] = ["a", f"tag {n % 13}"]
        more[f"evt_nested_{k}"] = {"id": n, "at": {"x": k, "y": [n % 7, None]}}
    if n >= n_events * _LATE:
        more |= {f"evt_late_{k}_{n * 40 // n_events}_int": n for k in range(2)}
    return row | more


PLAIN = DataSet("plain", "FullStory's own fields only", _plain)
SITE = DataSet("site", "1.4 kB an event, a few custom variables, as a real site has", lambda row, n, n_events: row)
WIDE = DataSet("wide", "50 custom variables more, some nested, some that appear late in the file", _wide)


def day(number: int) -> Window:
    """A daily window, the first one is 0."""
    return Window(START + timedelta(days=number), START + timedelta(days=number + 1))


def traffic(n_events: int, n_days: int = 1) -> ShopTraffic:
    """A shop with at least so many events on each of some days."""
    config = SimulatorConfig(days=n_days + 1, now=START + timedelta(days=n_days + 2), scale=n_events / _EVENTS_A_DAY)
    return ShopTraffic(config)


def write_bundles(folder: Path, n_events: int, data_sets: Sequence[DataSet]) -> None:
    """Write one day of each data set in both layouts, gzip as FullStory sends it.

    Raises:
        RuntimeError: the shop has fewer events.
    """
    encode = msgspec.json.Encoder().encode
    with ExitStack() as stack:
        files = {
            (data_set, layout): stack.enter_context(igzip.open(path_of(folder, data_set, layout), "wb"))
            for data_set in data_sets
            for layout in LAYOUTS
        }
        n_written = 0
        for n, row in enumerate(islice(traffic(n_events).events(*_bounds(0)), n_events)):
            for data_set in data_sets:
                text = encode(data_set.shaped(row, n, n_events))
                files[data_set, "NDJSON"].write(text + b"\n")
                files[data_set, "array"].write((b",\n" if n else b"[") + text)
            n_written += 1
        for data_set in data_sets:
            files[data_set, "array"].write(b"]")
    if n_written < n_events:
        raise RuntimeError(f"The traffic has {n_written} events, not {n_events}.")


def write_days(folder: Path, n_days: int, n_events: int) -> Iterator[tuple[Window, Path]]:
    """Write days of the site's events, one NDJSON bundle each, as they are asked for."""
    shop = traffic(n_events, n_days)
    encode_lines = msgspec.json.Encoder().encode_lines
    path = folder / "day.ndjson.gz"
    for number in range(n_days):
        with igzip.open(path, "wb") as file:
            file.write(encode_lines(islice(shop.events(*_bounds(number)), n_events)))
        yield day(number), path


def path_of(folder: Path, data_set: DataSet, layout: str) -> Path:
    """Where :func:`write_bundles` puts a file."""
    return folder / f"{data_set.name}.{'ndjson' if layout == 'NDJSON' else 'json'}.gz"


def _bounds(number: int) -> tuple[datetime, datetime]:
    window = day(number)
    return window.start, window.end
