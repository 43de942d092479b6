"""Who you are, and what you may do.

A credential makes an ``Identity``: a token of the host application (a JWT), the secret of a share link, the
cookie of an account, or the cookie of a guest. An identity and a document make a ``Grant``, and a route says
in the types of its parameters what it needs: ``Reader``, ``HistoryReader``, ``Editor``,
``HistoryEditor``, ``Owner``, ``Anyone``, ``Importer``, ``Operator``, ``Public``. A test refuses a route that
says nothing.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from ipaddress import ip_address
from typing import Annotated, Any, Protocol
from urllib.parse import urlsplit

import jwt
from fastapi import Depends, Request
from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.types import Scope

from collab.document import parse_name
from collab.errors import (
    DocumentNotFound,
    Forbidden,
    NotAuthenticated,
)
from collab.log import Actor
from collab.rights import Role, granted, higher, sees_history
from storage.access import LINK_PREFIX, NOBODY, PERSON_LIMIT, Access, Standing
from storage.accounts import Account
from storage.models import storable
from web import session
from web.keys import ALGORITHMS, KeySet
from web.settings import Settings

GUEST_COOKIE = "collab_guest"
COOKIE_SECONDS = 400 * 24 * 3600  # the longest that browsers keep
SUBPROTOCOL = "bearer."  # and a token: browsers can give a WebSocket no header
LOOKED_AT = {b"authorization", b"cookie", b"host", b"origin", b"sec-fetch-mode", b"sec-fetch-site"}
TOKEN_BYTES = 16 << 10
LEEWAY = 5  # seconds that clocks may differ
FOREVER = 250_000_000_000  # seconds since the epoch, in the year 9892: a later end of a token is no other
NAME_LIMIT = 200  # characters of an actor's name
OPERATOR_AUDIENCE = "collab:operator"

# What bytes that are no token raise.
UNREADABLE = (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError)
_GUEST = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True, slots=True)
class Identity:
    """Who somebody is, as the server has found it to be."""

    actor: Actor
    rights: Mapping[str, Role] | None = None  # from a token: these, and no others
    link: str | None = None  # the secret of a share link that came as token
    expires: float | None = None  # seconds since the epoch; None: it lasts
    history: bool | None = None  # from a token: may read it, whatever the role; None leaves it to the role
    imports: bool = False  # from a token: may say who wrote what
    lasting: bool = True  # the same somebody will be known again

    @property
    def signed_in(self) -> bool:
        return self.actor.kind != "guest"


@dataclass(frozen=True, slots=True)
class Grant:
    """What somebody may do with one document. ``until``: when to ask again, seconds since the epoch."""

    identity: Identity
    document: str
    role: Role
    until: float | None = None
    history: bool = False  # may read it

    def check_history(self) -> None:
        """Raises Forbidden."""
        if not self.history:
            raise Forbidden(
                "history shows deleted text, so to read it is a right of its own, which you have not: ask an "
                "owner to give it to you"
            )


class Sessions(Protocol):
    """Who is signed in with an account."""

    async def session(self, secret: str) -> tuple[Account, datetime] | None:
        """Whose session it is whose cookie holds ``secret``, and when it ends; None when it has ended."""


class Authenticator:
    """Finds out who asks, and what they may do."""

    def __init__(self, settings: Settings, secret: str, access: Access, sessions: Sessions | None) -> None:
        self._settings = settings
        self._access = access
        self._sessions = sessions
        self._secret = secret
        self._keys = KeySet(settings.jwks) if settings.jwks else None
        self._guest_key = derived_key(secret, "guest")
        self._operator_key = derived_key(secret, "operator")
        self._guests_role = settings.guests_role
        self._users_role = higher(settings.users_role, settings.guests_role)

    # --- who

    async def identify(self, connection: HTTPConnection, token: str | None = None) -> Identity:
        """Who sent a request or opened a socket, by ``token`` if there is one, else by what the connection
        carries. Raises NotAuthenticated for a credential that is not valid: it never makes a guest.
        Raises Forbidden for a page of somebody else that would use this browser's cookies.
        """
        token = token or token_of(connection)
        link = token if token and token.startswith(LINK_PREFIX) else None
        if token and link is None:
            return await self._by_token(token)
        if not self.is_ours(connection):
            if link is not None:
                return _passer_by(link)
            raise Forbidden(
                "a page of another origin must bring a token; this server knows its own as --public-url"
            )
        return replace(await self._by_cookie(connection, named=link is not None), link=link)

    async def _by_cookie(self, connection: HTTPConnection, named: bool) -> Identity:
        if (secret := session.secret_of(connection)) and self._sessions is not None:
            found = await self._sessions.session(secret)
            if found is not None:
                account, expires = found
                return Identity(account.actor, expires=expires.timestamp())
        if not named and self._guests_role is not None and not self._is_known_host(connection):
            host = connection.headers.get("host", "")[:100]
            raise Forbidden(f"this server does not know itself as {host!r}; set --public-url")
        guest = self._guest_cookie(connection)
        if guest is None:
            return _passer_by()
        return Identity(Actor(f"guest:{guest[0]}", "guest", guest[1]))

    async def _by_token(self, token: str) -> Identity:
        claims = await self._claims(token)
        kind, subject = claims.get("kind", "user"), claims["sub"]
        if kind not in ("user", "agent"):
            raise NotAuthenticated("the token's kind must be 'user' or 'agent'")
        id = f"{kind}:{subject}"
        if not storable(id) or len(id.encode()) > PERSON_LIMIT or not subject:
            raise NotAuthenticated(f"the token's sub must be 1 to {PERSON_LIMIT - 6} bytes without NUL")
        expires = float(min(int(claims["exp"]), FOREVER)) + LEEWAY
        history = claims.get("history")
        if history not in (None, True, False):
            raise NotAuthenticated("the token's history must be true or false")
        actor = Actor(id, kind, _name(claims.get("name")))
        imports = claims.get("import", False) is True
        return Identity(actor, _rights(claims), expires=expires, history=history, imports=imports)

    async def _claims(self, token: str) -> dict[str, Any]:
        if len(token) > TOKEN_BYTES:
            raise NotAuthenticated(f"a token may have {TOKEN_BYTES} bytes")
        key: Any
        algorithms: Sequence[str]
        if self._keys is None:
            key, algorithms = self._secret, ("HS256",)
        else:
            key, algorithms = await self._keys.find(token), ALGORITHMS
        return _decode(token, key, algorithms, self._settings.audience, self._settings.issuer or None)

    def _guest_cookie(self, connection: HTTPConnection) -> tuple[str, str] | None:
        cookie = connection.cookies.get(GUEST_COOKIE, "")
        if not cookie:
            return None
        try:
            claims = jwt.decode(cookie, self._guest_key, algorithms=["HS256"])
        except UNREADABLE:
            return None  # of another server, or forged: a new one is made
        id = claims.get("sub", "")
        return (id, _name(claims.get("name"))) if _GUEST.fullmatch(id) else None

    def guest_of(self, connection: HTTPConnection) -> str | None:
        """The actor id of the guest whose cookie a request carries, whoever has signed in beside it."""
        found = self._guest_cookie(connection)
        return None if found is None else f"guest:{found[0]}"

    def welcome(self, connection: HTTPConnection, response: Response, name: str | None = None) -> str:
        """Give a browser its guest identity when it has none yet, or a new ``name`` to the one it has.
        Returns the guest's actor id."""
        found = self._guest_cookie(connection)
        id, known = found or (secrets.token_hex(8), "")
        if found is None or (name is not None and _name(name) != known):
            claims = {"sub": id, "name": known if name is None else _name(name)}
            response.set_cookie(
                GUEST_COOKIE,
                jwt.encode(claims, self._guest_key, "HS256"),
                max_age=COOKIE_SECONDS,
                httponly=True,
                samesite="lax",
                secure=session.is_secure(connection),
            )
        return f"guest:{id}"

    def check_operator(self, connection: HTTPConnection) -> None:
        """Raises NotAuthenticated unless there is an operator's token (`collab token --operator`)."""
        token = token_of(connection)
        if not token:
            raise NotAuthenticated("this is the operator's; send a token made by `collab token --operator`")
        _decode(token, self._operator_key, ("HS256",), OPERATOR_AUDIENCE, None)

    def check_may_import(self, identity: Identity) -> None:
        """An archive says who wrote what, so only those may import whom the secret's owner lets; where guests
        own everything, names mean nothing anyway. Raises NotAuthenticated, Forbidden."""
        if identity.imports or (identity.rights is None and self._guests_role is Role.OWNER):
            return
        if not identity.signed_in:
            raise NotAuthenticated("to import, bring a token whose claim `import` is true")
        raise Forbidden(
            "an archive says who wrote what: to import one takes a token whose claim `import` is true"
        )

    # --- from where

    def is_ours(self, connection: HTTPConnection) -> bool:
        """Whether this is no browser, or a page of our own sent it."""
        origin = connection.headers.get("origin")
        if origin is None:
            return connection.headers.get("sec-fetch-site", "none") in ("none", "same-origin") or (
                connection.headers.get("sec-fetch-mode") == "navigate" and not _is_unsafe(connection)
            )
        scheme = {"ws": "http", "wss": "https"}.get(connection.scope["scheme"], connection.scope["scheme"])
        own = self._settings.public_url or f"{scheme}://{connection.headers.get('host', '')}"
        return _origin(own) is not None and _origin(own) == _origin(origin)

    def _is_known_host(self, connection: HTTPConnection) -> bool:
        """Guests' rights are for who reached this server by its own name: a name that somebody else points
        here (DNS rebinding) makes his page look like ours."""
        host = _host(f"//{connection.headers.get('host', '')}")
        if self._settings.public_url and host == _host(self._settings.public_url):
            return True
        try:
            ip_address(host or "")
        except ValueError:
            return host == "localhost" or (not self._settings.is_loopback and not self._settings.public_url)
        return True

    # --- what

    async def grant(self, identity: Identity, document: str) -> Grant | None:
        """What ``identity`` may do with ``document``, or None. Of a document that nobody has made yet, who
        may make documents is the owner."""
        return (await self.grants((identity,), document))[0]

    async def grants(self, identities: Sequence[Identity], document: str) -> list[Grant | None]:
        """``grant`` of many at once."""
        asked = {(i.actor.id, i.link) for i in identities if i.rights is None}
        standings = await self._access.standings(document, asked) if asked else {}
        return [
            self._grant(identity, document, standings.get((identity.actor.id, identity.link), NOBODY))
            for identity in identities
        ]

    def _grant(self, identity: Identity, document: str, standing: Standing) -> Grant | None:
        if identity.rights is not None:
            role = granted(identity.rights, document)
            if role is None:
                return None
            return Grant(identity, document, role, history=sees_history(role, identity.history))
        anybodys = self._anybodys(identity)
        role = higher(anybodys, standing.role)
        if not standing.exists and self.may_create(identity, document):
            role = Role.OWNER
        if role is None:
            return None
        history = standing.history or sees_history(anybodys, None) or role is Role.OWNER
        if identity.history is not None:
            history = sees_history(role, identity.history)
        return Grant(identity, document, role, standing.until, history)

    async def roles(self, identity: Identity, documents: Sequence[str]) -> dict[str, Role]:
        """What ``identity`` may do with each of ``documents`` that it may do anything with."""
        if identity.rights is not None:
            found = {name: granted(identity.rights, name) for name in documents}
        else:
            own = await self._access.roles(documents, identity.actor.id)
            everywhere = self._anybodys(identity)
            found = {name: higher(own.get(name), everywhere) for name in documents}
        return {name: role for name, role in found.items() if role is not None}

    def may_create(self, identity: Identity, document: str) -> bool:
        if identity.rights is not None:
            return (granted(identity.rights, document) or 0) >= Role.EDITOR
        return identity.signed_in or (self._guests_role or 0) >= Role.EDITOR

    def check_may_create(self, identity: Identity, document: str) -> None:
        """Raises NotAuthenticated, Forbidden."""
        if not self.may_create(identity, document):
            if identity.rights is not None:
                raise Forbidden(f"your token gives you no right to make {document!r}")
            raise NotAuthenticated("to make documents, sign in or bring a token")

    def everybodys(self, signed_in: bool) -> Role | None:
        """What everybody, or everybody who has signed in, may do with every document."""
        return self._users_role if signed_in else self._guests_role

    def _anybodys(self, identity: Identity) -> Role | None:
        return self.everybodys(identity.signed_in)

    def sees_all(self, identity: Identity) -> bool:
        return identity.rights is None and self._anybodys(identity) is not None


