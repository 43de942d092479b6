"""The durable log: numbered updates of each document, in the order they were committed.

Keeps the promise of ``collab.log.Log``. The statements here are written for the driver (``?`` marks) and
go past SQLAlchemy's compiler, which costs more than the insert itself; everything colder uses the tables.
"""

from __future__ import annotations

import asyncio
import logging
import struct
import time
from collections.abc import Iterator, Sequence
from functools import lru_cache, partial
from itertools import chain
from typing import Any, NamedTuple

from sqlalchemy import Connection, delete, insert, select, update

from collab.errors import CorruptLog, DocumentDeleted, InvalidName
from collab.log import Actor, Batch, DocumentGone, Entry, Loaded, Log, Origin
from storage.database import Database, FatalStorageError, fetch
from storage.documents import insert_document
from storage.models import (
    actors,
    segment_checksum,
    segments,
    snapshot_checksum,
    snapshots,
    storable,
    update_checksum,
    updates,
)
from storage.segments import Row, pack, unpack

PAGE = 512  # rows a query: the event loop turns between two pages
NAMES = 10_000  # names a query; both databases take about 32,000 parameters
KNOWN = 50_000  # actors, documents; then forgotten all at once: looking one up again costs 10 µs
HOT = 512  # newest entries that stay rows: what opening a document reads is mostly among them
SEGMENT = 1024  # entries of a segment: unpacked in 2 ms
SEGMENT_BYTES = 1 << 20  # of their updates; a segment may have fewer entries then
ROWS = 32  # of one document, inserted by one statement on SQLite: half the cost of as many statements

_FIND = """
SELECT d.name, d.key, d.epoch, d.deleted_at,
       coalesce((SELECT max(u.seq) FROM updates u WHERE u.document = d.key), 0),
       coalesce((SELECT max(s.last) FROM segments s WHERE s.document = d.key), 0)
FROM documents d WHERE d.name IN ({})"""
_INSERT = """
INSERT INTO updates (document, seq, actor, client, received, origin, data, checksum)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)"""
_INSERT_ROWS = _INSERT + ", (?, ?, ?, ?, ?, ?, ?, ?)" * (ROWS - 1)
_TAIL = """
SELECT document, seq, actor, client, received, origin, data, checksum
FROM updates WHERE document = ? AND seq > ? ORDER BY seq LIMIT ?"""
_LENGTHS = "SELECT seq, length(data) FROM updates WHERE document = ? AND seq > ? ORDER BY seq LIMIT ?"
_STALE = "SELECT min(seq) FROM updates WHERE document = ? AND seq <= ?"
_COLD = """
SELECT document, first, last, data, checksum FROM segments
WHERE document = ? AND last > ? ORDER BY last LIMIT 1"""
_SNAPSHOTS = """
SELECT document, epoch, seq, made_at, data, checksum FROM snapshots WHERE document = ? ORDER BY seq DESC"""
_ACTORS = "SELECT key, id, kind, name FROM actors WHERE key IN ({})"
_DROP_OLDER = "DELETE FROM snapshots WHERE document = ? AND seq < ?"

log = logging.getLogger(__name__)


class _Found(NamedTuple):
    key: int
    epoch: int
    deleted_at: int | None
    head: int
    sealed: int  # the last entry of its segments


_NewRow = tuple[int, int, int, int, int, int, bytes, int]


