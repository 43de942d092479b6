"""Who you are. Visitors are guests: a random cookie makes an identity that lasts, with no account."""

from __future__ import annotations

import hashlib
import re
import secrets

from starlette.requests import HTTPConnection
from starlette.responses import Response

from collab.log import Actor

COOKIE = "collab_guest"
_TOKEN = re.compile(r"[0-9a-f]{32}")


def actor_of(connection: HTTPConnection) -> Actor:
    """The actor of a request or socket: the guest of its cookie, else a guest for this connection only.

    The cookie is a secret of its browser; the log keeps a digest of it, so that reading the history does
    not let anyone become somebody else.
    """
    token = connection.cookies.get(COOKIE, "")
    if not _TOKEN.fullmatch(token):
        return Actor(f"guest:{secrets.token_hex(8)}")
    return Actor(f"guest:{hashlib.sha256(token.encode()).hexdigest()[:16]}")


def welcome(connection: HTTPConnection, response: Response) -> None:
    """Give a browser its guest identity when it has none yet."""
    if not _TOKEN.fullmatch(connection.cookies.get(COOKIE, "")):
        response.set_cookie(
            COOKIE,
            secrets.token_hex(16),
            max_age=400 * 24 * 3600,  # the longest that browsers keep
            httponly=True,
            samesite="lax",
            secure=connection.url.scheme == "https",
        )
