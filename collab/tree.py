"""Documents that are not, or not only, plain text: maps, arrays, and the XML of ProseMirror editors.

Their past is replayed: a Doc made of the log's updates up to a seq (``collab.document.build``, from the
nearest snapshot on) and read as JSON. What a root is follows from what lies in it (``kinds``), since
pycrdt reads any root as anything: a text inside an Array makes it loop for ever. Such roots are called
"mixed" and never read. An Array *inside* another type is not looked into beforehand, so read documents of
strangers in a process that can be stopped.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from difflib import SequenceMatcher
from typing import Any, Literal, NamedTuple

from pycrdt import Array, Doc, Map, Text, XmlElement, XmlFragment, XmlText

from collab import document
from collab.update import ANY, BINARY, EMBED, FORMAT, STRING, TYPE
from collab.weave import KEYED, SHARED, XML, Weave

Kind = Literal["text", "map", "array", "xml", "mixed"]
Json = Any  # None, bool, int, float, str, list or dict of these

MATCH_LIMIT = 1_000_000  # pairs of elements that are compared; beyond it all of a stretch is replaced

_ROOTS = {"text": Text, "map": Map, "array": Array, "xml": XmlFragment}
_TEXT = 1 << STRING | 1 << FORMAT | 1 << EMBED
_VALUES = 1 << ANY | 1 << BINARY


class Step(NamedTuple):
    """One difference of two JSON values. ``path`` leads to it by keys and positions: in the old value for
    "remove", in the new one otherwise."""

    op: Literal["add", "remove", "change"]
    path: tuple[str | int, ...]
    old: Json
    new: Json


def kinds(weave: Weave) -> dict[str, Kind]:
    """What each root of a document is. A root of which nothing but deletions is known is left out."""
    found: dict[str, Kind] = {}
    for name, number in weave.roots.items():
        bits = weave.kinds[number]
        values = bits & _VALUES
        if bits & _TEXT:
            found[name] = "mixed" if values else "text"
        elif bits & KEYED:
            found[name] = "mixed" if values or bits & 1 << TYPE else "map"
        elif bits & XML and not values and not bits & SHARED:
            found[name] = "xml"
        elif values or bits & 1 << TYPE:
            found[name] = "array"
    return found


def content(doc: Doc[Any], kinds: Mapping[str, Kind]) -> dict[str, Json]:
    """All roots but mixed ones as JSON, in order of their names.

    A text is a string, or when formatted a list of ``{"insert": ..., "attributes": ...}``; XML is what
    ProseMirror calls a document. Whole numbers are ints; what JSON has no word for: binary values are
    ``{"$bytes": base64}``, undefined, NaN and infinities are null. Raises CorruptLog.
    """
    with document.reading("the document"):
        return {
            name: as_json(_root(doc, name, kind)) for name, kind in sorted(kinds.items()) if kind != "mixed"
        }


def as_json(node: Any) -> Json:
    """A value out of a pycrdt Doc as JSON."""
    if isinstance(node, Map):
        return {key: as_json(node[key]) for key in sorted(node.keys())}
    if isinstance(node, Array):
        return [as_json(item) for item in node]
    if isinstance(node, Text):
        runs = node.diff()
        if all(isinstance(run, str) and not attributes for run, attributes in runs):
            return "".join(run for run, _ in runs)
        return [
            {"insert": as_json(run), **({"attributes": as_json(attributes)} if attributes else {})}
            for run, attributes in runs
        ]
    if isinstance(node, XmlElement):
        view: Any = node.attributes
        attributes = {key: as_json(value) for key, value in sorted(view)}
        children = _xml_children(node)
        return {
            "type": node.tag,
            **({"attrs": attributes} if attributes else {}),
            **({"content": children} if children else {}),
        }
    if isinstance(node, XmlFragment):
        return {"type": "doc", "content": _xml_children(node)}
    if isinstance(node, XmlText):
        return [_xml_text(run, attributes) for run, attributes in node.diff()]
    if isinstance(node, float):
        if not math.isfinite(node):
            return None
        return int(node) if node.is_integer() and abs(node) < 2**53 else node
    if isinstance(node, (bytes, bytearray)):
        return {"$bytes": base64.b64encode(node).decode()}
    if isinstance(node, dict):
        return {key: as_json(value) for key, value in sorted(node.items())}
    if isinstance(node, (list, tuple)):
        return [as_json(value) for value in node]
    return node


def compare(old: Json, new: Json, path: tuple[str | int, ...] = ()) -> Iterator[Step]:
    """What differs between two JSON values, in order of place."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            if key not in new:
                yield Step("remove", (*path, key), old[key], None)
            elif key not in old:
                yield Step("add", (*path, key), None, new[key])
            else:
                yield from compare(old[key], new[key], (*path, key))
    elif isinstance(old, list) and isinstance(new, list):
        for i, i_end, j, j_end in _unequal([_key(item) for item in old], [_key(item) for item in new]):
            both = min(i_end - i, j_end - j)
            for step in range(both):
                yield from compare(old[i + step], new[j + step], (*path, j + step))
            for index in range(i + both, i_end):
                yield Step("remove", (*path, index), old[index], None)
            for index in range(j + both, j_end):
                yield Step("add", (*path, index), None, new[index])
    elif _key(old) != _key(new):
        yield Step("change", path, old, new)


