"""Public keys from a file or a URL: when they are read, how long they are trusted, what may be wrong."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from collab.errors import NotAuthenticated, StorageUnavailable
from web import keys
from web.keys import FRESH_SECONDS, RETRY_SECONDS, SIZE_LIMIT, KeySet

ES256: Any = jwt.get_algorithm_by_name("ES256")


class Provider:
    """An identity provider's key endpoint that answers what the test says, and counts."""

    def __init__(self) -> None:
        self.body: bytes | Callable[[BaseHTTPRequestHandler], None] = b'{"keys":[]}'
        self.asked = 0
        self.going_on = threading.Event()  # cleared: answers wait
        self.going_on.set()
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                provider.asked += 1
                provider.going_on.wait(10)
                if callable(provider.body):
                    provider.body(self)
                    return
                self.send_response(200)
                self.send_header("Content-Length", str(len(provider.body)))
                self.end_headers()
                self.wfile.write(provider.body)

            def log_message(self, *_: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/keys.json"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def publish(self, **named: ec.EllipticCurvePrivateKey) -> None:
        made = [{**ES256.to_jwk(key.public_key(), as_dict=True), "kid": kid} for kid, key in named.items()]
        self.body = json.dumps({"keys": made}).encode()

    def close(self) -> None:
        self.going_on.set()
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def provider() -> Iterator[Provider]:
    made = Provider()
    yield made
    made.close()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The time as the key set sees it."""
    made = SimpleNamespace(now=1_000_000.0)
    monkeypatch.setattr(keys, "time", SimpleNamespace(monotonic=lambda: made.now))
    return made


ONE, TWO = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())


def token(key: ec.EllipticCurvePrivateKey, kid: str | None) -> str:
    return jwt.encode({"sub": "x"}, key, "ES256", headers=None if kid is None else {"kid": kid})


def finds(found: jwt.PyJWK, key: ec.EllipticCurvePrivateKey, kid: str | None = "x") -> bool:
    jwt.decode(token(key, kid), found, algorithms=["ES256"])
    return True


def test_keys_are_read_once_and_again_when_they_are_old(provider: Provider, clock: SimpleNamespace) -> None:
    provider.publish(one=ONE)

    async def scenario() -> None:
        found = KeySet(provider.url)
        assert provider.asked == 0
        for _ in range(50):
            assert finds(await found.find(token(ONE, "one")), ONE)
        assert provider.asked == 1
        clock.now += FRESH_SECONDS - 1
        await found.find(token(ONE, "one"))
        assert provider.asked == 1
        clock.now += 2
        await asyncio.gather(*(found.find(token(ONE, "one")) for _ in range(50)))
        assert provider.asked == 2

    asyncio.run(scenario())


def test_a_new_key_is_found_at_once_and_an_old_one_beside_it_until_it_is_withdrawn(
    provider: Provider, clock: SimpleNamespace
) -> None:
    provider.publish(one=ONE)

    async def scenario() -> None:
        found = KeySet(provider.url)
        await found.find(token(ONE, "one"))
        clock.now += RETRY_SECONDS + 1
        provider.publish(one=ONE, two=TWO)
        assert finds(await found.find(token(TWO, "two")), TWO)
        assert finds(await found.find(token(ONE, "one")), ONE)
        provider.publish(two=TWO)
        clock.now += FRESH_SECONDS + 1
        assert finds(await found.find(token(TWO, "two")), TWO)
        with pytest.raises(NotAuthenticated, match="not in the key set"):
            await found.find(token(ONE, "one"))

    asyncio.run(scenario())


def test_keys_that_nobody_has_do_not_hammer_the_provider(provider: Provider, clock: SimpleNamespace) -> None:
    provider.publish(one=ONE)

    async def scenario() -> None:
        found = KeySet(provider.url)
        for n in range(200):
            with pytest.raises(NotAuthenticated):
                await found.find(token(TWO, f"made up {n}"))
        assert provider.asked == 1
        for _ in range(5):
            clock.now += RETRY_SECONDS + 1
            outcomes = await asyncio.gather(
                *(found.find(token(TWO, f"made up {n}")) for n in range(50)), return_exceptions=True
            )
            assert all(isinstance(outcome, NotAuthenticated) for outcome in outcomes)
        assert provider.asked == 6
        assert len(found._keys) == 1

    asyncio.run(scenario())


def test_who_has_a_known_key_does_not_wait_for_who_has_none(
    provider: Provider, clock: SimpleNamespace
) -> None:
    """Anybody can make up a key id; the provider may be slow."""
    provider.publish(one=ONE)

    async def scenario() -> None:
        found = KeySet(provider.url)
        await found.find(token(ONE, "one"))
        clock.now += RETRY_SECONDS + 1
        provider.going_on.clear()
        stranger = asyncio.create_task(found.find(token(TWO, "made up")))
        while provider.asked < 2:
            await asyncio.sleep(0.001)
        assert finds(await asyncio.wait_for(found.find(token(ONE, "one")), 1), ONE)
        assert not stranger.done()
        provider.going_on.set()
        with pytest.raises(NotAuthenticated):
            await stranger

    asyncio.run(scenario())


def test_a_look_for_the_keys_goes_on_when_the_one_for_whom_it_began_leaves(
    provider: Provider, clock: SimpleNamespace
) -> None:
    provider.publish(one=ONE)

    async def scenario() -> None:
        found = KeySet(provider.url)
        provider.going_on.clear()
        first = asyncio.create_task(found.find(token(ONE, "one")))
        second = asyncio.create_task(found.find(token(ONE, "one")))
        while provider.asked < 1:
            await asyncio.sleep(0.001)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        third = asyncio.create_task(found.find(token(ONE, "one")))
        await asyncio.sleep(0.01)
        provider.going_on.set()
        assert finds(await second, ONE)
        assert finds(await third, ONE)
        assert provider.asked == 1

    asyncio.run(scenario())


def test_while_the_provider_is_away_known_keys_are_trusted_for_a_time(
    provider: Provider, clock: SimpleNamespace
) -> None:
    provider.publish(one=ONE)
    whole = provider.body

    def down(handler: BaseHTTPRequestHandler) -> None:
        handler.send_error(503)

    async def scenario() -> None:
        provider.body = down
        found = KeySet(provider.url)
        for _ in range(20):
            with pytest.raises(StorageUnavailable, match="try again"):
                await found.find(token(ONE, "one"))
        assert provider.asked == 1, "one try in ten seconds at the start, too"
        provider.body = whole
        clock.now += RETRY_SECONDS + 1
        assert finds(await found.find(token(ONE, "one")), ONE)
        provider.body = down
        clock.now += FRESH_SECONDS - 1
        assert finds(await found.find(token(ONE, "one")), ONE)
        clock.now += 2
        for _ in range(20):
            with pytest.raises(StorageUnavailable):
                await found.find(token(ONE, "one"))
        provider.body = whole
        clock.now += RETRY_SECONDS + 1
        assert finds(await found.find(token(ONE, "one")), ONE)

    asyncio.run(scenario())


def _cut_short(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"keys":')


def _no_http(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"SSH-2.0-OpenSSH\r\n\r\n")


def _hang_up(handler: BaseHTTPRequestHandler) -> None:
    handler.close_connection = True
    handler.connection.close()


def _to_a_file(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(302)
    handler.send_header("Location", "file:///etc/passwd")
    handler.end_headers()


def _in_circles(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(302)
    handler.send_header("Location", "/keys.json")
    handler.end_headers()


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"<html>sign in</html>",
        b"[]",
        b"null",
        b"7",
        b'"keys"',
        b"{}",
        b'{"keys":null}',
        b'{"keys":{}}',
        b'{"keys":7}',
        b'{"keys":[]}',
        b'{"keys":[null,7,"x",[]]}',
        b'{"keys":[{}]}',
        b'{"keys":[{"kty":"EC"}]}',
        b'{"keys":[{"kty":"EC","crv":"P-256","x":"AA","y":"AA","kid":"one"}]}',
        b'{"keys":[{"kty":["EC"],"kid":"one"}]}',
        b'{"keys":[{"kty":"RSA","n":7,"e":7}]}',
        b"[" * 100_000,
        b"\xff\xfe",
        b" " * (SIZE_LIMIT + 1),
        _cut_short,
        _no_http,
        _hang_up,
        _to_a_file,
        _in_circles,
    ],
    ids=lambda answer: answer[:40].decode("latin-1") if isinstance(answer, bytes) else answer.__name__,
)
def test_whatever_the_provider_answers_is_an_outage_of_keys_and_no_crash(
    provider: Provider, answer: bytes | Callable[[BaseHTTPRequestHandler], None]
) -> None:
    provider.body = answer

    async def scenario() -> None:
        with pytest.raises(StorageUnavailable) as raised:
            await KeySet(provider.url).find(token(ONE, "one"))
        assert str(raised.value) == "the key set cannot be read now; try again"

    asyncio.run(scenario())


def test_one_bad_key_spoils_no_other(provider: Provider) -> None:
    good = {**ES256.to_jwk(ONE.public_key(), as_dict=True), "kid": "one"}
    bad = [{"kty": "EC", "kid": "bad"}, {"kty": "oct", "k": "AAAA", "kid": "one"}, {"kid": ["x"], **good}, 7]
    provider.body = json.dumps({"keys": [good, *bad]}).encode()

    async def scenario() -> None:
        assert finds(await KeySet(provider.url).find(token(ONE, "one")), ONE)

    asyncio.run(scenario())


def test_a_key_with_an_id_of_another_type_spoils_no_other(provider: Provider) -> None:
    good = {**ES256.to_jwk(ONE.public_key(), as_dict=True), "kid": "one"}
    provider.body = json.dumps({"keys": [{**good, "kid": ["one"]}, {**good, "kid": {}}, good]}).encode()

    async def scenario() -> None:
        assert finds(await KeySet(provider.url).find(token(ONE, "one")), ONE)

    asyncio.run(scenario())


def test_a_token_without_a_key_id_is_of_the_only_key_there_is(provider: Provider) -> None:
    async def scenario() -> None:
        provider.publish(one=ONE)
        assert finds(await KeySet(provider.url).find(token(ONE, None)), ONE)
        provider.publish(one=ONE, two=TWO)
        with pytest.raises(NotAuthenticated):
            await KeySet(provider.url).find(token(ONE, None))

    asyncio.run(scenario())


def test_keys_of_a_file_are_read_again_too(tmp_path: Path, clock: SimpleNamespace) -> None:
    path = tmp_path / "keys.json"

    def publish(**named: ec.EllipticCurvePrivateKey) -> None:
        made = [{**ES256.to_jwk(k.public_key(), as_dict=True), "kid": kid} for kid, k in named.items()]
        path.write_text(json.dumps({"keys": made}))

    async def scenario() -> None:
        found = KeySet(str(path))
        with pytest.raises(StorageUnavailable) as raised:
            await found.find(token(ONE, "one"))
        assert "keys.json" not in str(raised.value)
        publish(one=ONE)
        clock.now += RETRY_SECONDS + 1
        assert finds(await found.find(token(ONE, "one")), ONE)
        publish(one=ONE, two=TWO)
        clock.now += RETRY_SECONDS + 1
        assert finds(await found.find(token(TWO, "two")), TWO)

    asyncio.run(scenario())
