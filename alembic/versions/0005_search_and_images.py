"""What the documents page and images need: an index of words, and the files that documents show."""

import sqlalchemy as sa

from alembic import op

revision = "0005"
down_revision = "0004"

# Storage.search reads and writes both alike; each database makes and searches its own.
WORDS = {
    "sqlite": ["CREATE VIRTUAL TABLE words USING fts5(text, tokenize = 'unicode61 remove_diacritics 2')"],
    "postgresql": [
        "CREATE TABLE words (rowid BIGINT PRIMARY KEY, text TEXT NOT NULL, vector TSVECTOR NOT NULL)",
        "CREATE INDEX ix_words_vector ON words USING gin (vector)",
    ],
}


def upgrade() -> None:
    op.create_table(
        "indexed",
        sa.Column("document", sa.Integer, nullable=False),
        sa.Column("epoch", sa.Integer, nullable=False),
        sa.Column("seq", sa.Integer, nullable=False),
        sa.Column("title", sa.Text, nullable=False),
        sa.Column("format", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("document", name="pk_indexed"),
        sa.ForeignKeyConstraint(["document"], ["documents.key"], name="fk_indexed_document"),
    )
    for statement in WORDS[op.get_bind().dialect.name]:
        op.execute(statement)
    op.create_table(
        "blobs",
        sa.Column("hash", sa.Text, nullable=False),
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("size", sa.Integer, nullable=False),
        sa.Column("data", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("hash", name="pk_blobs"),
    )
    op.create_table(
        "images",
        sa.Column("document", sa.Integer, nullable=False),
        sa.Column("hash", sa.Text, nullable=False),
        sa.Column("added_by", sa.Text, nullable=False),
        sa.Column("added_at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("document", "hash", name="pk_images"),
        sa.ForeignKeyConstraint(["document"], ["documents.key"], name="fk_images_document"),
        sa.ForeignKeyConstraint(["hash"], ["blobs.hash"], name="fk_images_hash"),
    )
    op.create_index("ix_images_hash", "images", ["hash"])
