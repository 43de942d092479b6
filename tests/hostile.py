"""What a hostile client sends: updates that are known to kill, poison or corrupt, and mutated honest frames.

The killers are those of the fuzzing of pycrdt 0.14.13 (yrs 0.28) and what its users reported; each is a
list of updates, to be sent one after the other into one document.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from collab import protocol
from collab.protocol import var_uint

GC, DELETED, STRING, TYPE, ANY = 0, 1, 4, 7, 8
MAP, XML_ELEMENT = 1, 3


def string(text: str) -> bytes:
    raw = text.encode()
    return var_uint(len(raw)) + raw


def big_uint(value: int) -> bytes:
    """A varUint of any size, also of one that no client may write."""
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def section(client: int, clock: int, *structs: bytes) -> bytes:
    return big_uint(len(structs)) + big_uint(client) + big_uint(clock) + b"".join(structs)


def deletions(client: int, *ranges: tuple[int, int]) -> bytes:
    """A delete set of one client: (clock, length) each."""
    parts = [big_uint(clock) + big_uint(length) for clock, length in ranges]
    return b"\x01" + big_uint(client) + big_uint(len(ranges)) + b"".join(parts)


def update(*sections: bytes, deletes: bytes = b"\x00") -> bytes:
    return big_uint(len(sections)) + b"".join(sections) + deletes


def typed(text: str, root: str = "content") -> bytes:
    """A struct that holds ``text`` at the start of a root."""
    return bytes((STRING, 1)) + string(root) + string(text)


def after(client: int, clock: int, text: str) -> bytes:
    """A struct that holds ``text`` right of the given unit."""
    return bytes((STRING | 128,)) + big_uint(client) + big_uint(clock) + string(text)


def run(kind: int, length: int) -> bytes:
    """A GC struct, or a deleted one in a root, of that length."""
    return (
        bytes((GC,)) + big_uint(length)
        if kind == GC
        else bytes((kind, 1)) + string("content") + big_uint(length)
    )


def any_value(value: bytes, root: str = "content") -> bytes:
    return bytes((ANY, 1)) + string(root) + b"\x01" + value


def nested(depth: int, shape: int, root: str = "content") -> list[bytes]:
    """Structs of one client from clock 0: shared types, each inside the one before."""
    tail = big_uint(shape) + (string("p") if shape == XML_ELEMENT else b"")
    keyed, key = (TYPE | 32, string("k")) if shape == MAP else (TYPE, b"")
    first = bytes((keyed, 1)) + string(root) + key + tail
    return [first, *(bytes((keyed, 0)) + CLIENT + big_uint(clock) + key + tail for clock in range(depth - 1))]


def chained(levels: int) -> list[bytes]:
    """Updates of one struct each that nest by origin: a letter inside a type, a type beside the letter."""
    made = [update(section(ID, 0, bytes((TYPE, 1)) + string("content") + b"\x01"))]
    for clock in range(1, 2 * levels, 2):
        letter = bytes((STRING, 0)) + CLIENT + big_uint(clock - 1) + string("x")
        beside = bytes((TYPE | 128,)) + CLIENT + big_uint(clock) + b"\x00"
        made += [update(section(ID, clock, letter)), update(section(ID, clock + 1, beside))]
    return made


ID = 9
CLIENT = big_uint(ID)


def _hex(*updates: str) -> list[bytes]:
    return [bytes.fromhex(item) for item in updates]


# Refused, by the gate or by pycrdt: the last update of each closes the socket with 44xx.
REFUSED: dict[str, list[bytes]] = {
    "segfault in any doc": _hex("010101018401050378797a00", "01010103000400"),
    "segfault on reading after a format in a map": _hex(
        "01010200080101610375017d027e7d0100", "020102050301016102787801020004010161016100"
    ),
    "values nested 26,263 deep": [bytes.fromhex("010101000801017401") + b"\x75\x01" * 26_263 + b"\x7e\x00"],
    "values nested 50,000 deep": [update(section(ID, 0, any_value(b"\x75\x01" * 50_000 + b"\x7e")))],
    "maps nested 50,000 deep": [update(section(ID, 0, any_value(b"\x76\x01\x01a" * 50_000 + b"\x7e")))],
    "shared maps nested 50,000 deep": [update(section(ID, 0, *nested(50_000, MAP)))],
    "elements nested 50,000 deep": [update(section(ID, 0, *nested(50_000, XML_ELEMENT)))],
    "a clock that wraps at 2**32": _hex("010101fdffffff0f0401017408616161616161616100"),
    "divide by zero that poisons the doc": _hex("0102010000ffffffff0f0401017402616200"),
    "one client twice": _hex("0201010004010174016101010504010174016200"),
    "one client twice, the same section": [
        update(section(ID, 0, typed("twice")), section(ID, 0, typed("twice")))
    ],
    "one client twice in the delete set": [
        update(section(ID, 0, typed("x")), deletes=b"\x02" + deletions(ID, (0, 1))[1:] * 2)
    ],
    "a count that allocates half a gigabyte": _hex("808080808080808010"),
    "a client id of 2**53 + 1": [update(section(2**53 + 1, 0, typed("aliased")))],
    "a run of 2**31": [update(section(ID, 0, run(GC, 2**31)))],
    "a deleted run of 2**32": [update(section(ID, 0, run(DELETED, 2**32)))],
    "a deletion beyond 2**31": [update(deletes=deletions(ID, (0, 2**31)))],
    "an origin in its own future": [update(section(ID, 0, after(ID, 5, "x")))],
    "a text that is not UTF-8": [update(section(ID, 0, b"\x04\x01\x01t\x01\xff"))],
    "a subdocument": [update(section(ID, 0, b"\x09\x01\x01t\x04guid\x76\x00"))],
    "content of yjs 12": [update(section(ID, 0, b"\x02\x01\x01t\x01\x011"))],
    "a format whose value is half a surrogate pair": [
        update(section(ID, 0, b"\x06\x01\x01t" + string("bold") + string('"\\udc00"')))
    ],
    "bytes after the end": [b"\x00\x00\x00"],
    "an end inside a struct": [update(section(ID, 0, typed("cut short")))[:-8]],
    "nothing": [b""],
    "an update of version 2": _hex("000000000000000000000000"),
    "shared maps nested deeper and deeper": [
        update(section(ID, clock, struct)) for clock, struct in enumerate(nested(200, MAP))
    ],
    "shared types nested by origin": chained(200),
    "a parent that is no shared type": [
        update(section(ID, 0, typed("abc"))),
        update(section(ID + 1, 0, bytes((STRING, 0)) + CLIENT + b"\x01" + string("inside"))),
    ],
}

# Not wrong by itself, so taken, or kept waiting: the process and the document must bear it.
BORNE: dict[str, list[bytes]] = {
    "an emoji in an array, which cannot be read as one": [
        update(section(ID, 0, bytes((STRING, 1)) + string("list") + string("🎉")))
    ],
    "the same in the text": [update(section(ID, 0, typed("🎉")))],
    "everything a text is not, in the text": [
        update(
            section(
                ID,
                0,
                any_value(b"\x75\x01\x77\x01a"),
                bytes((TYPE, 1)) + string("content") + b"\x01",
                bytes((TYPE | 32, 1)) + string("content") + string("k") + b"\x00",
                bytes((3, 1)) + string("content") + b"\x02xy",
                bytes((5, 1)) + string("content") + string('{"a":1}'),
                bytes((6, 1)) + string("content") + string("bold") + string("true"),
            )
        )
    ],
    "a run of all clocks there are": [update(section(ID, 0, run(GC, 2**31 - 2)))],
    "clocks that begin behind a gap": [update(section(ID, 10, typed("gap")))],
    "an origin nobody has": [update(section(ID, 0, after(77, 3, "x")))],
    "a deletion of what nobody has": [update(deletes=deletions(77, (5, 5)))],
    "two updates that wait for each other": [
        update(section(ID, 0, after(ID + 1, 0, "x"))),
        update(section(ID + 1, 0, after(ID, 0, "x"))),
    ],
    "shared maps nested 60 deep, then deleted": [
        update(section(ID, 0, *nested(60, MAP))),
        update(deletes=deletions(ID, (0, 1))),
    ],
}

# Whole frames, whatever the message.
FRAMES: dict[str, bytes] = {
    "an empty frame": b"",
    "100 KB of 0xff": b"\xff" * 100_000,
    "a short run of 0xff": b"\xff" * 20,
    "a sync message without a step": b"\x00",
    "an unknown step": b"\x00\x07\x00",
    "a state vector that allocates a gigabyte": b"\x00\x00\x09" + bytes.fromhex("808080808080808020"),
    "a state vector that names a client twice": b"\x00\x00\x05\x02\x01\x01\x01\x01",
    "an update that ends too early": b"\x00\x02\x7f\x01",
    "an awareness message that ends too early": b"\x01\x7f\x01",
    "an awareness state that is not JSON": b"\x01" + string("\x01\x05\x01\x03nan"),
    "an awareness state that browsers cannot parse": b"\x01" + string("\x01\x05\x01\x03NaN"),
    "an awareness state nested 100,000 deep": protocol.encode_awareness(
        b"\x01\x05\x01" + var_uint(10_000) + b"[" * 10_000
    ),
    "an awareness message with too many entries": protocol.encode_awareness(b"\xff\xff\xff\x7f"),
}


def mutations(honest: Sequence[bytes], rng: random.Random) -> Iterator[bytes]:
    """Random, truncated, bit-flipped, spliced and stretched frames, for ever."""
    while True:
        data = bytearray(rng.choice(honest))
        way = rng.random()
        if way < 0.10:
            data = bytearray(rng.randbytes(rng.choice((1, 2, 4, 20, 200))))
        elif way < 0.25:
            del data[rng.randrange(len(data)) :]
        elif way < 0.75:
            for _ in range(rng.choice((1, 1, 1, 2, 4, 8))):
                at = rng.randrange(len(data))
                data[at] ^= 1 << rng.randrange(8)
        elif way < 0.85:
            other = rng.choice(honest)
            data[rng.randrange(len(data)) :] = other[rng.randrange(len(other)) :]
        elif way < 0.95:
            at = rng.randrange(len(data))
            data[at:at] = rng.choice((b"\x80", b"\xff\xff\xff\xff\x0f", rng.randbytes(3), b"\x00"))
        else:
            at = rng.randrange(len(data))
            del data[at : at + rng.choice((1, 2, 5))]
        yield bytes(data)
