"""The bench: a proven release meets a board.

The chain was asked and the image proven (checks 1 to 5) before the port is opened. Then the board says what it is
and what it holds (checks 6 to 9), is flashed, and what its flash holds is compared with the chain's record (10).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum, auto

from blockota.answers import BoardAnswer, Consent
from blockota.errors import BoardError, VerificationError
from blockota.release import Region, Release, Version
from blockota.verification import Passed, ProvenRelease, prove_board, prove_flash
from firmware_host.board_identity import BoardIdentity, identify
from firmware_host.bootloader import Bootloader
from firmware_host.chips import Chip
from firmware_host.flash_plan import FlashPlan, plan
from firmware_host.flasher import Event, Finished, carry_out, read_flash, start
from firmware_host.image import FirmwareImage
from firmware_host.link import open_link

FindInstalled = Callable[[Callable[[Region], bytes]], Version | None]
"""Given a function that tells the SHA-256 of a flash region, says which release the board holds."""
_LISTEN_SECONDS = 2.0
_BLOCK = 256


@dataclass(frozen=True)
class Bench:
    """One board, connected and identified.

    Attributes:
        bootloader: speaks to it.
        identity: what it said of itself.
        notes: what the link had to do differently, for the person to know.
    """

    bootloader: Bootloader
    identity: BoardIdentity
    notes: tuple[str, ...]

    def prove(self, proven: ProvenRelease, consent: Consent, *, find_installed: FindInstalled) -> ClearedBoard:
        """Checks 6 to 9; nothing is changed.

        Args:
            proven: a release that passed checks 1 to 5.
            consent: what the person agreed to.
            find_installed: searches the chain's record.

        Raises:
            VerificationError: with the number of the first check that failed.
            BoardError: the board fell silent.
        """
        release, identity = proven.release, self.identity
        is_other = identity.product_id != release.chip_id
        if identity.chip is None and not is_other:
            raise _unknown_chip(identity)
        if is_other or identity.readout_protected:
            answer = _unread(identity, release)
        else:
            with _nothing_changed():
                answer = self._answer(proven, find_installed)
        return ClearedBoard(self, proven, tuple(prove_board(proven, answer, consent=consent)))

    def plan(self, proven: ProvenRelease) -> FlashPlan:
        """How a release goes into this board's flash.

        Raises:
            ImageError: it does not lie within the flash.
        """
        chip, flash_size = self._known()
        image = FirmwareImage(proven.image, proven.release.load_address, "bin")
        return plan(chip, image, flash_size=flash_size)

    def _answer(self, proven: ProvenRelease, find_installed: FindInstalled) -> BoardAnswer:
        identity = self.identity
        chip, flash_size = self._known()
        flash = _region(chip.flash(flash_size))
        reader = _FlashReader(self.bootloader, flash)
        installed = find_installed(reader.digest)
        contents = _Contents.BLANK
        if installed is None and flash.contains(proven.release.region):
            contents = _contents(self.plan(proven), reader.read(proven.release.region))
        return BoardAnswer(
            chip_id=identity.product_id,
            flash=flash,
            ram=_region(chip.ram),
            readout_protected=False,
            write_protected=_regions(identity.write_protected),
            installed=installed,
            holds_unknown=contents is _Contents.UNKNOWN,
            half_written=contents is _Contents.HALF_WRITTEN,
        )

    def _known(self) -> tuple[Chip, int]:
        if self.identity.chip is None or self.identity.flash_size is None:
            raise AssertionError("a board that was not identified cannot be flashed")
        return self.identity.chip, self.identity.flash_size


@dataclass(frozen=True)
class ClearedBoard:
    """A board that passed checks 6 to 9 for one release; only `Bench.prove` makes one.

    Attributes:
        bench: the board.
        proven: the release that may be written to it.
        passed: the checks, in order.
    """

    bench: Bench
    proven: ProvenRelease
    passed: tuple[Passed, ...]

    def flash(self) -> Generator[Event]:
        """Erase, write and read back.

        Yields:
            What was done; `Finished` comes last.

        Raises:
            BoardError: the board or its link failed; the error says in what state the flash is.
        """
        yield from carry_out(self.bench.plan(self.proven), self.bench.bootloader)

    def prove_flash(self, finished: Finished) -> Passed:
        """Check 10: compare what was read back with the chain's record.

        Raises:
            FlashProofError: it is something else.
        """
        return prove_flash(self.proven.release, [finished.flash])

    def start(self) -> str:
        """Start the release, and return what the board prints.

        Raises:
            RefusedError: there is no program memory at its address.
            BoardError: the board fell silent before it started.
        """
        return start(self.bench.bootloader, self.proven.release.load_address, listen=_LISTEN_SECONDS)


@contextmanager
def connect(port: str, *, baud: int) -> Iterator[Bench]:
    """Open a port, wake the board's bootloader, and ask the board what it is.

    Raises:
        BoardError: no port, no answer, or an answer that is not AN3155's.
    """
    link = open_link(port, baud=baud)
    try:
        bootloader = Bootloader(link)
        bootloader.connect()
        yield Bench(bootloader, identify(bootloader), link.notes)
    finally:
        link.close()


class _FlashReader:
    """Reads a board's flash once, as far as somebody asks."""

    def __init__(self, bootloader: Bootloader, flash: Region) -> None:
        self._bootloader, self._flash = bootloader, flash
        self._blocks: dict[int, bytes] = {}

    def digest(self, region: Region) -> bytes:
        """The SHA-256 of a region; of nothing where it leaves the flash."""
        inside = self._flash.contains(region)
        return hashlib.sha256(self.read(region) if inside else b"").digest()

    def read(self, region: Region) -> bytes:
        """What a region of the flash holds."""
        first = region.start - region.start % _BLOCK
        data = b"".join(self._block(address) for address in range(first, region.end, _BLOCK))
        return data[region.start - first : region.end - first]

    def _block(self, address: int) -> bytes:
        if address not in self._blocks:
            self._blocks[address] = b"".join(read_flash(self._bootloader, address, length=_BLOCK))
        return self._blocks[address]


