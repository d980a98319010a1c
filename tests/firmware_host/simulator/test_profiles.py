"""Every simulated chip behaves as its profile describes."""

from __future__ import annotations

from pathlib import Path

import pytest

from firmware_host.bootloader.chips import chips, find_chip
from firmware_host.simulator import PROFILES, BoardProfile, SimulatedBoard
from tests.firmware_host.simulator.frames import ACK, NACK, READ, SILENCE, WRITE, at, reading, summed, writing

IMAGE = Path(__file__).parents[3] / "examples" / "bluepill" / "images" / "bluepill-1.0.0.bin"
ERASE, EXTENDED = b"\x43\xbc", b"\x44\xbb"
L053, L433, F407, F429 = (PROFILES[name] for name in ("stm32l053r8", "stm32l433rc", "stm32f407vg", "stm32f429zi"))
DUAL_BANK = [profile for profile in PROFILES.values() if profile.banks > 1 and profile.erases_all]

every_chip = pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES)


def erasing(profile: BoardProfile, *pages: int) -> bytes:
    """Return the frames of Erase Memory or of Extended Erase, depending on the chip."""
    if 0x43 in profile.commands:
        return ERASE + summed(bytes([len(pages) - 1, *pages]))
    return EXTENDED + summed(b"".join(number.to_bytes(2, "big") for number in (len(pages) - 1, *pages)))


def ready(profile: BoardProfile, *, used: bool = False) -> SimulatedBoard:
    """Return a board with a synchronised boot ROM, and a flash that is erased or filled with 0x5A."""
    board = SimulatedBoard(profile, flash=b"\x5a" * profile.flash_size if used else b"")
    assert board.feed(b"\x7f") == ACK * (2 if profile.greets_twice else 1)
    return board


def test_every_product_id_has_a_profile() -> None:
    """Each row of the chip table is a simulated chip, and the table has at least 70 rows."""
    assert [profile.product_id for profile in PROFILES.values()] == [chip.product_id for chip in chips()]
    assert len(PROFILES) >= 70


@every_chip
def test_the_rom_answers_the_chips_product_id(profile: BoardProfile) -> None:
    """The answer to Get ID contains the profile's product id."""
    assert ready(profile).feed(b"\x02\xfd") == b"\x79\x01" + profile.product_id.to_bytes(2, "big") + ACK


@every_chip
def test_the_rom_has_one_of_the_two_erase_commands(profile: BoardProfile) -> None:
    """The boot ROM lists one of the two erase commands, and refuses the other."""
    listed = {0x43, 0x44} & set(ready(profile).feed(b"\x00\xff")[3:-1])
    assert len(listed) == 1
    other = 0x43 ^ 0x44 ^ listed.pop()
    assert ready(profile).feed(bytes((other, other ^ 0xFF))) == NACK


@every_chip
def test_the_last_page_can_be_erased_and_no_other_is(profile: BoardProfile) -> None:
    """Erasing the last page or sector changes no other page."""
    span = profile.page_span(profile.page_count - 1)
    board = ready(profile, used=True)
    board.feed(erasing(profile, profile.page_count - 1))
    assert board.flash == b"\x5a" * span.start + profile.erased * len(span)


@every_chip
def test_our_clients_table_fits_the_chip(profile: BoardProfile) -> None:
    """The client's chip table agrees with the simulated chip."""
    chip = find_chip(profile.product_id)
    assert chip is not None
    pages = [
        range(unit.address - 0x0800_0000, unit.span.stop - 0x0800_0000) for unit in chip.erase_units(profile.flash_size)
    ]
    if chip.is_erased_whole:
        assert pages == [range(profile.flash_size)]
    else:
        assert pages == [profile.page_span(page) for page in range(profile.page_count)]
    assert profile.flash_size <= chip.flash_limit
    assert bytes([chip.erased_byte]) == profile.erased
    assert chip.write_alignment % profile.write_alignment == 0
    assert chip.erase_limit <= profile.erase_limit
    assert chip.unit_erase_seconds >= max(profile.erase_time(page) for page in range(profile.page_count))
    assert chip.bootloader_ram == profile.rom_ram


