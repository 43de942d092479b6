"""One live document: who is in it, what it says, what is not durable yet. Decides, never waits.

Promises, quoted by the tests:

R1. What any session is sent of the document is durable: updates, answers and acknowledgements of
    an entry go out after the commit that holds it.
R2. What the gate refuses, or pycrdt raises on, never reaches the log; the sender's session ends.
R3. Entries are causally complete in order: any prefix of the log is a document. An update that
    depends on something not here waits in its session, bounded.
R4. An entry that changes nothing costs no row.
R5. A Yjs client id belongs to the session whose own it is; nobody else extends it meanwhile.
R6. Of a session that may not write nothing is kept, and it hears so, unless it brought nothing new.
"""

from __future__ import annotations

import logging
import time
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Any, NamedTuple

from pycrdt import Doc

from collab import document, protocol, update
from collab.awareness import STATE_LIMIT, Awareness
from collab.deletions import Deletions
from collab.errors import (
    ClientIdInUse,
    CollabError,
    CorruptLog,
    Overloaded,
    Resync,
    RoomFailed,
    UpdateError,
)
from collab.log import Actor, Batch, Entry, Loaded, Origin
from collab.session import (
    HOLD_BYTES,
    HOLD_COUNT,
    HOLD_SECONDS,
    WANTED_BYTES,
    WANTED_COUNT,
    WANTED_HIGH,
    Held,
    Session,
    Wanted,
)
from collab.stats import Stats

CHUNK = 256 << 10  # bytes of state in one message; clients give up on a frame that takes 30 s
PENDING_HIGH = 1 << 20  # bytes not committed beyond which writers are not read
BATCH_COUNT = 128  # entries of one room in one commit, and
BATCH_BYTES = 16 << 10  # bytes after which no other is taken into it: up to 2 ms of work for the doc
RETRY_COUNT = 128  # updates that waited looked at again in one go, or
RETRY_BYTES = 8 << 10  # bytes of them: up to 4 ms of work
AUTHORS_COUNT = 1000  # client ids of which is known who wrote with them
MISSED_BYTES = 16 << 20  # that may be written, and kept for a reader, while it reads a large state
OWED_SMALL = 1 << 10  # bytes of an acknowledgement for whose commit its asker is still read
CONTEST_SECONDS = 5.0  # after which the owner of a contested client id has answered its probe, or is gone
READ_ONLY = "you may read this document, not change it"
SNAPSHOT_FLOOR = 256 << 10  # bytes of tail below which a snapshot is not worth its write

_log = logging.getLogger(__name__)


class Answer(NamedTuple):
    """What answers a session's step 1, to go out when ``seq`` is durable."""

    seq: int
    session: Session
    receipt: bytes | None  # names what both have
    messages: list[bytes]  # one step 2, or the updates of a large state


def _wall() -> int:
    return time.time_ns() // 1000


