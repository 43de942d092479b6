"""What everybody may do: each route and each kind of message, for each role and each credential (R6).

The tables below say what is to happen; a route or a role that they do not know fails. A new route gets a
line in ROUTES and, where a kind of credential is treated in its own way, one in its exceptions.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from pycrdt import Doc, Text
from serverprocess import Server
from visitor import SECRET, STEP1, Visitor, bearer, token
from yclient import client

from collab import protocol
from collab.protocol import var_string, var_uint
from web import auth
from web.app import running
from web.headers import Guarded
from web.settings import Settings

ISSUER = "https://id.example"
ROLES = ("none", "viewer", "commenter", "editor", "owner")
READERS, WRITERS = ("viewer", "commenter"), ("editor", "owner")

# --- every route has one right -----------------------------------------------------------------------

# What says what there is, and files that are the same for everybody; they are no routes of ours.
WITHOUT = {"/api/openapi.json", "/assets"}


@dataclass(frozen=True)
class Found:
    """A route as the application has it."""

    path: str
    methods: frozenset[str]
    rights: tuple[object, ...]


def routes_of(app: FastAPI) -> list[Found]:
    found = []
    for route in app.routes:
        # FastAPI keeps included routers as they are from 0.130 on, and flattened them before.
        contexts: Any = getattr(route, "effective_route_contexts", None)
        for one in contexts() if contexts is not None else (route,):
            dependant = getattr(one, "dependant", None)
            rights = () if dependant is None else tuple(rights_of(dependant))
            found.append(Found(one.path, frozenset(getattr(one, "methods", None) or ()), rights))
    return found


def rights_of(dependant: Dependant) -> set[object]:
    found: set[object] = set()
    for inner in dependant.dependencies:
        if inner.call in auth.RIGHTS or isinstance(inner.call, auth.DocumentRight):
            found.add(inner.call)
        found |= rights_of(inner)
    return found


@pytest.fixture(scope="module")
def routes(tmp_path_factory: pytest.TempPathFactory) -> list[Found]:
    async def look(data: Path) -> list[Found]:
        settings = Settings(data=data, oidc_issuer=ISSUER, oidc_client_id="x", oidc_client_secret="y")
        async with running(settings) as app:
            assert isinstance(app._http, Guarded)
            assert isinstance(app._http._app, FastAPI)
            return routes_of(app._http._app)

    return asyncio.run(look(tmp_path_factory.mktemp("routes")))


def test_every_route_declares_exactly_one_right(routes: list[Found]) -> None:
    wrong = [route for route in routes if len(route.rights) != 1 and route.path not in WITHOUT]
    assert not wrong
    assert {route.path for route in routes if not route.rights} == WITHOUT


def test_a_right_on_a_document_is_declared_where_the_path_names_one_and_nowhere_else(
    routes: list[Found],
) -> None:
    for route in routes:
        (right,) = route.rights or (None,)
        named = "/{document}" in route.path
        assert isinstance(right, auth.DocumentRight) == named, route


def test_a_route_without_a_right_is_found_out() -> None:
    app = FastAPI(openapi_url=None)

    @app.get("/forgotten")
    def forgotten() -> None: ...

    @app.get("/twice", dependencies=[auth.Public])
    def twice(identity: auth.Anyone) -> None: ...

    assert [len(route.rights) for route in routes_of(app)] == [0, 2]


# --- REST --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Answers:
    """Status codes: of who has no credential, of one that is not valid, and of a valid one by role."""

    anonymous: int
    invalid: int
    none: int
    viewer: int
    commenter: int
    editor: int
    owner: int
    json: Callable[[Mapping[str, str]], object] | None = None


def answers(*codes: int, json: Callable[[Mapping[str, str]], object] | None = None) -> Answers:
    return Answers(*codes, json=json)


def everybody(code: int, invalid: int, json: Callable[[Mapping[str, str]], object] | None = None) -> Answers:
    return Answers(code, invalid, *[code] * 5, json=json)


# In this order: what is made by one is undone by another, and the document goes last.
ROUTES: dict[str, Answers] = {
    "GET /api/documents": everybody(200, 401),
    "POST /api/documents": answers(401, 401, *[201] * 5, json=lambda p: {"name": p["new"]}),
    "GET /api/documents/{document}": answers(401, 401, 404, 200, 200, 200, 200),
    "PATCH /api/documents/{document}": answers(
        401, 401, 404, 403, 403, 200, 200, json=lambda _: {"title": "x"}
    ),
    "POST /api/documents/{document}/copies": answers(
        401, 401, 404, 201, 201, 201, 201, json=lambda p: {"name": p["new"]}
    ),
    "GET /api/documents/{document}/content": answers(401, 401, 404, 200, 200, 200, 200),
    "GET /api/documents/{document}/versions": answers(401, 401, 404, 403, 403, 200, 200),
    "GET /api/documents/{document}/versions/{version}": answers(401, 401, 404, 403, 403, 200, 200),
    "POST /api/documents/{document}/versions": answers(
        401, 401, 404, 403, 403, 201, 201, json=lambda p: {"name": p["new"]}
    ),
    "PATCH /api/documents/{document}/versions/{version}": answers(
        401, 401, 404, 403, 403, 404, 404, json=lambda _: {"note": "x"}
    ),
    "DELETE /api/documents/{document}/versions/{version}": answers(401, 401, 404, 403, 403, 404, 404),
    "GET /api/documents/{document}/diff": answers(401, 401, 404, 403, 403, 200, 200),
    "GET /api/documents/{document}/blame": answers(401, 401, 404, 403, 403, 200, 200),
    "GET /api/documents/{document}/activity": answers(401, 401, 404, 403, 403, 200, 200),
    # There is nothing to bring back or to take back.
    "POST /api/documents/{document}/restore": answers(
        401, 401, 404, 403, 403, 201, 201, json=lambda _: {"from": "head"}
    ),
    "POST /api/documents/{document}/undo": answers(
        401, 401, 404, 403, 403, 201, 201, json=lambda _: {"since": "head"}
    ),
    "GET /api/documents/{document}/updates": answers(401, 401, 404, 403, 403, 200, 200),
    "GET /api/documents/{document}/export": answers(401, 401, 404, 403, 403, 200, 200),
    "GET /api/documents/{document}/download": answers(401, 401, 404, 200, 200, 200, 200),
    "GET /api/documents/{document}/images": answers(401, 401, 404, 200, 200, 200, 200),
    # There is no image in the request, nor any in the document.
    "POST /api/documents/{document}/images": answers(401, 401, 404, 403, 403, 415, 415),
    "GET /api/documents/{document}/images/{hash}": answers(401, 401, 404, 404, 404, 404, 404),
    "DELETE /api/documents/{document}/images/{hash}": answers(401, 401, 404, 403, 403, 403, 404),
    "POST /api/import": answers(401, 401, *[403] * 5),
    "GET /api/documents/{document}/members": answers(401, 401, 404, 403, 403, 403, 200),
    "PUT /api/documents/{document}/members/{person}": answers(
        401, 401, 404, 403, 403, 403, 204, json=lambda _: {"role": "owner"}
    ),
    "DELETE /api/documents/{document}/members/{person}": answers(401, 401, 404, 403, 403, 403, 204),
    "GET /api/documents/{document}/links": answers(401, 401, 404, 403, 403, 403, 200),
    "POST /api/documents/{document}/links": answers(401, 401, 404, 403, 403, 403, 201, json=lambda _: {}),
    "DELETE /api/documents/{document}/links/{link}": answers(401, 401, 404, 403, 403, 403, 204),
    "POST /api/links/open": everybody(200, 401, lambda p: {"secret": p["secret"]}),
    "GET /api/sign-in": everybody(200, 200),
    # Requests that would be served, had they not asked for what cannot be: no password is hashed here.
    "POST /api/session": everybody(422, 401, lambda _: {"email": "nobody", "password": "x"}),
    "DELETE /api/session": everybody(204, 401),
    "POST /api/accounts": everybody(422, 401, lambda _: {"password": "a long password"}),
    "GET /api/me": everybody(200, 401),
    "PATCH /api/me": answers(200, 401, *[403] * 5, json=lambda _: {"name": "Somebody"}),
    "PUT /api/me/password": everybody(401, 401, lambda _: {"current": "x", "password": "a long password"}),
    "GET /api/accounts": everybody(401, 401),
    "PATCH /api/accounts/{account}": everybody(401, 401, lambda _: {"disabled": True}),
    "GET /metrics": everybody(401, 401),  # asked for through a proxy
    "GET /healthz": everybody(200, 200),
    "GET /readyz": everybody(200, 200),
    "GET /auth/oidc": everybody(404, 404),  # no provider is set here
    "GET /auth/oidc/callback": everybody(404, 404),
    "GET /api/docs": everybody(200, 200),
    "GET /": everybody(200, 200),
    "GET /s": everybody(200, 200),
    "GET /join": everybody(200, 200),
    "GET /sign-in": everybody(200, 200),
    "GET /device": everybody(200, 200),
    "GET /d/{document:path}": everybody(200, 200),
    "GET /{name}": everybody(404, 404),  # there is no such file
    "DELETE /api/documents/{document}": answers(401, 401, 404, 403, 403, 403, 204),
}

# A token that brings its own rights, and a guest's cookie, by role; otherwise they are as a member's token.
BY_CLAIMS = {
    "POST /api/documents": (403, 403, 403, 201, 201),
    "POST /api/documents/{document}/copies": (404, 403, 403, 201, 201),
    "POST /api/links/open": (403, 403, 403, 403, 403),
}
BY_LINK = {
    "POST /api/import": (401, 401, 401, 401, 401),
    "POST /api/documents": (401, 401, 401, 401, 401),
    "POST /api/documents/{document}/copies": (404, 401, 401, 401, 401),
    "PATCH /api/me": (200, 200, 200, 200, 200),
}
WAYS: dict[str, Mapping[str, Sequence[int]]] = {"member": {}, "claims": BY_CLAIMS, "link": BY_LINK}
LINKED = ("none", "viewer", "commenter", "editor")  # no link makes an owner


def test_the_table_knows_every_route(routes: list[Found]) -> None:
    there = {
        f"{method} {route.path}" for route in routes for method in route.methods if route.path not in WITHOUT
    }
    assert there == set(ROUTES)


def signed(subject: str, **claims: object) -> str:
    return token(subject, **{"iss": ISSUER, **claims})


INVALID: dict[str, Callable[[str], str]] = {
    "expired": lambda subject: signed(subject, exp=int(time.time()) - 60),
    "wrong audience": lambda subject: signed(subject, aud="another"),
    "wrong issuer": lambda subject: signed(subject, iss="https://id.evil.example"),
    "tampered": lambda subject: signed(subject)[:-6] + "AAAAAA",
}


class House:
    """A server, and documents in which somebody has each role by each way."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.api = httpx.Client(base_url=server.url)
        self.root = bearer(signed("root"))
        self.made = 0
        self.elsewhere = self.document()
        self.link_elsewhere = self.link(self.elsewhere, "viewer")[1]

    def document(self, text: str = "as it was") -> str:
        self.made += 1
        name = f"document {self.made}"
        assert self.api.post("/api/documents", headers=self.root, json={"name": name}).status_code == 201

        async def write() -> None:
            async with client(self.server.ws_url, name, additional_headers=self.root) as one:
                await one.insert(0, text)
                await one.saved()

        asyncio.run(write())
        return name

    def link(self, document: str, role: str) -> tuple[str, str]:
        made = self.api.post(
            f"/api/documents/{document}/links", headers=self.root, json={"role": role}
        ).json()
        return made["id"], made["url"].partition("#")[2]

    def credential(self, way: str, document: str, role: str) -> dict[str, str]:
        """The headers of somebody who has ``role`` on ``document`` by ``way``."""
        if way == "claims":
            documents = {} if role == "none" else {document: role, "new *": role}
            return bearer(signed(f"{role} of {document}", documents=documents))
        if way == "link":
            with httpx.Client(base_url=self.server.url) as browser:
                browser.get("/")
                if role != "none":
                    opened = browser.post("/api/links/open", json={"secret": self.link(document, role)[1]})
                    assert opened.json() == {"document": document, "role": role}
                return {"Cookie": f"collab_guest={browser.cookies['collab_guest']}"}
        return bearer(signed(self.member(document, role)))

    def member(self, document: str, role: str) -> str:
        """A new subject that is a member of ``document``, or none."""
        self.made += 1
        subject = f"{role} {self.made}"
        if role != "none":
            path = f"/api/documents/{document}/members/user:{subject}"
            assert self.api.put(path, headers=self.root, json={"role": role}).status_code == 204
        return subject

    def state(self, document: str) -> tuple[object, ...]:
        """All that there is of a document: its row, its log, its text, who it is shared with."""
        path = f"/api/documents/{document}"
        row = self.api.get(path, headers=self.root).json()
        content = self.api.get(f"{path}/content?format=yjs", headers=self.root)
        shared = [self.api.get(f"{path}/{what}", headers=self.root).json() for what in ("members", "links")]
        return row, content.headers["etag"], content.content, *shared

    def ask(self, route: str, headers: Mapping[str, str], document: str) -> httpx.Response:
        method, _, path = route.partition(" ")
        self.made += 1
        parameters = {
            "document": document,
            "document:path": document,
            "person": "user:somebody",
            "link": self.link(document, "viewer")[0] if "{link}" in path else "",
            "account": "nobody",
            "version": "1",
            "hash": "0" * 64,
            "name": "no-such-file",
            "new": f"new {self.made}",
            "secret": self.link_elsewhere,
        }
        for name, value in parameters.items():
            path = path.replace(f"{{{name}}}", value)
        body = ROUTES[route].json
        json = None if body is None else body(parameters)
        self.api.cookies.clear()
        return self.api.request(method, path, headers={**headers, "X-Forwarded-For": "192.0.2.1"}, json=json)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    server = Server(tmp_path_factory.mktemp("rights"), secret=SECRET, issuer=ISSUER, rooms_per_minute=0)
    server.start()
    yield House(server)
    server.kill()


