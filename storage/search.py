"""What documents say, word by word, so that they are found by it. A cache, no more: all of it may be dropped
at any time and is made again from the log (``web.indexer``).

A document is kept in *pieces*: first its name and title, then its text, cut where a line ends. Thus no write
is long, since a commit may be waiting behind it, and where a large text grows only one piece is written.
Piece ``n`` of document ``key`` is row ``key << 16 | n`` of ``words``: in SQLite a full-text table (FTS5), in
PostgreSQL rows with a vector that is made here, so that both know the same words. Case and accents make no
difference. In scripts that put no spaces between words every character counts as one.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

from sqlalchemy import Connection, delete, func, insert, or_, select, text

from collab.log import DocumentGone
from storage.database import Database
from storage.models import documents, indexed, updates

FORMAT = 1  # of pieces; raise it when they are made in another way, and all are made again
PIECE = 8 << 10  # characters
PIECES_BITS = 16
TURN = 32 << 10  # characters written in one transaction: a few milliseconds of the one writer
TERMS_LIMIT = 16  # of a query
VECTOR_WORD = 200  # characters; PostgreSQL takes no word of 2 KiB
PLACES = 200  # of one word in one piece; PostgreSQL keeps 256
EXCERPT = 180  # characters
HITS = 300  # in a piece that are looked at
BEFORE = 50  # of them, about, before the first hit

_WORD = re.compile(r"[^\W_]+")
# Thai, Lao, Burmese, Khmer, kana, Han.
_DENSE = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_DENSE_GAP = re.compile(rf"(?<=[{_DENSE}])(?=\w)|(?<=\w)(?=[{_DENSE}])")
_GAP = "\u200b"  # which nobody sees
_LINK = re.compile(r"!?\[([^\]\n]*)\]\([^)\s]*\)")
_LINE_MARKS = re.compile(r"(?m)^[ \t]*(?:[#>]+|[-+*](?:[ \t]+\[[ xX]\])?)[ \t]+")
_MARKS = re.compile(r"[*`~]+|__+")
_SPACE = re.compile(r"[\s|]+")


class Term(NamedTuple):
    """What stands between spaces in a query: words in a row, of which the last may go on."""

    words: tuple[str, ...]

    @property
    def goes_on(self) -> bool:
        """A single letter is a word: what begins with it is a large part of all there is."""
        return len(self.words[-1]) > 1


class Excerpt(NamedTuple):
    """Some plain text around hits, and where these begin and end in it, in characters."""

    text: str
    marks: list[tuple[int, int]]


class Behind(NamedTuple):
    """A document about which the index is wrong. ``after`` is where to go on."""

    name: str
    after: int


class Search:
    """The index of one database. All methods raise StorageUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def behind(self, after: int, limit: int) -> list[Behind]:
        """Some documents to be indexed, or to be dropped since they were deleted, from key ``after`` on."""
        head = select(func.coalesce(func.max(updates.c.seq), 0)).where(updates.c.document == documents.c.key)
        lives = documents.c.deleted_at.is_(None)
        differs = or_(
            indexed.c.document.is_(None),
            indexed.c.format != FORMAT,
            indexed.c.epoch != documents.c.epoch,
            indexed.c.title != documents.c.title,
            indexed.c.seq != head.scalar_subquery(),
        )
        found = (
            select(documents.c.name, documents.c.key)
            .outerjoin(indexed, indexed.c.document == documents.c.key)
            .where(documents.c.key > after, or_(lives & differs, ~lives & indexed.c.document.is_not(None)))
            .order_by(documents.c.key)
            .limit(limit)
        )
        return await self._database.read(lambda c: [Behind(*row) for row in c.execute(found)])

    async def put(self, name: str, epoch: int, seq: int, texts: Sequence[str]) -> None:
        """Let the document be found by ``texts``, which it has as of ``seq``, and by its name and title.

        Raises DocumentGone: deleted or reset meanwhile.
        """
        key, title, old = await self._database.read(lambda c: _kept(c, name, epoch))
        first = key << PIECES_BITS
        new = dict(enumerate(_pieces(f"{name}\n{title}", *texts), first))
        await self._replace(old, new)

        def mark(connection: Connection) -> None:
            if _living(connection, name, epoch).key != key:
                raise DocumentGone([name])
            connection.execute(delete(indexed).where(indexed.c.document == key))
            values = {"document": key, "epoch": epoch, "seq": seq, "title": title, "format": FORMAT}
            connection.execute(insert(indexed).values(values))

        await self._database.write(mark)

    async def drop(self, name: str | None = None) -> None:
        """Find ``name``, or anything, no more."""

        def forget(connection: Connection) -> None:
            connection.execute(delete(indexed))
            connection.execute(text("DELETE FROM words"))

        def find(connection: Connection) -> tuple[int | None, dict[int, str]]:
            key = connection.execute(select(documents.c.key).where(documents.c.name == name)).scalar()
            return key, {} if key is None else _pieces_of(connection, key)

        if name is None:
            await self._database.write(forget)
            return
        key, old = await self._database.read(find)
        await self._replace(old, {})
        unmark = delete(indexed).where(indexed.c.document == key)
        await self._database.write(lambda connection: connection.execute(unmark).rowcount)

    async def _replace(self, old: dict[int, str], new: dict[int, str]) -> None:
        """Write what differs, a few pieces at a time."""
        changed = [row for row, piece in new.items() if old.get(row) != piece] + list(old.keys() - new.keys())
        while changed:
            size, turn = 0, []
            while changed and size < TURN:
                turn.append(row := changed.pop())
                size += len(new.get(row, "")) + len(old.get(row, ""))
            pieces = {row: new[row] for row in turn if row in new}
            await self._database.write(partial(_write, rows=turn, pieces=pieces))


