"""The hub over a log in memory that can be slow, fail or lose documents."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from itertools import pairwise
from typing import Any

import pytest
from pycrdt import merge_updates
from serverprocess import PATIENCE
from test_room import Typist, decoded
from wire import MemoryLog, Wire

from collab import hub as hub_module
from collab import protocol
from collab.errors import (
    CorruptLog,
    DocumentDeleted,
    Overloaded,
    ShuttingDown,
    StorageUnavailable,
)
from collab.hocuspocus import HOCUSPOCUS, REFUSED, SAVED
from collab.hub import Hub, Limits
from collab.log import Actor, Batch, Loaded, Origin
from collab.protocol import SyncStatus
from collab.room import BATCH_COUNT
from collab.session import Session


class SlowLog(MemoryLog):
    """Loads and appends wait until the test opens the gate."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = asyncio.Event()
        self.gate.set()
        self.broken: Exception | None = None

    async def load(self, document: str) -> Loaded:
        await self.gate.wait()
        return await super().load(document)

    async def append(self, batches: Sequence[Batch]) -> None:
        await self.gate.wait()
        if self.broken is not None:
            raise self.broken
        await super().append(batches)


@asynccontextmanager
async def running(
    log: MemoryLog, aside: Callable[..., Awaitable[Any]] = asyncio.to_thread, **limits: float
) -> AsyncIterator[Hub]:
    hub = Hub(log, Limits(**limits), aside)  # type: ignore[arg-type]
    async with asyncio.TaskGroup() as tasks:
        ready = asyncio.Event()
        work = tasks.create_task(hub.run(ready))
        await ready.wait()
        try:
            yield hub
        finally:
            work.cancel()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.001)


def someone() -> tuple[Session, Wire]:
    wire = Wire()
    return Session(Actor(f"guest:{id(wire)}"), wire), wire


def on_a_slow_log(test: Callable[[SlowLog], Awaitable[None]]) -> None:
    async def run() -> None:
        await test(SlowLog())

    asyncio.run(run())


def test_many_joiners_load_a_room_once_and_one_that_leaves_does_not_stop_the_load() -> None:
    async def scenario(log: SlowLog) -> None:
        async with running(log) as hub:
            log.gate.clear()
            joins = [asyncio.create_task(hub.open("d")) for _ in range(20)]
            await asyncio.sleep(0)
            joins[0].cancel()
            log.gate.set()
            rooms = await asyncio.gather(*joins[1:])
            assert len(set(rooms)) == 1
            assert log.loads == 1

    on_a_slow_log(scenario)


def test_one_commit_takes_what_waits_in_all_rooms() -> None:
    async def scenario(log: SlowLog) -> None:
        async with running(log) as hub:
            rooms = [await hub.open(name) for name in "abc"]
            for room in rooms:
                session, _ = someone()
                room.join(session)
                hub.receive(room, session, protocol.encode_update(Typist(1).type(0, room.name)))
            await until(lambda: len(log.entries) == 3)
            assert log.appends == 1

    on_a_slow_log(scenario)


def test_a_letter_waits_for_one_commit_of_a_bounded_size_and_no_book_is_passed_over_twice() -> None:
    async def scenario(log: SlowLog) -> None:
        commits: list[dict[str, int]] = []
        append = log.append

        async def counted(batches: Sequence[Batch]) -> None:
            await append(batches)
            commits.append({batch.document: len(batch.entries) for batch in batches})

        log.append = counted  # type: ignore[method-assign]
        async with running(log) as hub, AsyncExitStack() as stack:
            books = []
            for i in range(6):
                session, _ = someone()
                room = await stack.enter_async_context(hub.join(f"book-{i}", session))
                books.append((room, session, Typist(i + 1)))
            session, _ = someone()
            letter = await stack.enter_async_context(hub.join("letter", session))
            log.gate.clear()
            for room, author, typist in books:
                for n in range(300):
                    hub.receive(room, author, protocol.encode_update(typist.type(n, "a")))
            hub.receive(letter, session, protocol.encode_update(Typist(9).type(0, "a")))
            log.gate.set()
            await until(lambda: letter.durable == 1 and all(room.durable == 300 for room, _, _ in books))
        largest = hub_module.COMMIT_COUNT + BATCH_COUNT
        assert max(sum(commit.values()) for commit in commits) < largest
        assert any("letter" in commit for commit in commits[:2])
        for i in range(6):
            waits = [n for n, commit in enumerate(commits) if f"book-{i}" in commit]
            assert max(later - earlier for earlier, later in pairwise([-1, *waits])) <= 6

    on_a_slow_log(scenario)


