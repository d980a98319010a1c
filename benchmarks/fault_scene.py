"""Simulated boards for fault injection: an update from one release to the next, with other bytes after the image."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

from benchmarks.chains import release_of
from blockota.errors import NoAnswerError
from blockota.model.facts import ChainAnswer, KnownReleases, ProvenRelease, Trust
from blockota.model.release import Product, Region, Version
from blockota.model.verification import prove_release
from firmware_host.simulator import STM32F103C8, BoardProfile, Faults, SimulatedBoard

BASE, PAGE, CHIP_ID = 0x0800_0000, 1024, 0x410
UNITS = 6
IMAGE_SIZE = 5 * PAGE + 600
"""The size of the image: six pages, of which the last also contains bytes after the image."""
BLANK = (range(256, 768), range(PAGE, PAGE + 256), range(3 * PAGE, 3 * PAGE + 512), range(4 * PAGE, 5 * PAGE))
"""Blank ranges of the image, within a page or a whole page; the flasher does not write blank blocks."""
CHANGED = (1, 3, 5)
"""Pages that differ between the releases, unless all pages differ; page 3 is blank in the older release."""
SEAL = 8
"""The number of bytes of the vector table that the flasher writes last."""
_ERASE = b"\x43\xbc"
_CONTRACT = "0x" + "11" * 20
_NOW = 1_800_000_000
_PRODUCT = Product("acme-thermo2", "acme", CHIP_ID, Region(BASE, UNITS * PAGE), minimum_version=None, paired=True)


@dataclass(frozen=True)
class Scene:
    """The flash of a board before and after a run.

    Attributes:
        flash_size: the size of the flash in bytes, as the board reports it.
        old: the installed image.
        new: the image to install.
        beside: the bytes after the image, up to the end of the flash that the board reports.
        hidden: the contents of flash beyond the reported size.
        may_erase_all: whether the operator confirmed that no flash lies beyond the reported size.
    """

    flash_size: int
    old: bytes
    new: bytes
    beside: bytes
    hidden: bytes = b""
    may_erase_all: bool = False

    @property
    def before(self) -> bytes:
        """The contents of the flash before the run."""
        return self.old + self.beside + self.hidden

    @property
    def after(self) -> bytes:
        """The required contents of the whole flash after the run."""
        return self.new + self.beside + self.hidden

    def board(self, faults: Faults) -> SimulatedBoard:
        """Return a simulated board with these faults."""
        return SimulatedBoard(self._profile, flash=self.before, faults=faults)

    def other_board(self) -> SimulatedBoard:
        """Return another board with the same contents and without faults."""
        return SimulatedBoard(self._profile, flash=self.before, unique_id=b"another one ")

    @property
    def _profile(self) -> BoardProfile:
        size = self.flash_size + len(self.hidden)
        return replace(STM32F103C8, flash_size=size, reported_flash_size=self.flash_size)

    def proven(self) -> tuple[ProvenRelease, KnownReleases]:
        """Return the release to install, after checks 1 to 5, and the releases that a board may contain."""
        wanted, older = (
            release_of(_PRODUCT, version, sha256=hashlib.sha256(image).digest(), size=len(image))
            for version, image in ((Version(1, 1, 0), self.new), (Version(1, 0, 0), self.old))
        )
        trust = Trust(1337, _CONTRACT, confirmations=12)
        answer = ChainAnswer(
            chain_id=1337,
            contract=_CONTRACT,
            block_number=100,
            block_time=_NOW,
            newest_block=112,
            paused=False,
            product=_PRODUCT,
            version=None,
            release=wanted,
            newest=wanted.version,
        )
        checked = prove_release(answer, trust, read_image=lambda _: self.new)
        return checked, KnownReleases((wanted, older), lambda: ())


def _filled(text: str) -> bytearray:
    vectors = (0x2000_5000).to_bytes(4, "little") + (BASE + 9).to_bytes(4, "little")
    return bytearray(vectors + hashlib.shake_128(text.encode()).digest(IMAGE_SIZE - len(vectors)))


def _new() -> bytes:
    image = _filled("the release")
    for span in BLANK:
        image[span.start : span.stop] = b"\xff" * len(span)
    return bytes(image)


def _older() -> bytes:
    image = bytearray(_new())
    image[PAGE + 300 : PAGE + 310] = b"other text"
    image[3 * PAGE : 4 * PAGE] = b"\xff" * PAGE
    image[5 * PAGE + 20 : 5 * PAGE + 400] = hashlib.shake_128(b"the older one").digest(380)
    return bytes(image)


_BESIDE = b"\xff" * 24 + hashlib.shake_128(b"beside").digest(UNITS * PAGE - IMAGE_SIZE - 24)
SCENES = {
    "some pages": Scene(65536, _older(), _new(), _BESIDE.ljust(65536 - IMAGE_SIZE, b"\x11")),
    "all by one command": Scene(UNITS * PAGE, bytes(_filled("another one")), _new(), _BESIDE, may_erase_all=True),
    "a size that lies": Scene(
        UNITS * PAGE, bytes(_filled("another one")), _new(), _BESIDE, hidden=hashlib.shake_128(b"hidden").digest(8192)
    ),
}
"""Some pages of a large flash change; all pages of a small flash are erased by one command; or all pages change in a
flash that is larger than the board reports."""


@dataclass
class Mishaps:
    """Faults of the serial line, which affect single bytes; bytes are counted from 1, and 0 means no fault.

    Attributes:
        lose_received: number of a byte to the board that is lost.
        lose_sent: number of a byte from the board that is lost.
        insert_received: number of a byte to the board before which a byte is inserted.
        insert_sent: number of a byte from the board before which a byte is inserted.
        swap_after: number of bytes to the board after which another board replaces it.
        value: the byte that is inserted.
    """

    lose_received: int = 0
    lose_sent: int = 0
    insert_received: int = 0
    insert_sent: int = 0
    swap_after: int = 0
    value: int = 0x79


class WirelessLink:
    """A link to a simulated board in this process; a timeout takes no real time, only time of the simulation.

    Args:
        board: the board at the other end.
        mishaps: the faults of the line.
        other: the board that replaces the first one if `swap_after` is set.

    Attributes:
        received: number of bytes sent to the board so far.
        sent: number of bytes received from the board so far.
        frames: number of frames sent to the board so far.
        erases: number of erase commands among the frames.
        identified: number of bytes sent to the board until it was identified.
    """

    name, baud, notes = "the simulated board", 115200, ()

    def __init__(self, board: SimulatedBoard, mishaps: Mishaps, *, other: SimulatedBoard | None = None) -> None:
        self._board, self._mishaps = board, mishaps
        self._first, self._other = board, other
        self.received = self.sent = self.frames = self.erases = self.identified = 0
        self._heard = board.connect()

    def put_back(self, *, reset: bool) -> None:
        """Reconnect the board, with or without a reset; unread bytes are lost."""
        self._board = self._first
        self._heard = self._board.connect(reset=reset)
        if reset:
            self._board.reset()

    def wait(self, seconds: float) -> None:
        """Let the simulated board run for some seconds."""
        self._hear(self._board.run(seconds))

    def write(self, data: bytes, /) -> None:
        """Deliver a frame to the board, with the faults of the line."""
        mishaps, passed = self._mishaps, self.received
        self.received += len(data)
        self.frames += 1
        self.erases += data == _ERASE
        arrives = _changed(data, passed, lost=mishaps.lose_received, before=mishaps.insert_received, by=mishaps)
        if self._other and passed < mishaps.swap_after <= self.received:
            self._board.feed(arrives[: mishaps.swap_after - passed])
            self._board, self._heard = self._other, self._other.connect()
            return
        self._hear(self._board.feed(arrives))

    def read(self, count: int, /, *, timeout: float) -> bytes:
        """Read bytes from the board; the board runs until they are complete or the timeout ends."""
        if len(self._heard) < count:
            self.wait(timeout)
        if len(self._heard) < count:
            raise NoAnswerError("the board is silent", why=f"for {timeout:.1f} s")
        data, self._heard = self._heard[:count], self._heard[count:]
        return data

    def drain(self) -> bytes:
        """Read all bytes that have arrived."""
        data, self._heard = self._heard, b""
        return data

    def close(self) -> None:
        """Close the link; the board is unchanged."""

    def _hear(self, data: bytes) -> None:
        mishaps = self._mishaps
        self._heard += _changed(data, self.sent, lost=mishaps.lose_sent, before=mishaps.insert_sent, by=mishaps)
        self.sent += len(data)


def _changed(data: bytes, passed: int, *, lost: int, before: int, by: Mishaps) -> bytes:
    """Return the bytes with the line's faults applied; `passed` bytes were transferred before."""
    at = (lost or before) - 1 - passed
    if not 0 <= at < len(data):
        return data
    return data[:at] + (data[at + 1 :] if lost else bytes((by.value,)) + data[at:])
