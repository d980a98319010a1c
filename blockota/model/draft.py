"""A release before it is one: what the vendor's engineer asks for, checked, as the record and the manifest it becomes.

Pure.
"""

from __future__ import annotations

import hashlib
import io
import struct
from dataclasses import dataclass, replace
from typing import BinaryIO, Protocol

from blockota.errors import ImageError, RefusedError
from blockota.formats.cid import CID, RAW, dag
from blockota.model.manifest import Manifest
from blockota.model.release import SINGLE_BLOCK_SIZE, Product, Region, Release, Status, Version, show_time

SRAM = Region(0x2000_0000, 0x2000_0000)
"""Where every Cortex-M has its RAM (ARMv7-M Architecture Reference Manual, B3.1)."""
BOOT_ADDRESS = 0x0800_0000
"""Where an STM32 begins to run its main flash (AN2606)."""
GRACE = 600
"""Seconds by which a release may seem to begin in the past: clocks differ, and people take their time."""
_VECTOR_TABLE_START = 8


class ImageFile(Protocol):
    """An image that stays where it is, because it is too large to be held in memory."""

    def open(self) -> BinaryIO:
        """Its bytes from the beginning; the caller closes it."""


@dataclass(frozen=True)
class Draft:
    """A release as the vendor's engineer asks for it.

    Attributes:
        product: the product's name.
        version: the new version.
        image: the bytes that go into flash, or the file that holds them.
        load_address: where the first byte goes; None means the start of the product's region.
        active_from: Unix time, in seconds; 0 means at once.
        configuration: whether the image is data, which needs no vector table.
        ram: where a program's initial stack pointer must point.
        notes: for people; lines of text.
        metadata: ⟨key, value⟩ pairs, as `manifest.metadata_from` orders them.
    """

    product: str
    version: Version
    image: bytes | ImageFile = b""
    load_address: int | None = None
    active_from: int = 0
    configuration: bool = False
    ram: Region = SRAM
    notes: str = ""
    metadata: tuple[tuple[str, str], ...] = ()

    def open_image(self) -> BinaryIO:
        """The image's bytes as a stream; the caller closes it."""
        return io.BytesIO(self.image) if isinstance(self.image, bytes) else self.image.open()


def draft_release(draft: Draft, product: Product) -> Release:
    """The record that a draft becomes; nothing is stored or sent.

    Raises:
        RefusedError: the image is empty, or its notes or metadata cannot be published.
    """
    size, sha256, root = _measure(draft)
    if not size:
        raise RefusedError("the image is empty", why="it has 0 bytes", remedy="publish the built image")
    address = product.region.start if draft.load_address is None else draft.load_address
    release = Release(
        product=product.name,
        version=draft.version,
        sha256=sha256,
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
    """The manifest of a draft; None where there is nothing to say.

    Raises:
        RefusedError: its notes or metadata cannot be published.
    """
    if not draft.notes and not draft.metadata:
        return None
    facts = release.product, release.version, release.sha256, release.size
    return Manifest(*facts, notes=draft.notes, metadata=draft.metadata)


def check_kind(draft: Draft, release: Release) -> None:
    """Refuse a program without a plausible vector table, which no bench would write (check 9), and data in its place.

    Raises:
        ImageError: it cannot run, or cannot be configuration.
    """
    if draft.configuration:
        _require_place(release)
        return
    with draft.open_image() as image:
        start = image.read(_VECTOR_TABLE_START)
    if len(start) < _VECTOR_TABLE_START:
        raise _no_program(release, f"its {len(start)} bytes are too short to hold a vector table")
    stack, reset = struct.unpack("<II", start)
    if not (draft.ram.start < stack <= draft.ram.end and stack % 4 == 0):
        raise _no_program(release, f"the initial stack pointer 0x{stack:08x} is not in RAM, {draft.ram}")
    if not (reset & 1 and release.region.contains(Region(reset & ~1, 2))):
        raise _no_program(release, f"the reset vector 0x{reset:08x} is not a Thumb address inside {release.region}")


def check_time(draft: Draft, *, now: int) -> None:
    """Refuse a release that is to begin in the past.

    Raises:
        RefusedError: its time is over by more than `GRACE` at `now`, in Unix seconds.
    """
    if draft.active_from and draft.active_from < now - GRACE:
        raise RefusedError(
            f"{draft.product} {draft.version} would begin in the past",
            why=f"{show_time(draft.active_from)} is over, it is {show_time(now)}",
            remedy="choose a later time, or leave --active-from out for at once",
        )


def _measure(draft: Draft) -> tuple[int, bytes, CID]:
    """An image's size, SHA-256 and content address, read once."""
    size, digest, root = 0, hashlib.sha256(), None
    with draft.open_image() as image:
        for block in dag(image):
            root = block.cid
            if root.codec == RAW:
                digest.update(block.data)
                size += len(block.data)
    if root is None:
        raise AssertionError("a DAG has at least one block")
    return size, digest.digest(), root


def _require_place(release: Release) -> None:
    if release.load_address == BOOT_ADDRESS:
        raise ImageError(
            f"{release.product} {release.version} cannot be configuration",
            why=f"the chip begins to run at 0x{BOOT_ADDRESS:08x}, so every bench wants a vector table there",
            remedy="pair a product with a region of its own for the configuration",
        )


def _no_program(release: Release, why: str) -> ImageError:
    return ImageError(
        f"the image of {release.product} {release.version} has no plausible vector table",
        why=why,
        remedy="publish the linked image of a program, or say --configuration for data",
    )
