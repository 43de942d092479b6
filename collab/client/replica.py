"""The local file: every update of every document that this device keeps, in one SQLite database.

An edit is in here, and on the disk, before the call that made it returns. Rows are only ever added, in an
order in which they can be applied: any prefix of a document's rows is a document. ``edits`` of a row says
how many edits of this device it holds that no server has acknowledged; 0 for what came from one.

One process at a time writes a file; another is told so at once (``ReplicaInUse``), and may look.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from collab.document import build, clocks, holds_astral, merge, snapshot
from collab.errors import CollabError, CorruptLog
from collab.update import join

VERSION = 1
ROWS_LIMIT = 500  # of one document; beyond this, opening costs more than merging once
BUSY_SECONDS = 5.0  # for which a writer waits until a reader of another process is done

SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE documents (
    key INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    epoch INTEGER,  -- of the server's document that this is a copy of; NULL until it has said so
    writes INTEGER  -- whether the server lets us change it; NULL until it has said so
);
CREATE TABLE updates (
    id INTEGER PRIMARY KEY AUTOINCREMENT,  -- never used twice, so that an acknowledgement names what it means
    document INTEGER NOT NULL REFERENCES documents (key),
    edits INTEGER NOT NULL,
    data BLOB NOT NULL
);
CREATE INDEX updates_of ON updates (document, id);
"""


class ReplicaInUse(CollabError):
    """Another process writes this file now. Let it end, or give each its own file."""

    status = 409
    code = "replica-in-use"


class ReplicaFailed(CollabError):
    """The local file cannot be read or written: the disk is full, the file is no replica, or damaged."""

    code = "replica-failed"


class Row(NamedTuple):
    """One update as it is kept. ``edits``: edits of this device in it that no server has acknowledged."""

    id: int
    data: bytes
    edits: int


class Kept(NamedTuple):
    """What the file has of one document."""

    rows: list[Row]
    epoch: int | None
    writes: bool | None


