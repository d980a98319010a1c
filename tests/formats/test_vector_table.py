"""Tests of the search for the address that a program was linked for, if it is not the load address."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import pytest

from blockota.formats.vector_table import LinkAddress, find_link_address
from tests.conftest import IMAGES
from tests.support.programs import FUNCTION, noise, pointers, program, signed

BASE, MOVED = 0x0800_0000, 0x0800_7000
NOISE = noise(60_000)


def random_program(base: int) -> bytes:
    """Return a vector table of 76 words with scattered handlers from 0x3A0, and random bytes in place of code."""
    handlers = [base + 0x3A0 + 4 * (number * 37 % 200) | 1 for number in range(75)]
    return pointers(0x2000_BFD8, *handlers) + NOISE


def test_a_program_behind_a_boot_loader_is_found() -> None:
    """A program at 0x08000000 that was linked for 0x08007000 is reported, even if its code is not recognised."""
    image = random_program(MOVED)
    assert find_link_address(image, BASE) == LinkAddress(MOVED + 0x3A0, is_certain=False, probable=MOVED)
    assert find_link_address(image, MOVED) is None
    # The reset vector of a distant address lies beyond the end of the image.
    assert find_link_address(random_program(0x0810_0000), BASE)


@pytest.mark.parametrize("moved", [0x0800_0800, 0x0800_2000, 0x0800_7000, 0x0800_8800, 0x0801_0000, 0x0802_0000])
@pytest.mark.parametrize("handlers", [2, 4, 12])
def test_the_functions_at_the_handlers_give_the_exact_address(moved: int, handlers: int) -> None:
    """At the right address, the handlers are recognised as functions at any distance from the vector table."""
    image = program(moved, before=noise(5000), handlers=handlers, after=noise(200_000))
    assert find_link_address(image, BASE) == LinkAddress(moved, is_certain=True)
    assert find_link_address(image, moved) is None


@pytest.mark.parametrize("handlers", [0, 1])
def test_few_handlers_give_no_certain_address(handlers: int) -> None:
    """If only one or two handlers match, the address is reported as not certain, because the match can be chance."""
    image = program(MOVED, before=noise(5000), handlers=handlers, after=noise(60_000))
    found = find_link_address(image, BASE)
    assert found
    assert not found.is_certain
    assert found.address >= MOVED


def test_two_fitting_addresses_are_not_certain() -> None:
    """An address is reported as certain only if the handlers are functions at this address alone."""
    start = program(MOVED, before=noise(5000), handlers=6)
    copy = start[-0x200:]
    assert find_link_address(start + noise(60_000), BASE) == LinkAddress(MOVED, is_certain=True)
    found = find_link_address(start + copy + noise(60_000), BASE)
    assert found
    assert not found.is_certain


@pytest.mark.parametrize("value", [1, 0x1234, 0x0800_0041, 0x2000_0001, 0xFFFF_FFFF])
def test_reserved_words_do_not_count(value: int) -> None:
    """A checksum or version in a reserved word of the vector table does not change the result."""
    for load_address, expected in ((BASE, LinkAddress(MOVED, is_certain=True)), (MOVED, None)):
        image = bytearray(program(MOVED, after=noise(20_000)))
        for word in (7, 8, 9, 10, 13):
            struct.pack_into("<I", image, 4 * word, value)
        assert find_link_address(bytes(image), load_address) == expected


def with_exceptions(base: int, address: int, words: Sequence[int]) -> bytes:
    """Return a program at `base` whose vector table has `address` in the given words."""
    image = bytearray(program(base, after=noise(20_000)))
    for word in words:
        struct.pack_into("<I", image, 4 * word, address)
    return bytes(image)


MOST = (2, 3, 4, 5, 6, 11, 12, 14, 15)


@pytest.mark.parametrize("address", [0x0800_0041, 0x0800_1FFF, 0x0804_0001, 0x0807_0001])
def test_handlers_outside_the_flash_are_found(address: int) -> None:
    """Handlers below the load address or beyond the flash show that the program was linked for another address."""
    image = with_exceptions(MOVED, address, MOST)
    assert find_link_address(image, MOVED, flash_end=BASE + 0x4_0000) == LinkAddress(address & ~1, is_certain=False)


def test_a_few_handlers_outside_the_flash_count_if_the_others_are_not_functions() -> None:
    """Handlers in the boot loader or in RAM are ignored if the program's other handlers are functions."""
    assert find_link_address(with_exceptions(MOVED, BASE + 0x41, (2,)), MOVED) is None
    assert find_link_address(with_exceptions(MOVED, 0x2000_0001, MOST), MOVED) is None
    below = bytearray(random_program(MOVED))
    struct.pack_into("<I", below, 8, BASE + 0x41)
    assert find_link_address(bytes(below), MOVED) == LinkAddress(BASE + 0x40, is_certain=False)


