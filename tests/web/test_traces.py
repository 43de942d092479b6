"""Real histories typed through the server end in the text that their writers had."""

from __future__ import annotations

import asyncio
import os
import random
import secrets
import urllib.request
from collections.abc import Sequence
from functools import cache

import pytest
import replay
from replay import History, Step
from serverprocess import Server
from websockets.exceptions import ConnectionClosed
from yclient import Client, client

from collab import protocol
from collab.errors import Resync
from collab.update import state_vector

SEEDS = [int(os.environ["COLLAB_SEED"])] if "COLLAB_SEED" in os.environ else [1, 2, 3, 4, 5, 6]
PATIENCE = 120.0  # seconds; far beyond what any step takes

history = cache(replay.load)


def content(server: Server, document: str) -> tuple[int, str]:
    """The seq and the text, as the content API has them."""
    with urllib.request.urlopen(f"{server.url}/api/documents/{document}/content") as answer:
        return int(answer.headers["ETag"].strip('"')), answer.read().decode()


class Writer:
    """One writer of a history on one device: it types a keystroke only when it sees what the person saw
    then, over a line that delays, gathers and breaks at random."""

    def __init__(self, server: Server, document: str, steps: Sequence[Step], rng: random.Random) -> None:
        self.client = Client(server.ws_url, document)
        self.steps = steps
        self.rng = rng
        self.cuts = 0
        # Some devices are recognised when they come back, some are not.
        cookie = f"collab_guest={secrets.token_hex(16)}"
        self.options = {"additional_headers": {"Cookie": cookie}} if rng.random() < 0.5 else {}

    def sees(self, step: Step) -> bool:
        if not step.needs:
            return True
        clocks = state_vector(self.client.doc.get_state())
        return all(clocks.get(client, 0) >= clock for client, clock in step.needs.items())

    def type(self, at: int, count: int) -> list[bytes]:
        """Type up to ``count`` keystrokes from ``at`` on, into the device only; their updates."""
        typed: list[bytes] = []
        for step in self.steps[at : at + count]:
            if not self.sees(step):
                break
            self.client.doc.apply_update(step.update)
            typed.append(step.update)
        return typed

    async def run(self) -> None:
        rng, device = self.rng, self.client
        await device.open(**self.options)
        at = 0
        while at < len(self.steps):
            step = self.steps[at]
            await self.until_seen(step)
            typed = self.type(at, rng.choice((1, 2, 5, 20, 100, 400)))
            at += len(typed)
            messages = [protocol.encode_update(update) for update in typed]
            if rng.random() < 0.2:  # several messages in one frame
                messages = [b"".join(messages)]
            await self.send(messages)
            if rng.random() < 0.1:
                await asyncio.sleep(rng.random() * 0.02)
            if rng.random() < 0.03:
                device.abort()
                await device.ended()
                self.cuts += 1
                at += len(self.type(at, rng.choice((0, 1, 10, 200))))  # it types on, offline
                await device.open(**self.options)
        await self.saved()

    async def until_seen(self, step: Step) -> None:
        while True:
            try:
                return await self.client.until(lambda: self.sees(step), PATIENCE)
            except ConnectionError:
                await self.come_back()

    async def send(self, messages: list[bytes]) -> None:
        """Send, and come back as every Yjs client does when the server sends it away for a while."""
        try:
            await self.client.send(*messages)
        except ConnectionClosed:
            await self.come_back()

    async def saved(self) -> None:
        while True:
            try:
                return await self.client.saved(PATIENCE)
            except (ConnectionClosed, ConnectionError):
                await self.come_back()

    async def come_back(self) -> None:
        code, reason = await self.client.ended()
        assert code == Resync.close_code, reason
        await self.client.open(**self.options)


async def replay_together(server: Server, document: str, told: History, rng: random.Random) -> list[str]:
    """All writers at once, beside a reader; the texts of all of them and of a late joiner."""
    writers = [Writer(server, document, steps, random.Random(rng.random())) for steps in told.writers]
    async with client(server.ws_url, document) as reader:
        async with asyncio.TaskGroup() as tasks:
            for writer in writers:
                tasks.create_task(writer.run())
        assert sum(writer.cuts for writer in writers) > 5, "this seed cuts nothing"
        everyone = [reader, *(writer.client for writer in writers)]
        for one in everyone:
            await one.until(lambda one=one: str(one.text) == told.end)  # type: ignore[misc]
        async with client(server.ws_url, document) as late:
            texts = [str(one.text) for one in (*everyone, late)]
        for writer in writers:
            await writer.client.close()
    return texts


@pytest.mark.parametrize("seed", SEEDS)
def test_two_writers_with_delays_and_cuts_end_in_their_text_everywhere(server: Server, seed: int) -> None:
    print(f"seed {seed}; again: COLLAB_SEED={seed} pytest tests/web/test_traces.py")  # shown on failure
    told = history("friendsforever")
    texts = asyncio.run(replay_together(server, "two friends", told, random.Random(seed)))
    assert texts == [told.end] * 4
    if seed % 2:
        server.kill()
    else:
        assert server.stop() == 0
    server.start()
    assert content(server, "two%20friends")[1] == told.end


def test_a_paper_typed_keystroke_by_keystroke_ends_in_its_text(server: Server) -> None:
    told = history("automerge-paper")
    (steps,) = told.writers

    async def type_it() -> str:
        async with client(server.ws_url, "paper") as author, client(server.ws_url, "paper") as reader:
            for step in steps:
                author.doc.apply_update(step.update)
                await author.send(protocol.encode_update(step.update))
                await asyncio.sleep(0)  # a browser reads between two keystrokes
            await author.saved(PATIENCE)
            assert content(server, "paper") == (len(steps), told.end)  # acknowledged, so served
            await reader.until(lambda: str(reader.text) == told.end, PATIENCE)
            return str(author.text)

    assert asyncio.run(type_it()) == told.end
    server.kill()
    server.start()
    assert content(server, "paper") == (len(steps), told.end)
