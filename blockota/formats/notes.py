"""Signed notes, checkpoints of logs, and cosignatures of witnesses. Pure.

The formats are defined by C2SP as signed-note, tlog-checkpoint and tlog-cosignature (cosignature/v1). A note is a text,
followed by lines with signatures. A checkpoint is a note whose text contains the origin of a log, and the size and the
root of the log's tree. A cosignature is the signature of a witness on a checkpoint. The cosignature contains the time
at which the witness saw the checkpoint.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import IntEnum
from hashlib import sha256
from typing import Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from blockota.formats.tlog import HASH_SIZE, TreeHead

MAX_NOTE_SIZE = 1 << 16
"""Largest accepted size of a note in bytes."""
_KEY_SIZE, _KEY_ID_SIZE, _TIME_SIZE, _SIGNATURE_SIZE = 32, 4, 8, 64
_MAX_SIGNATURES = 100
_MAX_SIZE = (1 << 63) - 1
_NAME = re.compile(r"[^\s+]+")
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f]")
_SIGNATURE_LINE = re.compile(r"— (\S+) (\S+)")
_NUMBER = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII)


class NoteAlgorithm(IntEnum):
    """The type of a key and of its signatures."""

    ED25519 = 1
    """A signature of the text, which a log makes."""
    COSIGNATURE = 4
    """A signature of the text and a time, which a witness makes (cosignature/v1)."""


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """The public key of a log or a witness.

    Attributes:
        name: the name of the key. The name of a log's key is the log's origin.
        algorithm: the type of the key's signatures.
        key: the Ed25519 key, 32 bytes.
    """

    name: str
    algorithm: NoteAlgorithm
    key: bytes

    def __post_init__(self) -> None:
        """Check the name and the size of the key.

        Raises:
            ValueError: the name is empty, the name contains a space or a plus sign, or the key does not have 32 bytes.
        """
        check_name(self.name)
        if len(self.key) != _KEY_SIZE:
            raise ValueError(f"an Ed25519 key has {_KEY_SIZE} bytes, not {len(self.key)}")

    @property
    def key_id(self) -> bytes:
        """The key's id: the first 4 bytes of the SHA-256 of the name, a newline, the type and the key."""
        return sha256(self.name.encode() + b"\n" + bytes((self.algorithm,)) + self.key).digest()[:_KEY_ID_SIZE]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a key in the form ``name+key id+base64`` (a vkey).

        Raises:
            ValueError: the text is not a vkey, the type is not supported, or the key id does not match the key.
        """
        parts = text.split("+", 2)
        if len(parts) != 3:  # noqa: PLR2004 - the base64 may contain further plus signs
            raise ValueError("it is not a key in the form name+id+key")

        name, key_id, encoded = parts
        raw = _decode(encoded)
        if not raw or raw[0] not in list(NoteAlgorithm):
            raise ValueError("its type is neither the type of a log's Ed25519 key nor the type of a witness's key")

        key = cls(name, NoteAlgorithm(raw[0]), raw[1:])
        if key.key_id.hex() != key_id:
            raise ValueError("its key id does not match its name and key")
        return key

    def __str__(self) -> str:
        """Return the key as text, which `parse` reads."""
        encoded = base64.b64encode(bytes((self.algorithm,)) + self.key).decode()
        return f"{self.name}+{self.key_id.hex()}+{encoded}"


@dataclass(frozen=True, slots=True)
class NoteSigner:
    """A key that signs checkpoints.

    Attributes:
        key: the public key.
        sign: returns the Ed25519 signature of a message.
    """

    key: VerifierKey
    sign: Callable[[bytes], bytes]


@dataclass(frozen=True, slots=True)
class NoteSignature:
    """A line with a signature.

    Attributes:
        name: the name of the key.
        key_id: the key's id, 4 bytes.
        signature: the bytes of the signature.
    """

    name: str
    key_id: bytes
    signature: bytes

    @classmethod
    def parse(cls, line: str) -> Self:
        """Read a line, without its newline.

        Raises:
            ValueError: the line is not a signature.
        """
        found = _SIGNATURE_LINE.fullmatch(line)
        raw = _decode(found[2]) if found else b""
        if not found or len(raw) <= _KEY_ID_SIZE:
            raise ValueError(f"the line {line!r:.80} is not a signature")
        check_name(found[1])
        return cls(found[1], raw[:_KEY_ID_SIZE], raw[_KEY_ID_SIZE:])

    def __str__(self) -> str:
        """Return the line, with its newline."""
        return f"— {self.name} {base64.b64encode(self.key_id + self.signature).decode()}\n"

    def is_of(self, key: VerifierKey) -> bool:
        """Whether the line names a key.

        The signature is not checked.
        """
        return (self.name, self.key_id) == (key.name, key.key_id)


@dataclass(frozen=True, slots=True)
class Note:
    """A text with signatures, which are not checked yet.

    Attributes:
        text: the signed text, which ends in a newline.
        signatures: the signatures.
    """

    text: str
    signatures: tuple[NoteSignature, ...]

    @classmethod
    def parse(cls, raw: bytes) -> Self:
        """Read a note.

        Raises:
            ValueError: the bytes are not a note.
        """
        try:
            whole = raw.decode() if len(raw) <= MAX_NOTE_SIZE else ""
        except UnicodeDecodeError as error:
            raise ValueError("the note is not text in UTF-8") from error

        text, found, lines = whole.rpartition("\n\n")
        if not found or not lines.endswith("\n") or _CONTROL.search(whole):
            raise ValueError("it is not a signed note: a text, an empty line, and lines of signatures")

        signatures = tuple(map(NoteSignature.parse, lines[:-1].split("\n")))
        if len(signatures) > _MAX_SIGNATURES:
            raise ValueError(f"the note has more than {_MAX_SIGNATURES} signatures")
        return cls(text + "\n", signatures)

    def encode(self) -> bytes:
        """Return the bytes of the note."""
        return "".join([self.text, "\n", *map(str, self.signatures)]).encode()

    def is_signed_by(self, key: VerifierKey) -> bool:
        """Whether a key signed the note.

        Raises:
            ValueError: a signature names the key, but does not verify.
        """
        return self._verify(key) is not None

    def cosigned_at(self, key: VerifierKey) -> int | None:
        """Return the Unix time in seconds at which a witness cosigned the note; None without a cosignature.

        Raises:
            ValueError: a signature names the key, but does not verify.
        """
        return self._verify(key) if key.algorithm is NoteAlgorithm.COSIGNATURE else None

    def with_signatures(self, *added: NoteSignature) -> Self:
        """Return the note with further signatures.

        Each key signs at most once.
        """
        known = {(one.name, one.key_id): one for one in (*self.signatures, *added)}
        return replace(self, signatures=tuple(known.values()))

    def _verify(self, key: VerifierKey) -> int | None:
        times = [_verify(self.text, one, key) for one in self.signatures if one.is_of(key)]
        return max(times, default=None)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The size and the root of a log's tree at one time, as a note states them.

    Attributes:
        origin: the name of the log.
        head: size and root of the log's tree.
    """

    origin: str
    head: TreeHead

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the text of a note. Further lines, which a log may add, are ignored.

        Raises:
            ValueError: the text is not the text of a checkpoint.
        """
        lines = text.split("\n")
        if len(lines) < 4 or not all(lines[:-1]) or lines[-1]:  # noqa: PLR2004 - three lines and the final newline
            raise ValueError("it is not a checkpoint: three lines with origin, size and root")
        origin, size, root = lines[:3]
        if not _NUMBER.fullmatch(size) or int(size) > _MAX_SIZE:
            raise ValueError(f"the checkpoint's size {size!r:.40} is not a number")
        if len(decoded := _decode(root)) != HASH_SIZE:
            raise ValueError(f"the checkpoint's root {root!r:.80} is not {HASH_SIZE} bytes in base64")
        return cls(origin, TreeHead(int(size), decoded))

    def __str__(self) -> str:
        """Return the text of the checkpoint's note."""
        return f"{self.origin}\n{self.head.size}\n{base64.b64encode(self.head.root).decode()}\n"

    def signed(self, signer: NoteSigner) -> Note:
        """Return the note of this checkpoint, signed by the log's key."""
        text = str(self)
        return Note(text, (NoteSignature(signer.key.name, signer.key.key_id, signer.sign(text.encode())),))


