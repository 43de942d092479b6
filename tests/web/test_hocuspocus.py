"""The published Hocuspocus providers, in Node and in Chromium, unchanged against the real server."""

from __future__ import annotations

import os
import random
import re
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from urllib.parse import quote

import jwt
import pytest
from cable import Cable
from replay import paper, typed
from serverprocess import PATIENCE, Server
from stockclients import HOCUSPOCUS, SOONER, UNICODE, Host, Peer, all_until, room_path

SECRET = "a secret that only these tests and their servers know"
KILLS = int(os.environ.get("COLLAB_KILLS", "50"))
IDLE_SECONDS = 90
WEBSOCKET = ("2", "3")  # the y-websocket generations that write beside
MARK = re.compile(r"<[^<>]*>")
SYNC, AUTH, STATELESS, CLOSE, SYNC_STATUS = 0, 2, 5, 7, 8
STEP1, STEP2, UPDATE = 0, 1, 2


def token(sub: str = "ann", role: str = "editor", *, secret: str = SECRET, **claims: Any) -> str:
    """What a host application would give its user."""
    asked = {"sub": sub, "name": sub, "aud": "collab", "exp": time.time() + 3600, "documents": {"*": role}}
    return jwt.encode(asked | claims, secret, "HS256")


FORGED = token(secret="another secret of more than thirty-two bytes")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that lets nobody in without a token of ours; left running by all tests of this module."""
    server = Server(tmp_path_factory.mktemp("shared"), secret=SECRET)
    server.start()
    yield server
    server.kill()


@pytest.fixture
def document(request: pytest.FixtureRequest) -> str:
    """A document of that server for this test alone."""
    name: str = request.node.name
    return name


@pytest.fixture
def own_server(make_server: Callable[..., Server]) -> Server:
    """One that a test may stop, kill and start."""
    return make_server(secret=SECRET)


@pytest.fixture
def cable(own_server: Server) -> Iterator[Cable]:
    cable = Cable(own_server.port)
    yield cable
    cable.close()


@pytest.fixture(scope="module", autouse=True)
def idlers(make_host: Callable[[str, Server], Host], server: Server) -> tuple[float, list[Peer]]:
    """Providers that do nothing from the start of this module on, each alone in its document: one with a
    name, one that announces nobody, one without awareness, one with a name whose socket was opened for a
    document that it was denied, too. The last test looks at them."""
    hosts = {runtime: make_host(runtime, server) for runtime in ("node", "chromium")}
    options: dict[str, dict[str, Any]] = {"named": {"name": "Ada"}, "nobody": {}, "null": {"awareness": None}}
    peers = [
        Peer(host, g, server.ws_url, f"{runtime}-{g}-{kind}", token=token(), **options[kind])
        for runtime, host in hosts.items()
        for g in HOCUSPOCUS
        for kind in options
    ]
    for runtime, host in hosts.items():
        for g in HOCUSPOCUS:
            socket, name = f"{runtime}-{g}-shared", f"{runtime}-{g}-beside"
            peers.append(Peer(host, g, server.ws_url, name, token=token(), name="Ada", socket=socket))
            denied = Peer(host, g, server.ws_url, f"{name}-denied", token=FORGED, socket=socket)
            denied.until(denied=True)
    all_until(peers, synced=True)
    return time.monotonic(), peers


def opened(host: Host, server: Server | Cable, generation: str, document: str, **options: Any) -> Peer:
    """A provider of ``generation`` with a token of its own; of y-websocket too."""
    given = options.pop("token", None) or token(f"user {generation}", options.pop("role", "editor"))
    if generation in HOCUSPOCUS:
        return Peer(host, generation, server.ws_url, document, token=given, **options)
    return Peer(host, generation, server.ws_url, room_path(document), params={"token": given}, **options)


def everybody(host: Host, server: Server | Cable, document: str, *, named: bool = False) -> list[Peer]:
    """One of each generation in one document, Hocuspocus and y-websocket."""
    return [
        opened(host, server, g, document, name=f"gen {g}" if named else None) for g in HOCUSPOCUS + WEBSOCKET
    ]


def providers(host: Host, server: Server | Cable, document: str, **options: Any) -> list[Peer]:
    """One of each Hocuspocus generation in one document."""
    return [opened(host, server, g, document, **options) for g in HOCUSPOCUS]


def content(server: Server, document: str) -> str:
    return stored(server, document)[1]


def stored(server: Server, document: str) -> tuple[int, str]:
    """The seq and the text, as the content API has them; nothing before the first edit."""
    request = urllib.request.Request(
        f"{server.url}/api/documents/{quote(document, safe='')}/content",
        headers={"Authorization": f"Bearer {token('reader', 'viewer')}"},
    )
    try:
        with urllib.request.urlopen(request) as answer:
            return int(answer.headers["ETag"].strip('"')), answer.read().decode("utf-8", "surrogatepass")
    except urllib.error.HTTPError as error:
        if error.code != 404:
            raise
        return 0, ""


def all_equal(server: Server, document: str, peers: Sequence[Peer]) -> str:
    """Wait until every client has the server's text, and return it. Every edit must have been sent."""
    # What a client has sent before is in the log once a later edit of it has come back.
    for peer in peers:
        peer.call("set", "mark", peer.generation)
        all_until(peers, map={"mark": peer.generation})
    text = content(server, document)
    all_until(peers, text=text)
    return text


