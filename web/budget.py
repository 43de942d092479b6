"""How much one may send: token buckets that connections draw on. The time is handed in."""

from __future__ import annotations

BURST_SECONDS = 5.0  # so much of the rate of messages, and of that of bytes, may come at once
WORK_SECONDS = 20.0  # the same of the processor's time: what somebody wrote offline comes at once
SHARED = 2.0  # times what one connection may send, for all of one actor together


class Bucket:
    """``rate`` a second, and that of ``seconds`` at once; what is more is owed. A rate of 0 is no limit."""

    __slots__ = ("_at", "_burst", "_level", "_rate")

    def __init__(self, rate: float, seconds: float) -> None:
        self._rate = rate
        self._burst = self._level = rate * seconds
        self._at = 0.0

    def spend(self, amount: float, now: float) -> float:
        """Take ``amount``; the seconds until it is paid for."""
        if not self._rate:
            return 0.0
        self._level = self._level_at(now) - amount
        self._at = now
        return max(0.0, -self._level / self._rate)

    def full(self, now: float) -> bool:
        return self._level_at(now) >= self._burst

    def _level_at(self, now: float) -> float:
        return min(self._burst, self._level + (now - self._at) * self._rate)


class Budget:
    """What one connection, or all that share it, may send a second: messages, bytes, and work for the
    processor in seconds."""

    __slots__ = ("_bytes", "_messages", "_work", "connections")

    def __init__(self, messages: float, size: float, work: float) -> None:
        self._messages = Bucket(messages, BURST_SECONDS)
        self._bytes = Bucket(size, BURST_SECONDS)
        self._work = Bucket(work, WORK_SECONDS)
        self.connections = 0

    def spend(self, messages: int, size: int, work: float, now: float) -> tuple[float, str]:
        """Take them, on credit when there are not so many: the seconds for which no more may come, and the
        limit that says so."""
        return max(
            (self._messages.spend(messages, now), "messages"),
            (self._bytes.spend(size, now), "bytes"),
            (self._work.spend(work, now), "cpu"),
        )

    def unused(self, now: float) -> bool:
        """Whether nobody would notice if it were another one."""
        return not self.connections and all(b.full(now) for b in (self._messages, self._bytes, self._work))


class Budgets:
    """One Budget an actor. It outlives the actor's connections until it is full again, so that a new
    connection is no new budget."""

    def __init__(self, messages: float, size: float, work: float) -> None:
        self._rates = messages * SHARED, size * SHARED, work * SHARED
        self._by_actor: dict[str, Budget] = {}
        self._sweep_at = 1000  # so many actors

    @property
    def count(self) -> int:
        return len(self._by_actor)

    def of(self, actor: str, now: float) -> Budget:
        budget = self._by_actor.get(actor)
        if budget is None:
            if len(self._by_actor) >= self._sweep_at:
                self._by_actor = {a: b for a, b in self._by_actor.items() if not b.unused(now)}
                self._sweep_at = max(1000, 2 * len(self._by_actor))
            budget = self._by_actor[actor] = Budget(*self._rates)
        return budget
