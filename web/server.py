"""The process: uvicorn with our transport, and a stop that loses nothing."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Generator
from contextlib import contextmanager
from ipaddress import ip_address
from typing import Any

import uvicorn

from collab.hub import Hub
from web.app import running
from web.settings import Settings
from web.transport import Transport


class Server(uvicorn.Server):
    """On SIGTERM or SIGINT: take no more connections, commit, send clients away, stop within the deadline."""

    def __init__(self, config: uvicorn.Config, hub: Hub, settings: Settings) -> None:
        super().__init__(config)
        self._hub = hub
        self._settings = settings

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        # uvicorn would raise the signal again at the end, before the database is closed.
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        host, port = self.servers[0].sockets[0].getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        print(f"Collab is at http://{shown}:{port} (Ctrl+C stops it)", flush=True)
        role = self._settings.guests_role
        if role is not None and not ip_address(host).is_loopback:
            print(f"Whoever can reach it is {role.label} of every document (--guests).", flush=True)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for listener in self.servers:
            listener.close()
        await self._hub.drain(max(1.0, self._settings.shutdown_seconds - 2))  # the rest is uvicorn's
        await super().shutdown(sockets)


async def serve(settings: Settings) -> None:
    """Serve until a signal. Raises what ``running`` raises."""
    Transport.message_bytes = settings.message_bytes
    Transport.stall_seconds = settings.stall_seconds
    async with running(settings) as app:
        options: dict[str, Any] = {
            "host": settings.host,
            "port": settings.port,
            "ws": Transport,
            "ws_max_size": settings.message_bytes * 2,  # ours is smaller, so that clients see 4413, not 1009
            "ws_per_message_deflate": False,  # updates are small; 34 KiB of memory for each idle socket
            "log_config": None,
            "access_log": False,
            "lifespan": "off",
            "server_header": False,
            "timeout_graceful_shutdown": 2,
        }
        await Server(uvicorn.Config(app, **options), app.hub, settings).serve()
