"""Fuzz the gate: whatever ``check`` accepts is applied to pycrdt, which must survive it.

    python tests/fuzz_update.py --seconds 60 [--seed 1] [--cases 100000]

Noise finds nothing in pycrdt; this writes well-formed structs with odd ids, one to nine updates a
document, half of them plausible. Documents live in a child process, so that a crash, a hang (a watchdog
of 20 s) or a panic costs one case; each is printed with the number that repeats it (``--case N``).
Exit status 1 if a process crashed or hung, if pycrdt could not decode what the gate let pass, or if its
clocks differ from the gate's. Counted, and no failure, because a room drops its doc and rebuilds it from the
log after anything raised, and so does this: panics, RuntimeError (a parent that is no shared type), panics
of local edits in a hostile text, and logs that raise when replayed merged instead of one by one.
"""

from __future__ import annotations

import argparse
import collections
import io
import os
import random
import resource
import select
import struct
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from pycrdt import Doc, Text, merge_updates

from collab.errors import UpdateError
from collab.update import Surrogates, before_skips, check, split, state_vector

WATCHDOG = 20.0
ROOTS = ("t", "t", "t", "u")
COUNTERS = (
    *(
        "cases",
        "updates",
        "accepted",
        "held",
        "refused",
        "splits",
        "runtime",
        "edit panics",
        "merged replay raises",
    ),
    *("reload differs", "value", "panic", "clocks"),
)


class Writer:
    """Bytes of one update, written by the grammar."""

    def __init__(self, rng: random.Random, clocks: dict[int, int], wild: float) -> None:
        self.rng, self.clocks, self.wild, self.out = rng, clocks, wild, bytearray()

    def number(self, value: int) -> None:
        while value > 127:
            self.out.append(value & 127 | 128)
            value >>= 7
        self.out.append(value)

    def string(self, value: str) -> None:
        raw = value.encode()
        self.number(len(raw))
        self.out += raw

    def client(self) -> int:
        if self.rng.random() < self.wild / 4:
            return self.rng.choice((0, 4, 2**32 - 1, 2**32, 2**53 - 1, 2**53, 2**53 + 1))
        return self.rng.randint(1, 3)

    def clock(self, client: int, below: int | None = None) -> int:
        rng = self.rng
        if rng.random() < self.wild / 4:
            return rng.choice((2**31 - 2, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**53, rng.randint(0, 40)))
        top = self.clocks.get(client, 0) if below is None else below
        return rng.randrange(top) if top > 0 else 0

    def id(self, own: int, clock: int) -> None:
        client = self.client() if self.rng.random() < 0.5 or not clock else own
        if not self.clocks.get(client) and client != own and self.rng.random() > self.wild / 4:
            client = next((c for c, k in self.clocks.items() if k), own)
        self.number(client)
        self.number(self.clock(client, clock if client == own else None))

    def text(self) -> str:
        rng = self.rng
        return "".join(
            rng.choice("abcdé€🎉\ufffd\n")
            for _ in range(rng.choice((1, 1, 1, 2, 3, 5, 0 if rng.random() < self.wild else 1)))
        )

    def value(self, depth: int = 0) -> None:
        rng = self.rng
        tag = rng.choice((116, 117, 118, 119, 120, 121, 122, 123, 124, 125, 126, 127))
        if depth > 4 and tag in (117, 118):
            tag = 126
        if rng.random() < self.wild / 20:
            tag = rng.randrange(256)
        self.out.append(tag)
        if tag == 116:
            self.number(2)
            self.out += b"xy"
        elif tag in (117, 118):
            count = rng.randint(0, 3)
            self.number(count)
            for _ in range(count):
                if tag == 118:
                    self.string(rng.choice("ab"))
                self.value(depth + 1)
        elif tag == 119:
            self.string(self.text())
        elif tag in (122, 123, 124):
            self.out += rng.randbytes(4 if tag == 124 else 8)
        elif tag == 125:
            self.number(rng.choice((0, 1, 63, 65, 127, 4095, 2**31, 2**40)))

    def struct(self, client: int, clock: int) -> int:
        rng = self.rng
        kind = rng.choices(
            (0, 1, 3, 4, 5, 6, 7, 8, 10, 2, 9, 11), (3, 6, 2, 30, 2, 8, 8, 6, 2, 0.2, 0.2, 0.1)
        )[0]
        length = rng.choice((1, 1, 2, 3, 7))
        if rng.random() < self.wild / 10:
            length = rng.choice(
                (0, max(0, 2**31 - 1 - clock), 2**31, 2**32 - 1, max(0, 2**32 - clock), 2**40)
            )
        if kind in (0, 10):
            self.out.append(kind if rng.random() > self.wild / 20 else kind | 128)
            self.number(length)
            return length
        flags = kind
        shape = rng.random()
        fits = clock or any(k for c, k in self.clocks.items() if c != client)
        if shape < 0.45 and fits:
            flags |= 128
        elif shape < 0.6 and fits:
            flags |= 64
        elif shape < 0.75 and fits:
            flags |= 192
        if rng.random() < 0.3:
            flags |= 32
        if rng.random() < self.wild / 30:
            flags ^= 16
        self.out.append(flags)
        if flags & 128:
            self.id(client, clock)
        if flags & 64:
            self.id(client, clock)
        if not flags & 192:
            if rng.random() < 0.6 or not fits:
                self.out.append(1)
                self.string(rng.choice(ROOTS))
            else:
                self.out.append(0)
                self.id(client, clock)
            if flags & 32:
                self.string(rng.choice(("k", "l", "")))
        if kind == 1:
            self.number(length)
            return length
        if kind == 2:
            self.number(1)
            self.string("1")
        elif kind == 3:
            self.number(2)
            self.out += b"xy"
        elif kind == 4:
            value = self.text()
            self.string(value)
            return len(value.encode("utf-16-le")) // 2
        elif kind == 5:
            self.string(
                rng.choice(("{}", "1", '"x"', '{"a":[1,{"b":null}]}', "x", "NaN", '"\\ud800"', "1e999"))
            )
        elif kind == 6:
            self.string(rng.choice(("bold", "i", "")))
            self.string(
                rng.choice(
                    ("true", "null", "true", "null", '{"a":1}', '"\\udc00"', "-0", "[" * 70 + "]" * 70)
                )
            )
        elif kind == 7:
            shape = rng.choice((0, 1, 2, 3, 4, 6, 2, 2)) if rng.random() > 0.05 else rng.randrange(20)
            self.number(shape)
            if shape in (3, 5):
                self.string("p")
        elif kind == 8:
            count = rng.randint(1, 3)
            self.number(count)
            for _ in range(count):
                self.value()
            return count
        elif kind == 9:
            self.string("guid")
            self.value()
        return 1

    def update(self) -> bytes:
        rng = self.rng
        clients = rng.sample((1, 2, 3), rng.choice((0, 1, 1, 1, 1, 2, 2, 3)))
        if rng.random() < self.wild / 5:
            clients.append(self.client())
        self.number(len(clients))
        for client in clients:
            count = rng.choice((1, 1, 1, 2, 3, 6))
            clock = self.clocks.get(client, 0)
            near = rng.random()
            if near < 0.15:
                clock = rng.randint(0, clock)
            elif near < 0.15 + self.wild / 4:
                clock = self.clock(client) + rng.randint(0, 3)
            self.number(count)
            self.number(client)
            self.number(clock)
            for _ in range(count):
                clock += self.struct(client, clock)
            if client < 4 and clock < 2**31:
                self.clocks[client] = max(self.clocks.get(client, 0), clock)
        gone = rng.sample((1, 2, 3), rng.choice((0, 0, 1, 1, 2)))
        self.number(len(gone))
        for client in gone:
            count = rng.choice((1, 1, 2, 3))
            self.number(client)
            self.number(count)
            for _ in range(count):
                clock = self.clock(client)
                self.number(clock)
                top = self.clocks.get(client, 0)
                self.number(
                    rng.randint(1, max(1, top - clock))
                    if rng.random() > self.wild / 5
                    else 2**31 - clock & 2**31 - 1
                )
        return bytes(self.out)


