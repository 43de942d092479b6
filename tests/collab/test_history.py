"""Answers about a document's past, against pycrdt and against what the tests know of who typed what."""

from __future__ import annotations

import base64
import gzip
import itertools
import json
import random
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import replay
import stockclients
from pycrdt import Doc, Map, Text

from collab.diff import Part, markup, unified
from collab.errors import CorruptLog, InvalidRequest
from collab.history import History
from collab.log import Actor, Entry, Origin
from collab.update import check

ANN, BOB, EVE = Actor("user:ann", "user", "Ann"), Actor("user:bob", "user", "Bob"), Actor("guest:eve")
TRACES = Path(__file__).parent.parent / "traces"
START = 1_700_000_000_000_000  # microseconds
SECOND = 1_000_000
FRESH = 77  # a client id that no test's writer has


class Desk:
    """People at one document: each has a replica of their own, and the log has everything."""

    def __init__(self) -> None:
        self.server: Doc[Any] = Doc()
        self.text = self.server.get("content", type=Text)
        self.entries: list[Entry] = []
        self.replicas: dict[str, Doc[Any]] = {}
        self.now = START

    def replica(self, actor: Actor) -> Doc[Any]:
        if actor.id not in self.replicas:
            self.replicas[actor.id] = Doc(client_id=100 + len(self.replicas))
        return self.replicas[actor.id]

    def log(self, actor: Actor, update: bytes, origin: Origin = Origin.EDIT) -> int:
        self.server.apply_update(update)
        self.entries.append(Entry(len(self.entries) + 1, actor, 0, self.now, origin, update))
        self.now += SECOND
        return len(self.entries)

    def sync(self, actor: Actor) -> None:
        replica = self.replica(actor)
        replica.apply_update(self.server.get_update(replica.get_state()))

    def edit(
        self, actor: Actor, at: int, deleted: int = 0, inserted: str = "", *, root: str = "content"
    ) -> int:
        """One edit at a code point position of what the actor sees, who sees everything first."""
        self.sync(actor)
        return self.send(actor, at, deleted, inserted, root=root)

    def send(
        self, actor: Actor, at: int, deleted: int = 0, inserted: str = "", *, root: str = "content"
    ) -> int:
        """As ``edit``, by somebody who has not seen what others did since they last looked."""
        replica = self.replica(actor)
        text = replica.get(root, type=Text)
        now = str(text)
        start, stop = len(now[:at].encode()), len(now[: at + deleted].encode())
        with replica.transaction():
            if deleted:
                del text[start:stop]
            if inserted:
                text.insert(start, inserted)
        return self.log(actor, replica.get_update(self.server.get_state()))

    @property
    def history(self) -> History:
        history = History()
        history.extend(self.entries)
        return history


def applied(text: str, parts: Iterable[Part]) -> str:
    """The text after a diff: each part must find what it keeps or deletes."""
    out, at = [], 0
    for part in parts:
        if part.op != "insert":
            assert text[at : at + len(part.text)] == part.text
            at += len(part.text)
        if part.op != "delete":
            out.append(part.text)
    assert at == len(text)
    return "".join(out)


def random_desk(seed: int, alphabet: str | None = "abcdef gh\n ßé漢🎉👍") -> tuple[Desk, list[str]]:
    """Three people typing, at times without looking at the others; and the text after each entry.
    Without an alphabet they use no letter twice."""
    chance = random.Random(seed)
    desk = Desk()
    texts = [""]
    unused = map(chr, range(0x100, 0x800))
    for _ in range(120):
        actor = chance.choice((ANN, BOB, EVE))
        if chance.random() < 0.5:
            desk.sync(actor)
        size = len(str(desk.replica(actor).get("content", type=Text)))
        at = chance.randint(0, size)
        deleted = min(size - at, chance.randint(1, 5)) if chance.random() < 0.4 else 0
        inserted = ""
        if not deleted or chance.random() < 0.4:
            count = chance.randint(1, 4)
            inserted = "".join(
                chance.choices(alphabet, k=count) if alphabet else itertools.islice(unused, count)
            )
        desk.now += chance.choice((0, 0, 0, 40, 4000)) * SECOND
        desk.send(actor, at, deleted, inserted)
        texts.append(str(desk.text))
    return desk, texts


def log_of(updates: Sequence[bytes], actors: Sequence[Actor], *, step: int = SECOND) -> list[Entry]:
    return [
        Entry(seq, actor, 0, START + seq * step, Origin.EDIT, update)
        for seq, (update, actor) in enumerate(zip(updates, actors, strict=True), 1)
    ]


@pytest.fixture(scope="module")
def paper() -> tuple[History, list[str]]:
    """A writer's paper, and its text after each keystroke."""
    steps = replay.load("automerge-paper").writers[0]
    history = History()
    history.extend(log_of([step.update for step in steps], [ANN] * len(steps)))
    texts = [""]
    for at, deleted, inserted in replay.paper(0, len(steps)):
        texts.append(texts[-1][:at] + inserted + texts[-1][at + deleted :])
    return history, texts


# What it was


def test_content_of_any_seq_is_the_text_as_it_was(paper: tuple[History, list[str]]) -> None:
    history, texts = paper
    for seq in range(0, history.head + 1, 211):
        assert history.content(seq) == texts[seq]


