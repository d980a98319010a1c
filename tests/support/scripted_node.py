"""A fake node whose chain is a text: each letter is one block with one event of each contract."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from blockota.chain.follow import Follower
from blockota.chain.node import Node
from blockota.chain.records import BlockHead, Log
from blockota.errors import ChainError
from blockota.ethereum import to_checksum_address

CONTRACT, OTHER = (to_checksum_address(bytes([one]) * 20) for one in (0xC0, 0xD0))


@dataclass
class ScriptedNode(Node):
    """A node that supports only the requests of a follower: blocks, and the events of a block range.

    Attributes:
        blocks: the chain, one letter for each block; a blank is a block without events.
        visible: the number of blocks that the node reports; None means all.
        has_logs: whether the node returns events.
        is_careless: whether the node also returns events of earlier blocks.
        asked: the block ranges whose events were requested.
        block_requests: the number of requests for blocks.
    """

    blocks: str
    visible: int | None = None
    has_logs: bool = True
    is_careless: bool = False
    asked: list[tuple[int, int]] = field(default_factory=list)
    block_requests: int = 0
    place: str = "http://scripted"

    def head(self, number: int | None = None) -> BlockHead:
        """Return a block; its hash depends on all earlier blocks, as on a real chain."""
        self.block_requests += 1
        if number is None:
            number = len(self.blocks[: self.visible]) - 1
        return BlockHead(number, 1000 + number, self.blocks[: number + 1].encode())

    def logs(
        self,
        address: str | Sequence[str],
        topics: Sequence[bytes | None],
        *,
        from_block: int = 0,
        to_block: int | None = None,
        in_parts: bool = True,
    ) -> list[Log]:
        """Return one event of each contract for each requested block."""
        assert (isinstance(address, str), topics, in_parts) == (False, [], True)
        assert to_block is not None
        if not self.has_logs:
            raise ChainError("the node has no history of these blocks")
        self.asked.append((from_block, to_block))
        return self.all_logs(address, 0 if self.is_careless else from_block, to_block)

    def all_logs(self, contracts: Sequence[str], first: int, last: int) -> list[Log]:
        """Return the events of contracts in the blocks `first` to `last`, without a record of the request."""
        return [
            Log((bytes(32),), letter.encode(), number, bytes(32), contract, index, self.blocks[: number + 1].encode())
            for number, letter in enumerate(self.blocks[: last + 1])
            for index, contract in enumerate((CONTRACT, OTHER))
            if number >= first and letter != " " and contract in contracts
        ]


def letters(follower: Follower, *, first_block: int = 0) -> str:
    """Return the concatenated data of the events of `CONTRACT` that the follower has read."""
    return b"".join(log.data for log in follower.events(CONTRACT, first_block=first_block)).decode()
