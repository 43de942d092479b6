"""One connection in one room: who it is, what it waits for, and a bounded way out to it."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from collab.errors import CollabError, Overloaded
from collab.log import Actor, Origin
from collab.protocol import Y_WEBSOCKET, Dialect

OUTBOX_LIMIT = 1 << 20  # bytes a peer may leave unread; beyond this a resync is cheaper
LARGE_LIMIT = 16 << 20  # the same while large messages drain, each no more than the protocol allows
STREAM_WINDOW = 256 << 10  # bytes of a large state handed to the network at a time
HOLD_COUNT = 2048  # updates that may wait for what they depend on, per session: a fast program types so
# many between its connecting and our step 1 reaching it
HOLD_BYTES = 4 << 20
HOLD_SECONDS = 20.0
WANTED_BYTES = 4 << 20
WANTED_COUNT = 10_000  # acknowledgements asked for and not yet due
WANTED_HIGH = 1_000  # of them, beyond which a client is not read until the commit

_births = itertools.count()


class Link(Protocol):
    """The way to a peer. Never waits, never raises: what cannot be sent is the link's to report."""

    @property
    def congested(self) -> bool:
        """Whether the network takes less than it is given; only then is ``backlog`` worth asking."""

    def write(self, message: bytes, times: int = 1) -> None:
        """Hand one message over, in order; as many ``times`` as it is to be read."""

    def close(self, code: int, reason: str) -> None:
        """End the connection, after what was handed over, within a deadline."""

    def backlog(self) -> int:
        """Bytes handed over that the network has not taken."""

    def pause(self) -> None:
        """Read no more from the peer until ``resume``."""

    def resume(self) -> None:
        """Read on."""

    def probe(self) -> None:
        """Find out soon whether the peer is still there, and end the connection if it is not."""


class Unheard:
    """The ``Link`` of whoever only writes: a program's request, which learns the outcome in another way."""

    congested = False

    def write(self, message: bytes, times: int = 1) -> None:
        pass

    def close(self, code: int, reason: str) -> None:
        pass

    def backlog(self) -> int:
        return 0

    def pause(self) -> None:
        pass

    def resume(self) -> None:
        pass

    def probe(self) -> None:
        pass


class Held(NamedTuple):
    """An update that waits: for clocks to be reached, or for another session's claim to end."""

    number: int
    since: float
    data: bytes
    origin: Origin
    missing: tuple[int, ...]  # the client ids that it needed more of, or whose claims had to end
    contested: bool  # it waits for a claim, not for clocks
    client: int  # the one of them that is waited for now, until
    clock: int  # so much of it is here


class Wanted(NamedTuple):
    """An acknowledgement asked for after update ``number``; due when ``seq`` is durable."""

    number: int
    seq: int | None  # None while something of this session is held
    message: bytes  # the acknowledgement


@dataclass(eq=False, slots=True)
class Session:
    """The state of one connection in one room. Rooms change it; nothing here waits."""

    actor: Actor
    link: Link
    writes: bool = True  # may change the document; whoever is here may read it and be seen
    dialect: Dialect = Y_WEBSOCKET
    tells_authors: Callable[[Mapping[int, Actor]], bytes] | None = None  # for who wants to hear of them
    denied: str = ""  # why an update of this session was not taken; from then on none is
    client: int | None = None  # the Yjs client id that is this connection's own
    live: bool = False  # has had its first answer, so it gets what is committed from now on
    closed: bool = False
    quiet: bool = True  # nothing was sent since the last sweep
    received: int = 0  # updates received
    held: dict[int, Held] = field(default_factory=dict)  # by number, the first first
    held_bytes: int = 0
    wanted: deque[Wanted] = field(default_factory=deque)
    wanted_bytes: int = 0
    allowed: int = OUTBOX_LIMIT  # bytes that may lie unread; more while one large message drains
    parts: list[bytes] = field(default_factory=list)  # of a large state on its way
    since: int | None = None  # the seq of the state that streams
    missed: list[bytes] = field(default_factory=list)  # committed since, and no longer in the room's tail
    born: int = field(default_factory=_births.__next__)

    def supersedes(self, other: Session, client: int) -> bool:
        """A later connection of the same actor wins; and a client's own connection wins over one
        that merely passed its id on."""
        if self.actor.id == other.actor.id:
            return self.born > other.born
        return other.client != client and self.client in (None, client)

    def send(self, message: bytes, times: int = 1) -> None:
        """Hand ``message`` to the peer, so many ``times``, or end the session when it has left too much
        unread."""
        if self.closed:
            return
        self.quiet = False
        if self.link.congested and self.link.backlog() > self.allowed:
            self.end(Overloaded("more waits for this client than it reads; reconnect"))
            return
        self._write(message, times)

    def _write(self, message: bytes, times: int = 1) -> None:
        self.link.write(message, times)
        if len(message) > STREAM_WINDOW:  # no sign of a slow reader: it has until the stall deadline
            self.allowed = max(len(message), min(self.link.backlog(), LARGE_LIMIT)) + OUTBOX_LIMIT

    def drained(self) -> None:
        """The network took what it was given."""
        self.allowed = OUTBOX_LIMIT

    def stream(self, messages: Iterable[bytes]) -> bool:
        """Send ``messages`` as fast as the peer reads them; whether all went out at once."""
        self.parts.extend(messages)
        return self.pump()

    def pump(self) -> bool:
        """Send more of what streams; whether the last of it went out just now."""
        if not self.parts or self.closed:
            return False
        self.quiet = False
        while self.parts and self.link.backlog() < STREAM_WINDOW:
            self._write(self.parts.pop(0))
        return not self.parts

    def end(self, error: CollabError) -> None:
        """Close the connection for ``error``'s reason. The room is left when the link reports it."""
        if not self.closed:
            self.closed = True
            self.parts.clear()
            self.link.close(error.close_code, str(error))
