"""Turns: what many want at once is done one after the other, with room for others between."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest

from web import turns as turns_module
from web.turns import ROUND, Turns


@pytest.mark.anyio
async def test_however_many_wait_one_has_its_turn_at_a_time_and_others_come_between(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(turns_module, "APART", 0.0)
    turns = Turns()
    seen: list[str] = []
    for name in "abc":
        turns.wait(lambda name=name: seen.append(name))  # type: ignore[misc]
    while len(seen) < 6:
        seen.append("-")
        await asyncio.sleep(0)
    assert "".join(seen).strip("-") == "a-b-c"


@pytest.mark.anyio
async def test_turns_are_apart_and_who_comes_later_waits_for_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns_module, "APART", 0.02)
    turns = Turns()
    loop = asyncio.get_running_loop()
    times: list[float] = []
    for _ in range(4):
        turns.wait(lambda: times.append(loop.time()))
    while len(times) < 4:
        await asyncio.sleep(0.001)
    assert min(later - earlier for earlier, later in pairwise(times)) >= 0.019
    await asyncio.sleep(0.03)
    turns.wait(lambda: times.append(loop.time()))
    await asyncio.sleep(0)
    assert len(times) == 5


@pytest.mark.anyio
async def test_a_round_of_the_loop_has_room_for_so_much_without_a_turn() -> None:
    turns = Turns()
    turns.spend(ROUND / 2)
    assert not turns.crowded
    turns.spend(ROUND)
    assert turns.crowded
    await asyncio.sleep(0)
    assert not turns.crowded
