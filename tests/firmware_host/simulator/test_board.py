"""The boot ROM of the simulated board follows AN3155, tested with raw bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blockota.errors import UsageError
from firmware_host.simulator import STM32F103C8, Faults, SimulatedBoard
from tests.firmware_host.board_clock import Clock
from tests.firmware_host.simulator.frames import ACK, NACK, READ, SILENCE, WRITE, at, counted, reading, writing

if TYPE_CHECKING:
    from pathlib import Path

GET, GET_ID, GO, ERASE = b"\x00\xff", b"\x02\xfd", b"\x21\xde", b"\x43\xbc"
WRITE_PROTECT, WRITE_UNPROTECT = b"\x63\x9c", b"\x73\x8c"
READOUT_PROTECT, READOUT_UNPROTECT = b"\x82\x7d", b"\x92\x6d"
FLASH, RAM, OPTIONS = 0x0800_0000, 0x2000_0000, 0x1FFF_F800
BLANK = b"\xff" * STM32F103C8.flash_size


def ready(board: SimulatedBoard) -> SimulatedBoard:
    """Synchronise the board's boot ROM, and return the board."""
    assert board.feed(b"\x7f") == ACK
    return board


@pytest.fixture
def board() -> SimulatedBoard:
    """A board with blank flash and a synchronised boot ROM."""
    return ready(SimulatedBoard())


def test_the_rom_answers_0x7f_once_then_takes_it_for_half_a_command(board: SimulatedBoard) -> None:
    """The boot ROM answers the first 0x7F with ACK, ignores the second, and answers the third with NACK."""
    assert board.feed(b"\x7f") == SILENCE
    assert board.feed(b"\x7f") == NACK
    assert board.feed(GET_ID) == b"\x79\x01\x04\x10\x79"


def test_another_first_byte_makes_the_rom_deaf_until_reset() -> None:
    """After a first byte other than 0x7F the boot ROM does not respond until a reset."""
    board = SimulatedBoard()
    assert board.feed(b"\x00\x7f\x7f\x7f") == SILENCE
    board.reset()
    assert board.feed(b"\x7f") == ACK


def test_get_lists_version_and_commands(board: SimulatedBoard) -> None:
    """The answer to Get contains version 2.2 and eleven command codes."""
    assert board.feed(GET) == bytes.fromhex("79 0b 22 00 01 02 11 21 31 43 63 73 82 92 79")


def test_get_version_ends_with_two_legacy_bytes(board: SimulatedBoard) -> None:
    """The answer to Get Version contains version 2.2 and two zero bytes."""
    assert board.feed(b"\x01\xfe") == bytes.fromhex("79 22 00 00 79")


@given(code=st.integers(0, 255), complement=st.integers(0, 255))
def test_only_a_known_command_with_its_complement_is_taken(code: int, complement: int) -> None:
    """Two bytes are acknowledged only if they are a known command code and its complement."""
    taken = complement == code ^ 0xFF and code in STM32F103C8.commands
    answer = ready(SimulatedBoard()).feed(bytes((code, complement)))
    assert answer[:1] == (ACK if taken else NACK)


@pytest.mark.parametrize(
    ("address", "content"),
    [
        (0x1FFF_F7E0, b"\x40\x00"),
        (0x1FFF_F7E8, bytes(range(12))),
        (OPTIONS, b"\xa5\x5a\xff\x00"),
        (FLASH, b"\xff\xff"),
        (RAM + 0x200, b"\x00\x00"),
    ],
)
def test_every_memory_of_the_chip_can_be_read(address: int, content: bytes) -> None:
    """Flash size, unique id, option bytes, flash and RAM can be read at the addresses given in RM0008."""
    board = ready(SimulatedBoard(unique_id=bytes(range(12))))
    assert board.feed(reading(address, len(content))) == ACK * 3 + content


def test_reading_checks_the_counts_complement(board: SimulatedBoard) -> None:
    """A read length with a wrong complement is answered with NACK, and the next command is accepted."""
    board.feed(READ)
    board.feed(at(FLASH))
    assert board.feed(b"\x03\x03") == NACK
    assert board.feed(GET_ID)[:1] == ACK


