"""uvicorn's WebSocket class, made into the ``Link`` of a session.

Frames go from the socket straight into the room and from the room straight to the socket: no task, no
queue and no state machine step for each peer of each edit. What uvicorn leaves open is closed here: a
handshake has an end, a peer that stops reading is dropped, one that sends too fast is read more slowly,
nobody keeps others waiting for more than a moment, and what lies unread has a bound. It leans on private
parts of uvicorn 0.54 (pyproject.toml pins it; tests/web/test_transport.py is the alarm).
"""

from __future__ import annotations

import asyncio
import zlib
from collections import Counter, deque
from collections.abc import Callable
from functools import lru_cache
from time import perf_counter, thread_time
from typing import Any, ClassVar, cast

from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory
from websockets.frames import Frame

try:
    from websockets.speedups import apply_mask
except ImportError:  # a platform without the compiled part
    from websockets.utils import apply_mask

from collab.errors import CollabError, Overloaded, ProtocolError, TooLarge
from web.budget import Budget, Budgets
from web.http import answer
from web.turns import Turns

LARGE = 8 << 10  # bytes; a longer message is checked off the event loop, in pieces
HUGE = 256 << 10  # bytes; a longer one does not keep shorter ones waiting
CLOSE_SECONDS = 5.0  # for the peer to answer our close frame
PROBE_SECONDS = 2.0  # for a peer whose client id is claimed by another connection to show life
PING_BURST = 20  # pings read between two writes that went through
FRAGMENTS = 1024  # frames that may make up one message
TURN = 0.0005  # seconds of one peer's frames before others have their turn
PORTION = 64  # frames between two looks at the budgets, or
PORTION_BYTES = 64 << 10
PORTION_SECONDS = 0.005
BLOCK = 4 << 10  # bytes read that are kept as they came; fewer are put together
SMALL = 512  # bytes read whose work is not worth the measuring
WORTH_DEFLATING = 1 << 10  # bytes; below, the frame's header is most of what could be saved

# Why a peer is not read, each a bit.
UNATTACHED, ROOM, LARGE_MESSAGE, RATE, OTHERS, PINGS, GONE = (1 << bit for bit in range(7))


@lru_cache(maxsize=4)  # the room gives the same bytes to every session in turn
def framed(message: bytes, key: bytes) -> bytes:
    """``message`` behind its routing key as one binary WebSocket frame."""
    return _header(0x82, len(key) + len(message)) + key + message


@lru_cache(maxsize=4)
def deflated(message: bytes, key: bytes) -> bytes:
    """The same, compressed by itself: whoever takes compressed frames can read it."""
    encoder = zlib.compressobj(1, wbits=-15)
    payload = encoder.compress(key + message) + encoder.flush(zlib.Z_SYNC_FLUSH)
    return _header(0xC2, len(payload) - 4) + payload[:-4]  # RFC 7692, 7.2.1


def _header(first: int, size: int) -> bytes:
    if size < 126:
        return bytes((first, size))
    if size < 65536:
        return bytes((first, 126)) + size.to_bytes(2, "big")
    return bytes((first, 127)) + size.to_bytes(8, "big")


class _Nobody:
    """Stands in for uvicorn's queue and event, 4 KiB a socket, once nothing waits for them."""

    def put_nowait(self, event: object) -> None: ...

    def set(self) -> None: ...

    def clear(self) -> None: ...


_NOBODY = _Nobody()


def _ignore(message: bytes) -> None:
    """Takes what comes after the end."""


