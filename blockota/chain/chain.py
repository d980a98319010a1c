"""One chain behind one JSON-RPC endpoint: reads at a block, and transactions that are waited for."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from blockota.chain.node import BlockHead, Log, Node, Receipt
from blockota.chain.outbox import Outbox, Sending

if TYPE_CHECKING:
    from eth_account.signers.base import BaseAccount

__all__ = ["LOCAL_CHAIN_IDS", "BlockHead", "Chain", "Log", "Receipt", "Sending"]

LOCAL_CHAIN_IDS = frozenset({1337, 31337})
"""Chains of development nodes; the well-known test keys work on these alone (EIP-155 numbers)."""


class Chain(Node):
    """A chain that answers at a URL, and takes transactions.

    Args:
        url: the JSON-RPC endpoint, ``http://`` or ``https://``.
        chain_id: the number that it must say; None takes whatever it says.
        sending: how transactions are sent; by default without a ceiling, confirmations or a journal.

    Raises:
        UsageError: the URL is none of those.
        ChainError: nobody answers there.
        RefusedError: it serves another chain.
    """

    def __init__(self, url: str, *, chain_id: int | None = None, sending: Sending | None = None) -> None:
        """Connect, and compare the chain id."""
        super().__init__(url, chain_id=chain_id)
        self._sending = sending or Sending()

    @functools.cached_property
    def outbox(self) -> Outbox:
        """The transactions that are on their way."""
        return Outbox(self, self._sending)

    def send(self, account: BaseAccount, data: bytes, *, to: str | None = None) -> Receipt:
        """Send a transaction and wait until it is confirmed; go on with it where it is under way already.

        Args:
            account: signs and pays.
            data: calldata, or creation bytecode.
            to: the contract; None creates one.

        Raises:
            RevertedError: it would be refused, or was refused in the block.
            RefusedError: it cannot be sent now, or another transaction took its place.
            ChainError: the node went away, or no block took the transaction in time.
        """
        return self.outbox.send(account, data, to=to)
