"""uvicorn's WebSocket class, made into the ``Link`` of a session.

Frames go from the socket straight into the room and from the room straight to the socket: no task, no
queue and no state machine step for each peer of each edit. What uvicorn leaves open is closed here: a
peer that stops reading is dropped, pings cannot fill memory, a close has a deadline. It leans on private
parts of uvicorn 0.54 (pyproject.toml pins it; tests/web/test_transport.py is the alarm).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import lru_cache
from typing import Any, cast

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame

try:
    from websockets.speedups import apply_mask
except ImportError:  # a platform without the compiled part
    from websockets.utils import apply_mask

from collab.errors import CollabError, ProtocolError, TooLarge

LARGE = 64 << 10  # bytes; a longer message is checked off the event loop, in pieces
CLOSE_SECONDS = 5.0  # for the peer to answer our close frame
PROBE_SECONDS = 2.0  # for a peer whose client id is claimed by another connection to show life
PING_BURST = 20  # pings read between two writes that went through
FRAGMENTS = 1024  # frames that may make up one message


@lru_cache(maxsize=4)  # the room gives the same bytes to every session in turn
def framed(message: bytes, key: bytes) -> bytes:
    """``message`` behind its routing key as one binary WebSocket frame."""
    size = len(key) + len(message)
    if size < 126:
        header = bytes((0x82, size))
    elif size < 65536:
        header = b"\x82\x7e" + size.to_bytes(2, "big")
    else:
        header = b"\x82\x7f" + size.to_bytes(8, "big")
    return header + key + message


class _Nobody:
    """Stands in for uvicorn's queue and event, 4 KiB a socket, once nothing waits for them."""

    def put_nowait(self, event: object) -> None: ...

    def set(self) -> None: ...

    def clear(self) -> None: ...


_NOBODY = _Nobody()


