"""alembic runs this file for each migration, with the connection of `blockota.operations.database`."""

from __future__ import annotations

from alembic import context

from blockota.operations.schema import METADATA

context.configure(connection=context.config.attributes["connection"], target_metadata=METADATA)
with context.begin_transaction():
    context.run_migrations()
