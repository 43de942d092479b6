"""The gate against hostile bytes, honest clients and pycrdt itself; ``tests/fuzz_update.py`` goes further."""

from __future__ import annotations

import base64
import gzip
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hostile import MAP, chained, nested, section
from hostile import update as written
from pycrdt import Array, Doc, Map, Text, XmlFragment, merge_updates

from collab.errors import UpdateError
from collab.update import (
    MAX_NESTING,
    Checked,
    Nesting,
    Surrogates,
    _check_any,
    _check_keystroke,
    before_skips,
    check,
    encode_state_vector,
    join,
    split,
    state_vector,
)

TRACES = Path(__file__).parent.parent / "traces"

NESTED_VALUES = "010101000801017401" + "7501" * 26_263 + "7e00"
NESTED_OBJECTS = "010101000801017401" + "76010161" * 70 + "7e00"
NESTED_JSON = "0101010005010174" + "8c01" + "5b" * 70 + "5d" * 70 + "00"
OVERFLOWING_JSON = "0101010005010174" + "d00f" + "5b" * 1000 + "5d" * 1000 + "00"

REFUSED = {
    "nothing at all": ("", "ends too early"),
    "segfault: origin in the own future": ("010101018401050378797a00", "own future"),
    "segfault: two sections for a client": ("020102050301016102787801020004010161016100", "two sections"),
    "stack overflow: nested arrays": (NESTED_VALUES, "nested deeper"),
    "stack overflow: nested objects": (NESTED_OBJECTS, "nested deeper"),
    "stack overflow: nested JSON": (NESTED_JSON, "nested deeper"),
    "recursion: JSON nested too deep for the parser": (OVERFLOWING_JSON, "nested"),
    "endless loop: clock wraps": ("010101fdffffff0f0401017408616161616161616100", "below 2\\*\\*31"),
    "poisoned doc: length of 2**32": ("0102010000ffffffff0f0401017402616200", "below 2\\*\\*31"),
    "clock burn: GC of 2**31": ("0101010000808080800800", "below 2\\*\\*31"),
    "doubled text: client twice": ("0201010004010174016101010504010174016200", "two sections"),
    "memory bomb: count of sections": ("808080808080808010", "beyond 2\\*\\*53"),
    "memory bomb: 2**40 structs": ("018080808080200100", "promises more"),
    "memory bomb: count of an object": ("0101010008010174017680808080080000", "promises more"),
    "memory bomb: count of delete ranges": ("00010180808008", "promises more"),
    "aliasing: client id of 2**53": ("010180808080808080100004010174016100", "2\\*\\*53"),
    "aliasing: origin client of 2**53 - 1 and clock of 2**31": (
        "0101010084ffffffffffffff0f8080808008016100",
        "out of range",
    ),
    "right origin in the own future": ("01010100440100016100", "own future"),
    "parent in the own future": ("0101010004000100016100", "own future"),
    "parent neither name nor id": ("0101010004020174016100", "neither"),
    "empty section": ("0100010000", "empty"),
    "empty string": ("01010100040101740000", "no length"),
    "GC of no length": ("01010100000000", "no length"),
    "Skip of no length": ("010101000a0000", "no length"),
    "deleted content of no length": ("01010100010101740000", "no length"),
    "values of no length": ("01010100080101740000", "no length"),
    "deletion of no length": ("000101010000", "no length"),
    "deletion beyond 2**31": ("0001010101ffffffff07", "below 2\\*\\*31"),
    "deletion by a client of 2**53": ("00018080808080808010010001", "2\\*\\*53"),
    "two delete sections for a client": ("00020101000101010101", "two delete sections"),
    "GC with flags": ("0101010020010174016b0000", "GC struct with flags"),
    "Skip with flags": ("010101002a010174016b0100", "Skip struct with flags"),
    "unknown content 11": ("010101000b01017400", "content 11 is not known"),
    "unknown flag 16": ("0101010014010174016100", "content 20 is not known"),
    "subdocument": ("010101000901017401677600", "subdocuments are not supported"),
    "ContentJSON of old yjs": ("010101000201017401013100", "yjs 12"),
    "XmlHook": ("010101000701017405016100", "shared type 5 is not supported"),
    "unknown shared type": ("01010100070101740700", "shared type 7 is not supported"),
    "unknown value tag": ("0101010008010174017300", "value tag 115 is not known"),
    "integer beyond 2**53 (lib0 throws)": ("0101010008010174017dbfffffffffffffff7f00", "beyond 2"),
    "text that is not UTF-8": ("010101000401017401ff00", "not UTF-8"),
    "text with an encoded surrogate": ("010101000401017403eda08000", "not UTF-8"),
    "root name that is not UTF-8": ("01010100040101ff016100", "not UTF-8"),
    "mark name that is not UTF-8": ("010101000601017401ff047472756500", "not UTF-8"),
    "element name that is not UTF-8": ("01010100070101740301ff00", "not UTF-8"),
    "embed that is not JSON": ("0101010005010174027b7b00", "not JSON"),
    "embed of NaN (browsers throw)": ("0101010005010174034e614e00", "not JSON"),
    "embed of 1e999 (pycrdt raises)": ("010101000501017405316539393900", "not JSON"),
    "embed of half a pair (pycrdt raises)": ("010101000501017408225c75643830302200", "not JSON"),
    "text longer than the update": ("01010100040101740a6100", "ends too early"),
    "bytes after the end": ("010101000401017401610000", "bytes follow"),
    "update v2": (
        "0000024102030010040007010084008100841511636f6e74656e746e652074776f2074656507080201010002010201040001010200000801",
        "bytes follow",
    ),
    "structs that wait for each other": (
        "020101008402000161010200840100016100",
        "wait for each other",
    ),
}


