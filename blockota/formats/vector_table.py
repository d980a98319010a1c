"""Finds out whether a program was linked for an address other than its load address.

A program runs only at the address that it was linked for. A raw image does not state this address, but its vector table
(ARMv7-M Architecture Reference Manual, B1.5.3) contains the addresses of the program's handlers. Let L be the load
address, at which the image would be written. Three signs show that the program was linked for a higher address B:

1. The program does not use an address between L and B. The program uses the addresses of its handlers, the words of the
   image that can be addresses, and the constants of ``movw`` and ``movt`` pairs.
2. If the image were at L, fewer than half of the handler addresses would be the start of a function. (The handlers of a
   program that is linked for L can be far after its vector table, but they are functions.)
3. If the image were at B, the reset handler would be inside the image, and its bytes would not be blank. (A program
   that is linked for L can have a gap between its vector table and its code.)

B is at least L. B is at most the lowest address that the program uses, and at most the address of the lowest handler
minus the size of the vector table. B is certain only if exactly one address in this range is possible. An address is
possible if nearly all handlers would be functions in an image at this address.

A program may be linked for an address below L or beyond the flash. Handlers of this program are then outside the range
from L to the end of the flash. The load address is therefore wrong if most handlers are outside this range, or if some
handlers are outside and fewer than half of the handlers from L upwards are functions.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import takewhile

from blockota.formats.mcuboot import read_header
from blockota.formats.thumb import begins_function, loaded_constants, unpack

FLASH = range(0x0800_0000, 0x0C00_0000)
"""The addresses of the main flash of every STM32, with a wide margin."""
NEAREST = 2 * 1024
"""The smallest distance of B from L, in bytes, because hardly any boot loader is smaller than 2 KiB."""
_GRAIN = 1024
"""B is a multiple of this number of bytes, because a boot loader and a program do not share an erase unit."""
_TABLE_ALIGNMENT = 0x200
"""The alignment of a vector table of up to 128 words (ARMv7-M, VTOR)."""
_EXCEPTIONS = 16
"""Number of words of a vector table before the chip's interrupts."""
_RESERVED = frozenset((7, 8, 9, 10, 13))
"""Words of a vector table that the core ignores. Linkers and programs use them for checksums and versions."""
_MIN_HANDLERS = 3
"""The minimum number of different handlers for a certain address. Fewer may look like functions by chance."""
_WORD = 4
_BLANK = (b"\xff" * _WORD, b"\x00" * _WORD)


@dataclass(frozen=True)
class LinkAddress:
    """The address that a program was linked for.

    Attributes:
        address: the address for which the program was linked. If `is_certain` is False, this is only the lowest address
            that the program uses.
        is_certain: whether the program was certainly linked for `address`.
        probable: the start of the erase unit in which the program probably begins; None if `address` is certain, or if
            the start cannot be estimated.
    """

    address: int
    is_certain: bool
    probable: int | None = None


@dataclass(frozen=True)
class _LinkedProgram:
    """A program in an image.

    Attributes:
        image: the whole image.
        load_address: address at which the image would be written.
        offset: offset of the vector table in the image.
        table_size: size of the vector table, in bytes.
        reset: address of the reset handler.
        handlers: addresses of all handlers at or above the load address, each once, in ascending order.
        outside: addresses of exception handlers that are below the load address or beyond the flash, in ascending
            order.
        is_outside: whether most exception handlers are `outside`.
    """

    image: bytes
    load_address: int
    offset: int
    table_size: int
    reset: int
    handlers: tuple[int, ...]
    outside: tuple[int, ...]
    is_outside: bool

    @property
    def highest(self) -> int:
        """The highest possible address of the image: its vector table must end before the first handler."""
        return self.handlers[0] - self.table_size - self.offset

    def fits(self, address: int) -> bool:
        """Whether the reset handler would be after the vector table, and not blank, in an image at an address."""
        at = self.reset - address
        inside = self.offset + self.table_size <= at <= len(self.image) - _WORD
        return inside and self.image[at : at + _WORD] not in _BLANK

    def has_functions(self, address: int) -> int:
        """Count the handlers that would be functions in an image at an address; 0 if fewer than half would be."""
        found = sum(begins_function(self.image, handler - address) for handler in self.handlers)
        return found if 2 * found >= len(self.handlers) else 0


