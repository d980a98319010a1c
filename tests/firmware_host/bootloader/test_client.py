"""The bootloader client is tested against a scripted board, which expects exactly the bytes of AN3155."""

from __future__ import annotations

import socket
from functools import reduce
from operator import xor

import pytest

from blockota.errors import BoardProtocolError, LinkError, NoAnswerError, RefusedError
from firmware_host.bootloader.client import Bootloader
from firmware_host.line.ports import open_link
from tests.firmware_host.scripted_board import (
    ACK,
    ERASE,
    EXTENDED_ERASE,
    GET,
    GET_EXTENDED,
    GO,
    NACK,
    PAGE_1,
    READ,
    SYNC,
    WRITE,
    ScriptedLink,
    Step,
    blue_pill,
    board,
    board_with,
)

# Connecting


def test_a_board_fresh_from_reset_acknowledges() -> None:
    """A freshly reset board acknowledges 0x7F, and the client then sends Get."""
    with board(SYNC, GET) as bootloader:
        assert bootloader.connect().version_text == "2.2"


def test_a_board_that_is_connected_already_refuses_the_second_sync() -> None:
    """A synchronised board answers NACK to the second 0x7F, and the client treats this NACK as a connection."""
    with board(("7f 7f", NACK), GET) as bootloader:
        assert bootloader.connect().version == 0x22


@pytest.mark.parametrize("answer", ["00 79", "79 79"])
def test_an_odd_acknowledgement_of_the_sync_is_understood(answer: str) -> None:
    """The client accepts a 0x00 before the first ACK, as well as the two ACKs of the STM32L412."""
    with board(("7f", answer), GET) as bootloader:
        assert bootloader.connect()


def test_noise_at_open_is_drained_once() -> None:
    """Bytes received before the first 0x7F, and an answer that is neither ACK nor NACK, are discarded."""
    with board(("7f", "55 aa"), ("7f", NACK), GET, greeting=b"\xa5\xac\x12") as bootloader:
        assert bootloader.connect()


def test_a_silent_board_is_explained() -> None:
    """The error for a silent board lists four reasons: BOOT0, reset, wiring and parity."""
    with board(silent_at_end=True) as bootloader:
        with pytest.raises(NoAnswerError, match=r"no bootloader answers.*BOOT0.*reset.*TX and RX.*parity"):
            bootloader.connect()
        assert isinstance(bootloader.link, ScriptedLink)
        assert bootloader.link.now < 1.5


def test_a_running_application_is_not_a_bootloader() -> None:
    """Text instead of an ACK is reported as the output of a running application."""
    with (
        board(("7f", b"Hello".hex()), ("7f", b"Hello".hex()), ("7f", b"Hello".hex())) as bootloader,
        pytest.raises(
            BoardProtocolError,
            match=r"does not come from an STM32 bootloader: the answer was 'HelloHello.*application may be running",
        ),
    ):
        bootloader.connect()


def test_get_cut_short_is_silence() -> None:
    """If a board falls silent in the middle of an answer, the error names the command."""
    with (
        board(SYNC, ("00 ff", "79 0b 22 00")) as bootloader,
        pytest.raises(NoAnswerError, match="fell silent in Get: 2 of 12 bytes"),
    ):
        bootloader.connect()


def test_the_product_id_is_read() -> None:
    """The product id is read from two bytes of the answer to Get ID; a third byte is ignored."""
    with board(SYNC, GET, ("02 fd", "79 01 04 10 79"), ("02 fd", "79 02 04 79 00 79")) as bootloader:
        bootloader.connect()
        assert (bootloader.product_id(), bootloader.product_id()) == (0x410, 0x479)


# Reading, writing, starting


def test_a_block_is_read() -> None:
    """Read Memory sends command, address and length, each after the previous ACK, and receives the data."""
    data = bytes(range(256))
    with blue_pill(READ, PAGE_1, ("ff 00", "79" + data.hex())) as bootloader:
        assert bootloader.read(0x0800_0400, 256) == data


def test_a_block_is_written() -> None:
    """Write Memory waits for an ACK after each frame; the busy bytes 0x76 of AN4221 extend the wait."""
    with blue_pill(WRITE, PAGE_1, ("03 de ad be ef 21", "76 76 79")) as bootloader:
        bootloader.write(0x0800_0400, bytes.fromhex("de ad be ef"))


