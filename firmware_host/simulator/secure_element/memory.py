"""The permanent memory of an ATECC608: the configuration, data and OTP zones, the locks and the two counters."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from typing import Self

from blockota.errors import UsageError

CONFIG_SIZE, OTP_SIZE = 128, 64
SLOT_SIZES = (*(36,) * 8, 416, *(72,) * 7)
"""The sizes of the 16 slots of the data zone, in bytes."""
COUNTER_MAX = 2_097_151
UNLOCKED = 0x55
LOCK_VALUE, LOCK_CONFIG, SLOT_LOCKED = 86, 87, 88
"""Offsets in the configuration zone: the locks of the data and of the configuration zone, and the slots' lock bits."""
CHIP_MODE, SECURE_BOOT, CHIP_OPTIONS, KEY_CONFIG, SLOT_CONFIG = 19, 70, 90, 96, 20
USER_EXTRA, I2C_ADDRESS, COUNT_MATCH, USE_LOCK, VOLATILE_KEYS, COUNTERS = 84, 16, 18, 68, 69, 52
_STARTS = (0, *accumulate(SLOT_SIZES))
IMAGE_SIZE = CONFIG_SIZE + OTP_SIZE + sum(SLOT_SIZES) + 8
P256, OTHER_DATA = 4, 7
"""Values of KeyType."""
_DELIVERED = bytes.fromhex(
    "0123000000006002000000 00ee010100 c0000000"
    "8320 8720 8f20 c48f 8f8f 8f8f 9f8f af8f 0000 0000 0000 0000 0000 0000 0000 af8f"
    "ffffffff00000000 ffffffff00000000 0000 0000 000000 000000000000000000 0000 5555 ffff 0000 00000000"
    "3300 3300 3300 1c00 1c00 1c00 1c00 1c00 3c00 3c00 3c00 3c00 3c00 3c00 3c00 1c00"
)
"""The configuration zone of a new chip without its serial number. SlotConfig and KeyConfig are assumed."""


@dataclass(frozen=True)
class SlotRules:
    """The rules of one slot, from SlotConfig and KeyConfig.

    Attributes:
        slot_config: the two bytes of SlotConfig, little endian.
        key_config: the two bytes of KeyConfig, little endian.
    """

    slot_config: int
    key_config: int

    @property
    def is_private(self) -> bool:
        """Return whether the slot has an ECC private key."""
        return bool(self.key_config & 1)

    @property
    def pub_info(self) -> bool:
        """Return the flag PubInfo.

        For a private key, the flag allows GenKey to output the public key. A public key with this flag must be
        validated before it is used.
        """
        return bool(self.key_config & 2)

    @property
    def key_type(self) -> int:
        """Return KeyType: 4 for P-256, 7 for other data."""
        return self.key_config >> 2 & 7

    @property
    def is_lockable(self) -> bool:
        """Return whether the command Lock can lock the slot."""
        return bool(self.key_config & 0x20)

    @property
    def requires_random(self) -> bool:
        """Return whether commands with this key need a random nonce."""
        return bool(self.key_config & 0x40)

    @property
    def authorizing_slot(self) -> int | None:
        """Return the slot whose key CheckMac must prove before this slot's key is used; None if no slot is required."""
        return self.key_config >> 8 & 0xF if self.key_config & 0x80 else None

    @property
    def needs_latch(self) -> bool:
        """Return whether the key works only while the persistent latch is set."""
        return bool(self.key_config & 0x1000)

    @property
    def read_key(self) -> int:
        """Return ReadKey: for a private key, the permissions of Sign; otherwise, the slot of a parent key."""
        return self.slot_config & 0xF

    @property
    def forbids_mac(self) -> bool:
        """Return whether the command MAC may not use the key."""
        return bool(self.slot_config & 0x10)

    @property
    def is_limited(self) -> bool:
        """Return whether the use of the key is limited by a counter, which the model does not have."""
        return bool(self.slot_config & 0x20) and not self.is_private

    @property
    def is_secret(self) -> bool:
        """Return whether the slot is secret: it cannot be read in the clear, and is written in whole blocks."""
        return bool(self.slot_config & 0x80)

    @property
    def is_clear(self) -> bool:
        """Return whether the slot can be read in the clear."""
        return not self.is_private and not self.slot_config & 0xC0

    @property
    def write_mode(self) -> int:
        """Return WriteConfig: 0 and 1 allow writes without encryption, 2 to 15 forbid such writes.

        With 1, a write also invalidates a public key.
        """
        return self.slot_config >> 12

    @property
    def generates(self) -> bool:
        """Return whether GenKey can make a new private key after the data zone was locked."""
        return bool(self.slot_config & 0x2000)