def test_a_document_that_nobody_has_touched_has_an_empty_history() -> None:
    history = History()
    assert history.head == 0
    assert history.content(0) == ""
    assert history.versions().versions == []
    assert history.diff(0, 0).parts == []
    assert history.blame(0).runs == []
    assert history.activity(60) == []
    assert history.restore(0, FRESH).update is None
    assert history.undo(FRESH).update is None
    assert history.at(START) == 0
    with pytest.raises(InvalidRequest, match="no seq 1"):
        history.content(1)


def test_entries_must_follow_each_other() -> None:
    desk = Desk()
    desk.edit(ANN, 0, 0, "a")
    desk.edit(ANN, 1, 0, "b")
    history = History()
    with pytest.raises(ValueError, match="entry 2 does not follow 0"):
        history.extend(desk.entries[1:])
    history.extend(desk.entries[:1])
    with pytest.raises(CorruptLog, match="entry 2 cannot be read"):
        history.extend([desk.entries[1]._replace(data=b"\1\1")])
    history.extend(desk.entries[1:])
    assert history.content(2) == "ab"


def test_a_time_is_the_last_seq_received_by_then_to_the_millisecond() -> None:
    desk = Desk()
    for letter in "abc":
        desk.edit(ANN, 0, 0, letter)
    history = desk.history
    assert history.at(START - 1) == 0
    assert history.at(START) == 1
    assert history.at(START + SECOND - 1) == 1
    assert history.at(START + SECOND) == 2
    assert history.at(START + 100 * SECOND) == 3
    assert history.received(2) == START + SECOND


def test_after_a_clock_was_set_back_a_time_still_means_the_last_seq_received_by_then() -> None:
    desk = Desk()
    desk.edit(ANN, 0, 0, "a")
    desk.now += 100 * SECOND
    desk.edit(ANN, 0, 0, "b")
    desk.now -= 90 * SECOND
    desk.edit(ANN, 0, 0, "c")
    history = desk.history
    assert history.at(START + 5 * SECOND) == 1
    assert history.at(START + 20 * SECOND) == 3, "c was received by then, and it was typed into ba"
    assert [history.at(START + n * SECOND) for n in range(150)] == sorted(
        history.at(START + n * SECOND) for n in range(150)
    )


# Versions


def bounds(history: History, **choice: Any) -> list[tuple[int, int]]:
    return [(version.seq_from, version.seq_to) for version in history.versions(**choice).versions]


def test_versions_split_on_silence_origin_span_labels_and_if_asked_on_authors() -> None:
    desk = Desk()
    for actor in (ANN, ANN, BOB):
        desk.edit(actor, 0, 0, "x")
    desk.now += 301 * SECOND
    desk.edit(BOB, 0, 0, "y")
    desk.sync(EVE)
    replica = desk.replica(EVE)
    replica.get("content", type=Text).insert(0, "import")
    desk.log(EVE, replica.get_update(desk.server.get_state()), Origin.IMPORT)
    for _ in range(5):
        desk.edit(ANN, 0, 1)
        desk.now += 200 * SECOND
    history = desk.history
    assert bounds(history) == [(6, 10), (5, 5), (4, 4), (1, 3)]
    assert bounds(history, split="author") == [(6, 10), (5, 5), (4, 4), (3, 3), (1, 2)]
    assert bounds(history, gap=1000) == [(6, 10), (5, 5), (1, 4)]
    assert bounds(history, span=500) == [(9, 10), (6, 8), (5, 5), (4, 4), (1, 3)]
    labels = [(2, "v1"), (7, "v2"), (7, "v3"), (10, "now")]
    assert bounds(history, labels=labels) == [(8, 10), (6, 7), (5, 5), (4, 4), (3, 3), (1, 2)]
    assert bounds(history, labels=labels, kind="named") == [(8, 10), (6, 7), (1, 2)]
    assert bounds(history, labels=labels, kind="auto") == [(5, 5), (4, 4), (3, 3)]
    assert [version.labels for version in history.versions(labels=labels, kind="named").versions] == [
        ("now",),
        ("v2", "v3"),
        ("v1",),
    ]


def test_a_version_tells_who_took_part_and_how_much_they_typed() -> None:
    desk = Desk()
    desk.edit(ANN, 0, 0, "Hello 🎉")
    desk.edit(BOB, 5, 2, " world")
    (version,) = desk.history.versions().versions
    assert version.started_at == START
    assert version.ended_at == START + SECOND
    assert [tuple(share) for share in version.actors] == [(ANN, 7, 0), (BOB, 6, 2)]
    assert (version.inserted, version.deleted) == (13, 2)
    assert version.excerpt == "Hello world"
    assert version.origin is Origin.EDIT


def test_an_excerpt_is_what_was_added_and_left() -> None:
    desk = Desk()
    desk.edit(ANN, 0, 0, "0123456789")
    desk.now += 1000 * SECOND
    desk.edit(BOB, 2, 0, "wrong")
    desk.edit(BOB, 2, 5, "right")
    desk.edit(BOB, 15, 0, "x" * 100)
    desk.now += 1000 * SECOND
    desk.edit(ANN, 0, 3)
    excerpts = [version.excerpt for version in desk.history.versions().versions]
    assert excerpts == ["", "right … " + "x" * 72, "0123456789"]


