"""Finds out whether a program was linked for another address than the one at which it would be written.

A program runs only at the address that it was linked for. A raw image does not contain this address, but the program
in it does: its vector table (ARMv7-M Architecture Reference Manual, B1.5.3) has the addresses of its handlers. A
program that is linked for an address B behind its load address L looks as follows:

1. Every handler lies at B or above. So does every other address in the program: no word of the image, and no pair of
   instructions ``movw`` and ``movt``, is an address from L to B.
2. At the places of the handlers, counted from L, no functions begin. A program that is linked for L can have all its
   handlers far behind its vector table, but its handlers are functions.
3. At the place of the reset handler, counted from B, the image is not blank. A program that is linked for L can leave a
   gap between its vector table and its code.

B is between L and the lowest address that the program uses, less the size of the vector table. Which address in this
range it is cannot be seen from the addresses alone: `_choose` describes the choice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

from blockota.formats.mcuboot import program_offset
from blockota.formats.thumb import begins_function, loaded_constants, unpack

FLASH = range(0x0800_0000, 0x0C00_0000)
"""The addresses of the main flash of every STM32, with a wide margin."""
NEAREST = 2 * 1024
"""The smallest distance of B from L, in bytes: hardly any boot loader is smaller than 2 KiB."""
_GRAIN = 1024
"""B is a multiple of this number of bytes: boot loader and program do not share an erase unit."""
_TABLE_ALIGNMENT = 0x200
"""The alignment of a vector table of up to 128 words (ARMv7-M, VTOR)."""
_EXCEPTIONS = 16
"""Number of words of a vector table before the chip's interrupts."""
_WORD = 4
_BLANK = (b"\xff" * _WORD, b"\x00" * _WORD)


@dataclass(frozen=True)
class _Program:
    """A program in an image.

    Attributes:
        image: the whole image.
        load_address: address at which the image would be written.
        offset: offset of the vector table in the image.
        table_size: size of the vector table, in bytes.
        reset: address of the reset handler.
        handlers: addresses of all handlers, each once, in ascending order.
    """

    image: bytes
    load_address: int
    offset: int
    table_size: int
    reset: int
    handlers: tuple[int, ...]

    @property
    def highest(self) -> int:
        """The highest address of the image, with the vector table before all handlers."""
        return self.handlers[0] - self.table_size - self.offset

    def fits(self, address: int) -> bool:
        """Whether the reset handler lies behind the vector table, and is not blank, if the image is at an address."""
        at = self.reset - address
        inside = self.offset + self.table_size <= at <= len(self.image) - _WORD
        return inside and self.image[at : at + _WORD] not in _BLANK

    def has_functions(self, address: int) -> int:
        """The number of handlers at which a function begins, if the image is at an address; 0 if it is below half."""
        found = sum(begins_function(self.image, handler - address) for handler in self.handlers)
        return found if 2 * found >= len(self.handlers) else 0


def find_link_address(image: bytes, load_address: int, *, erase_units: Sequence[int] = ()) -> int | None:
    """Find the address that the program in an image was linked for, if it is not the load address.

    Args:
        image: the whole image.
        load_address: address at which the image would be written.
        erase_units: addresses of the chip's erase units, in ascending order. They affect the address, never whether
            one is found.

    Returns:
        The load address that fits the program best; None without evidence that the load address is wrong.
    """
    program = _read_program(image, load_address)
    if program is None or program.highest - load_address < NEAREST:
        return None

    # (1) The cheap part of the search comes first.
    lowest = min((*_addresses(program), program.highest))
    nearest = lowest // _GRAIN * _GRAIN
    if nearest - load_address < NEAREST:
        return None
    # (2) The handlers are functions where the image would be written. (3) The code would be blank.
    if program.has_functions(load_address) or not program.fits(nearest):
        return None
    # (1) The constants in instructions.
    if any(load_address <= address < nearest for address in loaded_constants(image)):
        return None
    return _choose(program, lowest, erase_units)


def _read_program(image: bytes, load_address: int) -> _Program | None:
    """Read the vector table of an image; None if it has none, or one with a handler below the load address."""
    offset = program_offset(image)
    words = unpack("I", image[offset : offset + 1024])
    exceptions = words[1:_EXCEPTIONS]
    if len(words) < _EXCEPTIONS or any(0 < word < load_address for word in exceptions):
        return None
    if not _is_handler(words[1]):
        return None
    interrupts = takewhile(lambda word: not word or (_is_handler(word) and word >= load_address), words[_EXCEPTIONS:])
    table = [*exceptions, *interrupts]
    handlers = tuple(sorted({word & ~1 for word in table if _is_handler(word)}))
    return _Program(image, load_address, offset, _WORD * (1 + len(table)), words[1] & ~1, handlers)


def _choose(program: _Program, lowest: int, erase_units: Sequence[int]) -> int:
    """Choose the most probable link address, at most `lowest`.

    The first rule that gives an address counts:

    1. The address at which functions begin at most handlers, if they do at half of them.
    2. The lowest address in the program, if it is aligned like a vector table: programs contain their own start.
    3. The start of the erase unit of `lowest`: a boot loader can erase the program, and not itself. Without erase
       units, the multiple of 1 KiB.
    """
    first = program.load_address + _TABLE_ALIGNMENT - program.load_address % _TABLE_ALIGNMENT
    counts = {at: program.has_functions(at) for at in range(first, lowest + 1, _TABLE_ALIGNMENT)}
    most = max(counts.values(), default=0)
    best = [address for address, count in counts.items() if count == most and program.fits(address)]
    if most and best:
        return next((address for address in reversed(best) if address in erase_units), best[-1])

    start = lowest + program.offset
    if lowest < program.highest and start % _TABLE_ALIGNMENT == 0:
        return lowest
    unit = max((unit for unit in erase_units if program.load_address < unit <= lowest), default=0)
    return unit or lowest // _GRAIN * _GRAIN


def _addresses(program: _Program) -> list[int]:
    """Return the words of the image that are addresses from the load address up to the lowest handler.

    For an MCUboot image, they are counted from the start of its header, as the load address is.
    """
    first = program.load_address + program.offset
    end = program.handlers[0]
    words = unpack("I", program.image[program.offset :])
    return [word - program.offset for word in words if first <= word < end]


def _is_handler(word: int) -> bool:
    return word & 1 == 1 and word in FLASH