def read(doc: Doc) -> str:
    """What a room reads of a doc."""
    text = doc.get("t", type=Text)
    text.diff()
    doc.get_update()
    return str(text)


def edit(doc: Doc) -> None:
    """What a restore does to a doc."""
    text = doc.get("t", type=Text)
    text.insert(0, "x")
    del text[0:1]


def rebuilt(log: list[bytes]) -> Doc:
    doc: Doc = Doc()
    doc.get("t", type=Text)
    for data in log:
        doc.apply_update(data)
    return doc


def case(seed: int, number: int, tally: collections.Counter[str], show: bool = False) -> str | None:
    """One document. Returns what went wrong, or None."""
    rng = random.Random(f"{seed}:{number}")
    wild = rng.choice((0.0, 0.0, 0.1, 1.0))
    log: list[bytes] = []
    doc = rebuilt(log)
    clocks: dict[int, int] = {}
    surrogates = Surrogates()
    torn = False
    fault = None
    for _ in range(rng.randint(1, 9)):
        data = Writer(rng, dict(clocks), wild).update()
        tally["updates"] += 1
        try:
            checked = check(data, clocks)
            if checked.skips and rng.random() < 0.5:
                data = before_skips(data)
                checked = check(data, clocks)
        except UpdateError:
            tally["refused"] += 1
            continue
        if checked.missing:
            tally["held"] += 1
            continue
        tally["accepted"] += 1
        parts = split(data, rng.choice((1, 20, 60))) if rng.random() < 0.2 and not checked.skips else [data]
        if show:
            print(data.hex(), checked, [part.hex() for part in parts], flush=True)
        try:
            for part in parts:
                doc.apply_update(part)
            if rng.random() < 0.3:
                read(doc)
        except RuntimeError as error:
            tally["runtime"] += 1
            if show:
                print(repr(error))
            doc = rebuilt(log)
            continue
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:
            tally["value" if isinstance(error, ValueError) else "panic"] += 1
            fault = f"behind the gate: {error!r}{' (a pair was split)' if torn else ''}"
            doc = rebuilt(log)
            continue
        torn = torn or surrogates.split_by(data)
        surrogates.add(data)
        log += parts
        clocks |= {c: k for c, k in checked.clocks.items() if k > clocks.get(c, 0)}
        seen = {c: k for c, k in state_vector(doc.get_state()).items() if k and c != doc.client_id}
        if seen != clocks and not torn:
            tally["clocks"] += 1
            fault = f"clocks differ: pycrdt {seen}, gate {clocks}"
    tally["splits"] += torn
    try:
        text = read(doc)
        if not torn:
            tally["reload differs"] += read(rebuilt([doc.get_update()])) != text
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        tally["panic"] += 1
        fault = f"on reading: {error!r}{' (a pair was split)' if torn else ''}"
    try:
        read(rebuilt([merge_updates(*log)] if log else []))
    except RuntimeError:
        tally["merged replay raises"] += 1
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        tally["panic"] += 1
        fault = f"on a merged replay: {error!r}"
    try:
        edit(doc)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException:
        tally["edit panics"] += 1
    tally["cases"] += 1
    return fault


