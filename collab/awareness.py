"""Presence: who is here, each state as the opaque JSON that its client sent.

Source: y-protocols/awareness.js. An entry is taken when its clock is newer, or equal and it says that a
present client is gone; everything else is dropped before fan-out, which stops the echo storm (clients
up to 3.x send back every foreign entry). Ids belong to the session that introduced them: entries
from another session are dropped too, so nobody can rename or remove somebody else.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, NoReturn, Protocol, Self, TypeVar

from collab.errors import ProtocolError
from collab.protocol import read_var_bytes, read_var_uint, var_uint

EXPIRY = 30.0  # seconds without renewal; clients renew every 15
MEMORY = 60.0  # seconds for which the clock of someone gone is kept, so that echoes raise no ghosts
STATE_LIMIT = 16 << 10  # bytes of JSON; a cursor, a name and a colour take 300
DEPTH_LIMIT = 64  # of the JSON; a cursor takes 4
IDS_PER_SESSION = 16  # a provider announces one; tabs behind a bridge a few


class Owner(Protocol):
    """A session, as presence sees it."""

    def supersedes(self, other: Self, client: int) -> bool:
        """Whether a claim to ``client`` by this owner beats the one ``other`` holds."""


OwnerT = TypeVar("OwnerT", bound=Owner)


@dataclass(slots=True)
class Presence(Generic[OwnerT]):
    """One client's state: ``state`` is its JSON, or None when it is gone."""

    clock: int
    state: bytes | None
    owner: OwnerT | None
    renewed: float  # seconds on the caller's clock


class Received(NamedTuple, Generic[OwnerT]):
    taken: list[int]  # ids to tell the room about
    stale: list[int]  # ids known as gone: tell the sender alone, so that a living one bumps its clock
    contested: list[OwnerT]  # present owners of ids that the sender claimed in vain
    excess: int  # entries beyond a limit, not taken


class Awareness(Generic[OwnerT]):
    """The presence of one room."""

    def __init__(self, state_bytes: int = STATE_LIMIT) -> None:
        self._state_bytes = state_bytes
        self._clients: dict[int, Presence[OwnerT]] = {}

    def receive(self, owner: OwnerT, data: bytes, now: float) -> Received[OwnerT]:
        """Take what is new and ``owner``'s to say.

        Raises ProtocolError on bytes that are not an awareness update; nothing of them is kept.
        """
        count, at = read_var_uint(data, 0)
        if count > len(data):
            raise ProtocolError("an awareness update claims more entries than it has bytes")
        taken: list[tuple[int, int, bytes | None]] = []
        stale: list[int] = []
        contested: list[OwnerT] = []
        owned = -1
        excess = 0
        for _ in range(count):
            client, at = read_var_uint(data, at)
            clock, at = read_var_uint(data, at)
            state, at = read_var_bytes(data, at)
            known = self._clients.get(client)
            gone = state == b"null"
            if known is not None:
                if clock < known.clock or (clock == known.clock and not (gone and known.state is not None)):
                    if known.state is None and not gone:
                        stale.append(client)
                    continue
                holder = known.owner
                if holder is not None and holder is not owner and not owner.supersedes(holder, client):
                    contested.append(holder)
                    continue
            elif gone:
                continue  # someone we never met
            if known is None or known.owner is not owner:
                if owned < 0:
                    owned = sum(p.owner is owner for p in self._clients.values())
                owned += 1
                if owned > IDS_PER_SESSION:
                    excess += 1
                    continue
            if gone:
                taken.append((client, clock, None))
            elif len(state) > self._state_bytes:
                excess += 1
            else:
                _check_state(state)
                taken.append((client, clock, state))
        for client, clock, kept in taken:
            self._clients[client] = Presence(clock, kept, owner, now)
        return Received([client for client, _, _ in taken], stale, contested, excess)

    def leave(self, owner: OwnerT, now: float) -> list[int]:
        """The session closed: exactly the ids it owns are gone. Returns them."""
        owned = [client for client, presence in self._clients.items() if presence.owner is owner]
        removed = self._remove(owned, now)
        for client in owned:  # one that said goodbye itself may come back on another connection, too
            self._clients[client].owner = None
        return removed

    def expire(self, now: float) -> list[int]:
        """Remove what was not renewed and forget clocks kept long enough. Returns the ids removed."""
        for client in [c for c, p in self._clients.items() if p.state is None and now - p.renewed > MEMORY]:
            del self._clients[client]
        return self._remove((c for c, p in self._clients.items() if now - p.renewed > EXPIRY), now)

    def _remove(self, clients: Iterable[int], now: float) -> list[int]:
        removed = [client for client in clients if self._clients[client].state is not None]
        for client in removed:
            # The same clock, as y-protocols does: a client that comes back has moved its clock by one, and
            # those who heard that it was gone must take that for news.
            self._clients[client] = Presence(self._clients[client].clock, None, None, now)
        return removed

    def present(self) -> list[int]:
        return [client for client, presence in self._clients.items() if presence.state is not None]

    def encode(self, clients: Iterable[int]) -> bytes:
        """An awareness update about ``clients`` as known now, those gone as null."""
        entries = [(client, self._clients[client]) for client in clients if client in self._clients]
        parts = [var_uint(len(entries))]
        for client, presence in entries:
            state = b"null" if presence.state is None else presence.state
            parts += (var_uint(client), var_uint(presence.clock), var_uint(len(state)), state)
        return b"".join(parts)


def _check_state(state: bytes) -> None:
    """Everybody must be able to parse it: JSON as JSON.parse reads it, not as Python does, and no deeper
    than any parser goes."""
    try:
        parsed = json.loads(state, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"an awareness state is not JSON: {error}") from None
    level = [parsed]
    for _ in range(DEPTH_LIMIT):
        level = [inner for one in level if isinstance(one, dict | list) for inner in _inside(one)]
        if not level:
            return
    raise ProtocolError(f"an awareness state is nested deeper than {DEPTH_LIMIT} levels")


def _inside(one: dict[str, Any] | list[Any]) -> Iterable[Any]:
    return one.values() if isinstance(one, dict) else one


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
