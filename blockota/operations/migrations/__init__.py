"""Alembic's migrations of the cloud's database. `blockota.operations.database` runs them."""
