"""The statement of a device is a COSE_Sign1 structure in a fixed encoding; its signature covers type and payload."""

from __future__ import annotations

import pytest

from blockota.formats import cbor
from blockota.formats.cose import SignedStatement, to_be_signed
from blockota.formats.p256 import ORDER
from blockota.model.receipt import POSTPONES, RUNS
from tests.support.receipts import SigningDevice

DEVICE = SigningDevice()
STATEMENT = DEVICE.sign(b"payload")
HEADERS = cbor.encode({1: -7, 16: RUNS})
SIGNATURE = SignedStatement.decode(STATEMENT).signature


def test_only_the_signer_s_key_fits() -> None:
    """A signature is valid only for the device's key, and only for the unchanged type and payload."""
    signed = SignedStatement.decode(STATEMENT)
    assert (signed.type, signed.payload, signed.encode()) == (RUNS, b"payload", STATEMENT)
    assert signed.is_signed_by(DEVICE.key)
    assert not signed.is_signed_by(SigningDevice(5).key)
    assert not SignedStatement(RUNS, b"Payload", signed.signature).is_signed_by(DEVICE.key)
    assert not SignedStatement(POSTPONES, b"payload", signed.signature).is_signed_by(DEVICE.key)


def test_the_signed_bytes_are_those_of_the_standard() -> None:
    """The signature covers the array of RFC 9052, section 4.4, with an empty external_aad."""
    headers = bytes.fromhex("a20126107819") + b"application/blockota-runs"
    assert to_be_signed(RUNS, b"\1") == b"\x84\x6aSignature1" + b"\x58\x1f" + headers + b"\x40" + b"\x41\1"


@pytest.mark.parametrize(
    ("items", "why"),
    [
        ([HEADERS, {}, b"", SIGNATURE, None], "an array of 4 items"),
        ({1: 2}, "an array of 4 items"),
        ([HEADERS, {4: b"kid"}, b"", SIGNATURE], "an empty map"),
        ([HEADERS, {}, None, SIGNATURE], "three byte strings"),
        ([cbor.encode({1: -7}), {}, b"", SIGNATURE], "protected headers"),
        ([cbor.encode({1: -8, 16: RUNS}), {}, b"", SIGNATURE], "protected headers"),
        ([cbor.encode({1: -7, 4: b"kid", 16: RUNS}), {}, b"", SIGNATURE], "protected headers"),
        ([cbor.encode({1: -7, 16: 60}), {}, b"", SIGNATURE], "protected headers"),
        ([cbor.encode([1, -7]), {}, b"", SIGNATURE], "protected headers"),
        ([b"", {}, b"", SIGNATURE], "not CBOR"),
        ([HEADERS, {}, b"", SIGNATURE[:-1]], "63 bytes"),
        ([HEADERS, {}, b"", SIGNATURE + b"\0"], "65 bytes"),
        ([HEADERS, {}, b"", bytes(32) + SIGNATURE[32:]], "low s"),
        ([HEADERS, {}, b"", SIGNATURE[:32] + bytes(32)], "low s"),
        ([HEADERS, {}, b"", ORDER.to_bytes(32) + SIGNATURE[32:]], "low s"),
        ([HEADERS, {}, b"", SIGNATURE[:32] + (ORDER - 1).to_bytes(32)], "low s"),
        ([HEADERS, {}, b"", SIGNATURE[:32] + (ORDER // 2 + 1).to_bytes(32)], "low s"),
    ],
)
def test_other_forms_are_refused(items: object, why: str) -> None:
    """A statement is refused unless its headers, its lengths, and its signature's r and s have the fixed form."""
    with pytest.raises(ValueError, match=why):
        SignedStatement.decode(cbor.encode(items))


def test_the_second_form_of_a_signature_is_refused() -> None:
    """A valid signature with a high s is refused, although ECDSA accepts it."""
    high = (ORDER - int.from_bytes(SIGNATURE[32:])).to_bytes(32)
    twin = SignedStatement(RUNS, b"payload", SIGNATURE[:32] + high)
    assert twin.is_signed_by(DEVICE.key)  # the rule is in `decode`
    with pytest.raises(ValueError, match="low s"):
        SignedStatement.decode(twin.encode())


@pytest.mark.parametrize("key", [b"", bytes(63), bytes(65), bytes(64), b"\1" * 64, b"\xff" * 64])
def test_a_key_that_is_not_on_the_curve_is_refused(key: bytes) -> None:
    """A key of a wrong length, and a key that is not a point of P-256, are refused."""
    with pytest.raises(ValueError, match="P-256"):
        SignedStatement.decode(STATEMENT).is_signed_by(key)
