"""Sharing over real HTTP, and how rights that change are felt by those who are connected."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from pycrdt import Doc, Text
from serverprocess import Server
from visitor import SECRET, Visitor, bearer, token
from yclient import Client, client

from collab import protocol

FELT = 5.0  # seconds within which a change of rights is felt: a tenth of one, where nothing else runs
LONG_AGO = "2020-01-01T00:00:00Z"
ROOT = bearer(token("root"))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    made = Server(
        tmp_path_factory.mktemp("sharing"), secret=SECRET, rooms_per_minute=0, sign_ins_per_address=100_000
    )
    made.start()
    yield made
    made.kill()


class Shared:
    """A document of root's."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.api = httpx.Client(base_url=f"{server.url}/api", headers=ROOT)
        self.name = self.api.post("/documents", json={}).json()["name"]
        self.path = f"/documents/{self.name}"

        async def write() -> None:
            async with client(server.ws_url, self.name, additional_headers=ROOT) as one:
                await one.insert(0, "text of root's")
                await one.saved()

        asyncio.run(write())

    def set(self, person: str, role: str) -> None:
        answer = self.api.put(f"{self.path}/members/{person}", json={"role": role})
        assert answer.status_code == 204, answer.text

    def remove(self, person: str) -> None:
        assert self.api.delete(f"{self.path}/members/{person}").status_code == 204

    def link(self, **new: object) -> dict[str, Any]:
        answer = self.api.post(f"{self.path}/links", json=new)
        assert answer.status_code == 201, answer.text
        made: dict[str, Any] = answer.json()
        return {**made, "secret": made["url"].partition("#")[2]}

    def revoke(self, link: dict[str, Any]) -> None:
        assert self.api.delete(f"{self.path}/links/{link['id']}").status_code == 204

    def text(self) -> str:
        return self.api.get(f"{self.path}/content").text

    def guest(self, link: dict[str, Any] | None = None, **opening: object) -> dict[str, str]:
        """The headers of a new guest, who has opened ``link``."""
        with httpx.Client(base_url=self.server.url) as browser:
            browser.get("/")
            if link is not None:
                opened = browser.post("/api/links/open", json={"secret": link["secret"], **opening})
                assert opened.status_code == 200, opened.text
            return {"Cookie": f"collab_guest={browser.cookies['collab_guest']}"}


@pytest.fixture
def shared(server: Server) -> Shared:
    return Shared(server)


# --- over HTTP ---------------------------------------------------------------------------------------


def test_members_are_set_listed_and_removed(shared: Shared) -> None:
    for person, role in (("user:ada", "viewer"), ("guest:x", "editor"), ("user:ada", "commenter")):
        shared.set(person, role)
    assert shared.api.get(f"{shared.path}/members").json() == {
        "members": [
            {"person": "user:root", "name": "", "role": "owner", "history": None},
            {"person": "guest:x", "name": "", "role": "editor", "history": None},
            {"person": "user:ada", "name": "", "role": "commenter", "history": None},
        ],
        "guests": None,
        "users": None,
    }
    shared.remove("user:ada")
    for answer, status, code in (
        (shared.api.delete(f"{shared.path}/members/user:ada"), 404, "no-such-grant"),
        (shared.api.delete(f"{shared.path}/members/user:root"), 409, "last-owner"),
        (shared.api.put(f"{shared.path}/members/user:root", json={"role": "editor"}), 409, "last-owner"),
        (shared.api.put(f"{shared.path}/members/%00", json={"role": "editor"}), 422, "invalid-request"),
        (
            shared.api.put(f"{shared.path}/members/{'x' * 301}", json={"role": "editor"}),
            422,
            "invalid-request",
        ),
        (shared.api.put(f"{shared.path}/members/x", json={"role": "admin"}), 422, "invalid-request"),
        (shared.api.put(f"{shared.path}/members/x", json={"role": 4}), 422, "invalid-request"),
        (shared.api.put(f"{shared.path}/members/x", json={}), 422, "invalid-request"),
        (
            shared.api.put(f"{shared.path}/members/x", json={"role": "viewer", "document": "other"}),
            422,
            "invalid-request",
        ),
        (
            shared.api.put(f"{shared.path}/members/no@where.org", json={"role": "viewer"}),
            404,
            "no-such-grant",
        ),
    ):
        assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text


