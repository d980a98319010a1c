"""Follow one chain: its newest confirmed block, the events up to that block, and reorganisations.

With an `EventStore` in a file, a restarted service continues with the first block that it has not read. The service
itself must record the block up to which it has processed the events. A gateway's loop is::

    names = {settings.identities: "IdentityRegistry", settings.orders: "UpdateOrders"}
    with EventStore.open(folder / "gateway-chain.sqlite", chain_id=node.chain_id) as store, stop_on_signals() as stop:
        follower = Follower(node, confirmations=12, first_block=18_000_000, store=store)
        signal = BlockSignal(node.url, pause=12.0)
        while not stop.is_asked:
            position = follower.advance()
            if position.reorganised_from is not None:
                state.discard(position.reorganised_from)    # everything derived from this block or a later one
            for event in read_events(follower.events(*names, first_block=state.processed + 1), names):
                state.apply(event)
            follower.check()                                # the confirmed block is still on the chain
            state.commit(processed=position.block.number)
            follower.acknowledge()                          # until then, the reorganisation is reported again
            signal.wait(stop)
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from operator import attrgetter

from blockota.chain.event_store import EventStore
from blockota.chain.node import Node, reorganised
from blockota.chain.records import BlockHead, Log
from blockota.errors import ChainError

_FIRST_RANGE, _LONGEST_RANGE = 256, 8192
"""The number of blocks in the first request for events, and the maximum number. Public nodes search at most 10,000
blocks."""
_MANY_EVENTS, _FEW_EVENTS = 8192, 1024
"""If an answer has more events than the first number, the next range is halved; with fewer than the second, it is
doubled. This limits the memory."""


@dataclass(frozen=True)
class Position:
    """The block up to which a follower has read the chain.

    Attributes:
        block: the newest confirmed block. Contracts are read at the number of this block.
        newest: the newest block. Its time counts as the chain's current time.
        reorganised_from: the first block that a reorganisation may have replaced since the last call of
            `Follower.acknowledge`; None without a reorganisation. If the `EventStore` is in a file, `reorganised_from`
            survives a restart.
    """

    block: BlockHead
    newest: BlockHead
    reorganised_from: int | None


class Follower:
    """Follows a chain and stores the events of contracts. Only blocks that are not stored are requested.

    Contracts are never called at old blocks, so a node with pruned history suffices.

    Args:
        node: the node to ask.
        confirmations: the number of blocks that must follow a block before it counts as confirmed.
        first_block: a block before which the contracts have no events. It is needed because public nodes refuse to
            search from block 0.
        store: the events and blocks of earlier runs; None stores events and blocks in memory.
    """

    def __init__(
        self, node: Node, *, confirmations: int = 0, first_block: int = 0, store: EventStore | None = None
    ) -> None:
        self._node, self._confirmations, self._first_block = node, confirmations, first_block
        self._store = store or EventStore()
        self._range = _FIRST_RANGE
        self._position: Position | None = None

    def advance(self) -> Position:
        """Move to the newest confirmed block.

        Raises:
            ChainError: the node is out of reach, or lags behind a known confirmed block, or the newest confirmed block
                precedes `first_block`.
        """
        # (1) The newest confirmed block.
        newest, block = self._node.heads(self._confirmations)
        if newest.number < self._first_block + self._confirmations:
            raise ChainError(
                "the contract is not confirmed yet",
                why=f"the contract's first block is {self._first_block}, the newest block is {newest.number},"
                f" and a block is confirmed when {self._confirmations} blocks follow it",
                remedy="wait for more blocks, or correct first_block in blockota.toml",
            )

        # (2) Delete the blocks that a reorganisation replaced, so that step 3 compares with blocks of the chain only.
        known = self._store.blocks()
        replaced = self._detect_reorganisation(block, known)
        if replaced is not None:
            self._store.drop(replaced)
            known = self._store.blocks()
        # (3) A node that lags, such as one of several behind a load balancer, must not take the follower back.
        last = max(known, default=0)
        if last > block.number:
            raise ChainError(
                "the node is behind",
                why=f"block {last} was confirmed before, but {self._node.place} confirms only block {block.number}",
                remedy="wait until the node has caught up, or use another node",
            )

        if 0 not in known:  # kept, because a development chain that was started anew differs in block 0
            self._store.put_block(self._node.head(0))
        if last != block.number or not known:
            self._store.put_block(block)
        self._position = Position(block, newest, self._store.reorganised_from())
        return self._position

    def events(self, *contracts: str, first_block: int = 0) -> tuple[Log, ...]:
        """Return the events of contracts up to the confirmed block, in the order of the chain.

        Only blocks that were not read before are requested. If the node fails, the events of earlier reads stay stored.

        Args:
            contracts: addresses of the contracts.
            first_block: the first block whose events are returned.

        Raises:
            ChainError: the node is out of reach, the node no longer has the events of the requested blocks, or the
                chain was reorganised during the read.
        """
        groups: dict[int, list[str]] = {}
        for contract in contracts:
            groups.setdefault(self._store.next_block(contract, first_block=self._first_block), []).append(contract)
        found: list[Log] = []
        for first, group in groups.items():
            found += [log for log in self._store.events(group, first_block=first_block) if log.block_number < first]
            found += [log for log in self._read(group, first) if log.block_number >= first_block]
        return tuple(sorted(found, key=attrgetter("position")))

    def check(self) -> None:
        """Verify that the confirmed block was not replaced while contracts were read at its number.

        Raises:
            ChainError: the node is out of reach, or the block was replaced. The caller must discard the values that it
                read at the replaced block.
        """
        block = self._reached().block
        if not self._node.has_block(block.number, block.hash):
            self._store.drop(max((number for number in self._store.blocks() if number < block.number), default=-1) + 1)
            raise reorganised()

    def acknowledge(self) -> None:
        """Record that the caller has discarded all data from the blocks that the last reorganisation replaced."""
        self._store.acknowledge()

    def _read(self, contracts: Sequence[str], first: int) -> Iterator[Log]:
        """Read, store and yield the events of contracts up to the confirmed block, one range of blocks at a time.

        The next range is requested while the last range is stored, because a request takes about as long as the
        storing.
        """
        last = self._reached().block.number
        if first > last:
            return
        with ThreadPoolExecutor(max_workers=1) as background:
            end = min(first + self._range - 1, last)
            requested = background.submit(self._request, contracts, first, end)
            while first <= last:
                found = requested.result()
                # Last event and confirmed block are on one chain now, and so are the blocks before them.
                self.check()
                following = min(end + self._range, last)
                if end < last:
                    requested = background.submit(self._request, contracts, end + 1, following)
                self._store.append(contracts, first, end, found)
                yield from found
                first, end = end + 1, following

    def _request(self, contracts: Sequence[str], first: int, last: int) -> list[Log]:
        """Request the events of a range of blocks, and adapt the length of the next range."""
        found = self._checked_events(contracts, first, last)
        if found and not self._node.has_block(found[-1].block_number, found[-1].block_hash):
            raise reorganised()
        if len(found) > _MANY_EVENTS:
            self._range = max(self._range // 2, 1)
        elif len(found) < _FEW_EVENTS:
            self._range = min(self._range * 2, _LONGEST_RANGE)
        return found

    def _checked_events(self, contracts: Sequence[str], first: int, last: int) -> list[Log]:
        found = self._node.logs(contracts, [], from_block=first, to_block=last)
        found.sort(key=attrgetter("position"))  # no standard requires an order, and the newest event is checked

        asked = {one.lower() for one in contracts}
        is_strange = any(not first <= log.block_number <= last or log.address.lower() not in asked for log in found)
        if is_strange or len({log.position for log in found}) < len(found):
            raise ChainError(
                f"the node at {self._node.place} sent events that were not requested, or sent events twice",
                why=f"the events of {', '.join(contracts)} in blocks {first} to {last} were requested",
                remedy="use another node",
            )

        return found

    def _reached(self) -> Position:
        if self._position is None:
            raise AssertionError("call advance() first")
        return self._position

    def _detect_reorganisation(self, block: BlockHead, known: Mapping[int, bytes]) -> int | None:
        """Return the first block that may have been replaced; None if no known block was replaced.

        The returned block follows the newest known block that is still on the chain.
        """

        def is_on_chain(number: int) -> bool:
            return (
                block.hash == known[number] if number == block.number else self._node.has_block(number, known[number])
            )

        numbers = [number for number in known if number <= block.number]
        if not numbers or is_on_chain(numbers[-1]):
            return None
        # Ancestors of a block on the chain are on the chain too, so replaced blocks come after all others.
        kept = bisect_right(numbers, False, key=lambda number: not is_on_chain(number))  # noqa: FBT003
        return numbers[kept - 1] + 1 if kept else 0
