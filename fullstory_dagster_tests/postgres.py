"""A PostgreSQL server of the tests' own, on a free port of this machine, thrown away after."""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import psycopg

_DEBIAN = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
_DATABASES = itertools.count(1)


def binary(name: str) -> str | None:
    """A program of PostgreSQL, wherever the system has it."""
    return shutil.which(name) or next((str(folder / name) for folder in _DEBIAN if (folder / name).exists()), None)


def is_missing() -> bool:
    """Whether tests that need PostgreSQL may be left out: it is not there, and nobody asked for it."""
    return binary("initdb") is None and not os.environ.get("FULLSTORY_TESTS_REQUIRE_SYSTEM_PACKAGES")


class PostgresServer:
    """A server that trusts whoever comes as `lake`, and wants the password of `guarded`: `open 'sesame'`."""

    password = "open 'sesame'"  # noqa: S105

    def __init__(self, address: str = "127.0.0.1") -> None:
        """Start it.

        Args:
            address: where it listens; whoever comes from the same /24 is let in.
        """
        self.address = address
        self.folder = Path(tempfile.mkdtemp(prefix="fullstory-postgres-"))
        self._as: dict[str, Any] = {}
        if os.geteuid() == 0:
            # PostgreSQL does not run as root.
            self._as = {"user": _somebody(), "extra_groups": []}
            os.chown(self.folder, pwd.getpwnam(_somebody()).pw_uid, -1)
        initdb, postgres = binary("initdb"), binary("postgres")
        assert initdb is not None, "PostgreSQL is not installed"
        assert postgres is not None
        self._postgres = postgres
        data = self.folder / "data"
        subprocess.run(
            [initdb, "-D", data, "-U", "lake", "-A", "trust", "--no-sync", "--locale=C.UTF-8", "-E", "UTF8"],
            check=True,
            capture_output=True,
            cwd=self.folder,
            **self._as,
        )
        (data / "pg_hba.conf").write_text(
            f"host all guarded {address}/24 scram-sha-256\nhost all all {address}/24 trust\n"
        )
        with socket.socket() as free:
            free.bind((address, 0))
            self.port = free.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None
        self.start()
        self.execute("postgres", "CREATE ROLE guarded LOGIN SUPERUSER PASSWORD 'open ''sesame'''")

    def start(self) -> None:
        """Start it, and wait until it answers."""
        settings = {
            "listen_addresses": self.address,
            "port": self.port,
            "unix_socket_directories": "",
            "fsync": "off",
            "shared_buffers": "16MB",
            "max_connections": 60,
        }
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    self._postgres,
                    "-D",
                    self.folder / "data",
                    *(f"-c{name}={value}" for name, value in settings.items()),
                ],
                stdout=log,
                stderr=log,
                cwd=self.folder,
                **self._as,
            )
        deadline = time.monotonic() + 30
        while True:
            try:
                self.execute("postgres", "SELECT 1")
                return
            except psycopg.OperationalError:
                assert time.monotonic() < deadline, (self.folder / "log").read_text()
                time.sleep(0.05)

    def stop(self) -> None:
        """Stop it as a restart does: connections are cut."""
        assert self._process is not None
        self._process.send_signal(2)
        self._process.wait(30)

    def close(self) -> None:
        """Stop it for good, and leave nothing."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def conninfo(self, database: str) -> str:
        """How to connect."""
        return f"host={self.address} port={self.port} user=lake dbname={database}"

    def new_database(self) -> str:
        """The name of a fresh, empty database."""
        name = f"lake_{os.getpid()}_{next(_DATABASES)}"
        self.execute("postgres", f"CREATE DATABASE {name} TEMPLATE template0")
        return name

    def execute(self, database: str, sql: str, parameters: list[Any] | None = None) -> list[tuple[Any, ...]]:
        """Do something in a database; the rows it gave."""
        with psycopg.connect(self.conninfo(database), autocommit=True) as connection:
            done = connection.execute(sql.encode(), parameters)
            return done.fetchall() if done.description else []


def _somebody() -> str:
    for name in ("postgres", "nobody"):
        try:
            pwd.getpwnam(name)
            return name
        except KeyError:
            continue
    raise AssertionError("no user to run PostgreSQL as")
