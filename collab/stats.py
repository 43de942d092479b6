"""Counters and latencies of one process, kept as plain numbers: the hot path adds, the scrape formats."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field

BOUNDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)  # seconds


class Histogram:
    """Counts of observations by upper bound, as Prometheus wants them."""

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)
        self.total = 0.0

    def observe(self, seconds: float) -> None:
        self.counts[bisect_left(BOUNDS, seconds)] += 1
        self.total += seconds


@dataclass(slots=True)
class Stats:
    """What this process has done since it started."""

    updates: int = 0  # entries committed
    update_bytes: int = 0
    commits: int = 0
    commit_failures: int = 0
    frames: int = 0  # frames received
    held: int = 0  # updates that had to wait for others
    rebuilt: int = 0  # docs dropped after pycrdt raised
    verbatim: int = 0  # documents in which an edit split a surrogate pair
    rooms_loaded: int = 0
    rooms_evicted: int = 0
    rooms_failed: int = 0
    snapshots: int = 0
    snapshot_failures: int = 0
    limited: Counter[str] = field(default_factory=Counter)  # times that a limit was met, by its name
    refused: Counter[str] = field(default_factory=Counter)  # frames refused, by error code
    commit_seconds: Histogram = field(default_factory=Histogram)
    fanout_seconds: Histogram = field(default_factory=Histogram)
    load_seconds: Histogram = field(default_factory=Histogram)
