"""The database: one writer, many readers, and errors that say what happens next.

Everything that touches the database is a plain function of a SQLAlchemy ``Connection``, handed to
``Database.write`` or ``Database.read``; it runs in one transaction, the same on SQLite and PostgreSQL.
Both databases have exactly one connection that writes, and one process that has that connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import logging
import os
import sqlite3
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Any, Self, TypeVar

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from collab.errors import CollabError, CorruptLog, StorageUnavailable

READERS = 4  # connections; loads are short and single-flight a document
BUSY_TIMEOUT = 5_000  # ms; only a backup tool or the sqlite3 shell can make the writer wait
WAL_KEPT = 16 << 20  # bytes; a WAL that a slow reader made longer is cut back to this
WRITER_CACHE = 8 << 10  # KiB; each busy room has a page of its own at the end of its log
LOCK_KEY = 0x436F6C6C6162  # "Collab": the advisory lock, one in each PostgreSQL database
LOCK_PATIENCE = 1.0  # seconds; a connection of ours that was cut may live on in the server for a moment

# SQLite result codes that trying again cannot change.
STATEMENT_FAULTS = (
    sqlite3.SQLITE_ERROR,
    sqlite3.SQLITE_CONSTRAINT,
    sqlite3.SQLITE_MISMATCH,
    sqlite3.SQLITE_MISUSE,
    sqlite3.SQLITE_RANGE,
    sqlite3.SQLITE_TOOBIG,
)

# isolation_level None: sqlite3 itself shall begin nothing; BEGIN is said below, once, by us.
SQLITE_ARGS: dict[str, Any] = {
    "isolation_level": None,
    "check_same_thread": False,
    "timeout": BUSY_TIMEOUT / 1000,
}

T = TypeVar("T")
log = logging.getLogger(__name__)


class DatabaseInUse(StorageUnavailable):
    """Another Collab server has this database. Two would number the same documents twice."""

    code = "database-in-use"


class FatalStorageError(CollabError):
    """What is on disk is not known any more. Nothing may be written until the process starts again and
    reads what is really there: after a failed fsync the kernel may have dropped the pages, and a later
    commit would seem to succeed."""

    code = "storage-failed"


class Database:
    """An open database. Make one with ``Database.open``; end it with ``close``."""

    revision = 0
    """Read inside a write: one more than inside the write before it, if nothing can have been written
    between the two, by this process or by any other; otherwise more. What an earlier write has read and
    stored then still holds, if it was committed."""

    def __init__(self) -> None:
        self._fatal: FatalStorageError | None = None

    @staticmethod
    async def open(url: str) -> Database:
        """Open ``sqlite:////path/collab.db`` or ``postgresql://user@host/name`` and claim it.

        Raises DatabaseInUse, StorageUnavailable (no such server, directory not writable),
        ValueError (a URL of neither kind).
        """
        parsed = parse_url(url)
        if parsed.drivername == "sqlite":
            return await SQLite.claim(parsed)
        return await PostgreSQL.claim(parsed)

    @staticmethod
    def reading(url: str) -> Database:
        """The database that another process of this server has opened, to be read only: it is not claimed,
        and a ``write`` raises RuntimeError."""
        parsed = parse_url(url)
        return SQLiteReader(parsed) if parsed.drivername == "sqlite" else PostgreSQLReader(parsed)

    async def write(self, fn: Callable[[Connection], T]) -> T:
        """Run ``fn`` in a transaction of its own and return its result once the commit is on disk.

        Whatever ``fn`` raises rolls back and comes through. A cancelled caller does not know whether the
        transaction was committed. ``fn`` runs on another thread or in a greenlet: it may touch nothing
        that others change.

        Raises StorageUnavailable (nothing was stored, or the connection was lost at COMMIT: the same
        write must be harmless when tried again), FatalStorageError, IntegrityError.
        """
        raise NotImplementedError

    async def read(self, fn: Callable[[Connection], T]) -> T:
        """Run ``fn`` in a read-only transaction: one moment of the database, never waiting for the writer.

        ``fn`` runs in a greenlet on the event loop, which turns while a statement is under way: between two
        statements it must be short, and it may not block.

        Raises StorageUnavailable, CorruptLog (the file itself is damaged).
        """
        raise NotImplementedError

    async def close(self) -> None:
        """Finish what is under way, let go of the database. Idempotent."""
        raise NotImplementedError

    async def _proven(self) -> Self:
        """Itself, once a transaction went through; closed again when none does."""
        try:
            await self.write(lambda connection: None)
        except BaseException:
            await self.close()
            raise
        return self

    def _refuse_after_failure(self) -> None:
        if self._fatal is not None:
            raise FatalStorageError(str(self._fatal))

    def _failed_write(self, error: Exception) -> Exception:
        """What to raise for ``error``, which ended a write."""
        if is_fatal(error):
            what = (
                "the database is damaged, restore it from a copy"
                if is_damage(error)
                else "the disk failed while writing; check it, then restart"
            )
            self._fatal = FatalStorageError(f"{what}: {reason(error)}")
            log.critical("%s", self._fatal)
            return self._fatal
        return unavailable(error)


def parse_url(url: str) -> URL:
    """The URL without its driver: drivername "sqlite" (with a file) or "postgresql"."""
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise ValueError(f"not a database URL: {url!r}") from error
    kind = {"postgres": "postgresql"}.get(name := parsed.drivername.partition("+")[0], name)
    if kind not in ("sqlite", "postgresql"):
        raise ValueError(f"the database must be sqlite:////path or postgresql://..., not {kind}://")
    if kind == "sqlite" and parsed.database in (None, "", ":memory:"):
        raise ValueError("a SQLite URL needs a file: sqlite:////path/collab.db")
    return parsed.set(drivername=kind)


# --- SQLite ----------------------------------------------------------------------------------------


class SQLiteReader(Database):
    """A small pool of connections over aiosqlite, which can neither write nor checkpoint."""

    def __init__(self, url: URL) -> None:
        super().__init__()
        self._reader_engine = sqlite_reader_engine(url)
        self._reading = asyncio.Semaphore(READERS)  # the pool's own queue gives up after a while
        self._closed = False

    async def write(self, fn: Callable[[Connection], T]) -> T:
        raise RuntimeError("this process only reads the database")

    async def read(self, fn: Callable[[Connection], T]) -> T:
        if self._closed:
            raise RuntimeError("the database is closed")
        async with self._reading:
            try:
                async with self._reader_engine.connect() as connection:
                    await connection.begin()  # and no commit: a rollback is due anyway as it goes back
                    return await connection.run_sync(fn)
            except (DBAPIError, sqlite3.Error, OSError) as error:
                if is_damage(error):
                    raise CorruptLog(f"the database file is damaged: {reason(error)}") from error
                raise unavailable(error) from error

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        for _ in range(READERS):  # dispose() would pass over a connection that is reading
            await self._reading.acquire()
        await self._reader_engine.dispose()


class SQLite(SQLiteReader):
    """One writing connection on a thread of its own beside those that read.

    Only the writer commits and checkpoints. That gives group commit its full speed (one thread hop a
    transaction; SQLAlchemy's async engine takes several, more than the fsync), and SQLite before 3.51.3 can
    corrupt the file when two connections commit and checkpoint at once.
    """

    def __init__(self, url: URL, lock: int) -> None:
        super().__init__(url)
        self._lock = lock
        self._writer_engine = sqlite_engine(url)
        self._writer: Connection | None = None
        self._data_version = 0
        # An executor's futures would cost as much again as the transaction of one keystroke.
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._writer_thread = Thread(target=self._work, name="collab-writer", daemon=True)
        self._writer_thread.start()

    @staticmethod
    async def claim(url: URL) -> SQLite:
        return await SQLite(url, claim_file(url))._proven()

    async def write(self, fn: Callable[[Connection], T]) -> T:
        self._refuse_after_failure()
        if self._closed:
            raise RuntimeError("the database is closed")
        return await self._on_writer_thread(partial(self._write, fn))

    async def close(self) -> None:
        if self._closed:
            return
        # Readers first: the last connection to go checkpoints, and that must be the writer.
        await super().close()
        loop = asyncio.get_running_loop()
        try:
            await self._on_writer_thread(self._close_writer)
        finally:
            self._jobs.put(None)
            await loop.run_in_executor(None, self._writer_thread.join)
            os.close(self._lock)

    def _on_writer_thread(self, work: Callable[[], T]) -> asyncio.Future[T]:
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._jobs.put((work, future))
        return future

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            work, future = job
            result, error = None, None
            try:
                result = work()
            except BaseException as raised:  # whatever it is, it belongs to the caller
                error = raised
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits for it
                future.get_loop().call_soon_threadsafe(_settle, future, result, error)
            del job, work, future, result, error  # not until the next job comes

    def _write(self, fn: Callable[[Connection], T]) -> T:
        self._refuse_after_failure()  # again: the write before this one may have failed meanwhile
        try:
            if self._writer is None:
                self._writer = self._writer_engine.connect()
            return self._transact(self._writer, fn)
        except IntegrityError:
            raise
        except (DBAPIError, sqlite3.Error, OSError) as error:
            raise self._failed_write(error) from error

    def _transact(self, connection: Connection, fn: Callable[[Connection], T]) -> T:
        """As ``Connection.begin`` would, at a fraction of its cost; SQLAlchemy follows if ``fn`` uses it."""
        driver: Any = connection.connection.driver_connection
        driver.execute("BEGIN IMMEDIATE")
        try:
            self._count_revision(driver)
            result = fn(connection)
            driver.execute("COMMIT")
        except BaseException:
            driver.rollback()
            if connection.in_transaction():
                connection.rollback()
            raise
        if connection.in_transaction():
            connection.commit()  # its own bookkeeping; the driver has nothing to commit any more
        return result

    def _count_revision(self, driver: Any) -> None:
        (version,) = driver.execute("PRAGMA data_version").fetchone()
        # It changes when another connection has written: the sqlite3 shell, for example.
        self.revision += 1 if version == self._data_version else 2
        self._data_version = version

    def _close_writer(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._writer_engine.dispose()


_Job = tuple[Callable[[], Any], "asyncio.Future[Any]"]


def _settle(future: asyncio.Future[Any], result: object, error: BaseException | None) -> None:
    if future.done():  # cancelled meanwhile
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)


def sqlite_engine(url: URL) -> Engine:
    """An engine for the one connection that writes."""
    engine = create_engine(
        url.set(drivername="sqlite+pysqlite"),
        pool_size=1,
        max_overflow=0,
        connect_args=SQLITE_ARGS,
        hide_parameters=True,  # titles and names are for no log
    )

    def connected(connection: sqlite3.Connection, _record: object) -> None:
        (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        if mode != "wal":
            raise StorageUnavailable(f"SQLite cannot keep a write-ahead log here (journal mode {mode})")
        # fullfsync is for macOS, where a plain fsync does not reach the disk.
        pragmas = ["synchronous = FULL", "fullfsync = ON", f"journal_size_limit = {WAL_KEPT}"]
        # Some distributions overwrite what is deleted, at each insert that moves rows to another page.
        pragmas += ["secure_delete = OFF", f"cache_size = -{WRITER_CACHE}", "temp_store = MEMORY"]
        prepare(connection, pragmas)

    def begun(connection: Connection) -> None:
        driver: Any = connection.connection.driver_connection
        if not driver.in_transaction:
            driver.execute("BEGIN IMMEDIATE")

    event.listen(engine, "connect", connected)
    event.listen(engine, "begin", begun)
    return engine


def sqlite_reader_engine(url: URL) -> AsyncEngine:
    """An engine whose connections can neither write nor checkpoint."""
    engine = create_async_engine(
        url.set(drivername="sqlite+aiosqlite"),
        pool_size=READERS,
        max_overflow=0,
        connect_args={**SQLITE_ARGS, "factory": ReadingConnection},
        hide_parameters=True,
    )
    event.listen(engine.sync_engine, "begin", lambda connection: fetch(connection, "BEGIN"))
    return engine


class ReadingConnection(sqlite3.Connection):
    """Made ready as it is opened, on its own thread: a cancelled caller leaves none half-way."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        prepare(self, ["query_only = ON", "wal_autocheckpoint = 0"])


def prepare(connection: sqlite3.Connection, pragmas: list[str]) -> None:
    for pragma in ("foreign_keys = ON", f"busy_timeout = {BUSY_TIMEOUT}", *pragmas):
        connection.execute(f"PRAGMA {pragma}")
    # SQLite's own lower() knows ASCII only; PostgreSQL's knows every script.
    connection.create_function("lower", 1, lambda value: value and value.lower(), deterministic=True)


def fetch(connection: Connection, statement: str, parameters: Sequence[Any] = ()) -> list[Any]:
    """All rows of a statement on a reader, at the cost of one thread hop; SQLAlchemy's cursor takes four."""
    adapted: Any = connection.connection.dbapi_connection
    rows: list[Any] = adapted.run_async(lambda driver: driver.execute_fetchall(statement, parameters))
    return rows


def claim_file(url: URL) -> int:
    """Make the data directory if need be, and lock the database for this process. The kernel lets go
    of the lock when the process ends, however it ends."""
    path = Path(url.database or "")
    try:
        make_directory(path.parent)
        lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StorageUnavailable(
            f"cannot write in {path.parent} ({error.strerror}): make it writable or choose another directory"
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
            raise StorageUnavailable(f"cannot lock {path}.lock: {error.strerror}") from error
        raise DatabaseInUse(f"another Collab server is using {path}") from error
    return lock


def make_directory(directory: Path) -> None:
    """Make it and its parents, for the owner only, so that it survives a power cut."""
    if directory.is_dir():
        return
    make_directory(directory.parent)
    directory.mkdir(mode=0o700, exist_ok=True)
    parent = os.open(directory.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(parent)
    finally:
        os.close(parent)


# --- PostgreSQL ------------------------------------------------------------------------------------


class PostgreSQLReader(Database):
    """A small pool of connections that only read."""

    def __init__(self, url: URL) -> None:
        super().__init__()
        self._reader_engine = create_async_engine(
            url.set(drivername="postgresql+asyncpg"),
            pool_size=READERS,
            pool_pre_ping=True,
            hide_parameters=True,
            connect_args=connect_args(
                default_transaction_read_only="on", default_transaction_isolation="repeatable read"
            ),
        )

    async def write(self, fn: Callable[[Connection], T]) -> T:
        raise RuntimeError("this process only reads the database")

    async def read(self, fn: Callable[[Connection], T]) -> T:
        try:
            async with self._reader_engine.connect() as connection:
                return await connection.run_sync(fn)
        except (DBAPIError, PoolTimeout, OSError, TimeoutError) as error:
            if is_damage(error):
                raise CorruptLog(f"the database is damaged: {reason(error)}") from error
            raise unavailable(error) from error

    async def close(self) -> None:
        await self._reader_engine.dispose()


class PostgreSQL(PostgreSQLReader):
    """One writing connection, which also holds the advisory lock of the database, beside those that read.

    The lock is held by the very connection that writes, so it fences by itself: when the server gives the
    lock to someone else, our connection is dead and no write of ours can arrive. No write has to ask.
    """

    def __init__(self, url: URL) -> None:
        super().__init__(url)
        self._turn = asyncio.Lock()
        self._writer: AsyncConnection | None = None
        self._writer_engine = create_async_engine(
            url.set(drivername="postgresql+asyncpg"),
            poolclass=NullPool,
            connect_args=connect_args(synchronous_commit="on"),
            hide_parameters=True,
        )

    @staticmethod
    async def claim(url: URL) -> PostgreSQL:
        return await PostgreSQL(url)._proven()

    async def write(self, fn: Callable[[Connection], T]) -> T:
        async with self._turn:
            self._refuse_after_failure()
            self.revision += 2  # psql may have written, and PostgreSQL does not say
            try:
                if self._writer is None:
                    self._writer = await self._connect_writer()
                return await self._writer.run_sync(transact, fn)
            except (DBAPIError, OSError, TimeoutError) as error:
                if isinstance(error, IntegrityError):
                    raise
                await self._drop_writer()
                raise self._failed_write(error) from error
            except asyncio.CancelledError:
                # The connection stands in the middle of something, and nobody will read the answer.
                await self._drop_writer()
                raise

    async def close(self) -> None:
        async with self._turn:
            await self._drop_writer()
            await self._writer_engine.dispose()
        await super().close()

    async def _connect_writer(self) -> AsyncConnection:
        connection = await self._writer_engine.connect()
        try:
            deadline = asyncio.get_running_loop().time() + LOCK_PATIENCE
            while not await connection.scalar(text("SELECT pg_try_advisory_lock(:key)"), {"key": LOCK_KEY}):
                if asyncio.get_running_loop().time() > deadline:
                    raise DatabaseInUse(f"another Collab server is using {self._writer_engine.url!r}")
                await asyncio.sleep(0.05)
            await connection.commit()  # the lock is the session's and stays
        except BaseException:
            await connection.close()
            raise
        return connection

    async def _drop_writer(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            await writer.invalidate()
            await writer.close()


def transact(connection: Connection, fn: Callable[[Connection], T]) -> T:
    with connection.begin():
        return fn(connection)


def connect_args(**settings: str) -> dict[str, Any]:
    # A server that has vanished without a word must lose the lock within a minute, and never by being slow.
    keepalive = {"tcp_keepalives_idle": "20", "tcp_keepalives_interval": "10", "tcp_keepalives_count": "3"}
    return {
        "timeout": 10,
        "command_timeout": 60,
        "server_settings": {"application_name": "collab", **keepalive, **settings},
    }


# --- errors ----------------------------------------------------------------------------------------


def unavailable(error: Exception) -> Exception:
    """StorageUnavailable for what may be tried again; ``error`` itself when the statement is at fault."""
    code, state = codes(error)
    if code in STATEMENT_FAULTS or state[:2] in ("22", "23", "42"):  # data, integrity, syntax or access
        return error
    return StorageUnavailable(f"the database cannot be used now: {reason(error)}")


def is_fatal(error: Exception) -> bool:
    """Is the state on disk unknown?"""
    code, state = codes(error)
    return code == sqlite3.SQLITE_IOERR or state == "58030" or is_damage(error)


def is_damage(error: Exception) -> bool:
    """Is what is on disk known to be wrong?"""
    code, state = codes(error)
    return code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB) or state in ("XX001", "XX002")


def codes(error: Exception) -> tuple[int | None, str]:
    """SQLite's primary result code, PostgreSQL's SQLSTATE."""
    driver = error.orig if isinstance(error, DBAPIError) else error
    if isinstance(driver, sqlite3.Error):
        # No code: the module itself refused, before SQLite was asked.
        return getattr(driver, "sqlite_errorcode", sqlite3.SQLITE_MISUSE) & 0xFF, ""
    return None, getattr(driver, "sqlstate", None) or ""


def reason(error: Exception) -> str:
    driver = error.orig if isinstance(error, DBAPIError) else error
    name = getattr(driver, "sqlite_errorname", None) or getattr(driver, "sqlstate", None)
    return f"{driver or type(driver).__name__}" + (f" ({name})" if name else "")
