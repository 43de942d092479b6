"""The Hocuspocus protocol: the messages of ``collab.protocol`` behind a routing key, and those about them.

Source: @hocuspocus/provider 4.8 and @hocuspocus/server 4.7. A frame is ``varString(routing key)
varUint(type) body``; the key is a document name, perhaps with NUL and a session id after it, and what
belongs to a key is answered under the very same bytes. Types 0 (sync), 1 (awareness) and 3 (query
awareness) are y-websocket's, byte for byte; the others are here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from collab.errors import ProtocolError
from collab.log import Actor
from collab.protocol import Dialect, read_var_bytes, read_var_uint, var_string, var_uint

SYNC, AWARENESS, AUTH, QUERY_AWARENESS, STATELESS, CLOSE, SYNC_STATUS = 0, 1, 2, 3, 5, 7, 8
CLIENT = "collab-client"  # what our own client says for a provider's version
AUTHORS = 64  # ours, and only for ours: who the server knows to write with which client ids
ROOM_TYPES = frozenset((SYNC, AWARENESS, QUERY_AWARENESS))  # what a room takes as it is
TOKEN, DENIED, AUTHENTICATED = 0, 1, 2  # kinds of auth message
PING, PONG = b"\x09", b"\x0a"  # the only frames without a key

KEY_LIMIT = 1024  # bytes of a routing key: a name of 255, NUL, and a session id of a dozen characters

SAVED, REFUSED = b"\x08\x01", b"\x08\x00"  # SyncStatus
ASK_TOKEN = b"\x02\x00"

HOCUSPOCUS = Dialect(saved=SAVED, denied=lambda reason: REFUSED, greeted=False, asked=True)


class Frame(NamedTuple):
    """One message under its key. ``body`` begins with its type, as y-websocket's messages do."""

    key: bytes  # as it came, its length included: what every answer begins with
    kind: int
    body: bytes


def decode(data: bytes) -> Frame:
    """Raises ProtocolError."""
    key, at = read_var_bytes(data, 0)
    if len(key) > KEY_LIMIT:  # it is kept, and comes back with every answer
        raise ProtocolError(f"a routing key has at most {KEY_LIMIT} bytes")
    kind, _ = read_var_uint(data, at)
    return Frame(data[:at], kind, data[at:])


def name_of(key: bytes) -> str:
    """The document that a routing key names. Raises ProtocolError when it is not UTF-8."""
    raw, _ = read_var_bytes(key, 0)
    try:
        return raw.partition(b"\0")[0].decode()
    except UnicodeDecodeError:
        raise ProtocolError("the document name is not valid UTF-8") from None


def decode_token(body: bytes) -> str | None:
    """The token of an auth message, or None for an auth message of another kind. A version may follow,
    from provider 4 on. Raises ProtocolError."""
    kind, at = read_var_uint(body, 1)
    if kind != TOKEN:
        return None
    raw, _ = read_var_bytes(body, at)
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise ProtocolError("the token is not valid UTF-8") from None


def version_of(body: bytes) -> str | None:
    """What a well-formed auth message with a token says of its sender: providers say it from 4 on. Raises
    ProtocolError."""
    _, at = read_var_uint(body, 1)
    _, at = read_var_bytes(body, at)
    return read_var_bytes(body, at)[0].decode(errors="replace") if at < len(body) else None


def encode_token(token: str, version: str) -> bytes:
    """As a provider from 4 on sends it."""
    return b"\x02\x00" + var_string(token) + var_string(version)


def encode_authenticated(writes: bool, epoch: int) -> bytes:
    """The epoch, which stock providers do not read, follows the scope: a replica of another one must not
    be merged with what is here now."""
    return b"\x02\x02" + var_string("read-write" if writes else "readonly") + var_uint(epoch)


def encode_denied(reason: str) -> bytes:
    return b"\x02\x01" + var_string(reason)


def encode_authors(authors: Mapping[int, Actor]) -> bytes:
    """By client id, who the server authenticated as its writer."""
    body = b"".join(
        var_uint(client) + var_string(actor.id) + var_string(actor.kind) + var_string(actor.name)
        for client, actor in authors.items()
    )
    return var_uint(AUTHORS) + var_uint(len(authors)) + body


def decode_authors(body: bytes) -> dict[int, Actor]:
    """Raises ProtocolError."""
    count, at = read_var_uint(body, 1)
    authors = {}
    for _ in range(count):
        client, at = read_var_uint(body, at)
        said = []
        for _ in range(3):
            raw, at = read_var_bytes(body, at)
            said.append(raw.decode(errors="replace"))
        authors[client] = Actor(*said)
    return authors


def encode_close(reason: str) -> bytes:
    return b"\x07" + var_string(reason)