@pytest.mark.parametrize("person", ["user:a/b", "user:a b", "user:ü字🎉", "user:100%", "user:..", "user:?#"])
def test_a_person_may_have_any_name(shared: Shared, person: str) -> None:
    from urllib.parse import quote

    shared.set(quote(person, safe=""), "viewer")
    reader = bearer(token(person.removeprefix("user:")))
    assert httpx.get(f"{shared.server.url}/api{shared.path}", headers=reader).status_code == 200
    shared.remove(quote(person, safe=""))
    assert httpx.get(f"{shared.server.url}/api{shared.path}", headers=reader).status_code == 404


def test_a_link_is_shown_once_listed_without_its_secret_and_revoked(shared: Shared) -> None:
    ends = (datetime.now(UTC) + timedelta(days=1)).replace(microsecond=123_457)
    link = shared.link(
        role="editor",
        label="for the printers",
        expires_at=ends.isoformat(),
        password="several words",
        history=False,
    )
    assert link["url"].startswith(f"{shared.server.url}/s#link_")
    (listed,) = shared.api.get(f"{shared.path}/links").json()["links"]
    assert listed == {k: v for k, v in link.items() if k != "secret"} | {"url": None}
    assert datetime.fromisoformat(listed["expires_at"]) == ends
    assert (listed["password"], listed["created_by"]) == (True, "user:root")
    assert listed["history"] is False
    shared.revoke(link)
    assert shared.api.get(f"{shared.path}/links").json() == {"links": []}
    answer = shared.api.delete(f"{shared.path}/links/{link['id']}")
    assert (answer.status_code, answer.json()["code"]) == (404, "no-such-grant")


@pytest.mark.parametrize(
    "new",
    [
        {"role": "owner"},
        {"role": "none"},
        {"label": "x" * 201},
        {"label": "a\0b"},
        {"expires_at": LONG_AGO},
        {"expires_at": "2999-01-01T00:00:00"},
        {"expires_at": "9999-12-31T23:59:59.999999Z"},
        {"expires_at": "9999-12-31T23:59:59-12:00"},
        {"expires_at": "tomorrow"},
        {"expires_at": 1e300},
        {"expires_at": "0001-01-01T00:00:00+14:00"},
        {"password": "x" * 1025},
        {"documents": "*"},
        {"digest": "x"},
    ],
)
def test_a_link_that_cannot_be_is_refused_and_hurts_no_other(shared: Shared, new: dict[str, object]) -> None:
    answer = shared.api.post(f"{shared.path}/links", json=new)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid-request")
    assert shared.api.get(f"{shared.path}/links").json() == {"links": []}


def test_the_last_moment_there_is_may_be_a_link_s_end(shared: Shared) -> None:
    link = shared.link(expires_at="9999-12-31T23:59:59.999998Z")
    assert link["expires_at"] == "9999-12-31T23:59:59.999998Z"
    assert len(shared.api.get(f"{shared.path}/links").json()["links"]) == 1


def test_what_a_link_gives_lasts_with_the_link_and_adds_to_what_one_has(shared: Shared) -> None:
    url = f"{shared.server.url}/api{shared.path}"
    link = shared.link(role="editor")
    guest = shared.guest(link)
    assert httpx.get(url, headers=guest).json()["role"] == "editor"
    shared.set("user:ada", "viewer")
    ada = bearer(token("ada"))
    opened = httpx.post(f"{shared.server.url}/api/links/open", headers=ada, json={"secret": link["secret"]})
    assert opened.json() == {"document": shared.name, "role": "editor"}
    assert httpx.get(url, headers=ada).json()["role"] == "editor"
    assert shared.name in httpx.get(f"{shared.server.url}/api/documents", headers=guest).text
    shared.revoke(link)
    assert httpx.get(url, headers=guest).status_code == 404
    assert shared.name not in httpx.get(f"{shared.server.url}/api/documents", headers=guest).text
    assert httpx.get(url, headers=ada).json()["role"] == "viewer"