# --- what is asked -------------------------------------------------------------------------------------


def terms_of(query: str) -> list[Term]:
    """What a query looks for, all of which a document must have. Whatever was typed, it is words."""
    chunks = (tuple(_WORD.findall(_fold(_spaced(chunk)))) for chunk in query.split())
    return [Term(words) for words in dict.fromkeys(chunks) if words][:TERMS_LIMIT]


def has(connection: Connection, term: Term, number: int, *, title: bool = False) -> Any:
    """A condition on ``documents``: it has ``term`` somewhere, or in its name or title. ``number`` tells the
    terms of a statement apart."""
    where = f"{_match(connection, number)} AND rowid & {(1 << PIECES_BITS) - 1} = 0" if title else ""
    found = f"SELECT rowid >> {PIECES_BITS} FROM words WHERE {where or _match(connection, number)}"
    return text(f"documents.key IN ({found})").bindparams(
        **{f"term{number}": _expression(connection, [term])}
    )


def hits(connection: Connection, keys: Collection[int], terms: Sequence[Term]) -> dict[int, str]:
    """Of each document the first piece of its text that has one of ``terms``."""
    where = f"{_match(connection, 0)} AND {_OF_DOCUMENT}"
    find = text(f"SELECT text FROM words WHERE {where} ORDER BY rowid LIMIT 1")
    asked = {"term0": _expression(connection, terms)}
    found = {}
    for key in keys:
        bounds = _bounds(key)
        piece = connection.execute(find, {**asked, **bounds, "first": bounds["first"] + 1}).scalar()
        if piece is not None:
            found[key] = piece
    return found


def excerpt(piece: str, terms: Sequence[Term]) -> Excerpt:
    """The part of a piece that has most of ``terms``, without Markdown's marks."""
    pattern = re.compile("|".join(f"({_pattern(term)})" for term in terms))
    plain = piece.replace(_GAP, "")
    found = [(hit.start(), hit.lastindex) for hit in pattern.finditer(_fold(plain))]
    start, stop = _around(plain, _densest(found))
    raw = plain[start:stop]
    shown = _plain(raw)
    if found and not pattern.search(_fold(shown)):
        shown = _SPACE.sub(" ", raw)  # the hit is in an address
    shown = f"{'…' * (start > 0)}{shown.strip()}{'…' * (stop < len(plain))}"
    return Excerpt(shown, [hit.span() for hit in pattern.finditer(_fold(shown))])


def _densest(found: Sequence[tuple[int, int | None]]) -> int:
    """Where most of the terms stand together."""
    best = (0, 0, 0)
    for i, (start, _) in enumerate(found[:HITS]):
        ends: dict[int | None, int] = {}
        for at, term in found[i : i + HITS]:
            if at >= start + EXCERPT - BEFORE:
                break
            ends.setdefault(term, at)
        best = max(best, (len(ends), start - max(ends.values()), -start))
    return -best[2]


def _around(plain: str, hit: int) -> tuple[int, int]:
    """From a beginning of words somewhat before ``hit`` to an end of words."""
    start = max(0, hit - BEFORE, plain.rfind("\n\n", 0, hit) + 2 if "\n\n" in plain[:hit] else 0)
    if start and plain[start - 1] not in " \n":
        space = max(plain.find(" ", start, hit), plain.find("\n", start, hit))
        start = start if space < 0 else space + 1
    stop = start + EXCERPT
    if stop < len(plain):
        space = max(plain.rfind(" ", start, stop), plain.rfind("\n", start, stop))
        stop = space if space > hit + BEFORE else stop
    return start, min(stop, len(plain))


def _plain(markdown: str) -> str:
    paragraphs = _LINE_MARKS.sub("\n\n", _LINK.sub(r"\1", markdown)).split("\n\n")
    spaced = (_SPACE.sub(" ", _MARKS.sub("", paragraph)).strip() for paragraph in paragraphs)
    return " · ".join(filter(None, spaced))


