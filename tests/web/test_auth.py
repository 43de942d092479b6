"""Who you are: tokens valid and forged, how they travel, cookies, origins and hosts."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import multiprocessing
import os
import sqlite3
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from serverprocess import Server, reserve_port
from visitor import SECRET, Visitor, bearer, token
from websockets.asyncio.client import connect
from websockets.typing import Subprotocol
from yclient import client

from collab import protocol
from web import auth
from web.cli import main
from web.settings import Settings, secret_of

DOCUMENT = "minutes"
EXPIRED = "expired; get a new one"


# --- keys and raw tokens -----------------------------------------------------------------------------


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def raw(
    header: bytes | dict[str, Any], payload: bytes | dict[str, Any], signature: bytes | None = None
) -> str:
    """A token of any bytes; signed with the shared secret unless a signature is given."""
    head = header if isinstance(header, bytes) else json.dumps(header).encode()
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    signed = f"{b64(head)}.{b64(body)}"
    if signature is None:
        signature = jwt.get_algorithm_by_name("HS256").sign(signed.encode(), SECRET.encode())
    return f"{signed}.{b64(signature)}"


HS256 = {"alg": "HS256", "typ": "JWT"}
RSA = rsa.generate_private_key(65537, 2048)
WEAK = rsa.generate_private_key(65537, 1024)  # too short to be trusted
EC = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()
STRANGER = rsa.generate_private_key(65537, 2048)
Private = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


def claims(**changed: object) -> dict[str, Any]:
    made = {"sub": "ada", "aud": "collab", "exp": int(time.time()) + 600, **changed}
    return {name: value for name, value in made.items() if value is not ...}


def jwk(key: Private, kid: str, **more: object) -> dict[str, Any]:
    algorithm: Any = jwt.get_algorithm_by_name(ALGORITHMS[type(key).__name__])
    return {**algorithm.to_jwk(key.public_key(), as_dict=True), "kid": kid, **more}


ALGORITHMS = {"RSAPrivateKey": "RS256", "ECPrivateKey": "ES256", "Ed25519PrivateKey": "EdDSA"}
ALGORITHMS |= {"EllipticCurvePrivateKey": "ES256"}


def signed(key: Private, kid: str | None, algorithm: str | None = None, **changed: object) -> str:
    headers = None if kid is None else {"kid": kid}
    return jwt.encode(claims(**changed), key, algorithm or ALGORITHMS[type(key).__name__], headers=headers)


def pem(key: Private) -> bytes:
    return key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def key_set() -> dict[str, Any]:
    return {
        "keys": [
            jwk(RSA, "rsa"),
            jwk(EC, "ec", use="sig"),
            jwk(ED, "ed"),
            jwk(WEAK, "weak"),
            jwk(STRANGER, "for encryption", use="enc"),
            {"kty": "oct", "k": b64(SECRET.encode()), "kid": "shared"},
            {"kty": "unheard of", "kid": "unknown"},
        ]
    }


# --- forgeries ---------------------------------------------------------------------------------------

Maker = Callable[[], str]


def altered(token: str, part: int, change: Callable[[dict[str, Any]], object]) -> str:
    """``token`` with a part rewritten and the signature as it was."""
    parts = token.split(".")
    decoded = json.loads(base64.urlsafe_b64decode(parts[part] + "=="))
    change(decoded)
    parts[part] = b64(json.dumps(decoded).encode())
    return ".".join(parts)


def flipped(token: str) -> str:
    signature = bytearray(base64.urlsafe_b64decode(token.rpartition(".")[2] + "=="))
    signature[7] ^= 1
    return f"{token.rpartition('.')[0]}.{b64(bytes(signature))}"


def hmac_of(secret: bytes) -> str:
    """HS256 with anything as its secret, also what PyJWT would not sign with."""
    signed = f"{b64(json.dumps(HS256).encode())}.{b64(json.dumps(claims()).encode())}"
    return f"{signed}.{b64(jwt.get_algorithm_by_name('HS256').sign(signed.encode(), secret))}"


def embedded(**header: object) -> str:
    return jwt.encode(claims(), STRANGER, "RS256", headers=dict(header))


FORGED: dict[str, Maker] = {
    **{
        f"alg {alg}": lambda alg=alg: raw({"alg": alg}, claims(), b"") for alg in ("none", "None", "NONE", "")
    },
    "alg none with a signature": lambda: raw({"alg": "none"}, claims()),
    "no alg": lambda: raw({"typ": "JWT"}, claims()),
    "alg null": lambda: raw({"alg": None}, claims()),
    "alg a list": lambda: raw({"alg": ["HS256"]}, claims()),
    "alg a number": lambda: raw({"alg": 256}, claims()),
    "alg in small letters": lambda: raw({"alg": "hs256"}, claims()),
    "HS384 with the secret": lambda: jwt.encode(claims(), SECRET, "HS384"),
    "HS512 with the secret": lambda: jwt.encode(claims(), SECRET + SECRET, "HS512"),
    "another secret": lambda: token(secret="x" * 40),
    "an empty secret": lambda: hmac_of(b""),
    "the beginning of the secret": lambda: hmac_of(SECRET[:32].encode()),
    "the secret and a newline": lambda: hmac_of(SECRET.encode() + b"\n"),
    "the RSA public key as secret": lambda: hmac_of(pem(RSA)),
    "the RSA public key as JWK as secret": lambda: hmac_of(json.dumps(jwk(RSA, "rsa")).encode()),
    "no signature": lambda: token().rpartition(".")[0] + ".",
    "half a signature": lambda: token()[:-20],
    "a bit of the signature flipped": lambda: flipped(token()),
    "the signature of another token": lambda: (
        token().rpartition(".")[0] + "." + token("eve").rpartition(".")[2]
    ),
    "a subject altered": lambda: altered(token(), 1, lambda c: c.update(sub="eve")),
    "rights added": lambda: altered(token(), 1, lambda c: c.update(documents={"*": "owner"})),
    "an expiry moved": lambda: altered(token(exp=1), 1, lambda c: c.update(exp=2**40)),
    "a header altered": lambda: altered(token(), 0, lambda h: h.update(kid="x")),
    "signed by a stranger": lambda: signed(STRANGER, None),
    "an embedded key": lambda: embedded(jwk=jwk(STRANGER, "mine"), kid="mine"),
    "a key at an address": lambda: embedded(jku="http://127.0.0.1:9/keys.json", kid="mine"),
    "a certificate at an address": lambda: embedded(x5u="http://127.0.0.1:9/x.pem"),
    "an embedded certificate": lambda: embedded(x5c=["MIIB"]),
    "kid a path": lambda: embedded(kid="../../../../dev/null"),
    "kid a path, HMAC of nothing": lambda: altered(hmac_of(b""), 0, lambda h: h.update(kid="/dev/null")),
    "kid a statement": lambda: embedded(kid="x' UNION SELECT 'k' --"),
    "kid a list": lambda: raw({**HS256, "kid": ["rsa"]}, claims()),
    "kid null": lambda: raw({**HS256, "kid": None}, claims()),
    "expired": lambda: token(exp=int(time.time()) - 60),
    "expired in the last century": lambda: token(exp=-(2**62)),
    "no exp": lambda: token(exp=...),
    "exp null": lambda: token(exp=None),
    "exp a word": lambda: token(exp="never"),
    "exp a list": lambda: token(exp=[2**40]),
    "exp endless": lambda: raw(HS256, json.dumps(claims(exp=float("inf"))).encode()),
    "not valid yet": lambda: token(nbf=int(time.time()) + 60),
    "issued in the future": lambda: token(iat=int(time.time()) + 60),
    "nbf a word": lambda: token(nbf="now"),
    "no aud": lambda: token(aud=...),
    "aud null": lambda: token(aud=None),
    "aud empty": lambda: token(aud=""),
    "aud an empty list": lambda: token(aud=[]),
    "another aud": lambda: token(aud="collab2"),
    "aud the beginning": lambda: token(aud="colla"),
    "aud in capitals": lambda: token(aud="COLLAB"),
    "aud a list of others": lambda: token(aud=["a", "b"]),
    "aud an object": lambda: token(aud={"collab": True}),
    "aud the operator's": lambda: token(aud=auth.OPERATOR_AUDIENCE),
    "no sub": lambda: token(...),
    "sub null": lambda: raw(HS256, claims(sub=None)),
    "sub empty": lambda: token(""),
    "sub a number": lambda: raw(HS256, claims(sub=7)),
    "sub a list": lambda: raw(HS256, claims(sub=["ada"])),
    "sub true": lambda: raw(HS256, claims(sub=True)),
    "sub too long": lambda: token("x" * 301),
    "sub too long in bytes": lambda: token("é" * 150),
    "sub with NUL": lambda: token("ada\0"),
    "sub with half a surrogate pair": lambda: token("\ud800"),
    "kind unheard of": lambda: token(kind="guest"),
    "kind a list": lambda: token(kind=["user"]),
    "kind null": lambda: token(kind=None),
    "documents a list": lambda: token(documents=[DOCUMENT]),
    "documents a word": lambda: token(documents="*"),
    "documents a number": lambda: token(documents=1),
    "documents false": lambda: token(documents=False),
    "a role unheard of": lambda: token(documents={DOCUMENT: "admin"}),
    "a role in capitals": lambda: token(documents={DOCUMENT: "OWNER"}),
    "a role as number": lambda: token(documents={DOCUMENT: 4}),
    "a role null": lambda: token(documents={DOCUMENT: None}),
    "a role a list": lambda: token(documents={DOCUMENT: ["owner"]}),
    "one bad role of many": lambda: token(documents={DOCUMENT: "owner", "x": "x"}),
    "crit unheard of": lambda: raw({**HS256, "crit": ["exp"], "exp": 1}, claims()),
    "crit empty": lambda: raw({**HS256, "crit": []}, claims()),
    "crit a word": lambda: raw({**HS256, "crit": "exp"}, claims()),
    "crit with half a surrogate pair": lambda: raw({**HS256, "crit": ["\ud800"]}, claims()),
    "crit without end": lambda: raw({**HS256, "crit": ["x" * 6000]}, claims()),
    "a detached payload": lambda: raw({**HS256, "b64": False, "crit": ["b64"]}, b""),
    "longer than a token may be": lambda: token(name="x" * auth.TOKEN_BYTES),
    "a header that is not JSON": lambda: raw(b"alg=HS256", claims()),
    "a header that is a list": lambda: raw(b"[]", claims()),
    "a header that is not UTF-8": lambda: raw(b'{"alg":"\xff"}', claims()),
    "a payload that is not JSON": lambda: raw(HS256, b"sub=ada"),
    "a payload that is a list": lambda: raw(HS256, b"[]"),
    "a payload that is a number": lambda: raw(HS256, b"1"),
    "a payload that is empty": lambda: raw(HS256, b""),
    "a payload that is not UTF-8": lambda: raw(HS256, b'{"sub":"\xff"}'),
    "a header nested 2,500 deep": lambda: raw(b"[" * 2500, claims()),
    "a payload nested 2,500 deep": lambda: raw(HS256, b'{"a":' * 1200),
    "a token in a token": lambda: raw(HS256, token().encode()),
    "five parts": lambda: token() + ".e30.e30",
    "two parts": lambda: ".".join(token().split(".")[:2]),
    "one part": lambda: "eyJ9",
    "only dots": lambda: "..",
    "a space inside": lambda: token().replace(".", ". ", 1),
    "letters of the other alphabet": lambda: token().replace(".", "+.", 1),
    "padding in the middle": lambda: token().replace(".", "=.", 1),
    "a link's secret of another kind": lambda: "Link_" + "x" * 32,
    "a word": lambda: "admin",
    "the secret itself": lambda: SECRET,
}


@pytest.fixture(scope="module")
def shared_secret(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of an application that signs with a shared secret; ada has a document there."""
    server = Server(tmp_path_factory.mktemp("hs256"), secret=SECRET)
    server.start()
    made = httpx.post(f"{server.url}/api/documents", headers=bearer(token()), json={"name": DOCUMENT})
    assert made.status_code == 201
    yield server
    server.kill()


