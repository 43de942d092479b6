"""Bring a database to the schema of this release. The steps are alembic's, in ``alembic/versions``."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from pathlib import Path

from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import URL, Connection, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from alembic import command
from collab.errors import CollabError
from storage.database import Database, claim_file, parse_url, sqlite_engine, unavailable

MIGRATION_LOCK = 0x4D696772617465  # "Migrate": two processes take turns, the second finds nothing to do

# A wheel carries the steps inside the package; a checkout has them beside it.
_here = Path(__file__).parent
SCRIPTS = inside if (inside := _here / "alembic").is_dir() else _here.parent / "alembic"


class DatabaseTooNew(CollabError):
    """The database was written by a later release of Collab, or by something else."""

    code = "database-too-new"


class DatabaseTooOld(CollabError):
    """The database was written by an earlier release of Collab, and this one has not upgraded it yet."""

    code = "database-too-old"


async def migrate(url: str) -> None:
    """Create the tables, or upgrade them, in one transaction; nothing is done when they are up to date.

    Raises DatabaseTooNew, DatabaseInUse (SQLite, while a server runs), StorageUnavailable, ValueError.
    """
    parsed = parse_url(url)
    try:
        if parsed.drivername == "sqlite":
            await asyncio.to_thread(_migrate_sqlite, parsed)
        else:
            await _migrate_postgresql(parsed)
    except (DBAPIError, sqlite3.Error, OSError, TimeoutError) as error:
        raise unavailable(error) from error


async def check(database: Database) -> None:
    """See that the database, which is only read here, is as this release writes it.

    Raises DatabaseTooOld, DatabaseTooNew, StorageUnavailable, CorruptLog.
    """

    def work(connection: Connection) -> None:
        scripts = ScriptDirectory.from_config(config())
        found = _known_revisions(connection, scripts)
        if found != set(scripts.get_heads()):
            raise DatabaseTooOld(
                "the database was made by an earlier Collab: start the server, or run "
                "`collab migrate --data DIR`"
            )

    await database.read(work)


def config() -> Config:
    made = Config()
    made.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
    made.set_main_option("path_separator", "os")
    return made


def upgrade(connection: Connection) -> None:
    """The work itself, inside the caller's transaction."""
    settings = config()
    scripts = ScriptDirectory.from_config(settings)
    _known_revisions(connection, scripts)
    settings.attributes["connection"] = connection
    command.upgrade(settings, "head")


def _known_revisions(connection: Connection, scripts: ScriptDirectory) -> set[str]:
    """Those that the database is at. Raises DatabaseTooNew."""
    known = {script.revision for script in scripts.walk_revisions()}
    found = set(MigrationContext.configure(connection).get_current_heads())
    if unknown := found - known:
        newest = scripts.get_current_head()
        raise DatabaseTooNew(
            f"the database is at version {min(unknown)}, this Collab knows up to {newest}: upgrade Collab"
        )
    return found


def _migrate_sqlite(url: URL) -> None:
    lock = claim_file(url)  # a second connection that commits beside a server's is not safe in SQLite
    engine = sqlite_engine(url)
    try:
        with engine.begin() as connection:
            upgrade(connection)
    finally:
        engine.dispose()
        os.close(lock)


async def _migrate_postgresql(url: URL) -> None:
    engine = create_async_engine(url.set(drivername="postgresql+asyncpg"), poolclass=NullPool)
    try:
        async with engine.begin() as connection:
            await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
            await connection.run_sync(upgrade)
    finally:
        await engine.dispose()
