"""The hardened transport against raw sockets: the alarm for changes in uvicorn and websockets."""

from __future__ import annotations

import asyncio
import os
import random
import re
import socket
import struct
import threading
import time
import zlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from pycrdt import Doc, Text
from serverprocess import PATIENCE, Server
from uvicorn.server import ServerState
from websockets.asyncio.client import ClientConnection, connect
from yclient import Client, client

from collab import protocol
from web import auth
from web.budget import Budgets
from web.http import HEAD_BYTES, HEADERS, Http
from web.transport import FRAGMENTS, HUGE, LARGE, Transport

UPGRADE = (
    "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    "Sec-WebSocket-Version: 13\r\n"
)


class Raw:
    """A WebSocket by hand: any bytes, any framing."""

    def __init__(
        self,
        server: Server,
        path: str = "/ws/raw",
        buffer: int | None = None,
        headers: str = "",
        behind: bytes = b"",
    ) -> None:
        self.socket = socket.socket()
        if buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        self.socket.connect(("127.0.0.1", server.port))
        self.socket.settimeout(PATIENCE)
        self.socket.sendall(
            f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{UPGRADE}{headers}\r\n".encode() + behind
        )
        self.data = b""
        while b"\r\n\r\n" not in self.data:
            self.data += self.socket.recv(1)
        assert self.data.startswith(b"HTTP/1.1 101")
        self.answer, self.data = self.data.decode(), b""

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
def raw(server: Server, path: str = "/ws/raw", buffer: int | None = None, **more: Any) -> Iterator[Raw]:
    made = Raw(server, path, buffer, **more)
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


# --- requests


def answer_to(server: Server, request: bytes, trickle: bytes = b"") -> bytes:
    """All that the server answers before it closes, to a request and then a little of ``trickle`` at a
    time."""
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(request)
        connection.settimeout(0.2 if trickle else 20)
        deadline = time.monotonic() + 20
        received = b""
        while time.monotonic() < deadline:
            try:
                chunk = connection.recv(65536)
                if not chunk:
                    return received
                received += chunk
            except ConnectionError:  # closed while it had not read all that we sent
                return received
            except TimeoutError:
                with suppress(ConnectionError):
                    connection.sendall(trickle)
    pytest.fail(f"the server holds the connection, after {received!r}")


def limited(server: Server, limit: str) -> int:
    """How often the limit was met."""
    text = httpx.get(f"{server.url}/metrics").text
    found = re.findall(rf'(?m)^collab_limited_total{{limit="{limit}"}} (\S+)$', text)
    return int(float(found[0])) if found else 0


@pytest.fixture(scope="module")
def hasty_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("hasty"), handshake_seconds=1, body_bytes=100_000)
    server.start()
    yield server
    server.kill()


START = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n"


@pytest.mark.parametrize(
    ("request_", "trickle"),
    [
        (b"", b""),
        (b"", b"\r\n"),
        (b"GET /heal", b""),
        (START, b""),
        (START, b"X: y\r\n"),
        (START + b"\r\nGET /again", b""),
        (START + b"\r\nGET /again HTTP/1.1\r\n", b"X: y\r\n"),
        (START + UPGRADE.encode(), b"X: y\r\n"),
        (START + b"Content-Length: 9\r\n" + UPGRADE.encode(), b"X: y\r\n"),
    ],
)
def test_a_head_that_does_not_come_is_not_waited_for(
    hasty_server: Server, request_: bytes, trickle: bytes
) -> None:
    before = limited(hasty_server, "handshake")
    answer_to(hasty_server, request_, trickle)
    assert limited(hasty_server, "handshake") == before + 1


def test_a_head_that_was_begun_is_answered_with_408(hasty_server: Server) -> None:
    assert answer_to(hasty_server, b"GET /heal").startswith(b"HTTP/1.1 408")


