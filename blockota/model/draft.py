"""Drafts of releases: checks before publication, and the record and manifest that result. Pure."""

from __future__ import annotations

import hashlib
import io
import struct
from dataclasses import dataclass, replace
from typing import BinaryIO, Protocol

from blockota.errors import Action, ImageError, RefusedError
from blockota.formats.cid import RAW, dag
from blockota.model.manifest import Manifest
from blockota.model.release import (
    SINGLE_BLOCK_SIZE,
    Product,
    Region,
    Release,
    Status,
    Version,
    is_stack_top,
    show_ranges,
    show_time,
)

SRAM = (Region(0x2000_0000, 0x2000_0000),)
"""Address range of the RAM of every Cortex-M (ARMv7-M Architecture Reference Manual, B3.1)."""
BOOT_ADDRESS = 0x0800_0000
"""Start address of an STM32's main flash, where it boots (AN2606)."""
GRACE = 600
"""Seconds by which the activation time may be in the past, because clocks differ and typing takes time."""
_VECTOR_TABLE_START = 8


class ImageFile(Protocol):
    """An image that is read from its file, because it may be too large for memory."""

    def open(self) -> BinaryIO:
        """Open the image; the caller closes the stream."""


@dataclass(frozen=True)
class Draft:
    """A release before its publication.

    Attributes:
        product: name of the product.
        version: the new version.
        image: the image, or its file.
        load_address: flash address of the first byte; None uses the start of the product's region.
        active_from: Unix time, in seconds, from which the release may be installed; 0 means at once.
        configuration: whether the image is data, which has no vector table.
        ram: the ranges of RAM in which a program's initial stack pointer must be.
        notes: release notes, lines of text.
        metadata: ⟨key, value⟩ pairs, sorted by `manifest.metadata_from`.
    """

    product: str
    version: Version
    image: bytes | ImageFile = b""
    load_address: int | None = None
    active_from: int = 0
    configuration: bool = False
    ram: tuple[Region, ...] = SRAM
    notes: str = ""
    metadata: tuple[tuple[str, str], ...] = ()

    def open_image(self) -> BinaryIO:
        """Open the image; the caller closes the stream."""
        return io.BytesIO(self.image) if isinstance(self.image, bytes) else self.image.open()


def draft_release(draft: Draft, product: Product) -> Release:
    """Compute the record of a draft.

    Raises:
        RefusedError: the image is empty, or the notes or metadata cannot be published.
    """
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
    """Compute the manifest of a draft; None if the draft has neither notes nor metadata.

    Raises:
        RefusedError: the notes or metadata of the draft cannot be published.
    """
    if not draft.notes and not draft.metadata:
        return None
    facts = release.product, release.version, release.sha256, release.size
    return Manifest(*facts, notes=draft.notes, metadata=draft.metadata)


def check_kind(draft: Draft, release: Release) -> None:
    """Check that a program has a plausible vector table, and that data are not at the boot address.

    Check 9 of `model.verification` would refuse a release that fails this check on every bench.

    Raises:
        ImageError: the program has no plausible vector table, or the data are at the boot address.
    """
    if draft.configuration and release.load_address == BOOT_ADDRESS:
        raise ImageError(
            f"{release.product} {release.version} cannot be configuration",
            why=f"the chip boots at 0x{BOOT_ADDRESS:08x}, so every bench requires a vector table there",
            remedy="pair another product, with a separate region, for the configuration",
        )
    if draft.configuration:
        return
    with draft.open_image() as image:
        start = image.read(_VECTOR_TABLE_START)
    if len(start) < _VECTOR_TABLE_START:
        raise _no_program(release, f"its {len(start)} bytes are too short for a vector table")
    # ARMv7-M Architecture Reference Manual, B1.5.3: the initial stack pointer, then the reset vector.
    stack, reset = struct.unpack("<II", start)
    if not is_stack_top(stack, draft.ram):
        raise _no_program(release, f"the initial stack pointer 0x{stack:08x} is not in RAM, {show_ranges(draft.ram)}")
    if not (reset & 1 and release.region.contains(Region(reset & ~1, 2))):
        raise _no_program(release, f"the reset vector 0x{reset:08x} is not a Thumb address inside {release.region}")


def check_time(draft: Draft, *, now: int) -> None:
    """Check that the activation time is not in the past.

    Raises:
        RefusedError: the activation time is more than `GRACE` before `now`, in Unix seconds.
    """
    if draft.active_from and draft.active_from < now - GRACE:
        raise RefusedError(
            f"the activation time of {draft.product} {draft.version} is in the past",
            why=f"the activation time is {show_time(draft.active_from)}, the current time is {show_time(now)}",
            remedy="choose a later time, or omit the time to activate the release at once",
            action=Action.PUBLISH_AT_ONCE,
        )


def _no_program(release: Release, why: str) -> ImageError:
    return ImageError(
        f"the image of {release.product} {release.version} has no plausible vector table",
        why=why,
        remedy="publish the linked image of a program, or declare the image as data",
        action=Action.PUBLISH_AS_CONFIGURATION,
    )
