import pytest
from hypothesis import given
from hypothesis import strategies as st

from collab.errors import DocumentDeleted, DocumentNotFound, InvalidRequest
from collab.log import Actor, Batch, Entry, Origin
from storage.labels import LabelExists, Labels, NoSuchLabel, check_name

pytestmark = pytest.mark.anyio

ADA = Actor("user:ada", "user", "Ada")


@pytest.fixture
async def labels(database, updates):
    for document in ("doc", "other"):
        entries = [Entry(seq, ADA, 1, seq, Origin.EDIT, b"update") for seq in range(1, 6)]
        await updates.append([Batch(document, 1, entries)])
    return Labels(database)


async def test_a_label_is_found_by_its_id_and_by_its_name(labels):
    made = await labels.create("doc", 3, "draft for 😀", "as sent", "user:ada")
    assert (made.seq, made.name, made.note, made.made_by) == (3, "draft for 😀", "as sent", ADA)
    assert await labels.get("doc", made.id) == made
    assert await labels.named("doc", "draft for 😀") == made
    for missing in (
        labels.get("other", made.id),
        labels.named("doc", "Draft for 😀"),
        labels.get("doc", "\0"),
    ):
        with pytest.raises(NoSuchLabel):
            await missing


async def test_labels_are_listed_in_the_order_of_their_entries(labels):
    for seq, name in ((5, "last"), (0, "empty"), (5, "last again"), (2, "second")):
        await labels.create("doc", seq, name, "", "user:bob")
    assert [label.name for label in await labels.list("doc")] == ["empty", "second", "last", "last again"]
    assert await labels.list("other") == []
    assert (await labels.list("doc"))[0].made_by == Actor("user:bob", "user", "")


async def test_a_name_means_one_version_of_a_document(labels):
    first = await labels.create("doc", 3, "draft", "", "user:ada")
    second = await labels.create("doc", 4, "Draft", "", "user:ada")
    await labels.create("other", 3, "draft", "", "user:ada")
    with pytest.raises(LabelExists, match="the version at 3 is named 'draft' already"):
        await labels.create("doc", 4, "draft", "", "user:ada")
    with pytest.raises(LabelExists):
        await labels.change("doc", second.id, name="draft")
    assert (await labels.change("doc", first.id, name="draft")).name == "draft"
    await labels.delete("doc", first.id)
    assert (await labels.change("doc", second.id, name="draft")).seq == 4


async def test_a_label_takes_a_new_name_or_note_and_keeps_the_rest(labels):
    made = await labels.create("doc", 3, "draft", "one", "user:ada")
    assert (await labels.change("doc", made.id, note="two")).note == "two"
    changed = await labels.change("doc", made.id, name="final")
    assert (changed.id, changed.seq, changed.name, changed.note) == (made.id, 3, "final", "two")
    assert await labels.change("doc", made.id) == changed


async def test_a_deleted_label_is_gone(labels):
    made = await labels.create("doc", 3, "draft", "", "user:ada")
    with pytest.raises(NoSuchLabel):
        await labels.delete("other", made.id)
    await labels.delete("doc", made.id)
    for again in (labels.delete("doc", made.id), labels.get("doc", made.id), labels.change("doc", made.id)):
        with pytest.raises(NoSuchLabel):
            await again


@pytest.mark.parametrize("seq", [-1, 6, 2**31 - 1])
async def test_a_version_that_is_not_there_takes_no_label(labels, seq):
    with pytest.raises(InvalidRequest, match="entries up to 5"):
        await labels.create("doc", seq, "draft", "", "user:ada")


async def test_labels_have_a_bound(labels, monkeypatch):
    monkeypatch.setattr("storage.labels.LABELS_LIMIT", 2)
    for name in ("a", "b"):
        await labels.create("doc", 1, name, "", "user:ada")
    with pytest.raises(InvalidRequest, match="2 named versions"):
        await labels.create("doc", 1, "c", "", "user:ada")


async def test_labels_of_what_is_not_there_are_refused_as_documents_are(labels, documents):
    with pytest.raises(DocumentNotFound):
        await labels.list("nobody's")
    made = await labels.create("doc", 1, "draft", "", "user:ada")
    await documents.delete("doc")
    with pytest.raises(DocumentDeleted):
        await labels.get("doc", made.id)
    await documents.undelete("doc")
    assert await labels.get("doc", made.id) == made


async def test_labels_stay_when_the_log_is_sealed(labels, updates, monkeypatch):
    monkeypatch.setattr("storage.log.SEGMENT", 2)
    monkeypatch.setattr("storage.log.HOT", 1)
    await updates.seal("doc")
    assert (await labels.create("doc", 5, "now", "", "user:ada")).seq == 5
    assert (await labels.create("doc", 1, "then", "", "user:ada")).seq == 1


@pytest.mark.parametrize(
    "name",
    [
        "0", "12", "-3", "+4", "٣", "head", "HEAD", "2026-11-24", "2026-11-24T18:00:00Z",
        "2026-11-24 18:00:00.123456+01:00", "2026-11-24t18:00", "version_0123456789abcdef", "version_",
        "", " ", " draft", "draft\n", "a\0b", "\ud800", "x" * 201,
    ],
)  # fmt: skip
def test_a_name_that_is_none_or_means_another_version_is_refused(name):
    with pytest.raises(InvalidRequest):
        check_name(name)


@pytest.mark.parametrize(
    "name", ["v12", "1.0", "12 monkeys", "heads", "2026-11-24 as sent", "été 😀", "x" * 200, "a/b"]
)
def test_other_names_are_taken(name):
    check_name(name)


@given(st.integers() | st.datetimes().map(lambda t: f"{t.isoformat()}Z"))
def test_no_number_and_no_time_is_a_name(ref):
    with pytest.raises(InvalidRequest):
        check_name(str(ref))
