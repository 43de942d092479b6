"""Columns of integers as bytes: what a cache of history is made of.

A column is coded as the differences of its values, split into planes of bytes, since most of them are
small and alike; columns of one or two bytes are no quantities but letters and flags, and stay as they
are. Then all is compressed together. A checksum stands before it, and whoever reads refuses what is not
exactly what was written.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

Column = npt.NDArray[np.signedinteger[Any]]

_MAGIC = b"collab history 1\n"  # another number: another format, and the old is refused
_HEADER = struct.Struct("<IQ")  # CRC-32 of the rest, size when expanded
_LEVEL = 6
_SMALL = 1 << 31  # columns below it are read in half the memory, which is most of the time it takes


def dump(facts: Mapping[str, Any], columns: Mapping[str, npt.NDArray[Any]]) -> bytes:
    """``facts`` (JSON) and columns of integers (at most 62 bits) as bytes. Equal input gives equal bytes."""
    planes = bytearray()
    shapes: dict[str, tuple[int, int, bool, bool]] = {}  # length, bytes of each, differences?, 32 bits?
    for name, values in columns.items():
        codes = values.astype("<u8")
        if steps := values.dtype.itemsize > 2:
            signed = values.astype(np.int64)
            signed[1:] -= signed[:-1].copy()
            codes = ((signed << 1) ^ (signed >> 63)).astype("<u8")
        width = (int(codes.max(initial=0)).bit_length() + 7) // 8
        small = width < 4 and bool((np.abs(values.astype(np.int64)) < _SMALL).all())
        shapes[name] = len(values), width, steps, small
        planes += codes.view(np.uint8).reshape(-1, 8)[:, :width].T.tobytes()
    head = json.dumps({"facts": facts, "columns": shapes}, separators=(",", ":")).encode()
    body = struct.pack("<I", len(head)) + head + bytes(planes)
    packed = zlib.compress(body, _LEVEL)
    return _MAGIC + _HEADER.pack(zlib.crc32(packed), len(body)) + packed


def load(data: bytes) -> tuple[dict[str, Any], dict[str, Column]]:
    """What ``dump`` was given. Raises ValueError for anything that it did not make."""
    start = len(_MAGIC) + _HEADER.size
    if not data.startswith(_MAGIC) or len(data) < start:
        raise ValueError("not a cache of history, or of another release")
    checksum, size = _HEADER.unpack_from(data, len(_MAGIC))
    packed = memoryview(data)[start:]
    if zlib.crc32(packed) != checksum:
        raise ValueError("the cache of history is damaged")
    expander = zlib.decompressobj()
    try:
        body = expander.decompress(packed, size)
        if len(body) != size or not expander.eof or expander.unused_data:
            raise ValueError("the cache of history is damaged")
        (length,) = struct.unpack_from("<I", body)
        head = json.loads(body[4 : 4 + length])
        at = 4 + length
        columns: dict[str, Column] = {}
        for name, (count, width, steps, small) in head["columns"].items():
            numbers = np.zeros(count, np.int32 if small else np.int64)
            for plane in range(width):
                part = np.frombuffer(body, np.uint8, count, at)
                if plane == 0 or part.any():
                    numbers |= part.astype(numbers.dtype) << 8 * plane
                at += count
            if steps:
                numbers = np.cumsum((numbers >> 1) ^ -(numbers & 1), dtype=numbers.dtype)
            columns[name] = numbers
        return head["facts"], columns
    except (zlib.error, struct.error, LookupError, TypeError) as error:
        raise ValueError("the cache of history is damaged") from error
