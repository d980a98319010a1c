"""A receipt is verified only with keys that the reader trusts.

A changed proof file is refused or proves the same facts.
"""

from __future__ import annotations

import socket
from dataclasses import replace
from pathlib import Path

import pytest

from blockota.errors import RefusedError, UsageError
from blockota.formats.notes import Note
from blockota.formats.public_key import KeyKind, PublicKey
from blockota.ledger.trust import TrustedKeys, load_trust
from blockota.ledger.verify import VerifiedEntry, verify_proof
from blockota.model.proof_file import Anchor, ProofFile
from blockota.model.receipt import EvidenceLevel
from tests.support.logs import note_signer
from tests.support.receipts import (
    COSIGNED_AT,
    GATEWAY,
    ORIGIN,
    MemoryLog,
    SigningDevice,
    install,
    signed_install,
    trust_table,
)
from tests.support.sampling import sampled

pytestmark = pytest.mark.sampled
SIGNER = SigningDevice()
ENTRY = signed_install(SIGNER)
INDEX = 256
LOG = MemoryLog([*(install(device=number).encode() for number in range(1, 257)), ENTRY.encode(), b"the next entry"])
FILE = LOG.prove(INDEX, Anchor(1337, 81_234_567, 258))
KEYS = LOG.keys(device300=SIGNER.key)
RAW = FILE.to_json()
RENAMED = replace(KEYS.witnesses[0], name=KEYS.witnesses[1].name)
ED25519 = PublicKey(KeyKind.ED25519, KEYS.logs[0].key).pem


def test_a_receipt_is_proven_without_a_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """Verification reports device, release, log, witnesses and evidence level, and opens no socket."""
    monkeypatch.setattr(socket, "socket", None)
    found = verify_proof(ProofFile.from_json(RAW), KEYS)
    assert (found.entry, found.index, found.head.size) == (ENTRY, INDEX, 258)
    assert (found.log_key.name, found.names_gateway) == (ORIGIN, True)
    assert [(one.witness, one.time) for one in found.witnesses] == [
        ("witness0.example", COSIGNED_AT),
        ("witness1.example", COSIGNED_AT),
    ]
    assert (found.evidence.level, found.evidence.is_signed) == (EvidenceLevel.A, True)


def test_each_entry_of_a_log_is_proven() -> None:
    """Entries of a full and of a partial bundle are proven by their inclusion paths.

    The inclusion path of an entry is refused for another index and for another entry.
    """
    for index in (0, 1, 255):
        assert verify_proof(LOG.prove(index), KEYS).entry.device == index + 1
    for other in (replace(FILE, index=0), replace(FILE, index=257), replace(FILE, entry=install().encode())):
        with pytest.raises(RefusedError, match="path does not lead"):
            verify_proof(other, KEYS)
    for path in (FILE.path[:-1], (*FILE.path, bytes(32)), FILE.path[::-1], ()):
        with pytest.raises(RefusedError, match="path does not lead"):
            verify_proof(replace(FILE, path=path), KEYS)


