"""Signed notes, checkpoints and cosignatures, compared with the examples of C2SP."""

from __future__ import annotations

import base64
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from blockota.formats.notes import (
    Checkpoint,
    Note,
    NoteAlgorithm,
    NoteSignature,
    NoteSigner,
    VerifierKey,
)
from blockota.formats.tlog import TreeHead
from tests.support.witness import cosign

# An example of Go's golang.org/x/mod/sumdb/note: a key, and a note that it signed.
GO_KEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
GO_NOTE = """If you think cryptography is the answer to your problem,
then you don't know what your problem is.

— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=
"""
# The example of C2SP tlog-checkpoint and tlog-cosignature.
C2SP_CHECKPOINT = """example.com/behind-the-sofa
20852163
CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=

— example.com/behind-the-sofa \
Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=
— witness.example.com/w1 \
jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==
"""
HEAD = TreeHead(7, bytes(range(32)))


def signer(name: str, algorithm: NoteAlgorithm = NoteAlgorithm.ED25519, *, seed: int = 1) -> NoteSigner:
    """Return a key that depends only on the seed."""
    private = Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32)
    return NoteSigner(VerifierKey(name, algorithm, private.public_key().public_bytes_raw()), private.sign)


def test_a_note_of_go_verifies() -> None:
    """The example of Go's note package is read: key, text and signature."""
    key, note = VerifierKey.parse(GO_KEY), Note.parse(GO_NOTE.encode())
    assert note.is_signed_by(key)
    assert note.encode() == GO_NOTE.encode()
    assert str(key) == GO_KEY
    with pytest.raises(ValueError, match="does not belong"):
        Note.parse(GO_NOTE.replace("problem", "Problem", 1).encode()).is_signed_by(key)


def test_the_checkpoint_of_the_specification_is_read() -> None:
    """The example of C2SP is parsed, and the time of its cosignature is read; its keys are not published."""
    note = Note.parse(C2SP_CHECKPOINT.encode())
    checkpoint = Checkpoint.parse(note.text)
    assert (checkpoint.origin, checkpoint.head.size) == ("example.com/behind-the-sofa", 20852163)
    assert str(checkpoint) == note.text
    assert note.encode() == C2SP_CHECKPOINT.encode()
    assert int.from_bytes(note.signatures[1].signature[:8]) == 1679315147


def test_a_log_signs_and_a_witness_cosigns() -> None:
    """A checkpoint signed by its log and a witness verifies with both keys, and with no other key."""
    log, witness = signer("log.example"), signer("witness.example", NoteAlgorithm.COSIGNATURE, seed=2)
    note = Checkpoint("log.example", HEAD).signed(log)
    assert not note.is_signed_by(witness.key)
    assert note.cosigned_at(witness.key) is None
    note = note.with_signatures(cosign(note.text, witness, time=1_700_000_000))
    read = Note.parse(note.encode())
    assert read == note
    assert read.is_signed_by(log.key)
    assert read.cosigned_at(witness.key) == 1_700_000_000
    assert Checkpoint.parse(read.text) == Checkpoint("log.example", HEAD)
    # A later cosignature of the same witness takes the place of the earlier.
    later = note.with_signatures(cosign(note.text, witness, time=1_700_000_001))
    assert (len(later.signatures), later.cosigned_at(witness.key)) == (2, 1_700_000_001)
    # A time of more than 63 bits is refused.
    with pytest.raises(ValueError, match=r"witness.example has the wrong size"):
        note.with_signatures(cosign(note.text, witness, time=1 << 63)).cosigned_at(witness.key)


def test_keys_of_one_name_or_of_another_type_are_not_confused() -> None:
    """Signatures with another key, another name or another type are ignored without an error."""
    log = signer("log.example")
    note = Checkpoint("log.example", HEAD).signed(log)
    assert not note.is_signed_by(signer("log.example", seed=3).key)
    assert not note.is_signed_by(signer("other.example").key)
    assert not note.is_signed_by(signer("log.example", NoteAlgorithm.COSIGNATURE).key)
    assert note.cosigned_at(log.key) is None


