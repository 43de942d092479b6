"""The history API over a real socket: what programs ask, and that no answer depends on a cache."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from pycrdt import Array, Doc, Map, Text
from serverprocess import PATIENCE, Server
from stockclients import UNICODE, Host, NodeHost, Peer, install
from visitor import SECRET, bearer, token
from yclient import client

ADA, BOB = bearer(token("ada", name="Ada")), bearer(token("bob", name="Bob"))
TRACE = Path(__file__).parent.parent / "traces/automerge-paper-prefix.json.gz"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("history"), secret=SECRET)
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="module")
def node() -> Iterator[Host]:
    install()
    host = NodeHost()
    yield host
    host.kill()
    assert not getattr(host, "errors", [])


class Api:
    """One document's history, asked for as somebody."""

    def __init__(self, server: Server, document: str, headers: dict[str, str]) -> None:
        self.path = f"/api/documents/{document}"
        self.client = httpx.Client(base_url=server.url, headers=headers)

    def get(self, path: str, status: int = 200, **query: Any) -> Any:
        answer = self.client.get(self.path + path, params=query)
        assert answer.status_code == status, answer.text
        kind = answer.headers["content-type"]
        return answer.json() if "json" in kind else answer.content if "octet" in kind else answer.text

    def post(self, path: str, body: object, status: int = 201, **headers: str) -> Any:
        answer = self.client.post(self.path + path, json=body, headers=headers)
        assert answer.status_code == status, answer.text
        return answer.json()

    def content(self, at: object = "head") -> str:
        return str(self.get("/content", at=at))


@pytest.fixture
def ada(server: Server, request: pytest.FixtureRequest) -> Api:
    """The API of a document of the test's own, which Ada owns and Bob edits."""
    name = request.node.name[:80].replace("[", "-").replace("]", "")
    api = Api(server, name, ADA)
    made = api.client.post("/api/documents", json={"name": name})
    assert made.status_code == 201, made.text
    shared = api.client.put(f"{api.path}/members/user:bob", json={"role": "editor"})
    assert shared.status_code == 204
    return api


def write(server: Server, api: Api, headers: dict[str, str], *edits: tuple[int, int, str]) -> None:
    """Type (position, deleted, inserted), each an update of its own."""

    async def work() -> None:
        async with client(server.ws_url, api.path.rsplit("/", 1)[1], additional_headers=headers) as one:
            for at, deleted, inserted in edits:
                if deleted:
                    await one.delete(at, at + deleted)
                if inserted:
                    await one.insert(at, inserted)
            await one.saved()

    asyncio.run(work())


def patched(patches: list[Any]) -> str:
    text = ""
    for at, deleted, inserted in patches:
        text = text[:at] + inserted + text[at + deleted :]
    return text


# --- versions ------------------------------------------------------------------------------------------


def test_versions_say_who_wrote_what_and_names_last(server: Server, ada: Api) -> None:
    write(server, ada, ADA, (0, 0, "Hello world\n"))
    write(server, ada, BOB, (5, 0, " brave"), (0, 5, ""))
    (one,) = ada.get("/versions")["versions"]
    assert (one["seq_from"], one["seq_to"], one["origin"], one["label"]) == (1, 3, "edit", None)
    assert [(p["id"], p["name"], p["inserted"], p["deleted"]) for p in one["actors"]] == [
        ("user:ada", "Ada", 12, 0),
        ("user:bob", "Bob", 6, 5),
    ]
    assert one["stats"] == {"inserted": 18, "deleted": 5}
    named = ada.post("/versions", {"name": "Sent", "note": "to the board", "at": 1})
    assert (named["seq_to"], named["label"]["name"], named["label"]["by"]["id"]) == (1, "Sent", "user:ada")
    newer, older = ada.get("/versions")["versions"]
    assert (newer["seq_from"], newer["seq_to"], older["seq_from"], older["seq_to"]) == (2, 3, 1, 1)
    assert [v["seq_to"] for v in ada.get("/versions", kind="named")["versions"]] == [1]
    assert [v["seq_to"] for v in ada.get("/versions", kind="auto")["versions"]] == [3]
    assert [v["seq_to"] for v in ada.get("/versions", author="user:bob")["versions"]] == [3]
    by_author = ada.get("/versions", split="author")["versions"]
    assert [[p["id"] for p in v["actors"]] for v in by_author] == [["user:bob"], ["user:ada"]]
    id = named["label"]["id"]
    assert ada.get("/versions/Sent") == ada.get(f"/versions/{id}") == ada.get("/versions/1") == older
    assert ada.client.patch(f"{ada.path}/versions/{id}", json={"name": "Sent again"}).status_code == 200
    assert ada.content("Sent again") == ada.content(id) == "Hello world\n"
    assert ada.get("/content", 404, at="Sent")["code"] == "no-such-version"
    assert ada.post("/versions", {"name": "Sent again"}, 409)["code"] == "label-exists"
    assert ada.post("/versions", {"name": "12"}, 422)["code"] == "invalid-request"
    assert ada.client.delete(f"{ada.path}/versions/{id}").status_code == 204
    assert len(ada.get("/versions")["versions"]) == 1


