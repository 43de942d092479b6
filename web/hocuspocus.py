"""A Hocuspocus socket: several documents on one WebSocket, each with a token and a session of its own."""

from __future__ import annotations

import asyncio
from time import thread_time

from starlette.requests import HTTPConnection
from starlette.types import Scope

from collab import hocuspocus
from collab.document import check_name
from collab.errors import (
    CollabError,
    CorruptLog,
    DocumentDeleted,
    Forbidden,
    InvalidName,
    NotAuthenticated,
    Overloaded,
    ProtocolError,
    RateLimited,
    RightsChanged,
    StorageUnavailable,
)
from collab.hocuspocus import HOCUSPOCUS, PING, PONG, Frame
from collab.hub import Hub
from collab.protocol import KEEPALIVE
from collab.room import Room
from collab.session import Session
from web.auth import Authenticator
from web.connections import Connections
from web.transport import LARGE, Transport

CHANNELS = 100  # documents on one socket, those without a valid token included
QUEUE_COUNT, QUEUE_BYTES = 1000, 1 << 20  # what one socket sends to documents that are not open yet
KEPT_BYTES = 64 << 10  # of presence before a token
STATELESS_BYTES = 64 << 10
STEP1 = b"\x00\x00"  # type and step
QUEUED = hocuspocus.ROOM_TYPES | {hocuspocus.STATELESS, hocuspocus.AUTH}  # while a document is being opened
NO_KEY = b"\x00"  # of no document: every provider passes over what comes under it
DENIED_SECONDS = 60.0  # a socket whose tokens were all refused may stay to try others

# May be otherwise in a moment. The socket is closed before its first frame, which makes a provider back off:
# from 4 on. Closed so, 3.x comes back with one attempt more every time; so older ones wait here, for longer
# than any pause of theirs, and who is sent away after so long makes no herd.
AWAY = (StorageUnavailable, Overloaded, RateLimited)
PATIENCE = 35.0
PAUSE = 5.0

# Provider 2.x never comes back from these two, for no document of the socket: it hears them as a denial of
# the one that they are about, when it comes back.
FINAL = (NotAuthenticated.close_code, Forbidden.close_code)

# What ends one document of a socket; anything else ends the socket, so that its clients come back. A limit
# ends a socket that has nothing else to lose.
DENIALS = (NotAuthenticated, Forbidden, InvalidName, DocumentDeleted, CorruptLog, RateLimited)


