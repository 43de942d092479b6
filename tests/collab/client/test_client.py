"""Clients and a real server over real sockets, cut, swallowed, killed and restarted."""

from __future__ import annotations

import asyncio
import random
import sqlite3
import time
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cable import Cable
from pycrdt import Array, Doc, Map
from replay import load
from serverprocess import PATIENCE, Server
from stockclients import NodeHost, Peer, install

from collab.client import Client, Document, Line, Status, seed
from collab.errors import (
    DocumentDeleted,
    EpochChanged,
    Forbidden,
    InvalidRequest,
    NotAuthenticated,
    ProtocolError,
    ReadOnly,
    TooLarge,
)
from collab.rights import Role
from web import auth

pytestmark = pytest.mark.anyio

Enter = Callable[..., Awaitable[Client]]
SECRET = "a secret for tests that is long enough"


@pytest.fixture
def cable(shared_server: Server) -> Iterator[Cable]:
    cable = Cable(shared_server.port)
    yield cable
    cable.close()


async def within(seconds: float, work: Awaitable[Any]) -> Any:
    return await asyncio.wait_for(work, seconds)


async def agree(documents: list[Document], seconds: float = PATIENCE) -> str:
    """Wait until all is saved and everybody reads the same; returns it."""
    async with asyncio.timeout(seconds):
        for document in documents:
            await document.saved()
        while len({document.text for document in documents}) > 1:
            await asyncio.sleep(0.01)
    return documents[0].text


def token(subject: str, **documents: str) -> str:
    roles = {pattern: Role.of(role) for pattern, role in documents.items()}
    return auth.issue(SECRET, subject, audience="collab", seconds=3600, documents=roles)


# --- together


async def test_two_devices_meet_and_saved_means_on_the_servers_disk(
    make_server: Callable[..., Server], enter: Enter
) -> None:
    server = make_server()
    ada = (await enter(server.url, "ada.db")).open("plan")
    bob = (await enter(server.url, "bob.db")).open("plan")
    ada.insert(0, "héllo 🎉")
    await within(PATIENCE, ada.saved())
    server.kill()
    server.start()
    await within(PATIENCE, bob.until(lambda _: bob.text == "héllo 🎉"))
    assert ada.status.unsaved == 0


async def test_many_documents_share_one_line_and_more_than_a_hundred_take_two(
    make_server: Callable[..., Server], enter: Enter
) -> None:
    server = make_server(connections_per_actor=0, connections_per_address=0)
    client = await enter(server.url, "a.db")
    documents = [client.open(f"d{n}") for n in range(103)]
    for document in documents:
        document.insert(0, document.name)
    await within(PATIENCE, asyncio.gather(*(document.saved() for document in documents)))
    with await asyncio.to_thread(urllib.request.urlopen, f"{server.url}/metrics") as answer:
        assert "collab_sessions 103.0" in answer.read().decode()
    other = await enter(server.url, "b.db")
    last = other.open("d102")
    await within(PATIENCE, last.live())
    assert last.text == "d102"


@pytest.mark.parametrize("generation", ["3", "h4"])
async def test_a_stock_javascript_client_and_this_one_edit_one_document(
    shared_server: Server, enter: Enter, generation: str
) -> None:
    await asyncio.to_thread(install)
    host = NodeHost()
    try:
        name = f"js-{generation}"
        document = (await enter(shared_server.url, "a.db")).open(name)
        document.insert(0, "नमस्ते 🎉 from Python\n")
        document.presence.set({"user": {"name": "Ada"}})
        await within(PATIENCE, document.saved())
        peer = await asyncio.to_thread(Peer, host, generation, shared_server.ws_url, name, name="Bob")
        await asyncio.to_thread(peer.until, text="नमस्ते 🎉 from Python\n", names=["Ada", "Bob"])
        await asyncio.to_thread(peer.call, "insert", 10, "👩‍👩‍👧 from JavaScript ")
        await within(PATIENCE, document.until(lambda _: "JavaScript" in document.text))
        document.replace(7, 8, "🐍")
        await asyncio.to_thread(peer.until, text=document.text)
        await within(PATIENCE, document.until(lambda _: bool(document.presence.others)))
        assert [state["user"]["name"] for state in document.presence.others.values()] == ["Bob"]
        await asyncio.to_thread(peer.call, "destroy")
        await within(PATIENCE, document.until(lambda _: not document.presence.others))
    finally:
        host.kill()


