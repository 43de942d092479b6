"""A POST with an Idempotency-Key is done once, whoever sends it how often."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from serverprocess import Server
from visitor import SECRET, bearer, token


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("idempotency"), secret=SECRET, guests="editor")
    server.start()
    yield server
    server.kill()


@pytest.fixture
def ada(server: Server) -> httpx.Client:
    return httpx.Client(base_url=f"{server.url}/api", headers=bearer(token("ada")))


def make(api: httpx.Client, key: str, **body: object) -> httpx.Response:
    return api.post("/documents", json=body, headers={"Idempotency-Key": key})


def test_the_same_request_again_gets_the_first_answer_and_does_nothing(ada: httpx.Client) -> None:
    first = make(ada, "key-1", title="Minutes")
    again = make(ada, "key-1", title="Minutes")
    assert first.status_code == again.status_code == 201
    assert first.content == again.content
    assert first.headers["location"] == again.headers["location"]
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    made = first.json()["name"]
    assert make(ada, "key-2", title="Minutes").json()["name"] != made


def test_another_request_under_the_same_key_is_refused(ada: httpx.Client) -> None:
    make(ada, "key-3", title="Minutes")
    for other in ({"title": "Others"}, {"title": "Minutes", "name": "named"}):
        refused = make(ada, "key-3", **other)
        assert (refused.status_code, refused.json()["code"]) == (422, "idempotency-key-reused")
    headers = {"Idempotency-Key": "key-3"}
    elsewhere = ada.post("/documents?x=1", json={"title": "Minutes"}, headers=headers)
    assert elsewhere.status_code == 422


def test_a_key_is_its_actor_s(server: Server, ada: httpx.Client) -> None:
    mine = make(ada, "key-4", title="Ada's")
    bob = httpx.Client(base_url=f"{server.url}/api", headers=bearer(token("bob")))
    assert make(bob, "key-4", title="Bob's").json()["title"] == "Bob's"
    nobody = httpx.Client(base_url=f"{server.url}/api", headers=bearer(token("ada", exp=1)))
    assert make(nobody, "key-4", title="Ada's").status_code == 401
    assert make(ada, "key-4", title="Ada's").content == mine.content


def test_what_was_refused_may_be_sent_again_with_its_key(ada: httpx.Client) -> None:
    make(ada, "key-5", name="taken")
    assert make(ada, "key-6", name="taken").status_code == 409
    ada.delete("/documents/taken")
    again = make(ada, "key-6", name="taken")
    assert again.status_code == 409
    assert "idempotency-replayed" not in again.headers
    assert make(ada, "key-6", name="free").status_code == 201
    assert make(ada, "key-7", name=5).status_code == 422
    assert make(ada, "key-7", name="five").status_code == 201


def test_of_many_at_once_one_is_done(ada: httpx.Client) -> None:
    before = len(ada.get("/documents?limit=1000").json()["documents"])
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: make(ada, "key-8", title="once"), range(16)))
    assert {answer.status_code for answer in answers} <= {201, 409}
    assert {answer.json()["code"] for answer in answers if answer.status_code == 409} <= {
        "idempotency-key-busy"
    }
    assert len({answer.content for answer in answers if answer.status_code == 201}) == 1
    assert len(ada.get("/documents?limit=1000").json()["documents"]) == before + 1


def test_keys_outlive_the_process(tmp_path: Path) -> None:
    server = Server(tmp_path, secret=SECRET)
    server.start()
    try:
        api = httpx.Client(base_url=f"{server.url}/api", headers=bearer(token("ada")))
        first = make(api, "key-9", title="Minutes")
        server.kill()
        server.start()
        assert make(api, "key-9", title="Minutes").content == first.content
    finally:
        server.kill()


@pytest.mark.parametrize("key", ["", "two words", "x" * 201])
def test_a_key_that_is_none_is_refused(ada: httpx.Client, key: str) -> None:
    refused = make(ada, key, title="Minutes")
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid-request")


def test_somebody_who_will_not_be_known_again_has_no_keys(server: Server) -> None:
    refused = make(httpx.Client(base_url=f"{server.url}/api"), "key-10", title="Minutes")
    assert refused.status_code == 422
    assert "bring a token or a cookie" in refused.json()["detail"]


def test_the_openapi_document_tells_of_the_header_where_it_counts(server: Server) -> None:
    paths = httpx.get(f"{server.url}/api/openapi.json").json()["paths"]

    def headers(path: str, method: str) -> list[str]:
        return [p["name"] for p in paths[path][method].get("parameters", ()) if p["in"] == "header"]

    assert headers("/api/documents", "post") == ["Idempotency-Key"]
    assert headers("/api/documents", "get") == []
