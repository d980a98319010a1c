"""The diary of a device's actual events, which the judge reads and the gateway does not.

A device computes the SHA-256 of each image that it installs, without the product's code. The device compares this
SHA-256 with the vendor's record on the chain, and does not rely on the gateway's announcement.
"""

from __future__ import annotations

import hashlib
import random
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from blockota.model.receipt import EntryKind, EvidenceLevel
from tests.support.receipts import SigningDevice


class DeviceFault(StrEnum):
    """A fault that a device or its network injects."""

    # The network.
    RESET_TRANSFER = "the connection of a download is reset"
    RESET_SESSION = "the session with the broker is reset"
    LOST_ANSWER = "the answer is lost, and the message repeated"
    LOST_DATAGRAM = "datagrams are lost"
    DOUBLED_DATAGRAM = "datagrams come twice"
    SPOILED_DATAGRAM = "datagrams are spoiled"
    SPOILED_MESSAGE = "a message is spoiled"
    DUPLICATE = "a message is sent twice"
    # Failures and refusals of a device.
    SPOILED_IMAGE = "the image is spoiled on its way to the device"
    REFUSAL = "the device refuses the release"
    POSTPONEMENT = "the device postpones the release"
    RESTART = "the device restarts during the download"
    ROLLBACK = "the device starts the image, and rolls back"
    # Lies.
    BARE_CLAIM = "success without a report of the running image"
    FALSE_CLAIM = "an unsigned claim to run the image"
    NOT_FETCHED = "success of an image that was not fetched"
    WRONG_VERSION = "a version that is not that of the image"
    REPLAY = "an old signed statement"
    FORGERY = "a statement with another key"
    OTHER_DEVICE = "a message in the name of another device"
    OTHER_JOB = "a message about another job"
    # Events.
    DOUBLED_EVENT = "an event is sent twice"
    CHANGED_EVENT = "an event with the number of another one"


LAST = frozenset({DeviceFault.REFUSAL})
"""Faults after which a device no longer gets the release."""


@dataclass(frozen=True)
class FleetRelease:
    """A release for the fleet.

    Attributes:
        version: the version of the release.
        image: the image.
    """

    version: str
    image: bytes

    @property
    def sha256(self) -> bytes:
        """The SHA-256 on the chain."""
        return hashlib.sha256(self.image).digest()


@dataclass
class Diary:
    """The events on a device.

    Attributes:
        number: its number.
        key: the device's public key on the chain, x and y.
        confirmed: the images that the device ran and confirmed, each with the Unix time of the confirmation.
        reports: the reports of the running image that the gateway acknowledged, each with its evidence level.
        texts: the events, refusals and postponements that the gateway acknowledged, each with its kind, its text and,
            if known, its log index.
        faults: the injected faults.
        unverified: the number of served or installed images whose SHA-256 differs from the SHA-256 on the chain.
        given_up: the images that the device refused.
    """

    number: int
    key: bytes
    confirmed: list[tuple[bytes, float]] = field(default_factory=list)
    reports: list[tuple[bytes, EvidenceLevel]] = field(default_factory=list)
    texts: list[tuple[EntryKind, str, int | None]] = field(default_factory=list)
    faults: Counter[DeviceFault] = field(default_factory=Counter)
    unverified: int = 0
    given_up: set[bytes] = field(default_factory=set)


@dataclass(frozen=True)
class DeviceStart:
    """The initial state of a device.

    Attributes:
        number: its number.
        signer: the device's key.
        releases: by version, the releases that are or will be published on the chain.
        runs: the release that the device runs before its first update.
    """

    number: int
    signer: SigningDevice
    releases: Mapping[str, FleetRelease]
    runs: FleetRelease


class FleetDevice(ABC):
    """A device: the image that it runs, its key and its diary.

    Args:
        start: the initial state of the device.
    """

    face = ""
    FAULTS: tuple[DeviceFault, ...] = ()

    def __init__(self, start: DeviceStart) -> None:
        self.number, self.signer, self.releases, self.runs = start.number, start.signer, start.releases, start.runs
        self.diary = Diary(self.number, self.signer.key, [(self.runs.sha256, time.time())])
        self.draw = random.Random(self.number)  # noqa: S311 - a draw that can be repeated
        self._texts = 0

    async def live(self) -> None:  # noqa: B027 - a face without a connection does nothing
        """Keep the connection open, if the protocol uses a connection."""

    @abstractmethod
    async def start(self) -> None:
        """Report the image that the device runs before its first update."""

    @abstractmethod
    async def inject(self, fault: DeviceFault, release: FleetRelease) -> bool:
        """Inject the fault if it is independent of an update; return whether the fault was injected."""

    @abstractmethod
    async def attempt(self, release: FleetRelease, fault: DeviceFault | None, *, is_last: bool) -> bool:
        """Try once to get a release.

        Args:
            release: the release.
            fault: the fault of this try.
            is_last: whether this is the last try, which should succeed; earlier tries fail.

        Returns:
            Whether the try ended as intended; False if the gateway withdrew its offer during the try.
        """

    async def finish(self) -> None:  # noqa: B027 - most faces are ready
        """Be ready for the judge."""

    async def update(self, release: FleetRelease, faults: Sequence[DeviceFault]) -> None:
        """Install a release after some faults."""
        for place, fault in enumerate(faults, 1):
            if not await self.inject(fault, release):
                while not await self.attempt(release, fault, is_last=place == len(faults)):
                    pass
            self.diary.faults[fault] += 1
        while self.runs is not release and release.sha256 not in self.diary.given_up:
            await self.attempt(release, None, is_last=True)

    def text(self, what: str) -> str:
        """Return a text that occurs in no other log entry."""
        self._texts += 1
        return f"{what} ({self.face} {self.number}, {self._texts})"

    def note_text(self, kind: EntryKind, text: str, index: int | None = None) -> None:
        """Record an acknowledged text, which the log must contain; `index` is its log index, None if not known."""
        self.diary.texts.append((kind, text, index))

    def note_report(self, image: bytes, level: EvidenceLevel) -> None:
        """Record that the gateway acknowledged a report of the running image."""
        self.diary.reports.append((image, level))

    def install(self, version: str, image: bytes) -> None:
        """Install an image and confirm it."""
        release = self.releases[version]
        if hashlib.sha256(image).digest() != release.sha256:
            self.diary.unverified += 1
        self.runs = release
        self.diary.confirmed.append((release.sha256, time.time()))

    def spoiled(self, image: bytes) -> bytes:
        """Return an image with one flipped bit; empty if the download was abandoned."""
        if not image:
            return image
        place = self.draw.randrange(len(image))
        return image[:place] + bytes((image[place] ^ 1,)) + image[place + 1 :]