def _passer_by(link: str | None = None) -> Identity:
    """A guest for this connection only."""
    return Identity(Actor(f"guest:{secrets.token_hex(8)}"), link=link, lasting=False)


def derived_key(secret: str, purpose: str) -> bytes:
    """A key of its own for each purpose, so that what is signed for one is worth nothing for another."""
    return hmac.digest(secret.encode(), b"collab:" + purpose.encode(), hashlib.sha256)


def credentials(scope: Scope) -> Scope:
    """What ``identify`` looks at in an upgrade, for a socket that asks it again later: the rest is large."""
    kept = {key: value for key, value in scope.items() if key not in ("extensions", "state")}
    return {**kept, "headers": [(name, value) for name, value in scope["headers"] if name in LOOKED_AT]}


def token_of(connection: HTTPConnection) -> str | None:
    """The token that a request or an upgrade carries: as bearer, as subprotocol, or (sockets only, since
    URLs are logged everywhere) as ``?token=``."""
    scheme, _, token = connection.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token:
        return token.strip()
    if connection.scope["type"] == "websocket":
        for offered in connection.scope["subprotocols"]:
            if offered.startswith(SUBPROTOCOL):
                return str(offered[len(SUBPROTOCOL) :])
        return connection.query_params.get("token") or None
    return None


