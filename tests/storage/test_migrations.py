import asyncio
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import make_url, text
from sqlalchemy.ext.asyncio import create_async_engine

from alembic import command
from collab.errors import StorageUnavailable
from collab.log import Batch
from storage.access import Access
from storage.database import Database, DatabaseInUse, sqlite_engine
from storage.log import UpdateLog
from storage.migrations import DatabaseTooNew, DatabaseTooOld, check, config, migrate
from storage.models import metadata, update_checksum

pytestmark = pytest.mark.anyio

WORDS = "words"  # the index and, in SQLite, the tables in which FTS5 keeps it: the models have none of them


async def test_migrated_schema_is_the_schema_of_the_models(database):
    def differences(connection):
        options = {
            "compare_type": True,
            "compare_server_default": True,
            "include_name": lambda name, kind, _: kind != "table" or not name.startswith(WORDS),
        }
        return compare_metadata(MigrationContext.configure(connection, opts=options), metadata)

    assert await database.read(differences) == []


async def test_migrated_tables_of_sqlite_are_declared_as_in_the_models(sqlite_url, tmp_path):
    """What compare_metadata does not see: WITHOUT ROWID, the order of the primary key."""

    def declared(connection):
        rows = connection.execute(
            text("SELECT name, sql FROM sqlite_schema WHERE tbl_name != 'alembic_version'")
        )
        # A column that was added stands behind the constraints; inside of one the order stays.
        parts = re.compile(r",(?![^(]*\))")
        return {
            name: sql and sorted(parts.split("".join(sql.split())[:-1]))
            for name, sql in rows
            if not name.startswith((WORDS, f"sqlite_autoindex_{WORDS}"))
        }

    await migrate(sqlite_url)
    migrated = await Database.open(sqlite_url)
    modelled = await Database.open(f"sqlite:///{tmp_path}/models.db")
    await modelled.write(metadata.create_all)
    try:
        assert await migrated.read(declared) == await modelled.read(declared)
    finally:
        await migrated.close()
        await modelled.close()


async def test_migrating_again_changes_nothing(url):
    await migrate(url)
    await migrate(url)


async def test_database_from_the_future_is_refused_and_left_alone(url):
    await migrate(url)
    database = await Database.open(url)
    await database.write(
        lambda c: c.execute(text("UPDATE alembic_version SET version_num = '9999'")).rowcount
    )
    await database.close()
    with pytest.raises(DatabaseTooNew, match=r"version 9999.*upgrade Collab"):
        await migrate(url)
    database = await Database.open(url)
    version = text("SELECT version_num FROM alembic_version")
    assert await database.read(lambda c: c.execute(version).scalar_one()) == "9999"
    await database.close()


async def test_who_only_reads_is_told_what_to_do_with_a_database_of_another_release(url):
    await migrate(url)
    database = await Database.open(url)
    await check(database)
    for version, error in (("0001", DatabaseTooOld), ("9999", DatabaseTooNew)):
        await database.write(
            lambda c, v=version: c.execute(text(f"UPDATE alembic_version SET version_num = '{v}'")).rowcount
        )
        with pytest.raises(error, match=r"upgrade Collab|collab migrate"):
            await check(database)
    await database.close()


async def test_processes_that_migrate_at_once_take_turns(postgresql_url):
    await asyncio.gather(*(migrate(postgresql_url) for _ in range(5)))


async def test_sqlite_is_not_migrated_under_a_running_server(sqlite_url):
    await migrate(sqlite_url)
    database = await Database.open(sqlite_url)
    with pytest.raises(DatabaseInUse):
        await migrate(sqlite_url)
    await database.close()
    await migrate(sqlite_url)


async def test_data_directory_is_made_for_its_owner_only(sqlite_url, tmp_path):
    await migrate(sqlite_url)
    assert (tmp_path / "data").stat().st_mode & 0o777 == 0o700


async def test_data_directory_that_cannot_be_made_says_what_to_do(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageUnavailable, match=r"cannot write in .*file.*choose another directory"):
        await migrate(f"sqlite:///{tmp_path}/file/collab.db")


async def test_postgresql_that_is_not_there_is_unavailable():
    with pytest.raises(StorageUnavailable):
        await migrate("postgresql://nobody@127.0.0.1:1/nothing")


def test_own_migrations_do_not_hide_the_installed_alembic():
    root = Path(importlib.import_module("storage").__file__).parent.parent
    found = subprocess.run(
        [sys.executable, "-c", "import alembic; print(alembic.__file__)"],
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "site-packages" in found


async def test_a_database_of_the_release_before_is_read_sealed_and_written_on(url):
    """Made at 0003, by what that release ran: no column of later ones."""

    def old(connection):
        settings = config()
        settings.attributes["connection"] = connection
        command.upgrade(settings, "0003")
        connection.execute(
            text("INSERT INTO documents (key, name, title, epoch, created_at) VALUES (1, 'doc', 'Old', 1, 5)")
        )
        connection.execute(text("INSERT INTO actors VALUES (1, 'user:ada', 'user', 'Ada')"))
        connection.execute(text("INSERT INTO members VALUES (1, 'user:ada', 4, 5)"))
        for seq in range(1, 2001):
            row = (1, seq, 1, 7, 1000 + seq, 1, b"update %d" % seq)
            values = dict(zip("dsacrot", (*row,), strict=True)) | {"x": update_checksum(*row)}
            connection.execute(text("INSERT INTO updates VALUES (:d, :s, :a, :c, :r, :o, :t, :x)"), values)

    if url.startswith("sqlite"):
        Path(make_url(url).database).parent.mkdir(parents=True)
        engine = sqlite_engine(make_url(url))
        with engine.begin() as connection:
            old(connection)
        engine.dispose()
    else:
        engine = create_async_engine(make_url(url).set(drivername="postgresql+asyncpg"))
        async with engine.begin() as connection:
            await connection.run_sync(old)
        await engine.dispose()
    await migrate(url)
    database = await Database.open(url)
    try:
        log = UpdateLog(database)
        before = await log.entries("doc", 0, 5000)
        assert [entry.data for entry in before] == [b"update %d" % seq for seq in range(1, 2001)]
        await log.seal("doc")
        assert await log.entries("doc", 0, 5000) == before
        await log.verify("doc")
        await log.append([Batch("doc", 1, [before[-1]._replace(seq=2001)])])
        assert (await log.load("doc")).head == 2001
        assert (await Access(database).standing("doc", "user:ada")).history
        sealed = text("SELECT count(*) FROM segments")
        assert await database.read(lambda c: c.execute(sealed).scalar_one()) == 1
    finally:
        await database.close()
