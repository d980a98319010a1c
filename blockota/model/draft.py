"""Drafts of releases: their checks before publication, and their records and manifests. Pure."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import BinaryIO, Protocol

from blockota.errors import Action, ImageError, RefusedError
from blockota.formats.cid import RAW, dag
from blockota.formats.mcuboot import security_counter
from blockota.formats.mcuboot_signature import ENCRYPTED, find_signature_fault
from blockota.formats.public_key import PublicKey
from blockota.formats.vector_table import FLASH, LinkAddress, find_link_address
from blockota.model.container import NO_CHIP, SWU_HEAD_SIZE, Container, find_content_fault, find_misfit, recognise
from blockota.model.manifest import NO_REQUIREMENTS, Delta, Manifest, Requirements, metadata_from
from blockota.model.program import BOOT_ADDRESS, SRAM, find_fault, program_remedy
from blockota.model.release import (
    SINGLE_BLOCK_SIZE,
    Product,
    Region,
    Release,
    Status,
    Version,
    show_time,
)

GRACE = 600
"""Seconds by which the activation time may be in the past, because clocks differ and a command takes time."""
MAX_PROGRAM = 1 << 26
"""The maximum number of bytes of a program that are examined. It exceeds the flash of every STM32."""


class ImageFile(Protocol):
    """An image that is read from its file in parts, because the image may be too large for memory."""

    def open(self) -> BinaryIO:
        """Open the image. The caller closes the stream."""


@dataclass(frozen=True)
class Patch:
    """A delta of a manifest, with the bytes of its patch.

    Attributes:
        delta: the entry of the manifest.
        data: the patch.
    """

    delta: Delta
    data: bytes

    @classmethod
    def of(cls, base: Release, data: bytes, *, compression: str) -> Patch:
        """Create the entry of a patch that applies to the image of the older release `base`."""
        *_, root = dag(io.BytesIO(data))
        digest = hashlib.sha256(data).digest()
        return cls(Delta(base.version, base.sha256, root.cid, digest, len(data), compression), data)


@dataclass(frozen=True)
class Draft:
    """A release before its publication.

    Attributes:
        product: name of the product.
        version: the new version.
        image: the image, or its file.
        load_address: flash address of the first byte; None uses the start of the product's region.
        active_from: Unix time, in seconds, from which the release may be installed; 0 means immediately.
        configuration: whether the image is data without a vector table.
        container: the container of the image.
        requires: the requirements of the release on a device.
        delta_from: older versions. A patch must be created from the image of each of these versions.
        patches: the created patches.
        region: the product's region; None if the region is not known yet.
        ram: the ranges of RAM in which a program's initial stack pointer must be.
        flash_end: the end of the largest flash that the chip can have.
        has_address: whether the image comes from a file that contains its address, such as Intel HEX.
        accept_load_address: whether the publisher accepts a load address that the image was not linked for.
        fill: whether to fill gaps of at least an erase unit. If False, an image with a gap of this size is refused.
        filled: the gaps that were filled.
        notes: release notes, lines of text.
        metadata: keys and values, in any order.
        image_key: the key that signs the images of the product; None if the settings do not name a key.
        least_counter: the security counter of the product's newest release. Later releases must not have a lower
            counter.

    Examples:
        >>> draft = Draft("acme-thermo2", Version(1, 4, 0), notes="Saves power.", metadata={"commit": "4f2a91c"})
        >>> draft.active_from, draft.configuration
        (0, False)
    """

    product: str
    version: Version
    image: bytes | ImageFile = b""
    load_address: int | None = None
    active_from: int = 0
    configuration: bool = False
    container: Container = Container.STM32
    requires: Requirements = NO_REQUIREMENTS
    delta_from: tuple[Version, ...] = ()
    patches: tuple[Patch, ...] = ()
    region: Region | None = None
    ram: tuple[Region, ...] = SRAM
    flash_end: int = FLASH.stop
    has_address: bool = False
    accept_load_address: bool = False
    fill: bool = False
    filled: tuple[Region, ...] = ()
    notes: str = ""
    metadata: Mapping[str, str] | Sequence[tuple[str, str]] = ()
    image_key: PublicKey | None = None
    least_counter: int = 0

    @property
    def security_counter(self) -> int | None:
        """The security counter of an MCUboot image, 0 if the image has no counter; None for other containers."""
        return (security_counter(_read_program(self)) or 0) if self.container is Container.MCUBOOT else None

    @property
    def omitted(self) -> tuple[Version, ...]:
        """The versions in `delta_from` without a patch, because the patch would be as large as the image or larger."""
        made = {patch.delta.base_version for patch in self.patches}
        return tuple(version for version in self.delta_from if version not in made)

    def open_image(self) -> BinaryIO:
        """Open the image. The caller closes the stream."""
        return io.BytesIO(self.image) if isinstance(self.image, bytes) else self.image.open()


def draft_release(draft: Draft, product: Product) -> Release:
    """Compute the record of a draft.

    Raises:
        RefusedError: the container does not fit the product, the image is empty, or the notes or metadata are not
            allowed.
    """
    _require_fit(draft, product)
    # The image is read once: it can be larger than memory.
    size, digest, root = 0, hashlib.sha256(), None
    with draft.open_image() as image:
        for block in dag(image):
            root = block.cid
            if root.codec == RAW:
                digest.update(block.data)
                size += len(block.data)
    if not size or root is None:
        raise RefusedError("the image is empty", why="it has 0 bytes", remedy="publish the built image")
    address = product.region.start if draft.load_address is None else draft.load_address
    release = Release(
        product=product.name,
        version=draft.version,
        sha256=digest.digest(),
        size=size,
        load_address=address,
        active_from=draft.active_from,
        chip_id=product.chip_id,
        status=Status.ACTIVE,
        dag_root=root.digest if size > SINGLE_BLOCK_SIZE else None,
    )
    manifest = draft_manifest(draft, release)
    return replace(release, manifest=manifest.cid.digest) if manifest else release


def draft_manifest(draft: Draft, release: Release) -> Manifest | None:
    """Compute the manifest of a draft; None if a manifest would be empty.

    Raises:
        RefusedError: the notes or metadata of the draft cannot be published.
    """
    is_elsewhere = draft.accept_load_address and _find_link_address(draft, release) is not None
    manifest = Manifest(
        *(release.product, release.version, release.sha256, release.size),
        notes=draft.notes,
        metadata=metadata_from(draft.metadata),
        accepts_load_address=is_elsewhere,
        filled=draft.filled,
        container=draft.container,
        requires=draft.requires,
        deltas=tuple(patch.delta for patch in draft.patches),
        security_counter=draft.security_counter,
    )

    return manifest if draft.notes or draft.metadata or manifest.options else None


def check_kind(draft: Draft, release: Release) -> None:
    """Check that the image is a valid file of its container.

    For an STM32, also check that the program can start. Without this check, a vendor could publish a release that every
    bench, gateway or boot loader refuses.

    Raises:
        ImageError: the image is not a valid file of its container, or is not signed by the product's key. An image for
            an STM32 is also refused if it was linked for another address, has no plausible vector table, or is data at
            the boot address.
        RefusedError: the security counter of an MCUboot image is too low.
    """
    if draft.container is not Container.STM32:
        _check_content(draft, release)
        _check_counter(draft)
    _check_signature(draft)
    if draft.container is not Container.STM32:
        return

    is_boot = release.load_address == BOOT_ADDRESS
    if draft.configuration and is_boot:
        raise ImageError(
            f"{release.product} {release.version} cannot be configuration",
            why=f"the chip boots at 0x{BOOT_ADDRESS:08x}, so every bench requires a vector table at this address",
            remedy="pair another product, with a separate region, for the configuration",
        )
    if draft.configuration:
        return

    linked_for = None if draft.accept_load_address else _find_link_address(draft, release)
    if linked_for is not None:
        raise _linked_elsewhere(draft, release, linked_for)
    if fault := find_fault(_read_program(draft), release.region, draft.ram):
        what = f"the image of {release.product} {release.version} has no plausible vector table"
        remedy, action = program_remedy(is_boot=is_boot)
        raise ImageError(what, why=fault, remedy=remedy, action=action)


def check_time(draft: Draft, *, now: int) -> None:
    """Check that the activation time is not in the past.

    Raises:
        RefusedError: the activation time is more than `GRACE` before `now`, in Unix seconds.
    """
    if draft.active_from and draft.active_from < now - GRACE:
        raise RefusedError(
            f"the activation time of {draft.product} {draft.version} is in the past",
            why=f"the activation time is {show_time(draft.active_from)}, the current time is {show_time(now)}",
            remedy="choose a later time, or omit the time to activate the release immediately",
            action=Action.PUBLISH_AT_ONCE,
        )


def _require_fit(draft: Draft, product: Product) -> None:
    """Refuse a container that does not fit the product's chip.

    The error names the container that the image fits.
    """
    misfit = find_misfit(draft.container, product.chip_id)
    if not misfit:
        return

    with draft.open_image() as image:
        fitting = recognise(image.read(SWU_HEAD_SIZE))
    remedy, action = "publish the file for a product that is paired with chip id 0", None
    if product.chip_id == NO_CHIP:
        remedy, action = f"choose the container {fitting}, which fits this file", Action.CHOOSE_CONTAINER
    elif fitting is not Container.SWU:
        remedy, action = f"{remedy}, or as stm32", Action.CHOOSE_CONTAINER

    raise RefusedError(f"the container does not fit {product.name}", why=misfit, remedy=remedy, action=action)


def _check_content(draft: Draft, release: Release) -> None:
    fault = find_content_fault(draft.container, _read_program(draft))
    if not fault:
        return

    with draft.open_image() as image:
        fitting = recognise(image.read(SWU_HEAD_SIZE))
    raise ImageError(
        f"the image of {release.product} {release.version} is not a file for the container {draft.container}",
        why=fault,
        remedy=f"give another file, or choose the container {fitting} for this file",
        action=Action.CHOOSE_CONTAINER,
    )


def _check_counter(draft: Draft) -> None:
    counter = draft.security_counter
    if counter is not None and counter < draft.least_counter:
        raise RefusedError(
            f"the security counter of {draft.product} {draft.version} is too low",
            why=f"it is {counter}, and the previous release has {draft.least_counter}: devices that ran the previous "
            "release would refuse the image",
            remedy=f"sign the image with a security counter of {draft.least_counter} or more",
        )


def _check_signature(draft: Draft) -> None:
    """Refuse an image that the product's key did not sign. The signature of an encrypted image cannot be verified."""
    fault = find_signature_fault(_read_program(draft), draft.image_key) if draft.image_key else ""
    if fault and fault != ENCRYPTED:
        raise ImageError(
            f"the image of {draft.product} {draft.version} is not signed by the product's image key",
            why=fault,
            remedy="sign the image with the key that the settings name for the product",
            action=Action.SIGN_IMAGE,
        )


