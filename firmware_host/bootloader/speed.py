"""The fastest speed at which a board's bootloader is understood.

The bootloader measures the line's speed from the first byte after a reset, and keeps to it (AN3155 section 2). ST
tests up to 115200 baud; many boards take more, and one that does not is deaf until it is reset. So faster speeds are
tried only where the board can be reset from here.
"""

from __future__ import annotations

import time

from blockota.errors import BoardError
from firmware_host.bootloader.chips import Chip, find_chip
from firmware_host.bootloader.client import Bootloader
from firmware_host.bootloader.entry import SETTLE_SECONDS, Entry, Wait, enter_bootloader, reset_board
from firmware_host.line.link import ControlledLink

FASTER = (460800, 256000, 230400)
"""Speeds above ST's own that are worth trying, the fastest first; 921600 was never seen to work."""
_TRIALS = 2
_BLOCK = 256


def connect_fastest(
    bootloader: Bootloader, link: ControlledLink, *, entry: Entry, highest: int = FASTER[0], wait: Wait = time.sleep
) -> int:
    """Connect at the highest speed that carries a block of memory unspoilt; without a reset line at the link's own.

    Args:
        bootloader: of the board.
        link: the port that it is on.
        entry: how the board is reset.
        highest: bits a second that are tried at most.
        wait: lets time pass.

    Returns:
        The speed, at which the bootloader is connected now.

    Raises:
        BoardError: no bootloader answers at the link's own speed.
    """
    enter_bootloader(bootloader, link, entry=entry, wait=wait)
    if entry.is_by_hand or not link.can_steer:
        return link.baud
    chip, usual = find_chip(bootloader.product_id()), link.baud
    sample = _sample(bootloader, chip)
    for baud in (baud for baud in FASTER if usual < baud <= highest):
        try:
            link.set_baud(baud)
            reset_board(link, entry, boot0=True, wait=wait)
            wait(chip.ready_seconds if chip else SETTLE_SECONDS[-1])
            bootloader.connect()
            if all(_sample(bootloader, chip) == sample for _ in range(_TRIALS)):
                return baud
        except BoardError:
            continue  # deaf or garbled at this speed, or an adapter that cannot do it
    link.set_baud(usual)
    enter_bootloader(bootloader, link, entry=entry, wait=wait)
    return usual


def _sample(bootloader: Bootloader, chip: Chip | None) -> bytes:
    """Bytes that a board says again at every speed: the beginning of its bootloader, or its product id."""
    product_id = bootloader.product_id().to_bytes(2, "big")
    if chip is None:
        return product_id
    bootloader.target(chip)
    return product_id + (b"" if bootloader.readout_protected() else bootloader.read(chip.system_memory.start, _BLOCK))
