"""R2 and R9: what is on disk after a power cut, and after a disk that fails, with the server's own traffic.

A process that appends through the real log runs under recorder.c, which notes every write and sync in
order, and between them each commit the process might have acknowledged. From that recording the disk is
rebuilt as it might be at any moment: a write that no sync has covered may be there, or not, or in part.
"""

import asyncio
import errno
import itertools
import os
import random
import runpy
import shutil
import sqlite3
import struct
import subprocess
import sys
from functools import lru_cache
from pathlib import Path

import pytest

import storage
from storage.database import Database
from storage.log import UpdateLog
from storage.migrations import migrate
from storage.models import segment_checksum, snapshot_checksum
from storage.segments import unpack

HERE = Path(__file__).parent
UPDATES = HERE / "updates.bin.gz"
STATES = int(os.environ.get("COLLAB_POWERCUT_STATES", "2000"))
SEED = int(os.environ.get("COLLAB_POWERCUT_SEED", "0")) or random.randrange(1, 1 << 32)
SECTOR = 512
MODES = ("all", "none", "half", "torn")

unpacked = lru_cache(4096)(unpack)  # the same ones in state after state
plan = runpy.run_path(str(HERE / "plan.py"))


@pytest.fixture(scope="session")
def recorder(require, tmp_path_factory):
    require(sys.platform == "linux" and shutil.which("gcc"), "the disk recorder needs Linux and gcc")
    library = tmp_path_factory.mktemp("recorder") / "recorder.so"
    command = ["gcc", "-Wall", "-Werror", "-O1", "-shared", "-fPIC", "-o", library, HERE / "recorder.c"]
    subprocess.run([*command, "-ldl", "-lpthread"], check=True)
    return library