def code_of(answer: httpx.Response) -> str:
    return str(answer.json()["code"]) if answer.status_code >= 400 else ""


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("way", WAYS)
def test_rest_answers_a_valid_credential_by_its_role(house: House, way: str, role: str) -> None:
    if way == "link" and role not in LINKED:
        return
    document = house.document()
    headers = house.credential(way, document, role)
    before = house.state(document)
    wrong = {}
    for route, table in ROUTES.items():
        expected = WAYS[way][route][ROLES.index(role)] if route in WAYS[way] else getattr(table, role)
        answer = house.ask(route, headers, document)
        if answer.status_code != expected:
            wrong[route] = (answer.status_code, expected, answer.text[:200])
        if route == "DELETE /api/documents/{document}/links/{link}":
            after = house.state(document)
    assert not wrong
    row, etag, content, members, _ = after
    assert (etag, content) == before[1:3], "no route writes text"
    if role not in WRITERS:
        assert (row, members) == (before[0], before[3])
    elif role == "editor":
        assert isinstance(row, dict)
        assert isinstance(before[0], dict)
        assert (row["title"], members) == ("x", before[3])
        assert row | {"title": ""} == before[0]


@pytest.mark.parametrize("credential", ["none", *INVALID])
def test_rest_answers_nobody_without_a_valid_credential_whatever_role_it_would_have(
    house: House, credential: str
) -> None:
    document = house.document()
    subjects = {role: house.member(document, role) for role in ROLES}
    before = house.state(document)
    wrong = {}
    for role, subject in subjects.items():
        headers = {} if credential == "none" else bearer(INVALID[credential](subject))
        for route, table in ROUTES.items():
            expected = table.anonymous if credential == "none" else table.invalid
            answer = house.ask(route, headers, document)
            if answer.status_code != expected:
                wrong[f"{role}: {route}"] = (answer.status_code, expected, answer.text[:200])
            if expected == 401 and route != "PUT /api/me/password":
                assert code_of(answer) == "not-authenticated", route
                assert answer.headers["www-authenticate"] == "Bearer"
            assert document not in answer.text
    assert not wrong
    after = house.state(document)
    assert after[:4] == before[:4]


