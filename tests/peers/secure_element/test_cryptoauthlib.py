"""Microchip's library uses BlockOTA's model of the ATECC608.

The library's computations and expectations agree with the model.
"""

from __future__ import annotations

import hashlib
import hmac

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from firmware_host.simulator.secure_element import ChipFaults
from firmware_host.simulator.secure_element.provisioning import (
    AUTHORITY_KEY,
    BOOT_DIGEST,
    DEVICE_KEY,
    GATEWAY_KEY,
    IMAGE_KEY,
    MAC_KEY,
    configuration,
)
from tests.firmware_host.simulator.secure_element.bench import pair, sha256, signed, verifies, xy
from tests.peers.secure_element.conftest import Library

SERIAL = bytes.fromhex("0123a1a2a3a4a5a6ee")
MISMATCH, PARSE_ERROR, EXECUTION_ERROR = -47, -46, -12
"""Statuses of the library."""
DIGEST, OTHER_DIGEST = sha256(b"image 1"), sha256(b"image 2")
GATEWAY, IMAGE, AUTHORITY, STRANGER = (pair(seed) for seed in (11, 12, 13, 14))
SECRET, NONCE = bytes(range(32)), bytes(range(100, 120))
FULL, FULL_STORE, FULL_COPY = 5, 6, 7
IO_KEY = 6
"""A slot that the profile does not use."""


@pytest.fixture
def provisioned(library: Library) -> Library:
    """Configure and lock the chip with the library's own functions and a device's configuration."""
    config = bytearray(configuration(library.get("atcab_read_config_zone", [128])))
    config[90:92] = (2 | IO_KEY << 12).to_bytes(2, "little")  # the IO protection key, for answers with a MAC
    library.get("atcab_write_config_zone", bytes(config))
    assert library.get("atcab_cmp_config_zone", bytes(config), [1]) == b"\x01"
    library.get("atcab_lock_config_zone")
    library.get("atcab_genkey", DEVICE_KEY, [64])
    for slot, key in ((GATEWAY_KEY, GATEWAY), (IMAGE_KEY, IMAGE), (AUTHORITY_KEY, AUTHORITY)):
        library.get("atcab_write_pubkey", slot, xy(key.public_key()))
    library.get("atcab_write_zone", 2, MAC_KEY, 0, 0, SECRET, 32)
    library.get("atcab_write_zone", 2, IO_KEY, 0, 0, SECRET, 32)
    library.get("atcab_lock_data_zone")
    return library


def boot(library: Library, mode: int, digest: bytes, signature: bytes = bytes(64)) -> int:
    """Run SecureBoot, and return the library's status."""
    return library.call("atcab_secureboot", mode, 0, digest, signature, [32])[0]


def test_info(library: Library) -> None:
    """The library reads revision and serial number, and finds both zones unlocked."""
    assert library.get("atcab_info", [4]) == bytes.fromhex("00006002")
    assert library.get("atcab_read_serial_number", [9]) == SERIAL
    assert [library.get("atcab_is_locked", zone, [1]) for zone in (0, 1)] == [b"\0", b"\0"]


def test_the_zones_are_locked_once(provisioned: Library) -> None:
    """After the locks, the library reads the lock state. Neither a second lock nor a write succeeds."""
    assert [provisioned.get("atcab_is_locked", zone, [1]) for zone in (0, 1)] == [b"\1", b"\1"]
    assert provisioned.call("atcab_lock_config_zone")[0] == EXECUTION_ERROR
    assert provisioned.call("atcab_lock_data_zone")[0] == EXECUTION_ERROR
    assert provisioned.call("atcab_write_zone", 0, 0, 0, 5, bytes(4), 4)[0] == EXECUTION_ERROR


def test_the_locks_check_the_checksum(library: Library) -> None:
    """The library's checksum of the configuration zone equals the chip's. Another checksum is refused."""
    config = configuration(library.get("atcab_read_config_zone", [128]))
    library.get("atcab_write_config_zone", config)
    checksum = int.from_bytes(library.get_checksum(config), "little")
    assert library.call("atcab_lock_config_zone_crc", checksum ^ 1)[0] == EXECUTION_ERROR
    library.get("atcab_lock_config_zone_crc", checksum)


def test_a_slot_is_locked(provisioned: Library) -> None:
    """The library locks the slot of the device's key, and reads that this slot is locked.

    The slot of the MAC key cannot be locked.
    """
    assert provisioned.get("atcab_is_slot_locked", DEVICE_KEY, [1]) == b"\0"
    provisioned.get("atcab_lock_data_slot", DEVICE_KEY)
    assert provisioned.get("atcab_is_slot_locked", DEVICE_KEY, [1]) == b"\1"
    assert provisioned.call("atcab_lock_data_slot", MAC_KEY)[0] == EXECUTION_ERROR


