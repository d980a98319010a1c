"""Which board is on the line: what it says of itself before anything is written."""

from __future__ import annotations

from dataclasses import dataclass

from blockota.errors import BoardError, BoardProtocolError
from firmware_host.bootloader.chips import Chip, find_chip
from firmware_host.bootloader.client import BoardMark, Bootloader

PUT_BACK = "put the first one back"
"""How the remedy begins where another board answers than the one that the run began with."""
_UNIQUE_ID_SIZE = 12
_KIB = 1024


@dataclass(frozen=True)
class BoardIdentity:
    """What a board says of itself; None where it does not tell.

    Attributes:
        product_id: its family of chips.
        bootloader_version: such as ``2.2``.
        chip: the table's row, or None where the table has no such product id: then nothing more is known,
            because no address may be guessed.
        readout_protected: whether the flash cannot be read; if so nothing below is known.
        flash_size: in bytes, from the chip's own register.
        unique_id: the chip's 96 bits, in hexadecimal, in the order of memory.
        write_protected_pages: numbers of the pages that refuse to be written.
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
        """The addresses of the protected pages, one range each run of them."""
        if self.chip is None or self.flash_size is None or self.write_protected_pages is None:
            return None
        runs: list[range] = []
        for unit in self.chip.erase_units(self.flash_size):
            if unit.number in self.write_protected_pages:
                start = runs.pop().start if runs and runs[-1].stop == unit.address else unit.address
                runs.append(range(start, unit.span.stop))
        return tuple(runs)


def identify(bootloader: Bootloader) -> BoardIdentity:
    """Ask a board what it is, and tell the bootloader's range checks; `require_same_board` compares with this one.

    Args:
        bootloader: connected.

    Raises:
        BoardError: the board fell silent, refused, or names a flash size that its family does not have.
    """
    bootloader.mark = None
    product_id, version = bootloader.product_id(), bootloader.capabilities.version_text
    chip = find_chip(product_id)
    if chip is None:
        return BoardIdentity(product_id, version, chip=None)
    bootloader.target(chip)
    if bootloader.readout_protected():
        return BoardIdentity(product_id, version, chip, readout_protected=True)
    mark = _read_mark(bootloader, chip)
    _require_possible(mark.flash_size, chip)
    bootloader.mark = mark
    bootloader.target(chip, flash_size=mark.flash_size)
    return BoardIdentity(
        product_id,
        version,
        chip,
        readout_protected=False,
        flash_size=mark.flash_size,
        unique_id=mark.unique_id,
        write_protected_pages=bootloader.write_protected_pages(),
    )


def reconnect(bootloader: Bootloader, chip: Chip, *, flash_size: int) -> None:
    """Find the bootloader again, after a reset or a silence, and make sure that it is the same board's.

    Args:
        bootloader: of a board that was identified.
        chip: its row in the table.
        flash_size: in bytes.

    Raises:
        NoAnswerError: nothing answers.
        BoardError: another board answers, or this one not as it should.
    """
    bootloader.connect()
    require_same_board(bootloader, chip, flash_size=flash_size)


def require_same_board(bootloader: Bootloader, chip: Chip, *, flash_size: int) -> None:
    """Compare product id, flash size and unique id with those of the board that was identified, and set the target.

    Where no board was identified, or it does not tell, there is nothing to compare with. It takes 24 bytes and their
    frames: 6 ms at 115200 baud.

    Args:
        bootloader: connected.
        chip: its row in the table.
        flash_size: in bytes.

    Raises:
        BoardError: another board answers; nothing was sent to it but these questions.
    """
    expected = bootloader.mark
    if expected is not None:
        found = _mark(bootloader, chip)
        if found != expected:
            # Perhaps the line has garbled it: nothing protects the answers on their way.
            bootloader.link.drain()
            found = _mark(bootloader, chip)
        if found != expected:
            raise BoardError(
                f"another board answers on {bootloader.link.name}",
                why=f"this began with {expected}, and {found} answers now, to which nothing was written",
                remedy=f"{PUT_BACK}, with BOOT0 at 1 and freshly reset, and run the command again",
            )
    bootloader.target(chip, flash_size=flash_size)


def _mark(bootloader: Bootloader, chip: Chip) -> BoardMark:
    product_id = bootloader.product_id()
    # Where another family has its identity is not asked: it is another board already.
    return _read_mark(bootloader, chip) if product_id == chip.product_id else BoardMark(product_id)


def _read_mark(bootloader: Bootloader, chip: Chip) -> BoardMark:
    bootloader.target(chip)
    block = chip.identity
    data = bootloader.read(block.span.start, len(block.span))
    size_at, id_at = block.flash_size - block.span.start, block.unique_id - block.span.start
    flash_size = int.from_bytes(data[size_at : size_at + 2], "little") * _KIB
    return BoardMark(chip.product_id, flash_size, data[id_at : id_at + _UNIQUE_ID_SIZE].hex())


def _require_possible(flash_size: int, chip: Chip) -> None:
    if not 0 < flash_size <= chip.flash_limit:
        raise BoardProtocolError(
            f"the board's {chip.name} names an impossible flash size",
            why=f"its register says {flash_size // _KIB} KiB, the largest of the family has {chip.flash_limit // _KIB}",
            remedy="replace the board: its chip may be a copy or damaged",
        )
