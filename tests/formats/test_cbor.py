"""Each value has exactly one encoding in deterministic CBOR, and all other encodings are refused."""

from __future__ import annotations

from typing import Any

import pytest

from blockota.formats import cbor


@pytest.mark.parametrize(
    ("value", "encoding"),  # RFC 8949, appendix A
    [
        (0, "00"),
        (23, "17"),
        (24, "1818"),
        (1_000_000_000_000, "1b000000e8d4a51000"),
        (-7, "26"),
        (b"\1\2\3\4", "4401020304"),
        ("ü", "62c3bc"),
        (None, "f6"),
        (True, "f5"),
        ([1, [2, 3]], "8201820203"),
        ({1: -7, 16: "a"}, "a2012610 6161"),
    ],
)
def test_values_have_the_encoding_of_the_standard(value: Any, encoding: str) -> None:
    """Values are encoded as in the standard's examples, and decoded from them."""
    assert cbor.encode(value) == bytes.fromhex(encoding)
    assert cbor.decode(bytes.fromhex(encoding)) == value


@pytest.mark.parametrize(
    "encoding",
    [
        "1817",  # 23 in two bytes
        "190018",  # 24 in three bytes
        "580401020304",  # a length of 4 in two bytes
        "5f42010243030405ff",  # byte string of indefinite length
        "9f01ff",  # array of indefinite length
        "bf0102ff",  # map of indefinite length
        "a210616101 26",  # map keys out of order
        "a201260126",  # a repeated map key
        "0000",  # a byte after the value
        "",
        "4401",  # too short
        "9bffffffffffffffff",  # a forged number of items
        "5b7fffffffffffffff",  # a forged length
        "62c328",  # not UTF-8
        "f7",  # undefined
        "e0",  # simple value 0
        "f90000",  # float
        "c11a514b67b0",  # tag: a date
        "c249010000000000000000",  # tag: a large integer
        "c5821a3b9aca0001",  # tag: a number with an exponent of a billion
        "d82361617a",  # tag: a regular expression
        "d81c80",  # tag: a shared value
        "d9d9f700",  # tag: CBOR itself
        "81" * 5 + "80",  # nested too deeply
        "81" * 5000,
    ],
)
def test_other_encodings_are_refused(encoding: str) -> None:
    """Encodings that are not deterministic, unused types and truncated values are refused with a ValueError."""
    with pytest.raises(ValueError, match=r"^it (is|has) "):
        cbor.decode(bytes.fromhex(encoding))
