"""The load: Yjs clients that type real keystrokes over raw WebSockets, all in one process and on one clock.

Frames are made by hand (a zero mask key is legal and costs nothing) and updates are prepared before the
measurement, so that the server is what is measured. Every client counts every edit that reaches it.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import random
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice, repeat
from math import inf
from pathlib import Path
from time import monotonic, time
from typing import cast

import jwt
from pycrdt import Doc, Text, TransactionEvent

EMPTY_STEP_1 = b"\x00\x00\x01\x00"
EMPTY_STEP_2 = b"\x00\x01\x02\x00\x00"
SYNC_STEP_1, SYNC_STEP_2, UPDATE = b"\x00\x00", b"\x00\x01", b"\x00\x02"
PARSED_LIMIT = 512  # frames remembered per room: the same bytes come to all clients of a room
PATIENCE = 180  # seconds for one phase; beyond it the run has no result


class LoadError(Exception):
    """The server refused, closed or fell silent: the run has no result."""


# -- bytes ---------------------------------------------------------------------------------------------


def varuint(n: int) -> bytes:
    out = bytearray()
    while n > 127:
        out.append(n & 127 | 128)
        n >>= 7
    out.append(n)
    return bytes(out)


def varbytes(data: bytes) -> bytes:
    return varuint(len(data)) + data


def read_varuint(data: bytes, at: int) -> tuple[int, int]:
    n = shift = 0
    while True:
        byte = data[at]
        at += 1
        n |= (byte & 127) << shift
        if byte < 128:
            return n, at
        shift += 7


def frame(message: bytes) -> bytes:
    """One masked binary WebSocket frame."""
    n = len(message)
    if n < 126:
        return b"\x82" + bytes((0x80 | n,)) + b"\0\0\0\0" + message
    if n < 65536:
        return b"\x82\xfe" + n.to_bytes(2, "big") + b"\0\0\0\0" + message
    return b"\x82\xff" + n.to_bytes(8, "big") + b"\0\0\0\0" + message


Change = tuple[int, int, int]  # client id, clock after its last struct (0: none), units that it deleted


def changes(data: bytes, at: int = 0) -> list[Change]:
    """What an update (v1, of plain text, starting at ``at``) holds, by client id."""
    ends: dict[int, int] = {}
    sections, at = read_varuint(data, at)
    for _ in range(sections):
        structs, at = read_varuint(data, at)
        client, at = read_varuint(data, at)
        clock, at = read_varuint(data, at)
        for _ in range(structs):
            info = data[at]
            at += 1
            kind = info & 31
            if kind in (0, 10):  # GC, Skip
                n, at = read_varuint(data, at)
                clock += n
                continue
            for bit in (0x80, 0x40):  # origin, right origin
                if info & bit:
                    _, at = read_varuint(data, at)
                    _, at = read_varuint(data, at)
            if not info & 0xC0:  # no neighbour, so it names its parent
                by_name, at = read_varuint(data, at)
                n, at = read_varuint(data, at)
                if by_name:
                    at += n
                else:
                    _, at = read_varuint(data, at)
                if info & 0x20:
                    n, at = read_varuint(data, at)
                    at += n
            n, at = read_varuint(data, at)
            if kind == 4:  # string: n bytes of UTF-8, a clock tick for each unit of UTF-16
                text = data[at : at + n]
                at += n
                n = n if text.isascii() else len(text.decode().encode("utf-16-le")) // 2
            elif kind != 1:
                raise LoadError(f"struct kind {kind} in an update of plain text")
            clock += n
        ends[client] = clock
    deleted: dict[int, int] = {}
    sections, at = read_varuint(data, at)
    for _ in range(sections):
        client, at = read_varuint(data, at)
        ranges, at = read_varuint(data, at)
        for _ in range(ranges):
            _, at = read_varuint(data, at)
            n, at = read_varuint(data, at)
            deleted[client] = deleted.get(client, 0) + n
    return [(client, ends.get(client, 0), deleted.get(client, 0)) for client in ends | deleted]


# -- what is typed -------------------------------------------------------------------------------------

Patch = tuple[int, int, str]


def read_trace(path: Path) -> list[Patch]:
    """The keystrokes of a single-writer trace: (position, characters deleted, text inserted)."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        trace = json.load(file)
    if trace.get("startContent"):
        raise LoadError(f"{path.name} does not start empty")
    return [(at, deleted, text) for txn in trace["txns"] for at, deleted, text in txn["patches"]]


