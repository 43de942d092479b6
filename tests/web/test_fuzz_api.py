"""The REST API under whatever its own description allows and forbids, and under payloads (R25): it never
fails, and it never tells anybody of what is another's."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis.core.result import Ok
from schemathesis.generation import GenerationMode
from serverprocess import Server
from visitor import SECRET, bearer, token

SEED = int(os.environ.get("COLLAB_SEED", "1"))
EXAMPLES = int(os.environ.get("COLLAB_FUZZ_EXAMPLES", "15"))  # for each operation, mode and credential
# Every route may answer so; it is not written at each. 400 is for a body that is no JSON.
EVERYWHERE = {"400", "401", "403", "405", "408", "413", "422", "429", "431"}
CANARY = "canary-7f3a"  # in all that is another's


@schemathesis.serializer("application/jsonl")
def lines(_: Any, value: Any) -> bytes:
    return json.dumps(value).encode() + b"\n"


@dataclass
class Attacker:
    """Somebody with a credential, and the names of what they may know of."""

    server: Server
    headers: dict[str, str]
    document: str


@pytest.fixture(scope="module")
def protected(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(
        tmp_path_factory.mktemp("protected"),
        secret=SECRET,
        sign_ins_per_address=1_000_000,
        sign_ins_per_email=1_000_000,
    )
    server.start()
    root = httpx.Client(base_url=f"{server.url}/api", headers=bearer(token("root")))
    for name in ("shared", f"{CANARY} hidden", f"{CANARY} deleted"):
        assert root.post("/documents", json={"name": name, "title": f"{CANARY} title"}).status_code == 201
    root.patch("/documents/shared", json={"title": "shared"})
    for name in ("shared", f"{CANARY} hidden"):
        root.post(f"/documents/{name}/links", json={"label": f"{CANARY} label"})
        root.put(f"/documents/{name}/members/user:{CANARY}", json={"role": "editor"})
    root.delete(f"/documents/{CANARY} deleted")
    assert root.put("/documents/shared/members/user:viewer", json={"role": "viewer"}).status_code == 204
    yield server
    check_alive(server)
    server.kill()


@pytest.fixture(scope="module")
def open_house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("open"), sign_ins_per_address=1_000_000)
    server.start()
    httpx.post(f"{server.url}/api/documents", json={"name": "shared"})
    yield server
    check_alive(server)
    server.kill()


def check_alive(server: Server) -> None:
    assert server.alive
    log = server.log.read_text()
    assert "Traceback" not in log, log[-3000:]


@pytest.fixture(scope="module")
def owner(open_house: Server) -> Attacker:
    """A guest out of the box, who may do everything."""
    return Attacker(open_house, {}, "shared")


@pytest.fixture(scope="module")
def viewer(protected: Server) -> Attacker:
    return Attacker(protected, bearer(token("viewer")), "shared")


@pytest.fixture(scope="module")
def stranger(protected: Server) -> Attacker:
    return Attacker(protected, {}, "shared")


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=["valid", "invalid"])
@pytest.mark.parametrize("who", ["owner", "viewer", "stranger"])
def test_no_request_that_can_be_made_up_makes_the_server_fail(
    request: pytest.FixtureRequest, who: str, mode: GenerationMode
) -> None:
    attacker: Attacker = request.getfixturevalue(who)
    schema = schemathesis.openapi.from_url(f"{attacker.server.url}/api/openapi.json")
    with requests.Session() as session:
        operations = 0
        for result in schema.get_all_operations():
            assert isinstance(result, Ok), result
            operation = result.ok()
            operations += attack(attacker, session, operation, mode)
        assert operations > (20 if mode is GenerationMode.POSITIVE else 10)


def attack(attacker: Attacker, session: requests.Session, operation: Any, mode: GenerationMode) -> int:
    strategy = operation.as_strategy(generation_mode=mode)

    @seed(SEED)
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=strategy, known=st.integers(0, 2))
    def check(case: Any, known: int) -> None:
        if known and "document" in (case.path_parameters or {}):
            case.path_parameters["document"] = attacker.document
        if case.path.endswith("/updates") and case.query:
            for patience in ("wait", "follow"):  # both would take what they ask for: a minute, and for ever
                case.query.pop(patience, None)
        session.cookies.clear()
        answer = case.call(session=session, headers=attacker.headers, allow_redirects=False)
        body = answer.content.decode("utf-8", "replace")
        assert answer.status_code < 500, (answer.status_code, body, case.as_curl_command())
        assert CANARY not in body, case.as_curl_command()
        if answer.status_code >= 400:
            problem = answer.json()
            assert set(problem) == {"type", "title", "status", "code", "detail"}
            assert problem["detail"]
        declared = set(operation.definition.raw["responses"]) | EVERYWHERE
        assert str(answer.status_code) in declared, (answer.status_code, case.as_curl_command())

    try:
        check()
    except Unsatisfiable:  # nothing can be wrong about it
        assert mode is GenerationMode.NEGATIVE
        return 0
    return 1


# --- payloads ----------------------------------------------------------------------------------------

INJECTIONS = [
    "' OR '1'='1",
    "' OR 1=1 --",
    "'; DROP TABLE documents; --",
    "' UNION SELECT name FROM documents --",
    '" OR ""="',
    "1) OR (1=1",
    "%",
    "_",
    "%%",
    "\\",
    "\\%",
    "*",
    "?",
    ":name",
    "$1",
    "%(name)s",
    "{0}",
    "{{7*7}}",
    "${7*7}",
    "<script>alert(1)</script>",
    "\r\nSet-Cookie: x=y",
    "\u0000",
    "😀",
    "\ud83d",
    "\u202e\u2066",
    "../../../../etc/passwd",
    "..\\..\\windows",
    "a" * 255,
    "é" * 127,
    "NULL",
    "nan",
    "-1",
    "0x7f",
    "9" * 400,
    "[]",
    "true",
    "/",
    "//",
    "%2e%2e",
    "%252e",
    ";",
    "|id",
    "$(id)",
    "`id`",
]


def quoted(payload: str) -> str:
    return "".join(f"%{byte:02X}" for byte in payload.encode("utf-8", "surrogatepass"))


@pytest.mark.parametrize("payload", INJECTIONS)
def test_payloads_are_text_and_nothing_else(viewer: Attacker, stranger: Attacker, payload: str) -> None:
    for attacker in (viewer, stranger):
        api = httpx.Client(base_url=f"{attacker.server.url}/api", headers=attacker.headers)
        text = quoted(payload)
        for method, path, body in (
            ("GET", f"/documents?q={text}", None),
            ("GET", f"/documents?cursor={text}", None),
            ("GET", f"/documents?limit={text}", None),
            ("GET", f"/documents/{text}", None),
            ("GET", f"/documents/{text}/content", None),
            ("GET", f"/documents/shared/content?format={text}", None),
            ("GET", f"/documents/{text}/members", None),
            ("PUT", f"/documents/shared/members/{text}", {"role": "owner"}),
            ("DELETE", f"/documents/shared/members/{text}", None),
            ("DELETE", f"/documents/shared/links/{text}", None),
            ("PATCH", "/documents/shared", {"title": payload}),
            ("POST", "/links/open", {"secret": payload}),
            ("POST", "/links/open", {"secret": f"link_{payload}"}),
            ("GET", f"/accounts?cursor={text}", None),
            ("PATCH", f"/accounts/{text}", {"disabled": True}),
        ):
            content = None if body is None else json.dumps(body)
            answer = api.request(method, path, content=content, headers={"Content-Type": "application/json"})
            assert answer.status_code < 500, (method, path, answer.text)
            assert CANARY not in answer.text, (method, path)
            assert "set-cookie" not in answer.headers or "x=y" not in answer.headers["set-cookie"]
            if path.startswith(("/documents?q", "/documents?cursor")) and answer.status_code == 200:
                assert attacker is viewer or answer.json()["documents"] == []


@pytest.mark.parametrize("payload", INJECTIONS)
def test_payloads_are_kept_as_they_are(owner: Attacker, payload: str) -> None:
    api = httpx.Client(base_url=f"{owner.server.url}/api")
    headers = {"Content-Type": "application/json"}
    made = api.post("/documents", content=json.dumps({"title": payload}), headers=headers)
    if made.status_code == 422:
        assert payload in ("\0", "\ud83d")
        return
    assert made.status_code == 201, made.text
    name = made.json()["name"]
    assert api.get(f"/documents/{name}").json()["title"] == payload
    found = [
        d["name"] for d in api.get(f"/documents?limit=1000&q={quoted(payload[:200])}").json()["documents"]
    ]
    assert name in found
    named = api.post("/documents", content=json.dumps({"name": payload}), headers=headers)
    assert named.status_code in (201, 400, 409), named.text
    if named.status_code == 201:
        assert api.get(f"/documents/{quoted(payload)}").json()["name"] == payload
        assert named.headers["location"].isascii()


def test_what_is_another_s_is_not_there_whichever_way_it_is_asked_for(protected: Server) -> None:
    """Names, numbers, links and cursors of others, for somebody who has signed in and something shared."""
    for headers in (bearer(token("viewer")), bearer(token("eve"))):
        api = httpx.Client(base_url=f"{protected.url}/api", headers=headers)
        for name in (f"{CANARY} hidden", f"{CANARY} deleted", "nothing at all"):
            path = f"/documents/{quoted(name)}"
            told = set()
            for method, end, body in (
                ("GET", "", None),
                ("PATCH", "", {"title": "x"}),
                ("PATCH", "", {"deleted": False}),
                ("DELETE", "", None),
                ("GET", "/content", None),
                ("GET", "/content?format=yjs", None),
                ("GET", "/members", None),
                ("PUT", "/members/user:eve", {"role": "owner"}),
                ("DELETE", "/members/user:root", None),
                ("GET", "/links", None),
                ("POST", "/links", {}),
                ("DELETE", "/links/0", None),
            ):
                answer = api.request(method, path + end, json=body)
                assert answer.status_code == 404, (method, path, end, answer.text)
                told.add(answer.json()["code"])
            if CANARY in name:
                assert told == {"document-not-found"}, "deleted or hidden sounds as if it had never been"
        for query in ("", "?q=canary", "?q=title", "?q=hidden", "?q=%25", "?limit=1000"):
            assert CANARY not in api.get(f"/documents{query}").text
        for changed in (0, 1, 2**62, -1):
            for key in (0, 1, 2, 3, 2**31 - 1, -1):
                cursor = base64.urlsafe_b64encode(json.dumps(["changed", 0, changed, key]).encode()).decode()
                assert CANARY not in api.get(f"/documents?cursor={cursor}").text


@pytest.mark.parametrize(
    "given", [b"", b"{", b"null", b"[]", b'"x"', b"\xff", b"[" * 100_000, b'{"a":' * 50_000]
)
@pytest.mark.parametrize("kind", ["application/json", "text/plain", "", "application/json; charset=utf-7"])
def test_a_body_that_is_none_is_a_bad_request(owner: Attacker, given: bytes, kind: str) -> None:
    headers = {"Content-Type": kind} if kind else {}
    for method, path in (
        ("POST", "/documents"),
        ("PATCH", "/documents/shared"),
        ("PUT", "/documents/shared/members/user:x"),
        ("POST", "/documents/shared/links"),
        ("POST", "/links/open"),
        ("PATCH", "/me"),
    ):
        answer = httpx.request(method, f"{owner.server.url}/api{path}", content=given, headers=headers)
        assert answer.status_code in (400, 413, 422), (method, path, answer.status_code)
        assert answer.json()["detail"]
