"""A document as a file for other programs: Markdown, HTML, Word, PDF. As all that there is: web.archive."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from concurrent.futures.process import BrokenProcessPool
from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Depends, Query, Request, Response

from collab.errors import Overloaded, TooLarge
from storage.images import Images, NoSuchImage
from web import press
from web.auth import Reader
from web.documents import Rooms, Store
from web.history import MISSING, Asked, Names, RefQuery, ref_of
from web.images import images_of
from web.press import ENDINGS, ExportFailed, Format, NotInstalled, Picture
from web.problem import responses
from web.turns import Places
from web.workshop import TakesTooLong, Workshop

router = APIRouter(tags=["documents"])

IMAGE_BYTES = 64 << 20  # of the images in one file
WAITING = 8  # files to be made, of everybody
WAITING_OF_ONE = 2  # and of one actor
STUCK = 75.0  # seconds that making one may take
MEDIA = {
    "markdown": "text/markdown; charset=utf-8",
    "zip": "application/zip",
    "html": "text/html; charset=utf-8",
    "docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "pdf": "application/pdf",
}
_UNSAFE = re.compile(r"[^0-9A-Za-z._ -]+")


class Exporter:
    """Has files made in a process of its own, one after the other."""

    def __init__(self, limited: Counter[str]) -> None:
        self._workshop = Workshop()
        self._places = Places(
            limited,
            "export",
            WAITING,
            WAITING_OF_ONE,
            of_one=f"{WAITING_OF_ONE} files are being made for you; ask again after them",
            of_all="too many files are being made at once; ask again in a moment",
        )

    async def make(
        self, by: str, format: Format, title: str, markdown: str, pictures: dict[str, Picture]
    ) -> bytes:
        """As ``web.press.made``. Raises RateLimited, Overloaded too."""
        with self._places.one(by):
            try:
                return await self._workshop.run(press.made, format, title, markdown, pictures, within=STUCK)
            except TakesTooLong:
                raise TooLarge(f"to make this file takes more than {STUCK:.0f} seconds") from None
            except BrokenProcessPool:
                raise ExportFailed("what makes files has ended; ask again") from None

    def close(self) -> None:
        self._workshop.close()


def exporter_of(request: Request) -> Exporter:
    found: Exporter = request.app.state.exporter
    return found


@router.get(
    "/api/documents/{document}/download",
    response_class=Response,
    responses={
        200: {"description": "The file.", "content": {kind.partition(";")[0]: {} for kind in MEDIA.values()}},
        **MISSING,
        **responses(NotInstalled, TooLarge, ExportFailed, Overloaded),
    },
)
async def download_document(
    grant: Reader,
    request: Request,
    documents: Store,
    hub: Rooms,
    historian: Asked,
    labels: Names,
    images: Annotated[Images, Depends(images_of)],
    exporter: Annotated[Exporter, Depends(exporter_of)],
    format: Annotated[
        Format, Query(description="`zip` is Markdown with its images beside it.", examples=["pdf"])
    ] = "markdown",
    at: RefQuery = "head",
) -> Response:
    """The text as a file, with its images in it, as it is or as it was at any time, which needs the right to
    read its history. Word and PDF need the extra `export` on the server."""
    name, earlier = grant.document, at.strip() != "head"
    if earlier:
        grant.check_history()
    press.check(format)
    found = await documents.get(name)
    actor = grant.identity.actor.id
    if earlier:
        ref = await ref_of(labels, name, at)
        _, body = await historian.ask(actor, name, "content", ref, "markdown", name)
        text = bytes(body).decode()
    else:
        _, text = await hub.text(name)
    if format == "markdown":  # it is made already
        data = press.made(format, found.title, text, {})
    else:
        pictures = await pictures_of(images, name, press.hashes(text))
        data = await exporter.make(actor, format, found.title, text, pictures)
    ending = ENDINGS[format]
    called = found.title or name
    plain = _UNSAFE.sub("-", called).strip("-. ")[:100] or "document"
    full = quote(f"{called[:200]}.{ending}".replace("/", "-"), safe="")
    headers = {
        "Content-Disposition": f"attachment; filename=\"{plain}.{ending}\"; filename*=UTF-8''{full}",
        "Cache-Control": "no-store",
    }
    return Response(data, media_type=MEDIA[format], headers=headers)


async def pictures_of(images: Images, document: str, hashes: Iterable[str]) -> dict[str, Picture]:
    """Those of ``hashes`` that the document has. Raises TooLarge."""
    pictures = {}
    left = IMAGE_BYTES
    for hash in hashes:
        try:
            image = await images.get(document, hash)
        except NoSuchImage:
            continue
        left -= image.size
        if left < 0:
            raise TooLarge(f"the images of a file may have {IMAGE_BYTES} bytes together")
        pictures[hash] = Picture(image.type, await images.read(hash))
    return pictures
