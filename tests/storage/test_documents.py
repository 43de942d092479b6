from datetime import UTC, datetime, timedelta

import pytest

from collab.errors import DocumentDeleted, DocumentExists, DocumentNotFound, InvalidName, InvalidRequest
from collab.log import Actor, Batch, Entry, Origin

pytestmark = pytest.mark.anyio

SOON = datetime.now(UTC).replace(microsecond=123_457) + timedelta(hours=1)


def microseconds(when):
    return (when - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


async def edit(updates, name, seq, when):
    entry = Entry(seq, Actor("guest:1"), 1, microseconds(when), Origin.EDIT, b"update")
    await updates.append([Batch(name, 1, [entry])])


async def names(documents, **asked):
    found, cursor = [], None
    while True:
        page = await documents.list(limit=3, cursor=cursor, **asked)
        assert len(page.documents) <= 3
        found += [document.name for document in page.documents]
        cursor = page.cursor
        if cursor is None:
            return found


async def test_a_new_document_is_empty(documents):
    before = datetime.now(UTC)
    made = await documents.create("a/b é 😀", "Title 😀", "user:ada")
    assert (made.name, made.title, made.epoch, made.head) == ("a/b é 😀", "Title 😀", 1, 0)
    assert made.created_at == made.updated_at
    assert before - timedelta(milliseconds=1) <= made.created_at <= datetime.now(UTC)
    assert await documents.get("a/b é 😀") == made


async def test_a_name_is_given_once_even_after_a_deletion(documents):
    await documents.create("doc", "One", "user:ada")
    for _ in range(2):
        with pytest.raises(DocumentExists):
            await documents.create("doc", "Two", "user:ada")
    await documents.delete("doc")
    with pytest.raises(DocumentExists):
        await documents.create("doc", "Two", "user:ada")
    await documents.create("Doc", "names know case", "user:ada")
    await documents.undelete("doc")
    assert (await documents.get("doc")).title == "One"


async def test_head_and_time_follow_the_log(documents, updates):
    made = await documents.create("doc", "", "user:ada")
    await edit(updates, "doc", 1, SOON)
    await edit(updates, "doc", 2, SOON + timedelta(microseconds=1))
    found = await documents.get("doc")
    assert (found.head, found.created_at) == (2, made.created_at)
    assert found.updated_at == SOON + timedelta(microseconds=1)


async def test_a_document_made_by_its_first_edit_has_no_title(documents, updates):
    await edit(updates, "doc", 1, SOON)
    found = await documents.get("doc")
    assert (found.title, found.created_at, found.updated_at) == ("", SOON, SOON)


async def test_renaming_changes_the_title_only(documents, updates):
    await documents.create("doc", "Old", "user:ada")
    await edit(updates, "doc", 1, SOON)
    renamed = await documents.rename("doc", "New")
    assert (renamed.name, renamed.title, renamed.head, renamed.updated_at) == ("doc", "New", 1, SOON)
    assert await documents.get("doc") == renamed


async def test_what_is_not_there_and_what_was_deleted_differ(documents):
    await documents.create("doc", "", "user:ada")
    await documents.delete("doc")
    for name, error in (("doc", DocumentDeleted), ("never", DocumentNotFound)):
        for asked in (documents.get(name), documents.rename(name, "x"), documents.delete(name)):
            with pytest.raises(error, match=name):
                await asked
    with pytest.raises(DocumentNotFound):
        await documents.undelete("never")
    await documents.undelete("doc")
    await documents.undelete("doc")
    assert (await documents.get("doc")).head == 0


async def test_the_list_shows_the_newest_change_first(documents, updates):
    for n in range(8):
        await documents.create(f"doc {n}", "", "user:ada")
    for seq, n in enumerate((3, 5, 0), 1):
        await edit(updates, f"doc {n}", 1, SOON + timedelta(seconds=seq))
    await documents.delete("doc 6")
    assert await names(documents) == [f"doc {n}" for n in (0, 5, 3, 7, 4, 2, 1)]


async def test_documents_of_one_moment_are_all_listed_once(documents, updates):
    for n in range(10):
        await edit(updates, f"doc {n}", 1, SOON)
    assert await names(documents) == [f"doc {n}" for n in reversed(range(10))]


async def test_a_page_is_not_disturbed_by_what_changes_meanwhile(documents, updates):
    for n in range(9):
        await edit(updates, f"doc {n}", 1, SOON + timedelta(seconds=n))
    first = await documents.list(limit=4)
    await edit(updates, "doc 0", 2, SOON + timedelta(hours=1))
    await edit(updates, "new", 1, SOON + timedelta(hours=2))
    await documents.delete("doc 5")
    rest = await documents.list(limit=10, cursor=first.cursor)
    assert [d.name for d in first.documents] == ["doc 8", "doc 7", "doc 6", "doc 5"]
    assert [d.name for d in rest.documents] == ["doc 4", "doc 3", "doc 2", "doc 1"]
    assert rest.cursor is None


async def test_a_query_finds_names_and_titles_whatever_their_case(documents):
    await documents.create("notes/ÄPFEL", "", "user:ada")
    await documents.create("x", "Über 100% Äpfel_saft", "user:ada")
    await documents.create("y", "Birnen", "user:ada")
    assert await names(documents, query="äpfel") == ["x", "notes/ÄPFEL"]
    assert await names(documents, query="0% ä") == ["x"]
    assert await names(documents, query="%") == ["x"]
    assert await names(documents, query="l_s") == ["x"]
    assert await names(documents, query="_") == ["x"]
    assert await names(documents, query="nowhere") == []
    assert len(await names(documents, query="")) == 3


@pytest.mark.parametrize("cursor", ["", "x", "é", "AAAA", "A" * 100])
async def test_a_cursor_of_someone_else_is_refused(documents, cursor):
    with pytest.raises(InvalidRequest, match="cursor"):
        await documents.list(limit=3, cursor=cursor)


async def test_documents_come_by_title_or_by_when_they_were_made_page_by_page(documents, updates):
    for name, title in (("b", "Ähre"), ("a", "zebra"), ("c", ""), ("d", "Apfel"), ("e", "apfel")):
        await documents.create(name, title, "user:ada")
    await edit(updates, "b", 1, SOON)
    assert await names(documents) == ["b", "e", "d", "c", "a"]
    assert await names(documents, sort="created") == ["e", "d", "c", "a", "b"]
    by_title = await names(documents, sort="title")
    assert by_title[:2] == ["d", "e"]
    assert sorted(by_title) == ["a", "b", "c", "d", "e"]
    assert by_title.index("c") < by_title.index("a")
    assert await names(documents, sort="title", query="apfel") == ["d", "e"]
    page = await documents.list(limit=1, sort="title")
    with pytest.raises(InvalidRequest, match="another order"):
        await documents.list(limit=1, cursor=page.cursor)


@pytest.mark.parametrize("limit", [0, -1, 1001])
async def test_a_limit_out_of_bounds_is_refused(documents, limit):
    with pytest.raises(InvalidRequest, match="limit"):
        await documents.list(limit=limit)


@pytest.mark.parametrize("strange", ["a\0b", "\ud800"])
async def test_text_that_cannot_be_stored_is_refused(documents, strange):
    await documents.create("doc", "", "user:ada")
    with pytest.raises(InvalidName):
        await documents.create(strange, "", "user:ada")
    for asked in (
        documents.create("x", strange, "user:ada"),
        documents.rename("doc", strange),
        documents.list(5, query=strange),
    ):
        with pytest.raises(InvalidRequest, match="UTF-8"):
            await asked
    for asked in (documents.get(strange), documents.delete(strange), documents.undelete(strange)):
        with pytest.raises(DocumentNotFound):
            await asked
