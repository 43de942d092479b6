"""The honest beside an attack, and what shows how the server bears it."""

from __future__ import annotations

import asyncio
import re
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Self
from urllib.parse import quote

import replay
from serverprocess import Server
from yclient import client


class Bystander:
    """Someone who writes a real text in another room all the while, a word at a time, and waits for the
    acknowledgement of each."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.pid = server.pid
        self.saved = 0
        self.slowest = 0.0

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[Self]:
        async with client(self.server.ws_url, "healthy") as author:
            stop = asyncio.Event()

            async def write() -> str:
                written = ""
                for word in words():
                    if stop.is_set():
                        break
                    started = time.monotonic()
                    await author.insert(len(written), word)
                    written += word
                    await author.saved()
                    self.saved += 1
                    self.slowest = max(self.slowest, time.monotonic() - started)
                return written

            writing = asyncio.create_task(write())
            try:
                yield self
            finally:
                stop.set()
            written = await writing
            assert content(self.server, "healthy") == written
            assert author.closed is None
        self.check()

    def __str__(self) -> str:
        return f"beside it {self.saved} saves, the slowest {self.slowest:.2f} s"

    def check(self) -> None:
        assert self.server.alive, self.server.log.read_text()[-2000:]
        assert self.server.pid == self.pid


def words() -> Iterator[str]:
    """The words of a real text, again and again."""
    text = replay.load("automerge-paper").end
    while True:
        yield from re.findall(r"\s*\S+", text)


def content(server: Server, document: str) -> str:
    with urllib.request.urlopen(f"{server.url}/api/documents/{quote(document, safe='')}/content") as answer:
        text: str = answer.read().decode()
        return text


def head(server: Server, document: str) -> int:
    """The seq of the document's last entry."""
    with urllib.request.urlopen(f"{server.url}/api/documents/{quote(document, safe='')}/content") as answer:
        return int(answer.headers["ETag"].strip('"'))


def metric(server: Server, name: str) -> int:
    with urllib.request.urlopen(f"{server.url}/metrics") as answer:
        (value,) = re.findall(rf"(?m)^{name} (\S+)$", answer.read().decode())
        return int(float(value))


def resident(server: Server) -> int:
    """Bytes of memory of the server process."""
    (kilobytes,) = re.findall(r"VmRSS:\s+(\d+)", Path(f"/proc/{server.pid}/status").read_text())
    return int(kilobytes) << 10