def marks_of(text: str) -> Counter[str]:
    """Tests type <marks>; how often each is there. Nothing else is."""
    assert MARK.sub("", text) == ""
    return Counter(MARK.findall(text))


class Frame:
    """One Hocuspocus frame as it was recorded."""

    def __init__(self, seen: str) -> None:
        data = bytes.fromhex(seen[1:])
        size, at = data[0], 1
        if size > 127:
            size, at = size & 127 | data[1] << 7, 2
        self.sent = seen[0] == ">"
        self.key = data[at : at + size]
        self.kind, self.body = data[at + size], data[at + size + 1 :]

    @property
    def edits(self) -> bool:
        return self.kind == SYNC and self.body[0] in (STEP2, UPDATE)


def wire(peer: Peer) -> list[Frame]:
    return [Frame(seen) for seen in peer.call("state", ["wire"])["wire"]]


def statuses(peer: Peer, document: str) -> list[int]:
    """Wait until every edit that ``peer`` sent for ``document`` is answered; the answers. There are never
    more of them than of edits."""
    deadline = time.monotonic() + PATIENCE
    while True:
        answers: list[int] = []
        edits = 0
        for frame in wire(peer):
            if frame.key.split(b"\0")[0] == document.encode():
                edits += frame.sent and frame.edits
                if frame.kind == SYNC_STATUS:
                    assert len(frame.body) == 1
                    answers.append(frame.body[0])
                assert len(answers) <= edits
        if len(answers) == edits:
            return answers
        assert time.monotonic() < deadline, f"{len(answers)} of {edits} edits are answered"


# --- one document


def test_providers_of_all_generations_type_a_paper_beside_y_websocket(
    host: Host, server: Server, document: str
) -> None:
    patches = paper(0, 1000)
    writers = [opened(host, server, g, f"{document} {g}") for g in HOCUSPOCUS + WEBSOCKET]
    readers = [
        opened(host, server, other, f"{document} {g}")
        for g, other in zip(HOCUSPOCUS + WEBSOCKET, WEBSOCKET + HOCUSPOCUS, strict=True)
    ]
    for finish in [peer.begin("type", patches) for peer in writers]:
        finish()
    all_until(readers, text=typed(patches))
    all_until([peer for peer in writers if peer.generation in HOCUSPOCUS], unsynced=0)
    assert {content(server, f"{document} {peer.generation}") for peer in writers} == {typed(patches)}


