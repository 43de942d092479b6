"""R26: what is secret, and what people write, is in no log, no error, no metric; secrets in no database.

A canary goes in by every door that there is, at the highest log level, through successes, refusals and
crashes; then everything that came out is searched for it, in every form in which it might hide.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import jwt
import pytest
from serverprocess import Server, reserve_port
from visitor import STEP1, Visitor, bearer, token
from yclient import client

from collab import protocol
from collab.protocol import var_string, var_uint
from web import auth, cli

SECRET = "canary-server-secret-0123456789abcdef"
PASSWORD = "canary-password-aa11"
CONTENT = "canary-content-bb22"
TITLE = "canary-title-cc33"
LABEL = "canary-label-dd44"
PRESENCE = "canary-presence-ee55"
STATELESS = "canary-stateless-ff66"
QUERY = "canary-query-gg77"


def forms(canary: str) -> set[bytes]:
    """A canary as it is, and as it may have been written down."""
    raw = canary.encode()
    found = {raw, raw.hex().encode(), quote(canary, safe="").encode(), repr(canary)[1:-1].encode()}
    for shift in range(3):  # in the middle of base64
        coded = base64.b64encode(b"\0" * shift + raw).rstrip(b"=")
        found.add(coded[-(-shift * 4 // 3) + 1 : -1])
    return found


class Everything:
    """All canaries that went in, and all that came out."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.secrets: set[str] = {SECRET, PASSWORD}  # nowhere, and not in the database
        self.private = {CONTENT, TITLE, LABEL, PRESENCE, STATELESS, QUERY}  # in no log and no metric
        self.errors: list[str] = []  # bodies of refusals, close reasons

    def secret(self, text: str) -> str:
        """Note a secret; of a token its signature, which makes it one."""
        self.secrets.add(text.rpartition(".")[2] if text.count(".") == 2 else text)
        return text

    def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        # A connection each: a crash ends it.
        answer = httpx.request(method, self.server.url + path, **options)
        if answer.status_code >= 400:
            self.errors.append(answer.text + str(answer.headers))
        return answer

    async def knock(self, visitor: Visitor, *messages: bytes) -> None:
        async with visitor as one:
            await one.send(*messages)
            if one.denied is None:
                await one.settle()
            self.errors += [str(one.closed), str(one.denied)]


def found_in(data: bytes, canaries: set[str]) -> set[str]:
    return {canary for canary in canaries if any(form in data for form in forms(canary))}


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Everything]:
    server = Server(
        tmp_path_factory.mktemp("secrets"),
        secret=SECRET,
        log_level="debug",
        sign_ins_per_address=100_000,
        document_bytes=100_000,
        connections_per_actor=4,
    )
    server.start()
    made = Everything(server)
    succeed(made)
    refuse(made)
    asyncio.run(break_things(made))
    made.metrics = httpx.get(f"{server.url}/metrics").content  # type: ignore[attr-defined]
    server.stop()
    yield made
    if server.alive:
        server.kill()


def signed(everything: Everything, subject: str = "ada", **claims: object) -> str:
    return everything.secret(token(subject, secret=SECRET, **claims))


