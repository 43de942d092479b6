"""The accounts API: sign in and out, who am I, accept an invitation, and what operators do with accounts."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from collab.errors import (
    Forbidden,
    InvalidRequest,
    NotAuthenticated,
    Overloaded,
    RateLimited,
    StorageUnavailable,
)
from collab.log import Actor
from storage.access import Access
from storage.accounts import (
    EMAIL_LIMIT,
    MAX_LIMIT,
    NAME_LIMIT,
    PREFIX,
    Account,
    AccountDisabled,
    AccountExists,
    AccountNotFound,
    Accounts,
    InvitationUsed,
    PasswordChanged,
    normal_name,
)
from web import session
from web.auth import GUEST_COOKIE, Anyone, Identity, Operator, Public, authenticator_of
from web.passwords import LONGEST, SHORTEST
from web.problem import responses
from web.signin import InvitationInvalid, Opened, SignIn, SignInRefused, SignUpClosed


def no_store(response: Response) -> None:
    """What is said here about a person is in no cache."""
    response.headers["Cache-Control"] = "no-store"


router = APIRouter(prefix="/api", tags=["accounts"], dependencies=[Depends(no_store)])

OIDC = "/auth/oidc"  # the routes of web.oidc, which need not be installed
PASSWORD = f"At least {SHORTEST} characters, at most {LONGEST} bytes of UTF-8; any characters."
SLOW = (InvalidRequest, RateLimited, Overloaded, Forbidden, NotAuthenticated, StorageUnavailable)


class Me(BaseModel):
    """Who the server takes you for."""

    actor: str = Field(examples=["account:Yt3qX0p1aWcZ2r4u"])
    kind: str = Field(examples=["user"], description="`user`, `agent` or `guest`.")
    name: str = Field(examples=["Ada"])
    email: str | None = Field(default=None, examples=["ada@example.org"])
    signed_in: bool
    how: str = Field(examples=["account"], description="`guest`, `account` or `token`.")
    expires_at: datetime | None = Field(default=None, description="When you have to sign in again.")


class WaysIn(BaseModel):
    """How one can sign in here, besides with a password."""

    signup: bool = Field(description="Whether everybody may make an account.")
    oidc: str | None = Field(
        examples=["/auth/oidc"], description="Where to send a browser; null where there is no provider."
    )


class Credentials(BaseModel):
    model_config = ConfigDict(extra="forbid")

    email: str = Field(max_length=EMAIL_LIMIT, examples=["ada@example.org"])
    password: str = Field(max_length=LONGEST)


class NewAccount(BaseModel):
    """With an invitation, which holds the e-mail address; or with an address, where sign-up is open."""

    model_config = ConfigDict(extra="forbid")

    invitation: str | None = Field(default=None, max_length=4096, description="The link after its #.")
    email: str | None = Field(default=None, max_length=EMAIL_LIMIT)
    password: str = Field(max_length=LONGEST, description=PASSWORD)
    name: str | None = Field(default=None, max_length=NAME_LIMIT, examples=["Ada"])


class NewName(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str = Field(max_length=NAME_LIMIT, examples=["Ada"])


class NewPassword(BaseModel):
    model_config = ConfigDict(extra="forbid")

    current: str = Field(max_length=LONGEST)
    password: str = Field(max_length=LONGEST, description=PASSWORD)


class AccountShown(BaseModel):
    """An account as operators see it."""

    id: str
    email: str | None
    name: str
    issuer: str | None = Field(description="The identity provider that vouches for it.")
    created_at: datetime
    disabled: bool


class AccountList(BaseModel):
    """Accounts, the oldest first; ``next`` is the cursor of the following page."""

    accounts: list[AccountShown]
    next: str | None


class AccountChange(BaseModel):
    model_config = ConfigDict(extra="forbid")

    disabled: bool


def sign_in_of(request: Request) -> SignIn:
    found: SignIn = request.app.state.sign_in
    return found


def accounts_of(request: Request) -> Accounts:
    return sign_in_of(request).accounts


def address_of(request: Request) -> str:
    return request.client.host if request.client else ""


Door = Annotated[SignIn, Depends(sign_in_of)]
Store = Annotated[Accounts, Depends(accounts_of)]
Address = Annotated[str, Depends(address_of)]


@router.get("/sign-in", dependencies=[Public])
async def read_ways_in(request: Request, sign_in: Door) -> WaysIn:
    oidc = OIDC if request.app.state.settings.oidc_issuer else None
    return WaysIn(signup=sign_in.signup, oidc=oidc)


@router.post("/session", responses=responses(SignInRefused, *SLOW))
async def open_session(
    _: Anyone, given: Credentials, sign_in: Door, address: Address, request: Request, response: Response
) -> Me:
    """Sign in: the answer has the session's cookie."""
    opened = await sign_in.by_password(given.email, given.password, address)
    await enter(request, response, sign_in, opened)
    return _me(opened.account.actor, opened.expires, opened.account.email)


@router.delete("/session", status_code=204, responses=responses(Forbidden, StorageUnavailable))
async def close_session(_: Anyone, sign_in: Door, request: Request, response: Response) -> None:
    """Sign out: the session has ended, whoever has its cookie."""
    if secret := session.secret_of(request):
        await sign_in.out(secret)
    session.forget(request, response)