def _decode(
    token: str, key: Any, algorithms: Sequence[str], audience: str, issuer: str | None
) -> dict[str, Any]:
    try:
        claims: dict[str, Any] = jwt.decode(
            token,
            key,
            algorithms=list(algorithms),
            audience=audience,
            issuer=issuer,
            leeway=LEEWAY,
            options={"require": ["exp", "sub", "aud"], "enforce_minimum_key_length": True},
        )
    except jwt.ExpiredSignatureError:
        raise NotAuthenticated("the token has expired; get a new one") from None
    except UNREADABLE as error:
        raise NotAuthenticated(f"the token is not valid: {why_not(error)}") from None
    return claims


def why_not(error: Exception) -> str:
    """What is wrong with a token, in a line: the words may be of who sent it."""
    return _name(str(error)) or type(error).__name__


def _rights(claims: Mapping[str, Any]) -> dict[str, Role] | None:
    given = claims.get("documents")
    if given is None:
        return None
    if not isinstance(given, dict):
        raise NotAuthenticated("the token's documents must be an object of patterns and roles")
    try:
        return {pattern: Role.of(role) for pattern, role in given.items()}
    except ValueError as error:
        raise NotAuthenticated(f"the token's documents: {error}") from None


def _name(name: object) -> str:
    """A name as a token or a person gives it, made safe to store and to show in one line."""
    if not isinstance(name, str):
        return ""
    return "".join(c for c in name.encode(errors="replace").decode() if c.isprintable()).strip()[:NAME_LIMIT]


