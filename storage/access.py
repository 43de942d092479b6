"""Who may do what with a document: its members, and links that make whoever opens them one.

Rights that a token carries are not here (``web.auth``), nor is who a person is: a person is an actor's id.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Table, bindparam, delete, func, insert, literal, or_, select, update
from sqlalchemy.exc import IntegrityError

from collab.errors import CollabError, InvalidRequest
from collab.rights import Role, sees_history
from storage.accounts import PREFIX as ACCOUNT
from storage.database import Database
from storage.documents import add_member, living_key
from storage.models import actors, documents, links, members, openings, storable, users

PERSON_LIMIT = 300  # bytes of an actor's id
LINKS_LIMIT = 200  # of one document
MEMBERS_LIMIT = 1000
PART = 500  # people asked about in one statement
ARRIVALS_SHOWN = 20  # of one link, the latest
LINK_PREFIX = "link_"  # of every link's secret, so that one can be told from other tokens


class NoSuchGrant(CollabError):
    """There is no such member or link (any more)."""

    status = 404
    code = "no-such-grant"
    close_code = 4403


class LastOwner(CollabError):
    """A document keeps an owner: make somebody else one first."""

    status = 409
    code = "last-owner"


Asked = tuple[str, str | None]  # a person, and the secret of a link that comes with the request


@dataclass(frozen=True, slots=True)
class Standing:
    """What the tables say of one person and one document."""

    exists: bool  # also true of a deleted one
    role: Role | None
    history: bool  # may read it
    until: float | None  # seconds since the epoch: when to look again, since a link expires


@dataclass(frozen=True, slots=True)
class Member:
    person: str
    name: str  # as last seen in the log, else the account's; "" of a stranger who has written nothing
    role: Role
    added_at: int
    history: bool | None  # collab.rights.sees_history


@dataclass(frozen=True, slots=True)
class Link:
    """``expires_at`` and ``created_at`` are microseconds since the epoch."""

    id: str
    role: Role
    label: str
    password_hash: str | None
    expires_at: int | None
    created_at: int
    created_by: str
    history: bool | None = None


@dataclass(frozen=True, slots=True)
class Arrival:
    """Somebody who came through a link. ``at`` is microseconds since the epoch."""

    person: str
    name: str
    at: int


NOBODY = Standing(exists=False, role=None, history=False, until=None)
_LINK = (
    links.c.id,
    links.c.role,
    links.c.label,
    links.c.password_hash,
    links.c.expires_at,
    links.c.created_at,
    links.c.created_by,
    links.c.history,
)
# Built once: they are asked at every request.
_LIVING_LINKS = (
    select(
        documents.c.key.label("document"),
        links.c.key,
        links.c.digest,
        links.c.role,
        links.c.history,
        links.c.password_hash,
        links.c.expires_at,
    )
    .outerjoin(
        links,
        (links.c.document == documents.c.key)
        & (links.c.expires_at.is_(None) | (links.c.expires_at > bindparam("now"))),
    )
    .where(documents.c.name == bindparam("name"))
)
_MEMBERS = select(members.c.person, members.c.role, members.c.history).where(
    members.c.document == bindparam("document"), members.c.person.in_(bindparam("people", expanding=True))
)
_OPENED = select(openings.c.person, openings.c.link).where(
    openings.c.person.in_(bindparam("people", expanding=True)),
    openings.c.link.in_(bindparam("links", expanding=True)),
)


class Access:
    """Members and links of the documents of one database. Documents that are not there, or were deleted,
    raise DocumentNotFound or DocumentDeleted; all raise StorageUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def standing(self, document: str, person: str, secret: str | None = None) -> Standing:
        """The role of ``person`` on ``document``: as a member, by links opened before, and by the link whose
        ``secret`` comes with the request (one without a password). Raises nothing for what is not there."""
        return (await self.standings(document, [(person, secret)]))[person, secret]

    async def standings(self, document: str, asked: Collection[Asked]) -> dict[Asked, Standing]:
        """``standing`` of many at once, for about the price of one."""
        if not storable(document):
            return dict.fromkeys(asked, NOBODY)
        people = sorted({person for person, _ in asked if storable(person)})
        parts = [people[at : at + PART] for at in range(0, len(people), PART)]

        def work(connection: Connection) -> dict[Asked, Standing]:
            found = connection.execute(_LIVING_LINKS, {"name": document, "now": _now()}).all()
            if not found:
                return dict.fromkeys(asked, NOBODY)
            by_key = {link.key: link for link in found if link.key is not None}
            by_digest = {bytes(link.digest): link for link in by_key.values() if link.password_hash is None}
            roles: dict[str, Any] = {}
            opened: defaultdict[str, list[Any]] = defaultdict(list)
            for part in parts:
                known = connection.execute(_MEMBERS, {"document": found[0].document, "people": part})
                roles.update((row.person, row) for row in known)
                if by_key:
                    for person, link in connection.execute(_OPENED, {"people": part, "links": [*by_key]}):
                        opened[person].append(by_key[link])
            standings = {}
            for person, secret in asked:
                shown = None if secret is None else by_digest.get(digest(secret))
                through = [*opened.get(person, ()), *([] if shown is None else [shown])]
                given = [*([roles[person]] if person in roles else []), *through]
                role = max((one.role for one in given), default=0)
                history = any(sees_history(Role(one.role), one.history) for one in given)
                until = min((link.expires_at for link in through if link.expires_at), default=None)
                standings[person, secret] = Standing(
                    True, Role(role) if role else None, history, None if until is None else until / 1e6
                )
            return standings

        return await self._database.read(work)

    async def roles(self, names: Sequence[str], person: str) -> dict[str, Role]:
        """The highest role of ``person`` on those of the documents ``names`` where there is one: as a member,
        or by links opened before."""
        member = (
            select(documents.c.name, members.c.role)
            .join(members, members.c.document == documents.c.key)
            .where(members.c.person == person, documents.c.name.in_(names))
        )
        through = (
            select(documents.c.name, links.c.role)
            .join(links, links.c.document == documents.c.key)
            .join(openings, openings.c.link == links.c.key)
            .where(
                openings.c.person == person,
                documents.c.name.in_(names),
                or_(links.c.expires_at.is_(None), links.c.expires_at > _now()),
            )
        )

        def work(connection: Connection) -> dict[str, Role]:
            found: dict[str, Role] = {}
            for name, role in connection.execute(member.union_all(through)):
                found[name] = max(found.get(name, Role.VIEWER), Role(role))
            return found

        return await self._database.read(work)

    # --- members

    async def members(self, document: str) -> list[Member]:
        """Owners first, then by id."""

        def work(connection: Connection) -> list[Member]:
            key = living_key(connection, document)
            rows = connection.execute(
                select(members, actors.c.name)
                .outerjoin(actors, actors.c.id == members.c.person)
                .where(members.c.document == key)
                .order_by(members.c.role.desc(), members.c.person)
            )
            found = rows.all()
            names = _names(connection, {row.person: row.name for row in found})
            return [
                Member(row.person, names[row.person], Role(row.role), row.added_at, row.history)
                for row in found
            ]

        return await self._database.read(work)

    async def set_member(self, document: str, person: str, role: Role, history: bool | None = None) -> None:
        """Make ``person`` a member, or change the role and the right to read history.

        Raises LastOwner, InvalidRequest.
        """
        check_person(person)

        def work(connection: Connection) -> None:
            key = living_key(connection, document)
            if role is not Role.OWNER:
                _keep_an_owner(connection, key, person)
            changed = connection.execute(
                update(members)
                .where(members.c.document == key, members.c.person == person)
                .values(role=int(role), history=history)
            )
            if changed.rowcount:
                return
            count = connection.execute(select(members.c.person).where(members.c.document == key)).all()
            if len(count) >= MEMBERS_LIMIT:
                raise InvalidRequest(f"a document may have {MEMBERS_LIMIT} members; use a link")
            add_member(connection, key, person, role, _now(), history)

        await self._database.write(work)

    async def remove_member(self, document: str, person: str) -> None:
        """Raises NoSuchGrant, LastOwner."""
        if not storable(person):
            raise NoSuchGrant(f"{person!r} is not a member of {document!r}")

        def work(connection: Connection) -> None:
            key = living_key(connection, document)
            _keep_an_owner(connection, key, person)
            mine = (members.c.document == key) & (members.c.person == person)
            if not connection.execute(delete(members).where(mine)).rowcount:
                raise NoSuchGrant(f"{person!r} is not a member of {document!r}")

        await self._database.write(work)

    # --- links

    async def links(self, document: str) -> list[Link]:
        """The newest first; expired ones too, until they are revoked."""

        def work(connection: Connection) -> list[Link]:
            key = living_key(connection, document)
            rows = connection.execute(
                select(*_LINK).where(links.c.document == key).order_by(links.c.key.desc())
            )
            return [_link(row) for row in rows]

        return await self._database.read(work)

    async def arrivals(self, document: str) -> dict[str, tuple[int, list[Arrival]]]:
        """By the id of a link, how many came through it, and the latest of them; links that nobody came
        through are left out."""

        def work(connection: Connection) -> dict[str, tuple[int, list[Arrival]]]:
            key = living_key(connection, document)
            latest = (openings.c.opened_at.desc(), openings.c.person)
            came = (
                select(
                    links.c.id,
                    openings.c.person,
                    openings.c.opened_at,
                    actors.c.name,
                    func.count().over(partition_by=links.c.key).label("total"),
                    func.row_number().over(partition_by=links.c.key, order_by=latest).label("place"),
                )
                .join(openings, openings.c.link == links.c.key)
                .outerjoin(actors, actors.c.id == openings.c.person)
                .where(links.c.document == key)
                .subquery()
            )
            rows = connection.execute(
                select(came).where(came.c.place <= ARRIVALS_SHOWN).order_by(came.c.id, came.c.place)
            ).all()
            names = _names(connection, {row.person: row.name for row in rows})
            found: dict[str, tuple[int, list[Arrival]]] = {}
            for row in rows:
                _, shown = found.setdefault(row.id, (row.total, []))
                shown.append(Arrival(row.person, names[row.person], row.opened_at))
            return found

        return await self._database.read(work)

    async def create_link(
        self,
        document: str,
        role: Role,
        created_by: str,
        *,
        label: str = "",
        password_hash: str | None = None,
        expires_at: int | None = None,
        history: bool | None = None,
    ) -> tuple[Link, str]:
        """A new link and its secret, which is kept nowhere. Raises InvalidRequest."""
        if not storable(label):
            raise InvalidRequest("a label must be UTF-8 without NUL")
        if expires_at is not None and expires_at <= _now():
            raise InvalidRequest("a link must expire in the future")
        secret = LINK_PREFIX + secrets.token_urlsafe(24)
        made = Link(secrets.token_hex(8), role, label, password_hash, expires_at, _now(), created_by, history)

        def work(connection: Connection) -> None:
            key = living_key(connection, document)
            count = connection.execute(select(links.c.key).where(links.c.document == key)).all()
            if len(count) >= LINKS_LIMIT:
                raise InvalidRequest(f"a document may have {LINKS_LIMIT} links; revoke one first")
            connection.execute(
                insert(links).values(
                    document=key,
                    id=made.id,
                    digest=digest(secret),
                    role=int(role),
                    label=label,
                    password_hash=password_hash,
                    expires_at=expires_at,
                    created_at=made.created_at,
                    created_by=created_by,
                    history=history,
                )
            )

        await self._database.write(work)
        return made, secret

    async def revoke_link(self, document: str, id: str) -> None:
        """End the link and the rights of all who came through it. Raises NoSuchGrant."""

        def work(connection: Connection) -> None:
            key = living_key(connection, document)
            link = connection.execute(
                select(links.c.key).where(links.c.document == key, links.c.id == id)
            ).scalar()
            if link is None:
                raise NoSuchGrant(f"{document!r} has no link {id!r}")
            connection.execute(delete(openings).where(openings.c.link == link))
            connection.execute(delete(links).where(links.c.key == link))

        await self._database.write(work)

    async def find_link(self, secret: str) -> tuple[str, Link]:
        """The document and the link of a secret. Raises NoSuchGrant when it was revoked, has expired, or its
        document is gone."""
        wanted = select(documents.c.name, *_LINK).join(documents, documents.c.key == links.c.document)
        wanted = wanted.where(links.c.digest == digest(secret), documents.c.deleted_at.is_(None))

        def work(connection: Connection) -> Any:
            return connection.execute(wanted).one_or_none()

        row = await self._database.read(work)
        if row is None or (row.expires_at is not None and row.expires_at <= _now()):
            raise NoSuchGrant("this link was revoked or has expired; ask for a new one")
        return row.name, _link(row)

    async def adopt(self, guest: str, person: str) -> None:
        """What was shared with a guest, who has now signed in as ``person``, is shared with both. A role that
        ``person`` has on a document already stays."""

        def work(connection: Connection) -> None:
            connection.execute(_copied(members, "document", guest, person))
            connection.execute(_copied(openings, "link", guest, person))

        await self._database.write(work)

    async def open_link(self, id: str, person: str) -> None:
        """Give ``person`` the link's role for as long as the link lives. Idempotent. Raises NoSuchGrant."""
        check_person(person)
        now = _now()

        def work(connection: Connection) -> None:
            key = connection.execute(select(links.c.key).where(links.c.id == id)).scalar()
            if key is None:
                raise NoSuchGrant("this link was revoked; ask for a new one")
            there = connection.execute(
                select(openings.c.link).where(openings.c.link == key, openings.c.person == person)
            ).scalar()
            if there is None:
                connection.execute(insert(openings).values(link=key, person=person, opened_at=now))

        try:
            await self._database.write(work)
        except IntegrityError:
            raise NoSuchGrant("this link was revoked; ask for a new one") from None