class Transport(WebSocketsSansIOProtocol):
    """One WebSocket connection. The endpoint finds it at ``scope["extensions"]["collab.link"]``."""

    message_bytes = 8 << 20  # ``web.server.serve`` sets these for the process
    stall_seconds = 15.0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._receiver: Callable[[bytes], None] | None = None
        self._drained: Callable[[], None] | None = None
        self._inbox: list[bytes] = []  # read while the endpoint was not ready or busy
        self._busy = False
        self._waiter: asyncio.Future[None] | None = None  # of ``large_message``
        self.congested = False
        self._room_paused = False
        self._stall_timer: asyncio.TimerHandle | None = None
        self._probe_timer: asyncio.TimerHandle | None = None
        self._pings = 0
        self._partial = bytearray()  # the beginning of a frame
        self._wanted = 0  # bytes that make it whole, once its header says so

    # --- the endpoint's side

    def attach(self, receiver: Callable[[bytes], None], drained: Callable[[], None]) -> None:
        """From now on every message goes to ``receiver``; ``drained`` is called when writing may go on."""
        self._receiver, self._drained = receiver, drained
        self._work_off()

    def forget_handshake(self) -> None:
        """Let go of what only the handshake needed; an idle socket is to weigh little."""
        del self.request, self.response
        cast(dict[str, Any], self.scope).clear()
        self.queue = cast(Any, _NOBODY)  # nobody receives from it again
        self.writable = cast(Any, _NOBODY)

    async def large_message(self) -> bytes | None:
        """The next message longer than LARGE; reading stops until ``handled``. None at the end."""
        while not self.disconnected and not self.close_sent:
            if self._busy:
                return self._inbox.pop(0)
            self._waiter = self.loop.create_future()
            await self._waiter
        return None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def handled(self) -> None:
        """The large message is dealt with: read on."""
        self._busy = False
        self._work_off()

    # --- Link

    def write(self, message: bytes, times: int = 1, key: bytes = b"") -> None:
        if self.close_sent or self.disconnected:
            return
        frame = framed(message, key)
        self.transport.write(frame if times == 1 else frame * times)

    def close(self, code: int, reason: str) -> None:
        if self.close_sent or self.disconnected or self.transport.is_closing():
            return
        while len(reason.encode()) > 123:  # what a close frame holds
            reason = reason[: min(len(reason) - 1, 120)]
        self.conn.send_close(code, reason)
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        self._wake()
        self.transport.resume_reading()  # so that the peer's answer is seen
        # uvicorn's own timer: without it the socket is closed as soon as the endpoint returns, and a peer
        # whose bytes arrive after that is reset and sees 1006 instead of the code.
        self.close_timer = self.loop.call_later(CLOSE_SECONDS, self.transport.abort)

    def backlog(self) -> int:
        return self.transport.get_write_buffer_size()

    def pause(self) -> None:
        self._room_paused = True
        self.transport.pause_reading()

    def resume(self) -> None:
        self._room_paused = False
        self._work_off()

    def probe(self) -> None:
        if self._probe_timer is None and not self.close_sent and not self.transport.is_closing():
            self.conn.send_ping(b"probe")
            self.transport.write(b"".join(self.conn.data_to_send()))
            self._probe_timer = self.loop.call_later(PROBE_SECONDS, self._give_up)

    def _give_up(self) -> None:
        if self._busy or self._room_paused or self._inbox:  # it is we who do not read
            self._probe_timer = self.loop.call_later(PROBE_SECONDS, self._give_up)
        else:
            self.transport.abort()

    # --- uvicorn's side

    def handle_connect(self, event: Any) -> None:
        super().handle_connect(event)
        if hasattr(self, "scope"):
            cast(dict[str, Any], self.scope["extensions"])["collab.link"] = self

    def data_received(self, data: bytes) -> None:
        """Take whole binary messages out of ``data`` here, and give all other frames to websockets, one
        whole frame at a time. Its parser is a generator with a dozen steps a frame, and nearly every
        frame is a keystroke."""
        if self._probe_timer is not None:  # any byte shows life
            self._probe_timer.cancel()
            self._probe_timer = None
        if not self.handshake_complete or self._unparsed():
            super().data_received(data)
            return
        if self._partial:
            self._partial += data
            if len(self._partial) < self._wanted:
                return
            data, self._partial = bytes(self._partial), bytearray()
        at, end = 0, len(data)
        self._wanted = 0
        while end - at > 1:
            size = data[at + 1] & 127
            start = at + 6  # two bytes of header, four of mask
            if size > 125:
                start += 2 if size == 126 else 8
                if end < start:
                    break
                size = int.from_bytes(data[at + 2 : start - 4], "big")
            stop = start + size
            if data[at + 1] < 128 or size > 2 * self.message_bytes:
                super().data_received(data[at:])  # not masked, or too large: it knows what to answer
                return
            if stop > end:
                self._wanted = stop - at
                break
            if data[at] == 0x82 and self.conn.current_size is None:
                self._message(apply_mask(data[start:stop], data[start - 4 : start]))
            else:
                super().data_received(data[at:stop])
            at = stop
        if at < end:
            self._partial += data[at:]

    def _unparsed(self) -> bool:
        """Whether websockets has begun to read what came in one piece with the handshake."""
        return bool(self.conn.reader.buffer)

    def handle_text(self, event: Frame) -> None:
        if self.handshake_complete:
            self._refuse(ProtocolError("a text frame; the protocol is binary"))

    def handle_cont(self, event: Frame) -> None:
        if len(self.frames) >= FRAGMENTS:
            self._refuse(TooLarge(f"a message in more than {FRAGMENTS} fragments"))
        elif self.frames:
            super().handle_cont(event)

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
        elif self._receiver is None or self._busy or self._room_paused or len(data) > LARGE:
            self._inbox.append(data)
            self.transport.pause_reading()
            self._work_off()
        else:
            self._receiver(data)

    def handle_ping(self) -> None:
        self._pings += 1
        if self._pings > PING_BURST and self.congested:
            self.conn.data_to_send()  # no pong for who does not read them
            self.transport.pause_reading()
        else:
            super().handle_ping()

    def pause_writing(self) -> None:
        super().pause_writing()
        self.congested = True
        if self._stall_timer is None:
            self._stall_timer = self.loop.call_later(self.stall_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self.congested = False
        if self._stall_timer is not None:
            self._stall_timer.cancel()
            self._stall_timer = None
        if self._pings > PING_BURST:
            self._pings = 0
            self._work_off()
        if self._drained is not None:
            self._drained()

    def shutdown(self) -> None:
        if self.transport.is_closing():  # the peer said goodbye and reads nothing: uvicorn would raise
            self.transport.abort()
        else:
            super().shutdown()

    def keepalive_timeout(self) -> None:
        super().keepalive_timeout()
        self.loop.call_later(CLOSE_SECONDS, self.transport.abort)  # closing waits for a buffer nobody reads

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in (self._stall_timer, self._probe_timer):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)
        self._wake()

    def handle_close(self, event: Frame) -> None:
        super().handle_close(event)
        self._wake()

    def handle_parser_exception(self) -> None:
        super().handle_parser_exception()
        self._wake()
        self.loop.call_later(CLOSE_SECONDS, self.transport.abort)

    # --- ours

    def _refuse(self, error: CollabError) -> None:
        self.close(error.close_code, str(error))

    def _work_off(self) -> None:
        """Pass on what was read while nobody could take it; then read on."""
        while self._inbox and self._receiver is not None and not self._busy and not self._room_paused:
            if len(self._inbox[0]) > LARGE:
                self._busy = True
                self._wake()
                return
            self._receiver(self._inbox.pop(0))
        if not (self._inbox or self._busy or self._room_paused or self.disconnected):
            self.transport.resume_reading()