class UpdateLog(Log):
    """The log of every document in one database. See ``collab.log.Log`` for what is promised."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._actors: dict[Actor, int] = {}  # only what is committed
        # The writer's alone: documents as the append at ``_revision`` left them, if nothing came between.
        self._states: dict[str, _Found] = {}
        self._revision = 0

    async def load(self, document: str) -> Loaded:
        """The latest snapshot and the updates after it, each checked. A damaged snapshot is reported and
        passed over, the log being the truth; a damaged log is refused.

        Raises InvalidName (before anything of that name can reach a commit shared with others),
        DocumentDeleted, CorruptLog, StorageUnavailable.
        """
        if not storable(document):
            raise InvalidName("a document name must be UTF-8 without NUL")

        def work(connection: Connection) -> Loaded:
            found = _find_living(connection, document)
            if found is None:
                return Loaded(epoch=1, base_seq=0, base=b"", tail=())
            base_seq, base = _latest_snapshot(connection, document, found)
            tail = [row.data for row in _rows(connection, document, found, after=base_seq)]
            return Loaded(found.epoch, base_seq, base, tail)

        return await self._database.read(work)

    async def append(self, batches: Sequence[Batch]) -> None:
        """Make all entries durable in one transaction, or none. Entries that are stored already are
        compared, not stored again. A batch of a deleted or reset document is left out.

        Raises StorageUnavailable, DocumentGone (after the others were committed), FatalStorageError (a
        gap, or another entry under the same seq: somebody else writes this log).
        """
        known = self._actors  # read by the writer, changed only here, after a commit

        def work(connection: Connection) -> tuple[int, list[str], dict[Actor, int]]:
            states = self._states_at(self._database.revision)
            if unknown := {batch.document for batch in batches if batch.document not in states}:
                states.update(_find(connection, unknown))
            met: dict[Actor, int] = {}
            gone: list[str] = []
            rows: list[_NewRow] = []
            for batch in batches:
                document, epoch, entries = batch.document, batch.epoch, batch.entries
                state = states.get(document)
                if state is None and epoch == 1:
                    first = entries[0]
                    key = insert_document(connection, document, "", first.received, first.actor.id)
                    state = _Found(key, 1, None, 0, 0)
                if state is None or state.epoch != epoch or state.deleted_at is not None:
                    gone.append(document)
                    continue
                key, head = state.key, state.head
                if (stored := head - entries[0].seq + 1) > 0:
                    _compare(connection, document, state, entries[:stored])
                    entries = entries[stored:]
                for seq, actor, client, received, origin, data in entries:
                    if seq != head + 1:
                        raise FatalStorageError(f"{document!r} ends at {head}; entry {seq} would leave a gap")
                    by = known.get(actor) or met.get(actor)
                    if by is None:
                        by = met[actor] = _actor_key(connection, actor)
                    checksum = update_checksum(key, seq, by, client, received, origin, data)
                    rows.append((key, seq, by, client, received, int(origin), data, checksum))
                    head = seq
                states[document] = state._replace(head=head)
            _insert(connection, rows)
            return self._database.revision, gone, met

        self._revision, gone, met = await self._database.write(work)
        if met:
            if len(known) + len(met) > KNOWN:
                self._actors = known = {}
            known.update(met)
        if gone:
            raise DocumentGone(gone)

    def _states_at(self, revision: int) -> dict[str, _Found]:
        # Any other write may have deleted a document; a failed one of ours has left here what is not true.
        if revision != self._revision + 1 or len(self._states) > KNOWN:
            self._states.clear()
        return self._states

    async def snapshot(self, document: str, epoch: int, seq: int, data: bytes) -> None:
        """Store the full state as of ``seq`` and drop older snapshots, in one transaction. Nothing is
        done when one as new is there and sound. The log stays.

        Raises DocumentGone, CorruptLog (``seq`` is beyond the log's head), StorageUnavailable.
        """
        made_at = time.time_ns() // 1000

        def work(connection: Connection) -> None:
            found = _find(connection, {document}).get(document)
            if found is None or found.epoch != epoch or found.deleted_at is not None:
                raise DocumentGone([document])
            if seq > found.head:
                raise CorruptLog(f"snapshot of {document!r} at {seq}, but its log ends at {found.head}")
            for row in _run(connection, _SNAPSHOTS, (found.key,)):
                if row[2] >= seq and _snapshot_is_sound(row, found):
                    return
                # Unsound, so worth nothing; and it may be in the way of the new one.
                if row[2] >= seq:
                    _run(connection, "DELETE FROM snapshots WHERE document = ? AND seq = ?", tuple(row[:3:2]))
            checksum = snapshot_checksum(found.key, epoch, seq, made_at, data)
            connection.execute(
                insert(snapshots).values(
                    document=found.key, epoch=epoch, seq=seq, made_at=made_at, data=data, checksum=checksum
                )
            )
            _run(connection, _DROP_OLDER, (found.key, seq))

        await self._database.write(work)

    async def seal(self, document: str) -> None:
        """Pack what is cold of the log, all but the newest ``HOT`` entries, into segments, each in a
        transaction of its own that takes its rows away. What is read stays the same. Idempotent.

        Raises CorruptLog (then the rows stay), StorageUnavailable.
        """
        while (found := await self._database.read(partial(_cold, document=document))) is not None:
            key, rows = found
            data = await asyncio.to_thread(pack, rows)
            await self._database.write(partial(_seal, document=document, key=key, rows=rows, data=data))

    async def head(self, document: str) -> tuple[int, int]:
        """Epoch and last seq of a document; (1, 0) of one that nobody has made.

        Raises DocumentDeleted, StorageUnavailable.
        """

        def work(connection: Connection) -> tuple[int, int]:
            found = _find_living(connection, document)
            return (1, 0) if found is None else (found.epoch, found.head)

        return await self._database.read(work)

    async def entries(self, document: str, after: int, limit: int, most: int | None = None) -> list[Entry]:
        """Up to ``limit`` entries with a seq greater than ``after``, in order, with their actors. With
        ``most`` fewer, but not none, where their updates would be more than about so many bytes.
        Of a document that nobody has made, none.

        Raises DocumentDeleted, CorruptLog, StorageUnavailable.
        """

        def work(connection: Connection) -> list[Entry]:
            found = _find_living(connection, document)
            if found is None:
                return []
            count = limit if most is None else _fitting(connection, found, after, limit, most)
            rows = list(_rows(connection, document, found, after, count))
            people = _actors_of(connection, {row.actor for row in rows})
            try:
                return [Entry(row[0], people[row[1]], row[2], row[3], Origin(row[4]), row[5]) for row in rows]
            except (KeyError, ValueError) as error:
                raise CorruptLog(f"the log of {document!r} has an unknown actor or origin: {error}") from None

        return await self._database.read(work)

    async def verify(self, document: str) -> None:
        """Read all that is stored of a document, deleted or not, and check it: every entry, its actor,
        every snapshot.

        Raises CorruptLog naming the first thing that is wrong, StorageUnavailable.
        """

        def work(connection: Connection) -> None:
            found = _find(connection, {document}).get(document)
            if found is None:
                return
            seen: set[int] = set()
            ((stale,),) = _run(connection, _STALE, (found.key, found.sealed))
            if stale is not None:
                raise CorruptLog(f"entry {stale} of {document!r} is there twice, as a row and in a segment")
            for row in _rows(connection, document, found, after=0):
                seen.add(row.actor)
                if row.origin not in Origin.__members__.values():
                    raise CorruptLog(f"entry {row.seq} of {document!r} has an unknown origin {row.origin}")
            if missing := seen - _actors_of(connection, seen).keys():
                raise CorruptLog(f"the log of {document!r} names an unknown actor: {min(missing)}")
            for snapshot in _run(connection, _SNAPSHOTS, (found.key,)):
                if not _snapshot_is_sound(snapshot, found):
                    raise CorruptLog(f"the snapshot of {document!r} at {snapshot[2]} is damaged")

        await self._database.read(work)


# --- reading -----------------------------------------------------------------------------------------


def _find(connection: Connection, names: set[str]) -> dict[str, _Found]:
    found: dict[str, _Found] = {}
    ordered = list(names)
    for start in range(0, len(ordered), NAMES):
        some = ordered[start : start + NAMES]
        rows = _run(connection, _FIND.format(_marks(len(some))), tuple(some))
        for name, key, epoch, deleted_at, last, sealed in rows:
            found[name] = _Found(key, epoch, deleted_at, max(last, sealed), sealed)
    return found


def _find_living(connection: Connection, document: str) -> _Found | None:
    found = _find(connection, {document}).get(document)
    if found is not None and found.deleted_at is not None:
        raise DocumentDeleted(f"{document!r} was deleted")
    return found


def _rows(
    connection: Connection, document: str, found: _Found, after: int, limit: int | None = None
) -> Iterator[Row]:
    """The checked entries after ``after``: segment by segment, then page by page."""
    while after < found.sealed and (limit is None or limit > 0):
        rows = _unsealed(connection, document, found.key, after)[:limit]
        yield from rows
        after = rows[-1].seq
        if limit is not None:
            limit -= len(rows)
    key, expected = found.key, after + 1
    while limit is None or limit > 0:
        size = PAGE if limit is None else min(PAGE, limit)
        page = list(_run(connection, _TAIL, (key, expected - 1, size)))
        for of, seq, actor, client, received, origin, data, checksum in page:
            if seq != expected:
                raise CorruptLog(f"entry {expected} of {document!r} is missing; the next one is {seq}")
            try:
                sound = update_checksum(of, seq, actor, client, received, origin, data) == checksum
            except (struct.error, TypeError):  # SQLite lets a column hold anything
                sound = False
            if not sound:
                raise CorruptLog(f"entry {seq} of {document!r} does not match its checksum")
            yield Row(seq, actor, client, received, origin, data)
            expected += 1
        if len(page) < size:
            return
        if limit is not None:
            limit -= size


def _unsealed(connection: Connection, document: str, key: int, after: int) -> list[Row]:
    """The entries of the segment that holds the one after ``after``, from that one on."""
    ((of, first, last, data, checksum),) = _run(connection, _COLD, (key, after))
    try:
        if segment_checksum(of, first, last, data) != checksum:
            raise CorruptLog("they do not match their checksum")
        if first > after + 1:
            raise CorruptLog(f"entry {after + 1} is missing before them")
        rows = unpack(data, first)
        if rows[-1].seq != last:
            raise CorruptLog(f"they end at {rows[-1].seq}")
    except (struct.error, TypeError, CorruptLog) as error:  # SQLite lets a column hold anything
        raise CorruptLog(f"entries {first} to {last} of {document!r} are damaged: {error}") from None
    return rows[after + 1 - first :]


def _cold(connection: Connection, document: str) -> tuple[int, list[Row]] | None:
    """The entries of the next segment, and the document's key; None when there is no whole one."""
    found = _find(connection, {document}).get(document)
    if found is None:
        return None
    most = max(0, min(SEGMENT, found.head - HOT - found.sealed))
    count = _fitting(connection, found, found.sealed, most, SEGMENT_BYTES)
    if count == most < SEGMENT:
        return None
    return found.key, list(_rows(connection, document, found, found.sealed, count))


def _fitting(connection: Connection, found: _Found, after: int, limit: int, most: int) -> int:
    """How many entries after ``after`` to read, so that their updates are about ``most`` bytes: those of one
    segment, or so many rows that the last of them fills it. They are not read for that."""
    if after < found.sealed:
        ((_, _, last, _, _),) = _run(connection, _COLD, (found.key, after))
        return min(limit, int(last) - after)
    size = count = 0
    for _, length in _run(connection, _LENGTHS, (found.key, after, limit)):
        size += length
        count += 1
        if size >= most:
            break
    return count


def _latest_snapshot(connection: Connection, document: str, found: _Found) -> tuple[int, bytes]:
    """Seq and bytes of the newest sound snapshot; (0, b"") when there is none."""
    for row in _run(connection, _SNAPSHOTS, (found.key,)):
        if _snapshot_is_sound(row, found):
            return row[2], row[4]
        log.error("the snapshot of %r at %s is damaged, passing it over", document, row[2])
    return 0, b""


def _snapshot_is_sound(row: Any, found: _Found) -> bool:
    """Whole, of this epoch, and not beyond the log."""
    key, epoch, seq, made_at, data, checksum = row
    try:
        whole: bool = snapshot_checksum(key, epoch, seq, made_at, data) == checksum
    except (struct.error, TypeError):
        return False
    return whole and epoch == found.epoch and seq <= found.head


def _actors_of(connection: Connection, keys: set[int]) -> dict[int, Actor]:
    people: dict[int, Actor] = {}
    ordered = list(keys)
    for start in range(0, len(ordered), NAMES):
        some = ordered[start : start + NAMES]
        for key, *actor in _run(connection, _ACTORS.format(_marks(len(some))), tuple(some)):
            people[key] = Actor(*actor)
    return people


# --- writing -----------------------------------------------------------------------------------------


def _compare(connection: Connection, document: str, found: _Found, entries: Sequence[Entry]) -> None:
    """The outcome of an earlier append was not known; it must have stored these very entries."""
    stored = list(_rows(connection, document, found, entries[0].seq - 1, len(entries)))
    people = _actors_of(connection, {row.actor for row in stored})
    for entry, row in zip(entries, stored, strict=True):
        if (entry.seq, entry.actor.id, *entry[2:]) != (row.seq, people[row.actor].id, *row[2:]):
            raise FatalStorageError(
                f"entry {entry.seq} of {document!r} is stored already, and is another one: "
                "somebody else writes this log"
            )


def _seal(connection: Connection, document: str, key: int, rows: Sequence[Row], data: bytes) -> None:
    first, last = rows[0].seq, rows[-1].seq
    if _find(connection, {document})[document].sealed != first - 1:
        return  # somebody else has done it
    mine = (updates.c.document == key) & updates.c.seq.between(first, last)
    if (there := connection.execute(delete(updates).where(mine)).rowcount) != len(rows):
        raise CorruptLog(f"of entries {first} to {last} of {document!r} only {there} are there any more")
    insert_cold(connection, key, rows, data)


def insert_cold(connection: Connection, key: int, rows: Sequence[Row], data: bytes) -> None:
    """Add entries to the end of a log that nobody else writes: as a segment, packed in ``data``."""
    first, last = rows[0].seq, rows[-1].seq
    checksum = segment_checksum(key, first, last, data)
    connection.execute(
        insert(segments).values(document=key, first=first, last=last, data=data, checksum=checksum)
    )


def insert_hot(connection: Connection, key: int, rows: Sequence[Row]) -> None:
    """As ``insert_cold``: as rows."""
    _insert(connection, [(key, *row, update_checksum(key, *row)) for row in rows])


def _insert(connection: Connection, rows: list[_NewRow]) -> None:
    few = rows
    if len(rows) >= ROWS and connection.dialect.name == "sqlite":
        few, at = [], 0
        while at < len(rows):
            # Not across documents: SQLite would copy each one's page, to be able to undo the statement.
            if at + ROWS <= len(rows) and rows[at][0] == rows[at + ROWS - 1][0]:
                _run(connection, _INSERT_ROWS, tuple(chain.from_iterable(rows[at : at + ROWS])))
                at += ROWS
            else:
                few.append(rows[at])
                at += 1
    if few:
        _run(connection, _INSERT, few)


def _actor_key(connection: Connection, actor: Actor) -> int:
    if not storable(actor.name):  # a strange name must not fail the commit of every room
        actor = actor._replace(name=actor.name.encode(errors="replace").decode().replace("\0", ""))
    row = connection.execute(
        select(actors.c.key, actors.c.kind, actors.c.name).where(actors.c.id == actor.id)
    ).one_or_none()
    if row is None:
        made = connection.execute(
            insert(actors).values(id=actor.id, kind=actor.kind, name=actor.name).returning(actors.c.key)
        )
        return int(made.scalar_one())
    if (row.kind, row.name) != (actor.kind, actor.name):
        connection.execute(
            update(actors).where(actors.c.key == row.key).values(kind=actor.kind, name=actor.name)
        )
    return int(row.key)


# --- driver statements -------------------------------------------------------------------------------


def _run(connection: Connection, statement: str, parameters: Any) -> Any:
    """The rows, from the driver itself on SQLite; ``parameters`` of one statement, or a list of them."""
    if connection.dialect.name == "sqlite":
        # SQLAlchemy's bookkeeping would take longer than all of SQLite's work on a row.
        if connection.dialect.is_async:
            return fetch(connection, statement, parameters)
        driver: Any = connection.connection.driver_connection
        return (driver.executemany if isinstance(parameters, list) else driver.execute)(statement, parameters)
    return connection.exec_driver_sql(_numbered(statement), parameters)


@lru_cache(maxsize=256)
def _numbered(statement: str) -> str:
    """``?`` marks as asyncpg wants them: $1, $2, ..."""
    parts = statement.split("?")
    return "".join(part + (f"${n}" if n < len(parts) else "") for n, part in enumerate(parts, 1))


def _marks(size: int) -> str:
    return ", ".join("?" * size)
