"""What a cell of the matrix runs in: time that passes by sleeping, a port that refuses, a host that takes notes."""

from __future__ import annotations

import socket
import socketserver
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class PatientClock:
    """Sleeps take no time but count in full, so that production's pauses can be waited out.

    Attributes:
        slept: every sleep so far, s.
        on_sleep: called before each.
    """

    def __init__(self, starts_at: datetime, *, is_running: bool = False) -> None:
        self.slept: list[float] = []
        self.on_sleep = lambda: None
        self._starts_at = starts_at
        self._is_running = is_running  # downloads that are too slow need time that passes by itself as well
        self._made_at = time.monotonic()

    def now(self) -> datetime:
        return self._starts_at + timedelta(seconds=self.monotonic())

    def monotonic(self) -> float:
        return sum(self.slept) + (time.monotonic() - self._made_at if self._is_running else 0.0)

    def sleep(self, seconds: float) -> None:
        self.on_sleep()
        self.slept.append(seconds)


class Door(socketserver.ThreadingTCPServer):
    """A port that refuses connections until it is opened; then it leads to another one."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, to_port: int) -> None:
        super().__init__(("127.0.0.1", 0), _Passage, bind_and_activate=False)
        self.to_port = to_port
        self.is_open = False
        self.server_bind()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def open(self) -> None:
        if not self.is_open:
            self.is_open = True
            self.server_activate()
            threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def shut(self) -> None:
        if self.is_open:
            self.shutdown()
        self.server_close()


class _Passage(socketserver.BaseRequestHandler):
    server: Door

    def handle(self) -> None:
        with socket.create_connection(("127.0.0.1", self.server.to_port)) as inner:
            back = threading.Thread(target=_pour, args=(inner, self.request), daemon=True)
            back.start()
            _pour(self.request, inner)
            back.join()


def _pour(source: socket.socket, sink: socket.socket) -> None:
    try:
        while piece := source.recv(1 << 16):
            sink.sendall(piece)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        pass


class Recorder(ThreadingHTTPServer):
    """A host that answers whatever it is asked and takes notes of it.

    Attributes:
        seen: request line and headers of each request, as text.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Note)
        self.seen: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Note(BaseHTTPRequestHandler):
    server: Recorder

    def do_GET(self) -> None:
        self.server.seen.append(f"{self.requestline}\n{self.headers}")
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    do_POST = do_GET  # noqa: N815 - the names are the library's

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@contextmanager
def recording_host() -> Iterator[Recorder]:
    with Recorder() as recorder:
        thread = threading.Thread(target=recorder.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield recorder
        finally:
            recorder.shutdown()
            thread.join()
