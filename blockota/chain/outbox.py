"""Transactions on their way: signed once, written down, handed to a node, and waited for until they are confirmed.

A transaction is never made twice: its nonce is the account's next, and a command that finds an unsettled one of its own
in the journal goes on with that. Handing the same signed bytes to a node again is safe; a chain takes a nonce once.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from blockota.chain.journal import Entry, Journal
from blockota.chain.node import Node, Receipt
from blockota.chain.tracking import Situation, State, Tracker, Watch
from blockota.chain.transaction import SignedTransaction, gwei
from blockota.errors import ChainError, RefusedError, RevertedError, UsageError

if TYPE_CHECKING:
    from eth_account.signers.base import BaseAccount

_GAS_MARGIN = 1.2


@dataclass(frozen=True)
class Sending:
    """How transactions are sent, and when they are believed.

    Attributes:
        confirmations: blocks that must lie above a transaction's block.
        max_fee: the most to offer for a unit of gas, in wei; None is no ceiling.
        journal: the folder of the journal; None keeps none.
        purpose: what the journal says about what is sent.
        timeout: seconds to wait for the chain's next step.
        outage: seconds for which a node may be silent while it is waited for.
    """

    confirmations: int = 0
    max_fee: int | None = None
    journal: Path | None = None
    purpose: str = ""
    timeout: float = 180.0
    outage: float = 3.0


class Outbox:
    """The transactions that are on their way to one chain.

    Args:
        node: hands them in, and tells what became of them.
        sending: how they are sent, and when they are believed.
    """

    def __init__(self, node: Node, sending: Sending) -> None:
        """Remember both; the journal is read when it is needed."""
        self._node, self._sending = node, sending
        self._journal = Journal(sending.journal, node.chain_id)
        self._tracker = Tracker(node, sending.confirmations)

    def send(self, account: BaseAccount, data: bytes, *, to: str | None) -> Receipt:
        """Send a transaction, or go on with the same one where it is under way; wait until it is confirmed.

        Args:
            account: signs and pays.
            data: calldata, or creation bytecode.
            to: the contract; None creates one.

        Raises:
            RevertedError: it would be refused, or was refused in the block.
            RefusedError: it cannot be sent now, or another transaction took its place.
            ChainError: the node went away, or the chain makes no step with it.
        """
        with self._journal.alone(account.address, timeout=self._sending.timeout):
            entry = self._find(account.address, data, to=to)
            if entry is None:
                self._require_none_else(account.address)
                return self._finish(self._begin(account, data, to=to), is_new=True)
            if self.look(entry).state is State.UNDERPAID:
                entry = self._raise_if_allowed(entry, account)
            return self._finish(entry)

    def holds(self, sender: str, data: bytes, *, to: str | None) -> bool:
        """Whether the journal has such a transaction, so that `send` would go on with it."""
        return self._find(sender, data, to=to) is not None

    def unsettled(self) -> list[Entry]:
        """The transactions in the journal, by sender and nonce."""
        return self._journal.entries()

    def look(self, entry: Entry) -> Situation:
        """Ask the node where a transaction is."""
        return self._tracker.look(entry)

    def resume(self, transaction: str, *, account: BaseAccount | None = None) -> Receipt:
        """Go on with a transaction of the journal until it is confirmed.

        Args:
            transaction: its hash, with 0x.
            account: its sender; raises what it offers, where no block has it yet. None lets that be.

        Raises:
            UsageError: the journal has none of that hash, or the account is not its sender.
            RevertedError: it was refused in the block.
            RefusedError: another transaction took its place, or the ceiling allows no higher offer.
            ChainError: the node went away, or the chain makes no step with it.
        """
        with self._journal.alone(self._journal.find(transaction).sender, timeout=self._sending.timeout):
            entry = self._journal.find(transaction)
            if account and account.address != entry.sender:
                raise UsageError(f"the key is not that of {entry.sender}", why=f"it is that of {account.address}")
            if account and self.look(entry).receipt is None:
                entry = self._raise(entry, account)
            return self._finish(entry)

    def forget(self, transaction: str, *, even_if_pending: bool = False) -> None:
        """Take a transaction out of the journal; that does not call it back.

        Args:
            transaction: its hash, with 0x.
            even_if_pending: also one that can still get into a block.

        Raises:
            UsageError: the journal has none of that hash.
            RefusedError: it can still get into a block.
        """
        entry = self._journal.find(transaction)
        with self._journal.alone(entry.sender, timeout=self._sending.timeout):
            if not even_if_pending and not (now := self.look(entry)).is_settled:
                raise RefusedError(
                    f"the transaction {entry.hash} can still take effect, and forgetting does not call it back",
                    why=now.details,
                    remedy=f"go on with it by `blockota transaction resume {entry.hash}`, or say --yes",
                )
            self._journal.remove(entry)

    def _find(self, sender: str, data: bytes, *, to: str | None) -> Entry | None:
        found = (one for one in self._journal.entries() if one.sender == sender and one.does(data, to=to))
        return next(found, None)

    def _require_none_else(self, sender: str) -> None:
        """A second transaction waits behind the first, and whoever runs a command again may mean the first one."""
        for entry in self._journal.entries():
            if entry.sender != sender or (now := self.look(entry)).state is State.REPLACED:
                continue
            if not now.is_settled:
                raise RefusedError(
                    "an earlier transaction of the same account is not settled, so nothing was sent",
                    why=f"{entry.hash}{f' ({entry.purpose})' if entry.purpose else ''}: {now.details}",
                    remedy=f"go on with it first by `blockota transaction resume {entry.hash}`",
                )
            self._journal.remove(entry)

    def _begin(self, account: BaseAccount, data: bytes, *, to: str | None) -> Entry:
        fees = self._node.market().offer(self._sending.max_fee)
        nonce = self._next_nonce(account.address)
        gas = int(self._node.estimate(account.address, data, to=to, fees=fees) * _GAS_MARGIN)
        wanted = SignedTransaction(b"", self._node.chain_id, nonce, gas=gas, fees=fees, to=to, data=data)
        entry = Entry((wanted.signed_by(account),), self._sending.purpose, int(time.time()))
        self._journal.write(entry)
        return entry

    def _next_nonce(self, sender: str) -> int:
        mined, known = self._node.count(sender), self._node.count(sender, with_pending=True)
        if self._journal.is_kept and known > mined:
            raise RefusedError(
                "the account has a transaction under way that the journal does not know, so nothing was sent",
                why=f"the node has {known - mined} of {sender} that no block has",
                remedy="wait until a block has it, see whether it did what you want, then run the command again",
            )
        return known

    def _hand_in(self, signed: SignedTransaction) -> str:
        """Hand it to the node; why it does not take it, or nothing where it does, or where nobody knows."""
        try:
            refusal = self._node.submit(signed.raw)
            return "" if refusal and self._node.knows(signed.hash) else refusal
        except ChainError:
            return ""

    def _raise_if_allowed(self, entry: Entry, account: BaseAccount) -> Entry:
        try:
            return self._raise(entry, account)
        except RefusedError:  # fees may fall as well
            return entry

    def _raise(self, entry: Entry, account: BaseAccount) -> Entry:
        """Sign the same transaction with the same nonce and a higher offer: a block takes at most one of them."""
        fees = self._node.market().outbid(entry.newest.fees, ceiling=self._sending.max_fee)
        raised = entry.raised(entry.newest.offering(fees).signed_by(account))
        self._journal.write(raised)
        refusal = self._hand_in(raised.newest)
        if refusal and self.look(entry).state in {State.WAITING, State.UNDERPAID}:
            self._journal.write(entry)
            raise ChainError(
                f"the node at {self._node.place} does not take the higher offer of {gwei(fees.limit)} gwei",
                why=refusal,
                remedy=f"go on waiting by `blockota transaction resume {entry.hash}`",
            )
        return raised

    def _hand_in_first(self, entry: Entry) -> None:
        if refusal := self._hand_in(entry.newest):
            self._journal.remove(entry)
            raise ChainError(
                f"the node at {self._node.place} does not take the transaction, nothing was sent",
                why=refusal,
                remedy="run the command again, or ask who runs the node",
            )

    def _finish(self, entry: Entry, *, is_new: bool = False) -> Receipt:
        watch = Watch(entry.hash, self._way_on(entry), timeout=self._sending.timeout, outage=self._sending.outage)
        with watch.interruptible():
            if is_new:
                self._hand_in_first(entry)
            while True:
                try:
                    now = self._push(entry)
                except ChainError as error:
                    watch.bear(error)
                else:
                    if now.is_settled:
                        return self._settle(entry, now)
                    watch.see(now)
                watch.pause()

    def _push(self, entry: Entry) -> Situation:
        now = self.look(entry)
        if now.state is State.LOST and (refusal := self._hand_in(entry.newest)):
            raise ChainError(f"the node at {self._node.place} does not take the transaction again", why=refusal)
        return now

    def _settle(self, entry: Entry, now: Situation) -> Receipt:
        if now.receipt is None:
            again = f"run `blockota transaction forget {entry.hash}`, and the command again"
            then = again if self._journal.is_kept else "send again"
            raise RefusedError(
                f"the transaction {entry.hash} was replaced, and did nothing",
                why=now.details,
                remedy=f"look that one up; if it did not do the same, {then}",
            )
        self._journal.remove(entry)
        if now.state is State.REVERTED:
            at = f"the transaction 0x{now.receipt.transaction.hex()} was reverted in block {now.receipt.block_number}"
            raise RevertedError(b"", f"{at}; perhaps somebody else did the same first")
        return now.receipt

    def _way_on(self, entry: Entry) -> str:
        if not self._journal.is_kept:
            return f"look the transaction {entry.hash} up before sending again"
        return (
            f"go on with it by `blockota transaction resume {entry.hash}`; the same command again sends no second one"
        )