def child(seed: int, first: int, last: int, pipe: int) -> None:
    """Run cases; before each write its number, after it what it counted."""
    resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # Rust prints every panic
    for number in range(first, last):
        os.write(pipe, struct.pack("<q", number))
        tally: collections.Counter[str] = collections.Counter()
        fault = case(seed, number, tally)
        raw = (fault or "").encode()[:400]
        os.write(
            pipe, struct.pack(f"<{len(COUNTERS)}IH", *(tally[name] for name in COUNTERS), len(raw)) + raw
        )


def take(process: subprocess.Popen[bytes], stream: io.FileIO, size: int) -> bytes | None:
    """Read from a child; None if it ended, or hung and was killed."""
    raw = b""
    while len(raw) < size:
        if not select.select([stream], [], [], WATCHDOG)[0]:
            process.kill()
            return None
        more = stream.read(size - len(raw))
        if not more:
            return None
        raw += more
    return raw


def run(seed: int, cases: int, seconds: float) -> int:
    """Fuzz until either bound; prints every fault and the sums. Returns the number of failures."""
    total: collections.Counter[str] = collections.Counter()
    failures = 0
    deadline = time.monotonic() + seconds
    number = 0
    while number < cases and time.monotonic() < deadline:
        reader, writer = os.pipe()
        process = subprocess.Popen(
            [
                sys.executable,
                __file__,
                "--seed",
                str(seed),
                "--cases",
                str(cases),
                "--child",
                str(number),
                str(writer),
            ],
            pass_fds=(writer,),
        )
        os.close(writer)
        stream = io.FileIO(reader)

        while time.monotonic() < deadline:
            head = take(process, stream, 8)
            if head is None:
                break
            (number,) = struct.unpack("<q", head)
            body = take(process, stream, 4 * len(COUNTERS) + 2)
            if body is None:
                failures += 1
                total["hang or crash"] += 1
                print(f"case {number}: exit status {process.wait()} (-9: hung)", flush=True)
                number += 1
                break
            *counts, length = struct.unpack(f"<{len(COUNTERS)}IH", body)
            for name, count in zip(COUNTERS, counts, strict=True):
                total[name] += count
            if length:
                print(f"case {number}: {(take(process, stream, length) or b'').decode()}", flush=True)
            number += 1
        process.kill()
        process.wait()
        stream.close()
        if number == 0 and not total:
            raise SystemExit("the child did not start")
    print(f"seed {seed}: " + ", ".join(f"{count} {name}" for name, count in total.items()))
    return failures + total["value"] + total["clocks"]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=60.0, help="stop after so long")
    parser.add_argument("--cases", type=int, default=10**9, help="stop after so many documents")
    parser.add_argument("--seed", type=int, default=1, help="which documents")
    parser.add_argument("--case", type=int, help="run one case here and show its updates")
    parser.add_argument("--child", type=int, nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options.seed, options.child[0], options.cases, options.child[1])
    elif options.case is not None:
        print(case(options.seed, options.case, collections.Counter(), show=True))
    else:
        sys.exit(1 if run(options.seed, options.cases, options.seconds) else 0)


if __name__ == "__main__":
    main()
