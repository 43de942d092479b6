"""R26: what is secret, and what people write, stands in no log, no metric and no answer to somebody else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

import httpx
import pytest
from pycrdt import Doc
from serverprocess import Server
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed
from yclient import client

from collab import hocuspocus, protocol
from collab.protocol import var_string
from web import auth

SECRET = "canary-secret-0123456789-0123456789"
PASSWORD = "canary horse battery"
CANARY = "canary"


async def closed(url: str, *frames: bytes, **options: object) -> None:
    """Connect, send, and listen until nothing comes any more."""
    with suppress(ConnectionClosed, TimeoutError):  # it is refused, or there is nothing more to hear
        async with connect(url, **options) as socket, asyncio.timeout(1):  # type: ignore[arg-type]
            for frame in frames:
                await socket.send(frame)
            while True:
                await socket.recv()


def over_http(server: Server, tokens: dict[str, str]) -> tuple[str, list[str]]:
    """Succeed and fail with secrets in every place; the secret of a share link, and answers to strangers."""
    answers: list[str] = []
    good = tokens["good"]
    with httpx.Client(base_url=server.url, timeout=60) as http:
        for token in tokens.values():
            headers = {"Authorization": f"Bearer {token}"}
            body = {"name": f"doc-{token[-4:]}", "title": "canary title"}
            http.post("/api/documents", json=body, headers=headers)
            http.get("/api/documents?token=" + token)
            http.get("/api/documents/canary-name?q=canary", headers=headers)
            for name in ("\0", "%ff", "x" * 300):
                http.get(f"/api/documents/{name!r}/content", headers=headers)
        link = http.post(
            f"/api/documents/doc-{good[-4:]}/links",
            json={"password": PASSWORD},
            headers={"Authorization": f"Bearer {good}"},
        ).json()["url"].partition("#")[2]  # fmt: skip
        answers.append(http.post("/api/links/open", json={"secret": link, "password": "canary wrong"}).text)
        answers.append(http.post("/api/links/open", json={"secret": "link_canary", "password": "x"}).text)
        answers.append(http.post("/api/session", json={"email": "canary@x.org", "password": PASSWORD}).text)
        answers.append(http.post("/api/session", content=b'{"email": "canary", ').text)
        http.get("/api/me", headers={"Cookie": "collab_session=canary-session; collab_guest=canary-guest"})
    return link, answers


@pytest.mark.anyio
async def test_no_secret_and_no_text_is_ever_logged(make_server: Callable[..., Server]) -> None:
    server = make_server(secret=SECRET, log_level="debug", guests="editor")
    good = auth.issue(SECRET, "ada", audience="collab", seconds=3600, name="canary name")
    bad = good[:-8] + "canaryXX"
    tokens = {"good": good, "bad": bad, "garbage": "canary.garbage.token"}
    link, answers = await asyncio.to_thread(over_http, server, tokens)
    for token in (*tokens.values(), link):
        await closed(f"{server.ws_url}/ws/seen?token={token}", b"\x00\x02\x7fcanary")
        await closed(f"{server.ws_url}/ws/seen", subprotocols=["collab", f"bearer.{token}"])
        await closed(f"{server.ws_url}/ws/seen", additional_headers={"Authorization": f"Bearer {token}"})
        key = var_string("seen")
        await closed(
            f"{server.ws_url}/ws",
            key + b"\x02\x00" + var_string(token),
            key + protocol.encode_awareness(b"\x01\x01\x01" + var_string('{"user":"canary"}')),
            key + b"\x05" + var_string("canary stateless"),
            key + protocol.encode_update(b"canary"),
        )
        await closed(f"{server.ws_url}/ws", hocuspocus.PING, b"canary")
    doc: Doc[object] = Doc()
    async with client(server.ws_url, "written", doc) as writer:
        await writer.insert(0, "canary in the text")
        await writer.saved()
    metrics = (await asyncio.to_thread(httpx.get, f"{server.url}/metrics", timeout=60)).text
    assert await asyncio.to_thread(server.stop) == 0
    log = server.log.read_text()
    assert len(log) > 200, "there is something to look at"
    for text in (log, metrics, *answers):
        found = [line for line in text.splitlines() if CANARY in line.lower()]
        assert not found, found[:3]
        assert not any(token in text for token in (*tokens.values(), link, SECRET))


def test_the_database_holds_no_secret_that_lets_somebody_in(make_server: Callable[..., Server]) -> None:
    server = make_server(secret=SECRET)
    token = auth.issue(SECRET, "ada", audience="collab", seconds=3600)
    bearer = {"Authorization": f"Bearer {token}"}
    with httpx.Client(base_url=server.url, headers=bearer, timeout=60) as http:
        http.post("/api/documents", json={"name": "plan"})
        made = http.post("/api/documents/plan/links", json={"password": PASSWORD}).json()
    link = made["url"].partition("#")[2]
    asyncio.run(closed(f"{server.ws_url}/ws/plan?token={token}"))
    assert server.stop() == 0
    stored = b"".join(file.read_bytes() for file in server.data.glob("collab.db*"))
    assert made["id"].encode() in stored
    for secret in (link, link.removeprefix("link_"), PASSWORD, SECRET, token):
        assert secret.encode() not in stored
