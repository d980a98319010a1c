"""The program that hashes the flash on the chip is correct, small and fast."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_host.flashing.digest_stub import MAX_GROUPS, PROGRAMS, STACK_SIZE, Pages
from tests.firmware_host.stub_harness import (
    BASE,
    FLASH,
    NONCE,
    RAM,
    RAM_SIZE,
    RESET_REQUEST,
    STUBS,
    USART_DATA,
    WATCHDOG_KEY,
    Core,
    program,
    results_address,
    run_stub,
)
from tests.support.sampling import sampled

KIB = 1024
CONTENTS = hashlib.shake_256(b"firmware").digest(130 * KIB)
VTOR = 0xE000_ED08
every_core = pytest.mark.parametrize("core", PROGRAMS)


def sha256(start: int, length: int) -> bytes:
    """Return the digest of a range of the flash, computed by hashlib."""
    return hashlib.sha256(CONTENTS[start - FLASH :][:length]).digest()


def crc32(groups: Sequence[Pages]) -> tuple[int, ...]:
    """Return the checksums of groups of pages of the flash, computed by zlib."""
    pages = (pages.span[at : at + pages.size] for pages in groups for at in range(0, len(pages.span), pages.size))
    return tuple(zlib.crc32(CONTENTS[page.start - FLASH : page.stop - FLASH]) for page in pages)


@pytest.mark.parametrize(("core", "most"), [("v7-M", 1064), ("v6-M", 1392)])
def test_the_program_is_small(core: str, most: int) -> None:
    """The programs do not exceed their size limits, because sending 256 bytes takes about 29 ms."""
    assert (STUBS / PROGRAMS[core].file).stat().st_size <= most


@every_core
@pytest.mark.sampled
@pytest.mark.parametrize("first", sampled(range(0, 301, 60), one_in=3))
def test_every_short_length(first: int, core: str) -> None:
    """The digests of all lengths from 0 to 300 bytes are right, also from odd addresses."""
    for length in range(first, min(first + 60, 301)):
        start = FLASH + length % 5
        outcome = run_stub(CONTENTS, start, lengths=[length], core=core)
        assert outcome.sha256 == [sha256(start, length)], length


@settings(deadline=None, max_examples=25)
@given(
    core=st.sampled_from(sorted(PROGRAMS)),
    start=st.integers(0, 66 * KIB),
    lengths=st.sets(st.integers(0, 64 * KIB), max_size=8),
    pages=st.lists(
        st.builds(
            Pages,
            st.integers(0, 300).map(lambda first: FLASH + 4 * first),
            st.sampled_from((4, 128, KIB, 2 * KIB, 16 * KIB)),
            st.integers(0, 4),
        ),
        max_size=MAX_GROUPS,
    ),
)
def test_any_stretch_and_any_pages(core: str, start: int, lengths: set[int], pages: list[Pages]) -> None:
    """Digests equal hashlib's and page checksums equal zlib's, for any requested ranges and pages."""
    outcome = run_stub(CONTENTS, FLASH + start, lengths=sorted(lengths), pages=pages, core=core)
    assert outcome.header == (NONCE, NONCE ^ 0xFFFF_FFFF)
    assert outcome.sha256 == [sha256(FLASH + start, length) for length in sorted(lengths)]
    assert outcome.pages == crc32(pages)


@pytest.mark.parametrize(
    ("core", "lengths", "pages"),
    [
        *(
            ("v7-M", lengths, pages)
            for lengths, pages in (([], 0), ([], 64), ([64 * KIB], 0), ([64 * KIB], 64), ([128 * KIB], 128))
        ),
        *(("v6-M", lengths, pages) for lengths, pages in (([], 0), ([], 64), ([64 * KIB], 0), ([64 * KIB], 64))),
    ],
)
def test_how_many_instructions_it_takes(core: str, lengths: list[int], pages: int) -> None:
    """The program executes between 80 % and 100 % of the instructions that the host estimates."""
    outcome = run_stub(CONTENTS, FLASH, lengths=lengths, pages=[Pages(FLASH, KIB, pages)], core=core)
    cost = PROGRAMS[core]
    hashed = sum(lengths) // 64 * cost.per_block + len(lengths) * cost.per_length
    most = cost.once + hashed + pages * (cost.per_page + KIB // 4 * cost.per_word)
    assert most * 4 // 5 <= outcome.instructions <= most + 1000


@pytest.mark.parametrize(("core", "padding"), [("v7-M", 1), ("v6-M", 0)])
def test_it_feeds_the_watchdog_sends_its_end_byte_and_resets(core: str, padding: int) -> None:
    """The program feeds the watchdog for each block and page, sends its end byte and resets the chip."""
    outcome = run_stub(CONTENTS, FLASH, lengths=[640], pages=[Pages(FLASH, KIB, 3)], core=core)
    fed = [write for write in outcome.writes[:-2] if write[0] != VTOR]
    assert fed == [(WATCHDOG_KEY, 0xAAAA)] * (10 + padding + 3)
    assert outcome.writes[-2:] == [(USART_DATA, 0x5A), (RESET_REQUEST, 0x05FA_0004)]


@every_core
@pytest.mark.parametrize("status", [0, 1 << 13], ids=["off", "never-ready"])
def test_a_port_that_is_off_does_not_block_it(core: str, status: int) -> None:
    """The program ends even if the USART is off, or if it does not become ready after the end byte."""
    outcome = run_stub(CONTENTS, FLASH, lengths=[3], status=status, core=core)
    assert outcome.sha256 == [sha256(FLASH, 3)]
    assert ((USART_DATA, 0x5A) in outcome.writes) == (status != 0)
    assert outcome.instructions < 1_000_000


@every_core
@pytest.mark.parametrize("part", range(20))
def test_a_byte_that_arrived_wrong_is_noticed(core: str, part: int) -> None:
    """A program with a corrupted byte resets the chip immediately and leaves no results."""
    image = bytearray(program(FLASH, [KIB], (), core=core))
    head = PROGRAMS[core].head_size
    image[head + (len(image) - head) * part // 20] ^= 0x10
    chip = Core(CONTENTS, core=core)
    chip.run(bytes(image))
    assert chip.writes == [(RESET_REQUEST, 0x05FA_0004)]
    assert chip.ram(results_address(core) + (4 if core == "v7-M" else 8), 4) == b"\xa5" * 4


def test_stack_and_results_lie_within_the_smallest_ram_of_an_f1() -> None:
    """Program, stack and digests use only the first 4 KiB of RAM, which every STM32F10x has."""
    program_end = BASE + (STUBS / PROGRAMS["v7-M"].file).stat().st_size
    assert program_end < BASE + PROGRAMS["v7-M"].stack < results_address("v7-M")
    assert results_address("v7-M") + 264 <= 0x2000_1000


def test_the_stack_of_the_program_for_a_cortex_m0_keeps_its_limit() -> None:
    """The program for ARMv6-M changes no RAM between its results and the stack that the host reserves for it."""
    chip = Core(CONTENTS, core="v6-M")
    chip.run(program(FLASH, [KIB + 60], [Pages(FLASH, KIB)], core="v6-M"))
    free = range(results_address("v6-M") + 264 + 4, RAM + RAM_SIZE - STACK_SIZE)
    assert set(chip.ram(free.start, len(free))) == {0xA5}
