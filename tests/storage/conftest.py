"""Every storage test runs on a SQLite file and on a PostgreSQL database of its own."""

import asyncio
import os
import uuid

import asyncpg
import pytest
from sqlalchemy import make_url

from storage.database import Database
from storage.documents import Documents
from storage.log import UpdateLog
from storage.migrations import migrate

SERVER = os.environ.get("COLLAB_TEST_POSTGRESQL_URL", "postgresql:///postgres")


async def administer(statement):
    connection = await asyncpg.connect(SERVER)
    try:
        return await connection.fetch(statement)
    finally:
        await connection.close()


@pytest.fixture(scope="session")
def postgresql(require):
    """Makes a new database at each call and returns its URL; drops them all at the end."""
    try:
        asyncio.run(administer("SELECT 1"))
    except (OSError, asyncpg.PostgresError) as error:
        require(False, f"no PostgreSQL at {SERVER} (set COLLAB_TEST_POSTGRESQL_URL): {error}")
    made = []

    def make():
        name = f"collab_test_{uuid.uuid4().hex}"
        asyncio.run(administer(f"CREATE DATABASE {name}"))
        made.append(name)
        return make_url(SERVER).set(database=name).render_as_string(hide_password=False)

    yield make
    asyncio.run(drop(made))


async def drop(databases):
    few = asyncio.Semaphore(8)  # together, since each needs a checkpoint

    async def drop_one(name):
        async with few:
            await administer(f"DROP DATABASE {name} WITH (FORCE)")

    await asyncio.gather(*map(drop_one, databases))


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path):
    """The URL of an empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/data/collab.db"
    return request.getfixturevalue("postgresql")()


@pytest.fixture
def sqlite_url(tmp_path):
    return f"sqlite:///{tmp_path}/data/collab.db"


@pytest.fixture
def postgresql_url(postgresql):
    return postgresql()


@pytest.fixture
async def database(url, anyio_backend):
    await migrate(url)
    database = await Database.open(url)
    yield database
    await database.close()


@pytest.fixture
def updates(database):
    return UpdateLog(database)


@pytest.fixture
def documents(database):
    return Documents(database)
