"""Kill -9 of the server and of its writers at random moments: what was acknowledged is there, once.

    python tests/crash.py --rounds 2000 [--edits N] [--seed N] [--database-url postgresql:///an_empty_database]

Each round starts the server on what the last crash left, lets 20 writers insert and delete unique tokens
in five documents, and kills both sides at a random moment; sometimes the server alone first, so that the
writers come back with their edits, sometimes while it is still starting. A writer notes what was
acknowledged through a file descriptor, so the note outlives it. Then, of every document: the log is
without gaps and damage; the text that the whole log makes holds every acknowledged insertion exactly
once and no acknowledged deletion; the restarted server serves that text. Exits with 1 at the first loss
and keeps the data.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
import urllib.error
import urllib.request
from collections import Counter, deque
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from pycrdt import Text
from serverprocess import PATIENCE, reserve_port
from websockets.exceptions import WebSocketException
from yclient import Client

import collab.hub
import storage.log
import web.server  # noqa: F401  here, since a command imports what it needs only when it runs
from collab import document, protocol
from storage.database import Database
from storage.log import UpdateLog
from web import cli

WRITERS = 20
DOCUMENTS = 5
ROUNDS_PER_ERA = 10  # then new documents, lest the rounds grow slower
LIFE = 0.4  # seconds; the longest time from the start of the writers to the kill
OUTSTANDING = 200  # edits a writer sends without being acknowledged
TOKEN = 12  # bytes of a token; every position in a text that is a multiple of it lies between two


class Loss(AssertionError):
    """The promise was broken; the text says how."""


# --- the writers' process ----------------------------------------------------------------------------


class Recorder(Client):
    """A client that notes what is acknowledged the moment it hears of it."""

    def __init__(self, url: str, name: str, notes: int) -> None:
        super().__init__(url, name)
        self.name = name
        self.notes = notes
        self.sent: deque[tuple[int, str]] = deque()  # the ``ask`` that will confirm it, and its note

    async def _take(self, frame: bytes) -> None:
        await super()._take(frame)
        known = []
        while self.sent and self.sent[0][0] <= self.acknowledged:
            known.append(self.sent.popleft()[1])
        self.note(known)

    def note(self, lines: list[str]) -> None:
        if lines:
            os.write(self.notes, "".join(f"{self.name} {line}\n" for line in lines).encode())


async def write(url: str, name: str, writer: str, notes: int, rng: random.Random) -> NoReturn:
    """Insert and delete tokens for ever; when the server is gone, come back with what was typed."""
    client = Recorder(url, name, notes)
    number = 0
    while True:
        try:
            await client.open()
            await asyncio.wait_for(client.synced.wait(), 20)
            # What a cut left open went out as our step 2, before the answer to our step 1 came.
            await client.ask()
            while True:
                for _ in range(rng.choice((1, 1, 1, 2, 8))):
                    tokens = len(client.text) // TOKEN
                    if tokens > 5 and rng.random() < 0.3:
                        at = rng.randrange(tokens) * TOKEN
                        token = str(client.text)[at : at + TOKEN]
                        client.note([f"? {token}"])  # from now on it may be missing
                        note = f"- {token}"
                        change = deletion(at)
                    else:
                        token = f"<{writer}{number:05d}>"
                        number += 1
                        at = rng.randrange(tokens + 1) * TOKEN
                        note = f"+ {token}"
                        change = insertion(at, token)
                    update = client.edit(change)
                    client.sent.append((client.asked + 1, note))
                    await client.send(protocol.encode_update(update))
                await client.ask()
                await asyncio.sleep(rng.choice((0, 0, 0.001, 0.005)))
                patience = rng.choice((1, OUTSTANDING))
                await client.until(few(client.sent, patience))
        except (WebSocketException, OSError):
            await asyncio.sleep(0.01)


def insertion(at: int, token: str) -> Callable[[Text], None]:
    return lambda text: text.insert(at, token)


def deletion(at: int) -> Callable[[Text], None]:
    def change(text: Text) -> None:
        del text[at : at + TOKEN]

    return change


def few(sent: deque[tuple[int, str]], patience: int) -> Callable[[], bool]:
    return lambda: len(sent) < patience


async def writers(url: str, era: int, life: int, notes: int, seed: int) -> None:
    async with asyncio.TaskGroup() as tasks:
        for index in range(WRITERS):
            # Unique for ever: the life of the writers' process, and the writer.
            name, writer = f"{era}-{index % DOCUMENTS}", f"{life:03x}{index:02x}"
            tasks.create_task(write(url, name, writer, notes, random.Random(f"{seed} {writer}")))


# --- the supervisor's side ---------------------------------------------------------------------------


class Crash:
    """One server's data, and everything that was ever acknowledged about it."""

    def __init__(self, directory: Path, seed: int, database_url: str = "") -> None:
        self.rng = random.Random(seed)
        self.seed = seed
        self.directory = directory
        self.database_url = database_url
        self._reserved = reserve_port()
        self.port: int = self._reserved.getsockname()[1]
        self.log = directory / "crash.log"
        self.notes = os.open(directory / "notes", os.O_RDWR | os.O_APPEND | os.O_CREAT)
        self.read = 0  # bytes of notes
        self.round = self.era = 0
        self.kills = self.survivals = 0
        self.inserted: dict[str, set[str]] = {}  # document -> tokens whose insertion was acknowledged
        self.deleting: dict[str, set[str]] = {}  # tokens whose deletion was begun
        self.deleted: dict[str, set[str]] = {}  # tokens whose deletion was acknowledged
        self.texts: dict[str, str] = {}
        self.acknowledged = 0
        self.sealed = 0  # entries that are in segments now
        self.children: set[int] = set()

    # --- processes

    def fork(self, work: Callable[[], object]) -> int:
        """Run ``work`` in a process of its own; what it returns is its exit status. Forked from this one,
        which has imported everything: imports would else take three quarters of a round."""
        pid = os.fork()
        if pid:
            self.children.add(pid)
            return pid
        status = 1
        try:
            output = os.open(self.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            os.dup2(output, 1)
            os.dup2(output, 2)
            status = int(bool(work()))
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)

    def kill(self, *pids: int) -> None:
        """SIGKILL, the first first. Raises Loss when one of them had ended by itself."""
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        for pid in pids:
            status = self.ended(pid)
            if not (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL):
                raise Loss(f"process {pid} had ended by itself with wait status {status}")

    def ended(self, pid: int) -> int:
        """Wait for the end of a child; its wait status."""
        _, status = os.waitpid(pid, 0)
        self.children.discard(pid)
        return status

    def serve(self) -> int:
        arguments = [
            "serve",
            f"--port={self.port}",
            f"--data={self.directory / 'data'}",
            "--idle-seconds=0.2",
        ]
        if self.database_url:
            arguments.append(f"--database-url={self.database_url}")

        def work() -> object:
            # So few that cold entries are packed into segments all the time.
            collab.hub.SEAL_EVERY, storage.log.SEGMENT, storage.log.HOT = 16, 32, 8
            return cli.main(arguments)

        return self.fork(work)

    def started(self) -> int:
        """A server that answers; sometimes the first is killed while it starts."""
        pid = self.serve()
        if self.rng.random() < 0.1:
            time.sleep(self.rng.random() * 0.3)
            self.kill(pid)
            self.kills += 1
            pid = self.serve()
        deadline = time.monotonic() + 30
        while True:
            try:
                self.get("/readyz")
                return pid
            except OSError:
                if time.monotonic() > deadline:
                    raise Loss("the server does not come back") from None
                time.sleep(0.005)

    def get(self, path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=PATIENCE) as answer:
            text: str = answer.read().decode()
            return text

    # --- rounds

    def run(self, rounds: int, edits: int = 0, progress: int = 0) -> None:
        """Crash so often, and until so many edits were acknowledged. Raises Loss."""
        started = time.monotonic()
        while self.round < rounds or self.acknowledged < edits:
            self.round += 1
            if self.round % ROUNDS_PER_ERA == 1:
                self.era += 1
                for known in (self.inserted, self.deleting, self.deleted, self.texts):
                    known.clear()
            self.crash()
            self.check()
            if progress and self.round % progress == 0:
                each = (time.monotonic() - started) / self.round
                print(f"{self.round} rounds: {self.acknowledged} acknowledged, {each:.2f} s each", flush=True)
        server = self.started()
        self.check_served()
        self.kill(server)

    def crash(self) -> None:
        url, era, life, rng = f"ws://127.0.0.1:{self.port}", self.era, self.round, self.rng
        server = self.started()
        self.check_served()
        writing = self.fork(lambda: asyncio.run(writers(url, era, life, self.notes, self.seed)))
        time.sleep(rng.random() * LIFE)
        if rng.random() < 0.2:  # the writers survive and come back
            self.kill(server)
            self.kills += 1
            self.survivals += 1
            server = self.started()
            time.sleep(rng.random() * LIFE)
        both = [server, writing]
        rng.shuffle(both)
        self.kill(*both)
        self.kills += 1

    # --- what must hold

    def check(self) -> None:
        """Compare the log, as the crash left it, with what was acknowledged. Raises Loss."""
        self.read_notes()
        names = [f"{self.era}-{index}" for index in range(DOCUMENTS)]
        self.texts = self.replayed(names)
        for name, text in self.texts.items():
            self.check_text(name, text)

    def read_notes(self) -> None:
        raw = b""
        while block := os.pread(self.notes, 1 << 20, self.read + len(raw)):
            raw += block
        self.read += len(raw)
        for line in raw.decode().splitlines():
            name, kind, token = line.split(" ")
            {"+": self.inserted, "?": self.deleting, "-": self.deleted}[kind].setdefault(name, set()).add(
                token
            )
            self.acknowledged += kind != "?"

    def check_text(self, name: str, text: str) -> None:
        tokens = [text[at : at + TOKEN] for at in range(0, len(text), TOKEN)]
        for token in tokens:
            if len(token) != TOKEN or token[0] != "<" or token[-1] != ">":
                raise Loss(f"{name}: {token!r} is torn")
        twice = [token for token, count in Counter(tokens).items() if count > 1]
        if twice:
            raise Loss(f"{name}: {len(twice)} insertions are there twice: {twice[:5]}")
        here = set(tokens)
        if lost := self.inserted.get(name, set()) - here - self.deleting.get(name, set()):
            raise Loss(f"{name}: {len(lost)} acknowledged insertions are lost: {sorted(lost)[:5]}")
        if back := self.deleted.get(name, set()) & here:
            raise Loss(f"{name}: {len(back)} acknowledged deletions are undone: {sorted(back)[:5]}")

    def check_served(self) -> None:
        """The server tells what the log tells. Raises Loss."""
        for name, text in self.texts.items():
            try:
                served = self.get(f"/api/documents/{name}/content")
            except urllib.error.HTTPError as error:
                if error.code != 404 or text:
                    raise Loss(f"{name}: answers {error.code}") from None
                served = ""
            if served != text:
                raise Loss(f"{name}: the server has {len(served)} characters, the log {len(text)}")

    def replayed(self, names: list[str]) -> dict[str, str]:
        """The texts that whole, verified logs make. SQLite's are read from a copy of its files, so that the
        server itself recovers the original. Raises Loss."""
        if self.database_url:
            url = self.database_url
        else:
            copy = self.directory / "copy"
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(self.directory / "data", copy)
            url = f"sqlite:///{copy.resolve()}/collab.db"
        found = self.directory / "replayed.json"
        found.unlink(missing_ok=True)

        def work() -> None:
            found.write_text(json.dumps(asyncio.run(replay(url, names))))

        if self.ended(self.fork(work)):
            raise Loss(f"the log does not verify; see {self.log}")
        texts: dict[str, str]
        texts, self.sealed = json.loads(found.read_text())
        return texts


