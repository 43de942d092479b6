import asyncio
import logging
import random
import sqlite3
import uuid
from pathlib import Path

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.engine import make_url

import storage.log
from collab.errors import CorruptLog, DocumentDeleted, InvalidName, StorageUnavailable
from collab.log import Actor, Batch, DocumentGone, Entry, Loaded, Origin
from storage.database import Database, FatalStorageError
from storage.log import UpdateLog
from storage.migrations import migrate

pytestmark = pytest.mark.anyio

ADA, BOB = Actor("user:ada", "user", "Ada"), Actor("guest:bob")
EMPTY = Loaded(epoch=1, base_seq=0, base=b"", tail=())


def entry(seq, actor=ADA, data=None, **fields):
    made = Entry(seq, actor, 2**53 - 1, 1_700_000_000_000_000 + seq, Origin.EDIT, data or b"update %d" % seq)
    return made._replace(**fields)


def batch(document, first, last, actor=ADA, epoch=1):
    return Batch(document, epoch, [entry(seq, actor) for seq in range(first, last + 1)])


def data(first, last):
    return [b"update %d" % seq for seq in range(first, last + 1)]


async def state(updates, document):
    loaded = await updates.load(document)
    return loaded.epoch, loaded.base_seq, loaded.base, list(loaded.tail)


async def execute(database, statement, **values):
    """Behind the log's back."""
    return await database.write(lambda c: c.execute(text(statement), values).rowcount)


async def count(database, table="updates"):
    return await database.read(lambda c: c.execute(text(f"SELECT count(*) FROM {table}")).scalar_one())


async def test_a_document_nobody_made_is_empty_and_stays_unmade(updates, database):
    assert await updates.load("a/b c é 😀") == EMPTY
    assert await updates.entries("a/b c é 😀", after=0, limit=10) == []
    await updates.verify("a/b c é 😀")
    assert await count(database, "documents") == 0


async def test_what_was_appended_is_loaded(updates):
    await updates.append([batch("a/b c é 😀", 1, 3)])
    await updates.append([batch("a/b c é 😀", 4, 5, BOB)])
    assert await state(updates, "a/b c é 😀") == (1, 0, b"", data(1, 5))


async def test_entries_come_back_whole_and_in_order(updates):
    stored = [
        entry(1, data=bytes(range(256))),
        entry(2, BOB, client=0, origin=Origin.OFFLINE),
        entry(3, data=b"x" * 2_000_000, origin=Origin.IMPORT),
        entry(4, Actor("agent:é", "agent", "😀"), client=7, origin=Origin.UNDO),
    ]
    await updates.append([Batch("doc", 1, stored)])
    assert await updates.entries("doc", after=0, limit=100) == stored
    assert await updates.entries("doc", after=1, limit=2) == stored[1:3]
    assert await updates.entries("doc", after=4, limit=2) == []


async def test_pages_are_read_across(updates, monkeypatch):
    monkeypatch.setattr("storage.log.PAGE", 10)
    for size in (10, 25):
        document = f"doc {size}"
        await updates.append([batch(document, 1, size)])
        assert await state(updates, document) == (1, 0, b"", data(1, size))
        assert [e.seq for e in await updates.entries(document, after=3, limit=15)] == list(
            range(4, min(size, 18) + 1)
        )


async def test_an_actor_keeps_its_number_and_takes_its_new_name(updates, database):
    await updates.append([batch("doc", 1, 2)])
    await updates.append([batch("doc", 3, 3, Actor("user:ada", "user", "Ada L."))])
    assert {e.actor for e in await updates.entries("doc", 0, 10)} == {Actor("user:ada", "user", "Ada L.")}
    assert await count(database, "actors") == 1


async def test_actors_are_forgotten_at_the_bound_and_found_again(updates, database, monkeypatch):
    monkeypatch.setattr("storage.log.KNOWN", 3)
    for seq in range(1, 11):
        await updates.append([batch("doc", seq, seq, Actor(f"guest:{seq % 5}"))])
    assert len(updates._actors) <= 3
    assert await count(database, "actors") == 5
    assert [e.actor.id for e in await updates.entries("doc", 0, 10)] == [
        f"guest:{n % 5}" for n in range(1, 11)
    ]


@pytest.mark.parametrize("name", ["a\0b", "\ud800"])
async def test_text_that_cannot_be_stored_never_spoils_a_commit_of_others(updates, name):
    with pytest.raises(InvalidName):
        await updates.load(name)
    await updates.append([batch("doc", 1, 1, Actor("guest:1", "guest", name)), batch("other", 1, 1)])
    assert [e.actor.name for e in await updates.entries("doc", 0, 1)] == [{"a\0b": "ab", "\ud800": "?"}[name]]


