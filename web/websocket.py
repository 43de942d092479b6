"""The WebSocket edge: accept, find out who it is, join, read. The only shell around ``Room``, with
``web.hocuspocus`` for sockets that carry several documents."""

from __future__ import annotations

from contextlib import suppress
from functools import partial

from starlette.datastructures import QueryParams
from starlette.requests import HTTPConnection
from starlette.types import Receive, Scope, Send

from collab.document import parse_name
from collab.errors import CollabError, DocumentNotFound, EpochChanged, ProtocolError
from collab.hub import Hub
from collab.protocol import Y_WEBSOCKET
from storage.documents import Documents
from web import hocuspocus
from web.auth import SUBPROTOCOL, Authenticator, credentials
from web.connections import Connections
from web.transport import Transport

PREFIX = "/ws/"


async def connect(
    hub: Hub,
    authenticator: Authenticator,
    connections: Connections,
    documents: Documents,
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
                kept = credentials(scope)
                socket = hocuspocus.Socket(hub, authenticator, connections, link, kept, address)
                del connection, scope, receive, send
                link.forget_handshake()
                await socket.serve(connections.sign_in_seconds)
                return
            if not path.startswith(PREFIX):
                raise ProtocolError("documents are at /ws/{document}, and Hocuspocus clients at /ws")
            name = parse_name(path[len(PREFIX) :])
            since = connections.dismissals
            identity = await authenticator.identify(connection)
            link.belongs_to(identity.actor.id if identity.signed_in else address)
            epoch = _epoch(connection.query_params)
            del connection, scope, receive, send
            link.forget_handshake()
            async with connections.enter(identity, since, name, address, link, Y_WEBSOCKET) as entered:
                session = entered.session
                if epoch is not None:
                    await _check_epoch(documents, name, epoch)
                async with hub.join(name, session) as room:
                    link.attach(partial(hub.receive, room, session), partial(room.drained, session))
                    while (frame := await link.large_message()) is not None:
                        link.handled(await hub.receive_large(room, session, frame))
    except CollabError as error:
        link.close(error.close_code, str(error))


def _epoch(query: QueryParams) -> int | None:
    """Of which epoch the client has a copy, if it says so."""
    given = query.get("epoch")
    if given is None:
        return None
    if not given.isascii() or not given.isdigit():
        raise ProtocolError("epoch is a number, as the API gives it")
    return int(given)


async def _check_epoch(documents: Documents, name: str, epoch: int) -> None:
    """Raises EpochChanged before anything of the one is merged into the other. Where there is nothing, a
    copy brings back what the server has lost."""
    with suppress(DocumentNotFound):
        if (await documents.get(name)).epoch != epoch:
            raise EpochChanged("the document was reset since your copy was made")


def _subprotocol(offered: list[str]) -> str | None:
    """The first that is asked for, a token only when there is nothing else: browsers need an answer."""
    named = [name for name in offered if not name.startswith(SUBPROTOCOL)] or offered
    return named[0] if named else None
