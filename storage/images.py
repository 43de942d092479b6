"""Images that documents show, by the SHA-256 of what is in them. They lie in the database, so that a backup
of it is whole and every server that reads it has them; each once, however many documents show it."""

from __future__ import annotations

import hashlib
import time
from typing import NamedTuple

from sqlalchemy import Connection, delete, func, insert, select

from collab.errors import CollabError, TooLarge
from storage.database import Database
from storage.documents import living_key
from storage.models import blobs, images


class NoSuchImage(CollabError):
    """The document has no such image."""

    status = 404
    code = "image-not-found"


class ImagesFull(TooLarge):
    """The images of the document are as large together as they may be."""

    code = "images-full"


class Image(NamedTuple):
    """What is known of an image. ``added_at`` is in microseconds."""

    hash: str
    type: str
    size: int
    added_by: str
    added_at: int


_OF = (
    select(images.c.hash, blobs.c.type, blobs.c.size, images.c.added_by, images.c.added_at)
    .join(blobs, blobs.c.hash == images.c.hash)
    .order_by(images.c.added_at, images.c.hash)
)


class Images:
    """The images of one database. All methods raise StorageUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, document: str, data: bytes, type: str, by: str, most: int) -> tuple[Image, bool]:
        """Give ``document`` an image; whether it is new to it. ``most``: bytes that all of them may have.

        Raises ImagesFull, DocumentNotFound, DocumentDeleted.
        """
        image = Image(digest(data), type, len(data), by, time.time_ns() // 1000)

        def work(connection: Connection) -> tuple[Image, bool]:
            key = living_key(connection, document)
            found = connection.execute(_OF.where(images.c.document == key, images.c.hash == image.hash))
            if (row := found.one_or_none()) is not None:
                return Image(*row), False
            insert_image(connection, key, image, data, most)
            return image, True

        return await self._database.write(work)

    async def list(self, document: str) -> list[Image]:
        """In the order in which they came. Raises DocumentNotFound, DocumentDeleted."""

        def work(connection: Connection) -> list[Image]:
            key = living_key(connection, document)
            return [Image(*row) for row in connection.execute(_OF.where(images.c.document == key))]

        return await self._database.read(work)

    async def get(self, document: str, hash: str) -> Image:
        """Raises NoSuchImage, DocumentNotFound, DocumentDeleted."""

        def work(connection: Connection) -> Image:
            key = living_key(connection, document)
            row = connection.execute(_OF.where(images.c.document == key, images.c.hash == hash)).one_or_none()
            if row is None:
                raise NoSuchImage(f"{document!r} has no image {hash[:64]!r}")
            return Image(*row)

        return await self._database.read(work)

    async def read(self, hash: str, start: int = 0, size: int = 1 << 30) -> bytes:
        """Some bytes of what is in an image. Raises NoSuchImage: no document shows it any more."""
        part = select(func.substr(blobs.c.data, start + 1, size)).where(blobs.c.hash == hash)

        def work(connection: Connection) -> bytes:
            found = connection.execute(part).scalar()
            if found is None:
                raise NoSuchImage("the image was removed")
            return bytes(found)

        return await self._database.read(work)

    async def share(self, source: str, target: str, by: str) -> None:
        """Let ``target`` show what ``source`` does. Raises DocumentNotFound, DocumentDeleted."""
        now = time.time_ns() // 1000

        def work(connection: Connection) -> None:
            ours = select(images.c.hash).where(images.c.document == living_key(connection, source))
            key = living_key(connection, target)
            rows = [
                {"document": key, "hash": hash, "added_by": by, "added_at": now}
                for hash in connection.execute(ours).scalars()
            ]
            if rows:
                connection.execute(insert(images), rows)

        await self._database.write(work)

    async def remove(self, document: str, hash: str) -> None:
        """Take an image from a document for good. Raises NoSuchImage, DocumentNotFound, DocumentDeleted."""

        def work(connection: Connection) -> None:
            key = living_key(connection, document)
            mine = (images.c.document == key) & (images.c.hash == hash)
            if connection.execute(delete(images).where(mine)).rowcount == 0:
                raise NoSuchImage(f"{document!r} has no image {hash[:64]!r}")
            _drop_unused(connection, [hash])

        await self._database.write(work)


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def insert_image(connection: Connection, key: int, image: Image, data: bytes, most: int) -> None:
    """Raises ImagesFull."""
    size = select(func.coalesce(func.sum(blobs.c.size), 0)).join(images, images.c.hash == blobs.c.hash)
    taken = connection.execute(size.where(images.c.document == key)).scalar_one()
    if taken + image.size > most:
        raise ImagesFull(f"the images of a document may have {most} bytes together, and there are {taken}")
    if connection.execute(select(blobs.c.hash).where(blobs.c.hash == image.hash)).one_or_none() is None:
        blob = {"hash": image.hash, "type": image.type, "size": image.size, "data": data}
        connection.execute(insert(blobs).values(blob))
    shown = {"document": key, "hash": image.hash, "added_by": image.added_by, "added_at": image.added_at}
    connection.execute(insert(images).values(shown))


def drop_images(connection: Connection, key: int) -> None:
    """Take all images from a document."""
    gone = list(connection.execute(select(images.c.hash).where(images.c.document == key)).scalars())
    connection.execute(delete(images).where(images.c.document == key))
    _drop_unused(connection, gone)


def _drop_unused(connection: Connection, hashes: list[str]) -> None:
    shown = select(images.c.hash).where(images.c.hash == blobs.c.hash).exists()
    for hash in hashes:
        connection.execute(delete(blobs).where(blobs.c.hash == hash, ~shown))
