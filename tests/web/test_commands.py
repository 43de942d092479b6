"""The commands of history against a real server, its data directory, and mirrored files."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from serverprocess import Server
from visitor import SECRET, bearer, token
from yclient import client

from web import commands
from web.cli import main

NAME = "notes/plan"
ADA = token("ada", name="Ada", **{"import": True})
BOB = token("bob", name="Bob \x1b[31m")
EVIL = "\x1b]0;evil\x07"
PROGRAM = [sys.executable, "-m", "web"]

Collab = Callable[..., str]


class House:
    """A server with a document: Ada wrote entry 1, which is named; Bob wrote 2 and 3."""

    def __init__(self, data: Path) -> None:
        self.server = Server(data, secret=SECRET, rooms_per_minute=0)
        self.server.start()
        self.data = str(data)
        self.api = httpx.Client(base_url=f"{self.server.url}/api", headers=bearer(ADA))
        self.make(NAME)

    def make(self, name: str) -> str:
        """The document's address."""
        assert self.api.post("/documents", json={"name": name}).status_code == 201
        path = f"/documents/{name.replace('/', '%2F')}"
        self.api.put(f"{path}/members/user:bob", json={"role": "editor"})
        asyncio.run(self._write(name))
        named = {"name": "Sent", "at": 1, "note": "to the board"}
        assert self.api.post(f"{path}/versions", json=named).status_code == 201
        return f"{self.server.url}/d/{name.replace('/', '%2F')}"

    async def _write(self, name: str) -> None:
        async with client(self.server.ws_url, name, additional_headers=bearer(ADA)) as ada:
            await ada.insert(0, "# Plan\n\nThe first line\n")
            await ada.saved()
        async with client(self.server.ws_url, name, additional_headers=bearer(BOB)) as bob:
            await bob.insert(12, "very ")
            await bob.insert(len("# Plan\n\nThe very first line\n"), EVIL + "\n")
            await bob.saved()

    @property
    def url(self) -> str:
        return f"{self.server.url}/d/notes%2Fplan"

    def content(self, at: object) -> str:
        return self.api.get(f"/documents/notes%2Fplan/content?at={at}").text


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    house = House(tmp_path_factory.mktemp("commands"))
    yield house
    house.server.kill()


