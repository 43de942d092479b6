"""A document made of another one as it is now: its text, its images, and none of its past."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Response
from pycrdt import Text

from collab.document import EMPTY_UPDATE, new_doc
from collab.errors import DocumentExists, TooLarge, UpdateError
from collab.log import Origin
from collab.update import EMBED, FORMAT
from collab.weave import Weave
from storage.images import Images
from web.auth import Reader
from web.connections import Live
from web.documents import (
    MISSING,
    TITLE_LIMIT,
    Document,
    Gate,
    Index,
    NewDocument,
    Rooms,
    Store,
    making,
    name_of,
    path_of,
    role_of_maker,
    shown,
)
from web.idempotency import ERRORS as KEY_ERRORS
from web.idempotency import Idempotent
from web.images import images_of
from web.problem import responses

router = APIRouter(prefix="/api/documents", tags=["documents"], route_class=Idempotent)


@router.post(
    "/{document}/copies",
    status_code=201,
    responses={**MISSING, **responses(DocumentExists, TooLarge, *KEY_ERRORS)},
)
async def copy_document(
    grant: Reader,
    new: NewDocument,
    gate: Gate,
    documents: Store,
    hub: Rooms,
    images: Annotated[Images, Depends(images_of)],
    index: Index,
    live: Live,
    response: Response,
) -> Document:
    """Make a document that says and shows what this one does. It is yours, shared with nobody, and begins
    without a history. Without a title it is called a copy of this one."""
    source, identity = grant.document, grant.identity
    name = name_of(new, identity, gate)
    found = await documents.get(source)
    title = new.title or (f"Copy of {found.title}"[:TITLE_LIMIT] if found.title else "")
    _, state = await hub.state(source)
    data = await hub.away(len(state), fresh, state, path_of(source), path_of(name))
    async with making(name, title, identity, documents, index, live):
        await images.share(source, name, identity.actor.id)
        if data != EMPTY_UPDATE:
            await hub.write(name, identity.actor, Origin.API, data)
    response.headers["Location"] = path_of(name)
    return shown(await documents.get(name), role_of_maker(identity, name))


def fresh(state: bytes, source: str, target: str) -> bytes:
    """An update that says what ``state`` does, written anew where it is plain text: what was deleted is not
    in it, and links to images of ``source`` lead to those of ``target``."""
    weave = Weave()
    try:
        weave.add(1, state)
    except UpdateError:
        return state
    roots = weave.texts()
    marked = 1 << FORMAT | 1 << EMBED
    if set(weave.roots) - set(roots) or any(weave.kinds[weave.roots[root]] & marked for root in roots):
        return state  # maps, XML, formatted text: as it is
    doc = new_doc()
    for root in roots:
        if text := weave.strand(root).text(1):
            doc.get(root, type=Text).insert(0, text.replace(f"{source}/images/", f"{target}/images/"))
    update: bytes = doc.get_update()
    return update
