"""What a command shows: in colour or not, through a pager or not, and never more than text.

Names and documents are written by strangers. What would move the cursor, ring, retitle the window or turn
the writing round is shown as an escape instead (``plain``).
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable
from contextlib import suppress
from itertools import chain
from typing import IO, Literal
from zlib import crc32

When = Literal["auto", "always", "never"]

# The page's inks, as colours of xterm's 256 that can be read on dark and on light: madder, cobalt, verdigris,
# ochre, plum, moss, umber, slate.
INKS = (167, 69, 36, 172, 170, 106, 137, 103)
BOLD, DIM, UNDERLINED, CROSSED_OUT = "1", "2", "4", "9"
RED, GREEN, YELLOW, CYAN = "31", "32", "33", "36"

# Controls but tab and line feed, line separators, what changes the direction of writing, lone surrogates.
_UNSAFE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def plain(text: str) -> str:
    """``text`` with escapes for what is no text; it may have tabs and several lines."""
    return _UNSAFE.sub(_escaped, text)


def line(text: str) -> str:
    """As ``plain``, on one line."""
    return " ".join(plain(text).split())


def _escaped(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


class Terminal:
    """Standard output."""

    def __init__(self, colour: When, *, pager: bool = True) -> None:
        """In ``auto`` there is colour on a terminal that has any, unless NO_COLOR asks for none."""
        self.is_one = sys.stdout.isatty()
        wanted = not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        self.colour = colour == "always" or (colour == "auto" and self.is_one and wanted)
        self.escapes = self.is_one or self.colour  # else bytes go out as they are
        self._pager = pager
        self._inks: dict[str, int] = {}

    def style(self, text: str, *codes: str) -> str:
        """Each line of ``text`` in itself: a pager shows them one by one."""
        if not self.colour or not codes:
            return text
        begin = f"\x1b[{';'.join(codes)}m"
        return "\n".join(f"{begin}{part}\x1b[m" if part else "" for part in text.split("\n"))

    def ink(self, actor: str) -> str:
        """The colour of an author, nearly always the same one, and another for each of the first eight."""
        if actor not in self._inks:
            taken = set(self._inks.values()) if len(self._inks) < len(INKS) else set()
            slot = crc32(actor.encode("utf-8", "replace"))
            while slot % len(INKS) in taken:
                slot += 1
            self._inks[actor] = slot % len(INKS)
        return f"38;5;{INKS[self._inks[actor]]}"

    def show(self, pieces: Iterable[str]) -> None:
        """Write ``pieces``, on a terminal through the pager. Who has seen enough need not wait for the
        rest. Raises what ``pieces`` raises, and BrokenPipeError."""
        self.write((piece.encode("utf-8", "replace") for piece in pieces), paged=True)

    def write(self, pieces: Iterable[bytes], *, paged: bool = False) -> None:
        """Write bytes. Raises BrokenPipeError when nobody reads them any more."""
        sys.stdout.flush()
        pieces = iter(pieces)
        first = next(pieces, b"")  # whatever is wrong is said before a pager takes the screen
        pieces = chain((first,), pieces)
        command = self._command() if paged and self._pager and self.is_one else None
        if command is None:
            _pour(pieces, sys.stdout.buffer)
            return
        # As for git: leave when it fits on one screen, colours pass, the screen stays as it is.
        environment = {"LESS": "FRX", "LV": "-c", **os.environ}
        pager = subprocess.Popen(command, shell=True, stdin=subprocess.PIPE, env=environment)
        assert pager.stdin is not None
        try:
            _pour(pieces, pager.stdin)
        except (BrokenPipeError, KeyboardInterrupt):  # it was left, or looks at what it has
            pass
        finally:
            interrupts = signal.signal(signal.SIGINT, signal.SIG_IGN)  # ^C is the pager's from here on
            with suppress(BrokenPipeError):
                pager.stdin.close()
            pager.wait()
            signal.signal(signal.SIGINT, interrupts)

    def _command(self) -> str | None:
        command = os.environ.get("PAGER", "less")
        try:
            program = [word for word in shlex.split(command) if "=" not in word][:1]
        except ValueError:
            program = []
        if not program or program == ["cat"] or shutil.which(program[0]) is None:
            return None
        return command


def _pour(pieces: Iterable[bytes], out: IO[bytes]) -> None:
    for piece in pieces:
        out.write(piece)
    out.flush()
