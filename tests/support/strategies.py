"""Hypothesis strategies for the project's types."""

from __future__ import annotations

from eth_utils.address import to_checksum_address
from hypothesis import strategies as st

from blockota.model.release import Version

names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,30}", fullmatch=True)
versions = st.builds(Version, st.integers(1, 0xFFFF), st.integers(0, 0xFF_FFFF), st.integers(0, 0xFF_FFFF))
addresses = st.binary(min_size=20, max_size=20).map(to_checksum_address)
uint64 = st.integers(0, (1 << 64) - 1)
json_leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
json_values = st.recursive(
    json_leaves, lambda some: st.lists(some, max_size=3) | st.dictionaries(st.text(), some, max_size=3)
)
