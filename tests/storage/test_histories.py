import logging

import pytest
from sqlalchemy import text

from collab.log import Actor, Batch, DocumentGone, Entry, Origin
from storage.histories import Histories

pytestmark = pytest.mark.anyio


@pytest.fixture
async def histories(database, updates):
    for document in ("doc", "other"):
        entries = [Entry(seq, Actor("user:ada"), 1, seq, Origin.EDIT, b"update") for seq in range(1, 6)]
        await updates.append([Batch(document, 1, entries)])
    return Histories(database)


async def execute(database, statement, **values):
    await database.write(lambda c: c.execute(text(statement), values).rowcount)


async def test_what_was_saved_is_loaded(histories):
    assert await histories.load("doc", 1, 7) is None
    await histories.save("doc", 1, 3, 7, b"worked out" * 1000)
    assert await histories.load("doc", 1, 7) == (3, b"worked out" * 1000)
    for other in (("other", 1, 7), ("doc", 2, 7), ("doc", 1, 8), ("nobody's", 1, 7), ("a\0b", 1, 7)):
        assert await histories.load(*other) is None


async def test_the_newest_of_the_newest_format_is_kept(histories):
    await histories.save("doc", 1, 3, 7, b"three")
    await histories.save("doc", 1, 2, 7, b"two")
    assert await histories.load("doc", 1, 7) == (3, b"three")
    await histories.save("doc", 1, 5, 7, b"five")
    assert await histories.load("doc", 1, 7) == (5, b"five")
    await histories.save("doc", 1, 4, 8, b"another format")
    assert await histories.load("doc", 1, 8) == (4, b"another format")


async def test_all_can_be_dropped(histories):
    for document in ("doc", "other"):
        await histories.save(document, 1, 3, 7, b"three")
    await histories.drop("doc")
    await histories.drop("nobody's")
    assert await histories.load("doc", 1, 7) is None
    assert await histories.load("other", 1, 7) is not None
    await histories.drop()
    assert await histories.load("other", 1, 7) is None


async def test_nothing_is_kept_of_a_deleted_or_reset_document(histories, documents, database):
    await histories.save("doc", 1, 3, 7, b"three")
    await documents.delete("doc")
    with pytest.raises(DocumentGone):
        await histories.save("doc", 1, 4, 7, b"four")
    await documents.undelete("doc")
    assert await histories.load("doc", 1, 7) is None
    await histories.save("other", 1, 3, 7, b"three")
    await execute(database, "UPDATE documents SET epoch = 2 WHERE name = 'other'")
    with pytest.raises(DocumentGone):
        await histories.save("other", 1, 4, 7, b"four")
    assert await histories.load("other", 2, 7) is None


async def test_what_claims_to_be_ahead_of_the_log_is_refused(histories):
    with pytest.raises(DocumentGone):
        await histories.save("doc", 1, 6, 7, b"six")


@pytest.mark.parametrize("damage", ["seq = 4", "data = :data", "checksum = 5"])
async def test_a_damaged_one_is_passed_over_and_replaced(histories, database, caplog, damage):
    await histories.save("doc", 1, 3, 7, b"three")
    values = {"data": b"thrxx"} if ":data" in damage else {}
    await execute(database, f"UPDATE histories SET {damage}", **values)
    with caplog.at_level(logging.ERROR):
        assert await histories.load("doc", 1, 7) is None
    assert "cached history of 'doc'" in caplog.text
    await histories.save("doc", 1, 2, 7, b"two")
    assert await histories.load("doc", 1, 7) == (2, b"two")