def test_a_link_says_how_many_came_through_it_and_who_came_last(shared: Shared) -> None:
    link, other = shared.link(), shared.link()
    for _ in range(21):
        shared.guest(link)
    ada = bearer(token("ada", name="Ada"))
    for _ in range(2):
        httpx.post(f"{shared.server.url}/api/links/open", headers=ada, json={"secret": link["secret"]})
    listed = {each["id"]: each for each in shared.api.get(f"{shared.path}/links").json()["links"]}
    assert (listed[link["id"]]["opened"], listed[other["id"]]["opened"]) == (22, 0)
    assert listed[link["id"]]["arrivals"][0]["person"] == "user:ada"
    assert len(listed[link["id"]]["arrivals"]) == 20
    assert listed[other["id"]]["arrivals"] == []


def test_a_program_may_send_a_link_s_secret_as_its_token(shared: Shared) -> None:
    link = shared.link(role="viewer")
    url = f"{shared.server.url}/api{shared.path}"
    assert httpx.get(url, headers=bearer(link["secret"])).json()["role"] == "viewer"
    assert httpx.patch(url, headers=bearer(link["secret"]), json={"title": "x"}).status_code == 403
    foreign = {**bearer(link["secret"]), "Origin": "https://other.example"}
    assert httpx.get(url, headers=foreign).json()["role"] == "viewer"

    async def scenario() -> None:
        for hocuspocus in (False, True):
            async with Visitor(
                shared.server, shared.name, hocuspocus=hocuspocus, token=link["secret"]
            ) as one:
                await one.settle()
                assert one.closed is None
                await asyncio.to_thread(shared.api.get, shared.path)

    asyncio.run(scenario())
    shared.revoke(link)
    assert httpx.get(url, headers=bearer(link["secret"])).status_code == 404


def test_a_link_adds_nothing_to_a_token_that_brings_its_rights(shared: Shared) -> None:
    link = shared.link(role="editor")
    headers = bearer(token("ada", documents={shared.name: "viewer"}))
    answer = httpx.post(
        f"{shared.server.url}/api/links/open", headers=headers, json={"secret": link["secret"]}
    )
    assert answer.status_code == 403
    assert httpx.get(f"{shared.server.url}/api{shared.path}", headers=headers).json()["role"] == "viewer"


def test_a_foreign_page_opens_no_link_for_somebody_else(shared: Shared) -> None:
    link = shared.link(role="editor")
    guest = shared.guest()
    for headers in (
        {**guest, "Origin": "https://evil.example"},
        {**guest, "Origin": "null"},
        {**guest, "Sec-Fetch-Site": "cross-site"},
    ):
        answer = httpx.post(
            f"{shared.server.url}/api/links/open", headers=headers, json={"secret": link["secret"]}
        )
        assert answer.status_code == 403
    assert httpx.get(f"{shared.server.url}/api{shared.path}", headers=guest).status_code == 404


def test_a_link_with_a_password_asks_for_it_every_time_but_once(shared: Shared) -> None:
    link = shared.link(role="editor", password="correct horse")
    url = f"{shared.server.url}/api/links/open"
    for given in ({}, {"password": ""}, {"password": "Correct Horse"}, {"password": "correct horse "}):
        answer = httpx.post(url, json={"secret": link["secret"], **given})
        assert (answer.status_code, answer.json()["code"]) == (403, "link-password")
        assert "set-cookie" not in answer.headers
        assert shared.name not in answer.text
    guest = shared.guest(link, password="correct horse")
    assert httpx.get(f"{shared.server.url}/api{shared.path}", headers=guest).json()["role"] == "editor"
    shown = httpx.get(f"{shared.server.url}/api{shared.path}", headers=bearer(link["secret"]))
    assert shown.status_code == 404, "a secret alone is not enough"


def test_links_that_are_none_all_sound_the_same(shared: Shared) -> None:
    link = shared.link()
    shared.revoke(link)
    told = {
        httpx.post(f"{shared.server.url}/api/links/open", json={"secret": wrong}).text
        for wrong in (link["secret"], "link_x", "", "x", link["id"], "link_" + "\u00e9" * 100)
    }
    assert len(told) == 1
    assert '"code":"no-such-grant"' in told.pop()


