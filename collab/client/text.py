"""Positions in a shared text as people count them: in code points.

pycrdt counts UTF-8 bytes, and a position inside a character destroys text or panics; so every position
passes through here. An embed (an image, a mention) is one code point, shown as U+FFFC.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from pycrdt import Text

EMBED = "\ufffc"
_EMBED_BYTE = b"\xff"  # pycrdt counts an embed as one byte; this one is in no UTF-8


class Edit(NamedTuple):
    """One change of a text: at code point ``at``, ``deleted`` gave way to ``inserted``. Of several edits,
    each counts in the text that those before it have made."""

    at: int
    deleted: str
    inserted: str


def raw(text: Text) -> bytes:
    """The text in pycrdt's own units."""
    plain = str(text).encode()
    if len(plain) == len(text):
        return plain
    return b"".join(chunk.encode() if isinstance(chunk, str) else _EMBED_BYTE for chunk, _ in text.diff())


def shown(data: bytes) -> str:
    """What ``raw`` bytes say, an embed as U+FFFC."""
    if _EMBED_BYTE in data:
        data = data.replace(_EMBED_BYTE, EMBED.encode())
    return data.decode()


def offsets(data: bytes, *positions: int) -> list[int]:
    """pycrdt's offsets of code points. Raises IndexError for one outside of the text."""
    plain = data.replace(_EMBED_BYTE, b"\0").decode() if not data.isascii() else None
    length = len(data) if plain is None else len(plain)
    for position in positions:
        if not 0 <= position <= length:
            raise IndexError(f"position {position} is not in the text, which has {length} code points")
    if plain is None:
        return list(positions)
    return [len(plain[:position].encode()) for position in positions]


def clean(text: str) -> str:
    """``text`` as it may stand in a document: with LF line ends, as every editor of it counts them.

    Raises ValueError when it holds half of a surrogate pair, which is no character.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"the text holds half of a surrogate pair at {error.start}; decode it from UTF-16 first"
        ) from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def edits(before: bytes, delta: Sequence[dict[str, Any]]) -> list[Edit]:
    """What a delta of pycrdt did to the ``raw`` text that was ``before`` it. Formats are not among it."""
    found: list[Edit] = []
    read = 0  # bytes of ``before``
    at = 0  # code points of the text as it becomes
    for op in delta:
        if "retain" in op:
            at += len(shown(before[read : read + op["retain"]]))
            read += op["retain"]
        elif "delete" in op:
            deleted = shown(before[read : read + op["delete"]])
            read += op["delete"]
            if found and found[-1].at + len(found[-1].inserted) == at:  # one replacement, not two edits
                found[-1] = found[-1]._replace(deleted=found[-1].deleted + deleted)
            else:
                found.append(Edit(at, deleted, ""))
        else:
            inserted = op["insert"] if isinstance(op["insert"], str) else EMBED
            if found and found[-1].at + len(found[-1].inserted) == at:
                found[-1] = found[-1]._replace(inserted=found[-1].inserted + inserted)
            else:
                found.append(Edit(at, "", inserted))
            at += len(inserted)
    return found