def refused(answer: httpx.Response) -> bool:
    assert answer.status_code == 401, answer.text
    assert answer.json()["code"] == "not-authenticated"
    assert answer.json()["detail"]
    assert answer.headers["www-authenticate"] == "Bearer"
    return True


async def assert_refused_everywhere(server: Server, forged: str, good: str) -> None:
    """On REST, on both kinds of socket; and a Hocuspocus socket stays for a better one."""
    async with httpx.AsyncClient(base_url=server.url, headers=bearer(forged)) as api:
        assert refused(await api.get(f"/api/documents/{DOCUMENT}"))
        assert refused(await api.get("/api/documents"))
    if len(forged) < 6000:  # a longer header gets not as far as we; a frame does
        async with Visitor(server, DOCUMENT, headers=bearer(forged)) as one:
            code, reason = await one.ended()
            assert (code, bool(reason)) == (4401, True)
            assert one.heard == [], "nothing of the document"
    async with Visitor(server, DOCUMENT, hocuspocus=True, token=forged) as one:
        assert one.denied is not None
        assert one.denied.startswith("not-authenticated: ")
        await one.sign_in(good)
        assert one.scope == "read-write"
        assert one.closed is None


@pytest.mark.parametrize("name", FORGED)
def test_a_forged_token_is_refused(shared_secret: Server, name: str) -> None:
    forged = FORGED[name]()
    asyncio.run(assert_refused_everywhere(shared_secret, forged, token()))