def test_a_failing_commit_is_tried_again_and_then_acknowledged_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_module, "RETRY_PAUSES", (0.001,))

    async def scenario(log: SlowLog) -> None:
        async with running(log) as hub:
            session, wire = someone()
            async with hub.join("d", session) as room:
                hub.receive(room, session, protocol.encode_step1(b"\0"))
                log.fail = 3
                hub.receive(room, session, protocol.encode_update(Typist(1).type(0, "x")))
                hub.receive(room, session, protocol.encode_sync_status(b"1"))
                await until(lambda: protocol.encode_sync_status(b"1") in wire.messages)
                assert log.appends == 4
                assert hub.stats.commit_failures == 3
                assert decoded(wire).count(SyncStatus(b"1")) == 1

    on_a_slow_log(scenario)


def test_a_log_that_stays_away_sends_clients_away_and_forgets_what_is_not_saved(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hub_module, "RETRY_PAUSES", (0.001,))

    async def scenario(log: SlowLog) -> None:
        async with running(log, commit_patience=0.05) as hub:
            session, wire = someone()
            async with hub.join("d", session) as room:
                log.fail = 1_000_000
                hub.receive(room, session, protocol.encode_update(Typist(1).type(0, "lost here, kept there")))
                hub.receive(room, session, protocol.encode_sync_status(b"1"))
                await until(lambda: wire.closed)
                assert wire.closed == (1013, "the disk is full")
                assert protocol.encode_sync_status(b"1") not in wire.messages
            log.fail = 0
            assert await hub.text("d") == (0, "")

    on_a_slow_log(scenario)


def test_a_room_is_not_loaded_while_a_commit_of_its_predecessor_is_under_way() -> None:
    """Else the new room would number its entries over those that land a moment later."""

    async def scenario(log: SlowLog) -> None:
        async with running(log) as hub:
            session, _ = someone()
            async with hub.join("d", session) as room:
                log.gate.clear()
                hub.receive(room, session, protocol.encode_update(Typist(1).type(0, "x")))
                await asyncio.sleep(0.01)
                hub.end(room, Overloaded("for the test"))
                again = asyncio.create_task(hub.open("d"))
                await asyncio.sleep(0.01)
                assert not again.done()
                log.gate.set()
                assert (await again).head == 1

    on_a_slow_log(scenario)


def test_a_deleted_document_closes_its_sockets_and_is_not_made_again() -> None:
    async def scenario(log: SlowLog) -> None:
        async with running(log) as hub:
            session, wire = someone()
            async with hub.join("d", session):
                log.deleted.add("d")
                hub.forget("d")
                assert wire.closed is not None
                assert wire.closed[0] == 4404
            with pytest.raises(DocumentDeleted):
                await hub.open("d")

    on_a_slow_log(scenario)


def test_a_document_deleted_under_a_commit_ends_its_room_and_no_other() -> None:
    async def scenario(log: SlowLog) -> None:
        async with running(log) as hub:
            (a, a_wire), (b, b_wire) = someone(), someone()
            async with hub.join("a", a) as room_a, hub.join("b", b) as room_b:
                log.deleted.add("a")
                hub.receive(room_a, a, protocol.encode_update(Typist(1).type(0, "a")))
                hub.receive(room_b, b, protocol.encode_update(Typist(1).type(0, "b")))
                await until(lambda: room_b.durable == 1)
                assert a_wire.closed is not None
                assert a_wire.closed[0] == 4404
                assert b_wire.closed is None

    on_a_slow_log(scenario)


def test_an_idle_room_closes_after_its_grace_time_with_a_snapshot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_module, "TICK", 0.005)

    async def scenario(log: SlowLog) -> None:
        async with running(log, idle_seconds=0.02) as hub:
            session, _ = someone()
            async with hub.join("d", session) as room:
                hub.receive(room, session, protocol.encode_update(Typist(1).type(0, "words " * 1000)))
                await until(lambda: room.durable == 1)
                await asyncio.sleep(0.05)
                assert "d" in hub.rooms
            await until(lambda: "d" not in hub.rooms)
            assert log.snapshots["d"][0] == 1
            assert await hub.text("d") == (1, "words " * 1000)

    on_a_slow_log(scenario)


