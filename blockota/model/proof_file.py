r"""The proof file of one log entry, by convention named ``RECEIPT.json``. Pure.

With the file and the trusted keys, a reader can check the entry without a connection. The file contains the entry, the
entry's position in the log with the inclusion path, the signed checkpoint, and the anchor on the gateway chain. The
field ``proof`` is a complete proof in the format C2SP tlog-proof, which other tools read::

    {"format":"blockota-receipt-1",
     "entry":"kQBIAAAAAAAAASxYIE…",
     "proof":"c2sp.org/tlog-proof@v1\nindex 73894\ngSKy…\n\n<checkpoint>",
     "anchor":{"chainId":1337,"block":812,"size":73984,"proof":[]}}
"""

from __future__ import annotations

import json
import re
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from blockota.errors import BlockOTAError, UsageError
from blockota.formats.tlog import HASH_SIZE
from blockota.strict_json import fault, integer, load, mapping, text

MAX_PROOF_FILE_SIZE = 1 << 15
"""Largest size of a proof file in bytes. A usual file has less than 2 kB."""
_FORMAT = "blockota-receipt-1"
_FIRST_LINE = "c2sp.org/tlog-proof@v1"
_PROOF = re.compile(
    rf"{re.escape(_FIRST_LINE)}\nindex (0|[1-9]\d{{0,18}})\n((?:[A-Za-z0-9+/=]+\n){{0,64}})\n(.+)", re.DOTALL | re.ASCII
)


@dataclass(frozen=True)
class Anchor:
    """The anchor of the entry on the gateway chain.

    The file does not contain the contract's address. A reader must get the address of the trusted contract from another
    source.

    Attributes:
        chain_id: the id of the gateway chain.
        block: number of the block with the anchor.
        size: the number of entries that were anchored.
        proof: the hashes (32 bytes each) of the consistency proof between the anchored tree and the checkpoint's tree.
            The proof is empty if the two trees are the same.
    """

    chain_id: int
    block: int
    size: int
    proof: tuple[bytes, ...] = ()

    def as_fields(self) -> dict[str, Any]:
        """The anchor as a JSON object."""
        proof = [*map(_base64, self.proof)]
        return {"chainId": self.chain_id, "block": self.block, "size": self.size, "proof": proof}

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> Self:
        """Read the JSON object of an anchor.

        Raises:
            KeyError, TypeError, ValueError: a field is missing or has a wrong value; `strict_json.fault` describes it.
        """
        proof = fields["proof"]
        if not isinstance(proof, list) or not all(isinstance(line, str) for line in proof):
            raise TypeError("proof is not a list of texts")
        chain_id, block, size = (integer(fields, name) for name in ("chainId", "block", "size"))
        return cls(chain_id, block, size, tuple(map(_hash, proof)))


@dataclass(frozen=True)
class ProofFile:
    """An entry with its proof.

    Attributes:
        entry: the entry's bytes.
        index: the entry's position in the log, counted from 0.
        path: the hashes (32 bytes each) of the inclusion path, from the leaf's sibling to the root's child (RFC 6962,
            section 2.1.1).
        checkpoint: the signed note with the log's origin, size and root.
        anchor: the anchor of the entry on the gateway chain; None if the entry is not anchored.
    """

    entry: bytes
    index: int
    path: tuple[bytes, ...]
    checkpoint: str
    anchor: Anchor | None = None

    @property
    def tlog_proof(self) -> str:
        """The proof in the format C2SP tlog-proof."""
        lines = [_FIRST_LINE, f"index {self.index}", *map(_base64, self.path)]
        return "\n".join([*lines, "", self.checkpoint])

    def to_json(self) -> bytes:
        """Return the bytes of the file."""
        fields = {
            "format": _FORMAT,
            "entry": _base64(self.entry),
            "proof": self.tlog_proof,
            "anchor": self.anchor.as_fields() if self.anchor else None,
        }
        # Compact, so that the file of one receipt among 100,000 stays below 2 kB.
        return (json.dumps(fields, ensure_ascii=False, separators=(",", ":")) + "\n").encode()

    @classmethod
    def from_json(cls, raw: bytes) -> Self:
        """Read a proof file, without checking its signatures and hashes.

        Raises:
            UsageError: the file is not a proof file.
        """
        try:
            fields = load(raw, form=_FORMAT)
            file = cls._from_fields(fields)
            again = json.loads(file.to_json())
        except (BlockOTAError, KeyError, TypeError, ValueError) as error:
            raise _unreadable(fault(error)) from error
        # Encoding the file again must give the same fields: nothing in a proof file is without meaning.
        if again != fields:
            raise _unreadable("it has fields or an encoding that a proof file cannot have")
        return file

    @classmethod
    def _from_fields(cls, fields: Mapping[str, Any]) -> Self:
        proof = _PROOF.fullmatch(text(fields, "proof"))
        if not proof:
            raise ValueError("proof is not a tlog-proof")
        encoded = text(fields, "entry")
        try:
            entry = b64decode(encoded, validate=True)
        except ValueError as error:
            raise ValueError("entry is not base64") from error

        return cls(
            entry=entry,
            index=int(proof[1]),
            path=tuple(_hash(line) for line in proof[2].split()),
            checkpoint=proof[3],
            anchor=None if fields["anchor"] is None else Anchor.from_fields(mapping(fields, "anchor")),
        )


def _base64(data: bytes) -> str:
    return b64encode(data).decode()


def _hash(line: str) -> bytes:
    found = b64decode(line, validate=True)
    if len(found) != HASH_SIZE:
        raise ValueError(f"proof has a hash of {len(found)} bytes")
    return found


def _unreadable(why: str) -> UsageError:
    return UsageError(
        "the file is not a proof of a log entry", why=why, remedy="ask the keeper of the log for the file again"
    )
