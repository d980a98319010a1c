"""Assemble and run the operations room."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from blockota.connection import Connection
from blockota.formats.notes import NoteSigner
from blockota.ledger.log import TileLog
from blockota.ledger.log_settings import LogSettings
from blockota.line_log import LineLog
from blockota.operations.archive import RoomArchive
from blockota.operations.background import background_tasks
from blockota.operations.commands import CommandLine
from blockota.operations.room import Room
from blockota.operations.room_log import RoomLog
from blockota.operations.settings import OperationsSettings
from blockota.operations.sign_in import SignIns
from blockota.operations.web.application import make_application
from blockota.repository.asgi_server import serve_application
from blockota.repository.connection import ConnectionLimits
from blockota.repository.server import Listening
from blockota.shutdown import Stop

if TYPE_CHECKING:
    from eth_account.signers.base import BaseAccount

ARCHIVE_NAME = "operations.sqlite"
"""The file of the archive, in the folder of the room."""
_MAX_CONNECTIONS, _KEEP_ALIVE, _GRACE, _STALL = 400, 20, 2, 15.0
"""The maximum number of connections. Then three times in seconds: an idle connection is kept this long; a stop waits
this long for answers; a client that neither sends its request nor reads the answer is dropped after this time."""


@dataclass(frozen=True)
class RoomSetup:
    """The parts from which a room is assembled.

    Attributes:
        settings: the table ``[operations]``.
        city: the connection to the gateway chain.
        vendors: the connections to the producer chains.
        command_line: returns the text of the commands that the pages show.
        log: the table ``[log]``; None if the room has no identity.
        signer: the key of the log; None if the room has no identity.
        account: the account that anchors the log; None if the log is not anchored.
        is_public: whether pages omit serial numbers, addresses, and texts that persons and services wrote.
        stall_seconds: seconds without progress after which the room disconnects a client.
    """

    settings: OperationsSettings
    city: Connection
    vendors: Sequence[Connection]
    command_line: CommandLine
    log: LogSettings | None = None
    signer: NoteSigner | None = None
    account: BaseAccount | None = None
    is_public: bool = False
    stall_seconds: float = _STALL


def run_room(setup: RoomSetup, lines: LineLog, stop: Stop, *, on_ready: Callable[[str], None]) -> None:
    """Run the room until a stop is requested.

    Args:
        setup: the room.
        lines: writes failures and recoveries as lines of JSON.
        stop: ends the room.
        on_ready: called with the URL of the page when the page is served.

    Raises:
        UsageError: the address cannot be used.
        RefusedError: another process runs this room, or the files of the room belong to another chain.
        StoreError: the folder of the room cannot be written.
    """
    settings = setup.settings
    with RoomArchive(settings.folder / ARCHIVE_NAME) as archive:
        room = Room(settings, archive, city=setup.city, vendors=setup.vendors, lines=lines)
        room_log = _room_log(setup)
        sign_ins = SignIns(archive, settings.url, setup.city.settings.chain_id) if room_log else None
        host, port = settings.listen
        limits = ConnectionLimits(setup.stall_seconds, _KEEP_ALIVE, setup.stall_seconds / 2)
        place = Listening(host, port, clients=_MAX_CONNECTIONS, stop_seconds=_GRACE, limits=limits)
        with room.running():
            application, events = make_application(
                room, setup.command_line, room_log=room_log, sign_ins=sign_ins, is_public=setup.is_public
            )

            async def serve() -> None:
                events.start()
                tasks = background_tasks(room, room_log, setup.account, lines)
                serving = asyncio.create_task(
                    serve_application(application, place, on_ready=lambda _: on_ready(settings.url))
                )
                stopped = asyncio.create_task(asyncio.to_thread(stop.wait_until_asked))
                await asyncio.wait([serving, stopped], return_when=asyncio.FIRST_COMPLETED)

                stop.ask()
                events.close()
                for task in (serving, *tasks):
                    task.cancel()
                with suppress(asyncio.CancelledError):
                    await serving

            asyncio.run(serve())


def _room_log(setup: RoomSetup) -> RoomLog | None:
    log, signer, identity = setup.log, setup.signer, setup.settings.identity
    if log is None or signer is None or identity is None:
        return None
    return RoomLog(TileLog(log.folder), signer, identity, log.witnesses)
