"""IOTRegistry's messages equal the output of its Go packages, byte for byte. Other messages are refused.

`iotregistry.json` was printed by the Go program of tests/peers/iotregistry.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256K1, EllipticCurvePrivateKey, derive_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from blockota.errors import UsageError
from blockota.formats import iotregistry
from blockota.formats.iotregistry import (
    RegistrantRecord,
    RegistrantTransaction,
    SpecRecord,
    SpecTransaction,
    ThingRecord,
    ThingTransaction,
    Transaction,
    is_signed,
    read_transaction,
    replays,
)

VECTORS: list[dict[str, Any]] = json.loads((Path(__file__).parent / "iotregistry.json").read_text())
by_vector = pytest.mark.parametrize("vector", VECTORS, ids=range(len(VECTORS)))
KEY = derive_private_key(7, SECP256K1())
PUBLIC = KEY.public_key().public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
THING = ThingTransaction(b"\1\2", ("acme:1", "Bar"), PUBLIC.hex(), b"", '{"a":1}', "thermo 2")


def signed(thing: ThingTransaction, *, key: EllipticCurvePrivateKey = KEY) -> ThingTransaction:
    """Return the transaction with its registrant's signature."""
    return replace(thing, signature=key.sign(thing.texts()[0].encode(), ECDSA(SHA256())))


def message(name: str, vector: dict[str, Any]) -> bytes:
    """Return a message of a vector."""
    return bytes.fromhex(vector[name])


@by_vector
def test_records_should_be_those_of_go(vector: dict[str, Any]) -> None:
    """Records of the Go program are read, and the results of queries are encoded as by the Go program."""
    key, aliases = vector["Key"], tuple(vector["Aliases"] or ())
    thing = ThingRecord(aliases, key, vector["ThingData"], vector["SpecName"])
    spec = SpecRecord(vector["SpecData"], key)
    registrant = RegistrantRecord(vector["Name"], bytes.fromhex(key))
    assert thing == ThingRecord.decode(message("Thing", vector))
    assert spec == SpecRecord.decode(message("Spec", vector))
    assert registrant == RegistrantRecord.decode(message("Registrant", vector))
    assert thing.query() == vector["ThingAnswer"]
    assert spec.query() == vector["SpecAnswer"]
    assert registrant.query() == vector["OwnerAnswer"]


@by_vector
def test_transactions_should_be_read_and_their_signatures_verified(vector: dict[str, Any]) -> None:
    """Transactions of the Go program are decoded. Each signature is valid for its text, and for no other text."""
    key = bytes.fromhex(vector["Key"])
    registrant = read_transaction("createRegistrant", message("CreateRegistrant", vector))
    older = read_transaction("registerOwner", message("RegistrantUncompressed", vector))
    spec = read_transaction("registerSpec", message("RegisterSpec", vector))
    thing = read_transaction("registerThing", message("RegisterThing", vector))
    assert isinstance(older, RegistrantTransaction)
    assert isinstance(thing, ThingTransaction)
    assert iotregistry.compressed(older.public_key) == key
    assert (thing.nonce.hex(), list(thing.aliases)) == (vector["Nonce"], vector["Aliases"] or [])
    for one in (registrant, older, spec, thing):
        assert is_signed(one, key)
        assert not is_signed(replace(one, data=one.data + "."), key)
        assert not is_signed(one, PUBLIC)


def test_a_signature_without_the_key_in_its_text_should_be_valid_for_a_registrant() -> None:
    """In transactions of the oldest IOTRegistry versions, the registrant's signature covers only name and data."""
    signature = KEY.sign(b"acme:data", ECDSA(SHA256()))
    transaction = RegistrantTransaction("acme", PUBLIC, "data", signature)
    assert is_signed(read_transaction("registerOwner", transaction.encode()), PUBLIC)


