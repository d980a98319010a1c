"""Run goosebit, an independent DDI server, on an empty database. The Python of ``make peers`` runs the script.

The script prints its port on loopback when it listens.
"""

# mypy: disable-error-code="import-not-found"

from __future__ import annotations

import asyncio
import os
import socket
import sys

os.environ |= {"GOOSEBIT_DB_URI": "sqlite://goosebit.sqlite", "GOOSEBIT_TENANT": "default"}
os.environ |= {"GOOSEBIT_ARTIFACTS_DIR": "artifacts", "GOOSEBIT_TRACK_DEVICE_IP": "false"}

import uvicorn
from goosebit import app
from goosebit.db.config import TORTOISE_CONF
from tortoise import Tortoise


async def make_tables() -> None:
    """Create the tables that goosebit's own migrations would create."""
    await Tortoise.init(config=TORTOISE_CONF)
    await Tortoise.generate_schemas()
    await Tortoise.close_connections()


asyncio.run(make_tables())
with socket.create_server(("127.0.0.1", 0)) as listener:
    sys.stdout.write(f"{listener.getsockname()[1]}\n")
    sys.stdout.flush()
    uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listener])
