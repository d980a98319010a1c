"""The containers that fit a chip id, the checks for each face, and the first bytes of each container."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from blockota.model.container import (
    SWU_HEAD_SIZE,
    Container,
    Means,
    checks_for,
    find_content_fault,
    find_misfit,
)
from tests.support.programs import hashed, program, signed, swu

FACES = ("bench", "an3155", "smp", "ddi", "mqtt", "lwm2m")
MCUBOOT = {
    name: bytes.fromhex(made["image"])
    for name, made in json.loads((Path(__file__).parents[1] / "formats" / "mcuboot_images.json").read_text()).items()
}


@pytest.mark.parametrize("container", Container)
def test_chip_id_0_means_that_the_device_is_not_an_stm32(container: Container) -> None:
    """Every container except stm32 requires chip id 0, and stm32 requires another chip id."""
    assert bool(find_misfit(container, 0x410)) == (container is not Container.STM32)
    assert bool(find_misfit(container, 0)) == (container is Container.STM32)


def test_the_checks_depend_on_the_face() -> None:
    """The basis of the checks (chip, loader's slot or device's report) equals the table in docs/verification.md."""
    at_bench = checks_for(Container.STM32, "bench")
    assert list(at_bench) == list(range(1, 11))
    assert [at_bench[number] for number in (5, 7, 8, 10)] == [Means.CHIP, Means.CHIP, Means.CHIP, Means.FLASH]
    assert checks_for(Container.STM32, "an3155") == at_bench
    at_loader = checks_for(Container.MCUBOOT, "smp")
    assert list(at_loader) == [1, 2, 3, 4, 5, 6, 7, 9, 10]
    assert (at_loader[5], at_loader[10]) == (Means.SLOT, Means.DIGEST)
    for face in ("ddi", "mqtt", "lwm2m"):
        assert checks_for(Container.SWU, face)[7] is Means.REPORT
        assert 9 not in checks_for(Container.OPAQUE, face)


def test_a_face_that_cannot_install_a_container_has_no_checks() -> None:
    """Bench and AN3155 write only raw images, and SMP writes only MCUboot images."""
    taken = {face: [one for one in Container if checks_for(one, face)] for face in FACES}
    assert taken["bench"] == taken["an3155"] == [Container.STM32]
    assert taken["smp"] == [Container.MCUBOOT]
    assert taken["ddi"] == taken["mqtt"] == taken["lwm2m"] == list(Container)
    with pytest.raises(KeyError):
        checks_for(Container.SWU, "tftp")


def test_a_swu_is_recognised_by_its_beginning() -> None:
    """A .swu is a cpio archive that begins with sw-description.

    The check needs only the beginning of a .swu file.
    """
    archive = swu(bytes(SWU_HEAD_SIZE))
    assert find_content_fault(Container.SWU, archive[:SWU_HEAD_SIZE]) == ""
    assert "not a cpio archive" in find_content_fault(Container.SWU, program(0))
    fault = find_content_fault(Container.SWU, swu(first="sw-description.sig"))
    assert fault == "its first file is 'sw-description.sig', and a .swu begins with sw-description"


@pytest.mark.parametrize("name", MCUBOOT)
def test_images_of_imgtool_are_mcuboot_images(name: str) -> None:
    """Signed, unsigned and encrypted MCUboot images pass check 9.

    A changed byte of the program is detected by the image's hash.
    """
    image = bytearray(MCUBOOT[name])
    assert find_content_fault(Container.MCUBOOT, bytes(image)) == ""
    image[0x60] ^= 1
    assert bool(find_content_fault(Container.MCUBOOT, bytes(image))) == (name != "encrypted")


@pytest.mark.parametrize(
    ("image", "why"),
    [
        (b"", "does not begin with an MCUboot header"),
        (program(0x4000), "does not begin with an MCUboot header"),
        (signed(program(0x4000)), "no hash follows its program"),
        (MCUBOOT["unsigned"][:-8], "the TLVs after its program are not complete"),
    ],
)
def test_other_bytes_are_not_an_mcuboot_image(image: bytes, why: str) -> None:
    """A raw program, and an MCUboot image without its hash, are refused."""
    assert why in find_content_fault(Container.MCUBOOT, image)


@pytest.mark.parametrize(
    ("start", "why"),
    [
        (b"\0\0\0\x08\x01\x40\0\0", "initial stack pointer 0x08000000 is not in RAM"),
        (b"\0\x50\0\x20\x40\x40\0\0", "reset vector 0x00004040 is not a Thumb address"),
        (b"\0\x50\0\x20\x41\x40\0\x60", "reset vector 0x60004041 is not a Thumb address"),
        (b"\0\x50\0\x20", "4 bytes is too short"),
    ],
)
def test_an_mcuboot_image_has_a_vector_table(start: bytes, why: str) -> None:
    """A program without a plausible vector table is refused, even if its hash is right."""
    assert why in find_content_fault(Container.MCUBOOT, hashed(signed(start)[:-4]))


def test_any_bytes_are_opaque() -> None:
    """Arbitrary bytes are accepted as an opaque image, because only the device knows the format."""
    assert find_content_fault(Container.OPAQUE, b"\0") == ""
