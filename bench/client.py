"""What it takes to be in step again after a week away: bytes and time of the Python client, of pycrdt's own
provider, and of moving the whole document.

    .venv/bin/python bench/client.py [--others 1000] [--own 500] [--rounds 3]
    COLLAB_TRACES=DIR .venv/bin/python bench/client.py --others 200000

All three begin with the same copy of a real paper, in which they have typed ``--own`` characters offline, and
end when they have what others typed meanwhile and the server has said that theirs is on its disk. Server and
clients share the machine; the server is fresh for each round. The provider is the one of pycrdt (before
0.12 it was pycrdt-websocket's); it keeps nothing by itself, so its copy is loaded from one update. It has no
word for "saved": message 102 is sent for it.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any, NamedTuple

from pycrdt import Doc, Provider, Text
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from replay import load
from serverprocess import Server

from collab import protocol
from collab.client import Client

NAME = "paper"


class Cost(NamedTuple):
    sent: int
    received: int
    seconds: float


class Wire:
    """A socket of the y-websocket protocol that counts, as the channel that pycrdt's provider wants."""

    def __init__(self, socket: ClientConnection) -> None:
        self.path = NAME
        self.sent = self.received = 0
        self.answered = asyncio.Event()  # the server's step 1 has its answer
        self.told = asyncio.Event()  # and it has given its own
        self.saved = asyncio.Event()
        self._socket = socket

    async def send(self, message: bytes) -> None:
        self.sent += len(message)
        await self._socket.send(message)
        if message[:2] == b"\0\1":
            self.answered.set()

    async def recv(self) -> bytes:
        while True:
            message = await self._socket.recv()
            assert isinstance(message, bytes)
            self.received += len(message)
            if message[0] == protocol.SYNC_STATUS:
                self.saved.set()
                continue
            if message[:2] == b"\0\1":
                self.told.set()
            return message

    def __aiter__(self) -> Wire:
        return self

    async def __anext__(self) -> bytes:
        try:
            return await self.recv()
        except ConnectionClosed:
            raise StopAsyncIteration from None

    async def ask_saved(self) -> None:
        await self.send(protocol.encode_sync_status(b""))
        await self.saved.wait()


async def by_client(server: Server, file: Path, _: bytes, __: int) -> Cost:
    began = perf_counter()
    async with Client(server.url, file) as client:
        document = client.open(NAME)
        await asyncio.gather(document.live(), document.saved())
        taken = perf_counter() - began
        return Cost(*client.traffic, taken)


async def by_provider(server: Server, _: Path, copy: bytes, length: int) -> Cost:
    began = perf_counter()
    doc: Doc[Any] = Doc()
    doc.apply_update(copy)
    async with connect(f"{server.ws_url}/ws/{NAME}", max_size=None, compression=None) as socket:
        wire = Wire(socket)
        async with Provider(doc, wire):
            await wire.answered.wait()
            await wire.told.wait()
            await wire.ask_saved()
            arrived = asyncio.Event()  # it applies in a task of its own
            text = doc.get("content", type=Text)
            doc.observe(lambda _: len(text) == length and arrived.set())
            if len(text) != length:
                await arrived.wait()
            cost = Cost(wire.sent, wire.received, perf_counter() - began)
            await socket.close()
    return cost


async def by_whole_document(server: Server, _: Path, copy: bytes, length: int) -> Cost:
    """As who knows nothing of state vectors: all of it, both ways."""
    began = perf_counter()
    doc: Doc[Any] = Doc()
    doc.apply_update(copy)
    async with connect(f"{server.ws_url}/ws/{NAME}", max_size=None, compression=None) as socket:
        wire = Wire(socket)
        await wire.send(protocol.encode_step1(b"\0"))
        await wire.send(protocol.encode_step2(doc.get_update()))
        while not wire.told.is_set():
            for message in protocol.decode(await wire.recv()):
                if isinstance(message, protocol.SyncStep2 | protocol.Update):
                    doc.apply_update(message.update)
        asking = asyncio.create_task(wire.ask_saved())
        listening = asyncio.create_task(_listen(wire))
        await asking
        listening.cancel()
        assert len(doc.get("content", type=Text)) == length
        return Cost(wire.sent, wire.received, perf_counter() - began)


async def _listen(wire: Wire) -> None:
    async for _ in wire:
        pass


CLIENTS: dict[str, Callable[[Server, Path, bytes, int], Awaitable[Cost]]] = {
    "collab.client": by_client,
    "pycrdt Provider": by_provider,
    "whole document": by_whole_document,
}


async def measure(name: str, others: int, own: int) -> Cost:
    updates = [step.update for step in load("automerge-paper").writers[0]]
    before, after = updates[:-others], updates[-others:]
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder))
        server.start()
        file = Path(folder, "away.db")
        try:
            async with Client(server.url, power_safe=False) as client:
                document = client.open(NAME)
                await _type(document.doc, before)
                await document.saved()
                async with Client(server.url, file, power_safe=False) as away:
                    await away.open(NAME).live()
                await _type(document.doc, after)
                await document.saved()
                length = len(document) + own  # the paper is ASCII
            async with Client(None, file, power_safe=False) as away:
                copied = away.open(NAME)
                middle = len(copied) // 2
                for n in range(own):
                    copied.insert(middle + n, "away "[n % 5])
                copy = copied.state()
            return await CLIENTS[name](server, file, copy, length)
        finally:
            server.kill()


async def _type(doc: Doc[Any], updates: list[bytes]) -> None:
    for at in range(0, len(updates), 10_000):
        with doc.transaction():
            for update in updates[at : at + 10_000]:
                doc.apply_update(update)
        await asyncio.sleep(0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--others", type=int, default=1000, help="keystrokes of others meanwhile")
    parser.add_argument("--own", type=int, default=500, help="characters typed offline")
    parser.add_argument("--rounds", type=int, default=3)
    parsed = parser.parse_args()
    print(f"{parsed.others} keystrokes of others, {parsed.own} of our own; medians of {parsed.rounds}")
    print(f"{'':18}{'bytes sent':>12}{'received':>12}{'ms':>9}")
    for name in CLIENTS:
        costs = [asyncio.run(measure(name, parsed.others, parsed.own)) for _ in range(parsed.rounds)]
        sent, received, seconds = (median(one[field] for one in costs) for field in range(3))
        print(f"{name:18}{sent:>12,.0f}{received:>12,.0f}{1000 * seconds:>9.0f}")


if __name__ == "__main__":
    main()
