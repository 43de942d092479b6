"""Images lie in the database, each once, as long as a document shows it; a document has a bound."""

import hashlib

import pytest
from sqlalchemy import text

from collab.errors import DocumentDeleted, DocumentNotFound
from storage.images import Images, ImagesFull, NoSuchImage

pytestmark = pytest.mark.anyio

DATA = bytes(range(256)) * 300
HASH = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def images(database):
    return Images(database)


async def kept(database):
    return await database.read(lambda c: c.execute(text("SELECT count(*) FROM blobs")).scalar_one())


async def test_an_image_is_kept_once_and_read_in_pieces(documents, images, database):
    for name in ("a", "b"):
        await documents.create(name, "", "user:ada")
    made, new = await images.add("a", DATA, "image/png", "user:ada", 1 << 20)
    assert (made.hash, made.type, made.size, made.added_by, new) == (
        HASH,
        "image/png",
        len(DATA),
        "user:ada",
        True,
    )
    assert await images.add("a", DATA, "image/png", "user:bob", 1) == (made, False)
    await images.add("b", DATA, "image/png", "user:bob", 1 << 20)
    assert await kept(database) == 1
    assert await images.list("a") == [made]
    assert await images.get("a", HASH) == made
    assert b"".join([await images.read(HASH, start, 7000) for start in range(0, len(DATA), 7000)]) == DATA
    await images.remove("a", HASH)
    assert await images.read(HASH) == DATA
    with pytest.raises(NoSuchImage):
        await images.get("a", HASH)
    await images.remove("b", HASH)
    assert await kept(database) == 0
    for asked in (images.read(HASH), images.remove("b", HASH)):
        with pytest.raises(NoSuchImage):
            await asked


async def test_a_document_has_no_more_than_it_may_and_keeps_what_it_has_when_deleted(documents, images):
    await documents.create("a", "", "user:ada")
    await images.add("a", b"12345", "image/png", "user:ada", 9)
    with pytest.raises(ImagesFull, match="may have 9 bytes together, and there are 5"):
        await images.add("a", b"67890", "image/png", "user:ada", 9)
    await images.add("a", b"6789", "image/png", "user:ada", 9)
    await documents.delete("a")
    for asked in (images.list("a"), images.get("a", HASH), images.add("a", b"x", "image/png", "x", 9)):
        with pytest.raises(DocumentDeleted):
            await asked
    await documents.undelete("a")
    assert [image.size for image in await images.list("a")] == [5, 4]
    with pytest.raises(DocumentNotFound):
        await images.list("b")