def trace(name: str) -> Any:
    return json.loads(gzip.decompress((TRACES / f"{name}.json.gz").read_bytes()))


def hello(client: int = 1, text: str = "hello") -> bytes:
    doc: Doc = Doc(client_id=client)
    doc.get("t", type=Text).insert(0, text)
    return doc.get_update()


def advance(clocks: dict[int, int], reached: dict[int, int]) -> None:
    for client, clock in reached.items():
        clocks[client] = max(clock, clocks.get(client, 0))


def typed(txns: list[Any], agents: int) -> Iterator[bytes]:
    """The updates of a trace, each made by its author's own doc, which has seen just the parents."""
    docs: list[Doc] = [Doc(client_id=2_147_483_648 + agent) for agent in range(agents)]
    texts = [doc.get("content", type=Text) for doc in docs]
    updates: list[bytes] = []
    seen: list[set[int]] = [set() for _ in docs]
    box: list[bytes] = []
    keep = [doc.observe(lambda event: box.append(event.update)) for doc in docs]
    for index, txn in enumerate(txns):
        agent = txn.get("agent", 0)
        stack, lacking = list(txn.get("parents", ())), []
        while stack:
            parent = stack.pop()
            if parent not in seen[agent]:
                seen[agent].add(parent)
                lacking.append(parent)
                stack += txns[parent]["parents"]
        for parent in sorted(lacking):
            docs[agent].apply_update(updates[parent])
        box.clear()
        with docs[agent].transaction():
            for position, deleted, inserted in txn["patches"]:
                if deleted:
                    del texts[agent][position : position + deleted]
                if inserted:
                    texts[agent].insert(position, inserted)
        seen[agent].add(index)
        update = box[0] if box else b"\0\0"
        if "parents" in txn:
            updates.append(update)
        yield update
    for doc, subscription in zip(docs, keep, strict=True):
        doc.unobserve(subscription)


def contents(updates: list[bytes]) -> tuple[Any, ...]:
    doc: Doc = Doc()
    text = doc.get("content", type=Text)
    for update in updates:
        doc.apply_update(update)
    return (
        [{"insert": chunk} | ({"attributes": marks} if marks else {}) for chunk, marks in text.diff()],
        doc.get("map", type=Map).to_py(),
        doc.get("list", type=Array).to_py(),
        str(doc.get("xml", type=XmlFragment)),
    )


# What is refused


@pytest.mark.parametrize(("data", "reason"), REFUSED.values(), ids=REFUSED)
def test_hostile_update_is_refused_with_a_reason(data: str, reason: str) -> None:
    with pytest.raises(UpdateError, match=reason):
        check(bytes.fromhex(data), {})


def test_every_truncation_of_an_honest_update_is_refused() -> None:
    update = base64.b64decode(trace("yjs-rich")[0]["state"])[:600]
    for length in range(len(update)):
        with pytest.raises(UpdateError):
            check(update[:length], {})


