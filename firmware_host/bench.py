"""The bench: a proven release meets a board.

The chain was asked and the image proven (checks 1 to 5) before the port is opened. Then the board says what it is
and what it holds (checks 6 to 9), is flashed, and what its flash holds is compared with the chain's record (10).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from blockota.answers import BoardAnswer, Consent
from blockota.release import Region, Release, Version
from blockota.verification import Passed, ProvenRelease, prove_board, prove_flash
from firmware_host.board_identity import BoardIdentity, identify
from firmware_host.bootloader import Bootloader
from firmware_host.chips import Chip
from firmware_host.flash_plan import plan
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

    def prove(self, proven: ProvenRelease, consent: Consent, *, find_installed: FindInstalled) -> list[Passed]:
        """Checks 6 to 9; nothing is changed.

        Args:
            proven: a release that passed checks 1 to 5.
            consent: what the person agreed to.
            find_installed: searches the chain's record.

        Raises:
            VerificationError: with the number of the first check that failed.
            BoardError: the board fell silent.
        """
        answer = self._answer(proven.release, find_installed)
        return prove_board(proven, answer, consent=consent)

    def flash(self, proven: ProvenRelease) -> Iterator[Event]:
        """Erase, write and read back; to be called after `prove` alone.

        Yields:
            What was done; `Finished` comes last.

        Raises:
            BoardError: the board or its link failed; the error says in what state the flash is.
        """
        chip, flash_size = self._known()
        image = FirmwareImage(proven.image, proven.release.load_address, "bin")
        yield from carry_out(plan(chip, image, flash_size=flash_size), self.bootloader)

    def prove_flash(self, release: Release, finished: Finished) -> Passed:
        """Check 10: compare what was read back with the chain's record.

        Raises:
            VerificationError: number 10.
        """
        return prove_flash(release, [finished.flash])

    def start(self, release: Release) -> str:
        """Start the release, and return what the board prints.

        Raises:
            BoardError: the board fell silent before it started.
        """
        return start(self.bootloader, release.load_address, listen=_LISTEN_SECONDS)

    def _answer(self, release: Release, find_installed: FindInstalled) -> BoardAnswer:
        identity = self.identity
        is_other = identity.chip is None or identity.product_id != release.chip_id
        if is_other or identity.readout_protected:
            return _unread(identity, release)
        chip, flash_size = self._known()
        flash = _region(chip.flash(flash_size))
        reader = _FlashReader(self.bootloader, flash, erased_byte=chip.erased_byte)
        installed = find_installed(reader.digest)
        return BoardAnswer(
            chip_id=identity.product_id,
            flash=flash,
            ram=_region(chip.ram),
            readout_protected=False,
            write_protected=_regions(identity.write_protected),
            installed=installed,
            holds_unknown=installed is None and not reader.starts_blank(release.region),
            half_written=False,
        )

    def _known(self) -> tuple[Chip, int]:
        if self.identity.chip is None or self.identity.flash_size is None:
            raise AssertionError("a board that was not identified cannot be flashed")
        return self.identity.chip, self.identity.flash_size


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

    def __init__(self, bootloader: Bootloader, flash: Region, *, erased_byte: int) -> None:
        self._bootloader, self._flash, self._erased_byte = bootloader, flash, erased_byte
        self._blocks: dict[int, bytes] = {}

    def digest(self, region: Region) -> bytes:
        """The SHA-256 of a region; of nothing where it leaves the flash."""
        inside = self._flash.contains(region)
        return hashlib.sha256(self._read(region) if inside else b"").digest()

    def starts_blank(self, region: Region) -> bool:
        """Whether a region's first block is erased: nothing there can be started."""
        head = Region(region.start, min(region.size, _BLOCK))
        return not self._flash.contains(head) or set(self._read(head)) <= {self._erased_byte}

    def _read(self, region: Region) -> bytes:
        first = region.start - region.start % _BLOCK
        data = b"".join(self._block(address) for address in range(first, region.end, _BLOCK))
        return data[region.start - first : region.end - first]

    def _block(self, address: int) -> bytes:
        if address not in self._blocks:
            self._blocks[address] = b"".join(read_flash(self._bootloader, address, length=_BLOCK))
        return self._blocks[address]


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