class _Contents(Enum):
    """What a release's addresses hold where that is no release."""

    BLANK = auto()
    HALF_WRITTEN = auto()
    UNKNOWN = auto()


def _contents(planned: FlashPlan, found: bytes) -> _Contents:
    """Tell a blank flash and an interrupted run of this plan from all else.

    A run erases the seal first and writes it last, so that one that was interrupted leaves it erased, and each
    other byte erased or written.
    """
    blank = planned.chip.erased_byte
    if set(found) <= {blank}:
        return _Contents.BLANK
    rows = zip(planned.image.span, found, planned.image.data, strict=True)
    explained = all(byte == blank or (byte == wanted and address not in planned.seal) for address, byte, wanted in rows)
    return _Contents.HALF_WRITTEN if explained else _Contents.UNKNOWN


@contextmanager
def _nothing_changed() -> Iterator[None]:
    try:
        yield
    except BoardError as error:
        raise type(error)(error.what, why=f"{error.why}; nothing was changed", remedy=error.remedy) from error


def _unknown_chip(identity: BoardIdentity) -> VerificationError:
    return VerificationError(
        7,
        "this program does not know the board's chip",
        why=f"its product id 0x{identity.product_id:03x} is the release's, but no table here has its flash and RAM",
        remedy="update BlockOTA, or ask the vendor how to flash this board",
    )


def _unread(identity: BoardIdentity, release: Release) -> BoardAnswer:
    """A board that cannot or must not be read; check 7 or 8 is going to refuse it."""
    nothing = Region(release.load_address, 0)
    return BoardAnswer(
        chip_id=identity.product_id,
        flash=_region(identity.chip.flash(identity.chip.flash_limit)) if identity.chip else nothing,
        ram=_region(identity.chip.ram) if identity.chip else nothing,
        readout_protected=bool(identity.readout_protected),
        write_protected=None,
        installed=None,
        holds_unknown=False,
        half_written=False,
    )


def _regions(spans: tuple[range, ...] | None) -> tuple[Region, ...] | None:
    return None if spans is None else tuple(map(_region, spans))


def _region(span: range) -> Region:
    return Region(span.start, len(span))
