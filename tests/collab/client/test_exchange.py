"""Exchanges and a room, message by message: the network and the disk do what the test says."""

from __future__ import annotations

import random
from collections import deque
from pathlib import Path

import pytest
from pycrdt import Doc
from replay import load
from wire import Bench, Wire

from collab import hocuspocus, protocol
from collab.client.document import Document, Line
from collab.client.exchange import WINDOW, Exchange, refusal
from collab.client.replica import Replica
from collab.errors import (
    CollabError,
    DocumentDeleted,
    EpochChanged,
    ProtocolError,
    ReadOnly,
    TooLarge,
)
from collab.hocuspocus import HOCUSPOCUS, Frame
from collab.session import Session
from collab.update import state_vector

pytestmark = pytest.mark.anyio


class Device:
    """A document on one device, and its line to a room while there is one. What is on its way lies in
    ``out`` and in the wire until ``carry``."""

    def __init__(self, bench: Bench, replica: Replica, actor: str) -> None:
        self.bench = bench
        self.actor = actor
        self.document = Document("d", replica, Doc())
        self.out: deque[bytes] = deque()
        self.denials: list[CollabError] = []
        self.asked = 0
        self.exchange = Exchange(self.document, self.out.append, self.ask, self.deny)
        self.document.stirred = self.exchange.pump
        self.session: Session | None = None
        self.wire = Wire()
        self.uploads: list[int] = []  # bytes of each update that went out

    def ask(self) -> None:
        self.asked += 1

    def deny(self, error: CollabError) -> None:
        self.denials.append(error)
        self.document.refuse(error)

    def connect(self, *, writes: bool = True, epoch: int = 1) -> None:
        self.session, self.wire = self.bench.join(self.actor, writes=writes, dialect=HOCUSPOCUS)
        self.exchange.start("token")
        assert hocuspocus.decode_token(self.out.popleft()) == "token"
        self.receive(hocuspocus.encode_authenticated(writes, epoch))

    def receive(self, body: bytes) -> None:
        self.exchange.receive(Frame(b"\x01d", body[0], body), 0.0)

    def carry(self, most: int = 1 << 30) -> bool:
        """Deliver so many messages each way; whether there was any."""
        moved = False
        assert self.session is not None
        for _ in range(min(most, len(self.out))):
            frame = self.out.popleft()
            if frame[:2] in (b"\x00\x01", b"\x00\x02"):
                self.uploads.append(len(frame))
            self.bench.room.receive(self.session, frame)
            moved = True
        for _ in range(min(most, len(self.wire.messages))):
            self.receive(self.wire.messages.popleft())
            moved = True
        return moved

    def settle(self) -> None:
        """Deliver and commit until nothing moves."""
        while self.carry() or self.bench.room.pending:
            self.bench.commit()

    def cut(self) -> None:
        """What is on its way is lost."""
        if self.session is not None:
            self.bench.room.leave(self.session)
        self.session = None
        self.out.clear()
        self.wire.messages.clear()
        self.exchange.lost()


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def test_the_server_is_sent_what_it_lacks_and_nothing_else(bench: Bench) -> None:
    device = Device(bench, Replica(":memory:"), "ada")
    device.document.insert(0, "a" * 1000)
    device.connect()
    device.settle()
    assert device.document.status.unsaved == 0
    assert device.document.line is Line.LIVE
    device.cut()
    device.uploads.clear()
    device.connect()
    device.settle()
    assert device.uploads == []
    device.document.insert(500, "b")
    device.settle()
    device.cut()
    device.document.insert(500, "c")
    device.document.delete(0, 10)
    device.connect()
    device.settle()
    assert len(device.uploads) == 2
    assert sum(device.uploads) < 100


async def test_an_edit_counts_as_saved_when_it_is_committed_and_not_before(bench: Bench) -> None:
    device = Device(bench, Replica(":memory:"), "ada")
    device.connect()
    device.settle()
    device.document.insert(0, "a")
    device.document.insert(1, "b")
    while device.carry():
        pass
    assert device.document.status.unsaved == 2
    bench.commit()
    while device.carry():
        pass
    assert device.document.status.unsaved == 0


async def test_an_acknowledgement_that_was_lost_is_asked_for_again(bench: Bench) -> None:
    device = Device(bench, Replica(":memory:"), "ada")
    device.connect()
    device.settle()
    device.document.insert(0, "a")
    device.carry()
    bench.commit()
    device.cut()
    assert device.document.status.unsaved == 1
    device.connect()
    device.settle()
    assert device.document.status.unsaved == 0
    assert len(bench.log.entries["d"]) == 1


