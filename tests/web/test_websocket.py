"""Rooms over real sockets: a real server, real clients."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import urllib.request
from contextlib import closing

import pytest
from serverprocess import PATIENCE, Server
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
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


def test_a_copy_of_what_was_reset_is_sent_away_before_anything_is_merged(server: Server) -> None:
    async def write() -> None:
        async with client(server.ws_url, "d") as a:
            await a.insert(0, "hello")
            await a.saved()

    def first(document: str, epoch: object) -> bytes:
        with connect(f"{server.ws_url}/ws/{document}?epoch={epoch}") as socket:
            frame = socket.recv(timeout=PATIENCE)
            assert isinstance(frame, bytes)
            return frame

    asyncio.run(write())
    with urllib.request.urlopen(f"{server.url}/api/documents/d") as answer:
        epoch = json.load(answer)["epoch"]
    step1 = b"\0\0"
    assert first("d", epoch).startswith(step1)
    assert first("nobody-has-made-it", epoch).startswith(step1)
    server.stop()
    with closing(sqlite3.connect(server.data / "collab.db")) as database, database:
        database.execute("UPDATE documents SET epoch = epoch + 1")
    server.start()
    assert first("d", epoch + 1).startswith(step1)
    for given, code in ((epoch, 4410), ("x", 4400), ("-1", 4400)):
        with pytest.raises(ConnectionClosed) as closed:
            first("d", given)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == code
