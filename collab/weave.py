"""The weave: every character that a document ever held, in document order, with its birth and its death.

Built from the updates of the log as they were received, by the rules with which Yjs integrates them
(YATA), so each replica would name the same order. Nothing leaves it: a deleted unit stays where it is and
gets the seq that deleted it. So the text as of any seq, the difference of any two, and who wrote or
removed each letter are a look at columns and no replay.

A *unit* is one UTF-16 code unit, as Yjs counts. A *run* is what Yjs calls an item: units of one client
with contiguous clocks, each typed directly after the one before it. A *strand* is one root's units in
document order. What is not text (values of arrays, shared types, letters that came in already deleted)
keeps its place in the order but has no units: a *void* run. Values of keys and whatever lies inside
nested types are no part of any strand; ``collab.tree`` answers for them.
"""

from __future__ import annotations

import sys
from array import array
from bisect import bisect_right
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from collab.columns import Column
from collab.errors import UpdateError
from collab.update import (
    ANY,
    BINARY,
    DELETED,
    EMBED,
    FORMAT,
    GC,
    ORIGIN,
    RIGHT_ORIGIN,
    STRING,
    TYPE,
    XML_ELEMENT,
    XML_TEXT,
    Id,
    Struct,
    read,
    varint,
    write,
)

NEVER = 0xFFFF_FFFF  # the seq of a deletion that has not happened
EMBEDDED = 0xFFFC  # OBJECT REPLACEMENT CHARACTER: an image or the like inside a text
REPLACEMENT = 0xFFFD  # stands for half of a surrogate pair, as in Yjs
KEYED = 1 << 15  # among the kinds of a root: it has values of keys, as a map
XML = 1 << 14  # ... shared types that are XML elements or texts
SHARED = 1 << 13  # ... and other shared types

_UTF_16 = f"utf-16-{sys.byteorder[0]}e"
_NONE = -1
_FEW = 16  # deletions up to this long are marked one by one, longer ones by numpy
_LOOK = 1024  # units that are looked at in one go where the first of them mostly tells
_STRING_AFTER = STRING | ORIGIN
_STRING_BETWEEN = STRING | ORIGIN | RIGHT_ORIGIN

Units = npt.NDArray[np.uint16]
Seqs = npt.NDArray[np.uint32]
Indices = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

# What is kept of a run; its root and its neighbours follow from its place.
_RUN_COLUMNS = ("writer", "clock", "length", "at", "left_writer", "left_clock", "right_writer", "right_clock")


class _Writer:
    """What one client wrote. Void runs take clocks and no units, so units are found through their run."""

    __slots__ = ("client", "deleted", "inserted", "runs", "special_units", "specials", "starts", "units")

    def __init__(self, client: int) -> None:
        self.client = client
        self.units = array("H")
        self.inserted = array("I")  # seq by unit
        self.deleted = array("I")
        self.starts = array("I")  # the first clocks of its runs, ascending
        self.runs = array("i")  # and their numbers
        self.special_units = array("I")  # which units are marks or embeds, ascending
        self.specials = array("I")  # and what they say, as a number of Weave.contents