@pytest.mark.parametrize(
    "request_",
    [
        b"GET /" + b"x" * HEAD_BYTES,
        START + b"X: " + b"y" * HEAD_BYTES,
        START + b"X: " + b"y" * HEAD_BYTES + b"\r\n\r\n",
        START + b"X: y\r\n" * HEADERS + b"\r\n",
        START + UPGRADE.encode() + b"X: y\r\n" * 300 + b"\r\n",
        START + UPGRADE.encode() + b"X: " + b"y" * 9000 + b"\r\n\r\n",
    ],
)
def test_a_head_that_is_too_large_is_answered_with_431(shared_server: Server, request_: bytes) -> None:
    before = limited(shared_server, "head")
    assert answer_to(shared_server, request_).startswith(b"HTTP/1.1 431")
    assert limited(shared_server, "head") == before + 1


def test_a_large_head_within_the_limits_is_read(shared_server: Server) -> None:
    padding = b"".join(b"X-%d: %b\r\n" % (i, b"y" * 600) for i in range(HEADERS - 2))
    answer = answer_to(shared_server, START + b"Connection: close\r\n" + padding + b"\r\n")
    assert answer.startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET /ws/" + b"x" * 9000 + b" HTTP/1.1\r\n" + UPGRADE.encode(), 414),
        (b"GET /ws/\xff HTTP/1.1\r\n" + UPGRADE.encode(), 400),
        (b"GET /ws/d HTTP/1.1\r\n" + UPGRADE.encode().replace(b"dGhl", b"****"), 400),
        (b"GET /ws/d HTTP/1.1\r\n" + UPGRADE.encode().replace(b"13", b"12"), 400),
        (b"GET /ws/d HTTP/1.1\r\nContent-Length: 5\r\n" + UPGRADE.encode(), 400),
        (b"POST /ws/d HTTP/1.1\r\n" + UPGRADE.encode(), 405),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n", 400),
    ],
)
def test_a_head_that_makes_no_sense_is_answered_and_closed(
    shared_server: Server, head: bytes, status: int
) -> None:
    assert answer_to(shared_server, head + b"\r\n").startswith(b"HTTP/1.1 %d" % status)


POST = b"POST /api/documents HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
CHUNKS = POST + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "request_",
    [
        POST + b"Content-Length: 100001\r\n\r\n" + b" " * 100_001,
        CHUNKS + b"186A1\r\n" + b" " * 100_001 + b"\r\n0\r\n\r\n",
        CHUNKS + b"1\r\n \r\n" * 100_000,
        CHUNKS + b"1;" + b"x" * 400_000,
        CHUNKS + b"0\r\nX: " + b"x" * 400_000,
    ],
    ids=["declared", "counted", "small chunks", "an extension", "a trailer"],
)
def test_a_body_that_is_too_large_is_answered_with_413(hasty_server: Server, request_: bytes) -> None:
    before = limited(hasty_server, "body")
    answer = answer_to(hasty_server, request_)
    assert answer.startswith(b"HTTP/1.1 413")
    assert b'"code":"too-large"' in answer
    assert b"100000 bytes" in answer
    assert limited(hasty_server, "body") > before


def test_a_body_at_the_limit_is_taken_and_the_connection_stays(hasty_server: Server) -> None:
    with httpx.Client(base_url=hasty_server.url) as http:
        title = "t" * 90
        body = f'{{"name":"large","title":"{title}"}}'.ljust(100_000)
        headers = {"Content-Type": "application/json"}
        assert http.post("/api/documents", content=body, headers=headers).status_code == 201
        assert http.post("/api/documents", content=body + " ", headers=headers).status_code == 413
        assert http.get("/api/documents/large").json()["title"] == title


@pytest.mark.parametrize("body", [b"", b'{"name":', b" " * 5000])
def test_a_body_that_trickles_is_answered_with_408(hasty_server: Server, body: bytes) -> None:
    request = POST + b"Content-Length: 90000\r\n\r\n" + body
    assert answer_to(hasty_server, request, b" ").startswith(b"HTTP/1.1 408")


