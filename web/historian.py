"""The historian: a process of its own that knows the histories of documents, and answers questions on them.

What a document was is worked out from its whole log, which takes seconds the first time and holds the
interpreter's lock; here it takes nobody's turn. The process reads the database itself. It remembers some
histories (the least lately asked for are forgotten), and has what it worked out kept in ``Histories``, so
that it is not done again after a restart; both may be lost at any time.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from collab.errors import CollabError, CorruptLog, Overloaded
from collab.log import DocumentGone
from storage.database import Database
from storage.histories import Histories
from storage.log import UpdateLog
from web.turns import Places
from web.workshop import Workshop

if TYPE_CHECKING:
    from collab.history import History

T = TypeVar("T")

FORMAT = 2  # of what is kept, which History.dump gives; raise it when that changes
WAITING = 64  # questions that wait, of everybody
WAITING_OF_ONE = 8  # and of one actor
SLICE = 0.5  # seconds of reading a log before somebody else's question has its turn
PAGE = 1000  # entries read at a time
PATIENCE = 60.0  # seconds for an answer: the log of a million entries takes about ten to read at first
STUCK = 60.0  # seconds that one turn may take; then the process is ended, and begun anew
WORTH_KEEPING = 2000  # entries since what is kept, from which it is kept anew, or
WORTH_SHARE = 0.1  # this share of them

_log = logging.getLogger(__name__)


class Ref(NamedTuple):
    """Which version is meant: a seq, or a time (microseconds), or neither: the head."""

    seq: int | None = None
    time: int | None = None


HEAD = Ref()


class HistoryBusy(Overloaded):
    """The history is still being worked out, or too many ask. Ask again in a moment."""

    code = "history-busy"


class Historian:
    """Asks the process and waits for it. ``run`` must be running for anything to be kept."""

    def __init__(self, url: str, histories: Histories, memory_bytes: int, limited: Counter[str]) -> None:
        self._workshop = Workshop(begin, url, memory_bytes)
        self._histories = histories
        self._places = Places(
            limited,
            "history",
            WAITING,
            WAITING_OF_ONE,
            of_one=f"{WAITING_OF_ONE} questions of yours on histories wait; ask again",
            of_all="too many ask for histories at once; ask again in a moment",
            full=HistoryBusy,
        )
        self._due: dict[str, None] = {}
        self._work = asyncio.Event()

    async def ask(self, by: str, document: str, question: str, *arguments: Any) -> Any:
        """What ``web.questions.<question>(history, *arguments)`` says of the document as far as it is
        durable. By name, since only the process needs what they need. ``by`` is the id of who asks.

        Raises HistoryBusy, RateLimited, DocumentDeleted, CorruptLog, StorageUnavailable and what the
        question raises.
        """
        with self._places.one(by):
            return await self._answer(document, question, arguments)

    async def _answer(self, document: str, question: str, arguments: tuple[Any, ...]) -> Any:
        give_up = time.monotonic() + PATIENCE
        while True:
            turn = await self._turn(_answer, document, question, arguments)
            if turn.due and document not in self._due:
                self._due[document] = None
                self._work.set()
            if turn.error is not None:
                raise turn.error
            if turn.ready:
                return turn.answer
            if time.monotonic() > give_up:
                raise HistoryBusy("this history is long and still being read; ask again in a moment")

    async def _turn(self, function: Callable[..., T], *arguments: Any) -> T:
        try:
            return await self._workshop.run(function, *arguments, within=STUCK)
        except BrokenProcessPool:
            _log.error("the process that answers on histories has ended; the next question begins it anew")
            raise HistoryBusy("the process that answers on histories has ended; ask again") from None

    async def run(self) -> None:
        """Keep what was worked out, until cancelled."""
        while True:
            await self._work.wait()
            self._work.clear()
            while self._due:
                document = next(iter(self._due))
                try:
                    dumped = await self._turn(_dump, document)
                    if dumped is not None:
                        epoch, head, data = dumped
                        await self._histories.save(document, epoch, head, FORMAT, data)
                except (CollabError, DocumentGone) as error:
                    _log.warning("the history of %r is not kept: %s", document, error)
                except Exception:  # a cache is worth no server
                    _log.exception("the history of %r is not kept", document)
                del self._due[document]

    def close(self) -> None:
        self._workshop.close()


# --- in the process ------------------------------------------------------------------------------------


class _Turn(NamedTuple):
    ready: bool  # False: it takes another turn
    due: bool  # much was worked out that is kept nowhere
    answer: Any = None
    error: CollabError | None = None


class _Known:
    """A history in memory."""

    def __init__(self, epoch: int, history: History, kept: int) -> None:
        self.epoch = epoch
        self.history = history
        self.kept = kept  # the last seq of what is kept of it, or about to be

    def due(self) -> bool:
        new = self.history.head - self.kept
        return new >= WORTH_KEEPING or (new > 200 and new >= self.history.head * WORTH_SHARE)


class _Desk:
    """All that the process has."""

    def __init__(self, url: str, memory_bytes: int) -> None:
        self.runner = asyncio.Runner()
        self.known: OrderedDict[str, _Known] = OrderedDict()
        self._memory_bytes = memory_bytes
        # Its connections belong to the runner's loop.
        self.runner.get_loop()
        self._database = Database.reading(url)
        self._log = UpdateLog(self._database)
        self._histories = Histories(self._database)

    async def bring(self, document: str) -> bool:
        """Have the history at hand, or a part of it: whether it is as far as the log."""
        from collab.history import History

        until = time.monotonic() + SLICE
        epoch, head = await self._log.head(document)
        known = self.known.get(document)
        if known is None or known.epoch != epoch or known.history.head > head:
            known = _Known(epoch, History(), 0)
            cached = await self._histories.load(document, epoch, FORMAT)
            if cached is not None and cached.seq <= head:
                try:
                    known = _Known(epoch, History.load(cached.data), cached.seq)
                except ValueError as error:
                    _log.error("the kept history of %r is passed over: %s", document, error)
            self.known[document] = known
        self.known.move_to_end(document)
        while known.history.head < head:
            if time.monotonic() > until:
                return False
            entries = await self._log.entries(document, known.history.head, PAGE)
            if not entries:
                raise CorruptLog(f"the log of {document!r} ends at {known.history.head}, before {head}")
            try:
                known.history.extend(entries)
            except CorruptLog:
                del self.known[document]  # it has half of an entry
                raise
        self._forget()
        return True

    async def updates(self, document: str, seq: int) -> list[bytes]:
        found: list[bytes] = []
        while len(found) < seq:
            entries = await self._log.entries(document, len(found), min(PAGE, seq - len(found)))
            if not entries:
                raise CorruptLog(f"the log of {document!r} ends at {len(found)}, before {seq}")
            found += [entry.data for entry in entries]
        return found

    def close(self) -> None:
        self.runner.run(self._database.close())
        self.runner.close()

    def _forget(self) -> None:
        size = sum(known.history.size for known in self.known.values())
        while size > self._memory_bytes and len(self.known) > 1:
            _, known = self.known.popitem(last=False)
            size -= known.history.size


_desk: _Desk | None = None


def begin(url: str, memory_bytes: int) -> None:
    """Make this process the one that answers: the historian's, or that of a command."""
    global _desk
    _desk = _Desk(url, memory_bytes)


