"""An in-memory connection, flushed by hand, and a log that fails when told to."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from collab.errors import CollabError, DocumentDeleted, StorageUnavailable
from collab.log import Actor, Batch, DocumentGone, Entry, Loaded
from collab.protocol import Y_WEBSOCKET, Dialect
from collab.room import Room
from collab.session import Session
from collab.stats import Stats


class Wire:
    """A ``Link`` that keeps what it was given until the test takes it."""

    def __init__(self) -> None:
        self.messages: deque[bytes] = deque()
        self.writes = 0
        self.closed: tuple[int, str] | None = None
        self.reading = True
        self.probes = 0
        self.unread = 0  # bytes of backlog to pretend
        self.congested = True

    def write(self, message: bytes, times: int = 1) -> None:
        self.messages.extend([message] * times)
        self.writes += 1

    def close(self, code: int, reason: str) -> None:
        self.closed = (code, reason)

    def backlog(self) -> int:
        return self.unread

    def pause(self) -> None:
        self.reading = False

    def resume(self) -> None:
        self.reading = True

    def probe(self) -> None:
        self.probes += 1

    def take(self) -> list[bytes]:
        taken = list(self.messages)
        self.messages.clear()
        return taken


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class MemoryLog:
    """A ``Log`` in memory. ``fail`` counts the appends that raise before anything is stored."""

    def __init__(self) -> None:
        self.entries: dict[str, list[Entry]] = {}
        self.snapshots: dict[str, tuple[int, bytes]] = {}
        self.fail = 0
        self.deleted: set[str] = set()
        self.appends = 0
        self.loads = 0
        self.seals: list[tuple[str, int]] = []

    def stored(self, document: str) -> Loaded:
        seq, base = self.snapshots.get(document, (0, b""))
        return Loaded(1, seq, base, [e.data for e in self.entries.get(document, [])[seq:]])

    async def load(self, document: str) -> Loaded:
        self.loads += 1
        if document in self.deleted:
            raise DocumentDeleted("deleted")
        return self.stored(document)

    def append_now(self, batches: Sequence[Batch]) -> None:
        self.appends += 1
        if self.fail:
            self.fail -= 1
            raise StorageUnavailable("the disk is full")
        for batch in batches:
            if batch.document in self.deleted:
                continue
            rows = self.entries.setdefault(batch.document, [])
            for entry in batch.entries:
                assert entry.seq == len(rows) + 1, "the log has no gaps"
                rows.append(entry)
        if gone := self.deleted & {batch.document for batch in batches}:
            raise DocumentGone(sorted(gone))

    async def append(self, batches: Sequence[Batch]) -> None:
        self.append_now(batches)

    async def snapshot(self, document: str, epoch: int, seq: int, data: bytes) -> None:
        assert seq <= len(self.entries[document])
        self.snapshots[document] = (seq, data)

    async def seal(self, document: str) -> None:
        self.seals.append((document, len(self.entries[document])))


class Bench:
    """A room on a ``MemoryLog``, committed when the test says so."""

    def __init__(self, log: MemoryLog | None = None, document: str = "d") -> None:
        self.log = log or MemoryLog()
        self.clock = Clock()
        self.stats = Stats()
        self.stirred = False
        self.room = Room(
            document,
            self.log.stored(document),
            stirred=lambda _: setattr(self, "stirred", True),
            present=lambda _: None,
            stats=self.stats,
            now=self.clock,
        )

    def join(
        self, actor: str = "", *, writes: bool = True, dialect: Dialect = Y_WEBSOCKET
    ) -> tuple[Session, Wire]:
        wire = Wire()
        session = Session(Actor(actor or f"guest:{id(wire)}"), wire, writes=writes, dialect=dialect)
        self.room.join(session)
        return session, wire

    def commit(self) -> CollabError | None:
        """Append all that is pending and tell; the error when the log refused."""
        while True:
            self.stirred = False
            if (batch := self.room.take_pending()) is None:
                if not self.stirred:
                    return None
                continue
            try:
                self.log.append_now([batch])
            except StorageUnavailable as error:
                self.room.fail(error)
                return error
            self.room.committed()
