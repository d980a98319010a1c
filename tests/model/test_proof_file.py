"""Each proof file has exactly one encoding, and any other encoding is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from blockota.errors import UsageError
from blockota.model.proof_file import Anchor, ProofFile
from tests.support.receipts import install

FILE = ProofFile(
    entry=install().encode(),
    index=4321,
    path=tuple(bytes([number]) * 32 for number in range(13)),
    checkpoint="gateway.example/7\n5000\nAAAA\n\n— gateway.example/7 AAAA\n",
    anchor=Anchor(1337, 812, 4864, (b"\1" * 32,)),
)
FIELDS = json.loads(FILE.to_json())


def test_a_proof_file_survives_encoding() -> None:
    """A written proof file is read back unchanged, even if its path is empty or its anchor is missing."""
    for file in (FILE, ProofFile(b"\0", 0, (), "a\n\nb\n")):
        assert ProofFile.from_json(file.to_json()) == file


def test_the_proof_is_a_file_of_the_standard() -> None:
    """The field `proof` has the lines of C2SP tlog-proof: header, index, path, empty line, checkpoint."""
    lines = FIELDS["proof"].split("\n")
    assert lines[:2] == ["c2sp.org/tlog-proof@v1", "index 4321"]
    assert (lines[2], lines[15]) == ("A" * 43 + "=", "")
    assert "\n".join(lines[16:]) == FILE.checkpoint


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"format": "blockota-receipt-2"}, "of another kind|its format is"),
        ({"entry": None}, "entry is None"),
        ({"entry": "kQ!="}, "entry is not base64"),
        ({"entry": "kR=="}, "an encoding that"),  # the last bits are not zero
        ({"proof": FIELDS["proof"].replace("@v1", "@v2")}, "not a tlog-proof"),
        ({"proof": FIELDS["proof"].replace("index 4321", "index 04321")}, "not a tlog-proof"),
        ({"proof": FIELDS["proof"].replace("index 4321", "index -1")}, "not a tlog-proof"),
        ({"proof": FIELDS["proof"].replace("A=\n", "B=\n")}, "an encoding that"),
        ({"proof": FIELDS["proof"].replace("A=\n", "=\n")}, "Incorrect padding|hash of"),
        ({"proof": FIELDS["proof"] + "\ud800"}, "surrogates"),
        ({"anchor": {"chainId": 1337, "proof": []}}, "'block' is missing"),
        ({"anchor": FIELDS["anchor"] | {"size": -1}}, "not a whole number"),
        ({"anchor": FIELDS["anchor"] | {"proof": "AA=="}}, "not a list of texts"),
        ({"anchor": FIELDS["anchor"] | {"proof": ["AA=="]}}, "hash of 1 bytes"),
        ({"anchor": FIELDS["anchor"] | {"root": "00"}}, "an encoding that"),
        ({"key": "trust me"}, "an encoding that"),
    ],
)
def test_other_files_are_refused(changes: dict[str, Any], why: str) -> None:
    """Other formats, unknown fields and alternative encodings of a value are refused with the reason."""
    with pytest.raises(UsageError, match=why):
        ProofFile.from_json(json.dumps(FIELDS | changes).encode())


@pytest.mark.parametrize("raw", [b"", b"{}", b"[]", b"{", b"\xff", FILE.tlog_proof.encode()])
def test_other_bytes_are_refused(raw: bytes) -> None:
    """Files without the fields of a proof file are refused."""
    with pytest.raises(UsageError, match="not a proof of a log entry"):
        ProofFile.from_json(raw)
