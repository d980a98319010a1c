"""Tests of the transaction journal: its files, and the signed transactions that they contain."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account
from eth_account.signers.local import LocalAccount
from hypothesis import given, settings
from hypothesis import strategies as st

from blockota.chain.journal import Journal, SentTransaction
from blockota.chain.transaction import Fees, SignedTransaction, decode_rlp
from blockota.errors import RefusedError
from tests.support.samples import CONTRACT, SAFE

ACCOUNT: LocalAccount = Account.from_key(bytes(31) + b"\1")
WANTED = SignedTransaction(b"", 1337, 5, gas=70_000, fees=Fees(9, 2), to=SAFE, data=b"data")
SIGNED = WANTED.signed_by(ACCOUNT)
ENTRY = SentTransaction((SIGNED, WANTED.offering(Fees(20, 4)).signed_by(ACCOUNT)), "blockota test", 1_700_000_000)


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    """An empty journal of transactions on the local chain."""
    return Journal(tmp_path, 1337)


@pytest.fixture
def path(journal: Journal, tmp_path: Path) -> Path:
    """Write one entry into the journal, and return the path of its file."""
    journal.write(ENTRY)
    (path,) = tmp_path.rglob("*.json")
    return path


@settings(max_examples=40)
@given(
    nonce=st.integers(0, 2**64 - 1),
    fees=st.builds(Fees, st.integers(0, 2**90), st.none() | st.integers(0, 2**90)),
    to=st.none() | st.binary(min_size=20, max_size=20).map(lambda raw: f"0x{raw.hex()}"),
    data=st.binary(max_size=300),
)
def test_what_is_signed_is_read_back(nonce: int, fees: Fees, to: str | None, data: bytes) -> None:
    """Signed EIP-1559 and legacy transactions, with or without a target, are decoded to the same fields and sender."""
    fees = Fees(fees.limit, None if fees.tip is None else min(fees.tip, fees.limit))
    signed = SignedTransaction(b"", 1337, nonce, gas=50_000, fees=fees, to=to, data=data).signed_by(ACCOUNT)
    assert (signed.nonce, signed.fees, (signed.to or "").lower(), signed.data) == (nonce, fees, to or "", data)
    assert signed.sender == ACCOUNT.address


@settings(max_examples=60)
@given(st.integers(0, len(SIGNED.raw) - 1), st.integers(1, 255))
def test_changed_bytes_are_another_transaction_or_none(place: int, change: int) -> None:
    """A change of one byte makes a signed transaction invalid, or changes its sender, calldata or nonce."""
    raw = bytearray(SIGNED.raw)
    raw[place] ^= change
    try:
        found = SignedTransaction.decode(bytes(raw))
        is_other = (found.sender, found.data, found.nonce) != (ACCOUNT.address, SIGNED.data, SIGNED.nonce)
    except ValueError:
        is_other = True
    assert is_other


@given(st.binary(max_size=60))
def test_bytes_from_elsewhere_are_read_or_refused(data: bytes) -> None:
    """Random bytes are decoded as a transaction, or raise ValueError and no other exception."""
    for read in (decode_rlp, SignedTransaction.decode):
        try:
            read(data)
        except ValueError:
            continue


@pytest.mark.parametrize(
    "encoded", ["", "8100", "b800", "b90001ff", "c2", "c180c0", "f800", "83ff", "0000", "c1" * 20], ids=range(10)
)
def test_an_encoding_that_is_not_canonical_is_refused(encoded: str) -> None:
    """An RLP encoding that is not canonical is refused (Yellow Paper, appendix B)."""
    with pytest.raises(ValueError, match=r"\w"):
        decode_rlp(bytes.fromhex(encoded))


def test_a_signature_for_every_chain_is_refused() -> None:
    """A signed transaction without a chain id is refused, because it could be replayed on another chain."""
    signed = ACCOUNT.sign_transaction({"nonce": 0, "gas": 21_000, "gasPrice": 1, "to": SAFE, "value": 0})
    with pytest.raises(ValueError, match="EIP-155"):
        SignedTransaction.decode(bytes(signed.raw_transaction))


class Deceiver(LocalAccount):
    """A key that signs another transaction than requested, like a defective wallet."""

    def sign_transaction(self, transaction_dict: Any, blobs: Any = None) -> Any:
        """Sign the given transaction with another target."""
        return super().sign_transaction({**transaction_dict, "to": CONTRACT}, blobs)


def test_a_key_that_signs_something_else_is_refused() -> None:
    """A signed transaction that differs from the requested transaction is refused before it is sent."""
    with pytest.raises(RefusedError, match="the key did not sign the requested transaction"):
        WANTED.signed_by(Deceiver(ACCOUNT._key_obj, Account()))  # noqa: SLF001 - eth-account has no public copy


def test_an_entry_is_read_back(journal: Journal, path: Path) -> None:
    """A journal entry is found by the hash of each of its signed transactions; its file describes the transaction."""
    assert journal.entries() == [ENTRY]
    for attempt in ENTRY.attempts:
        assert journal.find(f"0x{attempt.hash.hex().upper()}") == ENTRY
    fields = json.loads(path.read_text())
    assert (fields["from"], fields["nonce"], fields["to"]) == (ACCOUNT.address, 5, SAFE)
    journal.remove(ENTRY)
    journal.remove(ENTRY)
    assert journal.entries() == []


CHANGES: dict[str, dict[str, Any]] = {
    "another nonce": {"nonce": 6},
    "another target": {"to": CONTRACT},
    "another sender": {"from": SAFE},
    "another chain": {"chainId": 1},
    "another calldata": {"dataSha256": "00"},
    "no attempts": {"attempts": []},
    "attempts as a number": {"attempts": 5},
    "no bytes": {"attempts": [{"hash": "0x00", "raw": "0x"}]},
    "no hex": {"attempts": [{"hash": "0x00", "raw": "0xzz"}]},
    "another format": {"format": "blockota-transaction-2"},
    "a field too many": {"note": "x"},
    "a purpose that is not a text": {"purpose": 5},
    "a time that is none": {"written": "now"},
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_file_that_differs_from_its_signed_bytes_is_refused(
    journal: Journal, path: Path, change: dict[str, Any]
) -> None:
    """A journal file whose fields do not match its signed bytes is refused; the error contains the file's path."""
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(RefusedError, match=f"{path} cannot be read, so its transaction is unknown"):
        journal.entries()


@pytest.mark.parametrize("text", ["", "{", "[]", "5", "null", "[" * 50_000, "\0"], ids=range(7))
def test_a_damaged_file_is_refused(journal: Journal, path: Path, text: str) -> None:
    """A journal file that does not contain a JSON object is refused."""
    path.write_text(text)
    with pytest.raises(RefusedError, match="then move the file away"):
        journal.entries()


def test_a_file_of_another_chain_or_place_is_refused(journal: Journal, path: Path) -> None:
    """A journal file is refused if its name is that of another transaction."""
    path.rename(path.with_name(f"{SAFE.lower()}-5.json"))
    with pytest.raises(RefusedError, match="the file's name belongs to another transaction"):
        journal.entries()


def test_an_unreadable_journal_is_not_an_empty_one(journal: Journal, path: Path) -> None:
    """A folder in place of a journal file is refused instead of being ignored."""
    path.unlink()
    path.mkdir()
    with pytest.raises(RefusedError, match="is not a regular file"):
        journal.entries()
