"""Zones, locks, counters and random numbers of the simulated ATECC608, and the commands that the chip refuses."""

from __future__ import annotations

import pytest

from blockota.errors import UsageError
from firmware_host.simulator.secure_element import ElementMemory, SecureElement
from tests.firmware_host.simulator.secure_element.bench import (
    CLOSED,
    CONFIG_LOCK,
    DATA_LOCK,
    DEVICE,
    FORBIDDEN,
    MAC_KEY,
    OPEN,
    PARSE,
    PUBLIC,
    SERIAL,
    SLOT_LOCK,
    Bench,
    checksum,
    configure,
    refused,
    set_rules,
    sha256,
    write_slot,
)

READ, WRITE, NONCE, LOCK, RANDOM, EXTRA, COUNTER, INFO = 0x02, 0x12, 0x16, 0x17, 0x1B, 0x20, 0x24, 0x30
UNSEEDED = bytes.fromhex("ffff0000") * 8
BLOCK = bytes(range(32))


@pytest.fixture
def new() -> SecureElement:
    """Return an unlocked element whose slots allow no access.

    The factory configuration of real chips is not modelled.
    """
    element = Bench().element
    set_rules(element, dict.fromkeys(range(16), CLOSED))
    return element


@pytest.fixture
def configured(new: SecureElement) -> SecureElement:
    """Return an element whose configuration zone is locked, with the rules of `configure`."""
    configure(new)
    return new


@pytest.fixture
def locked(configured: SecureElement) -> SecureElement:
    """Return an element whose zones are all locked."""
    write_slot(configured, OPEN, BLOCK)
    write_slot(configured, PUBLIC, bytes(range(72)))
    configured.execute(LOCK, DATA_LOCK)
    return configured


def data(slot: int, block: int = 0, word: int = 0) -> int:
    """Return the address of a word of a slot."""
    return slot << 3 | block << 8 | word


def test_the_serial_number(new: SecureElement) -> None:
    """Bytes 0 to 3 and 8 to 12 of the configuration zone are the serial number."""
    assert new.execute(READ, 0x00, 0) + new.execute(READ, 0x80, 0)[8:13] == SERIAL
    assert new.memory.serial == SERIAL