def succeed(everything: Everything) -> None:
    good = signed(everything)
    headers = bearer(good)
    ask = everything.ask
    assert (
        ask("POST", "/api/documents", headers=headers, json={"name": "d", "title": TITLE}).status_code == 201
    )
    assert ask("PATCH", "/api/documents/d", headers=headers, json={"title": TITLE}).status_code == 200
    assert ask("GET", f"/api/documents?q={QUERY}", headers=headers).status_code == 200
    link = ask(
        "POST",
        "/api/documents/d/links",
        headers=headers,
        json={"label": LABEL, "password": PASSWORD, "role": "editor"},
    ).json()
    secret = everything.secret(link["url"].partition("#")[2])
    bare = everything.secret(
        ask("POST", "/api/documents/d/links", headers=headers, json={}).json()["url"].partition("#")[2]
    )
    page = ask("GET", "/d/d")
    cookie = everything.secret(page.cookies["collab_guest"])
    opened = ask(
        "POST",
        "/api/links/open",
        headers={"Cookie": f"collab_guest={cookie}"},
        json={"secret": secret, "password": PASSWORD},
    )
    assert opened.status_code == 200
    assert ask("GET", "/api/documents/d", headers=bearer(bare)).status_code == 200
    invitation = subprocess.run(
        [sys.executable, "-m", "web", "invite", "ada@example.org", f"--data={everything.server.data}"],
        capture_output=True,
        text=True,
        env={**os.environ, "COLLAB_SECRET": SECRET},
        check=True,
    ).stdout.strip()
    new = {"invitation": everything.secret(invitation.partition("#")[2]), "password": PASSWORD}
    joined = ask("POST", "/api/accounts", json=new)
    assert joined.status_code == 201, joined.text
    account = everything.secret(joined.cookies["collab_session"])
    assert ask("GET", "/api/me", headers={"Cookie": f"collab_session={account}"}).json()["signed_in"]
    given = {"email": "ada@example.org", "password": PASSWORD}
    everything.secret(ask("POST", "/api/session", json=given).cookies["collab_session"])
    operator = everything.secret(auth.issue_operator(SECRET, 600))
    assert ask("GET", "/api/accounts", headers=bearer(operator)).status_code == 200

    async def sockets() -> None:
        server = everything.server
        async with client(server.ws_url, "d", additional_headers=headers) as one:
            await one.insert(0, CONTENT)
            await one.saved()
        state = json.dumps({"user": {"name": PRESENCE}}).encode()
        presence = protocol.encode_awareness(b"\x01\x07\x01" + var_uint(len(state)) + state)
        stateless = b"\x05" + var_string(STATELESS)
        await everything.knock(Visitor(server, "d", headers={"Cookie": f"collab_guest={cookie}"}), presence)
        await everything.knock(Visitor(server, "d", headers={"Cookie": f"collab_session={account}"}))
        for given in (good, secret, bare):
            for options in (
                {"query": f"?token={given}"},
                {"headers": bearer(given)},
                {"subprotocols": [f"bearer.{given}"]},
                {"subprotocols": ["collab", f"bearer.{given}"]},
                {"hocuspocus": True, "token": given},
            ):
                await everything.knock(Visitor(server, "d", **options), presence, stateless)

    asyncio.run(sockets())


def refuse(everything: Everything) -> None:
    """Every credential by every way, once it is good for nothing."""
    ask, server = everything.ask, everything.server
    bad = [
        signed(everything, exp=1),
        signed(everything, aud="canary-audience"),
        signed(everything, kind="canary-kind"),
        signed(everything, documents={"d": "canary-role"}),
        everything.secret(token(secret="another secret of canaries, of 32 bytes")),
        everything.secret("canary-token-hh88"),
        everything.secret("link_canary-link-ii99"),
        everything.secret("canary.token.jj00-signature"),
        everything.secret(
            jwt.encode(
                {"sub": "x"}, "k" * 32, headers={"crit": ["canary-crit-kk11"], "kid": "canary-kid-ll22"}
            )
        ),
    ]
    for given in bad:
        for method, path in (
            ("GET", "/api/documents/d"),
            ("GET", "/api/documents"),
            ("GET", f"/api/documents/d?token={given}"),
            ("DELETE", "/api/documents/d"),
            ("GET", "/api/accounts"),
        ):
            ask(method, path, headers=bearer(given))
        ask("GET", "/api/documents/d", headers={"Cookie": f"collab_guest={given}; collab_session={given}"})
        ask("POST", "/api/links/open", json={"secret": given, "password": PASSWORD})
        ask("POST", "/api/accounts", json={"invitation": given, "password": PASSWORD})
        ask(
            "POST",
            "/api/session",
            json={"email": "ada@example.org", "password": everything.secret(given[::-1])},
        )
        ask("GET", f"/{quote(given)}")
        ask("GET", f"/s?{given}")

        async def sockets(given: str = given) -> None:
            for options in (
                {"query": f"?token={quote(given)}"},
                {"headers": bearer(given)},
                {"subprotocols": [f"bearer.{given}"]},
                {"headers": {"Cookie": f"collab_guest={given}; collab_session={given}"}},
                {"hocuspocus": True, "token": given},
                {"query": f"?token={quote(given)}", "origin": "https://evil.example"},
            ):
                await everything.knock(Visitor(server, "d", **options))

        asyncio.run(sockets())
    everything.secrets.discard("")
    headers = bearer(signed(everything, "eve"))
    for body in ({"title": TITLE * 50}, {"title": [TITLE]}, {"titel": TITLE}, [TITLE], TITLE):
        ask("PATCH", "/api/documents/d", headers=bearer(signed(everything)), json=body)
    ask("PATCH", "/api/documents/d", headers=headers, json={"title": TITLE})
    ask("POST", "/api/documents", headers=headers, json={"name": "d", "title": TITLE})
    ask("POST", "/api/links/open", json={"secret": "x" * 300 + PASSWORD, "password": PASSWORD * 100})
    ask("POST", "/api/session", json={"email": PASSWORD, "password": PASSWORD})
    ask(
        "POST",
        "/api/session",
        content=f'{{"password": "{PASSWORD}"',
        headers={"Content-Type": "application/json"},
    )
    ask("PUT", "/api/me/password", json={"current": PASSWORD, "password": PASSWORD})


