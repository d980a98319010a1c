"""A log entry has exactly one encoding. Its evidence level depends on the keys that the reader trusts."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blockota.errors import RefusedError
from blockota.ethereum import keccak
from blockota.formats import cbor
from blockota.formats.abi import encode
from blockota.formats.cose import SignedStatement
from blockota.messaging.topics import ThingEvent
from blockota.model.evidence import judge
from blockota.model.receipt import (
    MAX_ENTRY_SIZE,
    MAX_TEXT_SIZE,
    POSTPONES,
    RUNS,
    EntryKind,
    EvidenceLevel,
    LogEntry,
    ReleaseId,
    printable,
)
from blockota.model.release import Version, product_key
from tests.support.receipts import DEVICE, GATEWAY, IMAGE, RELEASE, SigningDevice, install, signed_install
from tests.support.sampling import sampled

pytestmark = pytest.mark.sampled
SIGNER = SigningDevice()
SIGNED = signed_install(SIGNER)
RAW = SIGNED.encode()
EVENT = LogEntry(EntryKind.EVENT, time=1, source="check 9 failed: stack pointer 0x00000000 is not in RAM")


def test_the_contract_finds_kind_device_and_release_at_fixed_places() -> None:
    """For all kinds of entries, bytes 0 to 44 have the same layout, which UpdateLedger reads without a CBOR decoder."""
    for entry in (SIGNED, install(kind=EntryKind.REINSTALL, device=(1 << 64) - 1), EVENT):
        raw, release = entry.encode(), entry.release.digest if entry.release else bytes(32)
        head = bytes([0x91, entry.kind, 0x48]) + entry.device.to_bytes(8) + b"\x58\x20" + release
        assert raw[:45] == head


def test_a_release_has_the_hash_that_contracts_compute() -> None:
    """The hash of a release is Keccak-256 of ``abi.encode(chain, contract, product, version)``."""
    values = [RELEASE.chain_id, RELEASE.contract, product_key(RELEASE.product), RELEASE.version.packed]
    assert RELEASE.digest == keccak(encode(["uint64", "address", "bytes32", "uint64"], values))


names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,30}", fullmatch=True)
releases = st.builds(
    ReleaseId,
    st.integers(1, (1 << 64) - 1),
    st.just(RELEASE.contract),
    names,
    st.builds(Version, st.integers(0, 65535), st.integers(0, 1 << 23), st.integers(1, 1 << 23)),
)
words = st.integers(0, (1 << 64) - 1)
entries = st.builds(
    LogEntry,
    kind=st.sampled_from([EntryKind.INSTALL, EntryKind.REINSTALL, EntryKind.EQUIVALENT, EntryKind.CONFIGURATION]),
    time=st.integers(0, (1 << 40) - 1),
    device=words,
    release=releases,
    image=st.binary(min_size=32, max_size=32).filter(any),
    previous=st.none() | st.binary(min_size=32, max_size=32),
    level=st.sampled_from([EvidenceLevel.B, EvidenceLevel.C]),
    counter=st.none() | words,
    unique_id=st.binary(min_size=1, max_size=32),
    gateway=st.none() | st.uuids(),
    source=st.none() | st.text(st.characters(categories=("L", "N", "P", "S")), max_size=60),
    order=st.none() | words,
)


@given(entries)
@settings(max_examples=60)
def test_entries_survive_encoding(entry: LogEntry) -> None:
    """Decoding an encoded entry returns the entry."""
    assert LogEntry.decode(entry.encode()) == entry


@given(st.binary(max_size=200))
@settings(max_examples=60)
def test_other_bytes_are_refused(raw: bytes) -> None:
    """Bytes that are not an entry are refused with one kind of error."""
    with pytest.raises(RefusedError):
        LogEntry.decode(raw)


def test_an_entry_changed_in_any_bit_has_another_meaning_or_none() -> None:
    """An entry with one changed bit is refused or decoded to another entry.

    No two encodings are decoded to the same entry.
    """
    for bit in sampled(range(8 * len(RAW)), one_in=8):
        spoiled = bytearray(RAW)
        spoiled[bit // 8] ^= 1 << bit % 8
        try:
            entry = LogEntry.decode(bytes(spoiled))
        except RefusedError:
            continue
        assert entry != SIGNED, bit
        assert entry.encode() == spoiled, bit


def test_a_cut_entry_is_refused() -> None:
    """A truncated entry is refused."""
    for size in sampled(range(len(RAW)), one_in=8):
        with pytest.raises(RefusedError):
            LogEntry.decode(RAW[:size])


def changed(number: int, value: object) -> bytes:
    """Return the signed receipt with one CBOR item replaced."""
    items = cbor.decode(RAW)
    items[number] = value
    return cbor.encode(items)


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (RAW + b"\0", "deterministic"),
        (cbor.encode(cbor.decode(RAW)[:-1]), "17 items"),
        (cbor.encode([*cbor.decode(RAW), None]), "17 items"),
        (cbor.encode({}), "17 items"),
        (b"\x91\x18\x00" + RAW[2:], "deterministic"),  # the kind in two bytes
        (changed(0, 9), "9 is not a valid EntryKind"),
        (changed(0, True), "item 0 has the wrong type"),  # noqa: FBT003 - a value of CBOR
        (changed(1, bytes(7)), "wrong length"),
        (changed(1, 300), "item 1 has the wrong type"),
        (changed(1, bytes(8)), "only a registered device has a key"),
        (changed(2, bytes(31)), "wrong length"),
        (changed(2, b"\1" * 32), "not the hash"),
        (changed(3, 1338), "not the hash"),
        (changed(3, 1 << 63), "not the hash"),
        (changed(4, bytes(21)), "wrong length"),
        (changed(5, "acme thermo2"), "cannot be a name"),
        (changed(6, 0), "needs a release"),
        (changed(7, bytes(32)), "needs a release"),
        (changed(7, None), "item 7 has the wrong type"),
        (changed(8, bytes(31)), "previous has 31 bytes"),
        (changed(9, "D"), "'D' is not a valid EvidenceLevel"),
        (changed(9, "B"), "must have a device's signature if"),
        (changed(10, None), "another counter"),
        (changed(10, 2), "another counter"),
        (changed(10, -1), "more than 64 bits"),
        (changed(11, b""), "unique id has 0 bytes"),
        (changed(11, bytes(33)), "unique id has 33 bytes"),
        (changed(12, 1 << 40), "not a time"),
        (changed(12, None), "item 12 has the wrong type"),
        (changed(13, bytes(15)), "wrong length"),
        (changed(14, "two\nlines"), "cannot be printed"),
        (changed(14, "\u202eright to left"), "cannot be printed"),
        (changed(14, b"bytes"), "item 14 has the wrong type"),
        (changed(14, "x" * (MAX_TEXT_SIZE + 1)), "at most 4,096"),
        (changed(14, "x" * MAX_ENTRY_SIZE), "at most 8,192"),
        (changed(15, "7"), "item 15 has the wrong type"),
        (changed(16, None), "must have a device's signature if"),
        (changed(16, b""), "not CBOR"),
        (changed(16, SIGNER.sign(b"no statement")), "not CBOR|deterministic|payload"),
        (changed(16, SIGNER.sign(cbor.encode([bytes(16), 1, IMAGE, 0]))), "payload is not"),
        (changed(16, SIGNER.sign(cbor.encode([bytes(15), 1, IMAGE]))), "payload is not"),
        (changed(16, SIGNER.sign(cbor.encode([bytes(16), True, IMAGE]))), "payload is not"),
        (changed(16, SIGNER.sign(cbor.encode([bytes(16), 1, bytes(32)]))), "another image"),
        (changed(16, SIGNER.sign(cbor.encode([bytes(16), 1, IMAGE]), POSTPONES)), "cannot have a statement"),
    ],
    ids=itertools.count(),  # signatures differ in each process, and must not be part of a name
)
def test_wrong_items_are_refused(raw: bytes, why: str) -> None:
    """Non-canonical encodings, wrong types, lengths and ranges, and contradictions are refused with the reason."""
    with pytest.raises(RefusedError, match=why):
        LogEntry.decode(raw)


@pytest.mark.parametrize(
    "changes",
    [
        {"release": None},
        {"image": None},
        {"level": None},
        {"device": 0, "unique_id": None},
        {"kind": EntryKind.CLAIMED},  # level C
        {"kind": EntryKind.EVENT},  # level C
        {"device": -1},
        {"release": replace(RELEASE, contract=RELEASE.contract.lower())},
        {"release": replace(RELEASE, chain_id=0)},
        {"source": "\ud800"},
        {"image": bytes(32)},
        {"gateway": UUID(int=0)},
    ],
)
def test_contradictions_are_refused_at_once(changes: dict[str, Any]) -> None:
    """Constructing an entry is refused for all values that decoding refuses."""
    with pytest.raises(RefusedError):
        install(**changes)


def test_a_board_that_is_not_registered_has_its_unique_id() -> None:
    """Entries about a board without a number, and about an event without a release, are valid."""
    board = install(device=0, gateway=None)
    assert LogEntry.decode(board.encode()).unique_id == board.unique_id
    assert LogEntry.decode(EVENT.encode()) == EVENT


def test_a_signed_receipt_proves_level_a() -> None:
    """With the device's trusted key, a signed receipt has level A.

    A receipt signed with another key is refused as forged.
    """
    assert judge(SIGNED, SIGNER.key).level is EvidenceLevel.A
    assert judge(SIGNED, SIGNER.key).is_signed
    with pytest.raises(RefusedError, match=f"forged.*device {DEVICE}"):
        judge(SIGNED, SigningDevice(5).key)


def test_without_the_device_s_key_a_signature_counts_as_a_report() -> None:
    """A signature that was not verified counts as level B, with a remark."""
    evidence = judge(SIGNED, None)
    assert (evidence.level, evidence.is_signed) == (EvidenceLevel.B, False)
    assert "was not checked" in evidence.remark


def test_a_device_with_a_key_must_sign() -> None:
    """If the device has a key, a report without a signature counts only as a claim.

    If the device has no key, a report without a signature counts as an installation.
    """
    reported = install(level=EvidenceLevel.B)
    assert judge(reported, None).kind is EntryKind.INSTALL
    evidence = judge(reported, SIGNER.key)
    assert (evidence.kind, evidence.level) == (EntryKind.CLAIMED, EvidenceLevel.B)
    assert "did not sign" in evidence.remark
    claimed = judge(replace(reported, kind=EntryKind.CLAIMED), SIGNER.key)
    assert (claimed.kind, claimed.level, claimed.remark) == (EntryKind.CLAIMED, EvidenceLevel.B, "")


def test_a_read_flash_needs_no_signature() -> None:
    """An entry whose keeper itself read the flash has level C, whether or not the device has a key."""
    for key in (None, SIGNER.key):
        evidence = judge(install(), key)
        assert (evidence.kind, evidence.level, evidence.remark) == (EntryKind.INSTALL, EvidenceLevel.C, "")


def test_a_postponement_is_signed_as_one() -> None:
    """A postponement entry is valid with a signed postponement, and is refused with a signed report of an image."""
    counter, signature = SIGNER.state(IMAGE, kind=POSTPONES)
    postponed = LogEntry(
        EntryKind.POSTPONEMENT,
        time=1,
        device=DEVICE,
        release=RELEASE,
        image=IMAGE,
        level=EvidenceLevel.A,
        counter=counter,
        source="until 2026-12-01 by the device",
        signature=signature,
    )
    assert judge(LogEntry.decode(postponed.encode()), SIGNER.key).is_signed
    with pytest.raises(RefusedError, match="cannot have a statement"):
        replace(postponed, signature=SIGNER.state(IMAGE, kind=RUNS)[1])
    assert SignedStatement.decode(signature).type == POSTPONES


def test_a_signed_event_is_proven_by_the_device() -> None:
    """A signed event is verified with the device's key, and its text and number must be those that were signed."""
    event = SIGNER.event(ThingEvent(4, "tamper", 1, 1_700_000_000, "the lid is open\x07"))
    signed = LogEntry(
        EntryKind.EVENT,
        time=1,
        device=DEVICE,
        level=EvidenceLevel.A,
        counter=4,
        source=printable(event.text),
        signature=event.statement,
    )
    assert LogEntry.decode(signed.encode()) == signed
    found = judge(signed, SIGNER.key)
    assert (found.level, found.is_signed, found.proves) == (
        EvidenceLevel.A,
        True,
        "the device signed the event with its own key",
    )
    assert (judge(signed, None).level, judge(signed, None).is_signed) == (EvidenceLevel.B, False)
    with pytest.raises(RefusedError, match="forged"):
        judge(signed, SigningDevice(secret=99).key)
    for changes in ({"source": "tamper: nothing (severity 7)"}, {"counter": 5}):
        with pytest.raises(RefusedError, match="the device signed another event"):
            replace(signed, **changes)
    with pytest.raises(RefusedError, match="cannot have a statement"):
        replace(signed, signature=SIGNER.state(IMAGE, kind=RUNS)[1])
    unsigned = replace(signed, level=EvidenceLevel.B, signature=None)
    assert (judge(unsigned, SIGNER.key).kind, judge(unsigned, SIGNER.key).level) == (EntryKind.EVENT, EvidenceLevel.B)


def test_the_largest_signed_event_fits_into_an_entry() -> None:
    """The readable text of a signed event can be four times as long as the signed text. The log truncates it."""
    event = SIGNER.event(ThingEvent(4, "tamper", 1, None, "\x07" * 900 + "\u00e4" * 1000))
    entry = LogEntry(
        EntryKind.EVENT,
        time=1,
        device=DEVICE,
        level=EvidenceLevel.A,
        counter=4,
        gateway=GATEWAY,
        source=printable(event.text),
        signature=event.statement,
    )
    assert ThingEvent.decode(event.encode()) == event
    assert LogEntry.decode(entry.encode()) == entry
