"""Passwords: what one may be, and its argon2id hash. Hashing is made to be slow, so it is done elsewhere."""

from __future__ import annotations

import asyncio
import base64
import os
import secrets
import sys
import threading
import unicodedata
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import VerifyMismatchError

from collab.errors import InvalidRequest, Overloaded
from storage.models import storable

SHORTEST = 10  # characters; no rules about which: they make passwords worse (NIST SP 800-63B)
LONGEST = 1024  # bytes
AT_ONCE = 2  # each takes 64 MiB and a tenth of a second of four threads
WAITING = 16  # beyond this a person would wait for longer than it takes to try again

T = TypeVar("T")


class Passwords:
    """Hashes passwords on threads of its own, a few at a time; few more wait, and the rest are refused.

    Every method may raise Overloaded.
    """

    def __init__(self, limited: Counter[str], hasher: PasswordHasher | None = None) -> None:
        self._hasher = hasher or PasswordHasher()
        # Its threads, not a semaphore: who is cancelled leaves a thread at work that must count.
        self._threads = ThreadPoolExecutor(AT_ONCE, "collab-password", _step_back)
        self._places = threading.BoundedSemaphore(AT_ONCE + WAITING)
        self._limited = limited
        self._of_nobody = _hash_of_nobody(self._hasher)

    async def hash(self, password: str) -> str:
        """Raises InvalidRequest (it is too short or too long)."""
        secret = check_password(password)
        return await self._work(lambda: self._hasher.hash(secret))

    async def matches(self, password: str, hash: str | None) -> bool:
        """Was ``hash`` made from ``password``? The answer takes as long when there is no hash.

        Raises InvalidRequest (no password can be so long).
        """
        secret = _normal(password)
        return await self._work(lambda: self._verify(hash or self._of_nobody, secret))

    def outdated(self, hash: str) -> bool:
        """Was it made with other parameters than those of today?"""
        return self._hasher.check_needs_rehash(hash)

    def _verify(self, hash: str, secret: bytes) -> bool:
        try:
            return self._hasher.verify(hash, secret)
        except VerifyMismatchError:
            return False

    async def _work(self, work: Callable[[], T]) -> T:
        if not self._places.acquire(blocking=False):
            self._limited["passwords"] += 1
            raise Overloaded("too many people are signing in at this moment: try again in a second")
        future = self._threads.submit(work)
        future.add_done_callback(lambda _: self._places.release())
        return await asyncio.wrap_future(future)


def _step_back() -> None:
    """Let everything else go first: guesses at passwords must not slow down who is writing. Linux keeps the
    niceness of each thread, and the threads that argon2 starts have that of the one which called it."""
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)


def check_password(password: str) -> bytes:
    """What is hashed of a new password. Raises InvalidRequest."""
    if len(unicodedata.normalize("NFC", password)) < SHORTEST:
        raise InvalidRequest(f"a password needs {SHORTEST} characters or more; several words make a good one")
    return _normal(password)


def _normal(password: str) -> bytes:
    # Keyboards write the same letter as one code point or as two.
    if not storable(password):
        raise InvalidRequest("a password must be UTF-8 without NUL")
    secret = unicodedata.normalize("NFC", password).encode()
    if len(secret) > LONGEST:
        raise InvalidRequest(f"a password has at most {LONGEST} bytes as UTF-8")
    return secret


def _hash_of_nobody(hasher: PasswordHasher) -> str:
    """A hash that no password has, and that takes as long to compare with as any other."""
    salt, digest = (
        base64.b64encode(secrets.token_bytes(size)).decode().rstrip("=")
        for size in (hasher.salt_len, hasher.hash_len)
    )
    work = f"m={hasher.memory_cost},t={hasher.time_cost},p={hasher.parallelism}"
    return f"$argon2id$v=19${work}${salt}${digest}"