class Weave:
    """All strands of one document. ``add`` entries in seq order; ``strand`` looks at one root."""

    def __init__(self) -> None:
        self.roots: dict[str, int] = {}  # name -> number, in order of appearance
        self.kinds: list[int] = []  # by root, a bit for each kind of content seen directly in it
        self.contents: list[bytes] = []  # of marks and embeds: the kind, and the bytes as in an update
        self._content_numbers: dict[bytes, int] = {}
        self._heads = array("i")  # by root, its first run
        self._numbers: dict[int, int] = {}  # client id -> its place in _writers
        self._writers: list[_Writer] = []
        self.clocks: dict[int, int] = {}  # client id -> its next clock
        # Runs, a column for each field.
        self._writer = array("i")
        self._clock = array("I")
        self._length = array("I")
        self._at = array("i")  # its first unit among the writer's; _NONE for a void run
        self._root = array("i")
        self._left_writer = array("i")  # origin of its first unit; _NONE: none
        self._left_clock = array("I")
        self._right_writer = array("i")  # right origin of all of its units
        self._right_clock = array("I")
        self._next = array("i")
        # The last writer, and how its keystrokes begin: people type more than one letter.
        self._last: _Writer | None = None
        self._last_id = self._last_insert = self._last_delete = b"-"
        self._strands: dict[int, Strand] = {}

    def add(self, seq: int, data: bytes) -> bool:
        """Weave in the update of entry ``seq``, which the gate let pass. Whether it changed anything that
        is not text. Raises UpdateError when it cannot be read (then nothing was changed) or names what
        no entry before it has brought (then drop the weave)."""
        self._strands.clear()
        if (last := self._last) is not None and (
            (data.startswith(self._last_insert) and self._type(last, seq, data))
            or (data.startswith(self._last_delete) and self._erase(last, seq, data))
        ):
            return False
        structs, deletes = read(data, self.clocks)
        other = False
        try:
            for struct in structs:
                other |= self._place(seq, data, struct)
        except KeyError as error:
            raise UpdateError(f"nothing of client {error} is here") from None
        for client, start, stop in deletes:
            other |= self._delete(self._number(client), start, stop, seq)
        if structs or deletes:
            self._expect(structs[-1].client if structs else deletes[-1][0])
        return other

    def strand(self, root: str) -> Strand:
        """The units of a root in document order; an empty strand for a root that nobody has used."""
        number = self.roots.get(root, _NONE)
        strand = self._strands.get(number)
        if strand is None:
            strand = self._strands[number] = self._view(number)
        return strand

    def texts(self) -> list[str]:
        """The roots that are texts: some text, mark or embed lies directly in them."""
        text = 1 << STRING | 1 << FORMAT | 1 << EMBED
        other = 1 << ANY | 1 << BINARY
        return [name for name, i in self.roots.items() if self.kinds[i] & text and not self.kinds[i] & other]

    def client(self, number: int) -> int:
        return self._writers[number].client

    @property
    def size(self) -> int:
        """About how many bytes of memory it takes, its strands included."""
        units = sum(len(writer.units) for writer in self._writers)
        runs = len(self._next)
        return (
            4096
            + 800 * len(self._writers)
            + 10 * units
            + 48 * runs
            + sum(s.size for s in self._strands.values())
        )

    # As columns

    def columns(self) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
        """All of it for ``collab.columns``: facts and columns, the same for the same log."""
        order: list[int] = []
        sizes: list[int] = []  # runs by root
        for head in self._heads:
            run, before = head, len(order)
            while run >= 0:
                order.append(run)
                run = self._next[run]
            sizes.append(len(order) - before)
        runs = np.array(order, np.int64)
        writers = self._writers
        facts = {
            "roots": list(self.roots),
            "kinds": self.kinds,
            "runs": sizes,
            "clients": [[w.client, self.clocks[w.client], len(w.units), len(w.specials)] for w in writers],
            "contents": [content.hex() for content in self.contents],
        }

        def joined(name: str) -> npt.NDArray[np.int64]:
            return np.concatenate([np.zeros(0, np.int64), *(np.array(getattr(w, name)) for w in writers)])

        deleted = joined("deleted")
        columns: dict[str, npt.NDArray[Any]] = {
            "units": joined("units").astype(np.uint16),
            "inserted": joined("inserted"),
            "is_deleted": np.packbits(deleted != NEVER),
            "deleted": deleted[deleted != NEVER],
            "special_units": joined("special_units"),
            "specials": joined("specials"),
        }
        for name in _RUN_COLUMNS:
            column = np.array(getattr(self, "_" + name), np.int64)[runs]
            if name.endswith("_clock"):  # near its own, more often than near that of the run before
                column -= columns["clock"]
            columns[name] = (column >= 0).astype(np.uint8) if name == "at" else column
        return facts, columns

    @classmethod
    def from_columns(cls, facts: dict[str, Any], columns: Mapping[str, Column]) -> Weave:
        """The weave of which ``columns`` were these. Raises ValueError when they do not fit together."""
        weave = cls()
        weave.roots = {name: number for number, name in enumerate(facts["roots"])}
        weave.kinds = list(facts["kinds"])
        weave.contents = [bytes.fromhex(content) for content in facts["contents"]]
        weave._content_numbers = {content: number for number, content in enumerate(weave.contents)}
        total = len(columns["units"])
        if total != len(columns["inserted"]) or total != sum(count for *_, count, _ in facts["clients"]):
            raise ValueError("columns of units differ in length")
        deleted = np.full(total, NEVER, np.uint32)
        is_deleted = np.unpackbits(columns["is_deleted"].astype(np.uint8), count=total).astype(np.bool_)
        deleted[is_deleted] = columns["deleted"]

        # Units of a writer follow each other in order of clocks, so a run finds its own by counting.
        writers, clocks, lengths, filled = (columns[name] for name in ("writer", "clock", "length", "at"))
        by_writer = np.lexsort((clocks, writers))
        counts = np.where(filled, lengths, 0)[by_writer]
        bases = np.cumsum([0, *(count for *_, count, _ in facts["clients"])])
        at = np.zeros(len(writers), np.int64)
        at[by_writer] = np.cumsum(counts) - counts
        at = np.where(filled, at - bases[writers], _NONE)
        edges = np.searchsorted(writers[by_writer], np.arange(len(facts["clients"]) + 1))
        special = 0
        for number, (client, clock, count, marks) in enumerate(facts["clients"]):
            writer = weave._writers[weave._number(client)]
            weave.clocks[client] = clock
            part = slice(int(bases[number]), int(bases[number]) + count)
            writer.units = _array("H", columns["units"][part])
            writer.inserted = _array("I", columns["inserted"][part])
            writer.deleted = _array("I", deleted[part])
            own = by_writer[edges[number] : edges[number + 1]]
            writer.starts, writer.runs = _array("I", clocks[own]), _array("i", own)
            writer.special_units = _array("I", columns["special_units"][special : special + marks])
            writer.specials = _array("I", columns["specials"][special : special + marks])
            special += marks
        for name in _RUN_COLUMNS:
            column = at if name == "at" else columns[name]
            if name.endswith("_clock"):
                column = column + clocks
            setattr(weave, "_" + name, _array(getattr(weave, "_" + name).typecode, column))
        following = np.arange(1, len(writers) + 1)
        roots = np.repeat(np.arange(len(weave.kinds)), facts["runs"])
        ends = np.cumsum(facts["runs"], dtype=np.int64)
        sizes = np.array(facts["runs"], np.int64)
        following[ends[sizes > 0] - 1] = _NONE
        weave._heads = _array("i", np.where(sizes > 0, ends - sizes, _NONE))
        weave._next = _array("i", following)
        weave._root = _array("i", roots)
        return weave

    # Weaving

    def _type(self, writer: _Writer, seq: int, data: bytes) -> bool:
        """Take in ASCII that its writer typed at its own caret; False: it is something else."""
        i = len(self._last_insert)
        try:
            clock, i = varint(data, i)
            flags = data[i]
            if (
                clock != self.clocks[writer.client]
                or not data.startswith(self._last_id, i + 1)
                or not writer.runs
            ):
                return False
            position, i = varint(data, i + 1 + len(self._last_id))
            run = writer.runs[-1]
            if position != clock - 1 or self._clock[run] + self._length[run] != clock or self._at[run] < 0:
                return False
            after = self._next[run]
            if flags == _STRING_AFTER:
                if after >= 0 or self._right_writer[run] >= 0:
                    return False
            elif flags == _STRING_BETWEEN:
                client, i = varint(data, i)
                position, i = varint(data, i)
                if (
                    after < 0
                    or self._clock[after] != position
                    or self._right_clock[run] != position
                    or self._right_writer[run] != self._writer[after]
                    or self._writers[self._writer[after]].client != client
                ):
                    return False
            else:
                return False
            length = data[i]
            stop = i + 1 + length
            if length > 127 or stop + 1 != len(data) or data[stop]:
                return False
        except IndexError:
            return False
        if length == 1 and (unit := data[stop - 1]) < 128:
            writer.units.append(unit)
            writer.inserted.append(seq)
            writer.deleted.append(NEVER)
        else:
            text = data[i + 1 : stop]
            if not text.isascii():
                return False
            writer.units.extend(text)
            writer.inserted.extend([seq] * length)
            writer.deleted.extend([NEVER] * length)
        self.clocks[writer.client] = clock + length
        self._length[run] += length
        return True

    def _erase(self, writer: _Writer, seq: int, data: bytes) -> bool:
        """Take in a deletion of one range of text; False: it is something else."""
        try:
            clock, i = varint(data, len(self._last_delete))
            length, i = varint(data, i)
        except IndexError:
            return False
        if i != len(data) or length > _FEW or not writer.runs:
            return False
        run = writer.runs[bisect_right(writer.starts, clock) - 1]
        at = self._at[run]
        offset = clock - self._clock[run]
        if at < 0 or offset < 0 or offset + length > self._length[run]:
            return False
        deleted = writer.deleted
        for unit in range(at + offset, at + offset + length):
            if deleted[unit] == NEVER:
                deleted[unit] = seq
        return True

    def _expect(self, client: int) -> None:
        """The next keystroke will most likely be by this client too."""
        if self._last is None or self._last.client != client:
            self._last = self._writers[self._number(client)]
            self._last_id = _encoded(client)
            self._last_insert = b"\1\1" + self._last_id
            self._last_delete = b"\0\1" + self._last_id + b"\1"

    def _place(self, seq: int, data: bytes, struct: Struct) -> bool:
        """Weave in one struct; whether it is something else than text."""
        client, kind, origin = struct.client, struct.kind, struct.origin
        number = self._number(client)
        clock, known = struct.clock, self.clocks[client]
        if clock > known:
            raise UpdateError(f"client {client} goes on at {clock}, and only {known} are here")
        self.clocks[client] = struct.end
        if clock < known:  # it goes on where what is here ends, whatever it says
            clock, origin = known, (client, known - 1)
        if kind == GC or (struct.keyed and not origin) or struct.parent:
            if struct.root is not None:
                self.kinds[self._root_number(struct.root)] |= KEYED
            return True

        left = right = after = _NONE
        if origin:
            left = self._run_ending(origin)
            if left < 0:
                return True
        if struct.right:
            right = self._run_starting(struct.right)
            if right < 0:
                return True
        if left >= 0:
            root = self._root[left]
        elif right >= 0:
            root = self._root[right]
        elif struct.root is not None:
            root = self._root_number(struct.root)
        else:
            return True
        self.kinds[root] |= 1 << kind
        if kind == TYPE:
            self.kinds[root] |= XML if data[struct.body] in (XML_ELEMENT, XML_TEXT) else SHARED

        units: array[int] | None = None
        if kind == STRING:
            text = struct.text
            units = array("H")
            if text is not None:
                units.frombytes(text.encode(_UTF_16))
            else:
                units.extend(data[struct.stop - (struct.end - struct.clock) : struct.stop])
            if clock != struct.clock:
                units = units[clock - struct.clock :]
        elif kind in (EMBED, FORMAT):
            units = array("H", (EMBEDDED,))

        after = self._next[left] if left >= 0 else self._heads[root]
        left_id = (self._numbers[origin[0]], origin[1]) if origin else (_NONE, 0)
        right_id = (self._numbers[struct.right[0]], struct.right[1]) if struct.right else (_NONE, 0)
        if after != right:
            left = self._among_rivals(client, left, after, right, left_id, right_id)
            after = self._next[left] if left >= 0 else self._heads[root]

        writer = self._writers[number]
        at = _NONE
        if units is not None:
            at = len(writer.units)
            if kind != STRING:
                writer.special_units.append(at)
                writer.specials.append(self._content(kind, data[struct.body : struct.stop]))
            writer.units.extend(units)
            writer.inserted.extend([seq] * len(units))
            writer.deleted.extend([NEVER] * len(units))
            if (
                left_id == (number, clock - 1)
                and left >= 0
                and self._writer[left] == number
                and self._clock[left] + self._length[left] == clock
                and self._at[left] >= 0
                and self._right_writer[left] == right_id[0]
                and self._right_clock[left] == right_id[1]
            ):
                self._length[left] += len(units)
                return False
        run = self._add_run(number, clock, struct.end - clock, at, root, left_id, right_id, after)
        writer.starts.append(clock)
        writer.runs.append(run)
        if left >= 0:
            self._next[left] = run
        else:
            self._heads[root] = run
        return kind not in (STRING, EMBED, FORMAT, DELETED)

    def _among_rivals(
        self,
        client: int,
        left: int,
        after: int,
        right: int,
        left_id: Id,
        right_id: Id,
    ) -> int:
        """The run after which a new one comes, where others have been put between its neighbours: the rule
        of Item.integrate in Yjs."""
        before: set[int] = set()
        rivals: set[int] = set()
        while after >= 0 and after != right:
            before.add(after)
            rivals.add(after)
            its_left = self._left_writer[after], self._left_clock[after]
            if its_left == left_id:
                if self._writers[self._writer[after]].client < client:
                    left = after
                    rivals.clear()
                elif (self._right_writer[after], self._right_clock[after]) == right_id:
                    break
            elif its_left[0] >= 0 and (run := self._run_of(*its_left)) in before:
                if run not in rivals:
                    left = after
                    rivals.clear()
            else:
                break
            after = self._next[after]
        return left

    def _delete(self, number: int, start: int, stop: int, seq: int) -> bool:
        """Mark the units of a range as deleted by ``seq``, unless they were before; whether there is
        something else than text in it."""
        writer = self._writers[number]
        other = False
        index = bisect_right(writer.starts, start) - 1
        index = max(index, 0)
        while index < len(writer.starts) and (clock := writer.starts[index]) < stop:
            run = writer.runs[index]
            end = clock + self._length[run]
            index += 1
            if end <= start:
                continue
            at = self._at[run]
            if at < 0 or start < clock:
                other = True
            if at < 0:
                pass  # it never was visible
            else:
                first, last = at + max(start - clock, 0), at + min(stop, end) - clock
                if last - first <= _FEW:
                    for unit in range(first, last):
                        if writer.deleted[unit] == NEVER:
                            writer.deleted[unit] = seq
                else:
                    part = np.frombuffer(writer.deleted, np.uint32)[first:last]
                    part[part == NEVER] = seq
                    del part  # an array that is looked at cannot grow
            start = end
        return other or start < stop

    def _add_run(
        self,
        number: int,
        clock: int,
        length: int,
        at: int,
        root: int,
        left: Id,
        right: Id,
        after: int,
    ) -> int:
        run = len(self._next)
        self._writer.append(number)
        self._clock.append(clock)
        self._length.append(length)
        self._at.append(at)
        self._root.append(root)
        self._left_writer.append(left[0])
        self._left_clock.append(left[1])
        self._right_writer.append(right[0])
        self._right_clock.append(right[1])
        self._next.append(after)
        return run

    def _run_of(self, number: int, clock: int) -> int:
        """The run that holds a unit, or _NONE when it lies in no strand."""
        writer = self._writers[number]
        index = bisect_right(writer.starts, clock) - 1
        if index < 0:
            return _NONE
        run = writer.runs[index]
        return run if clock < self._clock[run] + self._length[run] else _NONE

    def _run_ending(self, unit: Id) -> int:
        """The run whose last unit it is, split if need be; _NONE when it lies in no strand."""
        number, clock = self._numbers[unit[0]], unit[1]
        run = self._run_of(number, clock)
        if run >= 0 and clock + 1 < self._clock[run] + self._length[run]:
            self._split(run, clock + 1)
        return run

    def _run_starting(self, unit: Id) -> int:
        """The run whose first unit it is, split if need be; _NONE when it lies in no strand."""
        number, clock = self._numbers[unit[0]], unit[1]
        run = self._run_of(number, clock)
        if run >= 0 and clock > self._clock[run]:
            run = self._split(run, clock)
        return run

    def _split(self, run: int, clock: int) -> int:
        """Cut a run before ``clock``; the number of its second part."""
        number, offset, at = self._writer[run], clock - self._clock[run], self._at[run]
        second = self._add_run(
            number,
            clock,
            self._length[run] - offset,
            at + offset if at >= 0 else _NONE,
            self._root[run],
            (number, clock - 1),
            (self._right_writer[run], self._right_clock[run]),
            self._next[run],
        )
        self._length[run] = offset
        self._next[run] = second
        writer = self._writers[number]
        index = bisect_right(writer.starts, clock)
        writer.starts.insert(index, clock)
        writer.runs.insert(index, second)
        return second

    def _number(self, client: int) -> int:
        number = self._numbers.get(client)
        if number is None:
            number = self._numbers[client] = len(self._writers)
            self._writers.append(_Writer(client))
            self.clocks[client] = 0
        return number

    def _root_number(self, name: str) -> int:
        number = self.roots.get(name)
        if number is None:
            number = self.roots[name] = len(self.kinds)
            self.kinds.append(0)
            self._heads.append(_NONE)
        return number

    def _content(self, kind: int, data: bytes) -> int:
        content = bytes((kind,)) + data
        number = self._content_numbers.get(content)
        if number is None:
            number = self._content_numbers[content] = len(self.contents)
            self.contents.append(content)
        return number

    # Looking

    def _view(self, root: int) -> Strand:
        order = array("i")
        run = self._heads[root] if root >= 0 else _NONE
        following = self._next
        while run >= 0:
            order.append(run)
            run = following[run]
        runs = np.array(order, np.int64)
        writers = np.array(self._writer, np.int64)[runs]
        clocks = np.array(self._clock, np.int64)[runs]
        lengths = np.array(self._length, np.int64)[runs]
        ats = np.array(self._at, np.int64)[runs]
        counts = np.where(ats >= 0, lengths, 0)
        starts = np.cumsum(counts) - counts
        bases = np.cumsum([0, *(len(writer.units) for writer in self._writers)])
        total = int(counts.sum())
        places = np.repeat(bases[writers] + ats - starts, counts) + np.arange(total)
        units = np.frombuffer(b"".join([w.units.tobytes() for w in self._writers]), np.uint16)[places]
        inserted = np.frombuffer(b"".join([w.inserted.tobytes() for w in self._writers]), np.uint32)[places]
        deleted = np.frombuffer(b"".join([w.deleted.tobytes() for w in self._writers]), np.uint32)[places]
        special = np.concatenate(
            [
                np.array(w.special_units, np.int64) + base
                for w, base in zip(self._writers, bases, strict=False)
            ]
            or [np.zeros(0, np.int64)]
        )
        specials: dict[int, bytes] = {}
        hidden: Mask | None = None
        if len(special):
            says = np.concatenate([np.array(w.specials, np.int64) for w in self._writers])
            by_unit = np.full(bases[-1], _NONE, np.int64)
            by_unit[special] = says
            here = by_unit[places]
            hidden = np.zeros(total, np.bool_)
            for index in np.flatnonzero(here >= 0).tolist():
                content = self.contents[here[index]]
                specials[index] = content
                hidden[index] = content[0] == FORMAT
        clients = np.array([w.client for w in self._writers], np.int64)[writers]
        table = RunTable(starts, counts, clients, clocks, lengths)
        return Strand(units, inserted, deleted, hidden, specials, table, places)


