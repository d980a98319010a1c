"""Erasing a board's flash because a person asked for it, and proving that it is erased."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from blockota.errors import BoardError, BoardProtocolError, RefusedError
from firmware_host.bootloader.chips import Chip, EraseUnit
from firmware_host.bootloader.client import Bootloader
from firmware_host.bootloader.identity import BoardIdentity
from firmware_host.flashing.plan import chunks

_UNCERTAIN = "some of the pages may be erased and others not"


def flash_of(identity: BoardIdentity) -> tuple[Chip, int]:
    """The chip of a board and the size of its flash in bytes, where the flash can be read and erased.

    Raises:
        RefusedError: the chip is not in the table, or its flash is protected from being read.
    """
    chip = known_chip(identity)
    if identity.flash_size is None:
        raise RefusedError(
            "the board's flash cannot be read or changed",
            why=f"the {chip.name} is protected from being read",
            remedy="lift the protection with `blockota board unprotect --readout`, which erases the whole flash",
        )
    return chip, identity.flash_size


def known_chip(identity: BoardIdentity) -> Chip:
    """The table's row for a board's chip.

    Raises:
        RefusedError: there is none.
    """
    if identity.chip is None:
        raise RefusedError(
            f"this program does not know the board's chip, product id {identity.product_id:#05x}",
            why="no table here says where its memories are, and no address is guessed",
            remedy="update BlockOTA, or use ST's own tool for this chip",
        )
    return identity.chip


def page_numbers(identity: BoardIdentity, pages: Iterable[int] | None) -> tuple[int, ...]:
    """Numbers of pages or sectors that a board has, in order.

    Args:
        identity: of the board.
        pages: their numbers, or None for all.

    Raises:
        RefusedError: the board has no such page, or does not tell how many it has.
    """
    count = len(_units(identity))
    wanted = sorted(set(range(count) if pages is None else pages))
    if wanted[-1] >= count:
        what = f"there is no page {wanted[-1]}"
        raise RefusedError(what, why=f"the board has pages 0 to {count - 1}; nothing was changed")
    return tuple(wanted)


def units_to_erase(identity: BoardIdentity, pages: Iterable[int] | None) -> tuple[EraseUnit, ...]:
    """The pages or sectors that are to be erased.

    Args:
        identity: of the board.
        pages: their numbers, or None for all.

    Raises:
        RefusedError: the flash cannot be erased, has no such page, or would keep one that is write-protected.
    """
    wanted = page_numbers(identity, pages)
    if kept := sorted(set(wanted) & set(identity.write_protected_pages or ())):
        raise RefusedError(
            f"page {kept[0]} is protected from writing",
            why="the board would acknowledge, and keep it; nothing was erased",
            remedy="lift the protection with `blockota board unprotect --write`",
        )
    units = _units(identity)
    return tuple(units[number] for number in wanted)


def erase(bootloader: Bootloader, chip: Chip, *, units: Sequence[EraseUnit], flash_size: int) -> Iterator[int]:
    """Erase pages, and read them back, because an acknowledgement proves nothing.

    Args:
        bootloader: connected, and told which chip it is.
        chip: its row in the table.
        units: what to erase; where it is everything and the chip can, by one command.
        flash_size: in bytes.

    Yields:
        Bytes proven to be erased.

    Raises:
        BoardProtocolError: a page still holds something.
        BoardError: the board fell silent, or refused.
    """
    with _state_told():
        if chip.mass_erase_seconds and len(units) == len(chip.erase_units(flash_size)):
            bootloader.erase_all()
        else:
            bootloader.erase_pages([unit.number for unit in units])
        done = 0
        for unit in units:
            for chunk in chunks(unit.span):
                _require_blank(unit, bootloader.read(chunk.start, len(chunk)), blank=chip.erased_byte)
                done += len(chunk)
                yield done


def _units(identity: BoardIdentity) -> tuple[EraseUnit, ...]:
    chip, flash_size = flash_of(identity)
    return chip.erase_units(flash_size)


def _require_blank(unit: EraseUnit, data: bytes, *, blank: int) -> None:
    if data.strip(bytes((blank,))):
        raise BoardProtocolError(
            f"page {unit.number} was to be erased, and still holds something",
            why="the board acknowledged the erase, and the page reads otherwise",
            remedy="run the command again; if the same page stays, it is worn out: replace the board",
        )


@contextmanager
def _state_told() -> Iterator[None]:
    try:
        yield
    except BoardError as error:
        raise type(error)(error.what, why=f"{error.why}; {_UNCERTAIN}", remedy=error.remedy) from error
    except KeyboardInterrupt as stop:
        raise KeyboardInterrupt(f"{_UNCERTAIN.capitalize()}; run the command again.") from stop
