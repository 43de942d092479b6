"""uvicorn's HTTP class with bounds on what a request may take: deadlines, sizes, counts.

uvicorn waits for ever for the rest of a request and takes a head of any size. Here every phase has an end,
and what is wrong is answered before the connection is closed. It leans on private parts of uvicorn 0.54,
as ``web.transport`` does (tests/web/test_transport.py is the alarm for both).
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from http import HTTPStatus
from typing import Any, ClassVar, cast

import httptools
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from web.problem import problem
from web.turns import Turns

Large = Sequence[tuple[re.Pattern[bytes], int]]  # paths, and how many bytes a body may have there

HEAD_BYTES = 64 << 10  # request line and headers
HEADERS = 100
BODY_RATE = 4 << 10  # bytes a second; a body that comes more slowly is cut off
UNREAD_RATE = 4 << 10  # bytes a second; a peer that reads an answer more slowly is dropped
CLOSE_SECONDS = 5.0  # for the peer to read our last answer


class Gate:
    """ASGI: requests go in one by one; a body of more than ``limit`` bytes is answered with 413. ``large``
    has the limits of paths with another one, as they are sent."""

    def __init__(self, app: ASGIApp, turns: Turns, limit: int, large: Large, limited: Counter[str]) -> None:
        self._app = app
        self._turns = turns
        self._limit = limit
        self._large = large
        self._limited = limited

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._turns.wait(partial(_give, turn))
        await turn
        size = 0
        limit = limit_of(scope["raw_path"], self._large, self._limit)

        async def bounded() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > limit:
                raise HTTPException(413, self._count(limit))
            return message

        declared = dict(scope["headers"]).get(b"content-length", b"0")  # the parser has checked it
        if int(declared) > limit:
            await problem(413, "too-large", self._count(limit))(scope, receive, send)
        else:
            await self._app(scope, bounded, send)

    def _count(self, limit: int) -> str:
        self._limited["body"] += 1
        return f"a request body may have {limit} bytes at most"


def limit_of(path: bytes, large: Large, limit: int) -> int:
    for pattern, size in large:
        if pattern.fullmatch(path):
            return size
    return limit


def _give(turn: asyncio.Future[None]) -> None:
    if not turn.done():
        turn.set_result(None)


class _HeadTooLarge(Exception):
    """Too many headers. Raised through the parser, which cannot be told to stop."""


class Http(HttpToolsProtocol):
    """One HTTP connection, until it ends or becomes a WebSocket."""

    handshake_seconds = 10.0  # ``web.server.serve`` sets these for the process
    stall_seconds = 15.0
    body_bytes = 1 << 20
    large: ClassVar[Large] = ()
    limited: ClassVar[Counter[str]] = Counter()
    _turns: ClassVar[Turns] = Turns()  # of requests and upgrades: each takes up to a millisecond

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.app = cast(
            Any, Gate(cast(ASGIApp, self.app), self._turns, self.body_bytes, self.large, self.limited)
        )
        self._deadline: asyncio.TimerHandle | None = None  # of the head or of the body
        self._stall_timer: asyncio.TimerHandle | None = None
        self._head: int | None = 0  # bytes of the head that is being read; None while a body is
        self._body = 0  # bytes of the body so far, with its framing
        self._body_before = 0  # of them, those that had come when the deadline was set
        self._behind = b""  # requests that are not read before the one under way is answered
        self._messages = 0  # requests read to their end

    # --- uvicorn's side

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait(self.handshake_seconds, self._head_late)

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        if self._behind:
            self._keep(data)
            return
        at = 0
        try:
            while at < len(data) and not self.transport.is_closing():
                if self._head is None:
                    piece = data[at:]
                    self._body += len(piece)
                    limit = limit_of(self.scope["raw_path"], self.large, self.body_bytes)
                    if self._body > HEAD_BYTES + 2 * limit:
                        self.limited["body"] += 1
                        self._refuse(413, "too-large", f"a body may have {limit} bytes at most")
                        return
                    self.parser.feed_data(piece)
                else:
                    if self._head == 0 and self.cycle is not None and not self.cycle.response_complete:
                        self._keep(data[at:])
                        return
                    if self._deadline is None:
                        self._wait(self.handshake_seconds, self._head_late)
                    stop = min(at + HEAD_BYTES - self._head, len(data))
                    piece = data[at : self._end_of_head(data, at, stop)]
                    before = self._messages
                    self.parser.feed_data(piece)
                    if self._head is not None and self._messages == before:
                        self._head += len(piece)
                        if self._head >= HEAD_BYTES:
                            self._refuse_head()
                            return
                at += len(piece)
        except httptools.HttpParserUpgrade as upgrade:
            if self._should_upgrade():
                self.transport.pause_reading()
                self._turns.wait(partial(self._hand_over, data[at + upgrade.args[0] :]))
        except httptools.HttpParserError as error:
            if isinstance(error.__context__, _HeadTooLarge):
                self._refuse_head()
            else:
                self._refuse(400, "malformed", "this is not an HTTP request")

    def _keep(self, data: bytes) -> None:
        self._behind += data
        self.flow.pause_reading()
        if len(self._behind) > HEAD_BYTES:
            self.limited["pipeline"] += 1
            self._refuse(429, "too-many-requests", "wait for one answer before you ask on")

    def _take_kept(self) -> None:
        data, self._behind = self._behind, b""
        self.flow.resume_reading()
        self.data_received(data)

    @staticmethod
    def _end_of_head(data: bytes, at: int, stop: int) -> int:
        end = data.find(b"\r\n\r\n", at, stop)
        return stop if end < 0 else end + 4

    def on_header(self, name: bytes, value: bytes) -> None:
        if len(self.headers) >= HEADERS:
            raise _HeadTooLarge
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        if self.parser.should_upgrade() and self._should_upgrade():
            return  # the deadline stands until the handover
        self._head, self._body, self._body_before = None, 0, 0
        self._wait(self.handshake_seconds, self._body_late)

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._messages += 1
        self._head = 0
        self._stop_waiting()
        upgrades = self.parser.should_upgrade() and self._should_upgrade()
        if not upgrades and self.cycle.response_complete:  # before the body had come, which ended that wait
            self._unset_keepalive_if_required()
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._behind:  # uvloop may bring what comes after it before this is called
            self.loop.call_soon(self._take_kept)

    def _hand_over(self, behind: bytes) -> None:
        if self.transport.is_closing():
            return
        self._stop_waiting()
        if self._stall_timer is not None:
            self._stall_timer.cancel()
        self.handle_websocket_upgrade()
        if behind:  # uvicorn would lose it
            cast(asyncio.Protocol, self.transport.get_protocol()).data_received(behind)

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._stall_timer is None:
            self._watch_reader()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._stall_timer is not None:
            self._stall_timer.cancel()
            self._stall_timer = None

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        self.loop.call_later(CLOSE_SECONDS, self.transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)  # it calls resume_writing

    # --- deadlines

    def _wait(self, seconds: float, late: Callable[[], None]) -> None:
        self._stop_waiting()
        self._deadline = self.loop.call_later(seconds, late)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _head_late(self) -> None:
        self._deadline = None
        self.limited["handshake"] += 1
        if self._head:
            self._refuse(408, "too-slow", f"the head of a request must come in {self.handshake_seconds:g} s")
        else:  # a browser that connected ahead of need would take an answer for that to its next request
            self.transport.abort()

    def _body_late(self) -> None:
        self._deadline = None
        late = self._body - self._body_before < BODY_RATE * self.handshake_seconds
        if late and not self.flow.read_paused:  # else it is we who do not read
            self.limited["body"] += 1
            self._refuse(408, "too-slow", "the body of the request comes too slowly")
        else:
            self._body_before = self._body
            self._wait(self.handshake_seconds, self._body_late)

    def _watch_reader(self, unread: int | None = None) -> None:
        """Drop a peer that reads no answer: the next look is due when this much should be gone."""
        left = self.transport.get_write_buffer_size()
        if unread is not None and left > unread - UNREAD_RATE * self.stall_seconds:
            self.limited["stall"] += 1
            self.transport.abort()
        else:
            self._stall_timer = self.loop.call_later(self.stall_seconds, self._watch_reader, left)

    # --- answers

    def _refuse_head(self) -> None:
        self.limited["head"] += 1
        detail = f"a request may have {HEADERS} headers and {HEAD_BYTES} bytes before its body"
        self._refuse(431, "head-too-large", detail)

    def _refuse(self, status: int, code: str, detail: str) -> None:
        """Answer, unless another answer is under way, and close."""
        self._stop_waiting()
        cycle = self.cycle
        if cycle is None or cycle.response_complete or not cycle.response_started:
            self.transport.write(answer(status, code, detail))
        if cycle is not None:
            cycle.disconnected = True
            cycle.message_event.set()
        self.transport.close()
        self.loop.call_later(CLOSE_SECONDS, self.transport.abort)


def answer(status: int, code: str, detail: str) -> bytes:
    """A whole response that closes the connection, for what never becomes a request."""
    body = bytes(problem(status, code, detail).body)
    head = (
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nContent-Type: application/problem+json\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body
