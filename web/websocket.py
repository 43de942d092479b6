"""The WebSocket edge: accept, find out who it is, join, read. The only shell around ``Room``, with
``web.hocuspocus`` for sockets that carry several documents."""

from __future__ import annotations

from functools import partial

from starlette.requests import HTTPConnection
from starlette.types import Receive, Scope, Send

from collab.document import parse_name
from collab.errors import CollabError, ProtocolError
from collab.hub import Hub
from collab.protocol import Y_WEBSOCKET
from web import hocuspocus
from web.auth import SUBPROTOCOL, Authenticator
from web.connections import Connections
from web.transport import Transport

PREFIX = "/ws/"


async def connect(
    hub: Hub,
    authenticator: Authenticator,
    connections: Connections,
    scope: Scope,
    receive: Receive,
    send: Send,
) -> None:
    """Serve a y-websocket client at ``/ws/{document}``, and a Hocuspocus client at ``/ws``.

    A plain ASGI function: an idle socket keeps its frames alive, and a web framework's are 20 KiB of
    them. Refusals are accepted first and then closed with a code and a reason: a browser that is refused
    before sees only 1006 and comes back for ever.
    """
    link: Transport = scope["extensions"]["collab.link"]
    connection = HTTPConnection(scope)
    await receive()
    await send({"type": "websocket.accept", "subprotocol": _subprotocol(scope["subprotocols"])})
    address = scope["client"][0] if scope["client"] else ""
    path = scope["path"]
    try:
        with connections.socket(address):
            if path == PREFIX.rstrip("/"):
                socket = hocuspocus.Socket(hub, authenticator, connections, link, connection, address)
                await socket.serve(connections.sign_in_seconds)
                return
            if not path.startswith(PREFIX):
                raise ProtocolError("documents are at /ws/{document}, and Hocuspocus clients at /ws")
            name = parse_name(path[len(PREFIX) :])
            since = connections.dismissals
            identity = await authenticator.identify(connection)
            link.belongs_to(identity.actor.id if identity.signed_in else address)
            del connection, scope, receive, send
            link.forget_handshake()
            async with connections.enter(identity, since, name, address, link, Y_WEBSOCKET) as entered:
                session = entered.session
                async with hub.join(name, session) as room:
                    link.attach(partial(hub.receive, room, session), partial(room.drained, session))
                    while (frame := await link.large_message()) is not None:
                        await hub.receive_large(room, session, frame)
                        link.handled()
    except CollabError as error:
        link.close(error.close_code, str(error))


def _subprotocol(offered: list[str]) -> str | None:
    """The first that is asked for, a token only when there is nothing else: browsers need an answer."""
    named = [name for name in offered if not name.startswith(SUBPROTOCOL)] or offered
    return named[0] if named else None
