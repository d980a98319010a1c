"""Which board is on the line: what it says of itself before anything is written."""

from __future__ import annotations

from dataclasses import dataclass

from blockota.errors import BoardProtocolError
from firmware_host.bootloader import Bootloader
from firmware_host.chips import Chip, find_chip

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
    """Ask a board what it is, and tell the bootloader's range checks.

    Args:
        bootloader: connected.

    Raises:
        BoardError: the board fell silent, refused, or names a flash size that its family does not have.
    """
    product_id, version = bootloader.product_id(), bootloader.capabilities.version_text
    chip = find_chip(product_id)
    if chip is None:
        return BoardIdentity(product_id, version, chip=None)
    bootloader.target(chip)
    if bootloader.readout_protected():
        return BoardIdentity(product_id, version, chip, readout_protected=True)
    flash_size, unique_id = _read_identity(bootloader, chip)
    bootloader.target(chip, flash_size=flash_size)
    return BoardIdentity(
        product_id,
        version,
        chip,
        readout_protected=False,
        flash_size=flash_size,
        unique_id=unique_id.hex(),
        write_protected_pages=bootloader.write_protected_pages(),
    )


def _read_identity(bootloader: Bootloader, chip: Chip) -> tuple[int, bytes]:
    block = chip.identity
    data = bootloader.read(block.span.start, len(block.span))
    size_at, id_at = block.flash_size - block.span.start, block.unique_id - block.span.start
    flash_size = int.from_bytes(data[size_at : size_at + 2], "little") * _KIB
    if not 0 < flash_size <= chip.flash_limit:
        raise BoardProtocolError(
            f"the board's {chip.name} names an impossible flash size",
            why=f"its register says {flash_size // _KIB} KiB, the largest of the family has {chip.flash_limit // _KIB}",
            remedy="replace the board: its chip may be a copy or damaged",
        )
    return flash_size, data[id_at : id_at + _UNIQUE_ID_SIZE]
