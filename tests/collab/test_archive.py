"""What is written is read, and what nobody wrote is refused with the line that is wrong."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycrdt import Doc, Text

from collab.archive import Head, Named, Reader, Writer
from collab.errors import InvalidRequest, UpdateError
from collab.log import Actor, Entry, Origin

ADA, BOB = Actor("user:ada", "user", "Ada \u2028 😀"), Actor("agent:bob", "agent")
LABELS = [Named(0, "empty", "", "user:ada", 1), Named(3, "draft 😀", "as\nsent", "user:zoe", 2)]


def typed(words: list[str]) -> list[Entry]:
    doc: Doc = Doc(client_id=1_234_567)  # the same in every process that collects the tests
    updates: list[bytes] = []
    doc.observe(lambda event: updates.append(event.update))
    text = doc.get("content", type=Text)
    for word in words:
        text.insert(0, word)
    return [
        Entry(seq, (ADA, BOB)[seq % 2], doc.client_id, 1_700_000_000_000_000 + seq, Origin(1 + seq % 6), data)
        for seq, data in enumerate(updates, 1)
    ]


ENTRIES = typed(["one ", "two ", "😀 ", "four "])


def archived(entries: list[Entry], labels: list[Named] = LABELS) -> bytes:
    writer = Writer()
    lines = [writer.head(Head("Minutes \u2028", 5, len(entries))), *map(writer.label, labels)]
    return b"".join([*lines, writer.entries(entries[:2]), writer.entries(entries[2:]), writer.end()])


def read(data: bytes, size: int = 1 << 20) -> tuple[Head, list[Named], list[Entry]]:
    reader = Reader(size)
    entries = [reader.feed(line) for line in data.splitlines(keepends=True)]
    return reader.finish(), reader.labels, [entry for entry in entries if entry is not None]


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=5), max_size=6))
def test_what_is_written_is_read_and_written_the_same(words: list[str]) -> None:
    entries = typed(words)
    labels = [label for label in LABELS if label.seq <= len(entries)]
    data = archived(entries, labels)
    head, named, found = read(data)
    assert (head, named, found) == (Head("Minutes \u2028", 5, len(entries)), labels, entries)
    assert archived(found, named) == data


@pytest.mark.parametrize("at", range(len(archived(ENTRIES).splitlines())))
def test_an_archive_without_one_of_its_lines_is_refused(at: int) -> None:
    lines = archived(ENTRIES).splitlines(keepends=True)
    del lines[at]
    with pytest.raises((InvalidRequest, UpdateError)):
        read(b"".join(lines))


@pytest.mark.parametrize("at", range(0, len(archived(ENTRIES)) - 1, 7))
def test_an_archive_cut_off_or_changed_in_a_byte_is_refused(at: int) -> None:
    data = archived(ENTRIES)
    with pytest.raises((InvalidRequest, UpdateError)):
        read(data[:at])
    with pytest.raises((InvalidRequest, UpdateError)):
        read(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])


def changed(at: int, **fields: object) -> bytes:
    lines = archived(ENTRIES).splitlines(keepends=True)
    value = json.loads(lines[at])
    inner = next(iter(value.values())) if at in (1, 2, 3) else value
    inner.update(fields)
    return b"".join([*lines[:at], json.dumps(value).encode() + b"\n", *lines[at + 1 :]])


@pytest.mark.parametrize(
    ("at", "fields"),
    [
        (0, {"format": 3}), (0, {"collab": "x"}), (0, {"head": -1}), (0, {"head": "4"}), (0, {"title": 5}),
        (1, {"seq": 1.5}), (1, {"name": None}),
        (3, {"id": ""}), (3, {"id": "x" * 301}), (3, {"name": "a\0b"}), (3, {"name": "\ud800"}),
        (3, {"kind": "god"}),
        (4, {"seq": 2}), (4, {"seq": True}), (4, {"actor": 1}), (4, {"actor": -1}), (4, {"client": 2**53}),
        (4, {"received": -1}), (4, {"origin": "rumour"}), (4, {"origin": 1}), (4, {"data": "not base64!"}),
    ],
)  # fmt: skip
def test_a_line_that_is_not_as_it_must_be_is_named(at: int, fields: dict[str, object]) -> None:
    with pytest.raises(InvalidRequest, match=rf"line {at + 1} of the archive"):
        read(changed(at, **fields))


@pytest.mark.parametrize(
    "data", [b"\x01", b"\x01\x01\x07\x05", bytes(typed(["a", "b"])[1].data), b"\xff" * 40]
)
def test_no_update_passes_that_the_gate_refuses_or_whose_past_is_missing(data: bytes) -> None:
    with pytest.raises(UpdateError, match="line 5: "):
        read(changed(4, data=base64.b64encode(data).decode()))


def test_a_document_larger_than_allowed_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="--document-bytes"):
        read(archived(ENTRIES), size=40)


def test_there_is_nothing_after_the_end() -> None:
    with pytest.raises(InvalidRequest, match="more after the end"):
        read(archived(ENTRIES) + b"{}\n")


@pytest.mark.parametrize("line", [b"", b"[]\n", b"[" * 100_000, b"{}\n", b"\xff\n", b'{"collab": NaN}\n'])
def test_what_is_no_archive_is_refused_at_once(line: bytes) -> None:
    with pytest.raises(InvalidRequest, match="line 1 of the archive"):
        Reader(1 << 20).feed(line)
