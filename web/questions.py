"""What the historian's process is asked: functions of a history. Most give the body of the answer, so that no
long list is made or written out on the event loop."""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Literal

from markdown_it import MarkdownIt

from collab import tree
from collab.diff import markup, unified
from collab.document import build, merge
from collab.errors import InvalidRequest
from collab.history import Change, History, Share, Version
from collab.log import Actor
from storage.labels import Label, NoSuchLabel
from web.historian import Ref, past

BUCKETS = 200  # that an activity is cut into when nobody says how


def seq_of(history: History, ref: Ref) -> int:
    if ref.time is not None:
        return history.at(ref.time)
    if ref.seq is None:
        return history.head
    if ref.seq > history.head:
        raise InvalidRequest(f"the document has entries up to {history.head}; there is no version {ref.seq}")
    return ref.seq


def versions(history: History, labels: Sequence[Label], limit: int, asked: dict[str, Any]) -> bytes:
    shown, before = _page(history, labels, limit=limit, **asked)
    cursor = None if before is None else str(before)
    return json.dumps({"versions": shown, "head": history.head, "next": cursor}).encode()


def version(history: History, labels: Sequence[Label], ref: Ref) -> bytes:
    seq = seq_of(history, ref)
    if not seq:
        raise NoSuchLabel("nothing had been written by then")
    (found,), _ = _page(history, labels, containing=seq, limit=1)
    return json.dumps(found).encode()


def changes_since(history: History, labels: Sequence[Label], seq: int) -> bytes:
    shown, _ = _page(history, labels, limit=20)
    return json.dumps([one for one in shown if one["seq_to"] > seq]).encode()


def _page(history: History, labels: Sequence[Label], **asked: Any) -> tuple[list[dict[str, Any]], int | None]:
    """As ``History.versions``, with the labels themselves in place of their ids."""
    page = history.versions(labels=[(label.seq, label.id) for label in labels], **asked)
    by_id = {label.id: label for label in labels}
    return [_version(one, by_id) for one in page.versions], page.before


def _version(one: Version, labels: dict[str, Label]) -> dict[str, Any]:
    named = [_label(labels[id]) for id in one.labels]
    return {
        "seq_from": one.seq_from,
        "seq_to": one.seq_to,
        "started_at": _shown(one.started_at),
        "ended_at": _shown(one.ended_at),
        "actors": [_part(share) for share in one.actors],
        "label": max(named, key=lambda label: str(label["at"])) if named else None,
        "labels": named,
        "origin": one.origin.name.lower(),
        "stats": {"inserted": one.inserted, "deleted": one.deleted},
        "excerpt": one.excerpt,
    }


def _label(label: Label) -> dict[str, Any]:
    return {
        "id": label.id,
        "seq": label.seq,
        "name": label.name,
        "note": label.note,
        "by": _person(label.made_by),
        "at": _shown(label.made_at),
    }


def diff(
    history: History,
    old: Ref,
    new: Ref,
    format: Literal["ops", "unified", "html", "stats"],
    granularity: Literal["char", "word", "line"],
    cursor: int,
) -> tuple[bytes, int | None]:
    a, b = seq_of(history, old), seq_of(history, new)
    if format == "unified":
        whole = history.compare(a, b, granularity="line")
        return unified(whole, f"seq {a}", f"seq {b}").encode("utf-8", "replace"), None
    if format == "stats":
        whole = history.compare(a, b, granularity=granularity)
        stats = {"inserted": whole.inserted, "deleted": whole.deleted}
        return json.dumps({"seq_from": a, "seq_to": b, "stats": stats}).encode(), None
    found = history.diff(a, b, granularity=granularity, cursor=cursor)
    if format == "html":
        return markup(found.parts).encode("utf-8", "replace"), found.cursor
    people: dict[str, dict[str, str]] = {}
    parts = []
    for part in found.parts:
        shown: dict[str, Any] = {"op": part.op, "text": part.text}
        if part.actor is not None and part.at is not None:
            people.setdefault(part.actor.id, _person(part.actor))
            shown |= {"actor": part.actor.id, "at": _shown(part.at), "seq": part.seq}
        parts.append(shown)
    answer = {
        "seq_from": a,
        "seq_to": b,
        "stats": {"inserted": found.inserted, "deleted": found.deleted},
        "actors": list(people.values()),
        "parts": parts,
        "next": None if found.cursor is None else str(found.cursor),
    }
    return json.dumps(answer).encode(), found.cursor


