"""Signing in by OpenID Connect: with a certified provider, and with one that lies."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from html import unescape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urljoin, urlsplit

import httpx
import jwt
import pytest
import stockclients
from joserfc import jws
from joserfc.jwk import ECKey, KeySet, OctKey, RSAKey
from serverprocess import Server, reserve_port
from visitor import Visitor

from web import auth, session, settings

CLIENT, CLIENT_SECRET = "collab", "the secret of the client " + "x" * 16
PEOPLE: dict[str, dict[str, object]] = {
    "ada": {"name": "Ada", "email": "Ada@Example.org", "email_verified": True},
    "grace": {"name": "Grace", "email": "grace@example.org", "email_verified": False},
    "nobody": {"preferred_username": "nobody"},
}


def collab(directory: Path, issuer: str, **settings: object) -> Server:
    """A server that signs people in by ``issuer``; not started yet."""
    server = Server(directory)
    server.settings = {
        "public_url": server.url,
        "oidc_issuer": issuer,
        "oidc_client_id": CLIENT,
        "oidc_client_secret": CLIENT_SECRET,
        "sign_ins_per_address": 100_000,
        "log_level": "debug",
        **settings,
    }
    return server


class Browser:
    """Follows redirects and fills in the forms of a provider, as a person would."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.client = httpx.Client()
        self.cookies = self.client.cookies

    def get(self, url: str) -> httpx.Response:
        return self.client.get(urljoin(self.server.url, url))

    def begin(self, next: str = "/") -> httpx.Response:
        answer = self.client.get(f"{self.server.url}/auth/oidc", params={"next": next})
        assert answer.status_code == 303, answer.text
        return answer

    def sign_in(self, login: str, next: str = "/") -> str:
        """The address of the callback that the provider sends the browser to."""
        answer = self.begin(next)
        for _ in range(20):
            if answer.is_redirect:
                url = urljoin(str(answer.url), answer.headers["location"])
                if url.startswith(f"{self.server.url}/auth/oidc/callback"):
                    return url
                answer = self.client.get(url)
            else:
                form = re.search(r'action="([^"]+)".*?name="prompt" value="(\w+)"', answer.text, re.S)
                assert form is not None, answer.text
                fields = {"prompt": form[2], "login": login, "password": "any"}
                answer = self.client.post(urljoin(str(answer.url), unescape(form[1])), data=fields)
        raise AssertionError("the provider leads nowhere")

    def me(self) -> Any:
        return self.get("/api/me").json()


def accounts(server: Server) -> list[Any]:
    token = auth.issue_operator((server.data / "secret").read_text().strip(), 60)
    answer = httpx.get(f"{server.url}/api/accounts?limit=1000", headers={"Authorization": f"Bearer {token}"})
    found: list[Any] = answer.json()["accounts"]
    return found


