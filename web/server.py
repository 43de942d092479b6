"""The process: uvicorn with our transport, and a stop that loses nothing."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import logging
import re
import signal
import socket
import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress
from ipaddress import ip_address
from types import FrameType
from typing import Any

import uvicorn

from collab.hub import Hub
from web import images
from web.app import running
from web.archive import IMPORT_PATH
from web.budget import Budgets
from web.http import Http
from web.settings import Settings
from web.transport import Transport

try:
    import resource
except ImportError:  # not on Windows
    resource = None  # type: ignore[assignment]

PING_SECONDS = 20.0  # between our pings, and for the answer to one
SWITCH_SECONDS = 0.0005
BLOCK_BYTES, SPARE_BYTES = 1 << 20, 4 << 20  # of memory: given back by itself, and kept for the next
UNSENT_BYTES = 128 << 10  # in the kernel, of one connection, beyond what the network has taken
_log = logging.getLogger(__name__)


class Server(uvicorn.Server):
    """On SIGTERM or SIGINT: take no more connections, commit, send clients away, stop within the deadline.
    On a second one: stop now; what was not acknowledged may be lost."""

    def __init__(self, config: uvicorn.Config, hub: Hub, settings: Settings) -> None:
        super().__init__(config)
        self._hub = hub
        self._settings = settings
        self._draining: asyncio.Timeout | None = None  # ends at a second signal

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        # uvicorn would raise the signal again at the end, before the database is closed.
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        yield

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.should_exit:
            _log.warning("a second signal: stopping without waiting for anybody")
            self.force_exit = True
            if self._draining is not None:
                self._draining.reschedule(0)
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for listener in self.servers[0].sockets:
            _bound_kernel(listener)
        host, port = self.servers[0].sockets[0].getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        print(f"Collab is at http://{shown}:{port} (Ctrl+C stops it)", flush=True)
        role = self._settings.guests_role
        if role is not None and not ip_address(host).is_loopback:
            print(f"Whoever can reach it is {role.label} of every document (--guests).", flush=True)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for listener in self.servers:
            listener.close()
        if not self.force_exit:
            with suppress(TimeoutError):
                async with asyncio.timeout(None) as self._draining:
                    await self._hub.drain(max(1.0, self._settings.shutdown_seconds - 2))
            self._draining = None
        if self.force_exit:
            for connection in self.server_state.connections:
                connection.transport.abort()
        await super().shutdown(sockets)  # the rest of the time is uvicorn's


async def serve(settings: Settings) -> None:
    """Serve until a signal. Raises what ``running`` raises."""
    _raise_open_files()
    _give_memory_back()
    async with running(settings) as app:
        for protocol in (Http, Transport):
            protocol.limited = app.hub.stats.limited
            protocol.handshake_seconds = settings.handshake_seconds
            protocol.stall_seconds = settings.stall_seconds
        Http.body_bytes = settings.body_bytes
        Http.large = (
            (re.compile(re.escape(IMPORT_PATH.encode())), settings.import_bytes),
            (images.PATH, settings.image_bytes),
        )
        Transport.message_bytes = settings.message_bytes
        rates = settings.messages_per_second, settings.bytes_per_second, settings.cpu_share
        Transport.messages_per_second, Transport.bytes_per_second, Transport.cpu_share = rates
        Transport.actors = Budgets(*rates)
        Transport.unread_bytes = settings.unread_bytes
        Transport.compression = settings.compression
        options: dict[str, Any] = {
            "host": settings.host,
            "port": settings.port,
            "http": Http,
            "ws": Transport,
            "ws_max_size": settings.message_bytes * 2,  # ours is smaller, so that clients see 4413, not 1009
            "ws_per_message_deflate": False,  # the transport negotiates it
            "ws_ping_interval": PING_SECONDS,
            "ws_ping_timeout": PING_SECONDS,
            "proxy_headers": bool(settings.proxies),  # uvicorn believes every local client by default
            "forwarded_allow_ips": settings.proxies,
            "log_config": None,
            "access_log": False,
            "lifespan": "off",
            "server_header": False,
            "timeout_graceful_shutdown": 2,
        }
        # Whoever checks a large update on a thread gives way to the event loop after this long.
        sys.setswitchinterval(SWITCH_SECONDS)
        gc.collect()
        gc.freeze()  # what is here now stays: no need to look through it again and again
        await Server(uvicorn.Config(app, **options), app.hub, settings).serve()


def _bound_kernel(listener: socket.socket) -> None:
    """What the kernel does for a peer that reads nothing has bounds too; connections inherit them."""
    if hasattr(socket, "TCP_NOTSENT_LOWAT"):  # it would take up to 4 MiB that no window is open for
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # also of what is left when a socket was closed
        # Later than the answer to a ping is due: who is out of reach for a moment does not notice.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(2000 * PING_SECONDS))


def _raise_open_files() -> None:
    """Allow as many sockets as the system lets us: by default it is 1,024 files, though more are allowed."""
    if resource is not None:
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _give_memory_back() -> None:
    """glibc no longer gives back by itself what is as large as the largest block that was freed so far: after
    one large message the next leave holes, and the process stays twice as large as what it holds."""
    mmap_threshold, trim_threshold = -3, -1  # M_MMAP_THRESHOLD, M_TRIM_THRESHOLD of mallopt(3)
    with suppress(OSError, TypeError, AttributeError):  # where there is no glibc
        libc = ctypes.CDLL(None)
        libc.mallopt(mmap_threshold, BLOCK_BYTES)
        libc.mallopt(trim_threshold, SPARE_BYTES)
