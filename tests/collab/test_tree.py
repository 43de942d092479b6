"""Maps, arrays and XML: what they were, what differs, and the way back."""

from __future__ import annotations

import base64
import gzip
import json
import random
from pathlib import Path
from typing import Any

import pytest
from pycrdt import Array, Doc, Map, Text, XmlElement, XmlFragment, XmlText

from collab import tree
from collab.document import build
from collab.tree import Kind, Step
from collab.update import check
from collab.weave import Weave

FRESH = 77


class Log:
    """What one client does, update by update."""

    def __init__(self) -> None:
        self.doc: Doc[Any] = Doc(client_id=5)
        self.updates: list[bytes] = []
        self.doc.observe(lambda event: self.updates.append(event.update))

    @property
    def weave(self) -> Weave:
        return woven(self.updates)

    @property
    def kinds(self) -> dict[str, Kind]:
        return tree.kinds(self.weave)

    def content(self, seq: int) -> Any:
        return tree.content(build(self.updates[:seq]), self.kinds)

    def restore(self, seq: int) -> int:
        """Bytes of the update that brings the document of ``seq`` back; it is checked and applied."""
        update = tree.restore(self.updates, self.updates[:seq], self.kinds, FRESH + len(self.updates))
        if update is None:
            return 0
        assert check(update, self.weave.clocks).missing is None, "the gate lets it in"
        self.doc.apply_update(update)
        assert self.updates[-1] == update
        return len(update)


def woven(updates: list[bytes]) -> Weave:
    weave = Weave()
    for seq, update in enumerate(updates, 1):
        weave.add(seq, update)
    return weave


def recorded(name: str) -> list[list[bytes]]:
    file = Path(__file__).parent.parent / f"traces/{name}.json.gz"
    documents = json.loads(gzip.decompress(file.read_bytes()))
    return [[base64.b64decode(update) for update in document["updates"]] for document in documents]


def test_roots_are_known_by_what_lies_in_them() -> None:
    log = Log()
    log.doc.get("t", type=Text).insert(0, "x")
    log.doc.get("m", type=Map)["k"] = Text("not a root")
    log.doc.get("a", type=Array).append(Map({"x": 1}))
    log.doc.get("v", type=Array).append(b"1")
    log.doc.get("x", type=XmlFragment).children.append(XmlElement("p"))
    assert log.kinds == {"t": "text", "m": "map", "a": "array", "v": "array", "x": "xml"}


def test_a_text_inside_an_array_is_mixed_and_never_read() -> None:
    updates = [
        b"\1\1\1\0\x08\1\1a\1\x77\1x\0",
        b"\1\1\1\1\x84\1\0\4" + "🎉".encode() + b"\0",  # pycrdt would read it for ever
    ]
    kinds = tree.kinds(woven(updates))
    assert kinds == {"a": "mixed"}
    assert tree.content(build(updates), kinds) == {}
    assert tree.restore(updates, updates[:1], kinds, FRESH) is None


def test_content_is_json_at_every_seq() -> None:
    log = Log()
    settings = log.doc.get("m", type=Map)
    settings["n"] = 5
    settings["list"] = Array([1.5, True, None, {"b": [1, 2]}])
    settings["raw"] = b"\0\1"
    settings["odd"] = float("nan")
    settings["text"] = Text("plain")
    settings["text"].format(0, 2, {"bold": True})
    assert log.content(0) == {"m": {}}
    assert log.content(1) == {"m": {"n": 5}}
    last = log.content(len(log.updates))
    assert last == {
        "m": {
            "n": 5,
            "list": [1.5, True, None, {"b": [1, 2]}],
            "raw": {"$bytes": "AAE="},
            "odd": None,
            "text": [{"insert": "pl", "attributes": {"bold": True}}, {"insert": "ain"}],
        }
    }
    assert type(last["m"]["n"]) is int
    assert json.loads(json.dumps(last, allow_nan=False)) == last


def test_xml_reads_as_a_prosemirror_document() -> None:
    log = Log()
    root = log.doc.get("prosemirror", type=XmlFragment)
    heading = root.children.append(XmlElement("heading", {"level": "2"}))
    text = heading.children.append(XmlText("Hello you"))
    text.format(6, 9, {"link--abc": {"href": "x"}, "em": {}})
    root.children.append(XmlElement("hr"))
    assert log.content(len(log.updates)) == {
        "prosemirror": {
            "type": "doc",
            "content": [
                {
                    "type": "heading",
                    "attrs": {"level": "2"},
                    "content": [
                        {"type": "text", "text": "Hello "},
                        {
                            "type": "text",
                            "text": "you",
                            "marks": [{"type": "em"}, {"type": "link", "attrs": {"href": "x"}}],
                        },
                    ],
                },
                {"type": "hr"},
            ],
        }
    }


