"""The public keys of a host application's tokens: a JWKS from a file or a URL (RFC 7517)."""

from __future__ import annotations

import asyncio
import logging
import time
import urllib.request
from pathlib import Path
from urllib.error import HTTPError

import jwt

from collab.errors import NotAuthenticated, StorageUnavailable

ALGORITHMS = ("RS256", "ES256", "EdDSA")
FRESH_SECONDS = 300.0  # a key that was withdrawn is trusted no longer than this
RETRY_SECONDS = 10.0  # between looks for a key that is not known: anybody can ask for one
TIMEOUT = 5.0
SIZE_LIMIT = 1 << 20

_log = logging.getLogger(__name__)


class KeySet:
    """Keys by their id, looked up anew now and then and when a token names one that is not known."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._keys: dict[str | None, jwt.PyJWK] = {}
        self._read_at = self._tried_at = -FRESH_SECONDS
        self._look: asyncio.Task[bool] | None = None

    async def find(self, token: str) -> jwt.PyJWK:
        """The key that signed ``token``, as its header says. Raises NotAuthenticated, StorageUnavailable (the
        source cannot be read; old keys are not trusted beyond their time)."""
        try:
            kid = jwt.get_unverified_header(token).get("kid")
        except (jwt.PyJWTError, ValueError, RecursionError):
            raise NotAuthenticated("the token is not valid: its header cannot be read") from None
        key = self._choose(kid)
        if key is not None and time.monotonic() - self._read_at <= FRESH_SECONDS:
            return key  # not behind those whose unknown key is being looked for
        now = time.monotonic()
        if self._look is None and now - self._tried_at > RETRY_SECONDS:
            self._tried_at = now
            self._look = asyncio.create_task(self._read())
            self._look.add_done_callback(self._looked)
        if self._look is not None:
            # One look for all who wait, and not over when the one for whom it began has left.
            found = await asyncio.shield(self._look)
        else:
            found = now - self._read_at <= FRESH_SECONDS
        if not found:
            raise StorageUnavailable("the key set cannot be read now; try again")
        key = self._choose(kid)
        if key is None:
            raise NotAuthenticated("the token is signed by a key that is not in the key set")
        return key

    def _choose(self, kid: object) -> jwt.PyJWK | None:
        if kid is None and len(self._keys) == 1:
            return next(iter(self._keys.values()))
        return self._keys.get(kid) if isinstance(kid, str) else None

    def _looked(self, _: asyncio.Task[bool]) -> None:
        self._look = None

    async def _read(self) -> bool:
        """Whether the keys could be read."""
        try:
            data = await asyncio.to_thread(_fetch, self._source)
            keys = jwt.PyJWKSet.from_json(data).keys
            self._keys = {key.key_id: key for key in keys if _signs(key)}
        except Exception as error:  # another's server may answer anything
            # Where the keys are, perhaps with a password, is nothing for the log, nor for who asks.
            _log.error("the key set (--jwks) cannot be read: %s", _fault(error))
            return False
        self._read_at = time.monotonic()
        return True


def _fault(error: Exception) -> str:
    if isinstance(error, HTTPError):
        return f"the answer is {error.code}"
    cause = getattr(error, "reason", error)
    return getattr(cause, "strerror", None) or type(cause).__name__


def _signs(key: jwt.PyJWK) -> bool:
    """No secret among public keys is a key of ours: whoever can read the set could sign with it."""
    usable = key.algorithm_name in ALGORITHMS and isinstance(key.key_id, str | None)
    return usable and key.public_key_use in (None, "sig")


def _fetch(source: str) -> str:
    if not source.startswith(("https://", "http://")):
        return Path(source).read_text()
    with urllib.request.urlopen(source, timeout=TIMEOUT) as answer:
        data: bytes = answer.read(SIZE_LIMIT + 1)
    if len(data) > SIZE_LIMIT:
        raise ValueError(f"larger than {SIZE_LIMIT} bytes")
    return data.decode()
