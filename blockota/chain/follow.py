"""Follow one chain: its newest confirmed block, the events up to that block, and reorganisations.

All data is kept in memory. After a restart, a service reads the events again, and passes its stored blocks as `known`::

    follower = Follower(chain, confirmations=12, first_block=18_000_000, known=stored_blocks)
    while True:
        position = follower.advance()
        if position.reorganised_from is not None:
            discard(position.reorganised_from)      # everything derived from this block or a later one
        events = follower.events(contract)          # asks the node for blocks not read before
        answer = chain.call(contract, question, block=position.block.number)
        follower.check()                            # the confirmed block is still on the chain
        store(follower.known)
        time.sleep(12)
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass

from blockota.chain.node import BlockHead, Log, Node
from blockota.errors import ChainError

_KNOWN_BLOCKS = 1024
"""The number of blocks that are kept to detect a reorganisation: eight hours at two readings a minute."""


@dataclass(frozen=True)
class Position:
    """The block up to which a follower has read the chain.

    Attributes:
        block: the newest confirmed block, at whose number contracts are read.
        newest: the newest block, whose time counts as the chain's current time.
        reorganised_from: the first block that may have been replaced since the last position; None without a
            reorganisation.
    """

    block: BlockHead
    newest: BlockHead
    reorganised_from: int | None


class Follower:
    """Follows a chain and keeps the events of contracts in memory.

    Args:
        node: the node to ask.
        confirmations: blocks that must lie above a block before it counts as confirmed.
        first_block: a block before which the contracts have no events; public nodes refuse to search from block 0.
        known: the confirmed blocks of an earlier run, as returned by the property `known`.
    """

    def __init__(
        self, node: Node, *, confirmations: int = 0, first_block: int = 0, known: Iterable[BlockHead] = ()
    ) -> None:
        self._node, self._confirmations, self._first_block = node, confirmations, first_block
        self._known = {block.number: block for block in known}
        self._events: dict[str, list[Log]] = {}
        self._next_block: dict[str, int] = {}
        self._position: Position | None = None

    @property
    def known(self) -> tuple[BlockHead, ...]:
        """The confirmed blocks in memory, newest first; the chain's first block comes last."""
        return tuple(self._known[number] for number in sorted(self._known, reverse=True))

    def advance(self) -> Position:
        """Move to the newest confirmed block.

        Raises:
            ChainError: the node is out of reach, or lags behind a known confirmed block, or the newest confirmed block
                precedes `first_block`.
        """
        # (1) The newest confirmed block.
        newest = self._node.head()
        number = newest.number - self._confirmations
        if number < self._first_block:
            raise ChainError(
                "the contract is not confirmed yet",
                why=f"the contract's first block is {self._first_block}, the newest block is {newest.number},"
                f" and {self._confirmations} blocks must lie above a confirmed block",
                remedy="wait for more blocks, or correct first_block in blockota.toml",
            )
        block = self._node.head(number) if self._confirmations else newest

        # (2) Forget the blocks that a reorganisation replaced, so that step 3 compares with blocks of the chain only.
        reorganised_from = self._detect_reorganisation(block)
        if reorganised_from is not None:
            self._drop(reorganised_from)
        # (3) A node that lags, such as one of several behind a load balancer, must not take the follower back.
        known = max(self._known, default=0)
        if known > block.number:
            raise ChainError(
                "the node is behind",
                why=f"block {known} was confirmed before, and {self._node.place} confirms only block {block.number}",
                remedy="wait until the node has caught up, or use another node",
            )

        if 0 not in self._known:  # kept, because a development chain that was started anew differs in block 0
            self._known[0] = self._node.head(0)
        self._known[block.number] = block
        if len(self._known) > _KNOWN_BLOCKS:
            del self._known[sorted(self._known)[1]]  # the oldest block after the chain's first block
        self._position = Position(block, newest, reorganised_from)
        return self._position

    def events(self, contract: str) -> tuple[Log, ...]:
        """Return all events of a contract from `first_block` to the confirmed block, oldest first.

        Only blocks that were not read before are requested. Events that were read before are kept if the node fails.

        Raises:
            ChainError: the node is out of reach, or does not keep the events of the requested blocks.
        """
        if self._position is None:
            raise AssertionError("call advance() before events()")
        last, first = self._position.block.number, self._next_block.get(contract, self._first_block)
        events = self._events.setdefault(contract, [])
        if first <= last:
            found = self._node.logs(contract, [], from_block=first, to_block=last)
            if any(not first <= log.block_number <= last for log in found):
                raise ChainError(
                    f"the node at {self._node.place} sent events of blocks that were not requested",
                    why=f"blocks {first} to {last} were requested",
                    remedy="ask another node",
                )
            events += found
            self._next_block[contract] = last + 1
        return tuple(events)

    def check(self) -> None:
        """Verify that the confirmed block was not replaced while contracts were read at its number.

        Raises:
            ChainError: the block was replaced, so that the values read at its number are void; or the node is out of
                reach.
        """
        if self._position is None:
            raise AssertionError("call advance() before check()")
        block = self._position.block
        if self._node.head(block.number).hash != block.hash:
            self._drop(max((number for number in self._known if number < block.number), default=-1) + 1)
            raise ChainError("the chain was reorganised while it was read", remedy="try again")

    def _detect_reorganisation(self, block: BlockHead) -> int | None:
        """Find the first block that may have been replaced: the one after the newest known block still on the chain."""
        numbers = sorted(number for number in self._known if number <= block.number)
        if not numbers or self._is_on_chain(numbers[-1], block):
            return None
        # Ancestors of a block on the chain are on the chain too, so replaced blocks come after all others.
        kept = bisect_right(numbers, False, key=lambda number: not self._is_on_chain(number, block))  # noqa: FBT003
        return numbers[kept - 1] + 1 if kept else 0

    def _is_on_chain(self, number: int, block: BlockHead) -> bool:
        found = block if number == block.number else self._node.head(number)
        return found.hash == self._known[number].hash

    def _drop(self, first: int) -> None:
        """Forget a block and all later blocks, with their events."""
        self._known = {number: block for number, block in self._known.items() if number < first}
        for contract, events in self._events.items():
            events[:] = [log for log in events if log.block_number < first]
            self._next_block[contract] = max(min(self._next_block.get(contract, 0), first), self._first_block)
