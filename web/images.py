"""Images of a document: put one in, look at it, see which there are, take one out.

What it is, is told by its first bytes and not by who sends it; SVG is none, since it can run. It is answered
in a way that lets a browser do nothing with it but show it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field
from starlette.responses import StreamingResponse

from collab.errors import CollabError, Overloaded, RateLimited, TooLarge
from storage.images import Image as Stored
from storage.images import Images, ImagesFull, NoSuchImage
from web.auth import EDITOR, Editor, Owner, Reader
from web.documents import MISSING, path_of
from web.problem import responses
from web.settings import Settings
from web.turns import Places

router = APIRouter(prefix="/api/documents/{document}/images", tags=["images"])

PATH = re.compile(rb"/api/documents/[^/]+/images")
PIECE = 256 << 10  # bytes of an image in memory at a time, as it goes out
UNDER_WAY = 32  # images that come in at a time
UNDER_WAY_OF_ONE = 4  # and of one actor
KINDS = "PNG, JPEG, GIF, WebP or AVIF"
HEADERS = {
    "Cache-Control": "private, max-age=31536000, immutable",
    "Content-Disposition": "inline",
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class UnsupportedImage(CollabError):
    """The file is none of the kinds of images that are taken."""

    status = 415
    code = "unsupported-image"


class Image(BaseModel):
    """An image of a document."""

    hash: str = Field(description="The SHA-256 of the file.", examples=["9f86d081884c7d65…"])
    type: str = Field(examples=["image/png"])
    size: int = Field(examples=[48213])
    url: str = Field(description="Where it is, for Markdown.", examples=["/api/documents/plan/images/9f86…"])
    added_by: str = Field(examples=["user:ada"])
    added_at: datetime


class ImageList(BaseModel):
    """The images of a document in the order in which they came, and how many bytes they may have together."""

    images: list[Image]
    size: int
    limit: int


def uploads(limited: Counter[str]) -> Places:
    """For what comes in, since each is held in memory."""
    return Places(
        limited,
        "images",
        UNDER_WAY,
        UNDER_WAY_OF_ONE,
        of_one=f"{UNDER_WAY_OF_ONE} images of yours are coming in; send the next one after them",
        of_all="too many images are coming in; try again in a moment",
    )


def type_of(data: bytes) -> str:
    """The media type of an image, by what is in it. Raises UnsupportedImage."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if data.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif"
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "image/webp"
    if data[4:8] == b"ftyp" and data[8:12] in (b"avif", b"avis"):
        return "image/avif"
    raise UnsupportedImage(f"this is no image that is taken here: {KINDS}")


def images_of(request: Request) -> Images:
    found: Images = request.app.state.images
    return found


def shown(document: str, image: Stored) -> Image:
    at = datetime.fromtimestamp(image.added_at / 1e6, UTC)
    return Image(**{**image._asdict(), "added_at": at}, url=f"{path_of(document)}/images/{image.hash}")


@router.post(
    "",
    status_code=201,
    responses={
        200: {"description": "The document has it already.", "model": Image},
        **MISSING,
        **responses(UnsupportedImage, TooLarge, ImagesFull, RateLimited, Overloaded),
    },
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
        }
    },
)
async def add_image(grant: Editor, request: Request, response: Response) -> Image:
    """Give the document an image: the body is the file (PNG, JPEG, GIF, WebP or AVIF). Sent again it is
    there once."""
    settings: Settings = request.app.state.settings
    places: Places = request.app.state.uploads
    actor = grant.identity.actor.id
    with places.one(actor):
        data = await request.body()
        if len(data) > settings.image_bytes:
            raise TooLarge(f"an image may have {settings.image_bytes} bytes")
        await EDITOR(grant.document, request)  # who sends slowly may have lost the right
        type = type_of(data)
        made, new = await images_of(request).add(
            grant.document, data, type, actor, settings.document_image_bytes
        )
    image = shown(grant.document, made)
    response.status_code = 201 if new else 200
    response.headers["Location"] = image.url
    return image


@router.get("", responses=MISSING)
async def list_images(grant: Reader, request: Request) -> ImageList:
    found = await images_of(request).list(grant.document)
    return ImageList(
        images=[shown(grant.document, image) for image in found],
        size=sum(image.size for image in found),
        limit=request.app.state.settings.document_image_bytes,
    )


@router.get(
    "/{hash}",
    response_class=Response,
    responses={
        200: {"description": "The file as it came.", "content": {"image/*": {}}},
        304: {"description": "It is what you have."},
        **MISSING,
        **responses(NoSuchImage),
    },
)
async def read_image(grant: Reader, hash: str, request: Request) -> Response:
    images = images_of(request)
    image = await images.get(grant.document, hash)
    headers = {**HEADERS, "ETag": f'"{image.hash}"'}
    if request.headers.get("if-none-match") == headers["ETag"]:
        return Response(status_code=304, headers=headers)

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, image.size, PIECE):
            yield await images.read(image.hash, start, PIECE)

    headers["Content-Length"] = str(image.size)
    return StreamingResponse(pieces(), media_type=image.type, headers=headers)


@router.delete("/{hash}", status_code=204, responses={**MISSING, **responses(NoSuchImage)})
async def remove_image(grant: Owner, hash: str, request: Request) -> None:
    """Take an image from the document for good, also from what its history shows."""
    await images_of(request).remove(grant.document, hash)
