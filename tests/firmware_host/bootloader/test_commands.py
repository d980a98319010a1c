"""Commands that not every bootloader has, byte for byte."""

from __future__ import annotations

import pytest

from blockota.errors import BoardProtocolError, RefusedError
from tests.firmware_host.scripted_board import (
    ACK,
    ERASE,
    EXTENDED_ERASE,
    GET_EXTENDED,
    KIB,
    SYNC,
    Step,
    blue_pill,
    board,
    chip,
)


def test_the_version_is_asked_for() -> None:
    """Version, two option bytes of old, ACK (AN3155 section 3.2)."""
    with blue_pill(("01 fe", f"{ACK} 22 00 00 {ACK}")) as bootloader:
        assert bootloader.version() == (0x22, b"\0\0")


def test_everything_is_erased_by_the_command_that_get_names() -> None:
    """0xFF and its complement; 0xFFFF and its checksum where the extended command is there."""
    with blue_pill(ERASE, ("ff 00", ACK)) as bootloader:
        bootloader.erase_all()
    with board(SYNC, GET_EXTENDED, EXTENDED_ERASE, ("ff ff 00", ACK)) as bootloader:
        bootloader.connect()
        bootloader.target(chip(0x431), flash_size=512 * KIB)
        bootloader.erase_all()


def test_a_bank_is_erased_where_there_are_two() -> None:
    """0xFFFE and 0xFFFD (AN3155 section 3.8); a chip with one bank is never asked."""
    banks = (EXTENDED_ERASE, ("ff fe 01", ACK), EXTENDED_ERASE, ("ff fd 02", ACK))
    with board(SYNC, GET_EXTENDED, *banks) as bootloader:
        bootloader.connect()
        bootloader.target(chip(0x419), flash_size=2048 * KIB)
        bootloader.erase_bank(1)
        bootloader.erase_bank(2)
        with pytest.raises(RefusedError, match="no bank 3"):
            bootloader.erase_bank(3)
        bootloader.target(chip(0x431), flash_size=512 * KIB)
        with pytest.raises(RefusedError, match="no bank 1"):
            bootloader.erase_bank(1)


def test_a_chip_without_an_erase_of_all_is_never_asked() -> None:
    """The STM32L0 knows pages only."""
    with board(SYNC, GET_EXTENDED) as bootloader:
        bootloader.connect()
        bootloader.target(chip(0x417), flash_size=64 * KIB)
        with pytest.raises(RefusedError, match="no erase of all at once"):
            bootloader.erase_all()


CHECKSUM_FRAMES: tuple[Step, ...] = (
    ("a1 5e", ACK),
    ("08 00 04 00 0c", ACK),
    ("00 00 01 00 01", ACK),
    ("04 c1 1d b7 6f", ACK),
)
GET_CHECKSUM: Step = ("00 ff", "79 0c 33 00 01 02 11 21 31 44 63 73 82 92 a1 79")


@pytest.mark.parametrize(
    ("answer", "said"), [("79 12 34 56 78 08", "0x12345678"), ("79 12 34 56 79 08", "garbled"), ("1f" * 6, "garbled")]
)
def test_a_checksum_is_asked_for(answer: str, said: str) -> None:
    """Address, words, polynomial and first value; then ACK, the sum and its own checksum (AN3155 section 3.13)."""
    with board(SYNC, GET_CHECKSUM, *CHECKSUM_FRAMES, ("ff ff ff ff 00", f"{ACK} {answer}")) as bootloader:
        bootloader.connect()
        bootloader.target(chip(0x431), flash_size=512 * KIB)
        try:
            assert f"{bootloader.checksum(0x0800_0400, 256):#x}" == said
        except BoardProtocolError as error:
            assert said in str(error)  # noqa: PT017 - two outcomes, one conversation


@pytest.mark.parametrize(("address", "words"), [(0x0800_0001, 1), (0x0800_0000, 0), (0x0807_FFFC, 2), (0x2000_0000, 1)])
def test_a_checksum_of_what_is_no_flash_is_never_asked_for(address: int, words: int) -> None:
    """Whole words, inside the flash."""
    with board(SYNC, GET_CHECKSUM) as bootloader:
        bootloader.connect()
        bootloader.target(chip(0x431), flash_size=512 * KIB)
        with pytest.raises(RefusedError):
            bootloader.checksum(address, words)


def test_an_stm32f103_has_no_checksum_command() -> None:
    """Get does not name it, so it is not sent."""
    with blue_pill() as bootloader, pytest.raises(RefusedError, match="does not have the command"):
        bootloader.checksum(0x0800_0000, 1)