def test_a_structural_diff_tells_paths() -> None:
    old = {"a": 1, "b": [1, 2, 3], "c": {"x": "y"}, "d": True}
    new = {"a": 2, "b": [0, 1, 3], "c": {"x": "y", "z": None}, "e": "f"}
    assert list(tree.compare(old, new)) == [
        Step("change", ("a",), 1, 2),
        Step("add", ("b", 0), None, 0),
        Step("remove", ("b", 1), 2, None),
        Step("add", ("c", "z"), None, None),
        Step("remove", ("d",), True, None),
        Step("add", ("e",), None, "f"),
    ]
    assert list(tree.compare(old, old)) == []
    assert list(tree.compare({"a": 1}, {"a": True})) == [Step("change", ("a",), 1, True)]


def test_restore_touches_only_what_differs() -> None:
    log = Log()
    root = log.doc.get("x", type=XmlFragment)
    with log.doc.transaction():
        for number in range(200):
            root.children.append(XmlElement("p", {"n": str(number)})).children.append(XmlText("words " * 5))
    before = log.content(1)
    paragraph = root.children[100]
    paragraph.attributes["n"] = "changed"
    paragraph.children[0].insert(6, "more ")
    del root.children[50]
    kept = str(root.children[10])
    size = log.restore(1)
    assert log.content(len(log.updates)) == before
    assert size < 200
    assert str(root.children[10]) == kept


def test_what_others_do_meanwhile_stays() -> None:
    log = Log()
    root = log.doc.get("x", type=XmlFragment)
    with log.doc.transaction():
        text = root.children.append(XmlElement("p")).children.append(XmlText("one two"))
        log.doc.get("m", type=Map)["k"] = "v"
    text.insert(7, " three")
    log.doc.get("m", type=Map)["k"] = "w"
    head = list(log.updates)
    text.insert(0, "zero ")
    log.doc.get("m", type=Map)["other"] = 1
    update = tree.restore(head, head[:1], log.kinds, FRESH)
    assert update is not None
    log.doc.apply_update(update)
    assert log.content(len(log.updates)) == {
        "m": {"k": "v", "other": 1},
        "x": {
            "type": "doc",
            "content": [{"type": "p", "content": [{"type": "text", "text": "zero one two"}]}],
        },
    }


@pytest.mark.parametrize("number", range(8))
def test_rich_documents_of_yjs_come_back_from_every_state(number: int) -> None:
    updates = recorded("yjs-rich")[number]
    log = Log()
    for update in updates:
        log.doc.apply_update(update)
    log.updates[:] = updates
    assert set(log.kinds.values()) == {"text", "map", "array", "xml"}
    chance = random.Random(number)
    others = {name: kind for name, kind in log.kinds.items() if kind != "text"}
    for seq in [0, *chance.sample(range(len(updates)), 8)]:
        expected = tree.content(build(updates[:seq]), others)
        log.restore(seq)
        assert tree.content(build(log.updates), others) == expected


@pytest.mark.parametrize("seed", range(10))
def test_random_trees_come_back_from_every_state(seed: int) -> None:
    log = Log()
    chance = random.Random(seed)
    root = log.doc.get("m", type=Map)
    items = log.doc.get("a", type=Array)

    def value(depth: int = 0) -> Any:
        kind = chance.randrange(8 if depth < 3 else 4)
        if kind == 4:
            return Map({key: value(depth + 1) for key in chance.sample("xyz", 2)})
        if kind in (5, 6):
            return Array([value(depth + 1) for _ in range(chance.randint(0, 3))])
        return (
            Text("some text é🎉")
            if kind == 7
            else chance.choice((1.5, 7.0, "s", None, True, [1.0, {"a": "b"}]))
        )

    def edit(node: Any) -> None:
        if isinstance(node, Map):
            key = chance.choice("xyz")
            if key in node and chance.random() < 0.3:
                del node[key]
            elif key in node and isinstance(node[key], (Map, Array, Text)) and chance.random() < 0.7:
                edit(node[key])
            else:
                node[key] = value()
        elif isinstance(node, Array):
            index = chance.randint(0, len(node))
            if index < len(node) and isinstance(node[index], (Map, Array, Text)) and chance.random() < 0.6:
                edit(node[index])
            elif index < len(node) and chance.random() < 0.4:
                del node[index]
            else:
                node.insert(index, value())
        else:
            node.insert(len(node), "more", {"bold": True} if chance.random() < 0.5 else {})

    for _ in range(60):
        edit(chance.choice((root, items)))
    count = len(log.updates)
    for seq in (0, *chance.sample(range(count), 12), count):
        expected = log.content(seq)
        log.restore(seq)
        assert log.content(len(log.updates)) == expected
    log.restore(len(log.updates))
    assert log.restore(len(log.updates)) == 0, "what is so already takes no update"