async def break_things(everything: Everything) -> None:
    """Frames and requests that are none, connections that break off, documents that are full."""
    server, good = everything.server, signed(everything)
    for frame in (
        CONTENT.encode(),
        b"\x00\x02" + CONTENT.encode(),
        b"\x00\x02" + var_string(CONTENT),
        b"\x01" + var_string(PRESENCE),
        b"\x00\x00" + var_string(CONTENT),
        b"\x05" + var_string(STATELESS),
    ):
        await everything.knock(Visitor(server, "d", headers=bearer(good)), frame)
        await everything.knock(Visitor(server, "d", hocuspocus=True, token=good), frame)
    large = protocol.encode_update(_typed(CONTENT * 10_000))
    await everything.knock(Visitor(server, "d", headers=bearer(good)), large)
    await everything.knock(Visitor(server, "d", hocuspocus=True, token=good), large)
    crowd = [Visitor(server, "d", headers=bearer(good)) for _ in range(6)]
    for one in crowd:
        await one.__aenter__()
    for one in crowd:
        await one.settle()
        everything.errors.append(str(one.closed))
        one.abort()
    for head in (
        f"GET /ws/d?token={good} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        f"GET /ws/d?token={good} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Version: 12\r\nSec-WebSocket-Key: x\r\n\r\n",
        f"GET /ws/d?token={good}\x00 HTTP/1.1\r\n\r\n",
        f"GARBAGE {good} {PASSWORD}\r\n\r\n",
        f"GET / HTTP/1.1\r\nAuthorization: Bearer {good}\r\nContent-Length: x\r\n\r\n",
        f"GET / HTTP/1.1\r\nCookie: {good}\r\n" + f"X: {PASSWORD}\r\n" * 200 + "\r\n",
        f"POST /api/session HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{PASSWORD}",
    ):
        with socket.create_connection(("127.0.0.1", server.port)) as raw:
            raw.sendall(head.encode())
            raw.shutdown(socket.SHUT_WR)
            raw.settimeout(10)
            try:
                while data := raw.recv(65536):
                    everything.errors.append(data.decode("latin-1").partition("\r\n\r\n")[2])
            except OSError:
                pass


def _typed(text: str) -> bytes:
    from pycrdt import Doc, Text

    doc: Doc[Any] = Doc()
    doc.get("content", type=Text).insert(0, text)
    return doc.get_update()


def test_enough_happened_for_a_leak_to_show(everything: Everything) -> None:
    log = everything.server.log.read_text()
    assert "refused" in log
    assert len(everything.errors) > 200
    assert len(everything.secrets) > 25


def test_the_log_holds_no_secret_and_nothing_that_people_write(everything: Everything) -> None:
    log = everything.server.log.read_bytes()
    assert found_in(log, everything.secrets | everything.private) == set()
    assert b"canary" not in log


def test_errors_repeat_no_secret_and_metrics_nothing_at_all(everything: Everything) -> None:
    errors = "\n".join(everything.errors).encode()
    assert found_in(errors, everything.secrets | everything.private) == set()
    assert b"canary" not in everything.metrics  # type: ignore[attr-defined]


def test_the_database_holds_no_secret(everything: Everything) -> None:
    files = [path for path in everything.server.data.iterdir() if path.name.startswith("collab.db")]
    stored = b"".join(path.read_bytes() for path in files)
    assert found_in(stored, {TITLE, CONTENT, LABEL}) == {TITLE, CONTENT, LABEL}, "it is the right file"
    assert found_in(stored, everything.secrets) == set()


def test_nothing_is_left_lying_about(everything: Everything) -> None:
    assert {path.name for path in everything.server.data.iterdir()} <= {
        "collab.db",
        "collab.db-wal",
        "collab.db-shm",
        "collab.db.lock",
        "server.log",
    }


