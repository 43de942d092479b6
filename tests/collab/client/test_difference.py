"""The least that was changed between two texts."""

from __future__ import annotations

import itertools
import random
import time

import pytest

from collab.client.difference import Replacement, difference, extent, outline

WORDS = ["the", "colour", "of", "🎉", "naïve", "漢字", "sea", ",", ".", " ", " ", " ", "\n", "e\u0301"]


def applied(old: str, replacements: list[Replacement]) -> str:
    for start, stop, text in reversed(replacements):
        old = old[:start] + text + old[stop:]
    return old


@pytest.mark.parametrize(
    ("old", "new", "wanted"),
    [
        ("", "", []),
        ("same", "same", []),
        ("", "all", [(0, 0, "all")]),
        ("all", "", [(0, 3, "")]),
        ("the colour", "the color", [(8, 9, "")]),
        ("one two three", "one 2 three", [(4, 7, "2")]),
        ("a b c d e f", "a B c d E f", [(2, 3, "B"), (8, 9, "E")]),
        ("x 🎉 y", "x 🎊 y", [(2, 3, "🎊")]),
        ("aaa", "aaaa", [(3, 3, "a")]),
        ("first\nsecond\nthird\n", "first\nthird\n", [(6, 13, "")]),
    ],
)
def test_small_edits_are_found(old: str, new: str, wanted: list[tuple[int, int, str]]) -> None:
    assert difference(old, new) == wanted


def test_words_that_were_changed_apart_are_changed_apart() -> None:
    old = "Ada wrote the first program. Grace wrote the first compiler.\n"
    new = "Ada Lovelace wrote the first program. Grace Hopper wrote the first compiler!\n"
    found = difference(old, new)
    assert applied(old, found) == new
    assert extent(found) == len(" Lovelace") + len(" Hopper") + 2


@pytest.mark.parametrize("number", range(40))
def test_differences_make_the_new_text_and_stay_apart(number: int) -> None:
    rng = random.Random(number)
    old = "".join(rng.choice(WORDS) for _ in range(rng.randint(0, 400)))
    new = old
    for _ in range(rng.randint(0, 12)):
        at = rng.randint(0, len(new))
        new = (
            new[:at]
            + "".join(rng.choice(WORDS) for _ in range(rng.randint(0, 4)))
            + new[at + rng.randint(0, 9) :]
        )
    found = difference(old, new)
    assert applied(old, found) == new
    assert all(one.stop < two.start for one, two in itertools.pairwise(found))
    assert all(one.stop > one.start or one.text for one in found)
    assert extent(found) <= outline(old, new)


def test_a_large_text_is_compared_in_a_moment() -> None:
    rng = random.Random(1)
    lines = [" ".join(rng.choice(WORDS[:8]) for _ in range(12)) + "\n" for _ in range(10_000)]
    old = "".join(lines)
    for at in range(0, len(lines), 400):
        lines[at] = lines[at].replace("the", "a", 1)
    lines[5000:5010] = ["moved\n"]
    began = time.perf_counter()
    found = difference(old, "".join(lines))
    assert time.perf_counter() - began < 3
    assert applied(old, found) == "".join(lines)
    assert extent(found) < 1500
