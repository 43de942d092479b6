"""What the log holds, and the promise it gives. ``storage.log`` keeps it.

The log is the truth: the numbered updates of a document, as clients sent them, each with the actor
that the server authenticated. Snapshots only make it fast to open.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple, Protocol


class Origin(IntEnum):
    """How an update came in. Stored as a number: never renumber."""

    EDIT = 1
    OFFLINE = 2  # arrived inside a sync step 2: made while the client was away
    IMPORT = 3
    API = 4
    RESTORE = 5
    UNDO = 6


class Actor(NamedTuple):
    """Who made an update, as the server authenticated it; never what the client claims."""

    id: str  # lasting and unique, for example "guest:5f0c..."
    kind: str = "guest"  # "guest", "user" or "agent"
    name: str = ""


class Entry(NamedTuple):
    """One row of a document's log. ``seq`` counts from 1 without gaps."""

    seq: int
    actor: Actor
    client: int  # Yjs client id that the update extends; 0 when it only deletes
    received: int  # microseconds since the epoch, UTC
    origin: Origin
    data: bytes  # the update exactly as it was received (Yjs update v1)


@dataclass(frozen=True, slots=True)
class Batch:
    """Entries of one document for one commit, in seq order, never empty."""

    document: str
    epoch: int
    entries: Sequence[Entry]


@dataclass(frozen=True, slots=True)
class Loaded:
    """A document as stored: ``base`` (all of 1..``base_seq`` as one update; b"" when there is no
    snapshot) and the updates after it, in order."""

    epoch: int
    base_seq: int
    base: bytes
    tail: Sequence[bytes]

    @property
    def head(self) -> int:
        return self.base_seq + len(self.tail)


class Log(Protocol):
    """The durable log, as the hub needs it."""

    async def load(self, document: str) -> Loaded:
        """The document's stored state; of a document that nobody has made yet, an empty one
        (epoch 1, nothing in it), and nothing is written.

        Raises DocumentDeleted, CorruptLog (a checksum or a gap in seq), StorageUnavailable.
        """

    async def append(self, batches: Sequence[Batch]) -> None:
        """Make all entries of all batches durable in one transaction, or none of them.

        Returns only after the commit has reached the disk. A document that is not there yet is made.
        Appending the very same entries again after an unknown outcome stores them once.
        A document deleted or reset meanwhile loses its batch only: raises DocumentGone for it
        after the others were committed.

        Raises StorageUnavailable (nothing was stored; may be tried again), DocumentGone.
        """

    async def snapshot(self, document: str, epoch: int, seq: int, data: bytes) -> None:
        """Store the full state as of ``seq``, then drop older snapshots. Idempotent. The log stays."""

    async def seal(self, document: str) -> None:
        """Pack what is cold of the log; everything reads as before. Idempotent.

        Raises CorruptLog, StorageUnavailable.
        """


class DocumentGone(Exception):
    """Some batches were refused because their documents were deleted or reset; the others are durable."""

    def __init__(self, documents: Sequence[str]) -> None:
        super().__init__(f"deleted or reset while in use: {', '.join(documents)}")
        self.documents = frozenset(documents)
