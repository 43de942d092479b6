"""Rooms over real sockets: a real server, real clients."""

from __future__ import annotations

import asyncio
import urllib.request

from serverprocess import Server
from yclient import client


def content(server: Server, document: str) -> str:
    with urllib.request.urlopen(f"{server.url}/api/documents/{document}/content") as answer:
        text: str = answer.read().decode()
        return text


def test_two_clients_see_each_other_and_a_restart_keeps_the_text(server: Server) -> None:
    async def write() -> None:
        async with client(server.ws_url, "d") as a, client(server.ws_url, "d") as b:
            await a.insert(0, "hello")
            await a.saved()
            await b.until(lambda: str(b.text) == "hello")
            await b.insert(5, " world")
            await a.until(lambda: str(a.text) == "hello world")

    asyncio.run(write())
    assert content(server, "d") == "hello world"
    assert server.stop() == 0
    server.start()
    assert content(server, "d") == "hello world"
