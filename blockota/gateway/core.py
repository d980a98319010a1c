"""The gateway's core: what the faces call, and what they offer to devices.

All methods are called in one asyncio loop. A face that uses a thread calls them by `asyncio.run_coroutine_threadsafe`.

Every awaitable returns when the new state is on the disk, so that a face acknowledges only what cannot be lost. A call
with the number of another try than the present one changes nothing and returns False.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from blockota.gateway.facts import DeltaOffer, KnownDevice
from blockota.model.delivery import Delivery
from blockota.model.manifest import Manifest
from blockota.model.receipt import EvidenceLevel, ReleaseId
from blockota.model.target import Component

Clock = Callable[[], int]
"""Returns the Unix time in seconds."""


@dataclass(frozen=True)
class DeviceOffer:
    """What a device is to install now.

    Attributes:
        job: number of the try, at most 48 bits. A face passes it to the device, and back with each answer.
        component: the product.
        release: the release.
        image: SHA-256 of the image.
        size: size of the image in bytes.
        path: file with the whole, proven image.
        container: kind of the file, such as ``stm32`` or ``swu``.
        cid: content address of the image.
        nonce: 16 bytes for the device's signed statement.
        order: number of the order that names the release; None if the group's policy chose it.
        not_before: Unix time before which the device must not install; None for at once.
        deadline: Unix time from which the device must not install; None without one.
        deltas: patches that make the image from other images.
        manifest: manifest of the release; None without one.
        is_configuration: whether the image is a configuration.
    """

    job: int
    component: Component
    release: ReleaseId
    image: bytes
    size: int
    path: Path
    container: str
    cid: str
    nonce: bytes
    order: int | None = None
    not_before: int | None = None
    deadline: int | None = None
    deltas: tuple[DeltaOffer, ...] = ()
    manifest: Manifest | None = None
    is_configuration: bool = False


@dataclass(frozen=True)
class Report:
    """What a device reports about itself. A value that the device does not report is None.

    Attributes:
        image: SHA-256 of the running image.
        product: product of the image; None for the firmware.
        version: version that the device states. It must be the version of the image.
        is_confirmed: whether the device has confirmed the image, so that it does not roll back by itself.
        level: B for what the device says, C if the face has read the flash. A statement makes it A.
        statement: the device's signed statement, `blockota.formats.cose`.
        hardware: hardware revision.
        unique_id: unique id of the chip.
    """

    image: bytes | None = None
    product: str | None = None
    version: str | None = None
    is_confirmed: bool = True
    level: EvidenceLevel = EvidenceLevel.B
    statement: bytes | None = None
    hardware: str | None = None
    unique_id: bytes | None = None


class Face(Protocol):
    """A protocol by which the gateway meets devices."""

    name: str

    async def run(self, core: Core) -> None:
        """Serve devices until the task is cancelled."""

    def offer_changed(self, device: int) -> None:
        """Be told, in the loop, that an offer to a device appeared, changed or was withdrawn."""


class Core:
    """The state of all devices of a site."""

    def device(self, number: int) -> KnownDevice | None:
        """Return a device of this site, banned or not; None for any other number."""
        raise NotImplementedError

    def authenticate(self, face: str, number: int, secret: str | bytes) -> KnownDevice:
        """Check the credentials of a device.

        Args:
            face: name of the face.
            number: number that the client claims.
            secret: its token.

        Raises:
            AccessRefusedError: the number is not of this site, the device is banned, or the secret is not its own.
        """
        raise NotImplementedError

    def shared_key(self, face: str, number: int) -> bytes | None:
        """Return the pre-shared key of a device, 32 bytes; None if it is banned, not of this site, or has no key."""
        raise NotImplementedError

    def offer(self, number: int, product: str | None = None) -> DeviceOffer | None:
        """Return what a device is to install now.

        Args:
            number: number of the device.
            product: product of the component; None for the firmware.
        """
        raise NotImplementedError

    def offers(self, number: int) -> list[DeviceOffer]:
        """Return the offers for all components of a device."""
        raise NotImplementedError

    def state(self, number: int, product: str | None = None) -> Delivery:
        """Return the state of a component of a device.

        Raises:
            AccessRefusedError: the device is not of this site.
        """
        raise NotImplementedError

    def nonce(self, number: int) -> bytes:
        """Return 16 bytes that the next statement of a device must have. They change when a statement is accepted."""
        raise NotImplementedError

    async def reported(self, number: int, report: Report) -> bool:
        """Record what a device reports about itself.

        Returns:
            Whether the report was accepted.

        Raises:
            AccessRefusedError: the device is not of this site, or is banned.
            RefusedError: the statement is replayed, forged or about another image. A warning is logged.
        """
        raise NotImplementedError

    async def offered(self, number: int, job: int) -> bool:
        """Record that a device was told of an offer."""
        raise NotImplementedError

    async def progress(self, number: int, job: int, received: int = 0) -> bool:
        """Record that a device received a part of the image.

        Args:
            number: number of the device.
            job: number of the try.
            received: bytes so far; 0 if the device does not report them.
        """
        raise NotImplementedError

    async def outcome(
        self, number: int, job: int, *, succeeded: bool, reason: str = "", is_refusal: bool = False
    ) -> bool:
        """Record how a device says that its try ended. A success counts only with a later report.

        Args:
            number: number of the device.
            job: number of the try.
            succeeded: whether the device says that the image is installed.
            reason: the reason of a failure.
            is_refusal: whether another try makes no sense.
        """
        raise NotImplementedError

    async def postponed(
        self, number: int, job: int, *, until: int, reason: str = "", statement: bytes | None = None
    ) -> bool:
        """Record that a device asks for a later time.

        Args:
            number: number of the device.
            job: number of the try.
            until: Unix time.
            reason: the device's reason.
            statement: the device's signed statement about the image that it postpones.

        Returns:
            Whether the postponement was granted.
        """
        raise NotImplementedError

    async def event(self, number: int, *, text: str, statement: bytes | None = None, counter: int | None = None) -> int:
        """Log an event of a device, such as an alarm.

        Args:
            number: number of the device.
            text: the event.
            statement: not used yet.
            counter: the device's own number of the event. A repeated event is not logged again.

        Returns:
            The index of the entry, when it is in the log.

        Raises:
            RefusedError: the device sends too many events, or the text cannot be logged.
        """
        raise NotImplementedError

    async def warn(self, number: int | None, reason: str) -> None:
        """Log that a message was refused, once for each device and reason in a minute.

        Args:
            number: number of the device; None if it is unknown.
            reason: why the message was refused.
        """
        raise NotImplementedError
