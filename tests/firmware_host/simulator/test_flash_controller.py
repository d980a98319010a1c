"""A running program erases and programs the flash of a simulated STM32F1, as PM0075 specifies."""

from __future__ import annotations

import pytest

from firmware_host.simulator import STM32F103C8, Faults, SimulatedBoard
from firmware_host.simulator.flash_controller import AR, CR, KEYR, KEYS, SR, FlashBusError, FlashController
from firmware_host.simulator.silicon import PowerCutError, Silicon
from tests.firmware_host.simulator.frames import ACK, at, reading, writing

PG, PER, MER, STRT, LOCK = 1, 2, 4, 0x40, 0x80
BSY, PGERR, WRPRTERR, EOP = 1, 4, 0x10, 0x20
PAGE = 0x0800_0400
ERASE_IN_RAM = bytes.fromhex(
    "00400020 09020020 09480a49 41600a49 41600221 01610949 41614221 01610022"
    "0132c168 c907fbd1 05480260 fee70000 00200240 23016745 ab89efcd 00040008 00300020"
)
"""A program for 0x20000200: it unlocks the controller, begins to erase page 1, counts how often it reads BSY = 1 until
the bit is 0, and stores the count at 0x20003000 (GNU as, by hand)."""


def silicon(contents: bytes = b"") -> Silicon:
    """Return a chip with these contents of its flash."""
    return Silicon(STM32F103C8, contents, faults=Faults(), unique_id=bytes(12))


def unlocked(chip: Silicon) -> FlashController:
    """Return the flash controller of a chip after both unlock keys were written."""
    controller = FlashController(chip.flash)
    for key in KEYS:
        controller.write(KEYR, key)
    return controller


def status(controller: FlashController) -> int:
    """Return the status register SR after the current operation has ended."""
    controller.busy = 0.0
    return controller.read(SR)


def test_the_controller_is_locked_after_a_reset() -> None:
    """Before both unlock keys are written, CR does not change, and a store to flash is a bus error."""
    controller = FlashController(silicon().flash)
    assert controller.read(CR) == LOCK
    controller.write(CR, PG)
    assert controller.read(CR) == LOCK
    with pytest.raises(FlashBusError):
        controller.store(PAGE, 0, size=2)


@pytest.mark.parametrize(("first", "wrong"), [((), KEYS[1]), (KEYS[:1], KEYS[0]), (KEYS[:1], 0)])
def test_a_wrong_key_locks_until_a_reset(first: tuple[int, ...], wrong: int) -> None:
    """After a wrong unlock key, the right keys do not unlock the controller (section 2.3.2)."""
    controller = FlashController(silicon().flash)
    for key in first:
        controller.write(KEYR, key)
    with pytest.raises(FlashBusError):
        controller.write(KEYR, wrong)
    for key in KEYS:
        with pytest.raises(FlashBusError):
            controller.write(KEYR, key)
    assert controller.read(CR) == LOCK


def test_a_half_word_is_programmed_once() -> None:
    """An erased half-word can be set to any value; a second write is an error, except of zero (section 2.3.3)."""
    chip = silicon()
    controller = unlocked(chip)
    controller.write(CR, PG)
    controller.store(PAGE, 0x1234, size=2)
    assert status(controller) == EOP
    controller.write(SR, EOP)
    controller.store(PAGE, 0x1230, size=2)
    assert status(controller) == PGERR
    assert chip.read(PAGE, 4) == b"\x34\x12\xff\xff"
    controller.write(SR, PGERR)
    controller.store(PAGE, 0, size=2)
    assert status(controller) == EOP
    assert chip.read(PAGE, 4) == b"\0\0\xff\xff"


@pytest.mark.parametrize(("address", "size"), [(PAGE, 1), (PAGE, 4), (PAGE + 1, 2)])
def test_only_half_words_are_stored(address: int, size: int) -> None:
    """A store of a size other than a half-word is a bus error, and changes nothing (section 2.3.3)."""
    chip = silicon()
    controller = unlocked(chip)
    controller.write(CR, PG)
    with pytest.raises(FlashBusError):
        controller.store(address, 0, size=size)
    assert chip.read(PAGE, 4) == b"\xff" * 4


