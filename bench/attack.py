"""How much slower an honest room becomes while an attacker does its worst: the ratio of its p99.

    .venv/bin/python bench/attack.py
    .venv/bin/python bench/attack.py --only "keystrokes; requests, 20 sockets" --rounds 5

The honest room (5 people who type 10 keystrokes a second, 20 clients, all signed in) is measured alone and
beside each attack in turn, on a server with default limits that has a core of its own. The attacker is a
guest: a process of its own on the other core, at full speed whenever the honest clients leave that core to
it. Guests of one address share one budget, so honest guests beside an attacker would be slowed with it.
*later* is the p99 of what was sent after the first second, when the attacker has used up what one may send
at once. Linux only. docs/security.md says what the attacks are.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import resource
import shlex
import shutil
import subprocess
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from itertools import cycle
from pathlib import Path
from statistics import median
from time import monotonic
from urllib.request import urlopen

import uvloop
from load import AUDIENCE, SECRET, Y_WEBSOCKET, Room, Run, Tally, at_pace, frame, join, varbytes, varuint
from run import CORES, LOAD_CORE, WORK, Server, leave, milliseconds, number, trace

SETTINGS = {"COLLAB_SECRET": SECRET, "COLLAB_AUDIENCE": AUDIENCE, "COLLAB_GUESTS": "editor"}
GOAL = 2.0  # at most so many times the p99 without an attacker
WRITERS, CLIENTS, PER_SECOND = 5, 20, 10
ONSET = 1.0  # seconds in which an attacker has what one may send at once; told apart from what comes later
EDITS = 50_000  # of one flooding socket
Work = list[Callable[[], Awaitable[None]]]
ATTACKS: dict[str, Callable[[int], Work]] = {}  # each prepares for a port what is then done at once


def attack(name: str) -> Callable[[Callable[[int], Work]], None]:
    def add(function: Callable[[int], Work]) -> None:
        ATTACKS[name] = function

    return add


# -- the attacker --------------------------------------------------------------------------------------


class Socket(asyncio.Protocol):
    """A WebSocket without manners. It reads and forgets what it is sent, unless it is deaf."""

    def __init__(self, document: str, cookie: str, deaf: bool) -> None:
        self.open: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.writable = asyncio.Event()
        self.gone = False
        self.ended = asyncio.Event()
        self._document = document
        self._cookie = cookie
        self._deaf = deaf

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        self.transport.write(
            f"GET /ws/{self._document} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nCookie: {self._cookie}\r\n"
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n".encode()
        )
        self.writable.set()

    def data_received(self, data: bytes) -> None:
        if not self.open.done():
            self.open.set_result(None)
            if self._deaf:
                self.transport.pause_reading()

    def pause_writing(self) -> None:
        self.writable.clear()

    def resume_writing(self) -> None:
        self.writable.set()

    def connection_lost(self, error: Exception | None) -> None:
        self.gone = True
        self.ended.set()
        self.writable.set()
        if not self.open.done():
            self.open.set_exception(ConnectionError())


def guest(port: int) -> str:
    """The cookie of a new guest."""
    with urlopen(f"http://127.0.0.1:{port}/") as page:
        cookie: str = page.headers["Set-Cookie"]
        return cookie.partition(";")[0]


async def connect(port: int, document: str, cookie: str, deaf: bool = False) -> Socket:
    _, made = await asyncio.get_running_loop().create_connection(
        lambda: Socket(document, cookie, deaf), "127.0.0.1", port
    )
    await made.open
    return made


async def flood(port: int, document: str, cookie: str, blobs: Sequence[bytes]) -> None:
    """Send ``blobs`` over and over as fast as they are taken; come back when thrown out."""
    while True:
        with suppress(OSError):
            made = await connect(port, document, cookie)
            for blob in cycle(blobs):
                await made.writable.wait()
                if made.gone:
                    break
                made.transport.write(blob)
        await asyncio.sleep(0.05)


def floods(port: int, blobs: Sequence[bytes], sockets: int, rooms: int = 1) -> Work:
    cookie = guest(port)
    return [partial(flood, port, f"attacked-{i % rooms}", cookie, blobs) for i in range(sockets)]


def typed(client: int) -> list[bytes]:
    """Keystrokes as frames, some hundred to a blob."""
    patches, _ = trace(None)
    frames = [frame(update) for update in Run.type(client, patches, EDITS).updates]
    return [b"".join(frames[i : i + 400]) for i in range(0, len(frames), 400)]


def shredded(client: int, size: int, count: int) -> list[bytes]:
    """Updates of about that many bytes that are as much work as they can be: a letter to a struct."""
    blobs, clock = [], 0
    for _ in range(count):
        letters = size // 9
        first = b"\x04\x01" + varbytes(b"content") + b"\x01x"
        other = b"\x84" + varuint(client) + varuint(0) + b"\x01x"
        structs = (first + other * (letters - 1)) if clock == 0 else other * letters
        update = b"\x01" + varuint(letters) + varuint(client) + varuint(clock) + structs + b"\x00"
        blobs.append(frame(b"\x00\x02" + varbytes(update)))
        clock += letters
    return blobs


@attack("keystrokes")
def keystrokes(port: int) -> Work:
    return floods(port, typed(7), 1)


@attack("keystrokes, 50 sockets")
def keystrokes_of_many(port: int) -> Work:
    return floods(port, typed(7), 50, 50)


@attack("pings, 10 sockets")
def pings(port: int) -> Work:
    return floods(port, [(b"\x89\xfd" + bytes(129)) * 400], 10)


@attack("fragments, 10 sockets")
def fragments(port: int) -> Work:
    blob = (b"\x02\x80" + bytes(4) + (b"\x00\x80" + bytes(4)) * 500 + b"\x80\x81" + bytes(4) + b"\x03") * 20
    return floods(port, [blob], 10)


@attack("presence, 10 sockets")
def presence(port: int) -> Work:
    state = varbytes(b'{"user":{"name":"' + b"M" * 200 + b'"}}')
    frames = [
        frame(b"\x01" + varbytes(b"\x01" + varuint(99) + varuint(clock) + state))
        for clock in range(1, 20_000)
    ]
    return floods(port, [b"".join(frames[i : i + 200]) for i in range(0, len(frames), 200)], 10, 10)


@attack("updates of 1,800 letters, 10 sockets")
def heavy(port: int) -> Work:
    return floods(port, shredded(0xFFFFFFF, 16_000, 600), 10, 10)


@attack("updates of 7,000 letters, 10 sockets")
def heavier(port: int) -> Work:
    return floods(port, shredded(0xFFFFFFF, 63_000, 200), 10, 10)


@attack("updates of 400,000 letters, 20 sockets")
def heaviest(port: int) -> Work:
    return floods(port, shredded(0xFFFFFFF, 4_000_000, 1), 20, 20)


@attack("questions, 10 sockets")
def questions(port: int) -> Work:
    edits = b"".join(typed(7)[:20])
    return floods(port, [edits] + [frame(b"\x00\x00\x01\x00") * 400] * 500, 10, 10)


@attack("nonsense and reconnects, 20 sockets")
def nonsense(port: int) -> Work:
    return floods(port, [frame(b"\xff" * 50)], 20)


@attack("half handshakes, 1,000 sockets")
def half_handshakes(port: int) -> Work:
    async def one() -> None:
        while True:
            with suppress(OSError):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(b"GET /ws/x HTTP/1.1\r\nHost: x\r\nX: ")
                await reader.read(1)
                writer.close()
            await asyncio.sleep(0.01)

    return [one] * 1000


@attack("requests, 20 sockets")
def requests(port: int) -> Work:
    async def one() -> None:
        while True:
            with suppress(OSError):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                while not reader.at_eof():
                    writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
                    await reader.read(65536)

    return [one] * 20


@attack("histories, 8 sockets")
def histories(port: int) -> Work:
    """No attack but a program that asks about 2,000 keystrokes all day, as fast as it is answered."""
    cookie = guest(port)

    async def write() -> None:
        made = await connect(port, "past", cookie)
        for blob in typed(7)[:5]:
            await made.writable.wait()
            made.transport.write(blob)
        await asyncio.sleep(10)  # it is taken at the rate that one guest may have

    async def ask(what: str) -> str:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(
            f"GET /api/documents/past/{what} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
            f"Cookie: {cookie}\r\n\r\n".encode()
        )
        answer = (await reader.read()).decode()
        writer.close()
        return answer

    async def one() -> None:
        for what in cycle(("versions", "content?at=700", "diff?from=500", "blame", "activity")):
            with suppress(OSError):
                await ask(what)

    asyncio.run(write())
    return [one] * 8


@attack("100 stalled readers in the room")
def stalled(port: int) -> Work:
    cookie = guest(port)

    async def one() -> None:
        while True:
            with suppress(OSError):
                made = await connect(port, "honest", cookie, deaf=True)
                made.transport.write(frame(b"\x00\x00\x01\x00"))
                await made.ended.wait()

    return [one] * 100


def be(name: str, port: int) -> None:
    """The attacker's process: it prepares, says so, waits for a line, and attacks until it is killed."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    os.sched_setaffinity(0, {LOAD_CORE})
    work = ATTACKS[name](port)
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))  # it must not slow the honest clients itself

    async def attack() -> None:
        await asyncio.gather(*(one() for one in work))

    print("ready", flush=True)
    sys.stdin.readline()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(attack())