def test_requests_that_come_in_pieces_while_others_are_answered_are_answered_in_order(
    shared_server: Server,
) -> None:
    paths = [b"/nothing/" + b"x" * (1 + number % 89) if number % 7 else b"/healthz" for number in range(600)]
    requests = b"".join(b"GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n" % path for path in paths)
    rng = random.Random(5)

    def send(connection: socket.socket) -> None:
        at = 0
        while at < len(requests):
            size = rng.choice((1, 30, 500, 2000))
            connection.sendall(requests[at : at + size])
            at += size
            time.sleep(rng.choice((0, 0.0005)))
        connection.sendall(START + b"Connection: close\r\n\r\n")

    with socket.create_connection(("127.0.0.1", shared_server.port), timeout=PATIENCE) as connection:
        sending = threading.Thread(target=send, args=(connection,))
        sending.start()
        answers = b"".join(iter(lambda: connection.recv(65536), b""))
        sending.join()
    statuses = [int(status) for status in re.findall(rb"HTTP/1.1 (\d+)", answers)]
    assert statuses == [404 if path.startswith(b"/nothing/") else 200 for path in paths] + [200]


def test_requests_that_do_not_wait_for_answers_are_answered_in_order_and_not_without_end(
    shared_server: Server,
) -> None:
    last = START + b"Connection: close\r\n\r\n"
    few = answer_to(shared_server, (START + b"\r\n") * 50 + last)
    assert few.count(b"HTTP/1.1 200") == 51
    many = answer_to(shared_server, (START + b"\r\n") * 10_000 + last)
    assert many.count(b"HTTP/1.1 200") < 100
    assert limited(shared_server, "pipeline") == 1


def test_a_reader_that_takes_no_answer_is_dropped(make_server: Callable[..., Server]) -> None:
    server = make_server(stall_seconds=1)

    async def write() -> None:
        async with client(server.ws_url, "d") as writer:
            for _ in range(60):
                await writer.insert(0, os.urandom(50_000).hex())
            await writer.saved()

    asyncio.run(write())
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", server.port))
        connection.sendall(b"GET /api/documents/d/content HTTP/1.1\r\nHost: localhost\r\n\r\n")
        deadline = time.monotonic() + 20
        while limited(server, "stall") == 0:
            assert time.monotonic() < deadline, "it is still there"
            time.sleep(0.1)


# --- rates


def test_frames_sent_right_behind_the_request_are_read(shared_server: Server) -> None:
    with raw(shared_server, behind=frame(ask(1)) + frame(ask(2))) as connection:
        assert [acknowledged(connection), acknowledged(connection)] == [ask(1), ask(2)]


def test_who_sends_too_many_messages_is_read_more_slowly_and_loses_none(
    make_server: Callable[..., Server],
) -> None:
    server = make_server(messages_per_second=100)  # and 500 at once
    with raw(server) as connection:
        connection.read()
        started = time.monotonic()
        connection.socket.sendall(b"".join(frame(ask(i)) + frame(b"", 0x8A) for i in range(400)))
        assert [acknowledged(connection) for i in range(400)] == [ask(i) for i in range(400)]
        assert time.monotonic() - started > (800 - 500 - 64) / 100
    assert limited(server, "messages") > 0


@pytest.mark.parametrize(
    "flood",
    [
        frame(b"ping", 0x89) * 700,
        frame(b"", 0x8A) * 700,
        (frame(ask(1)[:1], 0x02) + frame(b"", 0x00) * 68 + frame(ask(1)[1:], 0x80)) * 10,
    ],
    ids=["pings", "pongs", "fragments"],
)
def test_every_frame_counts(make_server: Callable[..., Server], flood: bytes) -> None:
    server = make_server(messages_per_second=100)
    with raw(server) as connection:
        connection.read()
        started = time.monotonic()
        connection.socket.sendall(flood + frame(ask(2)))
        while acknowledged(connection) != ask(2):
            pass
        assert time.monotonic() - started > (700 - 500 - 64) / 100
    assert limited(server, "messages") > 0