@pytest.fixture
def record(recorder, tmp_path):
    """Runs writer.py; returns for each of its databases the directory, the recording, and how it ended."""

    def run(checkpoint_pages, commits, *failure):
        arguments = [tmp_path / "data", UPDATES, checkpoint_pages, commits, *failure]
        writer = subprocess.run(
            [sys.executable, HERE / "writer.py", *map(str, arguments)],
            env={
                **os.environ,
                "PYTHONPATH": str(Path(storage.__file__).parent.parent),
                "RECORDER_PREFIX": f"{tmp_path}/data",
                "RECORDER_OUT": f"{tmp_path}/recording",
                "LD_PRELOAD": str(recorder),
            },
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert writer.returncode == 0, writer.stderr
        recordings = []
        for step in read_recording(tmp_path / "recording"):
            if step[0] == "M" and step[2] < 0:
                recordings.append([])
            else:
                recordings[-1].append(step)
        ends = writer.stdout.split()
        return [
            (tmp_path / "data" / str(nth), recording, said)
            for nth, (recording, said) in enumerate(zip(recordings, ends, strict=True), 1)
        ]

    return run


def read_recording(path):
    data, at = path.read_bytes(), 0
    while at < len(data):
        op, file, _, length, offset = struct.unpack_from("<cBHIq", data, at)
        at += 16
        yield op.decode(), file, offset, data[at : at + length]
        at += length


class Inode:
    """A file: as the kernel's cache shows it, as it is on disk for certain, and what lies between."""

    def __init__(self):
        self.cached, self.durable, self.pending = bytearray(), bytearray(), []

    def write(self, offset, data):
        put(self.cached, offset, data)
        self.pending.append((offset, data))

    def sync(self):
        for offset, data in self.pending:
            put(self.durable, offset, data)
        self.pending.clear()

    def content(self, mode, rng):
        if mode == "all":
            return self.cached
        if mode == "none":
            return self.durable
        content = bytearray(self.durable)
        for offset, data in self.pending:
            if mode == "half" or data is None:
                if rng.random() < 0.5:
                    put(content, offset, data)
                continue
            for start in range(0, len(data), SECTOR):
                if rng.random() < 0.5:
                    put(content, offset + start, data[start : start + SECTOR])
        return content


def put(content, offset, data):
    """Write ``data``, or truncate when it is None."""
    if data is None:
        del content[offset:]
        content.extend(bytes(offset - len(content)))
    else:
        if len(content) < offset:
            content.extend(bytes(offset - len(content)))
        content[offset : offset + len(data)] = data


class Disk:
    """Replays a recording. A file's name is on disk once the file or its directory was synced."""

    def __init__(self):
        self.open, self.now, self.durable = {}, {}, {}
        self.acknowledged = None  # commits; None before the database was made

    def apply(self, op, file, offset, data):
        if op == "O":
            self.open[file] = self.now.setdefault(data.decode(), Inode())
        elif op == "W":
            self.open[file].write(offset, data)
        elif op == "T":
            self.open[file].write(offset, None)
        elif op == "S":
            self.open[file].sync()
            self.durable.update({name: at for name, at in self.now.items() if at is self.open[file]})
        elif op == "F":  # the kernel may now believe that these pages are clean, and never write them
            self.open[file].pending.clear()
        elif op == "D":
            self.durable = dict(self.now)
        elif op == "U":
            del self.now[data.decode()]
        elif op == "M":
            self.acknowledged = offset

    def rebuild(self, directory, mode, rng):
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir()
        for name in sorted(self.now.keys() | self.durable.keys()):
            inode = {
                "all": self.now.get(name),
                "none": self.durable.get(name),
            }.get(mode, rng.choice((self.now.get(name), self.durable.get(name))))
            if inode is not None:
                (directory / Path(name).name).write_bytes(inode.content(mode, rng))


class Judge:
    """Knows the plan: what the database must hold after each commit."""

    def __init__(self, commits):
        self.entries = {name: [] for name in plan["DOCUMENTS"]}
        self.heads = [{}]
        self.sealed = 0  # the most entries that were seen in segments
        for group in itertools.islice(plan["commits"](plan["read_updates"](UPDATES)), commits):
            for batch in group:
                self.entries[batch.document] += [
                    (e.seq, e.actor.id, e.client, e.received, e.origin, e.data) for e in batch.entries
                ]
            self.heads.append(self.heads[-1] | {batch.document: batch.entries[-1].seq for batch in group})

    def look(self, directory, acknowledged):
        """Check the database as SQLite opens it; returns how many commits it holds."""
        file = directory / "collab.db"
        if not file.exists():
            assert acknowledged is None
            return 0
        connection = sqlite3.connect(file)
        connection.execute("PRAGMA synchronous = OFF")
        try:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            if not connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'updates'").fetchall():
                assert acknowledged is None
                return 0
            names = dict(connection.execute("SELECT key, name FROM documents").fetchall())
            actors = dict(connection.execute("SELECT key, id FROM actors").fetchall())
            stored = {name: [] for name in names.values()}
            for *segment, checksum in connection.execute(
                "SELECT document, first, last, data, checksum FROM segments ORDER BY document, last"
            ):
                assert segment_checksum(*segment) == checksum
                for row in unpacked(segment[3], segment[1]):
                    stored[names[segment[0]]].append((row.seq, actors[row.actor], *row[2:]))
            self.sealed = max(self.sealed, sum(map(len, stored.values())))
            for name, *entry in connection.execute(
                "SELECT d.name, seq, a.id, client, received, origin, data FROM updates u"
                " JOIN documents d ON d.key = u.document JOIN actors a ON a.key = u.actor ORDER BY d.key, seq"
            ):
                stored[name].append(tuple(entry))
            for *row, checksum in connection.execute(
                "SELECT document, epoch, seq, made_at, data, checksum FROM snapshots"
            ):
                assert snapshot_checksum(*row) == checksum
        finally:
            connection.close()
        heads = {name: len(entries) for name, entries in stored.items()}
        # The acknowledged commits, and at most the one that was under way, whole.
        least = acknowledged or 0
        assert heads in self.heads[least : least + 2]
        for name, entries in stored.items():
            assert entries == self.entries[name][: heads[name]]
        return self.heads.index(heads, least)


async def served(directory):
    """The heads that the server itself finds, every row verified."""
    url = f"sqlite:///{directory}/collab.db"
    await migrate(url)
    database = await Database.open(url)
    log = UpdateLog(database)
    heads = {}
    for name in plan["DOCUMENTS"]:
        await log.verify(name)
        if head := (await log.load(name)).head:
            heads[name] = head
    await database.close()
    return heads


@pytest.mark.parametrize("checkpoint_pages", [40, 1000])
def test_no_power_cut_loses_an_acknowledged_commit(record, tmp_path, checkpoint_pages):
    [(_, recording, said)] = record(checkpoint_pages, 500)
    assert said == "done"
    judge, disk, rng = Judge(500), Disk(), random.Random(SEED)
    moments = sorted(rng.choices(range(len(recording) + 1), k=STATES // 2))
    reached, done = set(), 0
    for number, moment in enumerate(moments):
        for op, file, offset, data in recording[done:moment]:
            disk.apply(op, file, offset, data)
        done = moment
        mode = MODES[number % len(MODES)]
        disk.rebuild(tmp_path / "disk", mode, rng)
        where = f"COLLAB_POWERCUT_SEED={SEED}, moment {moment}, {mode}, {disk.acknowledged} acknowledged"
        try:
            commits = judge.look(tmp_path / "disk", disk.acknowledged)
            if number % 50 == 0:
                assert asyncio.run(served(tmp_path / "disk")) == judge.heads[commits]
        except Exception as error:
            raise AssertionError(f"{where}: {error}") from error
        reached.add(commits)
    assert judge.sealed > 1000, "next to nothing was packed"
    assert len(reached) > min(STATES // 2, 500) / 3, "the moments were not spread over the commits"


def test_the_simulation_sees_what_a_sync_is_for(record, tmp_path):
    """The judge can fail: without the syncs of the WAL the same recording loses acknowledged commits."""
    [(_, recording, _)] = record(1000, 200)
    names = {file: data.decode() for op, file, _, data in recording if op == "O"}
    judge, disk = Judge(200), Disk()
    for op, file, offset, data in recording:
        if op == "M" and offset == 150:
            break
        if op == "S" and names[file].endswith("-wal"):
            continue
        disk.apply(op, file, offset, data)
    disk.rebuild(tmp_path / "disk", "none", random.Random(SEED))
    with pytest.raises(AssertionError):
        judge.look(tmp_path / "disk", disk.acknowledged)


@pytest.mark.parametrize(
    ("op", "error", "expected"),
    [
        ("S", errno.EIO, "FatalStorageError"),
        ("W", errno.EIO, "FatalStorageError"),
        ("W", errno.ENOSPC, "StorageUnavailable"),
    ],
)
def test_a_disk_that_fails_at_the_nth_call_loses_nothing_acknowledged(record, tmp_path, op, error, expected):
    judge, rng = Judge(40), random.Random(SEED)
    ends = []
    # A checkpoint every few commits: calls on the WAL and on the database fail in turn.
    for nth, (directory, recording, said) in enumerate(record(8, 40, op, error, 40), 1):
        disk = Disk()
        for step in recording:
            disk.apply(*step)
        # SQLite keeps quiet about a checkpoint that failed, and may: the WAL is kept until one succeeds.
        assert said in (expected, "done"), f"{op}{nth}: {said}"
        assert disk.acknowledged == 40 or said == expected
        judge.look(directory, disk.acknowledged)
        for mode in MODES:
            disk.rebuild(tmp_path / "disk", mode, rng)
            judge.look(tmp_path / "disk", disk.acknowledged)
        ends.append(said)
    assert judge.sealed > 0
    assert len(ends) == 40
    assert ends.count(expected) > 10
