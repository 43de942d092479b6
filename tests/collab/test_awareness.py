"""Presence: clocks, ownership, expiry."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from collab.awareness import EXPIRY, IDS_PER_SESSION, MEMORY, STATE_LIMIT, Awareness
from collab.errors import ProtocolError
from collab.protocol import var_uint


@dataclass(eq=False)
class Peer:
    beats: bool = False

    def supersedes(self, other: Peer, client: int) -> bool:
        return self.beats


def update(*entries: tuple[int, int, str]) -> bytes:
    out = var_uint(len(entries))
    for client, clock, state in entries:
        raw = state.encode()
        out += var_uint(client) + var_uint(clock) + var_uint(len(raw)) + raw
    return out


def test_a_state_is_kept_as_its_bytes_and_given_to_joiners() -> None:
    presence, ann = Awareness[Peer](), Peer()
    data = update((7, 0, '{"user" : {"name":"Ann \\u00e9"}}'))
    assert presence.receive(ann, data, 0.0).taken == [7]
    assert presence.encode(presence.present()) == data


def test_an_old_or_equal_clock_is_dropped_before_it_is_told() -> None:
    presence, ann = Awareness[Peer](), Peer()
    presence.receive(ann, update((7, 5, "{}")), 0.0)
    for clock in (0, 4, 5):
        assert presence.receive(ann, update((7, clock, '{"x":1}')), 0.0).taken == []
    assert presence.receive(ann, update((7, 6, '{"x":1}')), 0.0).taken == [7]


def test_null_removes_at_the_same_clock_and_only_once() -> None:
    presence, ann = Awareness[Peer](), Peer()
    presence.receive(ann, update((7, 5, "{}")), 0.0)
    assert presence.receive(ann, update((7, 5, "null")), 0.0).taken == [7]
    assert presence.receive(ann, update((7, 5, "null")), 0.0).taken == []
    assert presence.present() == []


def test_nobody_renames_or_removes_somebody_else() -> None:
    presence, ann, eve = Awareness[Peer](), Peer(), Peer()
    presence.receive(ann, update((7, 1, '{"name":"Ann"}')), 0.0)
    for state in ('{"name":"Eve"}', "null"):
        received = presence.receive(eve, update((7, 99, state)), 0.0)
        assert received.taken == []
        assert received.contested == [ann]
    assert presence.receive(ann, update((7, 2, '{"name":"Ann"}')), 0.0).taken == [7]


def test_a_newer_connection_of_the_same_client_takes_its_id_over() -> None:
    presence, old, new = Awareness[Peer](), Peer(), Peer(beats=True)
    presence.receive(old, update((7, 1, "{}")), 0.0)
    assert presence.receive(new, update((7, 2, "{}")), 0.0).taken == [7]
    assert presence.leave(old, 0.0) == []
    assert presence.present() == [7]


def test_leaving_removes_exactly_the_ids_of_that_session() -> None:
    presence, ann, bob = Awareness[Peer](), Peer(), Peer()
    presence.receive(ann, update((1, 1, "{}"), (2, 1, "{}")), 0.0)
    presence.receive(bob, update((3, 1, "{}")), 0.0)
    assert sorted(presence.leave(ann, 0.0)) == [1, 2]
    assert presence.present() == [3]


def test_one_who_comes_back_with_an_old_clock_is_told_to_raise_it() -> None:
    """y-protocols keeps its clock over a reconnect; unseen, it would be invisible until its renewal."""
    presence, ann, again = Awareness[Peer](), Peer(), Peer()
    presence.receive(ann, update((7, 5, "{}")), 0.0)
    presence.leave(ann, 0.0)
    received = presence.receive(again, update((7, 5, "{}")), 0.0)
    assert received.stale == [7]
    assert presence.encode(received.stale) == update((7, 5, "null"))
    assert presence.receive(again, update((7, 6, "{}")), 0.0).taken == [7]


def test_what_is_not_renewed_expires_and_its_clock_is_remembered_a_while() -> None:
    presence, ann = Awareness[Peer](), Peer()
    presence.receive(ann, update((7, 5, "{}")), 0.0)
    assert presence.expire(EXPIRY - 1) == []
    assert presence.expire(EXPIRY + 1) == [7]
    echo = update((7, 5, "{}"))
    assert presence.receive(Peer(), echo, EXPIRY + 2).taken == []
    presence.expire(EXPIRY + 2 + MEMORY)
    assert presence.receive(Peer(), echo, EXPIRY + 3 + MEMORY).taken == [7]


def test_one_session_announces_a_bounded_number_of_ids() -> None:
    presence, bridge = Awareness[Peer](), Peer()
    many = update(*((client, 1, "{}") for client in range(10_000)))
    assert len(presence.receive(bridge, many, 0.0).taken) == IDS_PER_SESSION
    assert len(presence.receive(bridge, update((99_999, 1, "{}")), 0.0).taken) == 0
    assert len(presence.present()) == IDS_PER_SESSION


def test_a_state_beyond_the_limit_is_not_kept() -> None:
    presence = Awareness[Peer]()
    assert presence.receive(Peer(), update((7, 1, '"' + "x" * STATE_LIMIT + '"')), 0.0).taken == []


@pytest.mark.parametrize(
    "state", ["{", "NaN", '{"x":Infinity}', "[" * 5000 + "]" * 5000, "[" * 65 + "]" * 65, "", "\udcff"]
)
def test_a_state_that_browsers_cannot_parse_is_refused_whole(state: str) -> None:
    presence, eve = Awareness[Peer](), Peer()
    raw = state.encode("utf-8", "surrogateescape")
    data = b"\x02\x01\x01\x02{}" + b"\x02\x01" + var_uint(len(raw)) + raw
    with pytest.raises(ProtocolError):
        presence.receive(eve, data, 0.0)
    assert presence.present() == []


@pytest.mark.parametrize("data", [b"", b"\x01", b"\x01\x07\x01\x09{}", b"\xff" * 100_000, b"\x7f\x01"])
def test_bytes_that_are_no_awareness_update_are_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        Awareness[Peer]().receive(Peer(), data, 0.0)
