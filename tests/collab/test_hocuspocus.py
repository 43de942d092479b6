"""Hocuspocus frames to bytes and back, with the bytes that its providers were seen to send."""

from __future__ import annotations

import pytest

from collab import hocuspocus, protocol
from collab.errors import ProtocolError
from collab.hocuspocus import Frame, decode, decode_token, name_of
from collab.protocol import var_string, var_uint


@pytest.mark.parametrize(
    ("dump", "key", "kind", "body"),
    [
        ("026431 0200 04746f6b41 05342e382e30", "026431", hocuspocus.AUTH, "0200 04746f6b41 05342e382e30"),
        ("026431 00000100", "026431", hocuspocus.SYNC, "00000100"),
        ("026431 0002 0c010165000401017402686900", "026431", 0, "0002 0c010165000401017402686900"),
        ("026431 0106 016500027b7d", "026431", hocuspocus.AWARENESS, "0106 016500027b7d"),
        ("026431 03", "026431", hocuspocus.QUERY_AWARENESS, "03"),
        ("026431 0504 70696e67", "026431", hocuspocus.STATELESS, "0504 70696e67"),
        ("026431 07", "026431", hocuspocus.CLOSE, "07"),
        ("0479007331 020000", "0479007331", hocuspocus.AUTH, "020000"),
        ("00 0200 00", "00", hocuspocus.AUTH, "020000"),
    ],
)
def test_frames_that_providers_send(dump: str, key: str, kind: int, body: str) -> None:
    assert decode(bytes.fromhex(dump)) == Frame(bytes.fromhex(key), kind, bytes.fromhex(body))


def test_the_answers_are_those_of_hocuspocus() -> None:
    assert hocuspocus.encode_authenticated(True, 1) == bytes.fromhex("02020a726561642d777269746501")
    assert hocuspocus.encode_authenticated(False, 300) == bytes.fromhex("020208726561646f6e6c79ac02")
    assert hocuspocus.encode_denied("not-allowed") == bytes.fromhex("02010b6e6f742d616c6c6f776564")
    assert hocuspocus.encode_close("provider_initiated") == bytes.fromhex(
        "071270726f76696465725f696e69746961746564"
    )
    assert (hocuspocus.SAVED, hocuspocus.REFUSED) == (b"\x08\x01", b"\x08\x00")
    assert hocuspocus.ASK_TOKEN == b"\x02\x00"


def test_a_refusal_says_so_whatever_the_reason() -> None:
    assert hocuspocus.HOCUSPOCUS.denied("you may read") == hocuspocus.REFUSED


def test_an_answer_begins_with_the_key_as_it_came() -> None:
    """A number may be written longer than it need be; the client compares bytes."""
    stretched = b"\x82\x00d1"
    frame = decode(stretched + b"\x03")
    assert frame.key == stretched
    assert name_of(frame.key) == "d1"


@pytest.mark.parametrize(
    "name", ["d1", "a/b c", "ü字🎉", "\\", "*<>", "x" * 255, "a\nb", "%2F", ".", "🎉" * 60]
)
@pytest.mark.parametrize("session", ["", "\0s1", "\0a\0b", "\0"])
def test_the_name_ends_at_the_first_nul(name: str, session: str) -> None:
    assert name_of(decode(var_string(name + session) + b"\x03").key) == name


def test_a_name_that_is_not_utf8_is_refused() -> None:
    for raw in (b"\xff", b"\xed\xa0\x80", b"\xc0\xaf", b"\xe2\x82"):
        with pytest.raises(ProtocolError, match="UTF-8"):
            name_of(var_uint(len(raw)) + raw)


@pytest.mark.parametrize(
    ("body", "token"),
    [
        ("0200 00", ""),
        ("0200 04746f6b41", "tokA"),
        ("0200 04746f6b41 05342e382e30", "tokA"),
        ("0200 04746f6b41 ffffffff", "tokA"),  # a version, or what it may be one day
        ("0200 04f09f8e89", "🎉"),
        ("0201 04746f6b41", None),
        ("0202 0a726561642d7772697465", None),
        ("027f", None),
    ],
)
def test_a_token_is_read_from_auth_messages_of_its_kind_only(body: str, token: str | None) -> None:
    assert decode_token(bytes.fromhex(body)) == token


@pytest.mark.parametrize("body", ["02", "0200", "020005746f6b", "02000180", "0200ffffffffffffffff7f"])
def test_a_token_cut_short_or_not_utf8_is_refused(body: str) -> None:
    with pytest.raises(ProtocolError):
        decode_token(bytes.fromhex(body))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x80",
        b"\x02",
        b"\x02d",
        b"\x02d1",
        b"\x02d1\x80",
        b"\xff" * 9,
        b"\xff" * 100_000,
        b"\x7fd1\x00",
    ],
)
def test_a_frame_cut_short_is_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode(data)


def test_a_key_is_a_name_and_a_session_id_and_no_store_for_megabytes() -> None:
    """It is kept for as long as the socket lives, before anybody has signed in, a hundred times over."""
    longest = var_uint(hocuspocus.KEY_LIMIT) + b"x" * hocuspocus.KEY_LIMIT
    assert decode(longest + b"\x03").key == longest
    with pytest.raises(ProtocolError, match=str(hocuspocus.KEY_LIMIT)):
        decode(var_uint(hocuspocus.KEY_LIMIT + 1) + b"x" * (hocuspocus.KEY_LIMIT + 1) + b"\x03")


def test_messages_of_the_room_are_y_websocket_s_byte_for_byte() -> None:
    update = protocol.encode_update(b"\x00\x00")
    frame = decode(b"\x02d1" + update)
    assert frame.kind in hocuspocus.ROOM_TYPES
    assert list(protocol.decode(frame.body)) == [protocol.Update(b"\x00\x00")]