@pytest.mark.parametrize("command", [READ, WRITE, GO])
def test_a_wrong_address_checksum_is_refused(board: SimulatedBoard, command: bytes) -> None:
    """An address with a wrong checksum is answered with NACK."""
    board.feed(command)
    assert board.feed(b"\x08\x00\x00\x00\x09") == NACK


@pytest.mark.parametrize("address", [0x6000_0000, RAM, RAM + 0x1FF, FLASH + 0x10000, OPTIONS + 16])
def test_an_unusable_address_is_broken_off_in_silence(board: SimulatedBoard, address: int) -> None:
    """Boot ROM V2.2 ends a command with an invalid address without a NACK (AN3155 table 3)."""
    board.feed(READ)
    assert board.feed(at(address)) == SILENCE
    assert board.feed(GET_ID)[:1] == ACK


def test_reading_past_the_end_of_a_memory_hangs_the_rom(board: SimulatedBoard) -> None:
    """After a read beyond the end of the flash the boot ROM does not respond until a reset."""
    assert board.feed(reading(FLASH + 0xFFFF, 2)) == ACK * 3
    assert board.feed(b"\x7f\x7f\x00\xff") == SILENCE
    board.reset()
    assert board.feed(b"\x7f") == ACK


def test_written_flash_reads_back(board: SimulatedBoard) -> None:
    """A block of 256 bytes, the largest, is written and read back."""
    data = bytes(range(256))
    assert board.feed(writing(FLASH + 1024, data)) == ACK * 3
    assert board.feed(reading(FLASH + 1024, 256)) == ACK * 3 + data
    assert board.flash == BLANK[:1024] + data + BLANK[1280:]


@pytest.mark.parametrize(
    "frame", [counted(b"abcd")[:-1] + b"\x00", counted(b"abc"), counted(b"a"), counted(bytes(254))]
)
def test_a_bad_data_frame_writes_nothing(board: SimulatedBoard, frame: bytes) -> None:
    """A data frame with a wrong checksum, or a length not divisible by 4, is answered with NACK."""
    board.feed(WRITE)
    board.feed(at(FLASH))
    assert board.feed(frame) == NACK
    assert board.flash == BLANK


def test_an_unaligned_write_is_refused(board: SimulatedBoard) -> None:
    """A write to an address that is not a multiple of 4 is answered with NACK."""
    assert board.feed(writing(FLASH + 2, b"abcd")) == ACK * 2 + NACK
    assert board.flash == BLANK


def test_ram_beyond_the_roms_own_can_be_written(board: SimulatedBoard) -> None:
    """RAM from 0x20000200 on can be written, and keeps its contents over a reset."""
    assert board.feed(writing(RAM + 0x200, b"abcd")) == ACK * 3
    board.reset()
    assert ready(board).feed(reading(RAM + 0x200, 4)) == ACK * 3 + b"abcd"


def test_a_cell_that_is_not_erased_keeps_its_value_and_acks(board: SimulatedBoard) -> None:
    """A write to a half-word that is not erased is acknowledged, but only a write of zero changes the half-word."""
    board.feed(writing(FLASH, b"\x12\x34\xff\xff"))
    assert board.feed(writing(FLASH, b"\x56\x78\x9a\xbc")) == ACK * 3
    assert board.flash[:4] == b"\x12\x34\x9a\xbc"
    assert board.feed(writing(FLASH, b"\x00\x00\x9a\xbc")) == ACK * 3
    assert board.flash[:4] == b"\x00\x00\x9a\xbc"


def test_writes_past_the_end_of_flash_are_acknowledged_and_lost(board: SimulatedBoard) -> None:
    """A block that crosses the end of the flash is acknowledged, and only the bytes within the flash are written."""
    assert board.feed(writing(FLASH + 0xFFFC, b"abcdefgh")) == ACK * 3
    assert board.flash[-4:] == b"abcd"


