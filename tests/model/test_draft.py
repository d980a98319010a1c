"""The activation time and the vector table of a draft are checked before publication."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from blockota.errors import Action, ImageError, RefusedError
from blockota.model.container import Container
from blockota.model.draft import GRACE, Draft, check_kind, check_time, draft_manifest, draft_release
from blockota.model.manifest import Requirements
from blockota.model.program import BOOT_ADDRESS
from blockota.model.release import Region, Version
from tests.support.mcuboot import KEY, OTHER_KEY, public_key, sign_image, unsigned_image
from tests.support.programs import hashed, noise, program, signed, swu
from tests.support.samples import FLASH, NOW, PRODUCT, RAM, code

VERSION = Version(1, 1, 0)


def test_a_release_may_begin_a_little_in_the_past() -> None:
    """An activation time may be up to `GRACE` seconds in the past; an earlier time is refused."""
    for start in (0, NOW - GRACE, NOW, NOW + 7 * 86400):
        check_time(Draft(PRODUCT.name, VERSION, code(), active_from=start), now=NOW)
    late = Draft(PRODUCT.name, VERSION, code(), active_from=NOW - GRACE - 1)
    with pytest.raises(RefusedError, match="is 2027-01-15 07:49:59 UTC, the current time is 2027-01-15 08:00:00 UTC"):
        check_time(late, now=NOW)


IMPLAUSIBLE: dict[str, tuple[bytes, str]] = {
    "short": (code(7), "7 bytes are too short"),
    "low-stack": (code(stack=0x2000_0000), "stack pointer 0x20000000"),
    "flash-stack": (code(stack=FLASH.start), "stack pointer 0x08000000"),
    "high-stack": (code(stack=0x4000_0004), "stack pointer 0x40000004"),
    "odd-stack": (code(stack=0x2000_4FFE), "stack pointer 0x20004ffe"),
    "even-reset": (code(reset=FLASH.start + 8), "reset vector 0x08000008"),
    "far-reset": (code(reset=FLASH.start + 65), "reset vector 0x08000041"),
    "zeros": (bytes(64), "stack pointer 0x00000000"),
}


@pytest.mark.parametrize("name", IMPLAUSIBLE)
def test_a_program_without_a_vector_table_is_refused(name: str) -> None:
    """An image is refused if check 9 would refuse it; configuration data in a separate region are accepted."""
    image, why = IMPLAUSIBLE[name]
    draft = Draft(PRODUCT.name, VERSION, image)
    release = draft_release(draft, PRODUCT)
    expected = rf"no plausible vector table: .*{why}.*Publish the linked image of a program\.$"
    with pytest.raises(ImageError, match=expected):
        check_kind(draft, release)
    # Data are possible elsewhere, but never at the boot address.
    with pytest.raises(ImageError, match=r"no plausible vector table: .*declare the image as data"):
        check_kind(draft, replace(release, load_address=FLASH.start + 1024))
    data = replace(draft, configuration=True)
    check_kind(data, replace(release, load_address=FLASH.start + 1024))
    with pytest.raises(ImageError, match=f"cannot be configuration: .*0x{BOOT_ADDRESS:08x}"):
        check_kind(data, release)


def test_the_stack_must_lie_in_the_chips_own_memory() -> None:
    """A stack pointer outside the chip's RAM is refused if the RAM is known."""
    draft = Draft(PRODUCT.name, VERSION, code(stack=0x2000_8000))
    check_kind(draft, draft_release(draft, PRODUCT))
    with pytest.raises(ImageError, match="not in RAM, 0x20000000-0x20004fff"):
        check_kind(replace(draft, ram=(RAM,)), draft_release(draft, PRODUCT))


MOVED = Draft(PRODUCT.name, VERSION, program(0x0800_2000, after=noise(20_000)))


