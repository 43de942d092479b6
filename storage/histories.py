"""What was worked out of logs, one blob a document, so that it need not be again. A cache, no more: every
blob may be dropped at any time, and a damaged one is passed over. ``collab.columns`` has compressed them."""

from __future__ import annotations

import logging
import struct
from typing import Any, NamedTuple

from sqlalchemy import Connection, delete, insert, select

from collab.log import DocumentGone
from storage.database import Database
from storage.documents import head_of
from storage.models import documents, histories, history_checksum, storable

log = logging.getLogger(__name__)


class Cached(NamedTuple):
    """What was saved, and the last entry that is in it."""

    seq: int
    data: bytes


class Histories:
    """The cache of one database. All methods raise StorageUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def save(self, document: str, epoch: int, seq: int, format: int, data: bytes) -> None:
        """Keep ``data`` in place of what is kept of ``document``, unless that is as new and of this format.

        Raises DocumentGone: deleted or reset meanwhile, or its log ends before ``seq``.
        """

        def work(connection: Connection) -> None:
            found = _find(connection, document)
            if found is None or found.epoch != epoch or seq > head_of(connection, found.key):
                raise DocumentGone([document])
            old = _kept(connection, found.key)
            if old is not None and _is_sound(old, epoch) and old.format == format and old.seq >= seq:
                return
            _drop(connection, found.key)
            connection.execute(
                insert(histories).values(
                    document=found.key,
                    epoch=epoch,
                    seq=seq,
                    format=format,
                    data=data,
                    checksum=history_checksum(found.key, epoch, seq, format, data),
                )
            )

        await self._database.write(work)

    async def load(self, document: str, epoch: int, format: int) -> Cached | None:
        """What is kept of ``document``; None when that is nothing, of another epoch or format, or damaged."""
        if not storable(document):
            return None

        def work(connection: Connection) -> Any:
            found = _find(connection, document)
            return None if found is None else _kept(connection, found.key)

        row = await self._database.read(work)
        if row is None or (row.epoch, row.format) != (epoch, format):
            return None
        if not _is_sound(row, epoch):
            log.error("the cached history of %r at %s is damaged, passing it over", document, row.seq)
            return None
        return Cached(row.seq, row.data)

    async def drop(self, document: str | None = None) -> None:
        """Forget what is kept of ``document``, or of all."""

        def work(connection: Connection) -> None:
            if document is None:
                connection.execute(delete(histories))
            elif (found := _find(connection, document)) is not None:
                _drop(connection, found.key)

        await self._database.write(work)


def _find(connection: Connection, document: str) -> Any:
    living = (documents.c.name == document) & documents.c.deleted_at.is_(None)
    return connection.execute(select(documents.c.key, documents.c.epoch).where(living)).one_or_none()


def _kept(connection: Connection, key: int) -> Any:
    return connection.execute(select(histories).where(histories.c.document == key)).one_or_none()


def _drop(connection: Connection, key: int) -> None:
    connection.execute(delete(histories).where(histories.c.document == key))


def _is_sound(row: Any, epoch: int) -> bool:
    try:
        whole: bool = history_checksum(row.document, row.epoch, row.seq, row.format, row.data) == row.checksum
    except (struct.error, TypeError):  # SQLite lets a column hold anything
        return False
    return whole and row.epoch == epoch