def test_half_of_a_pair_known_as_something_else_is_refused() -> None:
    update = hello(5, "🎉")
    assert check(update, {}).missing is None
    assert check(update, {5: 2}).missing is None
    with pytest.raises(UpdateError, match="half of a character"):
        check(update, {5: 1})


def test_mutations_of_honest_updates_raise_nothing_but_update_error() -> None:
    rng = random.Random(7)
    honest = [base64.b64decode(u) for document in trace("yjs-rich") for u in document["updates"]]
    verdicts = {True: 0, False: 0}
    for _ in range(20_000):
        data = bytearray(rng.choice(honest))
        for _ in range(rng.choice((1, 1, 2, 4))):
            what, at = rng.randrange(5), rng.randrange(len(data))
            if what == 0:
                data[at] ^= 1 << rng.randrange(8)
            elif what == 1:
                data[at] = rng.choice((0, 1, 127, 128, 255))
            elif what == 2:
                data = data[:at] + bytearray(rng.choice(honest))[at:]
            elif what == 3:
                data[at:at] = rng.randbytes(rng.randint(1, 5))
            else:
                del data[at : at + rng.randint(1, 3)]
            data = data or bytearray(b"\0")
        for function in (lambda d: check(d, {}), before_skips, lambda d: split(d, 20), Surrogates().split_by):
            try:
                function(bytes(data))
                verdicts[True] += 1
            except UpdateError:
                verdicts[False] += 1
        try:
            state_vector(bytes(data))
        except UpdateError:
            pass
    assert min(verdicts.values()) > 1000


# The short path of ``check`` against the whole grammar


def same_verdict(update: bytes, clocks: dict[int, int]) -> str:
    """Assert that the short path says what the grammar says, or nothing; which of both it was."""
    short = _check_keystroke(update, clocks)
    if short is None:
        try:
            _check_any(update, clocks)
        except UpdateError:
            return "refused"
        return "left"
    try:
        whole = _check_any(update, clocks)
    except UpdateError as error:
        raise AssertionError(f"{update.hex()} with {clocks} is refused: {error}") from None
    assert short == whole, (update.hex(), clocks)
    assert type(short) is Checked
    return "taken"


def number(rng: random.Random, value: int) -> bytes:
    """A varint, now and then with more bytes than it needs."""
    out = bytearray()
    padding = rng.choice((1, 2)) if rng.random() < 0.02 else 0
    while value > 127 or padding:
        padding -= value <= 127
        out.append(value & 127 | 128)
        value >>= 7
    return bytes((*out, value))


IDS = (1, 127, 128, 2**28 - 1, 2**28, 3_123_456_789, 2**32 - 1, 2**35 - 1, 2**35, 2**53 - 1, 2**53)
CLOCKS = (0, 1, 3, 126, 127, 128, 16_383, 16_384, 2**21 - 1, 2**21, 2**31 - 3, 2**31 - 1, 2**31)
WORDS = ("a", "b", "word", "é", "漢字", "\ufffd", "🎉", "a🎉b", "", "x" * 127, "x" * 128, "é" * 100)


def keystroke(rng: random.Random) -> tuple[bytes, dict[int, int]]:
    """What a person's client sends, and the clocks it was made for, both often wrong by a little."""
    plain = rng.random() < 0.6
    ids = rng.sample(IDS[4:7] if plain else IDS, 3)
    clocks = {client: rng.choice(CLOCKS[1:10] if plain else CLOCKS) for client in ids}
    own = ids[0]

    def near(value: int) -> int:
        return max(0, value if rng.random() < 0.9 else value + rng.choice((-2, -1, 1, 2)))

    def string(value: str) -> bytes:
        return number(rng, len(value.encode())) + value.encode()

    out = bytearray(b"\0")
    if rng.random() < 0.8:
        count = rng.choice((1, 1, 1, 1, 1, 1, 2, 3, 10, 0))
        clock = near(clocks[own])
        out = bytearray(number(rng, 1) + number(rng, count) + number(rng, own) + number(rng, clock))
        for _ in range(count):
            flags = rng.choice((132, 132, 196, 196, 68, 4)) | (0 if rng.random() < 0.98 else 32)
            out.append(flags)
            for flag in (128, 64):
                if flags & flag:
                    client = rng.choice((own, own, ids[1]))
                    out += number(rng, client)
                    out += number(rng, near((clock if client == own else clocks[client]) - 1))
            if not flags & 192:
                if rng.random() < 0.9:
                    out += b"\1" + string(rng.choice(("content", "é", "")))
                else:
                    out += b"\0" + number(rng, own) + number(rng, near(clock - 1))
                if flags & 32:
                    out += string("key")
            text = rng.choice(WORDS[:5] if rng.random() < 0.9 else WORDS)
            out += string(text)
            clock += len(text.encode("utf-16-le")) // 2
    gone = rng.sample(ids, rng.choice((0, 0, 1) if len(out) > 1 else (0, 1, 1, 1, 1, 1, 2)))
    out += number(rng, len(gone))
    for client in gone:
        ranges = rng.choice((1, 1, 1, 2, 3, 0))
        out += number(rng, client) + number(rng, ranges)
        for _ in range(ranges):
            length = rng.choice((1, 1, 1, 5, 200, 0))
            out += number(rng, near(max(0, clocks[client] - length))) + number(rng, length)
    return bytes(out), clocks