def test_a_program_for_another_address_is_refused() -> None:
    """A program that was linked for another address is refused, and the error gives the load address that fits."""
    release = draft_release(MOVED, PRODUCT)
    with pytest.raises(ImageError, match="linked for another address: its addresses begin at 0x08002000") as refused:
        check_kind(MOVED, release)
    assert refused.value.action is Action.GIVE_OR_ACCEPT_LOAD_ADDRESS
    assert refused.value.values == {"address": "0x08002000"}
    check_kind(MOVED, replace(release, load_address=0x0800_2000))
    # Without functions at its handlers, a program shows no certain address.
    unclear = replace(MOVED, image=program(0x0800_2000, before=noise(5000), handlers=1, after=noise(20_000)))
    with pytest.raises(ImageError, match="load address, which is probably 0x08003") as refused:
        check_kind(unclear, release)
    assert str(refused.value.values["address"]).startswith("0x08003")
    # A file that contains its address must be built again.
    with pytest.raises(ImageError, match="Build the file again with the addresses") as refused:
        check_kind(replace(MOVED, has_address=True), release)
    assert refused.value.action is Action.ACCEPT_LOAD_ADDRESS


def test_what_would_not_help_is_not_offered() -> None:
    """The error does not suggest an address outside the product's region.

    The error offers the option to insist only if the program could start at the load address.
    """
    release = draft_release(MOVED, PRODUCT)
    with pytest.raises(ImageError, match="for a product whose region contains 0x08002000-0x0800") as refused:
        check_kind(replace(MOVED, region=Region(FLASH.start, 0x4000)), release)
    assert refused.value.action is Action.PAIR_PRODUCT
    far = replace(MOVED, image=program(0x0800_8000, after=noise(1000)))
    for draft, action in ((far, Action.GIVE_LOAD_ADDRESS), (replace(far, has_address=True), None)):
        with pytest.raises(ImageError, match="linked for another address") as refused:
            check_kind(draft, draft_release(draft, PRODUCT))
        assert refused.value.action is action


def test_a_publisher_can_insist_on_a_load_address() -> None:
    """If the publisher insists, the program is accepted, and the manifest records the insistence.

    If the load address is right, or the image is configuration data, the manifest does not record the insistence.
    """
    insisting = replace(MOVED, accept_load_address=True)
    release = draft_release(insisting, PRODUCT)
    check_kind(insisting, release)
    manifest = draft_manifest(insisting, release)
    assert manifest
    assert manifest.accepts_load_address
    assert release.manifest == manifest.cid.digest
    usual = replace(MOVED, image=program(FLASH.start), accept_load_address=True)
    assert draft_manifest(usual, draft_release(usual, PRODUCT)) is None
    data = replace(insisting, configuration=True)
    assert draft_manifest(data, draft_release(data, PRODUCT)) is None


def test_filled_gaps_are_recorded() -> None:
    """Gaps that were filled at the publisher's request are recorded in the manifest."""
    gaps = (Region(FLASH.start + 0x400, 0x800),)
    draft = replace(MOVED, filled=gaps)
    manifest = draft_manifest(draft, draft_release(draft, PRODUCT))
    assert manifest
    assert (manifest.filled, manifest.accepts_load_address) == (gaps, False)


def test_an_mcuboot_image_is_a_program_at_its_slot() -> None:
    """The vector table of an MCUboot image is found behind its header; at the boot address, the image is refused."""
    slot = 0x0800_4000
    draft = Draft(PRODUCT.name, VERSION, signed(program(slot + 0x200)), load_address=slot)
    check_kind(draft, draft_release(draft, PRODUCT))
    for image, why in (
        (signed(program(slot + 0x200), flags=4), "is encrypted"),
        (signed(program(slot + 0x200), header=16), "a header size of 16 bytes"),
        (signed(code(stack=0)), "initial stack pointer 0x00000000"),
        (signed(code(reset=slot + 9)), "reset vector 0x08004009 is not a Thumb address inside the image"),
    ):
        broken = replace(draft, image=image)
        with pytest.raises(ImageError, match=f"no plausible vector table: .*{why}"):
            check_kind(broken, draft_release(broken, PRODUCT))
    booting = Draft(PRODUCT.name, VERSION, signed(program(FLASH.start + 0x200)))
    with pytest.raises(ImageError, match="begins with an MCUboot header, and the chip needs a vector table"):
        check_kind(booting, draft_release(booting, PRODUCT))


HUB = replace(PRODUCT, name="acme-hub", chip_id=0, region=Region(0, 1 << 20))
"""A product for a device with Linux."""
IMAGES = {
    Container.MCUBOOT: hashed(signed(program(0x4200))[:-4]),
    Container.SWU: swu(),
    Container.OPAQUE: b"any bytes",
}


