"""A real server in a process of its own for every test that asks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from serverprocess import Server


@pytest.fixture
def make_server(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Make servers with other settings than the default; all are killed at the end."""
    made: list[Server] = []

    def make(**settings: object) -> Server:
        data = tmp_path / f"server-{len(made)}"
        data.mkdir()
        server = Server(data, **settings)
        made.append(server)
        server.start()
        return server

    yield make
    for server in made:
        if server.process is not None and server.process.poll() is None:
            server.kill()


@pytest.fixture(scope="module")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for the tests of a module, which leave it running."""
    server = Server(tmp_path_factory.mktemp("shared"))
    server.start()
    yield server
    server.kill()


@pytest.fixture
def server(make_server: Callable[..., Server]) -> Server:
    return make_server()
