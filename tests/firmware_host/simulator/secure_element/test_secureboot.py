"""SecureBoot of the simulated ATECC608 in all modes, and power loss during a command."""

from __future__ import annotations

import pytest

from firmware_host.simulator.secure_element import ChipFaults, SecureElement
from tests.firmware_host.simulator.secure_element.bench import (
    BOOT_KEY,
    COMMAND,
    DATA_LOCK,
    DIGEST,
    FORBIDDEN,
    MAC_KEY,
    MISMATCH,
    OPEN,
    PARSE,
    SLOT_LOCK,
    Bench,
    configure,
    packet,
    pair,
    refused,
    sha256,
    signed,
    write_public,
    write_slot,
    xy,
)

NONCE, LOCK, INFO, BOOT = 0x16, 0x17, 0x30, 0x80
FULL, STORE, COPY = 5, 6, 7
BOTH, KEEP_SIGNATURE, KEEP_DIGEST = 1, 2, 3
VENDOR, STRANGER = pair(31), pair(32)
OLD, NEW = sha256(b"old image"), sha256(b"new image")
SECRET = bytes(range(32))


def chip_with(
    mode: int, *, kept: int = DIGEST, flags: int = 0, options: int = 2, bench: Bench | None = None
) -> SecureElement:
    """Return a locked element whose SecureBootConfig has this mode, these flags, and this slot for the stored value."""
    element = (bench or Bench()).element
    element.memory.config[70:72] = (mode | flags | kept << 8 | BOOT_KEY << 12).to_bytes(2, "little")
    element.memory.config[90:92] = (options | MAC_KEY << 12).to_bytes(2, "little")
    configure(element, s8=(0x8000, 0x003C))
    write_public(element, BOOT_KEY, xy(VENDOR.public_key()))
    write_slot(element, MAC_KEY, SECRET)
    element.execute(LOCK, DATA_LOCK)
    return element


def boot(chip: SecureElement, mode: int, digest: bytes, signature: bytes = b"") -> bytes:
    """Run SecureBoot."""
    return chip.execute(BOOT, mode, 0, digest + signature)


def test_the_digest_is_kept() -> None:
    """FullCopy stores a signed digest, and FullStore compares a digest with the stored digest.

    No other command changes the stored digest.
    """
    chip = chip_with(KEEP_DIGEST)
    assert refused(lambda: boot(chip, STORE, OLD)) == MISMATCH
    boot(chip, COPY, OLD, signed(VENDOR, OLD))
    boot(chip, STORE, OLD)
    assert refused(lambda: boot(chip, STORE, NEW)) == MISMATCH
    assert refused(lambda: boot(chip, COPY, NEW, signed(STRANGER, NEW))) == MISMATCH
    assert refused(lambda: boot(chip, COPY, NEW, signed(VENDOR, OLD))) == MISMATCH
    boot(chip, FULL, NEW, signed(VENDOR, NEW))
    boot(chip, STORE, OLD)
    boot(chip, COPY, NEW, signed(VENDOR, NEW))
    boot(chip, STORE, NEW)
    assert refused(lambda: boot(chip, STORE, OLD)) == MISMATCH


def test_the_signature_is_kept() -> None:
    """In mode 2, FullCopy stores the signature, and FullStore verifies the digest with this signature."""
    chip = chip_with(KEEP_SIGNATURE, kept=8)
    assert refused(lambda: boot(chip, STORE, OLD)) == MISMATCH
    boot(chip, COPY, OLD, signed(VENDOR, OLD))
    boot(chip, STORE, OLD)
    assert refused(lambda: boot(chip, STORE, NEW)) == MISMATCH


