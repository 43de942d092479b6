"""The promises of collab/room.py, R1 to R6, on an in-memory link flushed by hand."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import permutations
from typing import Any

import hostile
import pytest
from pycrdt import Array, Doc, Text
from wire import Bench, Wire

from collab import document, protocol
from collab.errors import StorageUnavailable, UpdateError
from collab.hocuspocus import HOCUSPOCUS, REFUSED, SAVED
from collab.log import Loaded, Origin
from collab.protocol import Y_WEBSOCKET, SyncStep1, SyncStep2, Update
from collab.room import BATCH_BYTES, CONTEST_SECONDS, READ_ONLY, RETRY_COUNT, Room
from collab.session import HOLD_COUNT, HOLD_SECONDS, OUTBOX_LIMIT, STREAM_WINDOW, Session

EMPTY_SV = b"\x00"


class Typist:
    """A doc whose local edits come out as updates, like a Yjs client's."""

    def __init__(self, client: int) -> None:
        self.doc: Doc[Any] = Doc(client_id=client)
        self.text = self.doc.get("content", type=Text)

    def type(self, at: int, words: str) -> bytes:
        before = self.doc.get_state()
        self.text.insert(at, words)
        return self.doc.get_update(before)

    def erase(self, start: int, stop: int) -> bytes:
        before = self.doc.get_state()
        del self.text[start:stop]
        return self.doc.get_update(before)

    def take(self, wire: Wire) -> None:
        for message in decoded(wire):
            if isinstance(message, SyncStep2 | Update):
                self.doc.apply_update(message.update)


def decoded(wire: Wire) -> list[protocol.Message]:
    return [message for frame in wire.take() for message in protocol.decode(frame)]


def greet(
    bench: Bench, actor: str = "", *, writes: bool = True, dialect: protocol.Dialect = Y_WEBSOCKET
) -> tuple[Session, Wire]:
    """Join and have the empty state vector answered; the wire is empty after it."""
    session, wire = bench.join(actor, writes=writes, dialect=dialect)
    bench.room.receive(session, protocol.encode_step1(EMPTY_SV))
    wire.take()
    return session, wire


def send(bench: Bench, session: Session, update: bytes) -> None:
    bench.room.receive(session, protocol.encode_update(update))


def updates(wire: Wire) -> list[bytes]:
    return [message.update for message in decoded(wire) if isinstance(message, Update)]


def test_a_session_is_greeted_with_step_1_and_answered_with_step_2() -> None:
    bench = Bench()
    session, wire = bench.join()
    assert decoded(wire) == [SyncStep1(EMPTY_SV)]
    bench.room.receive(session, protocol.encode_step1(EMPTY_SV))
    assert decoded(wire) == [SyncStep2(document.EMPTY_UPDATE)]


def test_a_provider_hears_our_step_1_with_the_answer_to_each_of_its_own() -> None:
    """It counts from 1 again whenever it sends one, until the step 2 that ours brings is acknowledged."""
    bench = Bench()
    session, wire = bench.join(dialect=HOCUSPOCUS)
    assert not wire.messages
    for _ in range(2):
        bench.room.receive(session, protocol.encode_step1(EMPTY_SV))
        assert decoded(wire) == [SyncStep1(EMPTY_SV), SyncStep2(document.EMPTY_UPDATE)]
    send(bench, session, Typist(1).type(0, "hello"))
    bench.room.receive(session, protocol.encode_step1(EMPTY_SV))  # its answer waits for the commit
    bench.room.receive(session, protocol.encode_step1(EMPTY_SV))
    assert len(decoded(wire)) == 2


def test_a_provider_has_each_update_answered_once_and_in_order_after_its_commit() -> None:
    bench = Bench()
    session, wire = bench.join(dialect=HOCUSPOCUS)
    bench.room.receive(session, protocol.encode_step1(EMPTY_SV))
    wire.take()
    typist = Typist(1)
    first, second, third = typist.type(0, "a"), typist.type(1, "b"), typist.type(2, "c")
    send(bench, session, first)
    send(bench, session, third)  # waits for the second
    bench.room.receive(session, protocol.encode_step2(first))
    assert SAVED not in wire.messages
    bench.commit()
    assert wire.take().count(SAVED) == 1
    send(bench, session, second)
    bench.commit()
    assert wire.take().count(SAVED) == 3
    send(bench, session, first)
    assert wire.take() == [SAVED]


def test_a_living_provider_that_hears_that_it_is_gone_is_asked_who_it_is() -> None:
    """@hocuspocus/provider 4 would keep to itself that it is not, until it renews its presence."""
    bench = Bench()
    presence = protocol.encode_awareness(b"\x01\x07\x01\x02{}")
    first, _ = bench.join(dialect=HOCUSPOCUS)
    bench.room.receive(first, presence)
    bench.room.leave(first)
    again, wire = bench.join(dialect=HOCUSPOCUS)
    bench.room.receive(again, presence)
    assert wire.take() == [protocol.encode_awareness(b"\x01\x07\x01\x04null"), protocol.WHO_IS_HERE]


def test_r1_an_update_is_told_only_after_its_commit_and_to_its_author_too() -> None:
    bench = Bench()
    (author, author_wire), (_, other_wire) = greet(bench), greet(bench)
    update = Typist(1).type(0, "hello")
    send(bench, author, update)
    assert not author_wire.messages
    assert not other_wire.messages
    bench.commit()
    assert updates(author_wire) == [update]
    assert updates(other_wire) == [update]
    assert [entry.data for entry in bench.log.entries["d"]] == [update]


def test_r1_a_joiner_is_answered_only_when_what_the_answer_holds_is_durable() -> None:
    bench = Bench()
    author, _ = greet(bench)
    send(bench, author, Typist(1).type(0, "hello"))
    joiner, wire = bench.join()
    wire.take()
    bench.room.receive(joiner, protocol.encode_step1(EMPTY_SV))
    assert not wire.messages
    bench.commit()
    reader = Typist(2)
    reader.take(wire)
    assert str(reader.text) == "hello"


