"""What answers about the past cost: build, cache and questions, for a paper and for a megabyte of text.

    .venv/bin/python bench/history.py [--traces DIR] [--check]

The paper is automerge-paper of josephg/editing-traces whole when ``--traces`` names a directory that has
it, else the extract in tests/traces. The megabyte is imported at once and then edited 100,000 times at
random places by two people. Times of entries are a person's: 80 to 300 ms, with pauses. ``--check``
compares every 1,000th text with the patches of the trace and 1,000 random diffs, too. What is printed is
CPU time of one thread, so that a busy machine tells nearly the same as a quiet one.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import random
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import median
from time import process_time
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from collab.diff import unified  # noqa: E402
from collab.history import History  # noqa: E402
from collab.log import Actor, Entry, Origin  # noqa: E402
from collab.update import write  # noqa: E402

ACTORS = Actor("user:ann", "user", "Ann"), Actor("user:bob", "user", "Bob")
GOALS = {"versions, p95": 50, "content, cold": 60, "content, warm p95": 10, "diff of neighbours": 100}
GOALS |= {"blame of head": 150, "diff first to head": 1000}


def paper(name: str) -> list[bytes]:
    import replay

    return [step.update for step in replay.load(name).writers[0]]


def megabyte(chance: random.Random) -> list[bytes]:
    """A million letters that one client pasted, and 100,000 keystrokes that another and it typed into them:
    at 10,000 places, three of ten a Backspace. Written by hand, since a Doc takes minutes for it."""
    size = 1_000_000
    words = "".join(chance.choices("etaoin shrdlu ,.\n", k=size))
    clients = 1000, 2000

    def number(value: int) -> bytes:
        out = bytearray()
        write(out, value)
        return bytes(out)

    pasted = b"\1\1" + number(clients[0]) + b"\0\4\1\7content" + number(size) + words.encode() + b"\0"
    log, clocks = [pasted], {clients[0]: size, clients[1]: 0}
    for place in chance.sample(range(1, size), 10_000):
        client = chance.choice(clients)
        left, right = (clients[0], place - 1), (clients[0], place)
        typed: list[int] = []
        for _ in range(10):
            if typed and chance.random() < 0.3:
                log.append(b"\0\1" + number(client) + b"\1" + number(typed.pop()) + b"\1")
                continue
            clock = clocks[client]
            ids = b"".join(map(number, (*left, *right)))
            log.append(b"\1\1" + number(client) + number(clock) + b"\xc4" + ids + b"\1x\0")
            typed.append(clock)
            left = client, clock
            clocks[client] += 1
    return log


def entries(updates: Iterable[bytes], chance: random.Random) -> list[Entry]:
    now = 1_700_000_000_000_000
    log = []
    for seq, update in enumerate(updates, 1):
        pause = chance.randint(80_000, 300_000) if chance.random() < 0.99 else chance.randint(10**6, 10**9)
        now += pause
        log.append(Entry(seq, ACTORS[b"\xd0\x0f" in update[:4]], 0, now, Origin.EDIT, update))
    return log


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    start = process_time()
    result = work()
    return (process_time() - start) * 1000, result


def p95(times: list[float]) -> float:
    return sorted(times)[int(len(times) * 0.95)]


def measure(name: str, log: list[Entry]) -> History:
    chance = random.Random(7)
    history = History()
    rows: list[tuple[str, float, str]] = []
    took, _ = timed(lambda: history.extend(log))
    rows.append(("build", took, f"{took * 1000 / len(log):.1f} µs an entry"))
    took, data = timed(history.dump)
    rows.append(("dump", took, f"{len(data):,} bytes, {len(data) / len(log):.2f} an entry"))
    loads = [timed(lambda: History.load(data))[0] for _ in range(7)]
    rows.append(("load", median(loads), ""))

    def cold() -> None:
        History.load(data).content(chance.randint(1, history.head))

    colds = [timed(cold)[0] for _ in range(15)]
    rows.append(("content, cold", p95(colds), f"median {median(colds):.1f}: load, then content"))
    warm = [timed(lambda: history.content(chance.randint(1, history.head)))[0] for _ in range(100)]
    rows.append(("content, warm p95", p95(warm), ""))
    lists, before = [], None
    for _ in range(60):
        took, page = timed(lambda before=before: history.versions(before=before))
        lists.append(took)
        before = page.before
    rows.append(("versions, p95", p95(lists), f"first {lists[0]:.1f}"))
    last = log[-1]
    grown = History.load(data)
    grown.versions()
    grown.extend([last._replace(seq=history.head + 1, data=b"\0\1" + last.data[2:4] + b"\1\0\1")])
    rows.append(("versions, head moved", timed(grown.versions)[0], "the first after one more entry"))
    versions = history.versions(limit=1000).versions
    diffs = [timed(lambda v=v: history.diff(v.seq_from - 1, v.seq_to))[0] for v in versions[:100]]
    rows.append(("diff of neighbours", p95(diffs), f"p95 of {len(diffs)}"))
    took, runs = timed(lambda: history.blame(history.head))
    rows.append(("blame of head", took, f"{len(runs.runs)} runs"))
    took, diff = timed(lambda: history.diff(1, history.head))
    rows.append(("diff first to head", took, f"{len(diff.parts)} parts"))
    took, diff = timed(lambda: history.diff(1, history.head, granularity="word", budget=1 << 30))
    rows.append(("... by words, whole", took, f"{len(diff.parts)} parts"))
    took, text = timed(lambda: unified(history.compare(1, history.head, granularity="line")))
    rows.append(("... unified", took, f"{len(text):,} characters"))
    took, _ = timed(lambda: history.activity(86_400))
    rows.append(("activity by days", took, ""))
    took, change = timed(lambda: history.restore(history.head // 2, 77))
    rows.append(("restore of the middle", took, f"{len(change.update or b''):,} bytes"))
    took, change = timed(lambda: history.undo(77, actor=ACTORS[0].id, after=history.head // 2))
    rows.append(("undo of the second half", took, f"{len(change.update or b''):,} bytes"))
    print(f"\n{name}: {len(log):,} entries, {history.size / 1e6:.1f} MB in memory")
    for row, took, note in rows:
        goal = f"< {GOALS[row]}" if row in GOALS else ""
        print(f"  {row:24} {took:9.1f} ms  {goal:7} {note}")
    return history


def check(history: History, trace: Path) -> None:
    chance = random.Random(1)
    text, texts = "", {0: ""}
    with gzip.open(trace) as file:
        transactions = json.load(file)["txns"]
    chosen = [(chance.randint(0, history.head), chance.randint(0, history.head)) for _ in range(1000)]
    wanted = {seq for pair in chosen for seq in pair}
    for seq, transaction in enumerate(transactions, 1):
        for at, deleted, inserted in transaction["patches"]:
            text = text[:at] + inserted + text[at + deleted :]
        if seq % 1000 == 0 or seq in wanted:
            texts[seq] = text
    for seq in texts:
        assert history.content(seq) == texts[seq], seq
    for old, new in chosen:
        diff = history.compare(old, new)
        was = "".join(piece.text for piece in diff.pieces() if piece.op != 2)
        now = "".join(piece.text for piece in diff.pieces() if piece.op != 1)
        assert (was, now) == (texts[old], texts[new]), (old, new)
    print(f"  checked: {len(texts)} texts and {len(chosen)} diffs are those of the patches")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--traces", type=Path)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    if options.traces:
        os.environ["COLLAB_TRACES"] = str(options.traces)
    trace = (options.traces or ROOT / "tests/traces") / (
        "automerge-paper.json.gz" if options.traces else "automerge-paper-prefix.json.gz"
    )
    history = measure("automerge-paper", entries(paper("automerge-paper"), random.Random(3)))
    if options.check:
        check(history, trace)
    del history
    measure("a megabyte", entries(megabyte(random.Random(4)), random.Random(5)))


if __name__ == "__main__":
    main()
