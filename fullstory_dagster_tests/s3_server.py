"""An S3 on this machine, for tests: moto's server, in a process of its own that ends when nobody holds its pipe."""

from __future__ import annotations

import itertools
import os
import re
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from urllib.parse import urlsplit

ACCESS_KEY = "AKIA0CANARY0IN0NO0OUTPUT"
SECRET_KEY = "canary+secret/key+that+must+not+be+seen"  # noqa: S105 (of nobody)
KEYS_AN_ANSWER = 5
"""Of a listing; Amazon's own holds 1,000."""

_SERVE = """
import logging, sys
from moto.server import ThreadedMotoServer
logging.getLogger("werkzeug").setLevel(logging.ERROR)
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
"""


@dataclass(frozen=True)
class Bucket:
    """A bucket of a test's own.

    Attributes:
        endpoint: of the server.
        name: of the bucket.
    """

    endpoint: str
    name: str

    @property
    def url(self) -> str:
        """A place in it."""
        return f"s3://{self.name}/some/prefix"

    @property
    def google_url(self) -> str:
        """The same place, to be asked for in the way of Google's store, whose XML API is much like S3."""
        return f"gs://{self.name}/some/prefix"

    def object(self, key: str) -> bytes:
        """What a reader gets who has nothing to do with us."""
        return self._get(f"/some/prefix/{key}")

    def keys(self) -> list[str]:
        """Of every object in the bucket, below the place and elsewhere."""
        return re.findall(r"<Key>([^<]+)</Key>", self._get("?max-keys=1000").decode())

    def download(self, folder: Path) -> Path:
        """Every object as a file below a folder that is made for it."""
        for key in self.keys():
            path = folder / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self._get(f"/{key}"))
        return folder

    def n_unfinished_uploads(self) -> int:
        """Uploads in parts that were begun and neither finished nor given up."""
        return self._get("?uploads").count(b"<UploadId>")

    def _get(self, path: str) -> bytes:
        # The server looks whether somebody has signed, not who.
        signed = urllib.request.Request(f"{self.endpoint}/{self.name}{path}", headers={"Authorization": "AWS a:b"})
        with urllib.request.urlopen(signed) as answer:
            return bytes(answer.read())


class S3Server:
    """The server. It believes every signature, so keys are right whatever they are."""

    def __init__(self) -> None:
        self._names = itertools.count(1)

    def __enter__(self) -> S3Server:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _SERVE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"MOTO_S3_DEFAULT_MAX_KEYS": str(KEYS_AN_ANSWER)},
        )
        assert self._process.stdout is not None
        self.endpoint = f"http://127.0.0.1:{int(self._process.stdout.readline())}"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()

    @property
    def environment(self) -> dict[str, str]:
        """What the tools of S3, and of Google's store, read."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_REGION": "us-east-1",
            "GOOGLE_BASE_URL": self.endpoint,
            "GOOGLE_BEARER_TOKEN": SECRET_KEY,
        }

    def new_bucket(self) -> Bucket:
        """An empty bucket."""
        name = f"bucket{next(self._names):03}"
        with urllib.request.urlopen(urllib.request.Request(f"{self.endpoint}/{name}", method="PUT")):
            return Bucket(self.endpoint, name)


class StallingProxy:
    """Stands before a server and passes everything on, until so many bytes went up: then nothing any more.

    Args:
        endpoint: of the server.
        after_bytes: how many.
    """

    def __init__(self, endpoint: str, after_bytes: int) -> None:
        self._target = urlsplit(endpoint)
        self._left = after_bytes
        self._is_stalled = threading.Event()
        self._stack = ExitStack()

    def __enter__(self) -> StallingProxy:
        self._listening = self._stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()

    def wait(self) -> None:
        """Until nothing is passed on any more."""
        assert self._is_stalled.wait(60)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client = self._stack.enter_context(self._listening.accept()[0])
                server = self._stack.enter_context(
                    socket.create_connection((self._target.hostname or "", self._target.port or 0))
                )
                threading.Thread(target=self._pass_on, args=(client, server, True), daemon=True).start()
                threading.Thread(target=self._pass_on, args=(server, client, False), daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket, is_upwards: bool) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                if is_upwards:
                    self._left -= len(data)
                    if self._left <= 0:
                        self._is_stalled.set()
                        return
                target.sendall(data)


_NOTHING = b"<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>"
_READ_ONLY = {"LIST": (200, ""), "GET": (404, "NoSuchKey")}


def refusing_to_write(status: int, code: str) -> AnsweringServer:
    """A store with nothing in it that may be read and not be written to."""
    return AnsweringServer(lambda method, _: _READ_ONLY.get(method, (status, code)))


class AnsweringServer:
    """Gives the answers it was told, whatever it is asked.

    Args:
        answer: given the method of a request, or LIST, and how many there were before, the status and S3's code for
            it; whatever is listed is empty.
    """

    def __init__(self, answer: Callable[[str, int], tuple[int, str]]) -> None:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one_request(self) -> None:
                self.raw_requestline = self.rfile.readline()
                if not self.raw_requestline or not self.parse_request():
                    self.close_connection = True
                    return
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                is_list = "list-type" in self.path
                status, code = answer("LIST" if is_list else self.command, server.n_asked)
                server.n_asked += 1
                # Some stores repeat what they were sent.
                told = f"{ACCESS_KEY} {SECRET_KEY} {self.path} {self.headers['Authorization']}"
                said = f"<Error><Code>{code}</Code><Message>{told}</Message></Error>".encode()
                if status == 200:
                    said = _NOTHING if is_list else b""
                content = b"" if self.command == "HEAD" else said
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.send_header("ETag", '"1"')
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                pass

        self.n_asked = 0
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}"

    def __enter__(self) -> AnsweringServer:
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._http.shutdown()
        self._http.server_close()