class Replica:
    """A replica file. ``":memory:"`` keeps nothing. With ``writes=False`` it may be looked at while
    another process writes it. Without ``power_safe`` what was written outlives a kill of the process, and
    not a power cut. Raises ReplicaInUse and ReplicaFailed, here and in every method."""

    def __init__(self, path: str | os.PathLike[str], *, writes: bool = True, power_safe: bool = True) -> None:
        self.path = os.fspath(path)
        self._depth = 0
        self._lock: sqlite3.Connection | None = None
        with self._guarded():
            if self.path != ":memory:":
                if not writes and not Path(self.path).exists():
                    raise ReplicaFailed(f"there is no local file {self.path}")
                if writes:
                    Path(self.path).parent.mkdir(parents=True, exist_ok=True)
                    self._lock = self._hold()
            self.database = sqlite3.connect(self.path, timeout=BUSY_SECONDS, isolation_level=None)
        try:
            with self._guarded():
                self._prepare(writes, power_safe)
        except BaseException:
            self.close()
            raise

    def _hold(self) -> sqlite3.Connection:
        """The right to write, as a transaction that stays open on a file of its own: held by the process,
        so that a kill frees it; and readers of the database itself are not kept out."""
        lock = sqlite3.connect(f"{self.path}-lock", timeout=0, isolation_level=None)
        try:
            lock.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError:
            lock.close()
            raise ReplicaInUse(
                f"{self.path} is in use by {self._holder()}: stop that first, or use another file"
            ) from None
        return lock

    def _holder(self) -> str:
        with suppress(sqlite3.Error):
            database = sqlite3.connect(self.path, timeout=1)
            found = database.execute("SELECT value FROM meta WHERE key = 'holder'").fetchone()
            database.close()
            if found:
                return str(found[0])
        return "another process"

    def _prepare(self, writes: bool, power_safe: bool) -> None:
        (version,) = self.database.execute("PRAGMA user_version").fetchone()
        if version > VERSION:
            raise ReplicaFailed(f"{self.path} was written by a newer Collab; update this one")
        if not writes:
            self.database.execute("PRAGMA query_only = ON")
            return
        self.database.execute("PRAGMA journal_mode = WAL")
        # FULL: a commit is on the disk when it returns, which takes a disk some milliseconds.
        self.database.execute(f"PRAGMA synchronous = {'FULL' if power_safe else 'NORMAL'}")
        if version == 0:
            with self.transaction():
                for statement in SCHEMA.split(";\n"):
                    self.database.execute(statement)
                self.database.execute(f"PRAGMA user_version = {VERSION}")
        self.database.execute("REPLACE INTO meta VALUES ('holder', ?)", (f"process {os.getpid()}",))

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise ReplicaFailed(f"the local file {self.path} fails: {error}") from error

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All that is written inside is kept, or nothing of it. May stand inside another."""
        if self._depth:
            self._depth += 1
            try:
                yield
            finally:
                self._depth -= 1
            return
        with self._guarded():
            self.database.execute("BEGIN IMMEDIATE")
        self._depth = 1
        try:
            yield
            with self._guarded():
                self.database.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):  # the reason for it is already on its way
                self.database.execute("ROLLBACK")
            raise
        finally:
            self._depth = 0

    # --- documents

    def names(self) -> list[str]:
        with self._guarded():
            return [name for (name,) in self.database.execute("SELECT name FROM documents ORDER BY name")]

    def unsaved(self, name: str) -> int:
        """How many edits of this device no server has acknowledged."""
        with self._guarded():
            found = self.database.execute(
                "SELECT sum(edits) FROM updates JOIN documents ON document = key WHERE name = ?", (name,)
            ).fetchone()
        return int(found[0] or 0)

    def read(self, name: str) -> Kept:
        """What is kept of a document; empty for one that is not."""
        with self._guarded():
            found = self.database.execute(
                "SELECT key, epoch, writes FROM documents WHERE name = ?", (name,)
            ).fetchone()
            if found is None:
                return Kept([], None, None)
            key, epoch, writes = found
            rows = self.database.execute(
                "SELECT id, data, edits FROM updates WHERE document = ? ORDER BY id", (key,)
            )
            return Kept([Row(*row) for row in rows], epoch, None if writes is None else bool(writes))

    def append(self, name: str, updates: Iterable[tuple[bytes, int]]) -> list[int]:
        """Keep (update, edits) in this order, all or none; their ids."""
        with self.transaction(), self._guarded():
            key = self._key(name)
            ids: list[int] = []
            for data, edits in updates:
                cursor = self.database.execute(
                    "INSERT INTO updates (document, edits, data) VALUES (?, ?, ?)", (key, edits, data)
                )
                assert cursor.lastrowid is not None
                ids.append(cursor.lastrowid)
        return ids

    def acknowledge(self, name: str, through: int) -> None:
        """A server has every edit of the rows up to ``through``."""
        with self.transaction(), self._guarded():
            self.database.execute(
                "UPDATE updates SET edits = 0 WHERE document = ? AND id <= ? AND edits",
                (self._key(name), through),
            )

    def remember(self, name: str, epoch: int | None, writes: bool) -> None:
        """What the server said about a document."""
        with self.transaction(), self._guarded():
            self.database.execute(
                "UPDATE documents SET epoch = ?, writes = ? WHERE key = ?", (epoch, writes, self._key(name))
            )

    def forget(self, name: str) -> None:
        """Keep nothing of a document any more, unsaved edits included."""
        with self.transaction(), self._guarded():
            key = self._key(name)
            self.database.execute("DELETE FROM updates WHERE document = ?", (key,))
            self.database.execute("DELETE FROM documents WHERE key = ?", (key,))

    def compact(self, name: str, kept: Kept) -> Kept:
        """``kept`` as few rows, if there are many: one of what a server has, and one of what it has not.

        Nothing changes while the two are interleaved (an edit of ours was built upon before we heard that
        it is saved), or if the merged rows would not read as the same document.
        """
        rows = kept.rows
        if len(rows) <= ROWS_LIMIT:
            return kept
        border = next((at for at, row in enumerate(rows) if row.edits), len(rows))
        if not all(row.edits for row in rows[border:]):
            return kept
        parts: list[tuple[bytes, int]] = []
        try:
            if border:
                known = [row.data for row in rows[:border]]
                parts.append((snapshot(known, None, verbatim=holds_astral(known)), 0))
            if border < len(rows):  # from their bytes: nobody else has these
                own = join(merge([row.data for row in rows[border:]]))
                parts.append((own, sum(row.edits for row in rows[border:])))
            if clocks(build([data for data, _ in parts])) != clocks(build([row.data for row in rows])):
                return kept
        except CorruptLog:
            return kept
        with self.transaction(), self._guarded():
            ids = self.append(name, parts)
            self.database.execute(
                "DELETE FROM updates WHERE document = ? AND id < ?", (self._key(name), ids[0])
            )
        merged = [Row(id, data, edits) for id, (data, edits) in zip(ids, parts, strict=True)]
        return Kept(merged, kept.epoch, kept.writes)

    def _key(self, name: str) -> int:
        found = self.database.execute("SELECT key FROM documents WHERE name = ?", (name,)).fetchone()
        if found is not None:
            return int(found[0])
        cursor = self.database.execute("INSERT INTO documents (name) VALUES (?)", (name,))
        assert cursor.lastrowid is not None
        return cursor.lastrowid

    def close(self) -> None:
        self.database.close()
        if self._lock is not None:
            self._lock.close()
            self._lock = None
