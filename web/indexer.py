"""The indexer: puts into the index of words what was written (``storage.search``), a while after it was.

Nothing waits for it. It learns what has changed from the hub and from routes, and at the start from the
database; what a crash or a full queue made it miss, it finds there.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from concurrent.futures.process import BrokenProcessPool

from collab.document import TEXT_ROOT
from collab.errors import CollabError, DocumentDeleted, StorageUnavailable
from collab.log import DocumentGone
from collab.weave import Weave
from storage.log import UpdateLog
from storage.search import Search
from web.workshop import Workshop

QUIET = 1.0  # seconds without a change after which a document is indexed, or
LATEST = 10.0  # so many after the first change; and not before
SETTLE = 5.0  # seconds after the start in which all come back at once, and what was missed waits
REST = 20.0  # times as long has passed as it took the last time
TICK = 0.25
DUE_LIMIT = 10_000  # documents that wait; of more, the database is asked again which they are
PAGE = 200  # documents asked for at a time
SMALL = 64 << 10  # bytes of a document that are read on a thread; a process takes what is more
STUCK = 60.0  # seconds after which that process is ended, and the document left

_log = logging.getLogger(__name__)


class Indexer:
    """Tell it of changes with ``stir``; ``run`` must be running for anything to be done about them."""

    def __init__(self, log: UpdateLog, search: Search) -> None:
        self._store = log
        self._search = search
        self._workshop = Workshop()
        self._due: dict[str, tuple[float, float]] = {}  # first and last change
        self._rests: dict[str, float] = {}  # until when
        self._after: int | None = 0  # the key from which on the database is looked through
        self._again = False
        self._work = asyncio.Event()

    def stir(self, document: str) -> None:
        """Its text or its title has changed, or it was deleted or brought back."""
        now = time.monotonic()
        if (due := self._due.get(document)) is not None:
            self._due[document] = (due[0], now)
        elif len(self._due) < DUE_LIMIT:
            self._due[document] = (now, now)
            self._work.set()
        else:
            self._again = True

    async def run(self) -> None:
        """Index what has changed, until cancelled."""
        settled = time.monotonic() + SETTLE
        while True:
            self._work.clear()
            for document in self._ripe():
                await self._index(document)
            if self._after is None and self._again and not self._due:
                self._after, self._again = 0, False
            if self._after is not None and time.monotonic() > settled:
                await self._catch_up()
            elif self._due or self._after is not None:
                await asyncio.sleep(TICK)
            else:
                await self._work.wait()

    def close(self) -> None:
        self._workshop.close()

    def _ripe(self) -> list[str]:
        now = time.monotonic()
        self._rests = {document: until for document, until in self._rests.items() if until > now}
        found = [
            document
            for document, (first, last) in self._due.items()
            if (now - last >= QUIET or now - first >= LATEST) and document not in self._rests
        ]
        for document in found:
            del self._due[document]
        return found

    async def _catch_up(self) -> None:
        assert self._after is not None
        try:
            found = await self._search.behind(self._after, PAGE)
        except StorageUnavailable as error:
            _log.warning("what the index lacks is not known: %s", error)
            await asyncio.sleep(LATEST)
            return
        for document, after in found:
            await self._index(document)
            self._after = after
        if len(found) < PAGE:
            self._after = None

    async def _index(self, document: str) -> None:
        began = time.monotonic()
        try:
            loaded = await self._store.load(document)
            updates = [loaded.base, *loaded.tail] if loaded.base else list(loaded.tail)
            await self._search.put(document, loaded.epoch, loaded.head, await self._texts(updates))
        except DocumentDeleted:
            await self._drop(document)
        except DocumentGone:
            self.stir(document)  # meanwhile
        except StorageUnavailable as error:
            _log.warning("%r is not indexed yet: %s", document, error)
            self._again = True
            await asyncio.sleep(TICK)
        except (CollabError, BrokenProcessPool) as error:
            _log.error("%r cannot be found by what it says: %s", document, error)
        except Exception:  # a cache is worth no server
            _log.exception("%r cannot be found by what it says", document)
        rest = REST * (time.monotonic() - began)
        if rest > QUIET:
            self._rests[document] = time.monotonic() + rest

    async def _drop(self, document: str) -> None:
        try:
            await self._search.drop(document)
        except StorageUnavailable as error:
            _log.warning("%r is still indexed: %s", document, error)
            self._again = True

    async def _texts(self, updates: list[bytes]) -> list[str]:
        if sum(map(len, updates)) <= SMALL:
            return await asyncio.to_thread(texts, updates)
        return await self._workshop.run(texts, updates, within=STUCK)


def texts(updates: Sequence[bytes]) -> list[str]:
    """All texts of the document that ``updates`` make, the one that editors share first.

    Raises UpdateError.
    """
    # Not through a Doc: that cannot say what a root is, and reading it as something else may never end.
    weave = Weave()
    for seq, data in enumerate(updates, 1):
        weave.add(seq, data)
    roots = sorted(weave.texts(), key=lambda root: (root != TEXT_ROOT, root))
    return [weave.strand(root).text(len(updates)) for root in roots]
