"""The commands with ECC keys: GenKey, Sign, Verify and SecureBoot."""

from __future__ import annotations

from dataclasses import dataclass

from firmware_host.simulator.secure_element.core import (
    ORDER,
    VALIDATED,
    ChipCore,
    TempKey,
    is_signed,
    parse,
    point,
    require,
    sha256,
    signature_of,
)
from firmware_host.simulator.secure_element.memory import CHIP_OPTIONS, P256, SECURE_BOOT, SLOT_SIZES
from firmware_host.simulator.secure_element.protocol import ChipCommand, ChipStatus, ChipStatusError, Opcode

_DIGEST, _SIGNATURE, _POINT, _OTHER_DATA = 32, 64, 64, 19
_INVALIDATED = 0xA
_CREATE, _DIGEST_OF_PRIVATE, _DIGEST_OF_PUBLIC = 0x04, 0x08, 0x10
_STORED, _EXTERNAL, _VALIDATE, _INVALIDATE = 0, 2, 3, 7
_FULL, _FULL_STORE, _FULL_COPY = 5, 6, 7
_SIGNATURE_KEPT, _DIGEST_KEPT = 2, 3
"""Modes of SecureBootConfig; mode 1 keeps nothing, mode 0 switches the command off."""


def genkey(core: ChipCore, command: ChipCommand) -> bytes:
    """Generate a private key (mode 4), or use the private key in a slot (mode 0); return the public key.

    Bit 3 of the mode also puts a digest of the public key into TempKey. Mode 0x10 puts the digest of a stored public
    key into TempKey, and returns no data. Keys in TempKey and MACs of public keys are not modelled.
    """
    mode, slot = command.mode, command.param2
    parse(mode in {0, _CREATE, _DIGEST_OF_PRIVATE, _CREATE | _DIGEST_OF_PRIVATE, _DIGEST_OF_PUBLIC})
    parse(len(command.data) == (3 if mode == _DIGEST_OF_PUBLIC else 0) and slot < len(SLOT_SIZES))
    require(core.memory.is_config_locked)
    if mode == _DIGEST_OF_PUBLIC:
        _put_digest(core, slot, core.public_key(slot, validated=False), command.data)
        return b""

    rules = core.memory.rules(slot)
    require(rules.is_private and rules.key_type == P256)
    if mode & _CREATE:
        require(not core.memory.is_slot_locked(slot) and (rules.generates or not core.memory.is_data_locked))
        # The number has 64 bits more than the order, so that the remainder is almost evenly distributed.
        number = int.from_bytes(core.random(40)) % (ORDER - 1) + 1
        core.memory.slots[slot][:] = bytes(4) + number.to_bytes(32)
    else:
        require(rules.pub_info)
    public = point(core.private_key(slot).public_key())
    if mode & _DIGEST_OF_PRIVATE:
        _put_digest(core, slot, public, bytes((mode,)) + slot.to_bytes(2, "little"))
    return public


def _put_digest(core: ChipCore, slot: int, public: bytes, parameters: bytes) -> None:
    """Replace the value of TempKey by the digest of this value and a public key."""
    temp_key, serial = core.take_temp_key(), core.memory.serial
    head = bytes((Opcode.GENKEY,)) + parameters + serial[8:9] + serial[0:2] + bytes(25)
    value = sha256(temp_key.value[:32], head, public)
    core.registers.temp_key = TempKey(value, temp_key.is_input, slot, has_genkey=True)


def sign(core: ChipCore, command: ChipCommand) -> bytes:
    """Sign an external digest if bit 7 of the mode is set, else a statement about the key whose digest TempKey has."""
    parse(not command.data and not command.mode & 0x1E)
    slot = command.param2
    rules = core.usable(slot)
    key = core.private_key(slot)

    if command.mode & 0x80:
        parse(not command.mode & 0x01)
        message = core.take_message(command.mode)
        require(bool(rules.read_key & 1))
    else:
        temp_key = core.take_temp_key()
        require(temp_key.has_genkey and bool(rules.read_key & 2))
        message = sha256(temp_key.value[:32], _statement(core, command, temp_key))
    return signature_of(key, message)


def _statement(core: ChipCore, command: ChipCommand, temp_key: TempKey) -> bytes:
    """Return the 23 bytes that Sign(Internal) signs about the key from which TempKey was computed."""
    rules, serial = core.memory.rules(temp_key.slot), core.memory.serial
    selected = serial if command.mode & 0x40 else bytes(len(serial))
    return b"".join(
        (
            bytes((Opcode.SIGN, command.mode)),
            command.param2.to_bytes(2, "little"),
            rules.slot_config.to_bytes(2, "little"),
            rules.key_config.to_bytes(2, "little"),
            bytes((temp_key.flags, 0, 0, serial[8])),
            selected[4:8],
            serial[0:2],
            selected[2:4],
            bytes((not core.memory.is_slot_locked(temp_key.slot), command.mode & 1, 0)),
        )
    )


