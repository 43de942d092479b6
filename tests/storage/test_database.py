import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import insert, make_url, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError

import storage
from collab.errors import StorageUnavailable
from storage.database import READERS, Database, DatabaseInUse, parse_url
from storage.migrations import migrate
from storage.models import actors

pytestmark = pytest.mark.anyio

HOLD = """
import asyncio, sys
from storage.database import Database, DatabaseInUse
async def main():
    try:
        database = await Database.open(sys.argv[1])
    except DatabaseInUse as error:
        print(error, flush=True)
        return
    print("open", flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""
LEAVE = """
import asyncio, sys
from sqlalchemy import text
from storage.database import Database
async def main():
    database = await Database.open(sys.argv[1])
    started = asyncio.Event()
    def work(connection):
        while True:
            connection.execute(text("SELECT 1"))
            started.set()
    reading = asyncio.create_task(database.read(work))
    await started.wait()
asyncio.run(main())
"""
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(storage.__file__).parent.parent)}


def add(name):
    return lambda connection: (
        connection.execute(insert(actors).values(id=name, kind="guest", name="")).rowcount
    )


def names(connection):
    return list(connection.scalars(select(actors.c.id).order_by(actors.c.key)))


def files(url):
    return set(os.listdir(Path(make_url(url).database).parent))


def open_elsewhere(url):
    """Another process that opens the database and holds it; returns it and its first line."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, url],
        stdout=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
    )
    return process, process.stdout.readline().strip()


@pytest.mark.parametrize(
    ("given", "driver"),
    [
        ("sqlite:////x/collab.db", "sqlite"),
        ("sqlite+aiosqlite:////x/collab.db", "sqlite"),
        ("postgresql://h/d", "postgresql"),
        ("postgresql+asyncpg://h/d", "postgresql"),
        ("postgres://h/d", "postgresql"),
    ],
)
def test_urls_are_taken_with_and_without_their_driver(given, driver):
    assert parse_url(given).drivername == driver


@pytest.mark.parametrize("given", ["mysql://h/d", "sqlite://", "sqlite:///:memory:", "collab.db", ""])
def test_urls_of_other_kinds_are_refused(given):
    with pytest.raises(ValueError, match=r"sqlite|database URL"):
        parse_url(given)


async def test_what_was_written_is_read(database):
    await database.write(add("a"))
    assert await database.read(names) == ["a"]


async def test_a_write_that_raises_leaves_nothing(database):
    def work(connection):
        add("a")(connection)
        raise LookupError("half-way")

    with pytest.raises(LookupError, match="half-way"):
        await database.write(work)
    await database.write(add("b"))
    assert await database.read(names) == ["b"]


async def test_a_write_that_panics_leaves_nothing_and_the_writer_goes_on(database):
    class Panic(BaseException):  # as pycrdt's: not an Exception
        pass

    def work(connection):
        add("a")(connection)
        raise Panic

    with pytest.raises(Panic):
        await database.write(work)
    await database.write(add("b"))
    assert await database.read(names) == ["b"]


async def test_the_revision_tells_whether_something_else_was_written(sqlite_url):
    await migrate(sqlite_url)
    database = await Database.open(sqlite_url)

    async def revision():
        return await database.write(lambda connection: database.revision)

    first = await revision()
    assert await revision() == first + 1
    await database.read(names)
    assert await revision() == first + 2
    with pytest.raises(ZeroDivisionError):
        await database.write(lambda connection: 1 / 0)
    assert await revision() == first + 4
    shell = sqlite3.connect(make_url(sqlite_url).database, isolation_level=None)
    shell.execute("INSERT INTO actors (id, kind, name) VALUES ('a', 'guest', '')")
    shell.close()
    assert await revision() > first + 5
    await database.close()


async def test_constraints_come_through_as_they_are(database):
    await database.write(add("a"))
    with pytest.raises(IntegrityError):
        await database.write(add("a"))
    await database.write(add("b"))
    assert await database.read(names) == ["a", "b"]


async def test_a_wrong_statement_is_not_called_an_outage(database):
    for run in (database.read, database.write):
        with pytest.raises(DBAPIError):
            await run(lambda connection: connection.execute(text("SELECT nothing FROM nowhere")))


async def test_readers_cannot_write(database):
    with pytest.raises(StorageUnavailable):
        await database.read(add("a"))
    assert await database.read(names) == []


async def test_a_read_sees_one_moment(database):
    await database.write(add("a"))
    loop = asyncio.get_running_loop()
    writing = []

    def work(connection):
        before = names(connection)
        writing.append(loop.create_task(database.write(add("b"))))
        while not writing[0].done():  # the event loop turns while a statement is under way
            connection.execute(text("SELECT 1"))
        return before, names(connection)

    assert await database.read(work) == (["a"], ["a"])
    assert await database.read(names) == ["a", "b"]


async def test_writes_at_once_are_all_stored(database):
    await asyncio.gather(*(database.write(add(f"{n}")) for n in range(50)))
    assert len(await database.read(names)) == 50


