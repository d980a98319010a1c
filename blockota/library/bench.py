"""A flashing bench without an operator at a terminal.

The bench flashes one board at one port, and records it in the bench log of the settings.
"""

from __future__ import annotations

import os

from blockota.connection import Connection
from blockota.desk import describe
from blockota.files import make_folder
from blockota.model.facts import Consent
from blockota.model.release import Version
from blockota.settings import BOARD_IMAGES_NAME, JOURNALS_NAME
from blockota.shutdown import Stop
from firmware_host.bench.board_images import BoardImages
from firmware_host.bench.job import Bench
from firmware_host.bench.log_folder import login_name, open_bench_log
from firmware_host.bench.offers import ImageSource, Offers
from firmware_host.bench.result import BoardResult
from firmware_host.bootloader.entry import BoardLine


def flash_board(
    connection: Connection, line: BoardLine, wanted: tuple[str, Version | None], *, consent: Consent, operator: str
) -> BoardResult:
    """Flash one board, and record it in the bench log.

    Args:
        connection: the chain, the contract and the store.
        line: the serial line to the board.
        wanted: the product and the version; None as the version means the newest active version.
        consent: the board contents that may be replaced.
        operator: the operator's name in the log; empty to use the login name.

    Raises:
        BlockOTAError: the board was not flashed, or could not be recorded in the log.
    """
    folder = make_folder(connection.settings.bench)
    log = open_bench_log(connection.settings.file, environment=os.environ)
    log.check()  # report a damaged log before the board is changed
    stages = connection.image_sources().stages
    images = ImageSource(connection.store, stages, describe=lambda release: describe(connection, release))
    offer = Offers(connection.contract, connection.trust, images).offer(*wanted)

    bench = Bench(
        consent=consent,
        trust=connection.trust,
        operator=operator or login_name(),
        log=log,
        journals=folder / JOURNALS_NAME,
        observer=_Silent(),
        stop=Stop(),
        images=BoardImages(folder / BOARD_IMAGES_NAME),
    )
    result = bench.flash(line, offer)
    if result.error:
        raise result.error
    return result


class _Silent:
    """An observer that ignores all events, because the result contains all information for a program."""

    def note(self, *_: object) -> None:
        pass

    progress = ended = note