class Channel:
    """One document of a socket, under its routing key: the ``Link`` of a session."""

    def __init__(self, socket: Socket, key: bytes) -> None:
        self.key = key
        self.sync = key + b"\x00"  # what its sync messages begin with
        self.room: Room | None = None  # once it has had what was queued
        self.session: Session | None = None
        self.queue: list[Frame] = []  # not a deque, which takes 600 bytes of every idle socket
        self.token: str | None = None  # the latest that was not looked at
        self.signs = False  # its client sends tokens
        self.backs_off = False  # its provider comes back more and more slowly when it is closed unheard
        self.hears_authors = False  # it is one of ours, and wants to
        self.left = False
        self.task: asyncio.Task[None] | None = None
        self._socket = socket
        self._link = socket.link
        self._waiter: asyncio.Future[None] | None = None  # an Event would take a KiB of every idle socket

    @property
    def congested(self) -> bool:
        return self._link.congested

    def write(self, message: bytes, times: int = 1) -> None:
        if not self.left:
            self._link.write(message, times, self.key)

    def close(self, code: int, reason: str) -> None:
        # Never this document alone: a client that is told so does not come back for it.
        self._socket.close(code, reason)

    def backlog(self) -> int:
        return self._link.backlog()

    def pause(self) -> None:
        self._socket.pause(self)

    def resume(self) -> None:
        self._socket.resume(self)

    def probe(self) -> None:
        self._link.probe()

    def ask_token(self) -> None:
        self.write(hocuspocus.ASK_TOKEN)

    async def woken(self) -> None:
        """Wait until there is a token, or the client has left."""
        while self.token is None and not self.left:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter

    def wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class Socket:
    """Gives what arrives on one WebSocket to the documents that it is for."""

    def __init__(
        self,
        hub: Hub,
        authenticator: Authenticator,
        connections: Connections,
        link: Transport,
        request: Scope,
        address: str,
    ) -> None:
        self.link = link
        self._hub = hub
        self._authenticator = authenticator
        self._connections = connections
        self._request = request
        self._address = address
        self._channels: dict[bytes, Channel] = {}
        self._latest: Channel | None = None  # whose frame came last; most sockets have no other
        self._paused: set[Channel] = set()
        self._queued = [0, 0]  # frames, bytes
        self._tasks: asyncio.TaskGroup
        self._deadline: asyncio.TimerHandle | None = None

    async def serve(self, sign_in_seconds: float) -> None:
        """Until the connection ends."""
        self._give_until(sign_in_seconds)
        try:
            async with asyncio.TaskGroup() as self._tasks:
                self.link.attach(self.receive, self.drained)
                while (data := await self.link.large_message()) is not None:
                    self.link.handled(await self._receive_large(data))
                for channel in self._channels.values():
                    if channel.task is not None:
                        channel.task.cancel()
        finally:
            if self._deadline is not None:
                self._deadline.cancel()

    def _give_until(self, seconds: float | None) -> None:
        """From now on the socket has so long to open a document; None: it has one."""
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        if seconds is not None:
            self._deadline = asyncio.get_running_loop().call_later(seconds, self._late)

    def _late(self) -> None:
        error = NotAuthenticated("no valid token came in time; reconnect with one")
        self._hub.stats.refused[error.code] += 1
        self.link.write(KEEPALIVE, key=NO_KEY)  # not closed before the first frame: see PATIENCE
        self.link.close(error.close_code, str(error))

    def close(self, code: int, reason: str) -> None:
        """Send the client away, for it to come back."""
        self.link.close(RightsChanged.close_code if code in FINAL else code, reason)

    def pause(self, channel: Channel) -> None:
        self._paused.add(channel)
        self.link.pause()

    def resume(self, channel: Channel) -> None:
        if channel in self._paused:
            self._paused.discard(channel)
            if not self._paused:
                self.link.resume()

    def drained(self) -> None:
        for channel in tuple(self._channels.values()):
            if channel.room is not None and channel.session is not None:
                channel.room.drained(channel.session)

    # --- frames

    def receive(self, data: bytes) -> None:
        """Take one frame of at most LARGE bytes."""
        latest = self._latest
        if latest is not None and latest.room is not None and data.startswith(latest.sync):
            # What ``_take`` would do, at a third of its cost: nearly every frame is a keystroke.
            assert latest.session is not None
            self._hub.receive(latest.room, latest.session, data[len(latest.key) :])
            return
        try:
            if len(data) == 1:
                self._take_heartbeat(data)
                return
            frame = hocuspocus.decode(data)
            channel = self._channels.get(frame.key)
            if channel is None or channel.room is None:
                self._take_early(frame, channel)
            else:
                self._take(frame, channel, channel.room)
        except CollabError as error:
            self._refuse(error)

    async def _receive_large(self, data: bytes) -> float:
        """Take one longer than that; the seconds of a processor that it took."""
        try:
            frame = hocuspocus.decode(data)
            channel = self._channels.get(frame.key)
            if channel is None or channel.room is None:
                self._take_early(frame, channel)
            else:
                return await self._take_large(frame, channel, channel.room)
        except CollabError as error:
            self._refuse(error)
        return 0.0  # nothing that takes long

    def _take_heartbeat(self, data: bytes) -> None:
        if data == PING:
            self.link.write(PONG)
        elif data != PONG:
            raise ProtocolError("a frame of one byte is a ping (9) or a pong (10)")

    def _take(self, frame: Frame, channel: Channel, room: Room) -> None:
        """Take a frame for an open document. Kinds that are not known are passed over, as Hocuspocus does."""
        session = channel.session
        assert session is not None
        self._latest = channel
        if frame.kind in hocuspocus.ROOM_TYPES:
            self._hub.receive(room, session, frame.body)
        elif frame.kind == hocuspocus.STATELESS:
            if len(frame.body) > STATELESS_BYTES:
                raise ProtocolError(f"a stateless message has at most {STATELESS_BYTES} bytes")
            if session.writes and not session.closed:
                room.relay(session, frame.body)
        elif frame.kind == hocuspocus.AUTH:
            self._take_token(hocuspocus.decode_token(frame.body), channel)
        elif frame.kind == hocuspocus.CLOSE:
            self._leave(channel)

    async def _take_large(self, frame: Frame, channel: Channel, room: Room) -> float:
        if frame.kind in hocuspocus.ROOM_TYPES and len(frame.body) > LARGE:
            assert channel.session is not None
            return await self._hub.receive_large(room, channel.session, frame.body)
        began = thread_time()
        self._take(frame, channel, room)
        return thread_time() - began

    def _take_early(self, frame: Frame, channel: Channel | None) -> None:
        """Take a frame for a document that is not open: a token opens it, other frames wait for that."""
        if channel is None:
            if len(self._channels) >= CHANNELS:
                raise Overloaded(f"a socket carries at most {CHANNELS} documents; open another")
            channel = self._channels[frame.key] = Channel(self, frame.key)
        if frame.body.startswith(STEP1) and not channel.signs and channel.task is None:
            self._take_token("", channel)  # providers up to 2.x send none when they have none
        if frame.kind == hocuspocus.CLOSE:
            self._leave(channel)
        elif channel.task is not None:
            if frame.kind in QUEUED:
                self._enqueue(frame, channel)
        elif frame.kind == hocuspocus.AUTH:
            token = hocuspocus.decode_token(frame.body)
            if token is not None:
                version = hocuspocus.version_of(frame.body)
                channel.backs_off = version is not None
                channel.hears_authors = version is not None and version == hocuspocus.CLIENT
                channel.signs = True
                self._take_token(token, channel)
        elif frame.kind == hocuspocus.AWARENESS and not channel.signs and len(frame.body) <= KEPT_BYTES:
            # Said before the first token: the last of it waits. Edits do not, they come with the answer to
            # our step 1. What comes after a denial may be of a provider that has gone meanwhile.
            self._forget(channel, channel.queue[:])
            self._enqueue(frame, channel)

    def _take_token(self, token: str | None, channel: Channel) -> None:
        if token is None:
            return
        channel.token = token
        channel.wake()
        if channel.task is None:
            channel.task = self._tasks.create_task(self._open(channel))

    def _enqueue(self, frame: Frame, channel: Channel) -> None:
        if frame.body.startswith(STEP1):
            # Answered both, a provider would have one acknowledgement more than it counts.
            self._forget(channel, [one for one in channel.queue if one.body.startswith(STEP1)])
        channel.queue.append(frame)
        self._queued[0] += 1
        self._queued[1] += len(frame.body)
        if self._queued[0] > QUEUE_COUNT or self._queued[1] > QUEUE_BYTES:
            if channel.task is None:
                self._refuse(NotAuthenticated("too much was sent before a valid token"))
            else:
                self.pause(channel)  # it is being opened: read on then

    def _forget(self, channel: Channel, frames: list[Frame]) -> None:
        for frame in frames:
            channel.queue.remove(frame)
            self._queued[0] -= 1
            self._queued[1] -= len(frame.body)

    def _dequeue(self, channel: Channel) -> Frame:
        frame = channel.queue.pop(0)
        self._queued[0] -= 1
        self._queued[1] -= len(frame.body)
        return frame

    def _refuse(self, error: CollabError) -> None:
        self._hub.stats.refused[error.code] += 1
        self.close(error.close_code, str(error))

    # --- a document's life on the socket

    async def _open(self, channel: Channel) -> None:
        """Open the document with the channel's token, serve it until its client leaves."""
        loop = asyncio.get_running_loop()
        token, give_up = self._token(channel), loop.time() + PATIENCE
        denied: CollabError | None = None
        self._give_until(None)  # what takes long from here on is not the client's fault
        try:
            while True:
                try:
                    await self._serve(channel, token)
                    break
                except AWAY as error:
                    if channel.session is not None or channel.backs_off or loop.time() > give_up:
                        raise
                    await asyncio.sleep(error.retry_after if isinstance(error, RateLimited) else PAUSE)
        except DENIALS as error:
            limited = isinstance(error, RateLimited)
            if channel.session is not None or (limited and not self._serves_others(channel)):
                self._refuse(error)
            else:
                denied = error
        except CollabError as error:
            self._refuse(error)
        finally:
            channel.room = channel.session = channel.task = None
            self.resume(channel)
        if denied is not None:
            self._deny(channel, denied)

    def _serves_others(self, channel: Channel) -> bool:
        return any(other.room is not None for other in self._channels.values() if other is not channel)

    async def _serve(self, channel: Channel, token: str | None) -> None:
        name = check_name(hocuspocus.name_of(channel.key))
        since = self._connections.dismissals
        identity = await self._authenticator.identify(HTTPConnection(self._request), token)
        self.link.belongs_to(identity.actor.id if identity.signed_in else self._address)
        async with self._connections.enter(
            identity, since, name, self._address, channel, HOCUSPOCUS, channel.ask_token
        ) as connection:
            # Loaded before the client hears that it may come: a failure is no denial.
            epoch = (await self._hub.open(name)).epoch
            session = channel.session = connection.session
            if channel.hears_authors and connection.grant.history:
                session.tells_authors = hocuspocus.encode_authors
            channel.write(hocuspocus.encode_authenticated(session.writes, epoch))
            async with self._hub.join(name, session) as room:
                while channel.queue:
                    self.link.charge(await self._take_large(self._dequeue(channel), channel, room))
                channel.room = room
                self.resume(channel)
                if not self.link.congested:  # it may have drained while the queue was taken
                    room.drained(session)
                while not channel.left:
                    await channel.woken()
                    if channel.token is not None:
                        request, token = HTTPConnection(self._request), self._token(channel)
                        identity = await self._authenticator.identify(request, token)
                        self._connections.renewed(connection, identity)

    def _token(self, channel: Channel) -> str | None:
        token, channel.token = channel.token, None
        return token

    def _deny(self, channel: Channel, error: CollabError) -> None:
        """The client may try again with another token on this socket, and begins anew then: were what it sent
        before kept, a provider might be answered once more than it counts."""
        self._hub.stats.refused[error.code] += 1
        channel.write(hocuspocus.encode_denied(f"{error.code}: {error}"))
        while channel.queue and channel.task is None:
            frame = self._dequeue(channel)
            if frame.kind == hocuspocus.AUTH:  # another token came while the first was looked at
                try:
                    self._take_early(frame, channel)
                except CollabError as malformed:
                    self._refuse(malformed)
        if all(other.task is None for other in self._channels.values()):  # none is open or being opened
            self._give_until(DENIED_SECONDS)

    def _leave(self, channel: Channel) -> None:
        """The client is done with this document; the socket stays."""
        if self._channels.get(channel.key) is channel:
            del self._channels[channel.key]
        self._latest = None
        while channel.queue:
            self._dequeue(channel)
        if channel.room is not None and channel.session is not None:
            channel.room.leave(channel.session)
        channel.write(hocuspocus.encode_close("provider_initiated"))
        channel.left = True
        channel.wake()
        if channel.room is None and channel.task is not None:
            channel.task.cancel()  # it was being opened
        if not self._channels:
            self._give_until(DENIED_SECONDS)