def test_a_signed_image_is_found_by_its_slot() -> None:
    """For an MCUboot image, the address is the start of its slot, where the header lies."""
    image = signed(program(0x0801_0200, before=noise(400), after=noise(90_000)))
    assert find_link_address(image, BASE) == LinkAddress(0x0801_0000, is_certain=True)
    assert find_link_address(image, 0x0801_0000) is None


RODATA = b"text of the program, which its code refers to\0\0\0"
OWN: dict[str, bytes] = {
    "small": program(BASE),
    "only a vector table and a loop": program(BASE, handlers=0, interrupts=0),
    "code after the handlers": program(BASE, after=FUNCTION * 5000),
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
    "random code with handlers after the vector table": random_program(BASE),
    "random code that contains its own start": random_program(MOVED) + pointers(BASE),
    "data": noise(4000),
    "erased": b"\xff" * 4000,
    "zeros": bytes(4000),
    "pointers of another address": pointers(0x2000_5000, *[BASE - 0x1000 | 1] * 15) + noise(4000),
    "an MCUboot image whose header is damaged": signed(program(MOVED + 0x200), header=513),
    "handlers below an MCUboot header of another size": signed(program(MOVED + 0x200), size=1 << 20),
    "short": pointers(0x2000_5000, MOVED + 0x801),
    "signed": signed(program(BASE + 0x200, after=noise(4000))),
}


@pytest.mark.parametrize("name", OWN)
def test_an_image_at_its_own_address_is_never_refused(name: str) -> None:
    """For data, and for various programs at their own address, no other address is reported."""
    assert find_link_address(OWN[name], BASE) is None


def test_constants_in_instructions_count() -> None:
    """If a program loads an address with ``movw`` and ``movt``, the memory at this address counts as used."""
    low = struct.pack("<2H", 0xF240, 0x1300)  # movw r3, #0x100
    high = struct.pack("<2H", 0xF6C0, 0x0300)  # movt r3, #0x0800
    between = struct.pack("<2H", 0xF240, 0x0200)  # movw r2, #0
    image = random_program(MOVED)
    assert find_link_address(image + low + between + high, BASE) is None
    assert find_link_address(image + high + between + low, BASE)
    assert find_link_address(image + low + struct.pack("<2H", 0xF6C0, 0x0200), BASE)


@pytest.mark.parametrize("version", ["1.0.0", "1.1.0", "1.2.0"])
def test_the_examples_are_at_their_own_address(version: str) -> None:
    """For the example programs, no address other than their own is reported."""
    assert find_link_address((IMAGES / f"bluepill-{version}.bin").read_bytes(), BASE) is None


def test_an_example_for_another_address_is_found() -> None:
    """The sine table of the example program, whose numbers resemble branches, does not hide the program's address."""
    image = (IMAGES / "bluepill-1.2.0.bin").read_bytes()
    words = struct.unpack(f"<{len(image) // 4}I", image[: len(image) // 4 * 4])
    moved = pointers(*(word + 0x8000 if BASE <= word <= BASE + len(image) else word for word in words))
    found = find_link_address(moved, BASE)
    assert found
    assert found.address >= BASE + 0x8000
    assert find_link_address(moved, BASE + 0x8000) is None