@pytest.mark.parametrize("route", ["GET /metrics", "GET /api/accounts", "PATCH /api/accounts/{account}"])
def test_operators_do_what_is_the_operator_s_and_nothing_else(house: House, route: str) -> None:
    operator = bearer(auth.issue_operator(SECRET, 600))
    assert house.ask(route, operator, house.elsewhere).status_code in (200, 404)
    for other, table in ROUTES.items():
        if table.invalid == 401 and "accounts" not in other and other != "GET /metrics":
            assert house.ask(other, operator, house.elsewhere).status_code == 401, other


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "PUT", "TRACE", "PROPFIND", "X"])
def test_other_methods_get_round_no_right(house: House, method: str) -> None:
    document = house.document()
    before = house.state(document)
    for path in ("", "/content", "/members", "/links"):
        for headers in ({}, house.root):
            answer = house.api.request(method, f"/api/documents/{document}{path}", headers=headers)
            assert answer.status_code in (400, 405, 501), (path, answer.status_code)
            assert document not in answer.text
    spoofed = {"X-HTTP-Method-Override": "DELETE", "X-Original-URL": "/healthz", "X-Rewrite-URL": "/healthz"}
    assert house.api.get(f"/api/documents/{document}", headers=spoofed).status_code == 401
    assert house.state(document) == before


