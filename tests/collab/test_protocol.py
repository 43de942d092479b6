"""Bytes to messages and back."""

from __future__ import annotations

import pytest

from collab import protocol
from collab.errors import ProtocolError
from collab.protocol import AwarenessUpdate, QueryAwareness, SyncStatus, SyncStep1, SyncStep2, Update


@pytest.mark.parametrize("value", [0, 1, 127, 128, 300, 2**31, 2**32 - 1, 2**53 - 1])
def test_numbers_round_trip(value: int) -> None:
    encoded = protocol.var_uint(value)
    assert protocol.read_var_uint(encoded, 0) == (value, len(encoded))


@pytest.mark.parametrize("data", [b"", b"\x80", b"\xff" * 8, protocol.var_uint(2**53), b"\xff" * 100_000])
def test_a_number_cut_short_or_beyond_53_bits_is_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        protocol.read_var_uint(data, 0)


def test_the_bytes_are_those_of_y_protocols() -> None:
    assert protocol.encode_step1(b"\x00") == bytes.fromhex("00000100")
    assert bytes.fromhex("0001020000") == protocol.EMPTY_STEP2
    assert bytes.fromhex("010100") == protocol.KEEPALIVE


def test_messages_round_trip_and_several_in_a_frame_are_all_read() -> None:
    frame = (
        protocol.encode_step1(b"sv")
        + protocol.encode_step2(b"state")
        + protocol.encode_update(b"u" * 200)
        + protocol.encode_awareness(b"aw")
        + protocol.encode_sync_status(b"9")
    )
    assert list(protocol.decode(frame)) == [
        SyncStep1(b"sv"),
        SyncStep2(b"state"),
        Update(b"u" * 200),
        AwarenessUpdate(b"aw"),
        SyncStatus(b"9"),
    ]


def test_what_follows_a_query_or_an_unknown_type_is_ignored() -> None:
    assert list(protocol.decode(b"\x03\xff\xff")) == [QueryAwareness()]
    assert list(protocol.decode(protocol.encode_update(b"u") + b"\x2a\x00\x01")) == [Update(b"u")]


def test_the_truncated_step_1_of_4x_clients_is_tolerated() -> None:
    assert list(protocol.decode(b"\x00\x00")) == []


@pytest.mark.parametrize("frame", [b"", b"\x00", b"\x00\x03\x00", b"\x00\x02\x05abc", b"\x01\x80", b"\x66"])
def test_a_malformed_message_is_refused(frame: bytes) -> None:
    with pytest.raises(ProtocolError):
        list(protocol.decode(frame))


@pytest.mark.parametrize("size", [1, 2, 100, 127, 128, 129, 300, 16383])
def test_the_short_cut_for_keystrokes_says_what_decode_says(size: int) -> None:
    frame = protocol.encode_update(b"u" * size)
    assert protocol.sole_update(frame) == b"u" * size
    assert protocol.sole_update(frame + b"\x00") is None
    assert protocol.sole_update(frame[:-1]) is None
    assert protocol.sole_update(protocol.encode_step2(b"u" * size)) is None
    assert protocol.sole_update(protocol.encode_awareness(b"u" * size)) is None
