"""A document as one file, out and in again (collab.archive). docs/history.md tells of the format."""

from __future__ import annotations

import asyncio
import hashlib
import re
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Annotated, NamedTuple

from fastapi import APIRouter, Depends, Query, Request, Response

from collab import archive, document
from collab.document import check_name as check_document_name
from collab.errors import (
    CorruptLog,
    DocumentExists,
    Forbidden,
    InvalidName,
    InvalidRequest,
    NotAuthenticated,
    Overloaded,
    RateLimited,
    RoomFailed,
    StorageUnavailable,
    TooLarge,
    UpdateError,
)
from collab.log import Entry
from collab.rights import Role, granted
from storage.access import check_person
from storage.documents import Documents
from storage.images import Image, Images, digest
from storage.imports import Imports
from storage.labels import LABELS_LIMIT, Labels, check_name, check_note
from storage.log import SEGMENT, SEGMENT_BYTES, UpdateLog
from storage.models import storable
from web.accounts import Address
from web.auth import HistoryReader, Importer
from web.connections import Live
from web.documents import MISSING, TITLE_LIMIT, Document, Gate, Index, Rooms, Store, path_of, shown
from web.idempotency import ERRORS as KEY_ERRORS
from web.idempotency import declared, once
from web.images import UnsupportedImage, images_of, type_of
from web.problem import responses
from web.settings import Settings
from web.updates import EPOCH, MICROSECOND, PAGE_BYTES, Right, Stream, TheLog

router = APIRouter(tags=["history"])

MEDIA_TYPE = "application/jsonl"
IMPORT_PATH = "/api/import"
_UNSAFE = re.compile(r"[^0-9A-Za-z._-]+")


def labels_of(request: Request) -> Labels:
    found: Labels = request.app.state.labels
    return found


def imports_of(request: Request) -> Imports:
    found: Imports = request.app.state.imports
    return found


@router.get(
    "/api/documents/{document}/export",
    response_class=Response,
    responses={
        200: {
            "description": "The document with its title, its named versions, its images and its whole log, "
            "as JSON lines; the last line says that all has come.",
            "content": {MEDIA_TYPE: {}},
        },
        **MISSING,
        **responses(RateLimited),
    },
)
async def export_document(
    grant: HistoryReader,
    request: Request,
    address: Address,
    documents: Store,
    labels: Annotated[Labels, Depends(labels_of)],
    images: Annotated[Images, Depends(images_of)],
    log: TheLog,
    live: Live,
) -> Response:
    """All that there is of a document but who it is shared with; `POST /api/import` makes it anew."""
    name = grant.document
    whole = await contents(documents, labels, images, name)
    # What goes wrong on the way cuts the connection, and the archive lacks its end.
    pieces = lines(log, images, name, whole, Right(request, live, grant).check)
    answer = Stream(pieces, live.stream(grant.identity.actor.id, address), MEDIA_TYPE)
    answer.headers["Content-Disposition"] = f'attachment; filename="{file_name(name)}"'
    return answer


def file_name(document: str) -> str:
    """What its archive is called when nobody says."""
    return f"{_UNSAFE.sub('-', document).strip('-.') or 'document'}.collab.jsonl"


class Contents(NamedTuple):
    """What an archive begins with, and what images it has."""

    head: archive.Head
    labels: list[archive.Named]
    images: list[Image]