def test_all_type_at_once_and_agree_after_a_crash_and_an_offline_spell(
    host: Host, own_server: Server
) -> None:
    peers = everybody(host, own_server, "d")
    all_until(peers, synced=True)
    for finish in [peer.begin("type", paper(n * 300, n * 300 + 300)) for n, peer in enumerate(peers)]:
        finish()
    before = all_equal(own_server, "d", peers)
    assert len(before) > 500

    own_server.kill()
    all_until(peers, connected=False)
    for peer in peers:
        peer.call("insert", 0, f"<{peer.generation}: {UNICODE}>")
    own_server.start()
    all_until(peers, 40, connected=True, synced=True)
    after = all_equal(own_server, "d", peers)
    for peer in peers:
        assert after.count(f"<{peer.generation}: {UNICODE}>") == 1
    assert len(after) == len(before) + sum(len(f"<{peer.generation}: {UNICODE}>") for peer in peers)

    own_server.kill()
    own_server.start()
    assert content(own_server, "d") == after
    all_until(peers, 40, connected=True, synced=True, text=after)


def test_maps_arrays_and_xml_come_together(host: Host, own_server: Server) -> None:
    peers = everybody(host, own_server, "d")
    all_until(peers, synced=True)
    expected: dict[str, Any] = {"map": {}, "array": [], "xml": ""}
    for peer in peers:
        value = {"from": peer.generation, "n": 1.5, "deep": [True, None, UNICODE]}
        peer.call("set", "last", value)
        peer.call("push", value)
        peer.call("paragraph", f"{peer.generation} {UNICODE}")
        expected["map"]["last"] = value
        expected["array"].append(value)
        expected["xml"] += f"<p>{peer.generation} {UNICODE}</p>"
        all_until(peers, **expected)
    own_server.kill()
    own_server.start()
    all_until(everybody(host, own_server, "d"), synced=True, **expected)


def test_all_see_who_is_here_and_who_has_gone(
    host: Host, server: Server, runtime: str, make_host: Callable[[str, Server], Host], document: str
) -> None:
    peers = everybody(host, server, document, named=True)
    names = sorted(f"gen {peer.generation}" for peer in peers)
    all_until(peers, names=names)
    other = make_host(runtime, server)
    guests = [opened(other, server, g, document, name=f"guest {g}") for g in HOCUSPOCUS]
    all_until(peers + guests, names=sorted(names + [f"guest {g}" for g in HOCUSPOCUS]))
    other.kill()
    all_until(peers, SOONER, names=names)
    for peer in peers:
        if peer.generation in HOCUSPOCUS:
            peer.call("rename", None)
            others = [one for one in peers if one is not peer]
            all_until(others, SOONER, names=[name for name in names if name != f"gen {peer.generation}"])
            peer.call("rename", f"gen {peer.generation}")
            all_until(peers, SOONER, names=names)
    for state in all_until(peers):
        assert (state["opened"], state["lost"]) == (1, 0)


def test_who_leaves_and_comes_back_on_the_same_socket_is_up_to_date_and_visible(
    host: Host, server: Server, document: str
) -> None:
    peers = everybody(host, server, document, named=True)
    names = sorted(f"gen {peer.generation}" for peer in peers)
    all_until(peers, synced=True, names=names)
    text = "<start>"
    peers[0].call("insert", 0, text)
    all_until(peers, text=text)
    for peer in peers:
        if peer.generation in HOCUSPOCUS:
            others = [one for one in peers if one is not peer]
            peer.call("detach")
            all_until(others, SOONER, names=[name for name in names if name != f"gen {peer.generation}"])
            peer.call("insert", 0, f"<{peer.generation}>")
            others[0].call("insert", -1, f"<without {peer.generation}>")
            text += f"<without {peer.generation}>"
            all_until(others, text=text)
            peer.call("attach")
            text = f"<{peer.generation}>{text}"
            all_until(peers, text=text)
            peer.until(unsynced=0, synced=True)
            all_until(peers, SOONER, names=names)
    assert content(server, document) == text
    for state in all_until(peers):
        assert (state["opened"], state["lost"]) == (1, 0)


def test_who_reconnects_is_visible_again_at_once(host: Host, server: Server, document: str) -> None:
    peers = providers(host, server, document, name="Ada")
    others = everybody(host, server, document)
    all_until(others, names=["Ada"] * len(peers))
    for peer in peers:
        peer.call("disconnect")
        all_until(others, SOONER, names=["Ada"] * (len(peers) - 1))
        peer.call("connect")
        all_until(others, SOONER, names=["Ada"] * len(peers))