def _find_link_address(draft: Draft, release: Release) -> LinkAddress | None:
    """Return the address for which a program was linked; None if this is the load address.

    Returns None for data.
    """
    if draft.configuration or draft.container is not Container.STM32:
        return None
    return find_link_address(_read_program(draft), release.load_address, flash_end=draft.flash_end)


def _read_program(draft: Draft) -> bytes:
    with draft.open_image() as image:
        return image.read(MAX_PROGRAM)


def _linked_elsewhere(draft: Draft, release: Release, linked_for: LinkAddress) -> ImageError:
    what = f"the image of {release.product} {release.version} was linked for another address"
    why = f"its addresses begin at 0x{linked_for.address:08x}, and it would be written at 0x{release.load_address:08x}"
    can_accept = not find_fault(_read_program(draft), release.region, draft.ram)
    if draft.has_address:
        remedy = "build the file again with the addresses that the program is linked for"
        return ImageError(what, why=why, remedy=remedy, action=Action.ACCEPT_LOAD_ADDRESS if can_accept else None)

    start = linked_for.address if linked_for.is_certain else linked_for.probable
    place = Region(start, release.size) if start is not None else None
    if place and draft.region and not draft.region.contains(place):
        likely = "" if linked_for.is_certain else ", where it probably belongs"
        remedy = f"publish the image for a product whose region contains {place}{likely}"
        return ImageError(what, why=why, remedy=remedy, action=Action.PAIR_PRODUCT)
    address = "ADDRESS" if start is None else f"0x{start:08x}"
    remedy = f"publish the image with the load address {address}"
    if not linked_for.is_certain:
        remedy = "look up the start of the flash in the program's linker script, and publish with that load address"
        remedy += f", which is probably {address}" if place else ""
    action = Action.GIVE_OR_ACCEPT_LOAD_ADDRESS if can_accept else Action.GIVE_LOAD_ADDRESS
    return ImageError(what, why=why, remedy=remedy, action=action, values={"address": address})
