"""Presence, on a clock of the test's own."""

from __future__ import annotations

import json

import pytest

from collab.client.presence import EXPIRY, RENEWAL, Presence
from collab.errors import ProtocolError
from collab.protocol import AwarenessUpdate, decode, var_string, var_uint


def entry(client: int, clock: int, state: object) -> bytes:
    return b"\x01" + var_uint(client) + var_uint(clock) + var_string(json.dumps(state))


class Seat:
    """A presence, what it sent, and how often it said that others had changed."""

    def __init__(self) -> None:
        self.changes = 0
        self.sent: list[bytes] = []
        self.presence = Presence(7, self.changed)

    def changed(self) -> None:
        self.changes += 1

    def send(self, message: bytes) -> None:
        (update,) = decode(message)
        assert isinstance(update, AwarenessUpdate)
        self.sent.append(update.data)


@pytest.fixture
def seat() -> Seat:
    return Seat()


def test_what_is_set_before_there_is_a_line_is_told_when_there_is_one(seat: Seat) -> None:
    seat.presence.set({"user": {"name": "Ada 🎉"}})
    assert seat.sent == []
    seat.presence.connected(seat.send, 0.0)
    assert seat.sent == [entry(7, 2, {"user": {"name": "Ada 🎉"}})]


def test_a_state_is_repeated_before_others_forget_it(seat: Seat) -> None:
    seat.presence.set({})
    seat.presence.connected(seat.send, 0.0)
    seat.presence.renew(RENEWAL - 1)
    assert len(seat.sent) == 1
    seat.presence.renew(RENEWAL)
    assert seat.sent[-1] == entry(7, 3, {})


def test_a_state_that_cannot_be_read_ends_the_line_and_nothing_else(seat: Seat) -> None:
    nested = b"[" * 100_000 + b"]" * 100_000
    for state in (b"{", nested):
        with pytest.raises(ProtocolError):
            seat.presence.receive(b"\x01\x05\x01" + var_uint(len(state)) + state, 0.0)
    assert seat.presence.others == {}


def test_who_announces_nobody_sends_nothing(seat: Seat) -> None:
    seat.presence.connected(seat.send, 0.0)
    seat.presence.renew(1000.0)
    assert seat.sent == []


def test_others_come_change_and_go_by_their_clocks(seat: Seat) -> None:
    presence = seat.presence
    presence.receive(entry(1, 5, {"a": 1}), 0.0)
    presence.receive(entry(1, 4, {"a": 0}), 0.0)
    presence.receive(entry(1, 5, {"a": 9}), 0.0)
    assert presence.others == {1: {"a": 1}}
    presence.receive(entry(1, 6, {"a": 2}), 0.0)
    assert presence.others == {1: {"a": 2}}
    presence.receive(entry(1, 6, None), 0.0)
    assert presence.others == {}
    presence.receive(entry(1, 6, {"a": 2}), 0.0)
    assert presence.others == {}
    assert seat.changes == 3


def test_who_is_silent_for_too_long_is_gone(seat: Seat) -> None:
    seat.presence.receive(entry(1, 5, {}), 0.0)
    seat.presence.receive(entry(2, 5, {}), 0.0)
    seat.presence.receive(entry(2, 5, {}), EXPIRY)  # repeated
    seat.presence.renew(EXPIRY + 1)
    assert list(seat.presence.others) == [2]
    assert seat.changes == 3


def test_told_that_we_are_gone_we_say_that_we_are_not(seat: Seat) -> None:
    seat.presence.set({"a": 1})
    seat.presence.connected(seat.send, 0.0)
    seat.presence.receive(entry(7, 2, None), 1.0)
    assert seat.sent[-1] == entry(7, 3, {"a": 1})
    assert seat.presence.others == {}


def test_without_a_line_nobody_is_known_to_be_here(seat: Seat) -> None:
    seat.presence.receive(entry(1, 5, {}), 0.0)
    seat.presence.lost()
    assert seat.presence.others == {}


def test_what_is_not_json_is_refused(seat: Seat) -> None:
    with pytest.raises(ProtocolError):
        seat.presence.receive(b"\x01\x01\x01" + var_string("{"), 0.0)
    with pytest.raises(ValueError):
        seat.presence.set({"a": float("nan")})
