"""Check all files of a published log against its checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from blockota.errors import RefusedError
from blockota.formats.notes import Checkpoint, VerifierKey
from blockota.formats.tlog import TreeEdge, TreeHead, leaf_hash
from blockota.ledger.reader import LogReader


@dataclass(frozen=True)
class CheckedLog:
    """The result of a check that found all files of a log consistent.

    Attributes:
        origin: the log's origin.
        head: size and root of the log's tree.
        tiles: the number of tiles of hashes that were compared.
        signer: the key that signed the checkpoint; None if no key was given.
    """

    origin: str
    head: TreeHead
    tiles: int
    signer: VerifierKey | None


def check_log(reader: LogReader, keys: Sequence[VerifierKey] = ()) -> CheckedLog:
    """Hash all entries of a log again, and compare all tiles and the root with the result.

    Args:
        reader: reads the log.
        keys: the possible keys of the log. Without keys, the signature of the checkpoint is not verified.

    Raises:
        RefusedError: the log has published nothing, or none of the keys signed the checkpoint.
        ContentError: a file is missing, or does not match the checkpoint. The error names the file.
    """
    note = reader.note()
    if note is None:
        raise RefusedError(
            f"the log {reader.name} cannot be checked",
            why="it has no checkpoint",
            remedy="correct the path, or publish a checkpoint first",
        )
    try:
        signer = next((key for key in keys if note.is_signed_by(key)), None)
    except ValueError as error:
        raise reader.damaged(str(error)) from error
    checkpoint = Checkpoint.parse(note.text)
    if keys and (signer is None or signer.name != checkpoint.origin):
        raise RefusedError(
            f"the checkpoint of the log {reader.name} is not signed by a known key",
            why=f"the log has the origin {checkpoint.origin}, but the given keys are {', '.join(map(str, keys))}",
            remedy="get the key of the log from its keeper or from the gateway chain",
        )

    edge, count = TreeEdge(), 0
    for tile, content in edge.grow(map(leaf_hash, reader.entries(0, checkpoint.head.size))):
        if reader.read_tile(tile) != content:
            raise reader.damaged(f"{tile.path} and the entries do not belong together")
        count += 1
    if edge.head() != checkpoint.head:
        raise reader.damaged("its entries do not have the root in the checkpoint")
    return CheckedLog(checkpoint.origin, checkpoint.head, count, signer)
