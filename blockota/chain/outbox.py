"""Send transactions on a chain: sign each transaction once, record it, submit it, and wait for its confirmation.

A transaction is never sent twice: a command that finds its own unsettled transaction in the journal continues with
that transaction. Submitting the same signed bytes again is safe, because a chain accepts each nonce of an account once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

from blockota.chain.journal import Journal, SentTransaction
from blockota.chain.node import UNFUNDED, Node
from blockota.chain.records import Receipt
from blockota.chain.transaction import Fees, SignedTransaction, cannot_pay, check_cost, coins, gwei
from blockota.deployment import LOCAL_CHAINS
from blockota.errors import Action, ChainError, RefusedError, RevertedError, UsageError
from blockota.settings import MAX_COST

if TYPE_CHECKING:
    from eth_account.signers.base import BaseAccount

LOCAL_CHAIN_IDS = LOCAL_CHAINS | {31337}
"""Chain ids (EIP-155) of development nodes. The public test keys may be used on these chains only."""
_GAS_MARGIN = 1.2
_FIRST_PAUSE, _LAST_PAUSE, _PAUSE_GROWTH = 0.05, 2.0, 1.5


class TransactionState(Enum):
    """The state of a transaction. Programs use a state's name; its value is for display."""

    CONFIRMED = "confirmed"
    REVERTED = "reverted"
    REPLACED = "replaced by another"
    CONFIRMING = "in a block, not confirmed yet"
    WAITING = "waits for a block"
    UNDERPAID = "offers too little"
    LOST = "unknown to the node"
    UNFUNDED = "its sender cannot pay"
    BEHIND = "waits for earlier ones"
    OVERTAKEN = "overtaken, not confirmed yet"
    UNKNOWN = "its nonce is used by an unknown transaction"


_SETTLED = {TransactionState.CONFIRMED, TransactionState.REVERTED, TransactionState.REPLACED}
"""The final states: the transaction has the required confirmations. Any other state can change in a reorganisation."""
_ADVICE = {
    TransactionState.UNDERPAID: (
        "set a higher max_fee_gwei if necessary, and raise the fee of the same transaction",
        Action.RAISE_FEE,
    ),
    TransactionState.WAITING: ("continue with it, or raise the fee of the same transaction", Action.RAISE_FEE),
    TransactionState.UNFUNDED: ("send coin to its sender, then continue with it", Action.RESUME_TRANSACTION),
    TransactionState.BEHIND: (
        "wait until the earlier transactions are in blocks, then continue with this one",
        Action.RESUME_TRANSACTION,
    ),
}
"""The remedy for each state in which a transaction makes no progress. In other states, the remedy is to continue."""


@dataclass(frozen=True)
class Situation:
    """The current state of a transaction.

    Attributes:
        details: the reason for the state, as a clause with the relevant values.
        head: number of the newest block.
        receipt: the transaction's receipt; None while the transaction is not in a block.
    """

    state: TransactionState
    details: str
    head: int
    receipt: Receipt | None = None

    @property
    def is_settled(self) -> bool:
        """Whether the state is final: confirmed, reverted or replaced."""
        return self.state in _SETTLED

    @property
    def progress(self) -> object:
        """A value that changes when the chain makes progress with the transaction.

        If no block includes the transaction yet, a new block does not count as progress.
        """
        if self.receipt:
            return self.receipt.block_hash, self.head
        return (self.state, self.head) if self.state is TransactionState.OVERTAKEN else None


@dataclass(frozen=True)
class Sending:
    """Settings for sending transactions and for waiting until they are confirmed.

    Attributes:
        confirmations: the number of blocks that must follow a transaction's block before the transaction is confirmed.
        max_fee: the maximum fee for a unit of gas, in wei; None limits the fee by the usual price of the last blocks.
        journal: the folder of the journal; None means that no journal is kept.
        purpose: the command that sends the transaction, recorded in the journal.
        timeout: the number of seconds after which a transaction without progress counts as failed to confirm.
        outage: the maximum time for which the node may be out of reach during the wait, in seconds.
        max_cost: the maximum cost of a transaction, in wei.
        note: called with a sentence for each state in which a transaction waits.
    """

    confirmations: int = 0
    max_fee: int | None = None
    journal: Path | None = None
    purpose: str = ""
    timeout: float = 180.0
    outage: float = 3.0
    max_cost: int = MAX_COST
    note: Callable[[str], object] = lambda _: None