def test_random(provisioned: Library) -> None:
    """Two random numbers differ."""
    assert provisioned.get("atcab_random", [32]) != provisioned.get("atcab_random", [32])


def test_sign_and_verify(provisioned: Library) -> None:
    """A signature of the device's key is valid outside and inside the chip. A changed signature is not."""
    public = provisioned.get("atcab_get_pubkey", DEVICE_KEY, [64])
    signature = provisioned.get("atcab_sign", DEVICE_KEY, DIGEST, [64])
    assert verifies(public, DIGEST, signature)
    assert provisioned.get("atcab_verify_extern", DIGEST, signature, public, [1]) == b"\1"
    assert provisioned.get("atcab_verify_extern", OTHER_DIGEST, signature, public, [1]) == b"\0"
    assert provisioned.get("atcab_verify_stored", DIGEST, signed(IMAGE, DIGEST), IMAGE_KEY, [1]) == b"\1"
    assert provisioned.get("atcab_verify_stored", DIGEST, signed(STRANGER, DIGEST), IMAGE_KEY, [1]) == b"\0"


def test_only_the_devices_key_signs(provisioned: Library) -> None:
    """A slot without a private key cannot sign, and the device's key cannot be replaced."""
    assert provisioned.call("atcab_sign", IMAGE_KEY, DIGEST, [64])[0] == EXECUTION_ERROR
    assert provisioned.call("atcab_genkey", DEVICE_KEY, [64])[0] == EXECUTION_ERROR


@pytest.mark.parametrize("slot", [DEVICE_KEY, MAC_KEY])
def test_secrets_are_not_read(provisioned: Library, slot: int) -> None:
    """The library cannot read the slot of a secret."""
    assert provisioned.call("atcab_read_zone", 2, slot, 0, 0, [32], 32)[0] == EXECUTION_ERROR


def test_public_keys_are_read(provisioned: Library) -> None:
    """The library reads back the public key that it wrote."""
    assert provisioned.get("atcab_read_pubkey", IMAGE_KEY, [64]) == xy(IMAGE.public_key())
    assert provisioned.call("atcab_write_pubkey", IMAGE_KEY, xy(STRANGER.public_key()))[0] == EXECUTION_ERROR


def test_secureboot(provisioned: Library) -> None:
    """FullCopy stores a signed digest, FullStore compares a digest with it, and Full verifies the signature.

    Foreign ones fail.
    """
    good, foreign = signed(IMAGE, DIGEST), signed(STRANGER, DIGEST)
    assert boot(provisioned, FULL_STORE, DIGEST) == MISMATCH
    assert boot(provisioned, FULL_COPY, DIGEST, foreign) == MISMATCH
    assert boot(provisioned, FULL_STORE, DIGEST) == MISMATCH
    assert boot(provisioned, FULL_COPY, DIGEST, good) == 0
    assert boot(provisioned, FULL_STORE, DIGEST) == 0
    assert boot(provisioned, FULL_STORE, OTHER_DIGEST) == MISMATCH
    assert boot(provisioned, FULL, DIGEST, good) == 0
    assert boot(provisioned, FULL, OTHER_DIGEST, good) == MISMATCH
    assert provisioned.get("atcab_read_zone", 2, BOOT_DIGEST, 0, 0, [32], 32) == DIGEST


def test_secureboot_with_protected_wires(provisioned: Library) -> None:
    """The library accepts the model's MAC, made with the IO protection key and a nonce."""
    arguments = (signed(IMAGE, DIGEST), NONCE, SECRET, [1])
    assert provisioned.get("atcab_secureboot_mac", FULL_COPY, DIGEST, *arguments) == b"\1"
    assert provisioned.get("atcab_secureboot_mac", FULL_STORE, DIGEST, *arguments) == b"\1"
    assert provisioned.get("atcab_secureboot_mac", FULL, DIGEST, *arguments) == b"\1"
    assert provisioned.get("atcab_secureboot_mac", FULL_STORE, OTHER_DIGEST, *arguments) == b"\0"


def test_counters(provisioned: Library) -> None:
    """A counter rises by one, and the other counter does not change."""
    assert [int.from_bytes(provisioned.get("atcab_counter_increment", 0, [4]), "little") for _ in range(3)] == [1, 2, 3]
    assert int.from_bytes(provisioned.get("atcab_counter_read", 0, [4]), "little") == 3
    assert int.from_bytes(provisioned.get("atcab_counter_read", 1, [4]), "little") == 0


@pytest.mark.parametrize("size", [0, 1, 63, 64, 65, 128, 300])
def test_sha(provisioned: Library, size: int) -> None:
    """The chip's digests equal Python's for messages of any length."""
    message = bytes(range(256)) * 2
    assert provisioned.get("atcab_sha", size, message[:size], [32]) == hashlib.sha256(message[:size]).digest()