def test_new_chips_are_unlocked(new: SecureElement) -> None:
    """Both lock bytes of a new chip are 0x55, and no slot is locked."""
    assert new.execute(READ, 0x00, 84 // 4 & 7 | 2 << 3) == bytes.fromhex("00005555")
    assert new.execute(READ, 0x00, 88 // 4 & 7 | 2 << 3)[:2] == b"\xff\xff"


def test_the_configuration_zone_is_written_until_it_is_locked(new: SecureElement) -> None:
    """Words and blocks of the configuration can be written, except the serial number and the bytes 84 to 87."""
    new.execute(WRITE, 0x00, 5, b"abcd")
    new.execute(WRITE, 0x80, 3 << 3, BLOCK)
    assert new.execute(READ, 0x00, 5) == b"abcd"
    assert new.execute(READ, 0x80, 3 << 3) == BLOCK
    assert refused(lambda: new.execute(WRITE, 0x00, 3, b"abcd")) == FORBIDDEN
    assert refused(lambda: new.execute(WRITE, 0x80, 0, BLOCK)) == FORBIDDEN
    assert refused(lambda: new.execute(WRITE, 0x80, 2 << 3, BLOCK)) == FORBIDDEN
    assert refused(lambda: new.execute(WRITE, 0x00, 2 << 3 | 5, bytes(4))) == FORBIDDEN
    configure(new)
    assert refused(lambda: new.execute(WRITE, 0x00, 5, b"abcd")) == FORBIDDEN


def test_user_extra_is_written_once_after_the_lock(new: SecureElement) -> None:
    """UpdateExtra writes the bytes 84 and 85. After the lock, UpdateExtra writes a byte only while the byte is zero."""
    new.execute(EXTRA, 0, 7)
    configure(new)
    assert refused(lambda: new.execute(EXTRA, 0, 8)) == FORBIDDEN
    new.execute(EXTRA, 1, 9)
    assert refused(lambda: new.execute(EXTRA, 1, 10)) == FORBIDDEN
    assert new.execute(READ, 0x00, 2 << 3 | 5)[:2] == b"\x07\x09"


def test_the_lock_of_the_configuration_checks_its_checksum(new: SecureElement) -> None:
    """Without bit 7 of its mode, Lock compares the checksum of the whole zone. Each zone can be locked once."""
    right = int.from_bytes(checksum(bytes(new.memory.config)), "little")
    assert refused(lambda: new.execute(LOCK, 0, right ^ 1)) == FORBIDDEN
    assert refused(lambda: new.execute(LOCK, DATA_LOCK)) == FORBIDDEN
    new.execute(LOCK, 0, right)
    assert new.execute(READ, 0x00, 2 << 3 | 5) == bytes.fromhex("00005500")
    assert refused(lambda: new.execute(LOCK, CONFIG_LOCK)) == FORBIDDEN
    content = b"".join(new.memory.slots) + new.memory.otp
    wrong = int.from_bytes(checksum(content), "little") ^ 1
    assert refused(lambda: new.execute(LOCK, 1, wrong)) == FORBIDDEN
    new.execute(LOCK, 1, wrong ^ 1)
    assert new.execute(READ, 0x00, 2 << 3 | 5) == bytes(4)
    assert refused(lambda: new.execute(LOCK, DATA_LOCK)) == FORBIDDEN


def test_slots_are_closed_until_the_configuration_is_locked(new: SecureElement) -> None:
    """Before the configuration zone is locked, slots and OTP cannot be written or read."""
    assert refused(lambda: write_slot(new, OPEN, BLOCK)) == FORBIDDEN
    assert refused(lambda: new.execute(WRITE, 0x81, 0, BLOCK)) == FORBIDDEN
    assert refused(lambda: new.execute(READ, 0x82, data(OPEN))) == FORBIDDEN
    assert refused(lambda: new.execute(READ, 0x81, 0)) == FORBIDDEN


def test_secrets_are_written_in_the_clear_before_the_lock_only(configured: SecureElement) -> None:
    """Until the data zone is locked, all slots except private keys can be written in blocks, and none can be read."""
    write_slot(configured, MAC_KEY, BLOCK)
    assert configured.memory.slots[MAC_KEY][:32] == BLOCK
    assert refused(lambda: configured.execute(READ, 0x82, data(MAC_KEY))) == FORBIDDEN
    assert refused(lambda: configured.execute(WRITE, 0x02, data(MAC_KEY), bytes(4))) == FORBIDDEN
    assert refused(lambda: write_slot(configured, DEVICE, BLOCK)) == FORBIDDEN
    configured.execute(LOCK, DATA_LOCK)
    assert refused(lambda: write_slot(configured, MAC_KEY, BLOCK)) == FORBIDDEN
    assert refused(lambda: configured.execute(READ, 0x82, data(MAC_KEY))) == FORBIDDEN


def test_the_otp_zone_is_fixed_by_the_lock(configured: SecureElement) -> None:
    """The OTP zone can be written in blocks before the lock; after the lock, the zone can only be read."""
    configured.execute(WRITE, 0x81, 1 << 3, BLOCK)
    assert refused(lambda: configured.execute(WRITE, 0x01, 0, bytes(4))) == FORBIDDEN
    configured.execute(LOCK, DATA_LOCK)
    assert configured.execute(READ, 0x81, 1 << 3) == BLOCK
    assert refused(lambda: configured.execute(WRITE, 0x81, 0, BLOCK)) == FORBIDDEN


def test_slots_obey_their_rules_after_the_lock(locked: SecureElement) -> None:
    """An open slot is read and written in words and blocks. A public slot is only read. The end of a slot is padded."""
    assert locked.execute(READ, 0x82, data(OPEN)) == BLOCK
    locked.execute(WRITE, 0x02, data(OPEN, 1, 0), b"abcd")
    assert locked.execute(READ, 0x82, data(OPEN, 1)) == b"abcd" + bytes(28)
    assert locked.execute(READ, 0x02, data(PUBLIC, 2, 1)) == bytes(range(68, 72))
    assert refused(lambda: locked.execute(WRITE, 0x02, data(PUBLIC), b"abcd")) == FORBIDDEN
    assert refused(lambda: locked.execute(READ, 0x82, data(DEVICE))) == FORBIDDEN


def test_a_locked_slot_is_not_written(locked: SecureElement) -> None:
    """A slot with the bit Lockable can be locked once. Other slots cannot be locked."""
    assert refused(lambda: locked.execute(LOCK, SLOT_LOCK | PUBLIC << 2)) == FORBIDDEN
    locked.execute(LOCK, SLOT_LOCK | OPEN << 2)
    assert locked.execute(READ, 0x00, 2 << 3 | 6)[:2] == (0xFFFF ^ 1 << OPEN).to_bytes(2, "little")
    assert refused(lambda: locked.execute(LOCK, SLOT_LOCK | OPEN << 2)) == FORBIDDEN
    assert refused(lambda: locked.execute(WRITE, 0x02, data(OPEN), b"abcd")) == FORBIDDEN
    assert locked.execute(READ, 0x82, data(OPEN)) == BLOCK


def test_slots_are_not_read_or_locked_before_the_data_zone(configured: SecureElement) -> None:
    """Before the data zone is locked, a slot can be neither read nor locked."""
    write_slot(configured, OPEN, BLOCK)
    assert refused(lambda: configured.execute(READ, 0x82, data(OPEN))) == FORBIDDEN
    assert refused(lambda: configured.execute(LOCK, SLOT_LOCK | OPEN << 2)) == FORBIDDEN


def test_secret_slots_are_written_in_blocks(new: SecureElement) -> None:
    """A secret slot with open writing accepts only whole blocks."""
    configure(new, s3=(0x0080, 0x001C))
    new.execute(LOCK, DATA_LOCK)
    write_slot(new, 3, BLOCK)
    assert refused(lambda: new.execute(WRITE, 0x02, data(3), b"abcd")) == FORBIDDEN
    assert new.memory.slots[3][:32] == BLOCK


def test_encrypted_transfers_are_refused(new: SecureElement) -> None:
    """The model has no encrypted reads and writes.

    The model refuses such commands, like a chip whose rules forbid encrypted access.
    """
    configure(new, s3=(0x43C0 | 5, 0x001C))  # encrypted with the key in slot 3
    new.execute(LOCK, DATA_LOCK)
    assert refused(lambda: new.execute(WRITE, 0xC2, data(3), bytes(64))) == FORBIDDEN
    assert refused(lambda: new.execute(READ, 0x82, data(3))) == FORBIDDEN


@pytest.mark.parametrize(
    ("opcode", "mode", "param2", "sent"),
    [
        (READ, 0x03, 0, b""),
        (READ, 0x04, 0, b""),
        (READ, 0x00, 32, b""),
        (READ, 0x01, 16, b""),
        (READ, 0x82, data(OPEN, 2), b""),
        (READ, 0x80, 1, b""),
        (READ, 0x00, 0, b"x"),
        (WRITE, 0x80, 3 << 3, b"abcd"),
        (WRITE, 0x00, 5, b""),
        (WRITE, 0x04, 5, b"abcd"),
        (LOCK, CONFIG_LOCK, 0, b"x"),
        (EXTRA, 0, 1, b"x"),
        (COUNTER, 0, 0, b"x"),
        (RANDOM, 0, 0, b"x"),
        (NONCE, 0, 1, bytes(20)),
        (NONCE, 3, 1, bytes(32)),
        (NONCE, 7, 0, bytes(32)),
        (LOCK, 0x83, 0, b""),
        (LOCK, 0xC0, 0, b""),
        (LOCK, 0x84, 0, b""),
        (EXTRA, 2, 0, b""),
        (COUNTER, 2, 0, b""),
        (COUNTER, 0, 2, b""),
        (RANDOM, 2, 0, b""),
        (RANDOM, 0, 1, b""),
        (NONCE, 2, 0, bytes(20)),
        (NONCE, 0, 0, bytes(19)),
        (NONCE, 3, 0, bytes(31)),
        (NONCE, 0x23, 0, bytes(32)),
        (NONCE, 0x83, 0, bytes(32)),
        (INFO, 1, 16, b""),
    ],
)
def test_wrong_parameters(new: SecureElement, opcode: int, mode: int, param2: int, sent: bytes) -> None:
    """A command with wrong parameters is a parse error."""
    assert refused(lambda: new.execute(opcode, mode, param2, sent)) == PARSE


def test_a_counter_only_rises(configured: SecureElement) -> None:
    """Mode 1 of the command Counter adds one and returns the new value.

    At its maximum of 2,097,151, the counter does not change.
    """
    assert [configured.execute(COUNTER, 1, 0) for _ in range(2)] == [b"\1\0\0\0", b"\2\0\0\0"]
    assert configured.execute(COUNTER, 0, 1) == bytes(4)
    configured.memory.counters[1] = 2_097_150
    assert configured.execute(COUNTER, 1, 1) == bytes.fromhex("ffff1f00")
    assert refused(lambda: configured.execute(COUNTER, 1, 1)) == FORBIDDEN
    assert configured.execute(COUNTER, 0, 1) == bytes.fromhex("ffff1f00")


def test_random_numbers_begin_with_the_lock(new: SecureElement) -> None:
    """Random returns a fixed pattern before the configuration zone is locked, and different numbers afterwards."""
    assert new.execute(RANDOM) == new.execute(RANDOM, 1) == new.execute(NONCE, 1, 0, bytes(20)) == UNSEEDED
    assert refused(lambda: new.execute(COUNTER, 0, 0)) == FORBIDDEN
    configure(new)
    assert len({new.execute(RANDOM) for _ in range(20)}) == 20


def test_two_chips_have_other_numbers_and_a_chip_repeats_its_own() -> None:
    """By default, the random numbers depend only on the serial number."""
    chips = [SecureElement(ElementMemory(serial), clock=lambda: 0.0) for serial in (b"abcdef", b"abcdef", b"abcdeg")]
    for chip in chips:
        configure(chip)
    numbers = [chip.execute(RANDOM) for chip in chips]
    assert (numbers[0] == numbers[1], numbers[0] == numbers[2]) == (True, False)


def test_a_nonce_mixes_both_numbers(configured: SecureElement) -> None:
    """TempKey is the digest of the chip's random number, the host's number and the command.

    The value of TempKey then counts as random, and can be used once.
    """
    number = configured.execute(NONCE, 0, 0, bytes(range(20)))
    temp_key = configured.core.registers.temp_key
    assert temp_key
    assert temp_key.value == sha256(number, bytes(range(20)), b"\x16\x00\x00")
    assert configured.execute(INFO, 2)[:2] == b"\x00\x80"
    configured.execute(NONCE, 3, 0, bytes(32))
    assert configured.execute(INFO, 2)[:2] == b"\x10\x80"


def test_an_image_keeps_everything(locked: SecureElement) -> None:
    """A memory made from an image equals the original in zones, locks and counters."""
    locked.execute(COUNTER, 1, 1)
    locked.memory.counters[0] = 2_097_151
    image = locked.memory.image()
    again = SecureElement(ElementMemory.from_image(image), clock=lambda: 0.0)
    assert again.memory.image() == image
    assert again.execute(READ, 0x82, data(OPEN)) == BLOCK
    assert again.execute(COUNTER, 0, 1) == b"\1\0\0\0"
    assert refused(lambda: again.execute(LOCK, DATA_LOCK)) == FORBIDDEN


@pytest.mark.parametrize("image", [b"", bytes(1407), bytes(1404) + b"\xff" * 4])
def test_a_wrong_image_is_refused(image: bytes) -> None:
    """A memory image of a wrong length or with wrong contents is refused."""
    with pytest.raises(UsageError):
        ElementMemory.from_image(image)


@pytest.mark.parametrize(
    ("offset", "value", "named"),
    [
        (18, 1, "CountMatch"),
        (19, 0x28, "clock divider"),
        (52, 0, "counters"),
        (68, 0xA, "UseLock"),
        (20, 0xA0, "Limited"),
    ],
)
def test_what_is_not_modelled_is_not_silently_accepted(new: SecureElement, offset: int, value: int, named: str) -> None:
    """A configuration with rules that are not modelled cannot be locked."""
    new.memory.config[offset] = value
    if offset == 20:
        new.memory.config[96] = 0x1C  # LimitedUse has this meaning for slots that are not private
    with pytest.raises(UsageError, match=named):
        new.execute(LOCK, CONFIG_LOCK)
    assert not new.memory.is_config_locked
