"""Who may do what with a document: members, links, and who came through which."""

import sqlalchemy as sa

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "members",
        sa.Column("document", sa.Integer, nullable=False),
        sa.Column("person", sa.Text, nullable=False),
        sa.Column("role", sa.SmallInteger, nullable=False),
        sa.Column("added_at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("document", "person", name="pk_members"),
        sa.ForeignKeyConstraint(["document"], ["documents.key"], name="fk_members_document"),
    )
    op.create_index("ix_members_person", "members", ["person"])
    op.create_table(
        "links",
        sa.Column("key", sa.Integer, nullable=False),
        sa.Column("document", sa.Integer, nullable=False),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("digest", sa.LargeBinary, nullable=False),
        sa.Column("role", sa.SmallInteger, nullable=False),
        sa.Column("label", sa.Text, nullable=False),
        sa.Column("password_hash", sa.Text),
        sa.Column("expires_at", sa.BigInteger),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("created_by", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_links"),
        sa.ForeignKeyConstraint(["document"], ["documents.key"], name="fk_links_document"),
        sa.UniqueConstraint("id", name="uq_links_id"),
        sa.UniqueConstraint("digest", name="uq_links_digest"),
    )
    op.create_index("ix_links_document", "links", ["document"])
    op.create_table(
        "openings",
        sa.Column("link", sa.Integer, nullable=False),
        sa.Column("person", sa.Text, nullable=False),
        sa.Column("opened_at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("link", "person", name="pk_openings"),
        sa.ForeignKeyConstraint(["link"], ["links.key"], name="fk_openings_link"),
    )
    op.create_index("ix_openings_person", "openings", ["person"])
