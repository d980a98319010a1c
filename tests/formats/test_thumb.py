"""Thumb functions are recognised at their first instruction, and constants are read from instructions."""

from __future__ import annotations

import struct

import pytest

from blockota.formats.thumb import begins_function, loaded_constants
from tests.conftest import IMAGES
from tests.support.programs import FUNCTION, noise, pointers

RETURN = struct.pack("<2H", 0xBF00, 0x4770)


@pytest.mark.parametrize(
    ("before", "first"),
    [
        ((0x2000, 0xBD10), (0xB510, 0x2004)),  # pop {r4, pc}; push {r4, lr}
        ((0xE8BD, 0x8FF0), (0xE92D, 0x4FF0)),  # pop.w; push.w
        ((0xBF00, 0x4770), (0x4B02, 0x681A)),  # bx lr; ldr r3, [pc, #8]
        ((0x1000, 0x4001), (0xE7FE, 0xBF00)),  # a literal; b .
        ((0xF7FF, 0xBFFE), (0xF240, 0x0300)),  # b.w; movw
        ((0xBF00, 0xE7FE), (0x4770, 0x0000)),  # b .; bx lr
        ((0xFFFF, 0xFFFF), (0xB672, 0x2000)),  # padding; cpsid i
        ((0xBF00, 0xE7FE), (0xE7FE, 0xBF00)),  # b .; b .
    ],
)
def test_a_function_begins_behind_another(before: tuple[int, int], first: tuple[int, int]) -> None:
    """A function is recognised after the end of another function, and not within a function."""
    image = struct.pack("<4H", *before, *first)
    assert begins_function(image, 4)
    assert not begins_function(struct.pack("<4H", 0x1AC0, 0x1AC0, *first), 4)


def test_other_places_are_no_functions() -> None:
    """The middle of a function, address tables, blank memory and an image's ends are not recognised as functions."""
    image = RETURN + FUNCTION * 3
    assert [at for at in range(0, len(image), 2) if begins_function(image, at)] == [4, 12, 20]
    table = pointers(*range(0x0800_2000, 0x0800_2800, 4))
    assert not [at for at in range(0, len(table), 4) if begins_function(table, at)]
    assert not begins_function(b"\xff" * 64, 32)
    samples = struct.pack("<400H", *range(0xE000, 0xE7F8, 5)[:400])
    assert not [at for at in range(4, len(samples) - 4, 2) if begins_function(samples, at)]
    for at in (-2, 0, 2, len(image) - 2, len(image), len(image) + 100):
        assert not begins_function(image, at)


def test_few_places_of_random_bytes_look_like_functions() -> None:
    """In random bytes, at most 3 % of the half words are mistaken for the beginning of a function."""
    sample = noise(40_000)
    found = sum(begins_function(sample, at) for at in range(4, len(sample) - 4, 2))
    assert found < 0.03 * len(sample) / 2


def test_the_handlers_of_a_compiled_program_are_functions() -> None:
    """Every handler of the example program is recognised as a function."""
    image = (IMAGES / "bluepill-1.2.0.bin").read_bytes()
    handlers = {word & ~1 for word in struct.unpack_from("<15I", image, 4)}
    assert all(begins_function(image, handler - 0x0800_0000) for handler in handlers)


def test_constants_of_two_instructions_are_joined() -> None:
    """A constant is read from ``movw`` and ``movt`` that load the two halves into one register.

    If ``movw`` and ``movt`` load different registers, no constant is read.
    """
    low, high = struct.pack("<2H", 0xF245, 0x3478), struct.pack("<2H", 0xF6C0, 0x0401)
    other = struct.pack("<2H", 0xF240, 0x0500)
    assert loaded_constants(low + other + high) == [0x0801_5378]
    assert loaded_constants(RETURN + low + high + low + high) == [0x0801_5378] * 2
    assert loaded_constants(other + high) == loaded_constants(high + low) == loaded_constants(b"") == []