def test_rights_on_one_document_do_nothing_on_another(shared: Shared, server: Server) -> None:
    other = Shared(server)
    link = other.link()
    shared.set("user:ada", "owner")
    ada = bearer(token("ada"))
    for method, path in (
        ("DELETE", f"{shared.path}/links/{link['id']}"),
        ("GET", f"{other.path}/links"),
        ("DELETE", f"{other.path}/links/{link['id']}"),
        ("PUT", f"{other.path}/members/user:ada"),
        ("DELETE", f"{other.path}/members/user:root"),
        ("DELETE", other.path),
        ("PATCH", other.path),
        ("GET", f"{other.path}/content"),
    ):
        answer = httpx.request(
            method,
            f"{server.url}/api{path}",
            headers=ada,
            json={"role": "owner"} if method == "PUT" else None,
        )
        assert answer.status_code == 404, (method, path)
        assert other.name not in answer.text.replace(f"'{other.name}'", "")
    assert other.api.get(f"{other.path}/links").json()["links"][0]["id"] == link["id"]


# --- felt by those who are connected -----------------------------------------------------------------


Change = Callable[[Shared, dict[str, Any]], None]


async def felt(
    shared: Shared, headers: dict[str, str], change: Callable[[], None], code: int, reason: str
) -> None:
    """Somebody's sockets of both kinds end by ``change``; root's own do not."""
    async with (
        Visitor(shared.server, shared.name, headers=headers) as y,
        Visitor(shared.server, shared.name, hocuspocus=True, headers=headers) as hocuspocus,
        Visitor(shared.server, shared.name, headers=ROOT) as root,
    ):
        for one in (y, hocuspocus, root):
            await one.settle()
            assert one.closed is None
            assert one.denied is None
        await asyncio.to_thread(change)
        started = time.monotonic()
        # A provider comes back for all its documents, to hear of this one that it is denied.
        comes_back = 4500 if code == 4403 else code
        ended = await asyncio.gather(y.ended(), hocuspocus.ended())
        assert [of for of, _ in ended] == [code, comes_back], ended
        assert all(reason in said for _, said in ended), ended
        assert time.monotonic() - started < FELT
        for one in (y, hocuspocus):
            await one.send(protocol.encode_update(Doc(client_id=5).get_update()))
        await root.settle()
        assert (root.closed is None) == (code != 4404)
        heard = [m for m in root.heard if m.startswith((b"\x00\x01", b"\x00\x02"))]
        assert heard == [], "what was sent after it reached nobody"


MEMBERS: list[tuple[str, str | None, int, str]] = [
    ("viewer", None, 4403, "not shared with you any more"),
    ("editor", None, 4403, "not shared with you any more"),
    ("owner", None, 4403, "not shared with you any more"),
    ("owner", "editor", 4500, "you are now editor here"),
    ("editor", "viewer", 4500, "you are now viewer here"),
    ("editor", "commenter", 4500, "you are now commenter here"),
    ("viewer", "editor", 4500, "you are now editor here"),
    ("commenter", "owner", 4500, "you are now owner here"),
]


@pytest.mark.parametrize(("before", "after", "code", "reason"), MEMBERS)
def test_a_member_feels_a_change_within_a_second(
    shared: Shared, before: str, after: str | None, code: int, reason: str
) -> None:
    shared.set("user:ada", before)

    def change() -> None:
        shared.remove("user:ada") if after is None else shared.set("user:ada", after)

    asyncio.run(felt(shared, bearer(token("ada")), change, code, reason))


def test_who_came_by_a_link_feels_its_end_within_a_second(shared: Shared) -> None:
    link = shared.link(role="editor")
    asyncio.run(felt(shared, shared.guest(link), lambda: shared.revoke(link), 4403, "not shared"))
    link = shared.link(role="editor")
    asyncio.run(felt(shared, bearer(link["secret"]), lambda: shared.revoke(link), 4403, "not shared"))
    link = shared.link(role="editor")
    guest = shared.guest(link)
    shared.guest()
    other = shared.link(role="viewer")
    with httpx.Client(base_url=shared.server.url, headers=guest) as browser:
        browser.post("/api/links/open", json={"secret": other["secret"]})
    asyncio.run(felt(shared, guest, lambda: shared.revoke(link), 4500, "you are now viewer"))


