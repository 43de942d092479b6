"""Sharing a document: its members, and links that give whoever opens them a role."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal
from urllib.parse import unquote

from fastapi import APIRouter, Depends, Request, Response
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from collab.errors import (
    CollabError,
    DocumentDeleted,
    DocumentNotFound,
    Forbidden,
    InvalidName,
    InvalidRequest,
    NotAuthenticated,
    Overloaded,
    RateLimited,
    StorageUnavailable,
)
from collab.rights import Role
from storage.access import Access, LastOwner, NoSuchGrant
from storage.access import Arrival as StoredArrival
from storage.access import Link as StoredLink
from web.accounts import Address, Door
from web.accounts import Store as Accounts
from web.auth import Anyone, Owner, authenticator_of
from web.connections import Live
from web.documents import Gate
from web.passwords import LONGEST
from web.problem import responses

router = APIRouter(tags=["sharing"])

LABEL_LIMIT = 200  # characters
HISTORY = (
    "Whether it comes with the right to read history, which shows deleted text; null: editors may, viewers "
    "may not. Owners always may."
)
EPOCH, MICROSECOND = datetime.fromtimestamp(0, UTC), timedelta(microseconds=1)
ERRORS = (
    InvalidName,
    NotAuthenticated,
    Forbidden,
    DocumentNotFound,
    DocumentDeleted,
    NoSuchGrant,
    InvalidRequest,
    StorageUnavailable,
)


class Member(BaseModel):
    """Somebody with a role of their own. ``name`` is the one they last wrote under, or their account's."""

    person: str = Field(examples=["user:ada"])
    name: str = Field(examples=["Ada"])
    role: str = Field(examples=["editor"])
    history: bool | None = Field(description=HISTORY)


class Members(BaseModel):
    """``guests`` and ``users`` are what everybody, and everybody who has signed in, may do with every
    document of this server: no role here takes that away."""

    members: list[Member]
    guests: str | None = Field(examples=["viewer"])
    users: str | None = Field(examples=["editor"])


class NewRole(BaseModel):
    model_config = ConfigDict(extra="forbid")

    role: Literal["viewer", "commenter", "editor", "owner"]
    history: bool | None = Field(default=None, description=HISTORY)


class Arrival(BaseModel):
    person: str = Field(examples=["guest:5f0c"])
    name: str = Field(description="Empty, of a guest who has written nothing.", examples=["Wren"])
    at: datetime


class Link(BaseModel):
    """A share link. ``url`` holds its secret and is shown when it is made, never again."""

    id: str
    role: str = Field(examples=["viewer"])
    history: bool | None = Field(description=HISTORY)
    label: str
    password: bool = Field(description="Whether it asks for a password.")
    expires_at: datetime | None
    created_at: datetime
    created_by: str
    opened: int = Field(default=0, description="How many people came through it.")
    arrivals: list[Arrival] = Field(default=[], description="The latest of them.")
    url: str | None = Field(default=None, examples=["https://docs.example.org/s#link_..."])


class Links(BaseModel):
    links: list[Link]


class NewLink(BaseModel):
    model_config = ConfigDict(extra="forbid")

    role: Literal["viewer", "commenter", "editor"] = "viewer"
    history: bool | None = Field(default=None, description=HISTORY)
    label: str = Field(default="", max_length=LABEL_LIMIT, examples=["for the printers"])
    password: str | None = Field(default=None, max_length=LONGEST, description="Asked of whoever opens it.")
    expires_at: AwareDatetime | None = Field(
        default=None, lt=datetime.max.replace(tzinfo=UTC), description="When it ends; null: when revoked."
    )


class Opening(BaseModel):
    """A link that somebody was given: the part of its address after the #."""

    model_config = ConfigDict(extra="forbid")

    secret: str = Field(max_length=200, examples=["link_..."])
    password: str | None = Field(default=None, max_length=LONGEST)


class Opened(BaseModel):
    document: str
    role: str


class LinkPassword(CollabError):
    """The link asks for a password, and this was not it."""

    status = 403
    code = "link-password"
    close_code = 4403


def access_of(request: Request) -> Access:
    found: Access = request.app.state.access
    return found


def person_of(person: str) -> str:
    return unquote(person)


Grants = Annotated[Access, Depends(access_of)]
Person = Annotated[str, Depends(person_of)]