@router.post(
    "/accounts",
    status_code=201,
    responses=responses(
        InvitationInvalid, InvitationUsed, AccountDisabled, AccountExists, SignUpClosed, *SLOW
    ),
)
async def create_account(
    _: Anyone, new: NewAccount, sign_in: Door, address: Address, request: Request, response: Response
) -> Me:
    """Accept an invitation, or sign up, and be signed in. An invitation to an address that has an account
    sets its password and ends its sessions."""
    if new.invitation is not None:
        if new.email is not None:
            raise InvalidRequest("an invitation holds the e-mail address: send no other")
        opened = await sign_in.join(new.invitation, new.password, new.name, address)
    elif new.email is not None:
        opened = await sign_in.sign_up(new.email, new.password, new.name, address)
    else:
        raise InvalidRequest("an account needs an invitation, or an e-mail address where sign-up is open")
    await enter(request, response, sign_in, opened)
    return _me(opened.account.actor, opened.expires, opened.account.email)


@router.get("/me", responses=responses(NotAuthenticated, Forbidden, StorageUnavailable))
async def read_me(identity: Anyone, accounts: Store) -> Me:
    """Who am I?"""
    id = account_of(identity)
    email = None if id is None else (await accounts.find(id)).email
    return _me(identity.actor, _end(identity), email)


@router.patch("/me", responses=responses(NotAuthenticated, Forbidden, InvalidRequest, StorageUnavailable))
async def rename_me(
    identity: Anyone, new: NewName, accounts: Store, request: Request, response: Response
) -> Me:
    """The name that others see from now on."""
    if (id := account_of(identity)) is not None:
        account = await accounts.rename(id, new.name)
        return _me(account.actor, _end(identity), account.email)
    if identity.signed_in:
        raise Forbidden("your name comes with your token: change it where you got that")
    name = normal_name(new.name)
    return _me(Actor(authenticator_of(request).welcome(request, response, name), "guest", name))


@router.put("/me/password", status_code=204, responses=responses(SignInRefused, PasswordChanged, *SLOW))
async def change_password(
    identity: Anyone, new: NewPassword, sign_in: Door, address: Address, request: Request
) -> None:
    """Set another password. All sessions but this one end."""
    id, secret = account_of(identity), session.secret_of(request)
    if id is None or secret is None:
        raise NotAuthenticated("only who is signed in with an account of this server has a password here")
    account = await sign_in.accounts.find(id)
    await sign_in.change_password(account, new.current, new.password, secret, address)


@router.get(
    "/accounts",
    dependencies=[Operator],
    responses=responses(NotAuthenticated, InvalidRequest, StorageUnavailable),
)
async def list_accounts(
    accounts: Store, limit: Annotated[int, Query(ge=1, le=MAX_LIMIT)] = 50, cursor: str | None = None
) -> AccountList:
    page = await accounts.list(limit, cursor)
    return AccountList(accounts=[_shown(account) for account in page.accounts], next=page.cursor)


@router.patch(
    "/accounts/{account}",
    dependencies=[Operator],
    responses=responses(NotAuthenticated, AccountNotFound, InvalidRequest, StorageUnavailable),
)
async def change_account(account: str, change: AccountChange, sign_in: Door) -> AccountShown:
    """Disable an account: its sessions and sockets end now, and nobody signs in to it. Or enable it."""
    return _shown(await sign_in.set_disabled(account, change.disabled))


async def enter(request: Request, response: Response, sign_in: SignIn, opened: Opened) -> None:
    """Give the browser its new session; the one it had before ends. Its guest becomes the account: what was
    shared with the one is shared with the other, and who signs in here next finds no trace of it."""
    if guest := authenticator_of(request).guest_of(request):
        access: Access = request.app.state.access
        await access.adopt(guest, opened.account.actor.id)
        response.delete_cookie(GUEST_COOKIE)
    if before := session.secret_of(request):
        await sign_in.out(before)
    session.keep(request, response, opened.secret, opened.expires)


def account_of(identity: Identity) -> str | None:
    """The id of the account that somebody is signed in with, if it is one of this server."""
    return identity.actor.id.removeprefix(PREFIX) if identity.actor.id.startswith(PREFIX) else None


def _end(identity: Identity) -> datetime | None:
    return None if identity.expires is None else datetime.fromtimestamp(identity.expires, UTC)


def _me(actor: Actor, expires: datetime | None = None, email: str | None = None) -> Me:
    how = {"guest": "guest", "account": "account"}.get(actor.id.partition(":")[0], "token")
    return Me(
        actor=actor.id,
        kind=actor.kind,
        name=actor.name,
        email=email,
        signed_in=actor.kind != "guest",
        how=how,
        expires_at=expires,
    )


def _shown(account: Account) -> AccountShown:
    return AccountShown(
        id=account.id,
        email=account.email,
        name=account.name,
        issuer=account.issuer,
        created_at=account.created_at,
        disabled=account.disabled_at is not None,
    )
