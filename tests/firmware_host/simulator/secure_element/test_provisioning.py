"""A chip that is provisioned by the maker's procedure supports exactly what a device needs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from blockota.errors import UsageError
from firmware_host.simulator.secure_element import ChipStatusError, ElementMemory, SecureElement
from firmware_host.simulator.secure_element.provisioning import (
    AUTHORITY_KEY,
    BOOT_DIGEST,
    DEVICE_KEY,
    GATEWAY_KEY,
    IMAGE_KEY,
    MAC_KEY,
    ProvisionedDevice,
    ProvisioningKeys,
    provision,
)
from tests.firmware_host.simulator.secure_element.bench import (
    FORBIDDEN,
    MISMATCH,
    SERIAL,
    Bench,
    pair,
    refused,
    sha256,
    signed,
    verifies,
    write_slot,
    xy,
)

GATEWAY, IMAGE, AUTHORITY = pair(41), pair(42), pair(43)
SECRET = bytes(range(32))
KEYS = ProvisioningKeys(xy(GATEWAY.public_key()), xy(IMAGE.public_key()), xy(AUTHORITY.public_key()), SECRET)
DIGEST = sha256(b"image")


@pytest.fixture
def made() -> tuple[SecureElement, ProvisionedDevice]:
    """Return a provisioned element, and the data that its maker registers."""
    element = Bench().element
    return element, provision(element, KEYS)


def test_the_four_duties(made: tuple[SecureElement, ProvisionedDevice]) -> None:
    """The chip signs, verifies signatures of gateway and image, stores a digest, answers a challenge, and counts."""
    element, device = made
    assert device.serial == SERIAL
    element.execute(0x16, 0x43, 0, DIGEST)
    assert verifies(device.public_key, DIGEST, element.execute(0x41, 0xA0, DEVICE_KEY))
    element.execute(0x16, 0x43, 0, DIGEST)
    assert element.execute(0x45, 0x20, GATEWAY_KEY, signed(GATEWAY, DIGEST)) == b""
    element.execute(0x80, 7, 0, DIGEST + signed(IMAGE, DIGEST))
    assert element.execute(0x80, 6, 0, DIGEST) == b""
    assert refused(lambda: element.execute(0x80, 7, 0, DIGEST + signed(GATEWAY, DIGEST))) == MISMATCH
    covered = bytes((8, 0x40, MAC_KEY, 0)) + bytes(11) + SERIAL[8:9] + SERIAL[4:8] + SERIAL[:4]
    assert element.execute(0x08, 0x40, MAC_KEY, DIGEST) == sha256(SECRET, DIGEST, covered)
    assert element.execute(0x24, 1, 0) == b"\1\0\0\0"


@pytest.mark.parametrize("slot", sorted(set(range(16)) - {BOOT_DIGEST, GATEWAY_KEY, IMAGE_KEY, AUTHORITY_KEY}))
def test_secrets_and_unused_slots_are_closed(made: tuple[SecureElement, ProvisionedDevice], slot: int) -> None:
    """Only the slots of public keys and of the digest can be read."""
    assert refused(lambda: made[0].execute(0x02, 0x82, slot << 3)) == FORBIDDEN


@pytest.mark.parametrize("slot", sorted(set(range(16)) - {GATEWAY_KEY}))
def test_only_the_gateways_key_is_written(made: tuple[SecureElement, ProvisionedDevice], slot: int) -> None:
    """Writes are refused for all slots except the slot of the gateway's key; private keys cannot be replaced."""
    assert refused(lambda: write_slot(made[0], slot, bytes(32))) == FORBIDDEN
    assert refused(lambda: made[0].execute(0x40, 0x04, slot)) == FORBIDDEN


def test_a_written_gateway_key_is_not_trusted(made: tuple[SecureElement, ProvisionedDevice]) -> None:
    """After an attacker wrote a gateway key, the chip accepts a gateway only when the authority has signed its key."""
    element, _ = made
    write_slot(element, GATEWAY_KEY, bytes(4) + KEYS.gateway[:28])
    element.execute(0x16, 0x43, 0, DIGEST)
    assert refused(lambda: element.execute(0x45, 0x20, GATEWAY_KEY, signed(GATEWAY, DIGEST))) == FORBIDDEN


def test_provisioning_works_once(made: tuple[SecureElement, ProvisionedDevice]) -> None:
    """The procedure refuses a locked chip before it writes anything."""
    before = made[0].memory.image()
    with pytest.raises(UsageError, match="locked"):
        provision(made[0], KEYS)
    assert made[0].memory.image() == before


@pytest.mark.parametrize("name", ["gateway", "image", "authority", "mac"])
def test_a_key_of_a_wrong_length_is_refused(name: str) -> None:
    """If a key has a wrong length, the procedure writes nothing."""
    element = Bench().element
    before = element.memory.image()
    with pytest.raises(UsageError, match=f"'{name}' .* 31 bytes"):
        provision(element, replace(KEYS, **{name: bytes(31)}))
    assert element.memory.image() == before


def test_a_changed_byte_stops_before_the_lock() -> None:
    """If a write to the configuration zone was lost, the zone's checksum is wrong, and the chip stays unlocked."""

    class Forgetful(SecureElement):
        """An element that loses one write to its configuration zone."""

        def execute(self, opcode: int, mode: int = 0, param2: int = 0, data: bytes = b"") -> bytes:
            return b"" if (opcode, mode, param2) == (0x12, 0, 5) else super().execute(opcode, mode, param2, data)

    element = Forgetful(ElementMemory(), clock=lambda: 0.0)
    with pytest.raises(ChipStatusError):
        provision(element, KEYS)
    assert not element.memory.is_config_locked


def test_a_chip_that_lost_its_key_is_found() -> None:
    """If the chip returns another public key at the end of the procedure, the procedure reports an error."""

    class Unstable(SecureElement):
        """A secure element that computes another public key each time."""

        def execute(self, opcode: int, mode: int = 0, param2: int = 0, data: bytes = b"") -> bytes:
            answer = super().execute(opcode, mode, param2, data)
            return answer[::-1] if (opcode, mode) == (0x40, 0) else answer

    with pytest.raises(UsageError, match="lost its key"):
        provision(Unstable(ElementMemory(), clock=lambda: 0.0), KEYS)
