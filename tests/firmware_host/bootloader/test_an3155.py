"""The encoded frames equal those in ST's application note AN3155."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blockota.errors import BoardProtocolError, RefusedError
from firmware_host.bootloader import an3155
from firmware_host.bootloader.an3155 import Command, Exchange

ADDRESS = 0x0800_0400
ADDRESS_FRAME = bytes.fromhex("08 00 04 00 0c")


@pytest.mark.parametrize(
    ("exchange", "frames"),
    [
        (an3155.bare(Command.GET), ["00 ff"]),
        (an3155.bare(Command.GET_ID), ["02 fd"]),
        (an3155.read_memory(ADDRESS, 256), ["11 ee", "08 00 04 00 0c", "ff 00"]),
        (an3155.read_memory(ADDRESS, 1), ["11 ee", "08 00 04 00 0c", "00 ff"]),
        (an3155.go(ADDRESS), ["21 de", "08 00 04 00 0c"]),
        (an3155.write_memory(ADDRESS, b"\x01\x02\x04\x08"), ["31 ce", "08 00 04 00 0c", "03 01 02 04 08 0c"]),
        (an3155.erase(Command.ERASE, [5]), ["43 bc", "00 05 05"]),
        (an3155.erase(Command.ERASE, [1, 2, 3]), ["43 bc", "02 01 02 03 02"]),
        (an3155.erase_all(Command.ERASE), ["43 bc", "ff 00"]),
        (an3155.erase(Command.EXTENDED_ERASE, [0x0102]), ["44 bb", "00 00 01 02 03"]),
        (an3155.erase_all(Command.EXTENDED_ERASE), ["44 bb", "ff ff 00"]),
        (an3155.write_protect([0, 7]), ["63 9c", "01 00 07 06"]),
        (an3155.bare(Command.WRITE_UNPROTECT), ["73 8c"]),
        (an3155.bare(Command.READOUT_PROTECT), ["82 7d"]),
        (an3155.bare(Command.READOUT_UNPROTECT), ["92 6d"]),
    ],
)
def test_frames_are_those_of_the_application_note(exchange: Exchange, frames: list[str]) -> None:
    """The encoding of each command equals bytes that were derived by hand from AN3155, sections 3.1 to 3.12."""
    assert exchange.frames == tuple(bytes.fromhex(frame) for frame in frames)


@pytest.mark.parametrize(
    "exchange",
    [
        an3155.bare(Command.WRITE_UNPROTECT),
        an3155.bare(Command.READOUT_PROTECT),
        an3155.bare(Command.READOUT_UNPROTECT),
    ],
)
def test_protection_commands_wait_for_a_second_ack(exchange: Exchange) -> None:
    """Write Unprotect, Readout Protect and Readout Unprotect expect a second ACK; Write Protect does not."""
    assert exchange.closing_ack
    assert not an3155.write_protect([0]).closing_ack


@given(data=st.binary(min_size=1, max_size=64).map(lambda data: data * 4), address=st.integers(0, 0xFFFF_FFFF))
def test_a_write_frame_can_be_taken_apart_again(data: bytes, address: int) -> None:
    """The frames of Write Memory contain the address, the length and the data, and end with correct checksums."""
    command, where, what = an3155.write_memory(address, data).frames
    assert command == b"\x31\xce"
    assert (an3155.checksum(where), an3155.checksum(what)) == (0, 0)
    assert int.from_bytes(where[:4], "big") == address
    assert (what[0] + 1, what[1:-1]) == (len(data), data)


@given(pages=st.lists(st.integers(0, 255), min_size=1, max_size=255))
def test_no_page_list_is_a_global_erase(pages: list[int]) -> None:
    """The page list of Erase Memory does not begin with 0xFF, because 0xFF requests a global erase."""
    assert an3155.erase(Command.ERASE, pages).frames[1][0] == len(pages) - 1 < 0xFF


@given(pages=st.lists(st.integers(0, 0xFFFF), min_size=1, max_size=600))
def test_an_extended_erase_frame_can_be_taken_apart_again(pages: list[int]) -> None:
    """Extended Erase encodes the page count and each page number in two bytes, followed by the checksum."""
    frame = an3155.erase(Command.EXTENDED_ERASE, pages).frames[1]
    words = [int.from_bytes(frame[at : at + 2], "big") for at in range(0, len(frame) - 1, 2)]
    assert words == [len(pages) - 1, *pages]
    assert an3155.checksum(frame) == 0


UNSENDABLE: list[tuple[Callable[[Any], Exchange], object, str]] = [
    *((lambda length: an3155.read_memory(ADDRESS, length), length, "reads 1 to 256 bytes") for length in (-1, 0, 257)),
    *(
        (lambda length: an3155.write_memory(ADDRESS, bytes(length)), length, "a multiple of 4")
        for length in (0, 1, 2, 3, 5, 254, 257, 260)
    ),
    *((partial(an3155.erase, Command.ERASE), pages, "AN3155") for pages in ([], [0] * 256, [256], [-1])),
    # Counts from 0xFFF0 on are reserved for special erases.
    *((partial(an3155.erase, Command.EXTENDED_ERASE), pages, "AN3155") for pages in ([], [0] * 0xFFF1, [0x1_0000])),
    *((an3155.write_protect, sectors, "AN3155") for sectors in ([], [0] * 257, [256])),
    *((an3155.go, address, "in 4 bytes") for address in (-1, 0x1_0000_0000)),
]


@pytest.mark.parametrize(("command", "argument", "message"), UNSENDABLE, ids=range(len(UNSENDABLE)))
def test_what_no_frame_can_express_is_refused(
    command: Callable[[Any], Exchange], argument: object, message: str
) -> None:
    """A length, count, page number or address that does not fit into its field is refused."""
    with pytest.raises(RefusedError, match=message):
        command(argument)


def test_capabilities_are_read_from_the_answer_to_get() -> None:
    """The answer to Get is decoded: a byte with the version in packed decimal, then the command codes."""
    capabilities = an3155.parse_capabilities(bytes.fromhex("22 00 01 02 11 21 31 43 63 73 82 92"))
    assert capabilities.version_text == "2.2"
    assert Command.ERASE in capabilities.commands
    assert Command.EXTENDED_ERASE not in capabilities.commands


@pytest.mark.parametrize("payload", [b"", b"\x22"])
def test_an_answer_to_get_without_commands_is_refused(payload: bytes) -> None:
    """An answer to Get that lists no command is refused."""
    with pytest.raises(BoardProtocolError, match="lists no command"):
        an3155.parse_capabilities(payload)


@pytest.mark.parametrize(("payload", "product_id"), [("04 10", 0x410), ("10", 0x10), ("04 79 01 02", 0x479)])
def test_the_product_id_is_the_first_two_bytes(payload: str, product_id: int) -> None:
    """The product id is read from an answer of one, two or four bytes; only the first two are used."""
    assert an3155.parse_product_id(bytes.fromhex(payload)) == product_id


def test_an_exchange_names_itself_for_messages() -> None:
    """The title of an exchange contains the command's name in AN3155 and the address."""
    assert an3155.read_memory(ADDRESS, 4).title == "Read Memory at 0x08000400"
    assert an3155.bare(Command.GET_ID).title == "Get Id"