def test_versions_can_be_asked_for_by_author_and_time() -> None:
    desk = Desk()
    for actor in (ANN, BOB, ANN, EVE):
        desk.edit(actor, 0, 0, "x")
        desk.now += 1000 * SECOND
    history = desk.history
    assert bounds(history, author=ANN.id) == [(3, 3), (1, 1)]
    assert bounds(history, author="user:nobody") == []
    assert bounds(history, since=START + 2002 * SECOND) == [(4, 4), (3, 3)]
    assert bounds(history, until=START + 1001 * SECOND) == [(2, 2), (1, 1)]


@pytest.mark.parametrize("seed", range(6))
def test_versions_partition_the_log_whatever_the_page_and_keep_their_bounds(seed: int) -> None:
    desk, _ = random_desk(seed)
    chance = random.Random(seed)
    labels = [(chance.randint(1, len(desk.entries)), str(n)) for n in range(4)]
    for choice in (
        {},
        {"split": "author"},
        {"labels": labels},
        {"span": 60.0},
        {"labels": labels, "span": 60.0},
    ):
        whole = bounds(desk.history, limit=1000, **choice)
        assert [stop + 1 for _, stop in whole[1:]] == [start for start, _ in whole[:-1]]
        assert (whole[0][1], whole[-1][0]) == (len(desk.entries), 1)
        history = History()
        for size in range(10, len(desk.entries), 17):
            history.extend(desk.entries[history.head : size])
            early = bounds(
                history,
                limit=1000,
                **{**choice, "labels": [x for x in choice.get("labels", ()) if x[0] <= size]},
            )
            assert early[1:] == [version for version in whole if version[1] < early[0][0]]
            assert early[0][0] in {start for start, _ in whole}
        # Pages fit together while the document grows.
        history = History()
        history.extend(desk.entries[:90])
        seen, before = [], None
        expected = bounds(history, limit=1000, **choice)
        while True:
            page = history.versions(limit=3, before=before, **choice)
            seen += [(version.seq_from, version.seq_to) for version in page.versions]
            if page.before is None:
                break
            before = page.before
            history.extend(desk.entries[history.head : history.head + 5])
        assert seen == expected


def test_a_clock_that_was_set_back_begins_a_version_and_spoils_no_other() -> None:
    desk = Desk()
    for _ in range(3):
        desk.edit(ANN, 0, 0, "x")
    desk.now -= 5000 * SECOND
    for _ in range(3):
        desk.edit(ANN, 0, 0, "y")
    desk.now -= SECOND // 2
    desk.edit(ANN, 0, 0, "z")
    history = desk.history
    assert bounds(history) == [(4, 7), (1, 3)]
    assert all(version.started_at <= version.ended_at for version in history.versions().versions)
    assert bounds(history, span=1.0) == [(6, 7), (4, 5), (3, 3), (1, 2)]


def test_activity_counts_by_buckets_of_time() -> None:
    desk = Desk()
    desk.now = 600 * SECOND
    desk.edit(ANN, 0, 0, "abc")
    desk.edit(BOB, 0, 1, "🎉")
    desk.now = 1205 * SECOND
    desk.edit(ANN, 0, 2)
    first, second = desk.history.activity(60)
    assert (first.start, first.inserted, first.deleted) == (600 * SECOND, 4, 1)
    assert [tuple(share) for share in first.actors] == [(ANN, 3, 0), (BOB, 1, 1)]
    assert (first.seq_from, first.seq_to) == (1, 2)
    assert (second.start, second.inserted, second.deleted) == (1200 * SECOND, 0, 2)
    assert desk.history.activity(60, since=700 * SECOND) == [second]
    assert desk.history.activity(60, until=700 * SECOND) == [first]
    with pytest.raises(InvalidRequest, match="at least a millisecond"):
        desk.history.activity(0)


# Diff


@pytest.mark.parametrize("granularity", ["char", "word", "line"])
def test_a_diff_applied_to_the_old_text_gives_the_new_one(
    paper: tuple[History, list[str]], granularity: Any
) -> None:
    history, texts = paper
    chance = random.Random(5)
    for _ in range(60):
        old, new = chance.randint(0, history.head), chance.randint(0, history.head)
        parts = history.diff(old, new, granularity=granularity).parts
        assert applied(texts[old], parts) == texts[new]


@pytest.mark.parametrize("granularity", ["char", "word", "line"])
@pytest.mark.parametrize("seed", range(4))
def test_a_diff_of_what_several_typed_at_once_leads_from_any_text_to_any_other(
    seed: int, granularity: Any
) -> None:
    desk, texts = random_desk(seed)
    history = desk.history
    for old in range(0, len(texts), 7):
        for new in range(0, len(texts), 11):
            diff = history.diff(old, new, granularity=granularity)
            assert applied(texts[old], diff.parts) == texts[new]
            count = {
                op: sum(len(part.text) for part in diff.parts if part.op == op) for op in ("insert", "delete")
            }
            assert (diff.inserted, diff.deleted) == (count["insert"], count["delete"])
            assert all(part.text for part in diff.parts)
            for one, two in zip(diff.parts, diff.parts[1:], strict=False):
                assert (one.op, one.actor) != (two.op, two.actor), "neighbours of one kind are one part"


