"""The tables. Times are integer microseconds since the epoch, UTC; numbers of things are never reused.

Every row of the log, every segment and every snapshot carries a CRC-32 over all its other fields, so that a
flipped bit or an edited row is found before it is served: integers as little-endian int64 in column order,
then the bytes; the sum is kept as a signed number of 32 bits, which both databases store in four bytes.
The functions at the end are that definition.
"""

from __future__ import annotations

from struct import Struct
from zlib import crc32

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
    }
)

documents = Table(
    "documents",
    metadata,
    Column("key", Integer, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("title", Text, nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("deleted_at", BigInteger),
    # Entries up to this one came out of an archive: who is their author is what that said (storage.imports).
    Column("imported_head", Integer),
    Column("imported_by", Text),
    Column("imported_at", BigInteger),
)

actors = Table(
    "actors",
    metadata,
    Column("key", Integer, primary_key=True),
    Column("id", Text, nullable=False, unique=True),
    Column("kind", Text, nullable=False),
    Column("name", Text, nullable=False),
)

# The primary key is the table (WITHOUT ROWID): a document's tail lies in one piece, in order.
updates = Table(
    "updates",
    metadata,
    Column("document", ForeignKey("documents.key"), primary_key=True),
    Column("seq", Integer, primary_key=True, autoincrement=False),
    Column("actor", ForeignKey("actors.key"), nullable=False),
    Column("client", BigInteger, nullable=False),
    Column("received", BigInteger, nullable=False),
    Column("origin", SmallInteger, nullable=False),
    Column("data", LargeBinary, nullable=False),
    Column("checksum", Integer, nullable=False),
    sqlite_with_rowid=False,
)

# Cold rows of ``updates``, which they replace (storage.segments). The newest entry of a document is always in
# ``updates``: its head and when it last changed are found there.
segments = Table(
    "segments",
    metadata,
    Column("document", ForeignKey("documents.key"), primary_key=True),
    Column("first", Integer, nullable=False),
    Column("last", Integer, primary_key=True, autoincrement=False),
    Column("data", LargeBinary, nullable=False),
    Column("checksum", Integer, nullable=False),
)

snapshots = Table(
    "snapshots",
    metadata,
    Column("document", ForeignKey("documents.key"), primary_key=True),
    Column("epoch", Integer, nullable=False),
    Column("seq", Integer, primary_key=True, autoincrement=False),
    Column("made_at", BigInteger, nullable=False),
    Column("data", LargeBinary, nullable=False),
    Column("checksum", Integer, nullable=False),
)

# Versions that somebody has given a name: an entry, after which it is. Kept until they are deleted by name.
labels = Table(
    "labels",
    metadata,
    Column("key", Integer, primary_key=True),
    Column("document", ForeignKey("documents.key"), nullable=False),
    Column("id", Text, nullable=False, unique=True),
    Column("seq", Integer, nullable=False),
    Column("name", Text, nullable=False),
    Column("note", Text, nullable=False),
    Column("made_by", Text, nullable=False),
    Column("made_at", BigInteger, nullable=False),
    UniqueConstraint("document", "name"),
)

# What was worked out of a document's log, to go on from: a cache. All rows may be deleted at any time.
histories = Table(
    "histories",
    metadata,
    Column("document", ForeignKey("documents.key"), primary_key=True),
    Column("epoch", Integer, nullable=False),
    Column("seq", Integer, nullable=False),
    Column("format", Integer, nullable=False),
    Column("data", LargeBinary, nullable=False),
    Column("checksum", Integer, nullable=False),
)

# Up to where the words of a document are in the index, and under which title: a cache. The index itself,
# ``words``, is of a kind that SQLAlchemy has no word for (storage.search, alembic/versions/0005).
indexed = Table(
    "indexed",
    metadata,
    Column("document", ForeignKey("documents.key"), primary_key=True),
    Column("epoch", Integer, nullable=False),
    Column("seq", Integer, nullable=False),
    Column("title", Text, nullable=False),
    Column("format", Integer, nullable=False),
)

# Files by the SHA-256 of what is in them, in hexadecimal, each once however many documents show it.
blobs = Table(
    "blobs",
    metadata,
    Column("hash", Text, primary_key=True),
    Column("type", Text, nullable=False),
    Column("size", Integer, nullable=False),
    Column("data", LargeBinary, nullable=False),
)

images = Table(
    "images",
    metadata,
    Column("document", ForeignKey("documents.key"), primary_key=True),
    Column("hash", ForeignKey("blobs.hash"), primary_key=True, index=True),
    Column("added_by", Text, nullable=False),
    Column("added_at", BigInteger, nullable=False),
)

# Who may do what, apart from what a token says. A person is the id of an actor: it need not have written
# anything, and may have no account here.
members = Table(
    "members",
    metadata,
    Column("document", ForeignKey("documents.key"), primary_key=True),
    Column("person", Text, primary_key=True, index=True),
    Column("role", SmallInteger, nullable=False),
    Column("added_at", BigInteger, nullable=False),
    Column("history", Boolean),  # collab.rights.sees_history
)

# The secret of a link is shown once; its SHA-256 is kept.
links = Table(
    "links",
    metadata,
    Column("key", Integer, primary_key=True),
    Column("document", ForeignKey("documents.key"), nullable=False, index=True),
    Column("id", Text, nullable=False, unique=True),
    Column("digest", LargeBinary, nullable=False, unique=True),
    Column("role", SmallInteger, nullable=False),
    Column("label", Text, nullable=False),
    Column("password_hash", Text),
    Column("expires_at", BigInteger),
    Column("created_at", BigInteger, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("history", Boolean),
)

# Who came through which link; gone with it.
openings = Table(
    "openings",
    metadata,
    Column("link", ForeignKey("links.key"), primary_key=True),
    Column("person", Text, primary_key=True, index=True),
    Column("opened_at", BigInteger, nullable=False),
)

# People whom this server itself knows. E-mails are kept normalised: storage.accounts.normal_email.
users = Table(
    "users",
    metadata,
    Column("key", Integer, primary_key=True),
    Column("id", Text, nullable=False, unique=True),
    Column("email", Text, unique=True),
    Column("name", Text, nullable=False),
    Column("password_hash", Text),
    Column("issuer", Text),
    Column("subject", Text),
    Column("created_at", BigInteger, nullable=False),
    Column("email_verified_at", BigInteger),
    Column("password_set_at", BigInteger),
    Column("disabled_at", BigInteger),
    UniqueConstraint("issuer", "subject"),
)

# Who reads this table cannot sign in with what it holds: the cookie has the secret, the row its SHA-256.
sessions = Table(
    "sessions",
    metadata,
    Column("digest", LargeBinary, primary_key=True),
    Column("account", ForeignKey("users.key"), nullable=False, index=True),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False, index=True),
    sqlite_with_rowid=False,
)

# Answers to requests that came with a key, to give them again (web.idempotency). One without a status is to
# come, or never will: the process ended while it was at it.
answers = Table(
    "answers",
    metadata,
    Column("actor", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("digest", LargeBinary, nullable=False),
    Column("made_at", BigInteger, nullable=False, index=True),
    Column("status", SmallInteger),
    Column("headers", Text),
    Column("body", LargeBinary),
)

_update_head = Struct("<6q").pack
_segment_head = Struct("<3q").pack
_snapshot_head = Struct("<4q").pack
_history_head = Struct("<4q").pack


def update_checksum(
    document: int, seq: int, actor: int, client: int, received: int, origin: int, data: bytes
) -> int:
    crc = crc32(data, crc32(_update_head(document, seq, actor, client, received, origin)))
    return (crc ^ 0x80000000) - 0x80000000


def segment_checksum(document: int, first: int, last: int, data: bytes) -> int:
    crc = crc32(data, crc32(_segment_head(document, first, last)))
    return (crc ^ 0x80000000) - 0x80000000


def snapshot_checksum(document: int, epoch: int, seq: int, made_at: int, data: bytes) -> int:
    crc = crc32(data, crc32(_snapshot_head(document, epoch, seq, made_at)))
    return (crc ^ 0x80000000) - 0x80000000


def history_checksum(document: int, epoch: int, seq: int, format: int, data: bytes) -> int:
    crc = crc32(data, crc32(_history_head(document, epoch, seq, format)))
    return (crc ^ 0x80000000) - 0x80000000


def storable(value: str) -> bool:
    """Can both databases keep this text? PostgreSQL takes no NUL; half a surrogate pair is no UTF-8."""
    try:
        return b"\0" not in value.encode()
    except UnicodeEncodeError:
        return False