def test_pages_are_erased_as_listed() -> None:
    """The listed pages are erased, and a page number beyond the flash is acknowledged without effect."""
    board = ready(SimulatedBoard(flash=bytes(64 * 1024)))
    assert board.feed(ERASE) == ACK
    assert board.feed(counted(b"\x00\x3f\x80")) == ACK
    assert board.flash == BLANK[:1024] + bytes(62 * 1024) + BLANK[:1024]


@pytest.mark.parametrize(
    ("frame", "answer", "flash"),
    [
        (b"\x00\x00\x01", NACK, bytes(64 * 1024)),
        (b"\xff\x01", ACK, bytes(64 * 1024)),
        (b"\xff\xff", ACK, bytes(64 * 1024)),
        (b"\xff\x00", ACK, BLANK),
    ],
    ids=["checksum", "ff 01", "ff ff", "global"],
)
def test_the_global_erase_frame_is_ff_00(frame: bytes, answer: bytes, flash: bytes) -> None:
    """Only FF 00 erases the whole flash; FF with another byte is acknowledged without effect."""
    board = ready(SimulatedBoard(flash=bytes(64 * 1024)))
    board.feed(ERASE)
    assert board.feed(frame) == answer
    assert board.flash == flash


def test_protected_pages_acknowledge_and_stay() -> None:
    """Writing, page erase and global erase leave a write-protected page unchanged, but are acknowledged."""
    board = SimulatedBoard(flash=b"\x00" * 1024)
    board.protect(pages=[0])
    assert board.protected_pages == {0, 1, 2, 3}
    ready(board)
    assert board.feed(writing(FLASH + 2048, b"abcd")) == ACK * 3
    assert board.feed(ERASE) + board.feed(counted(b"\x00")) == ACK * 2
    assert board.feed(ERASE) + board.feed(b"\xff\x00") == ACK * 2
    assert board.flash == bytes(1024) + BLANK[1024:]


def test_write_protection_is_set_and_lifted_with_a_reset(board: SimulatedBoard) -> None:
    """Write Protect and Write Unprotect change the protected pages and reset the board."""
    assert board.feed(WRITE_PROTECT) + board.feed(counted(b"\x02")) == ACK * 2
    assert board.protected_pages == {8, 9, 10, 11}
    assert ready(board).feed(WRITE_UNPROTECT) == ACK * 2
    assert board.protected_pages == frozenset()
    ready(board)


def test_readout_protection_leaves_four_commands() -> None:
    """Under readout protection only Get, Get Version, Get ID and Readout Unprotect are accepted."""
    board = ready(SimulatedBoard())
    assert board.feed(READOUT_PROTECT) == ACK * 2
    assert ready(board).readout_protected
    served = {code for code in STM32F103C8.commands[:-1] if board.feed(bytes((code, code ^ 0xFF)))[:1] == ACK}
    assert served == {0x00, 0x01, 0x02}


def test_lifting_readout_protection_erases_flash_and_ram() -> None:
    """Readout Unprotect erases the flash and the RAM."""
    board = SimulatedBoard(flash=b"secret!!")
    ready(board).feed(writing(RAM + 0x200, b"abcd"))
    board.protect(readout=True, pages=[0])
    assert ready(board).feed(READOUT_UNPROTECT) == ACK * 2
    assert board.flash == BLANK
    assert ready(board).feed(reading(RAM + 0x200, 4)) == ACK * 3 + bytes(4)


def test_a_rom_with_two_nacks_under_readout_protection() -> None:
    """Under readout protection, a board with the fault `double_nack` answers Read Memory with two NACKs."""
    board = SimulatedBoard(faults=Faults(double_nack=1))
    board.protect(readout=True)
    assert ready(board).feed(READ) == NACK * 2


def test_writing_the_option_bytes_resets(board: SimulatedBoard) -> None:
    """Writing the option bytes sets their complements, changes the protection and resets the board."""
    data = bytes.fromhex("a5 00 ff 00 11 00 22 00 fe 00 ff 00 ff 00 ff 00")
    assert board.feed(writing(OPTIONS, data)) == ACK * 3
    assert board.protected_pages == {0, 1, 2, 3}
    assert ready(board).feed(reading(OPTIONS + 4, 4)) == ACK * 3 + b"\x11\xee\x22\xdd"


