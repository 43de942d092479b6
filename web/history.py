"""The history API: versions, content at any time, differences, who wrote what, and ways back.

Routes read the request and name a question; the question is a function of this module that the historian's
process puts to the history (``web.historian``), and most give the body of the answer, so that no long list
is made or written out on the event loop.
"""

from __future__ import annotations

import json
import logging
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from collab.errors import (
    CollabError,
    CorruptLog,
    DocumentDeleted,
    DocumentNotFound,
    Forbidden,
    HeadMoved,
    InvalidName,
    InvalidRequest,
    NotAuthenticated,
    RateLimited,
    StorageUnavailable,
    TooLarge,
)
from collab.log import Origin
from storage.labels import (
    LABELS_LIMIT,
    NAME_LIMIT,
    NOTE_LIMIT,
    LabelExists,
    Labels,
    NoSuchLabel,
    check_note,
)
from web.auth import HISTORY_EDITOR, Grant, HistoryEditor, HistoryReader, Reader
from web.documents import Rooms, Store, path_of
from web.historian import HEAD, Historian, HistoryBusy, Ref
from web.idempotency import ERRORS, Idempotent
from web.problem import problem, responses

if TYPE_CHECKING:
    from collab.history import Change

router = APIRouter(prefix="/api/documents/{document}", tags=["history"], route_class=Idempotent)

_log = logging.getLogger(__name__)