@router.get("/api/documents/{document}/members", responses=responses(*ERRORS))
async def list_members(grant: Owner, access: Grants, gate: Gate) -> Members:
    found = await access.members(grant.document)
    guests, users = gate.everybodys(signed_in=False), gate.everybodys(signed_in=True)
    return Members(
        members=[Member(person=m.person, name=m.name, role=m.role.label, history=m.history) for m in found],
        guests=None if guests is None else guests.label,
        users=None if users is None else users.label,
    )


@router.put(
    "/api/documents/{document}/members/{person}", status_code=204, responses=responses(*ERRORS, LastOwner)
)
async def set_member(
    grant: Owner, person: Person, new: NewRole, access: Grants, accounts: Accounts, live: Live
) -> None:
    """Give somebody a role of their own; their open editors feel it at once. Somebody with an account here
    may be named by e-mail address."""
    if "@" in person and ":" not in person:
        account = await accounts.by_email(person)
        if account is None:
            raise NoSuchGrant(f"nobody has an account with {person!r}; invite them, or send a link")
        person = account.actor.id
    await access.set_member(grant.document, person, Role.of(new.role), new.history)
    live.changed(grant.document)


@router.delete(
    "/api/documents/{document}/members/{person}", status_code=204, responses=responses(*ERRORS, LastOwner)
)
async def remove_member(grant: Owner, person: Person, access: Grants, live: Live) -> None:
    await access.remove_member(grant.document, person)
    live.changed(grant.document)


@router.get("/api/documents/{document}/links", responses=responses(*ERRORS))
async def list_links(grant: Owner, access: Grants) -> Links:
    links, arrivals = await access.links(grant.document), await access.arrivals(grant.document)
    return Links(links=[_shown(link, *arrivals.get(link.id, (0, []))) for link in links])


@router.post("/api/documents/{document}/links", status_code=201, responses=responses(*ERRORS))
async def create_link(grant: Owner, new: NewLink, access: Grants, sign_in: Door, request: Request) -> Link:
    """A link for whoever is given it. Its secret is in the part of the address that browsers do not send."""
    expires_at = None if new.expires_at is None else (new.expires_at - EPOCH) // MICROSECOND
    link, secret = await access.create_link(
        grant.document,
        Role.of(new.role),
        grant.identity.actor.id,
        label=new.label,
        password_hash=None if new.password is None else await sign_in.passwords.hash(new.password),
        expires_at=expires_at,
        history=new.history,
    )
    base = request.app.state.settings.public_url or str(request.base_url)
    return _shown(link).model_copy(update={"url": f"{base.rstrip('/')}/s#{secret}"})


@router.delete("/api/documents/{document}/links/{link}", status_code=204, responses=responses(*ERRORS))
async def revoke_link(grant: Owner, link: str, access: Grants, live: Live) -> None:
    """Everybody who came through it loses what it gave, at once."""
    await access.revoke_link(grant.document, link)
    live.changed(grant.document)


@router.post("/api/links/open", responses=responses(*ERRORS, LinkPassword, RateLimited, Overloaded))
async def open_link(
    identity: Anyone,
    opening: Opening,
    access: Grants,
    sign_in: Door,
    address: Address,
    live: Live,
    request: Request,
    response: Response,
) -> Opened:
    """Take what a link gives: from now on you have its role, for as long as it lives."""
    if identity.rights is not None:
        raise Forbidden("your token says what you may do; a link adds nothing to it")
    document, link = await access.find_link(opening.secret)
    if link.password_hash is not None:
        if opening.password is None:
            raise LinkPassword("this link asks for a password")
        sign_in.admit(address, f"link:{link.id}")
        if not await sign_in.passwords.matches(opening.password, link.password_hash):
            raise LinkPassword("this is not the link's password")
    person = identity.actor.id
    if not identity.lasting:
        person = authenticator_of(request).welcome(request, response)
    await access.open_link(link.id, person)
    live.changed(document)
    return Opened(document=document, role=link.role.label)


def _shown(link: StoredLink, opened: int = 0, arrivals: Sequence[StoredArrival] = ()) -> Link:
    return Link(
        id=link.id,
        role=link.role.label,
        history=link.history,
        label=link.label,
        password=link.password_hash is not None,
        expires_at=None if link.expires_at is None else _time(link.expires_at),
        created_at=_time(link.created_at),
        created_by=link.created_by,
        opened=opened,
        arrivals=[Arrival(person=one.person, name=one.name, at=_time(one.at)) for one in arrivals],
    )


def _time(microseconds: int) -> datetime:
    return EPOCH + microseconds * MICROSECOND
