"""Clients with files, for the tests of the Python client."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from collab.client import Client


@pytest.fixture
async def enter(tmp_path: Path) -> AsyncIterator[Callable[..., Any]]:
    """Make clients; all are closed at the end."""
    async with AsyncExitStack() as stack:

        async def enter(url: str | None, file: str, **options: Any) -> Client:
            options.setdefault("power_safe", False)
            return await stack.enter_async_context(Client(url, tmp_path / file, **options))

        yield enter
