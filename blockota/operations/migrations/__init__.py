"""The versions of the cloud's database, for alembic. `blockota.operations.database` runs them."""
