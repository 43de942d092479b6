"""Fairness: what is more than a moment's work is done one piece at a time, with a pause for others between,
and of what takes long so many pieces are under way at a time."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from collab.errors import Overloaded, RateLimited

APART = 0.001  # seconds from one turn to the next, in which everybody else is served
ROUND = 0.001  # seconds of work each time the loop goes round; the rest then waits for a turn


class Turns:
    """A queue. However many wait in it, everybody else waits for one piece of work only, and then has
    APART seconds."""

    def __init__(self) -> None:
        self._waiting: deque[Callable[[], None]] = deque()
        self._last = 0.0
        self._spent = 0.0  # seconds in this round of the loop

    def wait(self, go: Callable[[], None]) -> None:
        """Call ``go`` when it is its turn. It may wait for another turn at once."""
        self._waiting.append(go)
        if len(self._waiting) == 1:
            self._call_next()

    def spend(self, seconds: float) -> None:
        """So many seconds has something taken in this round of the loop, in its turn or without one."""
        if not self._spent:
            asyncio.get_running_loop().call_soon(self._begin_round)
        self._spent += seconds

    @property
    def crowded(self) -> bool:
        """Whether in this round of the loop nothing more should be done that waits for no turn."""
        return self._spent > ROUND

    def _begin_round(self) -> None:
        self._spent = 0.0

    def _call_next(self) -> None:
        loop = asyncio.get_running_loop()
        pause = self._last + APART - loop.time()
        if pause > 0:
            loop.call_later(pause, self._next)
        else:
            loop.call_soon(self._next)

    def _next(self) -> None:
        try:
            self._waiting[0]()
        finally:
            self._waiting.popleft()
            self._last = asyncio.get_running_loop().time()
            if self._waiting:
                self._call_next()


class Places:
    """So many may be at something at a time, and fewer of one actor. Those who are not let in are told
    ``of_one`` or ``of_all``, and counted in ``limited`` as ``limit``."""

    def __init__(
        self,
        limited: Counter[str],
        limit: str,
        most: int,
        most_of_one: int,
        *,
        of_one: str,
        of_all: str,
        full: type[Overloaded] = Overloaded,
    ) -> None:
        self._limited, self._limit = limited, limit
        self._most, self._most_of_one = most, most_of_one
        self._of_one, self._of_all, self._full = of_one, of_all, full
        self._taken: Counter[str] = Counter()

    @contextmanager
    def one(self, actor: str) -> Iterator[None]:
        """A place of ``actor``. Raises RateLimited, Overloaded (``full``)."""
        if self._taken[actor] >= self._most_of_one:
            self._limited[self._limit] += 1
            raise RateLimited(self._of_one)
        if self._taken.total() >= self._most:
            self._limited[self._limit] += 1
            raise self._full(self._of_all)
        self._taken[actor] += 1
        try:
            yield
        finally:
            self._taken[actor] -= 1
            if not self._taken[actor]:
                del self._taken[actor]