@pytest.mark.parametrize("size", [1, 64, 100])
def test_hmac(provisioned: Library, size: int) -> None:
    """The chip's HMACs with the key in a slot equal Python's."""
    message = bytes(range(100))[:size]
    found = provisioned.get("atcab_sha_hmac", message, size, MAC_KEY, [32], 0xC0)
    assert found == hmac.digest(SECRET, message, "sha256")


def test_mac_and_checkmac(provisioned: Library) -> None:
    """The MAC over key, challenge and serial number matches the formula.

    The chip accepts this MAC, and refuses any other MAC.
    """
    challenge = sha256(b"nonce and sectors")
    made = provisioned.get("atcab_mac", 0x40, MAC_KEY, challenge, [32])
    covered = bytes((0x08, 0x40, MAC_KEY, 0)) + bytes(11) + SERIAL[8:9] + SERIAL[4:8] + SERIAL[0:2] + SERIAL[2:4]
    assert made == sha256(SECRET, challenge, covered)
    other = bytes((0x08, 0x40, MAC_KEY, 0)) + bytes(3) + SERIAL[4:8] + SERIAL[2:4]
    provisioned.get("atcab_checkmac", 0, MAC_KEY, challenge, made, other)
    spoiled = made[:-1] + bytes([made[-1] ^ 1])
    assert provisioned.call("atcab_checkmac", 0, MAC_KEY, challenge, spoiled, other)[0] == MISMATCH


def test_mac_over_temp_key(provisioned: Library) -> None:
    """The challenge of a MAC can be a nonce to which both the chip and the library contribute.

    The nonce can be computed outside the chip, and can be used once.
    """
    number = provisioned.get("atcab_nonce_rand", NONCE, [32])
    nonce = sha256(number, NONCE, bytes((0x16, 0, 0)))
    made = provisioned.get("atcab_mac", 0x01, MAC_KEY, bytes(32), [32])
    assert made == sha256(
        SECRET, nonce, bytes((0x08, 1, MAC_KEY, 0)), bytes(11), SERIAL[8:9], bytes(4), SERIAL[:2], bytes(2)
    )
    assert provisioned.call("atcab_mac", 0x01, MAC_KEY, bytes(32), [32])[0] == EXECUTION_ERROR


def validation(key: ec.EllipticCurvePrivateKey, signer: ec.EllipticCurvePrivateKey) -> tuple[bytes, bytes]:
    """Return the parameter ``OtherData`` and the signature of a Verify command that validates a new gateway key."""
    head = bytes((0x40, 0x10)) + GATEWAY_KEY.to_bytes(2, "little")
    temp_key = sha256(SECRET, head, SERIAL[8:9], SERIAL[0:2], bytes(25), xy(key.public_key()))
    other = bytes((0, AUTHORITY_KEY, 0, 0x0B, 0x10, 0x12, 0x00, GATEWAY_KEY | 0x50, 0, 0)) + bytes(4 + 2) + b"\1\0\0"
    message = sha256(temp_key, b"\x41", other[:10], SERIAL[8:9], other[10:14], SERIAL[0:2], other[14:])
    return other, signed(signer, message)


def test_a_new_gateway_key_is_validated(provisioned: Library) -> None:
    """A gateway key that was written after the locks can be used only after the authority's key has signed it."""
    other, signature = validation(STRANGER, AUTHORITY)
    check = ("atcab_verify_stored", DIGEST, signed(STRANGER, DIGEST), GATEWAY_KEY, [1])
    provisioned.get("atcab_write_pubkey", GATEWAY_KEY, xy(STRANGER.public_key()))
    assert provisioned.call(*check)[0] == EXECUTION_ERROR

    def validate(signature: bytes) -> bytes:
        provisioned.get("atcab_nonce_load", 0, SECRET, 32)
        provisioned.get("atcab_genkey_base", 0x10, GATEWAY_KEY, bytes((0x10, GATEWAY_KEY, 0)), 0)
        return provisioned.get("atcab_verify_validate", GATEWAY_KEY, signature, other, [1])

    assert validate(validation(STRANGER, GATEWAY)[1]) == b"\0"
    assert provisioned.call(*check)[0] == EXECUTION_ERROR
    assert validate(signature) == b"\1"
    assert provisioned.get(*check) == b"\1"


@pytest.mark.parametrize(
    ("faults", "status"),
    [(ChipFaults(is_absent=True), -25), (ChipFaults(has_wrong_checksum=True), -27), (ChipFaults(late=100.0), -25)],
)
def test_the_library_reports_faults(provisioned: Library, faults: ChipFaults, status: int) -> None:
    """An absent or late chip counts as not responding, and a damaged answer has a wrong checksum."""
    provisioned.element.faults = faults
    assert provisioned.call("atcab_counter_read", 0, [4])[0] == status
