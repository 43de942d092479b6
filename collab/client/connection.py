"""One socket to the server for up to a hundred documents: dialled again and again, and never trusted to be
alive only because nobody has said that it is not."""

from __future__ import annotations

import asyncio
import inspect
import logging
import random
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException

from collab import hocuspocus
from collab.client.document import Document, DocumentClosed, Line
from collab.client.exchange import Exchange
from collab.client.replica import ReplicaFailed
from collab.errors import (
    ClientIdInUse,
    CollabError,
    InvalidRequest,
    NotAuthenticated,
    Overloaded,
    ProtocolError,
    RateLimited,
    StorageUnavailable,
    TooLarge,
)
from collab.protocol import var_string

DOCUMENTS = 100  # on one socket; the server carries no more

# A silent line is asked after QUIET seconds and given up PATIENCE later: a black hole is seen within ten.
QUIET = 4.0
PATIENCE = 4.0
SLOW_LINE = 16 << 10  # bytes a second: what is on its way may take so long before it is missed
TICK = 0.25  # between two looks at the clock, and two writes of others' edits to the file
OPEN_SECONDS = 8.0

PAUSE, LONGEST_PAUSE = 0.5, 30.0  # before dialling again: up to PAUSE, doubled each time, up to LONGEST_PAUSE
STEADY = 10.0  # a line that lived for so long was a good one: begin with short pauses again

FRAME_LIMIT = 72 << 20  # bytes: a document that the server takes, in one struct, and its frame

# A denial for one of these may be none in a moment.
PASSING = (RateLimited, Overloaded, StorageUnavailable)
# The server closes with these on what it may not be sent: the same comes out of the same edits next time.
OFFENCES: dict[int, Callable[[str], CollabError]] = {
    ProtocolError.close_code: ProtocolError,
    ClientIdInUse.close_code: ClientIdInUse,
    TooLarge.close_code: TooLarge,
    1009: TooLarge,  # RFC 6455's own word for it
}


class _Ended(Exception):
    """The line has ended."""


Token = str | Callable[[], str | Awaitable[str]]

_log = logging.getLogger(__name__)


class _Wire(ClientConnection):
    """Notes when the peer was heard last: every byte counts, also of a message that takes long to arrive."""

    heard = 0.0

    def data_received(self, data: bytes) -> None:
        self.heard = asyncio.get_running_loop().time()
        super().data_received(data)