def test_a_link_that_expires_ends_what_it_gave_within_a_second(shared: Shared) -> None:
    ends = datetime.now(UTC) + timedelta(seconds=3)
    link = shared.link(role="editor", expires_at=ends.isoformat())

    def wait() -> None:
        time.sleep(max(0.0, ends.timestamp() - time.time()))

    async def scenario() -> None:
        guest = await asyncio.to_thread(shared.guest, link)
        await felt(shared, guest, wait, 4403, "not shared")

    asyncio.run(scenario())


def test_all_are_told_of_a_deletion_within_a_second(shared: Shared) -> None:
    shared.set("user:ada", "owner")

    def change() -> None:
        assert shared.api.delete(shared.path).status_code == 204

    asyncio.run(felt(shared, bearer(token("ada")), change, 4404, "deleted"))


def test_a_link_that_is_opened_raises_who_is_connected(shared: Shared) -> None:
    shared.set("user:ada", "viewer")
    link = shared.link(role="editor")

    def change() -> None:
        answer = httpx.post(
            f"{shared.server.url}/api/links/open",
            headers=bearer(token("ada")),
            json={"secret": link["secret"]},
        )
        assert answer.status_code == 200

    asyncio.run(felt(shared, bearer(token("ada")), change, 4500, "you are now editor"))


def test_a_change_that_changes_nothing_for_somebody_leaves_them_alone(shared: Shared) -> None:
    shared.set("user:ada", "editor")
    link = shared.link(role="viewer")

    async def scenario() -> None:
        async with Visitor(shared.server, shared.name, token=token("ada")) as one:
            await one.settle()
            for change in (
                lambda: shared.set("user:ada", "editor"),
                lambda: shared.set("user:bob", "owner"),
                lambda: shared.remove("user:bob"),
                lambda: shared.revoke(link),
            ):
                await asyncio.to_thread(change)
            await asyncio.sleep(0.3)
            await one.settle()
            assert one.closed is None

    asyncio.run(scenario())


def test_hundreds_feel_a_revocation_within_a_second(shared: Shared) -> None:
    link = shared.link(role="viewer")

    async def scenario() -> None:
        visitors = [Visitor(shared.server, shared.name, token=link["secret"], query="") for _ in range(200)]
        for visitor in visitors:
            await visitor.__aenter__()
        await asyncio.gather(*(visitor.settle() for visitor in visitors))
        assert all(visitor.closed is None for visitor in visitors)
        await asyncio.to_thread(shared.revoke, link)
        started = time.monotonic()
        ended = await asyncio.gather(*(visitor.ended() for visitor in visitors))
        assert time.monotonic() - started < FELT
        assert {code for code, _ in ended} == {4403}

    asyncio.run(scenario())


# --- edits around a change ---------------------------------------------------------------------------


def test_what_an_editor_who_was_made_a_viewer_typed_offline_is_refused_as_a_unit_with_a_reason(
    shared: Shared,
) -> None:
    shared.set("user:ada", "editor")

    async def scenario() -> None:
        ada = Client(shared.server.ws_url, shared.name)
        await ada.open(additional_headers=bearer(token("ada")))
        await ada.synced.wait()
        await ada.insert(0, "online ")
        await ada.saved()
        await ada.close()
        for n in range(3):  # offline
            ada.edit(lambda text, n=n: text.insert(0, f"offline {n} "))
        ada.edit(lambda text: text.__delitem__(slice(0, 4)))
        await asyncio.to_thread(shared.set, "user:ada", "viewer")
        before = await asyncio.to_thread(shared.text)
        await ada.open(additional_headers=bearer(token("ada")))
        await ada.until(lambda: any(frame.startswith(b"\x02\x00") for frame in ada.frames))
        (denial,) = [frame for frame in ada.frames if frame.startswith(b"\x02\x00")]
        assert b"you may read this document, not change it" in denial
        await ada.ask()
        await ada.until(lambda: sum(frame.startswith(b"\x02\x00") for frame in ada.frames) == 2)
        assert ada.closed is None, "who may read goes on reading"
        assert await asyncio.to_thread(shared.text) == before == "online text of root's"
        await ada.close()

        missing = ada.doc.get_update(state_of(shared))
        async with Visitor(shared.server, shared.name, hocuspocus=True, token=token("ada")) as one:
            assert one.scope == "readonly"
            await one.send(protocol.encode_step2(missing))
            assert b"\x08\x00" in await one.settle()
            assert one.closed is None
        assert await asyncio.to_thread(shared.text) == before
        await asyncio.to_thread(shared.set, "user:ada", "editor")
        await ada.open(additional_headers=bearer(token("ada")))
        await ada.saved()
        assert (await asyncio.to_thread(shared.text)) == str(ada.text), "nothing of it was lost"
        await ada.close()

    asyncio.run(scenario())