# --- all or nothing ----------------------------------------------------------------------------------


async def test_a_group_is_stored_whole_or_not_at_all(updates, database):
    await updates.append([batch("b", 1, 1)])
    with pytest.raises(FatalStorageError, match="gap"):
        await updates.append([batch("a", 1, 3, BOB), batch("b", 3, 3)])
    assert await state(updates, "a") == (1, 0, b"", [])
    assert await count(database, "documents") == await count(database, "actors") == 1
    await updates.append([batch("a", 1, 3, BOB), batch("b", 2, 3)])  # and what was cached was not believed
    assert await state(updates, "a") == (1, 0, b"", data(1, 3))
    assert [e.actor for e in await updates.entries("a", 0, 3)] == [BOB] * 3


async def test_entries_that_skip_a_seq_are_refused(updates):
    with pytest.raises(FatalStorageError, match="ends at 1; entry 3 would leave a gap"):
        await updates.append([Batch("doc", 1, [entry(1), entry(3)])])
    with pytest.raises(FatalStorageError, match="ends at 0; entry 2 would leave a gap"):
        await updates.append([batch("doc", 2, 2)])
    assert await state(updates, "doc") == (1, 0, b"", [])


async def test_the_same_entries_again_are_stored_once(updates, database):
    await updates.append([batch("doc", 1, 5), batch("other", 1, 2)])
    await updates.append([batch("doc", 1, 5), batch("other", 1, 2)])
    await updates.append([batch("doc", 4, 8)])
    assert await state(updates, "doc") == (1, 0, b"", data(1, 8))
    assert await count(database) == 10


@pytest.mark.parametrize(
    "change",
    [
        {"data": b"update 9"},
        {"actor": BOB},
        {"client": 5},
        {"received": 5},
        {"origin": Origin.RESTORE},
    ],
)
async def test_another_entry_under_the_same_seq_is_refused_loudly(updates, change):
    await updates.append([batch("doc", 1, 3, BOB), batch("doc", 4, 4)])
    with pytest.raises(FatalStorageError, match=r"entry 4 of 'doc' is stored already, and is another"):
        await updates.append([Batch("doc", 1, [entry(4)._replace(**change), entry(5)])])
    assert await state(updates, "doc") == (1, 0, b"", data(1, 4))


async def test_two_batches_of_one_document_follow_each_other(updates):
    await updates.append([batch("doc", 1, 2), batch("other", 1, 1), batch("doc", 3, 4)])
    assert await state(updates, "doc") == (1, 0, b"", data(1, 4))


@pytest.mark.parametrize("size", [1, 31, 32, 33, 64, 95, 200])
async def test_groups_of_every_size_are_stored_in_order(updates, size):
    await updates.append([batch("doc", 1, 3), batch("other", 1, 1, BOB), batch("doc", 4, size + 3, BOB)])
    await updates.append(
        [batch("other", 2, size + 1), batch("new", 1, size), batch("doc", size + 4, size + 4)]
    )
    for document, head in [("doc", size + 4), ("other", size + 1), ("new", size)]:
        assert await state(updates, document) == (1, 0, b"", data(1, head))
        await updates.verify(document)
    assert [e.actor for e in await updates.entries("doc", 0, size + 4)] == [ADA] * 3 + [BOB] * size + [ADA]


async def test_a_cancelled_append_again_is_stored_once(updates, database):
    await updates.append([batch("doc", 1, 2)])
    for first in range(3, 60, 3):
        appending = asyncio.create_task(updates.append([batch("doc", first, first + 2)]))
        await asyncio.sleep(0)  # it is on its way
        appending.cancel()
        await asyncio.wait([appending])
        await updates.append([batch("doc", first, first + 2), batch("other", first - 2, first)])
    assert await count(database) == 59 + 57
    for document in ("doc", "other"):
        await updates.verify(document)


async def test_appends_in_one_moment_follow_each_other(updates, database):
    async with asyncio.TaskGroup() as tasks:
        for seq in range(1, 101):
            tasks.create_task(updates.append([batch("doc", seq, seq), batch(f"doc {seq}", 1, 1)]))
    assert await state(updates, "doc") == (1, 0, b"", data(1, 100))
    assert await count(database) == 200


