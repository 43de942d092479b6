"""The raw log over HTTP: pages, waiting, following; and the right to it, which is a right of its own."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from pycrdt import Doc, Text
from serverprocess import Server
from visitor import SECRET, Visitor, bearer, token
from yclient import client

from web.auth import LEEWAY

pytestmark = pytest.mark.anyio

ROOT = bearer(token("root", name="Root"))


class House:
    def __init__(self, server: Server) -> None:
        self.server = server
        self.api = httpx.Client(base_url=f"{server.url}/api", headers=ROOT)
        self.made = 0

    def document(self, *words: str) -> str:
        """A document of root's in which ``words`` were typed, one commit each."""
        self.made += 1
        name = f"document-{self.made}"
        assert self.api.post("/documents", json={"name": name}).status_code == 201
        asyncio.run(self.type(name, *words))
        return name

    async def type(self, name: str, *words: str) -> None:
        async with client(self.server.ws_url, name, additional_headers=ROOT) as one:
            for word in words:
                await one.insert(0, word)
                await one.saved()

    def give(self, name: str, who: str, role: str, history: bool | None = None) -> dict[str, str]:
        body = {"role": role, "history": history}
        assert self.api.put(f"/documents/{name}/members/user:{who}", json=body).status_code == 204
        return bearer(token(who))

    @asynccontextmanager
    async def follow(self, name: str, headers: dict[str, str], after: int = 0) -> AsyncIterator[Any]:
        async with (
            httpx.AsyncClient(base_url=str(self.api.base_url)) as api,
            api.stream("GET", f"/documents/{name}/updates?follow=1&after={after}", headers=headers) as stream,
        ):
            yield stream


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    server = Server(tmp_path_factory.mktemp("updates"), secret=SECRET, rooms_per_minute=0)
    server.start()
    yield House(server)
    server.kill()


async def events(stream: httpx.Response) -> AsyncIterator[dict[str, str]]:
    event: dict[str, str] = {}
    async for line in stream.aiter_lines():
        if line:
            field, _, value = line.partition(": ")
            event[field] = value
        else:
            if "data" in event:
                yield event
            event = {}


def text_of(updates: list[dict[str, Any]]) -> str:
    doc: Doc[Any] = Doc()
    text = doc.get("content", type=Text)
    for update in updates:
        doc.apply_update(base64.b64decode(update["data"]))
    return str(text)


def test_the_log_is_read_page_by_page_and_makes_the_document(house: House) -> None:
    name = house.document("one ", "two ", "three ", "😀 ", "five ")
    found: list[dict[str, Any]] = []
    after = 0
    while True:
        page = house.api.get(f"/documents/{name}/updates?after={after}&limit=2").json()
        assert (page["head"], page["epoch"]) == (5, 1)
        assert len(page["updates"]) <= 2
        found += page["updates"]
        after = page["next"]
        if after == page["head"]:
            break
    assert [update["seq"] for update in found] == [1, 2, 3, 4, 5]
    assert {json.dumps(update["actor"]) for update in found} == {
        '{"id": "user:root", "kind": "user", "name": "Root"}'
    }
    assert text_of(found) == house.api.get(f"/documents/{name}/content").text == "five 😀 three two one "
    assert abs(time.time() - datetime.fromisoformat(found[-1]["received"]).timestamp()) < 60
    assert house.api.get(f"/documents/{name}/updates?after=5").json()["updates"] == []


@pytest.mark.parametrize("query", ["after=-1", "after=x", "limit=0", "limit=1001", "wait=61", "follow=2"])
def test_what_cannot_be_asked_is_refused(house: House, query: str) -> None:
    assert house.api.get(f"/documents/{house.document('x')}/updates?{query}").status_code == 422


async def test_who_waits_hears_of_the_next_entry_at_once(house: House) -> None:
    name = await asyncio.to_thread(house.document, "one")
    began = time.monotonic()
    waiting = asyncio.create_task(
        asyncio.to_thread(house.api.get, f"/documents/{name}/updates?after=1&wait=10")
    )
    await asyncio.sleep(0.3)
    await house.type(name, "two")
    page = (await waiting).json()
    assert [update["seq"] for update in page["updates"]] == [2]
    assert page["head"] == 2
    assert time.monotonic() - began < 3


def test_who_waits_in_vain_is_told_so_in_time(house: House) -> None:
    began = time.monotonic()
    assert (
        house.api.get(f"/documents/{house.document('one')}/updates?after=1&wait=0.5").json()["updates"] == []
    )
    assert 0.5 <= time.monotonic() - began < 3


async def test_who_follows_gets_what_is_there_and_then_what_comes(house: House) -> None:
    name = await asyncio.to_thread(house.document, "one ", "two ")
    async with house.follow(name, ROOT) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        heard = events(stream)
        found = [await anext(heard) for _ in range(2)]
        await house.type(name, "three ")
        found.append(await asyncio.wait_for(anext(heard), 3))
        assert [event["id"] for event in found] == ["1", "2", "3"]
        assert text_of([json.loads(event["data"]) for event in found]) == "three two one "
    async with house.follow(name, {**ROOT, "Last-Event-ID": "2"}) as stream:
        assert (await anext(events(stream)))["id"] == "3"
    async with house.follow(name, {**ROOT, "Last-Event-ID": "x"}) as stream:
        assert stream.status_code == 422


