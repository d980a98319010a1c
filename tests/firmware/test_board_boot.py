"""What a simulated board boots: applications in flash and RAM, on an emulated Cortex-M3."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from firmware_host.board import SimulatedBoard

IMAGES = Path(__file__).parents[2] / "examples" / "bluepill" / "images"
BANNER = b"BlockOTA bluepill %s (64 KiB flash, up 0 s)\r\n"
FLASH, RAM, STACK = 0x0800_0000, 0x2000_0200, 0x2000_5000
WAIT_FOR_EVER = "30bf fde7"
"""wfi; b . - 2"""


def image(version: str) -> bytes:
    """Return the example firmware of that version."""
    return (IMAGES / f"bluepill-{version}.bin").read_bytes()


def program(code: str, start: int = FLASH) -> bytes:
    """Return a vector table and the machine code, in hex, that its reset vector points to."""
    return struct.pack("<II", STACK, start + 9) + bytes.fromhex(code)


def go(board: SimulatedBoard, address: int) -> bytes:
    """Initialise the ROM and send Go; return the answers."""
    frame = address.to_bytes(4, "big")
    checksum = frame[0] ^ frame[1] ^ frame[2] ^ frame[3]
    return board.feed(b"\x7f\x21\xde" + frame + bytes([checksum]))


def started(flash: bytes) -> SimulatedBoard:
    """Return a board that was reset with its BOOT0 jumper at 0."""
    board = SimulatedBoard(flash=flash)
    board.boot0 = False
    board.reset()
    return board


@pytest.mark.parametrize("version", ["1.0.0", "1.1.0", "1.2.0"])
def test_go_starts_the_firmware_and_its_banner_comes(version: str) -> None:
    """The firmware works with the clocks, the USART and the vectors that the ROM left."""
    board = SimulatedBoard(flash=image(version))
    assert go(board, FLASH) == b"\x79" * 3
    assert board.run(0.01) == BANNER % version.encode()


def test_reset_with_boot0_low_starts_the_firmware() -> None:
    """The firmware works with the clocks that a reset leaves."""
    assert started(image("1.1.0")).run(0.01) == BANNER % b"1.1.0"


@pytest.mark.parametrize("from_rom", [True, False])
def test_the_firmware_keeps_the_roms_line_settings(*, from_rom: bool) -> None:
    """Whatever ran before, it talks at 115200 baud with even parity, within 0.2 %."""
    board = SimulatedBoard(flash=image("1.0.0")) if from_rom else started(image("1.0.0"))
    if from_rom:
        go(board, FLASH)
    board.run(0.01)
    assert board.application is not None
    assert board.application.peripherals.line_settings == "115384 baud 8E1"


def test_the_firmware_counts_seconds() -> None:
    """SysTick interrupts arrive at the pace of the emulated clock."""
    board = started(image("1.2.0"))
    board.run(0.5)
    assert board.run(1.0) == b"up 1 s, wave 19260\r\n"
    assert board.run(2.0).count(b"up") == 2


def test_a_host_hears_no_rom_while_the_application_runs() -> None:
    """0x7F is a byte like any other to the application, until a reset."""
    board = SimulatedBoard(flash=image("1.0.0"))
    go(board, FLASH)
    assert board.feed(b"\x7f\x7f") == b""
    board.reset()
    assert board.feed(b"\x7f") == b"\x79"


@pytest.mark.parametrize(
    "flash",
    [b"", bytes(64), image("1.2.0")[:256], b"\xff" * 1024 + image("1.2.0")[1024:], image("1.1.0")[::-1]],
    ids=["blank", "zeros", "only the first block", "without its first page", "reversed"],
)
def test_what_is_no_whole_firmware_says_nothing(flash: bytes) -> None:
    """A blank, half-written or wrong image does not print a banner."""
    board = started(flash)
    assert board.run(0.05) == b""
    assert board.application is None


@pytest.mark.parametrize("address", [FLASH + 0x10000, RAM - 4, 0x1FFF_F000, 0])
def test_go_refuses_what_is_neither_flash_nor_ram(address: int) -> None:
    """Go is answered with NACK, and the ROM goes on."""
    board = SimulatedBoard(flash=image("1.0.0"))
    assert go(board, address) == b"\x79\x79\x1f"
    assert board.feed(b"\x02\xfd")[:1] == b"\x79"


def test_a_program_in_ram_asks_for_a_reset_and_the_rom_is_back() -> None:
    """AIRCR resets the chip; with BOOT0 still at 1 that is the ROM, and RAM is kept."""
    # ldr r0, =AIRCR; ldr r1, =key and SYSRESETREQ; str r1, [r0]; wait for ever
    code = "0248 0349 0160" + WAIT_FOR_EVER + "00bf" + "0ced00e0 0400fa05"
    board = SimulatedBoard()
    content = program(code, RAM)
    frame = bytes([len(content) - 1]) + content
    checksum = 0
    for byte in frame:
        checksum ^= byte
    board.feed(b"\x7f\x31\xce\x20\x00\x02\x00\x22" + frame + bytes([checksum]))
    assert board.feed(b"\x21\xde\x20\x00\x02\x00\x22") == b"\x79" * 2
    board.run(0.01)
    assert board.feed(b"\x7f\x11\xee\x20\x00\x02\x00\x22\x07\xf8") == b"\x79" * 4 + content[:8]


@pytest.mark.parametrize(
    "code",
    [
        "00de",  # udf
        "4ff0 4040 0068 fee7",  # ldr r0, [0xc0000000]
        "4ff0 0060 0060 fee7",  # str r0, [0x08000000]
    ],
    ids=["undefined instruction", "nothing there", "flash is not RAM"],
)
def test_a_fault_stops_the_core_until_reset(code: str) -> None:
    """The application is gone, and the reset button helps."""
    board = started(program(code))
    board.run(0.01)
    assert board.application is None
    board.boot0 = True
    board.reset()
    assert board.feed(b"\x7f") == b"\x79"


def test_a_usart_without_its_clock_sends_nothing() -> None:
    """Registers of a peripheral whose clock is off keep nothing, as on the chip."""
    # ldr r0, =USART1; movw r1, #0x340c; str r1, [r0, #12]; movs r1, #65; str r1, [r0, #4]; wait for ever
    code = "0348 43f2 0c41 c160 4121 4160" + WAIT_FOR_EVER + "00380140"
    board = started(program(code))
    assert board.run(0.01) == b""
    assert board.application is not None