def _copied(table: Table, column: str, guest: str, person: str) -> Any:
    """Insert, for ``person``, the rows that ``guest`` has and ``person`` lacks by ``column``."""
    theirs = select(table.c[column]).where(table.c.person == person)
    columns = [literal(person) if c.name == "person" else c for c in table.c]
    rows = select(*columns).where(table.c.person == guest, table.c[column].not_in(theirs))
    return insert(table).from_select([c.name for c in table.c], rows)


def digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode(errors="replace")).digest()


def _keep_an_owner(connection: Connection, document: int, person: str) -> None:
    owners: Sequence[str] = (
        connection.execute(
            select(members.c.person).where(members.c.document == document, members.c.role == int(Role.OWNER))
        )
        .scalars()
        .all()
    )
    if list(owners) == [person]:
        raise LastOwner(f"{person!r} is the only owner; make somebody else one first")


def check_person(person: str) -> None:
    if not person or not storable(person) or len(person.encode()) > PERSON_LIMIT:
        raise InvalidRequest(f"a person is named by 1 to {PERSON_LIMIT} bytes of UTF-8 without NUL")


def _link(row: Any) -> Link:
    return Link(
        row.id,
        Role(row.role),
        row.label,
        row.password_hash,
        row.expires_at,
        row.created_at,
        row.created_by,
        row.history,
    )


def _names(connection: Connection, logged: dict[str, str | None]) -> dict[str, str]:
    """What people are called: as last seen in the log, else as their account here has it."""
    nameless = (person for person, name in logged.items() if not name and person.startswith(ACCOUNT))
    unnamed = [person.removeprefix(ACCOUNT) for person in nameless]
    known: dict[str, str] = {}
    for at in range(0, len(unnamed), PART):
        wanted = select(users.c.id, users.c.name).where(users.c.id.in_(unnamed[at : at + PART]))
        known.update((ACCOUNT + id, name) for id, name in connection.execute(wanted))
    return {person: name or known.get(person, "") for person, name in logged.items()}


def _now() -> int:
    return time.time_ns() // 1000
