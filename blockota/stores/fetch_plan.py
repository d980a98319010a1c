"""The plan of a fetch: which blocks are missing, and which sources were asked for them. All threads share one plan.

The fetch begins with the root, because only an inner block lists the blocks below it. Inner blocks are requested before
leaves, and leaves in the order of the file. An idle source requests the next block, so a fast source fetches more
blocks. When all blocks have been requested, an idle source also requests a block that a slow source has not delivered.
The first valid response is used.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Protocol

from blockota.errors import ContentError
from blockota.formats.car import largest_block, overhead
from blockota.formats.cid import CID, RAW, Block, read_links

_MAX_DEPTH = 8
_LINK_SIZE = 50
"""The minimum size of a link in an inner block, in bytes, including the link's entry in the UnixFS data."""
_WAIT = 0.05


class Destination(Protocol):
    """The destination of the blocks of a fetch. Implementations must be thread-safe."""

    def kept(self, cid: CID) -> bytes | None:
        """Return the bytes of a block that this or an earlier fetch stored. The caller verifies the bytes again."""

    def keep(self, block: Block, offsets: Sequence[int]) -> None:
        """Store a verified block at its offsets in the file. An inner block has no offsets."""


@dataclass(frozen=True, slots=True)
class _BlockPlace:
    """An occurrence of a block in the DAG, with its depth, and with the offset and size of its bytes in the file."""

    offset: int
    size: int
    depth: int


