"""The limits of web/connections.py and of a Hocuspocus socket: each is met, counted, and hurts no other."""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack, suppress
from typing import Any

import httpx
import pytest
from pycrdt import Doc, Text
from serverprocess import PATIENCE, Server
from visitor import SECRET, STEP1, Visitor, bearer, token
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed
from yclient import client

from collab import protocol
from collab.protocol import read_var_bytes, var_string, var_uint
from web.auth import Authenticator, Identity
from web.connections import Connections
from web.hocuspocus import CHANNELS, QUEUE_BYTES, QUEUE_COUNT, STATELESS_BYTES


def limited(server: Server, limit: str) -> int:
    text = httpx.get(f"{server.url}/metrics").text
    found = re.search(rf'(?m)^collab_limited_total{{limit="{limit}"}} (\S+)$', text)
    return int(float(found[1])) if found else 0


async def come(stack: AsyncExitStack, visitors: Iterable[Visitor]) -> list[Visitor]:
    """All at once; each has been let in or not when this returns."""
    return list(await asyncio.gather(*(_come(stack, visitor) for visitor in visitors)))


async def _come(stack: AsyncExitStack, visitor: Visitor) -> Visitor:
    await stack.enter_async_context(visitor)
    if visitor.denied is None:
        await visitor.settle()
    return visitor


def inside(visitors: Iterable[Visitor]) -> int:
    return sum(visitor.closed is None and visitor.denied is None for visitor in visitors)


def test_one_address_has_so_many_sockets(make_server: Callable[..., Server]) -> None:
    server = make_server(secret=SECRET, connections_per_address=5)

    async def scenario() -> None:
        async with AsyncExitStack() as stack:
            first = await come(
                stack, (Visitor(server, "d", hocuspocus=n % 2 == 1, token=token(f"{n}")) for n in range(5))
            )
            assert inside(first) == 5
            for hocuspocus in (False, True):
                late = Visitor(server, "d", hocuspocus=hocuspocus, token=token("late"))
                await stack.enter_async_context(late)
                assert (await late.ended())[0] == 1013
                assert late.heard == []
            for one in first:
                await one.settle()
            assert inside(first) == 5, "those who are in stay"
            assert limited(server, "connections-per-address") == 2
            await first[0].socket.close()
            again = Visitor(server, "d", token=token("late"))
            (again,) = await come(stack, [again])
            assert again.closed is None, "there is a place again"

    asyncio.run(scenario())


def test_one_actor_has_so_many_documents_open_though_it_comes_with_all_at_once(
    make_server: Callable[..., Server],
) -> None:
    server = make_server(secret=SECRET, connections_per_actor=4)

    async def scenario() -> None:
        async with AsyncExitStack() as stack:
            crowd = await come(stack, (Visitor(server, f"d{n}", token=token("ada")) for n in range(30)))
            assert inside(crowd) == 4
            assert {one.closed[0] for one in crowd if one.closed} == {1013}
            assert limited(server, "connections-per-actor") == 26
            (other,) = await come(stack, [Visitor(server, "d0", token=token("bob"))])
            assert other.closed is None
            (agent,) = await come(stack, [Visitor(server, "x", token=token("ada", kind="agent"))])
            assert agent.closed is None
        async with AsyncExitStack() as stack:
            (back,) = await come(stack, [Visitor(server, "d0", token=token("ada"))])
            assert back.closed is None

    asyncio.run(scenario())


def test_a_document_too_many_on_a_hocuspocus_socket_does_not_cost_the_others(
    make_server: Callable[..., Server],
) -> None:
    """A provider comes back for all of them a second after its socket was closed, for ever."""
    server = make_server(secret=SECRET, connections_per_actor=3)

    async def scenario() -> None:
        async with Visitor(server, "d0", hocuspocus=True, token=token()) as one:
            for n in range(1, 5):
                one.key = var_string(f"d{n}")
                await one.sign_in(token())
                assert (one.denied is None) == (n < 3), n
            assert one.denied is not None
            assert one.denied.startswith("rate-limited: ")
            one.key = var_string("d1")
            await one.settle()
            assert one.closed is None
            async with Visitor(server, "d9", hocuspocus=True) as alone:
                assert alone.closed is None
            lonely = Visitor(server, "d9", hocuspocus=True, token=token())
            async with lonely:
                assert lonely.heard == [], "closed before any frame: providers back off"
                assert (await lonely.ended())[0] == 1013

    asyncio.run(scenario())


