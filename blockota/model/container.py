"""The kinds of image files of releases, called containers, and the checks that apply to each.

Pure. The manifest of a release names the container. The container is `STM32` if no manifest exists, or if the manifest
names no container. The chip id of a product determines which containers its releases may have. A product with chip id 0
is for devices other than STM32 boards with ST's boot loader. Its releases cannot have the container `STM32`.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType

from blockota.errors import UsageError
from blockota.formats import cpio, mcuboot
from blockota.model.program import SRAM
from blockota.model.release import is_stack_top

NO_CHIP = 0
"""The chip id of products whose devices have no boot loader of ST."""
SWU_HEAD_SIZE = 4096
"""The number of bytes at the start of a .swu that `find_content_fault` needs."""
_SWU_FIRST = "sw-description"
_START = struct.Struct("<II")
_LAST_CODE = 0x1FFF_FFFF
"""The last address of the code region of every Cortex-M (ARMv7-M Architecture Reference Manual, B3.1)."""


class Container(StrEnum):
    """A kind of image file.

    The value is the name of the container in the manifest.

    Examples:
        >>> draft = Draft("acme-hub", Version(1, 0, 0), container=Container.SWU)
        >>> str(draft.container)
        'swu'
    """

    STM32 = "stm32"
    """A raw program or data for a region of an STM32's flash."""
    MCUBOOT = "mcuboot"
    """An image of MCUboot, with its header and its hash."""
    SWU = "swu"
    """An archive of SWUpdate, for devices with Linux."""
    OPAQUE = "opaque"
    """Any bytes. Only the device knows their format."""

    @classmethod
    def parse(cls, name: str) -> Container:
        """Read the name of a container.

        Raises:
            UsageError: no container has this name.
        """
        try:
            return cls(name)
        except ValueError as error:
            raise UsageError(f"{name!r:.40} is not a container", why=f"the containers are {', '.join(cls)}") from error


class Means(StrEnum):
    """The source of the data for a check."""

    CHAIN = "the chain's record"
    CHIP = "the chip"
    SLOT = "the slot of the device's loader"
    REPORT = "the manifest and the device's report"
    IMAGE = "the image"
    FLASH = "the flash, read or hashed"
    DIGEST = "the digest that the device reports or signs"


_BY_CHIP: dict[int, Means] = {5: Means.CHIP, 7: Means.CHIP, 8: Means.CHIP, 10: Means.FLASH}
_BY_LOADER: dict[int, Means] = {5: Means.SLOT, 7: Means.REPORT, 10: Means.DIGEST}
_BY_REPORT: dict[int, Means] = {5: Means.REPORT, 7: Means.REPORT, 10: Means.DIGEST}
_ANY, _ONLY_STM32 = frozenset(Container), frozenset({Container.STM32})
_FACES: Mapping[str, tuple[frozenset[Container], dict[int, Means]]] = MappingProxyType(
    {
        "bench": (_ONLY_STM32, _BY_CHIP),
        "an3155": (_ONLY_STM32, _BY_CHIP),
        "smp": (frozenset({Container.MCUBOOT}), _BY_LOADER),
        "ddi": (_ANY, _BY_REPORT),
        "mqtt": (_ANY, _BY_REPORT),
        "lwm2m": (_ANY, _BY_REPORT),
    }
)
"""For the bench and each face, the containers that it can install, and the checks that depend on it."""


FACES = tuple(_FACES)
"""The names of the bench and of the faces."""


def checks_for(container: Container, face: str) -> Mapping[int, Means]:
    """Return the checks of an image by the bench or by a face of a gateway, each with the source of its data.

    Args:
        container: the container of the image.
        face: ``bench``, or the name of a gateway's face.

    Returns:
        A dict from the number of each check to the source of its data; empty if the face cannot install the container.

    Examples:
        >>> sorted(checks_for(Container.OPAQUE, "mqtt"))
        [1, 2, 3, 4, 5, 6, 7, 10]
    """
    containers, own = _FACES[face]
    if container not in containers:
        return {}
    everywhere = dict.fromkeys((1, 2, 3, 4, 6), Means.CHAIN)
    content = {} if container is Container.OPAQUE else {9: Means.IMAGE}
    return dict(sorted((everywhere | content | own).items()))


def recognise(head: bytes) -> Container:
    """Guess the container of a file from its first `SWU_HEAD_SIZE` bytes. The result is never `STM32`."""
    if cpio.first_name(head) == _SWU_FIRST:
        return Container.SWU
    return Container.MCUBOOT if head.startswith(mcuboot.MAGIC) else Container.OPAQUE


def find_misfit(container: Container, chip_id: int) -> str:
    """Return why a container does not fit a product's chip id; empty if it fits."""
    if container is Container.STM32 and chip_id == NO_CHIP:
        return "the container is stm32, and the product is paired with chip id 0, for devices that are not an STM32"
    if container is not Container.STM32 and chip_id != NO_CHIP:
        return f"the container is {container}, and the product is paired with the chip 0x{chip_id:03x} of an STM32"
    return ""


def find_content_fault(container: Container, image: bytes) -> str:
    """Return why an image is not a valid file of its container; empty if it is valid.

    This is check 9 for every container except `STM32`. For `STM32`, check 9 depends on the chip (`model.program`).

    Args:
        container: the container.
        image: the whole image if the container is `MCUBOOT`; at least the first `SWU_HEAD_SIZE` bytes for other
            containers.
    """
    if container is Container.SWU:
        first = cpio.first_name(image)
        if first is None:
            return "it is not a cpio archive, as every .swu is"
        return "" if first == _SWU_FIRST else f"its first file is {first!a}, and a .swu begins with {_SWU_FIRST}"
    return _mcuboot_fault(image) if container is Container.MCUBOOT else ""


def _mcuboot_fault(image: bytes) -> str:
    header = mcuboot.read_header(image)
    if header is None:
        return "it does not begin with an MCUboot header"
    fault = mcuboot.find_digest_fault(image)
    # An encrypted or compressed program shows no vector table.
    if fault or header.is_opaque:
        return fault
    if header.image_size < _START.size:
        return f"its program of {header.image_size} bytes is too short for a vector table"
    # The address of the slot is not known here, so only the regions of the addresses are compared.
    stack, reset = _START.unpack_from(image, header.size)
    if not is_stack_top(stack, SRAM):
        return f"the initial stack pointer 0x{stack:08x} is not in RAM"
    if not reset & 1 or reset > _LAST_CODE:
        return f"the reset vector 0x{reset:08x} is not a Thumb address in the code region"
    return ""
