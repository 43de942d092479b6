"""A network cable for tests: TCP to a server, which may be cut, or swallow everything without a word."""

from __future__ import annotations

import asyncio
import threading
from asyncio import StreamReader, StreamWriter
from collections.abc import Coroutine
from typing import TypeVar

T = TypeVar("T")


class Cable:
    """Carries every connection that is made to ``url`` to ``port``, in an event loop of its own."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.cuts = 0  # connections that were ended
        self.dark = False  # a black hole: what is sent is taken and never arrives, and nobody is told
        self._ends: set[StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._server = self._do(asyncio.start_server(self._connect, "127.0.0.1", 0))
        self.ws_url = f"ws://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def cut(self) -> None:
        """End all connections; what is under way is lost. New ones may be made at once."""
        self._do(self._cut())

    def close(self) -> None:
        self._server.close()
        self.cut()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def _do(self, work: Coroutine[None, None, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _connect(self, near_reader: StreamReader, near: StreamWriter) -> None:
        try:
            far_reader, far = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            near.transport.abort()
            return
        self._ends |= {near, far}
        await asyncio.gather(self._carry(near_reader, far), self._carry(far_reader, near))
        self._ends -= {near, far}

    async def _carry(self, source: StreamReader, target: StreamWriter) -> None:
        try:
            while data := await source.read(1 << 16):
                if self.dark:
                    continue
                target.write(data)
                await target.drain()
            target.close()
        except ConnectionError:
            target.transport.abort()

    async def _cut(self) -> None:
        self.cuts += len(self._ends) // 2
        for end in self._ends:
            end.transport.abort()