def test_what_is_signed_for_another_purpose_is_no_token(shared_secret: Server) -> None:
    cookie = httpx.get(f"{shared_secret.url}/").cookies["collab_guest"]
    operator = auth.issue_operator(SECRET, 600)
    derived = [jwt.encode(claims(), auth.derived_key(SECRET, p), "HS256") for p in ("guest", "operator")]
    for forged in (cookie, operator, *derived):
        asyncio.run(assert_refused_everywhere(shared_secret, forged, token()))
    for forged in (token(), token(aud=auth.OPERATOR_AUDIENCE), cookie, *derived):
        headers = {**bearer(forged), "X-Forwarded-For": "192.0.2.1"}
        assert refused(httpx.get(f"{shared_secret.url}/metrics", headers=headers))
    headers = {**bearer(operator), "X-Forwarded-For": "192.0.2.1"}
    assert httpx.get(f"{shared_secret.url}/metrics", headers=headers).status_code == 200


def test_a_link_secret_that_is_none_gives_nothing(shared_secret: Server) -> None:
    for wrong in ("link_", "link_" + "x" * 32, "link_" + token()):
        answer = httpx.get(f"{shared_secret.url}/api/documents/{DOCUMENT}", headers=bearer(wrong))
        assert (answer.status_code, answer.json()["code"]) == (404, "document-not-found")
        assert httpx.get(f"{shared_secret.url}/api/documents", headers=bearer(wrong)).json() == {
            "documents": [],
            "next": None,
        }

        async def scenario(wrong: str = wrong) -> None:
            async with Visitor(shared_secret, DOCUMENT, token=wrong) as one:
                assert (await one.ended())[0] == 4403
            async with Visitor(shared_secret, DOCUMENT, hocuspocus=True, token=wrong) as one:
                assert one.denied is not None
                assert one.denied.startswith("forbidden: ")

        asyncio.run(scenario())


# --- valid tokens ------------------------------------------------------------------------------------


_numbers = itertools.count()


def actor_of(server: Server, given: str) -> tuple[str, str, str]:
    """Who the log says made an edit that was sent with a token: id, kind and name."""
    name = f"by {base64.b32encode(os.urandom(5)).decode()}"

    async def write() -> None:
        async with client(server.ws_url, name, additional_headers=bearer(given)) as one:
            await one.insert(0, "x")
            await one.saved()

    asyncio.run(write())
    with sqlite3.connect(server.data / "collab.db") as database:
        (row,) = database.execute(
            "SELECT actors.id, kind, actors.name FROM updates JOIN actors ON actors.key = updates.actor "
            "JOIN documents ON documents.key = updates.document WHERE documents.name = ?",
            (name,),
        ).fetchall()
    return row


@pytest.mark.parametrize(
    ("given", "actor"),
    [
        ({}, ("user:ada", "user", "")),
        ({"name": "Ada L."}, ("user:ada", "user", "Ada L.")),
        ({"kind": "agent", "name": "Bot"}, ("agent:ada", "agent", "Bot")),
        ({"sub": "guest:0123456789abcdef"}, ("user:guest:0123456789abcdef", "user", "")),
        ({"sub": "agent:x"}, ("user:agent:x", "user", "")),
        ({"sub": "  ü字🎉' OR 1=1 "}, ("user:  ü字🎉' OR 1=1 ", "user", "")),
        ({"sub": "x" * 295}, ("user:" + "x" * 295, "user", "")),
        ({"name": " a\nb\x1b[31m\u202e "}, ("user:ada", "user", "ab[31m")),
        ({"name": "x" * 300}, ("user:ada", "user", "x" * 200)),
        ({"name": {"not": "a name"}}, ("user:ada", "user", "")),
        ({"name": "\ud800"}, ("user:ada", "user", "?")),
        ({"aud": ["other", "collab"]}, ("user:ada", "user", "")),
        ({"exp": 2**62}, ("user:ada", "user", "")),
        ({"exp": 10**400}, ("user:ada", "user", "")),
        ({"exp": "99999999999"}, ("user:ada", "user", "")),
        ({"exp": time.time() + 86_400.5}, ("user:ada", "user", "")),
        ({"iss": "anybody", "jti": "1", "azp": "x", "scope": "y"}, ("user:ada", "user", "")),
        ({"documents": None}, ("user:ada", "user", "")),
        ({"documents": {"by *": "editor", "\ud800*": "owner", "a\0*": "owner"}}, ("user:ada", "user", "")),
    ],
)
def test_a_valid_token_says_who_it_is(
    shared_secret: Server, given: dict[str, Any], actor: tuple[str, str, str]
) -> None:
    given = {"sub": f"ada {next(_numbers)}", **given}  # an actor keeps the last name it had
    subject = given.pop("sub")
    made = token(subject, **given)
    if subject.startswith("ada "):
        actor = (f"{actor[1]}:{subject}", *actor[1:])
    assert actor_of(shared_secret, made) == actor
    answer = httpx.get(f"{shared_secret.url}/api/documents", headers=bearer(made))
    assert answer.status_code == 200, answer.text


def test_of_a_claim_given_twice_the_last_counts(shared_secret: Server) -> None:
    body = json.dumps(claims()).encode()
    twice = raw(HS256, b'{"sub":"eve","aud":"other","exp":1,' + body[1:])
    assert actor_of(shared_secret, twice)[0] == "user:ada"
    assert refused(
        httpx.get(
            f"{shared_secret.url}/api/documents", headers=bearer(raw(HS256, body[:-1] + b',"aud":"other"}'))
        )
    )


def test_clocks_may_differ_by_a_little(shared_secret: Server) -> None:
    now = int(time.time())
    for good in (token(exp=now - auth.LEEWAY + 3), token(nbf=now + auth.LEEWAY - 3)):
        assert httpx.get(f"{shared_secret.url}/api/documents", headers=bearer(good)).status_code == 200


