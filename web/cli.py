"""The command line: `collab serve`, `collab migrate`."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
from collections.abc import Coroutine, Sequence
from typing import Any

from collab.errors import CollabError
from storage.migrations import migrate
from web import settings as settings_module
from web.server import serve
from web.settings import Settings


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; the exit status is 0, 1 for a failure and 2 for a mistake in the arguments."""
    parser = argparse.ArgumentParser(
        prog="collab", description="Collaborative documents that are never lost."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    serving = commands.add_parser("serve", help="Run the server; the database is made or migrated first.")
    settings_module.add_flags(serving)
    migrating = commands.add_parser("migrate", help="Make or migrate the database, and stop.")
    settings_module.add_flags(migrating, "data", "database_url", "log_level")
    parsed = parser.parse_args(arguments)
    try:
        settings = settings_module.read(vars(parsed))
    except ValueError as error:
        parser.error(str(error))
    logging.basicConfig(
        level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    # Of uvicorn's information lines one logs every path with its query string, where tokens may be.
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    commands_by_name = {"serve": serve, "migrate": _migrate}
    return _run(commands_by_name[parsed.command](settings))


async def _migrate(settings: Settings) -> None:
    await migrate(settings.url)
    print("The database is up to date.")


def _run(work: Coroutine[Any, Any, None]) -> int:
    status = 0
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(work)
    except* (CollabError, ValueError, OSError) as group:
        for error in _leaves(group):
            print(f"collab: {error}", file=sys.stderr)
        status = 1
    return status


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    found: list[BaseException] = []
    for error in group.exceptions:
        found += _leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found


def _loop_factory() -> Any:
    try:
        import uvloop
    except ImportError:  # not on Windows
        return None
    return uvloop.new_event_loop