@pytest.mark.parametrize("end", ["removed", "demoted", "denied", "expired", "deleted"])
async def test_who_may_read_no_more_hears_no_more_within_a_second(house: House, end: str) -> None:
    name = await asyncio.to_thread(house.document, "one ")
    headers, ends = house.give(name, "ada", "editor"), 0
    if end == "expired":
        ends = int(time.time()) + 10
        headers = bearer(token("ada", exp=ends - LEEWAY))  # clocks differ
    async with house.follow(name, headers) as stream:
        heard = events(stream)
        assert (await anext(heard))["id"] == "1"
        {
            "removed": lambda: house.api.delete(f"/documents/{name}/members/user:ada"),
            "demoted": lambda: house.give(name, "ada", "viewer"),
            "denied": lambda: house.give(name, "ada", "editor", history=False),
            "expired": lambda: time.sleep(max(0, ends - time.time())),
            "deleted": lambda: house.api.delete(f"/documents/{name}"),
        }[end]()
        began = time.monotonic()
        last = await asyncio.wait_for(anext(heard), 5)
        assert time.monotonic() - began < 1.5
        code = {"removed": 404, "expired": 401, "deleted": 410}.get(end, 403)
        assert (last["event"], json.loads(last["data"])["status"]) == ("error", code)
        with pytest.raises(StopAsyncIteration):
            await anext(heard)


async def test_followers_are_counted_and_let_go(tmp_path: Path) -> None:
    server = Server(tmp_path, secret=SECRET, connections_per_actor=2)
    server.start()
    try:
        house = House(server)
        name = await asyncio.to_thread(house.document, "one")
        for _ in range(3):
            async with house.follow(name, ROOT) as one, house.follow(name, ROOT) as two:
                assert (one.status_code, two.status_code) == (200, 200)
                async with house.follow(name, ROOT) as three:
                    assert three.status_code == 429
            await asyncio.sleep(2)  # the server notices
        async with house.follow(name, ROOT) as one:
            heard = events(one)
            assert (await anext(heard))["id"] == "1"
            began = time.monotonic()
            stopped = asyncio.create_task(asyncio.to_thread(server.stop))
            last = await anext(heard)
            assert (last["event"], json.loads(last["data"])["code"]) == ("error", "shutting-down")
            assert await stopped == 0
            assert time.monotonic() - began < 8
    finally:
        server.kill()


# --- the right ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("role", "history", "status"),
    [
        ("viewer", None, 403), ("viewer", True, 200), ("viewer", False, 403),
        ("commenter", None, 403), ("commenter", True, 200),
        ("editor", None, 200), ("editor", False, 403), ("editor", True, 200),
        ("owner", None, 200), ("owner", False, 200),
    ],
)  # fmt: skip
def test_history_is_a_right_of_its_own(house: House, role: str, history: bool | None, status: int) -> None:
    name = house.document("one")
    member = house.give(name, "ada", role, history)
    made = house.api.post(f"/documents/{name}/links", json={"role": role, "history": history})
    link = bearer(made.json()["url"].partition("#")[2]) if role != "owner" else member
    claims = {} if history is None else {"history": history}
    brought = bearer(token("bob", documents={name: role}, **claims))
    for headers in (member, link, brought):
        api = httpx.Client(base_url=str(house.api.base_url), headers=headers)
        assert api.get(f"/documents/{name}/updates").status_code == status
        assert api.get(f"/documents/{name}").json()["history"] == (status == 200)
        assert api.get(f"/documents/{name}/content").status_code == 200
    assert house.api.get(f"/documents/{name}/members").json()["members"][-1]["history"] in (history, None)


def test_a_token_may_give_or_take_it_whatever_was_shared(house: House) -> None:
    name = house.document("one")
    house.give(name, "ada", "editor")
    house.give(name, "bob", "viewer")
    denied, given = bearer(token("ada", history=False)), bearer(token("bob", history=True))
    assert httpx.get(f"{house.api.base_url}documents/{name}/updates", headers=denied).status_code == 403
    assert httpx.get(f"{house.api.base_url}documents/{name}/updates", headers=given).status_code == 200
    wrong = bearer(token("bob", history="yes"))
    assert httpx.get(f"{house.api.base_url}documents/{name}/updates", headers=wrong).status_code == 401


async def test_an_open_editor_notices_nothing_when_only_its_right_to_history_changes(house: House) -> None:
    name = await asyncio.to_thread(house.document, "one")
    house.give(name, "ada", "editor")
    async with Visitor(house.server, name, token=token("ada")) as ada:
        await ada.settle()
        house.give(name, "ada", "editor", history=False)
        await ada.settle()
        assert ada.closed is None