def _pattern(term: Term) -> str:
    first = "" if re.match(f"[{_DENSE}]", term.words[0]) else r"(?<![^\W_])"
    last = "" if term.goes_on or not first else r"(?![^\W_])"
    return first + r"[\W_]*".join(map(re.escape, term.words)) + last


def _match(connection: Connection, number: int) -> str:
    if connection.dialect.name == "sqlite":
        return f"words MATCH :term{number}"
    return f"vector @@ CAST(CAST(:term{number} AS text) AS tsquery)"


def _expression(connection: Connection, terms: Sequence[Term]) -> str:
    """Any of ``terms``, as the database asks for it. There are only letters and digits in words."""
    if connection.dialect.name == "sqlite":
        return " OR ".join(f'"{" ".join(term.words)}"{" *" * term.goes_on}' for term in terms)
    rows = [" <-> ".join(f"'{word[:VECTOR_WORD]}'" for word in term.words) for term in terms]
    return " | ".join(f"({row}{':*' * term.goes_on})" for row, term in zip(rows, terms, strict=True))


# --- what is kept --------------------------------------------------------------------------------------

_OF_DOCUMENT = "rowid BETWEEN :first AND :last"


def _bounds(key: int) -> dict[str, int]:
    return {"first": key << PIECES_BITS, "last": ((key + 1) << PIECES_BITS) - 1}


def _living(connection: Connection, name: str, epoch: int) -> Any:
    living = (documents.c.name == name) & documents.c.deleted_at.is_(None) & (documents.c.epoch == epoch)
    found = connection.execute(select(documents.c.key, documents.c.title).where(living)).one_or_none()
    if found is None:
        raise DocumentGone([name])
    return found


def _kept(connection: Connection, name: str, epoch: int) -> tuple[int, str, dict[int, str]]:
    found = _living(connection, name, epoch)
    return found.key, found.title, _pieces_of(connection, found.key)


def _pieces_of(connection: Connection, key: int) -> dict[int, str]:
    rows = connection.execute(text(f"SELECT rowid, text FROM words WHERE {_OF_DOCUMENT}"), _bounds(key))
    return {row.rowid: row.text for row in rows}


def _write(connection: Connection, rows: Sequence[int], pieces: dict[int, str]) -> None:
    """Put ``pieces`` in the place of ``rows``."""
    connection.execute(text("DELETE FROM words WHERE rowid = :row"), [{"row": row} for row in rows])
    if not pieces:
        return
    if connection.dialect.name == "sqlite":
        statement = text("INSERT INTO words (rowid, text) VALUES (:row, :text)")
        connection.execute(statement, [{"row": row, "text": piece} for row, piece in pieces.items()])
    else:
        statement = text(
            "INSERT INTO words (rowid, text, vector) VALUES (:row, :text, CAST(CAST(:v AS text) AS tsvector))"
        )
        values = [{"row": row, "text": piece, "v": _vector(piece)} for row, piece in pieces.items()]
        connection.execute(statement, values)


def _pieces(head: str, *texts: str) -> Iterator[str]:
    yield _spaced(head)
    most = (1 << PIECES_BITS) - 1
    for whole in texts:
        start = 0
        while start < len(whole) and most:
            stop = _end_of_piece(whole, start)
            yield _spaced(whole[start:stop])
            start = stop
            most -= 1


def _end_of_piece(whole: str, start: int) -> int:
    stop = start + PIECE
    if stop < len(whole):
        for mark in ("\n", " "):
            if (end := whole.rfind(mark, start + PIECE // 2, stop)) >= 0:
                return end + 1
    return stop


def _spaced(given: str) -> str:
    """With a gap between words that have none, and each letter with its accents one character."""
    if given.isascii():
        return given.replace("\0", " ")
    return _DENSE_GAP.sub(_GAP, unicodedata.normalize("NFC", given.replace("\0", " ")))


def _vector(piece: str) -> str:
    places: dict[str, list[str]] = {}
    for place, word in enumerate(_WORD.findall(_fold(piece)), 1):
        found = places.setdefault(word[:VECTOR_WORD], [])
        if len(found) < PLACES:
            found.append(str(place))
    return " ".join(f"'{word}':{','.join(found)}" for word, found in places.items())


class _Folded(dict[int, str]):
    """Characters without case and accents, each by one, so that places in a text stay the same."""

    def __missing__(self, code: int) -> str:
        lower = chr(code).lower()
        apart = unicodedata.normalize("NFD", lower)
        if all(map(unicodedata.combining, apart[1:])):
            lower = apart[0]
        self[code] = made = lower if len(lower) == 1 else chr(code)
        return made


_folded = _Folded()


def _fold(given: str) -> str:
    return given.lower() if given.isascii() else given.translate(_folded)