def test_short_path_agrees_with_the_grammar_on_keystrokes_and_their_mutations() -> None:
    rng = random.Random(11)
    verdicts = {"taken": 0, "left": 0, "refused": 0}
    pool = []
    for update, clocks in (keystroke(rng) for _ in range(20_000)):
        verdict = same_verdict(update, clocks)
        verdicts[verdict] += 1
        if verdict == "taken":
            pool.append((update, clocks))
    assert verdicts["taken"] > 8_000, verdicts
    assert verdicts["left"] > 2_000, verdicts
    verdicts = dict.fromkeys(verdicts, 0)
    for _ in range(100_000):
        update, clocks = rng.choice(pool)
        data = bytearray(update)
        for _ in range(rng.choice((1, 1, 1, 2))):
            what, at = rng.choice((0, 0, 0, 1, 2, 2, 3, 4, 5, 5)), rng.randrange(len(data))
            if what == 0:
                data[at] ^= 1 << rng.randrange(8)
            elif what == 1:
                data[at] = rng.choice((0, 1, 4, 127, 128, 132, 255))
            elif what == 2:
                data[at:] = rng.choice(pool)[0][at:]
            elif what == 3:
                data[at:at] = rng.randbytes(rng.choice((1, 1, 2)))
            elif what == 4:
                del data[at:]
            else:
                data[at] = data[at] + rng.choice((-1, 1)) & 255
            data = data or bytearray(b"\0")
        verdicts[same_verdict(bytes(data), clocks)] += 1
    assert min(verdicts.values()) > 5_000, verdicts


@pytest.mark.parametrize("data", [data for data, _ in REFUSED.values()], ids=REFUSED)
def test_short_path_takes_nothing_hostile(data: str) -> None:
    assert same_verdict(bytes.fromhex(data), {}) == "refused"
    same_verdict(bytes.fromhex(data), {1: 5, 2: 9})
    same_verdict(bytes.fromhex(data), {1: 2**31 - 1, 2: 2**31 - 1})


def test_short_path_knows_its_own_id_though_written_with_needless_bytes() -> None:
    update = bytes.fromhex("0101" + "959ab3d18b00" + "01" + "84" + "959ab3d10b" + "02" + "0161" + "00")
    (client,) = _check_any(update.replace(b"\x02\x01a", b"\x00\x01a"), {0: 0}).clocks
    assert same_verdict(update, {client: 5}) == "refused"
    assert same_verdict(update.replace(b"\x02\x01a", b"\x00\x01a"), {client: 5}) == "taken"


@pytest.mark.parametrize("name", ["automerge-paper-prefix", "friendsforever-prefix"])
def test_short_path_takes_almost_all_that_people_type(name: str) -> None:
    recorded = trace(name)
    clocks: dict[int, int] = {}
    verdicts = {"taken": 0, "left": 0}
    for update in typed(recorded["txns"], recorded.get("numAgents", 1)):
        verdicts[same_verdict(update, clocks)] += 1
        advance(clocks, check(update, clocks).clocks)
    assert verdicts["taken"] > 100 * verdicts["left"], verdicts


def test_short_path_agrees_with_the_grammar_on_rich_documents_and_split_pairs() -> None:
    verdicts = {"taken": 0, "left": 0}
    for document in trace("yjs-rich") + trace("yjs-surrogates"):
        clocks: dict[int, int] = {}
        for encoded in document["updates"]:
            update = base64.b64decode(encoded)
            verdicts[same_verdict(update, clocks)] += 1
            advance(clocks, check(update, clocks).clocks)
    assert min(verdicts.values()) > 100, verdicts


