"""Signing in by an OpenID Connect provider: authorization code with PKCE, state and nonce, by Authlib.

Needs the extra ``oidc``; imported only when --oidc-issuer is given.
"""

from __future__ import annotations

import hmac
import html
import logging
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import httpx2
import jwt
from authlib.integrations.starlette_client import OAuthError, StarletteOAuth2App
from fastapi import APIRouter, Depends, Query, Request
from joserfc.errors import JoseError
from pydantic import AfterValidator, BaseModel, Field
from starlette.responses import HTMLResponse, RedirectResponse, Response

from collab.errors import CollabError, InvalidRequest
from storage.accounts import NAME_LIMIT, normal_email, normal_name
from web.accounts import OIDC, Address, Door, enter
from web.auth import Public, derived_key
from web.page import HEADERS
from web.session import is_secure
from web.settings import Settings, is_trustworthy
from web.signin import SignInRefused

CALLBACK = f"{OIDC}/callback"
SCOPE = "openid email profile"
NO_STORE = {"Cache-Control": "no-store"}
COOKIE_SECONDS = 600  # for a person to sign in at the provider
METADATA_SECONDS = 3600  # then the provider's endpoints and keys are asked for again
TIMEOUT = 10.0  # seconds for one answer of the provider
CLOCKS = 60  # seconds by which its clock and ours may differ
ALGORITHMS = {f"{kind}{bits}" for kind in ("RS", "PS", "ES") for bits in (256, 384, 512)} | {
    "EdDSA",
    "Ed25519",
}
# Browsers read "\" as "/" and drop tabs and newlines: "/\example.org" is a path of another site.
LOCAL_PATH = re.compile(r"/(?![/\\])[^\\\x00-\x20\x7f]{0,2000}")
PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Not signed in</title>
<style>body {{ font: 1rem/1.5 system-ui, sans-serif; max-width: 34rem; margin: 15vh auto }}</style>
<h1>You are not signed in</h1>
<p>{sentence}</p>
<p><a href="{again}">Sign in again</a> &middot; <a href="/">To the documents</a></p>
</html>
"""

router = APIRouter(dependencies=[Public], include_in_schema=False)
log = logging.getLogger(__name__)


def check_endpoint(url: str) -> str:
    if not is_trustworthy(url):
        raise ValueError(f"{url!r} is no https:// URL")
    return url


def asymmetric(algorithms: list[str]) -> list[str]:
    """Those that need the provider's private key: by HS256 or "none" others could sign too."""
    taken = [name for name in algorithms if name in ALGORITHMS]
    if not taken:
        raise ValueError(f"none of {', '.join(sorted(ALGORITHMS))}")
    return taken


Endpoint = Annotated[str, AfterValidator(check_endpoint)]


class Metadata(BaseModel):
    """What is used of a provider's metadata (OpenID Connect Discovery 1.0, section 3)."""

    issuer: str
    authorization_endpoint: Endpoint
    token_endpoint: Endpoint
    jwks_uri: Endpoint
    userinfo_endpoint: Endpoint | None = None
    authorization_response_iss_parameter_supported: bool = False
    id_token_signing_alg_values_supported: Annotated[list[str], AfterValidator(asymmetric)] = ["RS256"]
    auth_methods: list[str] = Field(["client_secret_basic"], alias="token_endpoint_auth_methods_supported")


class ProviderFailed(CollabError):
    """The identity provider does not answer, or not in a way that can be trusted."""

    status = 502
    code = "provider-failed"


@dataclass(frozen=True, slots=True)
class Person:
    """Whom the provider vouches for; ``email`` only if it says that it has verified it."""

    subject: str
    email: str | None
    name: str