def test_a_program_is_started() -> None:
    """After Go, the client is disconnected and refuses further commands."""
    with blue_pill(GO, ("08 00 00 00 08", ACK)) as bootloader:
        bootloader.go(0x0800_0000)
        with pytest.raises(RefusedError, match="the bootloader is not connected"):
            bootloader.product_id()


@pytest.mark.parametrize(
    ("address", "length"),
    [(0x0801_0000, 4), (0x0800_FFFE, 4), (0x2000_01FC, 4), (0x2000_5000, 4), (0x0000_0000, 4), (0xFFFF_FFFC, 8)],
)
def test_an_address_that_the_chip_does_not_have_is_never_sent(address: int, length: int) -> None:
    """The client itself refuses invalid addresses, because bootloaders before V3.1 do not (AN3155, table 3)."""
    with blue_pill() as bootloader:
        with pytest.raises(RefusedError, match="was not sent"):
            bootloader.read(address, length)
        with pytest.raises(RefusedError, match="was not sent"):
            bootloader.write(address, bytes(length))
        with pytest.raises(RefusedError, match="was not sent"):
            bootloader.go(address)


def test_system_memory_can_be_read_but_not_written() -> None:
    """System memory, which contains the flash size register, can be read but not written."""
    with blue_pill(READ, ("1f ff f7 e0 f7", ACK), ("01 fe", "79 40 00")) as bootloader:
        assert bootloader.read(0x1FFF_F7E0, 2) == b"\x40\x00"
        with pytest.raises(RefusedError, match="was not sent"):
            bootloader.write(0x1FFF_F7E0, bytes(4))


def test_no_address_is_sent_before_the_chip_is_known() -> None:
    """The client refuses every address before the chip is identified."""
    with board(SYNC, GET) as bootloader:
        bootloader.connect()
        with pytest.raises(RefusedError, match="chip is not identified yet"):
            bootloader.read(0x0800_0000, 4)


def test_an_unaligned_write_is_never_sent() -> None:
    """A write of an STM32L4 must start at a multiple of 8, because the chip programs eight bytes at a time."""
    with board_with(0x435, 256, GET) as bootloader, pytest.raises(RefusedError, match="multiples of 8"):
        bootloader.write(0x0800_0004, bytes(8))


def test_a_command_that_the_bootloader_lacks_is_never_sent() -> None:
    """The client refuses a command that the bootloader's answer to Get does not list."""
    with (
        board_with(0x410, 64, ("00 ff", "79 03 10 00 02 11 79")) as bootloader,
        pytest.raises(RefusedError, match=r"Go at 0x08000000 was not sent: this bootloader \(version 1.0\)"),
    ):
        bootloader.go(0x0800_0000)


# Refusals and silence


@pytest.mark.parametrize(
    ("script", "error", "message"),
    [
        ([("08 00 04 00 0c", NACK)], BoardProtocolError, "refused Write Memory at 0x08000400: it answered NACK"),
        ([("08 00 04 00 0c", "e0 fe")], BoardProtocolError, r"neither ACK nor NACK: its answer was b'\\xe0\\xfe'"),
        (
            [PAGE_1, ("03 00 00 00 00 03", "")],
            NoAnswerError,
            r"fell silent in Write Memory at 0x08000400.*reset the board",
        ),
    ],
    ids=["refusal", "other answer", "silence"],
)
def test_an_error_names_command_and_address(script: list[Step], error: type[Exception], message: str) -> None:
    """Within a command, a NACK, an unexpected answer and silence cause different errors."""
    with blue_pill(WRITE, *script) as bootloader, pytest.raises(error, match=message):
        bootloader.write(0x0800_0400, bytes(4))


def test_a_second_refusal_does_not_disturb_the_next_command() -> None:
    """A second NACK, which some bootloaders send, is discarded before the next command."""
    with blue_pill(("11 ee", "1f 1f"), ("02 fd", "79 01 04 10 79")) as bootloader:
        with pytest.raises(BoardProtocolError, match="refused Read Memory"):
            bootloader.read(0x0800_0400, 4)
        assert bootloader.product_id() == 0x410