def test_the_log_is_asked_to_pack_what_is_cold_after_many_entries_and_when_a_room_closes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hub_module, "TICK", 0.005)
    monkeypatch.setattr(hub_module, "SEAL_EVERY", 10)

    async def scenario(log: SlowLog) -> None:
        async with running(log, idle_seconds=0.02) as hub:
            session, _ = someone()
            typist = Typist(1)
            async with hub.join("d", session) as room:
                for number in range(1, 26):
                    hub.receive(room, session, protocol.encode_update(typist.type(0, "x")))
                    await until(lambda: room.durable == number)  # noqa: B023 - awaited in its turn
                await until(lambda: len(log.seals) == 2)
            await until(lambda: "d" not in hub.rooms)
            assert log.seals == [("d", 10), ("d", 20)]
            await hub.open("d")
            await until(lambda: "d" not in hub.rooms)
            assert log.seals == [("d", 10), ("d", 20), ("d", 25)]

    on_a_slow_log(scenario)


def test_a_log_that_cannot_be_packed_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_module, "SEAL_EVERY", 2)

    async def scenario(log: SlowLog) -> None:
        tries = 0

        async def seal(_: str) -> None:
            nonlocal tries
            tries += 1
            raise CorruptLog("entry 1 does not match its checksum")

        log.seal = seal  # type: ignore[method-assign]
        async with running(log) as hub:
            session, _ = someone()
            typist = Typist(1)
            async with hub.join("d", session) as room:
                for number in range(1, 5):
                    hub.receive(room, session, protocol.encode_update(typist.type(0, "x")))
                    await until(lambda: room.durable == number)  # noqa: B023 - awaited in its turn
                await until(lambda: tries == 2)
                assert await hub.text("d") == (4, "xxxx")

    on_a_slow_log(scenario)


def test_beyond_the_memory_ceiling_the_longest_idle_rooms_go_first_then_joins_are_refused() -> None:
    async def scenario(log: SlowLog) -> None:
        async with running(log, memory_bytes=60_000) as hub:  # three empty rooms
            for name in "abc":
                await hub.open(name)
            hub.rooms["a"].used += 1
            await hub.open("d")
            assert "b" not in hub.rooms
            assert "a" in hub.rooms
            for room in hub.rooms.values():
                room.join(someone()[0])
            with pytest.raises(Overloaded):
                await hub.open("e")

    on_a_slow_log(scenario)


def test_a_log_that_does_not_make_a_document_is_refused_and_others_are_served() -> None:
    async def scenario(log: SlowLog) -> None:
        log.snapshots["bad"] = (0, b"\x01garbage")
        async with running(log) as hub:
            with pytest.raises(CorruptLog):
                await hub.open("bad")
            assert await hub.text("good") == (0, "")

    on_a_slow_log(scenario)


def test_a_bug_in_one_room_ends_that_room_and_the_next_join_loads_it_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scenario(log: SlowLog) -> None:
        async with running(log) as hub:
            (a, a_wire), (b, b_wire) = someone(), someone()
            async with hub.join("a", a) as room_a, hub.join("b", b) as room_b:
                monkeypatch.setattr(room_a, "receive", lambda *_: 1 / 0)
                hub.receive(room_a, a, b"\x00")
                assert a_wire.closed is not None
                assert a_wire.closed[0] == 1011
                assert hub.stats.rooms_failed == 1
                hub.receive(room_b, b, protocol.encode_update(Typist(1).type(0, "b")))
                await until(lambda: room_b.durable == 1)
                assert b_wire.closed is None
            assert (await hub.open("a")) is not room_a

    on_a_slow_log(scenario)


def test_a_failure_for_good_comes_out_of_run() -> None:
    class Fsync(Exception):
        pass

    async def scenario(log: SlowLog) -> None:
        with pytest.RaisesGroup(pytest.RaisesGroup(Fsync), flatten_subgroups=False):
            async with running(log) as hub:
                session, wire = someone()
                async with hub.join("d", session) as room:
                    log.broken = Fsync()
                    hub.receive(room, session, protocol.encode_update(Typist(1).type(0, "x")))
                    with suppress(asyncio.CancelledError):
                        await asyncio.sleep(10)
                    assert not any(f.startswith(b"\x00\x02") for f in wire.messages)

    on_a_slow_log(scenario)


def test_drain_commits_what_is_pending_and_sends_everyone_away() -> None:
    async def scenario(log: SlowLog) -> None:
        async with running(log) as hub:
            session, wire = someone()
            async with hub.join("d", session) as room:
                hub.receive(room, session, protocol.encode_update(Typist(1).type(0, "last words")))
                await hub.drain(2)
                assert wire.closed is not None
                assert wire.closed[0] == 1012
                assert len(log.entries["d"]) == 1
            with pytest.raises(ShuttingDown):
                await hub.open("d")

    on_a_slow_log(scenario)


