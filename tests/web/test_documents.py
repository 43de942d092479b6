"""The documents API, over real HTTP."""

from __future__ import annotations

import asyncio
from urllib.parse import quote

import httpx
import pytest
from pictures import PNG
from pycrdt import Doc, Map, Text
from serverprocess import Server
from yclient import Client, client

from collab import protocol


@pytest.fixture
def api(shared_server: Server) -> httpx.Client:
    return httpx.Client(base_url=f"{shared_server.url}/api")


def names(api: httpx.Client) -> list[str]:
    return [d["name"] for d in api.get("/documents?limit=1000").json()["documents"]]


def path(name: str) -> str:
    return f"/documents/{quote(name, safe='')}"


def test_a_document_is_made_listed_renamed_deleted_and_brought_back(api: httpx.Client) -> None:
    made = api.post("/documents", json={"name": "minutes", "title": "Minutes"})
    assert made.status_code == 201
    assert made.headers["location"] == "/api/documents/minutes"
    assert made.json()["head"] == 0
    assert "minutes" in names(api)
    assert api.patch("/documents/minutes", json={"title": "Of Monday"}).json()["title"] == "Of Monday"
    assert api.delete("/documents/minutes").status_code == 204
    for answer in (
        api.get("/documents/minutes"),
        api.get("/documents/minutes/content"),
        api.patch("/documents/minutes", json={"title": "x"}),
        api.delete("/documents/minutes"),
    ):
        assert answer.status_code == 410
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["code"] == "document-deleted"
    assert "minutes" not in names(api)
    assert api.patch("/documents/minutes", json={"deleted": False}).json()["title"] == "Of Monday"


def test_a_document_without_a_name_gets_one_nobody_can_guess(api: httpx.Client) -> None:
    made = {api.post("/documents", json={}).json()["name"] for _ in range(3)}
    assert len(made) == 3
    assert all(len(name) >= 12 for name in made)


@pytest.mark.parametrize("name", ["a/b", "with space", "ü字🎉", "100%", "../x", "a?b#c", "x" * 255, "%2F"])
def test_names_of_every_kind_are_told_apart(api: httpx.Client, shared_server: Server, name: str) -> None:
    assert api.post("/documents", json={"name": name}).status_code == 201
    assert api.get(path(name)).json()["name"] == name

    async def write() -> None:
        async with client(shared_server.ws_url, name) as c:
            await c.insert(0, "here")
            await c.saved()

    asyncio.run(write())
    assert api.get(path(name) + "/content").text == "here"


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"name": ""}, 400, "invalid-name"),
        ({"name": "x" * 256}, 400, "invalid-name"),
        ({"name": "a\0b"}, 400, "invalid-name"),
        ({"name": ".."}, 400, "invalid-name"),
        ({"name": 7}, 422, "invalid-request"),
        ({"nmae": "typo"}, 422, "invalid-request"),
        ({"title": "x" * 501}, 422, "invalid-request"),
    ],
)
def test_a_bad_request_says_what_is_wrong(
    api: httpx.Client, body: dict[str, object], status: int, code: str
) -> None:
    answer = api.post("/documents", json=body)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.json()["detail"]


def test_errors_have_stable_codes(api: httpx.Client) -> None:
    api.post("/documents", json={"name": "taken"})
    for answer, status, code in (
        (api.post("/documents", json={"name": "taken"}), 409, "document-exists"),
        (api.get("/documents/none"), 404, "document-not-found"),
        (api.get("/documents/none/content"), 404, "document-not-found"),
        (api.get("/documents/%ff"), 400, "invalid-name"),
        (api.get("/documents?cursor=nonsense"), 422, "invalid-request"),
        (api.get("/documents?limit=0"), 422, "invalid-request"),
        (api.put("/documents/taken"), 405, "method-not-allowed"),
        (api.get("/nothing"), 404, "not-found"),
    ):
        assert (answer.status_code, answer.json()["code"]) == (status, code)
        assert answer.headers["content-type"] == "application/problem+json"


