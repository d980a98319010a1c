"""Helpers of the flashing tests: images, plans, boards, links, and runs of the flasher."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from blockota.errors import NoAnswerError
from blockota.formats.firmware_image import FirmwareImage
from blockota.model.facts import KnownReleases, ProvenRelease
from blockota.model.release import Release, Version
from blockota.model.verification import prove_release
from firmware_host.bench.session import BoardSession
from firmware_host.bootloader.client import Bootloader
from firmware_host.bootloader.identity import identify
from firmware_host.flashing.flasher import carry_out
from firmware_host.flashing.plan import Event, FlashPlan, plan
from firmware_host.line.link import QUIET
from firmware_host.simulator import SimulatedBoard
from tests.firmware_host.board_clock import Clock
from tests.firmware_host.direct_link import DirectLink
from tests.firmware_host.scripted_board import KIB, chip
from tests.support.samples import TRUST, answer_with, release_of

STEP = 0.0005
"""Seconds by which the simulated clock advances while a host waits for an answer."""
BASE = 0x0800_0000
FLASH_SIZE = 64 * KIB
OLD = bytes(index * 7 % 251 for index in range(FLASH_SIZE))
VERSION = Version(1, 1, 0)
EXAMPLES = Path(__file__).parents[2] / "examples" / "bluepill" / "images"


def code(size: int, *, at: int = BASE, seed: int = 1) -> FirmwareImage:
    """Return an image of this size with a plausible vector table and no blank blocks."""
    vectors = (0x2000_5000).to_bytes(4, "little") + (at + 9).to_bytes(4, "little")
    body = bytes((index * 31 + index // 256 + seed) % 255 for index in range(size))
    return FirmwareImage((vectors + body)[:size], at, "bin")


def planned(image: FirmwareImage, *, may_erase_all: bool = False) -> FlashPlan:
    """Return the flash plan of an image for the simulated board."""
    return plan(chip(), image, flash_size=FLASH_SIZE, may_erase_all=may_erase_all)


def connected(board: SimulatedBoard | DirectLink) -> Bootloader:
    """Return a client that is connected to a board, or to the board at the far end of a link."""
    bootloader = Bootloader(board if isinstance(board, DirectLink) else DirectLink(board))
    bootloader.connect()
    return bootloader


def flash(board: SimulatedBoard, image: FirmwareImage) -> list[Event]:
    """Flash an image with default options."""
    return list(carry_out(planned(image), connected(board)))


class RunningLink(DirectLink):
    """A link on which the board runs while the host waits; all other operations take no time."""

    def wait(self, seconds: float) -> None:
        """Let the board run, and collect its output."""
        self._received += self._board.run(seconds)

    def read(self, count: int, /, *, timeout: float) -> bytes:
        """Return an answer; if it is not complete, let the board run first."""
        if len(self._received) < count:
            self.wait(timeout)
        return super().read(count, timeout=timeout)

    def drain(self) -> bytes:
        """Let the board run until the line is quiet, and return everything received."""
        self.wait(QUIET)
        return super().drain()


class WatchedLink(RunningLink):
    """A link that records the frames sent to the board, and may change frames and answers.

    Attributes:
        sent: frames sent to the board.
        waited: seconds that the host waited.
        change: function that alters a frame before the board receives it.
        change_answer: function that alters an answer before the host receives it.
        stands_still: whether the board's processor is stopped.
    """

    def __init__(self, board: SimulatedBoard) -> None:
        super().__init__(board)
        self.sent: list[bytes] = []
        self.waited, self.stands_still = 0.0, False
        self.change: Callable[[bytes], bytes] = bytes
        self.change_answer: Callable[[bytes], bytes] = bytes

    def write(self, data: bytes, /) -> None:
        """Record a frame, and send it to the board after `change` has altered it."""
        self.sent.append(data)
        super().write(self.change(data))

    def read(self, count: int, /, *, timeout: float) -> bytes:
        """Return an answer after `change_answer` has altered it."""
        return self.change_answer(super().read(count, timeout=timeout))

    def wait(self, seconds: float) -> None:
        """Let the board run, unless its processor is stopped."""
        self.waited += seconds
        if not self.stands_still:
            super().wait(seconds)


class TimedLink(RunningLink):
    """A link on which waiting advances the board's clock."""

    def __init__(self, board: SimulatedBoard, clock: Clock) -> None:
        super().__init__(board)
        self._clock = clock

    def wait(self, seconds: float) -> None:
        """Advance the clock, and collect the output that the board sends in that time."""
        self._clock.wait(seconds)
        self._received += self._board.idle(seconds)

    def read(self, count: int, /, *, timeout: float) -> bytes:
        """Return an answer, waiting for it in simulated time until the timeout."""
        deadline = self._clock.now() + timeout
        while len(self._received) < count:
            if self._clock.now() >= deadline:
                raise NoAnswerError("The board is silent", why=f"for {timeout:.1f} s")
            self.wait(STEP)
        return super().read(count, timeout=timeout)


def proven(image: FirmwareImage, *, version: Version = VERSION) -> ProvenRelease:
    """Return an image that has passed checks 1 to 5 as this version."""
    release = release_of(image.data, version=version, load_address=image.load_address)
    return prove_release(answer_with(release=release), TRUST, read_image=lambda _: image.data)


def known(*releases: Release, others: Sequence[Release] = ()) -> KnownReleases:
    """Return the known releases of a product, and those of other products, as a chain records them."""
    return KnownReleases(releases, lambda: others)


def bench_on(link: RunningLink, *, may_erase_all: bool = False) -> BoardSession:
    """Return a session with the board at the far end of a link."""
    bootloader = connected(link)
    return BoardSession(bootloader, identify(bootloader), (), link.wait, may_erase_all)