async def replay(url: str, names: list[str]) -> tuple[dict[str, str], int]:
    """The texts, and how many entries are in segments."""
    database = await Database.open(url)
    log = UpdateLog(database)
    texts: dict[str, str] = {}
    packed = "SELECT coalesce(sum(last - first + 1), 0) FROM segments"
    sealed = await database.read(lambda connection: connection.exec_driver_sql(packed).scalar_one())
    for name in names:
        await log.verify(name)
        entries = await log.entries(name, 0, 1 << 30)
        texts[name] = document.text(document.build(entry.data for entry in entries))
    await database.close()
    return texts, int(sealed)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=2000, help="how many crashes")
    parser.add_argument("--edits", type=int, default=0, help="go on until so many were acknowledged")
    parser.add_argument("--seed", type=int, help="of the random moments and edits; printed when not given")
    parser.add_argument("--database-url", default="", help="an empty database for this run; default SQLite")
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else random.randrange(1 << 32)
    for name in [name for name in os.environ if name.startswith("COLLAB_")]:
        del os.environ[name]
    print(f"seed {seed}", flush=True)
    directory = Path(tempfile.mkdtemp(prefix="collab-crash-"))
    crash = Crash(directory, seed, options.database_url)
    started = time.monotonic()
    lost = ""
    try:
        crash.run(options.rounds, options.edits, progress=100)
    except Loss as loss:
        lost = str(loss)
        print(f"round {crash.round}, seed {seed}: {lost}\nkept in {directory}")
    else:
        shutil.rmtree(directory)
    finally:
        for pid in crash.children:
            os.kill(pid, signal.SIGKILL)
    print(
        f"{crash.round} rounds, {crash.kills} kills, {crash.survivals} survived by the writers, "
        f"{crash.acknowledged} edits acknowledged, {'LOSS' if lost else '0 lost'}, {crash.sealed} packed, "
        f"{(time.monotonic() - started) / max(crash.round, 1):.2f} s a round"
    )
    return int(bool(lost))


if __name__ == "__main__":
    sys.exit(main())
