"""How a board is reached: its port, the speed of the line, and what its reset and BOOT0 are wired to."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from firmware_host.bootloader.client import Bootloader
from firmware_host.bootloader.entry import BY_HAND, PRESETS, Entry, Wait, enter_bootloader
from firmware_host.bootloader.speed import connect_fastest
from firmware_host.line.link import DEFAULT_BAUD, open_link

FASTEST = 0
"""In the place of a speed: the highest that the board understands."""


@dataclass(frozen=True)
class BoardLine:
    """The way to one board.

    Attributes:
        url: a serial device, a pseudo-terminal, ``socket://host:port`` or ``rfc2217://host:port``.
        baud: bits a second, or `FASTEST`.
        entry: how the board is brought into its bootloader.
    """

    url: str
    baud: int = DEFAULT_BAUD
    entry: Entry = BY_HAND

    @property
    def first_baud(self) -> int:
        """The speed at which the board is spoken to first."""
        return self.baud or DEFAULT_BAUD

    @property
    def options(self) -> str:
        """The wiring and the speed as a command's options, as in ``--wiring dtr-rts --baud 115200``."""
        name = next(name for name, entry in PRESETS.items() if entry == self.entry.inverted(reset=False, boot0=False))
        inversions = " --invert-reset" * self.entry.invert_reset + " --invert-boot0" * self.entry.invert_boot0
        return f"--wiring {name}{inversions} --baud {self.baud or 'auto'}"


@contextmanager
def open_bootloader(line: BoardLine, *, wait: Wait = time.sleep) -> Iterator[Bootloader]:
    """Open a board's port, bring the board into its bootloader, and connect; the port is closed in the end.

    Args:
        line: the way to the board.
        wait: lets time pass.

    Yields:
        The bootloader, connected; its link knows the speed.

    Raises:
        UsageError: the port's address or speed cannot be one.
        BoardError: no port, no answer, or an answer that is not AN3155's.
    """
    link = open_link(line.url, baud=line.first_baud)
    try:
        bootloader = Bootloader(link)
        if line.baud == FASTEST:
            connect_fastest(bootloader, link, entry=line.entry, wait=wait)
        else:
            enter_bootloader(bootloader, link, entry=line.entry, wait=wait)
        yield bootloader
    finally:
        link.close()
