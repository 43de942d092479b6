"""Settings: read once, from flags and COLLAB_* variables, then never changed."""

from __future__ import annotations

import argparse
import os
import re
import secrets
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields
from importlib.util import find_spec
from ipaddress import ip_address, ip_network
from math import inf
from pathlib import Path
from typing import Any, get_type_hints
from urllib.parse import urlsplit

from collab.rights import Role

SECRET_BYTES = 32


def setting(default: Any, help: str, *, secret: bool = False) -> Any:
    return field(default=default, repr=not secret, metadata={"help": help})


@dataclass(frozen=True, slots=True)
class Settings:
    """Every field is a flag ``--name`` and a variable ``COLLAB_NAME``; the flag wins."""

    host: str = setting("127.0.0.1", "Address to listen on.")
    port: int = setting(8000, "Port to listen on; 0 takes a free one.")
    data: Path = setting(Path("data"), "Directory of the embedded database; made when missing.")
    database_url: str = setting(
        "",
        "Database to use: postgresql://user@host/name or sqlite:////path; by default DATA/collab.db.",
        secret=True,
    )
    message_bytes: int = setting(8 << 20, "Largest WebSocket message; a larger one is refused with 4413.")
    messages_per_second: float = setting(
        2000.0, "WebSocket frames a second that a connection may send, and 5 s of them at once; 0: no limit."
    )
    bytes_per_second: float = setting(
        4.0 * (1 << 20), "The same in bytes. Who sends faster is read more slowly."
    )
    cpu_share: float = setting(
        0.05, "The same in work: the share of a processor that its messages may take; 20 s of it at once."
    )
    unread_bytes: int = setting(
        128 << 20, "Memory for large messages that are incomplete or wait; beyond it senders get 1013."
    )
    body_bytes: int = setting(1 << 20, "Largest body of an HTTP request; a larger one is refused with 413.")
    import_bytes: int = setting(
        256 << 20, "Largest archive of a document (POST /api/import); a larger one is refused with 413."
    )
    image_bytes: int = setting(
        10 << 20, "Largest image that is put into a document; a larger one is refused with 413."
    )
    document_image_bytes: int = setting(256 << 20, "Largest size of all images of one document together.")
    handshake_seconds: float = setting(
        10.0, "Time for the head of a request, for a WebSocket handshake, for a body to come at 4 KiB/s."
    )
    compression: bool = setting(
        False, "Take and send compressed WebSocket messages (permessage-deflate) where a client asks."
    )
    trusted_proxies: str = setting(
        "", "Addresses or networks, with commas, whose X-Forwarded-For and -Proto are believed."
    )
    secret: str = setting(
        "",
        "32 random bytes or more: signs tokens (HS256) of the application that shares it; keys of cookies "
        "and invitations are derived from it. Needed on any address but loopback; there one is made in "
        "DATA/secret. Give it as a variable: other users of the machine see flags.",
        secret=True,
    )
    public_url: str = setting("", "Where browsers reach this server, such as https://docs.example.org.")
    guests: str = setting(
        "auto",
        "What visitors who have not signed in may do with any document: none, viewer, commenter, editor or "
        "owner; auto is owner on loopback without a secret, else none.",
    )
    users: str = setting(
        "none", "What everyone who has signed in may do with documents that nobody shared with them."
    )
    jwks: str = setting(
        "",
        "File or URL of the public keys of tokens (RS256, ES256, EdDSA); HS256 is refused then.",
        secret=True,
    )
    audience: str = setting("collab", "The aud that tokens must have.")
    issuer: str = setting("", "The iss that tokens must have, when given.")
    signup: str = setting(
        "off", "Who may make an account: off is who is invited (`collab invite`), open is all."
    )
    sign_ins_per_address: float = setting(
        30.0, "Attempts to sign in a minute from one address (of IPv6 one /64)."
    )
    sign_ins_per_email: float = setting(5.0, "Attempts to sign in a minute with one e-mail address.")
    oidc_issuer: str = setting(
        "", "OpenID provider to sign in with, as it writes itself, such as https://accounts.google.com."
    )
    oidc_client_id: str = setting("", "The client id that the OpenID provider gave to this server.")
    oidc_client_secret: str = setting(
        "", "The client's secret, if it has one. Give it as a variable, like the secret.", secret=True
    )
    document_bytes: int = setting(64 << 20, "Largest document as stored; a full one takes no more edits.")
    awareness_bytes: int = setting(16 << 10, "Largest presence of one client; a larger one is not shown.")
    connections_per_address: int = setting(256, "WebSockets from one address; 0 is no limit.")
    connections_per_actor: int = setting(64, "WebSockets of one actor; 0 is no limit.")
    rooms_per_minute: int = setting(
        300, "Documents that one who signed in, or all guests of one address, may open; 0 is no limit."
    )
    sign_in_seconds: float = setting(10.0, "How long a Hocuspocus socket may stay without a valid token.")
    idle_seconds: float = setting(30.0, "How long a room stays in memory after its last client has gone.")
    memory_bytes: int = setting(
        1 << 30, "Memory that open rooms may take, estimated; idle rooms go first, then joins wait."
    )
    history_bytes: int = setting(
        256 << 20, "Memory that histories may take in the process that answers on them; the oldest go first."
    )
    commit_patience: float = setting(
        10.0, "Seconds for which a failing commit is tried again before clients are sent away."
    )
    stall_seconds: float = setting(15.0, "Seconds a client may read nothing while it is being written to.")
    shutdown_seconds: float = setting(10.0, "Deadline for a clean stop after SIGTERM.")
    log_level: str = setting("info", "How much to log: debug, info, warning or error.")

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the server."""
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    @property
    def guests_role(self) -> Role | None:
        if self.guests == "auto":
            return Role.OWNER if self.is_loopback and not self.secret else None
        return _role(self.guests)

    @property
    def users_role(self) -> Role | None:
        return _role(self.users)

    @property
    def url(self) -> str:
        """The database URL in force."""
        return self.database_url or f"sqlite:///{self.data.resolve() / 'collab.db'}"

    @property
    def proxies(self) -> list[str]:
        """The addresses and networks of the proxies that are believed."""
        return [proxy for part in self.trusted_proxies.split(",") if (proxy := part.strip())]


def add_flags(parser: argparse.ArgumentParser, *names: str) -> None:
    """Give ``parser`` the flags of the settings called ``names``, or of all of them."""
    for item in fields(Settings):
        if not names or item.name in names:
            variable = f"COLLAB_{item.name.upper()}"
            shown = "" if item.default == "" else f" Default {item.default}."
            switch: dict[str, Any] = {"nargs": "?", "const": "yes"} if item.type == "bool" else {}
            parser.add_argument(
                f"--{item.name.replace('_', '-')}",
                **switch,
                default=None,
                metavar=item.name.upper(),
                help=f"{item.metadata['help']}{shown} [{variable}]",
            )


def read(flags: Mapping[str, str | None], environment: Mapping[str, str] = os.environ) -> Settings:
    """The settings from parsed flags and the environment. Raises ValueError naming the one at fault."""
    values: dict[str, Any] = {}
    kinds = get_type_hints(Settings)
    for item in fields(Settings):
        variable = f"COLLAB_{item.name.upper()}"
        flag = flags.get(item.name)
        given = flag if flag is not None else environment.get(variable)
        if given is None:
            continue
        kind = kinds[item.name]
        try:
            values[item.name] = _truth(given) if kind is bool else kind(given)
        except ValueError:
            where = f"--{item.name.replace('_', '-')}" if flag is not None else variable
            raise ValueError(f"{where} must be {_described(kind)}, not {given!r}") from None
    settings = Settings(**values)
    _check_rights(settings)
    _check_sign_in(settings)
    if not 0 <= settings.port <= 65535:
        raise ValueError(f"--port must be between 0 and 65535, not {settings.port}")
    if settings.log_level not in LOG_LEVELS:
        raise ValueError(f"--log-level must be one of {', '.join(LOG_LEVELS)}, not {settings.log_level!r}")
    for name in POSITIVE:
        if not getattr(settings, name) > 0:
            raise ValueError(f"--{name.replace('_', '-')} must be more than 0")
    for name in ("messages_per_second", "bytes_per_second", "cpu_share"):
        if not 0 <= getattr(settings, name) < inf:
            raise ValueError(f"--{name.replace('_', '-')} must be 0 or more; 0 is no limit")
    if settings.unread_bytes < 2 * settings.message_bytes:
        raise ValueError("--unread-bytes must hold two of the largest messages (--message-bytes)")
    for proxy in settings.proxies:
        try:
            ip_network(proxy)
        except ValueError:
            raise ValueError(
                f"--trusted-proxies must be addresses or networks like 10.0.0.0/8, not {proxy!r}"
            ) from None
    return settings


def secret_of(settings: Settings) -> str:
    """The secret in force: the one that is set, else one of this data directory, made the first time.
    Raises OSError, ValueError."""
    if settings.secret:
        return settings.secret
    path = settings.data / "secret"
    try:
        found = path.read_text().strip()
    except FileNotFoundError:
        settings.data.mkdir(parents=True, exist_ok=True)
        # Whole or not at all: a half-written one would be kept for ever. And only the first counts of those
        # that two processes make at once: what the other one has signed with its own would be worth nothing.
        draft = path.with_name(f"secret.{secrets.token_hex(8)}")
        draft.touch(mode=0o600, exist_ok=False)
        draft.write_text(secrets.token_hex(SECRET_BYTES) + "\n")
        with suppress(FileExistsError):
            path.hardlink_to(draft)
        draft.unlink()
        found = path.read_text().strip()
    if len(found) < SECRET_BYTES:
        raise ValueError(f"{path} holds no secret of {SECRET_BYTES} bytes; delete it to have one made")
    return found


def _role(label: str) -> Role | None:
    return None if label == "none" else Role.of(label)


def _check_rights(settings: Settings) -> None:
    if settings.secret and len(settings.secret.encode()) < SECRET_BYTES:
        raise ValueError(
            f"--secret must have at least {SECRET_BYTES} bytes; `openssl rand -hex 32` makes one"
        )
    if not settings.is_loopback and not settings.secret:
        raise ValueError(
            f"to listen on {settings.host} Collab needs a secret, so that nobody can forge who they are: set "
            "COLLAB_SECRET (`openssl rand -hex 32` makes one), or listen on 127.0.0.1"
        )
    for name in ("guests", "users"):
        try:
            if getattr(settings, name) != "auto" or name == "users":
                _role(getattr(settings, name))
        except ValueError as error:
            raise ValueError(f"--{name}: {error}, or none") from None
    if settings.public_url and not re.fullmatch(r"https?://[^/?#]+/?", settings.public_url):
        raise ValueError(f"--public-url must be like https://docs.example.org, not {settings.public_url!r}")


def _check_sign_in(settings: Settings) -> None:
    if settings.signup not in ("off", "open"):
        raise ValueError(f"--signup must be off or open, not {settings.signup!r}")
    if not settings.oidc_issuer:
        return
    if not is_trustworthy(settings.oidc_issuer):
        raise ValueError(f"--oidc-issuer must be an https:// URL, not {settings.oidc_issuer!r}")
    for name in ("oidc_client_id", "public_url"):
        if not getattr(settings, name):
            raise ValueError(f"--oidc-issuer needs --{name.replace('_', '-')} too")
    if find_spec("authlib") is None or find_spec("httpx2") is None:
        raise ValueError("--oidc-issuer needs more packages: pip install 'collab-server[oidc]'")


def is_trustworthy(url: str) -> bool:
    """Whether nobody on the way can change what comes from ``url``: by https, or from this machine."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return False
    if parts.scheme == "http":
        try:
            return parts.hostname == "localhost" or ip_address(parts.hostname or "").is_loopback
        except ValueError:
            return False
    return parts.scheme == "https" and bool(parts.hostname)


LOG_LEVELS: Sequence[str] = ("debug", "info", "warning", "error")
POSITIVE = (
    "document_bytes",
    "awareness_bytes",
    "sign_in_seconds",
    "sign_ins_per_address",
    "sign_ins_per_email",
    "message_bytes",
    "body_bytes",
    "import_bytes",
    "image_bytes",
    "document_image_bytes",
    "memory_bytes",
    "history_bytes",
    "handshake_seconds",
    "stall_seconds",
    "shutdown_seconds",
)


def _truth(given: str) -> bool:
    word = given.lower()
    if word not in ("true", "false", "yes", "no", "on", "off", "1", "0"):
        raise ValueError(given)
    return word in ("true", "yes", "on", "1")


def _described(kind: type) -> str:
    return {int: "a whole number", float: "a number", bool: "yes or no"}.get(kind, f"a {kind.__name__}")
