"""The WebSocket edge: accept, join, read. The only shell around ``Room``."""

from __future__ import annotations

from fastapi import APIRouter, WebSocket

from collab.document import parse_name
from collab.errors import CollabError
from collab.hub import Hub
from collab.session import Session
from web.auth import actor_of
from web.transport import Transport

router = APIRouter()


@router.websocket("/ws/{document:path}")
async def connect(websocket: WebSocket, document: str) -> None:
    """A y-websocket client: one document, one socket.

    Refusals are accepted first and then closed with a code and a reason: a browser that is refused
    before sees only 1006 and comes back for ever.
    """
    link: Transport = websocket.scope["extensions"]["collab.link"]
    hub: Hub = websocket.app.state.hub
    subprotocols = websocket.scope["subprotocols"]
    await websocket.accept(subprotocol=subprotocols[0] if subprotocols else None)
    session = Session(actor_of(websocket), link)
    try:
        async with hub.join(parse_name(document), session) as room:
            link.attach(
                lambda frame: hub.receive(room, session, frame),
                lambda: room.drained(session),
            )
            while (frame := await link.large_message()) is not None:
                await hub.receive_large(room, session, frame)
                link.handled()
    except CollabError as error:
        session.end(error)
