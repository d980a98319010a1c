"""Groups of devices and orders: lists and their roots, names, time windows, and the packing of device numbers."""

from __future__ import annotations

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blockota.errors import UsageError
from blockota.formats.tlog import leaf_hash, node_hash
from blockota.model.anchored_log import device_words, devices_in
from blockota.model.order import Group, GroupKind, Order, OrderStatus, group_name, list_root, read_devices
from blockota.model.receipt import ReleaseId
from blockota.model.release import Version
from tests.support.samples import SAFE

SITE = UUID("21b678da-28f7-5ce7-bc02-28b5567c1cd7")
NUMBERS = st.integers(256, (1 << 64) - 1)


def recursive_root(numbers: list[int]) -> bytes:
    """Return the root of RFC 6962, section 2.1, by its recursive definition."""
    if len(numbers) == 1:
        return leaf_hash(numbers[0].to_bytes(8))
    middle = 1 << (len(numbers) - 1).bit_length() - 1
    return node_hash(recursive_root(numbers[:middle]), recursive_root(numbers[middle:]))


@given(numbers=st.lists(NUMBERS, min_size=1, max_size=40))
def test_the_root_of_a_list_does_not_depend_on_the_order(numbers: list[int]) -> None:
    """The root of a list does not depend on the order or the repetition of its numbers."""
    assert list_root(numbers) == list_root(numbers[::-1] + numbers[:1]) == recursive_root(sorted(set(numbers)))


@given(numbers=st.sets(NUMBERS, max_size=40))
def test_words_have_exactly_the_devices(numbers: set[int]) -> None:
    """Packed device numbers are read back in ascending order, and no word is empty or repeated."""
    words, bits = device_words(numbers)
    assert [one for word, devices in zip(words, bits, strict=True) for one in devices_in(word, devices)] == sorted(
        numbers
    )
    assert words == sorted(set(words))
    assert all(bits)


@pytest.mark.parametrize("number", [0, 255, 1 << 64])
def test_a_number_that_no_registered_device_has_is_refused(number: int) -> None:
    """A group list and an installation record accept only numbers of registered devices (256 and above)."""
    for use in (list_root, device_words):
        with pytest.raises(UsageError, match="not the number of a registered device"):
            use([number])


def test_a_list_is_read_line_by_line() -> None:
    """In the file of a list, comments and empty lines are skipped.

    A word that is not a device number is refused, and the error names the line.
    """
    assert read_devices("# hall 7\n\n 300\n256\n") == [300, 256]
    with pytest.raises(UsageError, match="'acme/thermo2/1' is not the number of a device"):
        read_devices("256\nacme/thermo2/1\n")
    with pytest.raises(UsageError, match="the list is empty"):
        list_root(read_devices("# nothing\n"))


def test_a_group_names_its_devices() -> None:
    """In a group of a site, the value is the site's UUID at the beginning of 32 bytes."""
    group = Group.of_site("berlin", SITE)
    assert (group.kind, group.value, group.site) == (GroupKind.SITE, SITE.bytes + bytes(16), SITE)
    assert Group.of_model("thermo", "thermo2").site is None


@pytest.mark.parametrize("name", ["", "two words", "a" * 32, "Zürich"])
def test_a_group_s_name_is_visible_ascii(name: str) -> None:
    """A group name that the contract would refuse is refused before a transaction."""
    with pytest.raises(UsageError, match="is not the name of a group"):
        group_name(name)


def test_a_window_is_shown_with_its_ends() -> None:
    """The text of an order without a start time does not mention a start."""
    release = ReleaseId(1, SAFE, "acme-thermo2", Version(1, 4, 0))
    order = Order(1, "berlin", release, SITE, 0, 1_800_000_000, OrderStatus.OPEN)
    assert order.window == "until 2027-01-15 08:00:00 UTC"
    later = Order(1, "berlin", release, SITE, 1_700_000_000, 1_800_000_000, OrderStatus.OPEN)
    assert later.window == "from 2023-11-14 22:13:20 UTC until 2027-01-15 08:00:00 UTC"
