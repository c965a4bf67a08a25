"""A simulator in a process of its own, for tests and for the demonstration."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import IO, Any

from fullstory_dagster.simulator.config import KEY_VARIABLE, SimulatorConfig

_ANNOUNCEMENT = re.compile(r"FullStory simulator at (http://127\.0\.0\.1:(\d+)) ")
_STOP_S = 5.0


class SimulatorProcess:
    """Starts a simulator, knows where it is, and ends it; to be used in a ``with`` statement.

    The child ends when its standard input closes, so it cannot outlive this process, however that one ends.

    Attributes:
        url: base URL of the API, without a slash at the end.
        port: its port on 127.0.0.1.
        api_key: the key it lets in.
    """

    url: str
    port: int
    api_key: str

    def __init__(self, config: SimulatorConfig | None = None, *, start_timeout_s: float = 30.0) -> None:
        """Prepare a simulator; ``start_timeout_s`` bounds the wait until it accepts connections."""
        self._config = config or SimulatorConfig()
        self._start_timeout_s = start_timeout_s
        self._process: subprocess.Popen[bytes] | None = None
        self._errors: IO[bytes] | None = None
        self.api_key = self._config.api_key

    def __enter__(self) -> SimulatorProcess:
        """Start the simulator.

        Raises:
            RuntimeError: it ended, or did not say within the bound where it is; with its standard error.
        """
        self._errors = tempfile.TemporaryFile()
        self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            [sys.executable, "-m", "fullstory_dagster.simulator", "--until-stdin-closes", *self._config.arguments()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={**os.environ, KEY_VARIABLE: self.api_key},
        )
        try:
            match = _ANNOUNCEMENT.match(self._first_line(self._process))
            if match is None:
                self._errors.seek(0)
                said = self._errors.read().decode(errors="replace").strip()
                raise RuntimeError(f"The simulator did not start: {said[-2000:] or 'it said nothing'}")
        except BaseException:
            self.stop()
            raise
        self.url, self.port = match[1], int(match[2])
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the simulator."""
        self.stop()

    def _first_line(self, process: subprocess.Popen[bytes]) -> str:
        lines: list[bytes] = []
        stdout = process.stdout
        assert stdout is not None  # noqa: S101 - asked for above
        # A thread, because pipes have no timeout that works on every system.
        reader = threading.Thread(target=lambda: lines.append(stdout.readline()), daemon=True)
        reader.start()
        reader.join(self._start_timeout_s)
        if reader.is_alive():
            process.kill()
            reader.join()
        return lines[0].decode() if lines else ""

    def stop(self) -> None:
        """End the simulator: by its standard input, then by signals that cannot be overheard. Once is enough."""
        process, self._process = self._process, None
        if process is not None:
            assert process.stdin is not None  # noqa: S101
            assert process.stdout is not None  # noqa: S101
            process.stdin.close()
            try:
                process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            process.stdout.close()
        if self._errors is not None:
            self._errors.close()
            self._errors = None

    def set_faults(self, faults: Sequence[Mapping[str, Any]]) -> None:
        """Replace the faults in force; their forms are in ``simulator.faults``.

        Raises:
            ValueError: the simulator does not know such a fault.
        """
        self._control("POST", "faults", list(faults))

    def set_bundles(self, bundles: Sequence[Mapping[str, Any]]) -> None:
        """List these legacy bundles (``Id``, ``Start``, ``Stop``) in place of the account's own.

        Raises:
            ValueError: one of them is no bundle.
        """
        self._control("POST", "bundles", list(bundles))

    def requests(self) -> list[dict[str, Any]]:
        """Every request so far, oldest first; what each holds is in ``simulator.recording``."""
        requests: list[dict[str, Any]] = self._control("GET", "requests")
        return requests

    def clear(self) -> None:
        """Drop faults, recorded requests and the bundle list that was set."""
        for name in ("faults", "requests", "bundles"):
            self._control("DELETE", name)

    def _control(self, method: str, name: str, document: object = None) -> Any:
        body = None if document is None else json.dumps(document).encode()
        request = urllib.request.Request(  # noqa: S310 - a loopback URL of our own
            f"{self.url}/simulator/{name}", data=body, method=method, headers={"Content-Type": "application/json"}
        )
        # A proxy of the environment has no business between two processes of one machine.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=30) as answer:
                content = answer.read()
        except urllib.error.HTTPError as error:
            with error:
                raise ValueError(json.loads(error.read())["message"]) from None
        return json.loads(content) if content else None
