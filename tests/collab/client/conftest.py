"""Servers in processes of their own, and clients with files, for the tests of the Python client."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from serverprocess import Server

from collab.client import Client


@pytest.fixture(scope="module")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for the tests of a module, which leave it running; each takes names of its own."""
    server = Server(tmp_path_factory.mktemp("shared"))
    server.start()
    yield server
    server.kill()


@pytest.fixture
def make_server(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Make servers with settings of their own; all are killed at the end."""
    made: list[Server] = []

    def make(**settings: object) -> Server:
        data = tmp_path / f"server-{len(made)}"
        data.mkdir()
        made.append(Server(data, **settings))
        made[-1].start()
        return made[-1]

    yield make
    for server in made:
        if server.process is not None and server.process.poll() is None:
            server.kill()


@pytest.fixture
async def enter(tmp_path: Path) -> AsyncIterator[Callable[..., Any]]:
    """Make clients; all are closed at the end."""
    async with AsyncExitStack() as stack:

        async def enter(url: str | None, file: str, **options: Any) -> Client:
            options.setdefault("power_safe", False)
            return await stack.enter_async_context(Client(url, tmp_path / file, **options))

        yield enter