class Room:
    """``stirred`` is called when there is something to commit; ``present`` when presence changed.

    Raises CorruptLog when the loaded updates do not make a document.
    """

    def __init__(
        self,
        name: str,
        loaded: Loaded,
        *,
        stirred: Callable[[Room], None],
        present: Callable[[Room], None],
        stats: Stats,
        document_bytes: int = 64 << 20,
        awareness_bytes: int = STATE_LIMIT,
        now: Callable[[], float] = time.monotonic,
        wall: Callable[[], int] = _wall,
    ) -> None:
        self.name = name
        self.epoch = loaded.epoch
        self.sessions: set[Session] = set()
        self.failure: CollabError | None = None
        self.used = now()
        self.base, self.base_seq = loaded.base, loaded.base_seq
        self.tail = list(loaded.tail)  # committed updates after base
        self.tail_bytes = sum(map(len, self.tail))
        self.durable = self.head = loaded.head
        self.pending: deque[Entry] = deque()  # applied, not yet given to a commit
        self.committing: Sequence[Entry] = ()
        self.uncommitted_bytes = 0
        self.document_bytes = document_bytes
        self.sealed = 0  # what was durable when the log was last asked to pack what is cold of it
        self.snapshot_at = 0  # bytes of tail before which no snapshot is tried again
        self._stirred, self._present, self._stats, self._now, self._wall = stirred, present, stats, now, wall
        self._doc = self._build()
        self._surrogates: update.Surrogates | None = None
        self._unapplied: list[tuple[Entry, Session]] = []  # the last of ``pending``, not in the doc yet
        self._deletions: Deletions | None = None  # until something is deleted
        self._nesting: update.Nesting | None = None  # until something is put inside a shared type
        self.verbatim = False  # an edit split a surrogate pair: no Doc may encode this document again
        for data in self._stored():
            self._watch_surrogates(data)
        self.clocks = self._reached()
        self._owners: dict[int, Session] = {}
        self._authors: dict[int, Actor] = {}  # who wrote with a client id last; the oldest go first
        self._waiting: deque[Answer] = deque()
        self._holding: set[Session] = set()
        # By client id, what waits for it: until which clock, and the session's birth, number, and itself.
        self._awaited: dict[int, list[tuple[int, int, int, Session]]] = {}
        self._ready: deque[tuple[Session, int]] = deque()  # held updates to look at again, by number
        self._wanting: set[Session] = set()
        self._paused: set[Session] = set()
        self._awareness: Awareness[Session] = Awareness(awareness_bytes)
        self._moved: set[int] = set()  # presence to tell
        self._whole: tuple[int, list[bytes]] | None = None  # the answer to who has nothing, as of a seq

    # --- sessions

    def join(self, session: Session) -> None:
        """Greet a session: our state vector, and who is here. Its own step 1 is answered in ``receive``;
        ours waits for that where the dialect has it so."""
        self.sessions.add(session)
        self.used = self._now()
        if session.dialect.greeted:
            self._ask(session)
        if here := self._awareness.present():
            session.send(protocol.encode_awareness(self._awareness.encode(here)))
        if session.tells_authors is not None and self._authors:
            session.send(session.tells_authors(self._authors))

    def leave(self, session: Session) -> None:
        """Forget a session whose connection is gone; what it sent before stays."""
        if session not in self.sessions:
            return
        self.sessions.discard(session)
        session.closed = True
        self.used = self._now()
        self._drop_held(session)
        for group in (self._wanting, self._paused):
            group.discard(session)
        freed = {client for client, owner in self._owners.items() if owner is session}
        for client in freed:
            del self._owners[client]
            self._reach(client)
        self._tell_presence(self._awareness.leave(session, self.used))
        if self._ready:
            self._stirred(self)

    def receive(self, session: Session, frame: bytes) -> None:
        """Take one frame of a session. What is wrong with it ends that session only."""
        if session.closed:
            return
        try:
            if (keystroke := protocol.sole_update(frame)) is not None:
                if self.receive_update(session, keystroke, Origin.EDIT):
                    self.answer(session)
                return
            for message in protocol.decode(frame):
                self.take(session, message)
                if session.closed:
                    return
        except CorruptLog:
            raise  # nobody's message is at fault: the room ends, and is loaded anew
        except CollabError as error:
            self.refuse(session, error)

    def take(self, session: Session, message: protocol.Message) -> None:
        """Take one message. Raises the CollabError for which the session is to end."""
        if type(message) is protocol.Update:
            if self.receive_update(session, message.update, Origin.EDIT):
                self.answer(session)
        elif type(message) is protocol.AwarenessUpdate:
            self._receive_awareness(session, message.data)
        elif type(message) is protocol.SyncStep1:
            self._receive_step1(session, message.state_vector)
        elif type(message) is protocol.SyncStep2:
            if self.receive_update(session, message.update, Origin.OFFLINE):
                self.answer(session)
        elif type(message) is protocol.SyncStatus:
            if session.denied:  # not all that it sent before is saved, and never will be
                self._owe(session, session.dialect.denied(session.denied))
            else:
                self._owe(session, protocol.encode_sync_status(message.payload))
        elif here := self._awareness.present():
            session.send(protocol.encode_awareness(self._awareness.encode(here)))

    def refuse(self, session: Session, error: CollabError) -> None:
        """End ``session`` for what it sent."""
        self._stats.refused[error.code] += 1
        _log.info("%s: %s refused: %s", self.name, session.actor.id, error)
        session.end(error)

    def relay(self, session: Session, message: bytes) -> None:
        """Pass on what is not the document's, to the others who speak the sender's dialect."""
        for other in self.sessions:
            if other is not session and other.dialect is session.dialect:
                other.send(message)

    def drained(self, session: Session) -> None:
        """The peer has read on: send more of what streams to it."""
        session.drained()
        if session.pump():
            self._streamed(session)

    # --- the one door for changes

    def receive_update(self, session: Session, data: bytes, origin: Origin) -> bool:
        """Check, apply and queue one update for commit, or hold it until what it needs is here. False when
        it was refused and its sender has been told so; the caller acknowledges it otherwise (``answer``).

        Raises UpdateError for what no client sends; then nothing of it is kept.
        """
        session.received += 1
        checked = update.check(data, self.clocks)
        if not session.writes:
            self.deny(session, checked)
            return False
        if checked.skips:
            # Its client has pending structs itself; their author sends them, so take what stands.
            data = update.before_skips(data)
            checked = update.check(data, self.clocks)
        missing = checked.missing
        contested = False
        if missing is None and checked.extends:
            missing = self._contested(session, checked)
            contested = missing is not None
        if missing is not None:
            self._hold(session, data, origin, missing, contested)
            return True
        if not self._fits(data, checked):
            self._fill(session)
            self._owe(session, session.dialect.denied(session.denied))
            return False
        taken = self._accept(session, data, origin, checked)
        if self._ready:
            self._retry_held()
        return taken

    def deny(self, session: Session, checked: update.Checked) -> None:
        """Answer an update that its sender may not make; one that brings nothing new is no harm (R6)."""
        if (
            checked.extends
            or checked.skips
            or checked.missing is not None
            or (checked.deletes and not self._known_deletions().cover(checked.deletes))
        ):
            session.denied = session.denied or READ_ONLY
            self._stats.refused["forbidden"] += 1
            self._owe(session, session.dialect.denied(session.denied))
        elif session.dialect.saved is not None:
            self._owe(session, session.dialect.saved)

    def answer(self, session: Session) -> None:
        """Acknowledge the update that ``receive_update`` has just taken, where the dialect wants that."""
        if session.dialect.saved is not None:
            self._owe(session, session.dialect.saved)

    def _fits(self, data: bytes, checked: update.Checked) -> bool:
        return not checked.extends or self.size + len(data) <= self.document_bytes

    def _fill(self, session: Session) -> None:
        """The document is full. From here on it lacks something that this client has: nothing later of it
        makes sense, nor what waits, and what was asked about that is answered with a refusal."""
        session.writes = False
        session.denied = f"the document is full: it may hold {self.document_bytes} bytes"
        self._stats.limited["document"] += 1
        lost = list(session.held)
        self._drop_held(session)
        before = 0
        for i, wanted in enumerate(session.wanted):
            if session.dialect.saved is not None:  # one for each update
                refused = any(before < number <= wanted.number for number in lost)
            else:  # 102 is about all that came before; an update that comes back is not lost
                refused = wanted.message[0] == protocol.SYNC_STATUS and any(n <= wanted.number for n in lost)
            if refused:
                session.wanted[i] = wanted._replace(message=session.dialect.denied(session.denied))
            before = wanted.number
        session.wanted_bytes = sum(len(wanted.message) for wanted in session.wanted)

    def _accept(self, session: Session, data: bytes, origin: Origin, checked: update.Checked) -> bool:
        """False as ``receive_update``, where it has to be called again."""
        extends = checked.extends
        if extends and (checked.nests or self._nesting is not None):
            if self._nesting is None:
                self._nesting = update.Nesting(self._applied())
            self._nesting.add(data)
        new = bool(extends)
        if checked.deletes:
            new |= self._known_deletions().add(checked.deletes)
        if not new:
            if self._unapplied:  # what it repeats may be in an update that pycrdt will raise on
                doc = self._doc
                self._apply()
                if self._doc is not doc:
                    return self.receive_update(session, data, origin)
            self._return(session, data, origin, checked)
            return True
        for client in extends:
            self.clocks[client] = checked.clocks[client]
            if self._awaited:
                self._reach(client, checked.clocks[client])
            if self._authors.get(client) != session.actor:
                self._name_author(client, session.actor)
        if checked.surrogates or self._surrogates is not None:
            self._watch_surrogates(data)
        if origin is Origin.EDIT and len(extends) == 1:
            self._claim(session, extends[0])
        self.head += 1
        client = extends[0] if extends else session.client or 0
        entry = Entry(self.head, session.actor, client, self._wall(), origin, data)
        self.pending.append(entry)
        self._unapplied.append((entry, session))
        self.uncommitted_bytes += len(data)
        if self.uncommitted_bytes > PENDING_HIGH:
            self._paused.add(session)
            session.link.pause()
        self._stirred(self)
        return True

    def _apply(self, count: int | None = None) -> None:
        """Bring the doc up to what was accepted, or to the first ``count`` of that: in one transaction for
        all, before anything of it is committed or the doc is read."""
        count = len(self._unapplied) if count is None else count
        if count <= 0:
            return
        applied, self._unapplied = self._unapplied[:count], self._unapplied[count:]
        try:
            document.apply_batch(self._doc, (entry.data for entry, _ in applied))
        except UpdateError as error:
            accepted, self._unapplied = applied + self._unapplied, []
            _log.warning("%s: taking %d updates one by one: %s", self.name, len(accepted), error)
            self._sift(accepted)

    def _sift(self, accepted: list[tuple[Entry, Session]]) -> None:
        """pycrdt raised on one of these updates. Build the doc anew and offer them one by one: whose
        update raises again is refused, and so is what depends on it."""
        for entry, _ in accepted:
            self.pending.pop()
            self.uncommitted_bytes -= len(entry.data)
        self.head -= len(accepted)
        self._renew()
        for entry, session in accepted:
            try:
                checked = update.check(entry.data, self.clocks)
                if checked.missing is not None:
                    raise Resync("it depends on an update that was refused; reconnect")
                document.apply(self._doc, entry.data)
            except UpdateError as error:
                self._renew()
                self.refuse(session, error)
            except CollabError as error:
                self.refuse(session, error)
            else:
                self.clocks.update((client, checked.clocks[client]) for client in checked.extends)
                self.head += 1
                self.pending.append(entry._replace(seq=self.head))
                self.uncommitted_bytes += len(entry.data)

    def _renew(self) -> None:
        """A new doc, and all that is derived from it, from the log and what is on its way there."""
        self._stats.rebuilt += 1
        self._nesting = self._deletions = None
        self._doc = self._build()
        self.clocks = self._reached()

    def _return(self, session: Session, data: bytes, origin: Origin, checked: update.Checked) -> None:
        """Send back what changes nothing: @y/websocket 4 counts it as unsaved until then."""
        if session.dialect.saved is None and (origin is Origin.EDIT or checked.clocks):
            # deletions of a step 2 are all in ours
            self._owe(session, protocol.encode_update(data))

    def _claim(self, session: Session, client: int) -> None:
        """Make ``client`` the session's own, unless somebody else writes with it now. Who may not write
        holds it against nobody: presence alone could keep its owner, who was away, from coming back."""
        owner = self._owners.get(client)
        if owner is session or (owner is not None and owner.actor.id != session.actor.id):
            return
        if session.client is None:
            session.client = client
        if session.client == client and session.writes:
            self._owners[client] = session

    def _name_author(self, client: int, actor: Actor) -> None:
        """Who writes with ``client``, before anything of it is shown."""
        self._authors.pop(client, None)
        self._authors[client] = actor
        if len(self._authors) > AUTHORS_COUNT:
            del self._authors[next(iter(self._authors))]
        for session in self.sessions:
            if session.tells_authors is not None:
                session.send(session.tells_authors({client: actor}))

    def _contested(self, session: Session, checked: update.Checked) -> dict[int, int] | None:
        """What must be settled before this session may extend a client id that is another's own."""
        missing = {}
        for client in checked.extends:
            owner = self._owners.get(client)
            if owner is not None and owner.actor.id != session.actor.id:
                missing[client] = checked.clocks[client]
                owner.link.probe()
        return missing or None

    def _of_others(self, session: Session, clients: Iterable[int]) -> bool:
        owners = (self._owners.get(client) for client in clients)
        return any(owner is not None and owner.actor.id != session.actor.id for owner in owners)

    def _hold(
        self, session: Session, data: bytes, origin: Origin, missing: dict[int, int], contested: bool
    ) -> None:
        if len(session.held) >= HOLD_COUNT or session.held_bytes + len(data) > HOLD_BYTES:
            raise Resync("too many updates wait for others that have not come; reconnect to send them all")
        client, clock = next(iter(missing.items()))
        held = Held(session.received, self._now(), data, origin, tuple(missing), contested, client, clock)
        self._await(session, held)
        session.held_bytes += len(data)
        self._holding.add(session)
        self._stats.held += 1
        if len(session.held) == 1:
            self._ask(session)

    def _await(self, session: Session, held: Held) -> None:
        session.held[held.number] = held
        insort(self._awaited.setdefault(held.client, []), (held.clock, session.born, held.number, session))

    def _drop_held(self, session: Session) -> None:
        for held in session.held.values():
            waiting = self._awaited.get(held.client, [])
            key = held.clock, session.born, held.number, session
            at = bisect_left(waiting, key)
            if waiting[at : at + 1] == [key]:  # else it is to be looked at again
                del waiting[at]
                if not waiting:
                    del self._awaited[held.client]
        session.held.clear()
        session.held_bytes = 0
        self._holding.discard(session)

    def _reach(self, client: int, clock: int | None = None) -> None:
        """So much of ``client`` is here, or nobody claims it any more: look again at what waits for that."""
        waiting = self._awaited.get(client)
        if waiting is None:
            return
        end = len(waiting) if clock is None else bisect_left(waiting, (clock + 1,))
        self._ready.extend((session, number) for _, _, number, session in waiting[:end])
        del waiting[:end]
        if not waiting:
            del self._awaited[client]

    def _retry_held(self) -> None:
        """Look again at what waited, which may let more go. Others have their turn too: what is too much
        for one goes on with the next commit."""
        count = size = 0
        while self._ready:
            if count >= RETRY_COUNT or size >= RETRY_BYTES:
                self._stirred(self)
                return
            session, number = self._ready.popleft()
            held = session.held.get(number)
            if held is None or session.closed:
                continue
            count += 1
            size += len(held.data)
            try:
                self._retry(session, held)
            except CorruptLog:
                raise  # as in ``receive``
            except CollabError as error:
                self.refuse(session, error)

    def _retry(self, session: Session, held: Held) -> None:
        checked = update.check(held.data, self.clocks)
        missing = checked.missing
        if missing is None and checked.extends:
            missing = self._contested(session, checked)
        if missing is not None:
            client, clock = next(iter(missing.items()))
            self._await(session, held._replace(client=client, clock=clock))
            return
        if checked.deletes and self._of_others(session, held.missing):
            # Made before somebody here typed what it deletes; an honest client just sends it again.
            raise Resync("it deletes what its author had not sent yet; reconnect")
        if self._fits(held.data, checked):
            del session.held[held.number]
            session.held_bytes -= len(held.data)
            if not session.held:
                self._holding.discard(session)
            self._accept(session, held.data, held.origin, checked)
        else:
            self._fill(session)
            if session.dialect.saved is None:  # else each update is answered by itself
                self._owe(session, session.dialect.denied(session.denied))
        if session.wanted:
            self._acknowledge(session)

    # --- commits

    def take_pending(self) -> Batch | None:
        """The next entries to commit, in order; None when there are none or a commit is under way."""
        if self.committing or self.failure is not None:
            return None
        self._retry_held()
        if not self.pending:
            self._release()  # what they waited for may have been refused
            return None
        count = self._next_count()
        self._apply(count - (len(self.pending) - len(self._unapplied)))
        if not self.pending:
            self._release()
            return None
        self.committing = [self.pending.popleft() for _ in range(min(count, len(self.pending)))]
        return Batch(self.name, self.epoch, self.committing)

    def _next_count(self) -> int:
        count = size = 0
        for entry in islice(self.pending, BATCH_COUNT):
            count += 1
            size += len(entry.data)
            if size >= BATCH_BYTES:
                break
        return count

    def committed(self) -> int:
        """The batch taken last is durable: tell everyone, answer who waits, acknowledge. Returns its
        bytes."""
        entries, self.committing = self.committing, ()
        updates = [entry.data for entry in entries]
        size = sum(map(len, updates))
        self.tail += updates
        self.tail_bytes += size
        self.uncommitted_bytes -= size
        self.durable = entries[-1].seq
        # Answers first: a session that becomes live by one gets the rest of this batch below.
        while self._waiting and self._waiting[0].seq <= self.durable:
            self._deliver(self._waiting.popleft())
        for message in self._broadcasts(updates, size):
            for session in self.sessions:
                if session.live:
                    session.send(message)
        self._release()
        if self.pending:
            self._stirred(self)
        return size

    def _release(self) -> None:
        """Acknowledge what is durable now, and read on from who was paused for it."""
        for session in tuple(self._wanting):
            self._acknowledge(session)
        if self._paused and self.uncommitted_bytes <= PENDING_HIGH:
            # Taken first: who resumes brings what was read meanwhile, and may be paused again by it.
            paused, self._paused = self._paused, set()
            for session in paused:
                session.link.resume()

    def is_durable(self, seq: int) -> bool:
        """Whether everything accepted up to ``seq`` is durable, or was refused after all."""
        return self.durable >= min(seq, self.head)

    def _broadcasts(self, updates: list[bytes], size: int) -> list[bytes]:
        """The batch as few messages, made from the received bytes."""
        if len(updates) == 1 or self.verbatim or size > CHUNK:
            return [protocol.encode_update(data) for data in updates]
        try:
            return [protocol.encode_update(document.merge(updates))]
        except CorruptLog:
            _log.exception("%s: a batch cannot be merged; sent one by one", self.name)
            return [protocol.encode_update(data) for data in updates]

    def _owe(self, session: Session, message: bytes) -> None:
        """Send ``message`` once all that the session sent before, and all that is here now, is durable."""
        if len(session.wanted) >= WANTED_COUNT:
            raise Resync("too many acknowledgements asked for; reconnect to send everything again")
        if self.head > self.durable and (
            len(message) > OWED_SMALL or (len(session.wanted) > WANTED_HIGH and not session.held)
        ):
            self._paused.add(session)
            session.link.pause()
        self._wanting.add(session)
        session.wanted.append(Wanted(session.received, self.head, message))
        session.wanted_bytes += len(message)
        if self.durable >= self.head or session.held:  # else the commit under way or the next is the moment
            self._acknowledge(session)
        if session.wanted_bytes > WANTED_BYTES:
            raise Resync("too many acknowledgements wait; reconnect to send everything again")

    def _acknowledge(self, session: Session) -> None:
        """Send what is due; equal ones in one go, since a commit holds many updates of a fast writer."""
        wanted = session.wanted
        due, times = b"", 0
        while wanted:
            number, seq, message = wanted[0]
            if session.held and next(iter(session.held)) <= number:
                wanted[0] = Wanted(number, None, message)
                break
            if seq is None:  # what it waited for has just been taken
                seq = self.head
                wanted[0] = Wanted(number, seq, message)
            if seq > self.durable and not self.is_durable(seq):
                break
            wanted.popleft()
            session.wanted_bytes -= len(message)
            if message != due:
                if times:
                    session.send(due, times)
                due, times = message, 0
            times += 1
        else:
            self._wanting.discard(session)
        if times:
            session.send(due, times)

    # --- answers

    def _ask(self, session: Session) -> None:
        """Send our step 1: what we have, so that the client brings what it has."""
        session.send(protocol.encode_step1(update.encode_state_vector(self.clocks)))

    def _receive_step1(self, session: Session, state_vector: bytes) -> None:
        known = update.state_vector(state_vector)
        if not session.dialect.greeted:
            self._ask(session)
        if session.since is not None or any(answer.session is session for answer in self._waiting):
            return  # an answer is on its way already
        messages = self._messages(known)
        both = {c: min(clock, self.clocks[c]) for c, clock in known.items() if clock and c in self.clocks}
        receipt = protocol.encode_receipt(both) if both and session.dialect.saved is None else None
        answer = Answer(self.head, session, receipt, messages)
        if self.head == self.durable:
            self._deliver(answer)
        else:
            self._waiting.append(answer)

    def _deliver(self, answer: Answer) -> None:
        session = answer.session
        if session.closed:
            return
        # Its echoes may have been lost with its last connection, and a step 2 names nothing it has.
        if answer.receipt is not None:
            session.send(answer.receipt)
        if len(answer.messages) == 1:
            session.live = True
            session.send(answer.messages[0])
            return
        session.live = False  # what is committed while it streams is sent in one piece at its end
        session.since = answer.seq
        if session.stream(answer.messages):
            self._streamed(session)

    def _streamed(self, session: Session) -> None:
        """The whole state has gone out: end it as y-websocket does, with a step 2, of what came since."""
        since, session.since = session.since, None
        if since is None:
            return
        missed = session.missed + self.tail[since - self.base_seq :]
        session.missed = []
        session.live = True
        for data in missed[:-1]:
            session.send(protocol.encode_update(data))
        session.send(protocol.encode_step2(missed[-1]) if missed else protocol.EMPTY_STEP2)

    def _messages(self, known: dict[int, int]) -> list[bytes]:
        """What a peer that has ``known`` is to be sent. Many who have nothing share one answer."""
        self._apply()
        if not known and self._whole is not None and self._whole[0] == self.head:
            return self._whole[1]
        data = self._lacking(known)
        parts = update.split(data, CHUNK) if len(data) > CHUNK else [data]
        if len(parts) == 1:
            messages = [protocol.encode_step2(data)]
        else:
            messages = [protocol.encode_update(part) for part in parts]
        self._whole = None if known else (self.head, messages)
        return messages

    def _lacking(self, known: dict[int, int]) -> bytes:
        self._apply()
        if not known and not self.tail and self.head == self.base_seq:
            return self.base or document.EMPTY_UPDATE
        if self.verbatim:
            return document.lacking(document.merge(self._applied()), known)
        return document.difference(self._doc, known)

    def text(self) -> tuple[int, str]:
        """The text now and the seq that must be durable before anyone may be shown it."""
        self._apply()
        return self.head, document.text(self._doc)

    def state(self) -> tuple[int, bytes]:
        """The whole state as one update, and the seq that must be durable before it is shown."""
        state = self._lacking({})
        return self.head, state  # after it: what pycrdt raises on is taken out only there

    # --- presence and time

    def _receive_awareness(self, session: Session, data: bytes) -> None:
        taken, stale, contested, excess = self._awareness.receive(session, data, self._now())
        if excess:
            self._stats.limited["awareness"] += excess
        for client in taken:
            self._claim(session, client)
        for owner in contested:
            owner.link.probe()
        if stale:
            session.send(protocol.encode_awareness(self._awareness.encode(stale)))
            if session.dialect.asked:
                session.send(protocol.WHO_IS_HERE)
        self._tell_presence(taken)

    def _tell_presence(self, clients: list[int]) -> None:
        if clients:
            self._moved.update(clients)
            self._present(self)

    def flush_presence(self) -> None:
        """Tell everyone, the movers included, what moved since the last time."""
        if not self._moved:
            return
        message = protocol.encode_awareness(self._awareness.encode(self._moved))
        self._moved.clear()
        for session in self.sessions:
            session.send(message)

    def sweep(self) -> None:
        """Every few seconds: expire presence and what was held too long; keep quiet sockets alive."""
        now = self._now()
        self._tell_presence(self._awareness.expire(now))
        for session in tuple(self._holding):
            held = next(iter(session.held.values()))
            if held.contested and now - held.since > CONTEST_SECONDS:
                self.refuse(session, ClientIdInUse("somebody else writes under this Yjs client id now"))
            elif now - held.since > HOLD_SECONDS:
                self.refuse(session, Resync("an update waited too long for others that it depends on"))
        for session in self.sessions:
            if session.quiet:
                session.send(protocol.KEEPALIVE)
            session.quiet = True

    # --- snapshots, memory, end

    @property
    def size(self) -> int:
        """Bytes of the document as stored, at most: what was deleted since the last snapshot counts."""
        return len(self.base) + self.tail_bytes + self.uncommitted_bytes

    @property
    def weight(self) -> int:
        """Bytes of memory, estimated: a Doc takes about 11 times its encoding (y-crdt measured)."""
        return 16_384 + 12 * len(self.base) + 24 * (self.tail_bytes + self.uncommitted_bytes)

    @property
    def idle(self) -> bool:
        """Nobody is here and nothing waits for a commit."""
        return not self.sessions and not self.pending and not self.committing

    @property
    def wants_snapshot(self) -> bool:
        return self.tail_bytes >= max(SNAPSHOT_FLOOR, len(self.base), self.snapshot_at)

    def stored(self) -> tuple[int, list[bytes], dict[int, int] | None]:
        """The durable seq, the updates that make the document as of it, and its clocks when known."""
        known = dict(self.clocks) if self.durable == self.head else None
        return self.durable, self._stored(), known

    def rebase(self, seq: int, base: bytes) -> None:
        """A snapshot as of ``seq`` is stored: keep it in place of the updates it holds."""
        for session in tuple(self.sessions):
            if session.since is not None and session.since < seq:
                session.missed += self.tail[session.since - self.base_seq : seq - self.base_seq]
                session.since = seq
                if sum(map(len, session.missed)) > MISSED_BYTES:
                    session.end(Overloaded("more was written than this client reads; reconnect"))
        self.tail = self.tail[seq - self.base_seq :]
        self.tail_bytes = sum(map(len, self.tail))
        self.base, self.base_seq = base, seq
        self.snapshot_at = 0

    def fail(self, error: CollabError) -> None:
        """End the room: every session is sent away with its edits kept; nothing more is taken."""
        if self.failure is None:
            self.failure = error
            for session in tuple(self.sessions):
                session.end(error)

    def _stored(self) -> list[bytes]:
        return [self.base, *self.tail] if self.base else list(self.tail)

    def _applied(self) -> list[bytes]:
        return [*self._stored(), *(e.data for e in self.committing), *(e.data for e in self.pending)]

    def _build(self) -> Doc[Any]:
        try:
            return document.build(self._applied())
        except CorruptLog as error:
            self.fail(RoomFailed(str(error)))
            raise

    def _reached(self) -> dict[int, int]:
        """The clocks of the doc, and those that it is short of after a split surrogate pair."""
        clocks = document.clocks(self._doc)
        if self.verbatim:
            for data in self._applied():
                for client, clock in document.reach(data).items():
                    clocks[client] = max(clock, clocks.get(client, 0))
        return clocks

    def _known_deletions(self) -> Deletions:
        if self._deletions is None:
            self._deletions = self._read_deletions()
        return self._deletions

    def _read_deletions(self) -> Deletions:
        """Ask the doc once for all that is deleted; from then on it is kept."""
        nothing_new = document.difference(self._doc, self.clocks)
        deletions = Deletions(update.check(nothing_new, self.clocks).deletes)
        for entry, _ in self._unapplied:
            deletions.add(update.check(entry.data, self.clocks).deletes)
        return deletions

    def _watch_surrogates(self, data: bytes) -> None:
        if self._surrogates is None:
            if not document.holds_astral([data]):
                return
            self._surrogates = update.Surrogates()
        if not self.verbatim and self._surrogates.split_by(data):
            self.verbatim = True
            self._stats.verbatim += 1
        self._surrogates.add(data)
