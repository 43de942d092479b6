"""The list of documents: make, find, list, rename, delete. What is in them is the log's business."""

from __future__ import annotations

import base64
import binascii
import struct
import time
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Select, delete, func, insert, or_, select, tuple_, update
from sqlalchemy.exc import IntegrityError

from collab.errors import DocumentDeleted, DocumentExists, DocumentNotFound, InvalidName, InvalidRequest
from collab.rights import Role
from storage.database import Database
from storage.models import documents, histories, links, members, openings, storable, updates

MAX_LIMIT = 1000
_KEYS = select(documents.c.key, documents.c.deleted_at)
_NO_SUCH_NAME = "no document has a name that is not UTF-8, or holds a NUL"


@dataclass(frozen=True, slots=True)
class Document:
    """A document as the list shows it. ``updated_at`` is when its last entry was received, or else when it
    was made; ``head`` is that entry's seq, 0 when there is none. Times are UTC."""

    name: str
    title: str
    epoch: int
    head: int
    created_at: datetime
    updated_at: datetime
    imported_head: int | None = None
    """Entries up to this one came out of an archive, with what that said of their authors and times."""
    imported_by: str | None = None
    imported_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """Some documents, and the cursor that continues after them (None at the end)."""

    documents: list[Document]
    cursor: str | None


class Documents:
    """The documents of one database. Names are taken as they are: check them before."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, name: str, title: str, owner: str) -> Document:
        """Make an empty document that belongs to the actor ``owner``.

        Raises DocumentExists (also when it was deleted), InvalidName, InvalidRequest (text that cannot be
        stored), StorageUnavailable.
        """
        if not storable(name):
            raise InvalidName("a document name must be UTF-8 without NUL")
        _check_title(title)
        now = _now()

        def work(connection: Connection) -> None:
            insert_document(connection, name, title, now, owner)

        try:
            await self._database.write(work)
        except IntegrityError:
            raise DocumentExists(f"there is a document named {name!r} already") from None
        return Document(name, title, 1, 0, _time(now), _time(now))

    async def get(self, name: str) -> Document:
        """Raises DocumentNotFound, DocumentDeleted, StorageUnavailable."""

        def work(connection: Connection) -> Document:
            return _document(_living(connection, name, _described()))

        return await self._database.read(work)

    async def rename(self, name: str, title: str) -> Document:
        """Give it another title; the name stays. Raises DocumentNotFound, DocumentDeleted, InvalidRequest."""
        _check_title(title)

        def work(connection: Connection) -> Document:
            key = living_key(connection, name)
            connection.execute(update(documents).where(documents.c.key == key).values(title=title))
            return _document(connection.execute(_described().where(documents.c.key == key)).one())

        return await self._database.write(work)

    async def delete(self, name: str) -> None:
        """Hide it and refuse further appends; nothing is thrown away. Raises DocumentNotFound,
        DocumentDeleted (already)."""
        now = _now()

        def work(connection: Connection) -> None:
            key = living_key(connection, name)
            connection.execute(update(documents).where(documents.c.key == key).values(deleted_at=now))
            connection.execute(delete(histories).where(histories.c.document == key))  # made again if need be

        await self._database.write(work)

    async def undelete(self, name: str) -> None:
        """Bring it back as it was; of one that is not deleted, nothing. Raises DocumentNotFound."""

        if not storable(name):
            raise DocumentNotFound(_NO_SUCH_NAME)

        def work(connection: Connection) -> None:
            named = update(documents).where(documents.c.name == name).values(deleted_at=None)
            if connection.execute(named).rowcount == 0:
                raise DocumentNotFound(f"there is no document named {name!r}")

        await self._database.write(work)

    async def list(
        self,
        limit: int,
        cursor: str | None = None,
        query: str | None = None,
        *,
        person: str | None = None,
        patterns: Collection[str] | None = None,
    ) -> Page:
        """Living documents, newest change first; with ``query`` those whose name or title contains it; with
        ``person`` those shared with that actor, by membership or an opened link; with ``patterns`` those
        that one of them matches (``collab.rights.matches``). One that changes between two pages moves to
        the front and is not shown twice.

        Raises InvalidRequest (a cursor that is not ours, a limit outside 1..1000), StorageUnavailable.
        """
        if not 1 <= limit <= MAX_LIMIT:
            raise InvalidRequest(f"limit must be between 1 and {MAX_LIMIT}")
        changed = _updated_at().label("changed")
        found = select(documents.c.key, changed).where(documents.c.deleted_at.is_(None))
        if query:
            if not storable(query):
                raise InvalidRequest("the query must be UTF-8 without NUL")
            found = found.where(
                or_(
                    documents.c.name.icontains(query, autoescape=True),
                    documents.c.title.icontains(query, autoescape=True),
                )
            )
        if person is not None:
            found = found.where(documents.c.key.in_(_shared_with(person)))
        if patterns is not None:
            found = found.where(_matches(patterns))
        inner = found.subquery()
        page = select(inner.c.key, inner.c.changed)
        if cursor is not None:
            page = page.where(tuple_(inner.c.changed, inner.c.key) < tuple_(*_read_cursor(cursor)))
        page = page.order_by(inner.c.changed.desc(), inner.c.key.desc()).limit(limit + 1)

        def work(connection: Connection) -> Page:
            rows = connection.execute(page).all()
            keys = [row.key for row in rows[:limit]]
            described = {
                row.key: _document(row)
                for row in connection.execute(_described().where(documents.c.key.in_(keys)))
            }
            more = len(rows) > limit
            end = _write_cursor(rows[limit - 1].changed, rows[limit - 1].key) if more else None
            return Page([described[key] for key in keys], end)

        return await self._database.read(work)


def insert_document(connection: Connection, name: str, title: str, created_at: int, owner: str) -> int:
    """Make the row of a document and its first owner's; returns its key."""
    made = connection.execute(
        insert(documents)
        .values(name=name, title=title, epoch=1, created_at=created_at)
        .returning(documents.c.key)
    )
    key: int = made.scalar_one()
    add_member(connection, key, owner, Role.OWNER, created_at)
    return key


