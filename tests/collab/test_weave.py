"""The weave against pycrdt, yjs and the patches of real histories."""

from __future__ import annotations

import base64
import gzip
import json
import random
from pathlib import Path
from typing import Any

import pytest
import replay
from pycrdt import Doc, Text

from collab.errors import UpdateError
from collab.weave import EMBEDDED, Weave

TRACES = Path(__file__).parent.parent / "traces"


def recorded(name: str) -> Any:
    return json.loads(gzip.decompress((TRACES / f"{name}.json.gz").read_bytes()))


def updates(document: dict[str, Any]) -> list[bytes]:
    return [base64.b64decode(update) for update in document["updates"]]


def woven(log: list[bytes]) -> Weave:
    weave = Weave()
    for seq, update in enumerate(log, 1):
        weave.add(seq, update)
    return weave


def scribble(seed: int) -> tuple[list[bytes], list[str]]:
    """What two to five clients type at once, away for a while at times; and the text after each update."""
    chance = random.Random(seed)
    clients: list[Doc[Any]] = [Doc(client_id=chance.randint(1, 1 << 40)) for _ in range(chance.randint(2, 5))]
    server: Doc[Any] = Doc()
    shown = server.get("content", type=Text)
    log: list[bytes] = []
    texts: list[str] = []

    def send(doc: Doc[Any]) -> None:
        update = doc.get_update(server.get_state())
        if update != b"\0\0":
            server.apply_update(update)
            log.append(update)
            texts.append(str(shown))

    for _ in range(60):
        doc = chance.choice(clients)
        text = doc.get("content", type=Text)
        for _ in range(chance.randint(1, 5)):
            now = str(text)
            if now and chance.random() < 0.35:
                start = chance.randrange(len(now))
                stop = min(len(now), start + chance.randint(1, 4))
                del text[len(now[:start].encode()) : len(now[:stop].encode())]
            else:
                at = chance.choice((0, len(now), chance.randint(0, len(now))))
                text.insert(
                    len(now[:at].encode()), "".join(chance.choices("abcdefg ß漢🎉\n", k=chance.randint(1, 3)))
                )
            if chance.random() < 0.6:
                send(doc)
        if chance.random() < 0.5:
            doc.apply_update(server.get_update(doc.get_state()))
        if chance.random() < 0.3:
            send(doc)
    return log, texts


@pytest.mark.parametrize("seed", range(40))
def test_text_typed_at_once_by_several_reads_as_in_pycrdt_at_every_seq(seed: int) -> None:
    log, texts = scribble(seed)
    strand = woven(log).strand("content")
    for seq, text in enumerate(texts, 1):
        assert strand.text(seq) == text, f"seq {seq}"


def test_a_weave_that_is_looked_at_between_entries_is_the_same() -> None:
    log, texts = scribble(1000)
    weave = Weave()
    for seq, update in enumerate(log, 1):
        weave.add(seq, update)
        assert weave.strand("content").text(seq) == texts[seq - 1]


def test_a_writers_paper_reads_as_its_patches_at_every_seq() -> None:
    trace = recorded("automerge-paper-prefix")
    strand = woven([step.update for step in replay.load("automerge-paper").writers[0]]).strand("content")
    text = ""
    for seq, transaction in enumerate(trace["txns"][:20_000], 1):
        for at, deleted, inserted in transaction["patches"]:
            text = text[:at] + inserted + text[at + deleted :]
        if seq % 97 == 0:
            assert strand.text(seq) == text, f"seq {seq}"
    assert strand.text(len(trace["txns"])) == text == trace["endContent"]


def test_two_writers_typing_at_once_read_as_in_pycrdt() -> None:
    history = replay.load("friendsforever")
    log = list(replay.merged(history))
    strand = woven(log).strand("content")
    doc: Doc[Any] = Doc()
    text = doc.get("content", type=Text)
    for seq, update in enumerate(log, 1):
        doc.apply_update(update)
        if seq % 89 == 0:
            assert strand.text(seq) == str(text), f"seq {seq}"
    assert strand.text(len(log)) == history.end


