"""What alembic runs: migrations inside the transaction that ``schema`` has begun."""

from alembic import context

from aliquot.storage.schema import VERSION_TABLE
from aliquot.storage.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
    # Alembic takes SQLite's DDL for untransactional, which holds only for Python's driver
    # left to itself.
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