class Provider:
    """One OpenID provider. A sign-in under way is in a signed cookie of its browser, and nowhere else."""

    def __init__(self, settings: Settings, secret: str) -> None:
        self.issuer = settings.oidc_issuer
        self.start_url = settings.public_url.rstrip("/") + OIDC
        self._callback_url = settings.public_url.rstrip("/") + CALLBACK
        self._client_id = settings.oidc_client_id
        self._client_secret = settings.oidc_client_secret
        self._key = derived_key(secret, "oidc")
        self._app: StarletteOAuth2App | None = None
        self._loaded_at = 0.0
        # At level debug they log code verifiers and requests.
        for name in ("authlib", "httpx2", "httpcore2"):
            logging.getLogger(name).setLevel(logging.WARNING)

    async def begin(self, next: str) -> tuple[str, str]:
        """Where to send the browser, and the cookie it must come back with in order to go to ``next``.

        Raises ProviderFailed.
        """
        app = await self._client()
        made = await app.create_authorization_url(self._callback_url)
        claims = {name: made[name] for name in ("state", "nonce", "code_verifier")}
        claims |= {"next": next, "exp": time.time() + COOKIE_SECONDS}
        return made["url"], jwt.encode(claims, self._key, "HS256")

    async def finish(self, answer: Mapping[str, str], cookie: str) -> tuple[Person, str]:
        """Who has signed in, and where to go now; ``answer`` is the query of the callback.

        Raises SignInRefused, ProviderFailed.
        """
        try:
            begun = jwt.decode(cookie, self._key, ["HS256"], options={"require": ["exp", "state"]})
        except (jwt.InvalidTokenError, ValueError, RecursionError):
            raise _unknown() from None
        if not hmac.compare_digest(answer.get("state", "").encode(), begun["state"].encode()):
            raise _unknown()
        if "error" in answer:
            said = answer.get("error_description") or answer["error"]
            raise SignInRefused(f"the identity provider says: {said[:200]}")
        app = await self._client()
        silent = (
            None if app.server_metadata["authorization_response_iss_parameter_supported"] else self.issuer
        )
        if answer.get("iss", silent) != self.issuer or "code" not in answer:  # RFC 9207
            raise self._distrusted("its answer is of another issuer or has no code")
        claims = await self._claims(app, answer["code"], begun["code_verifier"], begun["nonce"])
        return _person(claims), begun["next"]

    async def _claims(
        self, app: StarletteOAuth2App, code: str, code_verifier: str, nonce: str
    ) -> dict[str, Any]:
        """What the provider says about the person to whom it gave ``code``."""
        try:
            token = await app.fetch_access_token(self._callback_url, code=code, code_verifier=code_verifier)
            if "id_token" not in token:
                raise self._distrusted("there is no ID token")
            claims = await app.parse_id_token(
                token,
                nonce,
                # By itself Authlib takes a token for another audience.
                claims_options={
                    "iss": {"essential": True, "value": self.issuer},
                    "aud": {"essential": True, "value": self._client_id},
                },
                leeway=CLOCKS,
            )
            if not {"email", "name"} <= claims.keys() and "userinfo_endpoint" in app.server_metadata:
                told = await app.userinfo(token=token)
                if told.get("sub") != claims["sub"]:
                    raise self._distrusted("its user info is of somebody else")
                # Who says that an address is verified must have said which.
                (told if "email" in claims else claims).pop("email_verified", None)
                claims = {**told, **claims}
        except OAuthError as error:
            if error.error != "invalid_grant":  # our own fault: a wrong client secret, for example
                raise self._distrusted(f"{error}") from error
            log.warning("%s takes no such code: %s", self.issuer, error)
            raise _unknown() from error
        except httpx2.HTTPError as error:
            raise self._silent(error) from error
        except (JoseError, ValueError, TypeError, KeyError) as error:  # Authlib expects well-formed JSON
            self._app = None  # the keys in it may be the odd ones out
            raise self._distrusted(f"{error!r}") from error
        return dict(claims)

    async def _client(self) -> StarletteOAuth2App:
        """Authlib's client, made of what the provider says about itself."""
        if self._app is None or time.monotonic() - self._loaded_at > METADATA_SECONDS:
            metadata = await self._discover()
            options = {"scope": SCOPE, "code_challenge_method": "S256", "timeout": TIMEOUT}
            if self._client_secret and "client_secret_basic" not in metadata.auth_methods:
                options["token_endpoint_auth_method"] = "client_secret_post"
            self._app = StarletteOAuth2App(
                None,
                client_id=self._client_id,
                client_secret=self._client_secret or None,
                client_kwargs=options,
                **metadata.model_dump(exclude={"auth_methods"}, exclude_none=True),
            )
            self._loaded_at = time.monotonic()
        return self._app

    async def _discover(self) -> Metadata:
        """What the provider says about itself. Raises ProviderFailed, also if that cannot be trusted."""
        url = self.issuer.rstrip("/") + "/.well-known/openid-configuration"
        try:
            async with httpx2.AsyncClient(timeout=TIMEOUT) as client:
                told = (await client.get(url)).raise_for_status().content
            metadata = Metadata.model_validate_json(told)
        except httpx2.HTTPError as error:
            raise self._silent(error) from error
        except ValueError as error:
            raise self._distrusted(f"{url}: {error}") from error
        if metadata.issuer != self.issuer:
            raise self._distrusted(f"{url} is of {metadata.issuer}: write --oidc-issuer exactly so")
        return metadata

    def _distrusted(self, reason: str) -> ProviderFailed:
        log.warning("%s is not trusted: %s", self.issuer, " ".join(reason.split())[:500])
        return ProviderFailed(
            "the identity provider's answer cannot be trusted; whoever runs this server finds why in its log"
        )

    def _silent(self, error: Exception) -> ProviderFailed:
        log.warning("%s does not answer: %r", self.issuer, error)
        return ProviderFailed("the identity provider does not answer now: try again in a minute")


