"""Deleted clocks as ranges, against a plain set."""

from __future__ import annotations

import random

import pytest

from collab.deletions import Deletions


def test_what_is_deleted_already_is_not_new() -> None:
    deletions = Deletions([(1, 5, 8)])
    assert not deletions.add([(1, 5, 8)])
    assert not deletions.add([(1, 6, 7)])
    assert deletions.add([(1, 8, 9)])
    assert deletions.add([(2, 5, 8)])
    assert not deletions.add([(1, 5, 9), (2, 5, 6)])
    assert not deletions.add([])


@pytest.mark.parametrize("seed", range(50))
def test_ranges_in_any_order_say_what_a_set_of_clocks_says(seed: int) -> None:
    rng = random.Random(seed)
    deletions, truth = Deletions(), set[tuple[int, int]]()
    for _ in range(300):
        ranges = []
        for _ in range(rng.randint(1, 3)):
            start = rng.randrange(200)
            ranges.append((rng.randint(1, 2), start, start + rng.randint(1, rng.choice((1, 3, 30)))))
        clocks = {(client, clock) for client, start, stop in ranges for clock in range(start, stop)}
        assert deletions.add(ranges) == bool(clocks - truth)
        truth |= clocks
