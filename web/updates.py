"""The raw log of a document, in order: a page of it, what comes next, or all that comes."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from pydantic import BaseModel, Field
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from collab.errors import CollabError, InvalidRequest, RateLimited, ShuttingDown
from collab.hub import Hub
from collab.log import Entry
from storage.log import UpdateLog
from web.accounts import Address
from web.auth import HISTORY, Grant, HistoryReader
from web.connections import Connections, Live
from web.documents import MISSING, Rooms, Store
from web.problem import described, responses

router = APIRouter(prefix="/api/documents", tags=["history"])

MOST = 1000  # entries of an answer
PAGE_BYTES = 512 << 10  # of their updates, about; an answer has at least one entry
WAIT = 60.0  # seconds
LOOK = 1.0  # seconds after which a right that was lost is felt
HEARTBEAT = 15.0  # seconds; proxies cut what is silent for a minute
EPOCH, MICROSECOND = datetime.fromtimestamp(0, UTC), timedelta(microseconds=1)


class Author(BaseModel):
    id: str = Field(examples=["user:ada"])
    kind: str = Field(examples=["user"])
    name: str = Field(description="As last seen in the log.", examples=["Ada"])


class Update(BaseModel):
    """One entry of the log."""

    seq: int = Field(description="Counts from 1, without gaps.", examples=[1024])
    actor: Author
    client: int = Field(description="The Yjs client id that it extends; 0 when it only deletes.")
    received: datetime = Field(description="To the microsecond.", examples=["2026-11-24T18:00:00.123456Z"])
    origin: str = Field(description="edit, offline, import, api, restore or undo.", examples=["edit"])
    data: str = Field(description="The bytes as they were received (Yjs update v1), in base64.")


class Updates(BaseModel):
    """Entries in order. ``next`` is the ``after`` with which to ask for those that follow; there are more
    when it is less than ``head``. A new ``epoch`` means another document: begin again."""

    updates: list[Update]
    next: int
    head: int
    epoch: int


def log_of(request: Request) -> UpdateLog:
    found: UpdateLog = request.app.state.log
    return found


TheLog = Annotated[UpdateLog, Depends(log_of)]


class Right:
    """What a request that takes long was let in with; looked at again when it may have changed, and the
    first time: it may have since the request was let in."""

    def __init__(self, request: Request, live: Connections, grant: Grant) -> None:
        self._request, self._live = request, live
        self._grant = grant
        self._revision: int | None = None

    async def check(self) -> None:
        """Raises Forbidden, NotAuthenticated, DocumentNotFound: the right is no more."""
        revision, now = self._live.revision, time.time()
        due = [moment for moment in (self._grant.until, self._grant.identity.expires) if moment is not None]
        if revision != self._revision or (due and now >= min(due)):
            self._grant = await HISTORY(self._request.path_params["document"], self._request)
            self._revision = revision


class Stream(StreamingResponse):
    """What takes long to tell, to somebody who is counted meanwhile; one too many gets its 429 before it
    begins."""

    def __init__(
        self,
        pieces: AsyncIterator[str] | AsyncIterator[bytes],
        counted: AbstractContextManager[None],
        media_type: str,
    ) -> None:
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}  # or nginx would gather them
        super().__init__(pieces, media_type=media_type, headers=headers)
        self._counted = counted

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._counted:
            await super().__call__(scope, receive, send)


@router.get(
    "/{document}/updates",
    response_model=Updates,
    responses={
        200: {
            "description": "With `follow=1` server-sent events: each entry as the JSON of an Update, its seq "
            "as the event's id; an `error` event with a problem at the end, if it is not you who ends it.",
            "content": {"text/event-stream": {"schema": {"type": "string"}}},
        },
        **MISSING,
        **responses(RateLimited),
    },
)
async def read_updates(
    grant: HistoryReader,
    request: Request,
    address: Address,
    documents: Store,
    log: TheLog,
    hub: Rooms,
    live: Live,
    after: Annotated[int, Query(ge=0, le=2**31 - 1, description="Entries with a greater seq.")] = 0,
    limit: Annotated[int, Query(ge=1, le=MOST)] = 100,
    wait: Annotated[
        float, Query(ge=0, le=WAIT, description="Seconds to wait for one, if there is none.")
    ] = 0,
    follow: Annotated[bool, Query(description="Go on with what comes, as server-sent events.")] = False,
    last_event_id: Annotated[str | None, Header(description="Where a stream that was cut goes on.")] = None,
) -> Response | Updates:
    name = grant.document
    document = await documents.get(name)
    right = Right(request, live, grant)
    if follow:
        if last_event_id is not None:
            after = _event_id(last_event_id)
        counted = live.stream(grant.identity.actor.id, address)
        return Stream(_events(right, log, hub, name, after), counted, "text/event-stream")
    until = time.monotonic() + wait
    while True:
        more = hub.next_commit(name)
        entries = await log.entries(name, after, limit, PAGE_BYTES)
        left = until - time.monotonic()
        if entries or left <= 0 or hub.closing:
            break
        await asyncio.wait((more,), timeout=min(left, LOOK))
        await right.check()
    last = entries[-1].seq if entries else after
    head = max(document.head, last)
    return Updates(updates=[shown(entry) for entry in entries], next=last, head=head, epoch=document.epoch)


async def _events(right: Right, log: UpdateLog, hub: Hub, name: str, after: int) -> AsyncIterator[str]:
    """Entries as long as the right lasts. The reader sets the pace: what it has not read is in the log."""
    try:
        yield "retry: 1000\n\n"
        told = time.monotonic()
        while True:
            await right.check()
            more = hub.next_commit(name)
            entries = await log.entries(name, after, MOST, PAGE_BYTES)
            for entry in entries:
                yield f"id: {entry.seq}\ndata: {shown(entry).model_dump_json()}\n\n"
                after = entry.seq
            if entries:
                told = time.monotonic()
                continue
            if hub.closing:
                raise ShuttingDown("the server restarts; reconnect")
            if time.monotonic() - told >= HEARTBEAT:
                yield ": still here\n\n"
                told = time.monotonic()
            await asyncio.wait((more,), timeout=LOOK)
    except CollabError as error:
        yield f"event: error\ndata: {described(error).model_dump_json()}\n\n"


def shown(entry: Entry) -> Update:
    return Update(
        seq=entry.seq,
        actor=Author(id=entry.actor.id, kind=entry.actor.kind, name=entry.actor.name),
        client=entry.client,
        received=EPOCH + entry.received * MICROSECOND,
        origin=entry.origin.name.lower(),
        data=base64.b64encode(entry.data).decode(),
    )


def _event_id(given: str) -> int:
    if not (given.isascii() and given.isdecimal() and len(given) < 11 and int(given) < 2**31):
        raise InvalidRequest(f"Last-Event-ID must be the id of an event, not {given[:40]!r}")
    return int(given)
