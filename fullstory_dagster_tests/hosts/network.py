"""Hosts with an address each, on this machine: network namespaces that are joined by pairs of virtual cables."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

_NETWORK = "10.213.77"
HUB = f"{_NETWORK}.1"
"""Address of this machine itself, as the hosts see it."""


@dataclass(frozen=True)
class Host:
    """A host.

    Attributes:
        name: of its network namespace.
        address: its own, in a network with ``HUB``.
    """

    name: str
    address: str

    def command(self, *command: str) -> list[str]:
        """The command as it is run on this host."""
        return ["ip", "netns", "exec", self.name, *command]


def are_possible() -> bool:
    """Whether this process may make network namespaces."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        return False
    name = f"fullstory-try-{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, check=False)
    if made.returncode == 0:
        _ip("netns", "del", name)
    return made.returncode == 0


def free_port(address: str) -> int:
    """A port that nobody listens on at an address of this machine."""
    with socket.socket() as probe:
        probe.bind((address, 0))
        return int(probe.getsockname()[1])


@contextmanager
def network(n_hosts: int) -> Iterator[list[Host]]:
    """Hosts that reach each other and this machine, and nobody else; gone after."""
    bridge = f"fsbr{os.getpid() % 100_000}"
    with ExitStack() as stack:
        _ip("link", "add", bridge, "type", "bridge")
        stack.callback(_ip, "link", "del", bridge)
        _ip("addr", "add", f"{HUB}/24", "dev", bridge)
        _ip("link", "set", bridge, "up")
        hosts = []
        for number in range(1, n_hosts + 1):
            host = Host(f"{bridge}w{number}", f"{_NETWORK}.{number + 1}")
            _ip("netns", "add", host.name)
            # Takes its end of the cable with it.
            stack.callback(_ip, "netns", "del", host.name)
            ours, theirs = f"{bridge}v{number}", "eth0"
            _ip("link", "add", ours, "type", "veth", "peer", "name", theirs, "netns", host.name)
            _ip("link", "set", ours, "master", bridge, "up")
            for arguments in (
                ("addr", "add", f"{host.address}/24", "dev", theirs),
                ("link", "set", theirs, "up"),
                ("link", "set", "lo", "up"),
            ):
                _ip("-netns", host.name, *arguments)
            hosts.append(host)
        yield hosts


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)
