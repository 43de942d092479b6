"""What the recorded process writes; the judge makes the same plan again to know what must be there."""

import gzip
import struct
from itertools import count

from collab.log import Actor, Batch, Entry, Origin

ACTORS = [Actor(f"guest:{n}", "guest", f"Guest {n}") for n in range(3)]
DOCUMENTS = ["friends/for ever", "été 😀", "third"]


def read_updates(path):
    """Real updates: two people typing (friendsforever of josephg/editing-traces, CC BY 4.0)."""
    data, updates, at = gzip.decompress(path.read_bytes()), [], 0
    while at < len(data):
        (length,) = struct.unpack_from("<H", data, at)
        updates.append(data[at + 2 : at + 2 + length])
        at += 2 + length
    return updates


def commits(updates):
    """Group after group: one to three documents, one to four entries each."""
    heads = dict.fromkeys(DOCUMENTS, 0)
    at = 0
    for number in count(1):
        group = []
        for place, document in enumerate(DOCUMENTS[: 1 + number % 3]):
            entries = []
            for _ in range(1 + (number + place) % 4):
                if at == len(updates):
                    return
                heads[document] += 1
                actor = ACTORS[at % len(ACTORS)]
                entries.append(
                    Entry(
                        heads[document], actor, at % 7, 1_700_000_000_000_000 + at, Origin.EDIT, updates[at]
                    )
                )
                at += 1
            group.append(Batch(document, 1, entries))
        yield group


def snapshot_after(number, group):
    """Now and then a snapshot, of a size that needs several pages."""
    if number % 20:
        return None
    batch = group[0]
    return batch.document, 1, batch.entries[-1].seq, b"state" * 50 * number


def seal_after(number, group):
    """Now and then the log of a document is packed, as far as it is cold."""
    return group[-1].document if number % 7 == 0 else None
