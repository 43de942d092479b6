"""How much one may send: token buckets that connections draw on. The time is handed in."""

from __future__ import annotations

BURST_SECONDS = 5.0  # of each rate may come at once


class Bucket:
    """``rate`` a second, and BURST_SECONDS of it at once; what is more is owed."""

    __slots__ = ("_at", "_level", "_rate")

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._level = rate * BURST_SECONDS
        self._at = 0.0

    def spend(self, amount: float, now: float) -> float:
        """Take ``amount``; the seconds until it is paid for."""
        if not self._rate:
            return 0.0
        self._level = self.level(now) - amount
        self._at = now
        return max(0.0, -self._level / self._rate)

    def level(self, now: float) -> float:
        return min(self._rate * BURST_SECONDS, self._level + (now - self._at) * self._rate)

    def full(self, now: float) -> bool:
        return self.level(now) >= self._rate * BURST_SECONDS


class Budget:
    """The messages and bytes a second of one connection, or of all that share it; 0 is no limit."""

    __slots__ = ("_bytes", "_messages", "connections")

    def __init__(self, messages_per_second: float, bytes_per_second: float) -> None:
        self._messages = Bucket(messages_per_second)
        self._bytes = Bucket(bytes_per_second)
        self.connections = 0

    def spend(self, messages: int, size: int, now: float) -> tuple[float, str]:
        """Take them, on credit when there are not so many: the seconds for which no more may come, and the
        limit that says so."""
        return max((self._messages.spend(messages, now), "messages"), (self._bytes.spend(size, now), "bytes"))

    def unused(self, now: float) -> bool:
        """Whether nobody would notice that it is another one."""
        return not self.connections and self._messages.full(now) and self._bytes.full(now)


class Budgets:
    """One Budget an actor, for all of its connections. One that was spent outlives them until it is full
    again, so that a new connection is no new budget."""

    def __init__(self, messages_per_second: float, bytes_per_second: float) -> None:
        self._rates = messages_per_second, bytes_per_second
        self._by_actor: dict[str, Budget] = {}
        self._sweep_at = 1000  # so many actors

    def of(self, actor: str, now: float) -> Budget:
        budget = self._by_actor.get(actor)
        if budget is None:
            if len(self._by_actor) >= self._sweep_at:
                self._by_actor = {a: b for a, b in self._by_actor.items() if not b.unused(now)}
                self._sweep_at = max(1000, 2 * len(self._by_actor))
            budget = self._by_actor[actor] = Budget(*self._rates)
        return budget
