"""A y-websocket client for tests, in Python: a pycrdt doc over a real socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Self
from urllib.parse import quote

from pycrdt import Doc, Text
from serverprocess import PATIENCE
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from collab import protocol


class Client:
    """One document on one socket. Local edits are made with ``insert`` and ``delete`` in code points of
    ASCII text (pycrdt counts bytes); ``saved`` waits for the server's durable acknowledgement."""

    def __init__(self, url: str, document: str, doc: Doc[Any] | None = None) -> None:
        self.url = f"{url}/ws/{quote(document, safe='')}"
        self.doc = doc if doc is not None else Doc()
        self.text = self.doc.get("content", type=Text)
        self.frames: list[bytes] = []  # everything received, for tests that look at the wire
        self.synced = asyncio.Event()
        self.closed: tuple[int, str] | None = None
        self._socket: ClientConnection | None = None
        self._reader: asyncio.Task[None] | None = None
        self.asked = 0
        self.acknowledged = 0  # the latest ``ask`` that was answered
        self._changed = asyncio.Event()

    @property
    def socket(self) -> ClientConnection:
        assert self._socket is not None
        return self._socket

    async def open(self, **options: Any) -> Self:
        if self._reader is not None:
            await self._reader  # the end of the old connection must not be taken for the new one's
        self.closed = None
        self.synced.clear()
        self._socket = await connect(self.url, max_size=None, compression=None, **options)
        self._reader = asyncio.create_task(self._read())
        await self.socket.send(protocol.encode_step1(self.doc.get_state()))
        return self

    async def close(self) -> None:
        await self.socket.close()
        if self._reader is not None:
            await self._reader

    def abort(self) -> None:
        """Cut the connection without a word."""
        self.socket.transport.abort()

    async def _read(self) -> None:
        try:
            async for frame in self.socket:
                assert isinstance(frame, bytes)
                self.frames.append(frame)
                await self._take(frame)
                self._changed.set()
        except ConnectionClosed:
            pass
        self.closed = (self.socket.close_code or 1006, self.socket.close_reason or "")
        self._changed.set()

    async def _take(self, frame: bytes) -> None:
        for message in protocol.decode(frame):
            if isinstance(message, protocol.SyncStep1):
                await self.socket.send(protocol.encode_step2(self.doc.get_update(message.state_vector)))
            elif isinstance(message, protocol.SyncStep2 | protocol.Update):
                self.doc.apply_update(message.update)
                if isinstance(message, protocol.SyncStep2):
                    self.synced.set()
            elif isinstance(message, protocol.SyncStatus):
                self.acknowledged = max(self.acknowledged, int(message.payload))

    def edit(self, change: Callable[[Text], None]) -> bytes:
        """Change the text locally; returns the update that says so."""
        before = self.doc.get_state()
        updates: list[bytes] = []
        subscription = self.doc.observe(lambda event: updates.append(event.update))
        try:
            change(self.text)
        finally:
            self.doc.unobserve(subscription)
        return updates[0] if updates else self.doc.get_update(before)

    async def send(self, *messages: bytes) -> None:
        for message in messages:
            await self.socket.send(message)

    async def insert(self, at: int, text: str) -> None:
        await self.send(protocol.encode_update(self.edit(lambda t: t.insert(at, text))))

    async def delete(self, start: int, stop: int) -> None:
        def change(text: Text) -> None:
            del text[start:stop]

        await self.send(protocol.encode_update(self.edit(change)))

    async def saved(self, timeout: float = PATIENCE) -> None:
        """Return once everything sent so far is durable on the server."""
        asked = await self.ask()
        await self.until(lambda: self.acknowledged >= asked, timeout)

    async def ask(self) -> int:
        """Ask to be told when everything sent so far is durable; ``acknowledged`` reaches the result then."""
        self.asked += 1
        asked = self.asked
        await self.send(protocol.encode_sync_status(str(asked).encode()))
        return asked

    async def until(self, condition: Callable[[], bool], timeout: float = PATIENCE) -> None:
        """Wait until ``condition``, looked at after every frame."""
        async with asyncio.timeout(timeout):
            while not condition():
                if self.closed is not None:
                    raise ConnectionError(f"closed with {self.closed} while waiting")
                self._changed.clear()
                await self._changed.wait()

    async def ended(self, timeout: float = PATIENCE) -> tuple[int, str]:
        """Wait for the server to close; returns code and reason."""
        async with asyncio.timeout(timeout):
            while self.closed is None:
                self._changed.clear()
                await self._changed.wait()
        return self.closed


@asynccontextmanager
async def client(
    url: str, document: str, doc: Doc[Any] | None = None, **options: Any
) -> AsyncIterator[Client]:
    """A connected client that has had its first answer."""
    made = await Client(url, document, doc).open(**options)
    try:
        await asyncio.wait_for(made.synced.wait(), PATIENCE)
        yield made
    finally:
        await made.close()