def _unknown() -> SignInRefused:
    return SignInRefused(
        "this sign-in was not begun in this browser, or it was finished already, or it took more than "
        f"{COOKIE_SECONDS // 60} minutes: begin it again"
    )


def _person(claims: dict[str, Any]) -> Person:
    email = claims.get("email") if claims.get("email_verified") is True else None
    try:
        email = normal_email(str(email)) if email is not None else None
    except InvalidRequest:
        email = None
    name = "Nameless"
    for claim in ("name", "preferred_username", "email"):
        try:
            name = normal_name(str(claims.get(claim, ""))[:NAME_LIMIT])
            break
        except InvalidRequest:
            continue
    return Person(claims["sub"], email, name)


def provider_of(request: Request) -> Provider:
    found: Provider = request.app.state.provider
    return found


Configured = Annotated[Provider, Depends(provider_of)]


@router.get(OIDC)
async def begin(
    request: Request,
    provider: Configured,
    sign_in: Door,
    address: Address,
    next: Annotated[str, Query(description="A path on this server.")] = "/",
) -> Response:
    """Go to the provider, and afterwards to ``next``."""
    try:
        sign_in.admit(address)
        url, cookie = await provider.begin(next if LOCAL_PATH.fullmatch(next) else "/")
    except CollabError as error:
        return _page(provider, error)
    response = RedirectResponse(url, 303, headers=NO_STORE)
    response.set_cookie(
        _cookie(request),
        cookie,
        max_age=COOKIE_SECONDS,
        httponly=True,
        samesite="lax",  # strict cookies would not come back from the provider's site
        secure=is_secure(request),
    )
    return response


@router.get(CALLBACK)
async def finish(request: Request, provider: Configured, sign_in: Door, address: Address) -> Response:
    """Come back from the provider."""
    try:
        sign_in.admit(address)
        cookie = request.cookies.get(_cookie(request), "")
        person, next = await provider.finish(request.query_params, cookie)
        opened = await sign_in.by_provider(provider.issuer, person.subject, person.email, person.name)
        response: Response = RedirectResponse(next, 303, headers=NO_STORE)
        await enter(request, response, sign_in, opened)
    except CollabError as error:
        response = _page(provider, error)
    response.delete_cookie(_cookie(request), httponly=True, samesite="lax", secure=is_secure(request))
    return response


def _cookie(request: Request) -> str:
    return "__Host-collab_oidc" if is_secure(request) else "collab_oidc"


def _page(provider: Provider, error: CollabError) -> Response:
    """An error for a person: nobody calls these routes but a browser that shows what it gets."""
    if error.status >= 500:
        log.error("%s: %s", error.code, error)
    body = PAGE.format(sentence=html.escape(f"{error}"), again=html.escape(provider.start_url))
    return HTMLResponse(body, error.status, headers={**HEADERS, **NO_STORE})