async def test_other_roots_travel_too(shared_server: Server, enter: Enter) -> None:
    one: Doc[Any] = Doc()
    one["cells"] = cells = Array()
    document = (await enter(shared_server.url, "a.db")).open("book", doc=one)
    cells.append(Map({"source": "1 + 1"}))
    await within(PATIENCE, document.saved())
    two: Doc[Any] = Doc()
    two["cells"] = others = Array()
    await within(PATIENCE, (await enter(shared_server.url, "b.db")).open("book", doc=two).live())
    assert others.to_py() == [{"source": "1 + 1"}]


async def test_observers_hear_who_wrote(shared_server: Server, enter: Enter) -> None:
    ada = (await enter(shared_server.url, "a.db")).open("who")
    bob = (await enter(shared_server.url, "b.db")).open("who")
    await within(PATIENCE, asyncio.gather(ada.live(), bob.live()))
    heard: list[Any] = []
    bob.observe(heard.append)
    ada.presence.set({"user": {"name": "Ada"}})
    await within(PATIENCE, bob.until(lambda _: bool(bob.presence.others)))
    ada.insert(0, "é🎉")
    await within(PATIENCE, bob.until(lambda _: bob.text == "é🎉"))
    await asyncio.sleep(0.01)
    (change,) = heard
    assert not change.mine
    assert change.edits == [(0, "", "é🎉")]
    assert [author.presence for author in change.authors] == [{"user": {"name": "Ada"}}]


async def test_observers_hear_whom_the_server_knows_the_writer_to_be(
    make_server: Callable[..., Server], enter: Enter
) -> None:
    server = served(make_server)

    async def opened(subject: str, **documents: str) -> tuple[Document, list[Any]]:
        client = await enter(server.url, f"{subject}.db", token=token(subject, **documents))
        document, heard = client.open("d"), []
        document.observe(heard.append)
        await within(PATIENCE, document.live())
        return document, heard

    ada, _ = await opened("ada", d="owner")
    ada.presence.set({"user": {"name": "Somebody else"}})
    ada.insert(0, "one ")
    await within(PATIENCE, ada.saved())
    bob, heard = await opened("bob", d="editor")
    reader, unheard = await opened("eve", d="viewer")
    ada.insert(0, "two ")
    await within(PATIENCE, bob.until(lambda _: "two" in bob.text))
    await within(PATIENCE, reader.until(lambda _: "two" in reader.text))
    await asyncio.sleep(0.01)
    assert [[author.actor.id for author in change.authors] for change in heard] == [
        ["user:ada"],
        ["user:ada"],
    ]
    assert bob.actors[ada.doc.client_id].kind == "user"
    assert reader.actors == {}  # it may not read the history
    assert all(author.actor is None for change in unheard for author in change.authors)


async def test_presence_of_who_is_gone_goes_14(shared_server: Server, enter: Enter) -> None:
    ada = await enter(shared_server.url, "a.db")
    bob = (await enter(shared_server.url, "b.db")).open("here")
    document = ada.open("here")
    document.presence.set({"user": {"name": "Ada"}})
    await within(PATIENCE, bob.until(lambda _: bool(bob.presence.others)))
    ada.close(document)
    await within(PATIENCE, bob.until(lambda _: not bob.presence.others))


# --- apart


async def test_offline_edits_arrive_once_and_those_of_others_too(
    shared_server: Server, tmp_path: Path
) -> None:
    async with Client(None, tmp_path / "a.db", power_safe=False) as client:
        document = client.open("apart")
        for n in range(300):
            document.insert(len(document), f"a{n} ")
    async with Client(shared_server.url, tmp_path / "b.db", power_safe=False) as client:
        document = client.open("apart")
        for n in range(300):
            document.insert(0, f"b{n} ")
        await within(PATIENCE, document.saved())
    for _ in range(2):
        async with Client(shared_server.url, tmp_path / "a.db", power_safe=False) as client:
            document = client.open("apart")
            await within(PATIENCE, asyncio.gather(document.saved(), document.live()))
            assert sorted(document.text.split()) == sorted(f"{x}{n}" for x in "ab" for n in range(300))