@pytest.mark.parametrize(
    "path",
    [
        "/api/documents/{}/",
        "/api//documents/{}",
        "/API/documents/{}",
        "/api/documents/../documents/{}",
        "/api/documents/%2e%2e/documents/{}",
        "/api/documents/{}%2Fcontent",
        "/api/documents/{}/content/",
        "/api/documents/{};x",
        "/healthz/../api/documents/{}",
        "/assets/../api/documents/{}",
        "/assets/%2e%2e/%2e%2e/%2e%2e/%2e%2e/server.py",
        "/..%2f..%2fserver.py",
        "/%2e%2e",
        "/.git",
        "/index.html",
        "/d/../api/documents/{}",
    ],
)
def test_other_ways_to_write_a_path_get_round_no_right(house: House, path: str) -> None:
    document = house.document("a text that nobody reads")
    sent = path.format(document.replace(" ", "%20"))
    # httpx would tidy up the path.
    with httpx.Client(base_url=house.server.url) as raw:
        request = raw.build_request("GET", "/")
        request.url = request.url.copy_with(raw_path=sent.encode())
        answer = raw.send(request)
    assert answer.status_code in (307, 401, 404), answer.status_code
    assert "a text that nobody reads" not in answer.text
    assert "def " not in answer.text


# --- messages ----------------------------------------------------------------------------------------

