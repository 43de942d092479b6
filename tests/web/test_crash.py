"""Kill -9 of the server and of its writers: nothing acknowledged is lost (tests/crash.py says how)."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import asyncpg
import pytest
from sqlalchemy import make_url

POSTGRESQL = os.environ.get("COLLAB_TEST_POSTGRESQL_URL", "postgresql:///postgres")
CRASH = Path(__file__).parent.parent / "crash.py"


def crash(*options: object) -> str:
    """Run the command; what it printed."""
    command = [sys.executable, str(CRASH), *map(str, options)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, done.stdout
    return done.stdout


def acknowledged(said: str) -> int:
    assert int(said.split(" packed")[0].rsplit(" ", 1)[1]) > 100, "next to nothing was packed into segments"
    return int(said.split(" edits acknowledged")[0].rsplit(" ", 1)[1])


@pytest.fixture
def postgresql_url(require: Callable[[object, str], None]) -> Iterator[str]:
    """The URL of an empty database."""

    async def administer(statement: str) -> None:
        connection = await asyncpg.connect(POSTGRESQL)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    name = f"collab_crash_{uuid.uuid4().hex}"
    try:
        asyncio.run(administer(f"CREATE DATABASE {name}"))
    except (OSError, asyncpg.PostgresError) as error:
        require(False, f"no PostgreSQL at {POSTGRESQL} (set COLLAB_TEST_POSTGRESQL_URL): {error}")
    yield make_url(POSTGRESQL).set(database=name).render_as_string(hide_password=False)
    asyncio.run(administer(f"DROP DATABASE {name} WITH (FORCE)"))


def test_fifty_crashes_lose_nothing_that_was_acknowledged() -> None:
    assert acknowledged(crash("--rounds", 50, "--edits", 5_000)) >= 5_000


def test_crashes_on_postgresql_lose_nothing_that_was_acknowledged(postgresql_url: str) -> None:
    assert acknowledged(crash("--rounds", 10, "--edits", 1_000, "--database-url", postgresql_url)) >= 1_000
