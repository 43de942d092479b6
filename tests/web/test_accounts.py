"""Accounts, over real HTTP and with the real command line."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from serverprocess import Server
from starlette.requests import Request
from starlette.responses import Response
from yclient import Client

from web import auth, session, settings
from web.signin import INVITATION, invitation

PASSWORD = "correct horse"


def command(data: Path, *arguments: str, status: int = 0) -> str:
    """`collab ...` beside the server; returns what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "web", *arguments, f"--data={data}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == status, done.stderr
    return (done.stdout if status == 0 else done.stderr).strip()


def secret(server: Server) -> str:
    return (server.data / "secret").read_text().strip()


def invited(server: Server, email: str) -> str:
    """What `collab invite` prints after the #, without its half second."""
    return invitation(auth.derived_key(secret(server), INVITATION), email)


def browser(server: Server) -> httpx.Client:
    """One that keeps its cookies and says where its requests come from."""
    return httpx.Client(base_url=f"{server.url}/api", headers={"Origin": server.url})


def join(server: Server, email: str, password: str = PASSWORD) -> httpx.Client:
    made = browser(server)
    answer = made.post("/accounts", json={"invitation": invited(server, email), "password": password})
    assert answer.status_code == 201, answer.text
    return made


def sign_in(who: httpx.Client, email: str, password: str = PASSWORD) -> httpx.Response:
    return who.post("/session", json={"email": email, "password": password})


def operator(server: Server) -> httpx.Client:
    return bearer(server, auth.issue_operator(secret(server), 3600))


def bearer(server: Server, token: str) -> httpx.Client:
    return httpx.Client(base_url=f"{server.url}/api", headers={"Authorization": f"Bearer {token}"})


def token(server: Server, subject: str, name: str) -> str:
    return auth.issue(secret(server), subject, audience="collab", seconds=3600, name=name)


