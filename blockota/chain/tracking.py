"""Where a transaction is that was sent, and how long one waits for it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum

from blockota.chain.journal import Entry
from blockota.chain.node import Node, Receipt
from blockota.chain.transaction import gwei
from blockota.errors import ChainError

_FIRST_PAUSE, _LAST_PAUSE, _PAUSE_GROWTH = 0.05, 2.0, 1.5


class State(Enum):
    """Where a transaction can be."""

    CONFIRMED = "confirmed"
    REVERTED = "reverted"
    CONFIRMING = "in a block, not confirmed yet"
    WAITING = "waits for a block"
    UNDERPAID = "offers too little"
    LOST = "unknown to the node"
    BEHIND = "waits for earlier ones"
    OVERTAKEN = "overtaken, not confirmed yet"
    REPLACED = "replaced by another"


_SETTLED = {State.CONFIRMED, State.REVERTED, State.REPLACED}


@dataclass(frozen=True)
class Situation:
    """Where a transaction is at this moment.

    Attributes:
        state: in a word.
        details: in a clause, with the values a person needs.
        head: the newest block.
        receipt: what its block says of it; None where no block has it.
    """

    state: State
    details: str
    head: int
    receipt: Receipt | None = None

    @property
    def is_settled(self) -> bool:
        """Whether nothing will change any more."""
        return self.state in _SETTLED

    @property
    def step(self) -> object:
        """Changes whenever the chain makes a step with the transaction; new blocks alone are none while it waits."""
        if self.receipt:
            return self.receipt.block_hash, self.head
        return (self.state, self.head) if self.state is State.OVERTAKEN else None


class Tracker:
    """Tells where transactions are.

    Args:
        node: the one that is asked.
        confirmations: blocks that must lie above a transaction's block before it is believed.
    """

    def __init__(self, node: Node, confirmations: int) -> None:
        """Remember both."""
        self._node, self._confirmations = node, confirmations

    def look(self, entry: Entry) -> Situation:
        """Ask the node where a transaction is."""
        head = self._node.head().number
        if receipt := self._receipt(entry):
            return self._in_block(receipt, head=head)
        nonce, used = entry.newest.nonce, self._node.count(entry.sender)
        if used > nonce:
            return self._overtaken(entry, head=head)
        if used < nonce:
            gap = f"it has nonce {nonce}, and the chain has seen {used} transactions of {entry.sender}"
            return Situation(State.BEHIND, gap, head)
        least, limit = self._node.market().least, entry.newest.fees.limit
        if least > limit:  # whether the node kept it or not: it would not take it now
            bid = f"it offers {gwei(limit)} gwei for a unit of gas, and the chain asks for {gwei(least)}"
            return Situation(State.UNDERPAID, bid, head)
        if not any(self._node.knows(attempt.hash) for attempt in entry.attempts):
            return Situation(State.LOST, "the node does not know it, or not any more", head)
        return Situation(State.WAITING, "the node has it, and no block does", head)

    def _receipt(self, entry: Entry) -> Receipt | None:
        found = (self._node.receipt(attempt.hash) for attempt in reversed(entry.attempts))
        return next((receipt for receipt in found if receipt), None)

    def _in_block(self, receipt: Receipt, *, head: int) -> Situation:
        depth, wanted = max(head - receipt.block_number, 0), self._confirmations
        where = f"it is in block {receipt.block_number}, with {depth} of {wanted} confirmations"
        if depth < wanted:
            return Situation(State.CONFIRMING, where, head, receipt)
        # A node may still answer with a receipt of a block that a reorganisation has taken away.
        if wanted and self._node.head(receipt.block_number).hash != receipt.block_hash:
            return Situation(State.CONFIRMING, f"{where}, and that block is gone", head, receipt)
        return Situation(State.CONFIRMED if receipt.succeeded else State.REVERTED, where, head, receipt)

    def _overtaken(self, entry: Entry, *, head: int) -> Situation:
        """Its nonce is used up: by another transaction, or by this one, between two questions."""
        if receipt := self._receipt(entry):
            return self._in_block(receipt, head=head)
        other = f"another transaction of {entry.sender} has its nonce {entry.newest.nonce}"
        deep = head - self._confirmations
        if deep >= 0 and self._node.count(entry.sender, block=deep) > entry.newest.nonce:
            return Situation(State.REPLACED, other, head)
        return Situation(State.OVERTAKEN, f"{other}, and is not confirmed yet", head)


class Watch:
    """How long one transaction is waited for, and what is said when it took too long.

    Args:
        transaction: its hash.
        remedy: how to go on with it.
        timeout: seconds to wait for the chain's next step.
        outage: seconds for which the node may be silent.
    """

    def __init__(self, transaction: str, remedy: str, *, timeout: float, outage: float) -> None:
        """Begin to wait."""
        self._transaction, self._remedy, self._timeout, self._outage = transaction, remedy, timeout, outage
        self._step: object = None
        self._stepped = self._heard = time.monotonic()
        self._pause = _FIRST_PAUSE

    def see(self, now: Situation) -> None:
        """The node answered; give up where it told the same for too long."""
        self._heard = time.monotonic()
        if now.step != self._step:
            self._step, self._stepped, self._pause = now.step, self._heard, _FIRST_PAUSE
        if self._heard - self._stepped >= self._timeout:
            waited = f"nothing changed in {self._timeout:.0f} s"
            raise self._not_confirmed(f"{now.details}; {waited}", more=_MORE.get(now.state, ""))

    def bear(self, error: ChainError) -> None:
        """The node did not answer; give up where that lasts."""
        if time.monotonic() - self._heard >= self._outage:
            raise self._not_confirmed(f"{error.what}: {error.why}") from error

    def pause(self) -> None:
        """Wait before the next question: shortly at first, so that a local chain is no slower for it."""
        time.sleep(self._pause)
        self._pause = min(self._pause * _PAUSE_GROWTH, _LAST_PAUSE)

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Have Ctrl-C tell what is under way."""
        try:
            yield
        except KeyboardInterrupt as error:
            remedy = f"{self._remedy[:1].upper()}{self._remedy[1:]}"
            told = f"The transaction {self._transaction} may still take effect. {remedy}."
            raise KeyboardInterrupt(told) from error

    def _not_confirmed(self, why: str, *, more: str = "") -> ChainError:
        return ChainError(
            f"the transaction {self._transaction} was sent and is not confirmed", why=why, remedy=self._remedy + more
        )


_MORE = {
    State.UNDERPAID: "; to offer more for the same transaction, resume it with --key (under a higher max_fee_gwei)",
    State.WAITING: "; to offer more for the same transaction, resume it with --key",
    State.BEHIND: "; the earlier ones must get into blocks first",
}
