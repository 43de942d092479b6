"""Files and documents, with savers of every kind; others write by another replica of the document."""

from __future__ import annotations

import asyncio
import os
import random
import stat
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TextIO

import pytest
from pycrdt import Doc

from collab.client import mirror as mirrors
from collab.client.client import Client
from collab.client.document import Document
from collab.client.mirror import FOLDER, Folder, Mirror, MirrorError
from collab.client.replica import Replica

pytestmark = pytest.mark.anyio

STEPS: dict[str, object] = {  # of a turn
    "adopt": Document,
    "_prepared": Mirror,
    "_intend": Mirror,
    "_replace": Mirror,
    "link": os,
    "replace": os,
    "_conclude": Mirror,
}
TEXT = "# Plan\n\nThe first line says little.\nThe second says 🎉 more.\nThe third ends it.\n"


class Desk:
    """A mirrored file, and somebody else who edits the same document and meets it when told to."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / FOLDER).mkdir(parents=True)
        self.folder = Folder(root)
        self.folder.add("plan.md", "plan")
        self.begin(self.folder)
        self.file = root / "plan.md"
        self.other = Document("plan", Replica(":memory:"), Doc())

    def begin(self, folder: Folder) -> None:
        self.folder = folder
        self.client = Client(None, folder.replica)
        self.document = self.client.open("plan")
        self.mirror = Mirror(folder, "plan.md", self.document)

    def restart(self) -> None:
        """As after a kill: what only memory knew is gone."""
        self.document.close()
        self.folder.close()
        self.begin(Folder(self.root))

    def meet(self) -> None:
        mine, theirs = self.document.state(), self.other.state()
        self.other.adopt(mine)
        self.document.take(theirs)

    async def turn(self) -> mirrors.Outcome:
        return await self.mirror.turn()

    async def killed(self, step: str, after: bool) -> bool:
        """A turn that is killed before or after a step of it, and a restart; whether it got to that step."""
        real = getattr(STEPS[step], step)

        def end(*_: object, **__: object) -> None:
            raise KeyboardInterrupt

        def kill(*args: object, **options: object) -> None:
            if step == "_conclude" and not self.folder.database.execute("SELECT * FROM writing").fetchall():
                return  # nothing is to be concluded yet
            if after:
                real(*args, **options)
            patch.setattr(Mirror, "_conclude", end)  # who is killed tidies up no more
            patch.setattr(Path, "unlink", end)
            end()

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(STEPS[step], step, kill)
            try:
                await self.turn()
                killed = False
            except KeyboardInterrupt:
                killed = True
        self.restart()
        return killed

    def kept(self) -> list[str]:
        folder = self.root / FOLDER / "kept"
        return sorted(one.read_text() for one in folder.iterdir()) if folder.exists() else []


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirrors, "SETTLE", 0.02)
    monkeypatch.setattr(mirrors, "SETTLE_EMPTY", 0.1)


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    desk = Desk(tmp_path / "desk")
    desk.other.insert(0, TEXT)
    desk.meet()
    await desk.turn()
    assert desk.file.read_text() == TEXT
    yield desk
    desk.document.close()
    desk.folder.close()


def in_place(file: Path, text: str) -> None:
    """As `cat >`, Notepad, nano: the same file, cut to nothing and written."""
    file.write_bytes(text.encode())


def by_rename(file: Path, text: str) -> None:
    """As gedit, VS Code with atomic saves, `sed -i`: another file in its place."""
    temporary = file.with_name(".new")
    temporary.write_bytes(text.encode())
    os.replace(temporary, file)


def like_vim(file: Path, text: str) -> None:
    """The old file becomes a backup, a new one is written, the backup goes."""
    backup = file.with_name(f"{file.name}~")
    os.replace(file, backup)
    file.write_bytes(text.encode())
    backup.unlink()


SAVERS = [in_place, by_rename, like_vim]


@pytest.mark.parametrize("save", SAVERS)
async def test_what_a_program_saves_becomes_small_edits_and_what_others_write_comes_into_the_file(
    desk: Desk, save: Callable[[Path, str], None]
) -> None:
    clocks = sum(desk.document.clocks.values())
    save(desk.file, TEXT.replace("little", "a little"))
    desk.other.insert(len(TEXT), "A fourth, by somebody else.\n")
    desk.meet()
    outcome = await desk.turn()
    wanted = TEXT.replace("little", "a little") + "A fourth, by somebody else.\n"
    assert desk.file.read_text() == desk.document.text == wanted
    assert sum(desk.document.clocks.values()) - clocks == len("a ") + len("A fourth, by somebody else.\n")
    assert (outcome.sent, outcome.received) == (2, 28)
    assert not outcome.conflicts
    assert desk.kept() == [TEXT.replace("little", "a little")]
    desk.meet()
    assert desk.other.text == wanted
    assert not (await desk.turn()).changed


@pytest.mark.parametrize("save", SAVERS)
async def test_an_editor_that_saves_what_it_had_read_before_the_merge_deletes_nothing_of_others_16(
    desk: Desk, save: Callable[[Path, str], None]
) -> None:
    buffer = TEXT
    for n in range(4):  # it never reads the file again
        desk.other.insert(0, f"Others {n}. ")
        desk.meet()
        await desk.turn()
        buffer = buffer.replace("The third", f"Mine {n}. The third")
        save(desk.file, buffer)
        outcome = await desk.turn()
        assert "older reading" in outcome.note
    assert desk.document.text.startswith("Others 3. Others 2. Others 1. Others 0. # Plan\n")
    assert all(desk.document.text.count(f"Mine {n}. ") == 1 for n in range(4))
    assert desk.file.read_text() == desk.document.text


async def test_what_others_wrote_may_be_deleted_in_the_file(desk: Desk) -> None:
    desk.other.insert(0, "A long paragraph by somebody else, which nobody wants to have here.\n")
    desk.meet()
    await desk.turn()
    by_rename(desk.file, TEXT)  # exactly what it was
    await desk.turn()
    assert desk.document.text == TEXT


async def test_an_own_paragraph_that_is_deleted_again_stays_deleted(desk: Desk) -> None:
    in_place(desk.file, TEXT + "A long paragraph of mine, which I shall delete in a moment, all of it.\n")
    await desk.turn()
    in_place(desk.file, TEXT.replace("little", "much"))
    await desk.turn()
    assert desk.document.text == TEXT.replace("little", "much")


async def test_a_file_is_never_read_while_it_is_being_written(desk: Desk) -> None:
    new = TEXT.replace("little", "a little")

    async def slowly() -> None:
        with desk.file.open("w") as file:
            await asyncio.sleep(0.05)
            for at in range(0, len(new), 20):
                file.write(new[at : at + 20])
                file.flush()
                await asyncio.sleep(0.01)

    desk.other.insert(0, "Others. ")
    desk.meet()
    saving = asyncio.create_task(slowly())
    await asyncio.sleep(0.01)
    outcome = await desk.turn()
    await saving
    assert desk.file.read_text() == "Others. " + new
    assert (outcome.sent, outcome.note) == (2, "")


async def test_an_emptied_file_is_not_taken_for_an_edit_unless_that_is_meant_21(desk: Desk) -> None:
    desk.file.write_text("")
    outcome = await desk.turn()
    assert "empty" in outcome.note
    assert desk.document.text == TEXT
    assert desk.file.read_text() == ""
    await desk.mirror.turn(take_empty=True)
    assert desk.document.text == ""


async def test_a_file_that_is_gone_is_written_again(desk: Desk) -> None:
    desk.file.unlink()
    outcome = await desk.turn()
    assert "gone" in outcome.note
    assert desk.file.read_text() == TEXT
    assert desk.document.text == TEXT


async def test_line_ends_and_the_byte_order_mark_stay_on_disk_and_never_enter_the_document_23(
    desk: Desk,
) -> None:
    desk.file.write_bytes(b"\xef\xbb\xbf" + TEXT.replace("little", "a little").replace("\n", "\r\n").encode())
    desk.other.insert(len(TEXT), "More.\n")
    desk.meet()
    await desk.turn()
    wanted = TEXT.replace("little", "a little") + "More.\n"
    assert desk.document.text == wanted
    assert desk.file.read_bytes() == b"\xef\xbb\xbf" + wanted.replace("\n", "\r\n").encode()


async def test_both_sides_of_one_place_are_kept_and_listed_17(desk: Desk) -> None:
    in_place(desk.file, TEXT.replace("says little", "says nothing at all"))
    start = desk.other.text.index("little")
    desk.other.replace(start, start + 6, "enough")
    desk.other.insert(len(desk.other), "Elsewhere.\n")
    desk.meet()
    outcome = await desk.turn()
    text = desk.document.text
    assert "nothing at all" in text
    assert "enough" in text
    assert "little" not in text
    (conflict,) = outcome.conflicts
    assert (conflict.line, conflict.ours, conflict.theirs) == (3, "nothing at all", "enough")
    assert desk.kept() == [TEXT.replace("says little", "says nothing at all")]


async def test_a_file_that_is_not_text_is_left_alone_with_what_to_do(desk: Desk) -> None:
    desk.file.write_bytes("caf\xe9".encode("latin-1"))
    with pytest.raises(MirrorError, match="save it as UTF-8"):
        await desk.turn()
    assert desk.document.text == TEXT
    assert desk.file.read_bytes() == b"caf\xe9"


async def test_a_link_stays_a_link_and_rights_stay_as_they_were(desk: Desk, tmp_path: Path) -> None:
    target = tmp_path / "elsewhere.md"
    os.replace(desk.file, target)
    desk.file.symlink_to(target)
    target.chmod(0o640)
    desk.mirror = Mirror(desk.folder, "plan.md", desk.document)
    desk.other.insert(0, "New. ")
    desk.meet()
    await desk.turn()
    assert desk.file.is_symlink()
    assert target.read_text() == "New. " + TEXT
    assert stat.S_IMODE(target.stat().st_mode) == 0o640


async def test_a_file_with_two_names_keeps_both(desk: Desk, tmp_path: Path) -> None:
    os.link(desk.file, tmp_path / "second.md")
    desk.other.insert(0, "New. ")
    desk.meet()
    await desk.turn()
    assert (tmp_path / "second.md").read_text() == desk.file.read_text() == "New. " + TEXT


async def test_a_program_that_writes_into_the_old_file_as_it_is_replaced_loses_nothing(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.other.insert(0, "Others. ")
    desk.meet()
    replace = os.replace

    new = TEXT.replace("little", "a little")

    async def write(old: TextIO) -> None:
        with old:
            await asyncio.sleep(0.03)
            old.write(new[:50])
            old.flush()
            await asyncio.sleep(0.01)
            old.write(new[50:])

    writing: list[asyncio.Task[None]] = []

    def late(source: str | Path, target: str | Path) -> None:
        old = desk.file.open("w")  # the saver has cut it to nothing, and is slower than we are
        replace(source, target)
        writing.append(asyncio.get_running_loop().create_task(write(old)))
        monkeypatch.setattr(os, "replace", replace)

    monkeypatch.setattr(os, "replace", late)
    await desk.turn()
    await writing[0]
    assert desk.file.read_text() == desk.document.text == "Others. " + TEXT.replace("little", "a little")


async def test_a_file_that_was_there_before_begins_the_document_once_on_every_device_1(
    tmp_path: Path,
) -> None:
    desks = [Desk(tmp_path / name) for name in ("one", "two")]
    for desk in desks:
        desk.file.write_text(TEXT)
        await desk.turn()
    desks[0].document.take(desks[1].document.state())
    assert desks[0].document.text == TEXT


async def test_a_file_that_was_there_and_differs_from_the_document_is_left_alone(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.file.write_text("Something else\n")
    desk.other.insert(0, TEXT)
    desk.meet()
    with pytest.raises(MirrorError, match="move it away"):
        await desk.turn()
    assert desk.file.read_text() == "Something else\n"
    assert desk.document.text == TEXT


@pytest.mark.parametrize("point", STEPS)
@pytest.mark.parametrize("goes_on", ["not", "from its own text", "from the file"])
async def test_a_crash_at_any_point_of_a_turn_neither_loses_nor_doubles(
    desk: Desk, point: str, goes_on: str
) -> None:
    """Killed before and after each step: the next turn ends as one without a crash would have, even if the
    program goes on meanwhile."""
    for after in (False, True):
        text = desk.document.text
        desk.other.insert(0, f"Others {point} {after}. ")
        mine = f"{text}Mine {point} {after}.\n"
        in_place(desk.file, mine)
        desk.meet()
        assert await desk.killed(point, after)
        more = ""
        if goes_on != "not":
            more = f"More {point} {after}.\n"
            in_place(desk.file, (desk.file.read_text() if goes_on == "from the file" else mine) + more)
        await desk.turn()
        wanted = f"Others {point} {after}. {mine}{more}"
        assert desk.document.text == desk.file.read_text() == wanted
        assert desk.file.stat().st_nlink == 1
        assert not list(desk.folder.hidden.glob(f"{mirrors.TEMPORARY}*"))


async def test_previous_files_are_kept_within_bounds(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirrors, "KEPT_COUNT", 3)
    for n in range(6):
        in_place(desk.file, desk.file.read_text() + f"{n}\n")
        desk.other.insert(0, f"{n} ")
        desk.meet()
        await desk.turn()
    kept = desk.kept()
    assert len(kept) == 3
    assert max(kept, key=len).endswith("5\n")


async def test_versions_are_kept_within_bounds(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirrors, "VERSIONS", 5)
    in_place(desk.file, TEXT + "mine\n")
    await desk.turn()
    for n in range(12):
        desk.other.insert(0, f"{n} ")
        desk.meet()
        await desk.turn()
    versions = desk.mirror._versions()
    assert len(versions) == 5
    assert versions[0].saved  # what a program saved last stays


@pytest.mark.parametrize("number", range(12))
async def test_random_savers_and_others_agree_and_no_word_is_lost_or_doubled_12(
    number: int, tmp_path: Path
) -> None:
    rng = random.Random(number)
    desk = Desk(tmp_path)
    desk.other.insert(0, "begun ")
    desk.meet()
    await desk.turn()
    words = {"begun "}
    for turn in range(60):
        word = f"w{turn}🎉 "
        match rng.randrange(5):
            case 0 | 1:  # a program reads and writes
                text = desk.file.read_text()
                at = max(0, rng.choice([0, len(text), text.find("w", rng.randint(0, len(text)))]))
                rng.choice(SAVERS)(desk.file, text[:at] + word + text[at:])
                words.add(word)
                if rng.random() < 0.3:
                    await desk.killed(rng.choice(list(STEPS)), rng.random() < 0.5)
                elif rng.random() < 0.5:
                    await desk.turn()
            case 2 | 3:
                desk.other.insert(rng.choice([0, len(desk.other)]), word)
                words.add(word)
            case 4:
                desk.meet()
                if rng.random() < 0.3:
                    await desk.killed(rng.choice(list(STEPS)), rng.random() < 0.5)
                else:
                    await desk.turn()
    await desk.turn()
    desk.meet()
    await desk.turn()
    text = desk.file.read_text()
    assert text == desk.document.text == desk.other.text
    assert sorted(text.split()) == sorted(word.strip() for word in words)


async def test_a_kill_after_a_merge_does_not_leave_a_state_that_the_rows_do_not_reach(desk: Desk) -> None:
    """What others sent waits a moment before it is written to the file; a version must not be ahead of it."""
    desk.other.insert(0, "Others. ")
    desk.meet()
    await desk.turn()
    desk.document.doc.unobserve(desk.document._subscription)  # killed: nothing is written any more
    desk.folder.close()
    desk.begin(Folder(desk.root))
    in_place(desk.file, desk.file.read_text() + "Mine.\n")
    await desk.turn()
    assert desk.document.text == "Others. " + TEXT + "Mine.\n"
