"""What the gateway's service knows from the chains, the settings and the stores, and gives to the core."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from blockota.formats.public_key import PublicKey
from blockota.model.manifest import Manifest
from blockota.model.release import Version


@dataclass(frozen=True)
class KnownDevice:
    """A device of the site.

    Attributes:
        number: number of the device in DeviceRegistry.
        name: its first alias, or the number for a device of a batch.
        spec_hash: hash of its Spec.
        key: its P-256 key on record; None without one.
        is_banned: whether the device is banned; it gets nothing, and its messages are refused.
        group: name of its group in the settings.
        face: name of the face that serves the device, such as ``mqtt``.
        settings: settings of the face for the device, such as the serial port of a board.
    """

    number: int
    name: str
    spec_hash: bytes
    key: PublicKey | None = None
    is_banned: bool = False
    group: str = "default"
    face: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class DeltaOffer:
    """A patch that makes the image of an offer from another image. The result is checked, never the patch.

    Attributes:
        base: SHA-256 of the image that the patch applies to.
        base_version: version of that image.
        format: ``crle`` or ``heatshrink``.
        sha256: SHA-256 of the patch.
        size: size of the patch in bytes.
        path: file with the patch.
    """

    base: bytes
    base_version: Version
    format: str
    sha256: bytes
    size: int
    path: Path


@dataclass(frozen=True)
class ProvenImage:
    """An image that passed the checks 1 to 5, in a file of the gateway.

    Attributes:
        sha256: SHA-256 of the image.
        size: size in bytes.
        path: the file with the whole image.
        cid: content address.
        container: kind of the file, such as ``stm32`` or ``swu``.
        source: where the image was found, for the receipt.
        manifest: manifest of the release; None without one.
        deltas: patches that make the image from other images.
    """

    sha256: bytes
    size: int
    path: Path
    cid: str
    container: str = "stm32"
    source: str | None = None
    manifest: Manifest | None = None
    deltas: tuple[DeltaOffer, ...] = ()