@every_chip
def test_the_factorys_words_are_read_in_the_block_that_the_rom_gives(profile: BoardProfile) -> None:
    """Unique id and flash size can be read in the way that each chip family allows.

    An F4 refuses to read fewer than 256 bytes. An L0 refuses a read that does not start at its option bytes.
    """
    chip = find_chip(profile.product_id)
    assert chip
    if chip.identity is None:
        return
    board, block = ready(profile), chip.identity
    answer = board.feed(reading(block.span.start, len(block.span)))[3:]
    words = [answer[at - block.span.start :][:4] for at in block.unique_id]
    assert b"".join(words) == b"BLOCKOTA\0\0\0\x01"
    short = board.feed(reading(profile.flash_size_register, 2))
    unusable = ACK + (NACK if profile.bootloader_version >= 0x31 else SILENCE)
    expected = {256: ACK * 2 + NACK, 0: unusable, 1: ACK * 3}
    assert short.startswith(expected[profile.factory_read])


@every_chip
def test_an_address_that_the_rom_cannot_use(profile: BoardProfile) -> None:
    """A boot ROM refuses an invalid address with NACK from V3.1 on, and silently before (AN3155 table 3)."""
    board = ready(profile)
    board.feed(WRITE)
    assert board.feed(at(0x0800_0000 + profile.flash_size)) == (NACK if profile.bootloader_version >= 0x31 else SILENCE)


@every_chip
def test_an_erased_unit_takes_a_write_and_a_used_one_keeps_to_its_family(profile: BoardProfile) -> None:
    """A write to used flash clears bits on an F4, has no effect on an L0, and writes only zeros on other chips."""
    size = max(8, profile.write_alignment)
    board, first, second = ready(profile), bytes([0xF0] * size), bytes([0x3C] * size)
    board.feed(writing(0x0800_0000, first) + writing(0x0800_0000, second))
    assert board.flash[:size] == (first if profile.blank_only else bytes([0x30] * size))
    board.feed(writing(0x0800_0000, bytes(size)))
    assert board.flash[:size] == (first if profile.erased == b"\0" else bytes(size))


@pytest.mark.parametrize(("profile", "answer"), [(L433, NACK), (F407, ACK), (L053, ACK)], ids=["l4", "f4", "l0"])
def test_half_a_double_word_is_refused_where_the_flash_has_no_less(profile: BoardProfile, answer: bytes) -> None:
    """An L4 refuses a write whose start or length is not divisible by 8; an F4 and an L0 accept 4 bytes."""
    for frame in (writing(0x0800_0004, b"abcdefgh"), writing(0x0800_0000, b"abcd")):
        board = ready(profile)
        assert board.feed(frame) == ACK * 2 + answer
        assert (board.flash != profile.erased * profile.flash_size) == (answer == ACK)


@every_chip
def test_an_extended_erase_with_a_special_number(profile: BoardProfile) -> None:
    """Extended Erase accepts a mass erase if the chip has one, and refuses reserved numbers and wrong checksums."""
    if 0x44 not in profile.commands:
        return
    refused = [b"\xff\xf0\x0f", b"\xff\xfc\x03", b"\xff\xff\x01", b"\xff\xfe\x00"]
    for special in refused if profile.erases_all else [*refused, b"\xff\xff\x00"]:
        board = ready(profile, used=True)
        assert board.feed(EXTENDED + special) == ACK + NACK
        assert board.flash == b"\x5a" * profile.flash_size
    if profile.erases_all:
        assert board.feed(EXTENDED + b"\xff\xff\x00") == ACK * 2
        assert board.flash == profile.erased * profile.flash_size


@pytest.mark.parametrize("profile", DUAL_BANK, ids=lambda profile: profile.name)
def test_a_bank_is_erased_by_itself(profile: BoardProfile) -> None:
    """A bank erase leaves the other bank unchanged."""
    half = profile.flash_size // 2
    for special, flash in (
        (b"\xff\xfe\x01", profile.erased * half + b"\x5a" * half),
        (b"\xff\xfd\x02", b"\x5a" * half + profile.erased * half),
    ):
        board = ready(profile, used=True)
        assert board.feed(EXTENDED + special) == ACK * 2
        assert board.flash == flash


