"""How a maker provisions the ATECC608 of a device: the purpose of each slot, and the order of writing and locking."""

from __future__ import annotations

from dataclasses import dataclass

from blockota.errors import UsageError
from firmware_host.simulator.secure_element.element import SecureElement
from firmware_host.simulator.secure_element.memory import CONFIG_SIZE, KEY_CONFIG, SECURE_BOOT, SLOT_CONFIG, SLOT_SIZES
from firmware_host.simulator.secure_element.protocol import Opcode, crc16

DEVICE_KEY, MAC_KEY, BOOT_DIGEST, GATEWAY_KEY, IMAGE_KEY, AUTHORITY_KEY = 0, 5, 7, 9, 10, 11
ENTRY_COUNTER = 0
"""The counter that numbers the entries that a device signs off line; counter 1 is not used."""
SECURE_BOOT_CONFIG = 3 | BOOT_DIGEST << 8 | IMAGE_KEY << 12
"""SecureBootConfig: mode 3 keeps the digest of the proven image; the slots of the digest and of the image key."""
_NO_CHECKSUM, _BLOCK_OF, _CONFIG, _DATA = 0x80, 0x80, 0, 2
_LOCK_CONFIG, _LOCK_DATA, _LOCK_SLOT = 0, 1, 2
_POINT, _SECRET = 64, 32
_VALID = b"\x50"
"""The first byte of a public key that needs no further validation."""
_LOCK_WORD = 84
_WRITABLE_WORDS = [start for start in range(16, CONFIG_SIZE, 4) if start != _LOCK_WORD]
"""The offsets of the words that Write can write: the words after the serial number, without the locks."""


@dataclass(frozen=True)
class SlotPlan:
    """The rules of a slot.

    Attributes:
        slot_config: two bytes of SlotConfig, little endian.
        key_config: two bytes of KeyConfig, little endian.
        purpose: the purpose of the slot, and who can read, write and use the slot.
    """

    slot_config: int
    key_config: int
    purpose: str


UNUSED = SlotPlan(0x8080, 0x001C, "closed: neither read nor written after the data zone is locked")
PROFILE = {
    DEVICE_KEY: SlotPlan(
        0x8081, 0x0033, "the device's private P-256 key: made in the chip, never read or replaced, signs digests"
    ),
    MAC_KEY: SlotPlan(
        0x8080, 0x001C, "32 bytes for MACs over challenges, shared with the gateway; never read or written"
    ),
    BOOT_DIGEST: SlotPlan(0x8000, 0x001C, "the digest of the proven image: written by SecureBoot alone, read by all"),
    GATEWAY_KEY: SlotPlan(
        0x1000 | AUTHORITY_KEY,
        0x0012,
        "the gateway's public key: a new one can be written, and is valid after the authority key signed it",
    ),
    IMAGE_KEY: SlotPlan(0x8000, 0x0010, "the vendor's public key for images, checked by SecureBoot; never written"),
    AUTHORITY_KEY: SlotPlan(0x8000, 0x0010, "the city's public key that validates gateway keys; never written"),
}
"""The slots of a device. All others are `UNUSED`."""


@dataclass(frozen=True)
class ProvisioningKeys:
    """The keys that the maker writes into the chip.

    Attributes:
        gateway: X and Y of the gateway's public key, 64 bytes; `image` and `authority` have the same form.
        image: the public key of the vendor's image signatures.
        authority: the public key whose signatures validate gateway keys.
        mac: the secret MAC key of this device, 32 bytes.
    """

    gateway: bytes
    image: bytes
    authority: bytes
    mac: bytes


@dataclass(frozen=True)
class ProvisionedDevice:
    """The facts about a device that its maker registers.

    Attributes:
        serial: the chip's serial number, 9 bytes.
        public_key: X and Y of the device's public key, 64 bytes.
    """

    serial: bytes
    public_key: bytes


