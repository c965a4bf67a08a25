"""``fullstory-dagster dev`` as a person starts it: a process of its own, on a free port, until nobody needs it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

START_S = 120


def surroundings(settings: Mapping[str, str]) -> dict[str, str]:
    """The environment, with these settings and no others."""
    others = {name: value for name, value in os.environ.items() if not name.startswith(("FULLSTORY_", "DAGSTER_"))}
    return others | dict(settings)


@contextmanager
def running_dev(folder: Path, settings: Mapping[str, str]) -> Iterator[str]:
    """Its URL, once it answers; what it says is in ``dev.log`` in the folder it runs in."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "fullstory_dagster.cli", "dev", "--port", str(port)]
    log = folder / "dev.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=surroundings(settings),
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        url = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + START_S
        while not _answers(url):
            assert process.poll() is None, f"dev ended:\n{log.read_text()[-3000:]}"
            assert time.monotonic() < deadline, f"dev did not answer within {START_S} s:\n{log.read_text()[-3000:]}"
            time.sleep(0.5)
        yield url
    finally:
        # Not Ctrl-C's signal: a script in the background may have it ignored, and its children with it.
        process.terminate()
        try:
            process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _answers(url: str) -> bool:
    try:
        urllib.request.urlopen(f"{url}/server_info", timeout=2).close()
    except (urllib.error.URLError, OSError):
        return False
    return True