async def test_an_append_after_an_append_reads_nothing(sqlite_url, monkeypatch):
    await migrate(sqlite_url)
    database = await Database.open(sqlite_url)
    updates = UpdateLog(database)
    run, ran = storage.log._run, []

    def recorded(connection, statement, parameters):
        ran.append(statement.split()[0])
        return run(connection, statement, parameters)

    monkeypatch.setattr(storage.log, "_run", recorded)
    await updates.append([batch("doc", 1, 2)])
    await updates.append([batch("doc", 3, 4)])
    assert ran == ["SELECT", "INSERT", "INSERT"]
    await updates.append([batch("doc", 5, 5), batch("new", 1, 1)])
    assert ran[3:] == ["SELECT", "INSERT"]
    await database.write(lambda connection: None)
    await updates.append([batch("doc", 6, 6)])
    assert ran[5:] == ["SELECT", "INSERT"]
    await database.close()


async def test_what_another_program_changes_is_seen_by_the_next_append(sqlite_url):
    await migrate(sqlite_url)
    database = await Database.open(sqlite_url)
    updates = UpdateLog(database)
    shell = sqlite3.connect(make_url(sqlite_url).database, isolation_level=None)
    await updates.append([batch("doc", 1, 2), batch("other", 1, 2)])
    shell.execute("UPDATE documents SET deleted_at = 1 WHERE name = 'doc'")
    with pytest.raises(DocumentGone):
        await updates.append([batch("doc", 3, 3), batch("other", 3, 3)])
    shell.execute("UPDATE documents SET deleted_at = NULL, epoch = 2 WHERE name = 'doc'")
    with pytest.raises(DocumentGone):
        await updates.append([batch("doc", 3, 3)])
    shell.execute("DELETE FROM updates WHERE seq = 3")
    shell.close()
    with pytest.raises(FatalStorageError, match="'other' ends at 2; entry 4 would leave a gap"):
        await updates.append([batch("doc", 3, 3, epoch=2), batch("other", 4, 4)])
    await updates.append([batch("doc", 3, 3, epoch=2), batch("other", 3, 3)])
    await updates.verify("other")
    await database.close()


async def test_appends_at_once_and_a_load_in_the_midst_see_prefixes(updates):
    done = asyncio.Event()

    async def write():
        for seq in range(1, 301):
            await updates.append([batch("doc", seq, seq), batch("other", seq, seq, BOB)])
        done.set()

    async def read():
        heads = []
        while not done.is_set():
            loaded = await updates.load("doc")
            assert list(loaded.tail) == data(1, loaded.head)
            heads.append(loaded.head)
        return heads

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(write())
        reading = tasks.create_task(read())
    heads = reading.result()
    assert heads == sorted(heads)
    assert len(set(heads)) > 2, "no load saw a log in the midst of growing"
    assert (await updates.load("doc")).head == 300


async def test_many_documents_fit_in_one_commit(updates, monkeypatch):
    monkeypatch.setattr("storage.log.NAMES", 7)
    await updates.append([batch(f"doc {n}", 1, 2, Actor(f"guest:{n}")) for n in range(50)])
    await updates.append([batch(f"doc {n}", 3, 3) for n in range(50)])
    for n in range(50):
        assert (await updates.load(f"doc {n}")).head == 3


# --- deleted, reset ----------------------------------------------------------------------------------


async def test_a_deleted_document_loses_its_batch_and_no_other(updates, documents):
    await updates.append([batch("gone", 1, 2), batch("here", 1, 2)])
    await documents.delete("gone")
    with pytest.raises(DocumentGone) as raised:
        await updates.append([batch("gone", 3, 3), batch("here", 3, 3, BOB)])
    assert raised.value.documents == {"gone"}
    assert (await updates.load("here")).head == 3
    for refused in (updates.load("gone"), updates.entries("gone", 0, 1)):
        with pytest.raises(DocumentDeleted):
            await refused
    with pytest.raises(DocumentGone):
        await updates.snapshot("gone", 1, 2, b"all")
    await documents.undelete("gone")
    assert await state(updates, "gone") == (1, 0, b"", data(1, 2))


async def test_a_reset_document_refuses_what_belongs_to_its_past(updates, database):
    await updates.append([batch("doc", 1, 1)])
    await execute(database, "UPDATE documents SET epoch = 2")
    for late in (batch("doc", 2, 2, epoch=1), batch("new", 1, 1, epoch=2)):
        with pytest.raises(DocumentGone):
            await updates.append([late])
    with pytest.raises(DocumentGone):
        await updates.snapshot("doc", 1, 1, b"all")
    await updates.append([batch("doc", 2, 2, epoch=2)])
    assert await state(updates, "doc") == (2, 0, b"", data(1, 2))


