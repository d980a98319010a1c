"""A stand-in for a board with BlockOTA's agent and a secure element: the model of the ATECC608, as its maker locks it.

All secrets are in the model, which makes all signatures, MACs and random numbers, and verifies those of the gateway.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, derive_private_key

from firmware_host.simulator.secure_element import ChipStatusError, ElementMemory, SecureElement
from firmware_host.simulator.secure_element.protocol import Opcode
from firmware_host.simulator.secure_element.provisioning import (
    DEVICE_KEY,
    ENTRY_COUNTER,
    GATEWAY_KEY,
    MAC_KEY,
    ProvisioningKeys,
    provision,
)
from tests.support.agent_device import AgentDevice, EventRing

_TO_DIGEST, _EXTERNAL_DIGEST, _STORED_DIGEST, _WITH_SERIAL, _INCREMENT = 0x43, 0xA0, 0x20, 0x40, 1
MAC_SECRET = hashlib.sha256(b"MAC key of the stand-in").digest()
GATEWAY_SECRET = 0x6A7E


def public_key(secret: int) -> bytes:
    """Return x and y of the public key of a private P-256 key."""
    numbers = derive_private_key(secret, SECP256R1()).public_key().public_numbers()
    return numbers.x.to_bytes(32) + numbers.y.to_bytes(32)


class DeviceChip:
    """A provisioned secure element.

    Args:
        serial: six bytes of the serial number, from which the model draws its keys.

    Attributes:
        serial: the serial number, 9 bytes.
        public_key: x and y of the device's key, 64 bytes.
    """

    def __init__(self, serial: bytes = b"device") -> None:
        self._element = SecureElement(ElementMemory(serial), clock=lambda: 0.0)
        other = public_key(0xB0B)
        keys = ProvisioningKeys(public_key(GATEWAY_SECRET), other, other, MAC_SECRET)
        found = provision(self._element, keys)
        self.serial, self.public_key = found.serial, found.public_key

    def random(self) -> bytes:
        """Return 32 random bytes."""
        return self._element.execute(Opcode.RANDOM)

    def count(self) -> int:
        """Raise the counter of the entries, and return it."""
        return int.from_bytes(self._element.execute(Opcode.COUNTER, _INCREMENT, ENTRY_COUNTER), "little")

    def sign(self, content: bytes) -> bytes:
        """Sign the SHA-256 of a content with the device's key."""
        self._element.execute(Opcode.NONCE, _TO_DIGEST, 0, hashlib.sha256(content).digest())
        return self._element.execute(Opcode.SIGN, _EXTERNAL_DIGEST, DEVICE_KEY)

    def is_signed_by_gateway(self, content: bytes, signature: bytes) -> bool:
        """Whether the gateway's key signed the SHA-256 of a content."""
        self._element.execute(Opcode.NONCE, _TO_DIGEST, 0, hashlib.sha256(content).digest())
        try:
            self._element.execute(Opcode.VERIFY, _STORED_DIGEST, GATEWAY_KEY, signature)
        except ChipStatusError:
            return False
        return True

    def mac(self, challenge: bytes) -> bytes:
        """Return the MAC of a challenge of 32 bytes."""
        return self._element.execute(Opcode.MAC, _WITH_SERIAL, MAC_KEY, challenge)


@dataclass
class ChipFlaws:
    """What is wrong with the board.

    Attributes:
        is_silent: the secure element does not sign.
        signs_other: the events and sessions are signed by another chip.
    """

    is_silent: bool = False
    signs_other: bool = False


class ChipDevice(AgentDevice):
    """A board whose agent asks a secure element.

    Attributes:
        chip: the secure element.
        flaws: what is wrong with the board.
    """

    def __init__(self, port: Path, image: bytes, **options: Any) -> None:
        self.chip, self._other_chip = DeviceChip(), DeviceChip(b"other!")
        self.flaws = ChipFlaws()
        super().__init__(port, image, **options)

    def _ring(self) -> EventRing:
        return EventRing(count=self.chip.count)

    def sign(self, content: bytes) -> bytes:
        """Sign a content, as far as the board's flaws allow."""
        return (self._other_chip if self.flaws.signs_other else self.chip).sign(content)

    def _listed_events(self) -> list[dict[str, Any]]:
        events = super()._listed_events()
        if self.flaws.is_silent:
            return events
        return [{**event, "signature": self.sign(signed_bytes(event))} for event in events]


def signed_bytes(event: dict[str, Any]) -> bytes:
    """Return the bytes of an event that the board signs."""
    digest: bytes = event["digest"]
    return b"blockota-event" + struct.pack(">IBB", event["number"], event["kind"], event["detail"]) + digest
