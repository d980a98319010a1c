"""The commands SHA, MAC and CheckMac of the simulated ATECC608, and the cases in which they are refused."""

from __future__ import annotations

import hashlib
import hmac

import pytest

from firmware_host.simulator.secure_element import SecureElement
from tests.firmware_host.simulator.secure_element.bench import (
    DATA_LOCK,
    DEVICE,
    FORBIDDEN,
    MAC_KEY,
    MISMATCH,
    PARSE,
    SERIAL,
    Bench,
    configure,
    refused,
    sha256,
    write_slot,
)

MAC, NONCE, LOCK, RANDOM, CHECKMAC, SHA = 0x08, 0x16, 0x17, 0x1B, 0x28, 0x47
START, UPDATE, END, HMAC_START, ONLY_OUT, TO_DIGEST = 0, 1, 2, 4, 0xC2, 0x42
SECRET, CHALLENGE, OTP = bytes(range(32)), bytes(range(50, 82)), bytes(range(200, 232))
NO_MAC = 4


@pytest.fixture
def chip() -> SecureElement:
    """Return a locked element with a MAC key, a key that may not make MACs, and an OTP zone."""
    element = Bench().element
    configure(element, s4=(0x8090, 0x001C))
    write_slot(element, MAC_KEY, SECRET)
    write_slot(element, NO_MAC, SECRET)
    element.execute(0x12, 0x81, 0, OTP)
    element.execute(LOCK, DATA_LOCK)
    return element


def digest(chip: SecureElement, message: bytes, end: int = ONLY_OUT) -> bytes:
    """Compute a digest with the SHA command."""
    chip.execute(SHA, START)
    return finish(chip, message, end)


def finish(chip: SecureElement, message: bytes, end: int = ONLY_OUT) -> bytes:
    """Send the message of a digest that was started."""
    whole = len(message) // 64 * 64
    for start in range(0, whole, 64):
        assert chip.execute(SHA, UPDATE, 64, message[start : start + 64]) == b""
    return chip.execute(SHA, end, len(message) - whole, message[whole:])


@pytest.mark.parametrize("size", [0, 1, 63, 64, 65, 127, 128, 1000])
def test_sha(chip: SecureElement, size: int) -> None:
    """The digest is SHA-256, even for an empty message."""
    message = bytes(range(250)) * 4
    assert digest(chip, message[:size]) == hashlib.sha256(message[:size]).digest()


def test_sha_works_on_a_new_chip() -> None:
    """SHA needs no locks."""
    assert digest(Bench().element, b"abc") == hashlib.sha256(b"abc").digest()


@pytest.mark.parametrize("size", [0, 5, 64, 200])
def test_hmac(chip: SecureElement, size: int) -> None:
    """The HMAC uses the first 32 bytes of a slot as its key."""
    chip.execute(SHA, HMAC_START, MAC_KEY)
    message = bytes(size)
    assert finish(chip, message) == hmac.digest(SECRET, message, "sha256")


def test_hmac_keys_obey_their_rules(chip: SecureElement) -> None:
    """A private key and a key with NoMac cannot make an HMAC."""
    assert [refused(lambda s=s: chip.execute(SHA, HMAC_START, s)) for s in (DEVICE, NO_MAC)] == [FORBIDDEN] * 2  # type: ignore[misc]


def test_the_target_of_a_digest(chip: SecureElement) -> None:
    """The final SHA command writes the digest to TempKey, to the message digest buffer, or only into its answer."""
    registers = chip.core.registers
    digest(chip, b"abc", ONLY_OUT)
    assert (registers.temp_key, registers.digest) == (None, None)
    found = digest(chip, b"abc", TO_DIGEST)
    assert (registers.temp_key, registers.digest) == (None, found)
    found = digest(chip, b"abd", END)
    assert registers.temp_key
    assert (registers.temp_key.value, registers.temp_key.is_input) == (found, True)


