"""A program that is linked for another address than its load address is found; a program at its own address never."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blockota.formats.vector_table import find_link_address
from tests.conftest import IMAGES
from tests.support.programs import FUNCTION, noise, pointers, program, signed

BASE, MOVED = 0x0800_0000, 0x0800_7000
NOISE = noise(60_000)
UNITS = {size: tuple(range(BASE, BASE + 0x20_0000, size)) for size in (1024, 2048, 16384)}


def random_program(base: int) -> bytes:
    """Return a vector table of 76 words with scattered handlers from 0x3A0, and random bytes in place of code."""
    handlers = [base + 0x3A0 + 4 * (number * 37 % 200) | 1 for number in range(75)]
    return pointers(0x2000_BFD8, *handlers) + NOISE


def test_a_program_behind_a_boot_loader_is_found() -> None:
    """An image that is linked for 0x08007000 is found at 0x08000000, although its code is unknown."""
    image = random_program(MOVED)
    for size in (1024, 2048):
        assert find_link_address(image, BASE, erase_units=UNITS[size]) == MOVED
    assert find_link_address(image, BASE) == MOVED
    assert find_link_address(image, MOVED) is None
    # The reset vector of a distant address lies behind the end of the image.
    assert find_link_address(random_program(0x0810_0000), BASE, erase_units=UNITS[2048]) == 0x0810_0000


@pytest.mark.parametrize("moved", [0x0800_0800, 0x0800_2000, 0x0800_7000, 0x0800_8800, 0x0801_0000, 0x0802_0000])
@pytest.mark.parametrize("handlers", [1, 4, 12])
def test_the_functions_at_the_handlers_give_the_exact_address(moved: int, handlers: int) -> None:
    """The address is the one at which the handlers are functions, however far behind the vector table they lie."""
    image = program(moved, before=noise(5000), handlers=handlers, after=noise(200_000))
    assert find_link_address(image, BASE, erase_units=UNITS[1024]) == moved
    assert find_link_address(image, moved) is None


def test_the_address_of_its_own_start_in_the_program_is_taken() -> None:
    """A program that contains the address of its vector table is linked for that address."""
    image = random_program(MOVED - 0x200) + pointers(MOVED - 0x200)
    assert find_link_address(image, BASE, erase_units=UNITS[16384]) == MOVED - 0x200


def test_a_signed_image_is_found_by_its_slot() -> None:
    """For an MCUboot image, the address is that of its slot, where the header lies."""
    image = signed(program(0x0801_0200, before=noise(400), after=noise(90_000)))
    assert find_link_address(image, BASE, erase_units=UNITS[1024]) == 0x0801_0000
    assert find_link_address(image, 0x0801_0000) is None


RODATA = b"text of the program, which its code refers to\0\0\0"
OWN: dict[str, bytes] = {
    "small": program(BASE),
    "only a vector table and a loop": program(BASE, handlers=0, interrupts=0),
    "code behind the handlers": program(BASE, after=FUNCTION * 5000),
    "handlers behind 40 KB of code without addresses": program(BASE, before=FUNCTION * 5000, after=noise(4000)),
    "handlers behind 40 KB of constants, position-independent": program(BASE, before=noise(40_000), after=noise(9000)),
    "handlers behind constants with a pointer to them": program(
        BASE, before=noise(40_000), after=pointers(BASE + 0x900)
    ),
    "one handler, behind 40 KB of code": program(BASE, before=FUNCTION * 5000, handlers=0, after=noise(40_000)),
    "a blank gap of 48 KB between vector table and code": program(
        BASE, before=b"\xff" * (0xC000 - 4 * 76), after=noise(90_000)
    ),
    "a gap of zeros": program(BASE, before=bytes(0xC000 - 4 * 76), after=noise(90_000)),
    "a gap with saved data at its end": program(
        BASE, before=b"\xff" * (0x8000 - 4 * 76) + noise(0x4000), after=noise(90_000)
    ),
    "a long vector table": program(BASE, interrupts=166, after=noise(9000)),
    "random code with handlers behind the vector table": random_program(BASE),
    "random code that contains its own start": random_program(MOVED) + pointers(BASE),
    "data": noise(4000),
    "erased": b"\xff" * 4000,
    "zeros": bytes(4000),
    "pointers of another address": pointers(0x2000_5000, *[BASE - 0x1000 | 1] * 15) + noise(4000),
    "a handler below the load address": pointers(0x2000_5000, *[MOVED + 0x801] * 14, 0x0700_0001) + NOISE,
    "short": pointers(0x2000_5000, MOVED + 0x801),
    "signed": signed(program(BASE + 0x200, after=noise(4000))),
}


@pytest.mark.parametrize("name", OWN)
def test_an_image_at_its_own_address_is_never_refused(name: str) -> None:
    """Programs of many shapes at their own address, and data, give no other address."""
    assert find_link_address(OWN[name], BASE, erase_units=UNITS[1024]) is None


def test_constants_in_instructions_count() -> None:
    """An address that ``movw`` and ``movt`` put into a register shows that the program uses what lies there."""
    low = struct.pack("<2H", 0xF240, 0x1300)  # movw r3, #0x100
    high = struct.pack("<2H", 0xF6C0, 0x0300)  # movt r3, #0x0800
    between = struct.pack("<2H", 0xF240, 0x0200)  # movw r2, #0
    image = random_program(MOVED)
    assert find_link_address(image + low + between + high, BASE) is None
    assert find_link_address(image + high + between + low, BASE) == MOVED
    assert find_link_address(image + low + struct.pack("<2H", 0xF6C0, 0x0200), BASE) == MOVED


@pytest.mark.parametrize("version", ["1.0.0", "1.1.0", "1.2.0"])
def test_the_examples_are_at_their_own_address(version: str) -> None:
    """The example programs give no other address."""
    assert find_link_address((IMAGES / f"bluepill-{version}.bin").read_bytes(), BASE) is None


@given(content=st.binary(max_size=600), base=st.sampled_from([BASE, MOVED]))
def test_erase_units_never_change_whether_an_address_is_found(content: bytes, base: int) -> None:
    """Publication knows the erase units and the bench does not; both find an address in the same images."""
    image = random_program(MOVED)[: 76 * 4] + content + NOISE
    found = {find_link_address(image, base, erase_units=units) is None for units in (*UNITS.values(), ())}
    assert len(found) == 1