def test_a_message_larger_than_all_that_may_come_at_once_is_read_in_the_end(
    make_server: Callable[..., Server],
) -> None:
    server = make_server(bytes_per_second=200_000)  # and 1,000,000 at once
    message = b"\x66" + protocol.var_uint(1_300_000) + b"y" * 1_300_000
    with raw(server) as connection:
        connection.read()
        started = time.monotonic()
        connection.send(message)
        assert acknowledged(connection) == message
        assert time.monotonic() - started > 1
    assert limited(server, "bytes") > 0


def test_two_connections_of_one_actor_share_a_budget_and_others_do_not_feel_it(
    make_server: Callable[..., Server],
) -> None:
    secret = "a secret of this test, long enough to sign with"
    server = make_server(messages_per_second=100, secret=secret)  # of an actor 200, and 1000 at once
    ada, eve = (auth.issue(secret, who, audience="collab", seconds=3600) for who in ("ada", "eve"))
    flood = b"".join(frame(ask(i)) for i in range(499))  # within what one connection may send at once
    with ExitStack() as stack:
        mine = [
            stack.enter_context(raw(server, headers=f"Authorization: Bearer {ada}\r\n")) for _ in range(3)
        ]
        path = "/ws/other"
        other = stack.enter_context(raw(server, path, headers=f"Authorization: Bearer {eve}\r\n"))
        started = time.monotonic()
        for connection in (*mine, other):
            connection.socket.sendall(flood)
        while acknowledged(other) != ask(498):
            pass
        assert limited(server, "messages") == 0 or time.monotonic() - started < 2
        for connection in mine:
            while acknowledged(connection) != ask(498):
                pass
        assert time.monotonic() - started > (3 * 499 - 1000 - 3 * 64) / 200
    assert limited(server, "messages") > 0


def test_nobody_waits_for_the_end_of_a_flood(make_server: Callable[..., Server]) -> None:
    server = make_server(messages_per_second=0, bytes_per_second=0, cpu_share=0)
    with raw(server, "/ws/flooded") as flooder, raw(server, "/ws/other") as other:
        flooder.read()
        other.read()
        question = frame(protocol.encode_step1(b"\0"))
        flooder.socket.sendall(question * 15_000 + frame(ask(1)))
        other.send(ask(7))
        assert acknowledged(other) == ask(7)
        flooder.socket.setblocking(False)
        answered = b""
        with suppress(BlockingIOError):
            while chunk := flooder.socket.recv(1 << 20):
                answered += chunk
        assert ask(1) not in answered
        flooder.socket.settimeout(PATIENCE)
        while ask(1) not in answered:
            answered = answered[-10:] + flooder.socket.recv(1 << 20)


# --- compression


OFFER = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"


def deflated(data: bytes, level: int = 9) -> bytes:
    encoder = zlib.compressobj(level, wbits=-15)
    return (encoder.compress(data) + encoder.flush(zlib.Z_SYNC_FLUSH))[:-4]


@pytest.fixture(scope="module")
def compressing_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("compressing"), compression=True, message_bytes=1_000_000)
    server.start()
    yield server
    server.kill()


def test_compression_is_refused_unless_it_is_allowed(shared_server: Server) -> None:
    with raw(shared_server, headers=OFFER) as connection:
        assert "permessage-deflate" not in connection.answer
        connection.send(deflated(ask(1)), 0xC2)
        assert connection.closed()[0] == 1002


def test_compressed_messages_are_read_whole_in_fragments_and_between_others(
    compressing_server: Server,
) -> None:
    with raw(compressing_server, headers=OFFER) as connection:
        assert "permessage-deflate" in connection.answer
        connection.send(deflated(ask(1)), 0xC2)
        connection.send(ask(2))
        message = deflated(ask(3))
        connection.send(message[:3], 0x42)
        connection.send(b"between", 0x89)
        connection.send(message[3:], 0x80)
        connection.send(deflated(ask(4)), 0xC2)
        assert [acknowledged(connection) for _ in range(4)] == [ask(1), ask(2), ask(3), ask(4)]