async def test_a_line_that_swallows_everything_is_noticed_within_ten_seconds_4(
    shared_server: Server, cable: Cable, enter: Enter
) -> None:
    document = (await enter(cable.ws_url, "a.db")).open("hole")
    await within(PATIENCE, document.live())
    cable.dark = True
    began = time.monotonic()
    for n in range(20):
        document.insert(len(document), f"{n} ")
    await within(12, document.until(lambda status: status.line is not Line.LIVE))
    assert time.monotonic() - began < 10
    assert document.status.unsaved == 20
    document.insert(len(document), "later ")
    cable.dark = False
    cable.cut()
    await within(PATIENCE, document.saved())
    other = (await enter(shared_server.url, "b.db")).open("hole")
    await within(PATIENCE, other.live())
    assert other.text == "".join(f"{n} " for n in range(20)) + "later "


async def test_a_server_that_sleeps_and_wakes_gets_what_was_written_meanwhile_15(
    make_server: Callable[..., Server], enter: Enter
) -> None:
    server = make_server()
    document = (await enter(server.url, "a.db")).open("d")
    await within(PATIENCE, document.live())
    server.freeze()
    document.insert(0, "x")
    await within(PATIENCE, document.until(lambda status: status.line is not Line.LIVE))
    document.insert(0, "y")
    server.thaw()
    await within(PATIENCE, document.saved())
    assert document.text == "yx"


async def test_a_line_that_is_cut_again_and_again_loses_and_doubles_nothing(
    shared_server: Server, cable: Cable, enter: Enter
) -> None:
    rng = random.Random(5)
    clients = [await enter(cable.ws_url, f"{n}.db") for n in range(3)]
    documents = [client.open("cut") for client in clients]
    words = []
    for n in range(120):
        word = f"<{n}>"
        words.append(word)
        document = rng.choice(documents)
        document.insert(rng.choice((0, len(document))), word)
        if rng.random() < 0.1:
            for client in clients:
                client.retry()  # or there may be no line to cut: their pauses grow
            await within(PATIENCE, document.live())
            cable.cut()
        await asyncio.sleep(rng.choice((0, 0, 0.01)))
    text = await agree(documents, 60)
    assert cable.cuts > 5
    for word in words:
        assert text.count(word) == 1


async def test_a_server_that_is_killed_and_comes_back_gets_what_it_lacks(
    make_server: Callable[..., Server], enter: Enter
) -> None:
    server = make_server()
    documents = [(await enter(server.url, f"{n}.db")).open("d") for n in range(2)]
    await within(PATIENCE, asyncio.gather(*(document.live() for document in documents)))
    for round in range(3):
        for n, document in enumerate(documents):
            document.insert(0, f"<{round}.{n}>")
        server.kill()
        for n, document in enumerate(documents):
            document.insert(len(document), f"[{round}.{n}]")
        await asyncio.sleep(0.2)
        server.start()
    text = await agree(documents, 60)
    assert len(text) == 3 * 2 * 2 * 5


async def test_a_server_restored_from_an_older_backup_is_given_back_what_it_lost(
    make_server: Callable[..., Server], enter: Enter
) -> None:
    document = (await enter(make_server().url, "a.db")).open("d")
    document.insert(0, "one 🎉 ")
    document.insert(2, "two ")
    document.delete(0, 1)
    await within(PATIENCE, document.saved())
    name, replica = document.name, document.state()
    empty = make_server()  # the backup is from before the document
    again = await enter(empty.url, "b.db")
    copy = again.open(name)
    copy.adopt(replica)
    again.replica.database.execute("UPDATE updates SET edits = 0")
    again.close(copy)
    copy = again.open(name)
    assert copy.status.unsaved == 0
    await within(PATIENCE, copy.live())
    fresh = (await enter(empty.url, "c.db")).open(name)
    await within(PATIENCE, fresh.until(lambda _: fresh.text == document.text))


async def test_a_document_begun_from_a_template_by_many_begins_once_1(
    shared_server: Server, enter: Enter
) -> None:
    template = seed("# Minutes\n\n- 🎉\n")
    documents = [(await enter(shared_server.url, f"{n}.db")).open("minutes", seed=template) for n in range(4)]
    for n, document in enumerate(documents):
        document.insert(len(document), f"{n}\n")
    text = await agree(documents)
    assert text.count("# Minutes") == 1
    assert sorted(text.removeprefix("# Minutes\n\n- 🎉\n").split()) == ["0", "1", "2", "3"]


async def test_a_paste_larger_than_a_message_may_be_arrives(
    make_server: Callable[..., Server], enter: Enter
) -> None:
    server = make_server(message_bytes=300_000)
    document = (await enter(server.url, "a.db")).open("d")
    with document.transaction():
        for n in range(60):
            document.insert(0, f"{n}:" + "x" * 10_000)
    assert len(document) > 600_000
    await within(PATIENCE, document.saved())


