"""What every test may need: an honest way to go without."""

import os

import pytest


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