def test_large_messages_are_compressed_for_those_who_asked_and_read_by_a_client_of_another_make(
    compressing_server: Server,
) -> None:
    async def scenario() -> None:
        async with client(compressing_server.ws_url, "d") as writer:
            await writer.insert(0, "to be or not to be " * 10_000)
            await writer.saved()
        with raw(compressing_server, "/ws/d", headers=OFFER) as reader:
            reader.send(protocol.encode_step1(b"\0"))
            size = 0
            while (size := len(reader.read()[1])) < 500:
                pass
            assert size < 10_000
        url = f"{compressing_server.ws_url}/ws/d"
        async with connect(url, compression="deflate", max_size=None) as other:
            assert other.protocol.extensions
            await other.send(protocol.encode_step1(b"\0"))
            messages = [m async for m in _until_step2(other)]
            doc: Doc[Any] = Doc()
            for message in messages:
                doc.apply_update(message)
            assert str(doc.get("content", type=Text)) == "to be or not to be " * 10_000

    asyncio.run(scenario())


async def _until_step2(socket_: ClientConnection) -> AsyncIterator[bytes]:
    async for data in socket_:
        assert isinstance(data, bytes)
        for message in protocol.decode(data):
            if isinstance(message, protocol.Update | protocol.SyncStep2):
                yield message.update
            if isinstance(message, protocol.SyncStep2):
                return


@pytest.mark.parametrize("fragments", [1, 40])
def test_a_deflate_bomb_is_refused_and_takes_no_memory(compressing_server: Server, fragments: int) -> None:
    bomb = deflated(b"\0" * (200 << 20))
    before = rss(compressing_server)
    for _ in range(20):
        with raw(compressing_server, headers=OFFER) as connection:
            size = len(bomb) // fragments + 1
            pieces = [bomb[i : i + size] for i in range(0, len(bomb), size)]
            with suppress(ConnectionError):
                for i, piece in enumerate(pieces):
                    first = (0 if i else 0x42) | (0x80 if i == len(pieces) - 1 else 0)
                    connection.send(piece, first)
            assert connection.closed()[0] in (1009, 4413)
    assert rss(compressing_server) - before < 40 << 20  # of 4,000 MiB


# --- memory for what is not whole


def test_who_has_held_a_part_for_longest_is_sent_away_when_too_much_is_unread(
    make_server: Callable[..., Server],
) -> None:
    server = make_server(message_bytes=1_000_000, unread_bytes=4_000_000)
    before = rss(server)
    part = frame(b"\x66" + protocol.var_uint(999_000) + b"y" * 999_000)[:-1]
    with ExitStack() as stack:
        holders = []
        for _ in range(12):
            holders.append(stack.enter_context(raw(server)))
            holders[-1].read()
            holders[-1].socket.sendall(part)
        for early in holders[:8]:
            assert early.closed()[0] == 1013
        for late in holders[9:]:
            late.send(b"", 0x89)  # the last byte of its message is the first of this
        with raw(server) as honest:
            honest.send(b"\x66" + protocol.var_uint(900_000) + b"y" * 900_000)
            assert len(acknowledged(honest)) > 900_000
        assert rss(server) - before < 40 << 20
    assert limited(server, "unread") >= 8


# --- proxies


@pytest.mark.parametrize(
    ("trusted", "scheme"), [("", "http"), ("127.0.0.1", "https"), ("10.0.0.0/8", "http")]
)
def test_only_a_trusted_proxy_is_believed(
    make_server: Callable[..., Server], trusted: str, scheme: str
) -> None:
    server = make_server(trusted_proxies=trusted, connections_per_address=1)
    headers = {"X-Forwarded-Proto": "https", "X-Forwarded-For": "203.0.113.7"}
    secure = "Secure" in httpx.get(server.url, headers=headers).headers["Set-Cookie"]
    assert secure == (scheme == "https")
    with (
        raw(server, headers="X-Forwarded-For: 203.0.113.7\r\n") as one,
        raw(server, headers="X-Forwarded-For: 203.0.113.8\r\n") as other,
    ):
        one.read()
        if scheme == "https":
            assert other.read()[0] == 2, "they are two addresses"
        else:
            assert other.closed()[0] == 1013, "they are one address, whatever they say"


# --- an endpoint of the test's own