def test_a_snapshot_that_is_not_made_in_time_does_not_keep_the_hub_from_ending() -> None:
    async def stuck(*_: object) -> None:
        await asyncio.Event().wait()

    async def scenario(log: SlowLog) -> None:
        async with running(log, stuck) as hub:
            session, wire = someone()
            async with hub.join("d", session) as room:
                hub.receive(
                    room, session, protocol.encode_update(Typist(1).type(0, "x" * 2 * hub_module.SMALL))
                )
                async with asyncio.timeout(PATIENCE):
                    await hub.drain(0.5)
                assert wire.closed is not None
                assert len(log.entries["d"]) == 1

    on_a_slow_log(scenario)


def test_text_is_given_only_as_far_as_it_is_durable() -> None:
    async def scenario(log: SlowLog) -> None:
        async with running(log) as hub:
            session, _ = someone()
            async with hub.join("d", session) as room:
                log.gate.clear()
                hub.receive(room, session, protocol.encode_update(Typist(1).type(0, "x")))
                reading = asyncio.create_task(hub.text("d"))
                await asyncio.sleep(0.01)
                assert not reading.done()
                log.gate.set()
                assert await reading == (1, "x")

    on_a_slow_log(scenario)


def test_text_that_cannot_be_saved_is_an_error_and_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_module, "RETRY_PAUSES", (0.001,))

    async def scenario(log: SlowLog) -> None:
        async with running(log, commit_patience=0.02) as hub:
            session, _ = someone()
            async with hub.join("d", session) as room:
                log.fail = 1_000_000
                hub.receive(room, session, protocol.encode_update(Typist(1).type(0, "x")))
                with pytest.raises(StorageUnavailable):
                    await hub.text("d")

    on_a_slow_log(scenario)


def test_a_room_that_is_evicted_before_its_joiner_arrives_is_not_joined() -> None:
    """Two rooms of one document would number its log twice."""

    async def scenario(log: SlowLog) -> None:
        async with running(log, memory_bytes=30_000) as hub:  # room for one
            opening = asyncio.create_task(hub.open("a"))
            while "a" not in hub.rooms:
                await asyncio.sleep(0)
            hub._evict()
            hub.limits = Limits(memory_bytes=1)
            hub._evict()
            assert "a" not in hub.rooms
            hub.limits = Limits()
            assert await opening is hub.rooms["a"]

    on_a_slow_log(scenario)


def test_a_document_deleted_while_it_loads_is_not_opened() -> None:
    async def scenario(log: SlowLog) -> None:
        async with running(log) as hub:
            log.gate.clear()
            opening = asyncio.create_task(hub.open("d"))
            await asyncio.sleep(0.01)
            hub.forget("d")
            log.gate.set()
            with pytest.raises(DocumentDeleted):
                await opening
            assert "d" not in hub.rooms

    on_a_slow_log(scenario)


def test_a_large_update_with_gaps_is_taken_as_far_as_it_stands() -> None:
    async def scenario(log: SlowLog) -> None:
        typist = Typist(1)
        first, _, third = typist.type(0, "a" * 70_000), typist.type(0, "b"), typist.type(0, "c" * 70_000)
        gapped = merge_updates(first, third)  # holds a Skip
        async with running(log) as hub:
            session, wire = someone()
            async with hub.join("d", session) as room:
                await hub.receive_large(room, session, protocol.encode_step2(gapped))
                assert not session.held
                await hub.settled(room, room.head)
                assert (await hub.text("d"))[1] == "a" * 70_000
                assert wire.closed is None

    on_a_slow_log(scenario)


@pytest.mark.parametrize("sound", [True, False], ids=["that is taken", "that is refused"])
def test_a_large_update_is_charged_with_what_it_takes_and_not_with_what_it_waits_for(sound: bool) -> None:
    async def after_others(function: Callable[..., object], *arguments: object) -> object:
        await asyncio.sleep(2)
        return await asyncio.to_thread(function, *arguments)

    async def scenario(log: SlowLog) -> None:
        typist = Typist(1)
        for _ in range(5_000):
            typist.type(0, "x" * 20)
        update = typist.doc.get_update()
        async with running(log, aside=after_others) as hub:
            session, wire = someone()
            async with hub.join("d", session) as room:
                frame = protocol.encode_update(update if sound else update + b"x")
                seconds = await hub.receive_large(room, session, frame)
                assert 0.001 < seconds < 1
                assert (wire.closed is None) == sound
                assert (room.head > 0) == sound

    on_a_slow_log(scenario)