async def test_an_acknowledged_edit_is_acknowledged_in_the_file_too(bench: Bench, tmp_path: Path) -> None:
    device = Device(bench, Replica(tmp_path / "a.db"), "ada")
    device.connect()
    device.document.insert(0, "a")
    device.settle()
    device.document.insert(1, "b")
    device.document.close()
    assert device.document._replica.unsaved("d") == 1


async def test_rows_of_a_document_that_stays_open_are_merged_now_and_then(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("collab.client.document.ROWS_LIMIT", 600)
    device = Device(bench, Replica(tmp_path / "a.db", power_safe=False), "ada")
    device.connect()
    for n in range(1500):
        device.document.insert(0, f"{n} ")
        if n % 10 == 0:
            device.settle()
            device.document.flush()
    device.settle()
    device.document.close()
    kept = device.document._replica.read("d")
    assert len(kept.rows) < 700
    again = Device(bench, device.document._replica, "ada")
    assert again.document.text == bench.room.text()[1]
    assert again.document.status.unsaved == 0


async def test_no_more_than_a_window_is_on_its_way(bench: Bench) -> None:
    device = Device(bench, Replica(":memory:", power_safe=False), "ada")
    rng = random.Random(1)
    for _ in range(40):
        device.document.insert(0, "".join(chr(rng.randrange(97, 123)) for _ in range(20_000)))
    device.connect()
    while device.carry():
        assert device.exchange.unacknowledged < WINDOW + (64 << 10) + 100
        if not device.out and not device.wire.messages:
            bench.commit()
    assert device.document.status.unsaved == 0
    assert len(bench.room.text()[1]) == 800_000


async def test_a_reader_sends_no_edit_and_says_why(bench: Bench) -> None:
    device = Device(bench, Replica(":memory:"), "ada")
    device.document.insert(0, "mine")
    device.connect(writes=False)
    device.settle()
    assert device.uploads == []
    assert isinstance(device.document.refusal, ReadOnly)
    assert device.document.line is Line.LIVE
    device.document.insert(0, "more ")
    device.settle()
    assert device.document.text == "more mine"
    later = Device(bench, Replica(":memory:"), "bob")
    later.connect(writes=False)
    later.settle()
    later.document.insert(0, "x")
    assert isinstance(later.document.refusal, ReadOnly)
    device.cut()
    device.connect()
    device.settle()
    assert device.document.refusal is None
    assert bench.room.text()[1] == "more mine"


async def test_a_document_that_is_full_is_a_refusal_and_edits_are_kept(bench: Bench) -> None:
    device = Device(bench, Replica(":memory:"), "ada")
    device.connect()
    device.settle()
    bench.room.document_bytes = 1
    device.document.insert(0, "too much")
    device.document.insert(0, "and more")
    device.settle()
    assert isinstance(device.document.refusal, TooLarge)
    assert device.document.status.unsaved == 2


async def test_another_epoch_is_refused_before_anything_of_it_is_taken_2(bench: Bench) -> None:
    device = Device(bench, Replica(":memory:"), "ada")
    device.document.insert(0, "old ")
    device.connect(epoch=1)
    device.settle()
    device.cut()
    device.document.insert(0, "unsaved ")
    other = Device(bench, Replica(":memory:"), "bob")
    other.connect(epoch=2)
    other.document.insert(0, "new ")
    other.settle()
    device.uploads.clear()
    device.connect(epoch=2)
    device.settle()
    assert isinstance(device.denials[0], EpochChanged)
    assert device.uploads == []
    assert device.document.text == "unsaved old "
    assert device.document.status.unsaved == 1


async def test_the_epoch_is_remembered_with_the_file(tmp_path: Path, bench: Bench) -> None:
    device = Device(bench, Replica(tmp_path / "a.db"), "ada")
    device.connect(epoch=3)
    device.document.insert(0, "x")
    device.settle()
    device.document.close()
    kept = device.document._replica.read("d")
    assert (kept.epoch, kept.writes) == (3, True)


async def test_denials_have_the_type_of_what_the_server_says(bench: Bench) -> None:
    device = Device(bench, Replica(":memory:"), "ada")
    device.exchange.start("token")
    device.receive(hocuspocus.encode_denied("document-deleted: it was deleted"))
    assert isinstance(device.denials[0], DocumentDeleted)
    assert str(device.denials[0]) == "it was deleted"
    assert type(refusal("something-new", "why")) is CollabError


async def test_an_answer_to_who_had_the_name_before_admits_nobody(bench: Bench) -> None:
    """A document is closed and opened again while its token is checked, and has no new one yet."""
    device = Device(bench, Replica(":memory:"), "ada")
    device.document.insert(0, "a")
    device.receive(hocuspocus.encode_authenticated(True, 1))
    device.receive(protocol.encode_step1(b"\0"))
    device.receive(hocuspocus.encode_denied("document-not-found: of the one before"))
    assert not device.out
    assert not device.denials
    device.connect()
    device.settle()
    assert device.document.status.unsaved == 0
    assert device.document.line is Line.LIVE
    assert bench.room.text()[1] == "a"


async def test_what_builds_on_something_that_is_not_here_is_asked_for_and_at_last_an_error(
    bench: Bench,
) -> None:
    other = Device(bench, Replica(":memory:"), "bob")
    other.document.insert(0, "a")
    other.document.insert(1, "b")
    late = other.document.unsaved[1].data
    device = Device(bench, Replica(":memory:"), "ada")
    device.connect()
    device.settle()
    for _ in range(3):
        device.receive(protocol.encode_update(late))
        assert device.out.pop()[:2] == b"\x00\x00"
    assert device.document.text == ""
    with pytest.raises(ProtocolError):
        device.receive(protocol.encode_update(late))


async def test_an_acknowledgement_of_nothing_is_an_error(bench: Bench) -> None:
    device = Device(bench, Replica(":memory:"), "ada")
    device.connect()
    device.settle()
    with pytest.raises(ProtocolError, match="not sent"):
        device.receive(hocuspocus.SAVED)


@pytest.mark.parametrize("number", range(6))
async def test_a_real_history_replayed_by_two_who_meet_rarely_ends_in_its_text(number: int) -> None:
    """Each types offline what the real writer typed, as far as it has seen what that one had seen, and
    comes online at random, where the line may be cut at any message."""
    rng = random.Random(number)
    bench = Bench()
    history = load("friendsforever")
    waiting = [steps[::-1] for steps in history.writers]
    devices = [Device(bench, Replica(":memory:", power_safe=False), f"writer {n}") for n in range(2)]
    meetings = cuts = 0
    while any(waiting):
        for device, steps in rng.sample(list(zip(devices, waiting, strict=True)), 2):
            clocks = device.document.clocks
            limit = rng.randint(1, 3000)
            with device.document.transaction():
                while steps and limit and all(clocks.get(w, 0) >= c for w, c in steps[-1].needs.items()):
                    update = steps.pop().update
                    device.document.doc.apply_update(update)
                    clocks.update(state_vector(device.document.doc.get_state()))
                    limit -= 1
            if rng.random() < 0.6:
                device.connect()
                meetings += 1
                if rng.random() < 0.3:
                    for _ in range(rng.randint(0, 4)):
                        device.carry(rng.randint(0, 2))
                        if rng.random() < 0.5:
                            bench.commit()
                    cuts += 1
                else:
                    device.settle()
                device.cut()
    for device in devices * 2:
        device.connect()
        device.settle()
        device.cut()
    assert {device.document.text for device in devices} == {history.end}
    assert bench.room.text()[1] == history.end
    assert not any(device.document.status.unsaved for device in devices)
    assert meetings > 50
    assert cuts > 10


@pytest.mark.parametrize("number", range(30))
async def test_devices_that_edit_lose_lines_and_processes_agree_in_the_end(
    number: int, tmp_path: Path
) -> None:
    """Random edits of three devices; lines are cut, devices are killed and start again from
    their files. What a call had returned from is there, once, everywhere."""
    rng = random.Random(1000 + number)
    bench = Bench()
    replicas = [Replica(tmp_path / f"{n}.db", power_safe=False) for n in range(3)]
    devices = [Device(bench, replica, f"device {n}") for n, replica in enumerate(replicas)]
    words: set[str] = set()
    for turn in range(150):
        n = rng.randrange(3)
        device = devices[n]
        text = device.document.text
        match rng.randrange(8):
            case 0 | 1 | 2:
                word = f"<{turn}🎉é>"
                words.add(word)
                places = [at for at in range(len(text) + 1) if at in (0, len(text)) or text[at - 1] == ">"]
                device.document.insert(rng.choice(places), word)
            case 3 if words:
                word = rng.choice(sorted(words))
                at = text.find(word)
                if at >= 0:
                    device.document.delete(at, at + len(word))
                    words.discard(word)
            case 4 if device.session is None:
                device.connect()
            case 5:
                device.cut()
            case 6 if device.session is not None:
                device.carry(rng.randint(1, 5))
                if rng.random() < 0.7:
                    bench.commit()
            case 7 if rng.random() < 0.3:  # killed: what only memory knew is gone
                device.cut()
                device.document.doc.unobserve(device.document._subscription)
                devices[n] = Device(bench, replicas[n], device.actor)
    for device in devices:
        device.cut()
    for device in devices * 2:
        if device.session is None:
            device.connect()
        device.settle()
    for device in devices:
        device.settle()
    texts = {device.document.text for device in devices}
    assert texts == {bench.room.text()[1]}
    (text,) = texts
    assert all(text.count(word) == 1 for word in words)
    assert text.count("<") == len(words)