# What its sender hears, and what others in the document hear: of y-websocket clients, of Hocuspocus clients.
Heard = tuple[str, str, str]
NOTHING: Heard = ("", "", "")


@dataclass(frozen=True)
class Kind:
    """A message, and what comes of it when a reader and when a writer sends it."""

    frame: Callable[[Text], bytes]
    reader: Heard
    writer: Heard
    denied: str = ""  # what is heard without a right, of Hocuspocus (a y-websocket is closed)
    changes: bool = False  # for who may write


def new(text: Text) -> bytes:
    """An update of the text's doc that nobody else has."""
    doc = text.doc
    before = doc.get_state()
    text.insert(0, "new ")
    return doc.get_update(before)


def erased(text: Text) -> bytes:
    before = text.doc.get_state()
    del text[0:1]
    return text.doc.get_update(before)


def known(text: Text) -> bytes:
    return text.doc.get_update()


def presence(_: Text) -> bytes:
    state = b'{"user":{"name":"Canary"}}'
    entry = var_uint(4242) + var_uint(int(time.monotonic() * 1000)) + var_uint(len(state)) + state
    return protocol.encode_awareness(b"\x01" + entry)


Y_KINDS: dict[str, Kind] = {
    "step 1": Kind(lambda _: STEP1, ("step 2", "", ""), ("step 2", "", "")),
    "step 2 without news": Kind(lambda t: protocol.encode_step2(known(t)), NOTHING, ("update", "", "")),
    "step 2 of nothing": Kind(lambda _: protocol.EMPTY_STEP2, NOTHING, NOTHING),
    "step 2 with news": Kind(
        lambda t: protocol.encode_step2(new(t)),
        ("denied", "", ""),
        ("update", "update", "update"),
        changes=True,
    ),
    "update": Kind(
        lambda t: protocol.encode_update(new(t)),
        ("denied", "", ""),
        ("update", "update", "update"),
        changes=True,
    ),
    "update without news": Kind(lambda t: protocol.encode_update(known(t)), NOTHING, ("update", "", "")),
    "deletion": Kind(
        lambda t: protocol.encode_update(erased(t)),
        ("denied", "", ""),
        ("update", "update", "update"),
        changes=True,
    ),
    "several in a frame": Kind(
        lambda t: protocol.encode_sync_status(b"x") + protocol.encode_update(new(t)) + presence(t),
        ("saved denied presence", "presence", "presence"),
        ("saved update presence", "update presence", "update presence"),
        changes=True,
    ),
    "awareness": Kind(presence, ("presence", "presence", "presence"), ("presence", "presence", "presence")),
    "query awareness": Kind(lambda _: b"\x03", ("presence", "", ""), ("presence", "", "")),
    "102": Kind(lambda _: protocol.encode_sync_status(b"1"), ("saved", "", ""), ("saved", "", "")),
    "an auth message": Kind(lambda _: b"\x02\x00\x00", NOTHING, NOTHING),
    "unheard of": Kind(lambda _: b"\x2a\x01x", NOTHING, NOTHING),
}

