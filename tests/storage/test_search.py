"""The index of words: what is found, how it is shown, and that it may be lost at any time."""

import pytest
from sqlalchemy import text

from collab.log import DocumentGone
from storage.search import PIECE, Search, excerpt, terms_of

pytestmark = pytest.mark.anyio


@pytest.fixture
def search(database):
    return Search(database)


async def found(documents, query, **asked):
    page = await documents.list(50, query=query, **asked)
    return [document.name for document in page.documents]


async def have(documents, search, name, *texts, title="", owner="user:ada"):
    await documents.create(name, title, owner)
    await search.put(name, 1, 0, texts)


async def test_words_are_found_whatever_their_case_accents_and_ends(documents, search):
    await have(documents, search, "a", "The café of Zoë\nis closed", title="Überfahrt")
    await have(documents, search, "b", "nothing of it")
    for query in ("cafe", "CAFÉ", "cafe\u0301", "caf", "zoe closed", "closed caf", "uberf", "überfahrt zoe"):
        assert await found(documents, query) == ["a"], query
    for query in ("afe", "cafes", "cafe open", "zoe nothing", "c z"):
        assert await found(documents, query) == [], query


async def test_scripts_without_spaces_are_found_in_the_middle(documents, search):
    await have(documents, search, "a", "明日は図書館で会いましょう", title="計画書")
    await have(documents, search, "b", "図と書物の館")
    assert await found(documents, "図書館") == ["a"]
    assert await found(documents, "画書") == ["a"]
    assert await found(documents, "会い 図書") == ["a"]
    piece = "明日は\u200b図\u200b書\u200b館で"
    assert excerpt(piece, terms_of("図書")) == ("明日は図書館で", [(3, 5)])


STRANGE = [
    *"\"'&🎉٣ﬁİ\u0301",
    '"a',
    "a*",
    'a"',
    "a:b",
    "-a",
    "^a",
    "(a",
    "{a}:",
    "a\\",
    "%_",
    ":*",
    "＂a",
    "'a':*",
]
PHRASES = [
    "NOT",
    "OR",
    "NEAR(a",
    "a OR",
    "NOT a",
    "NEAR(a b)",
    "a + b",
    "a & !b",
    "a <-> b",
    "a" * 200,
    "a " * 100,
]


async def test_no_query_is_a_mistake(documents, search):
    await have(documents, search, "a", "a b c")
    for query in STRANGE + PHRASES:
        assert await found(documents, query) in (["a"], []), query


async def test_who_has_it_in_the_title_comes_first_and_pages_follow_on(documents, search):
    for n in range(2):
        await have(documents, search, f"title {n}", title="On tea, and cake")
    for n in range(6):
        await have(documents, search, f"text {n}", "with cake", title="On tea")
    seen, cursor = [], None
    while True:
        page = await documents.list(3, cursor, "tea cake")
        seen += [document.name for document in page.documents]
        if (cursor := page.cursor) is None:
            break
    assert seen == ["title 1", "title 0", *(f"text {n}" for n in reversed(range(6)))]


async def test_only_what_one_may_read_is_found_and_shown(documents, search):
    await have(documents, search, "mine", "the secret of soup")
    await have(documents, search, "hers", "the secret of bread", owner="user:grace")
    assert await found(documents, "secret", person="user:ada") == ["mine"]
    assert await found(documents, "secret", patterns=["h*"]) == ["hers"]
    page = await documents.list(50, query="secret", person="user:ada")
    assert page.excerpts == {"mine": ("the secret of soup", [(4, 10)])}
    await documents.delete("mine")
    assert await found(documents, "secret") == ["hers"]


async def test_what_is_not_said_any_more_is_not_found_any_more(documents, search):
    await have(documents, search, "a", "old words " * PIECE, "another root")
    assert await found(documents, "old another") == ["a"]
    await search.put("a", 1, 0, ["new words"])
    assert await found(documents, "old") == []
    assert await found(documents, "another") == []
    assert await found(documents, "new words") == ["a"]
    await documents.rename("a", "Renamed")
    assert [row.name for row in await search.behind(0, 10)] == ["a"]
    await search.put("a", 1, 0, ["new words"])
    assert await found(documents, "renamed words") == ["a"]
    assert await search.behind(0, 10) == []


async def test_where_a_large_text_grows_little_is_written(documents, search, database):
    lines = [f"line {n} of a long text" for n in range(20_000)]
    await have(documents, search, "a", "\n".join(lines))
    rows = text("SELECT rowid, text FROM words")
    before = dict(await database.read(lambda c: [tuple(row) for row in c.execute(rows)]))
    written = []
    write = database.write
    database.write = lambda work: written.append(1) or write(work)
    await search.put("a", 1, 0, ["\n".join([*lines, "the end"])])
    database.write = write
    after = dict(await database.read(lambda c: [tuple(row) for row in c.execute(rows)]))
    assert len(written) == 2
    assert len(before.items() ^ after.items()) == 2
    assert await found(documents, "the end") == ["a"]


async def test_what_was_deleted_or_reset_meanwhile_is_not_indexed(documents, search):
    await have(documents, search, "a", "words")
    with pytest.raises(DocumentGone):
        await search.put("a", 2, 0, ["words"])
    await documents.delete("a")
    assert [row.name for row in await search.behind(0, 10)] == ["a"]
    with pytest.raises(DocumentGone):
        await search.put("a", 1, 0, ["words"])
    await search.drop("a")
    assert await search.behind(0, 10) == []


async def test_the_index_may_be_lost(documents, search):
    for name in ("a", "b"):
        await have(documents, search, name, "words")
    await search.drop()
    assert await found(documents, "words") == []
    lacking = await search.behind(0, 1)
    lacking += await search.behind(lacking[-1].after, 10)
    assert [row.name for row in lacking] == ["a", "b"]
    for name in ("a", "b"):
        await search.put(name, 1, 0, ["words"])
    assert await found(documents, "words") == ["b", "a"]


@pytest.mark.parametrize(
    ("piece", "query", "shown"),
    [
        ("# What *we* know", "know", "What we [know]"),
        ("- [ ] Ask the [museum](https://example.org/x)", "muse", "Ask the [muse]um"),
        ("see [here](https://example.org/museum)", "museum", "see [here](https://example.org/[museum])"),
        ("Ünder the Straße", "under stras", "[Ünder] the Straße"),
        ("a snake_case name", "case", "a snake_[case] name"),
        ("an apple, a day", "a", "an apple, [a] day"),
        ("one\n\n\ttwo   one", "one", "[one] · two [one]"),
    ],
)
def test_an_excerpt_is_plain_text_with_marks(piece, query, shown):
    plain, marks = excerpt(piece, terms_of(query))
    for start, stop in reversed(marks):
        plain = f"{plain[:start]}[{plain[start:stop]}]{plain[stop:]}"
    assert plain == shown


def test_an_excerpt_of_a_long_text_is_where_most_of_the_words_are():
    piece = f"{'tea now and then ' * 100}\n\nHere is tea with a cake, and {'more and more ' * 100}"
    shown, marks = excerpt(piece, terms_of("cake tea"))
    assert shown.startswith("…Here is tea with a cake, and more")
    assert shown.endswith("and…")
    assert [shown[start:stop] for start, stop in marks] == ["tea", "cake"]
    assert len(shown) < 200