class Attack:
    """The attacker's process, prepared; it begins at ``start``. Nobody does nothing."""

    def __init__(self, name: str | None, port: int) -> None:
        self._process: subprocess.Popen[str] | None = None
        if name is not None:
            command = [sys.executable, __file__, "--be", name, "--port", str(port)]
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            assert self._process.stdout is not None
            self._process.stdout.readline()

    def start(self) -> None:
        if self._process is not None:
            assert self._process.stdin is not None
            self._process.stdin.write("\n")
            self._process.stdin.flush()

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()


# -- the honest room -----------------------------------------------------------------------------------


async def honest(server: Server, runs: Sequence[Run], attack: Attack, seconds: float) -> dict[str, float]:
    tally = Tally()
    room = Room("honest", runs, tally)
    clients = await join(Y_WEBSOCKET, server.port, room, CLIENTS)
    per_second = PER_SECOND

    async def type_for(seconds: float, seed: int) -> None:
        count = int(seconds * per_second)
        target = clients[0].limit + count
        await asyncio.gather(
            *(at_pace(one, count, per_second, seed + i) for i, one in enumerate(clients[:WRITERS]))
        )
        await tally.reach(target * WRITERS * CLIENTS)

    await type_for(2, 0)
    gc.collect()
    gc.disable()
    tally.receipts.clear()
    cpu, began = server.cpu(), monotonic()
    attack.start()
    await type_for(seconds, 20)
    cpu = (server.cpu() - cpu) / (monotonic() - began)
    most = server.memory()
    attack.stop()
    gc.enable()
    latencies = tally.latencies()
    figures = milliseconds(latencies) | {"cpu": cpu, "memory": most / 1e6}
    figures["p90_ms"] = latencies[len(latencies) * 9 // 10] * 1e3
    for name, since, until in (("onset_ms", 0.0, ONSET), ("later_ms", ONSET, seconds)):
        figures[name] = milliseconds(tally.latencies(began + since, began + until))["p99_ms"]
    leave(clients)
    return figures


def measure(names: Sequence[str], rounds: int, seconds: float, collab: str, work: Path) -> bool:
    patches, _ = trace(None)
    runs = [Run.type(0x1000_0001 + i, patches, int((seconds + 6) * PER_SECOND)) for i in range(WRITERS)]
    found: dict[str | None, list[dict[str, float]]] = {}
    shutil.rmtree(work / "attack", ignore_errors=True)
    for round_ in range(rounds):
        for name in (None, *names):
            directory = work / "attack" / f"{round_}-{len(found)}-{name}".replace(" ", "-")
            server = Server(Y_WEBSOCKET, directory, collab, SETTINGS)
            server.start()
            attack = Attack(name, server.port)
            try:
                with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                    figures = runner.run(honest(server, runs, attack, seconds))
            finally:
                attack.stop()
                server.stop()
                shutil.rmtree(server.directory, ignore_errors=True)
            found.setdefault(name, []).append(figures)
            print(name or "nobody", {k: round(v, 2) for k, v in figures.items()}, file=sys.stderr, flush=True)
    alone = {key: median(f[key] for f in found[None]) for key in found[None][0]}
    met = True
    print(f"\n{'':38}{'p50 ms':>8}{'p90 ms':>8}{'p99 ms':>8}{'later':>8}{'ratio':>7}{'CPU':>7}{'MB':>6}")
    for name, rows in found.items():
        row = {key: median(f[key] for f in rows) for key in rows[0]}
        ratio = row["p99_ms"] / alone["p99_ms"]
        met &= ratio <= GOAL
        print(
            f"{name or 'nobody':38}"
            + "".join(f"{number(row[key]):>8}" for key in ("p50_ms", "p90_ms", "p99_ms", "later_ms"))
            + f"{ratio:>7.2f}{row['cpu']:>7.0%}{row['memory']:>6.0f}{'' if ratio <= GOAL else '  MISSED'}"
        )
    return met


def prefer_us() -> None:
    """Have the rest of the machine wait for us, where we may: it is not what is measured."""
    group = Path("/proc/self/autogroup")
    with suppress(OSError):
        os.setsid()
        group.write_text("-15")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--only", metavar="A,B", help=f"of: {'; '.join(ATTACKS)} (separated by ;)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10, help="measured in each")
    parser.add_argument(
        "--collab",
        default=shlex.quote(str(Path(sys.executable).with_name("collab")))
        + " serve --port {port} --data {data}",
        help="how to start Collab, to measure another build or other settings",
    )
    parser.add_argument(
        "--data",
        type=Path,
        default=WORK,
        help="where the server writes; /dev/shm when strangers keep the disk busy",
    )
    parser.add_argument("--be", help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.be:
        be(options.be, options.port)
    if len(CORES) < 2:
        print("note: one core only, so an attacker takes it from the honest clients too", file=sys.stderr)
    names = [name.strip() for name in options.only.split(";")] if options.only else list(ATTACKS)
    prefer_us()
    return 0 if measure(names, options.rounds, options.seconds, options.collab, options.data) else 1


if __name__ == "__main__":
    raise SystemExit(main())