class FetchPlan:
    """The plan for fetching one file, whose size in bytes is known.

    Args:
        root: the file's content address.
        size: the file's size in bytes.
        destination: the destination of the blocks.
        clock: returns seconds of a monotonic clock.

    Attributes:
        changed: notified when a block arrived, or the fetch was stopped.
        placed: number of bytes of the file that are at the destination.
        error: the error that stopped the fetch; None if no error stopped it.
    """

    def __init__(
        self, root: CID, *, size: int, destination: Destination, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.changed = threading.Condition()
        self.placed = 0
        self.error: BaseException | None = None
        self.root, self.size = root, size

        self._destination, self._clock = destination, clock
        self._links_left = overhead(size) // _LINK_SIZE
        self._needed: dict[CID, list[_BlockPlace]] = {}
        self._queues: tuple[deque[CID], deque[CID]] = (deque(), deque())  # inner blocks, leaves
        self._asked: dict[CID, dict[Hashable, float]] = {}
        self._inner: dict[CID, bytes] = {}
        self._arriving = 0
        self._is_stopped = False

        self._need(root, _BlockPlace(0, size, 0))

    @property
    def is_over(self) -> bool:
        """Whether the file is complete, or the fetch was stopped."""
        return self._is_stopped or self.is_whole

    @property
    def is_whole(self) -> bool:
        """Whether the whole file is at the destination."""
        return not self._needed and not self._arriving and self.error is None

    @property
    def is_untouched(self) -> bool:
        """Whether the root block is missing: neither received nor stored by an earlier fetch."""
        return self.root in self._needed

    def take_kept(self) -> None:
        """Use all blocks that an earlier fetch stored. Call this method before the first source is asked."""
        missing = []
        while (cid := self._next_queued()) is not None:
            if (data := self.known(cid)) is None:
                missing.append(cid)
            else:
                self.arrived(Block(cid, data))
        for cid in missing:
            self._enqueue(cid)

    def pause(self, seconds: float) -> None:
        """Wait for some seconds, or until the fetch is over."""
        with self.changed:
            self.changed.wait_for(lambda: self.is_over, seconds)

    def stop(self, error: BaseException | None = None) -> None:
        """Stop the fetch. Only the first error is stored."""
        with self.changed:
            self.error = self.error or error
            self._is_stopped = True
            self.changed.notify_all()

    def take(self, asker: Hashable, *, duplicate_after: float) -> CID | None:
        """Wait for a block to request, and return its CID; None when the fetch is over.

        An asker is a source. If another source has not delivered a block within `duplicate_after` seconds, the block is
        given to this source too. This time is divided by the number of sources that have already requested the block.
        """
        while True:
            with self.changed:
                while True:
                    if self.is_over:
                        return None
                    now = self._clock()
                    cid = self._next_queued() or self._overdue(asker, now, duplicate_after=duplicate_after)
                    if cid is not None:
                        break
                    self.changed.wait(_WAIT)
                self._asked.setdefault(cid, {})[asker] = now

            # Outside the lock: reading and hashing take long.
            data = self.known(cid)
            if data is None:
                return cid
            self.arrived(Block(cid, data))

    def give_back(self, asker: Hashable) -> None:
        """Put the missing blocks that only this asker had requested back into the queue."""
        with self.changed:
            for cid, askers in list(self._asked.items()):
                if askers.pop(asker, None) is not None and not askers:
                    self._enqueue(cid, first=True)
            self.changed.notify_all()

    def known(self, cid: CID) -> bytes | None:
        """Return the verified bytes of a block that arrived or was stored earlier; None if the block is missing."""
        data = self._inner.get(cid) or self._destination.kept(cid)
        return data if data is not None and CID.of(cid.codec, data) == cid else None

    def largest(self, cid: CID) -> int:
        """Return the largest valid size of a block in bytes."""
        with self.changed:
            places = self._needed.get(cid)
            size = places[0].size if places and cid.codec == RAW else self.size
        return largest_block(cid, size=size)

    def arrived(self, block: Block) -> bool:
        """Store a verified block at the destination, and return whether the block was still needed.

        Raises:
            ContentError: the block's size or links are impossible in the DAG of a file of this size.
            BlockOTAError: the destination cannot store the block.
        """
        with self.changed:
            # The first of several responses is used.
            places = self._needed.pop(block.cid, [])
            self._asked.pop(block.cid, None)
            if not places:
                return False
            self._arriving += 1
            self._check(block, places)

        # Outside the lock: writing takes long.
        is_leaf = block.cid.codec == RAW
        self._destination.keep(block, [place.offset for place in places] if is_leaf else [])

        with self.changed:
            self._arriving -= 1
            self.placed += len(block.data) * len(places) if is_leaf else 0
            self.changed.notify_all()
        return True

    def _next_queued(self) -> CID | None:
        """Return the next queued block that is still needed and was not requested from any source."""
        for queue in self._queues:
            while queue:
                cid = queue.popleft()
                if cid in self._needed and not self._asked.get(cid):
                    return cid
        return None

    def _overdue(self, asker: Hashable, now: float, *, duplicate_after: float) -> CID | None:
        """Return the block that other askers have owed for the longest time; None if no block is overdue."""
        late: dict[CID, float] = {}
        for cid, askers in self._asked.items():
            if askers and asker not in askers:
                # Each further asker shortens the next wait, so that many slow sources do not add up to a long delay.
                late[cid] = max(askers.values()) + duplicate_after / len(askers)
        first = min(late, key=late.__getitem__, default=None)
        return first if first is not None and late[first] <= now else None

    def _check(self, block: Block, places: list[_BlockPlace]) -> None:
        """Check that a block has the size that its parents record, and add its children to the plan."""
        links = read_links(block) if block.cid.codec != RAW else []
        size = sum(link.file_size for link in links) if links else len(block.data)
        for place in places:
            if place.size != size:
                raise self._refused(f"{block.cid} has {size} bytes, and its parent records {place.size}")

        if links:
            self._inner[block.cid] = block.data
        for place in places:
            # A tree of repeated inner blocks can have far more links than blocks, so the links are also limited.
            self._links_left -= len(links)
            if self._links_left < 0 or (links and place.depth == _MAX_DEPTH):
                raise self._refused("its tree is deeper, or has smaller pieces, than any image needs")
            offset = place.offset
            for link in links:
                self._need(link.cid, _BlockPlace(offset, link.file_size, place.depth + 1))
                offset += link.file_size

    def _need(self, cid: CID, place: _BlockPlace) -> None:
        # A block that is needed in several places is fetched once.
        if cid in self._inner:
            self._check(Block(cid, self._inner[cid]), [place])
        elif cid in self._needed:
            self._needed[cid].append(place)
        else:
            self._needed[cid] = [place]
            self._enqueue(cid)

    def _enqueue(self, cid: CID, *, first: bool = False) -> None:
        queue = self._queues[cid.codec == RAW]
        (queue.appendleft if first else queue.append)(cid)

    def _refused(self, why: str) -> ContentError:
        return ContentError(f"{self.root} is not the image that was requested", why=why)
