"""What history needs: cold log in segments, labels, a cache, answers, and the right to it."""

import sqlalchemy as sa

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.create_table(
        "segments",
        sa.Column("document", sa.Integer, nullable=False),
        sa.Column("first", sa.Integer, nullable=False),
        sa.Column("last", sa.Integer, nullable=False, autoincrement=False),
        sa.Column("data", sa.LargeBinary, nullable=False),
        sa.Column("checksum", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("document", "last", name="pk_segments"),
        sa.ForeignKeyConstraint(["document"], ["documents.key"], name="fk_segments_document"),
    )
    op.create_table(
        "labels",
        sa.Column("key", sa.Integer, nullable=False),
        sa.Column("document", sa.Integer, nullable=False),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("seq", sa.Integer, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("note", sa.Text, nullable=False),
        sa.Column("made_by", sa.Text, nullable=False),
        sa.Column("made_at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_labels"),
        sa.UniqueConstraint("document", "name", name="uq_labels_document"),
        sa.ForeignKeyConstraint(["document"], ["documents.key"], name="fk_labels_document"),
        sa.UniqueConstraint("id", name="uq_labels_id"),
    )
    op.create_table(
        "histories",
        sa.Column("document", sa.Integer, nullable=False),
        sa.Column("epoch", sa.Integer, nullable=False),
        sa.Column("seq", sa.Integer, nullable=False),
        sa.Column("format", sa.Integer, nullable=False),
        sa.Column("data", sa.LargeBinary, nullable=False),
        sa.Column("checksum", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("document", name="pk_histories"),
        sa.ForeignKeyConstraint(["document"], ["documents.key"], name="fk_histories_document"),
    )
    op.create_table(
        "answers",
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("digest", sa.LargeBinary, nullable=False),
        sa.Column("made_at", sa.BigInteger, nullable=False),
        sa.Column("status", sa.SmallInteger),
        sa.Column("headers", sa.Text),
        sa.Column("body", sa.LargeBinary),
        sa.PrimaryKeyConstraint("actor", "key", name="pk_answers"),
    )
    op.create_index("ix_answers_made_at", "answers", ["made_at"])
    op.add_column("members", sa.Column("history", sa.Boolean))
    op.add_column("links", sa.Column("history", sa.Boolean))
    op.add_column("documents", sa.Column("imported_head", sa.Integer))
    op.add_column("documents", sa.Column("imported_by", sa.Text))
    op.add_column("documents", sa.Column("imported_at", sa.BigInteger))
