"""``python -m fullstory_dagster.simulator``: run a simulator in the foreground, on loopback only."""

from __future__ import annotations

import asyncio
import socket
import sys
import threading

import uvicorn

from fullstory_dagster.simulator.config import SimulatorConfig, parse_arguments
from fullstory_dagster.simulator.connections import BreakableProtocol
from fullstory_dagster.simulator.events import EventSource, FileSource
from fullstory_dagster.simulator.server import create_app
from fullstory_dagster.simulator.traffic import ShopTraffic


class _Server(uvicorn.Server):
    """uvicorn, saying when it accepts connections: parents wait for that one line."""

    announcement = ""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to accept connections."""
        await super().startup(sockets)
        sys.stdout.write(self.announcement + "\n")
        sys.stdout.flush()


def _end_with_stdin(server: uvicorn.Server) -> None:
    # The other end is held by the parent alone, so this returns when the parent has gone, however it went.
    sys.stdin.buffer.read()
    server.should_exit = True


def run(config: SimulatorConfig, *, until_stdin_closes: bool = False) -> int:
    """Serve until interrupted. Returns the exit code."""
    source: EventSource = FileSource(config.data) if config.data else ShopTraffic(config)
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        # A port that a stopped simulator used may be taken again at once.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", config.port))
        server = _Server(
            uvicorn.Config(
                create_app(config, source),
                http=BreakableProtocol,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                timeout_graceful_shutdown=1,
            )
        )
        port = listener.getsockname()[1]
        server.announcement = f"FullStory simulator at http://127.0.0.1:{port} (API key: {config.api_key})"
        if until_stdin_closes:
            threading.Thread(target=_end_with_stdin, args=(server,), daemon=True).start()
        asyncio.run(server.serve(sockets=[listener]))
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Run with command line arguments. Returns the exit code."""
    config, until_stdin_closes = parse_arguments(sys.argv[1:] if arguments is None else arguments)
    try:
        return run(config, until_stdin_closes=until_stdin_closes)
    except KeyboardInterrupt:
        return 0
    except (OSError, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
