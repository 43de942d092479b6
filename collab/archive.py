"""A document as one file: JSON lines with its title, its named versions, and its whole log.

    {"collab": "document", "format": 1, "title": ..., "created_at": ..., "head": ...}
    {"label": {"seq": ..., "name": ..., "note": ..., "by": ..., "at": ...}}
    {"actor": {"id": ..., "kind": ..., "name": ...}}
    {"image": {"by": ..., "at": ..., "data": ...}}
    {"seq": 1, "actor": 0, "client": ..., "received": ..., "origin": "edit", "data": ...}
    {"end": {"entries": ..., "labels": ..., "images": ..., "sha256": ...}}

One head; then labels by seq; then images, of which only an archive of format 2 has some (one without is of
format 1, which every Collab reads, and its end counts none); then the entries, each actor before its first
entry, which calls it by its number among the actors; then the end, with the SHA-256 of all bytes before that
line: a file that was cut off is told from a whole one. Times are microseconds since the epoch, data is
base64. What is written of a document depends on nothing else, so it is the same whenever it is written.

Whoever wrote the file may have made up what is in it: ``Reader`` lets no update pass that the gate refuses.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, TypeVar

from collab import update
from collab.errors import InvalidRequest, UpdateError
from collab.log import Actor, Entry, Origin

FORMAT = 1
WITH_IMAGES = 2
KINDS = ("guest", "user", "agent", "account")
BIGGEST = 1 << 53  # of a number in JSON, and of a Yjs client id
ACTORS_LIMIT = 100_000
ID_BYTES, NAME_BYTES = 300, 1000  # of an actor

T = TypeVar("T")


class Head(NamedTuple):
    title: str
    created_at: int
    head: int  # the seq of the last entry


class Named(NamedTuple):
    """A label. ``by`` is an actor's id."""

    seq: int
    name: str
    note: str
    by: str
    at: int


class Picture(NamedTuple):
    """An image. ``by`` is an actor's id."""

    by: str
    at: int
    data: bytes


