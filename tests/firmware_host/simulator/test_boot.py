"""Applications in flash and RAM run on an emulated Cortex-M3."""

from __future__ import annotations

import struct
from functools import reduce
from operator import xor
from pathlib import Path

import pytest

from firmware_host.simulator import SimulatedBoard
from firmware_host.simulator.emulator import Peripherals
from tests.firmware_host.direct_link import started

IMAGES = Path(__file__).parents[3] / "examples" / "bluepill" / "images"
BANNER = b"BlockOTA bluepill %s (64 KiB flash, up 0 s)\r\n"
FLASH, RAM, STACK = 0x0800_0000, 0x2000_0200, 0x2000_5000
RCC_CFGR, RCC_APB2ENR, GPIOA_CRH = 0x4002_1004, 0x4002_1018, 0x4001_0804
USART1_DR, USART1_BRR, USART1_CR1 = 0x4001_3804, 0x4001_3808, 0x4001_380C
SYST_CSR, SYST_RVR, VTOR, AIRCR = 0xE000_E010, 0xE000_E014, 0xE000_ED08, 0xE000_ED0C
SAY_A = {RCC_APB2ENR: 0x4004, GPIOA_CRH: 0x4444_44B4, USART1_CR1: 0x340C, USART1_DR: ord("A")}
"""Register writes, in order, that set up clock, pin and USART, and send a byte."""
TICK = {SYST_RVR: 99, SYST_CSR: 7}


def image(version: str) -> bytes:
    """Return the image of a version of the example firmware."""
    return (IMAGES / f"bluepill-{version}.bin").read_bytes()


def program(code: str, start: int = FLASH) -> bytes:
    """Return a vector table, a SysTick handler that only returns, and the given machine code in hexadecimal."""
    vectors = struct.pack("<16I", STACK, start + 69, *[0] * 13, start + 65)
    return vectors + bytes.fromhex("7047 00bf" + code)


def storing(values: dict[int, int], start: int = FLASH) -> bytes:
    """Return a program that stores each value at its address, then sleeps forever."""
    # adr r3, table; 1: ldmia r3!, {r0, r1}; cbz r0, 2f; str r1, [r0]; b 1b; 2: wfi; b 2b; nop; table:
    code = "03a3 03cb 08b1 0160 fbe7 30bf fde7 00bf"
    table = b"".join(struct.pack("<II", *pair) for pair in values.items())
    return program(code, start) + table + bytes(4)


def go(board: SimulatedBoard, address: int) -> bytes:
    """Synchronise the boot ROM and send Go; return the answers."""
    frame = address.to_bytes(4, "big")
    return board.feed(b"\x7f\x21\xde" + frame + bytes([reduce(xor, frame)]))


def runs_after_reset(flash: bytes) -> bool:
    """Return whether the program still runs 10 ms after a reset."""
    board = started(flash)
    board.run(0.01)
    return board.application is not None


def runs_after_go(flash: bytes) -> bool:
    """Return whether the program still runs 10 ms after Go."""
    board = SimulatedBoard(flash=flash)
    go(board, FLASH)
    board.run(0.01)
    return board.application is not None


@pytest.mark.parametrize("version", ["1.0.0", "1.1.0", "1.2.0"])
def test_go_starts_the_firmware_and_its_banner_comes(version: str) -> None:
    """After Go the example firmware runs and prints its banner."""
    board = SimulatedBoard(flash=image(version))
    assert go(board, FLASH) == b"\x79" * 3
    assert board.run(0.01) == BANNER % version.encode()


def test_reset_with_boot0_low_starts_the_firmware() -> None:
    """After a reset with BOOT0 at 0 the example firmware runs and prints its banner."""
    assert started(image("1.1.0")).run(0.01) == BANNER % b"1.1.0"


def line_settings(registers: Peripherals) -> str:
    """Return USART1's rate and format, such as ``115384 baud 8E1`` (RM0008 section 27.6)."""
    control, divider = registers[USART1_CR1], registers[USART1_BRR] or 1
    apb2_hz = registers.clock_hz >> max((registers[RCC_CFGR] >> 11 & 7) - 3, 0)
    parity = "NNEO"[control >> 9 & 3]
    data_bits = 8 + (control >> 12 & 1) - (parity != "N")
    return f"{apb2_hz // divider} baud {data_bits}{parity}1"


@pytest.mark.parametrize("from_rom", [True, False])
def test_the_firmware_keeps_the_roms_line_settings(*, from_rom: bool) -> None:
    """The example firmware sends at 115200 baud with even parity after Go and after a reset."""
    board = SimulatedBoard(flash=image("1.0.0")) if from_rom else started(image("1.0.0"))
    if from_rom:
        go(board, FLASH)
    board.run(0.01)
    assert board.application is not None
    assert line_settings(board.application.peripherals) == "115384 baud 8E1"


def test_the_firmware_counts_seconds() -> None:
    """SysTick interrupts occur at the rate of the emulated clock."""
    board = started(image("1.2.0"))
    board.run(0.5)
    assert board.run(1.0) == b"up 1 s, wave 19260\r\n"
    assert board.run(2.0).count(b"up") == 2


