"""Protecting a board's flash from being read or written, and lifting that (ST's AN3155 sections 3.9 to 3.12).

Each command ends with a reset, after which the option bytes count. So each function finds the bootloader again,
asks the board what it is now, and believes that rather than the acknowledgement.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from blockota.errors import BoardError, BoardProtocolError, RefusedError
from firmware_host.bootloader import an3155
from firmware_host.bootloader.an3155 import Exchange
from firmware_host.bootloader.chips import Chip
from firmware_host.bootloader.client import ERASE_MARGIN, Bootloader
from firmware_host.bootloader.exchange import ANSWER_SECONDS
from firmware_host.bootloader.identity import BoardIdentity, identify

Wait = Callable[[float], None]
"""Lets so many seconds pass."""
_LEAST_ERASE_SECONDS = 1.0
"""Where the table does not tell how long erasing everything takes."""


def protect_pages(
    bootloader: Bootloader, chip: Chip, *, pages: Iterable[int], wait: Wait = time.sleep
) -> BoardIdentity:
    """Protect pages from writing, in place of those protected before.

    Args:
        bootloader: connected to a board with this chip.
        chip: its row in the table.
        pages: their numbers; a protection bit covers several, so more may be protected.
        wait: lets the reset pass.

    Returns:
        What the board says of itself afterwards.

    Raises:
        RefusedError: the table does not say how this chip counts; nothing was sent.
        BoardError: silence, a refusal, or a board that is not protected afterwards.
    """
    _require_known(chip)
    wanted = set(pages)
    sectors = sorted(set(map(chip.protection_bit, wanted)))
    _carry_out(bootloader, chip, exchange=an3155.write_protect(sectors), wait=wait)
    identity = identify(bootloader)
    if not wanted <= set(identity.write_protected_pages or ()):
        raise _unchanged("write protection was acknowledged, and is not there")
    return identity


def unprotect_pages(bootloader: Bootloader, chip: Chip, *, wait: Wait = time.sleep) -> BoardIdentity:
    """Let all pages be written again; nothing is erased.

    Returns:
        What the board says of itself afterwards.

    Raises:
        BoardError: silence, a refusal, or a board that is still protected.
    """
    _carry_out(bootloader, chip, exchange=an3155.write_unprotect(), wait=wait)
    identity = identify(bootloader)
    if identity.write_protected_pages:
        raise _unchanged("lifting the write protection was acknowledged, and it is still there")
    return identity


def protect_readout(bootloader: Bootloader, chip: Chip, *, wait: Wait = time.sleep) -> BoardIdentity:
    """Close the flash to readers; from then on nothing can be proven about it, nor be written.

    Returns:
        What the board says of itself afterwards.

    Raises:
        BoardError: silence, a refusal, or a board that can still be read.
    """
    _carry_out(bootloader, chip, exchange=an3155.readout_protect(), wait=wait)
    return _with_readout(bootloader, protected=True)


def unprotect_readout(bootloader: Bootloader, chip: Chip, *, wait: Wait = time.sleep) -> BoardIdentity:
    """Open the flash to readers; the chip erases all of it first.

    Returns:
        What the board says of itself afterwards.

    Raises:
        BoardError: silence, a refusal, or a board that still cannot be read.
    """
    _carry_out(bootloader, chip, exchange=an3155.readout_unprotect(), wait=wait, busy=_erase_seconds(chip))
    return _with_readout(bootloader, protected=False)


def write_option_bytes(bootloader: Bootloader, chip: Chip, *, values: bytes, wait: Wait = time.sleep) -> BoardIdentity:
    """Write all option bytes of an STM32F1 (PM0075 section 3); each takes its complement beside it.

    Args:
        bootloader: connected to a board with this chip.
        chip: its row in the table.
        values: readout protection, user, two data bytes, four of write protection.
        wait: lets the reset pass.

    Returns:
        What the board says of itself afterwards.

    Raises:
        RefusedError: the table does not know this chip's option bytes, or there are not eight; nothing was sent.
        BoardError: silence, a refusal, or option bytes that read differently afterwards.
    """
    _require_known(chip)
    if len(values) * 2 != len(chip.option_bytes):
        raise RefusedError("the option bytes were not sent", why=f"{chip.name} has {len(chip.option_bytes) // 2}")
    data = b"".join(an3155.with_complement(value) for value in values)
    _carry_out(bootloader, chip, exchange=an3155.write_memory(chip.option_bytes.start, data), wait=wait)
    identity = identify(bootloader)
    if not identity.readout_protected and bootloader.read(chip.option_bytes.start, len(data)) != data:
        raise _unchanged("the option bytes were acknowledged, and read differently")
    return identity


def _carry_out(bootloader: Bootloader, chip: Chip, *, exchange: Exchange, wait: Wait, busy: float = 0.0) -> None:
    seconds = ANSWER_SECONDS + ERASE_MARGIN * (busy or chip.unit_erase_seconds)
    bootloader.transport.perform(exchange, seconds=seconds)
    bootloader.transport.end()
    wait(busy + chip.ready_seconds)
    try:
        bootloader.connect()
    except BoardError as error:
        raise type(error)(
            f"the board acknowledged {exchange.title} and did not come back from its reset",
            why=error.what,
            remedy="set BOOT0 to 1, reset the board, and see what it is with `blockota board identify`",
        ) from error


def _with_readout(bootloader: Bootloader, *, protected: bool) -> BoardIdentity:
    identity = identify(bootloader)
    if bool(identity.readout_protected) is not protected:
        raise _unchanged("the change of the readout protection was acknowledged, and did not take effect")
    return identity


def _require_known(chip: Chip) -> None:
    if not chip.units_per_protection_bit:
        raise RefusedError(
            "nothing was sent",
            why=f"this program does not know how {chip.name} keeps its write protection",
            remedy="use ST's own tool for this chip",
        )


def _erase_seconds(chip: Chip) -> float:
    return chip.mass_erase_seconds or _LEAST_ERASE_SECONDS


def _unchanged(what: str) -> BoardProtocolError:
    return BoardProtocolError(
        what,
        why="the board's option bytes say otherwise after the reset",
        remedy="reset the board and try again; if it happens twice, its chip may be a copy or damaged",
    )