MISSING = responses(
    InvalidName,
    NotAuthenticated,
    Forbidden,
    DocumentNotFound,
    NoSuchLabel,
    DocumentDeleted,
    InvalidRequest,
    RateLimited,
    HistoryBusy,
    StorageUnavailable,
    CorruptLog,
)
IMMUTABLE = "private, max-age=31536000, immutable"  # what was, stays
DURATION = re.compile(r"(\d+(?:\.\d+)?)(s|m|h|d)?")
SECONDS = {None: 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


# --- what is asked and answered ------------------------------------------------------------------------


class Person(BaseModel):
    """Who did something, as the server authenticated them."""

    id: str = Field(examples=["user:ada"])
    name: str = Field(examples=["Ada"])
    kind: Literal["user", "guest", "agent"]


class Part(Person):
    """What one actor did: characters inserted and deleted."""

    inserted: int
    deleted: int


class NamedVersion(BaseModel):
    """A name for the version that ends with entry ``seq``."""

    id: str = Field(examples=["version_5f0c8a1be34d2c77"])
    seq: int
    name: str = Field(examples=["Sent to the board"])
    note: str
    by: Person
    at: datetime


class Stats(BaseModel):
    """Characters (Unicode code points) inserted and deleted."""

    inserted: int
    deleted: int


class VersionEntry(BaseModel):
    """A sitting: entries ``seq_from`` to ``seq_to`` of the log. Its ref is ``seq_to``."""

    seq_from: int
    seq_to: int
    started_at: datetime
    ended_at: datetime
    actors: list[Part]
    label: NamedVersion | None = Field(description="The latest name given to `seq_to`.")
    labels: list[NamedVersion]
    origin: Literal["edit", "offline", "import", "api", "restore", "undo"]
    stats: Stats
    excerpt: str = Field(description="The first of what it added and left.")


class VersionList(BaseModel):
    """Versions, the newest first; ``next`` is the cursor of the following page."""

    versions: list[VersionEntry]
    head: int
    next: str | None


class NewVersion(BaseModel):
    """A name for a version."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, max_length=NAME_LIMIT, examples=["Sent to the board"])
    note: str = Field(default="", max_length=NOTE_LIMIT)
    at: str | int = Field(
        default="head", description="A ref.", examples=["head", 1024, "2026-11-24T10:00:00Z"]
    )


class VersionChange(BaseModel):
    """Another name or note; what is left out stays."""

    model_config = ConfigDict(extra="forbid")

    name: str | None = Field(default=None, min_length=1, max_length=NAME_LIMIT)
    note: str | None = Field(default=None, max_length=NOTE_LIMIT)


class DiffPart(BaseModel):
    """One step from the old text to the new one, and who made it."""

    op: Literal["keep", "insert", "delete"]
    text: str
    actor: str | None = Field(default=None, description="An id of `actors`.")
    at: datetime | None = None
    seq: int | None = None


class Diff(BaseModel):
    """The parts that make the text as of ``from`` into that as of ``to``, or a page of them."""

    seq_from: int
    seq_to: int
    stats: Stats = Field(description="Of the whole, whatever the page.")
    actors: list[Person]
    parts: list[DiffPart]
    next: str | None = Field(description="The cursor of the following page; null: this was the last.")


class DiffStats(BaseModel):
    """How much differs."""

    seq_from: int
    seq_to: int
    stats: Stats


class Step(BaseModel):
    """One difference of two values; ``path`` leads to it by keys and positions: in the old value for
    "remove", in the new one otherwise."""

    op: Literal["add", "remove", "change"]
    path: list[str | int]
    old: Any
    new: Any


class StructuralDiff(BaseModel):
    """How the roots of a document differ as JSON (`/content?format=json`)."""

    seq_from: int
    seq_to: int
    steps: list[Step]


class BlameRun(BaseModel):
    """``length`` characters in a row that one actor typed."""

    length: int
    actor: str = Field(description="An id of `actors`.")
    first_at: datetime
    last_at: datetime
    seq: int = Field(description="The last entry that typed in it.")


class Blame(BaseModel):
    """Who typed the text as of ``seq``, from position ``start`` on."""

    seq: int
    start: int
    actors: list[Person]
    runs: list[BlameRun]
    next: int | None = Field(description="The position at which the following page starts.")


class ActivityBucket(BaseModel):
    """What was done in the time from ``start``."""

    start: datetime
    seq_from: int
    seq_to: int
    actors: list[Part]
    inserted: int
    deleted: int


class Activity(BaseModel):
    """Buckets in which something was done, in order of time."""

    bucket: float = Field(description="Seconds that a bucket lasts.")
    head: int
    buckets: list[ActivityBucket]


class Restore(BaseModel):
    """What to bring back: the text as of ``from``, all of it or a range of its characters."""

    model_config = ConfigDict(extra="forbid")

    from_: str | int = Field(alias="from", description="A ref.", examples=[1024, "Sent to the board"])
    range: tuple[int, int] | None = Field(default=None, description="Start and stop in the old text.")
    expected_head: int | None = Field(default=None, description="Refuse (412) when the head is another.")
    note: str = Field(
        default="", max_length=NOTE_LIMIT, description="Why; with one, the new version is a named one."
    )


class Undo(BaseModel):
    """What to take back: all, or what one actor did, in a stretch of time or of seqs."""

    model_config = ConfigDict(extra="forbid")

    actor: str | None = Field(default=None, examples=["agent:translator"])
    since: str | int | None = Field(default=None, description="A ref: what came after it.")
    until: str | int | None = Field(default=None, description="A ref: what came up to it.")
    expected_head: int | None = None


class Checkpoint(BaseModel):
    """How the document was before: a version ends there, whatever happens next."""

    seq: int


class Restored(BaseModel):
    """``version`` is the new one; null when there was nothing to do, and when what was done cannot be
    described now: then ``head`` is beyond the checkpoint all the same."""

    version: VersionEntry | None
    checkpoint: Checkpoint
    head: int = Field(description="The last seq that it wrote; that of the checkpoint if it wrote nothing.")
    stats: Stats
    other_roots: bool = Field(
        description="Something else than text was changed in that stretch, and was left as it is."
    )


class Changed(BaseModel):
    """A 412: what has happened since the expected head."""

    type: str = "about:blank"
    title: str
    status: int
    code: str
    detail: str
    head: int
    changed: list[VersionEntry]


# --- refs ----------------------------------------------------------------------------------------------


RefQuery = Annotated[
    str,
    Query(
        max_length=NAME_LIMIT,
        description="A ref: a seq, the id or name of a version, `head`, or an RFC 3339 time.",
        examples=["head", "1024", "Sent to the board", "2026-11-24T10:00:00Z"],
    ),
]


def historian_of(request: Request) -> Historian:
    found: Historian = request.app.state.historian
    return found


def labels_of(request: Request) -> Labels:
    found: Labels = request.app.state.labels
    return found


Asked = Annotated[Historian, Depends(historian_of)]
Names = Annotated[Labels, Depends(labels_of)]


async def ref_of(labels: Labels, document: str, given: str | int) -> Ref:
    """What ``given`` means. Raises NoSuchLabel, InvalidRequest."""
    text = str(given).strip()
    if text == "head":
        return HEAD
    if text.isascii() and text.isdigit():
        return Ref(int(text[:18]))
    if (time := _time(text)) is not None:
        return Ref(time=time)
    if text.startswith("version_"):
        return Ref((await labels.get(document, text)).seq)
    return Ref((await labels.named(document, text)).seq)


def _time(text: str) -> int | None:
    """Microseconds, of a time or a date (its first moment, UTC)."""
    if not re.match(r"\d{4}-\d\d-\d\d", text):
        return None
    try:
        at = datetime.fromisoformat(text.upper().replace(" ", "T") if len(text) > 10 else text)
        return int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1_000_000)
    except (ValueError, OverflowError):
        raise InvalidRequest(f"{text!r} is not an RFC 3339 time, like 2026-11-24T10:00:00Z") from None


def moment(given: str | None, name: str) -> int | None:
    """Microseconds, of a time; ``name`` is what it is called. Raises InvalidRequest."""
    if given is None:
        return None
    found = _time(given.strip())
    if found is None:
        raise InvalidRequest(f"{name} must be an RFC 3339 time, like 2026-11-24T10:00:00Z, not {given!r}")
    return found


def seconds(given: str, name: str) -> float:
    found = DURATION.fullmatch(given.strip())
    if found is None or not float(found[1]):
        raise InvalidRequest(f"{name} must be a time such as 300s, 5m, 1h or 1d, not {given!r}")
    return float(found[1]) * SECONDS[found[2]]


# --- versions ------------------------------------------------------------------------------------------


@router.get("/versions", response_model=VersionList, responses=MISSING)
async def list_versions(
    grant: HistoryReader,
    historian: Asked,
    labels: Names,
    kind: Literal["all", "named", "auto"] = "all",
    author: Annotated[str | None, Query(max_length=300, description="An actor's id.")] = None,
    since: Annotated[str | None, Query(description="An RFC 3339 time.", max_length=40)] = None,
    until: Annotated[str | None, Query(description="An RFC 3339 time.", max_length=40)] = None,
    gap: Annotated[str, Query(description="Silence that ends a version.", max_length=20)] = "300s",
    span: Annotated[str, Query(description="What a version lasts at most.", max_length=20)] = "1h",
    split: Literal["time", "author"] = "time",
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
    cursor: Annotated[int | None, Query(ge=0, le=1 << 53)] = None,
) -> Response:
    """The log as versions, the newest first. A version ends at a name, at a change of origin, after silence
    (`gap`), before it would last longer than `span`, and with `split=author` when somebody else goes on. The
    bounds of a version that is followed by another never change."""
    body = await historian.ask(
        grant.identity.actor.id,
        grant.document,
        "versions",
        await labels.list(grant.document),
        limit,
        {
            "kind": kind,
            "author": author,
            "since": moment(since, "since"),
            "until": moment(until, "until"),
            "gap": seconds(gap, "gap"),
            "span": seconds(span, "span"),
            "split": split,
            "before": cursor,
        },
    )
    return _json(body)


@router.get("/versions/{version}", response_model=VersionEntry, responses=MISSING)
async def read_version(grant: HistoryReader, version: str, historian: Asked, labels: Names) -> Response:
    """The version that an entry belongs to, by any ref."""
    named = await labels.list(grant.document)
    wanted = await ref_of(labels, grant.document, version)
    return _json(await historian.ask(grant.identity.actor.id, grant.document, "version", named, wanted))


@router.post(
    "/versions",
    status_code=201,
    responses={**MISSING, **responses(LabelExists, *ERRORS)},
    response_model=VersionEntry,
)
async def name_version(
    new: NewVersion, grant: HistoryEditor, documents: Store, historian: Asked, labels: Names
) -> Response:
    """Name the document as it is now, or as it was at any time. Names are never pruned."""
    name, actor = grant.document, grant.identity.actor
    await documents.get(name)
    seq = await historian.ask(actor.id, name, "seq_of", await ref_of(labels, name, new.at))
    if not seq:
        raise InvalidRequest("nothing has been written by then, so there is nothing to name")
    made = await labels.create(name, seq, new.name, new.note, actor.id)
    body = await historian.ask(actor.id, name, "version", await labels.list(name), Ref(seq))
    return _json(body, 201, {"Location": f"{path_of(name)}/versions/{made.id}"})


@router.patch("/versions/{version}", responses={**MISSING, **responses(LabelExists)})
async def rename_version(
    version: str, change: VersionChange, grant: HistoryEditor, labels: Names
) -> NamedVersion:
    """Give a named version another name or note."""
    made = await labels.change(grant.document, version, name=change.name, note=change.note)
    by = Person.model_validate(made.made_by, from_attributes=True)
    return NamedVersion(
        id=made.id,
        seq=made.seq,
        name=made.name,
        note=made.note,
        by=by,
        at=datetime.fromtimestamp(made.made_at / 1e6, UTC),
    )


@router.delete("/versions/{version}", status_code=204, responses=MISSING)
async def unname_version(version: str, grant: HistoryEditor, labels: Names) -> None:
    """Take the name away. What it named stays."""
    await labels.delete(grant.document, version)


# --- differences ---------------------------------------------------------------------------------------


@router.get(
    "/diff",
    response_model=Diff | DiffStats | StructuralDiff,
    responses={
        200: {
            "description": "By `format`: the parts, a unified diff that `patch` applies, HTML with `<ins>` "
            "and `<del>`, only how much differs, or `json`: how all roots differ as JSON.",
            "content": {
                "text/x-diff": {"schema": {"type": "string"}},
                "text/html": {"schema": {"type": "string"}},
            },
        },
        **MISSING,
    },
)
async def read_diff(
    grant: HistoryReader,
    documents: Store,
    historian: Asked,
    labels: Names,
    from_: Annotated[
        str, Query(alias="from", max_length=NAME_LIMIT, description="A ref; 0 is the empty document.")
    ] = "0",
    to: RefQuery = "head",
    format: Literal["ops", "unified", "html", "stats", "json"] = "ops",
    granularity: Literal["char", "word", "line"] = "char",
    cursor: Annotated[int, Query(ge=0, le=1 << 53)] = 0,
) -> Response:
    """What makes the text as of `from` into that as of `to`, each part with who made it. Read off the log,
    not guessed: text that was typed again is new. What is too long for one answer comes in pages (`next`)."""
    name = grant.document
    await documents.get(name)
    old, new = await ref_of(labels, name, from_), await ref_of(labels, name, to)
    if format == "json":
        return _json(await historian.ask(grant.identity.actor.id, name, "structure", old, new, name))
    body, cursor_next = await historian.ask(
        grant.identity.actor.id, name, "diff", old, new, format, granularity, cursor
    )
    media = {"unified": "text/x-diff", "html": "text/html"}.get(format)
    if media is None:
        return _json(body)
    # The page's policy lets nothing in it run, and the markup is escaped.
    headers = {} if cursor_next is None else {"Link": f'<?cursor={cursor_next}>; rel="next"'}
    return Response(body, media_type=f"{media}; charset=utf-8", headers=headers)


# --- who wrote what, and when --------------------------------------------------------------------------


@router.get("/blame", response_model=Blame, responses=MISSING)
async def read_blame(
    grant: HistoryReader,
    documents: Store,
    historian: Asked,
    labels: Names,
    at: RefQuery = "head",
    from_: Annotated[int, Query(alias="from", ge=0, le=1 << 53, description="A position.")] = 0,
    to: Annotated[int | None, Query(ge=0, le=1 << 53, description="A position, not included.")] = None,
) -> Response:
    """Who typed the text, as runs of characters in document order. Positions are Unicode code points."""
    await documents.get(grant.document)
    ref = await ref_of(labels, grant.document, at)
    return _json(await historian.ask(grant.identity.actor.id, grant.document, "blame", ref, from_, to))


@router.get("/activity", response_model=Activity, responses=MISSING)
async def read_activity(
    grant: HistoryReader,
    documents: Store,
    historian: Asked,
    since: Annotated[str | None, Query(description="An RFC 3339 time.", max_length=40)] = None,
    until: Annotated[str | None, Query(description="An RFC 3339 time.", max_length=40)] = None,
    bucket: Annotated[
        str | None, Query(description="Such as 60s, 5m, 1h, 1d; chosen to make some 200.", max_length=20)
    ] = None,
) -> Response:
    """Who wrote how much, by time: for a slider over the history."""
    await documents.get(grant.document)
    body = await historian.ask(
        grant.identity.actor.id,
        grant.document,
        "activity",
        None if bucket is None else seconds(bucket, "bucket"),
        moment(since, "since"),
        moment(until, "until"),
    )
    return _json(body)


# --- ways back -----------------------------------------------------------------------------------------

BACK: dict[int | str, dict[str, Any]] = {
    **MISSING,
    **responses(TooLarge, *ERRORS),
    412: {
        "description": "`head-moved`: the head is not the expected one; with what has changed since.",
        "content": {"application/problem+json": {"schema": Changed.model_json_schema()}},
    },
}


@router.post("/restore", status_code=201, response_model=Restored, responses=BACK)
async def restore_version(
    wanted: Restore, grant: HistoryEditor, request: Request, historian: Asked, labels: Names, hub: Rooms
) -> Response:
    """Make the text what it was, as an ordinary edit of yours: what stayed keeps its authors, who is
    writing keeps their place, and the history grows by one version. How it was before is a version too."""
    name = grant.document
    ref = await ref_of(labels, name, wanted.from_)
    check_note(wanted.note)
    return await _back(
        grant,
        request,
        historian,
        labels,
        hub,
        Origin.RESTORE,
        wanted.expected_head,
        "restore",
        ref,
        wanted.range,
        name,
        label=(f"Restored {wanted.from_}", wanted.note) if wanted.note else None,
    )


@router.post("/undo", status_code=201, response_model=Restored, responses=BACK)
async def undo_edits(
    wanted: Undo, grant: HistoryEditor, request: Request, historian: Asked, labels: Names, hub: Rooms
) -> Response:
    """Take back what somebody did and keep everyone else's edits: what they typed and is still there goes,
    what they deleted comes back in its place."""
    name = grant.document
    since = None if wanted.since is None else await ref_of(labels, name, wanted.since)
    until = None if wanted.until is None else await ref_of(labels, name, wanted.until)
    return await _back(
        grant,
        request,
        historian,
        labels,
        hub,
        Origin.UNDO,
        wanted.expected_head,
        "undo",
        wanted.actor,
        since,
        until,
    )


async def _back(
    grant: Grant,
    request: Request,
    historian: Historian,
    labels: Labels,
    hub: Rooms,
    origin: Origin,
    expected: int | None,
    question: str,
    *arguments: Any,
    label: tuple[str, str] | None = None,
) -> Response:
    name, actor = grant.document, grant.identity.actor
    named = await labels.list(name)
    if label is not None and len(named) >= LABELS_LIMIT:
        raise InvalidRequest("too many versions have names: delete one first, or restore without a note")
    head, change = await historian.ask(actor.id, name, question, *arguments)
    try:
        if expected is not None and head != expected:
            raise HeadMoved(head, expected)
        if change.update is None:
            return _json(restored(change, head, head, None), 201)
        await HISTORY_EDITOR(name, request)  # it may have taken long, and the right may be gone
        first, last = await hub.write(name, actor, origin, change.update, expected)
    except HeadMoved as error:
        changed = await historian.ask(actor.id, name, "changes_since", named, expected or 0)
        return problem(error.status, error.code, str(error), head=error.head, changed=json.loads(changed))
    version = None
    try:
        if label is not None:
            titled, number = label[0][: NAME_LIMIT - 20], f" ({last})"  # so that it is a name of its own
            await labels.create(name, last, titled + number, label[1], actor.id)
            named = await labels.list(name)
        version = await historian.ask(actor.id, name, "version", named, Ref(last))
    except CollabError as error:  # it is done all the same: said to be refused, it would be done again
        _log.warning("%s: seq %d is written, and cannot be described: %s", name, last, error)
    return _json(restored(change, first - 1, last, version), 201)


def restored(change: Change, before: int, head: int, version: bytes | None) -> bytes:
    """The body of an answer: ``change`` was made on top of seq ``before``, up to ``head``: ``version``."""
    answer = {
        "version": None if version is None else json.loads(version),
        "checkpoint": {"seq": before},
        "head": head,
        "stats": {"inserted": change.inserted, "deleted": change.deleted},
        "other_roots": change.other,
    }
    return json.dumps(answer).encode()


# --- what it was ---------------------------------------------------------------------------------------


@router.get(
    "/content",
    response_class=Response,
    responses={
        200: {
            "description": "The text; with `format=html` rendered, with `json` every root, with `yjs` the "
            "state as one Yjs update (v1). What was does not change: with `at` it may be kept for ever.",
            "content": {
                "text/markdown": {},
                "text/plain": {},
                "text/html": {},
                "application/json": {},
                "application/octet-stream": {},
            },
        },
        304: {"description": "It has not changed."},
        **MISSING,
    },
)
async def read_content(
    grant: Reader,
    documents: Store,
    hub: Rooms,
    historian: Asked,
    labels: Names,
    request: Request,
    at: RefQuery = "head",
    format: Literal["markdown", "text", "html", "json", "yjs"] = "markdown",
) -> Response:
    """The document as it is, or as it was at any time, which needs the right to read its history."""
    name, earlier = grant.document, at.strip() != "head"
    if earlier:
        grant.check_history()
    await documents.get(name)
    if earlier:
        ref = await ref_of(labels, name, at)
        seq, body = await historian.ask(grant.identity.actor.id, name, "content", ref, format, name)
    elif format == "yjs":
        seq, body = await hub.state(name)
    elif format in ("markdown", "text"):
        seq, text = await hub.text(name)
        body = text.encode("utf-8", "surrogatepass")
    else:
        seq, body = await historian.ask(grant.identity.actor.id, name, "content", HEAD, format, name)
    etag = f'"{seq}"' if format in ("markdown", "yjs") else f'"{seq}-{format}"'
    # A time that is yet to come, or a name that may move, says something else tomorrow.
    lasting = at.strip().isdigit()
    headers = {"ETag": etag, "Cache-Control": IMMUTABLE if lasting else "no-cache"}
    if request.headers.get("if-none-match") == etag:
        return Response(status_code=304, headers=headers)
    return Response(body, media_type=MEDIA[format], headers=headers)


MEDIA = {
    "markdown": "text/markdown; charset=utf-8",
    "text": "text/plain; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "json": "application/json",
    "yjs": "application/octet-stream",
}


# --- forms ---------------------------------------------------------------------------------------------


def _json(body: bytes, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(body, status, {"Cache-Control": "no-cache", **(headers or {})}, "application/json")
