"""The header of an MCUboot image gives the place of its program."""

from __future__ import annotations

import pytest

from blockota.formats.mcuboot import HEADER_SIZE, program_offset, read_header
from tests.support.programs import program, signed

SLOT = 0x0801_0000
PROGRAM = program(SLOT + 0x200)


def test_the_program_follows_the_header() -> None:
    """The vector table lies after the header with its padding; an image without a header begins with it."""
    for size in (HEADER_SIZE, 0x200, 0x400):
        assert program_offset(signed(PROGRAM, header=size)) == size
    assert program_offset(PROGRAM) == program_offset(signed(PROGRAM)[: HEADER_SIZE - 1]) == 0


@pytest.mark.parametrize(
    ("image", "why"),
    [
        (signed(PROGRAM), ""),
        (signed(PROGRAM, flags=0x4), "is encrypted"),
        (signed(PROGRAM, flags=0x8), "is encrypted"),
        (signed(PROGRAM, flags=0x400), "is compressed"),
        (signed(PROGRAM, header=16), "states a header size of 16 bytes"),
        (signed(PROGRAM, header=0x202), "states a header size of 514 bytes"),
        (signed(PROGRAM, size=1 << 20), "1,048,576 bytes of program, but the image has"),
    ],
)
def test_a_header_without_a_program_is_explained(image: bytes, why: str) -> None:
    """A header of an encrypted, compressed or incomplete program gives the reason."""
    header = read_header(image)
    assert header is not None
    trouble = header.trouble(len(image))
    assert why in trouble
    assert bool(why) == bool(trouble)