# --- what is new, and no more


async def test_a_long_offline_editor_sends_and_gets_bytes_in_proportion_to_what_is_new(
    shared_server: Server, tmp_path: Path
) -> None:
    others = [step.update for step in load("automerge-paper").writers[0]]
    async with Client(shared_server.url, tmp_path / "others.db", power_safe=False) as client:
        document = client.open("long")
        with document.transaction():
            for update in others[:-1000]:
                document.doc.apply_update(update)
        await within(PATIENCE, document.saved())
        async with Client(shared_server.url, tmp_path / "away.db", power_safe=False) as away:
            copy = away.open("long")
            await within(PATIENCE, copy.live())
            whole = away.traffic[1]
        with document.transaction():
            for update in others[-1000:]:
                document.doc.apply_update(update)
        await within(PATIENCE, document.saved())
    async with Client(None, tmp_path / "away.db", power_safe=False) as away:
        copy = away.open("long")
        start = len(copy) // 2
        for n in range(500):
            copy.insert(start + n, "away "[n % 5])
    async with Client(shared_server.url, tmp_path / "away.db", power_safe=False) as away:
        copy = away.open("long")
        await within(PATIENCE, asyncio.gather(copy.live(), copy.saved()))
        sent, received = away.traffic
    print(f"{whole} bytes at first; then {received} for 1,000 edits of others, {sent} sent for 500")
    assert sent < 500 + 200
    assert received < whole / 2


# --- refusals


def served(make_server: Callable[..., Server]) -> Server:
    return make_server(secret=SECRET, guests="none")


async def test_a_demoted_editors_offline_edits_are_kept_and_sent_when_the_right_is_back_18(
    make_server: Callable[..., Server], enter: Enter
) -> None:
    server = served(make_server)
    owner = (await enter(server.url, "owner.db", token=token("ada", **{"*": "owner"}))).open("d")
    owner.insert(0, "one ")
    await within(PATIENCE, owner.saved())
    rights = {"d": "viewer"}
    client = await enter(server.url, "bob.db", token=lambda: token("bob", **rights))
    document = client.open("d")
    document.insert(0, "mine 🎉 ")
    with pytest.raises(ReadOnly, match="1 edit made here stays on this device"):
        await within(PATIENCE, document.saved())
    await within(PATIENCE, document.live())
    assert document.status[1:4] == (1, True, False)
    assert "one " in document.text
    assert owner.text == "one "
    rights["d"] = "editor"
    client.retry()
    await asyncio.sleep(0.1)
    for connection in client._connections:  # it is the line that knows the old right
        if connection._socket is not None:
            connection._socket.transport.abort()
    await within(PATIENCE, document.saved())
    await within(PATIENCE, owner.until(lambda _: "mine 🎉 " in owner.text))


async def test_a_document_that_is_not_shared_is_refused_and_the_others_go_on(
    make_server: Callable[..., Server], enter: Enter
) -> None:
    server = served(make_server)
    owner = (await enter(server.url, "owner.db", token=token("ada", **{"*": "owner"}))).open("secret")
    owner.insert(0, "one ")
    await within(PATIENCE, owner.saved())
    client = await enter(server.url, "bob.db", token=token("bob", open="owner"))
    secret, other = client.open("secret"), client.open("open")
    secret.insert(0, "x")
    other.insert(0, "y")
    with pytest.raises(Forbidden):
        await within(PATIENCE, secret.saved())
    await within(PATIENCE, other.saved())
    assert secret.status.unsaved == 1
    assert secret.text == "x"


async def test_a_deleted_document_is_not_made_again_and_its_edits_are_kept_3(
    make_server: Callable[..., Server], tmp_path: Path
) -> None:
    server = make_server()
    async with Client(server.url, tmp_path / "a.db") as client:
        document = client.open("d")
        document.insert(0, "saved ")
        await within(PATIENCE, document.saved())
        request = urllib.request.Request(f"{server.url}/api/documents/d", method="DELETE")
        await asyncio.to_thread(urllib.request.urlopen, request)
        await within(PATIENCE, document.until(lambda status: status.refusal is not None))
        document.insert(0, "unsaved ")
        with pytest.raises(DocumentDeleted):
            await within(PATIENCE, document.saved())
    async with Client(server.url, tmp_path / "a.db") as client:
        document = client.open("d")
        assert document.text == "unsaved saved "
        with pytest.raises(DocumentDeleted):
            await within(PATIENCE, document.saved())
        rescue = client.open("rescue")
        rescue.insert(0, document.text)
        await within(PATIENCE, rescue.saved())


