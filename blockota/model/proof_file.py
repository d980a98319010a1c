r"""The proof file of one log entry, by convention named ``RECEIPT.json``. Pure.

The file has all that its reader needs to check the entry without a connection, except the keys: the entry, its place in
the log with the inclusion path, the signed checkpoint, and the anchor on the gateway chain. The field ``proof`` is a
complete proof in the format C2SP tlog-proof, which other tools read::

    {"format":"blockota-receipt-1",
     "entry":"kQBIAAAAAAAAASxYIE…",
     "proof":"c2sp.org/tlog-proof@v1\nindex 73894\ngSKy…\n\n<checkpoint>",
     "anchor":{"chainId":1337,"ledger":"0xCf7E…","block":812}}
"""

from __future__ import annotations

import json
import re
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from blockota.errors import BlockOTAError, RefusedError
from blockota.formats.notes import Checkpoint, Note
from blockota.formats.tlog import (
    HASH_SIZE,
    TILE_WIDTH,
    ReadTile,
    Tile,
    prove_inclusion,
    read_from_tiles,
    split_entries,
)
from blockota.strict_json import address, fault, integer, load, mapping, text

MAX_PROOF_FILE_SIZE = 1 << 15
"""Largest size of a proof file in bytes. A usual one has less than 2 kB."""
_FORMAT = "blockota-receipt-1"
_FIRST_LINE = "c2sp.org/tlog-proof@v1"
_PROOF = re.compile(
    rf"{re.escape(_FIRST_LINE)}\nindex (0|[1-9]\d{{0,18}})\n((?:[A-Za-z0-9+/=]+\n){{0,64}})\n(.+)", re.DOTALL | re.ASCII
)


@dataclass(frozen=True)
class Anchor:
    """The transaction by which the checkpoint's size and root came onto the gateway chain.

    Attributes:
        chain_id: the id of the gateway chain.
        ledger: address of the contract UpdateLedger, checksummed.
        block: number of the block.
    """

    chain_id: int
    ledger: str
    block: int

    def as_fields(self) -> dict[str, Any]:
        """The anchor as a JSON object."""
        return {"chainId": self.chain_id, "ledger": self.ledger, "block": self.block}


@dataclass(frozen=True)
class ProofFile:
    """An entry with its proof.

    Attributes:
        entry: the entry's bytes.
        index: the entry's position in the log, counted from 0.
        path: the inclusion path from the leaf's sibling to the root's child (RFC 6962, section 2.1.1), 32 bytes each.
        checkpoint: the signed note with the log's origin, size and root.
        anchor: where the checkpoint is anchored; None if it is not.
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
        """Read a proof file. Its signatures and hashes are not checked here.

        Raises:
            RefusedError: the file is not a proof file.
        """
        try:
            fields = load(raw, form=_FORMAT)
            file = cls._from_fields(fields)
        except (BlockOTAError, KeyError, TypeError, ValueError) as error:
            raise _unreadable(fault(error)) from error
        # Encoding the file again must give the same fields: nothing in a proof file is without meaning.
        if json.loads(file.to_json()) != fields:
            raise _unreadable("it has fields or an encoding that a proof file cannot have")
        return file

    @classmethod
    def _from_fields(cls, fields: Mapping[str, Any]) -> Self:
        proof = _PROOF.fullmatch(text(fields, "proof"))
        if not proof:
            raise ValueError("proof is not a tlog-proof")
        anchor = None
        if fields["anchor"] is not None:
            named = mapping(fields, "anchor")
            anchor = Anchor(integer(named, "chainId"), address(named, "ledger"), integer(named, "block"))
        return cls(
            entry=_bytes(text(fields, "entry")),
            index=int(proof[1]),
            path=tuple(_hash(line) for line in proof[2].split()),
            checkpoint=proof[3],
            anchor=anchor,
        )


def make_proof(read_tile: ReadTile, index: int, note: Note, *, anchor: Anchor | None = None) -> ProofFile:
    """Make the proof file of an entry from the tiles of its log.

    Args:
        read_tile: reads the log's tiles and entry bundles.
        index: the entry's position in the log.
        note: the signed checkpoint.
        anchor: where the checkpoint is anchored.

    Raises:
        RefusedError: the checkpoint's log does not have the entry yet.
        ValueError: the note is not a checkpoint, or an entry bundle is damaged.
    """
    size = Checkpoint.parse(note.text).head.size
    if not 0 <= index < size:
        raise RefusedError(
            f"the log has no entry {index}",
            why=f"its newest checkpoint has the entries 0 to {size - 1}" if size else "its newest checkpoint is empty",
            remedy="name an entry of the checkpoint",
        )
    bundle, place = divmod(index, TILE_WIDTH)
    entries = split_entries(read_tile(Tile(None, bundle, min(size - bundle * TILE_WIDTH, TILE_WIDTH))))
    path = prove_inclusion(read_from_tiles(read_tile, size), index, size)
    return ProofFile(entries[place], index, tuple(path), note.encode().decode(), anchor)


def _base64(data: bytes) -> str:
    return b64encode(data).decode()


def _bytes(encoded: str) -> bytes:
    try:
        return b64decode(encoded, validate=True)
    except ValueError as error:
        raise ValueError("entry is not base64") from error


def _hash(line: str) -> bytes:
    found = b64decode(line, validate=True)
    if len(found) != HASH_SIZE:
        raise ValueError(f"proof has a hash of {len(found)} bytes")
    return found


def _unreadable(why: str) -> RefusedError:
    return RefusedError(
        "the file is not a proof of a log entry", why=why, remedy="ask the keeper of the log for the file again"
    )