# What is missing


def test_next_keystroke_extends_its_client_and_misses_nothing() -> None:
    keystroke = bytes.fromhex("01010105840104012100")
    checked = check(keystroke, {1: 5, 2: 9})
    assert checked == ({1: 6}, (1,), [], None, False, False, False)


def test_update_sent_again_extends_nobody() -> None:
    assert check(hello(), {1: 5}).extends == ()
    assert check(hello(), {1: 3}).extends == (1,)


def test_forged_clocks_of_a_colleague_show_whom_they_extend() -> None:
    assert check(bytes.fromhex("01010105840104012100"), {1: 5, 2: 9}).extends == (1,)


@pytest.mark.parametrize(
    ("data", "missing"),
    [
        pytest.param("0101010a840109016100", {1: 10}, id="a gap in the own clocks"),
        pytest.param("01010300840205016100", {2: 6}, id="an unknown origin"),
        pytest.param("01010300440205016100", {2: 6}, id="an unknown right origin"),
        pytest.param("0101030004000205016100", {2: 6}, id="an unknown parent"),
        pytest.param("000101010501", {1: 6}, id="a deletion of the next character"),
        pytest.param("000101010064", {1: 100}, id="a deletion of the colleague's future typing"),
        pytest.param("000109010001", {9: 1}, id="a deletion by an unknown client"),
        pytest.param("0301010a84010901610102008401090161010400000200", {1: 10}, id="three"),
    ],
)
def test_dependency_on_what_is_not_here_is_reported(data: str, missing: dict[int, int]) -> None:
    checked = check(bytes.fromhex(data), {1: 5})
    assert checked.missing == missing
    reached = {1: 5} | missing
    assert check(bytes.fromhex(data), reached).missing is None


def test_dependency_inside_the_same_update_is_not_missing() -> None:
    both = bytes.fromhex("0201020084010001620101000401017401610102010001")
    assert check(both, {}).missing is None
    assert check(both, {}).deletes


def test_update_with_missing_is_still_read_to_the_end() -> None:
    with pytest.raises(UpdateError, match="bytes follow"):
        check(bytes.fromhex("0101010a84010901610000"), {1: 5})


def test_held_updates_of_a_real_trace_end_in_its_text_once_their_gaps_close() -> None:
    recorded = trace("friendsforever-prefix")
    updates = list(typed(recorded["txns"][:3000], recorded["numAgents"]))
    rng = random.Random(3)
    for start in range(0, len(updates), 20):
        window = updates[start : start + 20]
        rng.shuffle(window)
        updates[start : start + 20] = window
    doc: Doc = Doc()
    text = doc.get("content", type=Text)
    clocks: dict[int, int] = {}
    held: list[bytes] = []
    times_held = 0
    for update in updates:
        held.append(update)
        waiting = True
        while waiting:
            waiting = False
            for candidate in list(held):
                checked = check(candidate, clocks)
                if checked.missing is None:
                    doc.apply_update(candidate)
                    advance(clocks, checked.clocks)
                    held.remove(candidate)
                    waiting = True
        times_held += len(held)
    in_order: Doc = Doc()
    expected = in_order.get("content", type=Text)
    for update in typed(recorded["txns"][:3000], recorded["numAgents"]):
        in_order.apply_update(update)
    assert not held
    assert times_held > 1000
    assert str(text) == str(expected)
    assert clocks == state_vector(doc.get_state())


# What is honest


@pytest.mark.parametrize("name", ["automerge-paper-prefix", "friendsforever-prefix"])
def test_real_trace_typed_keystroke_by_keystroke_passes(name: str) -> None:
    recorded = trace(name)
    doc: Doc = Doc()
    text = doc.get("content", type=Text)
    clocks: dict[int, int] = {}
    for update in typed(recorded["txns"], recorded.get("numAgents", 1)):
        checked = check(update, clocks)
        assert checked.missing is None
        assert not checked.skips
        advance(clocks, checked.clocks)
        doc.apply_update(update)
    assert str(text) == recorded["endContent"]
    assert clocks == state_vector(doc.get_state())
    assert check(doc.get_update(), {}).clocks == clocks


