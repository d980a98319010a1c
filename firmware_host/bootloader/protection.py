"""Set and remove the protection of a board's flash (AN3155 sections 3.9 to 3.12).

Each command ends with a reset, which loads the option bytes. An acknowledgement does not prove the change, so each
function reads the protection back:

1. Send the command, and wait for its acknowledgements.
2. Wait until the board has reset, and connect again.
3. Identify the board, require the new protection, and return the board's identity.

Each function raises BoardError if the board is silent, answers NACK, or does not have the new protection afterwards.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

from blockota.errors import Action, BoardError, BoardProtocolError, RefusedError
from firmware_host.bootloader import an3155
from firmware_host.bootloader.an3155 import Command, Exchange
from firmware_host.bootloader.chips import Chip
from firmware_host.bootloader.client import ANSWER_SECONDS, ERASE_MARGIN, Bootloader
from firmware_host.bootloader.entry import Wait
from firmware_host.bootloader.identity import BoardIdentity, identify

_DEFAULT_MASS_ERASE_SECONDS = 1.0
"""The assumed time of a mass erase, for chips without a mass erase command, because the chip table has no time for
them."""


def protect_pages(
    bootloader: Bootloader, chip: Chip, *, pages: Iterable[int], wait: Wait = time.sleep
) -> BoardIdentity:
    """Write-protect these pages, and the pages that share a protection bit with them, but no other page."""
    if not chip.protected_bytes:
        raise RefusedError(
            "nothing was sent",
            why=f"the chip table does not describe the write-protection bits of {chip.name}",
            remedy="use ST's own tool for this chip",
        )

    wanted = set(pages)
    sectors = sorted(set(map(chip.protection_bit, wanted)))
    identity = _carry_out(bootloader, chip, exchange=an3155.write_protect(sectors), wait=wait)
    if not wanted <= set(identity.write_protected_pages or ()):
        raise _unchanged("write protection was acknowledged, and is not set")
    return identity


def unprotect_pages(bootloader: Bootloader, chip: Chip, *, wait: Wait = time.sleep) -> BoardIdentity:
    """Remove the write protection of all pages.

    Nothing is erased.
    """
    identity = _carry_out(bootloader, chip, exchange=an3155.bare(Command.WRITE_UNPROTECT), wait=wait)
    if identity.write_protected_pages:
        raise _unchanged("the removal of write protection was acknowledged, and it is still set")
    return identity


def protect_readout(bootloader: Bootloader, chip: Chip, *, wait: Wait = time.sleep) -> BoardIdentity:
    """Set readout protection.

    Afterwards, the flash can be neither verified nor written.
    """
    identity = _carry_out(bootloader, chip, exchange=an3155.bare(Command.READOUT_PROTECT), wait=wait)
    return _with_readout(identity, protected=True)


def unprotect_readout(bootloader: Bootloader, chip: Chip, *, wait: Wait = time.sleep) -> BoardIdentity:
    """Remove the readout protection.

    The chip erases its whole flash first.
    """
    busy = chip.mass_erase_seconds or _DEFAULT_MASS_ERASE_SECONDS
    identity = _carry_out(bootloader, chip, exchange=an3155.bare(Command.READOUT_UNPROTECT), wait=wait, busy=busy)
    return _with_readout(identity, protected=False)


def _carry_out(
    bootloader: Bootloader, chip: Chip, *, exchange: Exchange, wait: Wait, busy: float = 0.0
) -> BoardIdentity:
    seconds = ANSWER_SECONDS + ERASE_MARGIN * (busy or chip.unit_erase_seconds)
    bootloader.perform(exchange, seconds=seconds)  # (1)
    bootloader.end()

    wait(busy + chip.ready_seconds)  # (2)
    try:
        bootloader.connect()
    except BoardError as error:
        raise error.revised(
            what=f"the board acknowledged {exchange.title} and did not come back from its reset",
            why=error.what,
            remedy="set BOOT0 to 1, reset the board, and identify it",
            action=Action.IDENTIFY_BOARD,
        ) from error

    return identify(bootloader)  # (3), except the requirement


def _with_readout(identity: BoardIdentity, *, protected: bool) -> BoardIdentity:
    if bool(identity.readout_protected) is not protected:
        raise _unchanged("the change of the readout protection was acknowledged, and did not take effect")
    return identity


def _unchanged(what: str) -> BoardProtocolError:
    return BoardProtocolError(
        what,
        why="the option bytes have other values after the reset",
        remedy="reset the board and try again; if it happens twice, its chip may be a copy or damaged",
    )