def test_a_document_of_megabytes_reaches_every_provider(host: Host, server: Server, document: str) -> None:
    writers = providers(host, server, document)
    all_until(writers, synced=True)
    for peer in writers:
        peer.call("paste", f"{peer.generation} {UNICODE}\n", 6_000)
    writers[0].call("paste", "one megabyte\n", 1_000_000 // 13)
    text = all_equal(server, document, writers)
    assert len(text.encode()) > 2 << 20
    late = everybody(host, server, document)
    all_until(late, synced=True, text=text)
    all_until(writers + late[: len(HOCUSPOCUS)], unsynced=0)
    for state in all_until(writers + late):
        assert (state["opened"], state["lost"]) == (1, 0)


@pytest.mark.parametrize(
    "document",
    ["a/b c", "%2F", "?&#+;=\\*<>", "👩‍👩‍👧‍👦", "…" * 85, " "],
    ids=["slash", "escaped", "reserved", "emoji", "255-bytes", "space"],
)
def test_documents_have_any_name(host: Host, own_server: Server, document: str) -> None:
    peers = everybody(host, own_server, document)
    all_until(peers, synced=True)
    peers[0].call("insert", 0, document)
    all_until(peers, text=document)
    assert content(own_server, document) == document


@pytest.mark.parametrize("document", ["x" * 256, ""], ids=["256-bytes", "empty"])
def test_a_bad_name_is_denied_with_a_reason(host: Host, server: Server, document: str) -> None:
    for peer in providers(host, server, document):
        state = peer.until(denied=True)
        assert "document name" in state["denials"][0]
        assert state["lost"] == 0


def test_guests_need_no_token_where_they_may_edit(
    runtime: str, make_server: Callable[..., Server], make_host: Callable[[str, Server], Host]
) -> None:
    """The README's first step: `collab serve`, and a provider with nothing but a URL and a name. 2.x
    then sends no Auth frame at all."""
    server = make_server()
    host = make_host(runtime, server)
    peers = [Peer(host, g, server.ws_url, "d") for g in HOCUSPOCUS]
    all_until(peers, synced=True, unsynced=0)
    for peer in peers:
        peer.call("insert", 0, f"<{peer.generation}>")
        all_until(peers, unsynced=0)
    all_until(peers, text="<h4><h3><h2>")
    host.kill()


def test_presence_before_the_first_step_1_keeps_no_guest_out(
    runtime: str, make_server: Callable[..., Server], make_host: Callable[[str, Server], Host]
) -> None:
    """On a socket that is open already a provider may have more to say before it signs in."""
    server = make_server()
    host = make_host(runtime, server)
    for g in HOCUSPOCUS:
        Peer(host, g, server.ws_url, "other", socket=g).until(synced=True)
        peer = Peer(host, g, server.ws_url, "d", name=g, socket=g)
        peer.until(synced=True, unsynced=0, denials=[])
    host.kill()


# --- acknowledgements


def test_each_edit_is_answered_once_and_in_order(host: Host, server: Server, document: str) -> None:
    peers = providers(host, server, document, record=True)
    all_until(peers, synced=True)
    for finish in [peer.begin("type", paper(n * 200, n * 200 + 200)) for n, peer in enumerate(peers)]:
        finish()
    for peer in peers:
        peer.call("paste", UNICODE, 10_000)
    all_until(peers, unsynced=0)
    text = content(server, document)
    all_until(peers, text=text)
    for peer in peers:
        answers = statuses(peer, document)
        assert set(answers) == {1}
        assert len(answers) > 190


def test_the_count_of_unsynced_changes_comes_back_to_nothing(
    host: Host, server: Server, document: str
) -> None:
    """Whatever a provider does that makes it count from 1 again is followed by just one answer: 2.x
    counts below nothing otherwise, and then shows as saved what is not."""
    for peer in providers(host, server, document, record=True):
        peer.until(synced=True, unsynced=0)
        peer.call("sync")
        peer.until(unsynced=0)
        peer.call("insert", 0, "<a>")
        peer.until(unsynced=0)
        peer.call("sync")
        peer.call("insert", 0, "<b>")
        peer.until(unsynced=0)
        assert set(statuses(peer, document)) == {1}
        assert peer.state["unsynced"] == 0


def test_what_is_counted_as_synced_outlives_kill_9_of_the_server_and_of_the_clients(
    runtime: str, own_server: Server, make_host: Callable[[str, Server], Host]
) -> None:
    rng = random.Random(7)
    rounds = KILLS if runtime == "node" else max(3, KILLS // 10)
    total = 0
    for number in range(rounds):
        document = f"d{number // 10}"
        host = make_host(runtime, own_server)
        peers = [opened(host, own_server, g, document) for g in HOCUSPOCUS]
        all_until(peers, synced=True)
        for peer in peers:
            peer.begin("scribble", f"{peer.generation} {number}")
        time.sleep(rng.random() * 0.4)
        own_server.kill()
        saved = [peer.call("state", ["saved"])["saved"] for peer in peers]
        host.kill()  # or they would bring back what was lost
        own_server.start()
        there = marks_of(content(own_server, document))
        assert set(there.values()) <= {1}
        for peer, text in zip(peers, saved, strict=True):
            lost = marks_of(text).keys() - there.keys()
            assert not lost, f"round {number}: {peer.generation} was told that {lost} are saved"
            total += sum(mark.startswith(f"<{peer.generation} {number} ") for mark in marks_of(text))
    assert total > rounds


# --- rights


def test_who_may_only_read_sees_everything_and_changes_nothing(host: Host, own_server: Server) -> None:
    editor = opened(host, own_server, "h4", "d", name="editor")
    beside = opened(host, own_server, "3", "d", name="beside")
    editor.call("insert", 0, "<before>")
    all_until([editor, beside], text="<before>")
    viewers = [opened(host, own_server, g, "d", role="viewer", name=g, record=True) for g in HOCUSPOCUS]
    all_until(viewers, synced=True, text="<before>", scope="readonly", unsynced=0)
    assert editor.until(unsynced=0)["scope"] == "read-write"
    names = sorted(["editor", "beside", *HOCUSPOCUS])
    all_until([editor, beside, *viewers], names=names)

    for viewer in viewers:
        viewer.call("insert", 0, f"<{viewer.generation}>")
        viewer.call("delete", len(f"<{viewer.generation}>"), 4)
        viewer.until(unsynced=2)
    editor.call("insert", -1, "<after>")
    all_until([editor, beside], text="<before><after>")
    for viewer in viewers:
        viewer.until(text=f"<{viewer.generation}>ore><after>")
        # The empty step 2 that answered the own_server's step 1, then the two edits.
        assert statuses(viewer, "d") == [1, 0, 0]
        viewer.call("sync")
        deadline = time.monotonic() + PATIENCE
        while (told := statuses(viewer, "d")) == [1, 0, 0]:
            assert time.monotonic() < deadline
        assert told == [1, 0, 0, 0]  # now its step 2 carries them
        viewer.call("rename", f"still {viewer.generation}")
    names = sorted(["editor", "beside", *(f"still {g}" for g in HOCUSPOCUS)])
    for state in all_until([editor, beside, *viewers], SOONER, names=names):
        assert (state["opened"], state["lost"], state.get("denials") or []) == (1, 0, [])
    assert content(own_server, "d") == "<before><after>"
    own_server.kill()
    own_server.start()
    assert content(own_server, "d") == "<before><after>"
    all_until([editor, beside], 40, synced=True, text="<before><after>")


def test_who_is_denied_hears_why_and_gets_in_with_a_fresh_token_on_the_same_socket(
    host: Host, server: Server, document: str
) -> None:
    reader = opened(host, server, "3", document)
    reader.until(synced=True)
    for peer in [opened(host, server, g, document, token=FORGED, name=g) for g in HOCUSPOCUS]:
        state = peer.until(denied=True)
        assert "token" in state["denials"][0]
        assert not state["synced"]
        assert not state["authenticated"]
        peer.call("insert", 0, f"<{peer.generation}>")
        assert content(server, document).count(peer.generation) == 0
        peer.call("authenticate", token())
        state = peer.until(synced=True, authenticated=True, scope="read-write")
        reader.until(names=[g for g in HOCUSPOCUS if g <= peer.generation])
        assert len(state["denials"]) == 1
        assert (state["opened"], state["lost"]) == (1, 0)
    text = all_equal(server, document, [reader])
    assert marks_of(text) == Counter(f"<{g}>" for g in HOCUSPOCUS)


@pytest.mark.parametrize(
    ("claims", "words"),
    [
        ({"exp": 1}, "expired"),
        ({"aud": "elsewhere"}, "audience"),
        ({"documents": {"other*": "editor"}}, "not shared"),
    ],
    ids=["expired", "wrong-audience", "another-document"],
)
def test_the_reason_of_a_denial_says_what_to_do(
    host: Host, server: Server, claims: dict[str, Any], words: str, document: str
) -> None:
    for peer in providers(host, server, document, token=token(**claims)):
        state = peer.until(denied=True)
        assert words in state["denials"][0].lower()
        assert not state["synced"]


def test_a_denied_provider_may_be_replaced_by_another_on_its_socket(
    host: Host, server: Server, document: str
) -> None:
    for g in HOCUSPOCUS:
        kept = opened(host, server, g, "kept", socket=g)
        kept.until(synced=True)
        denied = opened(host, server, g, document, token=FORGED, socket=g)
        denied.until(denied=True)
        denied.call("destroy")
        second = opened(host, server, g, document, socket=g)
        state = second.until(synced=True, unsynced=0, scope="read-write")
        assert (state["opened"], state["lost"]) == (1, 0)
        assert kept.state["synced"]


def test_a_token_function_is_asked_again_at_every_connection(host: Host, own_server: Server) -> None:
    peers = [opened(host, own_server, g, "d", token=[FORGED, token("later")]) for g in ("h3", "h4")]
    for peer in peers:
        peer.until(denied=True)
    own_server.kill()
    all_until(peers, connected=False)
    own_server.start()
    all_until(peers, 40, synced=True, scope="read-write")


def test_a_fresh_token_is_taken_while_connected(host: Host, server: Server, document: str) -> None:
    for peer in [opened(host, server, g, document, token=[token(), token()]) for g in ("h3", "h4")]:
        peer.until(synced=True)
        peer.call("refresh")
        peer.call("insert", 0, f"<{peer.generation}>")
        state = peer.until(unsynced=0, authenticated=True, scope="read-write", denials=[])
        assert (state["opened"], state["lost"]) == (1, 0)
    assert content(server, document) == "<h4><h3>"


def test_what_is_typed_before_a_slow_token_has_come_is_no_attempt_without_one(
    host: Host, server: Server, document: str
) -> None:
    for g in ("h3", "h4"):
        opened(host, server, g, "other", socket=g).until(synced=True)
        peer = opened(host, server, g, document, name=g, token=[token()], socket=g)
        peer.call("insert", 0, f"<{g}>")
        peer.until(synced=True, scope="read-write", denials=[])
        peer.until(unsynced=0)
    all_equal(server, document, [peer])
    assert marks_of(content(server, document)) == Counter(("<h3>", "<h4>"))


def test_a_token_that_runs_out_is_asked_for_again_and_else_ends_in_a_denial(
    host: Host, server: Server, document: str
) -> None:
    def short() -> str:
        return token(exp=time.time() + 5)  # and for five seconds more: clocks may differ

    renewed = [opened(host, server, g, document, token=[short(), token()]) for g in ("h3", "h4")]
    stale = [opened(host, server, g, document, token=short(), name=g) for g in HOCUSPOCUS]
    all_until([*renewed, *stale], synced=True)
    for state in all_until(stale, denied=True, connected=True):
        assert state["lost"] >= 1
        assert "expired" in state["denials"][0]
        assert not state["stopped"]  # 2.x is, after 4401 and 4403, with all documents of its socket
    for state in all_until(renewed, scope="read-write", authenticated=True):
        assert (state["opened"], state["lost"], state["denials"]) == (1, 0, [])
    renewed[0].call("insert", 0, "on")
    all_until(renewed, text="on", unsynced=0)


# --- many documents on a socket


def test_documents_on_one_socket_do_not_meddle_with_each_other(
    host: Host, server: Server, document: str
) -> None:
    for g in HOCUSPOCUS:
        options = {"socket": g, "record": True}
        first = opened(host, server, g, f"{document} {g} first", **options)
        denied = opened(host, server, g, f"{document} {g} denied", token=FORGED, **options)
        read = opened(host, server, g, f"{document} {g} read", role="viewer", **options)
        last = opened(host, server, g, f"{document} {g} last", **options)
        all_until([first, read, last], synced=True, unsynced=0)
        assert [peer.state["scope"] for peer in (first, read, last)] == [
            "read-write",
            "readonly",
            "read-write",
        ]
        denied.until(denied=True)
        for peer, text in ((first, "<1>"), (denied, "<2>"), (read, "<3>"), (last, "<4>")):
            peer.call("insert", 0, text)
        all_until([first, last], unsynced=0)
        assert statuses(first, f"{document} {g} first") == [1, 1]
        assert statuses(read, f"{document} {g} read") == [1, 0]

        first.call("destroy")
        last.call("insert", -1, "<5>")
        state = last.until(unsynced=0)
        assert (state["opened"], state["lost"], state["synced"]) == (1, 0, True)
        assert content(server, f"{document} {g} first") == "<1>"
        assert content(server, f"{document} {g} last") == "<4><5>"
        assert content(server, f"{document} {g} read") == ""
        assert read.state["synced"]
        assert len(denied.state["denials"]) == 1


def test_sessions_of_one_document_share_a_socket(host: Host, server: Server, document: str) -> None:
    options: dict[str, Any] = {"socket": "shared", "sessionAwareness": True, "record": True}
    one = opened(host, server, "h4", document, name="one", **options)
    two = opened(host, server, "h4", document, name="two", **options)
    viewer = opened(host, server, "h4", document, name="viewer", role="viewer", **options)
    plain = [
        *providers(host, server, document, name="plain"),
        opened(host, server, "3", document, name="plain"),
    ]
    everyone = [one, two, viewer, *plain]
    names = sorted(["one", "two", "viewer", *["plain"] * len(plain)])
    all_until(everyone, synced=True, names=names)
    one.call("insert", 0, "<one>")
    all_until(everyone, text="<one>")
    two.call("insert", -1, "<two>")
    all_until(everyone, text="<one><two>")
    viewer.call("insert", -1, "<viewer>")
    all_until([one, two, *plain[:3]], unsynced=0)
    assert [peer.state["scope"] for peer in (one, two, viewer)] == ["read-write", "read-write", "readonly"]
    assert sorted(statuses(one, document)) == [0, 1, 1, 1, 1, 1]
    sent = {frame.key for frame in wire(one) if frame.sent}
    assert len(sent) == 3
    assert {frame.key for frame in wire(one) if not frame.sent} == sent

    two.call("destroy")
    all_until([one, viewer, *plain], SOONER, names=[name for name in names if name != "two"])
    one.call("insert", -1, "<still>")
    all_until([one, *plain], text="<one><two><still>")
    for state in all_until([one, viewer, *plain]):
        assert (state["opened"], state["lost"]) == (1, 0)


def test_stateless_messages_reach_the_other_providers_when_the_sender_may_write(
    host: Host, server: Server, document: str
) -> None:
    editors = providers(host, server, document)
    viewer = opened(host, server, "h4", document, role="viewer")
    elsewhere = opened(host, server, "h4", "elsewhere")
    beside = opened(host, server, "3", document, record=True)
    all_until([*editors, viewer, elsewhere, beside], synced=True)
    frames = len(beside.call("state", ["frames"])["frames"])
    expected: list[str] = []
    for editor in editors:
        editor.call("tell", f"{editor.generation} {UNICODE}")
        expected.append(f"{editor.generation} {UNICODE}")
        for other in (*editors, viewer):
            said = [text for text in expected if other is viewer or not text.startswith(other.generation)]
            other.until(stateless=said)
    viewer.call("tell", "viewers are not heard")
    editors[0].call("tell", "last")
    editors[1].until(stateless=[expected[0], expected[2], "last"])
    assert viewer.state["stateless"] == [*expected, "last"]
    assert elsewhere.state["stateless"] == []
    assert len(beside.call("state", ["frames"])["frames"]) == frames
    assert beside.state["lost"] == 0


# --- connections that end


def test_who_must_wait_waits_on_its_socket_or_backs_off(
    runtime: str, make_server: Callable[..., Server], make_host: Callable[[str, Server], Host]
) -> None:
    """Sent away before its first frame, 3.x comes back with more and more attempts at once; after it, 2.x
    comes back without a pause: both wait. 4.x backs off when it is closed before any frame."""
    server = make_server(secret=SECRET, connections_per_actor=1)
    host = make_host(runtime, server)
    for g in HOCUSPOCUS:
        first = opened(host, server, g, "first")
        first.until(synced=True)
        second = opened(host, server, g, "second")
        second.until(opened=1)
        time.sleep(2)
        state = second.state
        assert (state["synced"], state["denials"]) == (False, [])
        if g == "h4":
            assert 1 <= state["lost"] <= 4, "a pause of a second and more, doubled each time"
        else:
            assert (state["opened"], state["lost"]) == (1, 0)
        first.call("destroy")
        second.until(20, synced=True, unsynced=0)
        if g != "h4":
            assert (second.state["opened"], second.state["lost"]) == (1, 0)
        second.call("destroy")
    host.kill()


def test_cut_connections_and_restarts_neither_lose_nor_double_an_edit(
    host: Host, own_server: Server, cable: Cable
) -> None:
    rng = random.Random(3)
    peers = everybody(host, cable, "d")
    all_until(peers, synced=True)
    for number in range(120):
        for peer in peers:
            peer.call("insert", rng.choice((0, -1)), f"<{peer.generation} {number}>")
        if number % 20 == 10:
            cable.cut()
        if number == 65:
            assert own_server.stop() == 0
            own_server.start()
        time.sleep(rng.random() * 0.1)
    all_until(peers, 40, connected=True, synced=True)
    there = marks_of(all_equal(own_server, "d", peers))
    assert there == Counter(f"<{peer.generation} {number}>" for peer in peers for number in range(120))
    for state in all_until(peers):
        assert state["lost"] >= 3


def test_offline_edits_arrive_once(host: Host, server: Server, document: str) -> None:
    """Providers send them twice: as they were queued, and in their step 2."""
    for peer in providers(host, server, document):
        peer.until(synced=True, unsynced=0)
        before, _ = stored(server, document)
        peer.call("disconnect")
        peer.until(connected=False)
        for number in range(5):
            peer.call("insert", -1, f"<{peer.generation} {number}>")
        peer.call("record", True)
        peer.call("connect")
        peer.until(40, synced=True, connected=True)
        peer.call("insert", -1, f"<{peer.generation} 5>")
        deadline = time.monotonic() + PATIENCE
        while (found := stored(server, document))[1].count(peer.generation) < 6:
            assert time.monotonic() < deadline
        assert found[0] - before <= 6
        # 2.x counts below nothing now: it was answered for what it had forgotten to count.
        assert set(statuses(peer, document)) == {1}
        peer.call("destroy")
    marks = [f"<{g} {number}>" for g in HOCUSPOCUS for number in range(6)]
    assert content(server, document) == "".join(marks)


def test_providers_idle_for_90_seconds_without_reconnecting(idlers: tuple[float, list[Peer]]) -> None:
    since, peers = idlers
    time.sleep(max(0.0, since + IDLE_SECONDS - time.monotonic()))
    for peer in peers:
        state = peer.state
        assert (state["opened"], state["lost"], state["connected"], state["synced"]) == (1, 0, True, True)