@dataclass(frozen=True, slots=True)
class Run:
    """Keystrokes of one writer as prepared updates, in order and depending on nothing but each other."""

    client: int
    updates: Sequence[bytes]  # each with its message type and length: a y-websocket update message
    edits_by_units: Sequence[int]  # units inserted and deleted so far -> whole edits so far
    text: str

    @classmethod
    def type(cls, client: int, patches: Sequence[Patch], count: int) -> Run:
        """The first ``count`` patches; a shorter trace is typed again behind itself."""
        doc: Doc[Text] = Doc(client_id=client)
        text = doc.get("content", type=Text)
        updates: list[bytes] = []

        def note(event: TransactionEvent) -> None:
            updates.append(UPDATE + varbytes(event.update))

        subscription = doc.observe(note)
        edits_by_units = [0]
        base = length = 0
        for i in range(count):
            at, deleted, inserted = patches[i % len(patches)]
            if i % len(patches) == 0:
                base = length
            if not inserted.isascii():
                raise LoadError("pycrdt counts bytes: only ASCII traces can be typed")
            with doc.transaction():
                if deleted:
                    del text[base + at : base + at + deleted]
                if inserted:
                    text.insert(base + at, inserted)
            length += len(inserted) - deleted
            units = deleted + len(inserted)
            edits_by_units.extend(repeat(i, units - 1))
            edits_by_units.append(i + 1)
        doc.unobserve(subscription)
        if len(updates) != count:
            raise LoadError("a patch of the trace changes nothing")
        return cls(client, updates, edits_by_units, str(text))


# -- whom it is typed to -------------------------------------------------------------------------------


SECRET = secrets.token_urlsafe(32)  # that the servers share with us, who make the tokens
AUDIENCE = "collab"


def token(client: int) -> str:
    """What an application gives its user: who it is, and that it may edit everything."""
    claims = {
        "sub": f"writer-{client}",
        "name": f"Writer {client}",
        "aud": AUDIENCE,
        "exp": int(time()) + 24 * 3600,
        "documents": {"*": "editor"},
    }
    return jwt.encode(claims, SECRET, "HS256")


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a server's messages are framed: where the document's name goes and the token, and whether each
    update is acknowledged by a SyncStatus."""

    name: str
    root: str
    hocuspocus: bool

    def path(self, document: str, client: int) -> str:
        if self.hocuspocus:
            return self.root
        return f"{self.root}/{document}?token={token(client)}"

    def prefix(self, document: str) -> bytes:
        return varbytes(document.encode()) if self.hocuspocus else b""

    def greeting(self, document: str, client: int) -> bytes:
        """What a stock client sends when its socket opens: [auth,] sync step 1, its awareness."""
        state = json.dumps({"user": {"name": f"Writer {client}", "color": "#30bced"}}).encode()
        presence = b"\x01" + varuint(client) + b"\x01" + varbytes(state)
        messages = [EMPTY_STEP_1, b"\x01" + varbytes(presence)]
        if self.hocuspocus:
            messages.insert(0, b"\x02\x00" + varbytes(token(client).encode()) + varbytes(b"4.8.0"))
        return b"".join(frame(self.prefix(document) + message) for message in messages)


Y_WEBSOCKET = Dialect("collab", "/ws", hocuspocus=False)
COLLAB_HOCUSPOCUS = Dialect("collab-hocuspocus", "/ws", hocuspocus=True)
HOCUSPOCUS = Dialect("hocuspocus", "/", hocuspocus=True)


@dataclass(slots=True)
class Tally:
    """What has reached whom, over all rooms of a scenario."""

    delivered: int = 0  # edits x clients, the writer's own copy included
    owed: int = 0  # acknowledgements that have not come
    target: int = 0
    reached: asyncio.Future[None] | None = None
    receipts: list[tuple[float, list[float], int, int]] = field(default_factory=list)

    async def reach(self, target: int) -> None:
        """Wait until ``target`` edits were delivered, and all acknowledged where that is the protocol.
        Raises LoadError when it takes too long."""
        self.target = target
        self.reached = asyncio.get_running_loop().create_future()
        self.count()
        try:
            await asyncio.wait_for(self.reached, PATIENCE)
        except TimeoutError:
            raise LoadError(
                f"{self.delivered} of {target} edits delivered, {self.owed} not acknowledged in {PATIENCE} s"
            ) from None
        if self.delivered > target:
            raise LoadError(f"{self.delivered} edits delivered, {target} were typed")
        if self.owed < 0:
            raise LoadError(f"{-self.owed} more acknowledgements came than updates were sent")

    def count(self) -> None:
        """Something has come: it may have been the last."""
        if self.delivered >= self.target and self.owed <= 0 and self.reached and not self.reached.done():
            self.reached.set_result(None)

    def fail(self, error: LoadError) -> None:
        if self.reached and not self.reached.done():
            self.reached.set_exception(error)

    def latencies(self, since: float = 0.0, until: float = inf) -> list[float]:
        """Seconds from the writer's send to each other client's receipt, for every edit that was sent in
        that time, ascending."""
        return sorted(
            now - at for now, sent, a, b in self.receipts for at in islice(sent, a, b) if since <= at < until
        )


class Room:
    """One document: the runs typed into it, and when each edit was sent."""

    def __init__(self, document: str, runs: Sequence[Run], tally: Tally) -> None:
        self.document = document
        self.runs = runs
        self.tally = tally
        self.sent: list[list[float]] = [[] for _ in runs]
        self.writers = {run.client: index for index, run in enumerate(runs)}
        self._parsed: dict[bytes, list[Change]] = {}

    def parse(self, message: bytes, at: int) -> list[Change]:
        """The changes of the update at ``at``, with the writer's index in place of its client id."""
        found = self._parsed.get(message)
        if found is None:
            if len(self._parsed) >= PARSED_LIMIT:
                self._parsed.clear()
            _, at = read_varuint(message, at)
            found = [(self.writers[client], end, gone) for client, end, gone in changes(message, at)]
            self._parsed[message] = found
        return found


