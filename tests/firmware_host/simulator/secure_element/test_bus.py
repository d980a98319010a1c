"""The simulated ATECC608 on its I2C bus: wake, idle, sleep, packets, times, watchdog and faults."""

from __future__ import annotations

import pytest

from firmware_host.simulator.secure_element import EXECUTION_TIMES, ChipFaults, PowerState, SecureElement
from tests.firmware_host.simulator.secure_element.bench import (
    COMMAND,
    FORBIDDEN,
    GARBLED,
    IDLE,
    PARSE,
    RESET,
    SLEEP,
    Bench,
    checksum,
    packet,
    refused,
)

INFO = bytes.fromhex("07 30 00 0000 035d")
"""The packet of Info(Revision), as Microchip's application notes print it."""
REVISION = bytes.fromhex("07 00006002 8038")


@pytest.fixture
def bench() -> Bench:
    """Return a new element on its bench."""
    return Bench()


def test_the_checksum_is_the_chips() -> None:
    """The tests' checksum function gives the checksums of the published packet and of the published wake answer."""
    assert packet(0x30) == INFO
    assert checksum(bytes.fromhex("0411")) == bytes.fromhex("3343")


def test_a_sleeping_chip_answers_only_the_wake_condition(bench: Bench) -> None:
    """The chip does not acknowledge before a wake condition, or within the time tWHI after it.

    Then 04 11 33 43 can be read.
    """
    assert not bench.element.write(COMMAND, INFO)
    bench.element.wake()
    assert bench.element.read(4) is None
    bench.now += 0.0014
    assert bench.element.read(4) is None
    bench.now += 0.0001
    assert bench.element.read(4) == bytes.fromhex("04113343")


def test_an_answer_can_be_read_when_the_command_has_ended(bench: Bench) -> None:
    """A busy chip acknowledges neither a read nor a write. Info takes 5 ms."""
    element = bench.woken()
    assert element.write(COMMAND, INFO)
    bench.now += 0.0049
    assert element.read(1) is None
    assert not element.write(COMMAND, INFO)
    bench.now += 0.0002
    assert element.read(7) == REVISION


def test_reads_go_on_and_the_word_address_0_begins_again(bench: Bench) -> None:
    """Two reads return the parts of one answer. Bytes after its end are 0xFF."""
    element = bench.woken()
    assert bench.answer(INFO, 0.01) == REVISION
    assert element.read(2) == b"\xff\xff"
    assert element.write(RESET)
    assert element.read(9) == REVISION + b"\xff\xff"


def test_a_second_wake_is_ignored(bench: Bench) -> None:
    """A chip that is awake ignores a further wake condition; the answer to the last command can still be read."""
    element = bench.woken()
    element.write(COMMAND, INFO)
    bench.now += 0.01
    element.wake()
    assert element.read(7) == REVISION


@pytest.mark.parametrize(
    ("name", "limit"),
    [("SIGN", 0.115), ("VERIFY", 0.105), ("SECUREBOOT", 0.080), ("GENKEY", 0.115), ("MAC", 0.055), ("NONCE", 0.020)],
)
def test_the_limits_are_those_of_microchips_table(name: str, limit: float) -> None:
    """The execution times equal the times in milliseconds that Microchip's library waits for each command."""
    assert {opcode.name: seconds for opcode, seconds in EXECUTION_TIMES.items()}[name] == limit


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (INFO[:-1] + b"\x5c", GARBLED),
        (INFO[:-1], GARBLED),
        (INFO + b"\x00", GARBLED),
        (b"", GARBLED),
        (b"\x05\x30\x00" + checksum(b"\x05\x30\x00"), PARSE),
        (packet(0x99), PARSE),
        (packet(0x30, 9), PARSE),
        (packet(0x30, data=b"x"), PARSE),
    ],
)
def test_a_wrong_packet_is_answered_with_its_status(bench: Bench, sent: bytes, status: int) -> None:
    """A wrong checksum or length is a communication error. A wrong opcode, mode or size is a parse error."""
    bench.woken()
    expected = bytes((4, status))
    assert bench.answer(sent, 0.006) == expected + checksum(expected)


def loaded(bench: Bench) -> SecureElement:
    """Return an element that is awake and has a value in TempKey and in the message digest buffer."""
    element = bench.woken()
    element.execute(0x16, 0x03, 0, bytes(32))
    element.execute(0x16, 0x43, 0, bytes(32))
    return element


