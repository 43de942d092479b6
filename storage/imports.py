"""A document that comes in bit by bit: nobody sees it before all of it is there.

Until then it is a deleted document under a name that no document can have, so that no transaction is long;
what a crash left of one goes when the next is begun.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Iterable, Sequence

from sqlalchemy import Connection, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from collab.archive import Head, Named
from collab.errors import DocumentExists
from collab.log import Actor, Entry
from collab.rights import Role
from storage.database import Database
from storage.documents import add_member
from storage.images import Image, drop_images, insert_image
from storage.labels import ID_PREFIX
from storage.log import insert_cold, insert_hot
from storage.models import actors, documents, labels, segments, updates
from storage.segments import Row, pack

# Not 1, as of what somebody types into a document of that name that nobody had made when they came: it must
# not go on top of what is imported.
EPOCH = 2
PREFIX = "importing " + "." * 300  # longer than a name may be


class Imports:
    """Documents that come into one database. All methods raise StorageUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._under_way: set[int] = set()

    async def begin(self) -> int:
        """The key of a new document, to be given to ``add`` and then to ``finish`` or ``drop``."""
        now = time.time_ns() // 1000

        def work(connection: Connection) -> int:
            left = select(documents.c.key).where(documents.c.name.startswith(PREFIX))
            for key in connection.execute(left).scalars().all():
                if key not in self._under_way:
                    _drop(connection, key)
            made = insert(documents).values(
                name=PREFIX + secrets.token_hex(8), title="", epoch=EPOCH, created_at=now, deleted_at=now
            )
            new: int = connection.execute(made.returning(documents.c.key)).scalar_one()
            return new

        key = await self._database.write(work)
        self._under_way.add(key)
        return key

    async def add(self, key: int, entries: Sequence[Entry], *, last: bool) -> None:
        """Store what comes next. ``last``: nothing follows; these are rows, as the newest always are."""
        people = {entry.actor.id: entry.actor for entry in entries}
        by_id = await self._database.write(lambda connection: _actor_keys(connection, people.values()))
        rows = [
            Row(entry.seq, by_id[entry.actor.id], entry.client, entry.received, int(entry.origin), entry.data)
            for entry in entries
        ]
        if last:
            await self._database.write(lambda connection: insert_hot(connection, key, rows))
        else:
            data = await asyncio.to_thread(pack, rows)
            await self._database.write(lambda connection: insert_cold(connection, key, rows, data))

    async def show(self, key: int, image: Image, data: bytes, most: int) -> None:
        """Store an image of the document; ``most``: bytes that all of them may have. Raises ImagesFull."""
        await self._database.write(lambda connection: insert_image(connection, key, image, data, most))

    async def finish(self, key: int, name: str, head: Head, named: Sequence[Named], by: str) -> None:
        """Show the document as ``name``, marked as imported ``by``, who owns it. Raises DocumentExists."""
        now = time.time_ns() // 1000
        values = {"title": head.title, "created_at": head.created_at, "deleted_at": None}
        mark = {"imported_head": head.head, "imported_by": by, "imported_at": now}

        def work(connection: Connection) -> None:
            mine = update(documents).where(documents.c.key == key)
            connection.execute(mine.values(name=name, **values, **mark))
            add_member(connection, key, by, Role.OWNER, now)
            made = [
                {
                    "document": key,
                    "id": ID_PREFIX + secrets.token_hex(8),
                    "seq": label.seq,
                    "name": label.name,
                    "note": label.note,
                    "made_by": label.by,
                    "made_at": label.at,
                }
                for label in named
            ]
            if made:
                connection.execute(insert(labels), made)

        try:
            await self._database.write(work)
        except IntegrityError:
            raise DocumentExists(f"there is a document named {name!r} already") from None
        self._under_way.discard(key)

    async def drop(self, key: int) -> None:
        """Forget what has come; of a document that is finished, or was dropped, nothing is done."""
        if key in self._under_way:
            self._under_way.discard(key)
            await self._database.write(lambda connection: _drop(connection, key))


def _drop(connection: Connection, key: int) -> None:
    drop_images(connection, key)
    for table in (updates, segments):
        connection.execute(delete(table).where(table.c.document == key))
    connection.execute(delete(documents).where(documents.c.key == key))


def _actor_keys(connection: Connection, people: Iterable[Actor]) -> dict[str, int]:
    """Those who are known here keep the name that they have here: an archive does not rename anybody."""
    by_id: dict[str, int] = {}
    for actor in people:
        key = connection.execute(select(actors.c.key).where(actors.c.id == actor.id)).scalar()
        if key is None:
            made = insert(actors).values(**actor._asdict()).returning(actors.c.key)
            key = connection.execute(made).scalar_one()
        by_id[actor.id] = key
    return by_id