def structure(history: History, old: Ref, new: Ref, document: str) -> bytes:
    a, b = seq_of(history, old), seq_of(history, new)
    before, after = _roots(history, document, a, b)
    steps = tree.compare(before, after)
    return json.dumps({"seq_from": a, "seq_to": b, "steps": [step._asdict() for step in steps]}).encode()


def blame(history: History, ref: Ref, start: int, stop: int | None) -> bytes:
    seq = seq_of(history, ref)
    found = history.blame(seq, start, stop)
    people = {run.actor.id: _person(run.actor) for run in found.runs}
    runs = [
        {
            "length": run.length,
            "actor": run.actor.id,
            "first_at": _shown(run.first_at),
            "last_at": _shown(run.last_at),
            "seq": run.seq,
        }
        for run in found.runs
    ]
    answer = {"seq": seq, "start": start, "actors": list(people.values()), "runs": runs, "next": found.after}
    return json.dumps(answer).encode()


def activity(history: History, bucket: float | None, since: int | None, until: int | None) -> bytes:
    if bucket is None:
        first = since if since is not None else history.received(1) if history.head else 0
        last = until if until is not None else history.received(history.head) if history.head else 0
        bucket = max(1.0, (last - first) / 1e6 / BUCKETS)
    buckets = [
        {
            "start": _shown(one.start),
            "seq_from": one.seq_from,
            "seq_to": one.seq_to,
            "actors": [_part(share) for share in one.actors],
            "inserted": one.inserted,
            "deleted": one.deleted,
        }
        for one in history.activity(bucket, since=since, until=until)
    ]
    return json.dumps({"bucket": bucket, "head": history.head, "buckets": buckets}).encode()


def restore(history: History, ref: Ref, range: tuple[int, int] | None, document: str) -> tuple[int, Change]:
    """The head and the edit; maps, arrays and XML are touched by a restore of the whole document only."""
    seq = seq_of(history, ref)
    change = history.restore(seq, _new_client(history), range=range)
    others = tree.kinds(history.weave)
    if range is None and change.other and any(kind in ("map", "array", "xml") for kind in others.values()):
        updates = past(document, history.head)
        extra = tree.restore(updates, updates[:seq], others, _new_client(history, 1 << 32))
        made = [update for update in (change.update, extra) if update is not None]
        mixed = "mixed" in others.values()
        change = change._replace(update=merge(made) if made else None, other=mixed)
    return history.head, change


def undo(history: History, actor: str | None, since: Ref | None, until: Ref | None) -> tuple[int, Change]:
    after = 0 if since is None else seq_of(history, since)
    last = None if until is None else seq_of(history, until)
    return history.head, history.undo(_new_client(history), actor=actor, after=after, until=last)


def _new_client(history: History, above: int = 0) -> int:
    """A client id that the document has never seen; with another ``above`` never the same."""
    while (client := above + secrets.randbelow(1 << 32)) in history.weave.clocks:
        pass
    return client


def content(history: History, ref: Ref, format: str, document: str) -> tuple[int, bytes]:
    seq = seq_of(history, ref)
    if format == "yjs":
        return seq, merge(past(document, seq))
    if format == "json":
        (roots,) = _roots(history, document, seq)
        return seq, json.dumps({"seq": seq, "roots": roots}).encode()
    text = history.content(seq)
    if format == "html":
        text = rendered(text)
    return seq, text.encode("utf-8", "replace")


def _roots(history: History, document: str, *seqs: int) -> list[dict[str, Any]]:
    """Every root as JSON, as of each of ``seqs``. The log is read once, and only where there is more than
    text."""
    found = tree.kinds(history.weave)
    texts = [root for root, kind in found.items() if kind == "text"]
    others = {root: kind for root, kind in found.items() if kind != "text"}
    updates = past(document, max(seqs)) if others else []
    return [
        {root: history.content(seq, root) for root in texts}
        | (tree.content(build(updates[:seq]), others) if others else {})
        for seq in seqs
    ]


def rendered(markdown: str) -> str:
    """Markdown as HTML in which nothing can run: what is HTML in it is shown as text."""
    html: str = renderer().render(markdown)
    return html


def renderer() -> MarkdownIt:
    return MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])


def _shown(microseconds: int) -> str:
    return (
        datetime.fromtimestamp(microseconds / 1e6, UTC)
        .isoformat(timespec="milliseconds")
        .replace("+00:00", "Z")
    )


def _person(actor: Actor) -> dict[str, str]:
    return {"id": actor.id, "name": actor.name, "kind": actor.kind}


def _part(share: Share) -> dict[str, Any]:
    return {**_person(share.actor), "inserted": share.inserted, "deleted": share.deleted}