H_KINDS: dict[str, Kind] = {
    "auth": Kind(lambda _: b"auth", NOTHING, NOTHING, denied="denied"),  # the same token again
    "step 1": Kind(lambda _: STEP1, ("step 1 step 2", "", ""), ("step 1 step 2", "", "")),
    "step 2 without news": Kind(
        lambda t: protocol.encode_step2(known(t)), ("saved", "", ""), ("saved", "", "")
    ),
    "step 2 of nothing": Kind(lambda _: protocol.EMPTY_STEP2, ("saved", "", ""), ("saved", "", "")),
    "step 2 with news": Kind(
        lambda t: protocol.encode_step2(new(t)),
        ("refused", "", ""),
        ("update saved", "update", "update"),
        changes=True,
    ),
    "update": Kind(
        lambda t: protocol.encode_update(new(t)),
        ("refused", "", ""),
        ("update saved", "update", "update"),
        changes=True,
    ),
    "update without news": Kind(
        lambda t: protocol.encode_update(known(t)), ("saved", "", ""), ("saved", "", "")
    ),
    "deletion": Kind(
        lambda t: protocol.encode_update(erased(t)),
        ("refused", "", ""),
        ("update saved", "update", "update"),
        changes=True,
    ),
    "awareness": Kind(presence, ("presence", "presence", "presence"), ("presence", "presence", "presence")),
    "query awareness": Kind(lambda _: b"\x03", ("presence", "", ""), ("presence", "", "")),
    "stateless": Kind(lambda _: b"\x05" + var_string("hello"), NOTHING, ("", "", "stateless")),
    "broadcast stateless": Kind(lambda _: b"\x06" + var_string("hello"), NOTHING, NOTHING),
    "sync reply": Kind(lambda t: b"\x04" + protocol.encode_update(new(t))[1:], NOTHING, NOTHING),
    "sync status": Kind(lambda _: b"\x08\x01", NOTHING, NOTHING),
    "close": Kind(lambda _: b"\x07", ("closed", "", ""), ("closed", "", ""), denied="closed"),
    "ping": Kind(lambda _: b"ping", ("pong", "", ""), ("pong", "", ""), denied="pong"),
    "pong": Kind(lambda _: b"pong", NOTHING, NOTHING),
    "unheard of": Kind(lambda _: b"\x2a\x01x", NOTHING, NOTHING),
}

