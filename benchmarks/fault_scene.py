"""Simulated boards for fault injection: an update from one release to the next, with other bytes beside the image."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property

from benchmarks.chains import release_of
from blockota.model.facts import ChainAnswer, KnownReleases, ProvenRelease, Trust
from blockota.model.release import Product, Region, Version
from blockota.model.verification import prove_release
from firmware_host.bootloader.chips import find_chip
from firmware_host.bootloader.entry import StartMethod
from firmware_host.simulator import PROFILES, BoardProfile, Faults, SimulatedBoard

BASE, PAGE = 0x0800_0000, 1024
OLD_VERSION, NEW_VERSION = Version(1, 0, 0), Version(1, 1, 0)
PRODUCT = "acme-thermo2"
TRUST = Trust(1337, "0x" + "11" * 20, confirmations=12)
SEAL = 8
"""The number of bytes of the vector table that the flasher writes last."""
_NOW = 1_800_000_000
_PROGRAM = bytes.fromhex("0148 2121 0160 00de 04380140")
"""Sends one character on USART1 of an STM32F1, and then crashes: ldr r0; movs r1; str; udf; the data register."""


@dataclass(frozen=True)
class FaultScene:
    """The flash of a board before and after a run.

    Attributes:
        profile: the simulated chip, with the flash size that the board reports.
        front: the bytes before the image, from the start of the flash.
        old: the installed image.
        new: the image to install, which has the size of `old`.
        beside: the bytes after the image, up to the end of the flash that the board reports.
        hidden: the contents of flash beyond the reported size.
        may_erase_all: whether the operator confirmed that no flash lies beyond the reported size.
        start: how the board's program is started.
        wiring: the name of the wiring that drives reset and BOOT0.
    """

    profile: BoardProfile
    front: bytes
    old: bytes
    new: bytes
    beside: bytes
    hidden: bytes = b""
    may_erase_all: bool = False
    start: StartMethod = StartMethod.AUTO
    wiring: str = "by-hand"

    @property
    def before(self) -> bytes:
        """The contents of the flash before the run."""
        return self.front + self.old + self.beside + self.hidden

    @property
    def after(self) -> bytes:
        """The required contents of the whole flash after the run."""
        return self.front + self.new + self.beside + self.hidden

    @property
    def image(self) -> slice:
        """The offsets of the image in the flash."""
        return slice(len(self.front), len(self.front) + len(self.new))

    @property
    def seal(self) -> slice:
        """The flash offsets of the image's first words."""
        return slice(len(self.front), len(self.front) + SEAL)

    @property
    def seal_stop(self) -> int:
        """The end offset of the bytes that are written last: the first words; on an STM32L0, the first half pages."""
        unit = max(SEAL, 128 if self.erased == b"\x00" else 0)
        return len(self.front) - len(self.front) % unit + unit

    @property
    def start_address(self) -> int:
        """The load address of the image."""
        return self.base + len(self.front)

    @property
    def base(self) -> int:
        """The first address of the flash."""
        return self.profile.flash_start

    @property
    def erased(self) -> bytes:
        """An erased byte."""
        return self.profile.erased

    @cached_property
    def units(self) -> tuple[slice, ...]:
        """The offsets of each erase unit that overlaps the image; the whole flash if the page size is unknown."""
        chip = find_chip(self.profile.product_id)
        if chip is None or chip.is_erased_whole:
            return (slice(0, self.profile.flash_size),)
        profile, image = self.profile, self.image
        spans = [profile.page_span(page) for page in self.pages]
        return tuple(slice(span.start, span.stop) for span in spans if span.start < image.stop)

    @cached_property
    def pages(self) -> range:
        """The numbers of the chip's pages that contain a part of the image."""
        image = self.image
        return range(self.profile.page_at(image.start), self.profile.page_at(image.stop - 1) + 1)

    @property
    def area(self) -> slice:
        """The offsets from the image's first erase unit to its last."""
        return slice(self.units[0].start, self.units[-1].stop)

    @property
    def is_update(self) -> bool:
        """Whether the image to install differs from the installed image."""
        return self.old != self.new

    def board(self, faults: Faults) -> SimulatedBoard:
        """Return a simulated board with these faults."""
        return SimulatedBoard(self._chip, flash=self.before, faults=faults)

    def other_board(self) -> SimulatedBoard:
        """Return another board with the same contents and without faults."""
        return SimulatedBoard(self._chip, flash=self.before, unique_id=b"another one ")

    @property
    def _chip(self) -> BoardProfile:
        size = self.profile.flash_size
        return replace(self.profile, flash_size=size + len(self.hidden), reported_flash_size=size)

    def proven(self) -> tuple[ProvenRelease, KnownReleases]:
        """Return the release to install, proven by checks 1 to 5, and the releases that a board may already contain."""
        region = Region(self.start_address, len(self.new))
        product = Product(PRODUCT, "acme", self.profile.product_id, region, minimum_version=None, paired=True)
        wanted, older = (
            release_of(product, version, sha256=hashlib.sha256(image).digest(), size=len(image))
            for version, image in ((NEW_VERSION, self.new), (OLD_VERSION, self.old))
        )
        answer = ChainAnswer(
            chain_id=TRUST.chain_id,
            contract=TRUST.contract,
            block_number=100,
            block_time=_NOW,
            newest_block=112,
            paused=False,
            requested=product.name,
            product=product,
            version=None,
            release=wanted,
            newest=wanted.version,
        )
        checked = prove_release(answer, TRUST, read_image=lambda _: self.new)
        return checked, KnownReleases((wanted, older) if self.is_update else (wanted,), lambda: ())