# --- at the start and in the worst case --------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://canary-user:{}@127.0.0.1:{port}/none",
        "postgresql://canary-user:{}@127.0.0.1:notaport/none",
        "postgresql://canary-user:{}@/none?host=/nowhere",
        "postgresql+unheard://u:{}@h/n",
        "mysql://u:{}@h/n",
        "postgresql://u:{}@[::1/n",
    ],
)
@pytest.mark.parametrize("command", ["serve", "migrate"])
def test_a_database_s_password_is_not_in_what_is_said_when_it_cannot_be_reached(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    command: str,
    url: str,
) -> None:
    nobody = reserve_port()
    port = nobody.getsockname()[1]
    monkeypatch.setenv("COLLAB_DATABASE_URL", url.format("canary-dsn-password", port=port))
    try:
        status = cli.main([command, f"--data={tmp_path}", "--log-level=debug"])
    except SystemExit as end:
        status = int(str(end.code))
    said = capsys.readouterr()
    assert status in (1, 2)
    assert said.err.strip()
    assert "Traceback" not in said.err
    assert "canary-dsn-password" not in said.err + said.out + caplog.text


def test_a_crash_in_a_request_tells_nobody_what_it_held(
    make_server: Callable[..., Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A table taken away under the server: every request fails, with a traceback in the log."""
    import sqlite3

    server = make_server(secret=SECRET, log_level="debug")
    good = token(secret=SECRET)
    httpx.post(f"{server.url}/api/documents", headers=bearer(good), json={"name": "d", "title": TITLE})
    with sqlite3.connect(server.data / "collab.db") as database:
        database.execute("ALTER TABLE members RENAME TO gone")
    told = []
    for method, path, body in (
        ("GET", "/api/documents/d", None),
        ("GET", f"/api/documents?q={QUERY}", None),
        ("POST", "/api/documents", {"name": "e", "title": TITLE}),
        ("PATCH", "/api/documents/d", {"title": TITLE}),
    ):
        answer = httpx.request(method, server.url + path, headers=bearer(good), json=body)
        told.append(answer.text)
        if answer.status_code >= 500:
            assert answer.json()["code"] in ("internal", "storage-unavailable", "corrupt-log")

    async def sockets() -> None:
        for options in ({"query": f"?token={good}"}, {"hocuspocus": True, "token": good}):
            try:
                async with Visitor(server, "d", **options) as one:
                    await one.send(STEP1)
                    told.append(str(await one.ended()))
            except Exception as error:  # closed in the middle of the handshake
                told.append(str(error))

    asyncio.run(sockets())
    server.signal(signal.SIGTERM)
    server.stop()
    log = server.log.read_bytes()
    assert b"Traceback" in log
    canaries = {good.rpartition(".")[2], SECRET, TITLE, QUERY}
    assert found_in("\n".join(told).encode(), canaries) == set()
    assert found_in(log, canaries) == set()


def test_settings_do_not_show_their_secrets() -> None:
    from web.settings import Settings

    shown = repr(
        Settings(
            secret=SECRET,
            database_url="postgresql://u:canary-dsn@h/n",
            oidc_client_secret="canary-oidc",
            jwks="https://u:canary-jwks@h/k",
        )
    )
    assert "canary" not in shown


def test_names_that_hold_line_breaks_forge_no_line_of_the_log(make_server: Callable[..., Server]) -> None:
    server = make_server(log_level="debug")
    name = "x\n2026-01-01 00:00:00,000 ERROR collab: FORGED\r\x1b[31m"

    async def scenario() -> None:
        async with Visitor(server, name) as one:
            await one.send(b"\x00\x02\x01\x01")
            await one.ended()

    asyncio.run(scenario())
    server.stop()
    log = server.log.read_text()
    assert "FORGED" in log, "it is logged"
    assert not re.search(r"(?m)^2026-01-01 00:00:00,000 ERROR", log)
    assert "\x1b" not in log


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (f"GET /ws/d?token={'x' * 9}&y=1", "GET /ws/d?token=[secret]&y=1"),
        ("Authorization: Bearer canary", "Authorization: Bearer [secret]"),
        ("subprotocol bearer.canary, collab", "subprotocol bearer.[secret] collab"),
        ("got " + jwt.encode({"sub": "x"}, "k" * 32) + " there", "got [secret] there"),
        ("opened link_0123456789abcdefghij-_ here", "opened [secret] here"),
        ("postgresql://ada:canary@host/name", "postgresql://[secret]@host/name"),
        ("user:ada and token bucket of link_1", "user:ada and token bucket of link_1"),
        ("a\nb\x1b[31m\x85", "a\\x0ab\\x1b[31m\\x85"),
    ],
)
def test_whoever_logs_a_secret_it_is_not_written(said: str, shown: str) -> None:
    record = logging.LogRecord("x", logging.INFO, "", 0, "%s", (said,), None)
    assert cli.Formatter("%(message)s").format(record) == shown