@pytest.fixture
def collab(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Collab:
    """Run a command, in this process since most of a new one is imports; what it said."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLLAB_TOKEN", ADA)

    def run(*arguments: str, status: int = 0) -> str:
        capfd.readouterr()
        try:
            got = main(arguments)
        except SystemExit as stopped:
            got = int(stopped.code or 0)
        said = "".join(capfd.readouterr())
        assert got == status, said
        return said

    return run


def on_terminal(*arguments: str, answer: str = "", **environment: str) -> str:
    """What a command shows on a terminal, where ``answer`` is typed."""
    mine, theirs = pty.openpty()
    program = subprocess.Popen(
        [*PROGRAM, *arguments],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "COLLAB_TOKEN": ADA, "TERM": "xterm", "NO_COLOR": "", **environment},
    )
    os.close(theirs)
    os.write(mine, answer.encode())
    seen = b""
    try:
        while piece := os.read(mine, 4096):
            seen += piece
    except OSError:  # EIO: nobody has the terminal any more
        pass
    os.close(mine)
    assert program.wait(30) == 0, seen
    return seen.decode().replace("\r\n", "\n")


@pytest.mark.parametrize(
    ("command", "rest"),
    [
        ("log", ["--json"]),
        ("log", ["--json", "--named"]),
        ("log", ["--json", "--author", "user:bob", "--limit", "1"]),
        ("log", ["--json", "--since", "2026-01-01", "--until", "2126-01-01T00:00:00Z"]),
        ("show", ["--json"]),
        ("show", ["Sent"]),
        ("show", ["2", "--blame", "--json"]),
        ("diff", ["Sent", "--json"]),
        ("diff", ["head", "0", "--stat", "--json"]),
        ("diff", ["1", "2126-01-01T00:00:00Z", "--unified"]),
        ("export", []),
    ],
)
def test_an_address_and_a_data_directory_give_the_same(
    house: House, collab: Collab, command: str, rest: list[str]
) -> None:
    said = collab(command, house.url, *rest)
    assert collab(command, house.data, NAME, *rest) == said
    if "--json" in rest:
        assert json.loads(said)


def test_json_is_what_the_api_answers(house: House, collab: Collab) -> None:
    path = "/documents/notes%2Fplan"
    assert json.loads(collab("log", house.url, "--json")) == house.api.get(f"{path}/versions").json()
    asked = house.api.get(f"{path}/diff?from=1&granularity=word").json()
    assert json.loads(collab("diff", house.url, "1", "--json")) == asked
    assert json.loads(collab("show", house.url, "--blame", "--json")) == house.api.get(f"{path}/blame").json()


def test_the_log_tells_who_wrote_when_and_what(house: House, collab: Collab) -> None:
    newer, older = collab("log", house.url).split("\n\nversion 1")
    assert newer.startswith("version 3 (2 to 3)\nDate:    ")
    assert "Authors: Bob [31m +15 -0\n" in newer
    assert older.startswith("  Sent\nDate:    ")
    assert older.endswith("Authors: Ada +23 -0\n\n    to the board\n\n    # Plan The first line\n")
    assert collab("log", house.url, "--author", "ada") == f"version 1{older}"
    assert collab("log", house.url, "--limit", "1").count("version ") == 1
    assert "who has: Ada (user:ada), Bob" in collab("log", house.url, "--author", "eve", status=1)


def test_a_log_in_many_pages_is_one_log(
    house: House, collab: Collab, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, text = collab("log", house.url, "--json"), collab("log", house.url)
    monkeypatch.setattr(commands, "PAGE", 1)
    assert collab("log", house.url, "--json") == whole
    assert collab("log", house.url) == text
    assert collab("log", house.url, "--limit", "1", "--json") != whole


def test_a_diff_marks_the_words_that_came_and_went(house: House, collab: Collab) -> None:
    forth = collab("diff", house.url, "1")
    assert forth.startswith("--- 1\n+++ 3\nBob [31m +15 -0\n@@ line 1 @@\n# Plan\n\n")
    assert forth.endswith("The {+very +}first line\n{+\\x1b]0;evil\\x07+}\n")
    assert "The [-very -]first line\n[-\\x1b]0;evil\\x07-]\n" in collab("diff", house.url, "head", "Sent")
    assert collab("diff", house.url, "1", "--stat") == "1 to 3: 15 characters in, 0 out\n"


def test_a_diff_shows_what_is_around_a_change_and_no_more() -> None:
    parts = [
        {"op": "keep", "text": "".join(f"{n}\n" for n in range(1, 10))},
        {"op": "delete", "text": "gone\n", "actor": "user:ada"},
        {"op": "insert", "text": "\n", "actor": "user:ada"},
        {"op": "keep", "text": "".join(f"{n}\n" for n in range(11, 20))},
        {"op": "insert", "text": "end", "actor": None},
    ]
    diff = {"seq_from": 1, "seq_to": 2, "actors": [{"id": "user:ada", "name": "Ada"}], "parts": parts}
    shown = "".join(commands._marked(commands.Terminal("never"), diff))
    assert shown == (
        "--- 1\n+++ 2\nAda +1 -5\n"
        "@@ line 8 @@\n8\n9\n[-gone-]\n{+⏎+}\n11\n12\n"
        "@@ line 18 @@\n18\n19\n{+end+}\n"
    )  # fmt: skip


def test_an_author_has_one_colour_in_all_that_is_shown(house: House, collab: Collab) -> None:
    ink = commands.Terminal("always").ink("user:bob")
    for command in (["log"], ["diff", "1"], ["show", "--blame"]):
        shown = collab(command[0], house.url, *command[1:], "--color", "always")
        assert f"{ink}m" in shown
        assert EVIL not in shown
    assert "\x1b" not in collab("log", house.url, "--color", "never")


def test_blame_says_who_wrote_each_line(house: House, collab: Collab) -> None:
    lines = collab("show", house.url, "--blame").splitlines()
    assert len(lines) == 4
    assert lines[0].startswith("1 Ada ")
    assert lines[0].endswith(" 1) # Plan")
    assert lines[2].startswith("2 Ada +1 ")
    assert lines[2].endswith(" 3) The very first line")
    assert lines[3].startswith("3 Bob [31m ")


def test_a_text_that_goes_into_a_file_is_the_text_and_on_a_terminal_it_is_only_shown(
    house: House, collab: Collab
) -> None:
    assert collab("show", house.url) == house.content("head") == house.content(3)
    assert collab("show", house.url, "Sent") == house.content(1)
    shown = on_terminal("show", house.url, PAGER="cat")
    assert shown == house.content(3).replace(EVIL, "\\x1b]0;evil\\x07")


def test_a_terminal_gets_colour_and_a_pager(house: House) -> None:
    shown = on_terminal("log", house.url, PAGER="echo $LESS; sed 's/^/paged: /'")
    assert shown.startswith("FRX\npaged: \x1b[33mversion 3\x1b[m")
    assert "paged" not in on_terminal("log", house.url, "--no-pager", PAGER="sed 's/^/paged: /'")
    assert "\x1b" not in on_terminal("log", house.url, PAGER="cat", NO_COLOR="1")
    # Who leaves the pager at once has seen enough.
    assert on_terminal("log", house.url, PAGER="true") == ""


def test_a_reader_that_leaves_is_no_error(house: House, tmp_path: Path) -> None:
    done = subprocess.run(
        f"{' '.join(PROGRAM)} export {house.data} {NAME} | true",
        shell=True,
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    assert done.stderr == ""


def test_a_restore_shows_what_it_changes_and_asks(house: House, collab: Collab) -> None:
    url = house.make("asked")
    assert "give --yes" in collab("restore", url, "1", status=1)
    shown = on_terminal("restore", url, "Sent", "--color", "never", answer="n\n")
    assert "The [-very -]first line\n" in shown
    assert "Restore 'asked' as of 1: 0 characters in, 15 out? [y/N]" in shown
    assert shown.endswith("Nothing was changed.\n")
    assert collab("show", url) == house.content(3)
    assert "Restored as entry 4: 0 characters in, 15 out. Before it: 3." in on_terminal(
        "restore", url, "Sent", answer="y\n"
    )
    assert collab("show", url) == house.content(1)
    assert "nothing was changed" in collab("restore", url, "Sent", "--yes")
    assert "Origin:  restore" in collab("log", url, "--limit", "1")


def test_a_restore_is_refused_when_somebody_has_gone_on(house: House, collab: Collab) -> None:
    url = house.make("expected")
    said = collab("restore", url, "1", "--yes", "--expected-head", "2", status=1)
    assert "at 3, not at 2 any more (since then: Bob [31m)" in said
    assert "give --expected-head 3" in said
    answer = json.loads(collab("restore", url, "1", "--yes", "--expected-head", "3", "--json"))
    assert (answer["checkpoint"], answer["version"]["seq_to"]) == ({"seq": 3}, 4)


def test_a_restore_does_what_it_has_shown_or_nothing(
    house: House, collab: Collab, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = house.make("meanwhile")

    def agree_late(question: str) -> bool:
        wanted = {"from": 1}
        assert house.api.post("/documents/meanwhile/restore", json=wanted).status_code == 201
        return True

    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr(commands, "_agreed", agree_late)
    said = collab("restore", url, "2", status=1)
    assert "at 4, not at 3 any more (since then: Ada)" in said
    assert collab("show", url) == house.content(1)


def test_a_data_directory_is_written_only_when_no_server_has_it(tmp_path: Path, collab: Collab) -> None:
    data = tmp_path / "data"
    data.mkdir()
    own = House(data)
    assert "stop the server" in collab("restore", own.data, NAME, "1", "--yes", status=1)
    archive = collab("export", own.url)
    (tmp_path / "plan.jsonl").write_text(archive)
    assert "stop the server" in collab("import", own.data, "copy", "plan.jsonl", status=1)
    own.server.stop()
    said = collab("restore", own.data, NAME, "1", "--yes", "--expected-head", "7", status=1)
    assert "at 3, not at 7 any more; look at it, then give --expected-head 3" in said
    answer = json.loads(collab("restore", own.data, NAME, "Sent", "--yes", "--json"))
    assert (answer["version"]["origin"], answer["checkpoint"]) == ("restore", {"seq": 3})
    assert answer["version"]["actors"][0]["id"].startswith("operator:")
    assert "copy: 3 entries" in collab("import", own.data, "copy", "plan.jsonl", "--owner", "user:bob")
    assert collab("export", own.data, "copy") == archive
    assert "named 'copy' already" in collab("import", own.data, "copy", "plan.jsonl", status=1)
    own.server.start()
    assert own.content("head") == own.content(1) != own.content(3)
    copy = httpx.get(f"{own.server.url}/api/documents/copy", headers=bearer(BOB)).json()
    assert (copy["role"], copy["imported_by"], copy["imported_head"]) == ("owner", "user:bob", 3)
    own.server.kill()


def test_an_archive_goes_out_and_comes_in_to_the_byte(house: House, tmp_path: Path, collab: Collab) -> None:
    assert collab("export", house.url, "-o", "plan.jsonl") == ""
    archive = (tmp_path / "plan.jsonl").read_text()
    assert archive == collab("export", house.url)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["plan.jsonl"]
    assert collab("import", f"{house.server.url}/d/again", "plan.jsonl") == "again: 3 entries\n"
    assert collab("export", f"{house.server.url}/d/again") == archive
    made = json.loads(collab("import", house.server.url, "plan.jsonl", "--json"))
    assert made["imported_head"] == 3
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    assert "plan: 3 entries" in collab("import", str(fresh), "plan", "plan.jsonl")
    assert collab("export", str(fresh), "plan") == archive
    (tmp_path / "cut.jsonl").write_text(archive[:-200])
    for where in (house.server.url, str(fresh)):
        assert "archive" in collab("import", where, "cut.jsonl", status=1)
    assert len(json.loads(collab("log", str(fresh), "plan", "--json"))["versions"]) == 2


@pytest.mark.parametrize("format", ["markdown", "html", "docx"])
def test_a_document_is_exported_for_other_programs_wherever_it_is(
    house: House, collab: Collab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for place in ([house.url], [house.data, NAME]):
        collab("export", *place, "--format", format, "--at", "Sent", "-o", f"{len(place)}")
    remote, local = ((tmp_path / name).read_bytes() for name in "12")
    assert remote[:200] == local[:200]
    if format != "docx":
        assert b"very" not in remote
        assert b"Plan" in remote


def test_an_export_that_was_cut_off_leaves_what_was_there(
    house: House, tmp_path: Path, collab: Collab, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "plan.jsonl").write_text("as it was")
    whole = commands._whole
    monkeypatch.setattr(commands, "_whole", lambda pieces: whole(piece[:-40] for piece in pieces))
    assert "not whole" in collab("export", house.url, "-o", "plan.jsonl", status=1)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["as it was"]


def test_a_large_archive_that_is_refused_is_told_why(
    house: House, tmp_path: Path, collab: Collab, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "large.jsonl").write_bytes(b"x" * (8 << 20))
    monkeypatch.setenv("COLLAB_TOKEN", BOB)
    assert "whose claim `import` is true" in collab("import", house.server.url, "large.jsonl", status=1)


def test_a_mirrored_file_stands_for_its_document(
    house: House, tmp_path: Path, collab: Collab, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = house.make("mirrored")
    (tmp_path / "token").write_text(ADA + "\n")
    collab("clone", url, "--token-file", "token")
    monkeypatch.delenv("COLLAB_TOKEN")
    file = tmp_path / "mirrored.md"
    file.write_text(file.read_text().replace("very first", "first"))
    assert "-The very first line\n+The first line\n" in collab("diff", "mirrored.md")
    assert " 0 characters out" in collab("log")
    assert "Sent" in collab("log", "mirrored.md", "--server", "--named")
    assert collab("show", "mirrored.md", "Sent") == house.content(1)
    assert "{+very +}" in collab("diff", "mirrored.md", "1", "3")
    collab("sync")
    assert " 5 characters out" in collab("log")
    assert "`collab sync` brings it" in collab("restore", "mirrored.md", "Sent", "--yes")
    collab("sync")
    assert file.read_text() == house.content(1)
    assert "only --server gives versions" in collab("log", "--json", status=2)


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["log", "{data}"], 2, "say which document"),
        (["diff", "{url}"], 2, "say which version"),
        (["show", "{url}", "1", "2"], 2, "too many arguments: 1 2"),
        (["log", "{url}", "--limit", "0"], 2, "from 1 on"),
        (["diff", "{url}", "1", "--unified", "--json"], 2, "no JSON"),
        (["import", "{server}"], 2, "which file"),
        (["import", "{server}", "name", "file"], 2, "/d/NAME"),
        (["import", "{server}", "nowhere.jsonl"], 1, "nowhere.jsonl cannot be read: No such file"),
        (["import", "nowhere", "x.jsonl"], 1, "no data directory"),
        (["log", "nowhere", "plan"], 1, "no mirrored file"),
        (["log", "x" * 300], 1, "File name too long"),
        (["log"], 1, "collab clone"),
        (["log", "{server}/plan"], 1, "is like https://"),
        (["log", "http://127.0.0.1:9/d/plan"], 1, "cannot be reached"),
        (["log", "http://127.0.0.1:x/d/plan"], 1, "cannot be reached"),
        (["log", "{data}", "nobody's"], 1, "no document named"),
        (["log", "{server}/d/nobodys"], 1, "nobodys"),
        (["show", "{url}", "99"], 1, "entries up to 3"),
        (["show", "{data}", "notes/plan", "Unsent"], 1, "no such named version"),
        (["log", "{url}", "--since", "yesterday"], 1, "RFC 3339"),
        (["log", "{url}", "--token-file", "nowhere"], 1, "no token can be read from nowhere"),
    ],
)
def test_mistakes_are_answered_with_what_to_do(
    house: House, collab: Collab, arguments: list[str], status: int, said: str
) -> None:
    names = {"data": house.data, "url": house.url, "server": house.server.url}
    assert said in collab(*(argument.format(**names) for argument in arguments), status=status)


def test_who_brings_no_token_is_told_how(
    house: House, collab: Collab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLLAB_TOKEN")
    assert "COLLAB_TOKEN or with --token-file" in collab("log", house.url, status=1)


class Stub(BaseHTTPRequestHandler):
    """Answers in turn with what the test has put there."""

    answers: list[tuple[int, dict[str, str], bytes]]
    asked: list[dict[str, str]]

    def do_GET(self) -> None:
        self.asked.append(dict(self.headers))
        status, headers, body = self.answers.pop(0)
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def stub() -> Iterator[str]:
    Stub.answers, Stub.asked = [], []
    with HTTPServer(("127.0.0.1", 0), Stub) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_redirect_does_not_take_the_token_elsewhere(stub: str, collab: Collab) -> None:
    Stub.answers = [(302, {"Location": f"{stub}/elsewhere"}, b"")]
    assert "has moved to" in collab("log", f"{stub}/d/plan", status=1)
    assert len(Stub.asked) == 1


def test_a_busy_server_is_asked_again(stub: str, collab: Collab) -> None:
    busy = json.dumps({"code": "history-busy", "detail": "ask again"}).encode()
    page = json.dumps({"versions": [], "head": 0, "next": None}).encode()
    Stub.answers = [(503, {"Retry-After": "1"}, busy), (200, {}, page)]
    assert collab("log", f"{stub}/d/plan") == ""
    assert [asked["Authorization"] for asked in Stub.asked] == [f"Bearer {ADA}"] * 2


@pytest.mark.parametrize("answer", [(200, {}, b"<html>"), (404, {}, b"<html>"), (500, {}, b'{"code": 1}')])
def test_what_is_no_collab_is_said_to_be_none(
    stub: str, collab: Collab, answer: tuple[int, dict[str, str], bytes]
) -> None:
    Stub.answers = [answer]
    assert "Collab server" in collab("log", f"{stub}/d/plan", status=1)