async def test_a_fresh_token_is_asked_for_on_each_try(
    make_server: Callable[..., Server], enter: Enter
) -> None:
    server = served(make_server)
    handed = ["no token", "still none", token("ada", **{"*": "owner"})]
    asked = 0

    async def fresh() -> str:
        nonlocal asked
        asked += 1
        await asyncio.sleep(0.01)
        return handed[min(asked, len(handed)) - 1]

    document = (await enter(server.url, "a.db", token=fresh)).open("d")
    document.insert(0, "x")
    await within(PATIENCE, document.until(lambda status: status.unsaved == 0))
    assert asked == 3


async def test_a_wrong_token_is_a_refusal_by_type(make_server: Callable[..., Server], enter: Enter) -> None:
    document = (await enter(served(make_server).url, "a.db", token="none")).open("d")
    document.insert(0, "x")
    with pytest.raises(NotAuthenticated):
        await within(PATIENCE, document.saved())


async def test_a_token_function_that_fails_is_asked_again(shared_server: Server, enter: Enter) -> None:
    calls = 0

    def fresh() -> str:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise OSError("the application's server is away")
        return ""

    client = await enter(shared_server.url, "a.db", token=fresh)
    document = client.open("token-fails")
    document.insert(0, "x")
    await within(PATIENCE, document.saved())
    assert calls == 2


async def test_one_document_whose_edits_the_server_cannot_be_sent_harms_no_other(
    make_server: Callable[..., Server], enter: Enter
) -> None:
    """The server closes the whole socket on a message that is too large, and this one cannot be cut."""
    client = await enter(make_server(message_bytes=100_000).url, "a.db")
    good, bad = client.open("good"), client.open("bad")
    await within(PATIENCE, asyncio.gather(good.live(), bad.live()))
    bad.insert(0, "x" * 400_000)
    good.insert(0, "y")
    with pytest.raises(TooLarge):
        await within(PATIENCE, bad.saved())
    await within(PATIENCE, good.saved())
    good.insert(0, "z")
    await within(PATIENCE, good.saved())
    assert bad.status.unsaved == 1


async def test_an_address_that_is_none_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="https://collab"):
        Client("collab.example.org", tmp_path / "a.db")


async def test_nobody_at_the_address_is_no_error_but_trouble(enter: Enter) -> None:
    client = await enter("http://127.0.0.1:9", "a.db")
    document = client.open("d")
    document.insert(0, "x")
    async with asyncio.timeout(PATIENCE):
        while client.trouble is None:
            await asyncio.sleep(0.01)
    assert isinstance(client.trouble, OSError)
    assert document.status == Status(document.line, 1, True, None, None)
    assert document.line is not Line.LIVE


async def test_a_server_that_says_what_no_server_says_is_left(shared_server: Server, enter: Enter) -> None:
    from websockets.asyncio.server import serve

    async def lie(socket: Any) -> None:
        async for _ in socket:
            await socket.send("hello")

    async with serve(lie, "127.0.0.1", 0) as liar:
        port = liar.sockets[0].getsockname()[1]
        client = await enter(f"http://127.0.0.1:{port}", "a.db")
        document = client.open("d")
        document.insert(0, "x")
        async with asyncio.timeout(PATIENCE):
            while not isinstance(client.trouble, ProtocolError):
                await asyncio.sleep(0.01)
        assert document.status.unsaved == 1


async def test_a_copy_of_a_document_that_was_reset_is_refused_and_kept_2(
    make_server: Callable[..., Server], tmp_path: Path
) -> None:
    server = make_server()
    async with Client(server.url, tmp_path / "a.db") as client:
        document = client.open("d")
        document.insert(0, "saved ")
        await within(PATIENCE, document.saved())
        assert document.epoch == 1
    server.stop()
    database = sqlite3.connect(server.data / "collab.db")
    database.execute("UPDATE documents SET epoch = 2")
    database.commit()
    database.close()
    server.start()
    async with Client(server.url, tmp_path / "a.db") as client:
        document = client.open("d")
        document.insert(0, "unsaved ")
        with pytest.raises(EpochChanged, match="copy what you need"):
            await within(PATIENCE, document.saved())
        assert document.text == "unsaved saved "
        client.forget("d")
        again = client.open("d")
        again.insert(0, "begun again ")
        await within(PATIENCE, again.saved())