def test_r1_a_joiner_gets_what_was_typed_after_its_answer_was_made() -> None:
    bench = Bench()
    author, _ = greet(bench)
    typist, reader = Typist(1), Typist(2)
    send(bench, author, typist.type(0, "a"))
    joiner, wire = bench.join()
    bench.room.receive(joiner, protocol.encode_step1(EMPTY_SV))
    send(bench, author, typist.type(1, "b"))
    bench.commit()
    send(bench, author, typist.type(2, "c"))
    bench.commit()
    reader.take(wire)
    assert str(reader.text) == "abc"


def test_r1_an_acknowledgement_waits_for_the_commit() -> None:
    bench = Bench()
    author, wire = greet(bench)
    send(bench, author, Typist(1).type(0, "hello"))
    bench.room.receive(author, protocol.encode_sync_status(b"7"))
    assert not wire.messages
    bench.commit()
    assert decoded(wire)[-1] == protocol.SyncStatus(b"7")


def test_r1_an_acknowledgement_waits_for_what_another_sent_first() -> None:
    """A repeats what B sent a moment ago: nothing new, and yet durable only with B's commit."""
    bench = Bench()
    (a, wire), (b, _) = greet(bench), greet(bench)
    update = Typist(1).type(0, "hello")
    send(bench, b, update)
    send(bench, a, update)
    bench.room.receive(a, protocol.encode_sync_status(b"1"))
    assert not wire.messages
    bench.commit()
    assert protocol.SyncStatus(b"1") in decoded(wire)


def test_r1_an_acknowledgement_is_given_at_once_when_all_is_durable() -> None:
    bench = Bench()
    session, wire = greet(bench)
    bench.room.receive(session, protocol.encode_sync_status(b"x"))
    assert decoded(wire) == [protocol.SyncStatus(b"x")]


def test_r1_an_acknowledgement_waits_for_an_update_that_is_held() -> None:
    bench = Bench()
    session, wire = greet(bench)
    typist = Typist(1)
    first, second = typist.type(0, "a"), typist.type(1, "b")
    send(bench, session, second)
    bench.room.receive(session, protocol.encode_sync_status(b"2"))
    assert protocol.SyncStatus(b"2") not in decoded(wire)
    send(bench, session, first)
    assert protocol.SyncStatus(b"2") not in decoded(wire)
    bench.commit()
    assert protocol.SyncStatus(b"2") in decoded(wire)


def test_a_batch_is_told_as_one_merged_update() -> None:
    bench = Bench()
    (author, _), (_, wire) = greet(bench), greet(bench)
    typist, reader = Typist(1), Typist(2)
    for i, letter in enumerate("merged"):
        send(bench, author, typist.type(i, letter))
    bench.commit()
    assert len(wire.messages) == 1
    reader.take(wire)
    assert str(reader.text) == "merged"
    assert len(bench.log.entries["d"]) == 6


def test_a_failed_commit_acknowledges_nothing_and_sends_everyone_away() -> None:
    bench = Bench()
    author, wire = greet(bench)
    send(bench, author, Typist(1).type(0, "hello"))
    bench.room.receive(author, protocol.encode_sync_status(b"1"))
    bench.log.fail = 1
    assert isinstance(bench.commit(), StorageUnavailable)
    assert not wire.messages
    assert wire.closed == (1013, "the disk is full")
    assert bench.log.entries == {}


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (b"", "empty"),
        (b"\x00\x02\x05\x01", "payload"),
        (b"\x00\x07\x00", "sync step 7"),
        (b"\x00\x02" + b"\xff" * 9, "53 bits"),
        (b"\x00\x02\x03\x01\x01\x01", ""),
        (b"\x01\x03\x01\x01\x00", ""),
    ],
)
def test_r2_a_malformed_frame_ends_its_session_only(frame: bytes, reason: str) -> None:
    bench = Bench()
    (bad, bad_wire), (good, good_wire) = greet(bench), greet(bench)
    bench.room.receive(bad, frame)
    assert bad_wire.closed is not None
    assert bad_wire.closed[0] == 4400
    assert reason in bad_wire.closed[1]
    assert good_wire.closed is None
    send(bench, good, Typist(1).type(0, "still here"))
    bench.commit()
    assert bench.room.text() == (1, "still here")