def test_the_rom_does_not_answer_while_the_application_runs() -> None:
    """While the application runs, the boot ROM does not answer 0x7F until a reset."""
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
def test_an_incomplete_firmware_prints_nothing(flash: bytes) -> None:
    """A blank, incomplete or wrong image prints nothing and stops."""
    board = started(flash)
    assert board.run(0.05) == b""
    assert board.application is None


@pytest.mark.parametrize("address", [FLASH + 0x10000, RAM - 4, 0x1FFF_F000, 0])
def test_go_refuses_what_is_neither_flash_nor_ram(address: int) -> None:
    """Go to an address outside flash and RAM is answered with NACK, and the next command is accepted."""
    board = SimulatedBoard(flash=image("1.0.0"))
    assert go(board, address) == b"\x79\x79\x1f"
    assert board.feed(b"\x02\xfd")[:1] == b"\x79"


def test_a_program_in_ram_asks_for_a_reset_and_the_rom_is_back() -> None:
    """A program in RAM resets the chip through AIRCR; with BOOT0 at 1 the boot ROM starts and RAM is kept."""
    content = storing({RAM + 0x100: 0x6463_6261, AIRCR: 0x05FA_0004}, RAM)
    frame = bytes([len(content) - 1]) + content
    board = SimulatedBoard()
    board.feed(b"\x7f\x31\xce\x20\x00\x02\x00\x22" + frame + bytes([reduce(xor, frame)]))
    assert board.feed(b"\x21\xde\x20\x00\x02\x00\x22") == b"\x79" * 2
    board.run(0.01)
    assert board.feed(b"\x7f\x11\xee\x20\x00\x03\x00\x23\x03\xfc") == b"\x79" * 4 + b"abcd"


def test_a_reset_needs_its_key() -> None:
    """A reset request in AIRCR without the right key is ignored, as on the chip."""
    board = started(storing({AIRCR: 0x0000_0004}))
    board.boot0 = True
    board.run(0.01)
    assert board.application is not None


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
    """A processor fault stops the application, and a reset starts the board again."""
    board = started(program(code))
    board.run(0.01)
    assert board.application is None
    board.boot0 = True
    board.reset()
    assert board.feed(b"\x7f") == b"\x79"


def test_a_byte_leaves_when_clock_pin_and_usart_are_set_up() -> None:
    """The application sends a byte if clock, pin and USART are set up."""
    assert started(storing(SAY_A)).run(0.01) == b"A"


@pytest.mark.parametrize(
    ("register", "value"),
    [
        (RCC_APB2ENR, 0),
        (RCC_APB2ENR, 1 << 2),
        (RCC_APB2ENR, 1 << 14),
        (GPIOA_CRH, 0x4444_4444),
        (GPIOA_CRH, 0x4444_4434),
        (USART1_CR1, 0x140C),
        (USART1_CR1, 0x3404),
    ],
)
def test_a_byte_stays_when_something_is_not_set_up(register: int, value: int) -> None:
    """The application sends nothing if a clock, the pin or the USART is not set up."""
    board = started(storing(SAY_A | {register: value}))
    assert board.run(0.01) == b""
    assert board.application is not None


def test_go_leaves_the_roms_vectors_at_address_zero() -> None:
    """A program that uses interrupts without setting VTOR runs after a reset, but not after Go."""
    assert runs_after_reset(storing(TICK))
    assert not runs_after_go(storing(TICK))
    assert runs_after_go(storing({VTOR: FLASH} | TICK))


def test_a_masked_interrupt_waits() -> None:
    """With PRIMASK set, SysTick wakes the core without calling its handler."""
    masked = bytearray(storing(TICK))
    masked[60:64] = bytes(4)  # no vector
    assert not runs_after_reset(bytes(masked))
    # cpsid i; wfi; b . - 2, in place of the program's end
    masked[78:84] = bytes.fromhex("72b6 30bf fde7")
    assert runs_after_reset(bytes(masked))


@pytest.mark.parametrize(
    ("configuration", "clock_hz", "line"),
    [
        (0x0000_0000, 8_000_000, "80000 baud 8E1"),
        (0x0000_0001, 8_000_000, "80000 baud 8E1"),
        (0x001D_0402, 72_000_000, "720000 baud 8E1"),
        (0x001F_0402, 36_000_000, "360000 baud 8E1"),
        (0x0010_0002, 24_000_000, "240000 baud 8E1"),
        (0x0010_2082, 12_000_000, "60000 baud 8E1"),
        (0x0010_00F2, 46_875, "468 baud 8E1"),
    ],
)
def test_the_clock_tree_sets_the_baud_rate(configuration: int, *, clock_hz: int, line: str) -> None:
    """The clock source, multiplier and dividers in RCC_CFGR determine the baud rate (RM0008 section 7.3.2)."""
    registers = Peripherals({RCC_CFGR: configuration, USART1_CR1: 0x340C, USART1_BRR: 100})
    assert (registers.clock_hz, line_settings(registers)) == (clock_hz, line)


@pytest.mark.parametrize(("control", "cycles"), [(0, 0), (1, 800), (5, 100), (7, 100)])
def test_systick_counts_the_core_clock_or_an_eighth(control: int, cycles: int) -> None:
    """SysTick counts the core clock or an eighth of it, and only if enabled (PM0056 section 4.5.1)."""
    assert Peripherals({SYST_CSR: control, SYST_RVR: 99}).tick_cycles == cycles