async def test_a_cancelled_write_does_not_spoil_the_next(database):
    loop = asyncio.get_running_loop()
    started = asyncio.Event()

    def work(connection):
        loop.call_soon_threadsafe(started.set)
        for n in range(200):
            add(f"cancelled {n}")(connection)

    task = asyncio.create_task(database.write(work))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await database.write(add("next"))
    stored = await database.read(names)
    assert stored[-1] == "next"
    assert len(stored) in (1, 201)


async def test_cancelled_reads_do_not_spoil_the_next(database):
    await database.write(add("a"))
    for turns in range(30):
        task = asyncio.create_task(database.read(names))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
    assert await asyncio.gather(*(database.read(names) for _ in range(20))) == [["a"]] * 20


async def test_a_second_process_is_refused_until_the_first_is_gone(url):
    await migrate(url)
    first, said = open_elsewhere(url)
    try:
        assert said == "open"
        with pytest.raises(DatabaseInUse, match="another Collab server"):
            await Database.open(url)
        second, said = open_elsewhere(url)
        assert said.startswith("another Collab server is using")
        assert second.wait() == 0
    finally:
        first.send_signal(signal.SIGKILL)
        first.wait()
    database = await Database.open(url)
    await database.write(add("a"))
    await database.close()


async def test_closing_lets_go(url):
    await migrate(url)
    for name in "ab":
        database = await Database.open(url)
        await database.write(add(name))
        await database.close()
        await database.close()


async def test_a_closed_sqlite_database_refuses_instead_of_waiting(sqlite_url):
    await migrate(sqlite_url)
    database = await Database.open(sqlite_url)
    last = asyncio.create_task(database.write(add("a")))
    await asyncio.sleep(0)
    await database.close()
    assert await last == 1
    with pytest.raises(RuntimeError, match="closed"):
        await database.write(add("b"))
    with pytest.raises(RuntimeError, match="closed"):
        await database.read(names)


async def test_closing_sqlite_waits_for_every_reader_and_then_empties_the_wal(sqlite_url):
    def work(connection):
        found = names(connection)
        started.set()
        for _ in range(50):
            connection.execute(text("SELECT 1"))
        return found

    await migrate(sqlite_url)
    database = await Database.open(sqlite_url)
    await database.write(add("a"))
    started = asyncio.Event()
    reading = [asyncio.create_task(database.read(work)) for _ in range(2 * READERS)]
    await started.wait()
    assert "collab.db-wal" in files(sqlite_url)
    await database.close()
    assert [await read for read in reading] == [["a"]] * len(reading)
    assert files(sqlite_url) == {"collab.db", "collab.db.lock"}


def test_a_process_ends_though_it_is_reading_and_has_closed_nothing(sqlite_url):
    asyncio.run(migrate(sqlite_url))
    done = subprocess.run([sys.executable, "-c", LEAVE, sqlite_url], timeout=30, env=ENVIRONMENT)
    assert done.returncode == 0


async def test_a_failed_open_lets_go(tmp_path):
    (tmp_path / "collab.db").write_bytes(b"this is no database" * 100)
    for _ in range(2):
        with pytest.raises(Exception, match="file is not a database"):
            await Database.open(f"sqlite:///{tmp_path}/collab.db")


async def test_the_sqlite_writer_is_durable_and_alone_in_checkpointing(sqlite_url):
    def pragmas(connection):
        asked = ("journal_mode", "synchronous", "foreign_keys", "query_only", "wal_autocheckpoint")
        return [connection.exec_driver_sql(f"PRAGMA {name}").scalar_one() for name in asked]

    await migrate(sqlite_url)
    database = await Database.open(sqlite_url)
    assert await database.write(pragmas) == ["wal", 2, 1, 0, 1000]
    reading = await database.read(pragmas)
    assert (reading[0], reading[3:]) == ("wal", [1, 0])
    await database.close()


async def test_the_postgresql_writer_waits_for_the_disk(postgresql_url):
    await migrate(postgresql_url)
    database = await Database.open(postgresql_url)
    asked = text("SELECT current_setting('synchronous_commit'), current_setting('transaction_isolation')")
    assert (await database.write(lambda c: c.execute(asked).one())) == ("on", "read committed")
    assert (await database.read(lambda c: c.execute(asked).one()))[1] == "repeatable read"
    await database.close()


async def test_after_a_lost_connection_nothing_is_written_without_the_lock(postgresql_url):
    await migrate(postgresql_url)
    database = await Database.open(postgresql_url)
    mine = await database.write(lambda c: c.execute(text("SELECT pg_backend_pid()")).scalar_one())
    await database.read(lambda c: c.execute(text(f"SELECT pg_terminate_backend({mine})")).scalar_one())
    other, said = open_elsewhere(postgresql_url)  # takes the lock that fell free
    try:
        assert said == "open"
        with pytest.raises(StorageUnavailable):
            await database.write(add("a"))
        with pytest.raises(DatabaseInUse):
            await database.write(add("a"))
        assert await database.read(names) == []
    finally:
        other.kill()
        other.wait()
    await database.write(add("b"))
    assert await database.read(names) == ["b"]
    await database.close()
