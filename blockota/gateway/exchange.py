"""What the core and the faces give each other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from blockota.gateway.facts import DeltaOffer
from blockota.model.container import Container
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
        container: kind of the file.
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
    container: Container
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
