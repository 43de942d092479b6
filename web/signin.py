"""Signing in with an e-mail address and a password; accounts by invitation, or for whoever signs up.

An invitation is a signed token that carries the address: making one needs the server's secret and no
database, and the same link sets a new password for who has forgotten theirs.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import IPv6Address, ip_address, ip_network

import jwt

from collab.errors import CollabError, InvalidRequest, RateLimited
from storage.accounts import (
    NAME_LIMIT,
    Account,
    AccountDisabled,
    Accounts,
    PasswordChanged,
    normal_email,
    normal_name,
)
from web.auth import derived_key
from web.passwords import Passwords, check_password
from web.settings import Settings

INVITATION_SECONDS = 7 * 24 * 3600
INVITATION = "invitation"  # the purpose of the key that signs them
AUDIENCE = "collab:invitation"
CLOCKS = 60  # seconds by which the clock of who invites may run ahead
REMEMBERED = 1 << 16  # buckets of one kind; the longest untouched is forgotten, and full again by then


class SignInRefused(CollabError):
    """Nobody is signed in by this. It is not said whether the address has an account."""

    status = 401
    code = "sign-in-refused"
    close_code = 4401


class SignUpClosed(CollabError):
    """Accounts are made by invitation here."""

    status = 403
    code = "sign-up-closed"


class InvitationInvalid(CollabError):
    """Not an invitation of this server, or one that has expired."""

    status = 400
    code = "invitation-invalid"


class Attempts:
    """Token buckets by key: ``per_minute`` attempts at once, and as many again in each minute."""

    def __init__(self, per_minute: float) -> None:
        self._per_minute = per_minute
        self._buckets: dict[str, tuple[float, float]] = {}

    def take(self, key: str, now: float) -> float:
        """Count an attempt at ``now`` (seconds of any clock that does not go back). 0 if there is room for
        it; else the seconds until there is, and it counts for nothing."""
        full = max(1.0, self._per_minute)
        level, at = self._buckets.pop(key, (full, now))
        level = min(full, level + (now - at) * self._per_minute / 60)
        allowed = level >= 1
        self._buckets[key] = (level - 1 if allowed else level), now
        if len(self._buckets) > REMEMBERED:
            del self._buckets[next(iter(self._buckets))]
        return 0.0 if allowed else (1 - level) * 60 / self._per_minute


@dataclass(frozen=True, slots=True)
class Opened:
    """A session that has just been opened."""

    account: Account
    secret: str
    expires: datetime


class SignIn:
    """Lets people in and out. ``dismissed`` is told an actor's id whenever a session of theirs has ended or
    may have: their sockets must authenticate again.

    What takes an ``address`` may raise RateLimited, what takes a password also Overloaded.
    """

    def __init__(
        self,
        accounts: Accounts,
        passwords: Passwords,
        secret: str,
        settings: Settings,
        limited: Counter[str],
        dismissed: Callable[[str], None],
    ) -> None:
        self.accounts = accounts
        self.signup = settings.signup == "open"
        self.passwords = passwords
        self._key = derived_key(secret, INVITATION)
        self._limited = limited
        self._dismissed = dismissed
        self._by_address = Attempts(settings.sign_ins_per_address)
        self._by_email = Attempts(settings.sign_ins_per_email)

    async def by_password(self, email: str, password: str, address: str) -> Opened:
        """Raises SignInRefused, InvalidRequest (not an e-mail address)."""
        email = normal_email(email)
        self.admit(address, email)
        account, hash = await self._prove(email, password)
        if self.passwords.outdated(hash):
            better = await self.passwords.hash(password)
            await self.accounts.rehash(account.id, hash, better)
            hash = better
        try:
            return await self.open(account, hash)
        except (AccountDisabled, PasswordChanged):
            raise _refused() from None

    async def open(self, account: Account, password_hash: str | None = None) -> Opened:
        """Raises AccountDisabled, PasswordChanged."""
        return Opened(account, *await self.accounts.open_session(account.id, password_hash))

    async def join(self, invitation: str, password: str, name: str | None, address: str) -> Opened:
        """Make the account of who was invited, or give it a new password.

        Raises InvitationInvalid, InvitationUsed, AccountDisabled, InvalidRequest (the password or the name).
        """
        self.admit(address)
        email, proposed, issued_at = read_invitation(self._key, invitation)
        chosen = proposed if name is None else normal_name(name)
        hash = await self.passwords.hash(password)
        account = await self.accounts.accept_invitation(email, chosen, hash, issued_at)
        self._dismissed(account.actor.id)
        return await self.open(account, hash)

    async def by_provider(self, issuer: str, subject: str, email: str | None, name: str) -> Opened:
        """Let in whom an identity provider vouches for. Raises AccountDisabled, InvalidRequest."""
        account = await self.accounts.from_provider(issuer, subject, email, name)
        self._dismissed(account.actor.id)  # whoever signed up with the address before its owner came
        return await self.open(account)

    async def sign_up(self, email: str, password: str, name: str | None, address: str) -> Opened:
        """Raises SignUpClosed, AccountExists, InvalidRequest (the address, the password or the name)."""
        if not self.signup:
            raise SignUpClosed("accounts are made by invitation: whoever runs this server can invite you")
        email = normal_email(email)
        name = normal_name(email.partition("@")[0][:NAME_LIMIT] if name is None else name)
        self.admit(address, email)
        hash = await self.passwords.hash(password)
        return await self.open(await self.accounts.sign_up(email, name, hash), hash)

    async def change_password(
        self, account: Account, current: str, password: str, secret: str, address: str
    ) -> None:
        """End all sessions but that of ``secret``. Raises SignInRefused, PasswordChanged, InvalidRequest."""
        if account.email is None:
            raise InvalidRequest("this account has no e-mail address to sign in with: it needs no password")
        self.admit(address, account.email)
        check_password(password)
        _, old = await self._prove(account.email, current)
        await self.accounts.set_password(account.id, old, await self.passwords.hash(password), secret)
        self._dismissed(account.actor.id)

    async def out(self, secret: str) -> None:
        """End the session of ``secret``, if it has not ended."""
        found = await self.accounts.session(secret)
        await self.accounts.close_session(secret)
        if found is not None:
            self._dismissed(found[0].actor.id)

    async def set_disabled(self, id: str, disabled: bool) -> Account:
        """Raises AccountNotFound."""
        if not disabled:
            return await self.accounts.enable(id)
        account = await self.accounts.disable(id)
        self._dismissed(account.actor.id)
        return account

    def admit(self, address: str, email: str | None = None) -> None:
        """Count an attempt to sign in."""
        now = time.monotonic()
        wait = self._by_address.take(_network(address), now)
        if not wait and email is not None:
            wait = self._by_email.take(email, now)
        if wait:
            self._limited["sign-in"] += 1
            raise RateLimited(f"too many attempts to sign in: try again in {math.ceil(wait)} s", wait)

    async def _prove(self, email: str, password: str) -> tuple[Account, str]:
        """The account that both belong to, and the hash that proved it. Raises SignInRefused."""
        found = await self.accounts.credentials(email)
        hash = None if found is None else found.password_hash
        # First the slow part, whatever was found: the time must not tell who has an account.
        matches = await self.passwords.matches(password, hash)
        if not matches or found is None or hash is None or found.account.disabled_at is not None:
            raise _refused()
        return found.account, hash


def invitation(key: bytes, email: str, name: str | None = None) -> str:
    """A token with which ``email`` may make its account. Raises InvalidRequest."""
    # Not rounded: who sets a password twice in one second must not lock the second invitation out.
    now = time.time()
    claims = {"aud": AUDIENCE, "email": normal_email(email), "iat": now, "exp": now + INVITATION_SECONDS}
    if name is not None:
        claims["name"] = normal_name(name)
    return jwt.encode(claims, key, "HS256")


def read_invitation(key: bytes, token: str) -> tuple[str, str | None, datetime]:
    """Whom it invites, the name proposed, and when it was issued. Raises InvitationInvalid."""
    try:
        claims = jwt.decode(
            token,
            key,
            ["HS256"],
            audience=AUDIENCE,
            leeway=CLOCKS,
            options={"require": ["aud", "exp", "iat", "email"]},
        )
    except jwt.ExpiredSignatureError:
        raise InvitationInvalid("this invitation has expired: ask for a new one") from None
    except (jwt.InvalidTokenError, ValueError, RecursionError):  # not all that is no token is only invalid
        raise InvitationInvalid("this is no invitation of this server: copy the whole link") from None
    return claims["email"], claims.get("name"), datetime.fromtimestamp(claims["iat"], UTC)


def _refused() -> SignInRefused:
    return SignInRefused("this e-mail address and this password do not belong together here")


def _network(address: str) -> str:
    """What one person has of addresses: of IPv6 a whole /64."""
    try:
        parsed = ip_address(address)
    except ValueError:  # a Unix socket
        return address
    return str(ip_network((parsed, 64), strict=False)) if isinstance(parsed, IPv6Address) else address
