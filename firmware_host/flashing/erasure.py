"""Erasing pages of a board's flash on request, and proving that they are erased."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from blockota.errors import Action, BoardError, BoardProtocolError, RefusedError
from firmware_host.bootloader.chips import Chip, EraseUnit
from firmware_host.bootloader.client import Bootloader
from firmware_host.bootloader.identity import BoardIdentity
from firmware_host.flashing.plan import chunks

_UNCERTAIN = "some of the pages may be erased and others not"


def known_chip(identity: BoardIdentity) -> Chip:
    """The table row of a board's chip.

    Raises:
        RefusedError: the table has no such chip.
    """
    if identity.chip is None:
        raise RefusedError(
            f"the board's chip is not supported: product id {identity.product_id:#05x}",
            why="its memory map is not in the chip table, and no address is guessed",
            remedy="update BlockOTA, or use ST's own tool for this chip",
        )
    return identity.chip


def flash_of(identity: BoardIdentity) -> tuple[Chip, int]:
    """A board's chip and the size of its flash in bytes, if the flash can be read and erased.

    Raises:
        RefusedError: the table has no such chip, or readout protection is on.
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
    """Check numbers of pages or sectors against those of a board; None stands for all pages.

    Returns:
        The numbers in ascending order, without duplicates.

    Raises:
        RefusedError: the board has no such page, or its flash size is unknown.
    """
    chip, flash_size = flash_of(identity)
    count = len(chip.erase_units(flash_size))
    wanted = sorted(set(range(count) if pages is None else pages))
    if wanted[-1] >= count:
        what = f"page {wanted[-1]} does not exist"
        raise RefusedError(what, why=f"the board has pages 0 to {count - 1}; nothing was changed")
    return tuple(wanted)


def units_to_erase(identity: BoardIdentity, pages: Iterable[int] | None) -> tuple[EraseUnit, ...]:
    """The erase units of some pages or sectors; None stands for all pages.

    Raises:
        RefusedError: the board has no such page, its flash size is unknown, or one is write-protected.
    """
    wanted = page_numbers(identity, pages)
    # The bootloader acknowledges the erase of a protected page and does nothing (AN3155, note to Erase Memory).
    if kept := sorted(set(wanted) & set(identity.write_protected_pages or ())):
        raise RefusedError(
            f"page {kept[0]} is protected from writing",
            why="the board would acknowledge the erase and keep the page; nothing was erased",
            remedy="remove the write protection",
            action=Action.UNPROTECT_WRITE,
        )
    chip, flash_size = flash_of(identity)
    units = chip.erase_units(flash_size)
    return tuple(units[number] for number in wanted)


def erase(bootloader: Bootloader, chip: Chip, *, units: Sequence[EraseUnit], flash_size: int) -> Iterator[int]:
    """Erase pages, by one command if they are all and the chip has it; then read them back.

    An acknowledgement proves nothing.

    Yields:
        Bytes proven to be erased.

    Raises:
        BoardProtocolError: a page is not blank.
        BoardError: the board is silent or refuses.
    """
    try:
        if chip.mass_erase_seconds and len(units) == len(chip.erase_units(flash_size)):
            bootloader.erase_all()
        else:
            bootloader.erase_pages([unit.number for unit in units])

        done, blank = 0, bytes((chip.erased_byte,))
        for unit in units:
            for chunk in chunks(unit.span):
                if bootloader.read(chunk.start, len(chunk)).strip(blank):
                    raise BoardProtocolError(
                        f"page {unit.number} is not blank after the erase",
                        why="the board acknowledged the erase, but some bytes of the page are not erased",
                        remedy="run the command again; if the same page stays, it is worn out: replace the board",
                    )
                done += len(chunk)
                yield done
    except BoardError as error:
        raise type(error)(
            error.what,
            why=f"{error.why}; {_UNCERTAIN}",
            remedy=error.remedy,
            action=error.action,
            values=error.values,
        ) from error
    except KeyboardInterrupt as stop:
        raise KeyboardInterrupt(f"{_UNCERTAIN.capitalize()}; run the command again.") from stop
