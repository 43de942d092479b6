"""Kill -9 of the client at random moments: what a call had returned from is there, once, here and there."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from serverprocess import PATIENCE, Server

from collab.client.blocking import Client

ROUNDS = 12

# Inserts and deletes words for ever; says so, to a pipe that outlives it, after each call has returned.
WRITER = """
import asyncio, os, random, sys
from collab.client import Client

url, path, name, number = sys.argv[1:]
rng = random.Random(int(number))

async def write():
    async with Client(url or None, path) as client:
        document = client.open(name)
        for n in range(10**9):
            text = document.text
            words = text.split()
            if len(words) > 4 and rng.random() < 0.25:
                word = rng.choice(words)
                at = text.index(word)
                os.write(1, f"? {word}\\n".encode())  # from now on it may be gone
                document.delete(at, at + len(word) + 1)
                os.write(1, f"- {word}\\n".encode())
            else:
                word = f"{name}.{number}.{n}🎉"
                at = rng.choice([0, len(text), text.find(" ") + 1])
                document.insert(at, word + " ")
                os.write(1, f"+ {word}\\n".encode())
            await asyncio.sleep(rng.choice([0, 0, 0.003]))

asyncio.run(write())
"""


@pytest.mark.parametrize("online", [False, True])
def test_what_a_call_had_returned_from_outlives_a_kill_5(
    shared_server: Server, tmp_path: Path, online: bool
) -> None:
    rng = random.Random(11)
    path = tmp_path / "a.db"
    name = f"kill-{online}"
    inserted: set[str] = set()
    asked: set[str] = set()  # to be deleted; either is right for one whose call had not returned
    deleted: set[str] = set()
    words: list[str] = []
    for number in range(ROUNDS):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, shared_server.url if online else "", str(path), name, str(number)],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
        )
        assert writer.stdout is not None
        said = writer.stdout.readline()
        assert said, "it began to write"
        time.sleep(rng.choice((0, 0.02, 0.1, 0.3)))
        writer.kill()
        said += writer.stdout.read()
        writer.wait()
        for line in said.decode().splitlines():
            kind, _, word = line.partition(" ")
            {"+": inserted, "?": asked, "-": deleted}[kind].add(word)
        with Client(None, path) as client:
            words = client.open(name).text.split()
        assert len(words) == len(set(words)), f"round {number}: a word is there twice"
        assert inserted - asked <= set(words), f"round {number}: lost {inserted - asked - set(words)}"
        assert not deleted & set(words), f"round {number}: a deletion was lost"
    assert len(inserted) > 3 * ROUNDS
    assert deleted
    if online:
        with Client(shared_server.url, path) as client, Client(shared_server.url) as other:
            document, copy = client.open(name), other.open(name)
            document.saved(timeout=PATIENCE)
            copy.until(lambda _: copy._document.text.split() == words, timeout=PATIENCE)