def test_a_chip_with_one_bank_has_no_bank_to_erase() -> None:
    """A chip with one bank refuses a bank erase."""
    assert ready(F407).feed(EXTENDED + b"\xff\xfe\x01") == ACK + NACK


def test_an_l0_takes_511_pages_at_a_time() -> None:
    """An L0 erases at most 511 pages with one command, and refuses 512."""
    board = ready(L053, used=True)
    assert board.feed(erasing(L053, *range(512))) == ACK + NACK
    assert board.feed(erasing(L053, *range(511))) == ACK * 2
    assert board.flash == bytes(511 * 128) + b"\x5a" * 128


@every_chip
def test_a_write_protected_sector_covers_the_pages_of_its_family(profile: BoardProfile) -> None:
    """Write Protect protects an area of the size that the chip family defines."""
    board = ready(profile, used=True)
    assert board.feed(b"\x63\x9c" + summed(b"\x00\x01")) == ACK * 2
    size = profile.pages_per_sector * profile.page_size
    spans = [profile.page_span(page) for page in sorted(board.protected_pages)]
    assert (spans[0].start, spans[-1].stop) == (size, 2 * size)
    assert board.feed(b"\x7f")[:1] == ACK
    board.feed(erasing(profile, *range(min(profile.page_count, 255))))
    assert board.flash[size : 2 * size] == b"\x5a" * size
    assert board.feed(b"\x73\x8c") == ACK * 2
    assert not board.protected_pages


@every_chip
def test_readout_protection_is_set_and_lifted(profile: BoardProfile) -> None:
    """Readout protection refuses Read Memory, and lifting it erases the flash."""
    board = ready(profile, used=True)
    assert board.feed(b"\x82\x7d") == ACK * 2
    assert board.feed(b"\x7f")[:1] == ACK
    set_now = board.readout_protected
    assert set_now
    assert board.feed(READ) == NACK
    assert board.feed(b"\x01\xfe")[:1] == ACK
    assert board.feed(b"\x92\x6d") == ACK * 2
    assert not board.readout_protected
    assert board.flash == profile.erased * profile.flash_size


@pytest.mark.parametrize("profile", [F407, L053, L433], ids=["f4", "l0", "l4"])
def test_level_2_of_readout_protection_ends_the_boot_rom(profile: BoardProfile) -> None:
    """Readout protection level 2 (0xCC in RDP) disables the boot ROM permanently."""
    board = ready(profile)
    data = bytes([0xFF, 0xCC, 0xFF, 0xFF]) if profile is F407 else bytes([0xCC, 0, 0, 0])
    assert board.feed(writing(profile.options.start, data)) == ACK * 3
    board.connect()
    assert board.feed(b"\x7f\x7f") == SILENCE


@every_chip
def test_the_firmware_reads_the_chips_flash_size(profile: BoardProfile) -> None:
    """The example firmware prints the chip's flash size on every emulated chip with at least 20 KiB of RAM."""
    board = SimulatedBoard(profile, flash=IMAGE.read_bytes())
    board.boot0 = False
    board.reset()
    # The stack of the example lies at the end of 20 KiB of RAM.
    runs = profile.runs_code and profile.ram_size >= 20 * 1024
    assert (b"(%d KiB flash" % (profile.flash_size // 1024) in board.run(0.01)) == runs


def test_go_on_a_chip_whose_code_is_not_emulated_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Go to the flash of a chip whose applications are not emulated is logged, and the board stays silent."""
    board = ready(F407)
    assert board.feed(b"\x21\xde" + at(0x0800_0000)) == ACK * 2
    assert "running code on the stm32f407vg is not simulated" in caplog.text
    assert board.feed(b"\x7f\x7f") == SILENCE


def test_the_last_protection_bit_of_a_high_density_chip_covers_the_rest() -> None:
    """On a high-density chip, write-protection bit 31 covers all pages from 62 on (RM0008)."""
    board = SimulatedBoard(PROFILES["stm32f103rc"])
    board.protect(pages=[0, 62])
    assert board.protected_pages == {0, 1, *range(62, 128)}
