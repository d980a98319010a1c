"""The state that all commands of the ATECC608 share: memory, registers that a sleep clears, and random numbers."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils

from firmware_host.simulator.secure_element.memory import P256, SLOT_SIZES, ElementMemory, SlotRules
from firmware_host.simulator.secure_element.protocol import ChipStatus, ChipStatusError

PUBLIC_SLOT, VALIDATED = 72, 5
"""The least size of a slot for a public key, and the upper half of its first byte once Verify validated the key."""
_CURVE = ec.SECP256R1()
_PREHASHED = utils.Prehashed(hashes.SHA256())
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
"""The order of the group of P-256 (FIPS 186-4, D.1.2.3)."""


@dataclass(frozen=True)
class TempKey:
    """The register TempKey while it is valid.

    Attributes:
        value: 32 or 64 bytes.
        is_input: the flag SourceFlag, which is set if the value came from the host and not from the chip's random
            numbers.
        slot: the slot of the key from which the value was computed.
        has_genkey: the flag GenKeyData, which is set if GenKey computed the value from the public key of `slot`.
    """

    value: bytes
    is_input: bool
    slot: int = 0
    has_genkey: bool = False

    @property
    def flags(self) -> int:
        """Return the flags in the encoding of the commands Sign(Internal) and Info."""
        return self.slot | self.is_input << 4 | self.has_genkey << 6


@dataclass
class Registers:
    """The registers that keep their contents in idle mode, and lose their contents in sleep mode.

    Attributes:
        temp_key: TempKey, or None while it is invalid.
        digest: the message digest buffer, 32 or 64 bytes, or None.
        authorized: the slot of the key with which the last CheckMac succeeded, or None.
        sha: the running SHA-256 of the command SHA, or None.
        hmac_key: the padded key of a running HMAC, or None.
    """

    temp_key: TempKey | None = None
    digest: bytes | None = None
    authorized: int | None = None
    sha: bytearray | None = None
    hmac_key: bytes | None = None


@dataclass
class ChipCore:
    """The part of the chip that executes commands.

    Attributes:
        memory: the chip's permanent memory.
        random: returns a number of random bytes.
        registers: the registers that a sleep erases.
        is_latched: the persistent latch, which only a loss of power clears.
        is_boot_prohibited: whether SecureBoot is refused until a loss of power.
    """

    memory: ElementMemory
    random: Callable[[int], bytes]
    registers: Registers = field(default_factory=Registers)
    is_latched: bool = False
    is_boot_prohibited: bool = False

    def take_temp_key(self) -> TempKey:
        """Return TempKey and invalidate it, because each TempKey can be used only once."""
        temp_key, self.registers.temp_key = self.registers.temp_key, None
        if temp_key is None:
            raise ChipStatusError(ChipStatus.EXECUTION_ERROR)
        return temp_key

    def take_message(self, mode: int) -> bytes:
        """Return the message for Sign and Verify: the digest buffer if bit 5 of the mode is set, else TempKey."""
        if not mode & 0x20:
            temp_key = self.take_temp_key()
            require(temp_key.is_input)
            return temp_key.value[:32]
        digest, self.registers.digest = self.registers.digest, None
        if digest is None:
            raise ChipStatusError(ChipStatus.EXECUTION_ERROR)
        return digest[:32]

    def usable(self, slot: int) -> SlotRules:
        """Return the rules of a slot, after a check that a command may use the slot's key now.

        Raises:
            ChipStatusError: the slot does not exist (parse error), or the slot's rules do not allow the use now
                (execution error).
        """
        parse(slot < len(SLOT_SIZES))
        require(self.memory.is_data_locked)
        rules = self.memory.rules(slot)
        require(not rules.needs_latch or self.is_latched)
        require(rules.authorizing_slot in {None, self.registers.authorized})
        temp_key = self.registers.temp_key
        require(not rules.requires_random or (temp_key is not None and not temp_key.is_input))
        return rules

    def private_key(self, slot: int) -> ec.EllipticCurvePrivateKey:
        """Return the private key in a slot: four bytes of padding, then the number.

        Raises:
            ChipStatusError: the slot has no private key (execution error), or its private key is not valid (ECC fault).
        """
        rules = self.memory.rules(slot)
        require(rules.is_private and rules.key_type == P256)
        number = int.from_bytes(self.memory.slots[slot][4:36])
        if not 0 < number < ORDER:
            raise ChipStatusError(ChipStatus.ECC_FAULT)
        return ec.derive_private_key(number, _CURVE)

    def public_key(self, slot: int, *, validated: bool = True) -> bytes:
        """Return X and Y of the public key in a slot.

        Raises:
            ChipStatusError: the slot has no public key, or the key must be validated first.
        """
        rules, content = self.memory.rules(slot), self.memory.slots[slot]
        require(not rules.is_private and rules.key_type == P256 and len(content) >= PUBLIC_SLOT)
        require(not validated or not rules.pub_info or content[0] >> 4 == VALIDATED)
        return bytes(content[4:36] + content[40:72])


def require(condition: bool) -> None:  # noqa: FBT001
    """If a condition is false, raise an execution error: the chip cannot execute the command now."""
    if not condition:
        raise ChipStatusError(ChipStatus.EXECUTION_ERROR)


def parse(condition: bool) -> None:  # noqa: FBT001
    """If a condition is false, raise a parse error: a length or parameter of the command is wrong."""
    if not condition:
        raise ChipStatusError(ChipStatus.PARSE_ERROR)


def sha256(*parts: bytes) -> bytes:
    """Return the SHA-256 digest of the concatenated parts."""
    return hashlib.sha256(b"".join(parts)).digest()


def point(key: ec.EllipticCurvePublicKey) -> bytes:
    """Return X and Y of a public key, 64 bytes."""
    numbers = key.public_numbers()
    return numbers.x.to_bytes(32) + numbers.y.to_bytes(32)


def signature_of(key: ec.EllipticCurvePrivateKey, digest: bytes) -> bytes:
    """Return R and S of a deterministic signature (RFC 6979), 64 bytes, so that a run can be repeated."""
    r, s = utils.decode_dss_signature(key.sign(digest, ec.ECDSA(_PREHASHED, deterministic_signing=True)))
    return r.to_bytes(32) + s.to_bytes(32)


def is_signed(public: bytes, digest: bytes, signature: bytes) -> bool:
    """Return whether a signature of a digest is valid.

    Raises:
        ChipStatusError: the public key is not a point of the curve.
    """
    try:
        numbers = ec.EllipticCurvePublicNumbers(int.from_bytes(public[:32]), int.from_bytes(public[32:]), _CURVE)
        key = numbers.public_key()
    except ValueError:
        raise ChipStatusError(ChipStatus.ECC_FAULT) from None

    encoded = utils.encode_dss_signature(int.from_bytes(signature[:32]), int.from_bytes(signature[32:]))
    try:
        key.verify(encoded, digest, ec.ECDSA(_PREHASHED))
    except InvalidSignature:
        return False
    return True