def state_of(shared: Shared) -> bytes:
    doc: Doc[Text] = Doc()
    doc.apply_update(shared.api.get(f"{shared.path}/content?format=yjs").content)
    return doc.get_state()


def test_what_is_typed_while_a_right_is_withdrawn_is_saved_or_refused_never_lost_in_silence(
    shared: Shared,
) -> None:
    shared.set("user:ada", "editor")

    async def scenario() -> None:
        ada = await Client(shared.server.ws_url, shared.name).open(additional_headers=bearer(token("ada")))
        await ada.synced.wait()
        change = asyncio.create_task(asyncio.to_thread(shared.remove, "user:ada"))
        while ada.closed is None:
            await ada.insert(0, "x") if ada.socket.state.name == "OPEN" else await asyncio.sleep(0.001)
            await ada.ask() if ada.socket.state.name == "OPEN" else None
            await asyncio.sleep(0.001)
        await change
        assert ada.closed[0] == 4403
        stored = (await asyncio.to_thread(shared.text)).count("x") - "text of root's".count("x")
        assert stored >= ada.acknowledged

    asyncio.run(scenario())


def test_who_waits_under_a_name_has_no_right_when_somebody_else_makes_it(server: Server) -> None:
    """While nobody has made a document, whoever may make one is let in as its owner."""
    for way in ("REST", "an edit"):
        name = f"guessed {way}"

        async def scenario(name: str = name, way: str = way) -> None:
            async with (
                Visitor(server, name, token=token("eve")) as y,
                Visitor(server, name, hocuspocus=True, token=token("eve")) as hocuspocus,
            ):
                for one in (y, hocuspocus):
                    await one.settle()
                    assert one.closed is None
                if way == "REST":
                    made = await asyncio.to_thread(
                        httpx.post, f"{server.url}/api/documents", headers=ROOT, json={"name": name}
                    )
                    assert made.status_code == 201
                else:
                    async with client(server.ws_url, name, additional_headers=ROOT) as root:
                        await root.insert(0, "mine")
                        await root.saved()
                ended = await asyncio.gather(y.ended(3), hocuspocus.ended(3))
                assert [code for code, _ in ended] == [4403, 4500]

        asyncio.run(scenario())
        members = httpx.get(f"{server.url}/api/documents/{name}/members", headers=ROOT).json()["members"]
        assert [(m["person"], m["role"]) for m in members] == [("user:root", "owner")]


def test_who_is_told_to_reconnect_comes_back_as_what_they_are(shared: Shared) -> None:
    shared.set("user:ada", "viewer")

    async def scenario() -> None:
        for role, scope in (("editor", "read-write"), ("commenter", "readonly"), ("owner", "read-write")):
            await asyncio.to_thread(shared.set, "user:ada", role)
            async with Visitor(shared.server, shared.name, hocuspocus=True, token=token("ada")) as one:
                assert one.scope == scope

    asyncio.run(scenario())


def test_a_document_brought_back_has_the_members_it_had(shared: Shared) -> None:
    shared.set("user:ada", "editor")
    url = f"{shared.server.url}/api{shared.path}"
    ada, eve = bearer(token("ada")), bearer(token("eve"))
    assert shared.api.delete(shared.path).status_code == 204
    assert httpx.get(url, headers=ada).status_code == 410
    assert httpx.get(url, headers=eve).status_code == 404, "who had no right learns nothing"
    assert httpx.patch(url, headers=ada, json={"deleted": False}).status_code == 403
    taken = httpx.post(f"{shared.server.url}/api/documents", headers=eve, json={"name": shared.name})
    assert taken.status_code == 409
    assert shared.api.patch(shared.path, json={"deleted": False}).status_code == 200
    assert httpx.get(url, headers=ada).json()["role"] == "editor"
