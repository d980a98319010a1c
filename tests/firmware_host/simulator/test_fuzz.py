"""The simulated board survives arbitrary bytes, and only valid frames change its flash."""

from __future__ import annotations

import re
from functools import reduce
from operator import xor
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from firmware_host.simulator import SimulatedBoard
from tests.support.sampling import sampled

IMAGE = Path(__file__).parents[3] / "examples" / "bluepill" / "images" / "bluepill-1.1.0.bin"
PATTERN = bytes(range(256)) * 128

fragments = st.one_of(
    st.binary(max_size=12),
    st.sampled_from(
        [
            b"\x7f",
            b"\x31\xce",
            b"\x43\xbc",
            b"\x63\x9c",
            b"\x92",
            b"\x11\xee",
            b"\x21\xde",
            b"\x08\x00\x80\x00\x88",
            b"\x20\x00\x02\x00\x22",
            b"\x1f\xff\xf8\x00\x18",
            b"\x03abcd",
            b"\x03abcd\x07",
            b"\xff",
            b"\x00",
            b"\x01\x00\x02\x03",
        ]
    ),
)
exchanges = st.lists(fragments, max_size=40).map(b"".join)


def summed(frame: bytes) -> bool:
    """Return whether the XOR of the frame's bytes is zero."""
    return reduce(xor, frame) == 0


def contains_a_change(sent: bytes) -> bool:
    """Return whether `sent` contains a complete, valid command that writes or erases flash."""
    after_write = (sent[match.end() :] for match in re.finditer(b"(?=(\x31\xce))", sent))
    writes = any(is_write(rest[2:]) for rest in after_write)
    after_erase = (sent[match.start() + 2 :] for match in re.finditer(b"(?=\x43\xbc)", sent))
    return writes or any(is_erase(rest) for rest in after_erase) or b"\x92\x6d" in sent


def is_write(rest: bytes) -> bool:
    """Return whether the bytes start with the address and data frames of Write Memory, with right checksums."""
    data = rest[5 : 5 + rest[5] + 3] if len(rest) > 5 else b""
    return len(data) > 2 and len(data) == data[0] + 3 and summed(rest[:5]) and summed(data)


def is_erase(rest: bytes) -> bool:
    """Return whether the bytes start with a page list and its checksum, or with the global erase FF 00."""
    if rest[:1] == b"\xff":
        return rest[1:2] == b"\x00"
    return len(rest) > 2 and len(rest) >= rest[0] + 3 and summed(rest[: rest[0] + 3])


@pytest.mark.sampled
@settings(max_examples=len(sampled(range(400), one_in=4)))
@given(sent=exchanges)
@example(sent=b"\x31\xce\x08\x00\x80\x00\x88\x03abcd\x07")
@example(sent=b"\x43\xbc\xff\x00")
def test_flash_changes_only_by_a_whole_valid_frame(sent: bytes) -> None:
    """Random bytes do not crash the simulated board, and change its flash only by a valid command."""
    board = SimulatedBoard(flash=PATTERN)
    before = board.flash
    board.feed(b"\x7f" + sent)
    assert board.flash == before or contains_a_change(sent)


@given(length=st.integers(0, 12))
def test_a_write_that_breaks_off_writes_nothing(length: int) -> None:
    """An incomplete Write Memory command does not change the flash."""
    whole = b"\x31\xce\x08\x00\x80\x00\x88\x03abcd\x07"
    board = SimulatedBoard(flash=PATTERN)
    before = board.flash
    board.feed(b"\x7f" + whole[:length])
    assert board.flash == before
    board.feed(whole[length:])
    assert board.flash[0x8000:0x8004] == b"abcd"


HALF_FINISHED = [
    b"\x00",
    b"\x11\xee",
    b"\x11\xee\x08\x00",
    b"\x11\xee\x08\x00\x00\x00\x08",
    b"\x21\xde\x08",
    b"\x31\xce",
    b"\x31\xce\x08\x00\x80\x00\x88",
    b"\x31\xce\x08\x00\x80\x00\x88\xff",
    b"\x31\xce\x08\x00\x80\x00\x88\x0fabc",
    b"\x43\xbc",
    b"\x43\xbc\x05\x01",
    b"\x63\x9c",
]


@pytest.mark.parametrize("received", HALF_FINISHED)
def test_0x80_leads_out_of_every_half_finished_command(received: bytes) -> None:
    """Sending 0x80 until NACK ends every incomplete command without changing the flash."""
    board = SimulatedBoard(flash=PATTERN)
    before = board.flash
    board.feed(b"\x7f" + received)
    fed = next(count for count in range(1, 300) if board.feed(b"\x80").endswith(b"\x1f"))
    assert fed <= 260
    assert board.flash == before
    assert board.feed(b"\x02\xfd") == b"\x79\x01\x04\x10\x79"


def test_ff_00_completes_a_started_erase() -> None:
    """FF 00, which some tools send to resynchronise, completes a started global erase."""
    board = SimulatedBoard(flash=PATTERN)
    board.feed(b"\x7f\x43\xbc")
    board.feed(b"\xff\x00")
    assert board.flash == b"\xff" * len(board.flash)


@pytest.mark.sampled
@settings(max_examples=len(sampled(range(100), one_in=2)))
@given(flips=st.lists(st.tuples(st.integers(0, 619), st.integers(0, 7)), max_size=12), length=st.integers(0, 620))
def test_a_damaged_image_never_takes_the_simulator_down(flips: list[tuple[int, int]], length: int) -> None:
    """An image with flipped bits or a missing end does not crash the simulator."""
    image = bytearray(IMAGE.read_bytes())
    for index, bit in flips:
        image[index] ^= 1 << bit
    board = SimulatedBoard(flash=bytes(image[:length]))
    board.feed(b"\x7f\x21\xde\x08\x00\x00\x00\x08")
    board.run(0.01)
    board.reset()
    assert board.feed(b"\x7f") == b"\x79"
