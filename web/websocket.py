"""The WebSocket edge: accept, join, read. The only shell around ``Room``."""

from __future__ import annotations

from functools import partial

from starlette.requests import HTTPConnection
from starlette.types import Receive, Scope, Send

from collab.document import parse_name
from collab.errors import CollabError, ProtocolError
from collab.hub import Hub
from collab.session import Session
from web.auth import actor_of
from web.transport import Transport

PREFIX = "/ws/"


async def connect(hub: Hub, scope: Scope, receive: Receive, send: Send) -> None:
    """Serve a y-websocket client at ``/ws/{document}``: one document, one socket.

    A plain ASGI function: an idle socket keeps its frames alive, and a web framework's are 20 KiB of
    them. Refusals are accepted first and then closed with a code and a reason: a browser that is refused
    before sees only 1006 and comes back for ever.
    """
    link: Transport = scope["extensions"]["collab.link"]
    session = Session(actor_of(HTTPConnection(scope)), link)
    path = scope["path"]
    subprotocols = scope["subprotocols"]
    await receive()
    await send({"type": "websocket.accept", "subprotocol": subprotocols[0] if subprotocols else None})
    link.forget_handshake()
    try:
        if not path.startswith(PREFIX):
            raise ProtocolError("documents are at /ws/{document}")
        async with hub.join(parse_name(path[len(PREFIX) :]), session) as room:
            link.attach(partial(hub.receive, room, session), partial(room.drained, session))
            while (frame := await link.large_message()) is not None:
                await hub.receive_large(room, session, frame)
                link.handled()
    except CollabError as error:
        session.end(error)
