"""The doc: names, roots, how one is built from updates and made into a snapshot.

pycrdt holds the interpreter lock and can panic (a BaseException) on input that the gate let pass, so
every call that feeds it bytes or reads it is guarded here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import unquote_to_bytes

from pycrdt import Doc, Text, get_state, get_update, merge_updates

from collab.errors import CorruptLog, InvalidName, UpdateError
from collab.update import encode_state_vector, state_vector

TEXT_ROOT = "content"  # the Y.Text that editors of plain text and Markdown share
EMPTY_UPDATE = b"\x00\x00"
NAME_LIMIT = 255  # bytes of UTF-8

_MERGE_WIDTH = 64  # merge_updates is superlinear in its count; a tree of merges this wide is not
_BATCH = 64  # updates a transaction when a doc is built; larger ones are slower again
_ASTRAL = re.compile(rb"[\xf0-\xf4][\x80-\xbf]{3}")


def parse_name(encoded: str) -> str:
    """The document name in a percent-encoded path. Raises InvalidName."""
    raw = unquote_to_bytes(encoded)
    try:
        name = raw.decode()
    except UnicodeDecodeError:
        raise InvalidName("the document name is not valid UTF-8; percent-encode its UTF-8 bytes") from None
    return check_name(name)


def check_name(name: str) -> str:
    """``name`` itself when a document may be called that. Raises InvalidName."""
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        raise InvalidName("the document name holds half of a surrogate pair") from None
    if not size:
        raise InvalidName("the document name is empty")
    if size > NAME_LIMIT:
        raise InvalidName(f"the document name has {size} bytes; at most {NAME_LIMIT} are allowed")
    if name in (".", ".."):
        raise InvalidName(f"a document cannot be called {name!r}: no browser can ask for that path")
    if "\0" in name:
        raise InvalidName("the document name holds a NUL character")
    return name


def new_doc() -> Doc[Any]:
    return Doc()


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Reads of a doc, or of updates, that went wrong panic too."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # a Rust panic is not an Exception
        raise CorruptLog(f"{what} cannot be read: {error}") from None


def text(doc: Doc[Any]) -> str:
    """The shared text, in code points. A read: it changes nothing. Raises CorruptLog."""
    with reading("the text"):
        return str(doc.get(TEXT_ROOT, type=Text))


def clocks(doc: Doc[Any]) -> dict[int, int]:
    return state_vector(doc.get_state())


def reach(update: bytes) -> dict[int, int]:
    """The clocks that ``update`` reaches, read from its own lengths. A Doc can be one short of them
    after an edit split a surrogate pair. Raises CorruptLog."""
    with reading("a stored update"):
        return state_vector(get_state(update))


def apply(doc: Doc[Any], update: bytes) -> None:
    """Apply a checked update. After UpdateError the doc may be half changed: drop it."""
    try:
        doc.apply_update(update)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # a Rust panic is not an Exception
        raise UpdateError(f"the update cannot be applied: {error}") from None


def apply_batch(doc: Doc[Any], updates: Iterable[bytes]) -> None:
    """Apply checked updates in one transaction, at half the cost of one each. As ``apply``."""
    try:
        with doc.transaction():
            for update in updates:
                doc.apply_update(update)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # a Rust panic is not an Exception
        raise UpdateError(f"the updates cannot be applied: {error}") from None


def merge(updates: Sequence[bytes]) -> bytes:
    """One update that says what all of them say, from their own bytes. Raises CorruptLog."""
    level = list(updates)
    with reading("a stored update"):
        while len(level) > 1:
            level = [merge_updates(*level[i : i + _MERGE_WIDTH]) for i in range(0, len(level), _MERGE_WIDTH)]
    return level[0] if level else EMPTY_UPDATE


def build(updates: Iterable[bytes]) -> Doc[Any]:
    """A doc that has seen ``updates``, which are causally complete in their order. Raises CorruptLog."""
    updates = list(updates)
    doc = new_doc()
    try:
        for i in range(0, len(updates), _BATCH):
            apply_batch(doc, updates[i : i + _BATCH])
    except UpdateError:
        return _build_slowly(updates)
    return doc


def _build_slowly(updates: Iterable[bytes]) -> Doc[Any]:
    """One transaction for each update: some that passed so are refused by pycrdt in a common one, since
    what was deleted is collected in between."""
    doc = new_doc()
    try:
        for update in updates:
            apply(doc, update)
    except UpdateError as error:
        raise CorruptLog(f"the log does not make a document: {error}") from None
    return doc


def holds_astral(updates: Iterable[bytes]) -> bool:
    """Whether any of them may hold a character above U+FFFF (which UTF-16 clients can split)."""
    return any(_ASTRAL.search(update) for update in updates)


def snapshot(updates: Sequence[bytes], expected: Mapping[int, int] | None, *, verbatim: bool) -> bytes:
    """The full state after ``updates`` as one update, proven to load into the same document.

    ``verbatim`` merges the received bytes and does not let a Doc encode them again: needed where an
    edit split a surrogate pair, which pycrdt 0.14 writes back so that Yjs cannot read it. Raises
    CorruptLog when the log does not reach the ``expected`` clocks, or the snapshot does not equal it.
    """
    doc = build(updates)
    data = merge(updates) if verbatim else difference(doc, {})
    if (expected is None or reach(data) == expected) and text(build([data])) == text(doc):
        return data
    if not verbatim:
        return snapshot(updates, expected, verbatim=True)
    raise CorruptLog("a snapshot does not read as the log it was made from")


def difference(doc: Doc[Any], known: Mapping[int, int]) -> bytes:
    """What a replica that has seen ``known`` lacks, with the whole delete set. Raises CorruptLog."""
    with reading("the document"):
        return doc.get_update(encode_state_vector(known))


def lacking(update: bytes, known: Mapping[int, int]) -> bytes:
    """As ``difference``, from the bytes of an update and not through a doc."""
    with reading("a stored update"):
        return get_update(update, encode_state_vector(known))
