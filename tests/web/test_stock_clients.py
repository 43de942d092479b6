"""Stock JavaScript clients of every generation, in Node and in Chromium, against the real server."""

from __future__ import annotations

import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from urllib.parse import quote

import pytest
from replay import paper, typed
from serverprocess import PATIENCE, Server
from stockclients import GENERATIONS, SOONER, UNICODE, Host, Peer, all_until, room_path

IDLE_SECONDS = 90


@pytest.fixture(scope="module", autouse=True)
def idlers(
    make_host: Callable[[str, Server], Host], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[float, list[Peer]]]:
    """Clients that do nothing from the start of this module on, each alone in its document; half of them
    announce nobody. The last test looks at them."""
    server = Server(tmp_path_factory.mktemp("idle"))
    server.start()
    hosts = {runtime: make_host(runtime, server) for runtime in ("node", "chromium")}
    peers = [
        Peer(host, generation, server.ws_url, f"{runtime}-{generation}-{name}", name=name)
        for runtime, host in hosts.items()
        for generation in GENERATIONS
        for name in ("Ada", None)
    ]
    for peer in peers:
        peer.until(synced=True)
    yield time.monotonic(), peers
    server.kill()


def everybody(host: Host, server: Server, document: str, *, named: bool = False) -> list[Peer]:
    """A client of each generation in one document."""
    return [
        Peer(host, g, server.ws_url, room_path(document), name=f"gen {g}" if named else None)
        for g in GENERATIONS
    ]


def all_equal(server: Server, document: str, peers: Sequence[Peer]) -> str:
    """Wait until every client has the server's text, and return it. Every edit must have been sent."""
    # What a client has sent before is in the log once a later edit of it has come back.
    for peer in peers:
        peer.call("set", "mark", peer.generation)
        all_until(peers, map={"mark": peer.generation})
    text = content(server, document)
    all_until(peers, text=text)
    return text


def content(server: Server, document: str) -> str:
    with urllib.request.urlopen(f"{server.url}/api/documents/{quote(document, safe='')}/content") as answer:
        text: str = answer.read().decode("utf-8", "surrogatepass")
        return text


def test_each_generation_types_a_paper_and_another_reads_it(host: Host, server: Server) -> None:
    patches = paper(0, 1000)
    writers = [Peer(host, g, server.ws_url, f"paper-{g}") for g in GENERATIONS]
    readers = [
        Peer(host, other, server.ws_url, f"paper-{g}")
        for g, other in zip(GENERATIONS, GENERATIONS[1:] + GENERATIONS[:1], strict=True)
    ]
    for finish in [peer.begin("type", patches) for peer in writers]:
        finish()
    all_until(readers, text=typed(patches))
    assert {content(server, f"paper-{g}") for g in GENERATIONS} == {typed(patches)}


def test_all_generations_type_at_once_and_agree_after_a_crash_and_an_offline_spell(
    host: Host, server: Server
) -> None:
    peers = everybody(host, server, "d")
    all_until(peers, synced=True)
    typing = [peer.begin("type", paper(n * 300, n * 300 + 300)) for n, peer in enumerate(peers)]
    for finish in typing:
        finish()
    before = all_equal(server, "d", peers)
    assert len(before) > 500

    server.kill()
    all_until(peers, connected=False)
    for peer in peers:
        peer.call("insert", 0, f"<{peer.generation}: {UNICODE}>")
    server.start()
    all_until(peers, connected=True, synced=True)
    after = all_equal(server, "d", peers)
    for generation in GENERATIONS:
        assert after.count(f"<{generation}: {UNICODE}>") == 1
    assert len(after) == len(before) + sum(len(f"<{g}: {UNICODE}>") for g in GENERATIONS)

    server.kill()
    server.start()
    assert content(server, "d") == after
    all_until(peers, connected=True, synced=True, text=after)


def test_maps_arrays_and_xml_of_all_generations_come_together(host: Host, server: Server) -> None:
    peers = everybody(host, server, "d")
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
    server.kill()
    server.start()
    late = everybody(host, server, "d")
    all_until(late, synced=True, **expected)


def test_all_generations_see_who_is_here_and_who_has_gone(
    host: Host, server: Server, runtime: str, make_host: Callable[[str, Server], Host]
) -> None:
    peers = everybody(host, server, "d", named=True)
    names = sorted(f"gen {g}" for g in GENERATIONS)
    all_until(peers, names=names)
    other = make_host(runtime, server)
    guests = [Peer(other, g, server.ws_url, "d", name=f"guest {g}") for g in GENERATIONS]
    all_until(peers + guests, names=sorted(names + [f"guest {g}" for g in GENERATIONS]))
    other.kill()
    for state in all_until(peers, SOONER, names=names):
        assert state["lost"] == 0

    peers[0].call("rename", None)
    all_until(peers, SOONER, names=names[1:])
    peers[0].call("rename", "gen 1")
    all_until(peers, SOONER, names=names)


def test_who_reconnects_is_visible_again_at_once(host: Host, server: Server) -> None:
    peers = everybody(host, server, "d", named=True)
    names = sorted(f"gen {g}" for g in GENERATIONS)
    all_until(peers, names=names)
    others = everybody(host, server, "d")
    all_until(others, names=names)
    for peer in peers:
        peer.call("disconnect")
        all_until(others, SOONER, names=[name for name in names if name != f"gen {peer.generation}"])
        peer.call("connect")
        all_until(others, SOONER, names=names)


