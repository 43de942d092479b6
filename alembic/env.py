"""Run by alembic for each upgrade; ``storage.migrations`` gives the connection and owns the transaction."""

from alembic import context
from storage.models import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=True,  # SQLite can too; our BEGIN is explicit
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