@pytest.mark.parametrize("container", IMAGES)
def test_an_image_for_another_device_has_its_container(container: Container) -> None:
    """For a container other than stm32, the manifest names the container, and the release has no flash address."""
    draft = Draft(HUB.name, VERSION, IMAGES[container], container=container)
    release = draft_release(draft, HUB)
    check_kind(draft, release)
    manifest = draft_manifest(draft, release)
    assert manifest
    assert (manifest.container, release.load_address, release.chip_id) == (container, 0, 0)
    # The default container is refused, and the error names the container that the file fits.
    with pytest.raises(RefusedError, match=f"does not fit acme-hub: .*Choose the container {container}") as refused:
        draft_release(replace(draft, container=Container.STM32), HUB)
    assert refused.value.action is Action.CHOOSE_CONTAINER
    with pytest.raises(RefusedError, match=r"chip 0x410 of an STM32\. Publish the file for a product that"):
        draft_release(replace(draft, product=PRODUCT.name), PRODUCT)


def test_another_file_than_the_container_says_is_refused() -> None:
    """A .swu with the container of MCUboot, and the reverse, is refused; the error names the right container."""
    for container, other in ((Container.MCUBOOT, Container.SWU), (Container.SWU, Container.MCUBOOT)):
        draft = Draft(HUB.name, VERSION, IMAGES[other], container=container)
        with pytest.raises(ImageError, match=f"not a file for the container {container}: .*container {other} for this"):
            check_kind(draft, draft_release(draft, HUB))


def test_requirements_alone_need_a_manifest() -> None:
    """The requirements of a release are recorded in its manifest, even if it has no notes."""
    requires = Requirements(Version(1, 0, 0), ("rev-b",))
    draft = Draft(PRODUCT.name, VERSION, code(), requires=requires)
    manifest = draft_manifest(draft, draft_release(draft, PRODUCT))
    assert manifest
    assert manifest.requires == requires


SIGNED = sign_image(unsigned_image(b"app", 3))
ENCRYPTED = bytes.fromhex(
    json.loads((Path(__file__).parents[1] / "formats" / "mcuboot_signed.json").read_text())["encrypted"]["image"]
)
"""An image that was signed with the key 7, and then encrypted."""


@pytest.mark.parametrize("image", [SIGNED, ENCRYPTED], ids=("plain", "encrypted"))
def test_an_image_is_signed_by_the_key_of_its_product(image: bytes) -> None:
    """The image must name the key.

    The signature of an encrypted image is not verified; the signatures of all other images are.
    """
    draft = Draft(HUB.name, VERSION, image, container=Container.MCUBOOT, image_key=public_key(KEY))
    release = draft_release(draft, HUB)
    check_kind(draft, release)
    check_kind(replace(draft, image_key=None), release)
    with pytest.raises(ImageError, match="is not signed by the product's image key: it is signed with another key"):
        check_kind(replace(draft, image_key=public_key(OTHER_KEY)), release)


def test_no_changed_byte_of_a_signed_image_is_published() -> None:
    """A signed image is refused if any byte of header, program or TLVs was changed."""
    key = public_key(KEY)
    for at in range(len(SIGNED)):
        image = SIGNED[:at] + bytes((SIGNED[at] ^ 0x10,)) + SIGNED[at + 1 :]
        draft = Draft(HUB.name, VERSION, image, container=Container.MCUBOOT, image_key=key)
        with pytest.raises(ImageError):
            check_kind(draft, draft_release(draft, HUB))


def test_a_security_counter_may_not_fall() -> None:
    """A later release must have at least the security counter of the newest release. An equal counter is usual."""
    draft = Draft(HUB.name, VERSION, SIGNED, container=Container.MCUBOOT)
    release = draft_release(draft, HUB)
    for least in (0, 2, 3):
        check_kind(replace(draft, least_counter=least), release)
    with pytest.raises(RefusedError, match="it is 3, and the previous release has 4"):
        check_kind(replace(draft, least_counter=4), release)
    assert Draft(HUB.name, VERSION, swu(), container=Container.SWU, least_counter=4).security_counter is None