def test_everybody_is_visible_again_after_a_restart_of_the_server(host: Host, server: Server) -> None:
    """Stock clients forget the others when they lose the connection, but not their clocks: they take
    nobody back before that one renews its state, which it does every 15 seconds."""
    peers = everybody(host, server, "d", named=True)
    names = sorted(f"gen {g}" for g in GENERATIONS)
    all_until(peers, names=names)
    server.kill()
    all_until(peers, connected=False)
    server.start()
    all_until(peers, 25, connected=True, names=names)


def test_a_document_of_several_megabytes_and_a_paste_reach_every_generation(
    host: Host, server: Server
) -> None:
    writers = everybody(host, server, "d")
    all_until(writers, synced=True)
    for peer in writers:
        peer.call("insert", -1, f"{peer.generation} {UNICODE}\n")
        peer.call("paste", f"{peer.generation} {UNICODE}\n", 6_000)
    writers[0].call("paste", "one megabyte\n", 1_000_000 // 13)
    text = all_equal(server, "d", writers)
    assert len(text.encode()) > 2 << 20
    late = everybody(host, server, "d")
    all_until(late, synced=True, text=text)

    writers[2].call("paste", "漢字 two megabytes\n", (2 << 20) // 22)
    pasted = text + "漢字 two megabytes\n" * ((2 << 20) // 22)
    assert sorted(pasted) == sorted(all_equal(server, "d", writers + late))
    for state in all_until(writers + late):
        assert (state["opened"], state["lost"]) == (1, 0)


@pytest.mark.parametrize(
    "document",
    ["a/b c", "100%", "%2F", "?&#+;=", "überraschung/漢字", "👩‍👩‍👧‍👦", "…" * 85, " "],
    ids=["slash", "percent", "escaped", "reserved", "umlaut", "emoji", "255-bytes", "space"],
)
def test_documents_have_any_name(host: Host, server: Server, document: str) -> None:
    peers = everybody(host, server, document)
    peers[0].call("insert", 0, document)
    all_until(peers, synced=True, text=document)
    assert content(server, document) == document


def test_a_name_need_not_be_encoded(host: Host, server: Server) -> None:
    """As stock applications pass them: y-websocket encodes nothing, WebSocket some."""
    peers = [Peer(host, g, server.ws_url, "a b/ü") for g in GENERATIONS]
    peers[0].call("insert", 0, "here")
    all_until(peers, text="here")
    assert content(server, "a b/ü") == "here"


def test_a_deleted_document_stays_deleted_whoever_comes_back(host: Host, server: Server) -> None:
    peers = everybody(host, server, "d")
    peers[0].call("insert", 0, "to be deleted")
    all_until(peers, text="to be deleted")
    request = urllib.request.Request(f"{server.url}/api/documents/d", method="DELETE")
    urllib.request.urlopen(request).close()
    for state in all_until(peers, connected=False):
        assert state["closes"][0][0] == 4404
    for peer in peers:
        peer.call("insert", 0, "again ")
    third = next(peer for peer in peers if peer.generation == "3")
    third.until(stopped=True)
    # The others do not know the code and come back; each time they hear the same.
    for peer in peers:
        if peer is not third:
            closes = peer.until(connected=False)["closes"]
            assert {code for code, _ in closes} == {4404}
    with pytest.raises(urllib.error.HTTPError, match="410"):
        content(server, "d")
    assert len(third.state["closes"]) == 1


@pytest.mark.parametrize(
    "path", ["%FF", "x" * 256, "a%00b", ""], ids=["not-utf-8", "256-bytes", "nul", "empty"]
)
def test_a_bad_name_is_refused_with_4400_and_a_reason(host: Host, server: Server, path: str) -> None:
    peers = [Peer(host, g, server.ws_url, path) for g in GENERATIONS]
    for peer in peers:
        deadline = time.monotonic() + PATIENCE
        while not (closes := peer.state["closes"]):
            assert time.monotonic() < deadline
        assert closes[0][0] == 4400
        assert "document name" in closes[0][1]
    next(peer for peer in peers if peer.generation == "3").until(stopped=True)


def test_several_messages_in_a_frame_are_taken(host: Host, server: Server) -> None:
    scratch = Peer(host, "3", server.ws_url, "scratch")
    scratch.call("insert", 0, "from one frame")
    update = bytes.fromhex(scratch.call("update"))
    peers = everybody(host, server, "d", named=True)
    all_until(peers, synced=True, names=sorted(f"gen {g}" for g in GENERATIONS))
    peers[0].call("record", True)
    # An empty step 1, the update, y-sweet's "tell me when it is saved", "who is here".
    frame = b"\x00\x00\x01\x00" + b"\x00\x02" + bytes([len(update)]) + update + b"\x66\x01\x07" + b"\x03"
    server.freeze()
    peers[0].call("send", frame.hex())
    assert peers[0].state["frames"] == []
    server.thaw()
    all_until(peers, text="from one frame")
    deadline = time.monotonic() + PATIENCE
    while (frames := peers[0].state["frames"]).count("660107") != 1:
        assert time.monotonic() < deadline
    echo = next(i for i, sent in enumerate(frames) if sent.startswith("0002"))
    assert echo < frames.index("660107")
    here = next(bytes.fromhex(sent) for sent in frames if sent.startswith("01"))
    assert all(f"gen {g}".encode() in here for g in GENERATIONS)
    server.kill()
    server.start()
    assert content(server, "d") == "from one frame"


def test_every_generation_idles_for_90_seconds_without_reconnecting(idlers: tuple[float, list[Peer]]) -> None:
    since, peers = idlers
    time.sleep(max(0.0, since + IDLE_SECONDS - time.monotonic()))
    for peer in peers:
        state = peer.state
        assert (state["opened"], state["lost"], state["connected"]) == (1, 0, True), peer.generation