class Client(asyncio.Protocol):
    """One socket in one room; a writer when it has a run. ``keep`` holds on to the state it receives."""

    def __init__(self, dialect: Dialect, room: Room, client: int, writer: int | None, keep: bool) -> None:
        self.room = room
        self.client = client
        self.writer = writer
        self.synced: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self.kept: list[bytes] | None = [] if keep else None
        self.limit = 0  # edits that may be sent by now
        self.window = 0
        self.acknowledged = 0  # own edits that came back
        self._dialect = dialect
        self._prefix = dialect.prefix(room.document)
        self._update = self._prefix + UPDATE
        self._saved = self._prefix + b"\x08\x01"
        self._open = False
        self._closing = False
        self._rest = b""
        self._ends = [0] * len(room.runs)
        self._deleted = [0] * len(room.runs)
        self._seen = [0] * len(room.runs)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's does not derive from it
        self.transport.write(
            f"GET {self._dialect.path(self.room.document, self.client)} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
            "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n".encode()
        )

    def data_received(self, data: bytes) -> None:
        now = monotonic()
        data = self._rest + data if self._rest else bytes(data)
        at, size = 0, len(data)
        if not self._open:
            at = data.find(b"\r\n\r\n") + 4
            if at < 4:
                self._rest = data
                return
            if not data.startswith(b"HTTP/1.1 101"):
                self._fail(f"upgrade refused: {data[:80]!r}")
                return
            self._open = True
            self.transport.write(self._dialect.greeting(self.room.document, self.client))
        while size - at >= 2:
            start, n = at + 2, data[at + 1]
            if n == 126:
                start, n = at + 4, int.from_bytes(data[at + 2 : at + 4], "big")
            elif n == 127:
                start, n = at + 10, int.from_bytes(data[at + 2 : at + 10], "big")
            if start + n > size:
                break
            message = data[start : start + n]
            if data[at] == 0x82:
                if message.startswith(self._update):
                    self._receive(message, now)
                elif message == self._saved:
                    self.room.tally.owed -= 1
                    self.room.tally.count()
                else:
                    self._answer(message, now)
            elif data[at] == 0x89:
                self.transport.write(b"\x8a" + bytes((0x80 | n,)) + b"\0\0\0\0" + message)
            else:
                self._fail(f"unexpected frame {data[at]:#x}: {message[:80]!r}")
            at = start + n
        self._rest = data[at:]
        if self.window:
            self.type(now)

    def _receive(self, message: bytes, now: float) -> None:
        room, tally, new = self.room, self.room.tally, 0
        if self.kept is not None and not self.synced.done():
            self.kept.append(message[read_varuint(message, len(self._update))[1] :])
            return
        for writer, end, gone in room.parse(message, len(self._update)):
            if end > self._ends[writer]:
                self._ends[writer] = end
            self._deleted[writer] += gone
            before = self._seen[writer]
            after = room.runs[writer].edits_by_units[self._ends[writer] + self._deleted[writer]]
            self._seen[writer] = after
            new += after - before
            if writer == self.writer:
                self.acknowledged = after
            else:
                tally.receipts.append((now, room.sent[writer], before, after))
        tally.delivered += new
        tally.count()

    def _answer(self, message: bytes, now: float) -> None:
        if not message.startswith(self._prefix):
            return
        at = len(self._prefix)
        kind = message[at : at + 2]
        if kind == SYNC_STEP_1:
            self.room.tally.owed += self._dialect.hocuspocus
            self.transport.write(frame(self._prefix + EMPTY_STEP_2))
        elif kind == SYNC_STEP_2 and not self.synced.done():
            if self.kept is not None:
                self.kept.append(message[read_varuint(message, at + 2)[1] :])
            self.synced.set_result(now)
        elif (kind[:1] == b"\x02" and kind != b"\x02\x02") or kind == b"\x08\x00":
            self._fail(f"denied: {message!r}")

    def type(self, now: float) -> None:
        """Send what the window and the limit allow."""
        assert self.writer is not None
        sent = self.room.sent[self.writer]
        updates = self.room.runs[self.writer].updates
        first = len(sent)
        last = min(self.limit, self.acknowledged + self.window)
        if last > first:
            sent.extend(repeat(now, last - first))
            if self._dialect.hocuspocus:
                self.room.tally.owed += last - first
            prefix = self._prefix
            self.transport.write(b"".join([frame(prefix + updates[i]) for i in range(first, last)]))

    def close(self) -> None:
        self._closing = True
        if self.transport.is_closing():
            raise LoadError(f"{self._dialect.name}: {self.room.document}: connection lost")
        self.transport.write(b"\x88\x80\0\0\0\0")
        self.transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        if not self._closing:
            self._fail(f"connection lost: {error or 'closed by the server'}")

    def _fail(self, reason: str) -> None:
        if self._closing:
            return
        failure = LoadError(f"{self._dialect.name}: {self.room.document}: {reason}")
        if not self.synced.done():
            self.synced.set_exception(failure)
        self.room.tally.fail(failure)