def test_nothing_is_kept() -> None:
    """In mode 1, only Full exists. In mode 0, the command SecureBoot is refused."""
    chip = chip_with(BOTH)
    boot(chip, FULL, OLD, signed(VENDOR, OLD))
    assert refused(lambda: boot(chip, FULL, OLD, signed(STRANGER, OLD))) == MISMATCH
    assert refused(lambda: boot(chip, COPY, OLD, signed(VENDOR, OLD))) == FORBIDDEN
    assert refused(lambda: boot(chip, STORE, OLD)) == FORBIDDEN
    off = chip_with(0)
    assert refused(lambda: boot(off, FULL, OLD, signed(VENDOR, OLD))) == FORBIDDEN


def test_secureboot_needs_the_locks() -> None:
    """Before the data zone is locked SecureBoot refuses."""
    element = Bench().element
    element.memory.config[70:72] = (KEEP_DIGEST | DIGEST << 8 | BOOT_KEY << 12).to_bytes(2, "little")
    configure(element)
    assert refused(lambda: boot(element, STORE, OLD)) == FORBIDDEN


def test_a_locked_slot_keeps_its_digest() -> None:
    """FullCopy cannot write to a locked slot."""
    chip = chip_with(KEEP_DIGEST, kept=OPEN)
    boot(chip, COPY, OLD, signed(VENDOR, OLD))
    chip.execute(LOCK, SLOT_LOCK | OPEN << 2)
    assert refused(lambda: boot(chip, COPY, NEW, signed(VENDOR, NEW))) == FORBIDDEN
    boot(chip, STORE, OLD)


def test_the_prohibition() -> None:
    """With bit 6 set, SecureBoot succeeds only once after each power loss; sleep does not allow a second time."""
    chip = chip_with(KEEP_DIGEST)
    boot(chip, COPY | 0x40, OLD, signed(VENDOR, OLD))
    assert refused(lambda: boot(chip, STORE, OLD)) == FORBIDDEN
    chip.power_cycle()
    boot(chip, STORE, OLD)


@pytest.mark.parametrize(("flags", "latched"), [(0, False), (8, True)])
def test_the_latch(flags: int, latched: bool) -> None:  # noqa: FBT001
    """With bit 3 of SecureBootConfig, a successful SecureBoot sets the persistent latch until a power loss."""
    chip = chip_with(KEEP_DIGEST, flags=flags)
    assert refused(lambda: boot(chip, STORE, OLD)) == MISMATCH
    states = [chip.core.is_latched]
    boot(chip, COPY, OLD, signed(VENDOR, OLD))
    states.append(chip.core.is_latched)
    if latched:
        assert chip.execute(INFO, 4) == b"\1\0\0\0"
    else:
        assert refused(lambda: chip.execute(INFO, 4)) == FORBIDDEN
    chip.power_cycle()
    assert [*states, chip.core.is_latched] == [False, latched, False]


def protected(chip: SecureElement, mode: int, digest: bytes, signature: bytes = b"") -> tuple[bytes, bytes]:
    """Run SecureBoot with an encrypted digest. Return the answer, and the MAC that the host computes."""
    number = chip.execute(NONCE, 0, 0, bytes(20))
    session = sha256(SECRET, sha256(number, bytes(20), b"\x16\0\0"))
    encrypted = bytes(a ^ b for a, b in zip(digest, session, strict=True))
    found = boot(chip, mode | 0x80, encrypted, signature)
    return found, sha256(session, digest, signature, bytes((0x80, mode | 0x80, 0, 0)))


def test_protected_wires() -> None:
    """With bit 7, the answer is a MAC made with the IO protection key and a nonce. The nonce is then used up."""
    chip = chip_with(KEEP_DIGEST)
    found, expected = protected(chip, COPY, OLD, signed(VENDOR, OLD))
    assert found == expected
    found, expected = protected(chip, STORE, OLD)
    assert found == expected
    assert refused(lambda: protected(chip, STORE, NEW)) == MISMATCH
    assert refused(lambda: boot(chip, STORE | 0x80, OLD)) == FORBIDDEN


