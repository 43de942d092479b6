"""Hashing of passwords: real argon2id, on real threads."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections import Counter
from threading import Event, Lock
from typing import Any

import pytest
from argon2 import PasswordHasher
from argon2.low_level import Type

from collab.errors import InvalidRequest, Overloaded
from web.passwords import AT_ONCE, WAITING, Passwords, check_password

pytestmark = pytest.mark.anyio

CHEAP = PasswordHasher(time_cost=1, memory_cost=64, parallelism=1)


class Gate(PasswordHasher):
    """Compares only when it is let; counts how many compare at once."""

    def __init__(self) -> None:
        super().__init__(time_cost=1, memory_cost=64, parallelism=1)
        self.open = Event()
        self.inside = self.most = 0
        self._lock = Lock()

    def verify(self, *args: Any, **options: Any) -> bool:
        with self._lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
        try:
            assert self.open.wait(20)
            return super().verify(*args, **options)
        finally:
            with self._lock:
                self.inside -= 1


async def test_a_hash_is_argon2id_of_64_mib_and_matches_its_password_only() -> None:
    passwords = Passwords(Counter())
    hash = await passwords.hash("correct horse")
    assert hash.startswith("$argon2id$v=19$m=65536,t=3,p=4$")
    assert hash != await passwords.hash("correct horse")
    assert await passwords.matches("correct horse", hash)
    assert not await passwords.matches("correct Horse", hash)
    assert not passwords.outdated(hash)


async def test_the_hash_of_nobody_takes_the_same_work_and_matches_nothing() -> None:
    asked: list[str] = []

    class Watched(PasswordHasher):
        def verify(self, hash: str | bytes, password: str | bytes) -> Any:
            asked.append(str(hash))
            return super().verify(hash, password)

    hasher = Watched(time_cost=1, memory_cost=64, parallelism=1)
    passwords = Passwords(Counter(), hasher)
    for guess in ("", "correct horse"):
        assert not await passwords.matches(guess, None)
    somebody = await passwords.hash("correct horse")
    assert not await passwords.matches("wrong", somebody)
    works = [hash.split("$")[:4] for hash in asked]
    assert works == [["", "argon2id", "v=19", "m=64,t=1,p=1"]] * 3
    assert len({len(hash) for hash in asked}) == 1
    assert hasher.type is Type.ID


async def test_a_hash_with_other_parameters_is_outdated_and_still_matches() -> None:
    old = await Passwords(Counter(), CHEAP).hash("correct horse")
    passwords = Passwords(Counter(), PasswordHasher(time_cost=2, memory_cost=64, parallelism=1))
    assert passwords.outdated(old)
    assert await passwords.matches("correct horse", old)


async def test_a_password_is_the_same_however_its_letters_are_composed() -> None:
    passwords = Passwords(Counter(), CHEAP)
    hash = await passwords.hash("\u00fcber alle Berge")
    assert await passwords.matches("u\u0308ber alle Berge", hash)


@pytest.mark.parametrize(
    ("password", "said"),
    [
        ("", "10 characters or more"),
        ("nine chars"[:9], "10 characters or more"),
        ("u\u0308" * 9, "10 characters or more"),
        ("x" * 1025, "at most 1024 bytes"),
        ("\u00e9" * 513, "at most 1024 bytes"),
        ("ten chars \0", "without NUL"),
        ("ten chars \udc80", "UTF-8"),
    ],
)
def test_a_password_that_cannot_be_is_told_why(password: str, said: str) -> None:
    with pytest.raises(InvalidRequest, match=said):
        check_password(password)


@pytest.mark.parametrize("password", ["aaaaaaaaaa", "🎉" * 10, "x" * 1024, " " * 10])
def test_a_password_may_be_of_any_characters(password: str) -> None:
    check_password(password)


async def test_few_are_hashed_at_once_few_wait_and_the_rest_are_sent_away() -> None:
    limited: Counter[str] = Counter()
    gate = Gate()
    passwords = Passwords(limited, gate)
    async with asyncio.TaskGroup() as tasks:
        under_way = [
            tasks.create_task(passwords.matches("correct horse", None)) for _ in range(AT_ONCE + WAITING)
        ]
        await asyncio.sleep(0)
        for _ in range(3):
            with pytest.raises(Overloaded, match="try again"):
                await passwords.matches("correct horse", None)
        gate.open.set()
    assert [task.result() for task in under_way] == [False] * (AT_ONCE + WAITING)
    assert gate.most == AT_ONCE
    assert limited == {"passwords": 3}
    assert not await passwords.matches("correct horse", None)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a process has one niceness")
async def test_hashing_lets_everything_else_go_first() -> None:
    def niceness() -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    class Watched(PasswordHasher):
        def hash(self, *args: Any, **options: Any) -> str:
            seen.append(niceness())
            return super().hash(*args, **options)

    seen: list[int] = []
    before = niceness()
    await Passwords(Counter(), Watched(time_cost=1, memory_cost=64, parallelism=1)).hash("correct horse")
    assert seen == [10]
    assert niceness() == before < 10


async def test_who_goes_away_while_waiting_gives_the_place_back() -> None:
    gate = Gate()
    passwords = Passwords(Counter(), gate)
    tasks = [asyncio.create_task(passwords.matches("correct horse", None)) for _ in range(AT_ONCE + WAITING)]
    await asyncio.sleep(0)
    while gate.inside < AT_ONCE:
        await asyncio.sleep(0.001)
    for task in tasks:
        task.cancel()
    assert all(
        isinstance(r, asyncio.CancelledError) for r in await asyncio.gather(*tasks, return_exceptions=True)
    )
    # Those on a thread cannot be stopped and still count.
    again = [asyncio.create_task(passwords.matches("correct horse", None)) for _ in range(WAITING)]
    await asyncio.sleep(0)
    with pytest.raises(Overloaded):
        await passwords.matches("correct horse", None)
    gate.open.set()
    assert await asyncio.gather(*again) == [False] * WAITING
    assert gate.most == AT_ONCE