def test_content_is_markdown_or_the_whole_yjs_state_with_an_etag(
    api: httpx.Client, shared_server: Server
) -> None:
    words = "# Café 字\n\nwords 🎉\n"

    async def write() -> None:
        async with client(shared_server.ws_url, "d") as c:
            await c.insert(0, words)
            await c.saved()

    asyncio.run(write())
    content = api.get("/documents/d/content")
    assert content.headers["content-type"] == "text/markdown; charset=utf-8"
    assert content.text == words
    assert (
        api.get("/documents/d/content", headers={"If-None-Match": content.headers["etag"]}).status_code == 304
    )
    state = api.get("/documents/d/content?format=yjs")
    doc: Doc[Text] = Doc()
    doc.apply_update(state.content)
    assert str(doc.get("content", type=Text)) == words


def test_deleting_closes_sockets_with_4404_and_a_client_that_comes_back_does_not_make_it_again(
    api: httpx.Client, shared_server: Server
) -> None:
    async def scenario() -> None:
        async with client(shared_server.ws_url, "doomed") as c:
            await c.insert(0, "mine")
            await c.saved()
            await asyncio.to_thread(api.delete, "/documents/doomed")
            code, reason = await c.ended()
            assert code == 4404
            assert reason
        again = await Client(shared_server.ws_url, "doomed", c.doc).open()
        assert (await again.ended())[0] == 4404

    asyncio.run(scenario())
    assert api.get("/documents/doomed").status_code == 410
    assert "doomed" not in names(api)


def test_the_list_is_newest_change_first_and_pages_with_a_cursor(
    api: httpx.Client, shared_server: Server
) -> None:
    for name in "abcde":
        api.post("/documents", json={"name": f"paged-{name}", "title": f"Title {name}"})

    async def touch() -> None:
        async with client(shared_server.ws_url, "paged-b") as c:
            await c.insert(0, "new")
            await c.saved()

    asyncio.run(touch())
    seen: list[str] = []
    cursor = None
    while True:
        params = {"limit": 2, "q": "paged-", **({"cursor": cursor} if cursor else {})}
        page = api.get("/documents", params=params).json()
        seen += [d["name"][-1] for d in page["documents"]]
        cursor = page["next"]
        if cursor is None:
            break
    assert seen == ["b", "e", "d", "c", "a"]
    assert [d["name"] for d in api.get("/documents?q=title+C").json()["documents"]] == ["paged-c"]


def test_a_document_is_made_with_what_it_says(api: httpx.Client) -> None:
    text = "---\ntags: a\n---\n\n# Ünder 😀\n" * 2000
    made = api.post("/documents", json={"title": "Notes", "text": text}).json()
    assert (made["head"] > 0, made["title"]) == (True, "Notes")
    assert api.get(f"/documents/{made['name']}/content").text == text
    updates = api.get(f"/documents/{made['name']}/updates").json()["updates"]
    assert {update["origin"] for update in updates} == {"import"}
    headers = {"content-type": "application/json"}
    broken = api.post("/documents", content=b'{"text": "\\ud800"}', headers=headers)
    assert broken.status_code == 422


