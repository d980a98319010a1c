"""The first version: requests and their readings.

This migration defines its columns itself: the tables in `blockota.operations.schema` change with later versions.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_NUMBER = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "request",
        sa.Column("number", _NUMBER, primary_key=True),
        sa.Column("digest", sa.LargeBinary(32), nullable=False, unique=True),
        sa.Column("gateway", sa.Uuid, nullable=False),
        sa.Column("validator", sa.Uuid, nullable=False),
        sa.Column("time", sa.BigInteger, nullable=False),
        sa.Column("arrived", sa.BigInteger, nullable=False),
        sa.Column("raw", sa.LargeBinary, nullable=False),
    )
    op.create_index("request_of_gateway", "request", ["gateway", "number"])

    op.create_table(
        "reading",
        sa.Column("number", _NUMBER, primary_key=True),
        sa.Column("request", sa.BigInteger, sa.ForeignKey("request.number"), nullable=False),
        sa.Column("gateway", sa.Uuid, nullable=False),
        sa.Column("thing", sa.String(64), nullable=False),
        *_value_columns(),
    )
    op.create_index("reading_of_thing", "reading", ["thing", "time"])

    op.create_table(
        "latest",
        sa.Column("thing", sa.String(64), primary_key=True),
        sa.Column("request", sa.BigInteger, nullable=False),
        sa.Column("gateway", sa.Uuid, nullable=False),
        *_value_columns(is_key=True),
    )

    op.create_table(
        "minute",
        sa.Column("gateway", sa.Uuid, primary_key=True),
        sa.Column("start", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("requests", sa.BigInteger, nullable=False),
        sa.Column("readings", sa.BigInteger, nullable=False),
    )
    op.create_index("minute_by_start", "minute", ["start"])

    op.create_table(
        "batch",
        sa.Column("cloud", sa.Uuid, primary_key=True),
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.Column("time", sa.BigInteger, nullable=False),
    )


def _value_columns(*, is_key: bool = False) -> list[sa.Column[object]]:
    return [
        sa.Column("name", sa.String(64), nullable=False, primary_key=is_key),
        sa.Column("time", sa.Double, nullable=False),
        sa.Column("value", sa.Double),
        sa.Column("text", sa.String(256)),
        sa.Column("unit", sa.String(64), nullable=False),
    ]
