"""The commands against a real server."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from serverprocess import PATIENCE, Server

from collab.client.blocking import Client
from collab.client.command import document_url, file_name
from collab.errors import InvalidName, InvalidRequest
from collab.rights import Role
from web import auth
from web.cli import main

Collab = Callable[..., str]


PROGRAM = [sys.executable, "-m", "web"]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}


@pytest.fixture
def collab(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Collab:
    """Run a command, in this process since most of a new one is imports; what it said."""

    def run(where: Path, *arguments: str, status: int = 0) -> str:
        monkeypatch.chdir(where)
        capfd.readouterr()
        got = main(arguments)
        said = "".join(capfd.readouterr())
        assert got == status, said
        return said

    return run


def eventually(condition: Callable[[], bool], seconds: float = PATIENCE) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def desk(tmp_path: Path, name: str) -> Path:
    (tmp_path / name).mkdir()
    return tmp_path / name


def test_a_week_without_a_network_in_any_editor_and_then_everything_is_there_once(
    make_server: Callable[..., Server], tmp_path: Path, collab: Collab
) -> None:
    server = make_server()
    ada, bob = desk(tmp_path, "ada"), desk(tmp_path, "bob")
    with Client(server.url, tmp_path / "page.db") as client:
        page = client.open("notes/plan")
        page.insert(0, "# Plan\n\none\n")
        page.saved(timeout=PATIENCE)
    for where in (ada, bob):
        assert "in step" in collab(where, "clone", f"{server.url}/d/notes%2Fplan")
        assert (where / "plan.md").read_text() == "# Plan\n\none\n"
    server.stop()
    (ada / "plan.md").write_text("# The plan\n\none\n")
    said = collab(ada, "sync", status=1)
    assert "1 edit on this device only" in said
    assert "1 edit not on the server" in collab(ada, "status")
    (ada / "plan.md").write_text("# The plan\n\none\nada 🎉\n")
    (bob / "plan.md").write_text("# Plan\n\nbob\none\n")
    assert "+ada 🎉" in collab(ada, "diff")
    server.start()
    assert "in step" in collab(ada, "sync")
    assert "in step" in collab(bob, "sync", "plan.md")
    assert "in step" in collab(ada, "sync", ".")
    for where in (ada, bob):
        assert (where / "plan.md").read_text() == "# The plan\n\nbob\none\nada 🎉\n"
    assert collab(ada, "diff") == ""
    assert "characters out" in collab(ada, "log")
    assert "nothing new in the file; all on the server" in collab(ada, "status")


def test_watching_goes_both_ways_and_status_may_look_meanwhile(
    make_server: Callable[..., Server], tmp_path: Path, collab: Collab
) -> None:
    server = make_server()
    where = desk(tmp_path, "ada")
    (where / "plan.md").write_text("from the file\n")
    collab(where, "clone", f"{server.url}/d/plan")
    watching = subprocess.Popen(
        [*PROGRAM, "sync", "--watch"],
        cwd=where,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        with Client(server.url, tmp_path / "page.db") as client:
            page = client.open("plan")
            page.live(timeout=PATIENCE)
            assert page.text == "from the file\n"
            page.insert(0, "from the page\n")
            eventually(lambda: (where / "plan.md").read_text() == "from the page\nfrom the file\n")
            temporary = where / "plan.md.new"
            temporary.write_text("from the page\nfrom an editor 🎉\nfrom the file\n")
            os.replace(temporary, where / "plan.md")
            eventually(lambda: "editor 🎉" in page.text)
            server.kill()
            (where / "plan.md").write_text("from the page\nfrom an editor 🎉\nfrom the file\noffline\n")
            page.insert(0, "also offline\n")
            time.sleep(1)
            server.start()
            wanted = "also offline\nfrom the page\nfrom an editor 🎉\nfrom the file\noffline\n"
            eventually(lambda: page.text == (where / "plan.md").read_text() == wanted, 40)
        assert "all on the server" in collab(where, "status")
        assert "in use by process" in collab(where, "sync", status=1)
    finally:
        watching.send_signal(signal.SIGTERM)
        said = watching.communicate(timeout=PATIENCE)[0].decode()
    assert watching.returncode == 0, said
    assert "Traceback" not in said


def test_a_watcher_that_is_killed_again_and_again_loses_and_doubles_nothing(
    make_server: Callable[..., Server], tmp_path: Path, collab: Collab
) -> None:
    server = make_server()
    where = desk(tmp_path, "ada")
    file = where / "plan.md"
    file.write_text("begun\n")
    collab(where, "clone", f"{server.url}/d/plan")
    lines = ["begun"]
    with Client(server.url, tmp_path / "page.db") as client:
        page = client.open("plan")
        page.live(timeout=PATIENCE)
        for n in range(4):
            watching = subprocess.Popen(
                [*PROGRAM, "sync", "--watch"],
                cwd=where,
                env=ENVIRONMENT,
                stdout=subprocess.DEVNULL,
            )
            page.insert(0, f"page {n}\n")
            time.sleep(0.9 + 0.15 * n)
            with file.open("a") as appending:
                appending.write(f"file {n}\n")
            lines += [f"page {n}", f"file {n}"]
            time.sleep(0.1 + 0.2 * n)
            watching.kill()
            watching.wait()
        collab(where, "sync")
        eventually(lambda: page.text == file.read_text())
    assert sorted(file.read_text().split("\n")) == sorted([*lines, ""])


def test_rights_are_said_and_the_file_keeps_what_was_written(
    make_server: Callable[..., Server], tmp_path: Path, collab: Collab
) -> None:
    secret = "a secret for tests that is long enough"
    server = make_server(secret=secret, guests="none")

    def token(subject: str, role: Role) -> str:
        return auth.issue(secret, subject, audience="collab", seconds=3600, documents={"*": role})

    with Client(server.url, tmp_path / "o.db", token=token("ada", Role.OWNER)) as client:
        page = client.open("plan")
        page.insert(0, "one\n")
        page.saved(timeout=PATIENCE)
    where = desk(tmp_path, "bob")
    assert "nothing of it is here yet" in collab(where, "clone", f"{server.url}/d/plan", status=1)
    reader = where / "token"
    reader.write_text(token("bob", Role.VIEWER) + "\n")
    collab(where, "sync", "--token-file", "token")
    (where / "plan.md").write_text("one\nmine\n")
    said = collab(where, "sync", status=1)
    assert "you may read 'plan' and not change it" in said
    assert (where / "plan.md").read_text() == "one\nmine\n"
    assert "you may read it only" in collab(where, "status")
    reader.write_text(token("bob", Role.EDITOR) + "\n")
    assert "in step" in collab(where, "sync")


def test_mistakes_are_answered_with_what_to_do(tmp_path: Path, collab: Collab) -> None:
    assert "collab clone" in collab(tmp_path, "sync", status=1)
    done = subprocess.run([*PROGRAM, "status"], cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert "collab clone" in done.stderr
    assert "is like https" in collab(tmp_path, "clone", "plan", status=1)
    assert "must lie in" in collab(
        tmp_path, "clone", "http://127.0.0.1:9/d/plan", "--file", "../x.md", status=1
    )
    assert not (tmp_path.parent / "x.md").exists()


def test_addresses_and_file_names() -> None:
    assert document_url("https://c.example/d/notes%2Fplan") == ("https://c.example", "notes/plan")
    assert document_url("http://h:80/sub/d/a%20b?x#y") == ("http://h:80/sub", "a b")
    for wrong in ("https://c.example/plan", "ftp://c/d/x", "plan"):
        with pytest.raises(InvalidRequest):
            document_url(wrong)
    with pytest.raises(InvalidName):
        document_url("https://c.example/d/")
    assert [file_name(name) for name in ("a/plan", "..x?", "readme.md", "...", "漢")] == [
        "plan.md",
        "x-.md",
        "readme.md",
        "document.md",
        "漢.md",
    ]
