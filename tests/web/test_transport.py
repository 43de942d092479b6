"""The hardened transport against raw sockets: the alarm for changes in uvicorn and websockets."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from serverprocess import Server
from yclient import Client, client

from collab import protocol
from web.transport import FRAGMENTS


class Raw:
    """A WebSocket by hand: any bytes, any framing."""

    def __init__(self, server: Server, path: str = "/ws/raw", buffer: int | None = None) -> None:
        self.socket = socket.socket()
        if buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        self.socket.connect(("127.0.0.1", server.port))
        self.socket.settimeout(20)
        self.socket.sendall(
            f"GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        self.data = b""
        while b"\r\n\r\n" not in self.data:
            self.data += self.socket.recv(1)
        assert self.data.startswith(b"HTTP/1.1 101")
        self.data = b""

    def send(self, payload: bytes, first: int = 0x82) -> None:
        self.socket.sendall(frame(payload, first))

    def read(self) -> tuple[int, bytes]:
        """The next frame: its opcode and payload."""
        head = self._take(2)
        size = head[1]
        if size == 126:
            size = int.from_bytes(self._take(2), "big")
        elif size == 127:
            size = int.from_bytes(self._take(8), "big")
        return head[0] & 15, self._take(size)

    def _take(self, size: int) -> bytes:
        while len(self.data) < size:
            chunk = self.socket.recv(65536)
            if not chunk:
                raise EOFError
            self.data += chunk
        taken, self.data = self.data[:size], self.data[size:]
        return taken

    def closed(self) -> tuple[int, str]:
        """Read until the server closes; its code and reason."""
        while True:
            opcode, payload = self.read()
            if opcode == 8:
                return struct.unpack("!H", payload[:2])[0], payload[2:].decode()


def frame(payload: bytes, first: int = 0x82) -> bytes:
    size = len(payload)
    if size < 126:
        head = bytes((first, 0x80 | size))
    elif size < 65536:
        head = bytes((first, 0xFE)) + size.to_bytes(2, "big")
    else:
        head = bytes((first, 0xFF)) + size.to_bytes(8, "big")
    mask = os.urandom(4)
    masked = int.from_bytes(payload, "big") ^ int.from_bytes((mask * (size // 4 + 1))[:size], "big")
    return head + mask + masked.to_bytes(size, "big")


@contextmanager
def raw(server: Server, path: str = "/ws/raw", buffer: int | None = None) -> Iterator[Raw]:
    made = Raw(server, path, buffer)
    try:
        yield made
    finally:
        made.socket.close()


def rss(server: Server) -> int:
    status = Path(f"/proc/{server.pid}/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS"))) << 10


def ask(number: int) -> bytes:
    return protocol.encode_sync_status(str(number).encode())


def acknowledged(connection: Raw) -> bytes:
    while True:
        opcode, payload = connection.read()
        if opcode == 2 and payload[0] == protocol.SYNC_STATUS:
            return payload


def test_frames_cut_at_every_byte_are_read_as_if_they_came_whole(shared_server: Server) -> None:
    messages = frame(ask(1)) + frame(b"x", 0x89) + frame(ask(2)) + frame(protocol.encode_awareness(b"\0"))
    messages += frame(protocol.encode_awareness(b"\0" * 200)) + frame(ask(3))
    with raw(shared_server) as connection:
        connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.read()  # the greeting: the room is there, so answers come in order
        for i in range(len(messages)):
            connection.socket.sendall(messages[i : i + 1])
            time.sleep(0.0005)
        seen: list[tuple[int, bytes]] = []
        while (2, ask(3)) not in seen:
            seen.append(connection.read())
    answers = [s for s in seen if s[0] == 10 or s[1][:1] == bytes((protocol.SYNC_STATUS,))]
    assert answers == [(2, ask(1)), (10, b"x"), (2, ask(2)), (2, ask(3))]


def test_a_fragmented_message_with_a_ping_between_is_read_whole(shared_server: Server) -> None:
    message = ask(7)
    with raw(shared_server) as connection:
        connection.send(message[:1], 0x02)
        connection.send(b"between", 0x89)
        connection.send(message[1:], 0x80)
        assert acknowledged(connection) == message


def test_many_fragments_are_refused(shared_server: Server) -> None:
    with raw(shared_server) as connection:
        connection.send(b"\x01", 0x02)
        for _ in range(FRAGMENTS + 1):
            connection.send(b"", 0x00)
        assert connection.closed()[0] == 4413


@pytest.mark.parametrize(
    ("first", "payload", "code"),
    [
        (0x81, b"text", 4400),
        (0x83, b"reserved opcode", 1002),
        (0xC2, b"reserved bit", 1002),
        (0x80, b"continuation of nothing", 1002),
        (0x89, b"p" * 126, 1002),
    ],
)
def test_frames_that_break_the_rules_close_their_socket(
    shared_server: Server, first: int, payload: bytes, code: int
) -> None:
    with raw(shared_server) as connection:
        connection.send(payload, first)
        assert connection.closed()[0] == code


def test_an_unmasked_frame_is_refused(shared_server: Server) -> None:
    with raw(shared_server) as connection:
        connection.socket.sendall(b"\x82\x01x")
        assert connection.closed()[0] == 1002


def test_a_message_over_the_limit_is_refused_with_4413_and_one_at_it_is_not(
    make_server: Callable[..., Server],
) -> None:
    server = make_server(message_bytes=100_000)
    with raw(server) as connection:
        # 100,000 bytes exactly: an acknowledgement with a large payload
        connection.send(b"\x66" + protocol.var_uint(99_996) + b"y" * 99_996)
        assert len(acknowledged(connection)) == 100_000
        connection.send(b"\x66" + protocol.var_uint(99_997) + b"y" * 99_997)
        code, reason = connection.closed()
        assert code == 4413
        assert "100000" in reason
    with raw(server) as connection:
        connection.socket.sendall(b"\x82\xff" + (1 << 62).to_bytes(8, "big") + b"mask")
        assert connection.closed()[0] == 1009


def test_a_peer_that_reads_nothing_is_dropped_and_others_are_not_slowed(
    make_server: Callable[..., Server],
) -> None:
    server = make_server(stall_seconds=2)

    async def scenario() -> None:
        stalled = [Raw(server, "/ws/d", buffer=4096) for _ in range(5)]
        for connection in stalled:
            connection.send(protocol.encode_step1(b"\0"))
        before = rss(server)
        async with client(server.ws_url, "d") as writer, client(server.ws_url, "d") as reader:
            for _ in range(80):
                await writer.insert(0, "w" * 100_000)
            await writer.saved()
            await reader.until(lambda: len(reader.text) == 8_000_000)
            # Five peers may each hold the outbox limit and what one commit adds, not the 40 MB they left.
            assert rss(server) - before < 250 << 20
            deadline = time.monotonic() + 10
            while "collab_sessions 2.0" not in await metrics(server):
                assert time.monotonic() < deadline, "the stalled peers are still there"
                await asyncio.sleep(0.1)
        for connection in stalled:
            connection.socket.close()

    asyncio.run(scenario())


async def metrics(server: Server) -> str:
    async with httpx.AsyncClient() as http:
        return (await http.get(f"{server.url}/metrics")).text


def test_a_flood_of_pings_that_nobody_reads_takes_no_memory(make_server: Callable[..., Server]) -> None:
    server = make_server(stall_seconds=60)
    with raw(server, buffer=4096) as connection:
        before = rss(server)
        connection.socket.settimeout(1)
        flood = frame(b"p" * 125, 0x89) * 1000
        sent = 0
        try:
            while sent < 200 << 20:
                sent += connection.socket.send(flood)
            pytest.fail("the server goes on reading pings whose answers nobody reads")
        except (TimeoutError, ConnectionError):
            pass  # it stopped reading, or dropped the peer
        assert rss(server) - before < 8 << 20


def test_a_half_open_socket_whose_client_comes_back_is_dropped_when_it_does_not_answer_a_probe(
    shared_server: Server,
) -> None:
    async def scenario() -> None:
        typist = await Client(shared_server.ws_url, "probe").open()
        await typist.synced.wait()
        await typist.insert(0, "before")
        await typist.saved()
        # The old socket is still open, but nobody is there: it reads nothing and answers no ping.
        typist.socket.transport.pause_reading()
        again = await Client(shared_server.ws_url, "probe", typist.doc).open()
        await again.synced.wait()
        started = time.monotonic()
        await again.insert(6, " after")
        await again.saved()
        assert time.monotonic() - started < 10
        typist.abort()
        await again.close()
        async with client(shared_server.ws_url, "probe") as reader:
            assert str(reader.text) == "before after"

    asyncio.run(scenario())


def test_a_subprotocol_that_is_asked_for_is_echoed(shared_server: Server) -> None:
    async def scenario() -> None:
        c = await Client(shared_server.ws_url, "d").open(subprotocols=["token.abc"])
        assert c.socket.subprotocol == "token.abc"
        await c.close()

    asyncio.run(scenario())


@pytest.mark.parametrize("path", ["/elsewhere", "/ws/", "/ws/%ff", "/ws/" + "x" * 256, "/ws/a%00b"])
def test_a_refusal_is_accepted_first_so_that_clients_see_why(shared_server: Server, path: str) -> None:
    with raw(shared_server, path=path) as connection:
        code, reason = connection.closed()
        assert code == 4400
        assert reason