def add_member(
    connection: Connection,
    document: int,
    person: str,
    role: Role,
    added_at: int,
    history: bool | None = None,
) -> None:
    connection.execute(
        insert(members).values(
            document=document, person=person, role=int(role), added_at=added_at, history=history
        )
    )


def living_key(connection: Connection, name: str) -> int:
    """The key of a document. Raises DocumentNotFound, DocumentDeleted."""
    key: int = _living(connection, name, _KEYS).key
    return key


def head_of(connection: Connection, key: int) -> int:
    """The seq of a document's last entry; 0 when there is none."""
    head: int = connection.execute(
        select(func.coalesce(func.max(updates.c.seq), 0)).where(updates.c.document == key)
    ).scalar_one()
    return head


def _shared_with(person: str) -> Any:
    through = (
        select(links.c.document)
        .join(openings, openings.c.link == links.c.key)
        .where(
            openings.c.person == person,
            or_(links.c.expires_at.is_(None), links.c.expires_at > _now()),
        )
    )
    return select(members.c.document).where(members.c.person == person).union(through)


def _matches(patterns: Collection[str]) -> Any:
    # What cannot be stored is no name's beginning. Names go in one list: SQLite takes no thousand ORs.
    possible = [pattern for pattern in patterns if storable(pattern)]
    beginnings = [pattern[:-1] for pattern in possible if pattern.endswith("*")]
    return or_(
        documents.c.name.in_([pattern for pattern in possible if not pattern.endswith("*")]),
        # Not LIKE: in SQLite it takes A for a.
        *(func.substr(documents.c.name, 1, len(start)) == start for start in beginnings),
    )


def _check_title(title: str) -> None:
    if not storable(title):
        raise InvalidRequest("a title must be UTF-8 without NUL")


def _living(connection: Connection, name: str, what: Select[*tuple[Any, ...]]) -> Any:
    if not storable(name):
        raise DocumentNotFound(_NO_SUCH_NAME)
    row = connection.execute(what.where(documents.c.name == name)).one_or_none()
    if row is None:
        raise DocumentNotFound(f"there is no document named {name!r}")
    if row.deleted_at is not None:
        raise DocumentDeleted(f"{name!r} was deleted")
    return row


def _updated_at() -> Any:
    # One step into the primary key for each document; nothing to write at each commit.
    last = (
        select(updates.c.received)
        .where(updates.c.document == documents.c.key)
        .order_by(updates.c.seq.desc())
        .limit(1)
        .scalar_subquery()
    )
    return func.coalesce(last, documents.c.created_at)


def _described() -> Select[*tuple[Any, ...]]:
    head = select(func.max(updates.c.seq)).where(updates.c.document == documents.c.key).scalar_subquery()
    return select(documents, func.coalesce(head, 0).label("head"), _updated_at().label("updated_at"))


def _document(row: Any) -> Document:
    return Document(
        row.name,
        row.title,
        row.epoch,
        row.head,
        _time(row.created_at),
        _time(row.updated_at),
        row.imported_head,
        row.imported_by,
        None if row.imported_at is None else _time(row.imported_at),
    )


def _now() -> int:
    return time.time_ns() // 1000


def _time(microseconds: int) -> datetime:
    seconds, rest = divmod(microseconds, 1_000_000)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest)


def _write_cursor(changed: int, key: int) -> str:
    return base64.urlsafe_b64encode(struct.pack("<qi", changed, key)).decode()


def _read_cursor(cursor: str) -> tuple[int, int]:
    try:
        changed, key = struct.unpack("<qi", base64.urlsafe_b64decode(cursor.encode("ascii")))
    except (binascii.Error, UnicodeEncodeError, struct.error) as error:
        raise InvalidRequest("this cursor was not made by Collab") from error
    return changed, key