@pytest.mark.parametrize(
    ("mode", "param2", "sent"),
    [
        (UPDATE, 63, bytes(63)),
        (UPDATE, 64, bytes(63)),
        (END, 64, bytes(64)),
        (END, 3, b"ab"),
        (0x06, 0, b""),
        (0x41, 64, bytes(64)),
    ],
)
def test_wrong_parts_of_a_message(chip: SecureElement, mode: int, param2: int, sent: bytes) -> None:
    """Message blocks have 64 bytes, and the last block has fewer. Contexts are not modelled."""
    chip.execute(SHA, START)
    assert refused(lambda: chip.execute(SHA, mode, param2, sent)) == PARSE


@pytest.mark.parametrize(("mode", "sent"), [(START, b"x"), (HMAC_START, b"x"), (0x82, b"")])
def test_wrong_starts_and_targets(chip: SecureElement, mode: int, sent: bytes) -> None:
    """Two SHA commands are refused: a start with a message, and an end with the undefined digest target 0x80."""
    chip.execute(SHA, START)
    assert refused(lambda: chip.execute(SHA, mode, len(sent), sent)) == PARSE


def test_a_digest_needs_a_start(chip: SecureElement) -> None:
    """A SHA calculation cannot be continued before its start, after its end, or after another command."""
    assert refused(lambda: chip.execute(SHA, UPDATE, 64, bytes(64))) == FORBIDDEN
    digest(chip, b"abc")
    assert refused(lambda: chip.execute(SHA, END)) == FORBIDDEN
    chip.execute(SHA, START)
    chip.execute(RANDOM)
    assert refused(lambda: chip.execute(SHA, END)) == FORBIDDEN


def covered(mode: int) -> bytes:
    """Return the bytes that a MAC covers after the key and the challenge."""
    otp = OTP[:11] if mode & 0x10 else OTP[:8] + bytes(3) if mode & 0x20 else bytes(11)
    middle, end = (SERIAL[4:8], SERIAL[2:4]) if mode & 0x40 else (bytes(4), bytes(2))
    return bytes((MAC, mode, MAC_KEY, 0)) + otp + SERIAL[8:9] + middle + SERIAL[:2] + end


@pytest.mark.parametrize("mode", [0x00, 0x10, 0x20, 0x40, 0x50, 0x60])
def test_mac(chip: SecureElement, mode: int) -> None:
    """The MAC covers the key, the challenge and the command.

    Mode bits add the OTP zone and the serial number to the covered bytes.
    """
    assert chip.execute(MAC, mode, MAC_KEY, CHALLENGE) == sha256(SECRET, CHALLENGE, covered(mode))


@pytest.mark.parametrize(("mode", "load"), [(0x01, 0x00), (0x05, 0x03)])
def test_a_challenge_in_temp_key(chip: SecureElement, mode: int, load: int) -> None:
    """MAC uses TempKey as the challenge if bit 2 of the mode matches the source of TempKey. The MAC then uses it up."""
    sent = CHALLENGE if load else bytes(20)
    number = chip.execute(NONCE, load, 0, sent)
    nonce = CHALLENGE if load else sha256(number, sent, b"\x16\0\0")
    assert chip.execute(MAC, mode, MAC_KEY) == sha256(SECRET, nonce, covered(mode))
    assert refused(lambda: chip.execute(MAC, mode, MAC_KEY)) == FORBIDDEN
    chip.execute(NONCE, load, 0, sent)
    assert refused(lambda: chip.execute(MAC, mode ^ 4, MAC_KEY)) == FORBIDDEN


def test_mac_keys_obey_their_rules(chip: SecureElement) -> None:
    """A MAC command is refused for a NoMac key, a private key, and an unlocked data zone.

    Wrong lengths are parse errors.
    """
    assert refused(lambda: chip.execute(MAC, 0, NO_MAC, CHALLENGE)) == FORBIDDEN
    assert refused(lambda: chip.execute(MAC, 0, DEVICE, CHALLENGE)) == FORBIDDEN
    assert refused(lambda: chip.execute(MAC, 0, MAC_KEY, CHALLENGE[:31])) == PARSE
    assert refused(lambda: chip.execute(MAC, 0, 16, CHALLENGE)) == PARSE
    assert refused(lambda: chip.execute(MAC, 0x80, MAC_KEY, CHALLENGE)) == PARSE