class Connection:
    """Keeps ``documents`` in step with the server at ``url`` while ``run`` runs."""

    def __init__(self, url: str, token: Token) -> None:
        self.url = socket_url(url)
        self.trouble: Exception | None = None  # why there is no line
        self.connected = False
        self.sent = self.received = 0  # bytes in frames, over all lines
        self._token = token
        self._exchanges: dict[str, Exchange] = {}
        self._socket: _Wire | None = None
        self._outbox: deque[bytes] = deque()  # bounded by the exchanges' windows
        self._outgoing = asyncio.Event()
        self._tasks: asyncio.TaskGroup | None = None
        self._wake = asyncio.Event()
        self._denials: dict[str, int] = {}  # of a document
        self._suspects: list[str] = []  # one of these holds what the server may not be sent
        self._trying: str | None = None  # which of them is being tried
        self._unwritable: set[str] = set()  # documents of which the file takes nothing now

    def __len__(self) -> int:
        return len(self._exchanges)

    def add(self, document: Document) -> None:
        """Keep a document in step from now on."""
        key = var_string(document.name)
        name = document.name
        exchange = Exchange(
            document,
            lambda message: self._put(key + message),
            lambda: self._spawn(self._renew(name)),
            lambda error: self._denied(name, error),
        )
        self._exchanges[name] = exchange
        document.stirred = exchange.pump
        if self.connected:
            self._spawn(self._start(name))
        self._wake.set()

    def remove(self, document: Document) -> None:
        exchange = self._exchanges.pop(document.name, None)
        if exchange is not None:
            document.stirred = None
            exchange.lost()
            self._put(var_string(document.name) + hocuspocus.encode_close("closed"))

    def retry(self) -> None:
        """Dial at once, and ask again for documents that were refused."""
        for name, exchange in self._exchanges.items():
            if exchange.document.refusal is not None and not exchange.document.failed:
                exchange.barred = False
                exchange.document.refusal = None
                if self.connected:
                    self._spawn(self._start(name))
        self._denials.clear()
        self._wake.set()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        if self._tasks is None:  # no line: what it was for begins anew with the next
            work.close()
        else:
            self._tasks.create_task(work)

    def _put(self, frame: bytes) -> None:
        if self.connected:
            self._outbox.append(frame)
            self._outgoing.set()

    # --- lines

    async def run(self) -> None:
        """Dial until cancelled."""
        failures = 0
        loop = asyncio.get_running_loop()
        while True:
            self._wake.clear()
            if not self._wanted():
                await self._wake.wait()
                continue
            began = loop.time()
            try:
                await self._serve()
            except (OSError, WebSocketException, TimeoutError, CollabError) as error:
                self.trouble = error
            self._wake.clear()  # a document that was opened on the line is no reason to hurry now
            failures = 1 if loop.time() - began > STEADY else failures + 1
            pause = random.uniform(0, min(LONGEST_PAUSE, PAUSE * 2 ** min(failures - 1, 10)))
            _log.debug("%s: no line (%s), dialling again in %.1f s", self.url, self.trouble, pause)
            try:
                async with asyncio.timeout(pause):
                    await self._wake.wait()
            except TimeoutError:
                pass

    def _wanted(self) -> bool:
        return any(
            not exchange.barred and self._passes(exchange.document.refusal)
            for exchange in self._exchanges.values()
        )

    async def _serve(self) -> None:
        """One line, from dialling to its end. Raises what ended it."""
        for exchange in self._exchanges.values():
            exchange.document.set_line(Line.CONNECTING)
        try:
            async with connect(
                self.url,
                compression=None,
                max_size=FRAME_LIMIT,
                ping_interval=None,  # it would miss that a slow line is alive: see _watch
                open_timeout=OPEN_SECONDS,
                close_timeout=1,
                user_agent_header="collab-client",
                create_connection=_Wire,
            ) as socket:
                assert isinstance(socket, _Wire)
                await self._converse(socket)
        finally:
            for exchange in self._exchanges.values():
                exchange.lost()
                self._flush(exchange.document)

    async def _converse(self, socket: _Wire) -> None:
        socket.heard = asyncio.get_running_loop().time()
        self._socket, self.connected, self.trouble = socket, True, None
        self._outbox.clear()
        try:
            async with asyncio.TaskGroup() as self._tasks:
                self._tasks.create_task(self._write(socket))
                self._tasks.create_task(self._watch(socket))
                for name in self._exchanges:
                    if name not in self._suspects:
                        self._tasks.create_task(self._start(name))
                if self._suspects:
                    self._tasks.create_task(self._try_suspects())
                await self._read(socket)
                raise _Ended  # so that the others end, too
        except* _Ended:
            pass
        except* CollabError as group:
            self.trouble = group.exceptions[0]
        finally:
            self._tasks, self.connected = None, False
            socket.transport.abort()
        self._ended(socket.close_code, socket.close_reason or "")

    async def _read(self, socket: _Wire) -> None:
        """Until the line ends. Raises CollabError for what no server sends."""
        loop = asyncio.get_running_loop()
        try:
            async for data in socket:
                if isinstance(data, str):
                    raise ProtocolError("the server sent text; is this the address of a Collab server?")
                self.received += len(data)
                if data == hocuspocus.PONG:
                    continue
                if data == hocuspocus.PING:
                    self._put(hocuspocus.PONG)
                    continue
                frame = hocuspocus.decode(data)
                exchange = self._exchanges.get(hocuspocus.name_of(frame.key))
                if exchange is not None:
                    exchange.receive(frame, loop.time())
        except ConnectionClosed:
            return

    async def _write(self, socket: _Wire) -> None:
        try:
            while True:
                while self._outbox:
                    frame = self._outbox.popleft()
                    await socket.send(frame)
                    self.sent += len(frame)
                self._outgoing.clear()
                await self._outgoing.wait()
        except ConnectionClosed:
            return  # the reader says so

    async def _watch(self, socket: _Wire) -> None:
        """Look after what only time can tell."""
        loop = asyncio.get_running_loop()
        asked: float | None = None
        while True:
            await asyncio.sleep(TICK)
            now = loop.time()
            for exchange in self._exchanges.values():
                exchange.document.presence.renew(now)
                self._flush(exchange.document)
            if asked is not None and socket.heard > asked:
                asked = None
            if asked is None and now - socket.heard > QUIET:
                self._put(hocuspocus.PING)
                asked = now
            elif asked is not None:
                under_way = sum(exchange.unacknowledged for exchange in self._exchanges.values())
                if now - asked > PATIENCE + under_way / SLOW_LINE:
                    self.trouble = TimeoutError("the line is silent")
                    socket.transport.abort()
                    return

    def _ended(self, code: int | None, reason: str) -> None:
        """Learn from a close. What it means for one document, that hears when it comes back; but of what the
        server may not be sent, the document must be found, lest the others are closed with it for ever."""
        if self.trouble is None:
            self.trouble = ConnectionError(f"the line ended with {code} {reason}".rstrip())
        if code not in OFFENCES:
            return
        self.trouble = error = OFFENCES[code](reason)
        suspects = [name for name, one in self._exchanges.items() if one.document.unsaved and not one.barred]
        guilty = self._trying if self._trying is not None else suspects[0] if len(suspects) == 1 else None
        if guilty is None:
            self._suspects = suspects
        elif guilty in self._exchanges:
            self._exchanges[guilty].bar(error)
            self._suspects = [name for name in self._suspects if name != guilty]
        self._trying = None

    async def _try_suspects(self) -> None:
        """One after the other, so that it shows whose edits they are."""
        while self._suspects:
            self._trying = name = self._suspects[0]
            exchange = self._exchanges.get(name)
            if exchange is not None:
                await self._start(name)
                with suppress(DocumentClosed):
                    await exchange.document.until(lambda status: not status.unsaved or bool(status.refusal))
            self._suspects.pop(0)
        self._trying = None

    # --- tokens

    async def _start(self, name: str) -> None:
        token = await self._fresh_token(name)
        exchange = self._exchanges.get(name)
        if token is not None and exchange is not None:
            exchange.start(token)

    async def _renew(self, name: str) -> None:
        token = await self._fresh_token(name)
        exchange = self._exchanges.get(name)
        if token is not None and exchange is not None:
            exchange.renew(token)

    async def _fresh_token(self, name: str) -> str | None:
        if isinstance(self._token, str):
            return self._token
        try:
            token = self._token()
            return await token if inspect.isawaitable(token) else token
        except Exception as error:  # the application's; without a token there is no line
            _log.warning("no token for %s: %s", name, error, exc_info=True)
            self.trouble = error
            if self._socket is not None:
                self._socket.transport.abort()
            return None

    def _denied(self, name: str, error: CollabError) -> None:
        document = self._exchanges[name].document
        if not isinstance(error, PASSING):
            document.refuse(error)
        if self._passes(error):
            self._spawn(self._ask_again(name))
        self.trouble = error

    def _flush(self, document: Document) -> None:
        """What the file does not take is kept in memory, as the document's status says, and tried again."""
        try:
            document.flush()
        except ReplicaFailed as error:
            if document.name not in self._unwritable:
                self._unwritable.add(document.name)
                _log.warning("%s", error)
        else:
            self._unwritable.discard(document.name)

    def _passes(self, error: CollabError | None) -> bool:
        """Whether to ask again without being told to."""
        fresh = isinstance(error, NotAuthenticated) and not isinstance(self._token, str)
        return error is None or isinstance(error, PASSING) or fresh

    async def _ask_again(self, name: str) -> None:
        self._denials[name] = denials = self._denials.get(name, 0) + 1
        await asyncio.sleep(random.uniform(0.5, 1) * min(LONGEST_PAUSE, PAUSE * 2 ** min(denials, 10)))
        await self._start(name)


def socket_url(url: str) -> str:
    """Where the server's socket is, from its address or that of its socket. Raises InvalidRequest."""
    parts = urlsplit(url)
    scheme = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}.get(parts.scheme)
    if scheme is None or not parts.netloc:
        raise InvalidRequest(f"a server's address is like https://collab.example.org, not {url!r}")
    path = parts.path.rstrip("/")
    return urlunsplit((scheme, parts.netloc, path if path.endswith("/ws") else f"{path}/ws", "", ""))