def _noise(text: str, size: int) -> bytes:
    return hashlib.shake_128(text.encode()).digest(size)


def _image(text: str, size: int, *, at: int = BASE) -> bytearray:
    """A program that crashes soon after its start, followed by random bytes."""
    vectors = (0x2000_2000).to_bytes(4, "little") + (at + 9).to_bytes(4, "little")
    return bytearray((vectors + _PROGRAM + _noise(text, size))[:size])


def _blank(image: bytearray, *spans: range, erased: bytes) -> bytearray:
    for span in spans:
        image[span.start : span.stop] = erased * len(span)
    return image


def _f103() -> dict[str, FaultScene]:
    """Scenes with an STM32F103: some changed pages, a mass erase, a wrong flash size, an unchanged image."""
    size, pages = 5 * PAGE + 600, 6
    blank = (range(256, 768), range(PAGE, PAGE + 256), range(3 * PAGE, 3 * PAGE + 512), range(4 * PAGE, 5 * PAGE))
    new = bytes(_blank(_image("the release", size), *blank, erased=b"\xff"))
    older = bytearray(new)
    older[PAGE + 300 : PAGE + 310] = b"other text"
    older[3 * PAGE : 4 * PAGE] = b"\xff" * PAGE
    older[5 * PAGE + 20 : 5 * PAGE + 400] = _noise("the older one", 380)
    another = bytes(_image("another one", size))
    beside = b"\xff" * 24 + _noise("beside", pages * PAGE - size - 24)

    large, small = (replace(PROFILES["stm32f103c8"], flash_size=size) for size in (65536, pages * PAGE))
    around = beside.ljust(65536 - size, b"\x11")
    # One changed page that is not the last: the bytes beside the image are not erased.
    patched = bytearray(new)
    patched[2 * PAGE + 8] ^= 0x55
    return {
        "some pages": FaultScene(large, b"", bytes(older), new, around),
        "all by one command": FaultScene(small, b"", another, new, beside, may_erase_all=True),
        "a size that lies": FaultScene(small, b"", another, new, beside, hidden=_noise("hidden", 8192)),
        "last page unchanged": FaultScene(large, b"", bytes(patched), new, around, start=StartMethod.NONE),
        "the same again": FaultScene(large, b"", new, new, around),
    }


