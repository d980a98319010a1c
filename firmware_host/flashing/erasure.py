"""Erase pages of a board's flash at the operator's request, and prove that the pages are erased."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from blockota.errors import Action, BoardError, BoardProtocolError, RefusedError
from firmware_host.bootloader.chips import Chip, EraseUnit
from firmware_host.bootloader.client import Bootloader, CommandRefusedError
from firmware_host.bootloader.identity import BoardIdentity
from firmware_host.flashing.plan import chunks

_UNCERTAIN = "some of the pages may be erased and others not"


def known_chip(identity: BoardIdentity) -> Chip:
    """Return the chip table's row for a board.

    A board whose chip has no row is refused.
    """
    if identity.chip is None:
        raise RefusedError(
            f"the board's chip is not supported: product id {identity.product_id:#05x}",
            why="the chip table does not have its memory map, and no address is guessed",
            remedy="update BlockOTA, or use ST's own tool for this chip",
        )
    return identity.chip


def flash_of(identity: BoardIdentity) -> tuple[Chip, int]:
    """Return a board's chip and the size of its flash.

    A board with an unknown chip or readout protection is refused.
    """
    chip = known_chip(identity)
    if identity.flash_size is None:
        raise RefusedError(
            "the board's flash cannot be read or changed",
            why=f"readout protection of the {chip.name} is on",
            remedy="remove the readout protection, which erases the whole flash",
            action=Action.UNPROTECT_READOUT,
        )
    return chip, identity.flash_size


def page_numbers(identity: BoardIdentity, pages: Iterable[int] | None) -> tuple[int, ...]:
    """Return page numbers in ascending order without duplicates.

    None stands for all pages. A missing page is refused.
    """
    chip, flash_size = flash_of(identity)
    count = len(chip.erase_units(flash_size))
    wanted = sorted(set(range(count) if pages is None else pages))
    if wanted[-1] >= count:
        what = f"page {wanted[-1]} does not exist"
        raise RefusedError(what, why=f"the board has pages 0 to {count - 1}; nothing was changed")
    return tuple(wanted)


def units_to_erase(identity: BoardIdentity, pages: Iterable[int] | None) -> tuple[EraseUnit, ...]:
    """Return the erase units with these numbers.

    None stands for all units. A missing or write-protected unit is refused.
    """
    wanted = page_numbers(identity, pages)
    # The bootloader acknowledges the erase of a protected page, but does not erase it (AN3155, note to Erase Memory).
    if kept := sorted(set(wanted) & set(identity.write_protected_pages or ())):
        raise RefusedError(
            f"page {kept[0]} is protected from writing",
            why="the board would acknowledge the erase without erasing the page; nothing was erased",
            remedy="remove the write protection",
            action=Action.UNPROTECT_WRITE,
        )
    chip, flash_size = flash_of(identity)
    units = chip.erase_units(flash_size)
    return tuple(units[number] for number in wanted)


class EraseRefusedError(CommandRefusedError):
    """The bootloader refuses to erase pages."""


def refused_erase(error: CommandRefusedError, chip: Chip) -> EraseRefusedError:
    """Return the error of a refused erase of pages, with a remedy that can succeed.

    Some bootloaders refuse every list of pages but accept a mass erase. The family of the chip may lack a mass erase.
    """
    remedy, action = "remove write protection if it is set, and run the command again", None
    if chip.mass_erase_seconds and not chip.is_erased_whole:
        remedy += "; otherwise erase the whole flash, which destroys all its contents, and flash the board again"
        action = Action.ERASE_EVERYTHING
    return EraseRefusedError(error.what, why=error.why, remedy=remedy, action=action)


def erase(bootloader: Bootloader, chip: Chip, *, units: Sequence[EraseUnit], flash_size: int) -> Iterator[int]:
    """Erase pages. If `units` contains all pages and the chip has a mass erase, use the mass erase.

    Yields the number of bytes that were read back and found erased so far.
    """
    try:
        if chip.mass_erase_seconds and len(units) == len(chip.erase_units(flash_size)):
            bootloader.erase_all()
        else:
            try:
                bootloader.erase_pages([unit.number for unit in units])
            except CommandRefusedError as error:
                raise refused_erase(error, chip) from error

        done = 0
        for unit in units:
            # The boot ROM may number the pages of the second bank differently; the first number then erased nothing.
            if unit.other_number is not None and is_used(bootloader, chip, unit=unit):
                bootloader.erase_pages([unit.other_number])
            for chunk in chunks(unit.span):
                if not chip.is_blank(bootloader.read(chunk.start, len(chunk))):
                    raise BoardProtocolError(
                        f"page {unit.number} is not blank after the erase",
                        why="the board acknowledged the erase, but some bytes of the page are not erased",
                        remedy="run the command again; if the same page fails again, it is worn out: replace the board",
                    )
                done += len(chunk)
                yield done
    except BoardError as error:
        raise error.revised(why=f"{error.why}; {_UNCERTAIN}") from error
    except KeyboardInterrupt as stop:
        raise KeyboardInterrupt(f"{_UNCERTAIN.capitalize()}; run the command again.") from stop


def is_used(bootloader: Bootloader, chip: Chip, *, unit: EraseUnit) -> bool:
    """Whether a byte of an erase unit is not erased."""
    return any(not chip.is_blank(bootloader.read(chunk.start, len(chunk))) for chunk in chunks(unit.span))