class Writer:
    """Makes the lines. What it returns is to be written in this order."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self._actors: dict[str, int] = {}
        self._entries = self._labels = self._images = 0

    def head(self, head: Head, *, images: bool = False) -> bytes:
        format = WITH_IMAGES if images else FORMAT
        return self._line({"collab": "document", "format": format, **head._asdict()})

    def label(self, label: Named) -> bytes:
        self._labels += 1
        return self._line({"label": label._asdict()})

    def image(self, image: Picture) -> bytes:
        self._images += 1
        return self._line({"image": {**image._asdict(), "data": base64.b64encode(image.data).decode()}})

    def entries(self, entries: Iterable[Entry]) -> bytes:
        lines = []
        for entry in entries:
            actor = self._actors.get(entry.actor.id)
            if actor is None:
                actor = self._actors[entry.actor.id] = len(self._actors)
                lines.append(self._line({"actor": entry.actor._asdict()}))
            made = {
                "seq": entry.seq,
                "actor": actor,
                "client": entry.client,
                "received": entry.received,
                "origin": entry.origin.name.lower(),
                "data": base64.b64encode(entry.data).decode(),
            }
            lines.append(self._line(made))
            self._entries += 1
        return b"".join(lines)

    def end(self) -> bytes:
        counts = {"entries": self._entries, "labels": self._labels}
        if self._images:
            counts["images"] = self._images
        return _json({"end": {**counts, "sha256": self._digest.hexdigest()}})

    def _line(self, value: Mapping[str, Any]) -> bytes:
        line = _json(value)
        self._digest.update(line)
        return line


class Reader:
    """Takes the lines one by one and says what is in them. Entries that it has let pass are causally complete
    and passed the gate; that pycrdt takes them too is for the caller to prove before they are trusted."""

    def __init__(self, size: int) -> None:
        """``size``: bytes that the updates may have in all."""
        self.head: Head | None = None
        self.labels: list[Named] = []
        self.whole = False
        self.updates: list[bytes] = []
        self._size = size
        self._actors: list[Actor] = []
        self._digest = hashlib.sha256()
        self._line = 0
        self._clocks: dict[int, int] = {}
        self._nesting: update.Nesting | None = None
        self._format = FORMAT
        self._images = 0

    def feed(self, line: bytes) -> Entry | Picture | None:
        """Take a line with its newline; the entry or the image in it, if it is one's.

        Raises InvalidRequest, UpdateError (the gate refuses an update), both with the number of the line.
        """
        self._line += 1
        try:
            return self._take(line)
        except UpdateError as error:
            raise UpdateError(f"line {self._line}: {error}") from None
        except (InvalidRequest, ValueError, KeyError, TypeError, RecursionError) as error:
            raise InvalidRequest(f"line {self._line} of the archive is not as it must be: {error}") from None

    def finish(self) -> Head:
        """The head, when all has come. Raises InvalidRequest: the archive was cut off."""
        if not self.whole or self.head is None:
            raise InvalidRequest(f"the archive ends after line {self._line}, without its end; get it again")
        return self.head

    def _take(self, line: bytes) -> Entry | Picture | None:
        if self.whole:
            raise ValueError("there is more after the end")
        value = json.loads(line)
        if not isinstance(value, dict):
            raise ValueError("it is no object")
        if self.head is None:
            self._take_head(value)
        elif "end" in value:
            self._take_end(value["end"])
        elif "label" in value:
            self._take_label(value["label"])
        elif "actor" in value and "seq" not in value:
            self._take_actor(value["actor"])
        else:
            made = self._take_image(value["image"]) if "image" in value else self._take_entry(value)
            self._digest.update(line)
            return made
        self._digest.update(line)
        return None

    def _take_head(self, value: dict[str, Any]) -> None:
        if value.get("collab") != "document":
            raise ValueError("this is no archive of a document")
        if value.get("format") not in (FORMAT, WITH_IMAGES):
            known = f"{FORMAT} and {WITH_IMAGES}"
            raise ValueError(f"this Collab reads formats {known}, not {value.get('format')!r}; upgrade it")
        self._format = value["format"]
        head = _number(value, "head", 1 << 31)
        self.head = Head(_of(value, "title", str), _number(value, "created_at"), head)

    def _take_label(self, value: dict[str, Any]) -> None:
        if self.updates or self._actors or self._images:
            raise ValueError("labels come before images and entries")
        text = {key: _of(value, key, str) for key in ("name", "note", "by")}
        self.labels.append(Named(seq=_number(value, "seq", 1 << 31), at=_number(value, "at"), **text))

    def _take_image(self, value: dict[str, Any]) -> Picture:
        if self._format != WITH_IMAGES:
            raise ValueError(f"an archive with images is of format {WITH_IMAGES}")
        if self.updates or self._actors:
            raise ValueError("images come before entries")
        self._images += 1
        return Picture(_of(value, "by", str), _number(value, "at"), _bytes(value))

    def _take_actor(self, value: dict[str, Any]) -> None:
        actor = Actor(**{key: _of(value, key, str) for key in Actor._fields})
        for text, least, most in ((actor.id, 1, ID_BYTES), (actor.name, 0, NAME_BYTES)):
            if "\0" in text or not least <= len(text.encode()) <= most:
                raise ValueError(
                    f"an actor has an id of 1 to {ID_BYTES} bytes and a name of {NAME_BYTES} at most"
                )
        if actor.kind not in KINDS:
            raise ValueError(f"an actor's kind is one of {', '.join(KINDS)}")
        if len(self._actors) >= ACTORS_LIMIT:
            raise ValueError(f"an archive may have {ACTORS_LIMIT} actors")
        self._actors.append(actor)

    def _take_entry(self, value: dict[str, Any]) -> Entry:
        seq, index = _number(value, "seq"), _number(value, "actor")
        assert self.head is not None
        if seq != len(self.updates) + 1 or seq > self.head.head:
            raise ValueError(f"entry {len(self.updates) + 1} of {self.head.head} was expected, not {seq}")
        if index >= len(self._actors):
            raise ValueError(f"there is no actor {index}")
        data = _bytes(value)
        origin = Origin[_of(value, "origin", str).upper()]
        self._check(data)
        return Entry(
            seq, self._actors[index], _number(value, "client"), _number(value, "received"), origin, data
        )

    def _check(self, data: bytes) -> None:
        self._size -= len(data)
        if self._size < 0:
            raise ValueError("the document is larger than this server takes (--document-bytes)")
        checked = update.check(data, self._clocks)
        if checked.missing is not None or checked.skips:
            raise UpdateError("the update depends on one that does not come before it")
        if checked.extends and (checked.nests or self._nesting is not None):
            if self._nesting is None:
                self._nesting = update.Nesting(self.updates)
            self._nesting.add(data)
        for client in checked.extends:
            self._clocks[client] = checked.clocks[client]
        self.updates.append(data)

    def _take_end(self, value: dict[str, Any]) -> None:
        assert self.head is not None
        if (_number(value, "entries"), len(self.updates)) != (self.head.head, self.head.head):
            raise ValueError(f"{len(self.updates)} entries have come, not {self.head.head}")
        if _number(value, "labels") != len(self.labels):
            raise ValueError(f"{len(self.labels)} labels have come, not {value['labels']}")
        if (_number(value, "images") if "images" in value else 0) != self._images:
            raise ValueError(f"{self._images} images have come, not {value.get('images', 0)}")
        if value.get("sha256") != self._digest.hexdigest():
            raise ValueError("what came before is not what was written (SHA-256)")
        self.whole = True


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"


def _of(value: Mapping[str, Any], key: str, kind: type[T]) -> T:
    found = value[key]
    if type(found) is not kind:
        raise ValueError(f"its {key} must be {kind.__name__}")
    return found


def _bytes(value: Mapping[str, Any]) -> bytes:
    try:
        return base64.b64decode(_of(value, "data", str), validate=True)
    except binascii.Error as error:
        raise ValueError(f"its data is not base64: {error}") from None


def _number(value: Mapping[str, Any], key: str, below: int = BIGGEST) -> int:
    found = _of(value, key, int)
    if not 0 <= found < below:
        raise ValueError(f"its {key} must be between 0 and {below - 1}")
    return found
