"""The documents API: list, make, read, rename, delete."""

from __future__ import annotations

import secrets
from datetime import datetime
from typing import Annotated, Literal
from urllib.parse import quote

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from collab.document import check_name
from collab.errors import (
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
from collab.rights import Role, granted
from storage.documents import Document as Stored
from storage.documents import Documents
from web.auth import Anyone, Authenticator, Editor, Owner, Reader, authenticator_of
from web.connections import Live
from web.idempotency import ERRORS as KEY_ERRORS
from web.idempotency import Idempotent
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


class DocumentList(BaseModel):
    """Documents, the latest changed first; ``next`` is the cursor of the following page."""

    documents: list[Document]
    next: str | None


class NewDocument(BaseModel):
    """What to make. Without a name one is chosen that nobody can guess."""

    model_config = ConfigDict(extra="forbid")

    name: str | None = Field(default=None, description="Up to 255 bytes of UTF-8.", examples=["minutes"])
    title: str = Field(default="", max_length=TITLE_LIMIT, examples=["Minutes of Monday"])


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
Rooms = Annotated[Hub, Depends(hub_of)]
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
    q: Annotated[str | None, Query(max_length=200, description="Part of a name or title.")] = None,
) -> DocumentList:
    """The documents that you may read because they are shared with you, or with everybody."""
    everything = gate.sees_all(identity)
    page = await documents.list(
        limit,
        cursor,
        q,
        person=None if everything or identity.rights is not None else identity.actor.id,
        patterns=identity.rights,
    )
    roles = await gate.roles(identity, [document.name for document in page.documents])
    listed = [shown(document, roles[document.name]) for document in page.documents if document.name in roles]
    return DocumentList(documents=listed, next=page.cursor)


@router.post(
    "",
    status_code=201,
    responses=responses(InvalidName, DocumentExists, Forbidden, StorageUnavailable, *KEY_ERRORS),
)
async def create_document(
    new: NewDocument, identity: Anyone, gate: Gate, documents: Store, live: Live, response: Response
) -> Document:
    """Make a document; it is yours, unless a token says what you may do."""
    name = secrets.token_urlsafe(9) if new.name is None else check_name(new.name)
    gate.check_may_create(identity, name)
    made = await documents.create(name, new.title, identity.actor.id)
    live.changed(name)  # whoever waits there was let in while it was nobody's
    response.headers["Location"] = path_of(name)
    return shown(made, Role.OWNER if identity.rights is None else granted(identity.rights, name))


@router.get("/{document}", responses=MISSING)
async def read_document(grant: Reader, documents: Store) -> Document:
    return shown(await documents.get(grant.document), grant.role, grant.history)


@router.patch("/{document}", responses=MISSING)
async def change_document(grant: Editor, change: Change, documents: Store) -> Document:
    """Editors may change the title; owners may bring a deleted document back."""
    if change.deleted is False:
        if grant.role < Role.OWNER:
            raise Forbidden("only its owners may bring a document back")
        await documents.undelete(grant.document)
    if change.title is not None:
        return shown(await documents.rename(grant.document, change.title), grant.role, grant.history)
    return shown(await documents.get(grant.document), grant.role, grant.history)


@router.delete("/{document}", status_code=204, responses=MISSING)
async def delete_document(grant: Owner, documents: Store, hub: Rooms) -> None:
    await documents.delete(grant.document)
    hub.forget(grant.document)