def test_nothing_is_sent_into_a_silence() -> None:
    """After an unanswered frame, the client sends no further bytes, because FF 00 could then erase the whole flash."""
    with blue_pill(ERASE, ("00 05 05", "")) as bootloader, pytest.raises(NoAnswerError):
        bootloader.erase_pages([5])


def test_a_port_lost_in_a_command_is_a_lost_port() -> None:
    """A connection that closes during a command raises LinkError, not the error for a silent board."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        bootloader = Bootloader(open_link(f"socket://127.0.0.1:{server.getsockname()[1]}"))
        server.accept()[0].close()
        with pytest.raises(LinkError, match="was lost"):
            bootloader.connect()


# Erasing


def test_pages_are_erased_by_the_command_in_the_answer_to_get() -> None:
    """Erase Memory (0x43) is used if Get lists it, with one byte for each page number."""
    with blue_pill(ERASE, ("01 00 3f 3e", ACK)) as bootloader:
        bootloader.erase_pages([0, 63])


def test_pages_are_erased_by_the_extended_command_where_it_is_in_the_answer_to_get() -> None:
    """Extended Erase (0x44) is used if Get lists it, with two bytes for each page number."""
    with board_with(0x430, 1024, GET_EXTENDED, EXTENDED_ERASE, ("00 01 00 00 01 00 00", ACK)) as bootloader:
        bootloader.erase_pages([0, 256])


def test_more_than_255_pages_take_two_commands() -> None:
    """Erasing 256 pages takes two commands: the count byte is the number of pages minus one, but 255 erases all."""
    first = bytes((254, *range(255)))
    frame = (first + bytes((reduce(xor, first),))).hex()
    with board_with(0x414, 512, GET, ERASE, (frame, ACK), ERASE, ("00 ff ff", ACK)) as bootloader:
        bootloader.erase_pages(range(256))


@pytest.mark.parametrize("page", [-1, 64, 255])
def test_a_page_that_the_chip_does_not_have_is_never_sent(page: int) -> None:
    """The client refuses page numbers beyond the flash, because a bootloader acknowledges even invalid numbers."""
    with blue_pill() as bootloader, pytest.raises(RefusedError, match="the last page is 63"):
        bootloader.erase_pages([0, page])


def test_erasing_takes_as_long_as_the_data_sheet_allows() -> None:
    """The timeout of an erase grows with the number of pages."""
    pages = bytes((39, *range(40)))
    frame = (pages + bytes((reduce(xor, pages),))).hex()
    with board_with(0x410, 64, GET, ERASE, (frame, ACK), last_answer_after=1.2) as bootloader:
        bootloader.erase_pages(range(40))


# Protection


def test_a_refused_address_is_not_readout_protection() -> None:
    """A NACK after the address is an error. It is not taken for readout protection, which refuses the command."""
    with (
        blue_pill(READ, ("1f ff f7 e0 f7", NACK)) as bootloader,
        pytest.raises(BoardProtocolError, match="refused Read Memory at 0x1ffff7e0"),
    ):
        bootloader.read_unless_protected(0x1FFF_F7E0, 20)


# Commands that not every bootloader has


def test_everything_is_erased_by_the_command_in_the_answer_to_get() -> None:
    """A mass erase sends FF 00 with Erase Memory, and FF FF 00 with Extended Erase."""
    with blue_pill(ERASE, ("ff 00", ACK)) as bootloader:
        bootloader.erase_all()
    with board_with(0x431, 512, GET_EXTENDED, EXTENDED_ERASE, ("ff ff 00", ACK)) as bootloader:
        bootloader.erase_all()


def test_a_chip_with_pages_of_unknown_size_is_erased_as_a_whole() -> None:
    """A chip whose page size is unknown has one erase unit, which is erased by a mass erase."""
    with board_with(0x469, 512, GET_EXTENDED, EXTENDED_ERASE, ("ff ff 00", ACK)) as bootloader:
        bootloader.erase_pages([0])
        with pytest.raises(RefusedError, match="page 1 does not exist"):
            bootloader.erase_pages([1])


def test_a_chip_without_a_mass_erase_is_never_sent_one() -> None:
    """A mass erase is refused for an STM32L0, whose bootloader does not list the command."""
    with (
        board_with(0x417, 64, GET_EXTENDED) as bootloader,
        pytest.raises(RefusedError, match="has no mass erase"),
    ):
        bootloader.erase_all()