@asynccontextmanager
async def served(app: Any, **options: Any) -> AsyncIterator[int]:
    """Our two protocols in this process, over ``app``; yields the port."""
    config = uvicorn.Config(
        app, http=Http, ws=Transport, ws_per_message_deflate=False, lifespan="off", log_config=None, **options
    )
    config.load()
    state = ServerState()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Http(config, state, {}, loop), "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for connection in tuple(state.connections):
            connection.transport.abort()
        while state.connections or state.tasks:
            await asyncio.sleep(0.01)


async def opened(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET /ws/d HTTP/1.1\r\nHost: localhost\r\n{UPGRADE}\r\n".encode())
    return reader, writer


async def accepted(scope: Any, receive: Any, send: Any) -> Transport:
    await receive()
    await send({"type": "websocket.accept"})
    link: Transport = scope["extensions"]["collab.link"]
    link.forget_handshake()
    return link


def test_before_the_endpoint_is_ready_no_more_than_one_read_of_the_network_is_held() -> None:
    async def scenario() -> None:
        ready = asyncio.Event()
        links: list[Transport] = []
        got: list[bytes] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            links.append(await accepted(scope, receive, send))
            await ready.wait()
            links[0].attach(got.append, lambda: None)
            await links[0].large_message()

        async with served(app) as port:
            reader, writer = await opened(port)
            await reader.readuntil(b"\r\n\r\n")
            messages = [os.urandom(1000) for _ in range(8000)]
            sending = asyncio.create_task(_send(writer, b"".join(map(frame, messages))))
            for _ in range(50):
                await asyncio.sleep(0.01)
                assert links[0]._rest_bytes <= 256 << 10
                assert not got
            assert not sending.done(), "the network has taken all of it"
            ready.set()
            await sending
            while len(got) < len(messages):
                await asyncio.sleep(0.01)
            assert got == messages
            writer.close()

    asyncio.run(scenario())


def test_who_pauses_and_resumes_while_it_takes_a_message_is_brought_the_next() -> None:
    async def scenario() -> None:
        got: list[bytes] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            link = await accepted(scope, receive, send)

            def take(message: bytes) -> None:
                link.pause()
                link.resume()
                got.append(message)

            link.attach(take, lambda: None)
            await link.large_message()

        async with served(app) as port, asyncio.timeout(PATIENCE):
            _, writer = await opened(port)
            for number in range(3):
                writer.write(frame(b"%d" % number))
                while len(got) <= number:
                    await asyncio.sleep(0.01)
            writer.close()

    asyncio.run(scenario())


async def _send(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(data)
    await writer.drain()


def test_an_endpoint_that_does_not_accept_in_time_has_its_socket_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Transport, "handshake_seconds", 0.2)

    async def scenario() -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await asyncio.sleep(1)
            await accepted(scope, receive, send)

        async with served(app) as port:
            reader, _ = await opened(port)
            assert await reader.read() == b""

    asyncio.run(scenario())


def test_a_peer_whose_pong_waits_behind_what_it_may_not_send_yet_is_not_dropped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Transport, "messages_per_second", 100)

    async def scenario() -> None:
        got: list[bytes] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            link = await accepted(scope, receive, send)
            link.attach(got.append, lambda: None)
            await link.large_message()

        async with served(app, ws_ping_interval=0.2, ws_ping_timeout=0.6) as port:
            reader, writer = await opened(port)
            await reader.readuntil(b"\r\n\r\n")
            for i in range(700):
                writer.write(frame(b"%d" % i))
            while len(got) < 700:
                first, size = await reader.readexactly(2)
                assert first == 0x89, "closed"
                writer.write(frame(await reader.readexactly(size), 0x8A))
            assert got == [b"%d" % i for i in range(700)]
            writer.close()

    asyncio.run(scenario())