def restore(
    head: Sequence[bytes], past: Sequence[bytes], kinds: Mapping[str, Kind], client: int
) -> bytes | None:
    """An update that makes the maps, arrays and XML of a document what they were; None: nothing to do.

    ``head`` and ``past`` are the updates that make the document now and then, ``kinds`` what its roots are
    now. Only what differs is touched: values by key, elements by position, text by letters, each inside
    what stayed. Text roots are left to ``History.restore``, which knows their letters; mixed ones are left
    as they are. ``client`` must be a client id that the document has never seen, and another one than
    that of ``History.restore``. Raises CorruptLog.
    """
    with document.reading("the document"):
        now: Doc[Any] = Doc(client_id=client)
        then = document.build(past)
        document.apply_batch(now, head)
        made: list[bytes] = []
        roots = [
            (_root(now, name, kind), _root(then, name, kind))
            for name, kind in kinds.items()
            if kind in ("map", "array", "xml")
        ]
        subscription = now.observe(lambda event: made.append(event.update))
        try:
            with now.transaction():
                for live, old in roots:
                    _mend(live, old)
        finally:
            now.unobserve(subscription)
    return made[0] if made else None


def _root(doc: Doc[Any], name: str, kind: Kind) -> Any:
    return doc.get(name, type=_ROOTS[kind])


def _mend(live: Any, old: Any) -> None:
    """Make a shared type of one doc equal to one of the same shape in another."""
    if isinstance(old, Map):
        _mend_keys(live, old, list(live.keys()), list(old.keys()))
    elif isinstance(old, Array):
        _mend_items(
            list(live), list(old), live.__delitem__, lambda index, item: _insert_item(live, index, item)
        )
    elif isinstance(old, (Text, XmlText)):
        if isinstance(old, XmlText):
            _mend_attributes(live, old)
        _mend_text(live, old)
    else:
        if isinstance(old, XmlElement):
            _mend_attributes(live, old)
        _mend_items(
            list(live.children),
            list(old.children),
            live.children.__delitem__,
            lambda index, item: _fill(live.children.insert(index, _blank(item)), item),
        )


def _mend_keys(live: Any, old: Any, has: Sequence[str], had: Sequence[str]) -> None:
    for key in has:
        if key not in had:
            del live[key]
    for key in had:
        value = old[key]
        if key in has:
            present = live[key]
            if _alike(present, value):
                _mend(present, value)
                continue
            if not _is_shared(present) and not _is_shared(value) and _key(present) == _key(value):
                continue
        live[key] = _blank(value)
        _fill(live[key], value)


def _mend_attributes(live: Any, old: Any) -> None:
    has, had = dict(live.attributes), dict(old.attributes)
    for key in has.keys() - had.keys():
        del live.attributes[key]
    for key, value in had.items():
        if key not in has or _key(has[key]) != _key(value):
            live.attributes[key] = value


def _mend_items(
    live: Sequence[Any], old: Sequence[Any], delete: Callable[[int], None], insert: Callable[[int, Any], Any]
) -> None:
    """From the end on, so that positions stay true."""
    stretches = list(_unequal([_key(item) for item in live], [_key(item) for item in old]))
    for i, i_end, j, j_end in reversed(stretches):
        both = min(i_end - i, j_end - j)
        for index in range(i_end - 1, i + both - 1, -1):
            delete(index)
        for index in range(j + both, j_end):
            insert(i + index - j, old[index])
        for step in range(both - 1, -1, -1):
            if _alike(live[i + step], old[j + step]):
                _mend(live[i + step], old[j + step])
            else:
                delete(i + step)
                insert(i + step, old[j + step])