def test_a_proof_file_changed_in_any_bit_is_refused_or_means_the_same() -> None:
    """If any bit of a proof file is changed, the file is refused or proves the same facts.

    This test does not cover the anchor in the file.
    """
    expected = verify_proof(FILE, KEYS)
    kept = 0
    for bit in sampled(range(8 * len(RAW)), one_in=16):
        spoiled = bytearray(RAW)
        spoiled[bit // 8] ^= 1 << bit % 8
        found = proven(bytes(spoiled), KEYS)
        kept += found is not None
        assert found in (None, expected), bit
    assert kept < 200  # digits of the anchor, which is checked with the chain alone


def proven(raw: bytes, keys: TrustedKeys) -> VerifiedEntry | None:
    """Return what a proof file proves, or None if the file is refused or malformed."""
    try:
        return verify_proof(ProofFile.from_json(raw), keys)
    except (RefusedError, UsageError):
        return None


def test_keys_come_from_the_reader_alone() -> None:
    """A receipt is refused if the trusted key of its log, witness or device has the same name but other contents."""
    foreign = MemoryLog([ENTRY.encode()])
    other = note_signer(ORIGIN, seed=99).key
    with pytest.raises(RefusedError, match="not signed by a trusted key"):
        verify_proof(FILE, replace(KEYS, logs=(other,)))
    assert verify_proof(FILE, replace(KEYS, logs=(other, *KEYS.logs))).log_key == KEYS.logs[0]  # after a rotation
    with pytest.raises(RefusedError, match="is not trusted"):
        verify_proof(FILE, replace(KEYS, logs=(note_signer("other.example").key,)))
    with pytest.raises(RefusedError, match=r"forged.*device 300"):
        verify_proof(FILE, LOG.keys(device300=SigningDevice(5).key))
    moved = replace(FILE, checkpoint=foreign.note.encode().decode())
    with pytest.raises(RefusedError, match="path does not lead"):
        verify_proof(moved, KEYS)


def test_a_quorum_of_witnesses_is_required() -> None:
    """A receipt is refused if fewer witnesses than the quorum signed it.

    A receipt with an invalid witness signature is always refused.
    """
    note = Note.parse(FILE.checkpoint.encode())
    single = replace(FILE, checkpoint=replace(note, signatures=note.signatures[:2]).encode().decode())
    with pytest.raises(RefusedError, match="1 of 2 trusted witnesses cosigned the log, but the quorum is 2"):
        verify_proof(single, KEYS)
    assert len(verify_proof(single, replace(KEYS, quorum=1)).witnesses) == 1
    assert verify_proof(FILE, replace(KEYS, witnesses=(), quorum=0)).witnesses == ()
    swapped = replace(note.signatures[1], signature=note.signatures[2].signature)
    forged = replace(FILE, checkpoint=replace(note, signatures=(note.signatures[0], swapped)).encode().decode())
    with pytest.raises(RefusedError, match="does not belong to the note"):
        verify_proof(forged, replace(KEYS, quorum=0))


def test_a_log_cannot_have_entries_of_another_gateway() -> None:
    """If a log's origin ends in a UUID, a proof is refused unless its entry names the gateway with this UUID.

    For an origin without a UUID, the result states that the origin does not contain the gateway.
    """
    entries = [ENTRY.encode(), install(gateway=None).encode()]
    foreign = MemoryLog(entries, origin=f"city.example/gateway/{GATEWAY.hex[::-1]}")
    for index in (0, 1):
        with pytest.raises(RefusedError, match="belongs to"):
            verify_proof(foreign.prove(index), foreign.keys())
    with pytest.raises(RefusedError, match="names no gateway"):
        verify_proof(MemoryLog(entries).prove(1), KEYS)
    bench = MemoryLog(entries, origin="bench7.example")
    assert not verify_proof(bench.prove(0), bench.keys()).names_gateway


def test_a_receipt_among_100_000_fits_into_2_kb() -> None:
    """The proof file of a signed receipt in a log of 100,000 entries with two witnesses has at most 2,000 bytes."""
    path = tuple(bytes([255 - number]) * 32 for number in range(17))
    assert len(replace(FILE, index=99_999, path=path, anchor=Anchor(1337, 81_234_567, 100_000)).to_json()) <= 2000


def test_the_trusted_keys_are_read_from_the_settings(tmp_path: Path) -> None:
    """The settings table [trust] names the keys of logs, witnesses and devices.

    If the settings contain no quorum, signatures of all witnesses are required.
    """
    file = tmp_path / "trust.toml"
    file.write_text(trust_table(KEYS).replace("quorum = 2\n", ""))
    assert load_trust(file, environment={}) == KEYS
    file.write_text(trust_table(replace(KEYS, quorum=1)))
    assert load_trust(file, environment={}).quorum == 1


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        ("", "no log is trusted"),
        ("logs = []", "no log is trusted"),
        ('logs = "key"', "not a list of texts"),
        ("logs = [7]", "not a list of texts"),
        ('logs = ["key"]', "name\\+id\\+key"),
        (f'logs = ["{KEYS.witnesses[0]}"]', "is that of a witness"),
        (f'logs = ["{KEYS.logs[0]}"]\nwitnesses = ["{KEYS.logs[0]}"]', "is that of a log"),
        (f'logs = ["{KEYS.logs[0]}"]\nwitnesses = ["{KEYS.witnesses[0]}", "{KEYS.witnesses[0]}"]', "one name"),
        (f'logs = ["{KEYS.logs[0]}"]\nwitnesses = ["{KEYS.witnesses[0]}", "{RENAMED}"]', "one key has two names"),
        (f'logs = ["{KEYS.logs[0]}"]\nwitnesses = ["{KEYS.witnesses[1]}", "{RENAMED}"]', "one name"),
        (f'logs = ["{KEYS.logs[0]}"]\nquorum = 1', "number from 0 to 0"),
        (f'logs = ["{KEYS.logs[0]}"]\nquorum = true', "number from 0 to 0"),
        (f'logs = ["{KEYS.logs[0]}"]\ndevices = []', "not a table"),
        (f'logs = ["{KEYS.logs[0]}"]\n[trust.devices]\n0 = "00"', "not the number of a device"),
        (f'logs = ["{KEYS.logs[0]}"]\n[trust.devices]\n7 = "{"01" * 64}"', "not a public key"),
        (f'logs = ["{KEYS.logs[0]}"]\n[trust.devices]\n7 = """{ED25519}"""', "of the kind Ed25519, not P-256"),
        (f'logs = ["{KEYS.logs[0]}"]\n[trust.devices]\n7 = 7', "not a text"),
        ("keys = []", "unknown setting"),
    ],
)
def test_keys_that_cannot_be_used_are_refused(tmp_path: Path, lines: str, why: str) -> None:
    """Keys of another kind, repeated keys and invalid numbers are refused with the reason."""
    file = tmp_path / "trust.toml"
    file.write_text(f"[trust]\n{lines}\n")
    with pytest.raises(UsageError, match=why):
        load_trust(file, environment={})
