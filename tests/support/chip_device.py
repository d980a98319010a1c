"""A simulated board with BlockOTA's agent and a simulated secure element (ATECC608) that its maker has locked.

The chip model has all secrets; it makes signatures, MACs and random numbers, and verifies the gateway's signatures.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass, field
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
from tests.support.smp_device import BAD_STATE, INVALID, only
from tests.support.smp_face import GATEWAY_SECRET

ACCESS_DENIED = 11
_TO_DIGEST, _EXTERNAL_DIGEST, _STORED_DIGEST, _WITH_SERIAL, _INCREMENT = 0x43, 0xA0, 0x20, 0x40, 1
MAC_SECRET = hashlib.sha256(b"MAC key of the stand-in").digest()


def public_key(secret: int) -> bytes:
    """Return x and y of the public key of a private P-256 key."""
    numbers = derive_private_key(secret, SECP256R1()).public_key().public_numbers()
    return numbers.x.to_bytes(32) + numbers.y.to_bytes(32)


class DeviceChip:
    """A provisioned secure element.

    Args:
        serial: six bytes of the serial number; the keys of the model depend on these bytes.

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
        """Increase the counter of the events, and return its value."""
        return int.from_bytes(self._element.execute(Opcode.COUNTER, _INCREMENT, ENTRY_COUNTER), "little")

    def sign(self, content: bytes) -> bytes:
        """Sign the SHA-256 digest of a content with the device's key."""
        self._element.execute(Opcode.NONCE, _TO_DIGEST, 0, hashlib.sha256(content).digest())
        return self._element.execute(Opcode.SIGN, _EXTERNAL_DIGEST, DEVICE_KEY)

    def is_signed_by_gateway(self, content: bytes, signature: bytes) -> bool:
        """Whether the gateway's key signed the SHA-256 digest of a content."""
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
        is_silent: whether the secure element does not sign.
        signs_other: whether another chip signs the events and sessions.
        macs_other: whether another chip makes the MACs.
        replayed: the response of an earlier session, returned for every later session; empty for none.
        restarts_at: the upload offset at which the board restarts and loses its offer; 0 for never.
    """

    is_silent: bool = False
    signs_other: bool = False
    macs_other: bool = False
    replayed: dict[str, Any] = field(default_factory=dict)
    restarts_at: int = 0


class ChipAgentDevice(AgentDevice):
    """A board whose agent uses a secure element.

    Attributes:
        chip: the secure element.
        flaws: the faults of the board.
        sessions: the number of opened sessions.
        opened: the digests of the images that the gateway offered, in order.
    """

    def __init__(self, port: Path, image: bytes, **options: Any) -> None:
        self.chip, self._other_chip = DeviceChip(), DeviceChip(b"other!")
        self.flaws = ChipFlaws()
        self.sessions = 0
        self.opened: list[bytes] = []
        self._session: tuple[bytes, bytes] | None = None
        self._offer: bytes | None = None
        super().__init__(port, image, **options)

    def _ring(self) -> EventRing:
        return EventRing(count=self.chip.count)

    def sign(self, content: bytes) -> bytes:
        """Sign a content, with the other chip if the flaws require it."""
        return (self._other_chip if self.flaws.signs_other else self.chip).sign(content)

    def _listed_events(self) -> list[dict[str, Any]]:
        events = super()._listed_events()
        if self.flaws.is_silent:
            return events
        return [{**event, "signature": self.sign(signed_bytes(event))} for event in events]

    def start(self) -> None:
        """Start the board; its session and its offer are lost."""
        self._session = self._offer = None
        super().start()

    def _handle(self, group: int, command: int, operation: int, body: dict[str, Any]) -> dict[str, Any] | None:
        match group, command, operation:
            case (64, 4, 2):
                return self.open_session(only(body, {"nonce": bytes, "id": bytes, "time": int}))
            case (64, 5, 2):
                return self._open_offer(only(body, {"digest": bytes, "signature": bytes}))
            case (64, 1, 2):
                self._require_offer()
        return super()._handle(group, command, operation, body)

    def _hash_pages(self, body: dict[str, Any]) -> dict[str, Any]:
        answer = super()._hash_pages(body)
        if self.flaws.is_silent:
            return answer
        return {**answer, "mac": (self._other_chip if self.flaws.macs_other else self.chip).mac(answer["digest"])}

    def _identity(self) -> dict[str, Any]:
        return {**super()._identity(), "proof": "integrity only" if self.flaws.is_silent else "authenticated"}

    def open_session(self, body: dict[str, Any]) -> dict[str, Any]:
        """Answer the request for a session."""
        sizes = len(body["nonce"]), len(body["id"])
        if self.flaws.is_silent or sizes != (32, 16) or not 0 <= body["time"] < 1 << 32:
            raise ValueError(INVALID)
        self.sessions += 1
        if self.flaws.replayed:
            return self.flaws.replayed
        nonce = self.chip.random()
        signed = b"blockota-session" + body["nonce"] + body["id"] + body["time"].to_bytes(8) + nonce
        self._session = nonce, body["id"]
        return {"nonce": nonce, "signature": self.sign(signed), "serial": self.chip.serial}

    def _open_offer(self, body: dict[str, Any]) -> dict[str, Any]:
        """Verify the gateway's signature of an offer. A session is valid for one offer only."""
        if self._session is None:
            raise ValueError(BAD_STATE)
        (nonce, session), self._session = self._session, None
        signed = b"blockota-offer" + nonce + session + body["digest"]
        if len(body["digest"]) != 32 or len(body["signature"]) != 64:
            raise ValueError(INVALID)
        if not self.chip.is_signed_by_gateway(signed, body["signature"]):
            raise ValueError(ACCESS_DENIED)
        self._offer = body["digest"]
        self.opened.append(self._offer)
        return {}

    def _require_offer(self) -> None:
        if self._offer is None and not self.flaws.is_silent:
            raise ValueError(ACCESS_DENIED)

    def _write(self, body: dict[str, Any]) -> dict[str, Any] | None:
        if 0 < self.flaws.restarts_at <= body["off"]:
            self.flaws.restarts_at = 0
            self.start()
        self._require_offer()
        return super()._write(body)

    def _mark(self, body: dict[str, Any]) -> dict[str, Any]:
        if not body.get("confirm"):
            self._require_offer()
            if body.get("hash") != self._offer and not self.flaws.is_silent:
                raise ValueError(ACCESS_DENIED)
        return super()._mark(body)


def signed_bytes(event: dict[str, Any]) -> bytes:
    """Return the bytes of an event that the board signs."""
    digest: bytes = event["digest"]
    return b"blockota-event" + struct.pack(">IBB", event["number"], event["kind"], event["detail"]) + digest