def test_a_connection_that_was_answered_before_its_body_came_ends_when_it_says_no_more() -> None:
    async def scenario() -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 401, "headers": [(b"content-length", b"2")]})
            await send({"type": "http.response.body", "body": b"no"})

        async with served(app, timeout_keep_alive=1) as port, asyncio.timeout(PATIENCE):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            head = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\n"
            for _ in range(2):
                writer.write(head)
                await reader.readuntil(b"\r\n\r\nno")
                writer.write(b"body")
            assert await reader.read() == b""

    asyncio.run(scenario())


def test_who_leaves_while_its_large_message_is_dealt_with_lets_no_other_begin() -> None:
    async def scenario() -> None:
        begun: list[Transport] = []
        release = asyncio.Event()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            link = await accepted(scope, receive, send)
            link.attach(lambda message: None, lambda: None)
            while await link.large_message() is not None:
                begun.append(link)
                await release.wait()
                link.handled(0.0)

        async with served(app) as port, asyncio.timeout(PATIENCE):
            writers = [(await opened(port))[1] for _ in range(3)]
            for writer in writers:
                writer.write(frame(bytes(HUGE + 1)))
            while not begun:
                await asyncio.sleep(0.01)
            begun[0].transport.abort()
            await asyncio.sleep(0.3)
            assert len(begun) == 1
            release.set()
            while len(begun) < 3:
                await asyncio.sleep(0.01)

    asyncio.run(scenario())


def test_who_owes_for_its_messages_makes_room_for_those_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Transport, "unread_bytes", 100_000)
    monkeypatch.setattr(Transport, "actors", Budgets(0, 0, 0.05))

    async def scenario() -> None:
        links: list[Transport] = []
        handled: list[Transport] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            link = await accepted(scope, receive, send)
            links.append(link)
            link.belongs_to("honest" if len(links) > 5 else "costly")
            link.attach(lambda message: None, lambda: None)
            while await link.large_message() is not None:
                handled.append(link)
                link.handled(1000.0)

        async with served(app) as port, asyncio.timeout(PATIENCE):
            writers = []
            for number in range(6):
                writers.append((await opened(port))[1])
                while len(links) <= number:
                    await asyncio.sleep(0.01)
            writers[0].write(frame(bytes(20_000)))
            while not handled:
                await asyncio.sleep(0.01)
            data = frame(bytes(20_000))
            for part, counted in ((data[:10_000], 40_000), (data[10_000:], 80_000)):
                for writer in writers[1:5]:
                    writer.write(part)
                while Transport._unread < counted:
                    await asyncio.sleep(0.01)
            data = frame(bytes(50_000))
            writers[5].write(data[:30_000])
            while not any(link.close_sent for link in links):
                await asyncio.sleep(0.01)
            writers[5].write(data[30_000:])
            while links[5] not in handled:
                await asyncio.sleep(0.01)
            assert not links[5].close_sent

    asyncio.run(scenario())


def test_large_messages_are_dealt_with_one_at_a_time_and_a_huge_one_keeps_no_other_waiting() -> None:
    async def scenario() -> None:
        under_way: list[int] = []
        most: Counter[bool] = Counter()
        done: list[int] = []
        release = asyncio.Event()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            link = await accepted(scope, receive, send)
            link.attach(lambda message: None, lambda: None)
            while (message := await link.large_message()) is not None:
                huge = len(message) > HUGE
                under_way.append(len(message))
                most[huge] = max(most[huge], sum((size > HUGE) == huge for size in under_way))
                await (release.wait() if huge else asyncio.sleep(0.01))
                under_way.remove(len(message))
                done.append(len(message))
                link.handled(0.0)

        async with served(app) as port:
            writers = [(await opened(port))[1] for _ in range(8)]
            for i, writer in enumerate(writers):
                writer.write(frame(bytes((HUGE + 1 + i) if i < 4 else (LARGE + 1 + i))))
            while len(done) < 4:
                await asyncio.sleep(0.01)
            assert all(size <= HUGE for size in done)
            writers[1].transport.abort()  # it waits, and is gone when its turn comes
            await asyncio.sleep(0.05)
            release.set()
            while len(done) < 7:
                await asyncio.sleep(0.01)
            assert most == {True: 1, False: 1}
            for writer in writers:
                writer.close()

    asyncio.run(scenario())
