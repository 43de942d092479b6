"""What every test may need: an honest way to go without, and servers in processes of their own."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from httpx._config import DEFAULT_TIMEOUT_CONFIG
from serverprocess import PATIENCE, Server

# Five seconds would measure the machine. What httpx lets one set is one call's or one client's; there are a
# hundred of them.
for phase in ("connect", "read", "write", "pool"):
    setattr(DEFAULT_TIMEOUT_CONFIG, phase, PATIENCE)


def require(condition: object, reason: str) -> None:
    """Skip the test unless ``condition`` holds; with COLLAB_TEST_NO_SKIP=1 fail it."""
    if condition:
        return
    if os.environ.get("COLLAB_TEST_NO_SKIP") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session", name="require")
def _require():
    return require


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Coroutine tests marked ``pytest.mark.anyio`` run on asyncio only."""
    return "asyncio"


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
        if server.alive:
            server.kill()


@pytest.fixture(scope="module")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for the tests of a module, which leave it running."""
    server = Server(tmp_path_factory.mktemp("shared"))
    server.start()
    yield server
    server.kill()
