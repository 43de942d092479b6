"""Accounts for a team that has no identity provider, and the sessions of those who signed in.

What is kept of a secret cannot be used in its place: of a password its hash, of a session's cookie its
digest. Hashing is slow and not done here.
"""

from __future__ import annotations

import hashlib
import secrets
import time
import unicodedata
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Executable, delete, insert, select, update

from collab.errors import CollabError, InvalidRequest
from collab.log import Actor
from storage.database import Database
from storage.models import sessions, storable, users

SESSION_SECONDS = 30 * 24 * 3600
SESSIONS_LIMIT = 50  # of one account; a further one ends the oldest
SWEEP_LIMIT = 100  # expired sessions deleted at each new one; more than come in, so that none pile up
PREFIX = "account:"  # of the actors that are accounts
EMAIL_LIMIT = 254  # bytes: the longest that can be written to a mail server (RFC 5321)
NAME_LIMIT = 100  # characters
MAX_LIMIT = 1000


class AccountNotFound(CollabError):
    """There is no account of that id."""

    status = 404
    code = "account-not-found"


class AccountExists(CollabError):
    """The e-mail address has an account already."""

    status = 409
    code = "account-exists"


class AccountDisabled(CollabError):
    """An operator has disabled the account."""

    status = 403
    code = "account-disabled"
    close_code = 4401


class InvitationUsed(CollabError):
    """The invitation, or a later one for the same address, has been used."""

    status = 410
    code = "invitation-used"


class PasswordChanged(CollabError):
    """The password that was proven is not the account's password any more."""

    status = 409
    code = "password-changed"