async def contents(documents: Documents, labels: Labels, images: Images, name: str) -> Contents:
    """What an archive of the document as it is now begins with. Raises DocumentNotFound, DocumentDeleted."""
    found = await documents.get(name)
    named = [
        archive.Named(label.seq, label.name, label.note, label.made_by.id, label.made_at)
        for label in await labels.list(name)
        if label.seq <= found.head
    ]
    head = archive.Head(found.title, (found.created_at - EPOCH) // MICROSECOND, found.head)
    return Contents(head, named, await images.list(name))


async def lines(
    log: UpdateLog,
    images: Images,
    name: str,
    whole: Contents,
    check: Callable[[], Awaitable[None]] | None = None,
) -> AsyncIterator[bytes]:
    """The archive, a page of it at a time; before each page ``check`` may raise."""
    writer, head = archive.Writer(), whole.head
    yield writer.head(head, images=bool(whole.images)) + b"".join(map(writer.label, whole.labels))
    for image in whole.images:
        if check is not None:
            await check()
        yield writer.image(archive.Picture(image.added_by, image.added_at, await images.read(image.hash)))
    after = 0
    while after < head.head:
        if check is not None:
            await check()
        entries = await log.entries(name, after, min(SEGMENT, head.head - after), PAGE_BYTES)
        if not entries:
            raise CorruptLog(f"{name!r} ends at {after}, not at {head.head}")
        yield writer.entries(entries)
        after = entries[-1].seq
    yield writer.end()


@router.post(
    IMPORT_PATH,
    status_code=201,
    dependencies=[Depends(declared)],
    response_model=Document,
    responses=responses(
        InvalidName,
        InvalidRequest,
        UpdateError,
        NotAuthenticated,
        Forbidden,
        DocumentExists,
        RateLimited,
        RoomFailed,
        TooLarge,
        StorageUnavailable,
        *KEY_ERRORS,
    ),
    openapi_extra={
        "requestBody": {"required": True, "content": {MEDIA_TYPE: {"schema": {"type": "string"}}}}
    },
)
async def import_document(
    identity: Importer,
    gate: Gate,
    request: Request,
    documents: Store,
    imports: Annotated[Imports, Depends(imports_of)],
    hub: Rooms,
    index: Index,
    live: Live,
    name: Annotated[
        str | None, Query(alias="document", description="What to call it; by default it gets a name.")
    ] = None,
) -> Response:
    """Make a document of an archive. It is yours, and marked as imported by you: its authors and times are
    what the archive says."""
    made = secrets.token_urlsafe(9) if name is None else check_document_name(name)
    gate.check_may_create(identity, made)
    if identity.rights is not None and (granted(identity.rights, made) or 0) < Role.OWNER:
        raise Forbidden(f"to import {made!r} your token must make you its owner")
    settings: Settings = request.app.state.settings
    importing: asyncio.Lock = request.app.state.importing
    if importing.locked():  # each holds a whole document in memory
        raise Overloaded("another archive is being imported; try again in a moment")
    async with importing:
        key = await imports.begin()
        try:
            taken = await take(request.stream(), imports, key, settings)

            async def finish() -> Response:
                await imports.finish(key, made, taken.head, taken.labels, identity.actor.id)
                if (room := hub.rooms.get(made)) is not None:
                    hub.end(room, RoomFailed("this document has come out of an archive; reconnect"))
                live.changed(made)
                index.stir(made)
                role = Role.OWNER if identity.rights is None else granted(identity.rights, made)
                body = shown(await documents.get(made), role).model_dump_json().encode()
                headers = {"Location": path_of(made)}
                return Response(body, 201, headers, media_type="application/json")

            return await once(request, identity, taken.digest, finish)
        finally:
            await imports.drop(key)


class Taken(NamedTuple):
    """An archive of which all entries are stored, and nobody sees them yet."""

    head: archive.Head
    labels: list[archive.Named]
    digest: bytes  # of all its bytes


async def take(pieces: AsyncIterator[bytes], imports: Imports, key: int, settings: Settings) -> Taken:
    """Store what comes as the document ``key``, once it is proven to be one.

    Raises InvalidRequest (no whole archive, or larger than the settings allow), UpdateError,
    StorageUnavailable.
    """
    reader = archive.Reader(settings.document_bytes)
    line_bytes = 2 * max(settings.message_bytes, settings.image_bytes)
    shown: set[str] = set()
    digest, rest = hashlib.sha256(), bytearray()
    entries: list[Entry] = []
    size = 0
    async for piece in pieces:
        digest.update(piece)
        rest += piece
        if (end := rest.rfind(b"\n", len(rest) - len(piece))) < 0:
            if len(rest) > line_bytes:
                raise InvalidRequest(f"a line of an archive may have {line_bytes} bytes")
            continue
        whole = bytes(rest[: end + 1]).splitlines(keepends=True)
        del rest[: end + 1]
        for line in whole:
            entry = reader.feed(line)
            if entry is None:
                continue
            if isinstance(entry, archive.Picture):
                image = _image(entry, settings)
                if image.hash not in shown:
                    await imports.show(key, image, entry.data, settings.document_image_bytes)
                    shown.add(image.hash)
                continue
            if len(entries) >= SEGMENT or size >= SEGMENT_BYTES:
                await imports.add(key, entries, last=False)
                entries, size = [], 0
            entries.append(entry)
            size += len(entry.data)
    if rest:
        reader.feed(bytes(rest))
    if entries:
        await imports.add(key, entries, last=True)
    head = reader.finish()
    _check(head, reader.labels)
    try:
        await asyncio.to_thread(document.build, reader.updates)
    except CorruptLog as error:
        raise UpdateError(f"the updates of the archive do not make a document: {error}") from None
    return Taken(head, reader.labels, digest.digest())


def _image(picture: archive.Picture, settings: Settings) -> Image:
    """Raises InvalidRequest."""
    if len(picture.data) > settings.image_bytes:
        raise InvalidRequest(f"an image in the archive is larger than {settings.image_bytes} bytes")
    check_person(picture.by)
    try:
        type = type_of(picture.data)
    except UnsupportedImage as error:
        raise InvalidRequest(f"an image in the archive is none: {error}") from None
    return Image(digest(picture.data), type, len(picture.data), picture.by, picture.at)


def _check(head: archive.Head, labels: Sequence[archive.Named]) -> None:
    """What the tables do not take, or the API would not. Raises InvalidRequest."""
    if len(head.title) > TITLE_LIMIT or not storable(head.title):
        raise InvalidRequest(f"a title may have {TITLE_LIMIT} characters and no NUL")
    if len(labels) > LABELS_LIMIT:
        raise InvalidRequest(f"a document may have {LABELS_LIMIT} named versions")
    if len({label.name for label in labels}) < len(labels):
        raise InvalidRequest("two versions in the archive have one name")
    for label in labels:
        check_name(label.name)
        check_note(label.note)
        check_person(label.by)
        if label.seq > head.head:
            raise InvalidRequest(f"the archive names a version at {label.seq}, beyond its end at {head.head}")
