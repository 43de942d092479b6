"""The y-websocket protocol: bytes to messages and back, without I/O.

Source: y-protocols 1.0 (sync.js, awareness.js, auth.js) and lib0 encoding. One binary WebSocket frame
carries one message, ``varUint(type) body``; clients up to 3.x ignore what follows the first message of
a frame, so one message goes out a frame, while several are read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from collab.errors import ProtocolError

SYNC, AWARENESS, QUERY_AWARENESS = 0, 1, 3
SYNC_STATUS = 102  # y-sweet's extension: echo the payload; here, once all before it is durable
STEP1, STEP2, UPDATE = 0, 1, 2


class SyncStep1(NamedTuple):
    state_vector: bytes


class SyncStep2(NamedTuple):
    update: bytes


class Update(NamedTuple):
    update: bytes


class AwarenessUpdate(NamedTuple):
    data: bytes


class QueryAwareness(NamedTuple):
    pass


class SyncStatus(NamedTuple):
    payload: bytes


@dataclass(frozen=True)
class Dialect:
    """How one kind of client is greeted, and told what became of its updates."""

    saved: bytes | None  # answers each update once it is durable; None where a client asks (102) instead
    denied: Callable[[str], bytes]  # answers an update that its sender may not make, and why
    # Our step 1 goes out at once, or with the answer to each step 1 of the client, which then counts what
    # is not saved from 1 again: for the step 2 that our step 1 is to bring.
    greeted: bool
    # Told that it is gone, a living client must say that it is not: Yjs moves its clock at once, but
    # @hocuspocus/provider 4 keeps that to itself until it is asked.
    asked: bool


Message = SyncStep1 | SyncStep2 | Update | AwarenessUpdate | QueryAwareness | SyncStatus


def read_var_uint(data: bytes, at: int) -> tuple[int, int]:
    """The lib0 varUint (at most 53 bits) at ``at``, and where it ends. Raises ProtocolError."""
    value = shift = 0
    end = len(data)
    while at < end:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            if value >> 53:
                break
            return value, at
        shift += 7
        if shift > 49:
            break
    raise ProtocolError("a number in the message is cut short or larger than 53 bits")


def read_var_bytes(data: bytes, at: int) -> tuple[bytes, int]:
    """The length-prefixed bytes at ``at``, and where they end. Raises ProtocolError."""
    size, at = read_var_uint(data, at)
    end = at + size
    if end > len(data):
        raise ProtocolError(f"the message ends {end - len(data)} bytes before its payload does")
    return data[at:end], end


def var_uint(value: int) -> bytes:
    if value < 128:
        return bytes((value,))
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def var_string(text: str) -> bytes:
    raw = text.encode(errors="replace")
    return var_uint(len(raw)) + raw


def decode(data: bytes) -> Iterator[Message]:
    """The messages of one frame, in order. Types we do not know end the frame unread, since nothing
    says how long they are. Raises ProtocolError at the first one that is malformed."""
    at, end = 0, len(data)
    if not end:
        raise ProtocolError("the frame is empty; a message begins with its type")
    while at < end:
        kind, at = read_var_uint(data, at)
        if kind == SYNC:
            if at == end:
                raise ProtocolError("a sync message without its step")
            step, at = read_var_uint(data, at)
            if at == end and step == STEP1:
                return  # @y/websocket 4 rc answers so to what it need not answer
            body, at = read_var_bytes(data, at)
            if step == UPDATE:
                yield Update(body)
            elif step == STEP2:
                yield SyncStep2(body)
            elif step == STEP1:
                yield SyncStep1(body)
            else:
                raise ProtocolError(f"sync step {step} is not known; 0, 1 and 2 are")
        elif kind == AWARENESS:
            body, at = read_var_bytes(data, at)
            yield AwarenessUpdate(body)
        elif kind == SYNC_STATUS:
            body, at = read_var_bytes(data, at)
            yield SyncStatus(body)
        elif kind == QUERY_AWARENESS:
            yield QueryAwareness()
            return  # y-sweet's client appends stray awareness bytes
        else:
            return


def sole_update(frame: bytes) -> bytes | None:
    """The update of a frame that is one Update of less than 16 KiB and nothing else, else None: what
    ``decode`` would say, at a fifth of its cost, for the frame that nearly all are."""
    size = len(frame)
    if size > 3 and frame[0] == SYNC and frame[1] == UPDATE:
        if frame[2] == size - 3 < 128:
            return frame[3:]
        if frame[2] > 127 and frame[3] < 128 and frame[2] & 127 | frame[3] << 7 == size - 4:
            return frame[4:]
    return None


def encode_step1(state_vector: bytes) -> bytes:
    return b"\x00\x00" + var_uint(len(state_vector)) + state_vector


def encode_step2(update: bytes) -> bytes:
    return b"\x00\x01" + var_uint(len(update)) + update


def encode_update(update: bytes) -> bytes:
    return b"\x00\x02" + var_uint(len(update)) + update


def encode_awareness(data: bytes) -> bytes:
    return b"\x01" + var_uint(len(data)) + data


def encode_sync_status(payload: bytes) -> bytes:
    return var_uint(SYNC_STATUS) + var_uint(len(payload)) + payload


def encode_receipt(clocks: Mapping[int, int]) -> bytes:
    """An update that names all structs before ``clocks`` and brings none: to a replica that has them it
    says that the server has them too. @y/websocket 4 counts a local edit as saved once an update with its
    ids has come (Y.createContentIdsFromUpdate); every Yjs skips structs that it has, here one GC a client."""
    out = [var_uint(len(clocks))]
    for client, clock in clocks.items():
        out += (b"\x01", var_uint(client), b"\x00\x00", var_uint(clock))
    return encode_update(b"".join(out) + b"\x00")


def encode_permission_denied(reason: str) -> bytes:
    return b"\x02\x00" + var_string(reason)


WHO_IS_HERE = var_uint(QUERY_AWARENESS)
KEEPALIVE = encode_awareness(b"\x00")  # no entries: keeps clients that count application messages
EMPTY_STEP2 = encode_step2(b"\x00\x00")
Y_WEBSOCKET = Dialect(saved=None, denied=encode_permission_denied, greeted=True, asked=False)