def test_so_many_documents_are_opened_in_a_minute(make_server: Callable[..., Server]) -> None:
    server = make_server(secret=SECRET, guests="editor", rooms_per_minute=5)

    async def scenario() -> None:
        async with AsyncExitStack() as stack:
            flood = await come(stack, (Visitor(server, f"d{n}", token=token("ada")) for n in range(12)))
            assert inside(flood) == 5
            assert limited(server, "rooms-per-minute") == 7
            inner = [one for one in flood if one.closed is None]
            (there,) = await come(stack, [Visitor(server, "d0", token=token("bob"))])
            assert there.closed is None, "another's count is another's"
            for _ in range(3):
                (again,) = await come(stack, [Visitor(server, name_of(inner[0]), token=token("ada"))])
                assert again.closed is None, "what is open already costs nothing"

    asyncio.run(scenario())


def name_of(visitor: Visitor) -> str:
    return visitor.url.partition("/ws/")[2].partition("?")[0]


def test_a_guest_who_takes_a_new_cookie_each_time_opens_no_more_documents(
    make_server: Callable[..., Server],
) -> None:
    server = make_server(secret=SECRET, guests="editor", rooms_per_minute=5)

    async def scenario() -> None:
        async with AsyncExitStack() as stack:
            guests = []
            for n in range(8):
                cookie = (await asyncio.to_thread(httpx.get, f"{server.url}/")).cookies["collab_guest"]
                guests.append(Visitor(server, f"d{n}", headers={"Cookie": f"collab_guest={cookie}"}))
            guests += [Visitor(server, f"x{n}") for n in range(3)]
            await come(stack, guests)
            assert inside(guests) == 5
            (signed_in,) = await come(stack, [Visitor(server, "y", token=token("ada"))])
            assert signed_in.closed is None

    asyncio.run(scenario())


def test_no_limit_is_no_limit(make_server: Callable[..., Server]) -> None:
    server = make_server(
        secret=SECRET, connections_per_address=0, connections_per_actor=0, rooms_per_minute=0
    )

    async def scenario() -> None:
        async with AsyncExitStack() as stack:
            crowd = await come(stack, (Visitor(server, f"d{n}", token=token("ada")) for n in range(70)))
            assert inside(crowd) == 70

    asyncio.run(scenario())


# --- a Hocuspocus socket before anybody has signed in ------------------------------------------------


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterable[Server]:
    made = Server(
        tmp_path_factory.mktemp("limits"), secret=SECRET, rooms_per_minute=0, connections_per_actor=0
    )
    made.start()
    yield made
    made.kill()


class Bare:
    """A Hocuspocus socket that has said nothing."""

    def __init__(self, server: Server) -> None:
        self._connecting = connect(f"{server.ws_url}/ws", max_size=None, compression=None)

    async def __aenter__(self) -> Bare:
        self.socket = await self._connecting
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.socket.close()

    async def send(self, name: str, message: bytes) -> None:
        await self.socket.send(var_string(name) + message)

    async def send_together(self, name: str, *messages: bytes) -> None:
        """All in one write, so that the server reads the last before it has thought about the first."""
        for message in messages[:-1]:
            self.socket.protocol.send_binary(var_string(name) + message)
        await self.send(name, messages[-1])

    async def kinds(self, name: str) -> list[bytes]:
        """The type and step of each answer to what was sent so far."""
        heard = []
        await self.socket.send(b"\x09")
        async with asyncio.timeout(PATIENCE):
            while (frame := await self.socket.recv()) != b"\x0a":
                assert isinstance(frame, bytes)
                heard.append(frame[len(var_string(name)) :][:2])
        return heard

    async def alive(self) -> bool:
        await self.socket.send(b"\x09")
        async with asyncio.timeout(PATIENCE):
            while (frame := await self.socket.recv()) != b"\x0a":
                assert frame
        return True

    async def ended(self, seconds: float = PATIENCE) -> tuple[int, str]:
        async with asyncio.timeout(seconds):
            with suppress(ConnectionClosed):
                while True:
                    await self.socket.recv()
        return self.socket.close_code or 1006, self.socket.close_reason or ""


