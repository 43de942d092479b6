"""The command line: `collab serve`, `collab migrate`, `collab token`, `collab invite`; and those of
``collab.client`` and ``web.commands``, which need no server here."""

from __future__ import annotations

import argparse
import asyncio
import logging
import re
import sys
from collections.abc import Coroutine, Sequence
from typing import Any

from collab.client import command as client_command
from collab.errors import CollabError
from collab.rights import Role
from web import commands as history_commands
from web import settings as settings_module
from web.settings import Settings

SECRETS = re.compile(
    r"eyJ[\w-]{8,}\.[\w-]+\.[\w-]*"  # a JWT
    r"|link_[\w-]{20,}"
    r"|(?i:(?<=token=)|(?<=bearer )|(?<=bearer\.))[^\s&'\"]+"
    r"|(?<=://)[^\s/@]+:[^\s/@]+(?=@)"  # name and password in a URL
)
CONTROLS = {ord(sign): f"\\x{ord(sign):02x}" for sign in map(chr, (*range(32), *range(127, 160)))}
HOURS = 10 * 365 * 24  # of a token's life, at most


class Formatter(logging.Formatter):
    """One line a record, whatever a document is called, and no secret in it, whoever wrote it."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        return super().formatMessage(record).translate(CONTROLS)

    def format(self, record: logging.LogRecord) -> str:
        return SECRETS.sub("[secret]", super().format(record))


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
    _add_token(
        commands.add_parser("token", help="Make a token, as the application that signs people in would.")
    )
    _add_invite(commands.add_parser("invite", help="Make a link with which a person makes an account."))
    client_command.add_commands(commands)
    history_commands.add_commands(commands)
    parsed = parser.parse_args(arguments)
    if "answer" in parsed:
        return history_commands.run(parsed)
    if "client" in parsed:
        return client_command.run(parsed)
    try:
        settings = settings_module.read(vars(parsed))
        if parsed.command == "token":
            print(_token(settings, parsed))
            return 0
        if parsed.command == "invite":
            print(_invite(settings, parsed))
            return 0
    except (CollabError, ValueError, OSError) as error:
        parser.error(str(error))
    _log_as(settings.log_level.upper())
    commands_by_name = {"serve": _serve, "migrate": _migrate}
    return _run(commands_by_name[parsed.command](settings))


def _log_as(level: str) -> None:
    """Of other libraries only warnings: they log paths with their query strings, and statements with their
    parameters, where tokens and hashes of passwords are."""
    handler = logging.StreamHandler()
    handler.setFormatter(Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(handlers=[handler])
    logging.getLogger().setLevel(max(logging.WARNING, logging.getLevelNamesMapping()[level]))
    for package in ("collab", "storage", "web"):
        logging.getLogger(package).setLevel(level)


def _add_token(parser: argparse.ArgumentParser) -> None:
    settings_module.add_flags(parser, "data", "secret", "audience", "issuer", "log_level")
    parser.add_argument(
        "subject", nargs="?", default="developer", help="Whose token it is; default developer."
    )
    parser.add_argument("--name", default="", help="The name that others see.")
    parser.add_argument("--agent", action="store_true", help="It is a program's.")
    parser.add_argument(
        "--document",
        action="append",
        metavar="PATTERN=ROLE",
        help="A right, such as 'notes/*=editor'; may be repeated. With none it has the person's own rights.",
    )
    parser.add_argument(
        "--history", choices=("yes", "no"), help="May read history, or not, whatever the role says."
    )
    parser.add_argument(
        "--import", dest="imports", action="store_true", help="May import archives, which say who wrote what."
    )
    parser.add_argument("--hours", type=float, default=24.0, help="How long it is valid; default 24.")
    parser.add_argument(
        "--operator", action="store_true", help="For the operator's routes, and nothing else."
    )


def _token(settings: Settings, parsed: argparse.Namespace) -> str:
    from web import auth

    if not 0 < parsed.hours <= HOURS:
        raise ValueError(f"--hours must be more than 0 and at most {HOURS}, not {parsed.hours:g}")
    if settings.jwks and not parsed.operator:
        raise ValueError("with --jwks your own keys sign tokens; this command can make an --operator's only")
    secret = settings_module.secret_of(settings)
    if parsed.operator:
        return auth.issue_operator(secret, parsed.hours * 3600)
    documents = None
    if parsed.document is not None:
        documents = {}
        for right in parsed.document:
            pattern, found, role = right.rpartition("=")
            if not found or not pattern:
                raise ValueError(f"--document must be like 'notes/*=editor', not {right!r}")
            documents[pattern] = Role.of(role)
    return auth.issue(
        secret,
        parsed.subject,
        audience=settings.audience,
        issuer=settings.issuer,
        seconds=parsed.hours * 3600,
        name=parsed.name,
        kind="agent" if parsed.agent else "user",
        documents=documents,
        history=None if parsed.history is None else parsed.history == "yes",
        imports=parsed.imports,
    )


def _add_invite(parser: argparse.ArgumentParser) -> None:
    settings_module.add_flags(parser, "data", "secret", "port", "log_level")
    parser.add_argument(
        "email", help="Whose account it will be; of one that is there the link sets the password."
    )
    parser.add_argument("--name", help="The name that others see; the person may choose another.")
    parser.add_argument(
        "--url", help="Where people reach the server; default COLLAB_PUBLIC_URL, else http://127.0.0.1:PORT."
    )


def _invite(settings: Settings, parsed: argparse.Namespace) -> str:
    from web import auth
    from web.signin import INVITATION, invitation

    if not settings.secret and not (settings.data / "secret").exists():
        raise ValueError(
            f"there is no secret in {settings.data}: give the --data or COLLAB_SECRET that the server has"
        )
    key = auth.derived_key(settings_module.secret_of(settings), INVITATION)
    url = parsed.url or settings.public_url or f"http://127.0.0.1:{settings.port}"
    return f"{url.rstrip('/')}/join#{invitation(key, parsed.email, parsed.name)}"


# What a command needs is imported when it runs: half of them have no use for a server, nor have the processes
# that the server begins, which import this module first.


async def _serve(settings: Settings) -> None:
    from web.server import serve

    await serve(settings)


async def _migrate(settings: Settings) -> None:
    from storage.migrations import migrate

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
