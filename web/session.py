"""The cookie of who has signed in. It holds the secret of a session (storage.accounts), nothing else."""

from __future__ import annotations

from datetime import UTC, datetime

from starlette.requests import HTTPConnection
from starlette.responses import Response

# A browser takes a __Host- cookie only over https, from this very host, for all its paths: no neighbour
# under the same domain can put its own session in the place of ours.
PLAIN, SECURE = "collab_session", "__Host-collab_session"


def secret_of(connection: HTTPConnection) -> str | None:
    """The secret that a request or socket carries, if it carries one."""
    return connection.cookies.get(_name(connection))


def keep(connection: HTTPConnection, response: Response, secret: str, expires: datetime) -> None:
    """Let the browser carry ``secret`` from now on."""
    response.set_cookie(
        _name(connection),
        secret,
        max_age=max(0, round((expires - datetime.now(UTC)).total_seconds())),
        httponly=True,
        samesite="lax",
        secure=is_secure(connection),
    )


def forget(connection: HTTPConnection, response: Response) -> None:
    """Let the browser carry no secret any more."""
    response.delete_cookie(_name(connection), httponly=True, samesite="lax", secure=is_secure(connection))


def is_secure(connection: HTTPConnection) -> bool:
    return connection.url.scheme in ("https", "wss")


def _name(connection: HTTPConnection) -> str:
    return SECURE if is_secure(connection) else PLAIN
