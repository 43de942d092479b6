"""A document goes out as one file and comes in again, to the byte; nothing comes in that was not checked."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from serverprocess import Server
from sqlalchemy import text
from visitor import SECRET, bearer, token
from yclient import client

from storage.database import Database
from storage.labels import Labels
from storage.log import UpdateLog

PNG = b"\x89PNG\r\n\x1a\n and so on"
ROOT = bearer(token("root", name="Root", **{"import": True}))
OTHER = bearer(token("other", name="Somebody else"))


class House:
    def __init__(self, server: Server) -> None:
        self.server = server
        self.api = httpx.Client(base_url=f"{server.url}/api", headers=ROOT)
        self.made = 0

    def document(self, keys: int = 40) -> str:
        self.made += 1
        name = f"document-{self.made}"
        made = self.api.post("/documents", json={"name": name, "title": "Minutes 😀"})
        assert made.status_code == 201
        self.api.put(f"/documents/{name}/members/user:other", json={"role": "editor"})

        async def write() -> None:
            for headers in (ROOT, OTHER):
                async with client(self.server.ws_url, name, additional_headers=headers) as one:
                    for number in range(keys // 2):
                        await one.insert(0, "😀" if number % 5 == 0 else f"{number} ")
                    await one.delete(0, 4)
                    await one.saved()

        asyncio.run(write())
        return name

    def export(self, name: str) -> bytes:
        answer = self.api.get(f"/documents/{name}/export")
        assert answer.status_code == 200
        return answer.content

    def take(self, data: bytes, name: str = "", headers: dict[str, str] | None = None) -> httpx.Response:
        query = f"?document={name}" if name else ""
        return self.api.post(f"/import{query}", content=data, headers=headers)

    def names(self) -> set[str]:
        return {d["name"] for d in self.api.get("/documents?limit=1000").json()["documents"]}


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    server = Server(tmp_path_factory.mktemp("archive"), secret=SECRET, rooms_per_minute=0)
    server.start()
    yield House(server)
    server.kill()


def lines(data: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in data.splitlines()]


def test_an_archive_brings_its_images(house: House) -> None:
    name = house.document()
    path = f"/documents/{name}/images"
    hashes = [house.api.post(path, content=image).json()["hash"] for image in (PNG, PNG + b"another")]
    data = house.export(name)
    assert lines(data)[0]["format"] == 2
    assert house.take(data, "with images").status_code == 201
    assert house.export("with images") == data
    for hash in hashes:
        assert house.api.delete(f"{path}/{hash}").status_code == 204
    shown = [house.api.get(f"/documents/with images/images/{hash}").content for hash in hashes]
    assert shown == [PNG, PNG + b"another"]
    for wrong in (data.replace(b'"format":2', b'"format":1'), data.replace(b'"images":2', b'"images":1')):
        assert house.take(wrong, "never").status_code == 422
    picture = base64.b64encode(PNG)
    assert house.take(data.replace(picture, base64.b64encode(b"<svg>")), "never").status_code == 422
    assert "never" not in house.names()


def test_an_archive_comes_in_and_goes_out_again_to_the_byte(house: House) -> None:
    name = house.document()
    data = house.export(name)
    made = house.take(data, "again")
    assert made.status_code == 201, made.text
    assert made.headers["location"] == "/api/documents/again"
    again = made.json()
    assert (again["title"], again["role"]) == ("Minutes 😀", "owner")
    assert (again["imported_by"], again["imported_head"]) == ("user:root", again["head"])
    assert house.export("again") == data
    for format in ("markdown", "yjs"):
        first, second = (house.api.get(f"/documents/{n}/content?format={format}") for n in (name, "again"))
        assert first.content == second.content
    assert {line["actor"]["id"] for line in lines(data) if "seq" not in line and "actor" in line} == {
        "user:root",
        "user:other",
    }
    assert house.api.get(f"/documents/{name}").json()["imported_head"] is None


def test_an_imported_document_is_edited_on(house: House) -> None:
    data = house.export(house.document())
    made = house.take(data).json()

    async def write() -> None:
        async with client(house.server.ws_url, made["name"], additional_headers=ROOT) as one:
            await one.insert(0, "and so on: ")
            await one.saved()

    asyncio.run(write())
    found = house.api.get(f"/documents/{made['name']}").json()
    assert found["head"] == made["head"] + 1
    assert found["imported_head"] == made["head"]
    assert (
        house.export(made["name"]).splitlines()[1:-1][: made["head"]]
        == data.splitlines()[1:-1][: made["head"]]
    )
    assert house.api.get(f"/documents/{made['name']}/content").text.startswith("and so on: ")


def test_who_waits_in_a_document_that_is_imported_gets_it(house: House) -> None:
    data = house.export(house.document())
    sought = house.api.get(f"/documents/document-{house.made}/content").text

    async def wait() -> None:
        async with client(house.server.ws_url, "awaited", additional_headers=ROOT) as one:
            made = await asyncio.to_thread(house.take, data, "awaited")
            assert made.status_code == 201
            assert (await one.ended())[0] == 1011  # which stock clients come back from
        async with client(house.server.ws_url, "awaited", additional_headers=ROOT) as one:
            await one.until(lambda: str(one.text) == sought)

    asyncio.run(wait())


def without(data: bytes, at: int) -> bytes:
    found = data.splitlines(keepends=True)
    return b"".join(found[:at] + found[at + 1 :])


def hostile(data: bytes) -> bytes:
    found = lines(data)
    for line in found:
        if line.get("seq") == 5:
            line["data"] = base64.b64encode(b"\x01\x01\x07\x00\xff\xff").decode()
    return b"".join(json.dumps(line).encode() + b"\n" for line in found)


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (lambda data: data[:-200], "invalid-request"),
        (lambda data: without(data, 4), "invalid-request"),
        (lambda data: without(data, -1), "invalid-request"),
        (hostile, "bad-update"),
        (lambda data: b"", "invalid-request"),
        (lambda data: b"\0" * 100_000, "invalid-request"),
        (lambda data: data + data, "invalid-request"),
    ],
)
def test_an_archive_that_is_not_whole_or_not_honest_leaves_nothing(
    house: House, spoil: Callable[[bytes], bytes], code: str
) -> None:
    data = house.export(house.document())
    before = house.names()
    refused = house.take(spoil(data), "spoilt")
    assert (refused.status_code, refused.json()["code"]) == (422, code)
    assert house.names() == before
    assert house.take(data, f"sound-{house.made}").status_code == 201


def test_a_name_that_is_taken_stays_whose_it_is(house: House) -> None:
    name = house.document()
    data = house.export(name)
    before = house.api.get(f"/documents/{name}/content").headers["etag"]
    refused = house.take(data, name)
    assert (refused.status_code, refused.json()["code"]) == (409, "document-exists")
    assert house.api.get(f"/documents/{name}/content").headers["etag"] == before


def test_an_archive_renames_nobody(house: House) -> None:
    data = house.export(house.document())
    assert b'"name":"Somebody else"' in data
    forged = data.replace(b'"name":"Somebody else"', b'"name":"A spy"')
    digest = hashlib.sha256(b"".join(forged.splitlines(keepends=True)[:-1])).hexdigest()
    end = lines(forged)[-1]
    end["end"]["sha256"] = digest
    forged = b"".join([*forged.splitlines(keepends=True)[:-1], json.dumps(end).encode()])
    made = house.take(forged)
    assert made.status_code == 201, made.text
    assert b"A spy" not in house.export(made.json()["name"])


def test_importing_again_with_the_same_key_makes_no_second_document(house: House) -> None:
    data = house.export(house.document())
    headers = {"Idempotency-Key": "import-1"}
    first, again = house.take(data, headers=headers), house.take(data, headers=headers)
    assert first.status_code == again.status_code == 201
    assert again.headers["idempotency-replayed"] == "true"
    assert first.json() == again.json()
    assert house.take(data.replace(b"Minutes", b"minutes"), headers=headers).status_code == 422


@pytest.mark.parametrize(
    ("claims", "status"),
    [
        ({}, 403),
        ({"import": False}, 403),
        ({"import": "yes"}, 403),
        ({"import": True}, 201),
        ({"import": True, "documents": {"mine-*": "owner"}}, 201),
        ({"import": True, "documents": {"mine-*": "editor"}}, 403),
        ({"import": True, "documents": {"yours-*": "owner"}}, 403),
        ({"documents": {"mine-*": "owner"}}, 403),
    ],
)
def test_to_import_takes_a_claim_and_the_right_to_own(
    house: House, claims: dict[str, object], status: int
) -> None:
    data = house.export(house.document())
    answer = house.take(data, f"mine-{house.made}", headers=bearer(token("ada", **claims)))
    assert answer.status_code == status
    nobody = httpx.post(f"{house.server.url}/api/import", content=data)
    assert nobody.status_code == 401


@pytest.mark.parametrize(("history", "status"), [(None, 403), (True, 200)])
def test_export_takes_the_right_to_history(house: House, history: bool | None, status: int) -> None:
    name = house.document()
    house.api.put(f"/documents/{name}/members/user:eve", json={"role": "viewer", "history": history})
    answer = httpx.get(f"{house.api.base_url}documents/{name}/export", headers=bearer(token("eve")))
    assert answer.status_code == status


def test_archives_have_a_bound_and_other_bodies_keep_theirs(make_server: Callable[..., Server]) -> None:
    server = make_server(secret=SECRET, import_bytes=2 << 20)
    api = httpx.Client(base_url=f"{server.url}/api", headers=ROOT)
    assert api.post("/import", content=b" " * (3 << 20)).status_code == 413
    assert api.post("/import", content=iter([b" " * (1 << 20)] * 3)).status_code == 413
    assert api.post("/import", content=b" " * (3 << 19)).json()["code"] == "invalid-request"
    assert api.post("/documents", content=b" " * (3 << 19)).status_code == 413


async def _stored(url: str, name: str) -> tuple[int, int, int]:
    database = await Database.open(url)
    await UpdateLog(database).verify(name)
    counts = [
        await database.read(lambda c, t=table: c.execute(text(f"SELECT count(*) FROM {t}")).scalar_one())
        for table in ("segments", "updates", "documents")
    ]
    await database.close()
    return counts[0], counts[1], counts[2]


def test_a_long_log_with_labels_comes_in_sealed_and_a_crash_on_the_way_leaves_nothing(
    make_server: Callable[..., Server],
) -> None:
    server = make_server(secret=SECRET)
    house = House(server)
    name = house.document(2600)
    server.stop()
    url = f"sqlite:///{server.data}/collab.db"

    async def label() -> None:
        database = await Database.open(url)
        labels = Labels(database)
        await labels.create(name, 2000, "draft", "as sent", "user:root")
        await labels.create(name, 0, "empty", "", "user:gone")
        await database.close()

    asyncio.run(label())
    server.start()
    data = house.export(name)
    assert [line["label"]["name"] for line in lines(data) if "label" in line] == ["empty", "draft"]

    def half() -> Iterator[bytes]:
        found = data.splitlines(keepends=True)
        yield b"".join(found[: len(found) // 2])
        server.kill()
        yield b"".join(found[len(found) // 2 :])

    with pytest.raises(httpx.HTTPError):
        house.api.post("/import?document=again", content=half())
    server.start()
    assert house.names() == {name}
    assert house.take(data, "again").status_code == 201
    assert house.export("again") == data
    server.stop()
    segments, _, documents = asyncio.run(_stored(url, "again"))
    assert segments >= 2
    assert documents == 2
