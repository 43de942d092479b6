"""The gate: read a Yjs update (v1) before pycrdt does, and slice large ones.

pycrdt trusts its input. A few hostile bytes end the process, others panic, apply half-way, or destroy
what a colleague will type next. ``check`` refuses everything that no honest Yjs client sends and tells
what else an update depends on; only an update with ``missing`` None may be applied. What it cannot see,
because it does not know the items: shared types nested too deep (``Nesting`` counts them); a parent id
that names something other than a shared type (pycrdt raises RuntimeError, half applied); and a string
inside an Array root (legal, but *reading* that root as an Array never ends in pycrdt; rooms read only
texts).

The format is what yjs 13 writes: sections of structs (one section a client), then the delete set.
Structs carry no clock of their own, so slices of a section are copied byte for byte.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, NoReturn

from collab.errors import UpdateError

MAX_CLIENT = 1 << 53  # ids from here on are masked by pycrdt and would alias another client
MAX_CLOCK = 1 << 31  # pycrdt's clocks wrap at 2**32
MAX_SAFE_INTEGER = (1 << 53) - 1  # lib0 throws on reading a larger varint, in every browser
MAX_NESTING = 100  # shared types inside each other; pycrdt recurses on deletion, 30,000 end the process
MAX_DEPTH = 64  # nesting of plain values; pycrdt recurses, 26,000 levels end the process

GC, DELETED, JSON, BINARY, STRING, EMBED, FORMAT, TYPE, ANY, DOC, SKIP = range(11)
ORIGIN, RIGHT_ORIGIN, PARENT_SUB = 128, 64, 32
# The flags of a plain text, and how many ids it begins with.
TEXTS = {STRING: 0, STRING | ORIGIN: 1, STRING | RIGHT_ORIGIN: 1, STRING | ORIGIN | RIGHT_ORIGIN: 2}
XML_ELEMENT, XML_HOOK, XML_TEXT = 3, 5, 6

UNSUPPORTED = {
    GC: "a GC struct with flags",
    SKIP: "a Skip struct with flags",
    JSON: "content of yjs 12 and older (ContentJSON) is not supported",
    DOC: "subdocuments are not supported",
}

Id = tuple[int, int]  # client, clock


class Checked(NamedTuple):
    """What an update does and needs. The update has been read to its last byte."""

    clocks: dict[int, int]  # client -> next clock, for every struct section
    extends: tuple[int, ...]  # clients of which it holds structs beyond the given clocks
    deletes: Sequence[tuple[int, int, int]]  # what it deletes: client, first clock, next clock
    missing: dict[int, int] | None  # client -> clock that must be reached first; None: all is here
    surrogates: bool  # a text in it holds a character above U+FFFF
    skips: bool  # it holds Skip structs: the sender has structs that wait for others
    nests: bool  # it puts something inside a shared type that is not a root


_new_checked = tuple.__new__  # half the cost of Checked(...)


def check(data: bytes, clocks: Mapping[int, int]) -> Checked:
    """Read ``data`` against ``clocks`` (client -> next clock of what is here). About 2 µs a keystroke.

    A section beyond the known clock, an unknown origin or parent, and a deletion of what is not here
    yet are no errors but ``missing``. Raises UpdateError for what no honest client sends.
    """
    return _check_keystroke(data, clocks) or _check_any(data, clocks)


def _check_keystroke(data: bytes, clocks: Mapping[int, int]) -> Checked | None:
    """``_check_any`` for what people do all day: texts of one client, then deletions of one client, and all
    they need is here. None for anything else and for anything wrong: this path never refuses.

    The hot path of the server, so the usual numbers (ids of five bytes, clocks of up to three) are read in
    line; what is subtracted are their marks "more follows". A slice that the end of the data cut short
    needs no check of its own: there is always one more byte to read, and that raises IndexError.
    """
    try:
        ends: dict[int, int] = {}
        extends: tuple[int, ...] = ()
        surrogates = False
        i = 1
        if data[0]:
            sections, number, a, b, c, d, e = data[:7]
            if sections != 1 or not 0 < number < 128:
                return None
            if a & b & c & d > 127 > e:
                client = a + b * 0x80 + c * 0x4000 + d * 0x20_0000 + e * 0x1000_0000 - 0x1020_4080
                i = 7
            else:
                client, i = varint(data, 2)
            own, width = data[2:i], i - 2
            if (clock := data[i]) < 128:
                i += 1
            elif (high := data[i + 1]) < 128:
                clock, i = clock + high * 0x80 - 0x80, i + 2
            elif (top := data[i + 2]) < 128:
                clock, i = clock + high * 0x80 + top * 0x4000 - 0x4080, i + 3
            else:
                clock, i = varint(data, i)
            first, known = clock, clocks.get(client, 0)
            if first > known:
                return None
            while number:
                number -= 1
                ids = TEXTS[data[i]]
                i += 1
                if not ids:
                    if data[i] != 1:  # the parent is not a root
                        return None
                    i = _string(data, i + 1)
                while ids:
                    ids -= 1
                    if data[i : i + width] == own:
                        i += width
                        below = clock
                    else:
                        a, b, c, d, e = data[i : i + 5]
                        if a & b & c & d > 127 > e:
                            target = a + b * 0x80 + c * 0x4000 + d * 0x20_0000 + e * 0x1000_0000 - 0x1020_4080
                            i += 5
                        else:
                            target, i = varint(data, i)
                        # Its own id again, if one of the two was written with needless bytes.
                        below = clock if target == client else clocks.get(target, 0)
                    if (position := data[i]) < 128:
                        i += 1
                    elif (high := data[i + 1]) < 128:
                        position, i = position + high * 0x80 - 0x80, i + 2
                    elif (top := data[i + 2]) < 128:
                        position, i = position + high * 0x80 + top * 0x4000 - 0x4080, i + 3
                    else:
                        position, i = varint(data, i)
                    if position >= below:
                        return None
                length = data[i]
                i += 1
                if length > 127:
                    length, i = varint(data, i - 1)
                if not length:
                    return None
                raw = data[i : i + length]
                i += length
                if not raw.isascii():
                    text = raw.decode()
                    length = len(text.encode("utf-16-le")) >> 1
                    surrogates = surrogates or length != len(text)
                clock += length
            if clock >= MAX_CLOCK or (surrogates and first < known):
                return None
            ends[client] = clock
            if clock > known:
                extends = (client,)
        deletes: list[tuple[int, int, int]] = []
        sections = data[i]
        i += 1
        if sections:
            client, i = varint(data, i)
            below = max(clocks.get(client, 0), ends.get(client, 0))
            number = data[i]
            i += 1
            if sections != 1 or not 0 < number < 128:
                return None
            while number:
                number -= 1
                clock, i = varint(data, i)
                length, i = varint(data, i)
                if not length or not clock + length <= below < MAX_CLOCK:
                    return None
                deletes.append((client, clock, clock + length))
    except (LookupError, ValueError, UpdateError):
        return None
    if i != len(data):
        return None
    return _new_checked(Checked, (ends, extends, deletes, None, surrogates, False, False))


def _check_any(data: bytes, clocks: Mapping[int, int]) -> Checked:
    """``check``, by the whole grammar."""
    update = _read(data, None)
    sections = update.sections
    ends: dict[int, int] = {}
    extends: list[int] = []
    missing: dict[int, int] | None = None
    for client, (_, needs, end) in sections.items():
        known = clocks.get(client, 0)
        ends[client] = end
        if end > known:
            extends.append(client)
        if needs > known:
            missing = missing or {}
            missing[client] = needs

    waits: dict[int, list[tuple[int, Id]]] | None = None
    for client, clock, ref in update.refs:
        target, position = ref
        if position < clocks.get(target, 0):
            continue
        if position < ends.get(target, 0):
            waits = waits or {}
            waits.setdefault(client, []).append((clock, ref))
        elif target >= MAX_CLIENT or position >= MAX_CLOCK - 1:
            raise UpdateError("an id out of range")
        else:
            missing = missing or {}
            missing[target] = max(missing.get(target, 0), position + 1)
    if waits and len(waits) > 1:
        for _ in _causally(waits):
            pass

    if update.surrogates and any(
        first < clocks.get(client, 0) < end for client, (first, _, end) in sections.items()
    ):
        _refuse_overlap_inside_pair(data, clocks)

    for client, _, end in update.deletes:
        if end > clocks.get(client, 0) and end > ends.get(client, 0):
            missing = missing or {}
            missing[client] = max(missing.get(client, 0), end)
    return Checked(
        ends,
        tuple(extends),
        update.deletes,
        missing,
        update.surrogates,
        update.skips,
        update.nests,
    )


def _refuse_overlap_inside_pair(data: bytes, clocks: Mapping[int, int]) -> None:
    """What is here may end within a struct, not within a character of it: pycrdt would lose a clock."""
    structs: list[Struct] = []
    _read(data, structs)
    for struct in structs:
        known = clocks.get(struct.client, 0)
        if struct.text and struct.clock < known < struct.end and known in _lows(struct):
            raise UpdateError("half of a character is here already, as something else")


def read(data: bytes, clocks: Mapping[int, int]) -> tuple[list[Struct], Sequence[tuple[int, int, int]]]:
    """What an update that ``check`` accepted brings beyond ``clocks`` (client -> next clock of what is
    here): its structs, each after what it depends on, the first of a client perhaps begun before; and
    what it deletes (client, first clock, next clock). Raises UpdateError."""
    structs: list[Struct] = []
    update = _read(data, structs)
    structs = [s for s in structs if s.end > clocks.get(s.client, 0) and s.kind != SKIP]
    if len(update.sections) > 1:
        new = {(struct.client, struct.clock) for struct in structs}
        refs = [
            (client, clock, (target, position))
            for client, clock, (target, position) in update.refs
            if (client, clock) in new and position >= clocks.get(target, 0)
        ]
        structs = _in_causal_order(update._replace(refs=refs), structs)
    return structs, update.deletes


def state_vector(data: bytes) -> dict[int, int]:
    """Decode a client's state vector: client -> next clock. Raises UpdateError.

    pycrdt allocates as much as the first number asks for, so hand it ``encode_state_vector`` of this.
    """
    clocks: dict[int, int] = {}
    try:
        count, i = varint(data, 0)
        if count > (len(data) - i) // 2:
            raise UpdateError("the state vector promises more clients than it holds")
        for _ in range(count):
            client, i = varint(data, i)
            clock, i = varint(data, i)
            if client >= MAX_CLIENT or clock >= MAX_CLOCK:
                raise UpdateError("a number in the state vector is out of range")
            if client in clocks:
                raise UpdateError(f"the state vector names client {client} twice")
            clocks[client] = clock
    except IndexError:
        raise UpdateError("the state vector ends too early") from None
    if i != len(data):
        raise UpdateError("bytes follow the state vector")
    return clocks


def encode_state_vector(clocks: Mapping[int, int]) -> bytes:
    """The state vector as clients read it."""
    out = bytearray()
    write(out, len(clocks))
    for client, clock in clocks.items():
        write(out, client)
        write(out, clock)
    return bytes(out)


def before_skips(data: bytes) -> bytes:
    """The update with every section cut at its first Skip; structs are copied as they are.

    What follows a Skip waits for structs that nobody has sent yet; the client sends it again in its
    next sync step 2. The delete set is kept whole, so check the result again. Raises UpdateError.
    """
    sections: dict[int, list[Struct]] = {}
    cut: set[int] = set()
    structs: list[Struct] = []
    update = _read(data, structs)
    for struct in structs:
        if struct.kind == SKIP:
            cut.add(struct.client)
        elif struct.client not in cut:
            sections.setdefault(struct.client, []).append(struct)
    return _encode(data, sections) + data[update.structs_end :]


def split(data: bytes, limit: int) -> list[bytes]:
    """Slice an update that ``check`` accepted into updates of about ``limit`` bytes (at most, but for
    40 bytes, unless a single struct is larger: that stays whole).

    Promised: structs are copied byte for byte; every part depends only on the parts before it and on
    what the whole depended on; the delete set comes last, sliced too. So all parts in order give the
    document that ``data`` gives, in yjs and in pycrdt, and never leave structs pending on the way.
    An update that contradicts what was known when it was checked may have no such order: it stays whole.
    Raises UpdateError.
    """
    if len(data) <= limit:
        return [data]
    structs: list[Struct] = []
    update = _read(data, structs)
    try:
        ordered = _in_causal_order(update, structs)
    except UpdateError:
        return [data]
    parts: list[bytes] = []
    part: dict[int, list[Struct]] = {}
    size = 0
    for struct in ordered:
        cost = struct.stop - struct.start
        if part and size + cost > limit:
            parts.append(_encode(data, part) + b"\0")
            part, size = {}, 0
        if struct.client not in part:
            part[struct.client] = []
            size += 20
        part[struct.client].append(struct)
        size += cost
    if part:
        parts.append(_encode(data, part) + b"\0")

    ranges: dict[int, list[tuple[int, int]]] = {}
    size = 0
    for client, clock, end in update.deletes:
        if size + 10 > limit and ranges:
            parts.append(b"\0" + _encode_deletes(ranges))
            ranges, size = {}, 0
        size += 10 if client in ranges else 20
        ranges.setdefault(client, []).append((clock, end))
    if ranges:
        parts.append(b"\0" + _encode_deletes(ranges))
    return parts


def join(data: bytes) -> bytes:
    """The update with what one client typed in a row as one struct, as Yjs itself would write it: a tenth
    of the size where keystrokes were merged. It says the same, character by character. Raises UpdateError.
    """
    structs: list[Struct] = []
    update = _read(data, structs)
    sections: dict[int, list[list[Struct]]] = {}  # client -> runs that become one struct
    for struct in structs:
        runs = sections.setdefault(struct.client, [])
        if runs:
            last = runs[-1][-1]
            # It continues the last one: begins after it, in the text too, and ends before the same thing.
            if (
                last.kind == struct.kind == STRING
                and struct.origin == (struct.client, last.end - 1)
                and last.end == struct.clock
                and last.right == struct.right
            ):
                runs[-1].append(struct)
                continue
        runs.append([struct])
    out = bytearray()
    write(out, len(sections))
    for client, runs in sections.items():
        write(out, len(runs))
        write(out, client)
        write(out, runs[0][0].clock)
        for run in runs:
            if len(run) == 1:
                out += data[run[0].start : run[0].stop]
                continue
            contents = [_string_of(data, struct) for struct in run]
            out += data[run[0].start : contents[0][0]]
            write(out, sum(stop - start for _, start, stop in contents))
            for _, start, stop in contents:
                out += data[start:stop]
    return bytes(out) + data[update.structs_end :]


def _string_of(data: bytes, struct: Struct) -> tuple[int, int, int]:
    """Where the text of a STRING struct stands: its length, its first byte, its end."""
    flags = data[struct.start]
    i = struct.start + 1
    for flag in (ORIGIN, RIGHT_ORIGIN):
        if flags & flag:
            _, i = varint(data, i)
            _, i = varint(data, i)
    if not flags & (ORIGIN | RIGHT_ORIGIN):
        named = data[i]
        i += 1
        if named:
            i = _string(data, i)
        else:
            _, i = varint(data, i)
            _, i = varint(data, i)
        if flags & PARENT_SUB:
            i = _string(data, i)
    size = i
    _, i = varint(data, i)
    return size, i, struct.stop


class Surrogates:
    """Where a document holds characters above U+FFFF, so that an edit that splits one is noticed.

    Clocks count UTF-16 units, so an edit may fall between the halves of an emoji. yjs then writes two
    U+FFFD, pycrdt keeps the emoji, its text and at times its state vector differ from then on, and what
    it encodes makes browsers throw. Of a document for which ``split_by`` was once True no state made by
    pycrdt may be given away, and its clocks are those of the updates, not pycrdt's.
    """

    def __init__(self) -> None:
        self._clocks: dict[int, set[int]] = {}  # client -> clocks of the second halves

    def __bool__(self) -> bool:
        return bool(self._clocks)

    def add(self, data: bytes) -> None:
        """Record the characters above U+FFFF in an update or a full state. Raises UpdateError."""
        structs: list[Struct] = []
        _read(data, structs)
        self._record(structs)

    def split_by(self, data: bytes) -> bool:
        """Whether the update separates the halves of a character, recorded before or its own.

        Never False for a split; True also for a U+FFFD that a person typed. Raises UpdateError.
        """
        structs: list[Struct] = []
        update = _read(data, structs)
        if update.surrogates:
            self._record(structs)
        lows = self._clocks
        if not lows:
            return False
        for client, clock, stop in update.deletes:
            if client in lows and (clock in lows[client] or stop in lows[client]):
                return True
        for struct in structs:
            own = lows.get(struct.client)
            if own and (struct.clock in own or struct.end in own):
                return True
            origin, right = struct.origin, struct.right
            if origin and origin[1] + 1 in lows.get(origin[0], ()):
                return True
            if right and right[1] in lows.get(right[0], ()):
                return True
            if struct.text and "\ufffd" in struct.text:
                return True
        return False

    def _record(self, structs: list[Struct]) -> None:
        for struct in structs:
            if lows := _lows(struct):
                self._clocks.setdefault(struct.client, set()).update(lows)


class Nesting:
    """How deep shared types lie inside each other: pycrdt deletes them by recursion, on a finite stack.

    Begin with the updates that a doc was made of, and ``add`` every further one before it is applied.
    """

    def __init__(self, updates: Iterable[bytes]) -> None:
        self._next: dict[int, int] = {}
        # client -> where runs of the same depth begin, and those depths; 0 is the depth of a root's items
        self._runs: dict[int, tuple[list[int], list[int]]] = {}
        for data in updates:
            self._record(self._measure(data))

    def add(self, data: bytes) -> None:
        """Take in an update that ``check`` accepted with nothing missing. Raises UpdateError when it nests
        deeper than MAX_NESTING; then nothing of it is kept."""
        found = self._measure(data)
        if any(depth > MAX_NESTING for *_, depth in found):
            raise UpdateError(f"shared types nested deeper than {MAX_NESTING}")
        self._record(found)

    def _measure(self, data: bytes) -> list[tuple[int, int, int, int]]:
        """The new runs: client, first clock, next clock, depth."""
        structs: list[Struct] = []
        update = _read(data, structs)
        found: dict[int, list[tuple[int, int, int, int]]] = {}

        def depth_at(ref: Id) -> int:
            client, clock = ref
            runs = found.get(client)
            if runs and clock >= runs[0][1]:
                return runs[bisect_right(runs, clock, key=lambda run: run[1]) - 1][3]
            starts, depths = self._runs.get(client, ((), ()))
            at = bisect_right(starts, clock) - 1
            return depths[at] if at >= 0 else 0

        for struct in _in_causal_order(update, structs):
            client, known = struct.client, self._next.get(struct.client, 0)
            if struct.end <= known or struct.kind == SKIP:
                continue
            depth = depth_at(struct.parent) + 1 if struct.parent else 0
            if struct.origin:
                depth = max(depth, depth_at(struct.origin))
            if struct.right:
                depth = max(depth, depth_at(struct.right))
            if struct.clock < known:  # it goes on where what is here ends, whatever it says
                depth = max(depth, depth_at((client, known - 1)))
            found.setdefault(client, []).append((client, max(struct.clock, known), struct.end, depth))
        return [run for runs in found.values() for run in runs]

    def _record(self, found: list[tuple[int, int, int, int]]) -> None:
        for client, clock, end, depth in found:
            starts, depths = self._runs.setdefault(client, ([], []))
            if (depths[-1] if depths else 0) != depth:
                starts.append(clock)
                depths.append(depth)
            self._next[client] = end


class Struct(NamedTuple):
    """One struct of an update and the bytes it stands in."""

    client: int
    clock: int
    end: int
    kind: int
    start: int
    body: int  # where its content begins
    stop: int
    origin: Id | None
    right: Id | None
    parent: Id | None  # only when it names a shared type that is not a root
    root: str | None  # the root it names; one with an origin names none
    keyed: bool  # it names the key whose value it is
    text: str | None  # only when it holds more than ASCII; the last bytes of a STRING are its text


class _Update(NamedTuple):
    sections: dict[int, tuple[int, int, int]]  # client -> first clock, clock it depends on, next clock
    refs: list[tuple[int, int, Id]]  # client and clock of a struct, and the other client's unit it needs
    deletes: list[tuple[int, int, int]]  # client, first clock, next clock
    structs_end: int  # where the delete set begins
    surrogates: bool
    skips: bool
    nests: bool


def _read(data: bytes, structs: list[Struct] | None) -> _Update:
    """Read the whole update once; the only place that knows all of its grammar. Raises UpdateError."""
    sections: dict[int, tuple[int, int, int]] = {}
    refs: list[tuple[int, int, Id]] = []
    deletes: list[tuple[int, int, int]] = []
    surrogates = skips = nests = False
    size = len(data)
    try:
        count, i = _count(data, 0)
        for _ in range(count):
            number, i = _count(data, i)
            start = i
            client, i = varint(data, i)
            own = data[start:i]  # the most frequent id inside, so known by its bytes
            clock, i = varint(data, i)
            if not number:
                raise UpdateError(f"the section of client {client} is empty")
            if client in sections:
                raise UpdateError(f"two sections for client {client}")
            if client >= MAX_CLIENT:
                raise UpdateError("client ids must be below 2**53")
            first = needs = end = clock
            gap = False
            for _ in range(number):
                start = i
                flags = data[i]
                i += 1
                kind = flags & 31
                origin = right = parent = text = root = None
                keyed = False
                body = i
                if not flags or flags == SKIP:
                    length, i = varint(data, i)
                else:
                    if flags & ORIGIN:
                        if data.startswith(own, i):
                            target = client
                            i += len(own)
                        else:
                            target, i = varint(data, i)
                        position, i = varint(data, i)
                        origin = target, position
                        if target != client:
                            refs.append((client, clock, origin))
                        elif position >= clock:
                            raise UpdateError("an origin in the struct's own future")
                    if flags & RIGHT_ORIGIN:
                        if data.startswith(own, i):
                            target = client
                            i += len(own)
                        else:
                            target, i = varint(data, i)
                        position, i = varint(data, i)
                        right = target, position
                        if target != client:
                            refs.append((client, clock, right))
                        elif position >= clock:
                            raise UpdateError("a right origin in the struct's own future")
                    if not flags & (ORIGIN | RIGHT_ORIGIN):
                        named = data[i]
                        i += 1
                        if named == 1:
                            start_of_name, i = i, _string(data, i)
                            if structs is not None:
                                root = data[varint(data, start_of_name)[1] : i].decode()
                        elif named == 0:
                            target, i = varint(data, i)
                            position, i = varint(data, i)
                            parent = target, position
                            nests = True
                            if target != client:
                                refs.append((client, clock, parent))
                            elif position >= clock:
                                raise UpdateError("a parent in the struct's own future")
                        else:
                            raise UpdateError("a parent is neither a name nor an id")
                        if flags & PARENT_SUB:
                            keyed = True
                            i = _string(data, i)
                    body = i
                    if kind == STRING:
                        length = data[i]
                        i += 1
                        if length > 127:
                            length, i = varint(data, i - 1)
                        raw = data[i : i + length]
                        i += length
                        if i > size:
                            raise IndexError
                        if not raw.isascii():
                            text = raw.decode()
                            length = len(text.encode("utf-16-le")) >> 1
                            if length != len(text):
                                surrogates = True
                    elif kind == DELETED:
                        length, i = varint(data, i)
                    else:
                        length, i = _content(data, i, kind)
                if length < 1:
                    raise UpdateError("a struct of no length")
                stop = clock + length
                if stop >= MAX_CLOCK:
                    raise UpdateError("clocks must stay below 2**31")
                if structs is not None:
                    content = kind, start, body, i
                    structs.append(
                        Struct(client, clock, stop, *content, origin, right, parent, root, keyed, text)
                    )
                if kind == SKIP:
                    skips = gap = True
                else:
                    if gap:
                        needs, gap = clock, False
                    end = stop
                clock = stop
            sections[client] = first, needs, end
        structs_end = i
        count, i = _count(data, i)
        seen: set[int] = set()
        for _ in range(count):
            client, i = varint(data, i)
            if client in seen:
                raise UpdateError(f"two delete sections for client {client}")
            if client >= MAX_CLIENT:
                raise UpdateError("client ids must be below 2**53")
            seen.add(client)
            number, i = _count(data, i)
            for _ in range(number):
                clock, i = varint(data, i)
                length, i = varint(data, i)
                if not length:
                    raise UpdateError("a deletion of no length")
                stop = clock + length
                if stop >= MAX_CLOCK:
                    raise UpdateError("clocks must stay below 2**31")
                deletes.append((client, clock, stop))
    except IndexError:
        raise UpdateError("the update ends too early") from None
    except UnicodeDecodeError:
        raise UpdateError("a string is not UTF-8") from None
    if i != size:
        raise UpdateError("bytes follow the update")
    return _Update(sections, refs, deletes, structs_end, surrogates, skips, nests)


def _content(data: bytes, i: int, kind: int) -> tuple[int, int]:
    """Skip one content that is neither text nor a mark of deletion; how many clocks it takes, and its end."""
    if kind == FORMAT:
        return 1, _json(data, _string(data, i))
    if kind == ANY:
        length, i = _count(data, i)
        for _ in range(length):
            i = _any(data, i, 0)
        return length, i
    if kind == TYPE:
        shape, i = varint(data, i)
        if shape == XML_HOOK or shape > XML_TEXT:
            raise UpdateError(f"shared type {shape} is not supported")
        return 1, _string(data, i) if shape == XML_ELEMENT else i
    if kind == EMBED:
        return 1, _json(data, i)
    if kind == BINARY:
        return 1, _bytes(data, i)
    raise UpdateError(UNSUPPORTED.get(kind, f"content {kind} is not known"))


def _any(data: bytes, i: int, depth: int) -> int:
    """Skip one plain value; its end."""
    if depth > MAX_DEPTH:
        raise UpdateError(f"values nested deeper than {MAX_DEPTH}")
    tag = data[i]
    i += 1
    if tag == 119:
        return _string(data, i)
    if tag == 125:
        return _signed(data, i)
    if tag in (120, 121, 126, 127):  # true, false, null, undefined
        return i
    if tag in (122, 123, 124):  # bigint, float64, float32
        i += 4 if tag == 124 else 8
        if i > len(data):
            raise IndexError
        return i
    if tag == 118:
        count, i = _count(data, i)
        for _ in range(count):
            i = _any(data, _string(data, i), depth + 1)
        return i
    if tag == 117:
        count, i = _count(data, i)
        for _ in range(count):
            i = _any(data, i, depth + 1)
        return i
    if tag == 116:
        return _bytes(data, i)
    raise UpdateError(f"value tag {tag} is not known")


def _json(data: bytes, i: int) -> int:
    """Skip one string of JSON, which every browser will parse; its end."""
    stop = _bytes(data, i)
    _, i = varint(data, i)
    raw = data[i:stop]
    if raw in (b"true", b"null", b'""'):
        return stop
    try:
        value = json.loads(raw.decode(), parse_constant=_no_constant)
        # Legal for Python, fatal for pycrdt: half of a surrogate pair as an escape, 1e999.
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError):
        raise UpdateError("the value of a format or embed is not JSON, or nested too deep") from None
    level, depth = [value], 0
    while level := [
        child
        for parent in level
        if isinstance(parent, (dict, list))
        for child in (parent.values() if isinstance(parent, dict) else parent)
    ]:
        depth += 1
        if depth > MAX_DEPTH:
            raise UpdateError(f"values nested deeper than {MAX_DEPTH}")
    return stop


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _signed(data: bytes, i: int) -> int:
    """Skip one signed number of a plain value; its end."""
    byte = data[i]
    i += 1
    value, shift = byte & 63, 6
    while byte > 127:
        byte = data[i]
        i += 1
        value |= (byte & 127) << shift
        shift += 7
        if value > MAX_SAFE_INTEGER or shift > 62:
            raise UpdateError("an integer beyond 2**53")
    return i


def varint(data: bytes, i: int) -> tuple[int, int]:
    """Read one number; it and its end."""
    byte = data[i]
    i += 1
    if byte < 128:
        return byte, i
    value, shift = byte & 127, 7
    while True:
        byte = data[i]
        i += 1
        if byte < 128:
            value |= byte << shift
            if value > MAX_SAFE_INTEGER:
                raise UpdateError("a number beyond 2**53")
            return value, i
        value |= (byte & 127) << shift
        shift += 7
        if shift > 49:
            raise UpdateError("a number beyond 2**53")


def _count(data: bytes, i: int) -> tuple[int, int]:
    """Read how many things follow, at least a byte each; the number and its end."""
    count, i = varint(data, i)
    if count > len(data) - i:
        raise UpdateError("a count promises more than the update holds")
    return count, i


def _bytes(data: bytes, i: int) -> int:
    """Skip one length and as many bytes; their end."""
    length, i = varint(data, i)
    i += length
    if i > len(data):
        raise IndexError
    return i


def _string(data: bytes, i: int) -> int:
    """Skip one string, which must be UTF-8; its end."""
    length, i = varint(data, i)
    raw = data[i : i + length]
    i += length
    if i > len(data):
        raise IndexError
    if not raw.isascii():
        raw.decode()
    return i


def _lows(struct: Struct) -> list[int]:
    """The clocks at which the second half of a surrogate pair stands."""
    lows: list[int] = []
    if struct.text and max(struct.text) > "\uffff":
        clock = struct.clock
        for char in struct.text:
            clock += 1
            if char > "\uffff":
                lows.append(clock)
                clock += 1
    return lows


def _in_causal_order(update: _Update, structs: Sequence[Struct]) -> list[Struct]:
    """The structs so that each comes after what it depends on. Raises UpdateError if there is no such
    order."""
    if len(update.sections) == 1:
        return list(structs)
    queues: dict[int, list[Struct]] = {}
    for struct in structs:
        queues.setdefault(struct.client, []).append(struct)
    waits: dict[int, list[tuple[int, Id]]] = {client: [] for client in queues}
    for client, clock, ref in update.refs:
        target, position = ref
        if target in update.sections and update.sections[target][0] <= position < update.sections[target][2]:
            waits[client].append((clock, ref))
    ordered: list[Struct] = []
    sent = dict.fromkeys(queues, 0)
    for client, clock in list(_causally(waits)):
        queue, index = queues[client], sent[client]
        while index < len(queue) and queue[index].clock <= clock:
            ordered.append(queue[index])
            index += 1
        sent[client] = index
    return ordered


def _causally(waits: Mapping[int, Sequence[tuple[int, Id]]]) -> Iterator[Id]:
    """An order in which structs can be taken in: (client, clock) says that this client's structs may go
    up to the one that begins at or before that clock.

    ``waits`` holds, by client in order of clocks, which unit of another client a clock needs first.
    Raises UpdateError if clients wait for each other in a ring.
    """
    done = dict.fromkeys(waits, 0)
    for client in waits:
        stack = [(client, MAX_CLOCK)]
        waiting = {client}
        while stack:
            client, clock = stack[-1]
            own, index = waits[client], done[client]
            if index == len(own) or own[index][0] > clock:
                yield stack.pop()
                waiting.discard(client)
                continue
            target, position = own[index][1]
            others = waits.get(target, ())
            if done.get(target, 0) < len(others) and others[done[target]][0] <= position:
                if target in waiting:
                    raise UpdateError("structs wait for each other")
                stack.append((target, position))
                waiting.add(target)
            else:
                yield target, position
                done[client] += 1


def _encode(data: bytes, sections: Mapping[int, Sequence[Struct]]) -> bytes:
    """Write structs, each client's without gaps, as they stand in ``data``."""
    out = bytearray()
    write(out, len(sections))
    for client, structs in sections.items():
        write(out, len(structs))
        write(out, client)
        write(out, structs[0].clock)
        out += data[structs[0].start : structs[-1].stop]
    return bytes(out)


def _encode_deletes(ranges: Mapping[int, Sequence[tuple[int, int]]]) -> bytes:
    out = bytearray()
    write(out, len(ranges))
    for client, spans in ranges.items():
        write(out, client)
        write(out, len(spans))
        for clock, end in spans:
            write(out, clock)
            write(out, end - clock)
    return bytes(out)


def write(out: bytearray, number: int) -> None:
    """Append one number as updates hold them."""
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