# --- snapshots ---------------------------------------------------------------------------------------


async def test_a_snapshot_stands_for_the_entries_before_it(updates, database):
    await updates.append([batch("doc", 1, 5)])
    await updates.snapshot("doc", 1, 3, b"state 3")
    assert await state(updates, "doc") == (1, 3, b"state 3", data(4, 5))
    await updates.snapshot("doc", 1, 5, b"state 5")
    assert await state(updates, "doc") == (1, 5, b"state 5", [])
    assert await count(database, "snapshots") == 1
    assert await count(database) == 5, "the log is never pruned"
    await updates.verify("doc")


async def test_a_snapshot_again_or_an_older_one_changes_nothing(updates, database):
    await updates.append([batch("doc", 1, 5)])
    await updates.snapshot("doc", 1, 5, b"state 5")
    await updates.snapshot("doc", 1, 5, b"another state 5")
    await updates.snapshot("doc", 1, 2, b"state 2")
    assert await state(updates, "doc") == (1, 5, b"state 5", [])
    assert await count(database, "snapshots") == 1


async def test_a_snapshot_beyond_the_log_is_refused(updates, database):
    await updates.append([batch("doc", 1, 5)])
    with pytest.raises(CorruptLog, match="at 6, but its log ends at 5"):
        await updates.snapshot("doc", 1, 6, b"state 6")
    with pytest.raises(DocumentGone):
        await updates.snapshot("nobody made it", 1, 1, b"state 1")
    assert await count(database, "snapshots") == 0


async def test_a_damaged_snapshot_is_passed_over_and_replaced(updates, database, caplog):
    await updates.append([batch("doc", 1, 5)])
    await updates.snapshot("doc", 1, 4, b"state 4")
    await execute(database, "UPDATE snapshots SET data = :data", data=b"state 5")
    with caplog.at_level(logging.ERROR):
        assert await state(updates, "doc") == (1, 0, b"", data(1, 5))
    assert "snapshot of 'doc' at 4 is damaged" in caplog.text
    with pytest.raises(CorruptLog, match="snapshot of 'doc' at 4"):
        await updates.verify("doc")
    await updates.snapshot("doc", 1, 4, b"state 4")
    assert await state(updates, "doc") == (1, 4, b"state 4", data(5, 5))
    await updates.verify("doc")


# --- segments ----------------------------------------------------------------------------------------


@pytest.fixture
def small_segments(monkeypatch):
    monkeypatch.setattr("storage.log.SEGMENT", 10)
    monkeypatch.setattr("storage.log.HOT", 5)


async def test_sealing_changes_nothing_that_is_read(updates, documents, database, small_segments):
    stored = [
        entry(1, data=bytes(range(256))),
        entry(2, BOB, client=0, origin=Origin.OFFLINE, received=5),
        *(entry(seq, (ADA, BOB)[seq % 3 % 2]) for seq in range(3, 100)),
        entry(100, Actor("agent:é", "agent", "😀"), client=7, origin=Origin.UNDO, data=b"x" * 2_000_000),
        *(entry(seq) for seq in range(101, 120)),
    ]
    await updates.append([Batch("doc", 1, stored), batch("other", 1, 30)])
    listed = await documents.get("doc")
    for _ in range(2):
        await updates.seal("doc")
        assert (await count(database, "segments"), await count(database)) == (11, 9 + 30)
        assert await updates.entries("doc", 0, 1000) == stored
        assert await state(updates, "doc") == (1, 0, b"", [e.data for e in stored])
        assert await documents.get("doc") == listed
        await updates.verify("doc")
    for after in range(121):
        for limit in (1, 7, 20):
            assert await updates.entries("doc", after, limit) == stored[after : after + limit]
    await updates.append([batch("doc", 120, 121)])
    assert (await updates.load("doc")).head == 121
    await updates.seal("other")
    assert await state(updates, "other") == (1, 0, b"", data(1, 30))
    await updates.seal("nobody's")


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(1, 12) | st.sampled_from(["seal", "snapshot", "again", "delete"]), max_size=12))
async def test_whatever_is_sealed_when_the_log_reads_as_it_was_written(
    updates, documents, database, small_segments, steps
):
    name, stored, base = uuid.uuid4().hex, [], 0
    for step in steps:
        head = len(stored)
        if isinstance(step, int):
            new = [
                entry(seq, (ADA, BOB)[seq % 2], data=b"%d" % (seq * step))
                for seq in range(head + 1, head + 1 + step)
            ]
            await updates.append([Batch(name, 1, new)])
            stored += new
        elif step == "seal":
            await updates.seal(name)
        elif not stored:
            continue
        elif step == "snapshot":
            await updates.snapshot(name, 1, head, b"state %d" % head)
            base = head
        elif step == "again":  # the outcome of an append was not known
            await updates.append([Batch(name, 1, stored[-random.randint(1, head) :])])
        elif step == "delete":
            await documents.delete(name)
            await updates.seal(name)
            await documents.undelete(name)
        await updates.verify(name)
        assert await updates.entries(name, 0, 1000) == stored
        loaded = await updates.load(name)
        assert (loaded.base_seq, [*loaded.tail]) == (base, [e.data for e in stored[base:]])


