"""Recognises where functions begin in Thumb code, and reads its constants (ARMv7-M Architecture Reference Manual).

The code is not decoded. A test decides whether a function begins at an offset. The preceding instruction must end a
function, and the instruction at the offset must be typical for the start of a handler. The test finds two functions in
three, and almost every handler. Handlers begin with fewer kinds of instructions, because they do not have parameters.
The test also accepts wrong offsets: 1 in 100 in random bytes, and 1 in 30 in code.
"""

from __future__ import annotations

import struct
import sys
from array import array

_Pattern = tuple[int, int]
"""A mask, and the value of the masked bits, for two half words. The first half word is the upper half of the number."""
_WORD = 4
_HALF_MASK = 0xFFFF
_FLASH_HALVES = range(0x0800, 0x0840)
"""The upper halves of flash addresses."""

_BRANCH: _Pattern = (0x0000_F800, 0x0000_E000)
"""The pattern of an unconditional branch in the last half word."""
_LOOP = 0xE7FE
"""A branch to itself."""

_ENDS: tuple[_Pattern, ...] = (
    (0x0000_FF00, 0x0000_BD00),  # pop {…, pc}
    (0xFFFF_8000, 0xE8BD_8000),  # pop.w {…, pc}
    (0x0000_FF87, 0x0000_4700),  # bx
    _BRANCH,  # b
    (0xF800_D000, 0xF000_9000),  # b.w
    (0x0000_FF00, 0x0000_DE00),  # udf
    (0x0000_FFFF, 0x0000_BF00),  # nop
    (0x0000_FFFF, 0x0000_46C0),  # nop of ARMv6-M
    (0x0000_FFFF, 0x0000_0000),  # padding
    (0x0000_FFFF, 0x0000_FFFF),  # padding
)
"""Instructions that end a function, and the padding after a function."""
_LITERAL_ENDS = frozenset({0x08, 0x10, 0x20, 0x24, 0x30, 0x40, 0x48, 0x50, 0x58, 0xE0})
"""The upper bytes of STM32 addresses. The constants of a function lie after its code, so such a byte can end a
function."""
_BEGINNINGS: tuple[_Pattern, ...] = (
    (0xFE00_0000, 0xB400_0000),  # push
    (0xFFFF_0000, 0xE92D_0000),  # push.w
    (0xFF80_0000, 0xB080_0000),  # sub sp
    (0xF800_0000, 0x4800_0000),  # ldr from a literal
    (0xFFF0_0000, 0xF8D0_0000),  # ldr.w
    (0xF800_0000, 0x2000_0000),  # movs
    (0xFBF0_0000, 0xF240_0000),  # movw
    (0xFBF0_0000, 0xF040_0000),  # mov.w, orr.w
    (0xF800_0000, 0xE000_0000),  # b, as in an endless loop
    (0xF800_D000, 0xF000_9000),  # b.w
    (0xF800_D000, 0xF000_D000),  # bl
    (0xFFFF_0000, 0x4770_0000),  # bx lr
    (0xFF80_0000, 0xBF00_0000),  # nop, wfi, wfe
    (0xFF00_0000, 0xBE00_0000),  # bkpt
    (0xFFEF_0000, 0xB662_0000),  # cpsie i, cpsid i
    (0xFFFF_0000, 0xF3EF_0000),  # mrs
    (0xFFFF_0000, 0xF01E_0000),  # tst lr
    (0xFF78_0000, 0x4670_0000),  # mov …, lr
    (0xFF78_0000, 0x4668_0000),  # mov …, sp
)
"""Instructions with which handlers begin in the code of compilers and in start-up files."""
_MOVW, _MOVT, _MOVE_MASK = 0xF240, 0xF2C0, 0xFBF0
_REGISTER_MASK, _FIRST_BIT = 0x8F00, 0x8000
_REACH = 8
"""The maximum number of half words between ``movw`` and ``movt`` of one constant."""


def begins_function(image: bytes, at: int) -> bool:
    """Whether a function seems to begin at an offset of an image."""
    if not _WORD <= at <= len(image) - _WORD:
        return False
    before, first = _two_halves(image, at - _WORD), _two_halves(image, at)
    # In a table of addresses, every word would look like a function.
    if at % _WORD == 0 and first & _HALF_MASK in _FLASH_HALVES:
        return False
    # In a table of numbers from 0xE000 to 0xE7FF, every number would look like a function that begins with a branch.
    # `b .` is accepted, because handlers in start-up files begin with it.
    if _matches(before, (_BRANCH,)) and first >> 16 & _BRANCH[0] == _BRANCH[1] and first >> 16 != _LOOP:
        return False
    is_behind_end = _matches(before, _ENDS) or image[at - 1] in _LITERAL_ENDS
    return is_behind_end and _matches(first, _BEGINNINGS)


def loaded_constants(image: bytes) -> list[int]:
    """Return the constants that pairs of ``movw`` and ``movt`` load into a register.

    Compilers for ARMv7-M can use these instructions in place of words in memory.
    """
    halves = unpack("H", image)
    found = []
    for at in range(2, len(halves) - 1):
        if halves[at] & _MOVE_MASK != _MOVT or halves[at + 1] & _FIRST_BIT:
            continue
        # The nearest ``movw`` to the same register belongs to this ``movt``. Those before it load other constants.
        register = halves[at + 1] & _REGISTER_MASK
        for before in range(at - 2, max(at - _REACH - 1, -1), -1):
            if halves[before] & _MOVE_MASK == _MOVW and halves[before + 1] & _REGISTER_MASK == register:
                low = _immediate(halves[before], halves[before + 1])
                found.append(_immediate(halves[at], halves[at + 1]) << 16 | low)
                break
    return found


def unpack(form: str, content: bytes) -> array[int]:
    """Return the little-endian words (``I``) or half words (``H``) of an image, without an incomplete last word."""
    values = array(form)
    values.frombytes(content[: len(content) // values.itemsize * values.itemsize])
    if sys.byteorder == "big":
        values.byteswap()
    return values


def _two_halves(image: bytes, at: int) -> int:
    first, second = struct.unpack_from("<HH", image, at)
    return int(first << 16 | second)


def _matches(halves: int, patterns: tuple[_Pattern, ...]) -> bool:
    return any(halves & mask == value for mask, value in patterns)


def _immediate(first: int, second: int) -> int:
    """Decode the 16-bit constant of ``movw`` or ``movt`` from its fields imm4, i, imm3 and imm8."""
    return (first & 0xF) << 12 | (first >> 10 & 1) << 11 | (second >> 12 & 7) << 8 | second & 0xFF