def test_a_large_state_arrives_though_a_large_edit_was_sent_before_the_document_was_open(
    server: Server,
) -> None:
    """What waits for the document is taken one after the other, and meanwhile the network drains."""
    rng = random.Random(3)

    async def scenario() -> None:
        async with client(server.ws_url, "large", additional_headers=bearer(token())) as writer:
            for _ in range(12):
                await writer.insert(0, rng.randbytes(50_000).hex())
            await writer.saved()
            written = str(writer.text)
        edit, doc = Doc[Any](), Doc[Any]()
        edit.get("pasted", type=Text).insert(0, rng.randbytes(10_000).hex())
        text = doc.get("content", type=Text)
        early = auth(token()), STEP1, protocol.encode_update(edit.get_update())
        async with Bare(server) as one:
            await one.send_together("large", *early)
            async with asyncio.timeout(PATIENCE):
                while str(text) != written:
                    frame = await one.socket.recv()
                    assert isinstance(frame, bytes)
                    body = frame[len(var_string("large")) :]
                    if body[0] in (0, 4) and body[1] in (1, 2):  # an update, or many
                        doc.apply_update(read_var_bytes(body, 2)[0])

    asyncio.run(scenario())


DENIED, AUTHENTICATED = b"\x02\x01", b"\x02\x02"


def auth(given: str) -> bytes:
    return b"\x02\x00" + var_string(given)


@pytest.mark.parametrize("talk", [b"", b"\x09", var_string("d") + STEP1, var_string("d") + b"\x2a"])
def test_a_socket_that_does_not_sign_in_is_ended(make_server: Callable[..., Server], talk: bytes) -> None:
    server = make_server(secret=SECRET, sign_in_seconds=4)

    async def scenario() -> None:
        async with Visitor(server, "d", hocuspocus=True, token=token()) as honest, Bare(server) as silent:
            started = time.monotonic()

            async def chatter() -> None:
                while silent.socket.state.name == "OPEN":
                    if talk:
                        await silent.socket.send(talk)
                    await asyncio.sleep(0.1)

            if talk == var_string("d") + STEP1:
                await silent.socket.send(talk)
                denial = await silent.socket.recv()
                assert isinstance(denial, bytes)
                assert denial.startswith(var_string("d") + DENIED), "its first frame was taken for a sign-in"
                await asyncio.sleep(5)
                assert await silent.alive(), "it may bring another token"
            else:
                talking = asyncio.create_task(chatter())
                code, reason = await silent.ended()
                assert (code, bool(reason)) == (4401, True)
                talking.cancel()
            await asyncio.sleep(max(0, 5 - (time.monotonic() - started)))
            await honest.settle()
            assert honest.closed is None, "who has signed in may be as quiet as they like"

    asyncio.run(scenario())


def test_a_socket_carries_so_many_documents_those_that_were_denied_included(server: Server) -> None:
    async def scenario() -> None:
        async with Bare(server) as one:
            for n in range(CHANNELS):
                await one.send(f"d{n}", auth("rubbish"))
            assert await one.alive()
            await one.send("d0", b"\x07")
            await one.send("another", auth("rubbish"))
            assert await one.alive(), "one that was left makes room"
            await one.send("one too many", auth("rubbish"))
            code, reason = await one.ended()
            assert code == 1013
            assert "100" in reason

    asyncio.run(scenario())