def test_a_batch_has_a_bounded_number_of_bytes_and_the_next_takes_the_rest() -> None:
    bench = Bench()
    session, wire = greet(bench)
    typist = Typist(1)
    page = "x" * (BATCH_BYTES * 2 // 3)
    sent = [typist.type(n * len(page), page) for n in range(3)]
    for data in sent:
        send(bench, session, data)
    bench.room.receive(session, protocol.encode_sync_status(b"1"))
    for expected in (sent[:2], sent[2:]):
        assert protocol.SyncStatus(b"1") not in decoded(wire)
        batch = bench.room.take_pending()
        assert batch is not None
        assert [entry.data for entry in batch.entries] == expected
        bench.room.committed()
    assert protocol.SyncStatus(b"1") in decoded(wire)
    assert bench.room.text() == (3, page * 3)
    assert bench.room.uncommitted_bytes == 0


@pytest.mark.parametrize("pages", [0, 1], ids=["in the next batch", "in a later one"])
def test_r2_an_update_on_which_pycrdt_raises_costs_the_doc_and_the_sender(
    monkeypatch: pytest.MonkeyPatch, pages: int
) -> None:
    bench = Bench()
    (bad, bad_wire), (good, good_wire) = greet(bench), greet(bench)
    typist = Typist(1)
    kept = "kept" + "x" * BATCH_BYTES * pages
    send(bench, good, typist.type(0, "kept"))
    bench.commit()
    if pages:
        send(bench, good, typist.type(4, kept[4:]))
    send(bench, good, typist.type(len(kept), " pending"))

    evil = Typist(2).type(0, "evil")
    real = document.apply

    def apply(doc: Doc[Any], data: bytes) -> None:
        if data == evil:
            doc.get("content", type=Text).clear()  # half applied
            raise UpdateError("panicked")
        real(doc, data)

    def apply_batch(doc: Doc[Any], batch: Iterable[bytes]) -> None:
        for data in batch:
            apply(doc, data)

    monkeypatch.setattr(document, "apply", apply)
    monkeypatch.setattr(document, "apply_batch", apply_batch)
    send(bench, bad, evil)
    bench.room.receive(bad, protocol.encode_sync_status(b"never"))
    send(bench, good, typist.type(len(kept) + 8, " after"))
    bench.room.receive(good, protocol.encode_sync_status(b"1"))
    for _ in range(1 + pages):
        bench.commit()
    assert bad_wire.closed is not None
    assert good_wire.closed is None
    assert bench.room.text()[1] == f"{kept} pending after"
    assert protocol.SyncStatus(b"1") in decoded(good_wire)
    assert protocol.SyncStatus(b"never") not in decoded(bad_wire)
    assert [(e.seq, e.actor.id) for e in bench.log.entries["d"]] == [
        (n + 1, good.actor.id) for n in range(3 + pages)
    ]
    assert bench.stats.rebuilt > 0


def test_r2_what_depends_on_a_refused_update_sends_its_author_to_resync(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = Bench()
    bad, wire = greet(bench)
    typist = Typist(1)
    first, second = typist.type(0, "evil"), typist.type(4, " more")

    def panicking(*_: object) -> None:
        raise UpdateError("panicked")

    monkeypatch.setattr(document, "apply_batch", panicking)
    with monkeypatch.context() as patch:
        patch.setattr(document, "apply", panicking)
        send(bench, bad, first)
        send(bench, bad, second)
        assert bench.room.take_pending() is None
    assert wire.closed is not None
    assert bench.room.text() == (0, "")
    assert bench.room.uncommitted_bytes == 0


def test_r3_an_update_before_its_predecessor_waits_and_step_1_is_sent_again() -> None:
    bench = Bench()
    (session, wire), (_, other) = greet(bench), greet(bench)
    typist = Typist(1)
    first, second = typist.type(0, "a"), typist.type(1, "b")
    send(bench, session, second)
    assert decoded(wire) == [SyncStep1(EMPTY_SV)]
    assert bench.room.take_pending() is None
    send(bench, session, first)
    bench.commit()
    assert [e.data for e in bench.log.entries["d"]] == [first, second]
    reader = Typist(2)
    reader.take(other)
    assert str(reader.text) == "ab"


def test_r3_a_deletion_of_what_is_not_here_yet_waits() -> None:
    bench = Bench()
    session, _ = greet(bench)
    typist = Typist(1)
    first = typist.type(0, "abc")
    erased = typist.erase(0, 1)
    send(bench, session, erased)
    assert bench.room.take_pending() is None
    send(bench, session, first)
    bench.commit()
    assert bench.room.text() == (2, "bc")


def test_r3_what_waits_is_bounded_in_number_and_in_time() -> None:
    bench = Bench()
    (many, many_wire), (late, late_wire) = greet(bench), greet(bench)
    typist, other = Typist(1), Typist(2)
    typist.type(0, "never sent")
    for i in range(HOLD_COUNT + 1):
        send(bench, many, typist.type(i, "x"))
    assert many_wire.closed is not None
    assert many_wire.closed[0] == 4500
    other.type(0, "never sent")
    send(bench, late, other.type(0, "x"))
    bench.clock.now += HOLD_SECONDS - 1
    bench.room.sweep()
    assert late_wire.closed is None
    bench.clock.now += 2
    bench.room.sweep()
    assert late_wire.closed is not None
    assert late_wire.closed[0] == 4500
    assert bench.room.take_pending() is None


def test_updates_that_come_backwards_are_taken_a_few_at_a_time_and_all_of_them() -> None:
    """What waits for many others is not looked at again for each, and never holds up what others type."""
    bench = Bench()
    (backwards, wire), (other, _) = greet(bench), greet(bench)
    typist, words = Typist(1), "".join(chr(ord("a") + i % 26) for i in range(HOLD_COUNT))
    letters = [typist.type(i, letter) for i, letter in enumerate(words)]
    for letter in reversed(letters):
        send(bench, backwards, letter)
    bench.room.receive(backwards, protocol.encode_sync_status(b"all"))
    assert len(bench.room.pending) <= RETRY_COUNT + 1
    send(bench, other, Typist(2).type(0, "!"))
    batch = bench.room.take_pending()
    assert batch is not None
    bench.log.append_now([batch])
    bench.room.committed()
    assert protocol.SyncStatus(b"all") not in decoded(wire)
    bench.commit()
    assert not backwards.held
    assert bench.room.text()[1].replace("!", "") == words
    assert protocol.SyncStatus(b"all") in decoded(wire)


def test_all_that_waited_is_looked_at_again_even_when_it_leaves_nothing_to_commit() -> None:
    bench = Bench()
    (late, wire), (swift, _) = greet(bench), greet(bench)
    typist = Typist(1)
    letters = [typist.type(i, "x") for i in range(3 * RETRY_COUNT)]
    for letter in letters[1:]:
        send(bench, late, letter)
    bench.room.receive(late, protocol.encode_sync_status(b"all"))
    send(bench, swift, typist.doc.get_update())
    bench.commit()
    assert not late.held
    assert protocol.SyncStatus(b"all") in decoded(wire)
    assert len(bench.log.entries["d"]) == 1


def test_what_waits_for_several_goes_when_the_last_of_them_is_here_in_any_order() -> None:
    for order in permutations(range(3)):
        bench = Bench()
        waiting, _ = greet(bench)
        typists = [Typist(client) for client in (1, 2, 3)]
        needed = [typist.type(0, "abc"[i]) for i, typist in enumerate(typists)]
        last = Typist(4)
        for update in needed:
            last.doc.apply_update(update)
        send(bench, waiting, last.erase(0, 3))
        for i in order:
            assert waiting.held
            send(bench, waiting, needed[i])
        bench.commit()
        assert not waiting.held
        assert bench.room.text()[1] == ""


def test_nothing_is_kept_of_what_waited_when_its_sender_is_gone() -> None:
    bench = Bench()
    (gone, _), (stays, _) = greet(bench), greet(bench)
    typist = Typist(1)
    first, second = typist.type(0, "a"), typist.type(1, "b")
    for session in (gone, stays):
        send(bench, session, second)
    bench.room.leave(gone)
    assert not gone.held
    assert [session for waiting in bench.room._awaited.values() for *_, session in waiting] == [stays]
    send(bench, stays, first)
    bench.commit()
    assert bench.room.text()[1] == "ab"
    assert not bench.room._awaited


def test_r4_what_changes_nothing_costs_no_row() -> None:
    bench = Bench()
    session, wire = greet(bench)
    typist = Typist(1)
    typed, erased = typist.type(0, "abc"), typist.erase(0, 1)
    for _ in range(3):
        send(bench, session, typed)
        send(bench, session, erased)
    bench.room.receive(session, protocol.encode_step2(typist.doc.get_update()))
    bench.commit()
    assert len(bench.log.entries["d"]) == 2
    wire.take()
    bench.room.receive(session, protocol.encode_step2(typist.doc.get_update()))
    assert bench.room.take_pending() is None


def test_entries_say_who_and_how() -> None:
    bench = Bench()
    session, _ = greet(bench, "guest:ann")
    typist = Typist(77)
    send(bench, session, typist.type(0, "live"))
    bench.room.receive(session, protocol.encode_step2(typist.type(0, "offline ")))
    send(bench, session, typist.erase(0, 1))
    bench.commit()
    rows = bench.log.entries["d"]
    assert [(e.seq, e.actor.id, e.client, e.origin) for e in rows] == [
        (1, "guest:ann", 77, Origin.EDIT),
        (2, "guest:ann", 77, Origin.OFFLINE),
        (3, "guest:ann", 77, Origin.EDIT),
    ]


def test_r5_nobody_extends_a_client_id_that_is_another_sessions_own() -> None:
    bench = Bench()
    (victim, _), (squatter, squatter_wire) = greet(bench, "guest:v"), greet(bench, "guest:s")
    typist = Typist(1)
    send(bench, victim, typist.type(0, "mine"))
    forger = Typist(1)
    forger.doc.apply_update(typist.doc.get_update())
    send(bench, squatter, forger.type(0, "FORGED"))
    assert victim.link.probes == 1  # type: ignore[attr-defined]
    send(bench, victim, typist.type(4, " and safe"))
    bench.commit()
    assert bench.room.text()[1] == "mine and safe"
    assert squatter_wire.closed is None  # its update waits, then turns out to be known, or ends it


def test_r5_a_client_id_is_free_when_its_session_has_gone() -> None:
    """A laptop that comes back while its old socket is half open: its edits wait until that ends."""
    bench = Bench()
    old, _ = greet(bench, "guest:1")
    typist = Typist(1)
    send(bench, old, typist.type(0, "before"))
    new, _ = greet(bench, "guest:2")
    send(bench, new, typist.type(6, " after"))
    assert bench.room.text()[1] == "before"
    bench.room.leave(old)
    bench.commit()
    assert bench.room.text()[1] == "before after"


def test_the_same_actor_goes_on_with_its_client_id_on_a_newer_socket() -> None:
    bench = Bench()
    old, _ = greet(bench, "guest:a")
    typist = Typist(1)
    send(bench, old, typist.type(0, "before"))
    new, _ = greet(bench, "guest:a")
    send(bench, new, typist.type(6, " after"))
    assert bench.room.text()[1] == "before after"


def test_a_large_state_is_streamed_and_ended_by_a_step_2() -> None:
    bench, author = _large()
    session, wire = bench.join()
    wire.take()
    bench.room.receive(session, protocol.encode_step1(EMPTY_SV))
    messages = decoded(wire)
    assert len(messages) > 2
    assert all(isinstance(m, Update) for m in messages[:-1])
    assert messages[-1] == SyncStep2(document.EMPTY_UPDATE)
    assert session.live
    reader = Typist(2)
    for message in messages:
        reader.doc.apply_update(message.update)  # type: ignore[union-attr]
    assert str(reader.text) == str(author.text)


def test_a_slow_reader_of_a_large_state_gets_what_was_typed_meanwhile_at_its_end() -> None:
    bench, author = _large()
    writer, _ = greet(bench)
    slow, wire = bench.join()
    wire.take()
    reader = Typist(2)
    wire.unread = STREAM_WINDOW  # not one part goes out
    bench.room.receive(slow, protocol.encode_step1(EMPTY_SV))
    assert not wire.messages
    send(bench, writer, author.type(0, "typed meanwhile "))
    bench.commit()
    bench.room.rebase(*_snapshot_of(bench))
    send(bench, writer, author.type(0, "and more "))
    bench.commit()
    assert not wire.messages
    wire.unread = 0
    bench.room.drained(slow)
    assert isinstance(next(protocol.decode(wire.messages[-1])), SyncStep2)
    reader.take(wire)
    assert str(reader.text) == str(author.text)
    send(bench, writer, author.type(0, "live "))
    bench.commit()
    reader.take(wire)
    assert str(reader.text) == str(author.text)


def test_what_is_kept_for_a_slow_reader_of_a_large_state_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("collab.room.MISSED_BYTES", 1000)
    bench, author = _large()
    writer, writer_wire = greet(bench)
    slow, wire = bench.join()
    wire.unread = STREAM_WINDOW
    bench.room.receive(slow, protocol.encode_step1(EMPTY_SV))
    for _ in range(5):
        send(bench, writer, author.type(0, "x" * 300))
        bench.commit()
        bench.room.rebase(*_snapshot_of(bench))
    assert wire.closed is not None
    assert wire.closed[0] == 1013
    assert writer_wire.closed is None


def _large() -> tuple[Bench, Typist]:
    """A room whose state goes out in several messages, and who has written it."""
    author = Typist(1)
    for i in range(3000):
        author.type(i % 7, "some words that make it large, " * 10)
    bench = Bench()
    bench.room = _room_of(bench, author.doc.get_update())
    return bench, author


def _room_of(bench: Bench, base: bytes) -> Room:
    bench.log.entries["d"] = [None]  # type: ignore[list-item]
    bench.log.snapshots["d"] = (1, base)
    return Room(
        "d",
        Loaded(1, 1, base, []),
        stirred=lambda _: None,
        present=lambda _: None,
        stats=bench.stats,
        now=bench.clock,
    )


def test_a_reader_that_leaves_too_much_unread_is_sent_away() -> None:
    bench = Bench()
    (author, author_wire), (_, slow) = greet(bench), greet(bench)
    slow.unread = OUTBOX_LIMIT + 1
    send(bench, author, Typist(1).type(0, "hello"))
    bench.commit()
    assert slow.closed is not None
    assert slow.closed[0] == 1013
    assert author_wire.closed is None


def test_writers_are_not_read_while_too_much_waits_for_a_commit() -> None:
    bench = Bench()
    author, wire = greet(bench)
    typist = Typist(1)
    for i in range(3):
        send(bench, author, typist.type(0, f"{i}" * 500_000))
    assert not wire.reading
    bench.commit()
    assert wire.reading


def test_a_quiet_socket_hears_something_at_every_second_sweep_at_the_latest() -> None:
    bench = Bench()
    _, wire = greet(bench)
    bench.room.sweep()
    bench.room.sweep()
    assert protocol.KEEPALIVE in wire.take()


def test_presence_is_relayed_to_all_and_removed_with_its_socket() -> None:
    bench = Bench()
    (ann, ann_wire), (_, bob_wire) = greet(bench), greet(bench)
    state = protocol.encode_awareness(_presence((7, 1, b'{"user":{"name":"Ann"}}')))
    bench.room.receive(ann, state)
    bench.room.flush_presence()
    assert ann_wire.take() == [state]
    assert bob_wire.take() == [state]
    bench.room.leave(ann)
    bench.room.flush_presence()
    assert bob_wire.take() == [protocol.encode_awareness(_presence((7, 1, b"null")))]


def test_leave_keeps_client_ids_taken_over_by_a_newer_session() -> None:
    bench = Bench()
    old, _ = greet(bench, "guest:a")
    bench.room.receive(old, protocol.encode_awareness(_presence((7, 1, b"{}"))))
    new, _ = greet(bench, "guest:a")
    bench.room.receive(new, protocol.encode_awareness(_presence((7, 2, b"{}"))))
    _, witness = greet(bench)
    bench.room.flush_presence()
    witness.take()
    bench.room.leave(old)
    bench.room.flush_presence()
    assert not witness.messages


def test_snapshots_are_wanted_when_the_tail_outgrows_the_base() -> None:
    bench = Bench()
    author, _ = greet(bench)
    typist = Typist(1)
    assert not bench.room.wants_snapshot
    send(bench, author, typist.type(0, "x" * 300_000))
    bench.commit()
    assert bench.room.wants_snapshot
    bench.room.rebase(*_snapshot_of(bench))
    assert not bench.room.wants_snapshot
    assert bench.room.tail == []
    assert bench.room.text()[1] == "x" * 300_000


def test_roots_of_every_type_pass() -> None:
    bench = Bench()
    author, _ = greet(bench)
    doc: Doc[Any] = Doc()
    doc["list"] = Array([1, "two", {"three": [3]}])
    send(bench, author, doc.get_update())
    bench.commit()
    again = document.build(e.data for e in bench.log.entries["d"])
    assert again.get("list", type=Array).to_py() == [1, "two", {"three": [3]}]


def _presence(*entries: tuple[int, int, bytes]) -> bytes:
    out = protocol.var_uint(len(entries))
    for client, clock, state in entries:
        out += protocol.var_uint(client) + protocol.var_uint(clock) + protocol.var_uint(len(state)) + state
    return out


def test_a_document_in_which_a_surrogate_pair_was_split_is_never_encoded_by_a_doc_again() -> None:
    """pycrdt writes such a document so that browsers cannot load it; the received bytes go out instead."""
    bench = Bench()
    author, _ = greet(bench)
    # "🎉" by client 1, then "X" by client 2 between its halves, as a UTF-16 text diff does.
    party = bytes.fromhex("010101000401") + b"\x07content\x04\xf0\x9f\x8e\x89" + b"\x00"
    split = bytes.fromhex("01010200c40100010101") + b"X" + b"\x00"
    send(bench, author, party)
    assert not bench.room.verbatim
    send(bench, author, split)
    bench.commit()
    assert bench.room.verbatim
    seq, stored, clocks = bench.room.stored()
    snapshot = document.snapshot(stored, clocks, verbatim=bench.room.verbatim)
    assert b"\xf0\x9f\x8e\x89" in snapshot
    bench.log.snapshots["d"] = (seq, snapshot)
    again = Bench(bench.log)
    assert again.room.verbatim
    assert again.room.clocks == {1: 2, 2: 1}
    session, wire = again.join()
    wire.take()
    again.room.receive(session, protocol.encode_step1(EMPTY_SV))
    (answer,) = decoded(wire)
    assert isinstance(answer, SyncStep2)
    assert b"\xf0\x9f\x8e\x89" in answer.update


def test_a_writer_who_is_paused_again_while_it_resumes_is_resumed_again() -> None:
    """What was read before the pause comes in at once on resuming, and may be too much again."""
    bench = Bench()
    author, wire = greet(bench)
    typist = Typist(1)
    backlog = [typist.type(0, "x" * (600 << 10)) for _ in range(6)]

    def resume() -> None:
        wire.reading = True
        while backlog and wire.reading:
            send(bench, author, backlog.pop())

    wire.resume = resume  # type: ignore[method-assign]
    backlog.reverse()
    resume()
    for _ in range(6):
        bench.commit()
    assert wire.reading
    assert bench.room.text()[1] == str(typist.text)


def test_r5_a_deletion_of_what_another_session_has_not_typed_yet_is_not_kept() -> None:
    bench = Bench()
    (victim, _), (killer, killer_wire) = greet(bench, "guest:v"), greet(bench, "guest:k")
    typist = Typist(1)
    send(bench, victim, typist.type(0, "mine"))
    send(bench, killer, hostile.update(deletes=hostile.deletions(1, (4, 9))))
    send(bench, victim, typist.type(4, " and safe"))
    bench.commit()
    assert killer_wire.closed is not None
    assert killer_wire.closed[0] == 4500
    assert bench.room.text()[1] == "mine and safe"


def test_r2_shared_types_nested_too_deep_over_many_updates_end_their_sender() -> None:
    bench = Bench()
    author, _ = greet(bench)
    send(bench, author, Typist(1).type(0, "hello"))
    hostile_session, wire = greet(bench)
    for data in hostile.chained(200):
        send(bench, hostile_session, data)
    bench.commit()
    assert wire.closed == (4400, "shared types nested deeper than 100")
    assert len(bench.log.entries["d"]) == 1 + 201
    bench.room.leave(hostile_session)
    bench.room = _room_of(bench, _snapshot_of(bench)[1])
    again, wire = greet(bench)
    for data in hostile.chained(200)[201:]:
        send(bench, again, data)
    assert wire.closed == (4400, "shared types nested deeper than 100")


def _snapshot_of(bench: Bench) -> tuple[int, bytes]:
    seq, stored, clocks = bench.room.stored()
    return seq, document.snapshot(stored, clocks, verbatim=False)


def poison(client: int, parent: int, deletes: bytes = b"\0") -> bytes:
    """Passes the gate, and pycrdt raises on it: its parent is a text, not a type."""
    number = protocol.var_uint
    return b"\x01\x01" + number(client) + b"\0\x04\0" + number(parent) + b"\0\x01a" + deletes


@pytest.mark.parametrize("size", [200_000, 300_000, 3_000_000])
def test_a_state_of_one_struct_is_a_step_2_however_large(size: int) -> None:
    bench = Bench()
    author, _ = greet(bench)
    send(bench, author, Typist(1).type(0, "x" * size))
    bench.commit()
    joiner, wire = bench.join()
    wire.take()
    bench.room.receive(joiner, protocol.encode_step1(EMPTY_SV))
    assert isinstance(decoded(wire)[-1], SyncStep2)


def test_a_large_paste_does_not_end_a_reader_while_it_drains() -> None:
    bench = Bench()
    (author, _), (reader, wire) = greet(bench), greet(bench)
    typist = Typist(1)
    for size, unread in ((1_500_000, 1_500_000), (1, 1_400_000)):
        send(bench, author, typist.type(0, "x" * size))
        bench.commit()
        wire.unread = unread
        assert wire.closed is None
    wire.unread = 0
    bench.room.drained(reader)
    wire.unread = OUTBOX_LIMIT + 1
    send(bench, author, typist.type(0, "x"))
    bench.commit()
    assert wire.closed is not None


def test_r1_a_deletion_is_not_taken_for_known_because_a_refused_update_deletes_the_same() -> None:
    bench = Bench()
    (honest, wire), (evil, evil_wire) = greet(bench, "guest:h"), greet(bench, "guest:e")
    typist = Typist(1)
    send(bench, honest, typist.type(0, "hello"))
    bench.commit()
    erased = typist.erase(0, 5)
    send(bench, evil, poison(666, 1, erased[1:]))
    send(bench, honest, erased)
    bench.commit()
    assert evil_wire.closed is not None
    assert [e.data for e in bench.log.entries["d"]][1:] == [erased]
    assert wire.closed is None


@pytest.mark.parametrize("asked", [False, True], ids=["at the commit", "when somebody asks before it"])
def test_who_waits_is_told_though_nothing_is_left_to_commit(asked: bool) -> None:
    bench = Bench()
    (honest, wire), (evil, _) = greet(bench, "guest:h"), greet(bench, "guest:e")
    big = Typist(1).type(0, "h" * 2000)
    send(bench, honest, big)
    bench.commit()
    wire.take()
    send(bench, evil, poison(666, 1))
    bench.room.receive(honest, protocol.encode_update(big) + protocol.encode_sync_status(b"7"))
    if asked:
        bench.room.text()
    bench.commit()
    assert wire.reading
    assert protocol.SyncStatus(b"7") in decoded(wire)


def test_acknowledgements_that_wait_are_bounded_in_bytes() -> None:
    bench = Bench()
    session, wire = greet(bench)
    typist = Typist(1)
    big = typist.type(0, "x" * 60_000)
    send(bench, session, big)
    bench.commit()
    other = Typist(2)
    other.type(0, "never sent")
    send(bench, session, other.type(0, "waits"))
    for _ in range(100):
        send(bench, session, big)
    assert wire.closed is not None
    assert wire.closed[0] == 4500


def test_the_seq_of_a_state_is_that_of_what_is_in_it() -> None:
    bench = Bench()
    (honest, _), (evil, _) = greet(bench, "guest:h"), greet(bench, "guest:e")
    send(bench, honest, Typist(1).type(0, "hello"))
    bench.commit()
    send(bench, evil, poison(666, 1))
    assert bench.room.state()[0] == 1


def test_joiners_with_nothing_share_one_answer() -> None:
    bench = Bench()
    author, _ = greet(bench)
    send(bench, author, Typist(1).type(0, "x" * 10_000))
    bench.commit()
    wires = []
    for _ in range(2):
        joiner, wire = bench.join()
        wire.take()
        bench.room.receive(joiner, protocol.encode_step1(EMPTY_SV))
        wires.append(wire)
    assert wires[0].messages[0] is wires[1].messages[0]


def test_r1_a_client_that_returns_is_told_by_id_what_is_durable_of_what_it_has() -> None:
    """@y/websocket 4 counts an edit as saved once an update with its ids comes; an echo may have been lost,
    and a step 2 names nothing that the client has."""
    bench = Bench()
    author, _ = greet(bench)
    typist = Typist(1)
    send(bench, author, typist.type(0, "hello"))
    again, wire = bench.join()
    wire.take()
    bench.room.receive(again, protocol.encode_step1(typist.doc.get_state()))
    assert not wire.messages
    bench.commit()
    receipt = decoded(wire)[0]
    assert isinstance(receipt, Update)
    assert document.reach(receipt.update) == {1: 5}
    typist.doc.apply_update(receipt.update)
    assert str(typist.text) == "hello"


def test_r1_what_changes_nothing_comes_back_to_its_sender_once_it_is_durable() -> None:
    bench = Bench()
    (first, _), (second, wire) = greet(bench), greet(bench)
    update = Typist(1).type(0, "hello")
    send(bench, first, update)
    send(bench, second, update)
    assert not wire.messages
    bench.commit()
    assert updates(wire) == [update, update]  # the broadcast, and its own


# --- R6: who may not write ---------------------------------------------------------------------------

DENIED = protocol.encode_permission_denied(READ_ONLY)
BOTH = pytest.mark.parametrize("dialect", [Y_WEBSOCKET, HOCUSPOCUS], ids=["y-websocket", "hocuspocus"])


def written(bench: Bench, text: str = "written before") -> Typist:
    """A document that holds ``text``, as its author knows it."""
    author = Typist(1)
    session, _ = greet(bench)
    send(bench, session, author.type(0, text))
    bench.commit()
    bench.room.leave(session)
    return author


def news(author: Typist) -> dict[str, bytes]:
    """Every kind of update that changes the document, or would."""
    reader = Typist(2)
    reader.doc.apply_update(author.doc.get_update())
    typed = reader.type(0, "new ")
    unseen, waiting = reader.type(0, "unseen "), reader.type(0, "waiting ")
    erased = reader.erase(10, 12)
    return {
        "typed": typed,
        "erased": hostile.update(deletes=hostile.deletions(1, (0, 3))),
        "all of it": reader.doc.get_update(author.doc.get_state()),
        "depends on what is not here": waiting,
        "with skips": document.merge([typed, waiting]),
        "deletes what is not here": erased,
        "under the author's client id": author.type(0, "forged "),
        "from a client nobody knows": unseen,
    }


@BOTH
@pytest.mark.parametrize("kind", list(news(written(Bench()))))
@pytest.mark.parametrize("step", ["update", "step 2"])
def test_r6_what_a_reader_sends_changes_nothing_and_is_answered(
    dialect: protocol.Dialect, kind: str, step: str
) -> None:
    bench = Bench()
    update = news(written(bench))[kind]
    _, peer = greet(bench)
    reader, wire = greet(bench, "user:r", writes=False, dialect=dialect)
    clocks, state = dict(bench.room.clocks), bench.room.state()
    encode = protocol.encode_update if step == "update" else protocol.encode_step2
    bench.room.receive(reader, encode(update))
    assert bench.room.take_pending() is None
    assert (bench.room.clocks, bench.room.state()) == (clocks, state)
    assert wire.take() == [REFUSED if dialect is HOCUSPOCUS else DENIED]
    assert wire.closed is None
    assert not peer.messages
    assert len(bench.log.entries["d"]) == 1
    assert not reader.held


@BOTH
@pytest.mark.parametrize("step", ["update", "step 2"])
def test_r6_what_is_known_already_is_no_offence(dialect: protocol.Dialect, step: str) -> None:
    """Every client answers our step 1, a reader's too, with what it has."""
    bench = Bench()
    author = written(bench)
    reader, wire = greet(bench, "user:r", writes=False, dialect=dialect)
    encode = protocol.encode_update if step == "update" else protocol.encode_step2
    for update in (author.doc.get_update(), document.EMPTY_UPDATE):
        bench.room.receive(reader, encode(update))
        assert wire.take() == ([SAVED] if dialect is HOCUSPOCUS else [])
    assert not reader.denied


def test_r6_after_a_refusal_nothing_is_acknowledged_any_more() -> None:
    bench = Bench()
    author = written(bench)
    reader, wire = greet(bench, "user:r", writes=False)
    bench.room.receive(reader, protocol.encode_sync_status(b"1"))
    assert decoded(wire) == [protocol.SyncStatus(b"1")]
    send(bench, reader, author.type(0, "x"))
    bench.room.receive(reader, protocol.encode_sync_status(b"2"))
    assert wire.take() == [DENIED, DENIED]


def test_r6_readers_are_present_and_read_on() -> None:
    bench = Bench()
    author = written(bench)
    (writer, writer_wire), (reader, wire) = greet(bench), greet(bench, "user:r", writes=False)
    send(bench, reader, author.type(0, "x"))
    wire.take()
    state = protocol.encode_awareness(_presence((7, 1, b'{"user":{"name":"Reader"}}')))
    bench.room.receive(reader, state)
    bench.room.flush_presence()
    assert writer_wire.take() == wire.take() == [state]
    send(bench, writer, Typist(3).type(0, "news "))
    bench.commit()
    assert updates(wire)


def test_r6_a_malformed_update_of_a_reader_ends_it_as_anybody_s() -> None:
    bench = Bench()
    reader, wire = greet(bench, "user:r", writes=False)
    send(bench, reader, b"\x01\x01\x01")
    assert wire.closed is not None
    assert wire.closed[0] == 4400


def test_r6_a_reader_holds_no_client_id_against_those_who_may_write() -> None:
    """By its presence alone it could lock out whoever comes back to edits made offline."""
    bench = Bench()
    author = written(bench)
    reader, _ = greet(bench, "user:r", writes=False)
    bench.room.receive(reader, protocol.encode_awareness(_presence((1, 1, b"{}"))))
    back, wire = greet(bench, "user:a")
    send(bench, back, author.type(0, "offline "))
    bench.commit()
    assert bench.room.text()[1] == "offline written before"
    assert not back.held
    assert wire.closed is None


def test_r5_presence_takes_no_client_id_from_who_writes_with_it() -> None:
    """Programs announce no presence: their ids are free there, and still theirs."""
    bench = Bench()
    typist = Typist(1)
    (program, wire), (thief, _) = greet(bench, "agent:p"), greet(bench, "user:t")
    send(bench, program, typist.type(0, "mine"))
    bench.room.receive(thief, protocol.encode_awareness(_presence((1, 1, b"{}"))))
    send(bench, program, typist.type(4, " and safe"))
    bench.commit()
    assert bench.room.text()[1] == "mine and safe"
    assert wire.closed is None
    forger = Typist(1)
    forger.doc.apply_update(typist.doc.get_update())
    send(bench, thief, forger.type(0, "FORGED"))
    send(bench, program, typist.type(0, "still "))
    bench.commit()
    assert bench.room.text()[1] == "still mine and safe"


@BOTH
def test_r5_who_extends_a_live_client_id_of_another_is_refused_with_4409(dialect: protocol.Dialect) -> None:
    bench = Bench()
    (victim, victim_wire), (forger, wire) = greet(bench, "user:v"), greet(bench, "user:f", dialect=dialect)
    typist = Typist(1)
    send(bench, victim, typist.type(0, "mine"))
    forged = Typist(1)
    forged.doc.apply_update(typist.doc.get_update())
    bench.commit()
    wire.take()
    send(bench, forger, forged.type(4, " FORGED"))
    bench.room.sweep()
    assert wire.closed is None
    bench.clock.now += CONTEST_SECONDS + 1
    bench.room.sweep()
    assert wire.closed is not None
    assert wire.closed[0] == 4409
    assert SAVED not in wire.messages
    assert victim_wire.closed is None
    assert bench.room.text()[1] == "mine"


def test_what_waited_for_a_client_id_is_attributed_to_who_sent_it() -> None:
    bench = Bench()
    old, _ = greet(bench, "guest:1")
    typist = Typist(1)
    send(bench, old, typist.type(0, "before"))
    new, _ = greet(bench, "guest:2")
    send(bench, new, typist.type(6, " after"))
    bench.room.leave(old)
    send(bench, new, typist.type(12, "wards"))
    bench.commit()
    assert [e.actor.id for e in bench.log.entries["d"]] == ["guest:1", "guest:2", "guest:2"]
    forger, _ = greet(bench, "guest:3")
    send(bench, forger, typist.type(0, "x"))
    assert forger.held, "who has taken the id over owns it"


# --- a full document ---------------------------------------------------------------------------------


def full(bench: Bench, room_for: int) -> bytes:
    """Let the document take so many bytes more; what a client that is told no hears."""
    bench.room.document_bytes = bench.room.size + room_for
    return protocol.encode_permission_denied(
        f"the document is full: it may hold {bench.room.document_bytes} bytes"
    )


@BOTH
def test_a_full_document_takes_nothing_more_of_who_would_add_to_it(dialect: protocol.Dialect) -> None:
    bench = Bench()
    author = written(bench)
    refusal = REFUSED if dialect is HOCUSPOCUS else full(bench, 100)
    full(bench, 100)
    (greedy, wire), (other, _) = greet(bench, dialect=dialect), greet(bench)
    send(bench, greedy, author.type(0, "x" * 200))
    assert wire.take() == [refusal]
    send(bench, greedy, author.type(0, "y"))  # small, but what it follows is not here
    bench.room.receive(greedy, protocol.encode_sync_status(b"1"))
    assert wire.take() == [refusal, refusal]
    assert wire.closed is None
    send(bench, other, hostile.update(deletes=hostile.deletions(1, (0, 8))))
    bench.commit()
    assert bench.room.text()[1] == "before"
    assert bench.stats.limited["document"] == 1


@BOTH
def test_what_waits_when_the_document_is_full_is_never_acknowledged(dialect: protocol.Dialect) -> None:
    bench = Bench()
    written(bench)
    refusal = REFUSED if dialect is HOCUSPOCUS else full(bench, 100)
    full(bench, 100)
    session, wire = greet(bench, dialect=dialect)
    typist = Typist(2)
    first, second, third = (typist.type(0, word) for word in ("small", "x" * 200, "later"))
    known = bench.log.entries["d"][0].data
    send(bench, session, known)
    send(bench, session, third)
    send(bench, session, second)
    if dialect is Y_WEBSOCKET:
        bench.room.receive(session, protocol.encode_sync_status(b"all"))
    bench.commit()
    wire.take()
    send(bench, session, first)  # it fits; the second does not, and the third depends on it
    bench.commit()
    answers = [m for m in wire.take() if m[0] != protocol.SYNC]
    assert answers == ([REFUSED, REFUSED, SAVED] if dialect is HOCUSPOCUS else [refusal, refusal])
    assert not session.held
    assert session.held_bytes == 0
    assert bench.room.text()[1] == "written beforesmall"
    bench.clock.now += HOLD_SECONDS + 1
    bench.room.sweep()
    assert wire.closed is None


# --- acknowledgements of the Hocuspocus dialect ------------------------------------------------------


def statuses(wire: Wire) -> list[bytes]:
    return [message for message in wire.take() if message in (SAVED, REFUSED)]


def test_hocuspocus_gets_one_status_for_each_update_after_its_commit() -> None:
    bench = Bench()
    author, wire = greet(bench, dialect=HOCUSPOCUS)
    typist = Typist(1)
    first, second = typist.type(0, "a"), typist.type(1, "b")
    erased = typist.erase(0, 1)
    for update in (first, second, first, erased, erased):
        send(bench, author, update)
    bench.room.receive(author, protocol.encode_step2(typist.doc.get_update()))
    assert statuses(wire) == []
    bench.commit()
    assert statuses(wire) == [SAVED] * 6
    send(bench, author, first)
    assert statuses(wire) == [SAVED], "of what is durable at once"


def test_hocuspocus_gets_its_statuses_in_the_order_of_its_updates_whatever_waits() -> None:
    bench = Bench()
    author, wire = greet(bench, dialect=HOCUSPOCUS)
    typist, other = Typist(1), Typist(2)
    first, second = typist.type(0, "a"), typist.type(1, "b")
    send(bench, author, second)  # waits for the first
    send(bench, author, other.type(0, "independent "))
    bench.commit()
    assert statuses(wire) == [], "the independent one is saved, but it was not the first to be asked for"
    send(bench, author, first)
    assert statuses(wire) == []
    bench.commit()
    assert statuses(wire) == [SAVED] * 3


def test_hocuspocus_hears_of_a_refusal_in_its_place() -> None:
    bench = Bench()
    author = written(bench)
    full(bench, 100)
    session, wire = greet(bench, dialect=HOCUSPOCUS)
    send(bench, session, author.type(0, "fits"))
    send(bench, session, author.type(0, "x" * 200))
    assert statuses(wire) == []
    bench.commit()
    assert statuses(wire) == [SAVED, REFUSED]


def test_the_statuses_of_one_commit_go_out_in_one_write() -> None:
    bench = Bench()
    session, wire = greet(bench, dialect=HOCUSPOCUS)
    typist = Typist(1)
    for i in range(10):
        send(bench, session, typist.type(i, "x"))
    before = wire.writes
    bench.commit()
    assert wire.writes == before + 2, "the merged update, and its ten acknowledgements"
    assert statuses(wire) == [SAVED] * 10


def test_several_messages_in_one_frame_get_one_status_each() -> None:
    bench = Bench()
    session, wire = greet(bench, dialect=HOCUSPOCUS)
    typist = Typist(1)
    frame = b"".join(protocol.encode_update(typist.type(0, "x")) for _ in range(3))
    bench.room.receive(session, frame)
    bench.commit()
    assert statuses(wire) == [SAVED] * 3


def test_stateless_messages_go_to_the_others_of_the_same_dialect() -> None:
    bench = Bench()
    sender, wire = greet(bench, dialect=HOCUSPOCUS)
    (_, other), (_, y) = greet(bench, dialect=HOCUSPOCUS), greet(bench)
    bench.room.relay(sender, b"\x05\x02hi")
    assert other.take() == [b"\x05\x02hi"]
    assert not wire.messages
    assert not y.messages