def test_the_rights_of_a_token_are_all_it_has(shared_secret: Server) -> None:
    """Though ada owns the document, this token of hers may only do what it says."""
    for documents, status in (
        ({}, 404),
        ({"other": "owner"}, 404),
        ({DOCUMENT: "viewer"}, 403),
        ({"min*": "commenter", DOCUMENT: "viewer"}, 403),
        ({DOCUMENT: "viewer", "*": "editor"}, 200),
    ):
        answer = httpx.patch(
            f"{shared_secret.url}/api/documents/{DOCUMENT}",
            headers=bearer(token(documents=documents)),
            json={"title": "t"},
        )
        assert answer.status_code == status, documents
        listed = httpx.get(
            f"{shared_secret.url}/api/documents?q={DOCUMENT}", headers=bearer(token(documents=documents))
        )
        assert bool(listed.json()["documents"]) == (status != 404)


def test_as_many_rights_as_a_token_holds_may_be_listed(shared_secret: Server) -> None:
    documents = {f"{n:x}*": "owner" for n in range(700)}
    made = token(documents=documents)
    assert 0.75 * auth.TOKEN_BYTES < len(made) <= auth.TOKEN_BYTES
    assert httpx.get(f"{shared_secret.url}/api/documents", headers=bearer(made)).status_code == 200


def test_audience_and_issuer_are_those_of_the_server(make_server: Callable[..., Server]) -> None:
    server = make_server(secret=SECRET, audience="docs", issuer="https://id.example")
    for given, status in (
        ({"aud": "docs", "iss": "https://id.example"}, 200),
        ({"aud": ["collab", "docs"], "iss": "https://id.example"}, 200),
        ({"aud": "collab", "iss": "https://id.example"}, 401),
        ({"aud": "docs", "iss": ...}, 401),
        ({"aud": "docs", "iss": None}, 401),
        ({"aud": "docs", "iss": ""}, 401),
        ({"aud": "docs", "iss": "https://id.example/"}, 401),
        ({"aud": "docs", "iss": "https://id.example.evil"}, 401),
        ({"aud": "docs", "iss": "HTTPS://ID.EXAMPLE"}, 401),
        ({"aud": "docs", "iss": ["https://id.example"]}, 401),
        ({"aud": "docs", "iss": {"https://id.example": 1}}, 401),
        ({"aud": "docs", "iss": 7}, 401),
    ):
        answer = httpx.get(f"{server.url}/api/documents", headers=bearer(raw(HS256, claims(**given))))
        assert answer.status_code == status, given


# --- keys of an identity provider --------------------------------------------------------------------