@dataclass(frozen=True, slots=True)
class Account:
    """A person. ``email`` is normalised and None when nobody vouched for it; times are UTC."""

    id: str
    email: str | None
    name: str
    issuer: str | None
    created_at: datetime
    password_set_at: datetime | None
    disabled_at: datetime | None

    @property
    def actor(self) -> Actor:
        return Actor(PREFIX + self.id, "user", self.name)


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a password is compared with; no hash, no sign-in by password."""

    account: Account
    password_hash: str | None


@dataclass(frozen=True, slots=True)
class Page:
    """Some accounts, and the cursor that continues after them (None at the end)."""

    accounts: list[Account]
    cursor: str | None


class Accounts:
    """The accounts of one database. Every method may raise StorageUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # --- how accounts are made ---

    async def sign_up(self, email: str, name: str, password_hash: str) -> Account:
        """Make an account whose e-mail nobody has vouched for.

        Raises AccountExists, InvalidRequest (an e-mail or name that is none).
        """
        email, name, now = normal_email(email), normal_name(name), _now()

        def work(connection: Connection) -> Account:
            if _row(connection, users.c.email == email) is not None:
                raise AccountExists(f"{email} has an account already: sign in")
            return _insert(
                connection,
                email=email,
                name=name,
                password_hash=password_hash,
                created_at=now,
                password_set_at=now,
            )

        return await self._database.write(work)

    async def accept_invitation(
        self, email: str, name: str | None, password_hash: str, issued_at: datetime
    ) -> Account:
        """Make the account of ``email``, or set its password and end its sessions. An invitation works
        once: it is refused when a password was set since it was issued.

        Raises InvitationUsed, AccountDisabled, InvalidRequest.
        """
        email, issued, now = normal_email(email), _microseconds(issued_at), _now()
        given = None if name is None else normal_name(name)
        # Whoever wrote the invitation may have a clock that runs ahead of ours.
        set_at = max(now, issued)

        def work(connection: Connection) -> Account:
            row = _row(connection, users.c.email == email)
            password = {
                "password_hash": password_hash,
                "password_set_at": set_at,
                "email_verified_at": now,
            }
            if row is None:
                made = given or normal_name(email.partition("@")[0][:NAME_LIMIT])
                return _insert(connection, email=email, name=made, created_at=now, **password)
            _check_enabled(row)
            if row.password_set_at is not None and issued <= row.password_set_at:
                raise InvitationUsed(
                    "this invitation has been used: sign in, or ask for a new one with `collab invite`"
                )
            _end_sessions(connection, row.key)
            return _update(connection, row.key, name=given or row.name, **password)

        return await self._database.write(work)

    async def from_provider(self, issuer: str, subject: str, email: str | None, name: str) -> Account:
        """The account of somebody whom an identity provider vouches for; ``email`` only if the provider has
        verified it. Found by issuer and subject, else by the e-mail, else made.

        Raises AccountDisabled, InvalidRequest.
        """
        for claim in (issuer, subject):
            if not storable(claim):
                raise InvalidRequest("the issuer and the subject must be UTF-8 without NUL")
        email = None if email is None else normal_email(email)
        name, now = normal_name(name), _now()
        identity: dict[str, Any] = {"issuer": issuer, "subject": subject}
        vouched = {} if email is None else {"email": email, "email_verified_at": now}

        def work(connection: Connection) -> Account:
            row = _row(connection, (users.c.issuer == issuer) & (users.c.subject == subject))
            owner = None if email is None else _row(connection, users.c.email == email)
            if row is None and owner is not None and owner.issuer != issuer:
                row = owner
            if row is None:
                # An owner that is left has signed in by this provider as somebody else: the provider gave the
                # address to another person, who must not get the first one's account.
                own = {} if owner is not None else vouched
                return _insert(connection, name=name, created_at=now, **identity, **own)
            _check_enabled(row)
            changes = dict(identity)
            if owner is None and row.email is None:
                changes |= vouched
            elif owner is not None and owner.key == row.key and row.email_verified_at is None:
                # Anybody can have signed up with this address. Its owner is here now: nobody else stays in.
                _end_sessions(connection, row.key)
                changes |= {"password_hash": None, "password_set_at": None, **vouched}
            return _update(connection, row.key, **changes)

        return await self._database.write(work)

    # --- what is asked of them ---

    async def find(self, id: str) -> Account:
        """Raises AccountNotFound."""
        row = await self._read(users.c.id == id) if storable(id) else None
        if row is None:
            raise AccountNotFound(f"there is no account {id!r}")
        return _account(row)

    async def by_email(self, email: str) -> Account | None:
        """Raises InvalidRequest (not an e-mail address)."""
        found = await self.credentials(email)
        return None if found is None else found.account

    async def credentials(self, email: str) -> Credentials | None:
        """What a password for ``email`` is to be compared with. Raises InvalidRequest."""
        row = await self._read(users.c.email == normal_email(email))
        return None if row is None else Credentials(_account(row), row.password_hash)

    async def list(self, limit: int, cursor: str | None = None) -> Page:
        """All accounts, the oldest first. Raises InvalidRequest (a cursor that is not ours, a limit outside
        1..1000)."""
        if not 1 <= limit <= MAX_LIMIT:
            raise InvalidRequest(f"limit must be between 1 and {MAX_LIMIT}")
        page = select(users).order_by(users.c.key).limit(limit + 1)

        def work(connection: Connection) -> Page:
            found = page
            if cursor is not None:
                row = _row(connection, users.c.id == cursor) if storable(cursor) else None
                if row is None:
                    raise InvalidRequest("this cursor was not made by Collab")
                found = page.where(users.c.key > row.key)
            rows = connection.execute(found).all()
            return Page([_account(row) for row in rows[:limit]], rows[limit - 1].id if rows[limit:] else None)

        return await self._database.read(work)

    # --- how they change ---

    async def rename(self, id: str, name: str) -> Account:
        """Raises AccountNotFound, InvalidRequest."""
        name = normal_name(name)
        return await self._database.write(
            lambda connection: _update(connection, _existing(connection, id).key, name=name)
        )

    async def rehash(self, id: str, old: str, new: str) -> None:
        """Keep the same password under another hash, unless it was changed meanwhile."""
        same = (users.c.id == id) & (users.c.password_hash == old)
        await self._database.write(
            lambda connection: (
                connection.execute(update(users).where(same).values(password_hash=new)) and None
            )
        )

    async def set_password(self, id: str, old: str, new: str, secret: str) -> None:
        """Set another password and end all sessions but that of ``secret``.

        Raises PasswordChanged (``old`` is not its hash any more), AccountNotFound.
        """

        def work(connection: Connection) -> None:
            row = _existing(connection, id)
            if row.password_hash != old:
                raise PasswordChanged("the password has been changed meanwhile: sign in again")
            _end_sessions(connection, row.key, but=_digest(secret))
            _update(connection, row.key, password_hash=new, password_set_at=_now())

        await self._database.write(work)

    async def disable(self, id: str) -> Account:
        """End its sessions and let nobody sign in to it. Raises AccountNotFound."""

        def work(connection: Connection) -> Account:
            row = _existing(connection, id)
            _end_sessions(connection, row.key)
            return _update(connection, row.key, disabled_at=row.disabled_at or _now())

        return await self._database.write(work)

    async def enable(self, id: str) -> Account:
        """Raises AccountNotFound."""
        return await self._database.write(
            lambda connection: _update(connection, _existing(connection, id).key, disabled_at=None)
        )

    # --- sessions ---

    async def open_session(self, id: str, password_hash: str | None = None) -> tuple[str, datetime]:
        """A new session: its secret, for a cookie, and when it ends. With ``password_hash`` only if that is
        still the account's: it may have been changed since the password was compared.

        Raises AccountDisabled, PasswordChanged, AccountNotFound.
        """
        secret, now = secrets.token_urlsafe(32), _now()
        expires = now + SESSION_SECONDS * 1_000_000

        def work(connection: Connection) -> None:
            row = _existing(connection, id)
            _check_enabled(row)
            if password_hash is not None and row.password_hash != password_hash:
                raise PasswordChanged("the password has been changed meanwhile: sign in again")
            expired = select(sessions.c.digest).where(sessions.c.expires_at <= now).limit(SWEEP_LIMIT)
            newest = (
                select(sessions.c.digest)
                .where(sessions.c.account == row.key)
                .order_by(sessions.c.created_at.desc())
            )
            surplus = newest.offset(SESSIONS_LIMIT - 1).limit(SWEEP_LIMIT)
            for those in (expired, surplus):
                connection.execute(delete(sessions).where(sessions.c.digest.in_(those.scalar_subquery())))
            connection.execute(
                insert(sessions).values(
                    digest=_digest(secret), account=row.key, created_at=now, expires_at=expires
                )
            )

        await self._database.write(work)
        return secret, _time(expires)

    async def session(self, secret: str) -> tuple[Account, datetime] | None:
        """Whose session it is, and when it ends; None when it has ended."""
        found = (
            select(users, sessions.c.expires_at)
            .join(sessions, sessions.c.account == users.c.key)
            .where(sessions.c.digest == _digest(secret))
            .where(sessions.c.expires_at > _now(), users.c.disabled_at.is_(None))
        )
        row = await self._database.read(lambda connection: connection.execute(found).one_or_none())
        return None if row is None else (_account(row), _time(row.expires_at))

    async def close_session(self, secret: str) -> None:
        """End it, if it has not ended."""
        await self._execute(delete(sessions).where(sessions.c.digest == _digest(secret)))

    async def _execute(self, statement: Executable) -> None:
        def work(connection: Connection) -> None:
            connection.execute(statement)

        await self._database.write(work)

    async def _read(self, which: Any) -> Any:
        return await self._database.read(lambda connection: _row(connection, which))


