"""What a document was, who changed it and how: answers over the log, and ways back.

A ``History`` is made of the entries of one document from the first on. It keeps no update: the letters
are in a ``Weave``, and of each entry its actor, time and origin. Everything is synchronous and pure; what
``dump`` gives is a cache that can be dropped and made again from the log.

Positions and counts are Unicode code points, seqs are those of the log, 0 is the empty document before
it. Times are microseconds since the epoch, kept to the millisecond: they are cut off, not rounded.
"""

from __future__ import annotations

from array import array
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from collab.columns import dump as columns_dump
from collab.columns import load as columns_load
from collab.diff import Diff, Granularity, Part
from collab.document import TEXT_ROOT
from collab.errors import CorruptLog, InvalidRequest, UpdateError
from collab.log import Actor, Entry, Origin
from collab.update import EMBED, ORIGIN, RIGHT_ORIGIN, STRING, Id, write
from collab.weave import NEVER, Indices, Mask, Strand, Weave, decode

GAP = 300.0  # seconds of silence after which a new version begins
SPAN = 3600.0  # seconds that a version lasts at most
EXCERPT = 80  # characters
DIFF_BUDGET = 400_000  # characters of a page, parts included; about a megabyte of JSON
RUN_LIMIT = 10_000  # runs of a page of blame
BUCKET_LIMIT = 10_000  # buckets of an activity

_MILLISECOND = 1000  # microseconds
_ELLIPSIS = " … "

Counts = npt.NDArray[np.int64]


class Share(NamedTuple):
    """What one actor typed and erased, in code points."""

    actor: Actor
    inserted: int
    deleted: int


class Version(NamedTuple):
    """A stretch of the log that a person would call one sitting."""

    seq_from: int
    seq_to: int
    started_at: int
    ended_at: int
    actors: tuple[Share, ...]  # who took part, in order of their numbers in the log
    origin: Origin
    inserted: int  # all that was typed, also what was erased again before the end
    deleted: int
    excerpt: str  # the first of what it added and left; "" when it only deleted
    labels: tuple[str, ...]  # ids of the labels on seq_to


class Versions(NamedTuple):
    versions: list[Version]  # newest first
    before: int | None  # hand it back to get the next page; None: this was the last


class Run(NamedTuple):
    """Neighbouring text by one actor."""

    length: int
    actor: Actor
    first_at: int
    last_at: int
    seq: int  # the last entry that typed in it


class Blame(NamedTuple):
    runs: list[Run]
    after: int | None  # the position at which the next page starts; None: this was the last


class Bucket(NamedTuple):
    """What came in within a stretch of time. Buckets in which nothing did are left out."""

    start: int
    actors: tuple[Share, ...]
    inserted: int
    deleted: int
    seq_from: int
    seq_to: int


class Change(NamedTuple):
    """An edit to be made on the live document, as an ordinary update of a new client."""

    update: bytes | None  # None: nothing to do
    inserted: int
    deleted: int
    other: bool  # entries that count here changed something else than text, which the update leaves alone


class Difference(NamedTuple):
    """The parts that make the text as of the old seq into that of the new one, a page of them."""

    inserted: int  # of the whole
    deleted: int
    parts: list[Part]
    cursor: int | None  # hand it back to get the next page; None: this was the last


