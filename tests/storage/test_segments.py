"""A segment gives back what it was given, and nothing else."""

import random

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from replay import load

from collab.errors import CorruptLog
from storage.segments import WIDTH, Row, pack, unpack

AUTHORS = st.tuples(st.sampled_from([1, 2, 2**31 - 1]), st.sampled_from([0, 7, 2**53 - 1]), st.integers(1, 6))
ROWS = st.lists(
    st.tuples(
        AUTHORS, st.integers(0, 2**60), st.binary(max_size=12) | st.binary(min_size=WIDTH, max_size=300)
    ),
    min_size=1,
    max_size=40,
)


def rows_of(made, first=1):
    return [
        Row(seq, actor, client, received, origin, data)
        for seq, ((actor, client, origin), received, data) in enumerate(made, first)
    ]


def typed(name):
    """What the writers of a real history typed, one after the other."""
    rng, now, rows = random.Random(1), 1_700_000_000_000_000, []
    for client, steps in enumerate(load(name).writers, 1):
        for step in steps:
            now += int(rng.lognormvariate(12, 0.6))  # people's pauses: a sixth of a second, more or less
            rows.append(Row(len(rows) + 1, client, client, now, 1, step.update))
    return rows


@settings(max_examples=300, deadline=None)
@given(ROWS, st.integers(1, 2**31 - 100))
def test_what_was_packed_is_unpacked(made, first):
    rows = rows_of(made, first)
    assert unpack(pack(rows), first) == rows


@pytest.mark.parametrize("name", ["automerge-paper", "friendsforever"])
def test_typing_takes_a_few_bytes_a_keystroke(name):
    rows = typed(name)
    whole = len(rows) // 1024 * 1024
    size = sum(len(pack(rows[at : at + 1024])) for at in range(0, whole, 1024))
    assert size / whole < 5


@pytest.mark.parametrize("cut", [0, 3, 11, 12, 30, 60, -1])
def test_a_shortened_segment_is_refused_whoever_compressed_it(cut):
    rows = rows_of([((1, 7, 1), 5, b"one"), ((2, 8, 1), 6, b"two"), ((1, 7, 2), 7, b"three")])
    raw = zstandard.ZstdDecompressor().decompress(pack(rows))
    with pytest.raises(CorruptLog, match="at entry 1 cannot be unpacked"):
        unpack(zstandard.ZstdCompressor().compress(raw[:cut]), 1)


def test_what_is_no_zstd_is_refused():
    with pytest.raises(CorruptLog, match="at entry 1025 cannot be unpacked"):
        unpack(b"not packed at all", 1025)


def test_a_segment_of_a_later_release_says_so():
    raw = zstandard.ZstdDecompressor().decompress(pack(rows_of([((1, 7, 1), 5, b"one")])))
    with pytest.raises(CorruptLog, match="upgrade"):
        unpack(zstandard.ZstdCompressor().compress(raw[:8] + b"\x02" + raw[9:]), 1)