def test_what_is_sent_before_a_token_is_good_is_bounded_in_number_and_in_bytes(server: Server) -> None:
    """Edits are not even kept: they come again with the answer to our step 1."""
    update = protocol.encode_update(b"\x00" * 60_000)

    async def scenario() -> None:
        async with Bare(server) as one:
            await one.send("d", auth("rubbish"))
            for _ in range(3 * QUEUE_BYTES // len(update)):
                await one.send("d", update)
            for _ in range(2 * QUEUE_COUNT):
                await one.send("d", STEP1)
                await one.send("d", protocol.encode_awareness(b"\x00"))
            assert await one.alive()
        async with Bare(server) as one:
            presence = protocol.encode_awareness(b"\x00" * 60_000)
            with suppress(ConnectionClosed):
                for n in range(CHANNELS - 1):
                    await one.send(f"d{n}", presence)
                    await one.send(f"d{n}", presence)
            assert await one.ended() == (4500, "too much was sent before a valid token")

    asyncio.run(scenario())


def test_what_comes_late_of_a_denied_provider_does_not_answer_for_the_next(server: Server) -> None:
    """The token and the step 1 of a provider may come far apart: answered with what the next one on its
    socket sends, it would give that one two acknowledgements for one."""

    async def scenario() -> None:
        async with Bare(server) as one:
            await one.send("late", auth("rubbish"))
            assert await one.socket.recv()
            for message in (STEP1, protocol.encode_awareness(b"\x00"), auth(token())):
                await one.send("late", message)
            assert (await one.socket.recv()).startswith(var_string("late") + AUTHENTICATED)
            assert await one.kinds("late") == []
            await one.send("late", STEP1)
            assert await one.kinds("late") == [b"\x00\x00", b"\x00\x01"], "a step 1 and a step 2"

    asyncio.run(scenario())


def test_a_second_token_is_tried_when_the_first_is_denied_with_what_came_behind_it(server: Server) -> None:
    async def scenario() -> None:
        async with Bare(server) as one:
            await one.send_together("twice", auth("rubbish"), STEP1, auth(token()), STEP1)
            heard = [(await one.socket.recv())[len(var_string("twice")) :][:2] for _ in range(4)]
            assert heard == [DENIED, AUTHENTICATED, b"\x00\x00", b"\x00\x01"]
            assert await one.alive()
        async with Bare(server) as one:
            await one.send_together("torn", auth("rubbish"), b"\x02\x00\xff")
            code, reason = await one.ended()
            assert code == 4400
            assert reason

    asyncio.run(scenario())


def test_who_has_no_token_to_send_may_ask_again_after_a_denial(server: Server) -> None:
    """Providers up to 2.x without a token send nothing but their step 1."""

    async def scenario() -> None:
        async with Bare(server) as one:
            for _ in range(2):
                await one.send("mute", STEP1)
                frame = await one.socket.recv()
                assert frame.startswith(var_string("mute") + DENIED)

    asyncio.run(scenario())


def test_what_an_honest_client_sends_at_once_is_taken_however_much_it_is(server: Server) -> None:
    """More frames than wait, in one go with the token."""
    from test_room import Typist

    typist = Typist(1)
    updates = [typist.type(0, "x" * 2000) for _ in range(QUEUE_COUNT + 200)]

    async def scenario() -> None:
        async with Bare(server) as one:
            await one.send("much", auth(token()))
            await one.send("much", STEP1)
            for update in updates:
                await one.send("much", protocol.encode_update(update))
            saved = 0
            async with asyncio.timeout(60):
                while saved < len(updates):
                    frame = await one.socket.recv()
                    saved += frame == var_string("much") + b"\x08\x01"
        text = await asyncio.to_thread(
            httpx.get, f"{server.url}/api/documents/much/content", headers=bearer(token())
        )
        assert text.text == str(typist.text)

    asyncio.run(scenario())


def test_a_key_of_megabytes_is_refused_before_it_is_kept(server: Server) -> None:
    async def scenario() -> None:
        for size in (1025, 100_000, 4_000_000):
            async with Bare(server) as one:
                await one.send("x" * size, auth("rubbish"))
                code, reason = await one.ended()
                assert code == 4400
                assert "routing key" in reason

    asyncio.run(scenario())


def test_a_stateless_message_has_a_size(server: Server) -> None:
    async def scenario() -> None:
        async with (
            Visitor(server, "s", hocuspocus=True, token=token()) as sender,
            Visitor(server, "s", hocuspocus=True, token=token("bob")) as other,
        ):
            fits = b"\x05" + var_string("x" * (STATELESS_BYTES - 4))
            await sender.send(fits)
            await other.until(lambda: fits in other.heard)
            await sender.send(b"\x05" + var_string("x" * (STATELESS_BYTES - 3)))
            code, reason = await sender.ended()
            assert code == 4400
            assert str(STATELESS_BYTES) in reason
            await other.settle()
            assert other.closed is None

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "frame",
    [
        b"\x00",
        b"\x0b",
        b"\x02d",
        b"\x02d1",
        b"\x80",
        b"\xff" * 20,
        b"\x02\xff\xff\x00\x00\x01\x00",
        b"\x01d\x02\x00\x05x",
    ],
)
def test_a_frame_that_is_none_ends_its_socket_with_a_reason(server: Server, frame: bytes) -> None:
    async def scenario() -> None:
        async with Bare(server) as one:
            await one.socket.send(frame)
            code, reason = await one.ended()
            assert (code, bool(reason)) == (4400, True)

    asyncio.run(scenario())