def test_a_copy_says_and_shows_the_same_and_has_no_past(api: httpx.Client, shared_server: Server) -> None:
    api.post("/documents", json={"name": "original", "title": "Plan"})
    image = api.post("/documents/original/images", content=PNG).json()

    async def write() -> None:
        async with client(shared_server.ws_url, "original") as c:
            await c.insert(0, "a secret that goes")
            await c.saved()
            await c.delete(0, 18)
            await c.insert(0, f"😀 ![x]({image['url']})")
            await c.saved()

    asyncio.run(write())
    made = api.post("/documents/original/copies", json={})
    assert made.status_code == 201
    copy = made.json()
    assert made.headers["location"] == f"/api/documents/{copy['name']}"
    assert (copy["title"], copy["role"], copy["head"]) == ("Copy of Plan", "owner", 1)
    text = api.get(f"/documents/{copy['name']}/content").text
    assert text == f"😀 ![x](/api/documents/{copy['name']}/images/{image['hash']})"
    api.delete(f"/documents/original/images/{image['hash']}")
    assert api.get(f"/documents/{copy['name']}/images/{image['hash']}").content == PNG
    assert b"secret" not in api.get(f"/documents/{copy['name']}/content?format=yjs").content
    named = api.post("/documents/original/copies", json={"name": "second", "title": "Other"}).json()
    assert (named["name"], named["title"]) == ("second", "Other")
    assert api.post("/documents/original/copies", json={"name": "second"}).status_code == 409
    api.post("/documents", json={"name": "empty"})
    assert api.post("/documents/empty/copies", json={}).json()["head"] == 0


def test_a_copy_of_what_is_more_than_text_has_all_of_it(api: httpx.Client, shared_server: Server) -> None:
    async def write() -> None:
        doc: Doc = Doc()
        doc["shapes"], doc["content"] = Map({"circle": 3}), Text("a text")
        async with client(shared_server.ws_url, "shapes") as c:
            await c.send(protocol.encode_update(doc.get_update()))
            await c.saved()

    asyncio.run(write())
    name = api.post("/documents/shapes/copies", json={}).json()["name"]
    roots = api.get(f"/documents/{name}/content?format=json").json()["roots"]
    assert roots == {"content": "a text", "shapes": {"circle": 3}}


def test_visiting_a_document_does_not_make_it(api: httpx.Client, shared_server: Server) -> None:
    async def visit() -> None:
        async with client(shared_server.ws_url, "looked-at"):
            pass

    asyncio.run(visit())
    assert api.get("/documents/looked-at").status_code == 404


def test_operators_can_ask_for_health_readiness_and_metrics(server: Server) -> None:
    async def write() -> None:
        async with client(server.ws_url, "d") as c:
            await c.insert(0, "x")
            await c.saved()
            text = (await asyncio.to_thread(httpx.get, f"{server.url}/metrics")).text
            for line in ("collab_rooms 1.0", "collab_sessions 1.0", "collab_updates_total 1.0"):
                assert line in text.splitlines()
            assert 'collab_commit_seconds_bucket{le="+Inf"} 1.0' in text

    asyncio.run(write())
    assert httpx.get(f"{server.url}/healthz").text == "ok\n"
    assert httpx.get(f"{server.url}/readyz").text == "ready\n"


def test_the_openapi_document_tells_of_every_route_and_its_problems(api: httpx.Client) -> None:
    spec = api.get("/openapi.json").json()
    assert set(spec["paths"]) == {
        "/api/documents",
        "/api/documents/{document}",
        "/api/documents/{document}/copies",
        "/api/documents/{document}/content",
        "/api/documents/{document}/versions",
        "/api/documents/{document}/versions/{version}",
        "/api/documents/{document}/diff",
        "/api/documents/{document}/blame",
        "/api/documents/{document}/activity",
        "/api/documents/{document}/restore",
        "/api/documents/{document}/undo",
        "/api/documents/{document}/updates",
        "/api/documents/{document}/export",
        "/api/documents/{document}/download",
        "/api/documents/{document}/images",
        "/api/documents/{document}/images/{hash}",
        "/api/import",
        "/api/documents/{document}/members",
        "/api/documents/{document}/members/{person}",
        "/api/documents/{document}/links",
        "/api/documents/{document}/links/{link}",
        "/api/links/open",
        "/api/sign-in",
        "/api/session",
        "/api/me",
        "/api/me/password",
        "/api/accounts",
        "/api/accounts/{account}",
        "/metrics",
        "/healthz",
        "/readyz",
    }
    answers = spec["paths"]["/api/documents/{document}"]["get"]["responses"]
    assert {"200", "400", "404", "410", "503"} <= set(answers)
    assert "application/problem+json" in answers["410"]["content"]
