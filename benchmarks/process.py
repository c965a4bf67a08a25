"""Processes that are measured from outside, or that measure a piece of work of theirs and say so on their last line."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Cost:
    """What some work took.

    Attributes:
        wall_s: by the clock.
        cpu_s: of all threads.
        peak_mb: the most memory the process ever had, MB.
        told: what the work says of itself.
        output: what a command printed.
    """

    wall_s: float
    cpu_s: float
    peak_mb: float = 0.0
    told: dict[str, Any] = field(default_factory=dict)
    output: str = ""


def work(module: str, *arguments: object) -> Cost:
    """Run a module that ends with :func:`tell`, and give what it told."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    ended = subprocess.run(command, cwd=_ROOT, env=_environment({}), capture_output=True, text=True, check=False)
    if ended.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{ended.stderr}")
    return Cost(**json.loads(ended.stdout.splitlines()[-1]))


def tell(piece: Callable[[], dict[str, Any] | None]) -> None:
    """Measure a piece of work of this process and print it, for :func:`work`. Imports before it cost nothing."""
    wall, cpu = time.perf_counter(), own_cpu_s()
    told = piece() or {}
    wall, cpu = time.perf_counter() - wall, own_cpu_s() - cpu
    print(json.dumps(asdict(Cost(wall, cpu, peak_mb(), told))))


def peak_mb() -> float:
    """The most memory this process has had. What getrusage says on Linux is never less than its parent had."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def own_cpu_s() -> float:
    """CPU seconds of this process until now."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def command(arguments: Sequence[str], environment: Mapping[str, str] | None = None, cwd: Path | None = None) -> Cost:
    """Run a command, its children included."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    ended = subprocess.run(
        arguments, cwd=cwd or _ROOT, env=_environment(environment or {}), capture_output=True, text=True, check=False
    )
    wall = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if ended.returncode:
        raise RuntimeError(f"{' '.join(arguments)} failed:\n{ended.stdout}\n{ended.stderr}")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Cost(wall, cpu, output=ended.stdout)


def least(costs: Sequence[Cost]) -> Cost:
    """The one with the least CPU: whatever else ran on the machine only ever added some."""
    return min(costs, key=lambda cost: cost.cpu_s)


def _environment(more: Mapping[str, str]) -> dict[str, str]:
    """The surroundings without settings of a real account."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("FULLSTORY_", "DAGSTER_"))}
    return clean | {"PYTHONPATH": str(_ROOT)} | more