async def test_segments_are_cut_by_their_size_too(updates, database, monkeypatch):
    monkeypatch.setattr("storage.log.SEGMENT_BYTES", 1000)
    monkeypatch.setattr("storage.log.HOT", 5)
    await updates.append([Batch("doc", 1, [entry(seq, data=b"x" * 400) for seq in range(1, 13)])])
    await updates.seal("doc")
    assert (await count(database, "segments"), await count(database)) == (2, 6)
    await updates.verify("doc")


async def test_sealing_at_once_seals_once(updates, database, small_segments):
    await updates.append([batch("doc", 1, 100)])
    await asyncio.gather(*(updates.seal("doc") for _ in range(4)), updates.append([batch("doc", 101, 110)]))
    assert await state(updates, "doc") == (1, 0, b"", data(1, 110))
    assert await count(database) + 10 * await count(database, "segments") == 110
    await updates.verify("doc")


async def test_a_damaged_log_is_not_sealed(updates, database, small_segments):
    await updates.append([batch("doc", 1, 40)])
    await execute(database, "UPDATE updates SET client = 3 WHERE seq = 15")
    with pytest.raises(CorruptLog, match="entry 15 of 'doc'"):
        await updates.seal("doc")
    assert (await count(database, "segments"), await count(database)) == (1, 30)


async def test_the_pages_that_sealing_frees_are_used_again(sqlite_url, monkeypatch):
    monkeypatch.setattr("storage.log.SEGMENT", 200)
    await migrate(sqlite_url)
    database = await Database.open(sqlite_url)
    updates = UpdateLog(database)
    pages = []
    for first in range(1, 20_000, 1000):
        await updates.append([batch("doc", first, first + 999)])
        await updates.seal("doc")
        pages.append(await database.read(lambda c: c.exec_driver_sql("PRAGMA page_count").scalar_one()))
    assert pages[-1] - pages[1] < pages[1] / 4  # as rows, they would take ten times as many
    await database.close()


# --- rot (R19) ---------------------------------------------------------------------------------------


def flipped(value):
    """Every way to turn one bit in each byte of a stored value."""
    if isinstance(value, int):
        size = 8 if abs(value) >= 2**31 else 4
        for bit in range(0, size * 8 - 1, 3):
            yield value ^ (1 << bit)
    else:
        for place in range(len(value)):
            yield value[:place] + bytes([value[place] ^ (1 << place % 8)]) + value[place + 1 :]


async def stored_row(database, table, where):
    def work(connection):
        return dict(connection.execute(text(f"SELECT * FROM {table} WHERE {where}")).mappings().one())

    return await database.read(work)


async def test_every_flipped_byte_of_an_entry_is_found(updates, database):
    await updates.append([batch("doc", 1, 3), batch("other", 1, 3, BOB)])
    # Numbers that exist, so that foreign keys do not refuse the damage.
    row = await stored_row(database, "updates", "seq = 2 AND document = 1")
    tried = 0
    for column, value in row.items():
        for wrong in {"document": [2], "actor": [2]}.get(column, flipped(value)):
            if column == "document":
                await execute(database, "DELETE FROM updates WHERE document = 2 AND seq = 2")
            if column == "origin" and not -(2**15) <= wrong < 2**15:
                continue
            if column == "seq" and wrong in (1, 3):
                continue  # the primary key keeps two rows from having one number
            damage = f"UPDATE updates SET {column} = :wrong WHERE document = :d AND seq = :s"
            assert await execute(database, damage, wrong=wrong, d=1, s=2) == 1, column
            for read in (updates.load("doc"), updates.entries("doc", 0, 9), updates.verify("doc")):
                with pytest.raises(CorruptLog, match=r"entry \d of 'doc'|entry 2 of 'doc' is missing"):
                    await read
            at = {"document": 1, "seq": 2, column: wrong}
            heal = f"UPDATE updates SET {column} = :value WHERE document = :d AND seq = :s"
            assert await execute(database, heal, value=value, d=at["document"], s=at["seq"]) == 1
            tried += 1
        await updates.verify("doc")
    assert tried > 60


