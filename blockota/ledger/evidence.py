"""Search an anchored log for evidence against its keeper: two installations of one release on one device.

A release is installed on a device only once, and a repair has an entry of another kind, ``reinstall``. An honest log
therefore never has two install entries with the same device and the same release. The contract UpdateLedger suspends a
log if it gets two install entries with the same device and release, and their inclusion proofs.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from blockota.bindings.update_ledger import ProvenEntry
from blockota.errors import RefusedError
from blockota.formats.tlog import TreeHead, is_included, leaf_hash, prove_inclusion, read_from_tiles, tree_of
from blockota.ledger.reader import LogReader

_INSTALL = re.compile(rb"\x91\x00\x48(.{8})\x58\x20(.{32})", re.DOTALL)
"""The first bytes of an install entry with its device number and its release, as the contract reads them. The rest of
the entry is not decoded, so that a malformed entry cannot hide an installation."""
_NO_DEVICE = bytes(8)


def find_evidence(
    log: LogReader, anchored: TreeHead, *, decided: Callable[[int, bytes], int]
) -> tuple[ProvenEntry, ProvenEntry] | None:
    """Return the first two install entries with the same device and release; None if the log has no such pair.

    Args:
        log: the published log.
        anchored: size and root of the anchored log. Entries that are not anchored yet are not evidence.
        decided: returns the index up to which an Administrator has already decided about a device and a release.
            Entries below this index are not evidence.

    Raises:
        RefusedError: the log has not published all anchored entries, or another log was anchored.
        ContentError: the log is damaged.
    """
    first_of: dict[tuple[bytes, bytes], int] = {}
    leaves = list[bytes]()
    for index, entry in enumerate(log.entries(0, anchored.size)):
        leaves.append(leaf_hash(entry))
        found = _INSTALL.match(entry)
        if found is None or found[1] == _NO_DEVICE:
            continue
        first = first_of.setdefault((found[1], found[2]), index)
        if first != index and index >= decided(int.from_bytes(found[1]), found[2]):
            return proven_entry(log, anchored, first), proven_entry(log, anchored, index)
    # Only the entries that were anchored show that there is no evidence.
    if tree_of(leaves) != anchored:
        raise _not_anchored(log, f"its entries do not have the root that was anchored at size {anchored.size}")
    return None


def proven_entry(log: LogReader, anchored: TreeHead, index: int) -> ProvenEntry:
    """Return an entry with its inclusion proof in the anchored tree.

    Raises:
        RefusedError: the entry is not anchored, or another log was anchored.
        ContentError: the log is damaged.
    """
    if index >= anchored.size:
        raise RefusedError(
            f"entry {index} is not anchored",
            why=f"the log is anchored at size {anchored.size}",
            remedy="name an anchored entry, or wait for the next anchor",
        )

    read_node = read_from_tiles(log.read_tile, log.head().size)
    [entry] = log.entries(index, index + 1)
    path = prove_inclusion(read_node, index, anchored.size)
    if not is_included(leaf_hash(entry), index, anchored, path):
        raise _not_anchored(
            log, f"its entry {index} does not belong to the root that was anchored at size {anchored.size}"
        )
    return ProvenEntry(entry, index, tuple(path))


def _not_anchored(log: LogReader, why: str) -> RefusedError:
    return RefusedError(
        f"the log {log.name} is not the anchored log",
        why=why,
        remedy="name the log that the keeper anchored; if the keeper publishes both logs, keep them as evidence",
    )
