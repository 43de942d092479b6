"""The process of histories: when it is taken for stuck, and when it only has much to do."""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from storage.database import Database
from storage.histories import Histories
from web import historian
from web.historian import Historian, HistoryBusy


def ask(folder: Path, scenario: Callable[[Historian], Awaitable[None]]) -> None:
    """With a process that has begun."""

    async def run() -> None:
        url = f"sqlite:///{folder / 'collab.db'}"
        database = await Database.open(url)
        asked = Historian(url, Histories(database), 1 << 20, Counter())
        try:
            await asked._turn(os.getpid)
            await scenario(asked)
        finally:
            asked.close()
            await database.close()

    asyncio.run(run())


def test_a_process_that_answers_one_after_the_other_is_not_stuck_however_many_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(asked: Historian) -> None:
        monkeypatch.setattr(historian, "STUCK", 10.0)
        first, *_, last = await asyncio.gather(
            asked._turn(os.getpid), *(asked._turn(time.sleep, 1.0) for _ in range(12)), asked._turn(os.getpid)
        )
        assert first == last, "it was ended meanwhile"

    ask(tmp_path, scenario)


def test_a_process_of_which_no_turn_ends_is_ended_and_the_next_question_has_a_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(asked: Historian) -> None:
        before = await asked._turn(os.getpid)
        with monkeypatch.context() as patch:
            patch.setattr(historian, "STUCK", 1.0)
            stuck = asyncio.create_task(asked._turn(time.sleep, 600))
            await asyncio.sleep(0)
        with pytest.raises(HistoryBusy):
            await stuck
        assert await asked._turn(os.getpid) != before

    ask(tmp_path, scenario)