# --- sizes -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hocuspocus", [False, True], ids=["y-websocket", "hocuspocus"])
def test_a_full_document_takes_no_more_and_says_so(
    make_server: Callable[..., Server], hocuspocus: bool
) -> None:
    from test_room import Typist

    server = make_server(secret=SECRET, document_bytes=10_000)
    rights = {"d": "editor"}

    async def scenario() -> None:
        typist = Typist(1)
        first, large = typist.type(0, "x" * 5000), typist.type(0, "y" * 6000)
        async with (
            Visitor(server, "d", hocuspocus=hocuspocus, token=token(documents=rights)) as one,
            Visitor(server, "d", hocuspocus=hocuspocus, token=token("bob", documents=rights)) as other,
        ):
            await one.send(protocol.encode_update(first), protocol.encode_update(large))
            if not hocuspocus:
                await one.send(protocol.encode_sync_status(b"1"))
            heard = await one.settle()
            if hocuspocus:
                assert [m for m in heard if m[0] == 8] == [b"\x08\x01", b"\x08\x00"]
            else:
                denials = [m for m in heard if m.startswith(b"\x02\x00")]
                assert len(denials) == 2
                assert b"10000 bytes" in denials[0]
                assert not any(m.startswith(b"\x66") for m in heard)
            assert one.closed is None
            await other.send(protocol.encode_update(Typist(2).type(0, "fits")))
            await other.settle()
            assert other.closed is None
        text = await asyncio.to_thread(
            httpx.get, f"{server.url}/api/documents/d/content", headers=bearer(token())
        )
        assert sorted(text.text) == sorted("x" * 5000 + "fits")
        assert limited(server, "document") == 1

    asyncio.run(scenario())


def test_presence_has_a_size(make_server: Callable[..., Server]) -> None:
    server = make_server(secret=SECRET, awareness_bytes=500)

    def state(client: int, size: int) -> bytes:
        words = b'"' + b"x" * (size - 2) + b'"'
        return protocol.encode_awareness(b"\x01" + var_uint(client) + b"\x01" + var_uint(len(words)) + words)

    async def scenario() -> None:
        async with (
            Visitor(server, "d", token=token()) as one,
            Visitor(server, "d", hocuspocus=True, token=token("bob")) as other,
        ):
            await one.send(state(1, 501), state(2, 500))
            await other.until(lambda: state(2, 500) in other.heard)
            assert state(1, 501) not in other.heard
            await one.settle()
            assert one.closed is None, "the document can be edited all the same"
        assert limited(server, "awareness") == 1

    asyncio.run(scenario())


# --- a right that changes while it is looked up ------------------------------------------------------


def test_a_new_token_is_not_lost_in_a_review_of_the_old_one() -> None:
    """Reviews wait for the database; a token that comes meanwhile is the one that counts."""
    from wire import MemoryLog, Wire

    from collab.hub import Hub
    from collab.log import Actor
    from collab.protocol import Y_WEBSOCKET
    from collab.rights import Role
    from web.settings import Settings

    class Slow(Authenticator):
        def __init__(self) -> None:
            self.gate = asyncio.Event()
            self.gate.set()

        async def grants(self, identities, document):  # type: ignore[no-untyped-def]
            found = [self._grant(identity, document, None) for identity in identities]  # type: ignore[arg-type]
            await self.gate.wait()
            return found

    async def scenario() -> None:
        gate = Slow()
        connections = Connections(gate, Hub(MemoryLog()), Settings())
        running = asyncio.create_task(connections.run())
        old = Identity(Actor("user:ada"), {"d": Role.EDITOR}, expires=time.time() + 100)
        new = Identity(Actor("user:ada"), {"d": Role.EDITOR}, expires=time.time() + 1000)
        async with connections.enter(old, connections.dismissals, "d", "", Wire(), Y_WEBSOCKET) as entered:
            gate.gate.clear()
            connections.changed("d")
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            connections.renewed(entered, new)
            gate.gate.set()
            for _ in range(10):
                await asyncio.sleep(0)
            assert entered.grant.identity is new
        running.cancel()

    asyncio.run(scenario())