def test_a_thing_with_the_signature_of_another_should_be_recognised() -> None:
    """IOTRegistry's signature of a thing covers neither the nonce nor the boundaries between the aliases.

    Both are detected.
    """
    honest = signed(THING)
    other = signed(replace(THING, nonce=b"\3", aliases=("Foo",)))
    replayed = replace(honest, nonce=b"\4")
    split = replace(honest, nonce=b"\5", aliases=("acme", "1", "Bar"))
    assert all(is_signed(one, PUBLIC) for one in (honest, replayed, split))
    assert replays([honest, other]) == {}
    assert replays([honest, other, replayed]) == {
        b"\1\2": "its signature is also valid for a thing with another nonce: 04",
        b"\4": "its signature is also valid for a thing with another nonce: 0102",
    }
    assert replays([honest, split]) == {
        b"\1\2": "its signature is also valid for a thing with other fields: 05",
        b"\5": "its signature is also valid for a thing with other fields: 0102",
    }
    assert (honest.is_ambiguous, other.is_ambiguous) == (True, False)


@pytest.mark.parametrize(
    ("function", "raw", "why"),
    [
        ("transfer", b"", "IOTRegistry has no function 'transfer'"),
        ("registerThing", b"", "its nonce and registrant and signature is empty"),
        ("registerThing", b"\x0a\x02\1", "it ends inside field 1"),
        ("registerThing", b"\x0a\x01\1\x0a\x01\1", "it has field 1 twice"),
        ("registerThing", b"\x08\1", "byte 0 does not begin a field"),
        ("registerThing", b"\x3a\1a", "byte 0 does not begin a field"),
        ("registerThing", b"\x0a", "the length at byte 1 is cut off"),
        ("registerThing", b"\x0a\x80\x80\x80\x80\1", "the length at byte 1 is cut off or too large"),
        ("registerThing", b"\x12\1\xff", "a text is not UTF-8"),
        ("registerSpec", b"\x1a\1s\x12\1k\x0a\1n", "its fields are not in the order"),
        ("registerSpec", b"\x0a\x81\x00n\x12\1k\x1a\1s", "its fields are not in the order"),
        ("createRegistrant", b"\x0a\1n\x22\1s", "its key is empty"),
    ],
)
def test_a_message_that_go_does_not_write_should_be_refused(function: str, raw: bytes, why: str) -> None:
    """A message that is damaged, incomplete or not canonical is refused with the reason."""
    with pytest.raises(UsageError) as refused:
        read_transaction(function, raw)
    assert why in refused.value.why


@pytest.mark.parametrize("key", [b"", b"\2" + bytes(31) + b"\5", b"\4" + bytes(64), PUBLIC[:32]])
def test_a_key_off_the_curve_should_sign_nothing(key: bytes) -> None:
    """A key that is not a point of secp256k1 has no compressed form and no valid signatures."""
    assert not is_signed(signed(THING), key)
    with pytest.raises(UsageError, match="not a message"):
        iotregistry.compressed(key)


def test_answers_should_have_the_escapes_of_gos_json() -> None:
    """Control characters and HTML's special characters are escaped as by Go's JSON encoder of 2018."""
    answer = RegistrantRecord('\b\f\n\r\t\x01"\\b<>&\u2028ß', b"\2").query()
    text = r"\u0008\u000c\n\r\t\u0001\"\\b\u003c\u003e\u0026\u2028ß"
    assert answer == f'{{"RegistrantName":"{text}","Pubkey":"02"}}'


def test_every_changed_bit_of_a_message_should_be_refused_or_change_its_meaning() -> None:
    """After a change of one bit, a transaction is refused, has an invalid signature, or describes another thing."""
    thing = signed(THING)
    raw = thing.encode()
    for bit in range(8 * len(raw)):
        changed = bytearray(raw)
        changed[bit // 8] ^= 1 << bit % 8
        try:
            found: Transaction = read_transaction("registerThing", bytes(changed))
        except UsageError:
            continue
        assert found != thing
        assert isinstance(found, ThingTransaction)
        assert found.nonce != thing.nonce or not is_signed(found, PUBLIC)


def test_spec_transactions_should_name_their_spec_first() -> None:
    """The signature of a spec covers its name, its key and its data."""
    signature = KEY.sign(f"thermo 2:{PUBLIC.hex()}:{{}}".encode(), ECDSA(SHA256()))
    spec = SpecTransaction("thermo 2", PUBLIC.hex(), signature, "{}")
    assert is_signed(read_transaction("registerSpec", spec.encode()), PUBLIC)