async def test_every_flipped_byte_of_a_snapshot_is_found(updates, database):
    await updates.append([batch("doc", 1, 3), batch("other", 1, 3)])
    await updates.snapshot("doc", 1, 3, b"state 3")
    row = await stored_row(database, "snapshots", "document = 1")
    tried = 0
    for column, value in row.items():
        if column == "document":
            continue
        for wrong in flipped(value):
            assert await execute(database, f"UPDATE snapshots SET {column} = :wrong", wrong=wrong) == 1
            assert await state(updates, "doc") == (1, 0, b"", data(1, 3))
            with pytest.raises(CorruptLog, match="snapshot of 'doc'"):
                await updates.verify("doc")
            await execute(database, f"UPDATE snapshots SET {column} = :value", value=value)
            tried += 1
    assert await state(updates, "doc") == (1, 3, b"state 3", [])
    await execute(database, "UPDATE snapshots SET document = 2")
    with pytest.raises(CorruptLog, match="snapshot of 'other'"):
        await updates.verify("other")
    assert tried > 40


async def test_every_flipped_byte_of_a_segment_is_found(updates, database, small_segments):
    await updates.append([batch("doc", 1, 25), batch("other", 1, 3)])
    await updates.seal("doc")
    row = await stored_row(database, "segments", "last = 10")
    tried = 0
    for column, value in row.items():
        for wrong in [2] if column == "document" else flipped(value):
            damage = f"UPDATE segments SET {column} = :wrong WHERE last = 10"
            assert await execute(database, damage, wrong=wrong) == 1, column
            for read in (updates.load("doc"), updates.entries("doc", 0, 9), updates.verify("doc")):
                with pytest.raises(CorruptLog, match="of 'doc'"):
                    await read
            at = wrong if column == "last" else 10
            heal = f"UPDATE segments SET {column} = :value WHERE last = {at}"
            assert await execute(database, heal, value=value) == 1
            tried += 1
        await updates.verify("doc")
    assert tried > 100


@pytest.mark.parametrize(
    "lost", ["segments WHERE last = 10", "segments WHERE last = 20", "updates WHERE seq = 21"]
)
async def test_a_lost_segment_is_found(updates, database, small_segments, lost):
    await updates.append([batch("doc", 1, 26), batch("other", 1, 5)])
    await updates.seal("doc")
    await execute(database, f"DELETE FROM {lost}")
    for read in (updates.load("doc"), updates.verify("doc")):
        with pytest.raises(
            CorruptLog, match=r"entry \d+ of 'doc' is missing|of 'doc' are damaged: entry \d+ is missing"
        ):
            await read
    assert (await updates.load("other")).head == 5


async def test_an_entry_that_is_there_twice_is_found(updates, database, small_segments):
    await updates.append([batch("doc", 1, 26)])
    await updates.seal("doc")
    await execute(
        database,
        "INSERT INTO updates SELECT document, 4, actor, client, received, origin, data, checksum "
        "FROM updates WHERE seq = 26",
    )
    with pytest.raises(CorruptLog, match="entry 4 of 'doc' is there twice"):
        await updates.verify("doc")


@pytest.mark.parametrize("lost", [1, 2, 4])
async def test_a_lost_entry_is_found_and_other_documents_are_served(updates, database, lost):
    await updates.append([batch("doc", 1, 5), batch("other", 1, 5)])
    await execute(database, f"DELETE FROM updates WHERE document = 1 AND seq = {lost}")
    for read in (updates.load("doc"), updates.verify("doc")):
        with pytest.raises(CorruptLog, match=f"entry {lost} of 'doc' is missing"):
            await read
    assert (await updates.load("other")).head == 5


async def test_values_of_the_wrong_type_are_damage_too(sqlite_url):
    await migrate(sqlite_url)
    database = await Database.open(sqlite_url)
    updates = UpdateLog(database)
    await updates.append([batch("doc", 1, 2)])
    for column in ("client", "received", "origin", "data", "checksum"):
        await execute(database, f"UPDATE updates SET {column} = 'text' WHERE seq = 1")
        with pytest.raises(CorruptLog, match="entry 1 of 'doc'"):
            await updates.load("doc")
        await execute(database, "DELETE FROM updates")
        await updates.append([batch("doc", 1, 2)])
    await database.close()


