"""A host device whose secure element is the model of the ATECC608."""

from __future__ import annotations

import ctypes
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from firmware_host.simulator.secure_element.element import SecureElement
from firmware_host.simulator.secure_element.provisioning import ProvisioningKeys, provision
from scripts.build_device import IMAGES, build_host
from tests.support.host_device import HostDevice

WAKE = ctypes.CFUNCTYPE(ctypes.c_bool)
WRITE = ctypes.CFUNCTYPE(ctypes.c_bool, ctypes.c_uint8, ctypes.POINTER(ctypes.c_uint8), ctypes.c_uint32)
READ = ctypes.CFUNCTYPE(ctypes.c_bool, ctypes.POINTER(ctypes.c_uint8), ctypes.c_uint32)
WAIT = ctypes.CFUNCTYPE(ctypes.c_bool, ctypes.c_uint32)
BYTE_TIME = 90e-6
"""Seconds of a byte with its acknowledgement on a bus of 100 kHz."""


def point_of(key: ec.EllipticCurvePublicKey) -> bytes:
    """Return X and Y of a public key, 64 bytes in total."""
    numbers = key.public_numbers()
    return numbers.x.to_bytes(32) + numbers.y.to_bytes(32)


def image_key(name: str = "test-only-key.pem") -> bytes:
    """Return X and Y of the public key of a committed image key."""
    key = load_pem_private_key((IMAGES / name).read_bytes(), password=None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return point_of(key.public_key())


GATEWAY_KEY, AUTHORITY = (ec.derive_private_key(number, ec.SECP256R1()) for number in (71, 72))
MAC_KEY = bytes(range(32))


def provisioned(element: SecureElement, *, image: bytes) -> SecureElement:
    """Prepare a chip as its maker does, with a public key for images."""
    gateway, authority = point_of(GATEWAY_KEY.public_key()), point_of(AUTHORITY.public_key())
    provision(element, ProvisioningKeys(gateway=gateway, image=image, authority=authority, mac=MAC_KEY))
    return element


class ChipDevice(HostDevice):
    """A host device whose loader uses a secure element.

    Attributes:
        seconds: the time that passed on the bus.
        element: the secure element.
    """

    def __init__(self, library: Path) -> None:
        super().__init__(library)
        self.seconds = 0.0
        self.element = self.new_element()
        self._functions = WAKE(self._wake), WRITE(self._write), READ(self._read), WAIT(self._wait)
        for name, function in zip(("wake", "write", "read", "wait"), self._functions, strict=True):
            pointer = ctypes.c_void_p.in_dll(self._library, f"host_bus_{name}")
            pointer.value = ctypes.cast(function, ctypes.c_void_p).value

    def new_element(self) -> SecureElement:
        """Return a new chip, which is not locked, with the clock of the bus."""
        return SecureElement(clock=lambda: self.seconds)

    def _wake(self) -> bool:
        self.seconds += BYTE_TIME
        self.element.wake()
        return True

    def _write(self, first: int, data: ctypes._Pointer[ctypes.c_uint8], size: int) -> bool:
        self.seconds += (2 + size) * BYTE_TIME
        return self.element.write(first, bytes(data[:size]))

    def _read(self, data: ctypes._Pointer[ctypes.c_uint8], size: int) -> bool:
        self.seconds += (1 + size) * BYTE_TIME
        found = self.element.read(size)
        for place, byte in enumerate(found or b""):
            data[place] = byte
        return found is not None

    def _wait(self, milliseconds: int) -> bool:
        self.seconds += milliseconds / 1000
        return True


def built_chip_device(folder: Path) -> ChipDevice:
    """Compile the loader with the driver of the secure element, and return a device."""
    library = folder / "loader-with-chip.so"
    build_host(library, has_chip=True)
    return ChipDevice(library)