def test_a_diff_names_who_inserted_and_who_deleted() -> None:
    desk = Desk()
    desk.edit(ANN, 0, 0, "The quick fox jumps")
    desk.edit(BOB, 4, 5, "brown")
    desk.edit(EVE, 19, 0, "!")
    history = desk.history
    assert history.diff(1, 3).parts == [
        Part("keep", "The "),
        Part("delete", "quick", BOB, START + SECOND, 2),
        Part("insert", "brown", BOB, START + SECOND, 2),
        Part("keep", " fox jumps"),
        Part("insert", "!", EVE, START + 2 * SECOND, 3),
    ]


def test_a_diff_back_in_time_names_whose_work_it_takes_back() -> None:
    desk = Desk()
    desk.edit(ANN, 0, 0, "ab")
    desk.edit(BOB, 0, 1)
    desk.edit(EVE, 1, 0, "c")
    assert desk.history.diff(3, 1).parts == [
        Part("insert", "a", BOB, START + SECOND, 2),
        Part("keep", "b"),
        Part("delete", "c", EVE, START + 2 * SECOND, 3),
    ]


def test_by_words_a_changed_word_is_shown_whole_and_still_says_who_changed_what() -> None:
    desk = Desk()
    desk.edit(ANN, 0, 0, "one colour, two")
    desk.edit(BOB, 8, 1)
    assert desk.history.diff(1, 2, granularity="word").parts == [
        Part("keep", "one "),
        Part("delete", "colo"),
        Part("delete", "u", BOB, START + SECOND, 2),
        Part("delete", "r"),
        Part("insert", "color"),
        Part("keep", ", two"),
    ]
    assert [
        part.text for part in desk.history.diff(1, 2, granularity="line").parts if part.op == "insert"
    ] == ["one color, two"]


def test_a_diff_by_words_does_not_cut_what_belongs_to_one_character() -> None:
    desk = Desk()
    desk.edit(ANN, 0, 0, "cafe\u0301 漢字 👩‍👩‍👧 नमस्ते")
    desk.edit(BOB, 4, 1)
    desk.edit(BOB, 5, 1)
    parts = desk.history.diff(1, 3, granularity="word").parts
    assert [(part.op, part.text) for part in parts] == [
        ("delete", "cafe"),
        ("delete", "\u0301"),
        ("insert", "cafe"),
        ("keep", " "),
        ("delete", "漢"),
        ("keep", "字 👩‍👩‍👧 नमस्ते"),
    ]


def test_pages_of_a_diff_joined_are_the_whole() -> None:
    desk, _ = random_desk(9)
    history = desk.history
    whole = history.diff(20, 100)
    assert whole.cursor is None
    pages, cursor = [], 0
    while cursor is not None:
        page = history.diff(20, 100, budget=200, cursor=cursor)
        assert (page.inserted, page.deleted) == (whole.inserted, whole.deleted)
        assert 1 <= len(page.parts) <= 4
        pages += page.parts
        cursor = page.cursor
    assert pages == whole.parts
    assert history.diff(20, 100, cursor=10_000).parts == []


def test_a_part_larger_than_the_budget_is_not_cut() -> None:
    desk = Desk()
    desk.edit(ANN, 0, 0, "x" * 1000)
    assert history_parts(desk, budget=1) == ["x" * 1000]


def history_parts(desk: Desk, **choice: Any) -> list[str]:
    return [part.text for part in desk.history.diff(0, len(desk.entries), **choice).parts]


@pytest.mark.parametrize("seed", range(3))
def test_patch_applies_a_unified_diff(seed: int, tmp_path: Path, require: Any) -> None:
    program = shutil.which("patch")
    require(program, "needs patch")
    desk, texts = random_desk(seed, "ab\n\nc\n漢🎉")
    history = desk.history
    for old, new in ((0, 120), (120, 0), (20, 90), (90, 40), (119, 120), (60, 118)):
        text = unified(history.compare(old, new, granularity="line"), "a/text", "b/text")
        if texts[old] == texts[new]:
            assert text == ""
            continue
        file = tmp_path / "text"
        file.write_bytes(texts[old].encode())
        subprocess.run([str(program), "-s", str(file)], input=text.encode(), check=True, timeout=10)
        assert (file.read_bytes() if file.exists() else b"").decode() == texts[new]
        assert not list(tmp_path.glob("*.orig")), "it fitted without fuzz"


def test_markup_escapes_everything() -> None:
    evil = Actor('user:"><script>', "user", "")
    desk = Desk()
    desk.edit(ANN, 0, 0, "<b>&")
    desk.edit(evil, 1, 1, "<i>")
    html = markup(desk.history.diff(1, 2).parts)
    assert html == (
        '&lt;<del data-actor="user:&quot;&gt;&lt;script&gt;" data-seq="2">b</del>'
        '<ins data-actor="user:&quot;&gt;&lt;script&gt;" data-seq="2">&lt;i&gt;</ins>&gt;&amp;'
    )


