"""The least that was changed between two texts: lines, in them words, in those what is left after what
their beginnings and ends have in common.

Small edits are what makes a merge good: every character that an edit does not touch keeps its identity,
so what somebody else did to it elsewhere still holds.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from typing import NamedTuple

WORDS_LIMIT = 20_000  # words of a changed block to compare one by one; a larger one is compared by lines only
_WORDS = re.compile(r"\w+|\s|[^\w\s]")
_LINES = re.compile(r"[^\n]*\n|[^\n]+")


class Replacement(NamedTuple):
    """``old[start:stop]`` gives way to ``text``. All positions count in the old text, in code points."""

    start: int
    stop: int
    text: str


def difference(old: str, new: str) -> list[Replacement]:
    """What to replace in ``old``, in order and apart from each other, so that it becomes ``new``."""
    found: list[Replacement] = []
    for start, stop, text in _compare(old, new, 0, (_LINES, _WORDS)):
        if found and found[-1].stop == start:  # next to each other, they are one
            start, text = found[-1].start, found.pop().text + text
        found.append(Replacement(start, stop, text))
    return found


def extent(replacements: Sequence[Replacement]) -> int:
    """How many code points they touch."""
    return sum(stop - start + len(text) for start, stop, text in replacements)


def outline(old: str, new: str) -> int:
    """How many code points lie between what both begin and end with: a quick bound of ``extent``."""
    head = _common(old, new)
    tail = _common(old[head:][::-1], new[head:][::-1])
    return len(old) + len(new) - 2 * (head + tail)


def _compare(old: str, new: str, at: int, grains: tuple[re.Pattern[str], ...]) -> Iterator[Replacement]:
    """``at``: where ``old`` stands in the whole."""
    head = _common(old, new)
    tail = _common(old[head:][::-1], new[head:][::-1])
    old, new, at = old[head : len(old) - tail], new[head : len(new) - tail], at + head
    if not old and not new:
        return
    if not old or not new or not grains:
        yield Replacement(at, at + len(old), new)
        return
    # What is common may end inside a word that changed; the words are then its rest, which is as well.
    olds, news = grains[0].findall(old), grains[0].findall(new)
    if len(grains) == 1 and len(olds) + len(news) > WORDS_LIMIT:
        yield Replacement(at, at + len(old), new)
        return
    starts = _starts(olds)
    for tag, i, j, k, m in SequenceMatcher(None, olds, news).get_opcodes():
        if tag != "equal":
            before, after = "".join(olds[i:j]), "".join(news[k:m])
            yield from _compare(before, after, at + starts[i], grains[1:])


def _starts(parts: Sequence[str]) -> list[int]:
    starts = [0]
    for part in parts:
        starts.append(starts[-1] + len(part))
    return starts


def _common(one: str, other: str) -> int:
    """How many code points both begin with."""
    low, high = 0, min(len(one), len(other))
    if one[:high] == other[:high]:
        return high
    while high - low > 1:  # a few comparisons of slices instead of one for each character
        middle = (low + high) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle
    return low
