"""Cold entries of the log, packed: a run of consecutive ones by columns, compressed, to the byte.

What repeats in a log repeats down its columns: one author for hours, whose updates of one length differ each
from the one before in a few bytes. So a segment holds columns of differences, which zstd then
makes small. Nothing here knows what an update means, and nothing is lost: ``unpack`` gives what ``pack`` got.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise
from typing import NamedTuple

import zstandard

from collab.errors import CorruptLog

LEVEL = 9  # of zstd; 19 takes three times as long for 3 %
WIDTH = 256  # bytes of an update; longer ones have no columns worth looking for

_COUNTS = struct.Struct("<III")  # rows, authors, version
_AUTHOR = struct.Struct("<3q")  # actor, client, origin
VERSION = 1


class Row(NamedTuple):
    """A row of ``updates`` whose checksum was right; its actor is a key."""

    seq: int
    actor: int
    client: int
    received: int
    origin: int
    data: bytes


def pack(rows: Sequence[Row]) -> bytes:
    """The bytes of a segment: ``rows``, at least one, of consecutive seqs."""
    authors: dict[tuple[int, int, int], int] = {}
    indexes = [authors.setdefault((row.actor, row.client, row.origin), len(authors)) for row in rows]
    times = [row.received for row in rows]
    parts = [
        _COUNTS.pack(len(rows), len(authors), VERSION),
        *(_AUTHOR.pack(*author) for author in authors),
        _planes("I", indexes),
        _planes("I", [len(row.data) for row in rows]),
        _planes("q", [times[0], *(after - before for before, after in pairwise(times))]),
    ]
    groups: dict[tuple[int, int], list[bytes]] = {}
    for row, index in zip(rows, indexes, strict=True):
        groups.setdefault((index, len(row.data)), []).append(row.data)
    for (_, length), updates in sorted(groups.items()):
        parts.append(_columns(updates) if length <= WIDTH else b"".join(updates))
    # The content's own checksum is for the decompressor: that it gives what was put in.
    packed = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True).compress(b"".join(parts))
    if unpack(packed, rows[0].seq) != list(rows):
        raise RuntimeError(f"entries {rows[0].seq} to {rows[-1].seq} do not come back out of their segment")
    return packed


def unpack(packed: bytes, first: int) -> list[Row]:
    """The rows of a segment that begins at seq ``first``. Raises CorruptLog: these bytes are none."""
    try:
        return _unpack(zstandard.ZstdDecompressor().decompress(packed), first)
    except (zstandard.ZstdError, struct.error, ValueError, IndexError) as error:
        raise CorruptLog(f"the segment at entry {first} cannot be unpacked: {error}") from None


def _unpack(raw: bytes, first: int) -> list[Row]:
    size, count, version = _COUNTS.unpack_from(raw)
    if version != VERSION:
        raise CorruptLog(f"the segment at entry {first} was packed by another Collab; upgrade this one")
    at = _COUNTS.size
    authors = [_AUTHOR.unpack_from(raw, at + i * _AUTHOR.size) for i in range(count)]
    at += count * _AUTHOR.size
    indexes = _values("I", size, raw[at : at + 4 * size])
    lengths = _values("I", size, raw[at + 4 * size : at + 8 * size])
    times = accumulate(_values("q", size, raw[at + 8 * size : at + 16 * size]))
    at += 16 * size
    updates: dict[tuple[int, int], Iterator[bytes]] = {}
    for (index, length), many in sorted(Counter(zip(indexes, lengths, strict=True)).items()):
        block = raw[at : at + length * many]
        at += length * many
        if length <= WIDTH:
            updates[index, length] = _rows(block, length, many)
        else:
            updates[index, length] = iter([block[i : i + length] for i in range(0, len(block), length)])
    if at != len(raw):
        raise struct.error(f"{len(raw)} bytes, not {at}")
    return [
        Row(seq, *_moved(authors[index], time), next(updates[index, length]))
        for seq, index, length, time in zip(range(first, first + size), indexes, lengths, times, strict=True)
    ]


def _moved(author: tuple[int, int, int], time: int) -> tuple[int, int, int, int]:
    actor, client, origin = author
    return actor, client, time, origin


def _planes(kind: str, values: Sequence[int]) -> bytes:
    """Numbers, the lowest byte of each first: the high ones are all alike."""
    raw = struct.pack(f"<{len(values)}{kind}", *values)
    width = struct.calcsize(f"<{kind}")
    return b"".join(raw[i::width] for i in range(width))


def _values(kind: str, size: int, planes: bytes) -> tuple[int, ...]:
    width = struct.calcsize(f"<{kind}")
    raw = bytearray(len(planes))
    for i in range(width):
        raw[i::width] = planes[i * size : (i + 1) * size]
    return struct.unpack(f"<{size}{kind}", raw)


def _columns(updates: Sequence[bytes]) -> bytes:
    """Updates of one author and length: all their first bytes, then all their second ones, each as what it
    differs by from the one before, modulo 256."""
    return b"".join(
        bytes((column[0], *((after - before) & 0xFF for before, after in pairwise(column))))
        for column in zip(*updates, strict=True)
    )


def _rows(block: bytes, length: int, many: int) -> Iterator[bytes]:
    if not length:
        return iter([b""] * many)
    # Sums as numbers of 32 bits, of which every fourth byte is the lowest: modulo 256 without a loop.
    sums = (accumulate(block[i : i + many]) for i in range(0, len(block), many))
    columns = [struct.pack(f"<{many}I", *column)[::4] for column in sums]
    return map(bytes, zip(*columns, strict=True))