def provision(element: SecureElement, keys: ProvisioningKeys) -> ProvisionedDevice:
    """Configure, fill and lock a new chip; these steps cannot be undone.

    1. Write the configuration zone, and lock it with its checksum, so that the chip refuses the lock if a byte is
       wrong.
    2. Generate the device's private key in the chip.
    3. Write the public keys and the MAC key without encryption. The connection to the chip must therefore be trusted.
    4. Lock the data zone without a checksum, because the maker does not know the private key in the zone.
    5. Lock the slot of the device's key.
    6. Compare the device's public key with the public key of step 2.

    Returns:
        The serial number and public key for the registry of devices.

    Raises:
        UsageError: a key has a wrong length, or the chip is already locked. Nothing was written.
        ChipStatusError: the chip refused a step.
    """
    _check(element, keys)

    wanted = configuration(bytes(element.memory.config))  # (1)
    for start in _WRITABLE_WORDS:
        element.execute(Opcode.WRITE, _CONFIG, start >> 2, wanted[start : start + 4])
    element.execute(Opcode.LOCK, _LOCK_CONFIG, crc16(wanted))

    public = element.execute(Opcode.GENKEY, 0x04, DEVICE_KEY)  # (2)
    # (3) the keys that the host supplies
    for slot, key in ((GATEWAY_KEY, keys.gateway), (IMAGE_KEY, keys.image), (AUTHORITY_KEY, keys.authority)):
        head = _VALID if slot == GATEWAY_KEY else b"\0"
        _write_slot(element, slot, head.ljust(4, b"\0") + key[:32] + bytes(4) + key[32:])
    _write_slot(element, MAC_KEY, keys.mac)
    _write_slot(element, BOOT_DIGEST, bytes(32))

    element.execute(Opcode.LOCK, _NO_CHECKSUM | _LOCK_DATA)  # (4)
    element.execute(Opcode.LOCK, _LOCK_SLOT | DEVICE_KEY << 2)  # (5)
    # (6) the key that was registered is the key in the chip
    if element.execute(Opcode.GENKEY, 0, DEVICE_KEY) != public:
        raise UsageError("the secure element has lost its key", remedy="discard the chip, and use another chip")
    return ProvisionedDevice(element.memory.serial, public)


def configuration(current: bytes) -> bytes:
    """Return the configuration zone for a device, 128 bytes: the current zone with the rules of the profile."""
    wanted = bytearray(current)
    for slot in range(len(SLOT_SIZES)):
        plan = PROFILE.get(slot, UNUSED)
        wanted[SLOT_CONFIG + 2 * slot : SLOT_CONFIG + 2 * slot + 2] = plan.slot_config.to_bytes(2, "little")
        wanted[KEY_CONFIG + 2 * slot : KEY_CONFIG + 2 * slot + 2] = plan.key_config.to_bytes(2, "little")
    wanted[SECURE_BOOT : SECURE_BOOT + 2] = SECURE_BOOT_CONFIG.to_bytes(2, "little")
    return bytes(wanted)


def _check(element: SecureElement, keys: ProvisioningKeys) -> None:
    """Refuse wrong keys and a locked chip before anything is written."""
    lengths = {"gateway": _POINT, "image": _POINT, "authority": _POINT, "mac": _SECRET}
    for name, length in lengths.items():
        if len(getattr(keys, name)) != length:
            raise UsageError(
                f"the key {name!r} for the secure element has {len(getattr(keys, name))} bytes instead of {length}",
                remedy="give public keys as X and Y of a point of P-256, and the MAC key as 32 random bytes",
            )

    if element.memory.is_config_locked or element.memory.is_data_locked:
        raise UsageError(
            "the secure element is locked already, and its rules cannot be changed any more",
            remedy="use a new chip",
        )


def _write_slot(element: SecureElement, slot: int, content: bytes) -> None:
    """Write the beginning of a slot in blocks of 32 bytes."""
    for block, start in enumerate(range(0, len(content), 32)):
        data = content[start : start + 32].ljust(32, b"\0")
        element.execute(Opcode.WRITE, _BLOCK_OF | _DATA, slot << 3 | block << 8, data)