def test_a_nonce_can_be_required() -> None:
    """With bit 4 of SecureBootConfig, unencrypted digests and nonces that only the host chose are refused."""
    chip = chip_with(KEEP_DIGEST, flags=0x10)
    assert refused(lambda: boot(chip, COPY, OLD, signed(VENDOR, OLD))) == FORBIDDEN
    chip.execute(NONCE, 3, 0, bytes(32))
    assert refused(lambda: boot(chip, COPY | 0x80, OLD, signed(VENDOR, OLD))) == FORBIDDEN
    found, expected = protected(chip, COPY, OLD, signed(VENDOR, OLD))
    assert found == expected


@pytest.mark.parametrize(
    ("mode", "size"), [(4, 32), (4, 96), (3, 96), (STORE, 96), (FULL, 32), (COPY, 95), (STORE | 8, 32)]
)
def test_wrong_parameters(mode: int, size: int) -> None:
    """A wrong mode or length is a parse error."""
    chip = chip_with(KEEP_DIGEST)
    assert refused(lambda: chip.execute(BOOT, mode, 0, bytes(size))) == PARSE
    assert refused(lambda: chip.execute(BOOT, STORE, 1, bytes(32))) == PARSE


def test_a_slot_that_is_too_small_keeps_nothing() -> None:
    """FullCopy refuses to store a signature of 64 bytes in a slot of 36 bytes."""
    chip = chip_with(KEEP_SIGNATURE)
    assert refused(lambda: boot(chip, COPY, OLD, signed(VENDOR, OLD))) == FORBIDDEN


def test_protected_wires_need_the_configuration() -> None:
    """Without the enabling bit in ChipOptions, SecureBoot refuses to answer with a MAC."""
    chip = chip_with(KEEP_DIGEST, options=0)
    assert refused(lambda: protected(chip, COPY, OLD, signed(VENDOR, OLD))) == FORBIDDEN


@pytest.mark.parametrize(("share", "kept"), [(0.0, OLD), (0.5, None), (1.0, NEW)])
def test_the_power_fails_while_a_digest_is_kept(share: float, kept: bytes | None) -> None:
    """After a power cut within 80 ms, the chip has the old digest, the new digest, or a value that fits no image."""
    bench = Bench()
    chip = chip_with(KEEP_DIGEST, bench=bench)
    boot(chip, COPY, OLD, signed(VENDOR, OLD))
    bench.woken()
    chip.faults = ChipFaults(kept_when_cut=share)
    assert chip.write(COMMAND, packet(BOOT, COPY, 0, NEW + signed(VENDOR, NEW)))
    bench.now += 0.04
    chip.power_cycle()
    for digest in (OLD, NEW):
        if digest == kept:
            boot(chip, STORE, digest)
        else:
            assert refused(lambda d=digest: boot(chip, STORE, d)) == MISMATCH  # type: ignore[misc]
    boot(chip, COPY, NEW, signed(VENDOR, NEW))
    boot(chip, STORE, NEW)


@pytest.mark.parametrize(
    ("cut_after", "share", "found"), [(0.024, 0.5, 0xFFFF), (0.024, 1.0, 0x10000), (0.026, 0.5, 0x10000)]
)
def test_a_counter_is_never_torn(cut_after: float, share: float, found: int) -> None:
    """After a power cut during the 25 ms of Counter, the value is old or new; after a later cut, the value is new."""
    bench = Bench()
    chip = chip_with(KEEP_DIGEST, bench=bench)
    chip.memory.counters[0] = 0xFFFF
    bench.woken()
    chip.faults = ChipFaults(kept_when_cut=share)
    assert chip.write(COMMAND, packet(0x24, 1))
    bench.now += cut_after
    chip.power_cycle()
    assert chip.memory.counters[0] == found


def test_a_cut_after_a_wake_changes_nothing() -> None:
    """A power loss during the wake time does not undo the writes of earlier commands."""
    bench = Bench()
    chip = chip_with(KEEP_DIGEST, bench=bench)
    boot(chip, COPY, OLD, signed(VENDOR, OLD))
    chip.wake()
    chip.power_cycle()
    boot(chip, STORE, OLD)
