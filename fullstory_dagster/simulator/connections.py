"""uvicorn's HTTP/1.1 connections, with a way to break one off in the middle of an answer."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import ClassVar

from uvicorn.protocols.http.h11_impl import H11Protocol

Peer = tuple[str, int]


class BreakableProtocol(H11Protocol):
    """Remembers the transport of every open connection by the client's address."""

    _open: ClassVar[dict[Peer, asyncio.Transport]] = {}

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client came."""
        super().connection_made(transport)
        self._open[transport.get_extra_info("peername")[:2]] = transport
        # Small answers would wait 40 ms for the client's delayed acknowledgement of their headers.
        connection: socket.socket = transport.get_extra_info("socket")
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def connection_lost(self, exc: Exception | None) -> None:
        """A client went, or was cut off."""
        self._open.pop(self.transport.get_extra_info("peername")[:2], None)
        super().connection_lost(exc)

    @classmethod
    async def break_off(cls, peer: Peer, *, reset: bool) -> None:
        """End a connection after what was sent so far: with a TCP reset, or in an orderly way but too early."""
        transport = cls._open.get(peer)
        if transport is None:
            return
        if not reset:
            transport.close()
            return
        while transport.get_write_buffer_size() and not transport.is_closing():
            await asyncio.sleep(0.01)
        # Closing a socket that does not linger is what makes the kernel send a reset.
        connection: socket.socket = transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