# Blame


def test_blame_names_who_typed_each_letter_of_two_typing_at_once() -> None:
    """Against letters followed one by one through the trace alone: a list with tombstones, in which each
    letter comes behind the one that its writer saw before it."""
    with gzip.open(TRACES / "friendsforever-prefix.json.gz") as file:
        trace = json.load(file)
    trace["txns"] = trace["txns"][:1500]
    typed = [iter(steps) for steps in replay._typed(trace)]
    history = History()
    letters: list[Letter] = []
    seen: list[list[int]] = []  # by transaction: how many of each agent's it has seen
    checked = 0
    for number, transaction in enumerate(trace["txns"]):
        agent = transaction["agent"]
        sees = [
            max((seen[parent][other] for parent in transaction["parents"]), default=0) for other in (0, 1)
        ]
        for position, deleted, inserted in transaction["patches"]:
            shown = [-1, *(index for index, letter in enumerate(letters) if letter.seen(sees, agent))]
            for index in shown[position + 1 : position + 1 + deleted]:
                letters[index].deleted.append((agent, sees[agent]))
            behind = shown[position] + 1
            letters[behind:behind] = [Letter(char, agent, sees[agent], []) for char in inserted]
        sees[agent] += 1
        seen.append(sees)
        update = next(typed[agent]).update
        history.extend([Entry(number + 1, (ANN, BOB)[agent], 0, START, Origin.EDIT, update)])
        if number % 100 == 99:
            here = [letter for letter in letters if not letter.deleted]
            assert history.content(number + 1) == "".join(letter.char for letter in here)
            told = [run.actor for run in history.blame(number + 1).runs for _ in range(run.length)]
            assert told == [(ANN, BOB)[letter.agent] for letter in here]
            checked += len({letter.agent for letter in here}) == 2
    assert checked > 10


class Letter(NamedTuple):
    char: str
    agent: int
    number: int  # of its agent's transactions
    deleted: list[tuple[int, int]]  # agent, number of transaction

    def seen(self, sees: Sequence[int], by: int) -> bool:
        """By somebody who has seen so many transactions of each agent, and is at one of ``by``."""

        def has(agent: int, number: int) -> bool:
            return number < sees[agent] + (agent == by)

        return has(self.agent, self.number) and not any(has(*deletion) for deletion in self.deleted)


def test_blame_joins_neighbours_by_one_actor_and_dates_them() -> None:
    desk = Desk()
    desk.edit(ANN, 0, 0, "aé🎉")
    desk.edit(BOB, 1, 0, "b漢")
    desk.edit(BOB, 3, 0, "c")
    desk.edit(ANN, 6, 0, "z")
    history = desk.history
    at = [START + n * SECOND for n in range(4)]
    assert [tuple(run) for run in history.blame(4).runs] == [
        (1, ANN, at[0], at[0], 1),
        (3, BOB, at[1], at[2], 3),
        (3, ANN, at[0], at[3], 4),
    ]
    assert [tuple(run) for run in history.blame(4, 3, 6).runs] == [
        (1, BOB, at[2], at[2], 3),
        (2, ANN, at[0], at[0], 1),
    ]
    assert [run.length for run in history.blame(1).runs] == [3]
    assert history.blame(4, 2, 2).runs == []
    with pytest.raises(InvalidRequest, match="no range"):
        history.blame(4, 2, 8)


def test_pages_of_blame_joined_are_the_whole() -> None:
    desk, texts = random_desk(3)
    history = desk.history
    whole = history.blame(100).runs
    pages, at = [], 0
    while at is not None:
        page = history.blame(100, at, limit=2)
        pages += page.runs
        at = page.after
    assert pages == whole
    assert sum(run.length for run in whole) == len(texts[100])


# Ways back


@pytest.mark.parametrize("seed", range(12))
def test_restore_makes_the_head_what_it_was(seed: int) -> None:
    desk, texts = random_desk(seed)
    history = desk.history
    for seq in range(0, len(texts), 9):
        change = history.restore(seq, FRESH)
        doc: Doc[Any] = Doc()
        doc.apply_update(desk.server.get_update())
        if change.update is not None:
            assert check(change.update, history.weave.clocks).missing is None, "the gate lets it in"
            doc.apply_update(change.update)
        assert str(doc.get("content", type=Text)) == texts[seq]
        diff = history.diff(history.head, seq)
        assert (change.inserted, change.deleted) == (diff.inserted, diff.deleted), "and no more than that"


@pytest.mark.parametrize("seed", range(6))
def test_a_restored_document_has_a_history_that_goes_on(seed: int) -> None:
    desk, texts = random_desk(seed)
    chance = random.Random(seed)
    for _ in range(12):
        history = desk.history
        seq = chance.randint(0, history.head)
        change = history.restore(seq, FRESH + len(desk.entries))
        if change.update is None:
            assert texts[seq] == texts[-1]
            continue
        desk.log(EVE, change.update, Origin.RESTORE)
        texts.append(str(desk.text))
        assert texts[-1] == texts[seq]
        desk.edit(ANN, chance.randint(0, len(texts[-1])), 0, "new")
        texts.append(str(desk.text))
    history = desk.history
    assert [history.content(seq) for seq in range(history.head + 1)] == texts