def end() -> None:
    """Let go of the database again."""
    global _desk
    if _desk is not None:
        _desk.close()
        _desk = None


def ask(document: str, question: str, *arguments: Any) -> Any:
    """As ``Historian.ask``, in this process, for as long as it takes. Raises DocumentDeleted, CorruptLog,
    StorageUnavailable and what the question raises."""
    while True:
        turn = _answer(document, question, arguments)
        if turn.error is not None:
            raise turn.error
        if turn.ready:
            return turn.answer


def _answer(document: str, question: str, arguments: tuple[Any, ...]) -> _Turn:
    from web import questions

    assert _desk is not None
    try:
        ready = _desk.runner.run(_desk.bring(document))
        known = _desk.known[document]
        due = known.due()
        if not ready:
            return _Turn(False, due)
        return _Turn(True, due, getattr(questions, question)(known.history, *arguments))
    except CollabError as error:
        return _Turn(False, False, None, error)


def past(document: str, seq: int) -> list[bytes]:
    """For questions: the updates that make the document as of ``seq``, read from the log."""
    assert _desk is not None, "only the historian's process has the log"
    return _desk.runner.run(_desk.updates(document, seq))


def _dump(document: str) -> tuple[int, int, bytes] | None:
    assert _desk is not None
    known = _desk.known.get(document)
    if known is None:
        return None
    known.kept = known.history.head
    return known.epoch, known.history.head, known.history.dump()
