"""What was written is found a while later, whatever happens in between."""

from __future__ import annotations

import asyncio
import random
import sqlite3
import time
from typing import Any

import httpx
import pytest
from pycrdt import Doc, Map, Text
from serverprocess import PATIENCE, Server
from yclient import client

from collab import document
from web.indexer import texts


def write(server: Server, name: str, text: str) -> None:
    async def run() -> None:
        async with client(server.ws_url, name) as one:
            await one.insert(0, text)
            await one.saved()

    asyncio.run(run())


def found(server: Server, query: str) -> dict[str, Any]:
    """Names and snippets."""
    answer = httpx.get(f"{server.url}/api/documents", params={"q": query}).json()
    return {listed["name"]: listed["snippet"] for listed in answer["documents"]}


def finds(server: Server, query: str, *names: str) -> dict[str, Any]:
    until = time.monotonic() + PATIENCE
    while set(shown := found(server, query)) != set(names):
        assert time.monotonic() < until, (query, shown)
        time.sleep(0.1)
    return shown


def test_what_is_written_renamed_deleted_and_brought_back_is_found_as_it_is(server: Server) -> None:
    write(server, "plan", "Bring a lantern, the cellar is dark.\n")
    shown = finds(server, "lantern cellar", "plan")
    assert shown["plan"] == {
        "text": "Bring a lantern, the cellar is dark.",
        "marks": [[8, 15], [21, 27]],
    }
    path = f"{server.url}/api/documents/plan"
    httpx.patch(path, json={"title": "Évening"}).raise_for_status()
    assert finds(server, "evening", "plan")["plan"] is None
    httpx.delete(path).raise_for_status()
    finds(server, "lantern")
    httpx.patch(path, json={"deleted": False}).raise_for_status()
    finds(server, "lantern", "plan")
    write(server, "large", "word " * 50_000 + "haystack")  # by way of the process
    finds(server, "haystack", "large")


def test_an_index_that_was_lost_is_made_again_and_what_a_crash_left_out_is_taken_in(server: Server) -> None:
    write(server, "kept", "a lantern")
    finds(server, "lantern", "kept")
    write(server, "missed", "another lantern")
    server.kill()
    with sqlite3.connect(server.data / "collab.db") as database:
        database.execute("DELETE FROM words")
        database.execute("DELETE FROM indexed")
    server.start()
    finds(server, "lantern", "kept", "missed")


@pytest.mark.parametrize("seed", range(20))
def test_texts_of_all_roots_are_read_from_snapshots_and_updates(seed: int) -> None:
    chance = random.Random(seed)
    docs: list[Doc[Any]] = [Doc(client_id=n + 1) for n in range(3)]
    log: list[bytes] = []
    for doc in docs:
        doc["content"], doc["notes"], doc["settings"] = Text(), Text(), Map()
        doc.observe(lambda event: log.append(event.update))
    for _ in range(60):
        doc = chance.choice(docs)
        text = doc[chance.choice(["content", "content", "notes"])]
        if (size := len(str(text))) and chance.random() < 0.4:
            start = chance.randrange(size)
            del text[start : min(size, start + chance.randint(1, 5))]
        else:
            text.insert(chance.randint(0, size), chance.choice("abc ") * chance.randint(1, 6))
        doc["settings"]["theme"] = "dark"
        if chance.random() < 0.3:
            for other in docs:
                other.apply_update(doc.get_update(other.get_state()))
    whole = document.build(log)
    expected = [str(whole.get(root, type=Text)) for root in ("content", "notes")]
    half = len(log) // 2
    base = document.snapshot(log[:half], None, verbatim=False)
    assert texts(log) == texts([base, *log[half:]]) == expected


def test_a_document_that_is_no_text_has_none() -> None:
    doc: Doc[Any] = Doc()
    doc["content"] = Map({"a": Text("within")})
    assert texts([doc.get_update()]) == []
    assert texts([]) == []