def test_pages_of_versions_fit_together_while_the_head_moves(server: Server, ada: Api) -> None:
    write(server, ada, ADA, *((0, 0, f"{n} ") for n in range(12)))
    for seq in range(1, 12):
        ada.post("/versions", {"name": f"v{seq}", "at": seq})
    first = ada.get("/versions", limit=5)
    write(server, ada, ADA, (0, 0, "more "))
    second = ada.get("/versions", limit=5, cursor=first["next"])
    third = ada.get("/versions", limit=5, cursor=second["next"])
    seqs = [(v["seq_from"], v["seq_to"]) for page in (first, second, third) for v in page["versions"]]
    assert seqs == [(n, n) for n in range(12, 0, -1)]
    assert third["next"] is None


def test_a_ref_is_a_seq_an_id_a_name_the_head_or_a_time_and_anything_else_is_told_so(
    server: Server, ada: Api
) -> None:
    write(server, ada, ADA, (0, 0, "one"))
    write(server, ada, ADA, (3, 0, " two"))
    at = ada.get("/updates", after=1)["updates"][0]["received"]
    assert ada.content(at) == ada.content("head") == ada.content(2) == "one two"
    assert ada.content("2001-01-01") == "" == ada.content(0)
    assert "up to 2" in ada.get("/content", 422, at=99)["detail"]
    assert "RFC 3339" in ada.get("/content", 422, at="2026-99-99")["detail"]
    assert ada.get("/content", 404, at="never named")["code"] == "no-such-version"
    assert "300s" in ada.get("/versions", 422, gap="soon")["detail"]
    assert "RFC 3339" in ada.get("/versions", 422, since="yesterday")["detail"]
    assert ada.get("/diff", 422, **{"from": 0, "to": 1, "format": "ops", "cursor": -1})


# --- content, differences, blame -----------------------------------------------------------------------