def test_restore_keeps_the_ids_of_what_stayed_and_brings_back_only_what_is_gone() -> None:
    desk = Desk()
    desk.edit(ANN, 0, 0, "The quick brown fox")
    desk.edit(BOB, 4, 6)
    desk.edit(BOB, 13, 0, "!")
    change = desk.history.restore(1, FRESH)
    assert change.update is not None
    assert (change.inserted, change.deleted, change.other) == (6, 1, False)
    assert len(change.update) < 40
    desk.log(EVE, change.update, Origin.RESTORE)
    assert [(run.actor, run.length) for run in desk.history.blame(4).runs] == [(ANN, 4), (EVE, 6), (ANN, 9)]


@pytest.mark.parametrize("seed", range(12))
def test_restore_and_undo_converge_with_what_others_type_meanwhile(seed: int) -> None:
    desk, _ = random_desk(seed)
    history = desk.history
    chance = random.Random(seed)
    if chance.random() < 0.5:
        change = history.restore(chance.randint(0, history.head), FRESH)
    else:
        change = history.undo(FRESH, actor=ANN.id, after=chance.randint(0, history.head))
    desk.sync(BOB)
    typing = desk.replica(BOB)
    text = typing.get("content", type=Text)
    for _ in range(10):
        now = str(text)
        at = chance.randint(0, len(now))
        if chance.random() < 0.3:
            del text[len(now[:at].encode()) : len(now[: at + 2].encode())]
        else:
            text.insert(len(now[:at].encode()), chance.choice("XYZ"))
    meanwhile = typing.get_update(desk.server.get_state())
    update = change.update or b"\0\0"
    one: Doc[Any] = Doc()
    two: Doc[Any] = Doc()
    for part in (desk.server.get_update(), meanwhile, update):
        one.apply_update(part)
    for part in (desk.server.get_update(), update, meanwhile):
        two.apply_update(part)
    assert str(one.get("content", type=Text)) == str(two.get("content", type=Text))
    log = [*desk.entries]
    for part in (meanwhile, update):
        if part != b"\0\0":
            log.append(Entry(len(log) + 1, EVE, 0, desk.now, Origin.EDIT, part))
    history.extend(log[history.head :])
    assert history.content(history.head) == str(one.get("content", type=Text))
    typed = sum(char in "XYZ" for char in str(one.get("content", type=Text)))
    assert typed == sum(char in "XYZ" for char in str(text)), "nothing typed meanwhile is lost or doubled"


def test_a_restore_puts_text_back_where_it_stood_while_others_type() -> None:
    desk = Desk()
    desk.edit(ANN, 0, 0, "one two three")
    desk.edit(ANN, 4, 4)
    change = desk.history.restore(1, FRESH)
    desk.edit(BOB, 0, 0, "zero ")
    desk.edit(BOB, 14, 0, " four")
    assert change.update is not None
    desk.log(EVE, change.update, Origin.RESTORE)
    assert str(desk.text) == "zero one two three four"


def test_restore_of_a_range_leaves_the_rest_as_it_is() -> None:
    desk = Desk()
    desk.edit(ANN, 0, 0, "aaa 🎉bb ccc")
    desk.edit(BOB, 0, 3, "AAA")
    desk.edit(BOB, 4, 3, "BBB")
    desk.edit(BOB, 8, 3, "CCC")
    history = desk.history
    assert history.content(4) == "AAA BBB CCC"
    change = history.restore(1, FRESH, range=(3, 8))
    assert change.update is not None
    desk.log(EVE, change.update, Origin.RESTORE)
    assert str(desk.text) == "AAA 🎉bb CCC"
    assert history.restore(1, FRESH, range=(4, 4)).update is None
    with pytest.raises(InvalidRequest, match="no range of this text of 11 characters"):
        history.restore(1, FRESH, range=(4, 12))


def test_restore_brings_back_whole_characters_of_an_emoji_that_was_split() -> None:
    log = [
        b"\1\1\1\0\4\1\7content\4" + "🎉".encode() + b"\0",
        b"\1\1\2\0" + b"\xc4\1\0\1\1\1x" + b"\0",  # between its halves
        b"\0\1\1\1\0\1",  # the first half
    ]
    history = History()
    history.extend(log_of(log, [ANN, BOB, BOB]))
    assert [history.content(seq) for seq in range(4)] == ["", "🎉", "\ufffdx\ufffd", "x\ufffd"]
    assert applied("🎉", history.diff(1, 2).parts) == "\ufffdx\ufffd"
    for seq in range(4):
        ahead = History()
        ahead.extend(log_of(log, [ANN, BOB, BOB]))
        if (update := history.restore(seq, FRESH).update) is not None:
            ahead.extend([Entry(4, EVE, 0, START, Origin.RESTORE, update)])
        assert ahead.content(ahead.head) == history.content(seq)