def failed(answer: httpx.Response, status: int, sentence: str) -> None:
    """A page that says what to do, and nobody signed in."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["cache-control"] == "no-store"
    assert sentence in unescape(answer.text)
    assert 'href="http' in answer.text
    assert all(not cookie.startswith("collab_session") for cookie in answer.headers.get_list("set-cookie"))


# --- a certified provider ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certified(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, str]]:
    """A server and the issuer of its provider, oidc-provider in Node."""
    stockclients.install()
    reserved = reserve_port()
    port = reserved.getsockname()[1]
    server = collab(tmp_path_factory.mktemp("oidc"), f"http://127.0.0.1:{port}")
    here = {"client_id": CLIENT, "redirect_uris": [f"{server.url}/auth/oidc/callback"]}
    clients = [
        {**here, "client_secret": CLIENT_SECRET},
        {**here, "client_id": "public", "token_endpoint_auth_method": "none"},
        {**here, "client_id": "elliptic", "id_token_signed_response_alg": "ES256"}
        | {"client_secret": CLIENT_SECRET},
    ]
    node, environment = stockclients.node_environment()
    process = subprocess.Popen(
        [node, "provider.mjs", json.dumps({"port": port, "clients": clients, "people": PEOPLE})],
        cwd=stockclients.HERE,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert any(line == "ready\n" for line in process.stdout)
    server.start()
    yield server, f"http://127.0.0.1:{port}"
    server.kill()
    process.kill()
    process.wait(10)


def test_a_person_signs_in_by_the_provider_and_comes_back_as_the_same(certified: tuple[Server, str]) -> None:
    server, issuer = certified
    first = Browser(server)
    assert first.get("/api/sign-in").json()["oidc"] == "/auth/oidc"
    callback = first.sign_in("ada", "/d/minutes?x=1")
    answer = first.get(callback)
    assert (answer.status_code, answer.headers["location"]) == (303, "/d/minutes?x=1")
    me = first.me()
    assert (me["kind"], me["name"], me["email"], me["how"]) == ("user", "Ada", "ada@example.org", "account")
    second = Browser(server)
    second.get(second.sign_in("ada"))
    assert second.me()["actor"] == me["actor"]
    mine = [account for account in accounts(server) if account["email"] == "ada@example.org"]
    assert [account["issuer"] for account in mine] == [issuer]
    first.client.delete(f"{server.url}/api/session")
    assert first.me()["signed_in"] is False
    assert second.me()["signed_in"] is True


def test_the_request_has_pkce_state_and_nonce_and_the_cookie_is_kept_from_scripts(
    certified: tuple[Server, str],
) -> None:
    server, issuer = certified
    answer = Browser(server).begin()
    url = answer.headers["location"]
    asked = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
    assert url.startswith(f"{issuer}/auth?")
    assert (asked["response_type"], asked["client_id"]) == ("code", CLIENT)
    assert asked["redirect_uri"] == f"{server.url}/auth/oidc/callback"
    assert set(asked["scope"].split()) == {"openid", "email", "profile"}
    assert asked["code_challenge_method"] == "S256"
    assert len(asked["code_challenge"]) == 43
    assert min(len(asked["state"]), len(asked["nonce"])) >= 20
    name, *attributes = answer.headers["set-cookie"].split("; ")
    assert name.startswith("collab_oidc=")
    assert sorted(attributes) == ["HttpOnly", "Max-Age=600", "Path=/", "SameSite=lax"]


def test_an_address_that_the_provider_has_not_verified_is_not_believed(certified: tuple[Server, str]) -> None:
    server, _ = certified
    grace = Browser(server)
    grace.get(grace.sign_in("grace"))
    assert (grace.me()["name"], grace.me()["email"]) == ("Grace", None)
    nobody = Browser(server)
    nobody.get(nobody.sign_in("nobody"))
    assert (nobody.me()["name"], nobody.me()["email"]) == ("nobody", None)


def test_a_code_works_once(certified: tuple[Server, str]) -> None:
    server, _ = certified
    ada = Browser(server)
    callback = ada.sign_in("ada")
    begun = ada.cookies["collab_oidc"]
    assert ada.get(callback).status_code == 303
    assert "collab_oidc" not in ada.cookies
    failed(ada.get(callback), 401, "begin it again")
    ada.cookies.set("collab_oidc", begun)
    failed(ada.get(callback), 401, "begin it again")
    assert "takes no such code" in server.log.read_text()


def test_a_sign_in_that_another_browser_began_is_refused(certified: tuple[Server, str]) -> None:
    server, _ = certified
    attacker, victim = Browser(server), Browser(server)
    callback = attacker.sign_in("grace")
    failed(victim.get(callback), 401, "not begun in this browser")
    victim.begin()
    failed(victim.get(callback), 401, "not begun in this browser")
    failed(victim.get("/auth/oidc/callback"), 401, "begin it again")
    assert victim.me()["signed_in"] is False


def test_the_code_of_one_sign_in_is_worth_nothing_in_another(certified: tuple[Server, str]) -> None:
    """PKCE: a code that was stolen on its way does not fit the sign-in of who stole it."""
    server, _ = certified
    victim, thief = Browser(server), Browser(server)
    code = parse_qs(urlsplit(victim.sign_in("ada")).query)["code"][0]
    own = urlsplit(thief.sign_in("grace"))
    query = {name: values[0] for name, values in parse_qs(own.query).items()} | {"code": code}
    failed(thief.client.get(own._replace(query="").geturl(), params=query), 401, "begin it again")


def test_who_declines_at_the_provider_is_told_so(certified: tuple[Server, str]) -> None:
    server, _ = certified
    ada = Browser(server)
    answer = ada.client.get(ada.begin().headers["location"])
    login = urljoin(str(answer.url), answer.headers["location"])
    abort = re.search(r'href="([^"]*/abort)"', ada.client.get(login).text)
    assert abort is not None
    answer = ada.client.get(urljoin(login, abort[1]))
    while answer.is_redirect and "callback" not in answer.headers["location"]:
        answer = ada.client.get(urljoin(str(answer.url), answer.headers["location"]))
    failed(ada.get(answer.headers["location"]), 401, "End-User aborted interaction")


@pytest.mark.parametrize(
    "client", [{"oidc_client_id": "public", "oidc_client_secret": ""}, {"oidc_client_id": "elliptic"}]
)
def test_clients_of_other_kinds_sign_in_too(
    certified: tuple[Server, str], tmp_path: Path, client: dict[str, object]
) -> None:
    """One without a secret, and one whose ID tokens are signed with an elliptic curve."""
    first, issuer = certified
    server = collab(tmp_path, issuer, **client)
    first.kill()  # the provider knows this address only
    server.port, server.settings["public_url"] = first.port, first.url
    try:
        server.start()
        ada = Browser(server)
        ada.get(ada.sign_in("ada"))
        assert ada.me()["email"] == "ada@example.org"
    finally:
        server.kill()
        first.start()


def test_a_wrong_client_secret_is_said_in_the_log_and_not_to_the_visitor(
    certified: tuple[Server, str], tmp_path: Path
) -> None:
    first, issuer = certified
    server = collab(tmp_path, issuer, oidc_client_secret="wrong" * 10)
    first.kill()
    server.port, server.settings["public_url"] = first.port, first.url
    try:
        server.start()
        ada = Browser(server)
        failed(ada.get(ada.sign_in("ada")), 502, "whoever runs this server finds why in its log")
        assert "invalid_client" in server.log.read_text()
    finally:
        server.kill()
        first.start()


def test_no_secret_of_a_sign_in_is_in_the_log(certified: tuple[Server, str]) -> None:
    server, _ = certified
    ada = Browser(server)
    callback = ada.sign_in("ada")
    query = {name: values[0] for name, values in parse_qs(urlsplit(callback).query).items()}
    begun = jwt.decode(ada.cookies["collab_oidc"], options={"verify_signature": False})
    ada.get(callback)
    log = server.log.read_text()
    for secret in (CLIENT_SECRET, query["code"], begun["code_verifier"], ada.cookies[session.PLAIN]):
        assert secret not in log


# --- a provider that lies ------------------------------------------------------------------------------


KEY = RSAKey.generate_key(2048, {"kid": "1", "use": "sig"})


class Liar:
    """An OpenID provider that is honest until a test says otherwise. It needs no sign-in: a browser that was
    sent to it goes straight to the callback."""

    def __init__(self) -> None:
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.issuer = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.be_honest()

    def be_honest(self) -> None:
        self.key: Any = KEY
        self.claims: dict[str, object] = {}  # what differs; None: left out
        self.header: dict[str, object] = {}
        self.signer: Any = None
        self.token: dict[str, object] = {}
        self.told: dict[str, object] = {}
        self.answers: dict[str, tuple[int, bytes]] = {}  # other answers, by path
        self.nonce = ""

    def discovery(self) -> dict[str, object]:
        return {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/auth",
            "token_endpoint": f"{self.issuer}/token",
            "userinfo_endpoint": f"{self.issuer}/userinfo",
            "jwks_uri": f"{self.issuer}/jwks",
            "id_token_signing_alg_values_supported": ["RS256", "ES256", "HS256", "none"],
            "token_endpoint_auth_methods_supported": ["client_secret_post"],
        }

    def id_token(self) -> str:
        now = int(time.time())
        claims = {
            "iss": self.issuer,
            "sub": "1",
            "aud": CLIENT,
            "iat": now,
            "exp": now + 60,
            "nonce": self.nonce,
            "name": "Ada",
            "email": "ada@example.org",
            "email_verified": True,
            **self.claims,
        }
        claims = {name: value for name, value in claims.items() if value is not None}
        header: dict[str, Any] = {"alg": "RS256", "kid": "1", **self.header}
        if header["alg"] == "none":
            return jwt.encode(claims, None, "none", header)
        registry = jws.JWSRegistry(algorithms=["RS256", "ES256", "HS256"], strict_check_header=False)
        payload = json.dumps(claims).encode()
        return jws.serialize_compact(header, payload, self.signer or self.key, registry=registry)

    def answer(self, path: str) -> tuple[int, bytes]:
        documents: dict[str, Callable[[], object]] = {
            "/.well-known/openid-configuration": self.discovery,
            "/jwks": lambda: KeySet([self.key]).as_dict(private=False),
            "/token": lambda: {
                "access_token": "access",
                "token_type": "Bearer",
                **{k: v for k, v in ({"id_token": self.id_token()} | self.token).items() if v is not None},
            },
            "/userinfo": lambda: {"sub": "1", **self.told},
        }
        return self.answers.get(path) or (200, json.dumps(documents[path]()).encode())

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        liar = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, body = liar.answer(self.path)
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                self.do_GET()

            def log_message(self, *_: object) -> None:
                pass

        return Handler


@pytest.fixture(scope="module")
def lying(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Liar]]:
    liar = Liar()
    server = collab(tmp_path_factory.mktemp("liar"), liar.issuer)
    server.start()
    yield server, liar
    server.kill()
    liar.server.shutdown()


@pytest.fixture
def liar(lying: tuple[Server, Liar]) -> Iterator[Liar]:
    yield lying[1]
    lying[1].be_honest()


@pytest.fixture
def server(lying: tuple[Server, Liar]) -> Server:
    return lying[0]


def come_back(browser: Browser, liar: Liar, next: str = "/", **more: str) -> httpx.Response:
    """Go to the provider and back; ``liar.claims`` may override the nonce that it was sent."""
    asked = parse_qs(urlsplit(browser.begin(next).headers["location"]).query)
    liar.nonce = asked["nonce"][0]
    query = {"code": "code", "state": asked["state"][0], **more}
    return browser.client.get(asked["redirect_uri"][0], params=query)


def test_an_honest_answer_signs_in(server: Server, liar: Liar) -> None:
    ada = Browser(server)
    assert come_back(ada, liar).headers["location"] == "/"
    assert ada.me()["email"] == "ada@example.org"
    assert come_back(Browser(server), liar, iss=liar.issuer).status_code == 303


OTHER = RSAKey.generate_key(2048, {"kid": "1"})
CURVE = ECKey.generate_key("P-256", {"kid": "1"})
LIES: dict[str, Callable[[Liar], object]] = {
    "wrong nonce": lambda liar: liar.claims.update(nonce="other"),
    "no nonce": lambda liar: liar.claims.update(nonce=None),
    "wrong issuer": lambda liar: liar.claims.update(iss="https://evil.example"),
    "no issuer": lambda liar: liar.claims.update(iss=None),
    "wrong audience": lambda liar: liar.claims.update(aud="other"),
    "wrong audience but our azp": lambda liar: liar.claims.update(aud="other", azp=CLIENT),
    "wrong audiences": lambda liar: liar.claims.update(aud=["other", "another"], azp=CLIENT),
    "audiences without azp": lambda liar: liar.claims.update(aud=[CLIENT, "other"]),
    "audiences with another's azp": lambda liar: liar.claims.update(aud=[CLIENT, "other"], azp="other"),
    "no audience": lambda liar: liar.claims.update(aud=None),
    "expired": lambda liar: liar.claims.update(exp=int(time.time()) - 120),
    "no expiry": lambda liar: liar.claims.update(exp=None),
    "issued in an hour": lambda liar: liar.claims.update(iat=int(time.time()) + 3600),
    "no subject": lambda liar: liar.claims.update(sub=None),
    "a number as subject": lambda liar: liar.claims.update(sub=7),
    "wrong at_hash": lambda liar: liar.claims.update(at_hash="x" * 22),
    "no signature": lambda liar: liar.header.update(alg="none"),
    "signed with the client's secret": lambda liar: (
        liar.header.update(alg="HS256"),
        setattr(liar, "signer", OctKey.import_key(CLIENT_SECRET)),
    ),
    "signed with the public key as secret": lambda liar: (
        liar.header.update(alg="HS256"),
        setattr(liar, "signer", OctKey.import_key(liar.key.as_pem(private=False).decode().split("-----")[2])),
    ),
    "another's key": lambda liar: setattr(liar, "signer", OTHER),
    "a key of another kind": lambda liar: (liar.header.update(alg="ES256"), setattr(liar, "signer", CURVE)),
    "an unknown key": lambda liar: (liar.header.update(kid="2"), setattr(liar, "signer", OTHER)),
    "no ID token": lambda liar: liar.token.update(id_token=None),
    "no token": lambda liar: liar.token.update(id_token="x.y.z"),
    "a list as token": lambda liar: liar.token.update(id_token=[]),
    "user info of another": lambda liar: (liar.claims.update(email=None), liar.told.update(sub="2")),
    "user info without subject": lambda liar: (liar.claims.update(email=None), liar.told.update(sub=None)),
    "a list as user info": lambda liar: (
        liar.claims.update(email=None),
        liar.answers.update({"/userinfo": (200, b"[1]")}),
    ),
    "no JSON for a code": lambda liar: liar.answers.update({"/token": (200, b"<html>")}),
    "an unknown error for a code": lambda liar: liar.answers.update({"/token": (400, b'{"error": "what"}')}),
    "a list for a code": lambda liar: liar.answers.update({"/token": (200, b"[]")}),
}


@pytest.mark.parametrize("lie", LIES)
def test_an_answer_that_is_not_right_in_every_way_signs_nobody_in(
    server: Server, liar: Liar, lie: str
) -> None:
    before = accounts(server)
    LIES[lie](liar)
    browser = Browser(server)
    failed(come_back(browser, liar), 502, "whoever runs this server finds why in its log")
    assert browser.me()["signed_in"] is False
    assert accounts(server) == before


@pytest.mark.parametrize(
    ("more", "status", "sentence"),
    [
        ({"iss": "https://evil.example"}, 502, "cannot be trusted"),
        ({"state": "other"}, 401, "not begun in this browser"),
        ({"state": ""}, 401, "not begun in this browser"),
        ({"error": "access_denied"}, 401, "the identity provider says: access_denied"),
        (
            {"error": "x", "error_description": "<script>alert(1)</script>"},
            401,
            "the identity provider says: <script>alert(1)</script>",
        ),
    ],
)
def test_a_callback_that_is_not_right_is_refused(
    server: Server, liar: Liar, more: dict[str, str], status: int, sentence: str
) -> None:
    answer = come_back(Browser(server), liar, **more)
    failed(answer, status, sentence)
    assert "<script>" not in answer.text


def test_a_provider_that_does_not_answer_is_told_as_that(server: Server, liar: Liar) -> None:
    liar.answers["/token"] = (500, b"")
    failed(come_back(Browser(server), liar), 502, "does not answer now: try again in a minute")


def test_a_forged_or_old_cookie_is_refused(server: Server, liar: Liar) -> None:
    key = auth.derived_key((server.data / "secret").read_text().strip(), "oidc")
    claims = {"state": "s", "nonce": "n", "code_verifier": "v" * 48, "next": "/"}
    for cookie in (
        jwt.encode({**claims, "exp": time.time() - 1}, key, "HS256"),
        jwt.encode({**claims, "exp": time.time() + 60}, "x" * 32, "HS256"),
        jwt.encode({**claims, "exp": time.time() + 60}, None, "none"),
        "x",
    ):
        browser = Browser(server)
        browser.cookies.set("collab_oidc", cookie)
        answer = browser.get("/auth/oidc/callback?code=code&state=s")
        failed(answer, 401, "begin it again")


@pytest.mark.parametrize("keys", [b"<html>", b"[]", b"{}", b'{"keys": 5}', b'{"keys": [{"kty": "RSA"}]}'])
def test_keys_that_are_none_are_not_kept(server: Server, liar: Liar, keys: bytes) -> None:
    liar.answers["/jwks"] = (200, keys)
    liar.header["kid"] = "unknown"  # so that they are asked for
    failed(come_back(Browser(server), liar), 502, "cannot be trusted")
    liar.be_honest()
    assert come_back(Browser(server), liar).status_code == 303


def test_a_new_key_of_the_provider_is_learned(server: Server, liar: Liar) -> None:
    liar.key = RSAKey.generate_key(2048, {"kid": "3", "use": "sig"})
    liar.header["kid"] = "3"
    assert come_back(Browser(server), liar).status_code == 303
    liar.key = RSAKey.generate_key(2048, {"kid": "3", "use": "sig"})  # the same name, another key
    failed(come_back(Browser(server), liar), 502, "cannot be trusted")
    assert come_back(Browser(server), liar).status_code == 303


@pytest.mark.parametrize(
    "next",
    [
        "https://evil.example/",
        "//evil.example/",
        "/\\evil.example/",
        "\\\\evil.example",
        "/\t/evil.example",
        "/\n/evil.example",
        " //evil.example",
        "javascript:alert(1)",
        "",
        "d/x",
        "/" + "x" * 3000,
        "/d/x\r\nSet-Cookie: a=b",
    ],
)
def test_nobody_is_sent_to_another_site(server: Server, liar: Liar, next: str) -> None:
    answer = come_back(Browser(server), liar, next)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")


@pytest.mark.parametrize("next", ["/", "/d/a%2Fb?x=1#y", "/d/é", "/join"])
def test_one_comes_back_to_where_one_was(server: Server, liar: Liar, next: str) -> None:
    answer = come_back(Browser(server), liar, next)
    assert answer.headers["location"] == next.replace("é", "%C3%A9")


def test_only_a_true_email_verified_is_believed(server: Server, liar: Liar) -> None:
    for n, verified in enumerate((False, "true", 1, None)):
        liar.claims = {"sub": f"unverified {n}", "email": "eve@example.org", "email_verified": verified}
        liar.told = {"sub": f"unverified {n}", "email_verified": True}
        eve = Browser(server)
        assert come_back(eve, liar).status_code == 303
        assert eve.me()["email"] is None
    liar.claims = {"sub": "x", "email": None, "name": None, "email_verified": True}
    liar.told = {"sub": "x", "email": "eve@example.org", "email_verified": False, "name": "Eve"}
    eve = Browser(server)
    come_back(eve, liar)
    assert (eve.me()["email"], eve.me()["name"]) == (None, "Eve")


def test_names_and_subjects_of_every_kind_are_taken_or_refused(server: Server, liar: Liar) -> None:
    liar.claims = {"sub": "long", "name": "x" * 500, "email": None}
    liar.told = {"sub": "long"}
    long = Browser(server)
    come_back(long, liar)
    assert long.me()["name"] == "x" * 100
    liar.claims = {"sub": "odd", "name": "\0", "email": "not an address", "email_verified": True}
    odd = Browser(server)
    come_back(odd, liar)
    assert (odd.me()["name"], odd.me()["email"]) == ("not an address", None)
    liar.claims = {"sub": "a\0b"}
    failed(come_back(Browser(server), liar), 422, "without NUL")


def test_a_disabled_account_is_not_let_in_by_its_provider(server: Server, liar: Liar) -> None:
    liar.claims = {"sub": "disabled", "email": "disabled@example.org"}
    come_back(Browser(server), liar)
    id = next(account["id"] for account in accounts(server) if account["email"] == "disabled@example.org")
    token = auth.issue_operator((server.data / "secret").read_text().strip(), 60)
    httpx.patch(
        f"{server.url}/api/accounts/{id}",
        json={"disabled": True},
        headers={"Authorization": f"Bearer {token}"},
    ).raise_for_status()
    failed(come_back(Browser(server), liar), 403, "ask whoever runs this server")


def test_who_signed_up_with_an_address_that_is_another_s_is_out_when_its_owner_comes(
    tmp_path: Path, liar: Liar
) -> None:
    """Out of open documents, too."""

    async def scenario(server: Server) -> None:
        eve = Browser(server)
        made = {"email": "ada@example.org", "password": "not hers to choose", "name": "Eve"}
        assert eve.client.post(f"{server.url}/api/accounts", json=made).status_code == 201
        assert eve.client.post(f"{server.url}/api/documents", json={"name": "d"}).status_code == 201
        cookies = "; ".join(f"{name}={value}" for name, value in eve.cookies.items())
        async with Visitor(server, "d", headers={"Cookie": cookies}) as socket:
            await socket.settle()
            assert socket.closed is None
            ada = Browser(server)
            await asyncio.to_thread(come_back, ada, liar)
            assert ada.me()["email"] == "ada@example.org"
            code, _ = await socket.ended()
            assert code == 4500  # who comes back is asked who it is
        assert not eve.me()["signed_in"]

    server = collab(tmp_path, liar.issuer, signup="open")
    server.start()
    try:
        asyncio.run(scenario(server))
    finally:
        server.kill()


def test_attempts_are_counted(tmp_path: Path, liar: Liar) -> None:
    server = collab(tmp_path, liar.issuer, sign_ins_per_address=3)
    server.start()
    try:
        ada = Browser(server)
        come_back(ada, liar)
        ada.begin()
        failed(ada.get("/auth/oidc"), 429, "try again in")
    finally:
        server.kill()


def test_a_provider_that_says_odd_things_of_itself_is_not_used(tmp_path: Path) -> None:
    liar = Liar()
    server = collab(tmp_path, liar.issuer)
    server.start()
    said: list[tuple[dict[str, object], str]] = [
        ({"issuer": "https://evil.example"}, "write --oidc-issuer exactly so"),
        ({"token_endpoint": "http://evil.example/token"}, "'http://evil.example/token' is no https:// URL"),
        ({"jwks_uri": "https://x:99999/"}, "'https://x:99999/' is no https:// URL"),
        ({"id_token_signing_alg_values_supported": ["HS256", "none"]}, "none of ES256"),
        ({"authorization_endpoint": None}, "authorization_endpoint"),
    ]
    try:
        for change, reason in said:
            metadata = json.dumps(liar.discovery() | change).encode()
            liar.answers["/.well-known/openid-configuration"] = (200, metadata)
            failed(Browser(server).get("/auth/oidc"), 502, "cannot be trusted")
            assert reason in server.log.read_text()
        liar.be_honest()  # it is asked again
        assert come_back(Browser(server), liar).status_code == 303
    finally:
        server.kill()
        liar.server.shutdown()


def test_a_provider_that_is_not_there_is_told_as_that(tmp_path: Path) -> None:
    nobody = reserve_port()
    server = collab(tmp_path, f"http://127.0.0.1:{nobody.getsockname()[1]}")
    server.start()
    try:
        failed(Browser(server).get("/auth/oidc"), 502, "does not answer now: try again in a minute")
        assert httpx.get(f"{server.url}/api/me").status_code == 200
    finally:
        server.kill()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"oidc_issuer": "http://id.example.org"}, "--oidc-issuer must be an https:// URL"),
        ({"oidc_issuer": "id.example.org"}, "--oidc-issuer must be an https:// URL"),
        ({"oidc_issuer": "https://x", "public_url": "https://y"}, "--oidc-issuer needs --oidc-client-id too"),
        ({"oidc_issuer": "https://x", "oidc_client_id": "y"}, "--oidc-issuer needs --public-url too"),
    ],
)
def test_a_setting_that_cannot_be_is_told(given: dict[str, str], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        settings.read(given, {})


def test_without_the_extra_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "authlib", None)
    given = {"oidc_issuer": "https://x", "oidc_client_id": "y", "public_url": "https://z"}
    with pytest.raises(ValueError, match=r"pip install 'collab-server\[oidc\]'"):
        settings.read(given, {})


def test_without_a_provider_there_are_no_such_routes(make_server: Callable[..., Server]) -> None:
    server = make_server()
    for path in ("/auth/oidc", "/auth/oidc/callback"):
        assert httpx.get(f"{server.url}{path}").status_code == 404
