"""The activation time and the vector table of a draft are checked before publication."""

from __future__ import annotations

from dataclasses import replace

import pytest

from blockota.errors import ImageError, RefusedError
from blockota.model.draft import BOOT_ADDRESS, GRACE, Draft, check_kind, check_time, draft_release
from blockota.model.release import Version
from tests.support.samples import FLASH, NOW, PRODUCT, RAM, code

VERSION = Version(1, 1, 0)


def test_a_release_may_begin_a_little_in_the_past() -> None:
    """An activation time may be up to `GRACE` seconds in the past; an earlier one is refused."""
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
    """An image that check 9 would refuse is not published, unless it is configuration data in a separate region."""
    image, why = IMPLAUSIBLE[name]
    draft = Draft(PRODUCT.name, VERSION, image)
    release = draft_release(draft, PRODUCT)
    with pytest.raises(ImageError, match=rf"no plausible vector table: .*{why}.*declare the image as data"):
        check_kind(draft, release)
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