def test_emoji_read_as_in_yjs_even_where_an_edit_split_them() -> None:
    documents = recorded("yjs-surrogates")
    assert any(document["torn"] for document in documents)
    for document in documents:
        log = updates(document)
        expected = base64.b64decode(document["text"]).decode("utf-16-le", "replace")
        assert woven(log).strand("content").text(len(log)) == expected


def test_emoji_that_nobody_split_read_as_in_pycrdt_at_every_seq() -> None:
    documents = [document for document in recorded("yjs-surrogates") if document["whole"]]
    assert len(documents) == 100
    for document in documents:
        log = updates(document)
        strand = woven(log).strand("content")
        doc: Doc[Any] = Doc()
        text = doc.get("content", type=Text)
        for seq, update in enumerate(log, 1):
            doc.apply_update(update)
            assert strand.text(seq) == str(text)


def test_an_emoji_split_and_left_alone_again_is_whole_before_the_split_only() -> None:
    log = [
        b"\1\1\1\0\4\1\1t\4" + "🎉".encode() + b"\0",
        b"\1\1\2\0" + b"\xc4\1\0\1\1\1x" + b"\0",  # between its halves
        b"\0\1\2\1\0\1",
    ]
    strand = woven(log).strand("t")
    assert [strand.text(seq) for seq in range(4)] == ["", "🎉", "\ufffdx\ufffd", "\ufffd\ufffd"]


def test_rich_text_reads_as_in_pycrdt_with_a_mark_for_each_embed() -> None:
    for document in recorded("yjs-rich"):
        log = updates(document)
        weave = woven(log)
        doc: Doc[Any] = Doc()
        for seq, update in enumerate(log, 1):
            doc.apply_update(update)
            runs = doc.get("content", type=Text).diff()
            expected = "".join(run if isinstance(run, str) else chr(EMBEDDED) for run, _ in runs)
            assert weave.strand("content").text(seq) == expected
        assert weave.texts() == ["content"]


def test_roots_of_a_document_do_not_mix() -> None:
    doc: Doc[Any] = Doc()
    log: list[bytes] = []
    subscription = doc.observe(lambda event: log.append(event.update))
    title, body = doc.get("title", type=Text), doc.get("body", type=Text)
    for word in ("one ", "two "):
        title += word
        body.insert(0, word)
    doc.unobserve(subscription)
    weave = woven(log)
    assert weave.strand("title").text(4) == "one two "
    assert weave.strand("body").text(4) == "two one "
    assert weave.strand("body").text(3) == "one "
    assert weave.strand("nothing").text(4) == ""


def test_letters_that_came_in_deleted_take_their_place_and_are_never_shown() -> None:
    log = [
        b"\1\1\1\0\4\1\1t\2ab\0",
        b"\1\2\2\0\xc1\1\0\1\1\xff\xff\xff\x7f\x84\2\xfe\xff\xff\x7f\1x\0",  # 268 million of them, then "x"
        b"\1\1\3\0\xc4\2\5\2\6\1y\0",  # behind the sixth
    ]
    weave = woven(log)
    assert [weave.strand("t").text(seq) for seq in (1, 2, 3)] == ["ab", "axb", "ayxb"]
    assert weave.size < 20_000


def test_what_is_known_is_not_woven_twice() -> None:
    known, more = b"\1\1\1\0\4\1\1t\2ab\0", b"\1\1\1\0\4\1\1t\4abcd\1\1\1\0\1"
    weave = woven([known, more, more])
    strand = weave.strand("t")
    assert [strand.text(seq) for seq in (1, 2, 3)] == ["ab", "bcd", "bcd"]
    assert weave.clocks == {1: 4}


def test_an_update_that_needs_what_is_not_here_is_refused() -> None:
    for update in (
        b"\1\1\1\1\4\1\1t\1x\0",  # clock 1 without clock 0
        b"\1\1\1\0\x84\2\0\1x\0",  # behind a letter of a client that nobody has seen
    ):
        with pytest.raises(UpdateError, match="here"):
            Weave().add(1, update)