def find_link_address(image: bytes, load_address: int, *, flash_end: int = FLASH.stop) -> LinkAddress | None:
    """Find the address for which the program in an image was linked, if this is not the load address.

    Args:
        image: the whole image.
        load_address: address at which the image would be written.
        flash_end: the end of the chip's flash.

    Returns:
        The address. None if nothing shows that the load address is wrong.
    """
    program = _read_program(image, load_address, flash_end)
    if program is None:
        return None
    if program.is_outside or (program.outside and not program.has_functions(load_address)):
        return LinkAddress(program.outside[0], is_certain=False)

    # The signs have the numbers of the module docstring. (1) The words of the image are cheap, and come first.
    addresses = _addresses(program)
    lowest = min((*addresses, program.highest))
    nearest = lowest // _GRAIN * _GRAIN
    if min(program.highest, nearest) - load_address < NEAREST:
        return None
    # (2) The handlers are functions if the image is at L, or (3) the reset handler is blank if the image is at B, or
    # (1) the constants in instructions include an address from L to B.
    is_here = program.has_functions(load_address) or not program.fits(nearest)
    if is_here or any(load_address <= address < nearest for address in loaded_constants(image)):
        return None
    certain = _only_address(program, lowest)
    if certain is None:
        return LinkAddress(min((*addresses, program.handlers[0])), is_certain=False, probable=nearest)
    return LinkAddress(certain, is_certain=True)


def _read_program(image: bytes, load_address: int, flash_end: int) -> _LinkedProgram | None:
    """Read the vector table of an image.

    Returns None if the image has no vector table.
    """
    header = read_header(image)
    if header and header.trouble(len(image)):
        return None
    offset = header.size if header else 0
    words = unpack("I", image[offset : offset + 1024])
    if len(words) < _EXCEPTIONS or not _is_handler(words[1]) or words[1] < load_address:
        return None

    exceptions = [words[at] for at in range(1, _EXCEPTIONS) if at not in _RESERVED and _is_handler(words[at])]
    outside = [word for word in exceptions if not load_address <= word < flash_end]
    interrupts = takewhile(lambda word: not word or (_is_handler(word) and word >= load_address), words[_EXCEPTIONS:])
    table = [*exceptions, *interrupts]
    size = _WORD * (_EXCEPTIONS + len(table) - len(exceptions))
    return _LinkedProgram(
        image,
        load_address,
        offset,
        size,
        reset=words[1] & ~1,
        handlers=tuple(sorted({word & ~1 for word in table if word >= load_address})),
        outside=tuple(sorted(word & ~1 for word in outside)),
        is_outside=2 * len(outside) > len(exceptions),
    )


def _only_address(program: _LinkedProgram, lowest: int) -> int | None:
    """Return the only address up to `lowest` for which nearly all handlers are functions.

    Returns None if no address or more than one address is possible.
    """
    if len(program.handlers) < _MIN_HANDLERS:
        return None
    first = program.load_address + _TABLE_ALIGNMENT - program.load_address % _TABLE_ALIGNMENT
    addresses = range(first, lowest + 1, _TABLE_ALIGNMENT)
    likely = [one for one in addresses if 10 * program.has_functions(one) >= 9 * len(program.handlers)]
    found = [one for one in likely if program.fits(one)]
    return found[0] if len(found) == 1 else None


def _addresses(program: _LinkedProgram) -> list[int]:
    """Return the words of the image that are addresses between the load address and the lowest handler.

    In an MCUboot image, the load address is the address of the header. The size of the header is therefore subtracted
    from the words.
    """
    first = program.load_address + program.offset
    end = program.handlers[0]
    words = unpack("I", program.image[program.offset :])
    found = [at for at, word in enumerate(words) if first <= word < end and at not in _RESERVED]
    return [words[at] - program.offset for at in found]


def _is_handler(word: int) -> bool:
    return word & 1 == 1 and word in FLASH
