"""The loader compiled for this computer, with its flash in memory and a power cut in any flash operation."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from scripts.build_device import HEADER_SIZE, ImageSignature, build_host, sign
from tests.support.power_cuts import Cut, PowerLostError, Running
from tests.support.programs import noise

SLOT_0, SLOT_1, SLOT_SIZE, FLASH_SIZE, STATE = 0x1000, 0x2000, 0x1000, 0x3400, 0x3200
STACK = 0x2000_3000
RETURNED, REFUSED, STARTED, RESET, POWER_CUT = range(5)
BEFORE, SOME, MOST, FIRST, NOISE, AFTER = range(6)
"""The contents of the cells after an interrupted operation (``enum torn`` in ``device/ports/host/host.c``)."""
TORN = range(6)
ABSENT, UNUSED, SILENT, ACCEPTED, REFUSED_BY_CHIP = range(5)
"""What the secure element answers (``device/loader/secure_element.h``)."""


class _Report(ctypes.Structure):
    _fields_ = (("magic", ctypes.c_uint32), ("flags", ctypes.c_uint16), ("refusal", ctypes.c_uint16))


class HostDevice:
    """One device in this process. The library has one flash, so a process can use only one device at a time.

    Args:
        library: the file that `build_host` wrote.
    """

    def __init__(self, library: Path) -> None:
        self._library = ctypes.CDLL(str(library))
        self._flash = (ctypes.c_uint8 * FLASH_SIZE).in_dll(self._library, "host_flash")
        self._report = _Report.in_dll(self._library, "host_report")
        self._numbers = {
            name: ctypes.c_uint32.in_dll(self._library, f"host_{name}")
            for name in ("operations", "erases", "violations", "started", "cut", "torn", "seed", "verdict")
        }

    def _number(self, name: str) -> int:
        return self._numbers[name].value

    @property
    def operations(self) -> int:
        """The number of flash operations since `load`."""
        return self._number("operations")

    @property
    def violations(self) -> int:
        """The number of operations that a flash controller would have refused."""
        return self._number("violations")

    @property
    def flash(self) -> bytes:
        """The contents of the flash."""
        return bytes(self._flash)

    @flash.setter
    def flash(self, contents: bytes) -> None:
        ctypes.memmove(self._flash, contents, FLASH_SIZE)

    def answer_of_chip(self, verdict: int) -> None:
        """Set the answer that the secure element gives to later questions of the loader."""
        self._numbers["verdict"].value = verdict

    def load(self, slot_0: bytes, slot_1: bytes) -> None:
        """Fill both slots, and erase the loader's state."""
        contents = bytearray(b"\xff" * FLASH_SIZE)
        contents[SLOT_0 : SLOT_0 + len(slot_0)] = slot_0
        contents[SLOT_1 : SLOT_1 + len(slot_1)] = slot_1
        self.flash = bytes(contents)
        for name in ("operations", "erases", "violations"):
            self._numbers[name].value = 0

    def plan(self, cut: Cut | None) -> None:
        """Plan the next power cut; None plans no cut."""
        chosen = cut or Cut(0)
        self._numbers["cut"].value, self._numbers["torn"].value = chosen.operation, chosen.torn
        self._numbers["seed"].value = chosen.seed

    def slot(self, number: int) -> bytes:
        """Return the contents of a slot."""
        start = (SLOT_0, SLOT_1)[number]
        return self.flash[start : start + SLOT_SIZE]

    def upload(self, image: bytes) -> None:
        """Write an image to slot 1."""
        padded = image + b"\xff" * (-len(image) % 4)
        self._call(self._library.host_program, SLOT_1, padded, len(padded))

    def boot(self) -> Running | None:
        """Reset the device."""
        outcome = self._call(self._library.host_boot)
        if outcome != STARTED or self._number("started") != SLOT_0 + HEADER_SIZE:
            return None
        return Running(self._report.flags, self._report.refusal)

    def request(self) -> bool:
        """Request the image of slot 1 by its digest; the request contains a digest TLV and no security counter."""
        return self.request_digest(digest_of(self.slot(1)))

    def request_digest(self, digest: bytes) -> bool:
        """Request an image by its digest."""
        return self._call(self._library.host_request, digest) == RETURNED

    def confirm(self) -> bool:
        """Confirm the running image."""
        return self._call(self._library.host_mark, 1 + 3) == RETURNED

    def revert(self) -> bool:
        """Request the previous image."""
        return self._call(self._library.host_mark, 1 + 3 + 1) == RETURNED

    def _call(self, function: Callable[..., int], *arguments: int | bytes) -> int:
        outcome = function(*arguments)
        if outcome == POWER_CUT:
            raise PowerLostError
        return outcome


def digest_of(slot: bytes) -> bytes:
    """Return the digest in the SHA-256 TLV of an image at the start of a slot."""
    at = slot.index(b"\x07\x69", hashed_size(slot))
    return slot[at + 8 : at + 40]


def hashed_size(slot: bytes) -> int:
    """Return the number of bytes that the digest of an image covers: header, program and protected TLVs."""
    header, protected, program = slot[8:10], slot[10:12], slot[12:16]
    return sum(int.from_bytes(part, "little") for part in (header, protected, program))


def host_images() -> dict[str, bytes]:
    """Return images for the host, signed by imgtool: an old, a new and a long image, and images to be refused."""
    kinds = {
        "old": (1000, ImageSignature(version="1.0.0")),
        "new": (1300, ImageSignature(version="1.1.0")),
        "long": (2900, ImageSignature(version="1.2.0")),
        "newer counter": (900, ImageSignature(version="2.0.0", counter=2)),
        "no counter": (900, ImageSignature(version="2.1.0", counter=None)),
        "unsigned": (900, ImageSignature(version="2.2.0", key="")),
        "foreign": (900, ImageSignature(version="2.2.0", key="test-only-foreign-key.pem")),
        "other board": (900, ImageSignature(version="2.3.0", load_address=0x8000)),
    }
    with TemporaryDirectory() as folder:
        raw = Path(folder, "program.bin")
        images = dict[str, bytes]()
        for seed, (name, (size, signature)) in enumerate(kinds.items(), 1):
            raw.write_bytes(_vectors() + noise(size, seed))
            images[name] = sign(raw, "host", signature)
    return images


def _vectors(stack: int = STACK, entry: int = SLOT_0 + HEADER_SIZE + 9) -> bytes:
    return stack.to_bytes(4, "little") + entry.to_bytes(4, "little")


def built_host(folder: Path, *macros: str) -> HostDevice:
    """Compile the loader into a folder, and return a device that runs it."""
    library = folder / f"host{'-'.join(['', *macros])}.so"
    build_host(library, *macros)
    return HostDevice(library)