@pytest.mark.parametrize("number", range(8))
def test_rich_documents_of_yjs_pass_update_by_update_and_whole(number: int) -> None:
    document = trace("yjs-rich")[number]
    clocks: dict[int, int] = {}
    for update in document["updates"]:
        checked = check(base64.b64decode(update), clocks)
        assert checked.missing is None
        advance(clocks, checked.clocks)
    whole = check(base64.b64decode(document["state"]), {})
    assert whole.missing is None
    assert whole.clocks == clocks


def test_string_with_an_emoji_in_an_array_passes_though_pycrdt_must_never_read_it() -> None:
    checked = check(bytes.fromhex("010101000401016104f09f8e8900"), {})
    assert checked.missing is None
    assert checked.surrogates


def test_surrogates_are_told_only_for_texts_above_the_basic_plane() -> None:
    assert not check(hello(1, "é漢\ufffd"), {}).surrogates
    assert check(hello(1, "é🎉"), {}).surrogates
    assert check(hello(1, "é🎉"), {}).clocks == {1: 3}


# Skips: yjs 13.6 encodes a doc that lacks the middle one of three updates of client 1

SKIPPING = "02010200040107636f6e74656e74056d696e65200401000101" + (
    "07636f6e74656e7401840100036e65200a0484010705746872656501010200010902"
)


def test_skip_is_missing_until_its_end_is_reached() -> None:
    data = bytes.fromhex(SKIPPING)
    checked = check(data, {})
    assert checked.skips
    assert checked.clocks == {2: 5, 1: 13}
    assert checked.missing == {1: 8}
    assert check(data, {1: 8}).missing is None


def test_before_skips_keeps_what_comes_before_and_every_deletion() -> None:
    kept = before_skips(bytes.fromhex(SKIPPING))
    checked = check(kept, {})
    assert not checked.skips
    assert checked.clocks == {2: 5, 1: 4}
    assert checked.missing == {1: 11}  # the sender deletes two of the characters that were cut
    assert check(kept, {1: 11}).missing is None
    assert kept.endswith(bytes.fromhex("01010200010902"))


def test_before_skips_leaves_other_updates_as_they_are() -> None:
    for update in trace("yjs-rich")[1]["updates"]:
        assert before_skips(base64.b64decode(update)) == base64.b64decode(update)


def test_section_that_begins_with_a_skip_is_dropped() -> None:
    assert before_skips(bytes.fromhex("010201000a05840104016100")) == b"\0\0"


# State vectors


def test_state_vector_reads_what_pycrdt_and_itself_write() -> None:
    doc: Doc = Doc(client_id=4_294_967_295)
    doc.get("t", type=Text).insert(0, "x" * 300)
    assert state_vector(doc.get_state()) == {4_294_967_295: 300}
    clocks = {1: 0, 2**53 - 1: 2**31 - 1, 7: 128}
    assert state_vector(encode_state_vector(clocks)) == clocks
    assert encode_state_vector({}) == b"\0"


@pytest.mark.parametrize(
    "data",
    [
        pytest.param("", id="empty"),
        pytest.param("808080808080808020", id="memory bomb of nine bytes"),
        pytest.param("808080080101", id="count beyond the bytes"),
        pytest.param("0101", id="cut short"),
        pytest.param("01010100", id="bytes after the end"),
        pytest.param("0201010102", id="a client twice"),
        pytest.param("01808080808080801001", id="client of 2**53"),
        pytest.param("01018080808008", id="clock of 2**31"),
        pytest.param("ff" * 1000, id="a number without end"),
    ],
)
def test_hostile_state_vector_is_refused(data: str) -> None:
    with pytest.raises(UpdateError):
        state_vector(bytes.fromhex(data))


# Slices


@pytest.mark.parametrize("limit", [1, 50, 300, 1000])
@pytest.mark.parametrize("number", range(8))
def test_parts_give_the_document_that_yjs_wrote(number: int, limit: int) -> None:
    document = trace("yjs-rich")[number]
    state = base64.b64decode(document["state"])
    parts = split(state, limit)
    assert len(parts) > 1
    clocks: dict[int, int] = {}
    for part in parts:
        checked = check(part, clocks)
        assert checked.missing is None
        assert len(part) <= limit + 40 or part[:2] == b"\1\1"
        advance(clocks, checked.clocks)
    assert clocks == check(state, {}).clocks
    assert sum(bool(check(part, clocks).deletes) for part in parts) >= 1
    text, inner, items, xml = contents(parts)
    assert (text, inner, items) == (document["text"], document["map"], document["list"])
    assert xml == contents([state])[3]