@pytest.mark.parametrize("rules", [(0x8080, 0x0010), (0x8080, 0x001D)])
def test_macs_are_made_with_other_data_alone(rules: tuple[int, int]) -> None:
    """A slot that is configured for a P-256 key or a private key is refused as a MAC key, whatever it contains."""
    element = Bench().element
    configure(element, s1=rules)
    element.memory.slots[1][:32] = SECRET
    element.execute(LOCK, DATA_LOCK)
    assert refused(lambda: element.execute(MAC, 0, 1, CHALLENGE)) == FORBIDDEN


def test_macs_need_the_lock() -> None:
    """Before the data zone is locked, every MAC command is refused, even with TempKey as the only input."""
    element = Bench().element
    configure(element)
    assert refused(lambda: element.execute(MAC, 0, MAC_KEY, CHALLENGE)) == FORBIDDEN
    element.execute(NONCE, 3, 0, CHALLENGE)
    assert refused(lambda: element.execute(MAC, 0x07, 0)) == FORBIDDEN
    response = sha256(CHALLENGE, CHALLENGE, bytes(15), SERIAL[8:9], bytes(4), SERIAL[:2], bytes(2))
    assert refused(lambda: element.execute(CHECKMAC, 0x07, 0, bytes(32) + response + bytes(13))) == FORBIDDEN
    element.execute(LOCK, DATA_LOCK)
    assert element.execute(CHECKMAC, 0x07, 0, bytes(32) + response + bytes(13)) == b""


@pytest.mark.parametrize("mode", [0x00, 0x20])
@pytest.mark.parametrize("slot", [MAC_KEY, NO_MAC])
def test_checkmac(chip: SecureElement, mode: int, slot: int) -> None:
    """CheckMac accepts the response of a chip with the same key, even if the key's rules forbid to make MACs."""
    other = bytes((MAC, mode | 0x40, slot, 0)) + bytes(3) + b"otherS"
    otp = OTP[:8] if mode else bytes(8)
    response = sha256(SECRET, CHALLENGE, other[:4], otp, other[4:7], SERIAL[8:9], other[7:11], SERIAL[:2], other[11:13])
    assert chip.execute(CHECKMAC, mode, slot, CHALLENGE + response + other) == b""
    for at in (0, 32, 63, 70):
        spoiled = bytearray(CHALLENGE + response + other)
        spoiled[at] ^= 1
        assert refused(lambda sent=bytes(spoiled): chip.execute(CHECKMAC, mode, slot, sent)) == MISMATCH  # type: ignore[misc]
    assert refused(lambda: chip.execute(CHECKMAC, mode, slot, CHALLENGE + response)) == PARSE
    assert refused(lambda: chip.execute(CHECKMAC, mode | 0x80, slot, CHALLENGE + response + other)) == PARSE


def test_checkmac_with_temp_key(chip: SecureElement) -> None:
    """The challenge can be a nonce in TempKey. A response to the nonce is accepted only once."""
    number = chip.execute(NONCE, 0, 0, bytes(20))
    nonce = sha256(number, bytes(20), b"\x16\0\0")
    response = sha256(SECRET, nonce, bytes(15), SERIAL[8:9], bytes(4), SERIAL[:2], bytes(2))
    sent = bytes(32) + response + bytes(13)
    assert chip.execute(CHECKMAC, 1, MAC_KEY, sent) == b""
    assert refused(lambda: chip.execute(CHECKMAC, 1, MAC_KEY, sent)) == FORBIDDEN
    chip.execute(NONCE, 0, 0, bytes(20))
    assert refused(lambda: chip.execute(CHECKMAC, 1, MAC_KEY, sent)) == MISMATCH