class History:
    """One document's history up to ``head``."""

    def __init__(self) -> None:
        self.weave = Weave()
        self.actors: list[Actor] = []  # each as the log last named it
        self._numbers: dict[str, int] = {}  # actor id -> its place there
        # By entry:
        self._actor = array("I")
        self._received = array("q")  # milliseconds
        self._origin = array("B")
        self._other = array("B")  # whether it changed something else than text
        self._columns: _Columns | None = None

    @property
    def head(self) -> int:
        """The last seq; 0 of a document that nobody has touched."""
        return len(self._actor)

    @property
    def size(self) -> int:
        """About how many bytes of memory it takes."""
        return self.weave.size + 64 * self.head + 300 * len(self.actors)

    def extend(self, entries: Iterable[Entry]) -> None:
        """Take in the entries that follow ``head``. Raises ValueError when one is out of order, and
        CorruptLog when one cannot be read or does not fit to those before it: then drop this history."""
        self._columns = None
        for seq, actor, _, received, origin, data in entries:
            if seq != len(self._actor) + 1:
                raise ValueError(f"entry {seq} does not follow {self.head}")
            try:
                other = self.weave.add(seq, data)
            except UpdateError as error:
                raise CorruptLog(f"entry {seq} cannot be read: {error}") from None
            number = self._numbers.get(actor.id)
            if number is None:
                number = self._numbers[actor.id] = len(self.actors)
                self.actors.append(actor)
            elif self.actors[number] is not actor:
                self.actors[number] = actor
            self._actor.append(number)
            self._received.append(received // _MILLISECOND)
            self._origin.append(origin)
            self._other.append(other)

    def dump(self) -> bytes:
        """All of it as bytes, for ``load``: a cache, that the log can always make again. Two histories of
        the same log give the same bytes."""
        facts, columns = self.weave.columns()
        entries: dict[str, npt.NDArray[Any]] = {
            "actor": np.array(self._actor, np.int64),
            "received": np.array(self._received, np.int64),
            "origin": np.array(self._origin, np.uint8),
            "other": np.array(self._other, np.uint8),
        }
        return columns_dump({"actors": self.actors, "weave": facts}, {**columns, **entries})

    @classmethod
    def load(cls, data: bytes) -> History:
        """The history of which ``dump`` made ``data``; it goes on as that one would. Raises ValueError for
        anything else."""
        facts, columns = columns_load(data)
        history = cls()
        try:
            history.weave = Weave.from_columns(facts["weave"], columns)
            history.actors = [Actor(*actor) for actor in facts["actors"]]
            history._numbers = {actor.id: number for number, actor in enumerate(history.actors)}
            for name in ("actor", "received", "origin", "other"):
                column = getattr(history, "_" + name)
                column.frombytes(columns[name].astype(np.dtype(column.typecode)).tobytes())
        except (LookupError, TypeError, OverflowError) as error:
            raise ValueError("the cache of history is damaged") from error
        return history

    # What it was

    def content(self, seq: int, root: str = TEXT_ROOT) -> str:
        """The text as of ``seq``; an embed reads as U+FFFC."""
        self._check(seq)
        return self.weave.strand(root).text(seq)

    def at(self, time: int) -> int:
        """The last seq received at or before ``time``, 0 if there is none.

        Entries are in the order in which they were committed, and a clock may have been set back: then
        entries before that seq may have been received later than ``time``, and they belong to the answer,
        since nothing was built without them. Never smaller for a later time.
        """
        received = self._look().received
        before = np.flatnonzero(received <= time // _MILLISECOND)
        return int(before[-1]) + 1 if len(before) else 0

    def received(self, seq: int) -> int:
        """When entry ``seq`` came in."""
        self._check(seq, 1)
        return self._received[seq - 1] * _MILLISECOND

    # Who changed it and how

    def versions(
        self,
        *,
        kind: Literal["all", "named", "auto"] = "all",
        author: str | None = None,
        since: int | None = None,
        until: int | None = None,
        gap: float = GAP,
        span: float = SPAN,
        split: Literal["time", "author"] = "time",
        labels: Sequence[tuple[int, str]] = (),
        before: int | None = None,
        containing: int | None = None,
        limit: int = 50,
    ) -> Versions:
        """The log cut into versions, newest first.

        A new version begins after ``gap`` seconds of silence, when the origin changes, when the next entry
        would stretch it beyond ``span`` seconds, and if ``split`` is "author" when another actor goes on.
        A label (seq, id) ends a version too and moves no other bound. Bounds depend on nothing else: a
        version that is followed by another keeps them as the log grows, and pages always fit together.
        ``author`` (an actor's id) asks for those in which they took part, ``since`` and ``until`` for
        those that touch that time, ``containing`` (a seq) for the one that it belongs to.
        """
        columns = self._look()
        starts = columns.starts(gap, span, split)
        named = sorted({seq for seq, _ in labels if 0 < seq <= self.head})
        if named:
            starts = np.union1d(starts, np.array([seq for seq in named if seq < self.head], np.int64))
        if not len(starts):
            return Versions([], None)
        stops = np.append(starts[1:], self.head)
        wanted = np.ones(len(starts), np.bool_)
        if kind != "all":
            wanted &= np.isin(stops, named) == (kind == "named")
        if author is not None:
            number = self._numbers.get(author, -1)
            mine = np.searchsorted(starts, np.flatnonzero(columns.actor == number), "right") - 1
            took_part = np.zeros(len(starts), np.bool_)
            took_part[mine] = True
            wanted &= took_part
        first = np.minimum.reduceat(columns.received, starts)
        last = np.maximum.reduceat(columns.received, starts)
        if since is not None:
            wanted &= last * _MILLISECOND >= since
        if until is not None:
            wanted &= first * _MILLISECOND <= until
        if before is not None:
            wanted &= stops < before
        if containing is not None:
            wanted &= (starts < containing) & (containing <= stops)
        found = np.flatnonzero(wanted)[::-1]
        more, found = len(found) > limit, found[:limit]
        ids: dict[int, tuple[str, ...]] = {}
        for seq, label in labels:
            ids[seq] = (*ids.get(seq, ()), label)
        versions = []
        for index in found.tolist():
            start, stop = int(starts[index]), int(stops[index])
            shares = self._shares(columns, slice(start, stop))
            versions.append(
                Version(
                    start + 1,
                    stop,
                    int(first[index]) * _MILLISECOND,
                    int(last[index]) * _MILLISECOND,
                    shares,
                    Origin(self._origin[start]),
                    sum(share.inserted for share in shares),
                    sum(share.deleted for share in shares),
                    self._excerpt(start + 1, stop),
                    ids.get(stop, ()),
                )
            )
        return Versions(versions, versions[-1].seq_from if more and versions else None)

    def activity(self, bucket: float, *, since: int | None = None, until: int | None = None) -> list[Bucket]:
        """Who typed how much, by stretches of ``bucket`` seconds that begin at multiples of it, in order of
        time. Raises InvalidRequest when that makes more than 10,000."""
        width = int(bucket * 1000)
        if width <= 0:
            raise InvalidRequest("a bucket must last at least a millisecond")
        columns = self._look()
        wanted = np.ones(self.head, np.bool_)
        if since is not None:
            wanted &= columns.received * _MILLISECOND >= since
        if until is not None:
            wanted &= columns.received * _MILLISECOND <= until
        entries = np.flatnonzero(wanted)
        slots = columns.received[entries] // width
        order = np.argsort(slots, kind="stable")  # a clock that was set back fills a bucket twice
        entries, slots = entries[order], slots[order]
        if not len(entries):
            return []
        starts = np.concatenate(([0], np.flatnonzero(slots[1:] != slots[:-1]) + 1))
        if len(starts) > BUCKET_LIMIT:
            raise InvalidRequest(
                f"{len(starts)} buckets are more than {BUCKET_LIMIT}; ask for longer ones or a shorter time"
            )
        buckets = []
        for start, stop in zip(starts.tolist(), [*starts[1:].tolist(), len(entries)], strict=True):
            own = entries[start:stop]
            shares = self._shares(columns, own)
            buckets.append(
                Bucket(
                    int(slots[start]) * width * _MILLISECOND,
                    shares,
                    sum(share.inserted for share in shares),
                    sum(share.deleted for share in shares),
                    int(own.min()) + 1,
                    int(own.max()) + 1,
                )
            )
        return buckets

    def diff(
        self,
        old: int,
        new: int,
        *,
        root: str = TEXT_ROOT,
        granularity: Granularity = "char",
        budget: int = DIFF_BUDGET,
        cursor: int = 0,
    ) -> Difference:
        """The parts that make the text as of ``old`` into that as of ``new``, which may be the older one
        (see ``Part`` for whom they name). Beyond ``budget`` characters the rest comes with ``cursor``."""
        if cursor < 0:
            raise InvalidRequest("the cursor is not one that a diff gave")
        diff = self.compare(old, new, root=root, granularity=granularity)
        stop = diff.page(cursor, budget)
        return Difference(
            diff.inserted,
            diff.deleted,
            list(self.attributed(diff, cursor, stop)),
            stop if stop < len(diff) else None,
        )

    def compare(
        self, old: int, new: int, *, root: str = TEXT_ROOT, granularity: Granularity = "char"
    ) -> Diff:
        """As ``diff``, whole and by seqs; for ``collab.diff.unified`` by lines."""
        self._check(old)
        self._check(new)
        return Diff(self.weave.strand(root), old, new, self._look().owners, granularity)

    def attributed(self, diff: Diff, first: int = 0, last: int | None = None) -> Iterator[Part]:
        """The pieces of a diff with who made them and when."""
        names: tuple[Literal["keep"], Literal["delete"], Literal["insert"]] = ("keep", "delete", "insert")
        for op, text, seq in diff.pieces(first, last):
            if seq:
                actor = self.actors[self._actor[seq - 1]]
                yield Part(names[op], text, actor, self._received[seq - 1] * _MILLISECOND, seq)
            else:
                yield Part(names[op], text)

    def blame(
        self,
        seq: int,
        start: int = 0,
        stop: int | None = None,
        *,
        root: str = TEXT_ROOT,
        limit: int = RUN_LIMIT,
    ) -> Blame:
        """Who typed the text as of ``seq``, from position ``start`` up to ``stop``, not included. Raises
        InvalidRequest when the text does not reach so far."""
        self._check(seq)
        indices, units = self.weave.strand(root).shown(seq)
        points = np.flatnonzero((units & 0xFC00) != 0xDC00)  # one unit of each character
        stop = len(points) if stop is None else stop
        _check_range(start, stop, len(points))
        columns = self._look()
        seqs = self.weave.strand(root).inserted[indices[points[start:stop]]].astype(np.int64)
        if not len(seqs):
            return Blame([], None)
        owners = columns.owners[seqs]
        starts = np.concatenate(([0], np.flatnonzero(owners[1:] != owners[:-1]) + 1))
        after = None
        if len(starts) > limit:
            after = start + int(starts[limit])
            seqs, starts = seqs[: starts[limit]], starts[:limit]
        received = columns.received[seqs - 1]
        runs = [
            Run(length, self.actors[owner], first * _MILLISECOND, last * _MILLISECOND, seq)
            for length, owner, first, last, seq in zip(
                np.diff(np.append(starts, len(seqs))).tolist(),
                owners[starts].tolist(),
                np.minimum.reduceat(received, starts).tolist(),
                np.maximum.reduceat(received, starts).tolist(),
                np.maximum.reduceat(seqs, starts).tolist(),
                strict=True,
            )
        ]
        return Blame(runs, after)

    # Ways back

    def restore(
        self, seq: int, client: int, *, range: tuple[int, int] | None = None, root: str | None = None
    ) -> Change:
        """An edit that makes the text as of head into that as of ``seq``: it deletes what came since and
        puts what was deleted since back in its old place, so that text which stayed keeps its ids, and
        what others type meanwhile stays where they type it.

        All text roots, or only ``root``. With ``range`` only what stood in that range of the text as of
        ``seq`` (start, stop; of ``root`` or "content"), and what now stands within it. ``client`` must
        be a client id that the document has never seen. Raises InvalidRequest for a range beyond the text.
        """
        self._check(seq)
        if range is not None:
            root = root or TEXT_ROOT
        edit = _Edit(client)
        for name in self.weave.texts() if root is None else [root]:
            strand = self.weave.strand(name)
            window: tuple[int, int] | None = None
            if range is not None:
                indices, units = strand.shown(seq)
                points = np.flatnonzero((units & 0xFC00) != 0xDC00)
                _check_range(*range, len(points))
                if range[0] == range[1]:
                    continue
                past = points[range[1]] if range[1] < len(points) else len(units)
                window = int(indices[points[range[0]]]), int(indices[past - 1]) + 1
            edit.make(strand, self.head, strand.visible(seq), seq, window)
        return edit.change(1 in self._other[seq:])

    def undo(
        self, client: int, *, actor: str | None = None, after: int = 0, until: int | None = None
    ) -> Change:
        """An edit that takes back what ``actor`` (None: everybody) did in the entries after seq ``after``
        up to ``until`` (None: head), and nothing else: what they typed and is still there goes, what they
        deleted of others' (or of their own from before) comes back in its old place, unless someone has
        put the same text back there already.

        Where two deleted the same at once, the log's first counts: the other could as well have only
        repeated it. ``client`` must be a client id that the document has never seen.
        """
        until = self.head if until is None else until
        self._check(after)
        self._check(until)
        columns = self._look()
        chosen = np.zeros(self.head + 1, np.bool_)
        chosen[after + 1 : until + 1] = True
        if actor is not None:
            chosen[1:] &= columns.actor == self._numbers.get(actor, -1)
        edit = _Edit(client)
        for name in self.weave.texts():
            strand = self.weave.strand(name)
            now = strand.visible(self.head)
            typed = chosen[strand.inserted]
            gone = strand.deleted != NEVER
            erased = np.zeros(len(strand), np.bool_)
            erased[gone] = chosen[strand.deleted[gone]]
            back = erased & ~typed & (strand.inserted < strand.deleted)
            edit.make(strand, self.head, (now & ~typed) | back, self.head, None, unless_back=True)
        return edit.change(bool(np.array(self._other, np.bool_)[chosen[1:]].any()))

    # Inside

    def _check(self, seq: int, least: int = 0) -> None:
        if not least <= seq <= self.head:
            raise InvalidRequest(f"there is no seq {seq}; this document has {least} to {self.head}")

    def _look(self) -> _Columns:
        if self._columns is None:
            self._columns = _Columns(self)
        return self._columns

    def _shares(self, columns: _Columns, entries: slice | Indices) -> tuple[Share, ...]:
        actors, whose = np.unique(columns.actor[entries], return_inverse=True)
        inserted = np.bincount(whose, columns.inserted[entries])
        deleted = np.bincount(whose, columns.deleted[entries])
        return tuple(
            Share(self.actors[actor], int(typed), int(erased))
            for actor, typed, erased in zip(actors.tolist(), inserted.tolist(), deleted.tolist(), strict=True)
        )

    def _excerpt(self, seq_from: int, seq_to: int) -> str:
        for name in self.weave.texts():
            strand = self.weave.strand(name)
            order, seqs = strand.births
            low, high = np.searchsorted(seqs, np.array((seq_from, seq_to + 1), np.uint32))
            born = order[low:high]
            left = born[strand.deleted[born] > seq_to]
            if strand.hidden is not None:
                left = left[~strand.hidden[left]]
            if not len(left):
                continue
            wanted = 2 * EXCERPT  # units
            left = np.sort(np.partition(left, wanted)[:wanted] if len(left) > wanted else left)
            cuts = [
                index
                for index in (np.flatnonzero(np.diff(left) > 1) + 1).tolist()
                if strand.any_visible(seq_to, int(left[index - 1]) + 1, int(left[index]))
            ]
            pieces = [decode(strand.units[piece]) for piece in np.split(left, cuts)]
            return _ELLIPSIS.join(pieces)[:EXCERPT]
        return ""


class _Columns:
    """The entries of a history as columns by entry (index: seq - 1), good until it grows."""

    def __init__(self, history: History) -> None:
        self.actor = np.array(history._actor, np.int64)
        self.received = np.array(history._received, np.int64)
        self.origin = np.array(history._origin, np.int64)
        self.owners = np.concatenate(([-1], self.actor))  # by seq
        size = history.head + 1
        self.inserted: Counts = np.zeros(size, np.int64)
        self.deleted: Counts = np.zeros(size, np.int64)
        for root in history.weave.texts():
            strand = history.weave.strand(root)
            counts = strand.inserted != strand.deleted
            if strand.hidden is not None:
                counts &= ~strand.hidden
            if strand.highs is not None:
                counts &= strand.highs < 0  # a pair is one character
            inserted, deleted = strand.inserted[counts], strand.deleted[counts]
            self.inserted += np.bincount(inserted, minlength=size)
            self.deleted += np.bincount(deleted[deleted != NEVER], minlength=size)
        self.inserted, self.deleted = self.inserted[1:], self.deleted[1:]

    def starts(self, gap: float, span: float, split: Literal["time", "author"]) -> Indices:
        """The indices of the entries with which versions begin, labels left aside."""
        size = len(self.received)
        if not size:
            return np.zeros(0, np.int64)
        limit = int(span * 1000)
        cut = np.abs(np.diff(self.received)) > int(gap * 1000)
        cut |= self.origin[1:] != self.origin[:-1]
        if split == "author":
            cut |= self.actor[1:] != self.actor[:-1]
        starts = np.concatenate(([0], np.flatnonzero(cut) + 1))
        # Only a clock that was set back makes a maximum differ from the last.
        lasts = np.maximum.reduceat(self.received, starts)
        long = np.flatnonzero(lasts - self.received[starts] > limit)
        if not len(long):
            return starts
        more: list[int] = []
        stops = np.append(starts[1:], size)
        for start, stop in zip(starts[long].tolist(), stops[long].tolist(), strict=True):
            times = np.maximum.accumulate(self.received[start:stop])
            at = 0
            while (
                at := int(np.searchsorted(times, self.received[start + at] + limit, "right"))
            ) < stop - start:
                more.append(start + at)
        return np.union1d(starts, np.array(more, np.int64))


class _Edit:
    """An update under way: contents by a new client, and deletions."""

    def __init__(self, client: int) -> None:
        self._client = client
        self._clock = 0
        self._structs = bytearray()
        self._count = 0
        self._deletes: dict[int, list[tuple[int, int]]] = {}
        self._inserted = self._deleted = 0

    def make(
        self,
        strand: Strand,
        head: int,
        wanted: Mask,
        seq: int,
        window: tuple[int, int] | None,
        *,
        unless_back: bool = False,
    ) -> None:
        """Make the strand as of ``head`` into one that shows the ``wanted`` units, as they read as of
        ``seq``, within a window of indices. Characters are deleted and inserted whole."""
        now = strand.visible(head)
        size = len(strand)
        indices, reads = strand.readable(wanted, seq)
        value = np.zeros(size, np.uint16)
        value[indices] = reads
        keep = wanted & now
        if strand.highs is not None:
            shown, is_read = strand.shown(head)
            present = np.zeros(size, np.uint16)
            present[shown] = is_read
            keep &= value == present
        insert, delete = wanted & ~keep, now & ~keep
        if window is not None:
            outside = np.ones(size, np.bool_)
            outside[slice(*window)] = False
            insert[outside] = delete[outside] = False
        stays = np.flatnonzero(now & ~delete)
        comes = np.flatnonzero(insert)
        # What comes back between two units that stay is one group.
        place = np.searchsorted(stays, comes)
        cuts = np.flatnonzero(place[1:] != place[:-1]) + 1
        goes = np.flatnonzero(delete)
        from_place = np.searchsorted(stays, goes)
        same: list[Indices] = []
        for group in np.split(comes, cuts) if len(comes) else []:
            if unless_back and self._is_back(strand, stays, group, value):
                continue
            # The same text in the same place, put back by an earlier restore, stays what it is.
            spot = np.searchsorted(stays, group[0])
            there = goes[np.searchsorted(from_place, spot) : np.searchsorted(from_place, spot, "right")]
            if len(there) == len(group) and bool((strand.units[there] == value[group]).all()):
                same.append(there)
                continue
            self._insert(strand, group, value)
        if same:
            goes = np.setdiff1d(goes, np.concatenate(same))
        if strand.hidden is not None:
            counted = goes[~strand.hidden[goes]]
        else:
            counted = goes
        self._deleted += int(np.count_nonzero((strand.units[counted] & 0xFC00) != 0xDC00))
        for first, last in _stretches(goes):
            self._delete(strand, first, last)

    def change(self, other: bool) -> Change:
        if not self._count and not self._deletes:
            return Change(None, 0, 0, other)
        out = bytearray()
        if self._count:
            write(out, 1)
            write(out, self._count)
            write(out, self._client)
            write(out, 0)
            out += self._structs
        else:
            out.append(0)
        write(out, len(self._deletes))
        for client, ranges in self._deletes.items():
            joined: list[list[int]] = []
            for clock, end in sorted(ranges):
                if joined and joined[-1][1] == clock:
                    joined[-1][1] = end
                else:
                    joined.append([clock, end])
            write(out, client)
            write(out, len(joined))
            for clock, end in joined:
                write(out, clock)
                write(out, end - clock)
        return Change(bytes(out), self._inserted, self._deleted, other)

    def _insert(self, strand: Strand, group: Indices, value: npt.NDArray[np.uint16]) -> None:
        """Put units back, behind the last of their tombstones."""
        left = strand.id(int(group[-1]))
        right = strand.id_after(int(group[-1]))
        special = [index for index in group.tolist() if index in strand.specials] if strand.specials else []
        start = 0
        for index in [*special, None]:
            stop = int(np.searchsorted(group, index)) if index is not None else len(group)
            if start < stop:
                units = value[group[start:stop]]
                text = decode(units)
                raw = text.encode()
                body = bytearray()
                write(body, len(raw))
                left = self._struct(STRING, left, right, bytes(body) + raw, len(units))
                self._inserted += len(text)
            if index is not None:
                content = strand.specials[index]
                left = self._struct(content[0], left, right, content[1:], 1)
                self._inserted += content[0] == EMBED
            start = stop + 1

    def _struct(self, kind: int, left: Id, right: Id | None, body: bytes, length: int) -> Id:
        """Write one struct; the id of its last unit."""
        out = self._structs
        out.append(kind | ORIGIN | (RIGHT_ORIGIN if right else 0))
        for ref in (left, right) if right else (left,):
            write(out, ref[0])
            write(out, ref[1])
        out += body
        self._count += 1
        self._clock += length
        return self._client, self._clock - 1

    def _delete(self, strand: Strand, first: int, last: int) -> None:
        """Delete the units ``first`` to ``last`` (included), neighbours in the strand."""
        while first <= last:
            client, clock = strand.id(first)
            count = min(last + 1 - first, strand.rest_of_run(first))
            self._deletes.setdefault(client, []).append((clock, clock + count))
            first += count

    def _is_back(self, strand: Strand, stays: Indices, group: Indices, value: npt.NDArray[np.uint16]) -> bool:
        """Whether the same text was put back beside its tombstones after it was deleted, as an undo in an
        editor does."""
        since = int(strand.deleted[group].max())
        at, size = int(np.searchsorted(stays, group[-1])), len(group)
        for beside in (stays[at : at + size], stays[max(0, at - size) : at]):
            if (
                len(beside) == size
                and bool((strand.inserted[beside] >= since).all())
                and bool((strand.units[beside] == value[group]).all())
            ):
                return True
        return False


def _stretches(indices: Indices) -> Collection[tuple[int, int]]:
    """First and last of each stretch of neighbours."""
    if not len(indices):
        return []
    cuts = np.flatnonzero(np.diff(indices) > 1)
    firsts = indices[np.concatenate(([0], cuts + 1))].tolist()
    lasts = indices[np.concatenate((cuts, [len(indices) - 1]))].tolist()
    return list(zip(firsts, lasts, strict=True))


def _check_range(start: int, stop: int, length: int) -> None:
    if not 0 <= start <= stop <= length:
        raise InvalidRequest(f"{start} to {stop} is no range of this text of {length} characters")
