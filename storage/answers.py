"""Answers to requests that must not be done twice, by who asked and the key that came with the request."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, delete, func, insert, select, update

from collab.errors import CollabError, Overloaded, RateLimited
from storage.database import Database
from storage.models import answers

SECONDS = 24 * 3600  # for which an answer is kept
PER_ACTOR = 1000  # keys in that time; then 429
IN_ALL = 200_000  # rows; then 503: guests cost nothing to be anew
BODY_BYTES = 256 << 10  # of an answer; of a longer one only the key is kept


class KeyReused(CollabError):
    """This Idempotency-Key came with another request before. Each request needs a key of its own."""

    status = 422
    code = "idempotency-key-reused"


class KeyBusy(CollabError):
    """The first request with this Idempotency-Key is still under way, or its answer is not known."""

    status = 409
    code = "idempotency-key-busy"


@dataclass(frozen=True, slots=True)
class Answer:
    """What was answered."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Answers:
    """The kept answers of one database. All methods raise StorageUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._running: set[tuple[str, str]] = set()  # in this process, the only one

    async def begin(self, actor: str, key: str, digest: bytes) -> Answer | None:
        """The answer that ``actor`` got to the request with this key; None when it is the first one, which
        must be followed by ``finish``, ``forget`` or ``leave``. ``digest`` is of all that the request is.

        Raises KeyReused, KeyBusy, RateLimited, Overloaded.
        """
        if (actor, key) in self._running:
            raise KeyBusy("the first request with this key is still under way; ask again in a moment")
        self._running.add((actor, key))
        now = time.time_ns() // 1000

        def work(connection: Connection) -> tuple[bytes, Answer | None] | None:
            connection.execute(delete(answers).where(answers.c.made_at < now - SECONDS * 1_000_000))
            mine = (answers.c.actor == actor) & (answers.c.key == key)
            row = connection.execute(select(answers).where(mine)).one_or_none()
            if row is not None:
                if row.body is None:
                    return row.digest, None
                return row.digest, Answer(row.status, json.loads(row.headers), row.body)
            counted = select(func.count()).select_from(answers)
            if connection.execute(counted.where(answers.c.actor == actor)).scalar_one() >= PER_ACTOR:
                raise RateLimited(f"you may use {PER_ACTOR} keys in 24 hours", 3600)
            if connection.execute(counted).scalar_one() >= IN_ALL:
                raise Overloaded("no more Idempotency-Keys can be kept now; try again later")
            connection.execute(insert(answers).values(actor=actor, key=key, digest=digest, made_at=now))
            return None

        found = None
        try:
            found = await self._database.write(work)
        except BaseException:
            self.leave(actor, key)
            raise
        if found is None:
            return None
        self.leave(actor, key)
        known, answer = found
        if known != digest:
            raise KeyReused("this key came with another request before; take a new one")
        if answer is None:
            raise KeyBusy(
                "a request with this key was begun, and its answer is not kept: look whether it was done, "
                "then take a new key"
            )
        return answer

    async def finish(self, actor: str, key: str, answer: Answer) -> None:
        """Keep the answer."""
        mine = (answers.c.actor == actor) & (answers.c.key == key)
        body = answer.body if len(answer.body) <= BODY_BYTES else None
        new = {"status": answer.status, "headers": json.dumps(dict(answer.headers)), "body": body}
        try:
            await self._database.write(
                lambda c: c.execute(update(answers).where(mine).values(**new)).rowcount
            )
        finally:
            self.leave(actor, key)

    async def forget(self, actor: str, key: str) -> None:
        """Nothing was done: the same request may come again."""
        mine = (answers.c.actor == actor) & (answers.c.key == key)
        try:
            await self._database.write(lambda c: c.execute(delete(answers).where(mine)).rowcount)
        finally:
            self.leave(actor, key)

    def leave(self, actor: str, key: str) -> None:
        """Nobody knows what was done: the key is used up."""
        self._running.discard((actor, key))
