"""Access to one Ethereum chain: its node, its transactions and its newest confirmed block."""

from __future__ import annotations

from blockota.chain.outbox import LOCAL_CHAIN_IDS, Chain, Sending
from blockota.chain.records import BlockHead, Log, Receipt
from blockota.chain.rpc import answered_within

__all__ = ["LOCAL_CHAIN_IDS", "BlockHead", "Chain", "Log", "Receipt", "Sending", "answered_within"]