NAMES: dict[bytes, str] = {
    b"\x00\x00": "step 1",
    b"\x00\x01": "step 2",
    b"\x00\x02": "update",
    b"\x01": "presence",
    b"\x05": "stateless",
    b"\x07": "closed",
    b"\x08\x00": "refused",
    b"\x08\x01": "saved",
    b"\x0a": "pong",
    b"\x66": "saved",
    b"\x02\x00": "denied",
    b"\x02\x01": "denied",
}


def named(messages: Sequence[bytes]) -> str:
    found = (next((name for start, name in NAMES.items() if m.startswith(start)), repr(m)) for m in messages)
    return " ".join(dict.fromkeys(found))


class Company:
    """A document with two who watch, one of each dialect, and one of whom it is not known yet."""

    def __init__(self, house: House, document: str, watchers: Sequence[Visitor]) -> None:
        self.house = house
        self.document = document
        self.watchers = watchers

    async def tell(self, visitor: Visitor, message: bytes) -> Heard:
        """Send a message and say what came of it."""
        heard = [len(one.heard) for one in (visitor, *self.watchers)]
        for raw, frame in ((b"ping", b"\x09"), (b"pong", b"\x0a")):
            if message == raw:
                await visitor.socket.send(frame)
                break
        else:
            await visitor.send(message)
        if message == STEP1:
            await visitor.until(lambda: visitor.heard[-1].startswith(b"\x00\x01"))
        elif message == b"\x07":
            await visitor.until(lambda: visitor.heard[-1].startswith(b"\x07"))
        elif message[:1] in (b"\x01", b"\x66"):  # presence is told a moment later
            await visitor.settle()
            if b"Canary" in message:
                for one in (visitor, *self.watchers):
                    await one.until(lambda one=one: any(b"Canary" in m for m in one.heard[-3:]))
        else:
            await visitor.settle()
        for watcher in self.watchers:
            await watcher.settle()
        mine, *theirs = (
            named(one.heard[at:]) for one, at in zip((visitor, *self.watchers), heard, strict=True)
        )
        return mine, theirs[0], theirs[1]


@asynccontextmanager
async def company(house: House, document: str) -> AsyncIterator[Company]:
    async with AsyncExitStack() as stack:
        watchers = []
        for hocuspocus in (False, True):
            watcher = Visitor(house.server, document, hocuspocus=hocuspocus, headers=house.root)
            watchers.append(await stack.enter_async_context(watcher))
            await watcher.settle()
        entry = var_uint(77) + b"\x01" + var_string('{"user":{"name":"Watcher"}}')
        await watchers[0].send(protocol.encode_awareness(b"\x01" + entry))
        for watcher in watchers:
            await watcher.until(lambda watcher=watcher: any(b"Watcher" in m for m in watcher.heard))
        yield Company(house, document, watchers)


def text_of(state: tuple[object, ...]) -> Text:
    """The document's text in a doc of one's own."""
    doc: Doc[Any] = Doc()
    assert isinstance(state[2], bytes)
    doc.apply_update(state[2])
    return doc.get("content", type=Text)


