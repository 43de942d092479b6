"""Somebody at the door: a raw socket of either dialect with whatever credential, and tokens to bring."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self
from urllib.parse import quote

import jwt
from serverprocess import PATIENCE, Server
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from collab import protocol
from collab.protocol import var_string

SECRET = "a secret that the tests share with their servers"
STEP1 = protocol.encode_step1(b"\0")
PRESENCE_SECONDS = 0.3  # presence is gathered for up to a quarter of a second before it is told


def token(subject: object = "ada", *, secret: str = SECRET, **claims: object) -> str:
    """A token as a host application makes them; a claim that is ... is left out."""
    made = {"sub": subject, "aud": "collab", "exp": int(time.time()) + 86_400, **claims}
    return jwt.encode({k: v for k, v in made.items() if v is not ...}, secret, "HS256")


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


class Visitor:
    """One document on one socket. ``heard`` is what came, without the routing key, keep-alives left out."""

    def __init__(
        self,
        server: Server,
        document: str,
        *,
        hocuspocus: bool = False,
        token: str | None = None,
        headers: Mapping[str, str] | None = None,
        subprotocols: Sequence[str] = (),
        query: str = "",
        origin: str | None = None,
        session: str = "",
    ) -> None:
        path = "/ws" if hocuspocus else f"/ws/{quote(document, safe='')}"
        if token is not None and not hocuspocus:
            query = f"?token={quote(token)}"
        self.url = f"{server.ws_url}{path}{query}"
        self.key = var_string(document + session) if hocuspocus else b""
        self.hocuspocus = hocuspocus
        self.token = token
        self.heard: list[bytes] = []
        self.closed: tuple[int, str] | None = None
        self.scope = ""  # of Hocuspocus: "read-write" or "readonly"
        self.denied: str | None = None  # the reason
        self._options: dict[str, Any] = {
            "additional_headers": dict(headers or {}),
            "subprotocols": list(subprotocols) or None,
            "origin": origin,
        }
        self.socket: ClientConnection

    async def __aenter__(self) -> Self:
        self.socket = await connect(self.url, max_size=None, compression=None, **self._options)
        if self.hocuspocus:
            await self.sign_in(self.token or "")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.socket.close()

    def abort(self) -> None:
        """Cut the connection without a word."""
        self.socket.transport.abort()

    async def sign_in(self, token: str) -> None:
        """Bring a token in an auth frame, and wait for the answer."""
        self.scope, self.denied = "", None
        await self.send(b"\x02\x00" + var_string(token) + var_string("4.8.0"))
        await self.until(lambda: self.scope or self.denied is not None)

    async def send(self, *messages: bytes) -> None:
        try:
            for message in messages:
                await self.socket.send(self.key + message)
        except ConnectionClosed:
            pass  # why is read from what comes

    async def next(self, seconds: float = PATIENCE) -> bytes | None:
        """The next message; None at the end of the connection."""
        try:
            async with asyncio.timeout(seconds):
                while True:
                    frame = await self.socket.recv()
                    assert isinstance(frame, bytes)
                    if len(frame) == 1:
                        message = frame
                    else:
                        assert frame.startswith(self.key), frame
                        message = frame[len(self.key) :]
                    if message != protocol.KEEPALIVE:
                        break
        except ConnectionClosed:
            self.closed = (self.socket.close_code or 1006, self.socket.close_reason or "")
            return None
        if self.hocuspocus and message.startswith(b"\x02\x02"):
            self.scope = protocol.read_var_bytes(message, 2)[0].decode()
        elif self.hocuspocus and message.startswith(b"\x02\x01"):
            self.denied = protocol.read_var_bytes(message, 2)[0].decode()
        self.heard.append(message)
        return message

    async def until(self, met: Callable[[], object], seconds: float = PATIENCE) -> None:
        """Read until ``met`` or the end of the connection."""
        async with asyncio.timeout(seconds):
            while not met() and await self.next(seconds) is not None:
                pass

    async def settle(self) -> list[bytes]:
        """All that comes of what was sent so far, in order, but for presence (it is told a moment later)."""
        begin = len(self.heard)
        # The first answer may come before what its commit tells; the second comes after it.
        for _ in range(2):
            await self.send(STEP1)
            while (message := await self.next()) is not None:
                if message.startswith(b"\x00\x01"):
                    self.heard.pop()
                    break
                if self.hocuspocus and message.startswith(b"\x00\x00"):
                    self.heard.pop()  # comes before each answer there
        return self.heard[begin:]

    async def ended(self, seconds: float = PATIENCE) -> tuple[int, str]:
        """Read to the end; the close code and its reason."""
        await self.until(lambda: False, seconds)
        assert self.closed is not None
        return self.closed
