"""Keys and entries of logs for tests."""

from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from blockota.formats.notes import NoteAlgorithm, NoteSigner, VerifierKey

ORIGIN = "log.example/7"


def note_signer(name: str = ORIGIN, algorithm: NoteAlgorithm = NoteAlgorithm.ED25519, *, seed: int = 1) -> NoteSigner:
    """Return the key of a log or a witness. It depends only on the seed."""
    private = Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32)
    return NoteSigner(VerifierKey(name, algorithm, private.public_key().public_bytes_raw()), private.sign)


def entries_of(start: int, stop: int) -> list[bytes]:
    """Return different log entries of different lengths."""
    return [b"entry %d " % number * (1 + number % 3) for number in range(start, stop)]


def files_of(folder: Path) -> dict[str, bytes]:
    """Return the contents of all files in a log's folder, by path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