class Transport(WebSocketsSansIOProtocol):
    """One WebSocket connection. The endpoint finds it at ``scope["extensions"]["collab.link"]``.

    Nothing is read before the endpoint attaches, nor while a peer is paused for any reason: what was read
    already, one read of the network at most, waits as it came.
    """

    message_bytes = 8 << 20  # ``web.server.serve`` sets these for the process; an endpoint may set the
    handshake_seconds = 10.0  # first for its own connection, until it knows who is there
    stall_seconds = 15.0
    messages_per_second = 2000.0
    bytes_per_second = 4.0 * (1 << 20)
    cpu_share = 0.05
    actors = Budgets(0, 0, 0)
    unread_bytes = 128 << 20
    compression = False
    limited: ClassVar[Counter[str]] = Counter()

    # Of the process: who has more than a moment's work, who holds more than LARGE of what is not dealt
    # with yet, longest first, and how much; and whose large message is dealt with, or huge one, and who is
    # next.
    _turns: ClassVar[Turns] = Turns()
    _holders: ClassVar[dict[Transport, None]] = {}
    _unread: ClassVar[int] = 0
    _lanes: ClassVar[tuple[deque[Transport], deque[Transport]]] = (deque(), deque())

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.compression:
            # No context is kept between messages: it would be memory for every idle socket, and a
            # broadcast could not be compressed once for all.
            self.conn.available_extensions = [
                ServerPerMessageDeflateFactory(
                    server_no_context_takeover=True, client_no_context_takeover=True
                )
            ]
        self._task: asyncio.Task[None] | None = None
        self._receiver: Callable[[bytes], None] = _ignore
        self._drained: Callable[[], None] | None = None
        self._held = UNATTACHED
        self._taking = False
        self._has_turn = False
        self._rest: list[bytes | bytearray] = []  # read, and not taken yet
        self._rest_bytes = 0
        self._wanted = 0  # bytes that make its first frame whole, once the header says so
        self._large: bytes | None = None
        self._lane: deque[Transport] | None = None
        self._waiter: asyncio.Future[None] | None = None  # of ``large_message``
        self._counted = 0  # bytes of ours in ``_unread``
        self._budgets: tuple[Budget, ...] = ()
        self._metered = False  # our own budget is among them: an idle socket needs none
        self._messages_left = PORTION
        self._bytes_left = PORTION_BYTES
        self._seconds_left = PORTION_SECONDS
        self.congested = False
        self._deflates = False
        self._handshake_timer: asyncio.TimerHandle | None = None
        self._stall_timer: asyncio.TimerHandle | None = None
        self._probe_timer: asyncio.TimerHandle | None = None
        self._rate_timer: asyncio.TimerHandle | None = None
        self._pings = 0

    # --- the endpoint's side

    def attach(self, receiver: Callable[[bytes], None], drained: Callable[[], None]) -> None:
        """From now on every message goes to ``receiver``; ``drained`` is called when writing may go on."""
        if not self._held & GONE and not self.close_sent:
            self._receiver, self._drained = receiver, drained
            self._go(UNATTACHED)

    def belongs_to(self, actor: str) -> None:
        """What is read from now on counts as ``actor``'s too, with that of all its other connections."""
        budget = self.actors.of(actor, self.loop.time())
        if budget not in self._budgets and not self._held & GONE:
            budget.connections += 1
            self._budgets += (budget,)

    def forget_handshake(self) -> None:
        """Let go of what only the handshake needed; an idle socket is to weigh little."""
        del self.request, self.response
        cast(dict[str, Any], self.scope).clear()
        self.queue = cast(Any, _NOBODY)  # nobody receives from it again
        self.writable = cast(Any, _NOBODY)

    async def large_message(self) -> bytes | None:
        """The next message longer than LARGE; reading stops until ``handled``. In this process one is dealt
        with at a time, and one huge one, since each takes many times its size. None at the end."""
        while not self._ended():
            if self._large is None:
                await self._woken()
            elif owed := self._spend(0, 0, 0.0)[0]:
                self._leave_lane()
                await self._woken(owed)
            elif self._lane is None:
                self._lane = self._lanes[len(self._large) > HUGE]
                self._lane.append(self)
            elif self._lane[0] is not self:
                await self._woken()
            else:
                message, self._large = self._large, b""
                return message
        self._leave_lane()
        return None

    def handled(self, seconds: float) -> None:
        """The large message is dealt with, which took so much of a processor: read on."""
        self._large = None
        self._leave_lane()
        self._count()
        self.charge(seconds)
        self._go(LARGE_MESSAGE)

    def charge(self, seconds: float) -> None:
        """What the peer has sent took so much of a processor."""
        self._seconds_left -= seconds
        if self._seconds_left < 0:
            self._pay()

    async def _woken(self, seconds: float | None = None) -> None:
        """Wait for ``_wake``, or for so long."""
        self._waiter = self.loop.create_future()
        timer = None if seconds is None else self.loop.call_later(seconds, self._wake)
        await self._waiter
        if timer is not None:
            timer.cancel()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _leave_lane(self) -> None:
        if self._lane is not None:
            lane, self._lane = self._lane, None
            lane.remove(self)
            if lane:
                lane[0]._wake()

    # --- Link

    def write(self, message: bytes, times: int = 1, key: bytes = b"") -> None:
        if self.close_sent or self.disconnected:
            return
        frame = framed(message, key)
        if self._deflates and len(message) >= WORTH_DEFLATING:
            frame = min(deflated(message, key), frame, key=len)
        self.transport.write(frame if times == 1 else frame * times)

    def close(self, code: int, reason: str) -> None:
        if self.close_sent or self.disconnected or self.transport.is_closing():
            return
        while len(reason.encode()) > 123:  # what a close frame holds
            reason = reason[: min(len(reason) - 1, 120)]
        self.conn.send_close(code, reason)
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        # uvicorn's own timer: without it the socket is closed as soon as the endpoint returns, and a peer
        # whose bytes arrive after that is reset and sees 1006 instead of the code.
        self.close_timer = self.loop.call_later(CLOSE_SECONDS, self.transport.abort)
        self._receiver = _ignore
        self._wake()
        self._go(~(OTHERS | GONE))  # read on, so that the peer's answer is seen

    def backlog(self) -> int:
        return self.transport.get_write_buffer_size()

    def pause(self) -> None:
        self._stop(ROOM)

    def resume(self) -> None:
        self._go(ROOM)

    def probe(self) -> None:
        if self._probe_timer is None and not self.close_sent and not self.transport.is_closing():
            self.conn.send_ping(b"probe")
            self.transport.write(b"".join(self.conn.data_to_send()))
            self._probe_timer = self.loop.call_later(PROBE_SECONDS, self._give_up)

    def _give_up(self) -> None:
        if self._held:  # it is we who do not read
            self._probe_timer = self.loop.call_later(PROBE_SECONDS, self._give_up)
        else:
            self.transport.abort()

    # --- the handshake

    def _shake(self, head: bytes) -> None:
        """Begin with the head of the request, which the HTTP class has read whole. Every answer but an
        acceptance closes the connection, and so does the end of the deadline."""
        self.transport.pause_reading()
        self._handshake_timer = self.loop.call_later(self.handshake_seconds, self._handshake_late)
        try:
            super().data_received(head)
        except UnicodeError:  # of uvicorn, at a path that is not ASCII
            self._reject()
        else:
            if not self.handshake_initiated:  # websockets could not read it, and uvicorn asks for no reason
                self._reject(b"".join(self.conn.data_to_send()))

    def _reject(self, response: bytes = b"") -> None:
        self.limited["head"] += 1
        self.transport.write(response or answer(400, "malformed", "this is no request for a WebSocket"))
        self.transport.close()

    def _handshake_late(self) -> None:
        self.limited["handshake"] += 1
        self.transport.abort()

    def start_keepalive(self) -> None:
        """Called by uvicorn when the handshake is complete."""
        super().start_keepalive()
        self._deflates = any(getattr(e, "local_max_window_bits", 0) == 15 for e in self.conn.extensions)
        if self._handshake_timer is not None:
            self._handshake_timer.cancel()
            self._handshake_timer = None

    # --- uvicorn's side

    def handle_connect(self, event: Any) -> None:
        super().handle_connect(event)
        if hasattr(self, "scope"):
            cast(dict[str, Any], self.scope["extensions"])["collab.link"] = self

    def data_received(self, data: bytes) -> None:
        if self._probe_timer is not None:  # any byte shows life
            self._probe_timer.cancel()
            self._probe_timer = None
        self._bytes_left -= len(data)
        if self._bytes_left < 0:
            self._pay()
        if self._held:
            if self._handshake_timer is None and not self.handshake_complete:
                self._shake(data)
            elif not self._held & GONE:
                self._keep(data)
        elif self._rest:
            self._keep(data)
            if self._rest_bytes >= self._wanted:
                self._take(self._kept())
        elif len(data) > SMALL and self._turns.crowded:
            self._keep(data)
            self._let_others()
        else:
            self._take(data)

    def _keep(self, data: bytes) -> None:
        # In blocks: one buffer that grows would be moved again and again, and leave holes in memory.
        rest = self._rest
        if len(data) >= BLOCK:
            rest.append(data)
        elif rest and type(rest[-1]) is bytearray and len(rest[-1]) < BLOCK:
            rest[-1] += data
        else:
            rest.append(bytearray(data))
        self._rest_bytes += len(data)
        self._count()

    def _kept(self) -> bytes:
        data = b"".join(self._rest)
        self._rest.clear()
        self._rest_bytes = 0
        return data

    def _take(self, data: bytes) -> None:
        """Take whole binary messages out of ``data`` here, and give all other frames to websockets, one
        whole frame at a time. Its parser is a generator with a dozen steps a frame, and nearly every
        frame is a keystroke. What cannot be taken now is kept for later."""
        at, end = 0, len(data)
        began = perf_counter()
        work = thread_time() if end > SMALL else 0.0  # a system call
        conn = self.conn
        self._wanted = 0
        self._taking = True
        while end - at > 1:
            size = data[at + 1] - 128  # the high bit says that it is masked
            start = at + 6  # two bytes of header, four of mask
            if size > 125:
                start += 2 if size == 126 else 8
                if end < start:
                    break
                size = int.from_bytes(data[at + 2 : start - 4], "big")
                if size > 2 * self.message_bytes:
                    size = -1
            if size < 0:  # not masked, or too large: websockets knows the answer
                super().data_received(data[at:])
                at = end
                break
            stop = start + size
            if stop > end:
                self._wanted = stop - at
                break
            if data[at] != 0x82 or conn.current_size is not None:
                if size > SMALL and conn.extensions and not self._has_turn:
                    self._let_others()  # it may be a thousand times as long as it looks
                    break
                super().data_received(data[at:stop])
            elif size <= LARGE:
                self._receiver(apply_mask(data[start:stop], data[start - 4 : start]))
            else:
                self._message(apply_mask(memoryview(data)[start:stop], data[start - 4 : start]))
            at = stop
            self._messages_left -= 1
            if self._messages_left < 0:
                self._pay()
            if at < end:
                if self._held:
                    break
                if perf_counter() - began > TURN:
                    self._let_others()
                    break
        self._taking = False
        took = perf_counter() - began
        if work:
            self._turns.spend(took)
            self.charge(thread_time() - work)
        elif took > TURN:  # little was said, and much was asked for
            self._turns.spend(took)
            self.charge(took)
        if self._held & GONE:
            return
        if at < end:
            self._rest.append(data[at:])
            self._rest_bytes += end - at
        if self._counted or end - at > LARGE:
            self._count()

    def handle_text(self, event: Frame) -> None:
        self._refuse(ProtocolError("a text frame; the protocol is binary"))

    def handle_bytes(self, event: Frame) -> None:
        super().handle_bytes(event)
        self._seen(event)

    def handle_cont(self, event: Frame) -> None:
        if len(self.frames) >= FRAGMENTS:
            self.frames = []
            self.limited["fragments"] += 1
            self._refuse(TooLarge(f"a message in more than {FRAGMENTS} fragments"))
        elif self.frames:
            super().handle_cont(event)
            self._seen(event)

    def _seen(self, event: Frame) -> None:
        if len(event.data) > LARGE:  # else the parser would keep it until the next frame comes
            self.conn.parser = self.conn.parse()
            next(self.conn.parser)
        self._count()

    def send_receive_event_to_app(self) -> None:
        data = b"".join(self.frames)
        self.frames = []
        self._message(data)

    def _message(self, data: bytes) -> None:
        if self.close_sent or self.disconnected:
            return
        if len(data) > self.message_bytes:
            self._refuse(
                TooLarge(f"a message of {len(data)} bytes; this server takes {self.message_bytes} at most")
            )
        elif len(data) > LARGE:
            self._large = data
            self._stop(LARGE_MESSAGE)
            self._wake()
        else:
            self._receiver(data)

    def handle_ping(self) -> None:
        self._pings += 1
        if self._pings > PING_BURST and self.congested:
            self.conn.data_to_send()  # no pong for who does not read them
            self.limited["ping"] += 1
            self._stop(PINGS)
        else:
            super().handle_ping()

    def pause_writing(self) -> None:
        super().pause_writing()
        self.congested = True
        if self._stall_timer is None:
            self._stall_timer = self.loop.call_later(self.stall_seconds, self._stalled)

    def _stalled(self) -> None:
        self.limited["stall"] += 1
        self.transport.abort()

    def resume_writing(self) -> None:
        super().resume_writing()
        self.congested = False
        if self._stall_timer is not None:
            self._stall_timer.cancel()
            self._stall_timer = None
        self._pings = 0
        self._go(PINGS)
        if self._drained is not None:
            self._drained()

    def shutdown(self) -> None:
        if self._task is not None and self._held & UNATTACHED:
            self._task.cancel()  # it still finds out who is there, or loads the document
        # Who said goodbye and reads nothing (uvicorn would raise), or was told and reads nothing.
        if self.transport.is_closing() or (self.close_sent and self.congested):
            self.transport.abort()
        else:
            super().shutdown()

    async def run_asgi(self) -> None:
        self._task = asyncio.current_task()
        try:
            await self.app(self.scope, self.receive, self.send)
        except (ClientDisconnected, asyncio.CancelledError):
            pass
        except Exception:
            self.logger.exception("a connection failed")
            self.send_500_response()
        finally:
            self._leave_lane()  # not before: its large message may still be worked on
        if self.close_timer is None:
            self.transport.close()

    def keepalive_timeout(self) -> None:
        if self._held and self.ping_timeout is not None:  # it is we who do not read
            self.pong_timer = self.loop.call_later(self.ping_timeout, self.keepalive_timeout)
            return
        super().keepalive_timeout()
        self.loop.call_later(CLOSE_SECONDS, self.transport.abort)  # closing waits for a buffer nobody reads

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in (self._handshake_timer, self._stall_timer, self._probe_timer, self._rate_timer):
            if timer is not None:
                timer.cancel()
        self._finish()
        self._pay()
        for budget in self._budgets[self._metered :]:
            budget.connections -= 1
        super().connection_lost(exc)
        self._wake()

    def handle_close(self, event: Frame) -> None:
        super().handle_close(event)
        self._finish()
        self._wake()

    def handle_parser_exception(self) -> None:
        super().handle_parser_exception()
        self._finish()
        self._wake()
        self.loop.call_later(CLOSE_SECONDS, self.transport.abort)

    # --- when to read

    def _stop(self, reason: int) -> None:
        """Take no more for ``reason``, and read no more."""
        if not self._held:
            self.transport.pause_reading()
        self._held |= reason

    def _go(self, reason: int) -> None:
        """``reason`` is no more: when none is left, take what was read, then read on."""
        if not self._held & reason:
            return
        self._held &= ~reason
        if self._held:
            return
        if not self._taking and self._rest and self._rest_bytes >= self._wanted:
            self._take(self._kept())
        if not self._held:
            self.transport.resume_reading()

    def _finish(self) -> None:
        """Nothing that the peer has sent matters any more."""
        self._held |= GONE
        self._receiver = _ignore
        self._kept()
        self.frames = []
        self._large = None
        self._count()

    def _ended(self) -> bool:
        return self.disconnected or self.close_sent or bool(self._held & GONE)

    def _let_others(self) -> None:
        """Go on when everyone else was looked at, and those who wait for the same had their turn."""
        self._stop(OTHERS)
        self._turns.wait(self._take_turn)

    def _take_turn(self) -> None:
        self._has_turn = True
        self._go(OTHERS)
        self._has_turn = False

    def _pay(self) -> None:
        """Take what was received since the last time from the budgets; stop reading while it is owed."""
        messages, size = PORTION - self._messages_left, PORTION_BYTES - self._bytes_left
        seconds = PORTION_SECONDS - self._seconds_left
        self._messages_left, self._bytes_left, self._seconds_left = PORTION, PORTION_BYTES, PORTION_SECONDS
        wait, limit = self._spend(messages, size, seconds)
        if wait and not self._held & (RATE | GONE) and not self.close_sent:
            self.limited[limit] += 1
            self._stop(RATE)
            self._rate_timer = self.loop.call_later(wait, self._go, RATE)

    def _spend(self, messages: int, size: int, seconds: float) -> tuple[float, str]:
        if not self._metered:
            self._metered = True
            own = Budget(self.messages_per_second, self.bytes_per_second, self.cpu_share)
            self._budgets = (own, *self._budgets)
        now = self.loop.time()
        return max(budget.spend(messages, size, seconds, now) for budget in self._budgets)

    # --- ours

    def _count(self) -> None:
        """Keep ``_unread`` true, and within its bound: who has held for longest what cannot be dealt with,
        since it is not paid for or not complete, must send it again."""
        held = self._rest_bytes + (self.conn.current_size or 0) + len(self._large or b"")
        if held <= LARGE or self._held & GONE:  # websockets keeps the size of a message it was refused in
            held = 0
        if held == self._counted:
            return
        Transport._unread += held - self._counted
        self._counted = held
        if not held:
            self._holders.pop(self, None)
            return
        self._holders.setdefault(self)
        while Transport._unread > self.unread_bytes and not self._held & GONE:
            owing = (one for one in self._holders if one._large and one._lane is None)
            partial = (one for one in self._holders if one._large is None)
            one = next(owing, None) or next(partial, self)
            self.limited["unread"] += 1
            one._refuse(Overloaded("the server has too many large messages to deal with; try again"))
            one._finish()

    def _refuse(self, error: CollabError) -> None:
        self.close(error.close_code, str(error))
