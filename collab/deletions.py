"""Which clocks of a document are deleted: tells whether a deletion brings anything new.

A keystroke of Backspace is an update with no struct in it, and whether it changes anything shows only in
the doc. Kept here as ranges, the answer takes a microsecond and needs no doc.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable


class Deletions:
    """A set of (client, clock), as disjoint ranges by client that do not touch."""

    def __init__(self, ranges: Iterable[tuple[int, int, int]] = ()) -> None:
        self._spans: dict[int, tuple[array[int], array[int]]] = {}
        self.add(ranges)

    def add(self, ranges: Iterable[tuple[int, int, int]]) -> bool:
        """Take in ranges (client, first clock, next clock); whether any of it was not deleted yet."""
        new = False
        for client, start, stop in ranges:
            spans = self._spans.get(client)
            if spans is None:
                spans = self._spans[client] = (array("Q"), array("Q"))
            starts, stops = spans
            first = bisect_left(stops, start)  # the first span that ends at or after our start
            if first < len(stops) and starts[first] <= start and stop <= stops[first]:
                continue
            last = bisect_right(starts, stop, first)  # up to here spans overlap or touch ours
            if last > first:
                start, stop = min(start, starts[first]), max(stop, stops[last - 1])
            starts[first:last] = array("Q", (start,))
            stops[first:last] = array("Q", (stop,))
            new = True
        return new

    def cover(self, ranges: Iterable[tuple[int, int, int]]) -> bool:
        """Whether all of the ranges are deleted already."""
        for client, start, stop in ranges:
            starts, stops = self._spans.get(client, ((), ()))
            first = bisect_left(stops, stop)
            if first == len(stops) or starts[first] > start:
                return False
        return True
