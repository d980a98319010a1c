"""Versions, regions, names and times: conversion from and to the contract, and invalid values."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blockota.errors import UsageError
from blockota.formats.cid import CHUNK_SIZE, CID, DAG_PB, RAW
from blockota.model.release import Region, Status, Version, product_key, product_name, show_time
from tests.support.samples import code, release_of
from tests.support.strategies import names

MAX_MAJOR, MAX_MINOR = 0xFFFF, 0xFF_FFFF
minors = st.integers(0, MAX_MINOR)
versions = st.builds(Version, st.integers(0, MAX_MAJOR), minors, minors).filter(lambda version: version.packed != 0)


@given(versions, versions)
def test_versions_are_ordered_as_the_contract_s_numbers(first: Version, second: Version) -> None:
    """A version is read back from its text and from its uint64. The order of uint64 values is the order of versions."""
    assert Version.parse(str(first)) == first
    assert Version.unpack(first.packed) == first
    assert first.packed < 1 << 64
    assert (first < second) == (first.packed < second.packed)


def test_zero_is_not_a_version() -> None:
    """The contract's version 0 is read as None."""
    assert Version.unpack(0) is None


@pytest.mark.parametrize("text", ["0.0.1", "65535.16777215.16777215", "1.0.0"])
def test_the_first_and_the_last_version_are_read(text: str) -> None:
    """The smallest and the largest version of the contract are parsed."""
    assert str(Version.parse(text)) == text


WRONG_VERSIONS = (
    *("", "1", "1.0", "1.0.0.0", "v1.0.0", "1.0.0-rc1", "1.0.0+5", "01.0.0", "1.00.0", " 1.0.0", "1.0.0\n", "-1.0.0"),
    *("1.a.0", "1..0", "\u0661.0.0", "0x1.0.0", "1,0,0", "0.0.0", "65536.0.0", "0.16777216.0", "0.0.16777216"),
    *(f"1.0.{'9' * 90}", f"1.0.{'9' * 5000}", "1" * 100_000),
)


@pytest.mark.parametrize("text", WRONG_VERSIONS, ids=range(len(WRONG_VERSIONS)))
def test_a_wrong_version_is_refused(text: str) -> None:
    """An invalid version is refused; the error contains the input and a reason."""
    with pytest.raises(UsageError, match="is not a version") as refused:
        Version.parse(text)
    assert repr(text) in str(refused.value)
    assert refused.value.why


@given(names)
def test_a_name_is_read_back(name: str) -> None:
    """A name of up to 31 characters is converted to 32 bytes and back."""
    key = product_key(name)
    assert (len(key), key[-1], product_name(key)) == (32, 0, name)


@pytest.mark.parametrize("name", ["", "a" * 32, "-a", ".a", "a b", "a/b", "é", "a\n", "a\0", "\u202ea", "a" * 10_000])
def test_an_invalid_name_is_refused(name: str) -> None:
    """Empty, long and non-printable names are refused."""
    with pytest.raises(UsageError, match="cannot be a name on the chain: a name has 1 to 31"):
        product_key(name)


@given(st.binary(min_size=32, max_size=32))
def test_any_key_can_be_shown(key: bytes) -> None:
    """Any product key is printed without control characters."""
    assert product_name(key).isprintable()
    assert product_name(key).isascii()


@pytest.mark.parametrize(
    ("start", "size", "inside"),
    [
        (100, 50, True),
        (100, 1, True),
        (149, 1, True),
        (100, 51, False),
        (99, 51, False),
        (99, 1, False),
        (150, 1, False),
    ],
)
def test_a_region_contains_only_ranges_wholly_inside_it(start: int, size: int, *, inside: bool) -> None:
    """A region contains a range if, and only if, it contains both ends of the range."""
    assert Region(100, 50).contains(Region(start, size)) == inside


def test_a_region_is_shown_with_its_last_address() -> None:
    """A region is printed with its first and last address."""
    assert str(Region(0x0800_0000, 0x1_0000)) == "0x08000000-0x0800ffff (65,536 bytes)"
    assert Region(0x0800_0000, 0x1_0000).end == 0x0801_0000


def test_the_content_address_follows_from_the_record() -> None:
    """A release's CID is made from its SHA-256, or from its DAG root if the record has one."""
    small = release_of(code())
    large = release_of(bytes(CHUNK_SIZE + 1), dag_root=bytes(range(32)))
    assert small.cid == CID(RAW, small.sha256)
    assert large.cid == CID(DAG_PB, bytes(range(32)))
    assert small.region == Region(0x0800_0000, 64)


def test_a_status_is_a_word() -> None:
    """A status is printed in lower case."""
    assert [str(status) for status in Status] == ["active", "revoked"]


@given(st.integers(0, (1 << 64) - 1))
def test_every_time_can_be_shown(seconds: int) -> None:
    """Every 64-bit time is printed, also beyond the range of `datetime`."""
    assert show_time(seconds).isprintable()


def test_a_time_is_shown_in_utc() -> None:
    """Times are printed in UTC, to the second."""
    assert show_time(1_800_000_000) == "2027-01-15 08:00:00 UTC"
    assert show_time(1 << 40) == "1099511627776 s after 1970, beyond the calendar"