def temp_key_is_valid(element: SecureElement) -> bool:
    """Return bit 7 of the second byte of Info(State)."""
    return bool(element.execute(0x30, 2)[1] & 0x80)


def test_idle_keeps_the_registers_and_sleep_loses_them(bench: Bench) -> None:
    """The register TempKey keeps its value in idle mode, and loses it in sleep mode.

    In both modes, the chip reacts only to a wake condition.
    """
    element = loaded(bench)
    assert element.write(IDLE)
    assert element.power_state() is PowerState.IDLE
    assert element.read(1) is None
    assert not element.write(COMMAND, INFO)
    bench.woken()
    assert temp_key_is_valid(element)
    assert element.write(SLEEP)
    assert element.power_state() is PowerState.ASLEEP
    bench.woken()
    assert not temp_key_is_valid(element)


def test_the_watchdog_puts_the_chip_to_sleep(bench: Bench) -> None:
    """The chip sleeps 1.3 s after its wake, even if it received commands since then. Idle stops the watchdog."""
    element = loaded(bench)
    element.write(IDLE)
    bench.now += 5
    bench.woken()
    assert temp_key_is_valid(element)
    bench.now += 1.2
    assert bench.answer(INFO, 0.01) == REVISION
    bench.now += 0.1
    assert element.power_state() is PowerState.ASLEEP
    assert not element.write(COMMAND, INFO)
    bench.woken()
    assert not temp_key_is_valid(element)


def test_the_long_watchdog(bench: Bench) -> None:
    """With bit 2 of ChipMode the chip stays awake for 10 s."""
    bench.element.memory.config[19] = 4
    bench.woken()
    bench.now += 9.9
    assert bench.element.power_state() is PowerState.AWAKE
    bench.now += 0.1
    assert bench.element.power_state() is PowerState.ASLEEP


def test_an_unknown_word_address_is_ignored(bench: Bench) -> None:
    """A reserved word address changes nothing."""
    element = bench.woken()
    assert element.write(9, INFO)
    assert element.read(4) == bytes.fromhex("04113343")


def test_the_address_is_in_the_configuration_zone(bench: Bench) -> None:
    """A new chip has the I2C address 0x60. Byte 16 of the configuration is the address, shifted by one bit."""
    assert bench.element.address == 0x60
    bench.element.execute(0x12, 0x00, 0x04, bytes.fromhex("6a000000"))
    assert bench.element.address == 0x35


def test_an_absent_chip_acknowledges_nothing(bench: Bench) -> None:
    """With the fault `is_absent` wake, write and read have no effect."""
    bench.element.faults = ChipFaults(is_absent=True)
    bench.element.wake()
    bench.now += 1
    assert (bench.element.write(COMMAND, INFO), bench.element.read(4)) == (False, None)
    assert bench.element.power_state() is PowerState.ASLEEP


def test_a_late_answer(bench: Bench) -> None:
    """With the fault `late` the answer comes after the limit."""
    bench.woken()
    bench.element.faults = ChipFaults(late=0.2)
    assert bench.answer(INFO, 0.2) is None
    bench.now += 0.006
    assert bench.element.read(7) == REVISION


def test_a_wrong_checksum(bench: Bench) -> None:
    """With the fault `has_wrong_checksum`, one bit of the checksum differs, even in the answer to a wake."""
    bench.element.faults = ChipFaults(has_wrong_checksum=True)
    assert bench.woken().read(4) == bytes.fromhex("04113342")
    answer = bench.answer(INFO, 0.01)
    assert answer
    assert answer[:-2] == REVISION[:-2]
    assert answer != REVISION


def test_a_truncated_answer(bench: Bench) -> None:
    """With the fault `truncated_to` the bus delivers 0xFF for the missing bytes."""
    bench.woken()
    bench.element.faults = ChipFaults(truncated_to=3)
    assert bench.answer(INFO, 0.01) == REVISION[:3] + b"\xff" * 4


def test_a_refusal_names_its_status() -> None:
    """The exception of `execute` contains the status and a sentence."""
    element = Bench().element
    assert refused(lambda: element.execute(0x02, 0x02)) == FORBIDDEN