def test_restore_brings_back_marks_and_embeds_of_rich_text() -> None:
    desk = Desk()
    replica = desk.replica(ANN)
    text = replica.get("content", type=Text)
    text += "plain bold end"
    desk.log(ANN, replica.get_update(desk.server.get_state()))
    text.format(6, 10, {"bold": True})
    text.insert_embed(5, {"image": "a.png"})
    desk.log(ANN, replica.get_update(desk.server.get_state()))
    rich = desk.text.diff()
    with replica.transaction():
        text.format(7, 11, {"bold": None})
        del text[0:9]
    desk.log(ANN, replica.get_update(desk.server.get_state()))
    assert desk.text.diff() == [("ld end", None)]
    change = desk.history.restore(2, FRESH)
    assert change.update is not None
    desk.log(EVE, change.update, Origin.RESTORE)
    assert desk.text.diff() == rich
    change = desk.history.restore(1, FRESH + 1)
    assert change.update is not None
    desk.log(EVE, change.update, Origin.RESTORE)
    assert desk.text.diff() == [("plain bold end", None)]


def test_restore_knows_every_text_root_and_says_when_there_is_more() -> None:
    desk = Desk()
    desk.edit(ANN, 0, 0, "title", root="title")
    desk.edit(ANN, 0, 0, "body")
    desk.edit(BOB, 0, 5, "other", root="title")
    desk.edit(BOB, 0, 4, "else")
    change = desk.history.restore(2, FRESH, root="title")
    assert change.update is not None
    desk.log(EVE, change.update, Origin.RESTORE)
    assert (str(desk.server.get("title", type=Text)), str(desk.text)) == ("title", "else")
    change = desk.history.restore(2, FRESH + 1)
    assert change.update is not None
    desk.log(EVE, change.update, Origin.RESTORE)
    assert (str(desk.server.get("title", type=Text)), str(desk.text)) == ("title", "body")
    replica = desk.replica(BOB)
    desk.sync(BOB)
    replica.get("settings", type=Map)["dark"] = True
    desk.log(BOB, replica.get_update(desk.server.get_state()))
    assert desk.history.restore(6, FRESH + 2) == (None, 0, 0, True)
    assert desk.history.undo(FRESH + 2, after=6) == (None, 0, 0, True)


# Undo


