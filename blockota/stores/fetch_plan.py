"""What is still missing of a file, and who was asked for it; many threads share one plan.

The tree becomes known from the root down: inner blocks are asked for before leaves, leaves in the file's order. Whoever
is free takes the next block, so that a fast source takes more of them. When nothing is left to take, a block that
another source has been asked for too long is asked for again; who answers first wins.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Protocol

from blockota.errors import ContentError
from blockota.formats.car import largest_block, overhead
from blockota.formats.cid import CID, RAW, Block, DagLink, read_links

_MAX_DEPTH = 8
_LINK_SIZE = 50
_WAIT = 0.05


class Destination(Protocol):
    """Where a fetch puts what has arrived; it is called from many threads."""

    def held(self, cid: CID) -> bytes | None:
        """The bytes of a block that came before, in this fetch or an earlier one; they are checked again."""

    def keep(self, block: Block, offsets: Sequence[int]) -> None:
        """Keep a good block, which belongs at these offsets of the file; an inner one belongs nowhere in it."""


@dataclass(frozen=True, slots=True)
class _Place:
    offset: int
    size: int
    depth: int


class FetchPlan:
    """The plan of one file.

    Args:
        root: the file's content address.
        size: its exact size in bytes.
        destination: what is kept already, and where to put the rest.
    """

    def __init__(self, root: CID, *, size: int, destination: Destination) -> None:
        """Begin with nothing known but the root."""
        self.changed = threading.Condition()
        self.placed = 0
        self.error: BaseException | None = None
        self.root, self.size = root, size
        self._destination = destination
        self._links_left = (overhead(size)) // _LINK_SIZE
        self._needed: dict[CID, list[_Place]] = {}
        self._queue: tuple[deque[CID], deque[CID]] = (deque(), deque())
        self._asked: dict[CID, dict[Hashable, float]] = {}
        self._inner: dict[CID, bytes] = {}
        self._arriving = 0
        self._is_stopped = False
        self._need(root, _Place(0, size, 0))

    @property
    def is_over(self) -> bool:
        """Whether nothing remains to be done, or the work was stopped."""
        return self._is_stopped or self.is_whole

    @property
    def is_whole(self) -> bool:
        """Whether all of the file is at its destination."""
        return not self._needed and not self._arriving and self.error is None

    @property
    def is_untouched(self) -> bool:
        """Whether no block has arrived yet, nor was kept from before."""
        return self.root in self._needed

    def take_what_is_held(self) -> None:
        """Take in all that is kept from before, before anybody is asked."""
        missing = []
        while (cid := self._unasked()) is not None:
            if (data := self.held(cid)) is None:
                missing.append(cid)
            else:
                self.arrived(Block(cid, data))
        for cid in missing:
            self._enqueue(cid)

    def pause(self, seconds: float) -> None:
        """Wait, but no longer than until all is over."""
        until = time.monotonic() + seconds
        with self.changed:
            while not self.is_over and (left := until - time.monotonic()) > 0:
                self.changed.wait(left)

    def stop(self, error: BaseException | None = None) -> None:
        """Let nobody take any more; the first error is kept."""
        with self.changed:
            self.error = self.error or error
            self._is_stopped = True
            self.changed.notify_all()

    def take(self, asker: Hashable, *, duplicate_after: float) -> CID | None:
        """Wait for a block to ask for; `None` when all is over.

        Args:
            asker: who takes it.
            duplicate_after: seconds after which a block that others were asked for is asked for again.
        """
        while (cid := self._next(asker, duplicate_after)) is not None:
            data = self.held(cid)
            if data is None:
                return cid
            self.arrived(Block(cid, data))
        return None

    def give_back(self, asker: Hashable) -> None:
        """Let others take what an asker took and did not bring."""
        with self.changed:
            for cid, askers in list(self._asked.items()):
                if askers.pop(asker, None) is not None and not askers:
                    self._enqueue(cid, first=True)
            self.changed.notify_all()

    def held(self, cid: CID) -> bytes | None:
        """The bytes of a block that is known or kept, checked."""
        data = self._inner.get(cid) or self._destination.held(cid)
        return data if data is not None and CID.of(cid.codec, data) == cid else None

    def largest(self, cid: CID) -> int:
        """Bytes that a block can have at most, as far as is known of it."""
        with self.changed:
            places = self._needed.get(cid)
            size = places[0].size if places and cid.codec == RAW else self.size
        return largest_block(cid, size=size)

    def arrived(self, block: Block) -> bool:
        """Take a good block in; False when nobody needed it any more.

        Raises:
            ContentError: the tree cannot be that of the file.
            BlockOTAError: the destination cannot keep it.
        """
        with self.changed:
            places = self._needed.pop(block.cid, [])
            self._asked.pop(block.cid, None)
            if not places:
                return False
            self._arriving += 1
            self._check(block, places)
        is_leaf = block.cid.codec == RAW
        self._destination.keep(block, [place.offset for place in places] if is_leaf else [])
        with self.changed:
            self._arriving -= 1
            self.placed += len(block.data) * len(places) if is_leaf else 0
            self.changed.notify_all()
        return True

    def _next(self, asker: Hashable, duplicate_after: float) -> CID | None:
        with self.changed:
            while not self.is_over:
                now = time.monotonic()
                cid = self._unasked() or self._overdue(asker, now, duplicate_after=duplicate_after)
                if cid is not None:
                    self._asked.setdefault(cid, {})[asker] = now
                    return cid
                self.changed.wait(_WAIT)
        return None

    def _unasked(self) -> CID | None:
        for queue in self._queue:
            while queue:
                cid = queue.popleft()
                if cid in self._needed and not self._asked.get(cid):
                    return cid
        return None

    def _overdue(self, asker: Hashable, now: float, *, duplicate_after: float) -> CID | None:
        late = {
            # The more were asked in vain, the sooner the next one is: many that are slow must not add up.
            cid: max(askers.values()) + duplicate_after / len(askers)
            for cid, askers in self._asked.items()
            if askers and asker not in askers
        }
        first = min(late, key=late.__getitem__, default=None)
        return first if first is not None and late[first] <= now else None

    def _check(self, block: Block, places: list[_Place]) -> None:
        """Hold a block against what its parents say, and let its children be needed."""
        links = read_links(block) if block.cid.codec != RAW else []
        size = sum(link.file_size for link in links) if links else len(block.data)
        for place in places:
            if place.size != size:
                raise self._refused(f"{block.cid} holds {size} bytes where {place.size} belong")
        if links:
            self._inner[block.cid] = block.data
        for place in places:
            self._expand(links, place)

    def _expand(self, links: list[DagLink], place: _Place) -> None:
        self._links_left -= len(links)
        if self._links_left < 0 or (links and place.depth == _MAX_DEPTH):
            raise self._refused("its tree is deeper, or of smaller pieces, than any image needs")
        offset = place.offset
        for link in links:
            self._need(link.cid, _Place(offset, link.file_size, place.depth + 1))
            offset += link.file_size

    def _need(self, cid: CID, place: _Place) -> None:
        if cid in self._inner:
            self._check(Block(cid, self._inner[cid]), [place])
        elif cid in self._needed:
            self._needed[cid].append(place)
        else:
            self._needed[cid] = [place]
            self._enqueue(cid)

    def _enqueue(self, cid: CID, *, first: bool = False) -> None:
        queue = self._queue[cid.codec == RAW]
        (queue.appendleft if first else queue.append)(cid)

    def _refused(self, why: str) -> ContentError:
        return ContentError(f"{self.root} is not the image that was asked for", why=why)
