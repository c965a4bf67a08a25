"""At which of this machine's addresses a port answers."""

from __future__ import annotations

import subprocess
import sys

# In a process of its own: tests themselves may connect to loopback only.
_ASK = """
import socket, sys
addresses = {"127.0.0.1"}
for name in (socket.gethostname(), socket.getfqdn()):
    try:
        addresses |= {found[4][0] for found in socket.getaddrinfo(name, None)}
    except OSError:
        pass
for family, elsewhere in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
    try:
        # Sends nothing: the kernel says from which address it would.
        with socket.socket(family, socket.SOCK_DGRAM) as asking:
            asking.connect((elsewhere, 9))
            addresses.add(asking.getsockname()[0])
    except OSError:
        pass
for address in sorted(addresses):
    try:
        socket.create_connection((address, int(sys.argv[1])), timeout=2).close()
    except OSError:
        continue
    print(address)
"""


def addresses_that_answer(port: int) -> list[str]:
    """This machine's own addresses, loopback first of all, at which the port takes a connection."""
    asked = subprocess.run([sys.executable, "-c", _ASK, str(port)], capture_output=True, text=True, check=True)
    return asked.stdout.split()