def verify(core: ChipCore, command: ChipCommand) -> bytes:
    """Verify a signature, or change the validity of a stored public key.

    Mode 0 verifies with a public key in a slot, mode 2 with a public key in the command. Mode 3 validates and mode 7
    invalidates a stored public key. Bit 5 of the mode selects the message digest buffer. Answers with a MAC are not
    modelled.
    """
    kind = command.mode & 7
    sizes = {_STORED: 0, _EXTERNAL: _POINT, _VALIDATE: _OTHER_DATA, _INVALIDATE: _OTHER_DATA}
    parse(kind in sizes and not command.mode & 0xD8 and len(command.data) == _SIGNATURE + sizes[kind])
    signature, rest = command.data[:_SIGNATURE], command.data[_SIGNATURE:]
    require(core.memory.is_config_locked)

    if kind in {_VALIDATE, _INVALIDATE}:
        parse(not command.mode & 0x20)
        _change_validity(core, command, signature, rest)
        return b""

    if kind == _EXTERNAL:
        parse(command.param2 == P256)
        public = rest
    else:
        core.usable(command.param2)
        public = core.public_key(command.param2)
    _match(is_signed(public, core.take_message(command.mode), signature))
    return b""


def _change_validity(core: ChipCore, command: ChipCommand, signature: bytes, other: bytes) -> None:
    """Validate or invalidate the public key in a slot, if the parent key (ReadKey) has signed this change.

    The signature covers the same bytes as a signature by Sign(Internal) of another chip. `other` has the parts of these
    bytes that this chip does not know. The penultimate byte of `other`, and bit 0 of its first byte, are 1 for an
    invalidation and 0 for a validation.
    """
    slot, invalidates = command.param2, command.mode & 7 == _INVALIDATE
    rules, serial, temp_key = core.usable(slot), core.memory.serial, core.take_temp_key()
    core.public_key(slot, validated=False)
    require(rules.pub_info and temp_key.has_genkey and temp_key.slot == slot and not core.memory.is_slot_locked(slot))
    require(bool(other[0] & 1) == bool(other[-2]) == invalidates)
    parts = bytes((Opcode.SIGN,)), other[:10], serial[8:9], other[10:14], serial[0:2], other[14:]
    _match(is_signed(core.public_key(rules.read_key), sha256(temp_key.value[:32], *parts), signature))
    validity = _INVALIDATED if invalidates else VALIDATED
    core.memory.slots[slot][0] = core.memory.slots[slot][0] & 0x0F | validity << 4


@dataclass(frozen=True)
class _BootRules:
    """The fields of SecureBootConfig; `kept` is the slot of the stored value, and `key` that of the public key."""

    mode: int
    sets_latch: bool
    needs_nonce: bool
    kept: int
    key: int

    @classmethod
    def decode(cls, word: int) -> _BootRules:
        """Decode the 16 bits of SecureBootConfig."""
        return cls(word & 3, bool(word & 8), bool(word & 0x10), word >> 8 & 0xF, word >> 12)


def secureboot(core: ChipCore, command: ChipCommand) -> bytes:
    """Check the digest of a firmware image.

    Mode 5 checks a signature in the command, mode 6 checks a stored value, and mode 7 checks a signature and then
    stores a value. With bit 6 of the mode, further calls are refused until the power is switched off. With bit 7, the
    digest is encrypted and the answer is a MAC; encryption and MAC use the IO protection key and a nonce in TempKey.
    """
    kind = command.mode & 7
    parse(kind in {_FULL, _FULL_STORE, _FULL_COPY} and not command.mode & 0x38 and command.param2 == 0)
    parse(len(command.data) == _DIGEST + (0 if kind == _FULL_STORE else _SIGNATURE))
    rules = _BootRules.decode(core.memory.word(SECURE_BOOT))
    require(core.memory.is_data_locked and rules.mode != 0 and not core.is_boot_prohibited)
    require(kind == _FULL or rules.mode in {_SIGNATURE_KEPT, _DIGEST_KEPT})
    digest, signature = command.data[:_DIGEST], command.data[_DIGEST:]
    session = _session_key(core) if command.mode & 0x80 else b""
    require(bool(session) or not rules.needs_nonce)
    if session:
        digest = bytes(a ^ b for a, b in zip(digest, session, strict=True))

    signature = _judge_boot(core, rules, digest, signature)
    if kind == _FULL_COPY:
        kept = core.memory.slots[rules.kept]
        value = digest if rules.mode == _DIGEST_KEPT else signature
        require(not core.memory.is_slot_locked(rules.kept) and len(kept) >= len(value))
        kept[: len(value)] = value
    core.is_latched = core.is_latched or rules.sets_latch
    core.is_boot_prohibited = bool(command.mode & 0x40)
    parameters = bytes((Opcode.SECUREBOOT, command.mode, 0, 0))
    return sha256(session, digest, signature, parameters) if session else b""


def _judge_boot(core: ChipCore, rules: _BootRules, digest: bytes, signature: bytes) -> bytes:
    """Check a digest, and return the signature that proved it; empty if the stored digest proved it.

    A wrong digest raises a mismatch.
    """
    kept = bytes(core.memory.slots[rules.kept])
    if not signature and rules.mode == _DIGEST_KEPT:
        _match(kept[:_DIGEST] == digest)
        return b""
    signature = signature or kept[:_SIGNATURE]
    _match(is_signed(core.public_key(rules.key), digest, signature))
    return signature


def _session_key(core: ChipCore) -> bytes:
    """Return the digest of the IO protection key and the nonce in TempKey."""
    options = core.memory.word(CHIP_OPTIONS)
    temp_key = core.take_temp_key()
    require(bool(options & 2) and not temp_key.is_input)
    return sha256(bytes(core.memory.slots[options >> 12][:32]), temp_key.value[:32])


def _match(condition: bool) -> None:  # noqa: FBT001
    """Raise a mismatch if the result of a comparison is false."""
    if not condition:
        raise ChipStatusError(ChipStatus.MISMATCH)
