"""The documents API: list, make, read, rename, delete."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Annotated, Literal
from urllib.parse import quote

from fastapi import APIRouter, Depends, Query, Request, Response
from pycrdt import Text
from pydantic import BaseModel, ConfigDict, Field

from collab.document import TEXT_ROOT, check_name, new_doc
from collab.errors import (
    CollabError,
    DocumentDeleted,
    DocumentExists,
    DocumentNotFound,
    Forbidden,
    InvalidName,
    InvalidRequest,
    NotAuthenticated,
    StorageUnavailable,
)
from collab.hub import Hub
from collab.log import Origin
from collab.rights import Role, granted
from storage.documents import Document as Stored
from storage.documents import Documents, Sort
from web.auth import Anyone, Authenticator, Editor, Identity, Owner, Reader, authenticator_of
from web.connections import Connections, Live
from web.idempotency import ERRORS as KEY_ERRORS
from web.idempotency import Idempotent
from web.indexer import Indexer
from web.problem import responses

router = APIRouter(prefix="/api/documents", tags=["documents"], route_class=Idempotent)

TITLE_LIMIT = 500  # characters
MISSING = responses(
    InvalidName,
    NotAuthenticated,
    Forbidden,
    DocumentNotFound,
    DocumentDeleted,
    InvalidRequest,
    StorageUnavailable,
)


class Document(BaseModel):
    """A document. ``head`` is the seq of its last update, 0 when it has none."""

    model_config = ConfigDict(from_attributes=True)

    name: str = Field(examples=["minutes/2026-11-23"])
    title: str = Field(examples=["Minutes of Monday"])
    head: int = Field(examples=[1024])
    epoch: int = Field(
        description="Another one means that it was reset: a copy has to begin anew.", examples=[1]
    )
    role: str = Field(default="", description="What you may do with it.", examples=["editor"])
    history: bool | None = Field(
        default=None, description="Whether you may read its history; null where documents are listed."
    )
    created_at: datetime
    updated_at: datetime
    imported_head: int | None = Field(
        default=None,
        description="Updates up to this one came out of an archive: it says who wrote them, and when.",
    )
    imported_by: str | None = Field(default=None, description="Who imported it.", examples=["user:ada"])
    imported_at: datetime | None = None


class Snippet(BaseModel):
    """Some plain text of a document around what was looked for."""

    model_config = ConfigDict(from_attributes=True)

    text: str = Field(examples=["…where the reading room's index cards go"])
    marks: list[tuple[int, int]] = Field(
        description="Where hits begin and end in it, in characters (Unicode code points).",
        examples=[[[11, 18]]],
    )


class Listed(Document):
    """A document in a list."""

    snippet: Snippet | None = Field(default=None, description="Where its text has what `q` asks for.")


class DocumentList(BaseModel):
    """Documents; ``next`` is the cursor of the following page."""

    documents: list[Listed]
    next: str | None


class NewDocument(BaseModel):
    """What to make. Without a name one is chosen that nobody can guess."""

    model_config = ConfigDict(extra="forbid")

    name: str | None = Field(default=None, description="Up to 255 bytes of UTF-8.", examples=["minutes"])
    title: str = Field(default="", max_length=TITLE_LIMIT, examples=["Minutes of Monday"])


class FirstText(NewDocument):
    """A new document, and what it says to begin with."""

    text: str = Field(default="", description="In Markdown.", examples=["# Minutes\n"])


class Change(BaseModel):
    """What to change: the title; or ``deleted: false`` to bring a deleted document back."""

    model_config = ConfigDict(extra="forbid")

    title: str | None = Field(default=None, max_length=TITLE_LIMIT)
    deleted: Literal[False] | None = None


def documents_of(request: Request) -> Documents:
    found: Documents = request.app.state.documents
    return found


def hub_of(request: Request) -> Hub:
    found: Hub = request.app.state.hub
    return found


Store = Annotated[Documents, Depends(documents_of)]


def indexer_of(request: Request) -> Indexer:
    found: Indexer = request.app.state.indexer
    return found


Rooms = Annotated[Hub, Depends(hub_of)]
Index = Annotated[Indexer, Depends(indexer_of)]
Gate = Annotated[Authenticator, Depends(authenticator_of)]


def shown(document: Stored, role: Role | None, history: bool | None = None) -> Document:
    label = "" if role is None else role.label
    return Document.model_validate(document).model_copy(update={"role": label, "history": history})


def path_of(name: str) -> str:
    """Where the API has a document."""
    return f"/api/documents/{quote(name, safe='')}"


@router.get("", responses=responses(InvalidRequest, StorageUnavailable))
async def list_documents(
    identity: Anyone,
    gate: Gate,
    documents: Store,
    limit: Annotated[int, Query(ge=1, le=1000)] = 50,
    cursor: str | None = None,
    q: Annotated[
        str | None,
        Query(
            max_length=200,
            description="Part of a name or title; or words, or how they begin, all of which the document has "
            "in its name, title or text. Case and accents make no difference in words. What was written in "
            "the last seconds may not be found yet.",
        ),
    ] = None,
    sort: Annotated[Sort, Query(description="The latest changed or made first, or by title.")] = "changed",
) -> DocumentList:
    """The documents that you may read because they are shared with you, or with everybody; the latest changed
    first, with `q` first those that have it in name or title."""
    everything = gate.sees_all(identity)
    page = await documents.list(
        limit,
        cursor,
        q,
        person=None if everything or identity.rights is not None else identity.actor.id,
        patterns=identity.rights,
        sort=sort,
    )
    roles = await gate.roles(identity, [document.name for document in page.documents])
    listed = [
        Listed.model_validate(
            {
                **shown(document, roles[document.name]).model_dump(),
                "snippet": page.excerpts.get(document.name),
            }
        )
        for document in page.documents
        if document.name in roles
    ]
    return DocumentList(documents=listed, next=page.cursor)


@router.post(
    "",
    status_code=201,
    responses=responses(InvalidName, DocumentExists, Forbidden, StorageUnavailable, *KEY_ERRORS),
)
async def create_document(
    new: FirstText,
    identity: Anyone,
    gate: Gate,
    documents: Store,
    hub: Rooms,
    index: Index,
    live: Live,
    response: Response,
) -> Document:
    """Make a document; it is yours, unless a token says what you may do."""
    try:
        size = len(new.text.encode())
    except UnicodeEncodeError:
        raise InvalidRequest("the text holds half of a surrogate pair") from None
    name = name_of(new, identity, gate)
    async with making(name, new.title, identity, documents, index, live) as made:
        if new.text:
            await hub.write(name, identity.actor, Origin.IMPORT, await hub.away(size, typed, new.text))
            made = await documents.get(name)
    response.headers["Location"] = path_of(name)
    return shown(made, role_of_maker(identity, name))


def name_of(new: NewDocument, identity: Identity, gate: Authenticator) -> str:
    """What a new document will be called. Raises Forbidden when ``identity`` may not make it."""
    name = secrets.token_urlsafe(9) if new.name is None else check_name(new.name)
    gate.check_may_create(identity, name)
    return name


def role_of_maker(identity: Identity, name: str) -> Role | None:
    return Role.OWNER if identity.rights is None else granted(identity.rights, name)


@asynccontextmanager
async def making(
    name: str, title: str, identity: Identity, documents: Documents, index: Indexer, live: Connections
) -> AsyncIterator[Stored]:
    """A document that is ``identity``'s, and is gone again when what is to be in it is refused."""
    made = await documents.create(name, title, identity.actor.id)
    try:
        yield made
    except CollabError:
        await documents.delete(name)
        raise
    index.stir(name)
    live.changed(name)  # whoever waits there was let in while it was nobody's


def typed(text: str) -> bytes:
    """An update that types ``text`` into an empty document."""
    doc = new_doc()
    doc.get(TEXT_ROOT, type=Text).insert(0, text)
    update: bytes = doc.get_update()
    return update


@router.get("/{document}", responses=MISSING)
async def read_document(grant: Reader, documents: Store) -> Document:
    return shown(await documents.get(grant.document), grant.role, grant.history)


@router.patch("/{document}", responses=MISSING)
async def change_document(grant: Editor, change: Change, documents: Store, index: Index) -> Document:
    """Editors may change the title; owners may bring a deleted document back."""
    if change.deleted is False:
        if grant.role < Role.OWNER:
            raise Forbidden("only its owners may bring a document back")
        await documents.undelete(grant.document)
        index.stir(grant.document)
    if change.title is not None:
        index.stir(grant.document)
        return shown(await documents.rename(grant.document, change.title), grant.role, grant.history)
    return shown(await documents.get(grant.document), grant.role, grant.history)


@router.delete("/{document}", status_code=204, responses=MISSING)
async def delete_document(grant: Owner, documents: Store, hub: Rooms) -> None:
    await documents.delete(grant.document)
    hub.forget(grant.document)
