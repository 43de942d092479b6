"""One document on this device: its doc, its rows in the local file, and what became of each edit."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple

from pycrdt import Doc, Text

from collab.client.difference import Replacement, difference
from collab.client.presence import Presence
from collab.client.replica import Replica, ReplicaFailed
from collab.client.text import Edit, clean, offsets, raw, shown
from collab.client.text import edits as edits_of
from collab.document import EMPTY_UPDATE, TEXT_ROOT, build, holds_astral, merge, reach
from collab.errors import CollabError, EpochChanged, ProtocolError, ReadOnly, UpdateError
from collab.log import Actor
from collab.update import check, state_vector

ROWS_LIMIT = 20_000  # written to the file before they are merged, which takes a tenth of a second
UNWRITTEN_COUNT, UNWRITTEN_BYTES = 200, 64 << 10  # of others' updates that are written to the file in one go
# What the file does not take is kept in memory up to here; beyond, others' edits are not taken in any more.
UNWRITTEN_LIMIT = 64 << 20
ACTORS_LIMIT = 10_000  # client ids of which it is known who wrote with them


class DocumentClosed(CollabError, RuntimeError):
    """The document was closed on this device. Open it again."""

    code = "document-closed"


class Line(Enum):
    """How this device stands to the server in one document."""

    OFFLINE = "offline"
    CONNECTING = "connecting"
    LIVE = "live"  # what the server had when the line was opened is here, and every edit is told at once


class Status(NamedTuple):
    """What is so now. ``unsaved``: edits of this device that the server has not acknowledged as on its disk.
    ``stored``: all that is in the doc is in the local file, too. ``writes``: whether the server lets us
    change the document, as it said last. ``refusal``: why it takes our edits not, by type; they are kept."""

    line: Line
    unsaved: int
    stored: bool
    writes: bool | None
    refusal: CollabError | None


class Author(NamedTuple):
    """Whose edits came: a Yjs client, what that client shows of itself now (a claim), if it is here, and who
    the server knows to have written with it last. It tells those who may read the history, of what is written
    while it has the document open; of what was written before, and of deletions, only the history knows."""

    client: int
    presence: Mapping[str, Any] | None
    actor: Actor | None = None


class Change(NamedTuple):
    """Something changed. ``edits`` are what it did to the text, in code points (none for formats and for
    other roots); ``authors`` are who inserted it, which is nobody when it only deleted."""

    mine: bool
    edits: list[Edit]
    authors: tuple[Author, ...]
    update: bytes


@dataclass(eq=False, slots=True)
class Unsaved:
    """An update of this device that the server has not acknowledged."""

    number: int  # of its last edit, counted from the opening of the document
    edits: int
    data: bytes
    row: int | None = None  # in the local file; None while it is not there


class Document:
    """A document that is edited here and now, whatever the network does. Made by ``Client.open``.

    Positions are code points; line ends become LF. An edit is on the disk before its call returns: raises
    ReplicaFailed when it could not be (it is in the doc then, and written with the next that can be), and
    UpdateError when no server would take it, after which the document must be closed and opened again.
    To be used from the event loop's thread, never with an await inside ``transaction``.
    """

    def __init__(self, name: str, replica: Replica, doc: Doc[Any], seed: bytes | None = None) -> None:
        self.name = name
        self.doc = doc
        self.line = Line.OFFLINE
        self.refusal: CollabError | None = None
        self.made = 0  # edits of this device, those kept from earlier included
        self.acknowledged = 0
        self.unsaved: deque[Unsaved] = deque()
        self.clocks: dict[int, int] = {}
        self.actors: dict[int, Actor] = {}  # who wrote with a client id last, as the server says
        self.stirred: Callable[[], None] | None = None  # there are edits to send
        self._replica = replica
        self._unwritten: list[tuple[bytes, Unsaved | None]] = []
        self._unwritten_bytes = 0
        self._rows = 0  # written since they were merged
        self._acknowledged_row = 0  # and not written to the file yet
        self._applying: bool | None = None  # what is applied now is kept already: ours, or another's
        self._closed = False
        self._observers: dict[object, Callable[[Change], object]] = {}
        self._watchers: dict[object, Callable[[Status], object]] = {}
        self._waiters: set[asyncio.Future[None]] = set()
        self._telling = False
        self._root: Text | None = None
        self._content: bytes | None = None
        self._before = b""
        self._edits: list[Edit] = []
        self._text_subscription: Any = None
        self._load(seed)
        self.presence = Presence(doc.client_id, self._stir_watchers)
        self._subscription = doc.observe(self._on_update)

    def _load(self, seed: bytes | None) -> None:
        kept = self._replica.compact(self.name, self._replica.read(self.name))
        self.epoch, self.writes = kept.epoch, kept.writes
        brought = self.doc.get_update()  # what the application put into the doc beforehand
        own = state_vector(self.doc.get_state()).get(self.doc.client_id, 0)
        rows = kept.rows
        stored = merge([row.data for row in rows])
        self.clocks = reach(stored)
        if own < self.clocks.get(self.doc.client_id, 0):
            raise ValueError(
                f"client id {self.doc.client_id} has written in {self.name!r} before: it would make the same "
                "clocks twice. Give a Doc() with an id of its own"
            )
        if rows:
            for part in _applicable(stored, rows):
                self.doc.apply_update(part)
        for row in rows:
            if row.edits:
                self.made += row.edits
                self.unsaved.append(Unsaved(self.made, row.edits, row.data, row.id))
        if not rows and seed is not None and seed != EMPTY_UPDATE:
            self._adopt(seed)
            self.doc.apply_update(seed)
        if brought != EMPTY_UPDATE and self._brings(brought):
            self._adopt(brought)

    def _brings(self, data: bytes) -> bool:
        """Whether the update says anything that the rows do not. Deletions alone cannot be told; they are
        then sent again, which harms nothing."""
        checked = check(data, self.clocks)
        return bool(checked.extends or checked.deletes)

    # --- the text

    @property
    def root(self) -> Text:
        """The shared text that editors of Markdown and plain text know."""
        if self._root is None:  # asked for once: pycrdt lets nobody ask from within an observer
            self._root = self.doc.get(TEXT_ROOT, type=Text)
        return self._root

    @property
    def text(self) -> str:
        return shown(self._raw())

    def __len__(self) -> int:
        """In code points."""
        return len(self.text)

    def insert(self, at: int, text: str, attributes: Mapping[str, Any] | None = None) -> None:
        """Raises IndexError when ``at`` is not in the text; so do the other edits."""
        self.replace(at, at, text, attributes)

    def delete(self, start: int, stop: int) -> None:
        self.replace(start, stop, "")

    def replace(self, start: int, stop: int, text: str, attributes: Mapping[str, Any] | None = None) -> None:
        text = clean(text)
        with self.transaction():
            first, last = self._range(start, stop)
            if last > first:
                del self.root[first:last]
            if text:
                self.root.insert(first, text, dict(attributes) if attributes else None)

    def format(self, start: int, stop: int, attributes: Mapping[str, Any]) -> None:
        """Set attributes, such as ``{"bold": True}``; None takes one away."""
        with self.transaction():
            first, last = self._range(start, stop)
            if last > first:
                self.root.format(first, last, dict(attributes))

    def rewrite(self, text: str) -> list[Replacement]:
        """Make the text ``text`` by the least edits: what stays, stays the same characters. What was done."""
        replacements = difference(self.text, clean(text))
        with self.transaction():
            for start, stop, new in reversed(replacements):
                self.replace(start, stop, new)
        return replacements

    @contextmanager
    def transaction(self) -> Iterator[Doc[Any]]:
        """Edits made inside become one: kept, sent and shown together. One that raises midway keeps those
        made before."""
        if self._closed:
            raise DocumentClosed(f"the document {self.name!r} is closed; open it again")
        try:
            with self.doc.transaction():
                yield self.doc
        except BaseExceptionGroup as group:
            # Of our observer; and of those of the application, if there is only one failure, as well.
            leaf: BaseException = group
            while isinstance(leaf, BaseExceptionGroup) and len(leaf.exceptions) == 1:
                leaf = leaf.exceptions[0]
            raise leaf from None

    def _range(self, start: int, stop: int) -> tuple[int, int]:
        if stop < start:
            raise IndexError(f"a range from {start} to {stop} ends before it begins")
        self._content = None  # an edit of this very transaction may have changed it
        first, last = offsets(self._raw(), start, stop)
        self._content = None
        return first, last

    def _raw(self) -> bytes:
        if self._content is None:
            self._content = raw(self.root)
        return self._content

    # --- what happens to edits

    @property
    def status(self) -> Status:
        return Status(
            self.line,
            self.made - self.acknowledged,
            not any(unsaved is not None for _, unsaved in self._unwritten),
            self.writes,
            self.refusal,
        )

    async def saved(self) -> None:
        """Return when the server has committed every edit made here so far. Offline that takes until there
        is a line; put ``asyncio.timeout`` around it. Raises the refusal when it takes them not."""
        mark = self.made
        await self.until(lambda _: self.acknowledged >= mark or self.refusal is not None)
        if self.acknowledged < mark:
            assert self.refusal is not None
            raise self.refusal

    async def live(self) -> None:
        """Return when all that the server had is here. Raises the refusal when it lets us not in."""
        await self.until(lambda status: status.line is Line.LIVE or self._shut_out)
        if self.line is not Line.LIVE and self.refusal is not None:
            raise self.refusal

    @property
    def _shut_out(self) -> bool:
        return self.refusal is not None and self.line is Line.OFFLINE

    async def until(self, condition: Callable[[Status], bool]) -> None:
        """Return when ``condition`` is true, which is asked whenever the text, the status or who is present
        may have changed. Raises DocumentClosed."""
        while not condition(self.status):
            if self._closed:
                raise DocumentClosed(f"the document {self.name!r} was closed")
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.add(waiter)
            try:
                await waiter
            finally:
                self._waiters.discard(waiter)

    def watch(self, watcher: Callable[[Status], object]) -> Callable[[], None]:
        """Call ``watcher`` soon after the text, the status or who is present may have changed; what is
        returned ends that."""
        key = object()
        self._watchers[key] = watcher
        return lambda: self._watchers.pop(key, None) and None

    def observe(self, observer: Callable[[Change], object]) -> Callable[[], None]:
        """Call ``observer`` soon after each change, in order, whoever made it; what is returned ends that.
        It may edit."""
        if self._text_subscription is None:
            self._before = self._raw()
            self._text_subscription = self.root.observe(self._on_text)
        key = object()
        self._observers[key] = observer

        def end() -> None:
            self._observers.pop(key, None)
            if not self._observers and self._text_subscription is not None:
                self.root.unobserve(self._text_subscription)
                self._text_subscription = None

        return end

    def unsent(self) -> bytes:
        """The edits that no server has acknowledged, as one Yjs update: to be kept, or applied elsewhere."""
        return merge([one.data for one in self.unsaved])

    def state(self) -> bytes:
        """The whole document as one Yjs update."""
        kept = [row.data for row in self._replica.read(self.name).rows]
        kept += [data for data, _ in self._unwritten]
        return merge(kept) if holds_astral(kept) else self.doc.get_update()

    def _on_text(self, event: Any) -> None:
        after = raw(self.root)
        self._edits += edits_of(self._before, event.delta)
        self._before = after

    def _on_update(self, event: Any) -> None:
        """Called by pycrdt at the end of each transaction that changed something."""
        self._content = None
        self._stir_watchers()
        update: bytes = event.update
        if self._applying is None:
            self._adopt(update)
        self._announce(update, mine=self._applying is not False)

    def _adopt(self, update: bytes) -> None:
        """Keep an edit of this device, and have it sent."""
        try:
            checked = check(update, self.clocks)
            if checked.missing is not None:
                raise UpdateError("the edit builds on something that the document does not have")
        except UpdateError as error:
            self.fail(
                UpdateError(f"no server takes this edit: {error}. Close the document and open it again")
            )
            assert self.refusal is not None
            raise self.refusal from None
        self._advance(checked.clocks)
        self.made += 1
        unsaved = Unsaved(self.made, 1, update)
        self.unsaved.append(unsaved)
        self._unwritten.append((update, unsaved))
        self._unwritten_bytes += len(update)
        try:
            self.flush()
        finally:
            self._stir_watchers()
            if self.stirred is not None:
                self.stirred()

    def adopt(self, update: bytes, along: Callable[[], object] = lambda: None) -> None:
        """Take a Yjs update as an edit of this device. ``along`` is called in the transaction that keeps it
        in the file: both are kept or neither. Raises UpdateError when it is no update, or builds on what is
        not here, and ReplicaFailed; the document is then as it was."""
        if self._closed:
            raise DocumentClosed(f"the document {self.name!r} is closed; open it again")
        checked = check(update, self.clocks)
        if checked.missing is not None:
            raise UpdateError("the update builds on something that the document does not have")
        self.flush()
        with self._replica.transaction():
            along()
            (row,) = self._replica.append(self.name, [(update, 1)])
        self._advance(checked.clocks)
        self.made += 1
        self.unsaved.append(Unsaved(self.made, 1, update, row))
        self._apply(update, mine=True)
        self._stir_watchers()
        if self.stirred is not None:
            self.stirred()

    def take(self, update: bytes) -> None:
        """Take what the server sent. Raises UpdateError for what is no update or builds on what is not here;
        nothing of it is kept then."""
        if self._closed:
            return
        checked = check(update, self.clocks)
        if checked.missing is not None:
            raise UpdateError("the server sent an update whose predecessors are not here")
        if self._unwritten_bytes > UNWRITTEN_LIMIT:
            raise ReplicaFailed(f"{self._replica.path} takes nothing; free some space on its disk")
        if not self._apply(update, mine=False):
            return
        self._advance(checked.clocks)
        self._unwritten.append((update, None))
        self._unwritten_bytes += len(update)
        if len(self._unwritten) > UNWRITTEN_COUNT or self._unwritten_bytes > UNWRITTEN_BYTES:
            self.flush()

    def _apply(self, update: bytes, *, mine: bool) -> bool:
        """Apply what is kept, or will be, without taking it for another edit; False when the doc is lost."""
        self._applying = mine
        try:
            self.doc.apply_update(update)
        except (KeyboardInterrupt, SystemExit):
            raise
        except ExceptionGroup as group:  # an observer of the application; the update is in
            _report(f"an observer of {self.name!r} failed", group)
        except BaseException as error:  # a Rust panic is not an Exception; the doc may be half changed
            self.fail(UpdateError(f"pycrdt fails on {self.name!r}: {error}. Close it and open it again"))
            return False
        finally:
            self._applying = None
        return True

    def _advance(self, reached: Mapping[int, int]) -> None:
        for client, clock in reached.items():
            if clock > self.clocks.get(client, 0):
                self.clocks[client] = clock

    def flush(self) -> None:
        """Write to the file what is not there yet. Raises ReplicaFailed; nothing is lost by that."""
        if self._unwritten:
            waiting = self._unwritten
            ids = self._replica.append(
                self.name,
                [
                    (data, 0 if own is None or own.number <= self.acknowledged else own.edits)
                    for data, own in waiting
                ],
            )
            for id, (_, own) in zip(ids, waiting, strict=True):
                if own is not None:
                    own.row = id
            self._unwritten, self._unwritten_bytes = [], 0
            self._rows += len(ids)
        if self._acknowledged_row:
            self._replica.acknowledge(self.name, self._acknowledged_row)
            self._acknowledged_row = 0
        if self._rows > ROWS_LIMIT and not self.unsaved:
            self._rows = 0
            self._replica.compact(self.name, self._replica.read(self.name))

    # --- what the server said

    def told(self, writes: bool, epoch: int | None) -> None:
        """The server let us in. Raises EpochChanged when what it has is not what this is a copy of."""
        if epoch is not None and self.epoch is not None and epoch != self.epoch:
            raise EpochChanged(
                f"{self.name!r} was reset on the server since this copy was made. Its text and unsaved edits "
                "are kept here: copy what you need, then forget the copy and open the document again"
            )
        epoch = self.epoch if epoch is None else epoch
        if (writes, epoch) != (self.writes, self.epoch):
            self.writes, self.epoch = writes, epoch
            self._replica.remember(self.name, epoch, writes)
        self.refusal = None
        if not writes and self.unsaved:
            self.refuse_edits()
        self._stir_watchers()

    def told_authors(self, actors: Mapping[int, Actor]) -> None:
        """The server says who writes with which client ids."""
        self.actors.update(actors)
        while len(self.actors) > ACTORS_LIMIT:
            del self.actors[next(iter(self.actors))]

    def refuse_edits(self) -> None:
        """There are edits, and we may only read."""
        unsaved = self.made - self.acknowledged
        edits = "1 edit made here stays" if unsaved == 1 else f"{unsaved} edits made here stay"
        self.refuse(ReadOnly(f"you may read {self.name!r} and not change it; {edits} on this device"))

    def acknowledge(self, number: int) -> None:
        """The server has committed all edits up to that one."""
        while self.unsaved and self.unsaved[0].number <= number:
            row = self.unsaved.popleft().row
            if row is not None:
                self._acknowledged_row = row
        if number > self.acknowledged:
            self.acknowledged = number
            self._stir_watchers()

    def refuse(self, error: CollabError) -> None:
        """The server takes no edits now; what is made here is kept."""
        self.refusal = error
        self._stir_watchers()

    def fail(self, error: CollabError) -> None:
        """The doc is not to be trusted any more: nothing of it is sent or taken until it is opened anew."""
        self.refuse(error)
        if self.stirred is not None:
            self.stirred()

    @property
    def failed(self) -> bool:
        return isinstance(self.refusal, ProtocolError)

    def set_line(self, line: Line) -> None:
        if line is not self.line:
            self.line = line
            self._stir_watchers()

    # --- telling

    def _announce(self, update: bytes, *, mine: bool) -> None:
        if not self._observers:
            return
        found, self._edits = self._edits, []
        states = self.presence.others
        clients = check(update, {}).clocks  # of those that it has structs of
        authors = tuple(
            Author(
                client,
                self.presence.mine if client == self.doc.client_id else states.get(client),
                self.actors.get(client),
            )
            for client in clients
        )
        change = Change(mine, found, authors, update)
        loop = asyncio.get_running_loop()
        for observer in tuple(self._observers.values()):
            loop.call_soon(observer, change)

    def _stir_watchers(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        if self._telling or not self._watchers:
            return
        self._telling = True  # once for all that changes in this turn of the loop
        asyncio.get_running_loop().call_soon(self._tell_watchers)

    def _tell_watchers(self) -> None:
        self._telling = False
        status = self.status
        for watcher in tuple(self._watchers.values()):
            try:
                watcher(status)
            except Exception as error:  # one watcher's fault is not the next one's
                _report(f"a watcher of {self.name!r} failed", error)

    def close(self) -> None:
        """Write what is not in the file yet, and let the doc go. Raises ReplicaFailed."""
        if self._closed:
            return
        self._closed = True
        self.doc.unobserve(self._subscription)  # else pycrdt keeps the doc for ever
        if self._text_subscription is not None:
            self.root.unobserve(self._text_subscription)
        self._observers.clear()
        self._stir_watchers()
        self.flush()


def _applicable(stored: bytes, rows: Iterable[Any]) -> list[bytes]:
    """The rows as one update, or one by one where pycrdt refuses that. Raises CorruptLog."""
    try:
        build([stored])
    except CollabError:
        data = [row.data for row in rows]
        build(data)
        return data
    return [stored]


def _report(message: str, error: BaseException) -> None:
    """To the application, as asyncio reports what failed in a callback."""
    with suppress(RuntimeError):
        asyncio.get_running_loop().call_exception_handler({"message": message, "exception": error})
