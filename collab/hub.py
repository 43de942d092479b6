"""This process's rooms: open, commit, tell, compact, evict.

The hub is the thin part that waits: for the log. What is decided is decided in ``Room``. One commit
takes what waits in every room; while it is under way, new updates gather. That is the batching clock.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures.process import BrokenProcessPool
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar
from weakref import WeakValueDictionary

from collab import document, protocol, update
from collab.awareness import STATE_LIMIT
from collab.errors import (
    CollabError,
    CorruptLog,
    DocumentDeleted,
    HeadMoved,
    Overloaded,
    RoomFailed,
    ShuttingDown,
    StorageUnavailable,
    TooLarge,
)
from collab.log import Actor, Batch, DocumentGone, Log, Origin
from collab.room import Room
from collab.session import Session, Unheard
from collab.stats import Stats

PRESENCE_INTERVAL = 0.03  # seconds over which presence is gathered
PRESENCE_PER_SESSION = 0.0005  # and more in large rooms, where each flush costs more
PRESENCE_SLOWEST = 0.25
TICK = 1.0  # seconds between looks at idle rooms
SWEEP_TICKS = 10  # a quiet socket hears something every 10-20 s; clients give up after 30
RETRY_PAUSES = (0.05, 0.1, 0.2, 0.5, 1.0)  # seconds between tries of a failing commit; then the last
SEAL_EVERY = 1024  # entries of a room after which the log is asked to pack what is cold of it
WORTH_STORING = 4096  # bytes of tail for which a closing room writes a snapshot first

SMALL = 8 << 10  # bytes that are soon checked, or made into a snapshot, on a thread of this process
PIECE = 4 << 10  # bytes of a large update taken at a time, up to 2 ms of work
# A commit takes some milliseconds, which whoever comes while it is under way waits for.
COMMIT_COUNT = 256  # entries after which no other room is taken into it, and
COMMIT_BYTES = 64 << 10  # bytes
TURN = 0.001  # seconds of work on rooms before whoever else has something to do gets to it

_log = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Limits:
    """What bounds the hub; docs/operations.md explains each."""

    idle_seconds: float = 30.0  # an empty room stays loaded so long
    memory_bytes: int = 1 << 30  # estimated for all rooms together
    commit_patience: float = 10.0  # seconds of failing commits before clients are sent away
    document_bytes: int = 64 << 20  # of a document as stored; beyond it nothing is added
    awareness_bytes: int = STATE_LIMIT  # of one client's presence


class Hub:
    """Rooms by name over one log. ``run`` must be running for a room to open or commit."""

    def __init__(
        self, log: Log, limits: Limits | None = None, aside: Callable[..., Awaitable[Any]] = asyncio.to_thread
    ) -> None:
        self.created: Callable[[str], None] = lambda document: None  # told when a first entry is durable
        self.changed: Callable[[str], None] = lambda document: None  # ... or any, or it was deleted
        self.stats = Stats()
        self.rooms: dict[str, Room] = {}
        self.limits = limits or Limits()
        self.closing = False
        self._log = log
        self._aside = aside  # where what takes long is done; it is given pure functions
        self._tasks: asyncio.TaskGroup | None = None
        self._loading: dict[str, asyncio.Task[Room | CollabError]] = {}
        self._stirred: set[Room] = set()
        self._passed_over: dict[Room, int] = {}  # how often, by commits one after the other
        self._work = asyncio.Event()
        self._in_flight: set[str] = set()  # documents in the commit under way
        self._landed = asyncio.Event()
        self._settling: list[tuple[Room, int, asyncio.Future[None]]] = []
        self._next_commits: WeakValueDictionary[str, asyncio.Future[None]] = WeakValueDictionary()
        self._moved: set[Room] = set()
        self._compacting: dict[Room, bool] = {}  # in the order of asking; whether a snapshot is wanted
        self._compact_work = asyncio.Event()
        self._weight = 0

    async def run(self, ready: asyncio.Event | None = None) -> None:
        """Commit, compact and evict until cancelled. What the log raises for good (a failed fsync) comes
        out of here: the process must end then, and recover from the log."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._commit_forever(), name="commit")
            tasks.create_task(self._compact_forever(), name="compact")
            tasks.create_task(self._tick_forever(), name="tick")
            self._tasks = tasks
            if ready is not None:
                ready.set()

    # --- sessions

    @asynccontextmanager
    async def join(self, name: str, session: Session) -> AsyncIterator[Room]:
        """The live room of document ``name`` with ``session`` in it.

        Raises DocumentDeleted, CorruptLog, StorageUnavailable, Overloaded, ShuttingDown, RoomFailed.
        """
        room = await self.open(name)
        room.join(session)
        try:
            yield room
        finally:
            room.leave(session)

    def receive(self, room: Room, session: Session, frame: bytes) -> None:
        """Give a frame to its room. A bug in one room ends that room, not the process."""
        self.stats.frames += 1
        try:
            room.receive(session, frame)
        except Exception:
            self._failed(room)
        if room.failure is not None:
            self.end(room, room.failure)

    async def receive_large(self, room: Room, session: Session, frame: bytes) -> float:
        """Give a frame with a large update to its room piece by piece, so that others get their turn; the
        seconds of a processor that it took, here and away, without those for which it waited.

        The update is checked whole, off the event loop; then each piece goes through the same door as a
        keystroke. A piece that comes before what it depends on waits for that, as always.
        """
        self.stats.frames += 1
        work = _Work()
        try:
            for message in protocol.decode(frame):
                if session.closed:
                    break
                if not isinstance(message, protocol.Update | protocol.SyncStep2):
                    room.take(session, message)
                elif not session.writes:
                    clocks = dict(room.clocks)
                    checked = await work.of(
                        self.away(len(frame), _worked, update.check, message.update, clocks)
                    )
                    session.received += 1
                    room.deny(session, checked)
                else:
                    origin = Origin.EDIT if isinstance(message, protocol.Update) else Origin.OFFLINE
                    for part in await work.of(self.away(len(frame), _worked, _checked_parts, message.update)):
                        if session.closed or not room.receive_update(session, part, origin):
                            break  # and it has been told so, once for all
                        with work.waiting():
                            await asyncio.sleep(0)
                    else:
                        room.answer(session)
        except CorruptLog:
            self._failed(room)
        except CollabError as error:
            room.refuse(session, error)
        except Exception:
            self._failed(room)
        if room.failure is not None:
            self.end(room, room.failure)
        return work.seconds

    async def away(self, size: int, function: Callable[..., T], *arguments: Any) -> T:
        """``function(*arguments)``, off the event loop: on a thread when it is over before anybody would
        notice, else where it does not take the interpreter from all others. Raises Overloaded when the
        process that did it has ended (out of memory, say); what it was asked for is left as it was."""
        away = asyncio.to_thread if size <= SMALL else self._aside
        try:
            result: T = await away(function, *arguments)
        except BrokenProcessPool as error:
            _log.error("what was done beside the server has ended in the middle: %s", error)
            raise Overloaded("the server could not work on this to its end; try again") from None
        return result

    def _failed(self, room: Room) -> None:
        _log.exception("%s: the room failed and will be loaded anew", room.name)
        self.end(room, RoomFailed("the server failed on this document; reconnect"))

    async def open(self, name: str) -> Room:
        """The room of ``name``; however many ask at once, it is loaded once. Raises as ``join``."""
        if self.closing or self._tasks is None:
            raise ShuttingDown("the server is stopping; reconnect in a moment")
        while True:
            room = self.rooms.get(name)
            if room is not None and room.failure is None:
                room.used = time.monotonic()
                return room
            task = self._loading.get(name)
            if task is None:
                task = self._tasks.create_task(self._load(name), name=f"load {name}")
                self._loading[name] = task
                task.add_done_callback(partial(self._loaded, name))
            # Shielded: a joiner that goes away must not stop the load that others wait for.
            outcome = await asyncio.shield(task)
            if isinstance(outcome, CollabError):
                raise outcome
            # Round again: it may have been evicted or ended since, and two rooms would number one log.

    def _loaded(self, name: str, task: asyncio.Task[Room | CollabError]) -> None:
        if self._loading.get(name) is task:
            del self._loading[name]

    async def _load(self, name: str) -> Room | CollabError:
        started = time.monotonic()
        try:
            while name in self._in_flight:  # a room that failed may still have a commit under way
                self._landed.clear()
                await self._landed.wait()
            loaded = await self._log.load(name)
            room = Room(
                name,
                loaded,
                stirred=self._room_stirred,
                present=self._room_present,
                stats=self.stats,
                document_bytes=self.limits.document_bytes,
                awareness_bytes=self.limits.awareness_bytes,
            )
        except CollabError as error:
            _log.warning("%s: cannot be opened: %s", name, error)
            return error
        except Exception:
            _log.exception("%s: cannot be opened", name)
            return RoomFailed("the server failed to open this document")
        if self._loading.get(name) is not asyncio.current_task():
            return DocumentDeleted("this document was deleted")  # while it was read
        self.rooms[name] = room
        self._weight += room.weight
        if self._weight > self.limits.memory_bytes:
            self._evict(sparing=room)
            if self._weight > self.limits.memory_bytes:
                del self.rooms[name]
                return Overloaded("the server holds as many open documents as its memory allows; try again")
        self.stats.rooms_loaded += 1
        self.stats.load_seconds.observe(time.monotonic() - started)
        return room

    def end(self, room: Room, error: CollabError) -> None:
        """Close ``room`` and all its sockets for ``error``'s reason and forget its doc; what is not
        durable is dropped, never acknowledged. The next join loads the document anew."""
        if self.rooms.get(room.name) is room:
            del self.rooms[room.name]
            self.stats.rooms_failed += not isinstance(error, DocumentDeleted)
        room.fail(error)
        self._stirred.discard(room)
        self._passed_over.pop(room, None)
        self._settle()

    def forget(self, name: str) -> None:
        """The document was deleted: its room ends, and its clients are told not to come back."""
        self._tell_of_commit(name)
        self._loading.pop(name, None)
        if (room := self.rooms.get(name)) is not None:
            self.end(room, DocumentDeleted("this document was deleted"))

    # --- commits

    def _room_stirred(self, room: Room) -> None:
        self._stirred.add(room)
        self._work.set()

    async def _commit_forever(self) -> None:
        while True:
            await self._work.wait()
            self._work.clear()
            rooms, self._stirred = self._stirred, set()
            taken = await self._take_all(rooms)
            if self._settling:
                self._settle()  # an update that was refused after all
            if taken:
                self._in_flight = {room.name for room, _ in taken}
                try:
                    await self._commit(taken)
                finally:
                    self._in_flight = set()
                    self._landed.set()
            else:
                await asyncio.sleep(0)  # a room may have looked at much that waited, and have more to look at

    async def _take_all(self, rooms: set[Room]) -> list[tuple[Room, Batch]]:
        """What waits in ``rooms``, the least first: a letter does not wait for a book. What is more than one
        commit's waits for the next, and counts half each time, so that nobody waits for long."""
        taken, count, size = [], 0, 0
        began = time.perf_counter()
        passed_over = self._passed_over
        for room in sorted(rooms, key=lambda room: room.uncommitted_bytes >> passed_over.get(room, 0)):
            if count >= COMMIT_COUNT or size >= COMMIT_BYTES:
                self._room_stirred(room)
                passed_over[room] = passed_over.get(room, 0) + 1
                continue
            passed_over.pop(room, None)
            if (batch := self._take(room)) is not None:
                self._in_flight.add(room.name)
                taken.append((room, batch))
                count += len(batch.entries)
                size += sum(len(entry.data) for entry in batch.entries)
            if time.perf_counter() - began > TURN:
                await asyncio.sleep(0)
                began = time.perf_counter()
        return taken

    def _take(self, room: Room) -> Batch | None:
        try:
            return room.take_pending()
        except Exception:
            self._failed(room)
            return None

    async def _commit(self, taken: list[tuple[Room, Batch]]) -> None:
        started = time.monotonic()
        tries = 0
        while True:
            try:
                await self._log.append([batch for _, batch in taken])
                break
            except DocumentGone as gone:
                for room, _ in taken:
                    if room.name in gone.documents:
                        self.end(room, DocumentDeleted("this document was deleted"))
                break
            except StorageUnavailable as error:
                self.stats.commit_failures += 1
                _log.error("commit of %d documents failed: %s", len(taken), error)
                if time.monotonic() - started > self.limits.commit_patience or self.closing:
                    for room in [room for room, _ in taken] + list(self._stirred):
                        self.end(room, error)
                    return
                await asyncio.sleep(RETRY_PAUSES[min(tries, len(RETRY_PAUSES) - 1)])
                tries += 1
                taken = [(room, batch) for room, batch in taken if room.failure is None]
                if not taken:
                    return
        done = time.monotonic()
        self.stats.commits += 1
        self.stats.commit_seconds.observe(done - started)
        began = time.perf_counter()
        for room, batch in taken:
            self._tell_of_commit(room.name)
            if time.perf_counter() - began > TURN:
                await asyncio.sleep(0)
                began = time.perf_counter()
            if room.failure is None:
                self.stats.updates += len(batch.entries)
                try:
                    self.stats.update_bytes += room.committed()
                    if batch.entries[0].seq == 1:
                        self.created(room.name)
                except Exception:
                    self._failed(room)
                    continue
                if room.wants_snapshot or room.durable - room.sealed >= SEAL_EVERY:
                    self._ask_to_compact(room, room.wants_snapshot)
        self.stats.fanout_seconds.observe(time.monotonic() - done)
        if self._settling:
            self._settle()

    def next_commit(self, name: str) -> asyncio.Future[None]:
        """Done when the log of ``name`` has grown, or the document was deleted. Ask before you read the log,
        so that nothing lies between; wait without cancelling it, since others wait for the same."""
        future = self._next_commits.get(name)
        if future is None:
            future = self._next_commits[name] = asyncio.get_running_loop().create_future()
        return future

    def _tell_of_commit(self, name: str) -> None:
        self.changed(name)
        if (future := self._next_commits.pop(name, None)) is not None and not future.done():
            future.set_result(None)

    async def settled(self, room: Room, seq: int) -> None:
        """Wait until ``seq`` of ``room`` is durable. Raises the error that ended the room before."""
        if not room.is_durable(seq) and room.failure is None:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._settling.append((room, seq, future))
            await future
        if not room.is_durable(seq):
            raise room.failure or StorageUnavailable("the document could not be saved")

    def _settle(self) -> None:
        waiting, self._settling = self._settling, []
        for room, seq, future in waiting:
            if not room.is_durable(seq) and room.failure is None:
                self._settling.append((room, seq, future))
            elif not future.done():
                future.set_result(None)

    # --- programs

    async def write(
        self, name: str, actor: Actor, origin: Origin, data: bytes, expected_head: int | None = None
    ) -> tuple[int, int]:
        """Make an update that the server itself has made for ``actor`` part of the document, through the
        same door as a keystroke. Returns the first and the last seq it got, durable.

        Raises HeadMoved (there is another entry after ``expected_head``; nothing was done), TooLarge (the
        document is full), UpdateError, and what ``join`` raises.
        """
        parts = await self.away(len(data), _checked_parts, data)
        session = Session(actor, Unheard())
        async with self.join(name, session) as room:
            if expected_head is not None and room.head != expected_head:
                raise HeadMoved(room.head, expected_head)
            first = room.head + 1
            for part in parts:
                if not self._guarded(room, partial(room.receive_update, session, part, origin)):
                    raise TooLarge(session.denied)
                seq = room.head
                await asyncio.sleep(0)  # a large one must not keep others waiting, who may write meanwhile
            await self.settled(room, seq)
            return first, seq

    async def text(self, name: str) -> tuple[int, str]:
        """The seq and the text of a document, as far as it is durable. Raises as ``join``."""
        room = await self.open(name)
        seq, text = self._guarded(room, room.text)
        await self.settled(room, seq)
        return seq, text

    async def state(self, name: str) -> tuple[int, bytes]:
        """The seq and the whole state as one update (v1), durable. Raises as ``join``."""
        room = await self.open(name)
        seq, state = self._guarded(room, room.state)
        await self.settled(room, seq)
        return seq, state

    def _guarded(self, room: Room, work: Callable[[], T]) -> T:
        """``work()`` on a room, which ends if its doc turns out to be wrong."""
        try:
            return work()
        except CorruptLog:
            self._failed(room)
            raise

    # --- presence

    def _room_present(self, room: Room) -> None:
        if room not in self._moved:
            self._moved.add(room)
            delay = min(PRESENCE_INTERVAL + PRESENCE_PER_SESSION * len(room.sessions), PRESENCE_SLOWEST)
            asyncio.get_running_loop().call_later(delay, self._flush_presence, room)

    def _flush_presence(self, room: Room) -> None:
        self._moved.discard(room)
        room.flush_presence()

    # --- snapshots and segments

    def _ask_to_compact(self, room: Room, snapshot: bool) -> None:
        self._compacting[room] = snapshot or self._compacting.get(room, False)
        self._compact_work.set()

    async def _compact_forever(self) -> None:
        while True:
            await self._compact_work.wait()
            self._compact_work.clear()
            while self._compacting:
                room, snapshot = next(iter(self._compacting.items()))
                if snapshot:
                    await self._compact(room)
                await self._seal(room)
                del self._compacting[room]

    async def _seal(self, room: Room) -> None:
        """Let the log pack what is cold of it. What goes wrong is tried again after as many entries more."""
        room.sealed = room.durable
        try:
            await self._log.seal(room.name)
        except (StorageUnavailable, CorruptLog) as error:
            _log.error("%s: the log is not packed: %s", room.name, error)

    async def _compact(self, room: Room) -> None:
        """Store the state of ``room`` as of its durable seq, made from the log and proven."""
        seq, updates, clocks = room.stored()
        if seq == room.base_seq or room.failure is not None:
            return
        try:
            snapshot = partial(document.snapshot, verbatim=room.verbatim)
            data = await self.away(sum(map(len, updates)), snapshot, updates, clocks)
        except Exception:
            _log.exception("%s: no snapshot can be made at %d", room.name, seq)
            self._no_snapshot(room)
            return
        try:
            await self._log.snapshot(room.name, room.epoch, seq, data)
        except (StorageUnavailable, DocumentGone, CorruptLog) as error:
            _log.error("%s: no snapshot is stored at %d: %s", room.name, seq, error)
            self._no_snapshot(room)
            return
        self.stats.snapshots += 1
        room.rebase(seq, data)

    def _no_snapshot(self, room: Room) -> None:
        self.stats.snapshot_failures += 1
        room.snapshot_at = 2 * room.tail_bytes

    # --- time and memory

    async def _tick_forever(self) -> None:
        while True:
            for _ in range(SWEEP_TICKS):
                await asyncio.sleep(TICK)
                self._evict()
            for room in list(self.rooms.values()):
                try:
                    room.sweep()
                except Exception:
                    self._failed(room)

    def _evict(self, sparing: Room | None = None) -> None:
        """Forget rooms idle beyond the grace time; when memory presses, the longest idle at once."""
        self._weight = sum(room.weight for room in self.rooms.values())
        idle = sorted((room for room in self.rooms.values() if room.idle), key=lambda room: room.used)
        now = time.monotonic()
        for room in idle:
            pressing = self._weight > self.limits.memory_bytes
            if not pressing and now - room.used < self.limits.idle_seconds:
                break  # the rest were used later still
            if room is sparing or room in self._compacting:
                continue
            if not pressing and room.tail_bytes >= WORTH_STORING and room.snapshot_at == 0:
                room.snapshot_at = room.tail_bytes + 1  # tried once; if it fails the room goes without
                self._ask_to_compact(room, snapshot=True)
                continue
            if not pressing and room.durable - room.sealed >= SEAL_EVERY:
                self._ask_to_compact(room, snapshot=False)
                continue
            del self.rooms[room.name]
            self._weight -= room.weight
            self.stats.rooms_evicted += 1

    # --- the end

    async def drain(self, deadline: float) -> None:
        """Take no more joins, commit what is pending, send everyone away with 1012 a few at a time, and
        store snapshots while there is time. Returns within about ``deadline`` seconds."""
        self.closing = True
        until = time.monotonic() + deadline
        await self._commit_pending(until)
        sessions = [session for room in self.rooms.values() for session in room.sessions]
        random.shuffle(sessions)  # rooms empty evenly, and clients do not come back in one wave
        wave = max(1, len(sessions) // 20)
        for i in range(0, len(sessions), wave):
            for session in sessions[i : i + wave]:
                session.end(ShuttingDown("the server restarts; reconnect"))
            await asyncio.sleep(min(0.05, deadline / 60))
        await self._commit_pending(until)
        with suppress(TimeoutError):  # what has no snapshot is read from its log, a little later
            async with asyncio.timeout(max(0.0, until - deadline / 2 - time.monotonic())):
                for room in list(self.rooms.values()):
                    if room.tail_bytes >= WORTH_STORING and room not in self._compacting:
                        await self._compact(room)

    async def _commit_pending(self, until: float) -> None:
        for room in list(self.rooms.values()):
            seq = room.head
            try:
                async with asyncio.timeout(max(0.0, until - time.monotonic())):
                    await self.settled(room, seq)
            except TimeoutError:
                _log.error("%s: entries up to %d were not durable at the deadline", room.name, seq)
            except CollabError as error:
                _log.error("%s: entries up to %d were not saved: %s", room.name, seq, error)


class _Work:
    """What something takes of a processor. The time on the wall would be that of everybody else too."""

    def __init__(self) -> None:
        self._spent, self._began = 0.0, time.thread_time()

    @property
    def seconds(self) -> float:
        return self._spent + time.thread_time() - self._began

    @contextmanager
    def waiting(self) -> Iterator[None]:
        self._spent = self.seconds
        try:
            yield
        finally:
            self._began = time.thread_time()

    async def of(self, done: Awaitable[tuple[float, T | CollabError]]) -> T:
        """What ``_worked`` is to answer. Raises what it caught."""
        with self.waiting():
            seconds, outcome = await done
            self._spent += seconds
        if isinstance(outcome, CollabError):
            raise outcome
        return outcome


def _worked(function: Callable[..., T], *arguments: Any) -> tuple[float, T | CollabError]:
    """The seconds of a processor that ``function`` takes, and what it returns or finds wrong."""
    began = time.thread_time()
    try:
        outcome: T | CollabError = function(*arguments)
    except CollabError as error:
        outcome = error
    return time.thread_time() - began, outcome


def _checked_parts(data: bytes) -> list[bytes]:
    # The collector finds nothing among the many small objects of one update, looks at them all again and
    # again, and lets no other thread run meanwhile.
    gc.disable()
    try:
        if update.check(data, {}).skips:
            data = update.before_skips(data)
        return update.split(data, PIECE)
    finally:
        gc.enable()
