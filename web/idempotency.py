"""Idempotency-Key: a request that is sent again is not done again; its first answer is given once more.

A router takes it as its class, ``APIRouter(route_class=Idempotent)``; a route whose body is not for memory
calls ``once`` itself. Kept is the answer to what was done (2xx), for 24 hours, for the same actor. What was
refused has done nothing, and may be sent again with the same key.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Awaitable, Callable, Coroutine
from typing import Annotated, Any

from fastapi import Depends, Header, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.responses import Response

from collab.errors import CollabError, InvalidRequest, Overloaded, RateLimited, StorageUnavailable
from storage.answers import Answer, Answers, KeyBusy, KeyReused
from web.auth import Identity, authenticator_of

HEADER = "Idempotency-Key"
KEPT = ("content-type", "location", "etag")  # headers of an answer
ERRORS = (KeyReused, KeyBusy, RateLimited, Overloaded)
_KEY = re.compile(r"[!-~]{1,200}")
_REFUSED = (CollabError, RequestValidationError, HTTPException)

_log = logging.getLogger(__name__)


async def declared(
    key: Annotated[
        str | None,
        Header(
            alias=HEADER,
            description="1 to 200 visible ASCII characters, new for each request. The same request again "
            "within 24 hours gets the first answer, marked `Idempotency-Replayed: true`.",
            examples=["b1f4b0a8-6f3c-4c56-9d1e-0a9b6f1f3e55"],
        ),
    ] = None,
) -> None:
    """For the OpenAPI document; the class of the route reads it."""


class Idempotent(APIRoute):
    """Routes whose POSTs are done once for each key."""

    def __init__(self, *args: Any, **options: Any) -> None:
        if options.get("methods") and "POST" in options["methods"]:
            options["dependencies"] = [*(options.get("dependencies") or ()), Depends(declared)]
        super().__init__(*args, **options)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handle_once(request: Request) -> Response:
            if request.method != "POST" or HEADER not in request.headers:
                return await handle(request)
            identity = await authenticator_of(request).identify(request)
            digest = hashlib.sha256(await request.body()).digest()
            return await once(request, identity, digest, lambda: handle(request))

        return handle_once


async def once(
    request: Request, identity: Identity, body: bytes, work: Callable[[], Awaitable[Response]]
) -> Response:
    """Do ``work``, or give the answer that it had when ``request`` came before with the same key. ``body`` is
    a digest of the request's body. Without a key, ``work`` is done.

    Raises KeyReused, KeyBusy, RateLimited, Overloaded, InvalidRequest (no key; somebody who will not be known
    again), and what ``work`` raises.
    """
    key = request.headers.get(HEADER)
    if key is None:
        return await work()
    if not _KEY.fullmatch(key):
        raise InvalidRequest(f"an {HEADER} has 1 to 200 visible ASCII characters")
    if not identity.lasting:
        raise InvalidRequest(f"an {HEADER} needs somebody who is known again: bring a token or a cookie")
    kept: Answers = request.app.state.answers
    url = request.url
    asked = "\n".join((request.method, url.path, url.query, request.headers.get("content-type", "")))
    digest = hashlib.sha256(asked.encode("utf-8", "surrogateescape") + b"\n" + body).digest()
    actor = identity.actor.id
    if (answer := await kept.begin(actor, key, digest)) is not None:
        return Response(answer.body, answer.status, {**answer.headers, "Idempotency-Replayed": "true"})
    try:
        response = await work()
    except _REFUSED:
        await kept.forget(actor, key)
        raise
    except BaseException:
        kept.leave(actor, key)
        raise
    if not 200 <= response.status_code < 300:
        await kept.forget(actor, key)
        return response
    headers = {name: response.headers[name] for name in KEPT if name in response.headers}
    try:
        await kept.finish(actor, key, Answer(response.status_code, headers, bytes(response.body)))
    except StorageUnavailable as error:  # it was done all the same
        _log.error("the answer to a request with a key is not kept: %s", error)
    return response