@pytest.mark.parametrize("seed", range(20))
def test_undo_of_one_actor_leaves_exactly_what_the_others_made(seed: int) -> None:
    """Against letters followed through pycrdt's own events: who typed each, and who deleted it first."""
    desk, _ = random_desk(seed, None)
    chance = random.Random(seed)
    after = chance.choice((0, 0, 40))
    until = chance.choice((120, 120, 90))
    doc: Doc[Any] = Doc()
    text = doc.get("content", type=Text)
    here: list[int] = []  # numbers of letters
    letters: list[list[Any]] = []  # char, whether Ann's edit put it in, whether Ann's edit deleted it, gone
    deltas: list[Any] = []
    subscription = text.observe(lambda event: deltas.extend(event.delta))
    for entry in desk.entries:
        deltas.clear()
        doc.apply_update(entry.data)
        hers = entry.actor == ANN and after < entry.seq <= until
        at = 0
        for delta in deltas:  # in bytes; each letter has two
            if "retain" in delta:
                at += delta["retain"] // 2
            elif "delete" in delta:
                for number in here[at : at + delta["delete"] // 2]:
                    letters[number][2:] = [hers, True]
                del here[at : at + delta["delete"] // 2]
            else:
                here[at:at] = range(len(letters), len(letters) + len(delta["insert"]))
                letters += [[char, hers, False, False] for char in delta["insert"]]
                at += len(delta["insert"])
    text.unobserve(subscription)
    stays = [letters[number][0] for number in here if not letters[number][1]]
    back = [char for char, typed, deleted, _ in letters if deleted and not typed]
    change = desk.history.undo(FRESH, actor=ANN.id, after=after, until=until)
    assert change.inserted == len(back)
    assert change.deleted == len(here) - len(stays)
    if change.update is not None:
        doc.apply_update(change.update)
    result = str(text)
    assert sorted(result) == sorted(stays + back)
    rest = iter(result)
    assert all(char in rest for char in stays), "what the others left is in its order"


def test_undo_brings_words_back_in_their_place() -> None:
    desk = Desk()
    desk.edit(BOB, 0, 0, "one two three four")
    desk.edit(ANN, 4, 4)
    desk.edit(ANN, 0, 3, "ONE")
    desk.edit(BOB, 9, 0, ",")
    change = desk.history.undo(FRESH, actor=ANN.id)
    assert change.update is not None
    desk.log(EVE, change.update, Origin.UNDO)
    assert str(desk.text) == "one two three, four"
    assert (change.inserted, change.deleted) == (7, 3)


def test_undo_does_not_double_what_someone_has_put_back_already() -> None:
    desk = Desk()
    desk.edit(BOB, 0, 0, "keep this word")
    desk.edit(ANN, 5, 5)
    desk.edit(BOB, 5, 0, "this ")
    assert desk.history.undo(FRESH, actor=ANN.id).update is None
    change = desk.history.restore(2, FRESH)
    assert change.update is not None
    desk.log(ANN, change.update, Origin.RESTORE)
    assert str(desk.text) == "keep word"
    change = desk.history.undo(FRESH + 1, after=3)
    assert change.update is not None
    desk.log(EVE, change.update, Origin.UNDO)
    assert str(desk.text) == "keep this word"


def test_undo_of_an_undo_brings_the_edit_back() -> None:
    desk, texts = random_desk(4)
    before = texts[-1]
    change = desk.history.undo(FRESH, actor=BOB.id)
    assert change.update is not None
    seq = desk.log(EVE, change.update, Origin.UNDO)
    change = desk.history.undo(FRESH + 1, after=seq - 1)
    assert change.update is not None
    desk.log(EVE, change.update, Origin.UNDO)
    assert str(desk.text) == before


# In Yjs itself

READ = """
import * as Y from 'yjs'
let input = ''
for await (const chunk of process.stdin) input += chunk
console.log(JSON.stringify(JSON.parse(input).map(updates => {
  const doc = new Y.Doc()
  for (const update of updates) Y.applyUpdate(doc, Buffer.from(update, 'base64'))
  const text = doc.getText('content')
  if (doc.store.pendingStructs || doc.store.pendingDs) return 'pending'
  return text.toString()
})))
"""


def test_yjs_takes_a_restore_and_an_undo_as_the_weave_foretells() -> None:
    """Emoji, combining marks and CJK; the way back before and after what somebody typed meanwhile."""
    logs, expected = [], []
    for seed in range(20):
        desk, texts = random_desk(seed, "ab cé漢字🎉👍🏽e\u0301\u200d\n")
        history = desk.history
        seq = random.Random(seed).randint(0, history.head)
        restored = history.restore(seq, FRESH).update or b"\0\0"
        undone = history.undo(FRESH, actor=ANN.id, after=seq).update or b"\0\0"
        log = [entry.data for entry in desk.entries]
        desk.edit(BOB, len(texts[-1]) // 2, 0, "meanwhile 🎉")
        typed = desk.entries[-1].data
        logs.append([*log, restored])
        expected.append(texts[seq])
        for change in (restored, undone):
            ahead = History()
            ahead.extend(log_of([*log, change, typed], [ANN] * (len(log) + 2)))
            logs += [[*log, change, typed], [*log, typed, change]]
            expected += [ahead.content(ahead.head)] * 2
    stockclients.install()
    node, environment = stockclients.node_environment()
    done = subprocess.run(
        [node, "--input-type=module", "-e", READ],
        input=json.dumps([[base64.b64encode(update).decode() for update in log] for log in logs]),
        cwd=stockclients.HERE,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert json.loads(done.stdout) == expected


# As a cache


@pytest.mark.parametrize("seed", range(8))
def test_a_history_that_was_dumped_and_loaded_goes_on_as_one_made_from_the_log(seed: int) -> None:
    desk, texts = random_desk(seed)
    kept = History()
    for size in (0, 1, 30, 31, 75, 120):
        kept = History.load(kept.dump())
        kept.extend(desk.entries[kept.head : size])
        fresh = History()
        fresh.extend(desk.entries[:size])
        assert kept.dump() == fresh.dump()
        assert kept.versions(split="author") == fresh.versions(split="author")
        assert kept.blame(size) == fresh.blame(size)
        assert kept.diff(0, size) == fresh.diff(0, size)
        assert kept.restore(size // 2, FRESH) == fresh.restore(size // 2, FRESH)
        assert kept.undo(FRESH, actor=ANN.id) == fresh.undo(FRESH, actor=ANN.id)
        assert [kept.content(seq) for seq in range(size + 1)] == texts[: size + 1]


def test_rich_documents_and_emoji_survive_a_dump() -> None:
    for name in ("yjs-rich", "yjs-surrogates"):
        with gzip.open(TRACES / f"{name}.json.gz") as file:
            documents = json.load(file)
        for document in documents[:60]:
            log = [base64.b64decode(update) for update in document["updates"]]
            whole, kept = History(), History()
            entries = log_of(log, [ANN] * len(log))
            whole.extend(entries)
            kept.extend(entries[: len(log) // 2])
            kept = History.load(kept.dump())
            kept.extend(entries[len(log) // 2 :])
            assert kept.dump() == whole.dump()
            assert [kept.content(seq) for seq in range(len(log))] == [
                whole.content(seq) for seq in range(len(log))
            ]


def test_a_dump_of_a_paper_takes_less_than_two_bytes_a_keystroke(paper: tuple[History, list[str]]) -> None:
    history, _ = paper
    assert len(history.dump()) < 2 * history.head


def test_a_cache_that_is_not_what_was_written_is_refused() -> None:
    desk, _ = random_desk(0)
    data = desk.history.dump()
    chance = random.Random(0)
    wrong = [b"", b"x", data[:-1], data + b"x", data[:10], data.replace(b"history 1", b"history 0")]
    for _ in range(200):
        at = chance.randrange(len(data))
        wrong.append(data[:at] + bytes((data[at] ^ (1 << chance.randrange(8)),)) + data[at + 1 :])
    for bad in wrong:
        with pytest.raises(ValueError, match="cache of history"):
            History.load(bad)


def test_memory_is_told_and_grows_with_the_log(paper: tuple[History, list[str]]) -> None:
    history, _ = paper
    history.content(history.head)
    assert 20 * history.head < history.size < 200 * history.head
    assert History().size < 10_000
