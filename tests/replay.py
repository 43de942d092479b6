"""Real editing histories, made into the updates that their writers' Yjs clients would send.

The extracts in tests/traces are causally closed prefixes of josephg/editing-traces (CC BY 4.0); with
COLLAB_TRACES=DIR the full files of that directory are replayed instead.
"""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pycrdt import Doc, Text

from collab.update import state_vector


class Step(NamedTuple):
    """One keystroke: the update, and what its writer had seen of the others (client id -> clock)."""

    update: bytes
    needs: dict[int, int]


class History(NamedTuple):
    """What each writer typed, in order, and the text that all of it makes."""

    writers: list[list[Step]]
    end: str


def load(name: str) -> History:
    """The history called ``name``: "friendsforever" or "automerge-paper"."""
    full = os.environ.get("COLLAB_TRACES")
    path = Path(full) / f"{name}.json.gz" if full else Path(__file__).parent / f"traces/{name}-prefix.json.gz"
    trace = json.loads(gzip.decompress(path.read_bytes()))
    assert trace["endContent"].isascii(), "positions below count bytes, as pycrdt does"
    return History(_typed(trace), trace["endContent"])


def paper(start: int, stop: int) -> list[Any]:
    """Keystrokes of a real paper: [position, deleted, inserted]."""
    with gzip.open(Path(__file__).parent / "traces/automerge-paper-prefix.json.gz") as file:
        return [patch for txn in json.load(file)["txns"][start:stop] for patch in txn["patches"]]


def typed(patches: Sequence[Any]) -> str:
    """The text that they make."""
    text = ""
    for at, deleted, inserted in patches:
        text = text[:at] + inserted + text[at + deleted :]
    return text


def merged(history: History) -> Iterator[bytes]:
    """All updates of all writers, each after what it depends on."""
    doc: Doc[Any] = Doc()
    waiting = [iter(steps) for steps in history.writers]
    heads = [next(steps, None) for steps in waiting]
    while any(heads):
        for index, steps in enumerate(waiting):
            while (step := heads[index]) is not None:
                clocks = state_vector(doc.get_state())
                if any(clocks.get(client, 0) < clock for client, clock in step.needs.items()):
                    break
                doc.apply_update(step.update)
                yield step.update
                heads[index] = next(steps, None)


def _typed(trace: dict[str, Any]) -> list[list[Step]]:
    """Every writer types in a doc of its own, which has seen just what the parents of the keystroke had."""
    count = trace.get("numAgents", 1)
    ids = [1000 + agent for agent in range(count)]
    docs: list[Doc[Any]] = [Doc(client_id=client) for client in ids]
    texts = [doc.get("content", type=Text) for doc in docs]
    typed: list[list[Step]] = [[] for _ in range(count)]
    clocks: list[list[int]] = [[0] for _ in range(count)]  # of each writer after so many steps
    shown = [[0] * count for _ in range(count)]  # steps of each writer that each doc has
    seen: list[list[int]] = []  # steps of each writer that a transaction has seen, itself included
    for number, transaction in enumerate(trace["txns"]):
        agent = transaction.get("agent", 0)
        parents = transaction.get("parents", [number - 1] if number else [])
        sees = [max((seen[parent][other] for parent in parents), default=0) for other in range(count)]
        assert sees[agent] == len(typed[agent]), "a writer does not type beside itself"
        for other in range(count):
            if other != agent:
                for step in typed[other][shown[agent][other] : sees[other]]:
                    docs[agent].apply_update(step.update)
                shown[agent][other] = max(shown[agent][other], sees[other])
        needs = {ids[other]: clocks[other][sees[other]] for other in range(count) if other != agent}
        updates: list[bytes] = []
        subscription = docs[agent].observe(lambda event, made=updates: made.append(event.update))
        with docs[agent].transaction():
            for position, deleted, inserted in transaction["patches"]:
                if deleted:
                    del texts[agent][position : position + deleted]
                if inserted:
                    texts[agent].insert(position, inserted)
        docs[agent].unobserve(subscription)
        (update,) = updates
        typed[agent].append(Step(update, needs))
        written = sum(len(inserted) for _, _, inserted in transaction["patches"])
        clocks[agent].append(clocks[agent][-1] + written)
        sees[agent] += 1
        seen.append(sees)
    return typed