@pytest.mark.parametrize("algorithm", list(NoteAlgorithm))
def test_a_changed_bit_of_a_signature_is_an_error(algorithm: NoteAlgorithm) -> None:
    """A signature of a known key is refused if a bit or the time was changed, or if a byte is missing."""
    key = signer("a.example", algorithm)
    text = str(Checkpoint("a.example", HEAD))
    good = (
        cosign(text, key, time=5)
        if algorithm is NoteAlgorithm.COSIGNATURE
        else Checkpoint.parse(text).signed(key).signatures[0]
    )
    assert Note(text, (good,)).is_signed_by(key.key)
    size = len(good.signature)
    changed = [good.signature[:i] + bytes([good.signature[i] ^ 1]) + good.signature[i + 1 :] for i in range(size)]
    for signature in (*changed, good.signature[:-1], good.signature + b"\0"):
        with pytest.raises(ValueError, match="signature of a"):
            Note(text, (replace(good, signature=signature),)).is_signed_by(key.key)
        with pytest.raises(ValueError, match="signature of a"):
            Note(text, (good, replace(good, signature=signature))).is_signed_by(key.key)


SIGNATURE = NoteSignature("a", bytes(4), bytes(64))


@pytest.mark.parametrize(
    "raw",
    [
        *(b"", b"text\n", b"text\n\n", f"text\n{SIGNATURE}".encode(), f"text\n\n{SIGNATURE}"[:-1].encode()),
        *(
            f"te\x01xt\n\n{SIGNATURE}".encode(),
            b"te\xffxt\n\n" + str(SIGNATURE).encode(),
            f"text\r\n\n{SIGNATURE}".encode(),
        ),
        *(f"text\n\n{SIGNATURE}x\n".encode(), "text\n\n— a\n".encode(), "text\n\n— a AAAAAA==\n".encode()),
        *("text\n\n— a+b AAAAAAA=\n".encode(), "text\n\n— a AAAA AAAA\n".encode(), b"text\n\n- a AAAAAAA=\n"),
        f"text\n\n{SIGNATURE}".replace("AAA=", "AAB=").encode(),
        *(f"text\n\n{str(SIGNATURE) * 101}".encode(), b"x" * 70_000 + f"\n\n{SIGNATURE}".encode()),
    ],
)
def test_what_is_not_a_note_is_refused(raw: bytes) -> None:
    """Bytes that are not in the form of a signed note are refused."""
    with pytest.raises(ValueError, match=r"note|signature|base64|name of a key"):
        Note.parse(raw)


ROOT = base64.b64encode(bytes(32)).decode()


@pytest.mark.parametrize(
    "text",
    [
        *("", "origin\n", f"origin\n1\n{ROOT}", f"\n1\n{ROOT}\n", f"origin\n01\n{ROOT}\n", f"origin\n-1\n{ROOT}\n"),
        *(
            f"origin\n+1\n{ROOT}\n",
            f"origin\n1 \n{ROOT}\n",
            f"origin\n\u0661\n{ROOT}\n",
            f"origin\n{1 << 63}\n{ROOT}\n",
        ),
        *("origin\n1\nAAAA\n", f"origin\n1\n{ROOT[:-1]}\n", f"origin\n1\n{ROOT}\n\n", f"origin\n1\n{ROOT[:-2]}B=\n"),
    ],
)
def test_what_is_not_a_checkpoint_is_refused(text: str) -> None:
    """A checkpoint is refused if it has fewer than three lines, or a malformed size or root."""
    with pytest.raises(ValueError, match=r"checkpoint|base64"):
        Checkpoint.parse(text)


def test_further_lines_of_a_checkpoint_are_ignored() -> None:
    """A checkpoint may have extension lines after the third line (C2SP tlog-checkpoint)."""
    assert Checkpoint.parse(f"origin\n0\n{ROOT}\nmore\n") == Checkpoint("origin", TreeHead(0, bytes(32)))


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "name",
            "name+00000000",
            GO_KEY.replace("c74f20a3", "c74f20a4"),
            GO_KEY.replace("Peter", "Pete"),
            GO_KEY[:-4],
        ),
        *(
            GO_KEY.replace("+c74f20a3", " +c74f20a3"),
            GO_KEY.replace("ARpc", "Arpc"),
            GO_KEY + "AAAA",
            GO_KEY.replace("c7", "C7"),
        ),
    ],
)
def test_what_is_not_a_key_is_refused(text: str) -> None:
    """A verifier key whose name, id, type or size is wrong is refused."""
    with pytest.raises(ValueError, match=r"key|base64|type"):
        VerifierKey.parse(text)