@pytest.mark.parametrize("role", ROLES[1:])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("hocuspocus", [False, True], ids=["y-websocket", "hocuspocus"])
def test_messages_are_taken_by_role(house: House, hocuspocus: bool, way: str, role: str) -> None:
    if way == "link" and role not in LINKED:
        return
    document = house.document()
    headers = house.credential(way, document, role)
    wrong: dict[str, object] = {}

    async def scenario() -> None:
        async with company(house, document) as others:
            before = house.state(document)
            for name, kind in (H_KINDS if hocuspocus else Y_KINDS).items():
                text = text_of(before)
                async with Visitor(house.server, document, hocuspocus=hocuspocus, headers=headers) as one:
                    await one.settle()
                    assert one.scope == (
                        ("read-write" if role in WRITERS else "readonly") if hocuspocus else ""
                    )
                    frame = kind.frame(text)
                    if frame == b"auth":
                        frame = b"\x02\x00\x00"
                    heard = await others.tell(one, frame)
                    assert one.closed is None, name
                expected = kind.writer if role in WRITERS else kind.reader
                # A merged frame of both may carry presence of who left before: it is no answer to this.
                if "presence" not in expected[1]:
                    heard = (heard[0], *(h.replace("presence", "").strip() for h in heard[1:]))
                if "presence" not in expected[0]:
                    heard = (heard[0].replace("presence", "").strip(), *heard[1:])
                if heard != expected:
                    wrong[name] = (heard, expected)
                after = house.state(document)
                if (after != before) != (kind.changes and role in WRITERS):
                    wrong[f"{name}, stored"] = (before, after)
                before = after

    asyncio.run(scenario())
    assert not wrong


@pytest.mark.parametrize("credential", ["role none", "none", *INVALID])
@pytest.mark.parametrize("hocuspocus", [False, True], ids=["y-websocket", "hocuspocus"])
def test_no_message_is_taken_without_a_right(house: House, hocuspocus: bool, credential: str) -> None:
    document = house.document()
    subjects = {role: house.member(document, role) for role in ROLES}
    before = house.state(document)
    wrong: dict[str, object] = {}

    async def knock(others: Company, name: str, kind: Kind, headers: Mapping[str, str], text: Text) -> None:
        frame = kind.frame(text)
        async with Visitor(house.server, document, hocuspocus=hocuspocus, headers=headers) as one:
            if not hocuspocus:
                await one.send(frame)
                code = (await one.ended())[0]
                if (code, one.heard) != (4403 if credential == "role none" else 4401, []):
                    wrong[name] = (code, one.heard)
                return
            reason = "forbidden" if credential == "role none" else "not-authenticated"
            if one.denied is None or not one.denied.startswith(f"{reason}: "):
                wrong[name] = one.denied
            one.heard.clear()
            if frame in (b"ping", b"pong"):
                await one.socket.send(b"\x09" if frame == b"ping" else b"\x0a")
            else:
                await one.send(b"\x02\x00\x00" if frame == b"auth" else frame)
                if frame == b"auth":
                    await one.until(lambda: one.heard)
            await one.socket.send(b"\x09")
            await one.until(lambda: one.heard and one.heard[-1] == b"\x0a")
            if (heard := named(one.heard)) != " ".join(dict.fromkeys(f"{kind.denied} pong".split())):
                wrong[name] = heard
            assert one.closed is None

    async def scenario() -> None:
        async with company(house, document) as others:
            text = text_of(before)
            for name, kind in (H_KINDS if hocuspocus else Y_KINDS).items():
                for role, subject in subjects.items():
                    if credential == "role none" and role != "none":
                        continue
                    if credential == "role none":
                        headers = bearer(signed(subject))
                    else:
                        headers = {} if credential == "none" else bearer(INVALID[credential](subject))
                    await knock(others, f"{role}: {name}", kind, headers, text)
            await asyncio.sleep(0.3)  # presence is told a moment later
            for watcher in others.watchers:
                heard = len(watcher.heard)
                await watcher.settle()
                assert watcher.heard[heard:] == [], "peers hear nothing"
                assert not any(b"Canary" in m for m in watcher.heard)

    asyncio.run(scenario())
    assert not wrong
    assert house.state(document) == before
