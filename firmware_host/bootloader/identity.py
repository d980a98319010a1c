"""Identify a board before anything is written to it, and recognise it after a reset."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from blockota.errors import Action, BoardError, BoardProtocolError
from firmware_host.bootloader.chips import BoardMark, Chip, find_chip, joined
from firmware_host.bootloader.client import Bootloader

Answer = TypeVar("Answer")
_WORD = 4
_SHORT_READ = 16
_KIB = 1024


class AnotherBoardError(BoardError):
    """The answering board is not the board that was identified before."""


@dataclass(frozen=True)
class BoardIdentity:
    """The identity that a board reports.

    Unknown values are None.

    Attributes:
        chip: the chip's row in the chip table. For an unknown chip, all following values are unknown, because
            their addresses are unknown.
        readout_protected: whether readout protection is on. With readout protection, all following values are unknown.
        unique_id: the chip's 96-bit unique id in hexadecimal, in memory order.
    """

    product_id: int
    bootloader_version: str
    chip: Chip | None
    readout_protected: bool | None = None
    flash_size: int | None = None
    unique_id: str | None = None
    write_protected_pages: tuple[int, ...] | None = None

    @property
    def write_protected(self) -> tuple[range, ...] | None:
        """The address ranges of the write-protected pages; adjacent pages form one range."""
        if self.chip is None or self.flash_size is None or self.write_protected_pages is None:
            return None
        units = self.chip.erase_units(self.flash_size)
        return tuple(joined(unit.span for unit in units if unit.number in self.write_protected_pages))


def identify(bootloader: Bootloader) -> BoardIdentity:
    """Identify a board, and set it as the target of the bootloader's commands.

    Raises:
        BoardError: the board is silent, answers NACK, or reports a flash size that its chip cannot have.
    """
    bootloader.mark = None
    # (1) Product id and version, which every bootloader answers.
    product_id, version = (
        agreed_answer(bootloader.product_id, "the board's product id"),
        bootloader.capabilities.version_text,
    )

    # (2) The row of the table. Without it no address is known.
    chip = find_chip(product_id)
    if chip is None:
        return BoardIdentity(product_id, version, chip=None)
    bootloader.target(chip)

    # (3) Flash size and unique id, which readout protection hides.
    span = _identity_span(chip)
    data = bootloader.read_unless_protected(span.start, len(span))
    if data is None:
        # Noise in a command causes the same answer as protection. Connect again, which ends a half-received command,
        # and let the next answer decide.
        bootloader.connect()
        bootloader.target(chip)
        data = bootloader.read_unless_protected(span.start, len(span))
    if data is None:
        return BoardIdentity(product_id, version, chip, readout_protected=True)

    mark = agreed_answer(
        lambda: _read_mark(bootloader, chip), "the board's flash size and unique id", first=_mark_of(chip, data)
    )
    if not 0 < mark.flash_size <= chip.flash_limit:
        raise BoardProtocolError(
            f"the board's {chip.name} reports an impossible flash size",
            why=f"its size register reads {mark.flash_size // _KIB} KiB, "
            f"but the largest chip of the family has {chip.flash_limit // _KIB} KiB",
            remedy="replace the board: its chip may be a copy or damaged",
        )
    bootloader.mark = mark
    flash_size = chip.usable(mark.flash_size)
    bootloader.target(chip, flash_size=flash_size)

    # (4) Write protection.
    return BoardIdentity(
        product_id,
        version,
        chip,
        readout_protected=False,
        flash_size=flash_size,
        unique_id=mark.unique_id,
        write_protected_pages=agreed_answer(bootloader.write_protected_pages, "the board's option bytes"),
    )


def reconnect(bootloader: Bootloader, chip: Chip, *, flash_size: int) -> None:
    """Connect again after a reset or a silence, and require the same board (`require_same_board`)."""
    bootloader.connect()
    require_same_board(bootloader, chip, flash_size=flash_size)


def require_same_board(bootloader: Bootloader, chip: Chip, *, flash_size: int) -> None:
    """Require that the connected board is the board that was identified before, and set it as the target again.

    The function compares the product id, the flash size and the unique id. It compares nothing if the flash of the
    identified board could not be read. The comparison takes 6 ms at 115200 baud.
    """
    expected = bootloader.mark
    if expected is not None:
        found = _mark(bootloader, chip)
        if found != expected:
            # Noise may have corrupted the answer, which has no checksum: read the identity once more.
            bootloader.link.drain()
            found = _mark(bootloader, chip)
        if found != expected:
            raise AnotherBoardError(
                f"another board answers on {bootloader.link.name}",
                why=f"the run began with {expected}, but {found} answers now; nothing was written to the other board",
                remedy="connect the first board again, reset it with BOOT0 at 1, and run the command again",
            )
    bootloader.target(chip, flash_size=flash_size)


def agreed_answer(read: Callable[[], Answer], what: str, *, first: Answer | None = None) -> Answer:
    """Read a value of the board twice and compare, because answers have no checksum (AN3155).

    If `first` is given, it replaces the first read.
    """
    value = read() if first is None else first
    if read() != value:
        raise BoardProtocolError(
            "the line to the board corrupts bytes",
            why=f"two reads of {what} returned different bytes",
            remedy="check even parity and the common ground, and use a shorter cable or a lower speed",
            action=Action.LOWER_BAUD,
        )
    return value


def _mark(bootloader: Bootloader, chip: Chip) -> BoardMark:
    product_id = bootloader.product_id()
    # A different product id is enough: the identity addresses of another chip are not read.
    return _read_mark(bootloader, chip) if product_id == chip.product_id else BoardMark(product_id)


def _read_mark(bootloader: Bootloader, chip: Chip) -> BoardMark:
    bootloader.target(chip)
    span = _identity_span(chip)
    return _mark_of(chip, bootloader.read(span.start, len(span)))


def _identity_span(chip: Chip) -> range:
    """The addresses of flash size and unique id; for a chip without these registers, a part of its system memory."""
    return chip.identity.span if chip.identity else chip.system_memory[:_SHORT_READ]


def _mark_of(chip: Chip, data: bytes) -> BoardMark:
    block = chip.identity
    if block is None:
        return BoardMark(chip.product_id, chip.flash_limit)
    size_at = block.flash_size - block.span.start
    number = int.from_bytes(data[size_at : size_at + 2], "little")
    kib = dict(enumerate(block.flash_size_codes)).get(number, number)
    words = (data[at - block.span.start :][:_WORD] for at in block.unique_id)
    return BoardMark(chip.product_id, kib * _KIB, b"".join(words).hex())
