"""The difference of two states of a text, read off the weave: exact, and each part with who made it.

Nothing is guessed by comparing letters: a letter is kept when it is the same unit of the weave, so a
sentence typed again is a deletion and an insertion, by those who did it.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Iterator, Sequence
from enum import IntEnum
from functools import cache
from typing import Literal, NamedTuple
from unicodedata import category, east_asian_width

import numpy as np
import numpy.typing as npt

from collab.log import Actor
from collab.weave import Indices, Mask, Strand, Units, decode

Granularity = Literal["char", "word", "line"]

NOBODY = 0  # the seq of a letter that is only shown with the word or line around it
PART_COST = 50  # what a part costs of a page's budget beside its text
CONTEXT = 3  # lines around a change in a unified diff


class Op(IntEnum):
    KEEP = 0
    DELETE = 1
    INSERT = 2


class Part(NamedTuple):
    """One step from the old text to the new one.

    ``seq`` is the last entry that had a hand in it, ``actor`` who it was and ``at`` when (microseconds).
    Forward in time an insertion names who inserted and a deletion who deleted; backward a deletion names
    whose insertion it takes back, and an insertion who had deleted. None: nobody between the two states
    touched this text; it is kept, or only shown because its word or line has changed.
    """

    op: Literal["keep", "delete", "insert"]
    text: str
    actor: Actor | None = None
    at: int | None = None
    seq: int | None = None


class Piece(NamedTuple):
    """A part that only knows its seq (NOBODY: none)."""

    op: Op
    text: str
    seq: int


class Diff:
    """What leads from one state of a strand to another, as pieces in document order; where text was
    replaced, the deletion comes first. ``len`` counts pieces."""

    def __init__(
        self, strand: Strand, old: int, new: int, owners: npt.NDArray[np.int64], by: Granularity
    ) -> None:
        """``owners`` says by seq whose entry it is: pieces of neighbouring text by one owner are one."""
        before, was = strand.shown(old)
        after, reads = strand.shown(new)
        size = len(strand)
        in_old, in_new = np.zeros(size, np.bool_), np.zeros(size, np.bool_)
        in_old[before] = in_new[after] = True
        same = in_old & in_new
        value = np.zeros(size, np.uint16)
        value[before] = was
        same[after] &= (
            value[after] == reads
        )  # half of an emoji that has lost the other half reads differently
        if by != "char":
            same = _whole(same, in_old, in_new, was, reads, by)
        texts = [np.flatnonzero(same), np.flatnonzero(in_old & ~same), np.flatnonzero(in_new & ~same)]
        olds = [value[texts[Op.KEEP]], value[texts[Op.DELETE]]]
        value[after] = reads
        units = [*olds, value[texts[Op.INSERT]]]

        # Segments are stretches that are kept whole, and stretches where nothing is.
        either = np.flatnonzero(in_old | in_new)
        kept = same[either]
        edges = either[
            np.flatnonzero(kept[1:] != kept[:-1]) + 1
        ]  # the first of each, but for the first segment

        inserted = strand.inserted if old <= new else strand.deleted
        deleted = strand.deleted if old <= new else strand.inserted
        low, high = min(old, new), max(old, new)
        columns: list[tuple[Indices, ...]] = []
        self._texts: list[str] = []
        for op, indices in zip(Op, texts, strict=True):
            self._texts.append(decode(units[op]))
            if not len(indices):
                continue
            if op is Op.KEEP:
                firsts = np.unique(np.append(np.searchsorted(indices, edges), 0))
                firsts = firsts[firsts < len(indices)]
                last = np.zeros(len(firsts), np.int64)
            else:
                seqs = (deleted if op is Op.DELETE else inserted)[indices].astype(np.int64)
                seqs[(seqs <= low) | (seqs > high)] = NOBODY
                own, owner = np.searchsorted(edges, indices, "right"), owners[seqs]
                cuts = np.flatnonzero((own[1:] != own[:-1]) | (owner[1:] != owner[:-1])) + 1
                firsts = np.append(0, cuts)
                last = np.maximum.reduceat(seqs, firsts)
            key = np.searchsorted(edges, indices[firsts], "right") * 2 + (op is Op.INSERT)
            bounds = np.append(firsts, len(indices))
            if strand.highs is not None:  # units and code points differ
                bounds = np.append(0, np.cumsum((units[op] & 0xFC00) != 0xDC00))[bounds]
            columns.append((key, np.full(len(firsts), op, np.int64), bounds[:-1], bounds[1:], last))
        if columns:
            key, *rest = (np.concatenate(column) for column in zip(*columns, strict=True))
            order = np.argsort(key, kind="stable")
            self._ops, self._starts, self._stops, self._seqs = (column[order] for column in rest)
        else:
            self._ops = self._starts = self._stops = self._seqs = np.zeros(0, np.int64)

    def __len__(self) -> int:
        return len(self._ops)

    @property
    def inserted(self) -> int:
        """How many characters come in."""
        return len(self._texts[Op.INSERT])

    @property
    def deleted(self) -> int:
        return len(self._texts[Op.DELETE])

    def pieces(self, first: int = 0, last: int | None = None) -> Iterator[Piece]:
        """Pieces number ``first`` up to ``last``, not included."""
        columns = (self._ops, self._starts, self._stops, self._seqs)
        for op, start, stop, seq in zip(*(column[first:last].tolist() for column in columns), strict=True):
            yield Piece(Op(op), self._texts[op][start:stop], seq)

    def page(self, first: int, budget: int) -> int:
        """The piece before which a page from ``first`` on ends: within the budget, but one piece at least."""
        costs = np.cumsum(self._stops[first:] - self._starts[first:] + PART_COST)
        return first + max(1, int(np.searchsorted(costs, budget, "right"))) if len(costs) else first


def unified(diff: Diff, old: str = "old", new: str = "new") -> str:
    """A diff by lines as a unified diff, which ``patch`` applies; "" when the texts are equal."""
    lines: list[tuple[str, str]] = []  # mark, line with its end
    for piece in _joined(diff.pieces()):
        lines.extend((" -+"[piece.op], line) for line in _lines(piece.text))
    changes = [index for index, (mark, _) in enumerate(lines) if mark != " "]
    if not changes:
        return ""
    out = [f"--- {old}\n", f"+++ {new}\n"]
    at_old = at_new = done = 0  # lines of each side before lines[done]
    index = 0
    while index < len(changes):
        first = last = changes[index]
        while index < len(changes) and changes[index] <= last + 2 * CONTEXT + 1:
            last = changes[index]
            index += 1
        start, stop = max(0, first - CONTEXT), min(len(lines), last + 1 + CONTEXT)
        at_old += sum(mark != "+" for mark, _ in lines[done:start])
        at_new += sum(mark != "-" for mark, _ in lines[done:start])
        hunk, done = lines[start:stop], stop
        count_old = sum(mark != "+" for mark, _ in hunk)
        count_new = sum(mark != "-" for mark, _ in hunk)
        out.append(f"@@ -{_span(at_old, count_old)} +{_span(at_new, count_new)} @@\n")
        at_old += count_old
        at_new += count_new
        for mark, line in hunk:
            out.append(
                mark + line if line.endswith("\n") else f"{mark}{line}\n\\ No newline at end of file\n"
            )
    return "".join(out)


def markup(parts: Iterable[Part]) -> str:
    """The parts as HTML, all text escaped: what was inserted in <ins>, what was deleted in <del>, each
    with ``data-actor`` and ``data-seq`` when they are known. White space is kept as it is."""
    out: list[str] = []
    for part in parts:
        text = html.escape(part.text)
        if part.op == "keep":
            out.append(text)
            continue
        tag = part.op[:3]
        actor = f' data-actor="{html.escape(part.actor.id)}" data-seq="{part.seq}"' if part.actor else ""
        out.append(f"<{tag}{actor}>{text}</{tag}>")
    return "".join(out)


def _whole(
    same: Mask, in_old: Mask, in_new: Mask, was: Units, reads: Units, by: Literal["word", "line"]
) -> Mask:
    """``same`` without the letters of words (lines) that have changed in any other letter."""
    begins = _line_begins if by == "line" else _word_begins
    kept = np.flatnonzero(same)
    olds, news = np.cumsum(begins(was)) - 1, np.cumsum(begins(reads)) - 1
    if not len(kept):
        return same
    token = olds[(np.cumsum(in_old) - 1)[kept]]
    other = news[(np.cumsum(in_new) - 1)[kept]]
    sizes, other_sizes = np.bincount(olds), np.bincount(news)
    first = np.concatenate(([0], np.flatnonzero(token[1:] != token[:-1]) + 1))
    last = np.concatenate((first[1:], [len(token)])) - 1
    intact = (
        (last - first + 1 == sizes[token[first]])
        & (other[first] == other[last])
        & (sizes[token[first]] == other_sizes[other[first]])
    )
    whole = np.zeros_like(same)
    whole[kept[np.repeat(intact, last - first + 1)]] = True
    return whole


def _line_begins(units: Units) -> Mask:
    begins = np.ones(len(units), np.bool_)
    begins[1:] = units[:-1] == ord("\n")
    return begins


def _word_begins(units: Units) -> Mask:
    kinds = _kinds()[units]
    begins = np.ones(len(units), np.bool_)
    begins[1:] = (kinds[1:] != _JOINED) & (
        (kinds[1:] == _ALONE)
        | ((kinds[1:] != kinds[:-1]) & ~((kinds[1:] == _WORD) & (kinds[:-1] == _JOINED)))
    )
    return begins


_SPACE, _WORD, _ALONE, _JOINED = range(4)


@cache
def _kinds() -> npt.NDArray[np.uint8]:
    """By UTF-16 unit: white space, a letter of a word, a word of its own (punctuation, a character of a
    script without spaces, the first half of a pair), or what belongs to the character before it."""
    kinds = np.empty(1 << 16, np.uint8)
    for code in range(1 << 16):
        char = chr(code)
        kind = category(char)
        if kind[0] == "M" or kind == "Cf" or 0xDC00 <= code < 0xE000:
            kinds[code] = _JOINED
        elif char.isspace():
            kinds[code] = _SPACE
        elif (char.isalnum() or char == "_") and east_asian_width(char) not in "WF":
            kinds[code] = _WORD
        else:
            kinds[code] = _ALONE
    return kinds


def _joined(pieces: Iterable[Piece]) -> Iterator[Piece]:
    """Neighbours of the same op as one, whoever made them: lines are cut from wholes."""
    op, texts = Op.KEEP, list[str]()
    for piece in pieces:
        if piece.op is not op:
            if texts:
                yield Piece(op, "".join(texts), NOBODY)
            op, texts = piece.op, []
        texts.append(piece.text)
    if texts:
        yield Piece(op, "".join(texts), NOBODY)


def _lines(text: str) -> Sequence[str]:
    """Lines with their ends; only a line feed ends one, as for ``patch``."""
    lines = [line + "\n" for line in text.split("\n")]
    lines[-1] = lines[-1][:-1]
    return lines if lines[-1] else lines[:-1]


def _span(before: int, count: int) -> str:
    return f"{before + 1 if count else before},{count}"