def overwrite(file, after):
    whole = file.read_bytes()
    file.write_bytes(whole[:after] + b"\xff" * (len(whole) - after))


def size(file):
    return file.stat().st_size


async def test_a_damaged_file_is_reported_and_not_written_to(sqlite_url):
    await migrate(sqlite_url)
    file = Path(make_url(sqlite_url).database)
    schema = size(file)
    database = await Database.open(sqlite_url)
    updates = UpdateLog(database)
    await updates.append([batch("doc", 1, 2000)])
    await database.close()
    overwrite(file, after=schema)
    database = await Database.open(sqlite_url)
    updates = UpdateLog(database)
    with pytest.raises(CorruptLog, match="damaged"):
        await updates.load("doc")
    with pytest.raises(FatalStorageError):
        await updates.append([batch("doc", 2001, 2001)])
    with pytest.raises(FatalStorageError, match="restore it from a copy"):
        await updates.append([batch("new", 1, 1)])
    await database.close()


# --- outages (R9, R16, R18) --------------------------------------------------------------------------


async def test_a_full_disk_is_an_outage_and_then_it_goes_on(sqlite_url):
    await migrate(sqlite_url)
    database = await Database.open(sqlite_url)
    updates = UpdateLog(database)
    pages = await database.read(lambda c: c.exec_driver_sql("PRAGMA page_count").scalar_one())
    await database.write(lambda c: c.exec_driver_sql(f"PRAGMA max_page_count = {pages + 20}").scalar_one())
    seq = 0
    try:
        while True:
            await updates.append([batch("other", seq + 1, seq + 50, BOB), batch("doc", seq + 1, seq + 50)])
            seq += 50
    except StorageUnavailable as error:
        assert "full" in str(error)  # noqa: PT017 - the loop has no other end
    assert seq > 0
    for _ in range(3):
        with pytest.raises(StorageUnavailable, match="full"):
            await updates.append([batch("doc", seq + 1, seq + 2000)])
    for document in ("doc", "other"):
        assert await state(updates, document) == (1, 0, b"", data(1, seq))
    await database.write(lambda c: c.exec_driver_sql("PRAGMA max_page_count = 100000").scalar_one())
    await updates.append([batch("doc", seq + 1, seq + 2000)])
    await updates.verify("doc")
    assert (await updates.load("doc")).head == seq + 2000
    await database.close()


async def test_a_locked_database_is_an_outage_and_then_it_goes_on(sqlite_url, monkeypatch):
    await migrate(sqlite_url)
    monkeypatch.setattr("storage.database.BUSY_TIMEOUT", 50)
    database = await Database.open(sqlite_url)
    updates = UpdateLog(database)
    shell = sqlite3.connect(make_url(sqlite_url).database, isolation_level=None)
    shell.execute("BEGIN IMMEDIATE")
    with pytest.raises(StorageUnavailable, match="locked"):
        await updates.append([batch("doc", 1, 2)])
    assert await updates.load("doc") == EMPTY
    shell.execute("COMMIT")
    shell.close()
    await updates.append([batch("doc", 1, 2)])
    assert (await updates.load("doc")).head == 2
    await database.close()


async def test_a_load_that_fails_is_never_an_empty_document(updates, database, monkeypatch):
    """R18: each statement of a load fails once."""
    await updates.append([batch("doc", 1, 5)])
    await updates.snapshot("doc", 1, 3, b"state 3")
    whole = await state(updates, "doc")
    run, left = storage.log._run, [0]

    def run_or_fail(connection, statement, parameters):
        left[0] -= 1
        if left[0] == 0:
            raise TimeoutError("the database does not answer")
        return run(connection, statement, parameters)

    monkeypatch.setattr(storage.log, "_run", run_or_fail)
    await updates.load("doc")
    for failing in range(1, 1 - left[0]):
        left[0] = failing
        with pytest.raises(StorageUnavailable):
            await updates.load("doc")
        assert left[0] == 0
        assert await state(updates, "doc") == whole
    assert failing == 3  # the document, its snapshot, its tail


