"""Named versions: a label says which entry of a document's log a name means. Nothing prunes them."""

from __future__ import annotations

import re
import secrets
import time
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, update

from collab.errors import CollabError, InvalidRequest
from collab.log import Actor
from storage.database import Database
from storage.documents import head_of, living_key
from storage.models import actors, labels, storable

NAME_LIMIT = 200  # characters
NOTE_LIMIT = 2000
LABELS_LIMIT = 2000  # of one document
ID_PREFIX = "version_"  # of every label's id, so that it can be told from a name

# Other ways to say which version is meant: a seq, the newest, a time (RFC 3339, or a part of one), an id.
_OTHER_REF = re.compile(
    r"[+-]?\d+|head|\d{4}-\d\d-\d\d([Tt ]\d\d:\d\d(:\d\d(\.\d+)?)?([Zz]|[+-]\d\d:?\d\d)?)?|version_.*",
    re.IGNORECASE | re.DOTALL,
)


class LabelExists(CollabError):
    """Another version of this document has the name already."""

    status = 409
    code = "label-exists"


class NoSuchLabel(CollabError):
    """This document has no such named version (any more)."""

    status = 404
    code = "no-such-version"


@dataclass(frozen=True, slots=True)
class Label:
    """``seq``: the last entry that is in this version. ``made_at`` is microseconds since the epoch."""

    id: str
    seq: int
    name: str
    note: str
    made_by: Actor  # under the name last seen in the log
    made_at: int


class Labels:
    """The labels of the documents of one database. All methods raise DocumentNotFound, DocumentDeleted,
    StorageUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, document: str, seq: int, name: str, note: str, by: str) -> Label:
        """Name the version after entry ``seq``; 0 is the empty document. ``by`` is an actor's id.

        Raises LabelExists, InvalidRequest (a name as ``check_name`` refuses it, a seq beyond the head, too
        many labels).
        """
        check_name(name)
        check_note(note)
        id, now = ID_PREFIX + secrets.token_hex(8), time.time_ns() // 1000

        def work(connection: Connection) -> Label:
            key = living_key(connection, document)
            head = head_of(connection, key)
            if not 0 <= seq <= head:
                raise InvalidRequest(f"{document!r} has entries up to {head}; there is no version at {seq}")
            count = select(func.count()).select_from(labels).where(labels.c.document == key)
            if connection.execute(count).scalar_one() >= LABELS_LIMIT:
                raise InvalidRequest(f"a document may have {LABELS_LIMIT} named versions; delete some first")
            _check_free(connection, key, name)
            connection.execute(
                insert(labels).values(
                    document=key, id=id, seq=seq, name=name, note=note, made_by=by, made_at=now
                )
            )
            return _one(connection, document, key, labels.c.id == id)

        return await self._database.write(work)

    async def list(self, document: str) -> list[Label]:
        """All, in the order of their entries."""

        def work(connection: Connection) -> list[Label]:
            mine = _wanted(labels.c.document == living_key(connection, document))
            return [_label(row) for row in connection.execute(mine.order_by(labels.c.seq, labels.c.key))]

        return await self._database.read(work)

    async def get(self, document: str, id: str) -> Label:
        """Raises NoSuchLabel."""
        return await self._find(document, labels.c.id == id, id)

    async def named(self, document: str, name: str) -> Label:
        """Raises NoSuchLabel."""
        return await self._find(document, labels.c.name == name, name)

    async def change(
        self, document: str, id: str, *, name: str | None = None, note: str | None = None
    ) -> Label:
        """Give it another name or note; what is None stays.

        Raises NoSuchLabel, LabelExists, InvalidRequest.
        """
        if name is not None:
            check_name(name)
        if note is not None:
            check_note(note)
        new = {k: v for k, v in (("name", name), ("note", note)) if v is not None}

        def work(connection: Connection) -> Label:
            key = living_key(connection, document)
            found = _one(connection, document, key, labels.c.id == id)
            if name is not None and name != found.name:
                _check_free(connection, key, name)
            if new:
                connection.execute(update(labels).where(labels.c.id == id).values(**new))
            return _one(connection, document, key, labels.c.id == id)

        _check_known(document, id)
        return await self._database.write(work)

    async def delete(self, document: str, id: str) -> None:
        """Take the name away; the version stays. Raises NoSuchLabel."""
        _check_known(document, id)

        def work(connection: Connection) -> None:
            key = living_key(connection, document)
            mine = (labels.c.document == key) & (labels.c.id == id)
            if not connection.execute(delete(labels).where(mine)).rowcount:
                raise _missing(document)

        await self._database.write(work)

    async def _find(self, document: str, which: Any, said: str) -> Label:
        _check_known(document, said)

        def work(connection: Connection) -> Label:
            return _one(connection, document, living_key(connection, document), which)

        return await self._database.read(work)


def check_name(name: str) -> None:
    """Raises InvalidRequest for what is no name of a version: empty, too long, not to be stored, with space
    around it, or to be read as another way to say which version is meant."""
    if not 0 < len(name) <= NAME_LIMIT or not storable(name):
        raise InvalidRequest(f"a version's name must have 1 to {NAME_LIMIT} characters and no NUL")
    if name != name.strip():
        raise InvalidRequest("a version's name must not begin or end with space")
    if _OTHER_REF.fullmatch(name):
        raise InvalidRequest(
            f"{name!r} cannot be a version's name: numbers, times, `head` and `{ID_PREFIX}...` already mean "
            "versions; put a word before it"
        )


def check_note(note: str) -> None:
    """Raises InvalidRequest."""
    if len(note) > NOTE_LIMIT or not storable(note):
        raise InvalidRequest(f"a version's note may have {NOTE_LIMIT} characters and no NUL")


def _check_known(document: str, said: str) -> None:
    if not storable(said):
        raise _missing(document)


def _check_free(connection: Connection, key: int, name: str) -> None:
    taken = select(labels.c.seq).where(labels.c.document == key, labels.c.name == name)
    if (seq := connection.execute(taken).scalar()) is not None:
        raise LabelExists(f"the version at {seq} is named {name!r} already; choose another name")


def _wanted(which: Any) -> Any:
    known = select(labels, actors.c.kind.label("kind"), actors.c.name.label("by_name"))
    return known.outerjoin(actors, actors.c.id == labels.c.made_by).where(which)


def _one(connection: Connection, document: str, key: int, which: Any) -> Label:
    row = connection.execute(_wanted((labels.c.document == key) & which)).one_or_none()
    if row is None:
        raise _missing(document)
    return _label(row)


def _missing(document: str) -> NoSuchLabel:
    return NoSuchLabel(f"{document!r} has no such named version (any more)")


def _label(row: Any) -> Label:
    by = Actor(row.made_by, row.kind or row.made_by.partition(":")[0], row.by_name or "")
    return Label(row.id, row.seq, row.name, row.note, by, row.made_at)
