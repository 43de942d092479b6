"""Who is connected: let in with a right, counted against the limits, found again when the right changes."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated

from fastapi import Depends, Request

from collab.errors import CollabError, Forbidden, NotAuthenticated, RateLimited, RightsChanged
from collab.hub import Hub
from collab.protocol import Dialect
from collab.rights import Role
from collab.session import Link, Session
from web.auth import Authenticator, Grant, Identity
from web.settings import Settings

REFRESH_SECONDS = 30.0  # before its token expires, a client that can be asked for a new one is
MINUTE = 60.0

_log = logging.getLogger(__name__)


@dataclass(eq=False, slots=True)
class Connection:
    """One session, and the grant that it was let in with."""

    session: Session
    grant: Grant
    renew: Callable[[], None] | None  # asks the client for a new token, where its protocol can
    timer: asyncio.TimerHandle | None = None


class Connections:
    """All sessions of this process, by document and by actor. ``run`` must be running for changed rights to
    be felt."""

    def __init__(self, authenticator: Authenticator, hub: Hub, settings: Settings) -> None:
        self._authenticator = authenticator
        self._hub = hub
        self._per_address, self._per_actor = settings.connections_per_address, settings.connections_per_actor
        self._per_minute = settings.rooms_per_minute
        self.sign_in_seconds = settings.sign_in_seconds
        self._addresses: Counter[str] = Counter()  # sockets
        self._actors: Counter[str] = Counter()  # sessions, those that are coming in too
        self._by_actor: defaultdict[str, set[Connection]] = defaultdict(set)
        self._by_document: defaultdict[str, set[Connection]] = defaultdict(set)
        self._opened: Counter[str] = Counter()  # documents by who opened them, in this minute
        self._minute = 0.0
        self._stale: set[Connection] = set()
        self._work = asyncio.Event()
        self._revision = 0  # moves when a right may have changed
        self.dismissals = 0  # moves when somebody who was known may be so no more

    # --- letting in

    def socket(self, address: str) -> AbstractContextManager[None]:
        """Count a socket. Raises RateLimited."""
        what = "too many connections from this address"
        return self._counted(self._addresses, address, self._per_address, "connections-per-address", what)

    @contextmanager
    def _counted(self, counts: Counter[str], who: str, most: int, limit: str, what: str) -> Iterator[None]:
        if 0 < most <= counts[who]:
            raise self._limited(limit, what)
        counts[who] += 1
        try:
            yield
        finally:
            counts[who] -= 1
            if not counts[who]:
                del counts[who]

    @asynccontextmanager
    async def enter(
        self,
        identity: Identity,
        since: int,
        document: str,
        address: str,
        link: Link,
        dialect: Dialect,
        renew: Callable[[], None] | None = None,
    ) -> AsyncIterator[Connection]:
        """A session of ``identity`` in ``document``, with the rights it has; ``since`` is what ``dismissals``
        was before it was found out.

        Raises Forbidden, NotAuthenticated (nobody is known, and some might be let in), RateLimited,
        RightsChanged (a sign-in ended meanwhile, perhaps this one), StorageUnavailable.
        """
        actor = identity.actor
        # Counted before anything is waited for: many may come in at once.
        with self._counted(
            self._actors,
            actor.id,
            self._per_actor,
            "connections-per-actor",
            "you have too many documents open",
        ):
            # Who is a guest costs nothing to be anew.
            if document not in self._hub.rooms:
                self._open(actor.id if identity.signed_in else address)
            while True:
                revision = self._revision
                grant = await self._authenticator.grant(identity, document)
                if revision == self._revision:
                    break  # else a right has changed while it was looked up
            if grant is None:
                if identity.signed_in or identity.lasting or identity.link:
                    raise Forbidden("this document is not shared with you")
                raise NotAuthenticated("this document is open to those who sign in; bring a token")
            if since != self.dismissals:
                raise RightsChanged("a sign-in has ended while you came; reconnect")
            session = Session(actor, link, writes=grant.role >= Role.EDITOR, dialect=dialect)
            connection = Connection(session, grant, renew)
            self._by_actor[actor.id].add(connection)
            self._by_document[document].add(connection)
            self._schedule(connection)
            try:
                yield connection
            finally:
                if connection.timer is not None:
                    connection.timer.cancel()
                self._stale.discard(connection)
                _forget(self._by_actor, actor.id, connection)
                _forget(self._by_document, document, connection)

    @contextmanager
    def stream(self, actor_id: str, address: str) -> Iterator[None]:
        """Count somebody who follows a document over HTTP, as a socket and a session. Raises RateLimited."""
        what = "you have too many documents open"
        with (
            self.socket(address),
            self._counted(self._actors, actor_id, self._per_actor, "connections-per-actor", what),
        ):
            yield

    def _open(self, who: str) -> None:
        now = time.monotonic()
        if now - self._minute >= MINUTE:
            self._opened.clear()
            self._minute = now
        if 0 < self._per_minute <= self._opened[who]:
            wait = self._minute + MINUTE - now
            raise self._limited("rooms-per-minute", "too many documents opened in a minute", wait)
        self._opened[who] += 1

    def _limited(self, limit: str, what: str, retry_after: float = 1.0) -> RateLimited:
        self._hub.stats.limited[limit] += 1
        return RateLimited(f"{what}; try again later", retry_after)

    # --- rights that change

    @property
    def revision(self) -> int:
        """Moves when somebody may have lost a right."""
        return self._revision + self.dismissals

    def changed(self, document: str) -> None:
        """Rights on ``document`` may have changed: look again at everyone who is in it."""
        self._look_at(self._by_document.get(document, ()))

    def dismiss(self, actor_id: str) -> None:
        """A sign-in of this actor has ended, or the account was disabled: every connection of theirs has to
        say again who it is."""
        self.dismissals += 1
        for connection in tuple(self._by_actor.get(actor_id, ())):
            connection.session.end(RightsChanged("a sign-in of yours has ended; reconnect"))

    def renewed(self, connection: Connection, identity: Identity) -> None:
        """The client brought a new token. Raises Forbidden when it is somebody else's."""
        if identity.actor.id != connection.grant.identity.actor.id:
            raise Forbidden("the new token is somebody else's; reconnect with it")
        connection.session.actor = identity.actor
        connection.grant = replace(connection.grant, identity=identity, until=None)
        self._look_at((connection,))

    def _look_at(self, connections: Iterable[Connection]) -> None:
        self._revision += 1
        self._stale.update(connections)
        self._work.set()

    async def run(self) -> None:
        """Look again at those whose rights may have changed, until cancelled."""
        while True:
            await self._work.wait()
            self._work.clear()
            stale, self._stale = self._stale, set()
            by_document: defaultdict[str, list[Connection]] = defaultdict(list)
            for connection in stale:
                if not connection.session.closed:
                    by_document[connection.grant.document].append(connection)
            for document, connections in by_document.items():
                try:
                    await self._review(document, connections)
                except CollabError as error:  # not known is not allowed
                    self._end(connections, error)
                except Exception:
                    _log.exception("%s: rights cannot be read", document)
                    self._end(connections, RightsChanged("what you may do cannot be found out; reconnect"))

    async def _review(self, document: str, connections: Sequence[Connection]) -> None:
        """All who are in a document at once: it may be thousands, and they are to feel it within a second."""
        before = [connection.grant for connection in connections]
        found = await self._authenticator.grants([grant.identity for grant in before], document)
        for connection, old, new in zip(connections, before, found, strict=True):
            if connection.grant is not old:
                continue  # a new token came meanwhile, and is looked at next
            if new is None:
                connection.session.end(Forbidden("this document is not shared with you any more"))
            elif new.role != old.role:
                connection.session.end(RightsChanged(f"you are now {new.role.label} here; reconnect"))
            else:
                connection.grant = new
                if not new.history:
                    connection.session.tells_authors = None
                self._schedule(connection)

    def _end(self, connections: Iterable[Connection], error: CollabError) -> None:
        for connection in connections:
            connection.session.end(error)

    def _schedule(self, connection: Connection) -> None:
        """Wake up when the grant has to be looked at: a token runs out, a link expires."""
        if connection.timer is not None:
            connection.timer.cancel()
            connection.timer = None
        expires, until = connection.grant.identity.expires, connection.grant.until
        due = [moment for moment in (expires, until) if moment is not None]
        if connection.renew is not None and expires is not None:
            left = expires - time.time()
            due.append(expires - min(REFRESH_SECONDS, left / 2))
        if due:
            wait = max(0.0, min(due) - time.time())
            self._wake_after(connection, min(wait, 24 * 3600.0))

    def _wake_after(self, connection: Connection, seconds: float) -> None:
        connection.timer = asyncio.get_running_loop().call_later(seconds, partial(self._wake, connection))

    def _wake(self, connection: Connection) -> None:
        connection.timer = None
        now = time.time()
        expires, until = connection.grant.identity.expires, connection.grant.until
        if expires is not None and now >= expires:
            connection.session.end(NotAuthenticated("your token has expired; reconnect with a new one"))
        elif until is not None and now >= until:
            self._look_at((connection,))
        elif connection.renew is not None and expires is not None and expires - now <= REFRESH_SECONDS:
            connection.renew()
            self._wake_after(connection, expires - now)  # the answer comes, or the end
        else:
            self._schedule(connection)


def connections_of(request: Request) -> Connections:
    found: Connections = request.app.state.connections
    return found


Live = Annotated[Connections, Depends(connections_of)]


def _forget(index: defaultdict[str, set[Connection]], key: str, connection: Connection) -> None:
    index[key].discard(connection)
    if not index[key]:
        del index[key]