def _mend_text(live: Any, old: Any) -> None:
    """Replace the letters between the common beginning and the common end."""
    has, had = _letters(live), _letters(old)
    first = 0
    while first < min(len(has), len(had)) and has[first][:2] == had[first][:2]:
        first += 1
    last = 0
    while last < min(len(has), len(had)) - first and has[-1 - last][:2] == had[-1 - last][:2]:
        last += 1
    at = sum(_width(letter) for letter in has[:first])
    if gone := sum(_width(letter) for letter in has[first : len(has) - last]):
        del live[at : at + gone]
    run, attributes_key = "", ""
    attributes: dict[str, Any] = {}
    for letter, key, wanted in had[first : len(had) - last]:
        if run and (key != attributes_key or not isinstance(letter, str)):
            live.insert(at, run, attributes)
            at += len(run.encode())
            run = ""
        attributes_key, attributes = key, wanted
        if isinstance(letter, str):
            run += letter
        else:
            live.insert_embed(at, _blank(letter), attributes or None)
            at += 1
    if run:
        live.insert(at, run, attributes)


def _letters(text: Any) -> list[tuple[Any, str, dict[str, Any]]]:
    """Each letter or embed with its attributes, as a key and as they are."""
    letters: list[tuple[Any, str, dict[str, Any]]] = []
    for run, attributes in text.diff():
        key = _key(attributes or {})
        if isinstance(run, str):
            letters += [(char, key, attributes or {}) for char in run]
        else:
            letters.append((run, key, attributes or {}))
    return letters


def _width(letter: tuple[Any, str, dict[str, Any]]) -> int:
    return len(letter[0].encode()) if isinstance(letter[0], str) else 1


def _insert_item(array: Any, index: int, item: Any) -> None:
    array.insert(index, _blank(item))
    _fill(array[index], item)


def _blank(value: Any) -> Any:
    """A new shared type of the shape of ``value``, to be filled when it is in its place; or the value."""
    if isinstance(value, XmlElement):
        return XmlElement(value.tag)
    for shape in (Map, Array, Text, XmlText, XmlFragment):
        if isinstance(value, shape):
            return shape()
    return bytes(value) if isinstance(value, bytearray) else value


def _fill(live: Any, old: Any) -> None:
    if _is_shared(old):
        _mend(live, old)


def _is_shared(value: Any) -> bool:
    return isinstance(value, (Map, Array, Text, XmlText, XmlElement, XmlFragment))


def _alike(one: Any, two: Any) -> bool:
    """Whether the one can be made the other without replacing it."""
    return (
        _is_shared(one) and type(one) is type(two) and (not isinstance(one, XmlElement) or one.tag == two.tag)
    )


def _xml_children(node: Any) -> list[Json]:
    children: list[Json] = []
    for child in node.children:
        made = as_json(child)
        children += made if isinstance(made, list) else [made]
    return children


def _xml_text(run: Any, attributes: Mapping[str, Any] | None) -> Json:
    """A text node of ProseMirror. y-prosemirror tells marks of one name apart as ``name--hash``."""
    marks = [
        {
            "type": name.split("--")[0],
            **({"attrs": as_json(value)} if isinstance(value, dict) and value else {}),
        }
        for name, value in sorted((attributes or {}).items())
    ]
    node = {"type": "text", "text": run} if isinstance(run, str) else {"type": "embed", "value": as_json(run)}
    return {**node, **({"marks": marks} if marks else {})}


def _key(value: Any) -> str:
    """Equal for what reads the same, and says whether it is a shared type."""
    return type(value).__name__[:1] * _is_shared(value) + json.dumps(as_json(value), sort_keys=True)


def _unequal(old: Sequence[str], new: Sequence[str]) -> Iterator[tuple[int, int, int, int]]:
    """The stretches old[i:i_end] that were replaced by new[j:j_end]."""
    first = 0
    while first < min(len(old), len(new)) and old[first] == new[first]:
        first += 1
    last = 0
    while last < min(len(old), len(new)) - first and old[-1 - last] == new[-1 - last]:
        last += 1
    i_end, j_end = len(old) - last, len(new) - last
    if (i_end - first) * (j_end - first) > MATCH_LIMIT:
        yield first, i_end, first, j_end
        return
    matcher = SequenceMatcher(None, old[first:i_end], new[first:j_end], autojunk=False)
    for op, i, i_stop, j, j_stop in matcher.get_opcodes():
        if op != "equal":
            yield first + i, first + i_stop, first + j, first + j_stop