async def test_a_connection_ended_in_mid_append_stores_all_or_nothing(postgresql_url):
    await migrate(postgresql_url)
    database = await Database.open(postgresql_url)
    updates = UpdateLog(database)
    killer = await asyncpg.connect(postgresql_url)
    seq = failures = 0

    async def writer():
        return await database.write(lambda c: c.execute(text("SELECT pg_backend_pid()")).scalar_one())

    for delay in range(40):
        try:
            victim = await writer()
        except StorageUnavailable:  # the last append was done before its connection was cut
            victim = await writer()
        appending = asyncio.create_task(updates.append([batch("doc", seq + 1, seq + 20)]))
        for _ in range(delay // 2):
            await asyncio.sleep(0)  # turn by turn, so that the cut falls in every phase
        await killer.execute("SELECT pg_terminate_backend($1)", victim)
        try:
            await appending
        except StorageUnavailable:
            failures += 1
            assert (await updates.load("doc")).head in (seq, seq + 20)
            await updates.append([batch("doc", seq + 1, seq + 20)])
        seq += 20
    assert failures > 0
    await updates.verify("doc")
    assert await state(updates, "doc") == (1, 0, b"", data(1, seq))
    await killer.close()
    await database.close()


class CommitCutter:
    """A proxy that lets COMMIT through and cuts the line before, or instead of, the answer."""

    def __init__(self, host, port):
        self.target = (host, port)
        self.armed = False
        self.cuts = 0

    async def serve(self, reader, writer):
        try:
            if str(self.target[0]).startswith("/"):
                path = f"{self.target[0]}/.s.PGSQL.{self.target[1]}"
                server_reader, server_writer = await asyncio.open_unix_connection(path)
            else:
                server_reader, server_writer = await asyncio.open_connection(*self.target)
            self.cutting = False

            async def forward():
                while chunk := await reader.read(1 << 16):
                    self.cutting = self.armed and b"COMMIT" in chunk
                    server_writer.write(chunk)
                server_writer.close()

            async def back():
                while chunk := await server_reader.read(1 << 16):
                    if self.cutting:  # the server has committed: this is its answer
                        self.armed, self.cuts = False, self.cuts + 1
                        writer.transport.abort()
                        server_writer.close()
                        return
                    writer.write(chunk)
                writer.close()

            await asyncio.gather(forward(), back())
        except ConnectionError:
            pass
        finally:
            writer.close()


async def test_a_cut_at_commit_stores_once(postgresql_url):
    """R16: the outcome is unknown to the writer, who asks again."""
    await migrate(postgresql_url)
    direct = await asyncpg.connect(postgresql_url)
    row = await direct.fetchrow("SHOW unix_socket_directories")
    port = int((await direct.fetchrow("SHOW port"))[0])
    url = make_url(postgresql_url)
    host = url.host or url.query.get("host") or row[0].split(",")[0].strip()
    cutter = CommitCutter(host, url.port or port)
    server = await asyncio.start_server(cutter.serve, "127.0.0.1", 0)
    listening = server.sockets[0].getsockname()[1]
    proxied = url.set(host="127.0.0.1", port=listening, query={"ssl": "disable"})
    if url.username is None:
        proxied = proxied.set(username=(await direct.fetchval("SELECT current_user")))
    database = await Database.open(proxied.render_as_string(hide_password=False))
    updates = UpdateLog(database)
    for n in range(100):
        cutter.armed = True
        group = [batch("doc", 3 * n + 1, 3 * n + 3, Actor(f"guest:{n}")), batch(f"doc {n}", 1, 1, BOB)]
        with pytest.raises(StorageUnavailable):
            await updates.append(group)
        assert await direct.fetchval("SELECT max(seq) FROM updates") == 3 * n + 3, "COMMIT did not arrive"
        await updates.append(group)
    assert cutter.cuts == 100
    assert await state(updates, "doc") == (1, 0, b"", data(1, 300))
    assert await direct.fetchval("SELECT count(*) FROM updates") == 400
    await updates.verify("doc")
    await database.close()
    await direct.close()
    server.close()


async def test_a_page_ends_early_where_updates_are_large_and_is_never_empty(updates, monkeypatch):
    monkeypatch.setattr("storage.log.SEGMENT", 10)
    monkeypatch.setattr("storage.log.HOT", 20)
    await updates.append([Batch("doc", 1, [entry(seq, data=b"x" * 400) for seq in range(1, 51)])])
    assert len(await updates.entries("doc", 0, 100, most=1000)) == 3
    assert len(await updates.entries("doc", 0, 100, most=1)) == 1
    await updates.seal("doc")
    found, after = [], 0
    while page := await updates.entries("doc", after, 100, most=1000):
        assert len(page) <= 10
        found += page
        after = page[-1].seq
    assert found == await updates.entries("doc", 0, 100)
    assert len(found) == 50
