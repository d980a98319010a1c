"""A chain that takes transactions: signed once, recorded, submitted, and waited for until they are confirmed.

A transaction is never made twice: its nonce is the account's next one, and a command that finds its own transaction
unsettled in the journal continues with it. Submitting the same signed bytes again is safe: a chain accepts a nonce
once.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

from blockota.chain.journal import Journal, SentTransaction
from blockota.chain.node import Node, Receipt
from blockota.chain.transaction import SignedTransaction, check_cost, gwei
from blockota.errors import Action, ChainError, RefusedError, RevertedError, UsageError
from blockota.settings import MAX_COST

if TYPE_CHECKING:
    from eth_account.signers.base import BaseAccount

LOCAL_CHAIN_IDS = frozenset({1337, 31337})
"""Chains of development nodes; the well-known test keys work on these alone (EIP-155 numbers)."""
_GAS_MARGIN = 1.2
_FIRST_PAUSE, _LAST_PAUSE, _PAUSE_GROWTH = 0.05, 2.0, 1.5


class TransactionState(Enum):
    """The state of a transaction. The value is for people, the name for programs."""

    CONFIRMED = "confirmed"
    REVERTED = "reverted"
    REPLACED = "replaced by another"
    CONFIRMING = "in a block, not confirmed yet"
    WAITING = "waits for a block"
    UNDERPAID = "offers too little"
    LOST = "unknown to the node"
    BEHIND = "waits for earlier ones"
    OVERTAKEN = "overtaken, not confirmed yet"
    UNKNOWN = "its nonce is used by an unknown transaction"


_SETTLED = {TransactionState.CONFIRMED, TransactionState.REVERTED, TransactionState.REPLACED}
"""The final states. A reorganisation can lead from any other state to any other, but not out of these: the
confirmations lie above."""
_ADVICE = {
    TransactionState.UNDERPAID: ("offer more for the same transaction, under a higher max_fee_gwei", Action.RAISE_FEE),
    TransactionState.WAITING: ("continue with it, or offer more for the same transaction", Action.RAISE_FEE),
    TransactionState.BEHIND: (
        "wait until the earlier ones are in blocks, then continue with it",
        Action.RESUME_TRANSACTION,
    ),
}
"""The remedy if a transaction makes no progress in a state; for other states, to continue."""


@dataclass(frozen=True)
class Situation:
    """The current state of a transaction.

    Attributes:
        details: the reason, a clause with the relevant values.
        head: number of the newest block.
        receipt: the transaction's receipt; None while it is in no block.
    """

    state: TransactionState
    details: str
    head: int
    receipt: Receipt | None = None

    @property
    def is_settled(self) -> bool:
        """Whether nothing can change any more."""
        return self.state in _SETTLED

    @property
    def progress(self) -> object:
        """A value that changes when the chain makes progress with the transaction.

        New blocks alone are not progress while it waits for one.
        """
        if self.receipt:
            return self.receipt.block_hash, self.head
        return (self.state, self.head) if self.state is TransactionState.OVERTAKEN else None


@dataclass(frozen=True)
class Sending:
    """How transactions are sent, and when they count as confirmed.

    Attributes:
        confirmations: blocks that must lie above a transaction's block.
        max_fee: the most to offer for a unit of gas, in wei; None compares the price with that of the last blocks.
        journal: the folder of the journal; None means that no journal is kept.
        purpose: the command that sends, as the journal shows it.
        timeout: seconds to wait for the chain's next progress.
        outage: seconds for which the node may be unreachable while a transaction is waited for.
        max_cost: the most that a transaction may cost, in wei.
    """

    confirmations: int = 0
    max_fee: int | None = None
    journal: Path | None = None
    purpose: str = ""
    timeout: float = 180.0
    outage: float = 3.0
    max_cost: int = MAX_COST


class Chain(Node):
    """A chain behind a JSON-RPC endpoint that takes transactions.

    Arguments and errors as those of `Node`; without `sending`, there are neither confirmations nor a journal.
    It extends `Node`, because a sender also reads, and overrides none of its functions.
    """

    def __init__(self, url: str, *, chain_id: int | None = None, sending: Sending | None = None) -> None:
        super().__init__(url, chain_id=chain_id)
        self._sending = sending or Sending()
        self._journal = Journal(self._sending.journal, self.chain_id)

    def send(self, account: BaseAccount, data: bytes, *, to: str | None = None) -> Receipt:
        """Send a transaction, or continue with the same one if it is unsettled; wait until it is confirmed.

        Args:
            account: signs and pays.
            data: calldata, or creation bytecode.
            to: the contract; None creates one.

        Raises:
            RevertedError: it would revert, or was included in a block and reverted.
            RefusedError: it cannot be sent now, or another transaction took its place.
            ChainError: the node is out of reach, or the chain makes no progress with it.
        """
        with self._journal.locked(account.address, timeout=self._sending.timeout):
            # Looked up under the lock: another process may have sent it meanwhile.
            entry = self._find(account.address, data, to=to)
            if entry is None:
                self._require_all_settled(account.address)
                return self._finish(self._sign(account, data, to=to), is_new=True)
            if self.locate(entry).state is TransactionState.UNDERPAID:
                with suppress(RefusedError):  # the limit allows no higher offer, but fees may fall
                    entry = self._raise(entry, account)
            return self._finish(entry)

    def is_sending(self, sender: str, data: bytes, *, to: str | None) -> bool:
        """Whether the journal has this transaction, so that `send` would continue with it."""
        return self._find(sender, data, to=to) is not None

    def unsettled(self) -> list[SentTransaction]:
        """The transactions in the journal, by sender and nonce."""
        return self._journal.entries()

    def resume(self, transaction: str, *, account: BaseAccount | None = None) -> Receipt:
        """Continue with a transaction of the journal until it is confirmed.

        Args:
            transaction: its hash, with 0x.
            account: its sender, to raise the fee if no block has it yet; None leaves the fee.

        Raises:
            UsageError: the journal has no such transaction, or the account is not its sender.
            RevertedError: it was included in a block and reverted.
            RefusedError: another transaction took its place, or the fee limit allows no higher offer.
            ChainError: the node is out of reach, or the chain makes no progress with it.
        """
        with self._journal.locked(self._journal.find(transaction).sender, timeout=self._sending.timeout):
            entry = self._journal.find(transaction)  # again, under the lock: it may be settled or raised by now
            if account and account.address != entry.sender:
                raise UsageError(f"the key is not that of {entry.sender}", why=f"it is that of {account.address}")
            if account and self.locate(entry).receipt is None:
                entry = self._raise(entry, account)
            return self._finish(entry)

    def forget(self, transaction: str, *, even_if_pending: bool = False) -> None:
        """Remove a transaction from the journal by its hash with 0x, which does not cancel it.

        Raises:
            UsageError: the journal has no such transaction.
            RefusedError: it can still get into a block.
        """
        entry = self._journal.find(transaction)
        with self._journal.locked(entry.sender, timeout=self._sending.timeout):
            if not even_if_pending and not (now := self.locate(entry)).is_settled:
                raise RefusedError(
                    f"the transaction {entry.hash} can still take effect, and forgetting it does not cancel it",
                    why=now.details,
                    remedy="continue with it, or confirm that it is to be forgotten",
                    action=Action.RESUME_OR_FORGET_TRANSACTION,
                    values={"hash": entry.hash},
                )
            self._journal.remove(entry)

    def locate(self, entry: SentTransaction) -> Situation:
        """Ask the node where a transaction is."""
        # (1) It is in a block. The newest block is asked for first, so that the depth is never exaggerated.
        head = self.head().number
        if receipt := self._receipt_of(entry):
            return self._in_block(receipt, head=head)

        # (2) It cannot get into the next block: its nonce is used, or an earlier one is not.
        nonce, used = entry.newest.nonce, self.count(entry.sender)
        if used > nonce:
            return self._overtaken(entry, head=head)
        if used < nonce:
            gap = f"it has nonce {nonce}, and the chain has {used} transactions of {entry.sender}"
            return Situation(TransactionState.BEHIND, gap, head)

        # (3) It could. An offer below the base fee is not accepted now, whether the node has kept it or not.
        least, limit = self.market().least, entry.newest.fees.limit
        if least > limit:
            bid = f"it offers {gwei(limit)} gwei for a unit of gas, and the chain asks for {gwei(least)}"
            return Situation(TransactionState.UNDERPAID, bid, head)
        if not any(self.knows(attempt.hash) for attempt in entry.attempts):
            return Situation(TransactionState.LOST, "the node does not know it, or no longer does", head)
        return Situation(TransactionState.WAITING, "the node has it, but no block does", head)

    def _receipt_of(self, entry: SentTransaction) -> Receipt | None:
        found = (self.receipt(attempt.hash) for attempt in reversed(entry.attempts))
        return next((receipt for receipt in found if receipt), None)

    def _in_block(self, receipt: Receipt, *, head: int) -> Situation:
        depth, wanted = max(head - receipt.block_number, 0), self._sending.confirmations
        where = f"it is in block {receipt.block_number}, with {depth} of {wanted} confirmations"
        if depth < wanted:
            return Situation(TransactionState.CONFIRMING, where, head, receipt)
        # A node may still answer with the receipt of a block that a reorganisation has removed.
        if wanted and self.head(receipt.block_number).hash != receipt.block_hash:
            return Situation(TransactionState.CONFIRMING, f"{where}, and that block is gone", head, receipt)
        return Situation(
            TransactionState.CONFIRMED if receipt.succeeded else TransactionState.REVERTED, where, head, receipt
        )

    def _overtaken(self, entry: SentTransaction, *, head: int) -> Situation:
        """Its nonce is used: by another transaction, or by this one between two requests."""
        if receipt := self._receipt_of(entry):
            return self._in_block(receipt, head=head)
        # Receipts can lag behind nonces, most of all where several nodes answer under one name. Only a transaction that
        # was seen in a block has replaced this one.
        nonce = entry.newest.nonce
        mined = self.find_transaction(entry.sender, nonce)
        if mined is None:
            unknown = f"its nonce {nonce} is used, and the node does not report yet by which transaction"
            return Situation(TransactionState.UNKNOWN, unknown, head)
        found, number = mined
        if found in {attempt.hash for attempt in entry.attempts}:
            lagging = f"it is in block {number}, and the node does not have its receipt yet"
            return Situation(TransactionState.UNKNOWN, lagging, head)
        other = f"another transaction, 0x{found.hex()} in block {number}, has its nonce {nonce}"
        if head - number >= self._sending.confirmations:
            return Situation(TransactionState.REPLACED, other, head)
        return Situation(TransactionState.OVERTAKEN, f"{other}, and is not confirmed yet", head)

    def _find(self, sender: str, data: bytes, *, to: str | None) -> SentTransaction | None:
        found = (one for one in self._journal.entries() if one.sender == sender and one.matches(data, to=to))
        return next(found, None)

    def _require_all_settled(self, sender: str) -> None:
        """A new transaction would wait behind an unsettled one, which may be meant to do the same."""
        for entry in self._journal.entries():
            if entry.sender != sender or (now := self.locate(entry)).state is TransactionState.REPLACED:
                continue
            if not now.is_settled:
                raise RefusedError(
                    "an earlier transaction of the same account is not settled, so nothing was sent",
                    why=f"{entry.hash}{f' ({entry.purpose})' if entry.purpose else ''}: {now.details}",
                    remedy="continue with it first",
                    action=Action.RESUME_TRANSACTION,
                    values={"hash": entry.hash},
                )
            self._journal.remove(entry)

    def _sign(self, account: BaseAccount, data: bytes, *, to: str | None) -> SentTransaction:
        """Make, sign and record a transaction; it is not submitted yet."""
        fees = self.market().offer(self._sending.max_fee)
        sender = account.address
        # A second transaction at a pending one's nonce would replace it, one behind it may repeat what it does.
        mined, nonce = self.count(sender), self.count(sender, with_pending=True)
        if self._journal.is_kept and nonce > mined:
            raise RefusedError(
                "the account has a pending transaction that the journal does not know, so nothing was sent",
                why=f"the node lists {nonce - mined} of {sender} that are not in a block yet",
                remedy="wait until a block has it, see whether it did what you want, then run the command again",
            )
        gas = int(self.estimate(sender, data, to=to, fees=fees) * _GAS_MARGIN)
        check_cost(gas, fees, most=self._sending.max_cost)
        wanted = SignedTransaction(b"", self.chain_id, nonce, gas=gas, fees=fees, to=to, data=data)
        entry = SentTransaction((wanted.signed_by(account),), self._sending.purpose, int(time.time()))
        self._journal.write(entry)  # before it is submitted: a crash in between must not lose it
        return entry

    def _submit(self, signed: SignedTransaction) -> str:
        """Submit to the node. Returns why it was rejected; empty if accepted or if the answer was lost."""
        try:
            rejection = self.submit(signed.raw)
            return "" if rejection and self.knows(signed.hash) else rejection
        except ChainError:
            return ""

    def _raise(self, entry: SentTransaction, account: BaseAccount) -> SentTransaction:
        """Sign the same transaction with the same nonce and a higher offer: a block takes at most one of them."""
        fees = self.market().outbid(entry.newest.fees, ceiling=self._sending.max_fee)
        check_cost(entry.newest.gas, fees, most=self._sending.max_cost)
        raised = entry.with_attempt(entry.newest.offering(fees).signed_by(account))
        self._journal.write(raised)  # either attempt can get into a block from here on
        rejection = self._submit(raised.newest)
        if rejection and self.locate(entry).state in {TransactionState.WAITING, TransactionState.UNDERPAID}:
            self._journal.write(entry)
            raise ChainError(
                f"the node at {self.place} rejected the higher offer of {gwei(fees.limit)} gwei",
                why=rejection,
                remedy="continue with the first offer",
                action=Action.RESUME_TRANSACTION,
                values={"hash": entry.hash},
            )
        return raised

    def _finish(self, entry: SentTransaction, *, is_new: bool = False) -> Receipt:
        """Wait until a transaction is settled; submit it first if it is new."""
        wait = _Wait(entry, self._sending, is_journalled=self._journal.is_kept)
        with wait.interruptible():
            if is_new and (rejection := self._submit(entry.newest)):
                self._journal.remove(entry)
                raise ChainError(
                    f"the node at {self.place} rejected the transaction, nothing was sent",
                    why=rejection,
                    remedy="run the command again, or ask the node's operator",
                )
            while True:
                try:
                    now = self._advance(entry)
                except ChainError as error:
                    wait.bear(error)
                else:
                    if now.is_settled:
                        return self._settle(entry, now)
                    wait.require_progress(now)
                wait.pause()

    def _advance(self, entry: SentTransaction) -> Situation:
        """Locate a transaction, and submit it again if the node lost it."""
        now = self.locate(entry)
        if now.state is TransactionState.LOST and (rejection := self._submit(entry.newest)):
            raise ChainError(f"the node at {self.place} rejected the transaction when it was repeated", why=rejection)
        return now

    def _settle(self, entry: SentTransaction, now: Situation) -> Receipt:
        """Remove a settled transaction from the journal, and report one that did not succeed."""
        if now.receipt is None:
            raise RefusedError(
                f"the transaction {entry.hash} was replaced, and did nothing",
                why=now.details,
                remedy="look up the other one; if it did not do the same, forget this one and send again",
                action=Action.FORGET_TRANSACTION if self._journal.is_kept else None,
                values={"hash": entry.hash},
            )
        self._journal.remove(entry)
        if now.state is TransactionState.REVERTED:
            at = f"the transaction 0x{now.receipt.transaction.hex()} was reverted in block {now.receipt.block_number}"
            raise RevertedError(b"", f"{at}; another transaction may have done the same first")
        return now.receipt


class _Wait:
    """How long one transaction is waited for, and the error when it took too long."""

    def __init__(self, entry: SentTransaction, sending: Sending, *, is_journalled: bool) -> None:
        self._entry, self._sending, self._is_journalled = entry, sending, is_journalled
        self._progress: object = None
        self._progressed = self._answered = time.monotonic()
        self._pause = _FIRST_PAUSE

    def require_progress(self, now: Situation) -> None:
        """Note an answer of the node; a ChainError if nothing changed for too long."""
        self._answered = time.monotonic()
        if now.progress != self._progress:
            self._progress, self._progressed, self._pause = now.progress, self._answered, _FIRST_PAUSE
        if self._answered - self._progressed >= self._sending.timeout:
            raise self._not_confirmed(f"{now.details}; nothing changed in {self._sending.timeout:.0f} s", now.state)

    def bear(self, error: ChainError) -> None:
        """Note that the node did not answer; a ChainError if that lasts too long."""
        if time.monotonic() - self._answered >= self._sending.outage:
            raise self._not_confirmed(f"{error.what}: {error.why}") from error

    def pause(self) -> None:
        """Wait before the next request: briefly at first, so that a local chain is not slowed down."""
        time.sleep(self._pause)
        self._pause = min(self._pause * _PAUSE_GROWTH, _LAST_PAUSE)

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Let Ctrl-C report the pending transaction."""
        try:
            yield
        except KeyboardInterrupt as error:
            raise KeyboardInterrupt(self._not_confirmed("it may still take effect")) from error

    def _not_confirmed(self, why: str, state: TransactionState | None = None) -> ChainError:
        remedy, action = "look it up before sending again", None
        if self._is_journalled:
            otherwise = "continue with it; the same command again does not send a second one", Action.RESUME_TRANSACTION
            remedy, action = _ADVICE.get(state, otherwise) if state else otherwise
        return ChainError(
            f"the transaction {self._entry.hash} was sent and is not confirmed",
            why=why,
            remedy=remedy,
            action=action,
            values={"hash": self._entry.hash},
        )