def _origin(url: str) -> tuple[str, str, int | None] | None:
    try:
        parts = urlsplit(url)
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError:
        return None
    return (parts.scheme, parts.hostname, port) if parts.scheme and parts.hostname else None


def _host(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None


def _is_unsafe(connection: HTTPConnection) -> bool:
    return connection.scope.get("method", "GET") not in ("GET", "HEAD", "OPTIONS")


# --- rights as parameter types -----------------------------------------------------------------------


def authenticator_of(request: Request) -> Authenticator:
    found: Authenticator = request.app.state.authenticator
    return found


async def anyone(request: Request) -> Identity:
    """Whoever it is; a credential that is not valid is refused all the same."""
    return await authenticator_of(request).identify(request)


async def importer(request: Request) -> Identity:
    identity = await anyone(request)
    authenticator_of(request).check_may_import(identity)
    return identity


async def public() -> None:
    """Everybody, unknown: nothing here depends on who asks."""


async def operator(request: Request) -> None:
    authenticator_of(request).check_operator(request)


async def local_or_operator(request: Request) -> None:
    """Who asks from this machine, not through a proxy on it, or brings an operator's token."""
    client = request.client.host if request.client else ""
    forwarded = "x-forwarded-for" in request.headers or "forwarded" in request.headers
    if forwarded or not (client and ip_address(client).is_loopback):
        authenticator_of(request).check_operator(request)


class DocumentRight:
    """Needs a role on the document in the path. Without any it is not found, so that nobody learns which
    names there are."""

    def __init__(self, least: Role, history: bool = False) -> None:
        self.least = least
        self.history = history  # needs the right to read it, too

    async def __call__(self, document: str, request: Request) -> Grant:
        name = parse_name(document)
        gate = authenticator_of(request)
        identity = await gate.identify(request)
        grant = await gate.grant(identity, name)
        if grant is None:
            if not identity.signed_in and not identity.lasting and identity.link is None:
                raise NotAuthenticated("sign in, or send a token as `Authorization: Bearer`")
            raise DocumentNotFound(f"there is no document named {name!r}, or it is not shared with you")
        if grant.role < self.least:
            raise Forbidden(f"this needs the role {self.least.label}; you are {grant.role.label}")
        if self.history:
            grant.check_history()
        return grant


Anyone = Annotated[Identity, Depends(anyone)]
Importer = Annotated[Identity, Depends(importer)]
Public = Depends(public)
Operator = Depends(operator)
LocalOrOperator = Depends(local_or_operator)
Reader = Annotated[Grant, Depends(DocumentRight(Role.VIEWER))]
HISTORY = DocumentRight(Role.VIEWER, history=True)
HistoryReader = Annotated[Grant, Depends(HISTORY)]
EDITOR = DocumentRight(Role.EDITOR)
Editor = Annotated[Grant, Depends(EDITOR)]
# Changes the document by way of what it was, which its answer tells.
HISTORY_EDITOR = DocumentRight(Role.EDITOR, history=True)
HistoryEditor = Annotated[Grant, Depends(HISTORY_EDITOR)]
Owner = Annotated[Grant, Depends(DocumentRight(Role.OWNER))]
RIGHTS = (anyone, importer, public, operator, local_or_operator)  # and any DocumentRight


def issue(
    secret: str,
    subject: str,
    *,
    audience: str,
    seconds: float,
    name: str = "",
    kind: str = "user",
    documents: Mapping[str, Role] | None = None,
    issuer: str = "",
    history: bool | None = None,
    imports: bool = False,
) -> str:
    """A token as a host application makes them, signed with the shared secret. Raises ValueError for a
    subject that no token may have."""
    if not subject or not storable(subject) or len(f"{kind}:{subject}".encode()) > PERSON_LIMIT:
        raise ValueError(f"the subject must have 1 to {PERSON_LIMIT - 6} bytes of UTF-8 without NUL")
    claims: dict[str, Any] = {"sub": subject, "aud": audience, "iat": int(time.time()), "kind": kind}
    claims["exp"] = claims["iat"] + int(seconds)
    if name:
        claims["name"] = name
    if issuer:
        claims["iss"] = issuer
    if imports:
        claims["import"] = True
    if history is not None:
        claims["history"] = history
    if documents is not None:
        claims["documents"] = {pattern: role.label for pattern, role in documents.items()}
    return jwt.encode(claims, secret, "HS256")


def issue_operator(secret: str, seconds: float) -> str:
    """A token for the operator's routes."""
    now = int(time.time())
    claims = {"sub": "operator", "aud": OPERATOR_AUDIENCE, "iat": now, "exp": now + int(seconds)}
    return jwt.encode(claims, derived_key(secret, "operator"), "HS256")