def test_a_real_paper_reads_at_any_moment_as_its_keystrokes_make_it(server: Server, ada: Api) -> None:
    with gzip.open(TRACE) as file:
        patches = [patch for txn in json.load(file)["txns"][:3000] for patch in txn["patches"]]
    write(server, ada, ADA, *((at, deleted, inserted) for at, deleted, inserted in patches))
    seqs, text, expected = 0, "", {0: ""}
    for at, deleted, inserted in patches:
        if deleted:
            seqs, text = seqs + 1, text[:at] + text[at + deleted :]
            expected[seqs] = text
        if inserted:
            seqs, text = seqs + 1, text[:at] + inserted + text[at:]
            expected[seqs] = text
    for seq in (0, 1, 17, 500, 1000, 1001, seqs // 2, seqs - 1, seqs):
        assert ada.content(seq) == expected[seq], seq
    for old, new in ((0, seqs), (seqs, 0), (500, 1000), (1000, 500), (seqs - 1, seqs)):
        for granularity in ("char", "word", "line"):
            parts = ada.get("/diff", **{"from": old, "to": new, "granularity": granularity})["parts"]
            assert "".join(p["text"] for p in parts if p["op"] != "insert") == expected[old]
            assert "".join(p["text"] for p in parts if p["op"] != "delete") == expected[new]
    runs = ada.get("/blame")["runs"]
    assert sum(run["length"] for run in runs) == len(text)
    activity = ada.get("/activity")
    assert sum(bucket["inserted"] for bucket in activity["buckets"]) == sum(len(p[2]) for p in patches)
    # What was does not change, and may be kept; what is may not.
    answer = ada.client.get(f"{ada.path}/content", params={"at": 500})
    assert "immutable" in answer.headers["cache-control"]
    kept = ada.client.get(
        f"{ada.path}/content", params={"at": 500}, headers={"If-None-Match": answer.headers["etag"]}
    )
    assert kept.status_code == 304
    assert "immutable" not in ada.client.get(f"{ada.path}/content").headers["cache-control"]
    replica: Doc[Any] = Doc()
    replica.apply_update(ada.get("/content", at=500, format="yjs"))
    assert str(replica.get("content", type=Text)) == expected[500]


def test_a_unified_difference_is_one_that_patch_applies(server: Server, ada: Api, tmp_path: Path) -> None:
    write(server, ada, ADA, (0, 0, "".join(f"line {n}\n" for n in range(30))))
    write(server, ada, BOB, (0, 7, "first\n"), (100, 0, "in between\n"))
    file = tmp_path / "text"
    file.write_text(ada.content(1))
    difference = ada.get("/diff", **{"from": 1, "format": "unified"})
    subprocess.run(["patch", str(file)], input=difference, text=True, check=True, capture_output=True)
    assert file.read_text() == ada.content()


def test_emoji_from_a_javascript_client_are_counted_as_characters(
    server: Server, ada: Api, node: Host
) -> None:
    name = ada.path.rsplit("/", 1)[1]
    peer = Peer(node, "3", server.ws_url, name, params={"token": token("ada", name="Ada")})
    peer.until(synced=True)
    peer.call("insert", 0, UNICODE)
    deadline = time.monotonic() + PATIENCE
    while ada.content() != UNICODE:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert sum(run["length"] for run in ada.get("/blame")["runs"]) == len(UNICODE)
    (version,) = ada.get("/versions")["versions"]
    assert version["stats"]["inserted"] == len(UNICODE)
    part = UNICODE.index("漢")
    assert ada.get("/blame", **{"from": part, "to": part + 2})["runs"][0]["length"] == 2
    peer.call("destroy")


def test_markup_of_a_document_is_shown_and_never_run(server: Server, ada: Api) -> None:
    write(server, ada, ADA, (0, 0, "# Title\n\n<script>a()</script> [x](javascript:a()) **bold**\n"))
    html = ada.get("/content", format="html")
    assert "<h1>Title</h1>" in html
    assert "<strong>bold</strong>" in html
    assert "<script" not in html
    assert 'href="javascript' not in html
    assert "<script" not in ada.get("/diff", format="html")


def test_other_roots_are_read_as_json_at_any_seq(server: Server, ada: Api) -> None:
    doc: Doc[Any] = Doc()
    updates: list[bytes] = []
    doc.observe(lambda event: updates.append(event.update))
    board = doc.get("board", type=Map)
    board["title"] = "Plan"
    board["tasks"] = Array(["write"])
    board["tasks"].append("review")

    async def work() -> None:
        async with client(server.ws_url, ada.path.rsplit("/", 1)[1], additional_headers=ADA) as one:
            from collab import protocol

            await one.send(*map(protocol.encode_update, updates))
            await one.saved()

    asyncio.run(work())
    assert ada.get("/content", at=3, format="json")["roots"] == {
        "board": {"title": "Plan", "tasks": ["write", "review"]}
    }
    assert ada.get("/content", at=1, format="json")["roots"] == {"board": {"title": "Plan"}}
    assert ada.get("/diff", **{"from": 1, "format": "json"})["steps"] == [
        {"op": "add", "path": ["board", "tasks"], "old": None, "new": ["write", "review"]}
    ]
    assert ada.get("/diff", **{"from": 3, "to": 2, "format": "json"})["steps"] == [
        {"op": "remove", "path": ["board", "tasks", 1], "old": "review", "new": None}
    ]
    assert ada.post("/restore", {"from": 1})["version"]["origin"] == "restore"
    assert ada.get("/content", format="json")["roots"] == {"board": {"title": "Plan"}}


# --- ways back -----------------------------------------------------------------------------------------


def test_a_restore_keeps_authors_of_what_stays_and_the_past_as_it_was(server: Server, ada: Api) -> None:
    write(server, ada, ADA, (0, 0, "Ada wrote this.\n"))
    write(server, ada, BOB, (0, 3, "Bob"), (9, 0, " all of"))
    before = ada.content()
    answer = ada.post("/restore", {"from": 1, "expected_head": 4})
    assert ada.content() == ada.content(1) == "Ada wrote this.\n"
    assert answer["checkpoint"] == {"seq": 4}
    assert ada.content(4) == before
    assert (answer["version"]["origin"], answer["version"]["actors"][0]["id"]) == ("restore", "user:ada")
    assert (answer["version"]["stats"], answer["stats"]) == ({"inserted": 3, "deleted": 10},) * 2
    moved = ada.post("/restore", {"from": 0, "expected_head": 4}, 412)
    assert (moved["code"], moved["head"]) == ("head-moved", 5)
    assert [(v["seq_from"], v["seq_to"]) for v in moved["changed"]] == [(5, 5)]
    again = ada.post("/restore", {"from": 1})
    assert (again["version"], again["stats"]) == (None, {"inserted": 0, "deleted": 0})
    part = ada.post("/restore", {"from": 4, "range": [4, 16]})
    assert ada.content() == "Ada wrote all of this.\n"
    assert part["stats"] == {"inserted": 7, "deleted": 0}


def test_a_restore_with_a_note_makes_a_named_version_that_says_it(server: Server, ada: Api) -> None:
    write(server, ada, ADA, (0, 0, "one"), (3, 0, " two"))
    for round in (1, 2):
        answer = ada.post("/restore", {"from": 1, "note": "the board wants it"})
        (label,) = answer["version"]["labels"]
        assert (label["name"], label["note"]) == (f"Restored 1 ({1 + 2 * round})", "the board wants it")
        assert ada.get("/versions", kind="named")["versions"][0]["labels"] == [label]
        write(server, ada, ADA, (3, 0, " two"))
    assert ada.post("/restore", {"from": 1, "note": "\0"}, 422)["code"] == "invalid-request"
    assert ada.content() == "one two"


def test_an_undo_takes_back_one_person_s_edits_and_keeps_everyone_else_s(server: Server, ada: Api) -> None:
    write(server, ada, ADA, (0, 0, "The cat sat on the mat."))
    write(server, ada, BOB, (4, 3, "dog"), (0, 0, "BOB "))
    write(server, ada, ADA, (0, 0, "Ada: "))
    answer = ada.post("/undo", {"actor": "user:bob"})
    assert ada.content() == "Ada: The cat sat on the mat."
    assert answer["version"]["origin"] == "undo"
    assert answer["stats"] == {"inserted": 3, "deleted": 7}
    ada.post("/undo", {"since": answer["checkpoint"]["seq"]})
    assert ada.content() == "Ada: BOB The dog sat on the mat."


@pytest.mark.parametrize(("way", "body"), [("restore", {"from": 1}), ("undo", {"actor": "user:ada"})])
def test_who_loses_the_right_while_a_way_back_is_worked_out_changes_nothing(
    server: Server, ada: Api, way: str, body: object
) -> None:
    write(server, ada, ADA, (0, 0, "one"), (3, 0, " two"))
    bob = Api(server, ada.path.rsplit("/", 1)[1], BOB)
    assert ada.client.put(f"{ada.path}/members/user:bob", json={"role": "editor"}).status_code == 204
    bob.get("/versions")  # the worker is there
    with ThreadPoolExecutor(1) as another:
        try:
            server.freeze_children()
            answer = another.submit(bob.client.post, f"{bob.path}/{way}", json=body)
            time.sleep(0.5)  # it is let in, and waits
            assert ada.client.delete(f"{ada.path}/members/user:bob").status_code == 204
        finally:
            server.thaw_children()
        assert answer.result().status_code == 404
    assert ada.content() == "one two"
    assert ada.get("/versions")["head"] == 2


def test_a_restore_that_is_done_is_not_said_to_be_refused(server: Server, ada: Api) -> None:
    """Its name is taken, say; who is told so does it again, and takes out what was typed in between."""
    write(server, ada, ADA, (0, 0, "one"), (3, 0, " two"))
    ada.post("/versions", {"name": "Restored 1 (3)", "at": 1})
    body, key = {"from": 1, "note": "why"}, {"Idempotency-Key": "done"}
    answer = ada.post("/restore", body, **key)
    assert ada.content() == "one"
    assert (answer["version"], answer["checkpoint"], answer["head"]) == (None, {"seq": 2}, 3)
    write(server, ada, ADA, (3, 0, " three"))
    assert ada.post("/restore", body, **key) == answer
    assert ada.content() == "one three"


def test_an_idempotency_key_restores_once(server: Server, ada: Api) -> None:
    write(server, ada, ADA, (0, 0, "one"), (3, 0, " two"))
    first = ada.post("/restore", {"from": 1}, **{"Idempotency-Key": "once"})
    write(server, ada, ADA, (3, 0, " three"))
    assert ada.post("/restore", {"from": 1}, **{"Idempotency-Key": "once"}) == first
    assert ada.content() == "one three"


def test_restores_and_undos_beside_a_stock_client_that_types_converge(
    server: Server, ada: Api, node: Host
) -> None:
    write(server, ada, ADA, (0, 0, "0123456789" * 20))
    name = ada.path.rsplit("/", 1)[1]
    peer = Peer(node, "3", server.ws_url, name, params={"token": token("bob", name="Bob")})
    peer.until(synced=True)
    for number in range(15):
        finish = peer.begin("insert", 7 * number, f"<{number}>")
        if number % 3 == 1:
            ada.post("/restore", {"from": 1})
        elif number % 3 == 2:
            ada.post("/undo", {"actor": "user:bob"})
        finish()
    deadline = time.monotonic() + PATIENCE
    while peer.state["text"] != ada.content():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    ada.post("/undo", {"actor": "user:bob"})
    ada.post("/restore", {"from": 1})
    assert ada.content() == "0123456789" * 20
    authors = {run["actor"] for run in ada.get("/blame")["runs"]}
    assert authors == {"user:ada"}
    peer.until(text=ada.content())
    peer.call("destroy")


# --- the historian -------------------------------------------------------------------------------------


def answers(api: Api) -> list[Any]:
    asked: list[tuple[str, dict[str, Any]]] = [
        ("/versions", {}),
        ("/versions", {"split": "author", "gap": "1s", "kind": "auto"}),
        ("/content", {"at": 700}),
        ("/content", {"format": "json"}),
        ("/diff", {"from": 100, "granularity": "word"}),
        ("/diff", {"from": 1200, "to": 3, "format": "unified"}),
        ("/blame", {"at": 1000}),
        ("/activity", {"bucket": "1s"}),
    ]
    return [api.get(path, **query) for path, query in asked]


def test_no_answer_depends_on_a_cache_or_on_a_process_that_lives(
    make_server: Callable[..., Server],
) -> None:
    server = make_server(secret=SECRET)
    api = Api(server, "d", ADA)
    assert api.client.post("/api/documents", json={"name": "d"}).status_code == 201
    with gzip.open(TRACE) as file:
        patches = [patch for txn in json.load(file)["txns"][:2500] for patch in txn["patches"]]
    write(server, api, ADA, *((at, deleted, inserted) for at, deleted, inserted in patches))
    fresh = answers(api)
    database = server.data / "collab.db"
    deadline = time.monotonic() + PATIENCE
    while not rows(database, "SELECT seq FROM histories"):
        assert time.monotonic() < deadline, "the history was worked out, and is not kept"
        time.sleep(0.1)
    server.kill()
    server.start()
    assert answers(api) == fresh, "from the cache"
    for worker in server.children():
        os.kill(worker, signal.SIGKILL)
    deadline = time.monotonic() + PATIENCE
    while (asked := api.client.get(f"{api.path}/versions")).status_code == 503:
        assert asked.json()["code"] == "history-busy"
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert answers(api) == fresh, "from a new process"
    server.kill()
    with sqlite3.connect(database) as connection:
        connection.execute("DELETE FROM histories")
        connection.execute("DELETE FROM snapshots")
    server.start()
    assert answers(api) == fresh, "from the log alone"
    server.kill()
    with sqlite3.connect(database) as connection:
        connection.execute("UPDATE histories SET data = x'00'")
    server.start()
    assert answers(api) == fresh, "past a damaged cache"


def rows(database: Path, statement: str) -> list[Any]:
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    try:
        return connection.execute(statement).fetchall()
    finally:
        connection.close()


def test_who_asks_too_much_at_once_waits_and_others_do_not(server: Server, ada: Api) -> None:
    write(server, ada, ADA, (0, 0, "text"))
    with ThreadPoolExecutor(40) as pool:
        asked = list(pool.map(lambda _: ada.client.get(f"{ada.path}/blame"), range(120)))
        other = Api(server, ada.path.rsplit("/", 1)[1], BOB).get("/versions")
    assert other["head"] == 1
    assert {answer.status_code for answer in asked} <= {200, 429}
    for answer in asked:
        assert answer.status_code == 200 or answer.headers["retry-after"]


def test_history_is_gone_with_the_document_and_back_with_it(server: Server, ada: Api) -> None:
    write(server, ada, ADA, (0, 0, "kept"))
    ada.post("/versions", {"name": "a name"})
    assert ada.client.delete(ada.path).status_code == 204
    for path in ("/versions", "/blame", "/diff", "/activity"):
        assert ada.get(path, 410)["code"] == "document-deleted"
    assert ada.client.patch(ada.path, json={"deleted": False}).status_code == 200
    assert ada.content("a name") == "kept"


def test_of_a_document_that_nobody_has_touched_everything_is_empty(server: Server, ada: Api) -> None:
    assert ada.get("/versions") == {"versions": [], "head": 0, "next": None}
    assert ada.get("/blame")["runs"] == []
    assert ada.get("/activity")["buckets"] == []
    assert ada.get("/diff")["parts"] == []
    assert ada.get("/versions/head", 404)["code"] == "no-such-version"
    assert ada.post("/versions", {"name": "nothing"}, 422)
    assert ada.post("/restore", {"from": 0})["version"] is None