class Chain(Node):
    """A chain behind a JSON-RPC endpoint, with functions that send transactions.

    The arguments and errors are those of `Node`. Without `sending`, no confirmations are required and no journal is
    kept. The class extends `Node`, because a sender also reads the chain. It does not override functions of `Node`.
    """

    def __init__(self, url: str, *, chain_id: int | None = None, sending: Sending | None = None) -> None:
        super().__init__(url, chain_id=chain_id)
        self._sending = sending or Sending()
        self._journal = Journal(self._sending.journal, self.chain_id)

    def send(self, account: BaseAccount, data: bytes, *, to: str | None = None) -> Receipt:
        """Send a transaction and wait until it is confirmed. A transaction that is already in the journal is continued.

        Args:
            account: the account that signs and pays.
            data: the calldata, or the creation bytecode.
            to: the contract's address; None creates a contract.

        Raises:
            RevertedError: the transaction would revert, or was included in a block and reverted.
            RefusedError: the account cannot pay, an earlier transaction must be settled first, or another transaction
                used the nonce.
            ChainError: the node is out of reach, or the transaction makes no progress.
        """
        with self._journal.locked(account.address, timeout=self._sending.timeout):
            # Search the journal under the lock: another process may have sent the transaction meanwhile.
            entry = self._find(account.address, data, to=to)
            if entry is None:
                self._require_all_settled(account.address)
                return self._finish(self._sign(account, data, to=to), is_new=True)
            if self.locate(entry).state is TransactionState.UNDERPAID:
                with suppress(RefusedError):  # the limit forbids a higher fee, but fees may fall
                    entry = self._raise(entry, account)
            return self._finish(entry)

    def is_sending(self, sender: str, data: bytes, *, to: str | None) -> bool:
        """Whether the journal has a transaction of `sender` with this calldata, which `send` would continue."""
        return self._find(sender, data, to=to) is not None

    def find_poor(self, senders: Sequence[str], data: bytes, *, to: str) -> tuple[int, dict[str, int]]:
        """Find the accounts that could not pay for a transaction. The arguments are those of `quote`.

        Returns:
            The maximum cost of the transaction at the current fees, and the balance of each account that has less; all
            amounts in wei.

        Raises:
            RevertedError: the transaction would revert.
            RefusedError: the fees exceed the limit.
        """
        quote = self.quote(senders, data, to=to)
        cost = int(quote.gas * _GAS_MARGIN) * quote.market.offer(self._sending.max_fee).limit
        return cost, {sender: balance for sender, balance in quote.balances.items() if balance < cost}

    def unsettled(self) -> list[SentTransaction]:
        """Return the transactions in the journal, sorted by sender and nonce."""
        return self._journal.entries()

    def resume(self, transaction: str, *, account: BaseAccount | None = None) -> Receipt:
        """Wait until a transaction of the journal is confirmed, and submit it again if the node lost it.

        Args:
            transaction: the transaction's hash, with 0x.
            account: the account of the sender. If no block includes the transaction yet, the account signs the
                transaction again with a higher fee. With None, the fee is not changed.

        Raises:
            UsageError: the journal does not have the transaction, or the account is not its sender.
            RevertedError: the transaction was included in a block and reverted.
            RefusedError: another transaction used the nonce, or the fee limit does not allow a higher fee.
            ChainError: the node is out of reach, or the transaction makes no progress.
        """
        with self._journal.locked(self._journal.find(transaction).sender, timeout=self._sending.timeout):
            entry = self._journal.find(transaction)  # again under the lock: another process may have changed it
            if account and account.address != entry.sender:
                raise UsageError(f"the key does not belong to {entry.sender}", why=f"its account is {account.address}")
            if account and self.locate(entry).receipt is None:
                entry = self._raise(entry, account)
            return self._finish(entry)

    def forget(self, transaction: str, *, even_if_pending: bool = False) -> None:
        """Remove a transaction from the journal, by its hash with 0x. The removal does not cancel the transaction.

        Raises:
            UsageError: the journal does not have the transaction.
            RefusedError: the transaction can still get into a block.
        """
        entry = self._journal.find(transaction)

        with self._journal.locked(entry.sender, timeout=self._sending.timeout):
            if not even_if_pending and not (now := self.locate(entry)).is_settled:
                raise RefusedError(
                    f"the transaction {entry.hash} can still take effect, and forgetting it does not cancel it",
                    why=now.details,
                    remedy="continue with the transaction, or confirm that the journal may forget it",
                    action=Action.RESUME_OR_FORGET_TRANSACTION,
                    values={"hash": entry.hash},
                )
            self._journal.remove(entry)

    def locate(self, entry: SentTransaction) -> Situation:
        """Determine the current state of a transaction."""
        # (1) Is it in a block? The newest block is read first, so that the depth is never overstated.
        head = self.head().number
        if receipt := self._receipt_of(entry):
            return self._in_block(receipt, head=head)

        # (2) Can it get into the next block? Not if its nonce is used, or if an earlier nonce is not used.
        nonce, used = entry.newest.nonce, self.count(entry.sender)
        if used > nonce:
            return self._overtaken(entry, head=head)
        if used < nonce:
            gap = f"it has nonce {nonce}, and the chain has {used} transactions of {entry.sender}"
            return Situation(TransactionState.BEHIND, gap, head)

        return self._outside_blocks(entry, head=head)

    def _outside_blocks(self, entry: SentTransaction, *, head: int) -> Situation:
        """Determine the state of a transaction that has its account's next nonce, and that is not in a block."""
        # (3) Does it offer enough? A fee below the base fee is not accepted now, even if the node has the transaction.
        least, limit = self.market().least, entry.newest.fees.limit
        if least > limit:
            bid = f"it offers {gwei(limit)} gwei for a unit of gas, and the chain asks for {gwei(least)}"
            return Situation(TransactionState.UNDERPAID, bid, head)
        if any(self.knows(attempt.hash) for attempt in entry.attempts):
            return Situation(TransactionState.WAITING, "the node has it, but it is not in a block yet", head)

        # (4) Can its sender pay? A node drops a transaction whose sender has spent the coin meanwhile.
        cost, balance = entry.newest.max_cost, self.balance(entry.sender)
        if balance < cost:
            funds = f"{entry.sender} has {coins(balance)} of the chain's coin, the transaction can cost {coins(cost)}"
            return Situation(TransactionState.UNFUNDED, funds, head)
        return Situation(TransactionState.LOST, "the node does not have the transaction", head)

    def _receipt_of(self, entry: SentTransaction) -> Receipt | None:
        found = (self.receipt(attempt.hash) for attempt in reversed(entry.attempts))
        return next((receipt for receipt in found if receipt), None)

    def _in_block(self, receipt: Receipt, *, head: int) -> Situation:
        depth, wanted = max(head - receipt.block_number, 0), self._sending.confirmations
        where = f"it is in block {receipt.block_number}, with {depth} of {wanted} confirmations"
        if depth < wanted:
            return Situation(TransactionState.CONFIRMING, where, head, receipt)
        # A node may still answer with the receipt of a block that a reorganisation has removed.
        if wanted and not self.has_block(receipt.block_number, receipt.block_hash):
            return Situation(TransactionState.CONFIRMING, f"{where}, and that block was replaced", head, receipt)
        return Situation(
            TransactionState.CONFIRMED if receipt.succeeded else TransactionState.REVERTED, where, head, receipt
        )

    def _overtaken(self, entry: SentTransaction, *, head: int) -> Situation:
        """Determine the state of a transaction if a block already includes a transaction with its nonce."""
        if receipt := self._receipt_of(entry):
            return self._in_block(receipt, head=head)
        # Receipts can lag behind nonces, most of all if several nodes share one name. Another transaction counts as a
        # replacement only if it was seen in a block.
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
        """Refuse a new transaction while an earlier transaction is unsettled, because both may have the same effect."""
        for entry in self._journal.entries():
            if entry.sender != sender or (now := self.locate(entry)).state is TransactionState.REPLACED:
                continue

            if not now.is_settled:
                raise RefusedError(
                    "an earlier transaction of the same account is not settled, so nothing was sent",
                    why=f"{entry.hash}{f' ({entry.purpose})' if entry.purpose else ''}: {now.details}",
                    remedy="continue with that transaction first",
                    action=Action.RESUME_TRANSACTION,
                    values={"hash": entry.hash},
                )
            self._journal.remove(entry)

    def _price(self, sender: str, data: bytes, *, to: str | None) -> tuple[int, Fees]:
        """Return the gas limit of a transaction, and the fees to offer at the current gas price."""
        fees = self.market().offer(self._sending.max_fee)
        try:
            return int(self.estimate(sender, data, to=to, fees=fees) * _GAS_MARGIN), fees
        except (ChainError, RevertedError) as error:
            # Many nodes limit the gas of an estimate to the amount that the balance can pay. A call that runs out of
            # gas fails with the node's own text, or reverts, as a Safe's call does on anvil and geth.
            with suppress(ChainError):  # a revert is raised: its reason is the real one
                self._require_funds(sender, int(self.estimate(sender, data, to=to) * _GAS_MARGIN), fees)
            if isinstance(error, ChainError):
                self._recognise_funds(sender, error.why)
            raise

    def _require_funds(self, sender: str, gas: int, fees: Fees) -> None:
        """Raise a RefusedError if an account cannot pay for an amount of gas."""
        balance = self.balance(sender)
        if balance < gas * fees.limit:
            raise cannot_pay(sender, balance, gas=gas, fees=fees)

    def _recognise_funds(self, sender: str, answer: str) -> None:
        """Raise a RefusedError if the node's error text means that the account cannot pay."""
        if UNFUNDED.search(answer):
            raise cannot_pay(sender, self.balance(sender), answer=answer)

    def _sign(self, account: BaseAccount, data: bytes, *, to: str | None) -> SentTransaction:
        """Create, sign and record a transaction without submitting it."""
        sender = account.address
        gas, fees = self._price(sender, data, to=to)
        check_cost(gas, fees, most=self._sending.max_cost)
        self._require_funds(sender, gas, fees)
        # With the nonce of a pending transaction, a new one would replace it; with the next nonce, repeat its effect.
        mined, nonce = self.count(sender), self.count(sender, with_pending=True)
        if self._journal.is_kept and nonce > mined:
            raise RefusedError(
                "the account has a pending transaction that is not in the journal, so nothing was sent",
                why=f"the node has transactions of {sender} that are not in a block yet ({nonce - mined})",
                remedy="wait until that transaction is in a block, check its effect, then run the command again",
            )
        wanted = SignedTransaction(b"", self.chain_id, nonce, gas=gas, fees=fees, to=to, data=data)
        entry = SentTransaction((wanted.signed_by(account),), self._sending.purpose, int(time.time()))
        self._journal.write(entry)  # written first, so that a crash after the submission does not lose the transaction
        return entry

    def _submit(self, signed: SignedTransaction) -> str:
        """Submit a transaction, and return why the node rejected it.

        Returns an empty text if the node accepted the transaction, or if the response was lost.
        """
        try:
            rejection = self.submit(signed.raw)
            return "" if rejection and self.knows(signed.hash) else rejection
        except ChainError:
            return ""

    def _raise(self, entry: SentTransaction, account: BaseAccount) -> SentTransaction:
        """Sign the transaction again with the same nonce and a higher fee. A chain accepts each nonce only once."""
        fees = self.market().outbid(entry.newest.fees, ceiling=self._sending.max_fee)
        check_cost(entry.newest.gas, fees, most=self._sending.max_cost)
        self._require_funds(entry.sender, entry.newest.gas, fees)

        raised = entry.with_attempt(entry.newest.offering(fees).signed_by(account))
        self._journal.write(raised)  # either attempt can get into a block from here on
        rejection = self._submit(raised.newest)
        if rejection and self.locate(entry).state in {TransactionState.WAITING, TransactionState.UNDERPAID}:
            self._journal.write(entry)
            raise ChainError(
                f"the node at {self.place} rejected the higher fee of {gwei(fees.limit)} gwei",
                why=rejection,
                remedy="continue with the transaction at its earlier fee",
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
                # The account may have spent its coin since the check.
                self._require_funds(entry.sender, entry.newest.gas, entry.newest.fees)
                self._recognise_funds(entry.sender, rejection)
                raise ChainError(
                    f"the node at {self.place} rejected the transaction; nothing was sent",
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
        """Determine the state of a transaction, and submit the transaction again if the node lost it."""
        now = self.locate(entry)
        if now.state is TransactionState.LOST and (rejection := self._submit(entry.newest)):
            what = f"the node at {self.place} rejected the transaction when it was submitted again"
            raise ChainError(what, why=rejection)
        return now

    def _settle(self, entry: SentTransaction, now: Situation) -> Receipt:
        """Remove a transaction with a receipt from the journal.

        Raises an error if the transaction was reverted or replaced.
        """
        if now.receipt is None:
            raise RefusedError(
                f"the transaction {entry.hash} was replaced, and has no effect",
                why=now.details,
                remedy="look up the other transaction; if its effect differs, forget this transaction and send again",
                action=Action.FORGET_TRANSACTION if self._journal.is_kept else None,
                values={"hash": entry.hash},
            )

        self._journal.remove(entry)
        if now.state is TransactionState.REVERTED:
            at = f"the transaction 0x{now.receipt.transaction.hex()} was reverted in block {now.receipt.block_number}"
            raise RevertedError(b"", f"{at}; an earlier transaction may have had the same effect")
        return now.receipt


class _Wait:
    """The wait for one transaction, with its timeouts and the errors that they cause."""

    def __init__(self, entry: SentTransaction, sending: Sending, *, is_journalled: bool) -> None:
        self._entry, self._sending, self._is_journalled = entry, sending, is_journalled
        self._state: TransactionState | None = None
        self._progress: object = None
        self._progressed = self._answered = time.monotonic()
        self._pause = _FIRST_PAUSE

    def require_progress(self, now: Situation) -> None:
        """Record the transaction's state. Raises a ChainError if the transaction made no progress within `timeout`."""
        self._answered = time.monotonic()
        if now.state is TransactionState.UNFUNDED:
            raise self._not_confirmed(now.details, now.state)
        if now.state is not self._state:
            self._state = now.state
            self._sending.note(f"Waiting for the transaction {self._entry.hash}: {now.details}.")
        if now.progress != self._progress:
            self._progress, self._progressed, self._pause = now.progress, self._answered, _FIRST_PAUSE
        if self._answered - self._progressed >= self._sending.timeout:
            raise self._not_confirmed(f"{now.details}; nothing changed in {self._sending.timeout:.0f} s", now.state)

    def bear(self, error: ChainError) -> None:
        """Record that the node did not answer. Raises a ChainError if the outage lasts longer than `outage`."""
        if time.monotonic() - self._answered >= self._sending.outage:
            raise self._not_confirmed(f"{error.what}: {error.why}") from error

    def pause(self) -> None:
        """Wait before the next request. The first pauses are short, so that a local chain is not slowed down."""
        time.sleep(self._pause)
        self._pause = min(self._pause * _PAUSE_GROWTH, _LAST_PAUSE)

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Add the hash of the pending transaction to the KeyboardInterrupt if Ctrl-C interrupts the ``with`` block."""
        try:
            yield
        except KeyboardInterrupt as error:
            raise KeyboardInterrupt(self._not_confirmed("it may still take effect")) from error

    def _not_confirmed(self, why: str, state: TransactionState | None = None) -> ChainError:
        remedy, action = "look up the transaction before sending it again", None
        if self._is_journalled:
            otherwise = "continue with it; repeating the command does not send a second one", Action.RESUME_TRANSACTION
            remedy, action = _ADVICE.get(state, otherwise) if state else otherwise

        return ChainError(
            f"the transaction {self._entry.hash} was sent and is not confirmed",
            why=why,
            remedy=remedy,
            action=action,
            values={"hash": self._entry.hash},
        )