class ElementMemory:
    """The memory of one chip; all sizes are in bytes.

    Attributes:
        config: the configuration zone, 128 bytes.
        otp: the OTP zone, 64 bytes.
        slots: the 16 slots of the data zone.
        counters: the values of the two counters.
    """

    def __init__(self, serial: bytes = b"") -> None:
        self.config = bytearray(_DELIVERED)
        # The serial number lies in two parts: bytes 0 to 3, and bytes 8 to 12.
        self.config[0:4] = b"\x01\x23" + serial[:2].ljust(2, b"\0")
        self.config[8:12] = serial[2:6].ljust(4, b"\0")
        self.otp = bytearray(b"\xff" * OTP_SIZE)
        self.slots = [bytearray(b"\xff" * size) for size in SLOT_SIZES]
        self.counters = [0, 0]

    @property
    def serial(self) -> bytes:
        """Return the serial number, 9 bytes."""
        return bytes(self.config[0:4] + self.config[8:13])

    @property
    def is_config_locked(self) -> bool:
        """Return whether the configuration zone is locked."""
        return self.config[LOCK_CONFIG] != UNLOCKED

    @property
    def is_data_locked(self) -> bool:
        """Return whether the data and OTP zones are locked."""
        return self.config[LOCK_VALUE] != UNLOCKED

    def is_slot_locked(self, slot: int) -> bool:
        """Return whether a slot has its own lock set."""
        return not self.word(SLOT_LOCKED) >> slot & 1

    def word(self, offset: int) -> int:
        """Return two bytes of the configuration zone, little endian."""
        return int.from_bytes(self.config[offset : offset + 2], "little")

    def rules(self, slot: int) -> SlotRules:
        """Return the rules of a slot."""
        return SlotRules(self.word(SLOT_CONFIG + 2 * slot), self.word(KEY_CONFIG + 2 * slot))

    def image(self) -> bytes:
        """Return all contents as one image of 1,408 bytes, from which `from_image` restores the memory."""
        counters = b"".join(value.to_bytes(4, "little") for value in self.counters)
        return bytes(self.config + self.otp + b"".join(self.slots)) + counters

    def tear(self, before: bytes, share: float) -> None:
        """Undo some of a command's changes to the memory, to simulate a loss of power during the command.

        Only slots and the OTP zone can be written in part: locks, counters and rules change in one step.

        Args:
            before: the result of `image` before the command.
            share: the fraction of the changed bytes that keep their new value, from 0 (no byte) to 1 (all bytes).
        """
        after = self.image()
        if share >= 1 or before == after:
            return
        slots = range(CONFIG_SIZE, IMAGE_SIZE - 8)  # the last 8 bytes are the counters
        changed = [at for at in slots if before[at] != after[at]]
        mixed = bytearray(before)
        for at in changed[: round(len(changed) * share)]:
            mixed[at] = after[at]
        self._fill(mixed)

    @classmethod
    def from_image(cls, image: bytes) -> Self:
        """Return the memory with the contents of an image.

        Raises:
            UsageError: the image does not have 1,408 bytes, or has a counter above the maximum.
        """
        if len(image) != IMAGE_SIZE:
            raise UsageError(
                f"the image of the secure element has {len(image)} bytes instead of {IMAGE_SIZE}",
                remedy="use a file that the model saved",
            )

        memory = cls()
        memory._fill(image)
        if max(memory.counters) > COUNTER_MAX:
            raise UsageError(
                f"a counter of the secure element is above {COUNTER_MAX}", remedy="use a file that the model saved"
            )
        return memory

    def _fill(self, image: bytes | bytearray) -> None:
        """Replace all contents by the contents of an image."""
        self.config[:] = image[:CONFIG_SIZE]
        self.otp[:] = image[CONFIG_SIZE : CONFIG_SIZE + OTP_SIZE]
        data = image[CONFIG_SIZE + OTP_SIZE : -8]
        for slot, size in enumerate(SLOT_SIZES):
            self.slots[slot][:] = data[_STARTS[slot] : _STARTS[slot] + size]
        self.counters = [int.from_bytes(image[at : at + 4], "little") for at in (IMAGE_SIZE - 8, IMAGE_SIZE - 4)]