def test_option_bytes_are_written_from_their_start_only(board: SimulatedBoard) -> None:
    """Option bytes are written only from their first address, and at most sixteen with one command."""
    board.feed(WRITE)
    assert board.feed(at(OPTIONS + 4)) == SILENCE
    assert board.feed(writing(OPTIONS, bytes(20))) == ACK * 2 + NACK


def test_the_board_falls_silent_once_when_its_cable_comes_off() -> None:
    """With the fault `silent_after` the board stops answering until the line is opened again."""
    board = SimulatedBoard(faults=Faults(silent_after=3))
    assert board.connect() == SILENCE
    assert ready(board).feed(GET_ID)[:1] == ACK
    assert board.feed(GET_ID) == SILENCE
    board.connect()
    assert ready(board).feed(GET_ID * 3).count(b"\x04\x10") == 3


def test_a_lost_ack_was_nevertheless_meant() -> None:
    """With the fault `lost_ack` the command is executed, and only one ACK is not sent."""
    board = ready(SimulatedBoard(faults=Faults(lost_ack=4)))
    assert board.feed(writing(FLASH, b"abcd")) == ACK * 2
    assert board.flash[:4] == b"abcd"
    assert board.feed(reading(FLASH, 4)) == ACK * 3 + b"abcd"


def test_worn_cells_show_only_when_read_back() -> None:
    """A flipped flash bit and a page that does not erase are both acknowledged."""
    board = ready(SimulatedBoard(flash=bytes(4096), faults=Faults(flipped_bit=FLASH + 1025, sticky_page=3)))
    assert board.feed(ERASE) + board.feed(b"\xff\x00") == ACK * 2
    assert board.feed(writing(FLASH + 1024, b"abcd")) == ACK * 3
    assert board.flash[1024:1028] == b"accd"
    assert board.flash[3072:4096] == bytes(1024)


def test_noise_comes_before_anything_was_asked() -> None:
    """With the fault `noise_at_open`, the host receives this number of random bytes when it opens the line."""
    assert len(SimulatedBoard(faults=Faults(noise_at_open=7)).connect()) == 7


@pytest.mark.parametrize("text", ["rust", "lost-ack=soon", "lost-ack=-1", "lost_ack=1"])
def test_an_unknown_fault_is_a_usage_error(text: str) -> None:
    """An unknown fault, or a fault with an invalid value, is a usage error."""
    with pytest.raises(UsageError):
        Faults().adding(text)


def test_a_block_takes_the_time_of_line_and_cells() -> None:
    """Writing 256 bytes at 115200 baud takes 33.3 ms: 268 bytes on the line, 128 half-words and 1 ms latency."""
    clock = Clock()
    board = ready(SimulatedBoard(times=clock.times(latency=0.001)))
    before = clock.now()
    board.feed(writing(FLASH, bytes(256)))
    assert clock.now() - before == pytest.approx(0.0323 + 0.001, abs=1e-4)


def test_a_file_keeps_the_flash(tmp_path: Path) -> None:
    """A flash file keeps its contents for the next board that uses it."""
    file = tmp_path / "board.flash"
    ready(SimulatedBoard(flash=file)).feed(writing(FLASH, b"abcd"))
    assert SimulatedBoard(flash=file).flash == b"abcd" + BLANK[4:]
    assert file.stat().st_size == STM32F103C8.flash_size


@pytest.mark.parametrize("in_file", [True, False])
def test_contents_larger_than_the_flash_are_refused(tmp_path: Path, *, in_file: bool) -> None:
    """Contents larger than the flash are refused; a flash file of this size is not changed."""
    file = tmp_path / "large"
    file.write_bytes(bytes(65537))
    with pytest.raises(UsageError, match=r"65,?537 bytes"):
        SimulatedBoard(flash=file if in_file else file.read_bytes())
    assert file.stat().st_size == 65537
