"""The facts from the chains, the settings and the stores that the gateway's service passes to the core."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from blockota.formats.public_key import PublicKey
from blockota.model.container import Container
from blockota.model.manifest import Manifest
from blockota.model.order import Order
from blockota.model.receipt import ReleaseId
from blockota.model.release import Product, Release, Version
from blockota.model.target import Component


@dataclass(frozen=True)
class KnownDevice:
    """A device of the site.

    Attributes:
        number: number of the device in DeviceRegistry.
        name: the first alias of the device; the number of the device if it was registered in a batch.
        spec_hash: hash of the device's Spec.
        key: P-256 key of the device on the chain; None if the device has no key.
        is_banned: whether the device is banned. A banned device receives no offers, and its messages are refused.
        group: name of the device's group in the settings.
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
    """A patch that produces the image of an offer from another image.

    Attributes:
        base: SHA-256 of the image that the patch applies to.
        base_version: version of the image that the patch applies to.
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
    """An image that passed checks 1 to 5, stored as a file of the gateway.

    Attributes:
        sha256: SHA-256 of the image.
        size: size in bytes.
        path: the file with the whole image.
        cid: content address.
        container: kind of the file.
        source: the sources of the image as text, for the receipt.
        manifest: manifest of the release; None if the release has no manifest.
        deltas: patches from other images to this image.
    """

    sha256: bytes
    size: int
    path: Path
    cid: str
    container: Container = Container.STM32
    source: str | None = None
    manifest: Manifest | None = None
    deltas: tuple[DeltaOffer, ...] = ()


@dataclass(frozen=True)
class ReleaseFacts:
    """A confirmed release.

    Attributes:
        id: the release's name, unique on all chains.
        release: the record.
        manifest: manifest of the release; None if no manifest exists, or if the manifest has not been found yet.
        is_active: whether the release is in effect at the time of the confirmed block, and was not revoked.
        image: the proven image; None if the image has not been found yet, or is not needed.
    """

    id: ReleaseId
    release: Release
    manifest: Manifest | None = None
    is_active: bool = True
    image: ProvenImage | None = None


@dataclass(frozen=True)
class ComponentFacts:
    """A product that a Spec allows, with its releases.

    Attributes:
        component: the product and its contract.
        product: the record with floor, chip and region; None if the contract does not have the product.
        withheld: why the releases are not offered, for example because the contract is paused; empty if they are
            offered.
        releases: all releases of the product, newest first. Revoked releases are included, so that a reported image is
            recognised.
    """

    component: Component
    product: Product | None
    withheld: str = ""
    releases: tuple[ReleaseFacts, ...] = ()


@dataclass(frozen=True)
class SpecFacts:
    """A model of devices.

    Attributes:
        name: name of the Spec.
        components: the products that the Spec allows.
    """

    name: str
    components: tuple[Component, ...]


@dataclass(frozen=True)
class SiteOrder:
    """An order that was open at the confirmed block.

    Attributes:
        order: the order.
        members: the devices of the site that are in the order's group.
    """

    order: Order
    members: frozenset[int]


@dataclass(frozen=True)
class SiteFacts:
    """The facts about a site after one reading of its chains.

    All facts are from confirmed blocks.

    Attributes:
        block: number of the confirmed block of the gateway chain.
        time: the latest time among the newest blocks of the chains, in Unix seconds.
        devices: the devices of the site by number, including banned devices.
        specs: the Specs of these devices, by hash.
        components: the products that these Specs allow.
        orders: the open orders for devices of the site, oldest first.
        is_banned: whether the gateway itself is banned or retired. It then offers nothing.
    """

    block: int = 0
    time: int = 0
    devices: Mapping[int, KnownDevice] = field(default_factory=dict)
    specs: Mapping[bytes, SpecFacts] = field(default_factory=dict)
    components: Mapping[Component, ComponentFacts] = field(default_factory=dict)
    orders: tuple[SiteOrder, ...] = ()
    is_banned: bool = False
