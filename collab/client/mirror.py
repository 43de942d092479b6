"""A document as a file: what any program writes into it becomes edits, what others write comes into it.

Beside the files stands a folder ``.collab``: the replica, and of each file the last texts that a program may
have read from it, each with the state of the document that it was. A file that has changed is compared with
the one of these that it was made from, and the difference is made an edit of *that* state: so what others
wrote meanwhile is merged with it as Yjs merges, and never taken for something that was deleted. A program
that saves what it had read before the last merge (an editor with the file open) is understood, too.

Nothing here is awaited but time: ``settle`` waits until nobody is in the middle of writing.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import tempfile
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

from pycrdt import Doc, Text

from collab.client.difference import Replacement, difference, extent, outline
from collab.client.document import Document
from collab.client.replica import Replica, ReplicaFailed
from collab.client.seeds import seed
from collab.client.text import clean, offsets, raw, shown
from collab.document import TEXT_ROOT, holds_astral, merge
from collab.errors import CollabError

FOLDER = ".collab"
TEMPORARY = ".collab-writing-"  # and more: a file that is about to take another's place
SETTLE = 0.15  # seconds for which a file must stay the same before it is read
SETTLE_EMPTY = 1.5  # the same for one that is empty or gone: its saver is about to write it
SETTLE_LIMIT = 10.0  # a file that never rests is read at the next turn

# Texts of a file that a program may still have open, each with its state: so many, and so many bytes. Of
# those that we wrote the oldest go first; what a program saved last stays.
VERSIONS, VERSIONS_BYTES = 500, 32 << 20
COMPARED = 8  # of them, the likeliest, in full, to find the one that a file was made from
FILE_LIMIT = 32 << 20  # bytes of a file
KEPT_COUNT, KEPT_BYTES, KEPT_SECONDS = 200, 64 << 20, 30 * 86400  # of previous files; the oldest go first
EVENTS = 5000  # of the local log
CONFLICTS = 20  # listed of one merge

SCHEMA = """
CREATE TABLE IF NOT EXISTS files (
    path TEXT PRIMARY KEY,  -- relative to the folder, with forward slashes
    document TEXT NOT NULL UNIQUE,
    current INTEGER  -- the version that the file was last, as far as we know
);
CREATE TABLE IF NOT EXISTS writing (  -- what was to become the file: it has, if its temporary file is gone
    path TEXT PRIMARY KEY REFERENCES files (path),
    version INTEGER NOT NULL,
    temporary TEXT NOT NULL  -- relative to the folder
);
CREATE TABLE IF NOT EXISTS versions (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    path TEXT NOT NULL REFERENCES files (path),
    saved INTEGER NOT NULL,  -- whether a program saved it, else we wrote it
    digest BLOB NOT NULL,  -- of the text, with LF
    text BLOB NOT NULL,  -- zlib
    state BLOB NOT NULL  -- zlib; a Yjs update
);
CREATE TABLE IF NOT EXISTS events (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at REAL NOT NULL,
    path TEXT NOT NULL,
    said TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS settings (key TEXT PRIMARY KEY, value TEXT NOT NULL);
"""


class MirrorError(CollabError):
    """A file or folder that cannot be mirrored as it is; the message says what to do."""

    status = 409
    code = "mirror"


class Version(NamedTuple):
    """A text that the file was."""

    id: int
    saved: bool  # by a program; else we wrote it
    text: str


class Conflict(NamedTuple):
    """Two who changed one place without knowing of each other. Both are in the file now."""

    line: int
    ours: str
    theirs: str


@dataclass
class Outcome:
    """What one turn did. ``sent``, ``received``: code points that went from the file to the document, and
    the other way. ``kept``: where the file as it was before the merge is. ``note``: what else to know."""

    path: str
    sent: int = 0
    received: int = 0
    conflicts: list[Conflict] = field(default_factory=list)
    kept: Path | None = None
    note: str = ""

    @property
    def changed(self) -> bool:
        return bool(self.sent or self.received or self.note)


class Form(NamedTuple):
    """How a file writes its text: what must survive being written back."""

    bom: bool
    crlf: bool

    @classmethod
    def of(cls, data: bytes) -> Form:
        return cls(data.startswith(b"\xef\xbb\xbf"), 2 * data.count(b"\r\n") > data.count(b"\n"))

    def encode(self, text: str) -> bytes:
        if self.crlf:
            text = text.replace("\n", "\r\n")
        return (b"\xef\xbb\xbf" if self.bom else b"") + text.encode()


class Folder:
    """A folder with a ``.collab`` in it. Raises MirrorError when there is none, and as ``Replica`` does."""

    def __init__(self, root: Path, *, writes: bool = True) -> None:
        self.root = root
        self.hidden = root / FOLDER
        if not self.hidden.is_dir():
            raise MirrorError(f"{root} mirrors nothing: begin with `collab clone URL {root}`")
        self.replica = Replica(self.hidden / "replica.db", writes=writes)
        if writes:
            with self._guarded(), self.replica.transaction():
                for statement in SCHEMA.split(";\n"):
                    self.database.execute(statement)
            self._tidy()

    @classmethod
    def around(cls, path: Path, *, writes: bool = True) -> Folder:
        """The folder that ``path``, or one above it, is."""
        path = path.absolute()
        for root in (path, *path.parents):
            if (root / FOLDER).is_dir():
                return cls(root, writes=writes)
        raise MirrorError(f"neither {path} nor a folder above it mirrors anything: see `collab clone --help`")

    def _tidy(self) -> None:
        """Delete what a program that was killed had not yet said it would make the file."""
        with self._guarded():
            said = {path for (path,) in self.database.execute("SELECT temporary FROM writing")}
        for left in self.hidden.glob(f"{TEMPORARY}*"):
            if os.path.relpath(left, self.root) not in said:
                left.unlink()

    @property
    def database(self) -> sqlite3.Connection:
        return self.replica.database

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise ReplicaFailed(f"the files of {self.hidden} fail: {error}") from error

    def setting(self, key: str) -> str:
        with self._guarded():
            found = self.database.execute("SELECT value FROM settings WHERE key = ?", (key,)).fetchone()
        return str(found[0]) if found else ""

    def set(self, key: str, value: str) -> None:
        with self._guarded(), self.replica.transaction():
            self.database.execute("REPLACE INTO settings VALUES (?, ?)", (key, value))

    def files(self) -> dict[str, str]:
        """Paths, and the documents that they are."""
        with self._guarded():
            return dict(self.database.execute("SELECT path, document FROM files ORDER BY path").fetchall())

    def add(self, path: str, document: str) -> None:
        """Raises MirrorError when the file or the document is mirrored already."""
        try:
            with self._guarded(), self.replica.transaction():
                self.database.execute("INSERT INTO files (path, document) VALUES (?, ?)", (path, document))
        except ReplicaFailed as error:
            if isinstance(error.__cause__, sqlite3.IntegrityError):
                raise MirrorError(f"{path} or the document {document!r} is mirrored here already") from None
            raise

    def note(self, path: str, said: str) -> None:
        """Write a line into the local log."""
        with self._guarded(), self.replica.transaction():
            self.database.execute(
                "INSERT INTO events (at, path, said) VALUES (?, ?, ?)", (time.time(), path, said)
            )
            self.database.execute(
                "DELETE FROM events WHERE id <= (SELECT max(id) FROM events) - ?", (EVENTS,)
            )

    def events(self, path: str | None = None) -> list[tuple[float, str, str]]:
        """The local log, latest first: seconds since the epoch, path, what happened."""
        with self._guarded():
            return self.database.execute(
                "SELECT at, path, said FROM events WHERE ? IS NULL OR path = ? ORDER BY id DESC", (path, path)
            ).fetchall()

    def close(self) -> None:
        self.replica.close()


class Mirror:
    """One file and the document that it is."""

    def __init__(self, folder: Folder, path: str, document: Document | None = None) -> None:
        self.folder = folder
        self.path = path
        # Where a link leads, so that the link stays one.
        self.file = Path(os.path.realpath(folder.root / path))
        self._document = document

    @property
    def document(self) -> Document:
        assert self._document is not None, "only looked at"
        return self._document

    async def turn(self, *, take_empty: bool = False) -> Outcome:
        """Take what was written into the file, merge, and write what is new into it.

        Raises MirrorError for a file that is no text, or too large, and ReplicaFailed.
        """
        outcome = Outcome(self.path)
        self._conclude()
        while True:
            data = await self.settle(self.file)
            if not self._take(data, outcome, take_empty):
                return outcome
            written, kept = self._write(data, outcome)
            if not written:
                continue  # somebody was faster
            if kept is None or data is None:
                return outcome
            late = await self.settle(kept)
            if late is None or late == data:
                if not outcome.sent:
                    kept.unlink(missing_ok=True)  # all of it is in the document
                    outcome.kept = None
                self._prune()
                return outcome
            # A program had the old file open and wrote into it just now: that is no less an edit.
            self._take(late, outcome, False, late=True)

    async def settle(self, file: Path) -> bytes | None:
        """The file's bytes once nobody is writing them; None when there is no file. Raises MirrorError."""
        deadline = time.monotonic() + SETTLE_LIMIT
        data = self._read(file)
        while time.monotonic() < deadline:
            await asyncio.sleep(SETTLE if data else SETTLE_EMPTY if self._current() else 0)
            again = self._read(file)
            if again == data:
                return data
            data = again
        raise MirrorError(f"{self.path} is being written all the time; it is tried again later")

    def text(self) -> str | None:
        """What is in the file now; None when there is none. Raises MirrorError."""
        data = self._read(self.file)
        return None if data is None else self._decode(data)

    def local(self) -> list[Replacement]:
        """What was written into the file since the last turn, as edits of the text it had then."""
        text = self.text()
        if text is None:
            return []
        base, _ = self._base(text)
        return difference(base.text if base else "", text)

    def base(self) -> str:
        """The text of the file as of the last turn."""
        current = self._current()
        return current.text if current is not None else ""

    # --- from the file

    def _take(self, data: bytes | None, outcome: Outcome, take_empty: bool, *, late: bool = False) -> bool:
        """Make what was written into the file edits, or into what the file was until just now (``late``);
        whether the file is to be written then."""
        if data is None:
            if self._current() is not None:
                outcome.note = "the file was gone, and was written again"
            return True
        text = self._decode(data)
        if not text and self.base() and not take_empty:
            # Emptied files are the accidents of savers far more often than anybody's wish.
            outcome.note = "the file is empty, which is not taken for an edit: see `collab sync --help`"
            return False
        base, stale = self._base(text)
        replacements = difference(base.text if base else "", text)
        if not replacements or (base is None and text == self.document.text):
            return True
        if base is None:
            return self._begin(text, outcome)
        if stale:
            outcome.note = "it was saved from an older reading; what others wrote since was kept"
        others = difference(base.text, self.document.text)
        outcome.conflicts += _conflicts(base.text, replacements, others)[:CONFLICTS]
        update, state = edited(self._state(base), text, replacements)
        # Together, else a crash between the two would make the edits twice.
        self.document.adopt(update, lambda: self._saved(text, state, late))
        outcome.sent += extent(replacements)
        return True

    def _begin(self, text: str, outcome: Outcome) -> bool:
        """There was a file before there was a mirror."""
        if self.document.clocks:
            raise MirrorError(
                f"{self.path} is there already and differs from the document {self.document.name!r}: move it "
                "away, sync, and copy into the new file what you need of it"
            )
        begun = seed(text)  # the same file on two devices is one text
        self.document.adopt(begun, lambda: self._saved(text, begun, False))
        outcome.sent += len(text)
        return True

    def _read(self, file: Path) -> bytes | None:
        try:
            with file.open("rb") as opened:
                data = opened.read(FILE_LIMIT + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise MirrorError(f"{self.path} cannot be read: {error}") from None
        if len(data) > FILE_LIMIT:
            raise MirrorError(f"{self.path} has more than {FILE_LIMIT >> 20} MiB; make it smaller")
        return data

    def _decode(self, data: bytes) -> str:
        try:
            return clean(data.decode("utf-8-sig"))
        except UnicodeDecodeError as error:
            raise MirrorError(
                f"{self.path} is not UTF-8 (byte {error.start}); save it as UTF-8, nothing was taken from it"
            ) from None

    def _base(self, text: str) -> tuple[Version | None, bool]:
        """The version that ``text`` was made from, and whether that is an older one than the file was.

        A text that is exactly an old one was brought back on purpose: that is an edit of what the file was.
        Else it was made from what a program saved last, or from what we have written since and it has read:
        from the nearest of these, and of equally near ones from the latest.
        """
        current = self._current()
        if current is None or current.text == text:
            return current, False
        versions = self._versions()
        for version in reversed(versions):  # written into what the file was before, and then into the file
            if version.id >= current.id and version.text == text:
                return version, False
        if any(version.text == text for version in versions):
            return current, False
        last = max((one.id for one in versions if one.saved and one.id <= current.id), default=0)
        candidates = [one for one in reversed(versions) if last <= one.id]
        likely = sorted(candidates, key=lambda one: outline(one.text, text))[:COMPARED]
        nearest = min(
            sorted(likely, key=lambda one: -one.id), key=lambda one: extent(difference(one.text, text))
        )
        return nearest, nearest.id < current.id

    # --- to the file

    def _write(self, found: bytes | None, outcome: Outcome) -> tuple[bool, Path | None]:
        """Write the document's text, and whether it is the file's now: False when somebody else has written
        meanwhile; and where what was there before is, if there was anything."""
        text = self.document.text
        was = None if found is None else self._decode(found)
        current = self._current()
        if was == text and current is not None and current.text == text:
            return True, None
        self.document.flush()  # a state that is kept must not be ahead of the rows
        if was == text:
            self._settled(self._remember(text, self.document.state(), saved=False))
            return True, None
        form = Form(False, os.linesep == "\r\n") if found is None else Form.of(found)
        try:
            temporary = self._prepared(form.encode(text), found)
            try:
                self._intend(text, temporary)
                kept = self._replace(temporary, found)
            finally:
                self._conclude()
                temporary.unlink(missing_ok=True)
        except OSError as error:
            raise MirrorError(f"{self.path} cannot be written: {error}") from None
        if kept is False:
            return False, None
        outcome.received += extent(difference(was or "", text))
        outcome.kept = kept if isinstance(kept, Path) else None
        return True, outcome.kept

    def _prepared(self, data: bytes, found: bytes | None) -> Path:
        """A new file that may take the file's place in one step."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        hidden, beside = self.folder.hidden, self.file.parent
        if hidden.stat().st_dev != beside.stat().st_dev:
            hidden = beside  # what leads to another disk cannot be replaced from this one
        handle, name = tempfile.mkstemp(dir=hidden, prefix=TEMPORARY)
        temporary = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            if found is not None:
                shutil.copystat(self.file, temporary)
                os.utime(temporary)
                with suppress(OSError, AttributeError):  # only root may give a file away; Windows cannot
                    os.chown(temporary, (owner := self.file.stat()).st_uid, owner.st_gid)
            else:
                temporary.chmod(0o666 & ~_umask())
            _sync(temporary.parent)  # that it is gone shall mean something
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        return temporary

    def _replace(self, temporary: Path, found: bytes | None) -> Path | bool:
        """Put ``temporary`` in the file's place. What was there stays, as the path that is returned; True
        when there was nothing, False when it was not ``found`` any more."""
        if found is not None and self.file.stat().st_nlink > 1:
            return self._overwrite(temporary, found)
        if self._read(self.file) != found:
            return False
        kept: Path | bool = True
        if found is not None:
            kept = self._kept_path()
            try:
                os.link(self.file, kept)  # the very file: who has it open may be writing into it
            except OSError:  # a file system without links
                kept.write_bytes(found)
        os.replace(temporary, self.file)
        _sync(self.file.parent)
        return kept

    def _overwrite(self, temporary: Path, found: bytes) -> Path | bool:
        """The same for a file that has other names, which a new file would not have."""
        kept = self._kept_path()
        kept.write_bytes(found)
        _sync(kept.parent)
        with self.file.open("r+b") as file:
            if file.read() != found:
                kept.unlink()
                return False
            file.seek(0)
            file.write(temporary.read_bytes())
            file.truncate()
            file.flush()
            os.fsync(file.fileno())
        temporary.unlink()
        return kept

    def _intend(self, text: str, temporary: Path) -> None:
        """Keep the version that ``temporary`` is, before the file becomes it: after a crash it must be known
        whether it has."""
        with self.folder._guarded(), self.folder.replica.transaction():
            version = self._remember(text, self.document.state(), saved=False)
            self.folder.database.execute(
                "REPLACE INTO writing VALUES (?, ?, ?)",
                (self.path, version, os.path.relpath(temporary, self.folder.root)),
            )

    def _conclude(self) -> None:
        """See whether the file has become what it was to become, now or before a crash."""
        database = self.folder.database
        with self.folder._guarded():
            found = database.execute(
                "SELECT version, temporary FROM writing WHERE path = ?", (self.path,)
            ).fetchone()
        if found is None:
            return
        version, temporary = found[0], self.folder.root / found[1]
        became = not temporary.exists()
        with self.folder._guarded(), self.folder.replica.transaction():
            if became:
                self._settled(version)
            else:  # nobody has read it
                database.execute(
                    "DELETE FROM versions WHERE id = ? AND NOT saved "
                    "AND id > (SELECT coalesce(current, 0) FROM files WHERE path = ?)",
                    (version, self.path),
                )
            database.execute("DELETE FROM writing WHERE path = ?", (self.path,))
        if not became:
            # The file may have a second name already, and a file with two names is written in place.
            for kept in (self.folder.hidden / "kept").glob("*"):
                if self.file.exists() and kept.samefile(self.file):
                    kept.unlink()
            temporary.unlink()

    def _kept_path(self) -> Path:
        folder = self.folder.hidden / "kept"
        folder.mkdir(exist_ok=True)
        stem = self.path.replace("/", "%2F").removesuffix(".md")
        while True:
            path = folder / f"{stem}-{time.strftime('%Y%m%d-%H%M%S')}-{time.time_ns() % 10**9:09d}.md"
            if not path.exists():
                return path

    def _prune(self) -> None:
        kept = sorted((self.folder.hidden / "kept").iterdir(), key=lambda one: one.stat().st_mtime)
        total = sum(one.stat().st_size for one in kept)
        oldest = time.time() - KEPT_SECONDS
        while len(kept) > 1 and (
            len(kept) > KEPT_COUNT or total > KEPT_BYTES or kept[0].stat().st_mtime < oldest
        ):
            total -= kept[0].stat().st_size
            kept.pop(0).unlink()

    # --- versions

    def _versions(self) -> list[Version]:
        """Oldest first."""
        return self._select("SELECT id, saved, text FROM versions WHERE path = ? ORDER BY id")

    def _current(self) -> Version | None:
        found = self._select(
            "SELECT id, saved, text FROM versions WHERE id = (SELECT current FROM files WHERE path = ?)"
        )
        return found[0] if found else None

    def _select(self, statement: str) -> list[Version]:
        with self.folder._guarded():
            rows = self.folder.database.execute(statement, (self.path,)).fetchall()
        return [Version(id, bool(saved), zlib.decompress(text).decode()) for id, saved, text in rows]

    def _state(self, version: Version) -> bytes:
        """The state of the document that the version was."""
        with self.folder._guarded():
            (state,) = self.folder.database.execute(
                "SELECT state FROM versions WHERE id = ?", (version.id,)
            ).fetchone()
        return zlib.decompress(state)

    def _saved(self, text: str, state: bytes, late: bool) -> None:
        """Keep what a program saved, which is what the file is now, unless that has been replaced."""
        version = self._remember(text, state, saved=True)
        if not late:
            self._settled(version)

    def _remember(self, text: str, state: bytes, *, saved: bool) -> int:
        """Keep a version; its id."""
        digest = _digest(text)
        database = self.folder.database
        with self.folder._guarded(), self.folder.replica.transaction():
            latest = database.execute(
                "SELECT id, digest FROM versions WHERE path = ? ORDER BY id DESC LIMIT 1", (self.path,)
            ).fetchone()
            packed = zlib.compress(state, 1)
            if latest is not None and latest[1] == digest:
                database.execute(
                    "UPDATE versions SET state = ?, saved = saved OR ? WHERE id = ?",
                    (packed, saved, latest[0]),
                )
                return int(latest[0])
            cursor = database.execute(
                "INSERT INTO versions (path, saved, digest, text, state) VALUES (?, ?, ?, ?, ?)",
                (self.path, saved, digest, zlib.compress(text.encode(), 1), packed),
            )
            self._thin()
        assert cursor.lastrowid is not None
        return cursor.lastrowid

    def _thin(self) -> None:
        rows = self.folder.database.execute(
            "SELECT id, saved, length(text) + length(state) FROM versions WHERE path = ? ORDER BY id",
            (self.path,),
        ).fetchall()
        (current,) = self.folder.database.execute(
            "SELECT current FROM files WHERE path = ?", (self.path,)
        ).fetchone()
        stays = {current, rows[-1][0], max((id for id, saved, _ in rows if saved), default=0)}
        count, total = len(rows), sum(size for _, _, size in rows)
        for id, _, size in rows:
            if count <= VERSIONS and total <= VERSIONS_BYTES:
                break
            if id not in stays:
                self.folder.database.execute("DELETE FROM versions WHERE id = ?", (id,))
                count, total = count - 1, total - size

    def _settled(self, version: int) -> None:
        with self.folder._guarded(), self.folder.replica.transaction():
            self.folder.database.execute(
                "UPDATE files SET current = ? WHERE path = ? AND current IS NOT ?",
                (version, self.path, version),
            )


def edited(state: bytes, text: str, replacements: list[Replacement]) -> tuple[bytes, bytes]:
    """The update that the replacements are when they are made in ``state``, and the state after them, whose
    text is ``text``."""
    doc: Doc[Any] = Doc()  # its client id is new, and never writes again
    doc.apply_update(state)
    root = doc.get(TEXT_ROOT, type=Text)
    made: list[bytes] = []
    subscription = doc.observe(lambda event: made.append(event.update))
    try:
        data = raw(root)
        spots = [offsets(data, one.start, one.stop) for one in replacements]
        with doc.transaction():
            for (start, stop), (_, _, new) in zip(reversed(spots), reversed(replacements), strict=True):
                if stop > start:
                    del root[start:stop]
                if new:
                    root.insert(start, new)
    finally:
        doc.unobserve(subscription)
    if shown(raw(root)) != text:
        raise MirrorError(
            "the file's edits do not make its text; this is a fault of Collab, nothing was taken"
        )
    after = merge([state, made[0]])
    return made[0], after if holds_astral([after]) else doc.get_update()


def _conflicts(base: str, ours: list[Replacement], theirs: list[Replacement]) -> list[Conflict]:
    """Where both changed the same characters of ``base``, or inserted at one place."""
    found: list[Conflict] = []
    at = 0
    for mine in ours:
        while at < len(theirs) and theirs[at].stop < mine.start:
            at += 1
        for other in theirs[at:]:
            if other.start > mine.stop:
                break
            if other != mine:
                line = base.count("\n", 0, mine.start) + 1
                found.append(Conflict(line, _said(base, mine), _said(base, other)))
    return found


def _said(base: str, replacement: Replacement) -> str:
    start, stop, text = replacement
    return text if text else f"(deleted: {base[start:stop]})"


def _digest(text: str) -> bytes:
    return sha256(text.encode()).digest()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _sync(folder: Path) -> None:
    """Have a rename on the disk."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