def test_a_page_is_erased() -> None:
    """PER with STRT erases only the page of the address in AR; MER with STRT erases all pages."""
    chip = silicon(bytes(STM32F103C8.flash_size))
    controller = unlocked(chip)
    controller.write(CR, PER)
    controller.write(AR, PAGE + 77)
    controller.write(CR, PER | STRT)
    assert controller.read(SR) == BSY | EOP
    assert bytes(chip.flash.cells) == bytes(1024) + b"\xff" * 1024 + bytes(62 * 1024)
    controller.write(CR, MER | STRT)
    assert bytes(chip.flash.cells) == b"\xff" * STM32F103C8.flash_size


def test_protected_pages_are_reported() -> None:
    """An operation on a write-protected page changes nothing, and sets WRPRTERR."""
    chip = silicon(bytes(STM32F103C8.flash_size))
    chip.protect(readout=False, sectors=[0])
    chip.load_options()
    controller = unlocked(chip)
    controller.write(CR, PER)
    controller.write(AR, PAGE)
    controller.write(CR, PER | STRT)
    assert status(controller) == WRPRTERR
    controller.write(SR, WRPRTERR)
    controller.write(CR, MER | STRT)
    assert status(controller) == WRPRTERR
    assert not any(chip.flash.cells)


def test_locking_needs_the_keys_again() -> None:
    """LOCK locks the controller; both keys unlock it again."""
    controller = unlocked(silicon())
    controller.write(CR, LOCK)
    controller.write(CR, PG)
    assert controller.read(CR) == LOCK
    for key in KEYS:
        controller.write(KEYR, key)
    assert controller.read(CR) == 0


def ram_program(flash: bytes) -> SimulatedBoard:
    """Return a board on which the boot ROM has started the program in RAM."""
    board = SimulatedBoard(flash=flash)
    answer = board.feed(b"\x7f" + writing(0x2000_0200, ERASE_IN_RAM) + b"\x21\xde" + at(0x2000_0200))
    assert answer == ACK * 6
    return board


def counted_loops(seconds: float) -> tuple[int, bytes]:
    """Run the program in RAM for a time; return what it has stored, and the flash after a reset."""
    board = ram_program(bytes(STM32F103C8.flash_size))
    board.run(seconds)
    board.reset()
    answer = board.feed(b"\x7f" + reading(0x2000_3000, 4))
    assert answer[:4] == ACK * 4
    return int.from_bytes(answer[4:], "little"), board.flash


def test_a_program_in_ram_sees_that_the_controller_is_busy() -> None:
    """The erase of a page takes 30 ms; meanwhile, a program in RAM continues, and reads BSY as set."""
    assert counted_loops(0.029)[0] == 0
    loops, flash = counted_loops(0.031)
    # 30 ms at 24 MHz, in which a loop of four instructions runs once in four cycles.
    assert 178_000 < loops < 182_000
    assert flash == bytes(1024) + b"\xff" * 1024 + bytes(62 * 1024)


def test_power_that_fails_during_an_erase_leaves_a_torn_page() -> None:
    """If power is cut 10 ms after an erase began, some bits of the page are erased, and no other page has changed."""
    board = ram_program(bytes(STM32F103C8.flash_size))
    board.run(0.010)
    board.cut_power()
    page = board.flash[1024:2048]
    assert 1024 < sum(byte.bit_count() for byte in page) < 7 * 1024
    assert board.flash == bytes(1024) + page + bytes(62 * 1024)


@pytest.mark.parametrize(("torn", "expected"), [(1, bytes(1024)), (2, b"\xff" * 1024), (3, b"\xff" * 512 + bytes(512))])
def test_the_fault_torn_says_what_remains(torn: int, expected: bytes) -> None:
    """After a planned power cut in an operation, `torn` determines the state of the affected flash cells."""
    chip = Silicon(
        STM32F103C8,
        bytes(STM32F103C8.flash_size),
        faults=Faults(power_cut_in_operation=1, torn=torn),
        unique_id=bytes(12),
    )
    with pytest.raises(PowerCutError, match="while erasing"):
        chip.flash.erase_page(1)
    assert chip.flash.cells[1024:2048] == expected
    assert chip.flash.operations == 1
