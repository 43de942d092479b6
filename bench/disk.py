"""Bytes on disk for each keystroke of a real paper: the log, its segments, its snapshots.

    python bench/disk.py [TRACES]

TRACES is a directory with automerge-paper.json.gz of josephg/editing-traces; without it the prefix in
tests/traces is typed. Each keystroke is an entry of its own, received at a person's pace; the log is sealed
and snapshots are made as the hub does while people type.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from pathlib import Path

from collab import document
from collab.hub import SEAL_EVERY
from collab.log import Actor, Batch, Entry, Origin
from collab.room import SNAPSHOT_FLOOR
from storage.database import Database
from storage.log import UpdateLog
from storage.migrations import migrate

sys.path.append(str(Path(__file__).parent.parent / "tests"))
ADA = Actor("user:ada", "user", "Ada")
COMMIT = 8  # entries


async def main(directory: str, sealing: bool) -> None:
    from replay import load  # of the tests; it looks at the environment

    url = f"sqlite:///{directory}/collab.db"
    await migrate(url)
    database = await Database.open(url)
    log = UpdateLog(database)
    rng, now, seq, tail, base, sealed = random.Random(1), 1_700_000_000_000_000, 0, 0, b"", 0
    updates: list[bytes] = []
    spent = 0.0
    for group in batches(step.update for step in chain(*load("automerge-paper").writers)):
        entries = []
        for update in group:
            now, seq = now + int(rng.lognormvariate(12, 0.6)), seq + 1
            entries.append(Entry(seq, ADA, 1, now, Origin.EDIT, update))
        await log.append([Batch("paper", 1, entries)])
        updates += group
        tail += sum(map(len, group))
        if sealing and tail >= max(SNAPSHOT_FLOOR, len(base)):
            base, tail = document.snapshot(updates, None, verbatim=False), 0
            await log.snapshot("paper", 1, seq, base)
        if sealing and seq - sealed >= SEAL_EVERY:
            began = time.perf_counter()
            await log.seal("paper")
            spent += time.perf_counter() - began
            sealed = seq
    if sealing:
        await log.snapshot("paper", 1, seq, document.snapshot(updates, None, verbatim=False))
    began = time.perf_counter()
    entries = await log.entries("paper", 0, seq)
    whole = time.perf_counter() - began
    assert [entry.data for entry in entries] == updates
    waits = []
    for _ in range(200):
        began = time.perf_counter()
        await log.entries("paper", rng.randrange(seq), 100)
        waits.append(time.perf_counter() - began)
    await database.close()
    size = os.stat(f"{directory}/collab.db").st_size
    print(
        f"{'sealed' if sealing else 'rows'}: {seq} keystrokes, {size} bytes, {size / seq:.2f} a keystroke; "
        f"sealing took {spent * 1e6 / seq:.1f} µs a keystroke; reading all {whole:.2f} s, "
        f"100 anywhere {sorted(waits)[190] * 1e3:.1f} ms (p95)"
    )


def batches(updates: Iterable[bytes]) -> Iterator[list[bytes]]:
    left = iter(updates)
    while group := list(islice(left, COMMIT)):
        yield group


if __name__ == "__main__":
    if len(sys.argv) > 1:
        os.environ["COLLAB_TRACES"] = sys.argv[1]
    for sealing in (False, True):
        with tempfile.TemporaryDirectory(prefix="collab-disk-") as directory:
            asyncio.run(main(directory, sealing))
