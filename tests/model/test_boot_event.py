"""Boot events of boards: their signatures, and the log entries that can contain a signed event."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, derive_private_key
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from blockota.errors import RefusedError
from blockota.formats.p256 import ORDER, is_p256_signature, low_s
from blockota.model.boot_event import BootEvent, SignedBootEvent, is_boot_event
from blockota.model.evidence import judge
from blockota.model.receipt import EntryKind, EvidenceLevel, LogEntry
from tests.support.receipts import SigningDevice, install

DIGEST = hashlib.sha256(b"header and program").digest()
CONFIRMED = BootEvent(7, 3, 0, DIGEST)
SECRET = 0xC0FFEE
OTHER_KEY = SigningDevice().key


def signature(event: BootEvent, *, is_high: bool = False) -> bytes:
    """Sign an event, with a low or a high s as required."""
    private = derive_private_key(SECRET, SECP256R1())
    r, s = decode_dss_signature(private.sign(event.signed_bytes, ECDSA(SHA256())))
    return r.to_bytes(32) + (max if is_high else min)(s, ORDER - s).to_bytes(32)


def key() -> bytes:
    """Return the public key: x and y."""
    numbers = derive_private_key(SECRET, SECP256R1()).public_key().public_numbers()
    return numbers.x.to_bytes(32) + numbers.y.to_bytes(32)


def signed(event: BootEvent) -> bytes:
    """Return an event with its signature."""
    return SignedBootEvent(event, signature(event)).encode()


def receipt(event: BootEvent = CONFIRMED, **changes: Any) -> LogEntry:
    """Return a receipt with a board's signed event."""
    values = {"level": EvidenceLevel.A, "counter": event.number, "signature": signed(event), "unique_id": None}
    return replace(install(), **{**values, **changes})


def test_the_signed_bytes_have_fixed_places() -> None:
    """Each part of an encoded event has a fixed offset, at which a contract can read it."""
    event = BootEvent(0x01020304, 5, 6, DIGEST)
    assert event.signed_bytes == b"blockota-event\x01\x02\x03\x04\x05\x06" + DIGEST
    raw = signed(event)
    assert len(raw) == 52 + 64
    assert (is_boot_event(raw), SignedBootEvent.decode(raw).event) == (True, event)


def test_both_forms_of_a_signature() -> None:
    """A signature with a high s is valid, and is converted to a low s before it is logged."""
    high = signature(CONFIRMED, is_high=True)
    assert is_p256_signature(key(), CONFIRMED.signed_bytes, high)
    assert is_p256_signature(key(), CONFIRMED.signed_bytes, low_s(high))
    assert low_s(low_s(high)) == low_s(high) != high
    assert low_s(b"no signature") == b"no signature"
    with pytest.raises(ValueError, match="low s"):
        SignedBootEvent.decode(CONFIRMED.signed_bytes + high)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"blockota-event",
        signed(CONFIRMED)[:-1],
        signed(CONFIRMED) + b"\0",
        signed(CONFIRMED)[1:],
        signed(CONFIRMED)[:-64] + bytes(64),
        signed(BootEvent(0, 1, 0, DIGEST)),
    ],
    ids=["empty", "no fields", "cut off", "longer", "no prefix", "zeros", "number"],
)
def test_bytes_that_are_not_a_signed_event(raw: bytes) -> None:
    """They are refused."""
    with pytest.raises(ValueError, match=r"event|signature"):
        SignedBootEvent.decode(raw)


def test_events_as_people_read_them() -> None:
    """Boot events of all kinds and with all details have a text.

    Events of unknown kinds, as of newer agents, have a text as well.
    """
    values = [(1, 0), (1, 27), (2, 6), (2, 99), (3, 0), (9, 1)]
    texts = [BootEvent(1, kind, detail, DIGEST).text for kind, detail in values]
    assert [text.split(";")[0] for text in texts] == [
        "the board started",
        "the board started, on trial, after a rollback, with a secure element, its signature checked",
        "the loader refused the new image: its signature is not accepted",
        "the loader refused the new image: reason 99",
        "the running image was confirmed",
        "event of the kind 9 with the detail 1",
    ]
    assert all(text.endswith(f"; the running image has the digest {DIGEST.hex()}") for text in texts)


@pytest.mark.parametrize("event", [CONFIRMED, BootEvent(7, 1, 24, DIGEST)], ids=["confirmed", "started"])
def test_an_event_is_the_statement_of_a_receipt(event: BootEvent) -> None:
    """The events "confirmation" and "start without a trial" state the image that the board runs permanently."""
    entry = LogEntry.decode(receipt(event).encode())
    evidence = judge(entry, key())
    assert (evidence.level, evidence.is_signed) == (EvidenceLevel.A, True)
    assert "MCUboot digest" in evidence.proves
    assert judge(entry, None).level is EvidenceLevel.B
    with pytest.raises(RefusedError, match="forged"):
        judge(entry, OTHER_KEY)


def test_an_event_is_the_statement_of_its_own_entry() -> None:
    """The log entry of an event has the event's text and number."""
    entry = LogEntry(
        kind=EntryKind.EVENT,
        time=1,
        device=300,
        level=EvidenceLevel.A,
        counter=CONFIRMED.number,
        source=CONFIRMED.text,
        signature=signed(CONFIRMED),
    )
    evidence = judge(LogEntry.decode(entry.encode()), key())
    assert evidence.proves == "the device signed the event with its own key"
    for changes in ({"source": "another text"}, {"counter": 8}, {"device": 0}):
        with pytest.raises(RefusedError):
            replace(entry, **changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"counter": 8},
        {"kind": EntryKind.CLAIMED},
        {"kind": EntryKind.POSTPONEMENT},
        {"kind": EntryKind.WARNING},
        {"level": EvidenceLevel.B},
        {"signature": signed(CONFIRMED)[:-1]},
        {"signature": signed(BootEvent(7, 1, 1, DIGEST))},
        {"signature": signed(BootEvent(7, 2, 6, DIGEST))},
    ],
    ids=["counter", "claimed", "postponement", "warning", "level", "cut off", "on trial", "refused image"],
)
def test_an_event_that_does_not_belong_to_its_entry(changes: dict[str, Any]) -> None:
    """Such an entry cannot be made."""
    with pytest.raises(RefusedError):
        receipt(**changes)
