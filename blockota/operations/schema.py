"""The tables of the cloud's database.

`blockota.operations.writing` writes the tables, and `blockota.operations.queries` reads the tables.

The database stores the data of validators' requests. The operations room has its own archive for data that it can read
again from chains and logs, such as warnings and receipts.

===========  =========================================================================================
request      the exact bytes of gateways' signed requests, as evidence of the readings
reading      the readings in these requests
latest       the newest reading of each quantity of each device
minute       the number of requests and readings in each minute, for each gateway and in total
batch        one row for each cloud service, which each transaction of this service changes
===========  =========================================================================================

Each change of the tables needs a new file in ``migrations/versions/`` and a new `VERSION`.
"""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import (
    BigInteger,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Uuid,
)

VERSION = "0001"
"""The newest version of the tables: the name of the last migration."""

METADATA = MetaData()

_NUMBER = BigInteger().with_variant(Integer, "sqlite")
"""A primary key that counts by itself; SQLite does this for the type INTEGER alone."""

REQUEST = Table(
    "request",
    METADATA,
    Column("number", _NUMBER, primary_key=True),
    Column("digest", LargeBinary(32), nullable=False, unique=True),  # `AcceptedRequest.digest`
    Column("gateway", Uuid, nullable=False),
    Column("validator", Uuid, nullable=False),
    Column("time", BigInteger, nullable=False),  # Unix time of the signature; of the arrival if it signs no time
    Column("arrived", BigInteger, nullable=False),
    Column("raw", LargeBinary, nullable=False),
    Index("request_of_gateway", "gateway", "number"),
)

READING = Table(
    "reading",
    METADATA,
    Column("number", _NUMBER, primary_key=True),
    Column("request", BigInteger, ForeignKey("request.number"), nullable=False),
    Column("gateway", Uuid, nullable=False),
    Column("thing", String(64), nullable=False),
    Column("name", String(64), nullable=False),
    Column("time", Double, nullable=False),
    Column("value", Double),  # of a number, true (1) or false (0)
    Column("text", String(256)),  # of another value; "true" or "false"
    Column("unit", String(64), nullable=False),
    Index("reading_of_thing", "thing", "time"),
)

LATEST = Table(
    "latest",
    METADATA,
    Column("thing", String(64), primary_key=True),
    Column("name", String(64), primary_key=True),
    Column("request", BigInteger, nullable=False),
    Column("gateway", Uuid, nullable=False),
    Column("time", Double, nullable=False),
    Column("value", Double),
    Column("text", String(256)),
    Column("unit", String(64), nullable=False),
)

ALL_GATEWAYS = UUID(int=0)
"""The gateway of the rows in ``minute`` that have the sums of all gateways."""

MINUTE = Table(
    "minute",
    METADATA,
    Column("gateway", Uuid, primary_key=True),  # or ALL_GATEWAYS
    Column("start", BigInteger, primary_key=True, autoincrement=False),  # Unix time, a multiple of 60, of the arrival
    Column("requests", BigInteger, nullable=False),
    Column("readings", BigInteger, nullable=False),
    Index("minute_by_start", "start"),
)

BATCH = Table(
    "batch",
    METADATA,
    Column("cloud", Uuid, primary_key=True),
    Column("number", BigInteger, nullable=False),
    Column("time", BigInteger, nullable=False),
)