def refused(answer: httpx.Response) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["detail"]
    return answer.status_code, answer.json()["code"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One for all tests here that do not count attempts; each has addresses of its own."""
    made = Server(tmp_path_factory.mktemp("accounts"), sign_ins_per_address=100_000, sign_ins_per_email=1_000)
    made.start()
    yield made
    made.kill()


def test_who_is_invited_makes_an_account_and_is_signed_in(server: Server) -> None:
    link = command(
        server.data, "invite", "Ada@Example.org", "--name", "Ada", "--url", "https://docs.example/"
    )
    start, _, invited = link.partition("#")
    assert start == "https://docs.example/join"
    ada = browser(server)
    assert ada.get("/me").json()["signed_in"] is False
    made = ada.post("/accounts", json={"invitation": invited, "password": PASSWORD})
    assert made.status_code == 201
    me = ada.get("/me").json()
    assert made.json() == me
    assert (me["kind"], me["name"], me["email"], me["signed_in"], me["how"]) == (
        "user",
        "Ada",
        "ada@example.org",
        True,
        "account",
    )
    assert me["actor"].startswith("account:")
    ends = datetime.fromisoformat(me["expires_at"]) - datetime.now(UTC)
    assert timedelta(days=29, hours=23) < ends <= timedelta(days=30)
    elsewhere = browser(server)
    assert sign_in(elsewhere, " ADA@example.org ").json()["actor"] == me["actor"]


def test_an_invitation_works_once(server: Server) -> None:
    new = {"invitation": invited(server, "once@x.org"), "password": PASSWORD, "name": "Once"}
    for status in (201, 410):
        answer = browser(server).post("/accounts", json=new)
        assert answer.status_code == status
    assert refused(answer) == (410, "invitation-used")


def test_a_second_invitation_sets_a_forgotten_password(server: Server) -> None:
    before = join(server, "forgetful@x.org", "a forgotten one")
    after = join(server, "forgetful@x.org", "a new password")
    assert before.get("/me").json()["signed_in"] is False
    assert after.get("/me").json()["signed_in"] is True
    assert refused(sign_in(browser(server), "forgetful@x.org", "a forgotten one")) == (401, "sign-in-refused")
    assert sign_in(browser(server), "forgetful@x.org", "a new password").status_code == 200


def test_invitations_need_the_secret_and_an_address(server: Server, tmp_path: Path) -> None:
    assert "there is no secret in" in command(tmp_path, "invite", "ada@x.org", status=2)
    assert not list(tmp_path.iterdir())
    assert "an e-mail address looks like" in command(server.data, "invite", "ada", status=2)
    assert "a name must have" in command(server.data, "invite", "ada@x.org", "--name", "", status=2)
    stranger = tmp_path / "secret"
    stranger.write_text("t" * 32)
    foreign = command(tmp_path, "invite", "ada@x.org").partition("#")[2]
    answer = browser(server).post("/accounts", json={"invitation": foreign, "password": PASSWORD})
    assert refused(answer) == (400, "invitation-invalid")


def test_every_refusal_to_sign_in_is_the_same(server: Server) -> None:
    join(server, "here@x.org")
    off = join(server, "off@x.org").get("/me").json()["actor"].partition(":")[2]
    assert operator(server).patch(f"/accounts/{off}", json={"disabled": True}).json()["disabled"] is True
    answers = [
        sign_in(browser(server), "here@x.org", "wrong"),
        sign_in(browser(server), "here@x.org", ""),
        sign_in(browser(server), "nobody@x.org"),
        sign_in(browser(server), "off@x.org"),
    ]
    assert {refused(answer) for answer in answers} == {(401, "sign-in-refused")}
    assert len({answer.text for answer in answers}) == 1
    assert len({tuple(name for name, _ in answer.headers.items()) for answer in answers}) == 1
    assert all("set-cookie" not in answer.headers for answer in answers)


def test_each_sign_in_has_a_secret_of_its_own_and_ends_the_one_before_it(server: Server) -> None:
    ada = join(server, "fixed@x.org")
    first = ada.cookies[session.PLAIN]
    # Nobody can choose the secret that a victim will have.
    ada.cookies.set(session.PLAIN, first, domain="127.0.0.1")
    assert sign_in(ada, "fixed@x.org").status_code == 200
    second = ada.cookies[session.PLAIN]
    assert second != first
    thief = browser(server)
    thief.cookies.set(session.PLAIN, first)
    assert thief.get("/me").json()["signed_in"] is False
    assert ada.get("/me").json()["signed_in"] is True


def test_signing_out_ends_the_session_on_the_server(server: Server) -> None:
    ada = join(server, "out@x.org")
    stolen = browser(server)
    stolen.cookies.set(session.PLAIN, ada.cookies[session.PLAIN])
    assert stolen.get("/me").json()["signed_in"] is True
    answer = ada.delete("/session")
    assert answer.status_code == 204
    assert 'collab_session=""' in answer.headers["set-cookie"]
    assert session.PLAIN not in ada.cookies
    for who in (ada, stolen):
        assert who.get("/me").json()["signed_in"] is False
    assert ada.delete("/session").status_code == 204


def test_the_cookie_is_out_of_reach_of_scripts_and_of_other_sites(server: Server) -> None:
    ada = join(server, "cookie@x.org")
    cookie = sign_in(ada, "cookie@x.org").headers["set-cookie"]
    name, *attributes = cookie.split("; ")
    assert name.startswith("collab_session=")
    assert sorted(attributes) == ["HttpOnly", "Max-Age=2592000", "Path=/", "SameSite=lax"]
    assert ada.get("/me").headers["cache-control"] == "no-store"


def test_over_https_the_cookie_is_secure_and_this_host_s_alone() -> None:
    def request(*cookies: str) -> Request:
        headers = [(b"cookie", "; ".join(cookies).encode())]
        return Request(
            {"type": "http", "scheme": "https", "server": ("x", 443), "path": "/", "headers": headers}
        )

    response = Response()
    session.keep(request(), response, "secret", datetime.now(UTC) + timedelta(days=30))
    attributes = set(response.headers["set-cookie"].split("; "))
    assert {"__Host-collab_session=secret", "Secure", "HttpOnly", "Path=/", "SameSite=lax"} < attributes
    assert "domain" not in response.headers["set-cookie"].lower()
    assert session.secret_of(request("collab_session=tossed", "__Host-collab_session=own")) == "own"
    assert session.secret_of(request("collab_session=tossed")) is None
    session.forget(request(), response)
    assert "__Host-collab_session=" in response.headers.getlist("set-cookie")[1]
    assert "Secure" in response.headers.getlist("set-cookie")[1]


def test_a_new_password_ends_all_sessions_but_the_one_that_set_it(server: Server) -> None:
    here = join(server, "change@x.org")
    there = browser(server)
    sign_in(there, "change@x.org")
    change = {"current": "wrong", "password": "another password"}
    assert refused(here.put("/me/password", json=change)) == (401, "sign-in-refused")
    assert there.get("/me").json()["signed_in"] is True
    assert here.put("/me/password", json={**change, "current": PASSWORD}).status_code == 204
    assert here.get("/me").json()["signed_in"] is True
    assert there.get("/me").json()["signed_in"] is False
    assert refused(sign_in(there, "change@x.org")) == (401, "sign-in-refused")
    assert sign_in(there, "change@x.org", "another password").status_code == 200
    assert refused(browser(server).put("/me/password", json=change)) == (401, "not-authenticated")


def test_people_are_renamed_and_guests_too_but_who_has_a_token_is_not(server: Server) -> None:
    ada = join(server, "name@x.org")
    assert ada.patch("/me", json={"name": "  Countess   Ada "}).json()["name"] == "Countess Ada"
    assert ada.get("/me").json()["name"] == "Countess Ada"
    guest = browser(server)
    named = guest.patch("/me", json={"name": "Somebody"}).json()
    assert (named["kind"], named["name"], named["signed_in"], named["how"]) == (
        "guest",
        "Somebody",
        False,
        "guest",
    )
    assert guest.get("/me").json() == named
    holder = bearer(server, token(server, "grace", "Grace"))
    me = holder.get("/me").json()
    assert (me["actor"], me["name"], me["how"], me["email"]) == ("user:grace", "Grace", "token", None)
    assert refused(holder.patch("/me", json={"name": "Eve"})) == (403, "forbidden")


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "said"),
    [
        ("POST", "/session", {"email": "ada", "password": "x"}, 422, "an e-mail address looks like"),
        ("POST", "/session", {"email": "a@x.org"}, 422, "password"),
        ("POST", "/session", {"email": "a@x.org", "password": "x" * 1025}, 422, "1024"),
        ("POST", "/session", {"email": "a@x.org", "password": "é" * 600}, 422, "1024 bytes"),
        ("POST", "/session", {"email": "a\0@x.org", "password": "x"}, 422, "e-mail"),
        ("POST", "/session", {"email": "a@x.org", "password": "x", "admin": True}, 422, "admin"),
        ("POST", "/session", ["a@x.org", "x"], 422, "body"),
        ("POST", "/accounts", {"password": PASSWORD}, 422, "needs an invitation"),
        ("POST", "/accounts", {"invitation": "x", "password": PASSWORD}, 400, "copy the whole link"),
        ("POST", "/accounts", {"invitation": "x", "email": "a@x.org", "password": "x"}, 422, "no other"),
        ("POST", "/accounts", {"email": "a@x.org", "password": PASSWORD}, 403, "by invitation"),
        ("PATCH", "/me", {"name": ""}, 422, "visible characters"),
        ("PATCH", "/me", {"name": "x" * 101}, 422, "100"),
        ("PATCH", "/me", {"name": "a\x1bb"}, 422, "control characters"),
    ],
)
def test_a_bad_request_says_what_is_wrong(
    server: Server, method: str, path: str, body: object, status: int, said: str
) -> None:
    answer = browser(server).request(method, path, json=body)
    assert (answer.status_code, said in answer.json()["detail"]) == (status, True), answer.text


@pytest.mark.parametrize("field", ["email", "password"])
def test_half_a_surrogate_pair_is_a_bad_request(server: Server, field: str) -> None:
    body = {"email": "a@x.org", "password": PASSWORD, field: "a@x.org\udc80"}
    headers = {"Content-Type": "application/json"}
    answer = browser(server).post("/session", content=json.dumps(body), headers=headers)
    assert answer.status_code == 422


@pytest.mark.parametrize(("password", "said"), [("nine char", "10 characters"), ("é" * 513, "1024 bytes")])
def test_a_password_that_cannot_be_is_told_why_and_the_invitation_stays_good(
    server: Server, password: str, said: str
) -> None:
    new = {"invitation": invited(server, f"{len(password)}@x.org"), "password": password}
    answer = browser(server).post("/accounts", json=new)
    assert refused(answer) == (422, "invalid-request")
    assert said in answer.json()["detail"]
    assert browser(server).post("/accounts", json={**new, "password": PASSWORD}).status_code == 201


def test_a_page_of_another_site_signs_nobody_in_or_out(server: Server) -> None:
    ada = join(server, "csrf@x.org")
    foreign: dict[str, Any] = {"headers": {"Origin": "https://evil.example"}}
    answers = [
        ada.post("/session", json={"email": "csrf@x.org", "password": PASSWORD}, **foreign),
        ada.delete("/session", **foreign),
        ada.put("/me/password", json={"current": PASSWORD, "password": "another password"}, **foreign),
        ada.patch("/me", json={"name": "Eve"}, **foreign),
        ada.post(
            "/accounts", json={"invitation": invited(server, "e@x.org"), "password": PASSWORD}, **foreign
        ),
    ]
    assert {refused(answer) for answer in answers} == {(403, "forbidden")}
    assert ada.get("/me").json()["name"] == "csrf"


def test_operators_see_all_accounts_and_nobody_else_does(server: Server) -> None:
    ada = join(server, "listed@x.org")
    id = ada.get("/me").json()["actor"].partition(":")[2]
    everyone = operator(server)
    found: list[dict[str, Any]] = []
    cursor = ""
    while True:
        page = everyone.get("/accounts", params={"limit": 2, **({"cursor": cursor} if cursor else {})}).json()
        found += page["accounts"]
        if (cursor := page["next"]) is None:
            break
    mine = next(account for account in found if account["id"] == id)
    assert (mine["email"], mine["disabled"], mine["issuer"]) == ("listed@x.org", False, None)
    assert not {"password", "password_hash"} & set(mine)
    assert refused(everyone.patch("/accounts/none", json={"disabled": True})) == (404, "account-not-found")
    assert refused(everyone.get("/accounts?cursor=none")) == (422, "invalid-request")
    for who in ({}, {"Authorization": f"Bearer {token(server, 'ada', 'Ada')}"}):
        assert refused(ada.get("/accounts", headers=who)) == (401, "not-authenticated")
        answer = ada.patch(f"/accounts/{id}", json={"disabled": True}, headers=who)
        assert refused(answer) == (401, "not-authenticated")


async def _closed_within(seconds: float, cookie: str, server: Server, end: Callable[[], object]) -> int:
    """The close code of a socket that is open with ``cookie`` when ``end`` is called."""
    client = Client(server.ws_url, "minutes")
    await client.open(additional_headers={"Cookie": cookie, "Origin": server.url})
    await asyncio.wait_for(client.synced.wait(), 10)
    await asyncio.to_thread(end)
    await client.until(lambda: client.closed is not None, seconds)
    assert client.closed is not None
    return client.closed[0]


@pytest.mark.parametrize("how", ["disabled", "signed out", "password reset"])
def test_sockets_end_within_a_second_when_a_session_does(server: Server, how: str) -> None:
    email = f"{how.replace(' ', '.')}@x.org"
    ada = join(server, email)
    id = ada.get("/me").json()["actor"].partition(":")[2]
    cookie = f"{session.PLAIN}={ada.cookies[session.PLAIN]}"
    everyone, again = operator(server), invited(server, email)
    ends: dict[str, Callable[[], object]] = {
        "disabled": lambda: everyone.patch(f"/accounts/{id}", json={"disabled": True}),
        "signed out": lambda: ada.delete("/session"),
        "password reset": lambda: browser(server).post(
            "/accounts", json={"invitation": again, "password": "another password"}
        ),
    }
    assert asyncio.run(_closed_within(1.5, cookie, server, ends[how])) == 4500
    thief = browser(server)
    thief.cookies.set(session.PLAIN, ada.cookies.get(session.PLAIN) or cookie.partition("=")[2])
    assert thief.get("/me").json()["signed_in"] is False


def test_an_enabled_account_signs_in_again(server: Server) -> None:
    ada = join(server, "back@x.org")
    id = ada.get("/me").json()["actor"].partition(":")[2]
    for disabled, status in ((True, 401), (False, 200)):
        operator(server).patch(f"/accounts/{id}", json={"disabled": disabled})
        assert sign_in(browser(server), "back@x.org").status_code == status


def test_guesses_are_answered_with_when_to_try_again(make_server: Callable[..., Server]) -> None:
    server = make_server(sign_ins_per_email=3, sign_ins_per_address=5)
    answers = [sign_in(browser(server), "ada@x.org", "wrong") for _ in range(4)]
    assert [answer.status_code for answer in answers] == [401, 401, 401, 429]
    assert refused(answers[3]) == (429, "rate-limited")
    assert 1 <= int(answers[3].headers["retry-after"]) <= 20
    assert sign_in(browser(server), "bob@x.org", "wrong").status_code == 401
    assert sign_in(browser(server), "eve@x.org", "wrong").status_code == 429
    metrics = httpx.get(f"{server.url}/metrics").text
    assert 'collab_limited_total{limit="sign-in"} 2.0' in metrics


def test_where_sign_up_is_open_everybody_makes_an_account(make_server: Callable[..., Server]) -> None:
    server = make_server(signup="open")
    assert browser(server).get("/sign-in").json() == {"signup": True, "oidc": None}
    ada = browser(server)
    new = {"email": "ada@x.org", "password": PASSWORD, "name": "Ada"}
    assert ada.post("/accounts", json=new).json()["name"] == "Ada"
    assert ada.get("/me").json()["email"] == "ada@x.org"
    assert refused(browser(server).post("/accounts", json=new)) == (409, "account-exists")
    assert sign_in(browser(server), "ada@x.org").status_code == 200


def test_ways_in_are_told(server: Server) -> None:
    assert browser(server).get("/sign-in").json() == {"signup": False, "oidc": None}


def test_accounts_outlive_the_server(make_server: Callable[..., Server]) -> None:
    server = make_server()
    ada = join(server, "ada@x.org")
    server.kill()
    server.start()
    assert ada.get("/me").json()["email"] == "ada@x.org"


def test_no_secret_is_in_the_log(make_server: Callable[..., Server]) -> None:
    server = make_server(log_level="debug")
    link = invited(server, "ada@x.org")
    ada = browser(server)
    ada.post("/accounts", json={"invitation": link, "password": PASSWORD})
    cookie = ada.cookies[session.PLAIN]
    sign_in(ada, "ada@x.org", "a wrong password")
    ada.post("/session", json={"email": "ada@x.org", "password": "x" * 1025})
    log = server.log.read_text()
    for word in (link, PASSWORD, "a wrong password", cookie, "x" * 1025, "argon2id"):
        assert word not in log


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"signup": "on"}, "--signup must be off or open"),
        ({"sign_ins_per_email": "0"}, "--sign-ins-per-email must be more than 0"),
        ({"sign_ins_per_address": "0"}, "--sign-ins-per-address must be more than 0"),
    ],
)
def test_a_setting_that_cannot_be_is_told(given: dict[str, str], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        settings.read(given, {})


def test_who_signs_in_keeps_what_was_shared_with_the_guest_that_they_were(
    make_server: Callable[..., Server],
) -> None:
    server = make_server(guests="none")
    ada, bob = join(server, "ada@example.org"), browser(server)
    assert ada.post("/documents", json={"name": "plan"}).status_code == 201
    url = ada.post("/documents/plan/links", json={"role": "editor"}).json()["url"]
    opened = bob.post("/links/open", json={"secret": url.partition("#")[2]})
    assert opened.json() == {"document": "plan", "role": "editor"}
    assert bob.get("/documents/plan").json()["role"] == "editor"
    answer = bob.post("/accounts", json={"invitation": invited(server, "bob@x.org"), "password": PASSWORD})
    assert answer.status_code == 201
    assert bob.get("/documents/plan").json()["role"] == "editor"
    assert bob.delete("/session").status_code == 204
    assert bob.get("/documents/plan").status_code == 401, "the browser's next user finds nothing of it"
    assert sign_in(bob, "bob@x.org").status_code == 200
    assert bob.get("/documents/plan").json()["role"] == "editor"
    link = ada.get("/documents/plan/links").json()["links"][0]["id"]
    assert ada.delete(f"/documents/plan/links/{link}").status_code == 204
    assert bob.get("/documents/plan").status_code == 404


def test_a_protected_link_opens_with_its_password_only(make_server: Callable[..., Server]) -> None:
    server = make_server(guests="none", sign_ins_per_email=3)
    ada, bob = join(server, "ada@example.org"), browser(server)
    ada.post("/documents", json={"name": "plan"})
    made = ada.post("/documents/plan/links", json={"password": PASSWORD}).json()
    assert made["password"] is True
    given = {"secret": made["url"].partition("#")[2]}
    assert refused(bob.post("/links/open", json=given)) == (403, "link-password")
    wrong = given | {"password": "wrong horse"}
    assert refused(bob.post("/links/open", json=wrong)) == (403, "link-password")
    right = bob.post("/links/open", json=given | {"password": PASSWORD})
    assert right.json() == {"document": "plan", "role": "viewer"}
    assert refused(bob.post("/links/open", json=wrong)) == (403, "link-password")
    assert refused(bob.post("/links/open", json=wrong)) == (429, "rate-limited")
    shown = httpx.get(
        f"{server.url}/api/documents/plan", headers={"Authorization": f"Bearer {given['secret']}"}
    )
    assert shown.status_code != 200, "as a token it would go around its password"
