"""Remove files from the embedded store without harm to others: mark what is needed, sweep what is not.

Only blocks of the files that are named are removed, and of these none that a pinned or otherwise kept file has too.
Leaves go before the blocks that name them, so that a sweep that is cut short is finished by the same call.
"""

from __future__ import annotations

from collections.abc import Iterable

from blockota.errors import ContentError, StoreError
from blockota.formats.cid import CID, RAW, Block, check_block, read_links
from blockota.stores.local import LocalStore


def collect(store: LocalStore, dropped: Iterable[CID], *, keep: Iterable[CID]) -> int:
    """Remove files from the store, while nobody puts or fetches anything there.

    Args:
        store: the store.
        dropped: the roots of the files; one that is pinned stays.
        keep: roots whose blocks stay besides those of the pinned ones, such as of files that are being fetched.

    Returns:
        How many blocks were removed.

    Raises:
        StoreError: the folder cannot be read or written, or another process puts files there for too long.
    """
    with store.locked(is_alone=True):
        needed = _blocks([*store.pins(), *keep], store)
        # Marked level by level from the root: backwards, no block goes before those below it.
        doomed = [cid for cid in reversed(_blocks(dropped, store)) if cid not in needed]
        return sum(store.remove_block(cid) for cid in doomed)


def _blocks(roots: Iterable[CID], store: LocalStore) -> dict[CID, None]:
    """The blocks of files, as far as they can be known; below a missing or corrupt one nothing can be read anyway."""
    found = dict.fromkeys(roots)
    level = list(found)
    while level:
        below = dict.fromkeys(child for cid in level for child in _children(cid, store))
        level = [cid for cid in below if cid not in found]
        found |= dict.fromkeys(level)
    return found


def _children(cid: CID, store: LocalStore) -> list[CID]:
    if cid.codec == RAW:
        return []
    try:
        data = check_block(cid, store.read_block(cid))
        return [link.cid for link in read_links(Block(cid, data))]
    except (StoreError, ContentError):
        return []