class RunTable(NamedTuple):
    """The runs of a strand in document order, a row each."""

    starts: Indices  # index of the first unit; a void run has none, and stands before that unit
    counts: Indices  # of units
    clients: Indices
    clocks: Indices
    lengths: Indices  # in clocks


class Strand:
    """The units of one root in document order, deleted ones included. A look, good until the weave grows.

    ``units``, ``inserted`` and ``deleted`` are columns of the same length: the UTF-16 unit and the seqs
    of its birth and death. ``hidden`` marks the units that are no text (marks of formatting), None when
    there are none; ``specials`` holds what marks and embeds say, by index.
    """

    def __init__(
        self,
        units: Units,
        inserted: Seqs,
        deleted: Seqs,
        hidden: Mask | None,
        specials: dict[int, bytes],
        runs: RunTable,
        places: Indices,
    ) -> None:
        self.units = units
        self.inserted = inserted
        self.deleted = deleted
        self.hidden = hidden
        self.specials = specials
        self.runs = runs
        self._places: Indices | None = places
        self._births: tuple[Indices, Seqs] | None = None
        self.highs: Indices | None = None  # by unit: of a second half, its first half; else _NONE
        self._torn: list[tuple[int, int, int]] = []  # both halves of a pair, and the seq that came between
        if bool(((units & 0xF800) == 0xD800).any()):
            self._pair()

    def __len__(self) -> int:
        return len(self.units)

    @property
    def size(self) -> int:
        """About how many bytes of memory it takes, when everything was asked for."""
        return (
            30 * len(self.units)
            + 40 * len(self.runs.starts)
            + (len(self.units) if self.hidden is not None else 0)
            + (8 * len(self.units) if self.highs is not None else 0)
            + 100 * len(self.specials)
        )

    @property
    def births(self) -> tuple[Indices, Seqs]:
        """The indices of all units in the order in which they came in, and their seqs."""
        if self._births is None:
            assert self._places is not None
            place = np.full(int(self._places.max(initial=-1)) + 1, _NONE, np.int64)
            place[self._places] = np.arange(len(self._places))
            order = place[place >= 0]  # by writer; each wrote in ascending order, so to sort is to merge
            order = order[np.argsort(self.inserted[order], kind="stable")]
            self._births = order, self.inserted[order]
            self._places = None
        return self._births

    def visible(self, seq: int) -> Mask:
        """Which units, hidden ones too, are in the document as of ``seq``."""
        mask: Mask = (self.inserted <= seq) & (self.deleted > seq)
        return mask

    def any_visible(self, seq: int, start: int, stop: int) -> bool:
        """Whether anything between two indices is in the document as of ``seq``."""
        for first in range(start, stop, _LOOK):
            part = slice(first, min(first + _LOOK, stop))
            if ((self.inserted[part] <= seq) & (self.deleted[part] > seq)).any():
                return True
        return False

    def readable(self, mask: Mask, seq: int) -> tuple[Indices, Units]:
        """The indices of the units in ``mask`` that are text, and what they read as beside each other as
        of ``seq``: half of a surrogate pair without the other is U+FFFD, as in Yjs, so the units are
        well-formed UTF-16."""
        if self.hidden is not None:
            mask = mask & ~self.hidden
        indices = np.flatnonzero(mask)
        units = self.units[indices]
        if self.highs is not None and len(units):
            lone = (units & 0xF800) == 0xD800
            seconds = np.flatnonzero(self.highs[indices] >= 0)
            seconds = seconds[seconds > 0]
            paired = seconds[indices[seconds - 1] == self.highs[indices[seconds]]]
            lone[paired] = lone[paired - 1] = False
            if self._torn:
                torn = [half for *halves, since in self._torn if since <= seq for half in halves]
                lone |= np.isin(indices, torn)
            units[lone] = REPLACEMENT
        return indices, units

    def shown(self, seq: int) -> tuple[Indices, Units]:
        """The indices of the units that read as text as of ``seq``, and what they read as."""
        return self.readable(self.visible(seq), seq)

    def text(self, seq: int) -> str:
        """The text as of ``seq``."""
        return decode(self.shown(seq)[1])

    def id(self, index: int) -> Id:
        """Client and clock of a unit."""
        run = int(np.searchsorted(self.runs.starts, index, "right")) - 1
        return int(self.runs.clients[run]), int(self.runs.clocks[run]) + index - int(self.runs.starts[run])

    def rest_of_run(self, index: int) -> int:
        """How many units from this one on have ids that follow each other."""
        run = int(np.searchsorted(self.runs.starts, index, "right")) - 1
        return int(self.runs.starts[run] + self.runs.counts[run]) - index

    def id_after(self, index: int) -> Id | None:
        """Client and clock of what stands directly behind a unit, void or not; None at the end."""
        runs = self.runs
        run = int(np.searchsorted(runs.starts, index, "right")) - 1
        if index + 1 < int(runs.starts[run] + runs.counts[run]):
            return int(runs.clients[run]), int(runs.clocks[run]) + index + 1 - int(runs.starts[run])
        if run + 1 == len(runs.starts):
            return None
        return int(runs.clients[run + 1]), int(runs.clocks[run + 1])

    def _pair(self) -> None:
        """Find the first half of each second half, and what came between them."""
        kind = self.units & 0xFC00
        seconds = np.flatnonzero(kind == 0xDC00)
        self.highs = np.full(len(self.units), _NONE, np.int64)
        self.highs[seconds] = seconds - 1  # but where a run begins: that may stand anywhere
        runs = self.runs
        first = np.flatnonzero(runs.counts)
        first = first[kind[runs.starts[first]] == 0xDC00]
        if not len(first):
            return
        stops = runs.starts + runs.counts
        ends = {
            (int(runs.clients[run]), int(runs.clocks[run] + runs.lengths[run])): int(stops[run])
            for run in np.flatnonzero(runs.counts).tolist()
        }
        for run in first.tolist():
            low = int(runs.starts[run])
            high = ends.get((int(runs.clients[run]), int(runs.clocks[run])), 0) - 1
            self.highs[low] = high
            if 0 <= high < low - 1:
                self._torn.append((high, low, int(self.inserted[high + 1 : low].min())))


def decode(units: Units) -> str:
    """The text of well-formed UTF-16; half of a pair reads as U+FFFD."""
    return units.tobytes().decode(_UTF_16, "replace")


def _array(typecode: str, values: npt.NDArray[Any]) -> array[int]:
    made = array(typecode)
    made.frombytes(np.ascontiguousarray(values, typecode).view(np.uint8).data)
    return made


def _encoded(number: int) -> bytes:
    out = bytearray()
    write(out, number)
    return bytes(out)