@pytest.fixture(scope="module")
def public_keys(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that is given public keys in a file."""
    data = tmp_path_factory.mktemp("jwks")
    (data / "keys.json").write_text(json.dumps(key_set()))
    server = Server(data, secret=SECRET, jwks=data / "keys.json")
    server.start()
    made = httpx.post(
        f"{server.url}/api/documents", headers=bearer(signed(RSA, "rsa")), json={"name": DOCUMENT}
    )
    assert made.status_code == 201, made.text
    yield server
    server.kill()


@pytest.mark.parametrize(("key", "kid"), [(RSA, "rsa"), (EC, "ec"), (ED, "ed")])
def test_tokens_of_every_kind_of_key_are_taken(public_keys: Server, key: Private, kid: str) -> None:
    assert actor_of(public_keys, signed(key, kid, name="Ada")) == ("user:ada", "user", "Ada")


FORGED_FOR_KEYS: dict[str, Maker] = {
    "HS256 with the shared secret": token,
    "HS256 with the shared secret under its kid": lambda: jwt.encode(
        claims(), SECRET, "HS256", headers={"kid": "shared"}
    ),
    "RS256 in name, HMAC with the oct key of the set": lambda: raw(
        {"alg": "RS256", "kid": "shared"}, claims()
    ),
    "HS256 with the RSA public key": lambda: altered(hmac_of(pem(RSA)), 0, lambda h: h.update(kid="rsa")),
    "HS256 with the RSA public key as PEM, signed so": lambda: _confused(pem(RSA)),
    "HS256 with the RSA public key as JWK, signed so": lambda: _confused(
        json.dumps(jwk(RSA, "rsa")).encode()
    ),
    "alg none under a kid": lambda: raw({"alg": "none", "kid": "rsa"}, claims(), b""),
    "no kid among several keys": lambda: signed(RSA, None),
    "a kid that is not there": lambda: signed(RSA, "other"),
    "an empty kid": lambda: signed(RSA, ""),
    "a stranger's key under our kid": lambda: signed(STRANGER, "rsa"),
    "a key for encryption": lambda: signed(STRANGER, "for encryption"),
    "the kid of another key": lambda: signed(RSA, "ec"),
    "EC signature under the kid of RSA": lambda: signed(EC, "rsa"),
    "RS384 with the right key": lambda: signed(RSA, "rsa", "RS384"),
    "RS512 with the right key": lambda: signed(RSA, "rsa", "RS512"),
    "PS256 with the right key": lambda: signed(RSA, "rsa", "PS256"),
    "ES256 in name, RSA in truth": lambda: altered(signed(RSA, "rsa"), 0, lambda h: h.update(alg="ES256")),
    "a key of 1,024 bits": lambda: signed(WEAK, "weak"),
    "a key type unheard of": lambda: signed(RSA, "unknown"),
    "an embedded key": lambda: jwt.encode(
        claims(), STRANGER, "RS256", headers={"kid": "rsa", "jwk": jwk(STRANGER, "rsa")}
    ),
    "a key at an address": lambda: jwt.encode(
        claims(), STRANGER, "RS256", headers={"kid": "rsa", "jku": "http://127.0.0.1:9/"}
    ),
    "expired": lambda: signed(RSA, "rsa", exp=int(time.time()) - 60),
    "another audience": lambda: signed(RSA, "rsa", aud="other"),
    "altered": lambda: altered(signed(RSA, "rsa"), 1, lambda c: c.update(sub="eve")),
    "an ECDSA signature of zeros": lambda: raw({"alg": "ES256", "kid": "ec"}, claims(), bytes(64)),
    "an EdDSA signature of zeros": lambda: raw({"alg": "EdDSA", "kid": "ed"}, claims(), bytes(64)),
    "an ECDSA signature cut short": lambda: raw({"alg": "ES256", "kid": "ec"}, claims(), b"x"),
}


def _confused(secret: bytes) -> str:
    head = b64(json.dumps({"alg": "HS256", "kid": "rsa"}).encode())
    body = f"{head}.{b64(json.dumps(claims()).encode())}"
    return f"{body}.{b64(jwt.get_algorithm_by_name('HS256').sign(body.encode(), secret))}"


@pytest.mark.parametrize("name", FORGED_FOR_KEYS)
def test_a_token_forged_for_public_keys_is_refused(public_keys: Server, name: str) -> None:
    asyncio.run(assert_refused_everywhere(public_keys, FORGED_FOR_KEYS[name](), signed(RSA, "rsa")))


def test_operators_sign_with_the_secret_all_the_same(public_keys: Server) -> None:
    headers = {**bearer(auth.issue_operator(SECRET, 600)), "Forwarded": "for=192.0.2.1"}
    assert httpx.get(f"{public_keys.url}/metrics", headers=headers).status_code == 200


def test_while_keys_cannot_be_read_clients_are_told_to_come_back(make_server: Callable[..., Server]) -> None:
    """No denial: it is not the token's fault. Nor do they learn where the keys are."""
    nobody = reserve_port()
    port = nobody.getsockname()[1]
    server = make_server(secret=SECRET, jwks=f"http://operator:hunter2@127.0.0.1:{port}/keys.json")
    for method, path in (("GET", f"/api/documents/{DOCUMENT}"), ("GET", "/api/documents")):
        answer = httpx.request(method, server.url + path, headers=bearer(signed(RSA, "rsa")))
        assert (answer.status_code, answer.json()["code"]) == (503, "storage-unavailable")
        assert answer.headers["retry-after"]
        assert not any(word in answer.text for word in ("hunter2", "operator", str(port), "keys.json"))

    async def scenario() -> None:
        async with Visitor(server, DOCUMENT, token=signed(RSA, "rsa")) as one:
            code, reason = await one.ended()
            assert code == 1013
            assert not any(word in reason for word in ("hunter2", str(port), "keys.json"))
        async with Visitor(server, DOCUMENT, hocuspocus=True, token=signed(RSA, "rsa")) as one:
            assert (await one.ended())[0] == 1013
            assert one.heard == [], "so that providers back off"

    asyncio.run(scenario())
    assert "hunter2" not in server.log.read_text()


# --- how tokens travel -------------------------------------------------------------------------------


def test_a_token_travels_as_header_on_rest_and_on_sockets_in_every_way(shared_secret: Server) -> None:
    good = token()
    for headers in (bearer(good), {"authorization": f"bEARER  {good}"}):
        assert httpx.get(f"{shared_secret.url}/api/documents/{DOCUMENT}", headers=headers).status_code == 200

    async def scenario() -> None:
        for options in (
            {"headers": bearer(good)},
            {"query": f"?token={good}"},
            {"query": f"?x=1&token={good}&y=2"},
            {"subprotocols": [f"bearer.{good}"]},
            {"subprotocols": ["collab", f"bearer.{good}"]},
            {"subprotocols": [f"bearer.{good}", "collab"]},
        ):
            for hocuspocus in (False, True):
                async with Visitor(shared_secret, DOCUMENT, hocuspocus=hocuspocus, **options) as one:
                    await one.settle()
                    assert one.closed is None, options
                    assert one.denied is None, options

    asyncio.run(scenario())


def test_a_query_is_no_way_for_a_token_on_rest(shared_secret: Server) -> None:
    """Addresses are logged and shared."""
    for path in (
        f"/api/documents/{DOCUMENT}?token={token()}",
        f"/api/documents/{DOCUMENT}?access_token={token()}",
    ):
        assert refused(httpx.get(shared_secret.url + path))
    headers = {"Sec-WebSocket-Protocol": f"bearer.{token()}", "Cookie": f"token={token()}"}
    assert refused(httpx.get(f"{shared_secret.url}/api/documents/{DOCUMENT}", headers=headers))


@pytest.mark.parametrize(
    ("carried", "code"),
    [
        ({"headers": "good", "query": "bad", "subprotocols": "bad"}, None),
        ({"headers": "bad", "query": "good", "subprotocols": "good"}, 4401),
        ({"subprotocols": "good", "query": "bad"}, None),
        ({"subprotocols": "bad", "query": "good"}, 4401),
    ],
)
def test_of_several_tokens_the_one_that_is_hardest_to_put_there_counts(
    shared_secret: Server, carried: dict[str, str], code: int | None
) -> None:
    tokens = {"good": token(), "bad": token(secret="x" * 40)}
    options: dict[str, Any] = {}
    for way, which in carried.items():
        given = tokens[which]
        options[way] = {
            "headers": bearer(given),
            "query": f"?token={given}",
            "subprotocols": [f"bearer.{given}"],
        }[way]

    async def scenario() -> None:
        async with Visitor(shared_secret, DOCUMENT, **options) as one:
            await one.settle()
            assert (one.closed and one.closed[0]) == code

    asyncio.run(scenario())


def test_of_the_subprotocols_the_first_that_is_no_token_is_echoed(shared_secret: Server) -> None:
    given = f"bearer.{token()}"

    async def scenario() -> None:
        for offered, echoed in (
            ([given], given),  # a browser needs an answer
            (["collab", given], "collab"),
            ([given, "collab", "other"], "collab"),
            (["y-websocket"], "y-websocket"),
            ([], None),
        ):
            async with connect(
                f"{shared_secret.ws_url}/ws/{DOCUMENT}",
                subprotocols=[Subprotocol(o) for o in offered] or None,
            ) as socket:
                assert socket.subprotocol == echoed

    asyncio.run(scenario())


def test_a_frame_s_token_counts_before_what_the_upgrade_carried(shared_secret: Server) -> None:
    async def scenario() -> None:
        for upgrade, frame, scope in (
            (token(documents={DOCUMENT: "viewer"}), token(), "read-write"),
            (token(), token(documents={DOCUMENT: "viewer"}), "readonly"),
            (token(documents={DOCUMENT: "viewer"}), "", "readonly"),
            (token(), "rubbish", ""),
            ("rubbish", token(), "read-write"),
            ("rubbish", "", ""),
        ):
            async with Visitor(
                shared_secret, DOCUMENT, hocuspocus=True, headers=bearer(upgrade), token=frame
            ) as one:
                assert one.scope == scope

    asyncio.run(scenario())


# --- the end of a token ------------------------------------------------------------------------------


def test_a_token_that_expires_ends_its_sockets_within_a_second(shared_secret: Server) -> None:
    async def scenario() -> None:
        exp = int(time.time()) + 8 - auth.LEEWAY
        short = token(exp=exp)
        async with (
            Visitor(shared_secret, DOCUMENT, token=short) as y,
            Visitor(shared_secret, DOCUMENT, hocuspocus=True, token=short) as hocuspocus,
            Visitor(shared_secret, DOCUMENT, token=token()) as other,
        ):
            # A provider comes back for all its documents, to hear of this one that its token is refused.
            for one, code in ((y, 4401), (hocuspocus, 4500)):
                ended = await one.ended()
                assert ended[0] == code
                assert "expired" in ended[1]
            assert 0 <= time.time() - exp - auth.LEEWAY < 1
            assert b"\x02\x00" in hocuspocus.heard, "it was asked for a new one before"
            await other.settle()
            assert other.closed is None
        async with Visitor(shared_secret, DOCUMENT, token=short) as late:
            assert (await late.ended())[0] == 4401

    asyncio.run(scenario())


def test_a_hocuspocus_client_brings_a_new_token_in_time_and_goes_on(shared_secret: Server) -> None:
    async def scenario() -> None:
        ends = int(time.time()) + 8
        short = token(exp=ends - auth.LEEWAY)
        async with Visitor(shared_secret, DOCUMENT, hocuspocus=True, token=short) as one:
            await one.until(lambda: b"\x02\x00" in one.heard)
            heard = len(one.heard)
            await one.send(b"\x02\x00" + auth_body(token(name="Ada again")))
            await asyncio.sleep(max(0, ends + 1 - time.time()))
            await one.settle()
            assert one.closed is None
            assert not any(m.startswith(b"\x02") for m in one.heard[heard:]), "no answer, as Hocuspocus"

    asyncio.run(scenario())


def auth_body(given: str) -> bytes:
    return bytes((len(given) & 127 | 128, len(given) >> 7)) + given.encode()


@pytest.mark.parametrize(
    "new",
    [
        lambda: token("eve"),
        lambda: token("ada", kind="agent"),
        lambda: token(secret="x" * 40),
        lambda: token(exp=1),
        lambda: token(documents={}),
        lambda: token(documents={DOCUMENT: "viewer"}),
        lambda: "",
    ],
    ids=["another's", "an agent's", "forged", "expired", "without rights", "with other rights", "none"],
)
def test_a_new_token_that_is_not_as_good_ends_the_socket(
    shared_secret: Server, new: Callable[[], str]
) -> None:
    """With a code that brings the provider back, to hear a denial or its new scope."""

    async def scenario() -> None:
        async with Visitor(shared_secret, DOCUMENT, hocuspocus=True, token=token()) as one:
            await one.settle()
            given = new()
            body = auth_body(given) if given else b"\0"
            await one.send(b"\x02\x00" + body)
            assert (await one.ended())[0] == 4500

    asyncio.run(scenario())


def test_of_two_tokens_sent_at_once_the_second_is_not_forgotten(shared_secret: Server) -> None:
    """A provider that is given another token while the first is looked at."""

    async def scenario() -> None:
        async with Visitor(shared_secret, DOCUMENT, hocuspocus=True, token="rubbish") as one:
            await one.send(b"\x02\x00" + auth_body(token(secret="x" * 40)), b"\x02\x00" + auth_body(token()))
            await one.until(lambda: one.scope)
            assert one.scope == "read-write"

    asyncio.run(scenario())


# --- guests ------------------------------------------------------------------------------------------


def guest_of(cookie: str) -> str:
    return str(jwt.decode(cookie, options={"verify_signature": False})["sub"])


def cookie_of(server: Server, **cookies: str) -> str | None:
    """The guest cookie that the page sets for who comes with ``cookies``."""
    return httpx.get(f"{server.url}/", cookies=cookies).cookies.get("collab_guest")


def test_a_guest_is_the_same_after_a_restart_and_nobody_on_another_server(
    make_server: Callable[..., Server],
) -> None:
    one, other = make_server(), make_server()
    cookie = cookie_of(one)
    assert cookie is not None
    one.stop()
    one.start()
    assert cookie_of(one, collab_guest=cookie) is None, "known, so left as it is"
    new = cookie_of(other, collab_guest=cookie)
    assert new is not None
    assert guest_of(new) != guest_of(cookie)


@pytest.mark.parametrize(
    "forged",
    [
        "",
        "x",
        "..",
        jwt.encode({"sub": "0123456789abcdef"}, "x" * 40, "HS256"),
        jwt.encode({"sub": "0123456789abcdef"}, SECRET, "HS256"),
        raw({"alg": "none"}, {"sub": "0123456789abcdef"}, b""),
        jwt.encode({"sub": "0123456789ABCDEF"}, auth.derived_key(SECRET, "guest"), "HS256"),
        jwt.encode({"sub": "ada"}, auth.derived_key(SECRET, "guest"), "HS256"),
        jwt.encode({"name": "no sub"}, auth.derived_key(SECRET, "guest"), "HS256"),
        jwt.encode({"sub": "0123456789abcdef"}, auth.derived_key(SECRET, "operator"), "HS256"),
        token(),
        raw(b"[" * 2500, b""),
        raw({**HS256, "crit": ["\ud800"]}, {}),
        "x" * 4000,
    ],
)
def test_a_forged_guest_cookie_makes_a_new_guest(shared_secret: Server, forged: str) -> None:
    made = cookie_of(shared_secret, collab_guest=forged)
    assert made is not None
    assert guest_of(made) not in ("0123456789abcdef", "ada")
    answer = httpx.get(f"{shared_secret.url}/api/documents/{DOCUMENT}", cookies={"collab_guest": forged})
    assert refused(answer)

    async def scenario() -> None:
        async with Visitor(shared_secret, DOCUMENT, headers={"Cookie": f"collab_guest={forged}"}) as one:
            assert (await one.ended())[0] == 4401

    asyncio.run(scenario())


def test_a_guest_cookie_is_out_of_reach_of_scripts_and_lasts(shared_secret: Server) -> None:
    name, *attributes = httpx.get(f"{shared_secret.url}/d/x").headers["set-cookie"].split("; ")
    assert name.startswith("collab_guest=")
    assert {"HttpOnly", "SameSite=lax", "Path=/", f"Max-Age={400 * 24 * 3600}"} == set(attributes)


def test_behind_an_https_address_the_guest_cookie_is_secure(make_server: Callable[..., Server]) -> None:
    server = make_server(secret=SECRET, public_url="https://docs.example.org")
    assert "Secure" in httpx.get(f"{server.url}/").headers["set-cookie"].split("; ")
    out = httpx.delete(f"{server.url}/api/session").headers["set-cookie"]
    assert out.startswith("__Host-collab_session=")
    assert "Secure" in out.split("; ")


def test_what_a_client_says_of_itself_counts_for_nothing_in_the_log(server: Server) -> None:
    """Presence, its client id, a made-up frame: the actor is who brought the credential."""

    async def scenario() -> None:
        cookie = cookie_of(server)
        assert cookie is not None
        headers = {"Cookie": f"collab_guest={cookie}"}
        async with client(server.ws_url, "d", additional_headers=headers) as one:
            state = b'{"user":{"name":"Root","id":"user:root"},"actor":"user:root"}'
            entry = protocol.var_uint(one.doc.client_id) + b"\x01" + protocol.var_uint(len(state)) + state
            await one.send(protocol.encode_awareness(b"\x01" + entry))
            await one.insert(0, "x")
            await one.saved()

    asyncio.run(scenario())
    with sqlite3.connect(server.data / "collab.db") as database:
        rows = database.execute("SELECT id, kind, name FROM actors").fetchall()
    assert len(rows) == 1
    assert rows[0][0].startswith("guest:")
    assert rows[0][1:] == ("guest", "")


# --- from where (R13) --------------------------------------------------------------------------------

FOREIGN = [
    "http://evil.example",
    "null",
    "http://{host}.evil.example",
    "http://evil.example/{host}",
    "http://127.0.0.1",
    "http://127.0.0.1:1",
    "http://localhost:{port}",
    "https://{host}",
    "ws://{host}",
    "http://{host}@evil.example",
    "http://evil.example?{host}",
    "file://",
    "chrome-extension://abcdefghijklmnop",
    "",
    "http://[",
    "//{host}",
    "{host}",
    "http://127.0.0.1:{port}0",
    "http://127.0.0.1:x",
]


def origins(server: Server) -> list[str]:
    host = f"127.0.0.1:{server.port}"
    return [origin.format(host=host, port=server.port) for origin in FOREIGN]


def writes(server: Server, headers: Mapping[str, str]) -> httpx.Response:
    name = base64.b32encode(os.urandom(5)).decode()
    return httpx.post(f"{server.url}/api/documents", headers=headers, json={"name": name})


async def comes_in(server: Server, headers: Mapping[str, str], *, hocuspocus: bool, **options: Any) -> str:
    """ "in", or why not."""
    async with Visitor(server, DOCUMENT, hocuspocus=hocuspocus, headers=headers, **options) as one:
        await one.settle() if one.denied is None else None
        if one.denied is not None:
            return one.denied.partition(":")[0]
        return "in" if one.closed is None else str(one.closed[0])


@pytest.fixture(scope="module")
def open_house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Out of the box on loopback: guests may do everything. Pages of others may not."""
    server = Server(tmp_path_factory.mktemp("open"))
    server.start()
    yield server
    server.kill()


def test_a_foreign_page_uses_neither_cookies_nor_guests_rights(open_house: Server) -> None:
    cookie = cookie_of(open_house)
    secret = (open_house.data / "secret").read_text().strip()
    good = bearer(token(secret=secret))

    async def sockets() -> None:
        for origin in origins(open_house):
            for credential in ({}, {"Cookie": f"collab_guest={cookie}"}):
                headers = {**credential, "Origin": origin}
                assert await comes_in(open_house, headers, hocuspocus=False) == "4403", origin
                assert await comes_in(open_house, headers, hocuspocus=True) == "forbidden", origin
            for hocuspocus in (False, True):
                headers = {**good, "Origin": origin}
                assert await comes_in(open_house, headers, hocuspocus=hocuspocus) == "in", origin

    for origin in origins(open_house):
        for credential in ({}, {"Cookie": f"collab_guest={cookie}"}):
            answer = writes(open_house, {**credential, "Origin": origin})
            assert (answer.status_code, answer.json()["code"]) == (403, "forbidden"), origin
            reading = httpx.get(f"{open_house.url}/api/documents", headers={**credential, "Origin": origin})
            assert reading.status_code == 403, origin
        assert writes(open_house, {**good, "Origin": origin}).status_code == 201, origin
    asyncio.run(sockets())


def test_our_own_page_and_programs_use_what_they_have(open_house: Server) -> None:
    cookie = cookie_of(open_house)
    own = {"Origin": f"http://127.0.0.1:{open_house.port}"}
    shouted = {"Origin": f"HTTP://127.0.0.1:{open_house.port}"}

    async def sockets() -> None:
        for headers in ({}, own, shouted, {**own, "Cookie": f"collab_guest={cookie}"}):
            for hocuspocus in (False, True):
                assert await comes_in(open_house, headers, hocuspocus=hocuspocus) == "in"

    for headers in ({}, own, shouted, {**own, "Cookie": f"collab_guest={cookie}"}):
        assert writes(open_house, headers).status_code == 201
    asyncio.run(sockets())


@pytest.mark.parametrize(
    ("site", "mode", "unsafe", "safe"),
    [
        ("same-origin", "cors", 201, 200),
        ("none", "navigate", 201, 200),
        ("same-site", "cors", 403, 403),
        ("cross-site", "no-cors", 403, 403),
        ("cross-site", "navigate", 403, 200),
        ("rubbish", "", 403, 403),
    ],
)
def test_a_browser_that_sends_no_origin_says_where_the_request_is_from(
    open_house: Server, site: str, mode: str, unsafe: int, safe: int
) -> None:
    headers = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": mode}
    assert writes(open_house, headers).status_code == unsafe
    assert httpx.get(f"{open_house.url}/api/documents", headers=headers).status_code == safe


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:{port}",
        "127.0.0.1.evil.example:{port}",
        "localhost.evil.example",
        "evil.localhost.example",
        "LOCALHOSTED",
        "",
        "[",
        "[::1",
        "127.0.0.1.:{port}",
        "127.1",
        "a b",
    ],
)
def test_a_name_that_is_pointed_here_gives_no_guest_rights(open_house: Server, host: str) -> None:
    """DNS rebinding: to the browser the foreign page is of our origin."""
    host = host.format(port=open_house.port)
    for headers in ({"Host": host}, {"Host": host, "Origin": f"http://{host}"}):
        answer = writes(open_house, headers)
        assert answer.status_code == 403, answer.text
        answer = httpx.get(f"{open_house.url}/api/documents", headers=headers)
        assert answer.status_code == 403, answer.text

    async def scenario() -> None:
        sent = f"GET /ws/d HTTP/1.1\r\nHost: {host}\r\nOrigin: http://{host}\r\nUpgrade: websocket\r\n"
        sent += "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        sent += "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        reader, writer = await asyncio.open_connection("127.0.0.1", open_house.port)
        writer.write(sent.encode())
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
        if not head.startswith(b"HTTP/1.1 4"):
            frame = await asyncio.wait_for(reader.readexactly(4), 10)
            assert (frame[0], int.from_bytes(frame[2:], "big")) == (0x88, 4403)
        writer.close()

    asyncio.run(scenario())


@pytest.mark.parametrize("host", ["127.0.0.1:{port}", "localhost", "LOCALHOST:1", "[::1]:8000", "192.0.2.1"])
def test_names_that_nobody_else_can_point_here_are_ours(open_house: Server, host: str) -> None:
    host = host.format(port=open_house.port)
    assert writes(open_house, {"Host": host, "Origin": f"http://{host}"}).status_code == 201


def test_behind_a_proxy_our_origin_is_the_public_url(make_server: Callable[..., Server]) -> None:
    server = make_server(secret=SECRET, guests="editor", public_url="https://docs.example.org")
    inner = {"Host": f"127.0.0.1:{server.port}"}
    for headers, status in (
        ({"Host": "docs.example.org", "Origin": "https://docs.example.org"}, 201),
        ({"Host": "docs.example.org", "Origin": "https://docs.example.org:443"}, 201),
        ({**inner, "Origin": "https://docs.example.org"}, 201),
        ({"Host": "docs.example.org"}, 201),
        ({"Host": "docs.example.org", "Origin": "http://docs.example.org"}, 403),
        ({"Host": "docs.example.org", "Origin": "https://docs.example.org:8443"}, 403),
        ({"Host": "docs.example.org", "Origin": "https://docs.example.org.evil.example"}, 403),
        ({"Host": "docs.example.org", "Origin": "https://evil.docs.example.org"}, 403),
        ({"Host": "docs.example.org", "Origin": "null"}, 403),
        ({**inner, "Origin": f"http://127.0.0.1:{server.port}"}, 403),
        ({"Host": "evil.example", "Origin": "https://evil.example"}, 403),
        ({"Host": "evil.example"}, 403),
        ({"Host": "evil.example", "X-Forwarded-Host": "docs.example.org"}, 403),
    ):
        assert writes(server, headers).status_code == status, headers

        async def scenario(headers: Mapping[str, str] = headers, status: int = status) -> None:
            sent = dict(headers)
            async with Visitor(server, "d", origin=sent.get("Origin"), headers={"Cookie": "x=y"}) as one:
                await one.settle()
                own = sent.get("Origin") in (None, "https://docs.example.org", "https://docs.example.org:443")
                assert (one.closed is None) == own

        asyncio.run(scenario())


# --- the command line --------------------------------------------------------------------------------


@pytest.fixture
def collab(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """The command, in this process: its exit status, output and errors."""
    for name in [name for name in os.environ if name.startswith("COLLAB_")]:
        monkeypatch.delenv(name)

    def run(*arguments: str, **environment: str) -> tuple[int, str, str]:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        try:
            status = main(arguments)
        except SystemExit as end:
            status = int(str(end.code))
        said = capsys.readouterr()
        return status, said.out.strip(), " ".join(said.err.split())

    return run


Command = Callable[..., tuple[int, str, str]]


def test_a_token_of_the_command_line_works(server: Server, collab: Command) -> None:
    data = f"--data={server.data}"
    _, made, _ = collab("token", "grace", "--name", "Grace", "--agent", data)
    assert actor_of(server, made) == ("agent:grace", "agent", "Grace")
    _, made, _ = collab("token", data, "--document", "a*=viewer", "--document", "b=c=owner")
    rights = jwt.decode(made, options={"verify_signature": False})["documents"]
    assert rights == {"a*": "viewer", "b=c": "owner"}
    assert writes(server, bearer(made)).status_code == 403
    _, operator, _ = collab("token", "--operator", data)
    headers = {**bearer(operator), "X-Forwarded-For": "192.0.2.1"}
    assert httpx.get(f"{server.url}/metrics", headers=headers).status_code == 200


@pytest.mark.parametrize(
    ("arguments", "environment", "said"),
    [
        (("--document", "x"), {}, "--document must be like"),
        (("--document", "=owner"), {}, "--document must be like"),
        (("--document", "x=boss"), {}, "viewer, commenter, editor, owner"),
        (("--hours", "0"), {}, "--hours"),
        (("--hours", "-1"), {}, "--hours"),
        (("--hours", "inf"), {}, "--hours"),
        (("--hours", "nan"), {}, "--hours"),
        (("--hours", "1e300"), {}, "--hours"),
        (("",), {}, "subject"),
        (("x" * 400,), {}, "subject"),
        (("--secret", "short"), {}, "32 bytes"),
        ((), {"COLLAB_JWKS": "keys.json"}, "--jwks"),
    ],
)
def test_the_command_line_makes_no_token_that_would_not_work(
    tmp_path: Path, collab: Command, arguments: tuple[str, ...], environment: dict[str, str], said: str
) -> None:
    status, made, errors = collab("token", *arguments, f"--data={tmp_path}", **environment)
    assert (status, made) == (2, "")
    assert said in errors


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org", "", "0", "127.0.0.1.example"])
def test_a_public_address_needs_a_secret(tmp_path: Path, collab: Command, host: str) -> None:
    status, _, errors = collab("serve", "--host", host, "--port", "0", f"--data={tmp_path}")
    assert status == 2
    assert " ".join(f"to listen on {host} Collab needs a secret".split()) in errors
    assert "set COLLAB_SECRET (`openssl rand -hex 32` makes one), or listen on 127.0.0.1" in errors
    assert not list(tmp_path.iterdir())


def test_with_a_secret_it_listens_and_lets_no_guest_in(make_server: Callable[..., Server]) -> None:
    server = make_server(host="0.0.0.0", secret=SECRET)
    assert writes(server, {}).status_code == 401
    assert writes(server, bearer(token())).status_code == 201


def test_the_secret_of_a_data_directory_is_the_owner_s_alone_and_lasts(server: Server) -> None:
    path = server.data / "secret"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    before = path.read_text()
    assert len(before.strip()) == 64
    good = bearer(token(secret=before.strip()))
    server.stop()
    server.start()
    assert path.read_text() == before
    assert httpx.get(f"{server.url}/api/documents", headers=good).status_code == 200


def test_processes_that_start_at_once_agree_on_the_secret(tmp_path: Path) -> None:
    with ProcessPoolExecutor(4, multiprocessing.get_context("fork")) as processes:
        for round in range(50):
            settings = Settings(data=tmp_path / str(round))
            found = set(processes.map(secret_of, [settings] * 8))
            assert found == {secret_of(settings)}
            assert [path.name for path in settings.data.iterdir()] == ["secret"]


def test_a_secret_that_is_none_is_said_plainly(tmp_path: Path, collab: Command) -> None:
    (tmp_path / "secret").write_text("short\n")
    status, made, errors = collab("token", f"--data={tmp_path}")
    assert (status, made) == (2, "")
    assert "delete it to have one made" in errors
