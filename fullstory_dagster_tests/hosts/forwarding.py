"""Carries connections from one address to another, because a key is sent without TLS to this machine alone.

python -m fullstory_dagster_tests.hosts.forwarding 127.0.0.1:8000 10.213.77.1:8000
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while piece := await reader.read(1 << 16):
            writer.write(piece)
            await writer.drain()
    writer.close()


async def forward(listen: str, target: str) -> None:
    """Listen at an address and carry each connection to another, until the process ends."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, _, port = target.rpartition(":")
        try:
            there, back = await asyncio.open_connection(host, int(port))
        except OSError:
            writer.close()
            return
        await asyncio.gather(_carry(reader, back), _carry(there, writer))

    host, _, port = listen.rpartition(":")
    server = await asyncio.start_server(connected, host, int(port))
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(forward(*sys.argv[1:3]))
