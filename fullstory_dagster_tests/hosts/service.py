"""A process that is kept running, as systemd or a container's engine does it."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

_LOOK_S = 1.0


class Service:
    """A process, started anew whenever it ends, until it is stopped.

    Attributes:
        log: file with what it says.
        n_starts: how often it was started.
    """

    def __init__(self, command: Sequence[str], folder: Path, environment: Mapping[str, str], name: str) -> None:
        self.log = folder / f"{name}.log"
        self.n_starts = 0
        self._command, self._folder, self._environment = list(command), folder, dict(environment)
        self._is_wanted = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._keeper = threading.Thread(target=self._keep, name=name, daemon=True)

    def __enter__(self) -> Service:
        self._is_wanted.set()
        self._start()
        self._keeper.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_wanted.clear()
        self._keeper.join()
        self.kill()

    def kill(self) -> None:
        """End it at once, with all the processes it started: as a host does that loses its power."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def _start(self) -> None:
        with self.log.open("ab") as said:
            self._process = subprocess.Popen(
                self._command,
                cwd=self._folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.n_starts += 1

    def _keep(self) -> None:
        while self._is_wanted.is_set():
            assert self._process is not None
            try:
                self._process.wait(_LOOK_S)
            except subprocess.TimeoutExpired:
                continue
            if self._is_wanted.is_set():
                self._start()
