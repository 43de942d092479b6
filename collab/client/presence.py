"""Presence: who else is in a document, and what they show of themselves, as y-protocols' awareness has it.

Nothing of it is kept: it is what connected clients say about themselves now. Names in it are claims; who
really made an edit, the server knows and writes into its log.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from collab.errors import ProtocolError
from collab.protocol import encode_awareness, read_var_bytes, read_var_uint, var_string, var_uint

RENEWAL = 15.0  # seconds; others forget who was silent for 30
EXPIRY = 30.0


class Presence:
    """The states of one document's clients, by Yjs client id."""

    def __init__(self, client: int, changed: Callable[[], None]) -> None:
        self.client = client
        self._changed = changed
        self._clock = 0
        self._renewed = float("-inf")
        self._state: dict[str, Any] | None = None
        self._others: dict[int, tuple[int, dict[str, Any] | None, float]] = {}  # clock, state, renewed
        self.send: Callable[[bytes], None] | None = None  # while there is a line

    def set(self, state: Mapping[str, Any] | None) -> None:
        """Show ``state`` to the others, for example ``{"user": {"name": "Ada"}}``; None: be not here.

        Raises ValueError when it is not JSON.
        """
        taken = None if state is None else dict(state)
        json.dumps(taken, allow_nan=False)
        self._state = taken
        self._tell(float("-inf"))

    @property
    def mine(self) -> dict[str, Any] | None:
        return self._state

    @property
    def others(self) -> dict[int, dict[str, Any]]:
        """Who is here besides us. Empty while there is no line: nobody can tell."""
        return {client: state for client, (_, state, _) in self._others.items() if state is not None}

    def receive(self, data: bytes, now: float) -> None:
        """Take an awareness update. Raises ProtocolError."""
        count, at = read_var_uint(data, 0)
        news = False
        for _ in range(min(count, len(data))):
            client, at = read_var_uint(data, at)
            clock, at = read_var_uint(data, at)
            raw, at = read_var_bytes(data, at)
            try:
                state = json.loads(raw)
            except (ValueError, RecursionError):
                raise ProtocolError("a presence that is not JSON") from None
            if client == self.client:
                if clock >= self._clock and (state is None) != (self._state is None):
                    self._clock = clock
                    self._tell(now)  # told that we are gone, say that we are not
                continue
            known = self._others.get(client)
            if known is not None and (clock, state is None) <= (known[0], known[1] is None):
                if clock == known[0] and state is not None and known[1] is not None:
                    self._others[client] = (clock, known[1], now)
                continue
            self._others[client] = (clock, state if isinstance(state, dict) else None, now)
            news = True
        if news:
            self._changed()

    def connected(self, send: Callable[[bytes], None], now: float) -> None:
        """There is a line: say that we are here."""
        self.send = send
        if self._state is not None:
            self._tell(now)

    def lost(self) -> None:
        self.send = None
        if self._others:
            self._others.clear()
            self._changed()

    def renew(self, now: float) -> None:
        """To be called now and then: repeats our state in time, forgets who has not repeated theirs."""
        if self._state is not None and now - self._renewed >= RENEWAL:
            self._tell(now)
        gone = [client for client, (_, _, renewed) in self._others.items() if now - renewed > 2 * EXPIRY]
        silent = [
            client
            for client, (_, state, renewed) in self._others.items()
            if state is not None and now - renewed > EXPIRY
        ]
        for client in silent:
            clock, _, renewed = self._others[client]
            self._others[client] = (clock, None, renewed)
        for client in gone:
            del self._others[client]
        if silent:
            self._changed()

    def _tell(self, now: float) -> None:
        self._clock += 1
        self._renewed = now
        if self.send is not None:
            entry = var_uint(self.client) + var_uint(self._clock) + var_string(json.dumps(self._state))
            self.send(encode_awareness(b"\x01" + entry))