async def connect(
    dialect: Dialect, port: int, room: Room, client: int, writer: int | None = None, keep: bool = False
) -> Client:
    """A client that has synced. Raises LoadError."""
    made: Callable[[], Client] = lambda: Client(dialect, room, client, writer, keep)  # noqa: E731
    _, joined = await asyncio.get_running_loop().create_connection(made, "127.0.0.1", port)
    try:
        await asyncio.wait_for(joined.synced, 60)
    except TimeoutError:
        raise LoadError(f"{dialect.name}: no sync step 2 in 60 s") from None
    return joined


async def join(dialect: Dialect, port: int, room: Room, clients: int) -> list[Client]:
    """``clients`` clients of one room, the writers first."""
    joined = []
    for i in range(clients):
        writer = i if i < len(room.runs) else None
        client = 1_000_000 + i if writer is None else room.runs[writer].client
        joined.append(await connect(dialect, port, room, client, writer))
    return joined


def full_speed(writers: Sequence[Client], limit: int, window: int) -> None:
    """Let each writer go on to ``limit`` edits, never more than ``window`` of them not yet back."""
    now = monotonic()
    for writer in writers:
        writer.limit, writer.window = limit, window
        writer.type(now)


async def at_pace(writer: Client, count: int, per_second: float, seed: int) -> None:
    """Type ``count`` more edits, unevenly (each gap 0.5 to 1.5 of the mean) but the same in every run."""
    draw = random.Random(seed)
    loop = asyncio.get_running_loop()
    due = loop.time() + draw.random() / per_second
    writer.window = 1 << 30
    for _ in range(count):
        await asyncio.sleep(max(0.0, due - loop.time()))
        writer.limit += 1
        writer.type(monotonic())
        due += draw.uniform(0.5, 1.5) / per_second