def test_a_process_that_dies_of_an_update_costs_its_sender_a_reconnect_and_nobody_else_anything() -> None:
    async def dies(function: Callable[..., object], *arguments: object) -> object:
        raise BrokenProcessPool("killed")

    async def scenario(log: SlowLog) -> None:
        large = Typist(1).type(0, "x" * 100_000)
        async with running(log, aside=dies) as hub:
            (ada, ada_wire), (eve, eve_wire), (bob, bob_wire) = someone(), someone(), someone()
            eve.writes = False
            async with hub.join("d", ada) as room, hub.join("d", eve), hub.join("d", bob):
                hub.receive(room, bob, protocol.encode_update(Typist(2).type(0, "b")))
                await hub.receive_large(room, ada, protocol.encode_update(large))
                await hub.receive_large(room, eve, protocol.encode_update(large))
                assert ada_wire.closed is not None
                assert eve_wire.closed is not None
                assert (ada_wire.closed[0], eve_wire.closed[0]) == (1013, 1013)
                await hub.settled(room, 1)
                assert room.failure is None
                assert bob_wire.closed is None
                assert room.text()[1] == "b"
            with pytest.raises(Overloaded, match="try again"):
                await hub.write("d", Actor("user:ada"), Origin.API, large)

    on_a_slow_log(scenario)


def test_a_fault_in_a_sweep_or_a_snapshot_ends_no_other_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_module, "TICK", 0.001)

    async def scenario(log: SlowLog) -> None:
        async with running(log) as hub:
            (a, a_wire), (b, b_wire) = someone(), someone()
            async with hub.join("a", a) as room_a, hub.join("b", b) as room_b:
                monkeypatch.setattr(room_a, "sweep", lambda: 1 / 0)
                await until(lambda: a_wire.closed)
                with monkeypatch.context() as patch:
                    patch.setattr(hub_module.document, "snapshot", lambda *_, **__: 1 / 0)
                    hub.receive(room_b, b, protocol.encode_update(Typist(1).type(0, "x" * 300_000)))
                    await until(lambda: hub.stats.snapshot_failures)
                hub.receive(room_b, b, protocol.encode_update(Typist(2).type(0, "b")))
                await until(lambda: room_b.durable == 2)
                assert b_wire.closed is None

    on_a_slow_log(scenario)


@pytest.mark.parametrize(
    ("writes", "document_bytes", "answer", "kept"),
    [(False, 1 << 30, REFUSED, 0), (True, 100_000, REFUSED, 1), (True, 1 << 30, SAVED, 5)],
    ids=["of a reader", "into a full document", "that is taken"],
)
def test_a_large_update_is_answered_once_though_it_is_taken_in_pieces(
    writes: bool, document_bytes: int, answer: bytes, kept: int
) -> None:
    async def scenario(log: SlowLog) -> None:
        typist = Typist(1)
        for _ in range(5):
            typist.type(0, "x" * 60_000)
        async with running(log, document_bytes=document_bytes) as hub:
            wire = Wire()
            session = Session(Actor("user:1"), wire, writes=writes, dialect=HOCUSPOCUS)
            async with hub.join("d", session) as room:
                await hub.receive_large(room, session, protocol.encode_step2(typist.doc.get_update()))
                await hub.settled(room, room.head)
                hub.receive(room, session, protocol.encode_step2(b"\0\0"))
                assert [m for m in wire.take() if m in (SAVED, REFUSED)] == [answer, SAVED]
                assert room.head == kept
                assert wire.closed is None

    on_a_slow_log(scenario)


def test_the_next_commit_is_told_to_all_who_ask_and_to_nobody_s_memory() -> None:
    async def scenario(log: SlowLog) -> None:
        async with running(log) as hub:
            session, _ = someone()
            typist = Typist(1)
            async with hub.join("d", session) as room:
                first, again, other = hub.next_commit("d"), hub.next_commit("d"), hub.next_commit("e")
                hub.receive(room, session, protocol.encode_update(typist.type(0, "x")))
                async with asyncio.timeout(PATIENCE):
                    await asyncio.gather(first, again)
                assert log.entries["d"][-1].seq == 1
                assert not other.done()
                second = hub.next_commit("d")
                assert not second.done()
                hub.forget("d")
                assert second.done()
            del first, again, other, second
            assert not hub._next_commits

    on_a_slow_log(scenario)
