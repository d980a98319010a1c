"""The values that the core and the faces exchange."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from blockota.gateway.facts import DeltaOffer, ProvenImage
from blockota.model.container import Container
from blockota.model.delivery import Target
from blockota.model.manifest import Manifest
from blockota.model.order import Order
from blockota.model.receipt import EvidenceLevel, ReleaseId
from blockota.model.target import Component

Clock = Callable[[], int]
"""Returns the Unix time in seconds."""


@dataclass(frozen=True)
class DeviceOffer:
    """The image that a device must install now.

    Attributes:
        job: number of the try, 1 to 2,147,483,647. A face sends the number to the device, and passes it to the core
            with each answer of the device.
        component: the product.
        release: the release.
        image: SHA-256 of the image.
        size: size of the image in bytes.
        path: the file that contains the whole, proven image.
        container: kind of the file.
        cid: content address of the image.
        nonce: 16 bytes that the device's signed statement must contain.
        order: number of the order that names the release; None if the group's policy chose it.
        not_before: Unix time before which the device must not install the image; None for an immediate installation.
        deadline: Unix time from which the device must not install the image; None without a deadline.
        deltas: patches that produce the image from other images.
        manifest: manifest of the release; None if the release has no manifest.
        is_configuration: whether the image is a configuration.
    """

    job: int
    component: Component
    release: ReleaseId
    image: bytes
    size: int
    path: Path
    container: Container
    cid: str
    nonce: bytes
    order: int | None = None
    not_before: int | None = None
    deadline: int | None = None
    deltas: tuple[DeltaOffer, ...] = ()
    manifest: Manifest | None = None
    is_configuration: bool = False

    @classmethod
    def of(cls, job: int, target: Target, image: ProvenImage, order: Order | None, *, nonce: bytes) -> DeviceOffer:
        """Return the offer of a target whose image is proven.

        Args:
            job: number of the try.
            target: the target.
            image: the image of the target.
            order: the order that chose the target; None if the group's policy chose it.
            nonce: the nonce for the device's statement.
        """
        not_before, deadline = (order.not_before, order.deadline) if order else (None, None)
        return cls(
            job=job,
            component=Component.of(target.release),
            release=target.release,
            image=target.image,
            size=image.size,
            path=image.path,
            container=image.container,
            cid=image.cid,
            nonce=nonce,
            order=target.order,
            not_before=not_before,
            deadline=deadline,
            deltas=image.deltas,
            manifest=image.manifest,
        )


@dataclass(frozen=True)
class Report:
    """The report of a device about itself. A value that the device does not report is None.

    Attributes:
        image: SHA-256 of the running image.
        product: product of the image; None for the firmware.
        version: version that the device states. It must match the image.
        is_confirmed: whether the device has confirmed the image. A device does not roll back from a confirmed image by
            itself.
        level: evidence level: B if the device reports the image, C if the face has read the flash. The core raises the
            level to A for a signed statement.
        statement: the device's signed statement, in the format of `blockota.formats.cose` or
            `blockota.model.boot_event`.
        digest: the MCUboot digest of the running image. A signed event of a board contains this digest, not the
            SHA-256.
        hardware: hardware revision.
        unique_id: unique id of the chip.
        is_reinstalled: whether the face has just written the image to the flash; True only with level C.
    """

    image: bytes | None = None
    product: str | None = None
    version: str | None = None
    is_confirmed: bool = True
    level: EvidenceLevel = EvidenceLevel.B
    statement: bytes | None = None
    digest: bytes | None = None
    hardware: str | None = None
    unique_id: bytes | None = None
    is_reinstalled: bool = False
