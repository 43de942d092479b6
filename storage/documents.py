"""The list of documents: make, find, list, rename, delete. What is in them is the log's business."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from sqlalchemy import (
    Connection,
    Select,
    and_,
    case,
    delete,
    func,
    insert,
    literal,
    or_,
    select,
    tuple_,
    update,
)
from sqlalchemy.exc import IntegrityError

from collab.errors import DocumentDeleted, DocumentExists, DocumentNotFound, InvalidName, InvalidRequest
from collab.rights import Role
from storage import search
from storage.database import Database
from storage.models import documents, histories, links, members, openings, storable, updates
from storage.search import Excerpt

MAX_LIMIT = 1000
EXCERPTS = 100  # of a page: those that anybody looks at
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
    """Some documents, and the cursor that continues after them (None at the end). Of those whose text has
    what was asked for, ``excerpts`` shows where, by name."""

    documents: list[Document]
    cursor: str | None
    excerpts: dict[str, Excerpt] = field(default_factory=dict)


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
        sort: Sort = "changed",
    ) -> Page:
        """Living documents: the latest changed or made first, or by title (by name, where there is none).
        With ``query`` those whose name or title contains it, then those that have each of its words, or words
        that begin so, in name, title or text; with ``person`` those shared with that actor, by membership or
        an opened link; with ``patterns`` those that one of them matches (``collab.rights.matches``). One that
        changes between two pages moves to the front and is not shown twice.

        Raises InvalidRequest (a cursor that is not ours, or of another order; a limit outside 1..1000),
        StorageUnavailable.
        """
        if not 1 <= limit <= MAX_LIMIT:
            raise InvalidRequest(f"limit must be between 1 and {MAX_LIMIT}")
        if query and not storable(query):
            raise InvalidRequest("the query must be UTF-8 without NUL")
        behind = None if cursor is None else _read_cursor(cursor, sort)
        terms = search.terms_of(query or "")
        place = _SORTS[sort]().label("place")
        found = select(documents.c.key, place).where(documents.c.deleted_at.is_(None))
        if person is not None:
            found = found.where(documents.c.key.in_(_shared_with(person)))
        if patterns is not None:
            found = found.where(_matches(patterns))

        def work(connection: Connection) -> tuple[Page, dict[str, str]]:
            rank, fits = _fit(connection, query, terms) if query else (literal(0), None)
            ranked = found.add_columns(rank.label("rank"))
            inner = (ranked if fits is None else ranked.where(fits)).subquery()
            best = inner.c.rank, inner.c.place, inner.c.key
            page = select(*best).limit(limit + 1)
            if sort == "title":
                page = page.order_by(inner.c.place, inner.c.key)
                if behind is not None:
                    page = page.where(tuple_(*best[1:]) > tuple_(*behind[1:]))
            else:
                page = page.order_by(*(column.desc() for column in best))
                if behind is not None:
                    page = page.where(tuple_(*best) < tuple_(*behind))
            rows = connection.execute(page).all()
            keys = [row.key for row in rows[:limit]]
            described = {
                row.key: _document(row)
                for row in connection.execute(_described().where(documents.c.key.in_(keys)))
            }
            pieces = search.hits(connection, keys[:EXCERPTS], terms) if terms else {}
            end = _write_cursor(sort, *rows[limit - 1]) if len(rows) > limit else None
            return (
                Page([described[key] for key in keys], end),
                {described[key].name: piece for key, piece in pieces.items()},
            )

        shown, pieces = await self._database.read(work)
        if pieces:
            shown.excerpts.update(await asyncio.to_thread(_excerpts, pieces, terms))
        return shown


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


def _fit(connection: Connection, query: str, terms: Sequence[search.Term]) -> tuple[Any, Any]:
    """How well a document fits a query, and the condition that it does at all."""
    whole = _named(query)
    if not terms:
        return literal(1), whole
    numbered = list(enumerate(terms))
    in_title = [search.has(connection, term, n, title=True) for n, term in numbered]
    # What has just been made is not in the index yet.
    anywhere = [or_(search.has(connection, term, n), _named("".join(term.words))) for n, term in numbered]
    return case((or_(whole, and_(*in_title)), 1), else_=0), or_(whole, and_(*anywhere))


def _named(part: str) -> Any:
    return or_(
        documents.c.name.icontains(part, autoescape=True), documents.c.title.icontains(part, autoescape=True)
    )


def _excerpts(pieces: Mapping[str, str], terms: Sequence[search.Term]) -> dict[str, Excerpt]:
    return {name: search.excerpt(piece, terms) for name, piece in pieces.items()}


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


def _titled() -> Any:
    return func.lower(func.coalesce(func.nullif(documents.c.title, ""), documents.c.name))


Sort = Literal["changed", "created", "title"]
_SORTS: dict[Sort, Callable[[], Any]] = {
    "changed": _updated_at,
    "created": lambda: documents.c.created_at,
    "title": _titled,
}


def _write_cursor(sort: Sort, rank: int, place: int | str, key: int) -> str:
    return base64.urlsafe_b64encode(json.dumps([sort, rank, place, key]).encode()).decode()


def _read_cursor(cursor: str, sort: Sort) -> tuple[int, int | str, int]:
    try:
        of, rank, place, key = json.loads(base64.urlsafe_b64decode(cursor.encode("ascii")))
    except (ValueError, TypeError, RecursionError) as error:
        raise InvalidRequest("this cursor was not made by Collab") from error
    numbers = [rank, key] if sort == "title" else [rank, key, place]
    sound = all(type(number) is int and number >= -(1 << 31) for number in numbers)
    if of != sort or not sound or key >= 1 << 31 or rank > 1 or max(numbers) >= 1 << 62:
        raise InvalidRequest("this cursor was not made by Collab, or for another order")
    if sort == "title" and not (type(place) is str and storable(place)):
        raise InvalidRequest("this cursor was not made by Collab")
    return rank, place, key