def test_update_within_the_limit_is_not_split() -> None:
    assert split(hello(), 1000) == [hello()]


def test_split_keeps_a_struct_larger_than_the_limit_whole() -> None:
    update = hello(1, "x" * 5000)
    assert split(update, 100) == [update]


def test_joined_update_says_the_same_in_fewer_bytes() -> None:
    typed: list[bytes] = []
    rng = random.Random(3)
    author: Doc[Any] = Doc()
    text = author.get("content", type=Text)
    author.observe(lambda event: typed.append(event.update))
    for _ in range(60):
        shown = str(text)
        at = len(shown[: rng.randint(0, len(shown))].encode())
        for piece in rng.choice(("plain words", "漢é🎉👍🏽 mixed", "x")):
            text.insert(at, piece)
            at += len(piece.encode())
        if rng.random() < 0.4:
            del text[at - len(piece.encode()) : at]
    merged = merge_updates(*typed)
    joined = join(merged)
    assert len(joined) < len(merged) / 3
    assert check(joined, {})._replace(surrogates=False) == check(merged, {})._replace(surrogates=False)
    reader: Doc[Any] = Doc()
    reader.apply_update(joined)
    assert str(reader.get("content", type=Text)) == str(text)
    assert reader.get_state() == author.get_state()
    assert join(joined) == joined
    late: Doc[Any] = Doc()  # it knows a part, which ends within what was joined
    for update in typed[: len(typed) // 2]:
        late.apply_update(update)
    late.apply_update(joined)
    assert str(late.get("content", type=Text)) == str(text)


@pytest.mark.parametrize("number", range(8))
def test_join_of_updates_by_yjs_gives_the_document_that_yjs_wrote(number: int) -> None:
    document = trace("yjs-rich")[number]
    merged = merge_updates(*map(base64.b64decode, document["updates"]))
    joined = join(merged)
    text, inner, items, xml = contents([joined])
    assert (text, inner, items) == (document["text"], document["map"], document["list"])
    assert xml == contents([merged])[3]
    assert check(joined, {}) == check(merged, {})


def test_split_slices_a_large_delete_set() -> None:
    ranges = b"".join(bytes((2 * clock, 1)) for clock in range(60))
    data = bytes((1, 1, 1, 0, 0, 127)) + bytes((1, 1, 60)) + ranges
    parts = split(data, 100)
    assert parts[0] == bytes((1, 1, 1, 0, 0, 127, 0))
    assert len(parts) > 6
    assert b"".join(part[4:] for part in parts[1:]) == ranges


def test_contradicting_update_that_has_no_order_stays_whole() -> None:
    ring = bytes.fromhex("020101008402000161010200840100016100")
    assert check(ring, {1: 1}).missing is None  # client 1 is known, so only client 2 waits
    assert split(ring, 5) == [ring]


# Surrogate pairs


EMOJI = "01010500040107636f6e74656e740661f09f8e896200"  # yjs, client 5: "a🎉b", the pair at clocks 1 and 2


@pytest.mark.parametrize(
    "data",
    [
        pytest.param("01010504c405010502015800", id="insert inside the pair"),
        pytest.param("01010600840501015800", id="origin is the first half"),
        pytest.param("01010600440502015800", id="right origin is the second half"),
        pytest.param("000105010101", id="delete the first half"),
        pytest.param("000105010201", id="delete the second half"),
        pytest.param("000105010002", id="delete up to the middle"),
        pytest.param("0101050284050103efbfbd00", id="a struct that begins at the second half"),
        pytest.param("01010500000200", id="a GC that ends in the middle"),
        pytest.param("0101050484050303efbfbd00", id="a replacement character"),
    ],
)
def test_edit_that_splits_a_pair_is_noticed(data: str) -> None:
    pairs = Surrogates()
    assert not pairs
    pairs.add(bytes.fromhex(EMOJI))
    assert pairs
    check(bytes.fromhex(data), {5: 4, 6: 0})
    assert pairs.split_by(bytes.fromhex(data))


@pytest.mark.parametrize(
    "data",
    [
        pytest.param("01010504c405000501015800", id="insert before"),
        pytest.param("01010505c405020503015900", id="insert after"),
        pytest.param("000105010102", id="delete the whole pair"),
        pytest.param("0101060044050004f09f8e8800", id="another emoji in front"),
        pytest.param("01010600840503017800", id="another client behind it"),
        pytest.param(EMOJI, id="the same update again"),
    ],
)
def test_edit_that_keeps_pairs_whole_is_not_accused(data: str) -> None:
    pairs = Surrogates()
    pairs.add(bytes.fromhex(EMOJI))
    assert not pairs.split_by(bytes.fromhex(data))


def test_update_that_splits_its_own_pair_is_noticed() -> None:
    own = bytes.fromhex("01010500040107636f6e74656e740661f09f8e89620105010201")
    assert Surrogates().split_by(own)


def test_every_split_by_yjs_is_noticed_and_every_other_text_survives_a_state_made_by_pycrdt() -> None:
    torn = unharmed = 0
    for recorded in trace("yjs-surrogates"):
        pairs = Surrogates()
        clocks: dict[int, int] = {}
        doc: Doc = Doc()
        doc.get("content", type=Text)
        said = False
        for encoded in recorded["updates"]:
            update = base64.b64decode(encoded)
            checked = check(update, clocks)
            assert checked.missing is None
            if pairs or checked.surrogates:
                said = pairs.split_by(update) or said
                pairs.add(update)
            advance(clocks, checked.clocks)
            doc.apply_update(update)
        torn += recorded["torn"]
        assert said or not recorded["torn"]
        if not said:
            unharmed += 1
            again: Doc = Doc()
            text = again.get("content", type=Text)
            again.apply_update(doc.get_update())
            assert str(text) == base64.b64decode(recorded["text"]).decode("utf-16-le")
            assert state_vector(again.get_state()) == clocks
        if recorded["whole"]:
            assert not said
    assert torn >= 100
    assert unharmed >= 100


# Shared types inside shared types


def test_shared_types_may_nest_so_deep_and_no_deeper() -> None:
    Nesting([]).add(written(section(9, 0, *nested(MAX_NESTING + 1, MAP))))
    with pytest.raises(UpdateError, match="nested deeper"):
        Nesting([]).add(written(section(9, 0, *nested(MAX_NESTING + 2, MAP))))


@pytest.mark.parametrize("loaded", [0, 1, 50, MAX_NESTING])
def test_nesting_is_counted_over_many_updates_whatever_was_loaded(loaded: int) -> None:
    chain = [written(section(9, clock, one)) for clock, one in enumerate(nested(MAX_NESTING + 2, MAP))]
    nesting = Nesting(chain[:loaded])
    for update in chain[loaded:-1]:
        nesting.add(update)
    with pytest.raises(UpdateError, match="nested deeper"):
        nesting.add(chain[-1])


def test_nesting_is_counted_where_only_an_origin_tells_the_parent() -> None:
    nesting = Nesting([])
    chain = chained(MAX_NESTING + 1)
    for update in chain[:-2]:
        nesting.add(update)
    with pytest.raises(UpdateError, match="nested deeper"):
        nesting.add(chain[-2])


def test_nesting_cannot_be_hidden_in_a_struct_that_overlaps_what_is_here() -> None:
    deep = written(section(9, 0, *nested(MAX_NESTING + 1, MAP)))
    letter = bytes((4, 0, 9)) + bytes((MAX_NESTING,)) + b"\x01x"  # within the deepest
    nesting = Nesting([deep])
    with pytest.raises(UpdateError, match="nested deeper"):
        nesting.add(written(section(9, MAX_NESTING + 1, letter)))
    nesting = Nesting([written(section(9, 0, *nested(MAX_NESTING, MAP)))])
    end = MAX_NESTING
    nesting.add(written(section(9, end, bytes((4, 0, 9, end - 1)) + b"\x01x")))
    # The same letter again, said to be in a root, with a shared type behind it.
    nesting.add(written(section(9, end, b"\x04\x01\x01t\x02xy", bytes((7, 0, 9, end - 1, 0)))))
    with pytest.raises(UpdateError, match="nested deeper"):
        nesting.add(written(section(9, end + 3, bytes((4, 0, 9, end + 2)) + b"\x01x")))


def test_rich_documents_of_yjs_nest_less_than_the_limit_and_are_all_taken() -> None:
    taken = 0
    for recorded in trace("yjs-rich"):
        nesting = Nesting([])
        for encoded in recorded["updates"]:
            nesting.add(base64.b64decode(encoded))
            taken += 1
    assert taken > 500
