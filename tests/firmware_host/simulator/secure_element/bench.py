"""A simulated secure element with a clock that the test advances, and constants from the data sheet."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils

from firmware_host.simulator.secure_element import ChipStatusError, ElementMemory, SecureElement

COMMAND, SLEEP, IDLE, RESET = 3, 1, 2, 0
SERIAL = bytes.fromhex("0123a1a2a3a4a5a6ee")
MISMATCH, PARSE, ECC, FORBIDDEN, GARBLED = 0x01, 0x03, 0x05, 0x0F, 0xFF
"""Status bytes."""
DEVICE, MAC_KEY, OPEN, DIGEST, PUBLIC, BOOT_KEY, VALIDATED, PARENT = 0, 5, 6, 7, 9, 10, 11, 12
"""The slots of the configuration that `configure` writes."""
CONFIG_LOCK, DATA_LOCK, SLOT_LOCK = 0x80, 0x81, 0x82
CLOSED = (0x8080, 0x001C)
"""SlotConfig and KeyConfig of a slot that is neither read nor written."""


@dataclass
class Bench:
    """A simulated secure element, and its time in seconds."""

    now: float = 1000.0
    element: SecureElement = field(init=False)

    def __post_init__(self) -> None:
        """Make a new secure element with this clock."""
        self.element = SecureElement(ElementMemory(SERIAL[2:8]), clock=lambda: self.now)

    def woken(self) -> SecureElement:
        """Wake the element, and return it. The element is then ready for a command."""
        self.element.wake()
        self.now += 0.0015
        return self.element

    def answer(self, packet: bytes, seconds: float) -> bytes | None:
        """Send a packet, and return the answer after a given time. The answer's first byte is its length."""
        assert self.element.write(COMMAND, packet)
        self.now += seconds
        count = self.element.read(1)
        if count is None:
            return None
        return count + (self.element.read(count[0] - 1) or b"")


def checksum(data: bytes) -> bytes:
    """Return the CRC-16 of Microchip's application notes.

    This implementation works bit by bit, and is independent of the simulator's.
    """
    register = 0
    for byte in data:
        register ^= int(f"{byte:08b}"[::-1], 2) << 8
        for _ in range(8):
            register = (register << 1) ^ (0x8005 if register & 0x8000 else 0)
            register &= 0xFFFF
    return register.to_bytes(2, "little")


def packet(opcode: int, mode: int = 0, param2: int = 0, data: bytes = b"") -> bytes:
    """Return a command packet."""
    body = bytes((len(data) + 7, opcode, mode, param2 & 0xFF, param2 >> 8)) + data
    return body + checksum(body)


def refused(action: Callable[[], object]) -> int:
    """Return the status code with which the element refuses a command."""
    with pytest.raises(ChipStatusError) as caught:
        action()
    return caught.value.status


def sha256(*parts: bytes) -> bytes:
    """Return a digest."""
    return hashlib.sha256(b"".join(parts)).digest()


def pair(seed: int) -> ec.EllipticCurvePrivateKey:
    """Return a private key that is not in the chip."""
    return ec.derive_private_key(seed, ec.SECP256R1())


def xy(key: ec.EllipticCurvePublicKey) -> bytes:
    """Return a public key in the format of the chip, 64 bytes."""
    numbers = key.public_numbers()
    return numbers.x.to_bytes(32, "big") + numbers.y.to_bytes(32, "big")


def signed(key: ec.EllipticCurvePrivateKey, digest: bytes) -> bytes:
    """Return R and S of a signature of a digest."""
    r, s = utils.decode_dss_signature(key.sign(digest, ec.ECDSA(utils.Prehashed(hashes.SHA256()))))
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def verifies(public: bytes, digest: bytes, signature: bytes) -> bool:
    """Return whether the chip's signature of a digest is valid."""
    point = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), b"\x04" + public)
    der = utils.encode_dss_signature(int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big"))
    point.verify(der, digest, ec.ECDSA(utils.Prehashed(hashes.SHA256())))
    return True


def configure(element: SecureElement, **slots: tuple[int, int]) -> None:
    """Write SlotConfig and KeyConfig for the slots of the tests, and lock the configuration zone.

    Args:
        element: the element.
        slots: SlotConfig and KeyConfig of further slots, by name, such as ``s3``.
    """
    known = {
        DEVICE: (0x8083, 0x0033),  # private, signs messages and its own statements, lockable
        MAC_KEY: (0x8080, 0x001C),  # secret, for MACs
        OPEN: (0x0000, 0x003C),  # read and written by everybody, lockable
        DIGEST: (0x8000, 0x001C),  # kept by SecureBoot
        PUBLIC: (0x8000, 0x0010),
        BOOT_KEY: (0x8000, 0x0010),
        VALIDATED: (0x1000 | PARENT, 0x0012),  # a public key that the key in PARENT validates
        PARENT: (0x8000, 0x0010),
    }
    more = {int(name[1:]): pair for name, pair in slots.items()}
    set_rules(element, dict.fromkeys(range(16), CLOSED) | known | more)
    element.execute(0x17, CONFIG_LOCK)


def set_rules(element: SecureElement, rules: dict[int, tuple[int, int]]) -> None:
    """Set SlotConfig and KeyConfig of slots."""
    for slot, (slot_config, key_config) in rules.items():
        element.memory.config[20 + 2 * slot : 22 + 2 * slot] = slot_config.to_bytes(2, "little")
        element.memory.config[96 + 2 * slot : 98 + 2 * slot] = key_config.to_bytes(2, "little")


def write_slot(element: SecureElement, slot: int, data: bytes) -> None:
    """Write the first bytes of a slot in blocks of 32 bytes."""
    for block in range(0, len(data), 32):
        element.execute(0x12, 0x82, slot << 3 | block // 32 << 8, data[block : block + 32].ljust(32, b"\0"))


def write_public(element: SecureElement, slot: int, public: bytes) -> None:
    """Write a public key: four bytes of padding before each half."""
    write_slot(element, slot, bytes(4) + public[:32] + bytes(4) + public[32:])