def check_name(name: str) -> None:
    """Check the name of a key.

    Raises:
        ValueError: the name is empty, or contains a space or a plus sign.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r:.80} is not the name of a key, which has neither spaces nor plus signs")


def _verify(text: str, signed: NoteSignature, key: VerifierKey) -> int:
    """Verify a signature, and return its time; 0 for a signature without a time."""
    time, message, signature = 0, text.encode(), signed.signature
    if key.algorithm is NoteAlgorithm.COSIGNATURE:
        time, signature = int.from_bytes(signature[:_TIME_SIZE]), signature[_TIME_SIZE:]
        message = f"cosignature/v1\ntime {time}\n{text}".encode()

    if len(signature) != _SIGNATURE_SIZE or time > _MAX_SIZE:
        raise ValueError(f"the signature of {key.name} has the wrong size")

    try:
        Ed25519PublicKey.from_public_bytes(key.key).verify(signature, message)
    except InvalidSignature as error:
        raise ValueError(f"the signature of {key.name} does not belong to the note") from error
    return time


def _decode(encoded: str) -> bytes:
    """Decode canonical base64: no other characters, complete padding, and unused bits that are zero."""
    try:
        raw = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError(f"{encoded!r:.80} is not base64") from error
    if base64.b64encode(raw).decode() != encoded:
        raise ValueError(f"{encoded!r:.80} is not canonical base64")
    return raw
