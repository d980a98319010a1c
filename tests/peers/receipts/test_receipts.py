"""Go's libraries check our receipts: sumdb/note, sumdb/tlog, transparency-dev/formats, fxamacker/cbor and go-cose."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from blockota.errors import RefusedError, UsageError
from blockota.ledger.verify import verify_proof
from blockota.model.proof_file import ProofFile
from scripts.go_programs import GO
from tests.support.receipts import DEVICE, IMAGE, ORIGIN, RELEASE, MemoryLog, SigningDevice, install, signed_install
from tests.support.sampling import sampled

pytestmark = pytest.mark.sampled
SIGNER = SigningDevice()
LOG = MemoryLog([*(install(device=number).encode() for number in range(1, 100)), signed_install(SIGNER).encode()])
KEYS = LOG.keys(device300=SIGNER.key)
RAW = LOG.prove(99).to_json()


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the checker in this folder, and return its path."""
    target = tmp_path_factory.mktemp("go") / "receipts"
    subprocess.run([GO, "build", "-o", str(target), "."], cwd=Path(__file__).parent, check=True)
    return target


def checked(program: Path, raw: bytes, folder: Path) -> dict[str, Any] | None:
    """Return what the checker found in a proof file. Returns None if the checker refuses the file."""
    file = folder / "RECEIPT.json"
    file.write_bytes(raw)
    keys = [str(KEYS.logs[0]), ",".join(map(str, KEYS.witnesses)), SIGNER.key.hex()]
    done = subprocess.run([program, file, *keys], capture_output=True, text=True, check=False)
    assert done.returncode in (0, 3), done.stderr
    return json.loads(done.stdout) if done.returncode == 0 else None


def test_other_libraries_read_the_same(program: Path, tmp_path: Path) -> None:
    """Go's libraries and BlockOTA read the same entry, checkpoint and signatures in a receipt."""
    assert checked(program, RAW, tmp_path) == {
        "index": 99,
        "size": 100,
        "origin": ORIGIN,
        "witnesses": 2,
        "kind": 0,
        "device": DEVICE,
        "product": RELEASE.product,
        "release": RELEASE.digest.hex(),
        "image": IMAGE.hex(),
        "signedImage": IMAGE.hex(),
        "signedCounter": 1,
        "kindByte": 0,
        "numberBytes": DEVICE.to_bytes(8).hex(),
        "releaseBytes": RELEASE.digest.hex(),
    }


def test_other_libraries_accept_what_we_accept(program: Path, tmp_path: Path) -> None:
    """If BlockOTA accepts a file with one changed bit, Go's libraries also accept it and read the same values."""
    expected = checked(program, RAW, tmp_path)
    for bit in sampled(range(8 * len(RAW)), one_in=64):
        spoiled = bytearray(RAW)
        spoiled[bit // 8] ^= 1 << bit % 8
        try:
            verify_proof(ProofFile.from_json(bytes(spoiled)), KEYS)
        except (RefusedError, UsageError):
            continue
        assert checked(program, bytes(spoiled), tmp_path) == expected, bit


def test_other_libraries_refuse_another_key(program: Path, tmp_path: Path) -> None:
    """Go's libraries refuse a receipt that another device signed, and find no witness of an unwitnessed log."""
    foreign = MemoryLog([signed_install(SigningDevice(5)).encode()])
    assert checked(program, foreign.prove(0).to_json(), tmp_path) is None
    unwitnessed = MemoryLog([signed_install(SIGNER).encode()], witnesses=0)
    assert (checked(program, unwitnessed.prove(0).to_json(), tmp_path) or {})["witnesses"] == 0
