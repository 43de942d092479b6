"""The process: commands, settings, start, stop, one server a database."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from serverprocess import PATIENCE, Server, reserve_port
from yclient import Client, client

from web import settings
from web.settings import Settings


def collab(*arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "web", *arguments], capture_output=True, text=True, timeout=60, env=env
    )


def test_help_explains_every_flag_and_its_variable() -> None:
    text = " ".join(collab("serve", "--help").stdout.split())
    for flag in ("--host", "--port", "--data", "--database-url"):
        assert f"{flag} " in text
        assert f"[COLLAB_{flag[2:].replace('-', '_').upper()}]" in text


def test_flags_win_over_variables_and_both_over_defaults() -> None:
    assert settings.read({}, {}) == Settings()
    assert settings.read({}, {"COLLAB_PORT": "9"}).port == 9
    assert settings.read({"port": "8"}, {"COLLAB_PORT": "9"}).port == 8
    assert settings.read({"data": "/x"}, {}).url == "sqlite:////x/collab.db"
    assert settings.read({}, {"COLLAB_DATABASE_URL": "postgresql://h/n"}).url == "postgresql://h/n"


@pytest.mark.parametrize(
    ("flags", "environment", "words"),
    [
        ({"port": "http"}, {}, "--port must be a whole number"),
        ({"port": "70000"}, {}, "--port must be between"),
        ({}, {"COLLAB_IDLE_SECONDS": "soon"}, "COLLAB_IDLE_SECONDS must be a number"),
        ({"log_level": "loud"}, {}, "--log-level must be one of"),
        ({"message_bytes": "0"}, {}, "--message-bytes must be more than 0"),
    ],
)
def test_a_setting_that_makes_no_sense_is_named(
    flags: dict[str, str | None], environment: dict[str, str], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        settings.read(flags, environment)


def test_mistakes_end_with_one_sentence_and_no_traceback(tmp_path: Path) -> None:
    for arguments in (
        ("serve", "--port", "http"),
        ("serve", "--database-url", "mysql://x/y"),
        ("serve", "--data", "/proc/nowhere"),
        ("migrate", "--database-url", "postgresql://nobody@127.0.0.1:1/none"),
    ):
        result = collab(*arguments)
        assert result.returncode in (1, 2), arguments
        assert "Traceback" not in result.stderr, result.stderr
        assert result.stderr.strip()


def test_migrate_makes_the_database_and_says_so(tmp_path: Path) -> None:
    result = collab("migrate", "--data", str(tmp_path / "new"))
    assert result.returncode == 0
    assert (tmp_path / "new" / "collab.db").exists()


def test_a_second_server_on_the_same_database_is_refused(server: Server) -> None:
    result = collab("serve", "--port", "0", "--data", str(server.data))
    assert result.returncode == 1
    assert "another" in result.stderr.lower()


def test_a_taken_port_is_said_plainly(server: Server, tmp_path: Path) -> None:
    result = collab("serve", "--port", str(server.port), "--data", str(tmp_path / "other"))
    assert result.returncode != 0
    assert "Traceback" not in result.stderr
    assert "address already in use" in result.stderr.lower()


def test_the_command_says_where_it_serves_and_ends_when_it_is_told_to(tmp_path: Path) -> None:
    """Other servers of these tests are forked from a process that has imported everything."""
    with reserve_port() as reserved:
        url = f"http://127.0.0.1:{reserved.getsockname()[1]}"
        command = [
            sys.executable,
            "-m",
            "web",
            "serve",
            f"--port={url.rsplit(':')[-1]}",
            f"--data={tmp_path}",
        ]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as serving:
            assert serving.stdout is not None
            assert serving.stdout.readline() == f"Collab is at {url} (Ctrl+C stops it)\n"
            assert httpx.get(f"{url}/readyz").status_code == 200
            serving.send_signal(signal.SIGINT)
            assert serving.wait(PATIENCE) == 0


def test_sigterm_commits_closes_with_1012_and_exits(server: Server) -> None:
    async def scenario() -> None:
        clients = [await Client(server.ws_url, f"d{i % 3}").open() for i in range(30)]
        await asyncio.gather(*(c.synced.wait() for c in clients))
        for c in clients:
            await c.insert(0, "last words ")
        server.signal(signal.SIGTERM)
        for c in clients:
            assert (await c.ended())[0] == 1012
        started = time.monotonic()
        assert await asyncio.to_thread(server.stop) == 0
        assert time.monotonic() - started < 10

    asyncio.run(scenario())
    server.start()
    # What had reached the server by then was acknowledged or not; what is there is whole.
    text = httpx.get(f"{server.url}/api/documents/d0/content").text
    assert set(text.split()) <= {"last", "words"}


def test_sigterm_does_not_wait_for_a_peer_that_reads_nothing(make_server: Callable[..., Server]) -> None:
    server = make_server(shutdown_seconds=4)

    async def scenario() -> None:
        stalled = await Client(server.ws_url, "d").open()
        await stalled.synced.wait()
        stalled.socket.transport.pause_reading()
        async with client(server.ws_url, "d") as writer:
            for _ in range(20):
                await writer.insert(0, "x" * 200_000)
            await writer.saved()
            started = time.monotonic()
            assert await asyncio.to_thread(server.stop) == 0
            assert time.monotonic() - started < 12
        stalled.abort()

    asyncio.run(scenario())


def test_a_second_signal_stops_at_once(make_server: Callable[..., Server]) -> None:
    server = make_server(shutdown_seconds=120, commit_patience=120)

    async def scenario() -> None:
        writer = await Client(server.ws_url, "d").open()
        await writer.synced.wait()
        with sqlite3.connect(server.data / "collab.db") as other:
            other.execute("BEGIN IMMEDIATE")  # nothing can be committed now: a clean stop would wait
            await writer.insert(0, "not saved")
            await asyncio.sleep(0.5)
            server.signal(signal.SIGTERM)
            await asyncio.sleep(1)
            assert server.alive
            server.signal(signal.SIGINT)
            assert await asyncio.to_thread(server.ended) == 0
        writer.abort()

    asyncio.run(scenario())


def test_a_server_whose_storage_has_failed_ends_though_a_worker_of_its_hangs(
    make_server: Callable[..., Server],
) -> None:
    """As it does where the disk is what hangs."""
    server = make_server()

    async def scenario() -> None:
        async with client(server.ws_url, "d") as ada:
            await ada.insert(0, "a")
            await ada.saved()
            await asyncio.to_thread(httpx.get, f"{server.url}/api/documents/d/versions")
            server.freeze_children()
            with ThreadPoolExecutor(1) as another:
                asked = another.submit(httpx.get, f"{server.url}/api/documents/d/versions?gap=1")
                await asyncio.sleep(0.5)
                database = sqlite3.connect(server.data / "collab.db")
                database.execute("DELETE FROM updates")
                database.commit()
                database.close()
                await ada.insert(0, "b")
                assert await asyncio.to_thread(server.ended) != 0
                assert asked.exception() is not None or asked.result().status_code == 503

    asyncio.run(scenario())
    assert "would leave a gap" in server.log.read_text()


def test_the_page_is_served_with_a_strict_policy_and_a_lasting_guest_identity(server: Server) -> None:
    with httpx.Client(base_url=server.url) as browser:
        page = browser.get("/d/some/document")
        assert page.status_code == 200
        assert "script-src 'self'" in page.headers["content-security-policy"]
        assert page.headers["x-content-type-options"] == "nosniff"
        cookie = page.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=lax" in cookie
        assert "set-cookie" not in browser.get("/").headers


def test_edits_are_attributed_to_the_guest_of_the_cookie(server: Server) -> None:
    cookie = httpx.get(f"{server.url}/").headers["set-cookie"].partition(";")[0]

    async def scenario() -> None:
        for _ in range(2):
            async with client(server.ws_url, "d", additional_headers={"Cookie": cookie}) as c:
                await c.insert(0, "mine ")
                await c.saved()
        async with client(server.ws_url, "d") as c:
            await c.insert(0, "other ")
            await c.saved()

    asyncio.run(scenario())
    server.stop()

    with sqlite3.connect(server.data / "collab.db") as database:
        rows = database.execute(
            "SELECT actors.id FROM updates JOIN actors ON actors.key = updates.actor ORDER BY seq"
        ).fetchall()
    actors = [row[0] for row in rows]
    assert actors[0] == actors[1] != actors[2]
    assert cookie.partition("=")[2] not in actors[0], "the log must not hold the secret of a browser"