def normal_email(text: str) -> str:
    """The one form in which an address is kept and compared. Raises InvalidRequest."""
    email = unicodedata.normalize("NFC", unicodedata.normalize("NFC", text.strip()).lower())
    local, at, domain = email.rpartition("@")
    clean = not any(sign.isspace() or not sign.isprintable() for sign in email)
    if not (local and at and domain and clean and storable(email)):
        raise InvalidRequest("an e-mail address looks like ada@example.org")
    if len(email.encode()) > EMAIL_LIMIT:
        raise InvalidRequest(f"an e-mail address has at most {EMAIL_LIMIT} bytes")
    return email


def normal_name(text: str) -> str:
    """A person's name on one line. Raises InvalidRequest."""
    name = " ".join(unicodedata.normalize("NFC", text).split())
    if not name or not storable(name) or any(unicodedata.category(sign) == "Cc" for sign in name):
        raise InvalidRequest("a name must have visible characters, and no control characters")
    if len(name) > NAME_LIMIT:
        raise InvalidRequest(f"a name has at most {NAME_LIMIT} characters")
    return name


def _row(connection: Connection, which: Any) -> Any:
    return connection.execute(select(users).where(which)).one_or_none()


def _existing(connection: Connection, id: str) -> Any:
    row = _row(connection, users.c.id == id) if storable(id) else None
    if row is None:
        raise AccountNotFound(f"there is no account {id!r}")
    return row


def _check_enabled(row: Any) -> None:
    if row.disabled_at is not None:
        raise AccountDisabled("this account is disabled: ask whoever runs this server")


def _insert(connection: Connection, **values: Any) -> Account:
    made = insert(users).values(id=secrets.token_urlsafe(12), **values).returning(users)
    return _account(connection.execute(made).one())


def _update(connection: Connection, key: int, **values: Any) -> Account:
    changed = update(users).where(users.c.key == key).values(**values).returning(users)
    return _account(connection.execute(changed).one())


def _end_sessions(connection: Connection, key: int, but: bytes | None = None) -> None:
    those = delete(sessions).where(sessions.c.account == key)
    connection.execute(those if but is None else those.where(sessions.c.digest != but))


def _account(row: Any) -> Account:
    return Account(
        row.id,
        row.email,
        row.name,
        row.issuer,
        _time(row.created_at),
        None if row.password_set_at is None else _time(row.password_set_at),
        None if row.disabled_at is None else _time(row.disabled_at),
    )


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


def _now() -> int:
    return time.time_ns() // 1000


def _time(microseconds: int) -> datetime:
    seconds, rest = divmod(microseconds, 1_000_000)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest)


def _microseconds(when: datetime) -> int:
    return round(when.timestamp() * 1_000_000)
