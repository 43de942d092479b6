"""The client without async, as a script uses it."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from serverprocess import PATIENCE, Server

from collab.client import Change, DocumentClosed, ReplicaInUse
from collab.client.blocking import Client


def test_a_script_writes_here_and_there(shared_server: Server, tmp_path: Path) -> None:
    with (
        Client(shared_server.url, tmp_path / "a.db", token=lambda: time.sleep(0.05) or "") as one,
        Client(shared_server.url, tmp_path / "b.db") as two,
    ):
        document, other = one.open("script"), two.open("script")
        heard: list[Change] = []
        other.observe(heard.append)
        document.insert(0, "é🎉\n")
        document.edit(lambda d: [d.insert(len(d), f"{n}\n") for n in range(3)])
        document.saved(timeout=PATIENCE)
        other.until(lambda _: other._document.text == "é🎉\n0\n1\n2\n", timeout=PATIENCE)
        assert other.text == document.text
        assert document.status.unsaved == 0
        assert heard


def test_waiting_ends_with_a_timeout_offline(tmp_path: Path) -> None:
    with Client(None, tmp_path / "a.db") as client:
        document = client.open("d")
        document.insert(0, "x")
        with pytest.raises(TimeoutError):
            document.saved(timeout=0.05)


def test_errors_come_to_the_caller(tmp_path: Path) -> None:
    with Client(None, tmp_path / "a.db") as client:
        with pytest.raises(IndexError):
            client.open("d").insert(5, "x")
        with pytest.raises(ReplicaInUse):
            Client(None, tmp_path / "a.db")
    with pytest.raises(DocumentClosed):
        client.open("d")


def test_to_wait_for_oneself_is_an_error_and_not_a_deadlock(tmp_path: Path) -> None:
    with Client(None, tmp_path / "a.db") as client:
        document = client.open("d")
        with pytest.raises(RuntimeError, match="wait for itself"):
            document.edit(lambda _: document.text)


def test_threads_may_share_a_document(tmp_path: Path) -> None:
    with Client(None, tmp_path / "a.db", power_safe=False) as client:
        document = client.open("d")
        threads = [
            threading.Thread(target=lambda: [document.insert(0, "x") for _ in range(50)]) for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert document.text == "x" * 200
