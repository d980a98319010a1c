"""Keccak-256 digests and address checksums, compared with those of eth-utils."""

from __future__ import annotations

import pytest
from eth_utils import address as their_address
from eth_utils import crypto as their_crypto
from hypothesis import given
from hypothesis import strategies as st

from blockota.ethereum import is_address, is_checksum_address, keccak, to_checksum_address


@given(st.binary(max_size=300))
def test_digests_are_those_of_eth_utils(data: bytes) -> None:
    """Keccak-256 digests of bytes and texts equal those of eth-utils."""
    assert keccak(data) == their_crypto.keccak(data)
    assert keccak(text=data.hex()) == their_crypto.keccak(text=data.hex())


@given(st.binary(min_size=20, max_size=20))
def test_checksums_are_those_of_eth_utils(raw: bytes) -> None:
    """Addresses are checksummed as in eth-utils, and a wrong checksum is detected."""
    address = their_address.to_checksum_address(raw)
    for value in (raw, address, address.lower(), f"0x{address[2:].upper()}"):
        assert to_checksum_address(value) == address
    assert is_checksum_address(address)
    swapped = f"0x{address[2:].swapcase()}"
    assert is_checksum_address(swapped) == their_address.is_checksum_address(swapped)


@pytest.mark.parametrize(
    "value", ["", "0x", "0X" + "00" * 20, "00" * 20, "0x" + "00" * 21, "0x" + "0g" * 20, bytes(19)]
)
def test_what_is_not_an_address_is_refused(value: str | bytes) -> None:
    """A value that is not an address, such as one without the 0x prefix, is refused."""
    assert isinstance(value, bytes) or not is_address(value)
    with pytest.raises(ValueError, match="is not an address"):
        to_checksum_address(value)