def _f407() -> FaultScene:
    """A chip with sectors of 16 KiB.

    The image lies in the second and third sector. Erasing these sectors also erases bytes beside the image.
    """
    profile, size, start = replace(PROFILES["stm32f407vg"], flash_size=65536), 16384, 16384 + 512
    new = _blank(_image("F4", size, at=BASE + start), range(2048, 14336), erased=b"\xff")
    old = bytearray(new)
    old[1000:1100] = _noise("older", 100)
    old[16000:16300] = _noise("older", 300)
    front = b"\x22" * 16384 + _noise("front", 512)
    beside = _noise("beside", 700) + b"\xff" * (3 * 16384 - start - size - 700)
    return FaultScene(profile, front, bytes(old), bytes(new), beside.ljust(65536 - start - size, b"\x11"))


def _l053() -> FaultScene:
    """A chip with pages of 128 bytes, which read as zero after an erase.

    The chip has no mass erase, and writes half a page at a time.
    """
    profile, size, start = PROFILES["stm32l053r8"], 9 * 128 + 40, 4096
    new = _blank(_image("L0", size, at=BASE + start), range(256, 400), erased=b"\x00")
    old = bytearray(new)
    old[130:140] = b"other text"
    old[700:1100] = _noise("older", 400)
    old[1152:1160] = b"the tail"
    beside = (b"\x00" * 8 + _noise("beside", 60)).ljust(65536 - start - size, b"\x33")
    return FaultScene(profile, b"\x22" * start, bytes(old), bytes(new), beside)


def _g071() -> FaultScene:
    """A chip with pages of 2 KiB that writes eight bytes at a time.

    The chip runs the ARMv6-M digest program. DTR and RTS drive its reset and BOOT0.
    """
    profile, size = replace(PROFILES["stm32g071rb"], flash_size=32768), 2 * 2048 + 604
    new = _blank(_image("G0", size), range(1024, 1536), erased=b"\xff")
    old = bytearray(new)
    old[2500:2600] = _noise("older", 100)
    old[4200:4300] = _noise("older", 100)
    beside = _noise("beside", 1000).ljust(32768 - size, b"\x11")
    return FaultScene(profile, b"", bytes(old), bytes(new), beside, wiring="dtr-rts")


def _l476() -> FaultScene:
    """A chip with two flash banks, which the image uses both.

    The boot ROM numbers the pages of the second bank from 256, after a gap.
    """
    profile = replace(PROFILES["stm32l476rg"], flash_size=65536, second_bank_page=256)
    size, start = 2 * 2048 + 300, 30 * 1024
    new = _image("L4", size, at=BASE + start)
    old = bytearray(new)
    for at in (100, 2148, 4200):
        old[at : at + 60] = _noise("older", 60)
    beside = _noise("beside", 900).ljust(65536 - start - size, b"\x11")
    return FaultScene(profile, b"\x22" * start, bytes(old), bytes(new), beside)


def _g474() -> FaultScene:
    """A chip whose page size depends on an option bit; a single command erases all of its flash."""
    profile, size = replace(PROFILES["stm32g474re"], flash_size=16384), 4200
    new = _blank(_image("G4", size), range(512, 1024), erased=b"\xff")
    old = _image("older", size)
    beside = (_noise("beside", 500) + b"\xff" * 3000 + _noise("far", 300)).ljust(16384 - size, b"\xff")
    return FaultScene(profile, b"", bytes(old), bytes(new), beside, may_erase_all=True)


SCENES = {
    **_f103(),
    "F407, sectors": _f407(),
    "L053, erased to zero": _l053(),
    "G071, v6-M": _g071(),
    "L476, two banks": _l476(),
    "G474, erased as a whole": _g474(),
}
"""Updates on chips of six families: some pages of a flash, all pages, sectors, two banks, or the whole flash."""
