"""The program that hashes the flash on the chip is correct, small and fast."""

from __future__ import annotations

import hashlib
import struct
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_host.flashing.digest_stub import HEAD_SIZE, RESULTS_ADDRESS, STUB_ADDRESS, Pages
from tests.firmware_host.stub_harness import (
    FLASH,
    NONCE,
    RESET_REQUEST,
    STUB,
    USART_DATA,
    WATCHDOG_KEY,
    Core,
    program,
    run_stub,
)

KIB = 1024
CONTENTS = hashlib.shake_256(b"firmware").digest(130 * KIB)
NO_PAGES = Pages(FLASH, KIB, 0)


def sha256(start: int, length: int) -> bytes:
    """Return the digest of a range of the flash, computed by hashlib."""
    return hashlib.sha256(CONTENTS[start - FLASH :][:length]).digest()


def crc32(pages: Pages) -> tuple[int, ...]:
    """Return the checksums of pages of the flash, computed by zlib."""
    starts = range(pages.start - FLASH, pages.start - FLASH + pages.size * pages.count, pages.size)
    return tuple(zlib.crc32(CONTENTS[at : at + pages.size]) for at in starts)


def test_the_program_is_small() -> None:
    """The program has at most 948 bytes: 256 bytes take about 29 ms to send."""
    assert STUB.stat().st_size <= 948


@pytest.mark.parametrize("first", range(0, 301, 60))
def test_every_short_length(first: int) -> None:
    """The digests of all lengths from 0 to 300 bytes are right, also from odd addresses."""
    for length in range(first, min(first + 60, 301)):
        start = FLASH + length % 5
        outcome = run_stub(CONTENTS, start, lengths=[length], pages=NO_PAGES)
        assert outcome.sha256 == [sha256(start, length)], length


@settings(deadline=None, max_examples=25)
@given(
    start=st.integers(0, 66 * KIB),
    lengths=st.sets(st.integers(0, 64 * KIB), max_size=8),
    first_page=st.integers(0, 300),
    size=st.sampled_from((4, 128, KIB, 2 * KIB, 16 * KIB)),
    count=st.integers(0, 8),
)
def test_any_stretch_and_any_pages(start: int, lengths: set[int], first_page: int, size: int, count: int) -> None:
    """Digests equal hashlib's and page checksums equal zlib's, for any requested ranges and pages."""
    pages = Pages(FLASH + 4 * first_page, size, count)
    outcome = run_stub(CONTENTS, FLASH + start, lengths=sorted(lengths), pages=pages)
    assert outcome.header == (NONCE, NONCE ^ 0xFFFF_FFFF)
    assert outcome.sha256 == [sha256(FLASH + start, length) for length in sorted(lengths)]
    assert outcome.pages == crc32(pages)


@pytest.mark.parametrize(
    ("lengths", "pages", "most"),
    [([], 0, 134_000), ([64 * KIB], 0, 2_034_000), ([64 * KIB], 64, 2_297_000), ([128 * KIB], 128, 4_457_000)],
    ids=["nothing", "whole", "whole-and-pages", "twice-as-much"],
)
def test_how_many_instructions_it_takes(lengths: list[int], pages: int, most: int) -> None:
    """The number of executed instructions stays below its limit for each request."""
    outcome = run_stub(CONTENTS, FLASH, lengths=lengths, pages=Pages(FLASH, KIB, pages))
    assert outcome.instructions <= most


def test_it_feeds_the_watchdog_sends_its_end_byte_and_resets() -> None:
    """The program feeds the watchdog for each block and page, sends its end byte and resets the chip."""
    outcome = run_stub(CONTENTS, FLASH, lengths=[640], pages=Pages(FLASH, KIB, 3))
    assert outcome.writes[:-2] == [(WATCHDOG_KEY, 0xAAAA)] * (10 + 1 + 3)
    assert outcome.writes[-2:] == [(USART_DATA, 0x5A), (RESET_REQUEST, 0x05FA_0004)]


def test_a_port_that_is_off_does_not_block_it() -> None:
    """The program ends even if the bootloader switched the USART off and the end byte cannot be sent."""
    outcome = run_stub(CONTENTS, FLASH, lengths=[3], pages=NO_PAGES, status=0)
    assert outcome.sha256 == [sha256(FLASH, 3)]
    assert outcome.instructions < 500_000


@pytest.mark.parametrize("at", range(HEAD_SIZE, 948, 20))
def test_a_byte_that_arrived_wrong_is_noticed(at: int) -> None:
    """A program with a corrupted byte resets the chip at once and leaves no results."""
    image = bytearray(program(FLASH, [KIB], NO_PAGES))
    image[at] ^= 0x10
    core = Core(CONTENTS)
    core.run(bytes(image))
    assert core.writes == [(RESET_REQUEST, 0x05FA_0004)]
    assert core.ram(RESULTS_ADDRESS, 8) == b"\xa5" * 8


def test_its_stack_starts_within_the_smallest_ram() -> None:
    """Program, stack and digests use only the first 4 KiB of RAM, which every STM32F10x has."""
    stack, entry = struct.unpack_from("<2I", STUB.read_bytes())
    assert STUB_ADDRESS < stack <= RESULTS_ADDRESS
    assert entry == STUB_ADDRESS + 9
    assert RESULTS_ADDRESS + 264 <= 0x2000_1000
