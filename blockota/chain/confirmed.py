"""The block that a repository goes by: deep enough to last, and never an older one than before without a reason."""

from __future__ import annotations

from dataclasses import dataclass

from blockota.chain.chain import Chain
from blockota.errors import ChainError

_REMEMBERED = 1024
"""Blocks that are remembered: with two readings a minute, those of eight hours."""


@dataclass(frozen=True)
class Span:
    """Which blocks of the chain count.

    Attributes:
        confirmations: blocks that must lie above the block that is asked about.
        first_block: a block before which nothing was published; public nodes refuse to search from block 0.
    """

    confirmations: int
    first_block: int


@dataclass(frozen=True)
class ConfirmedHead:
    """A block with as many above it as are wanted.

    Attributes:
        number: its number.
        hash: which of the blocks of that number.
        newest_time: the newest block's time, in Unix seconds.
        is_rewritten: whether the chain replaced a block that was gone by before.
    """

    number: int
    hash: bytes
    newest_time: int
    is_rewritten: bool


class Confirmed:
    """The newest block that is deep enough.

    Args:
        chain: the chain.
        span: which blocks count.
    """

    def __init__(self, chain: Chain, span: Span) -> None:
        """Remember; nothing is asked yet."""
        self._chain, self._span = chain, span
        self._seen: dict[int, bytes] = {}

    def head(self) -> ConfirmedHead:
        """The block to ask about.

        Raises:
            ChainError: the node is out of reach, or behind what it said before; or no block is deep enough yet.
        """
        newest = self._chain.head()
        number = newest.number - self._span.confirmations
        if number < self._span.first_block:
            raise ChainError(
                "the contract is not deep enough in the chain yet",
                why=f"it begins with block {self._span.first_block}, the newest is {newest.number},"
                f" and {self._span.confirmations} must lie above what is believed",
                remedy="wait for more blocks, or correct first_block in blockota.toml",
            )
        deep = self._chain.head(number) if self._span.confirmations else newest
        return ConfirmedHead(deep.number, deep.hash, newest.time, self._is_rewritten(deep.number))

    def check(self, head: ConfirmedHead) -> None:
        """See that a block is still there after all was asked, and remember it.

        Raises:
            ChainError: it was replaced in the meantime, or the node is out of reach.
        """
        if self._chain.head(head.number).hash != head.hash:
            raise ChainError("the chain was rewritten while it was asked", remedy="try again")
        if head.is_rewritten:
            self._seen.clear()
        if 0 not in self._seen:  # it is another one when a development chain was begun anew
            self._seen[0] = self._chain.head(0).hash
        self._seen[head.number] = head.hash
        if len(self._seen) > _REMEMBERED:
            del self._seen[sorted(self._seen)[1]]

    def _is_rewritten(self, number: int) -> bool:
        known = max((seen for seen in self._seen if seen <= number), default=None)
        if known is not None and self._chain.head(known).hash != self._seen[known]:
            return True
        newest = max(self._seen, default=0)
        if newest > number:
            raise ChainError(
                "the node is behind",
                why=f"block {newest} was confirmed before, and now only {number} is",
                remedy="wait until it has caught up, or ask another node",
            )
        return False
