"""Tests of sending transactions, with failures between signing and the last confirmation."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pytest
from eth_account import Account
from eth_account.signers.local import LocalAccount

from blockota.chain import Chain, Receipt, Sending
from blockota.chain.journal import Journal, SentTransaction
from blockota.chain.outbox import TransactionState
from blockota.chain.transaction import SignedTransaction
from blockota.errors import Action, ChainError, RefusedError, RevertedError, UsageError
from tests.support.networks import fresh_anvil, line_to, method_of, post, refusal, rpc, stand_in
from tests.support.samples import SAFE
from tests.support.waiting import DEADLINE, eventually

DATA = b"what it carries"


@pytest.fixture(scope="module")
def slow() -> Iterator[Chain]:
    """A local chain that mines blocks only on request."""
    with fresh_anvil("--no-mining") as chain:
        yield chain


@dataclass(frozen=True)
class Desk:
    """The chain, account and journal with which one test sends transactions.

    Attributes:
        chain: a chain that mines only on request.
        payer: the account that sends the transactions.
        sending: the settings for sending, with a journal in the test's folder.
    """

    chain: Chain
    payer: LocalAccount
    sending: Sending

    def outbox(self, url: str = "", **changes: object) -> Chain:
        """Return a new `Chain` with the same journal, as after a restart of the program."""
        return Chain(url or self.chain.url, sending=replace(self.sending, **changes))  # type: ignore[arg-type]  # by name

    def start(self, pool: ThreadPoolExecutor, outbox: Chain | None = None, data: bytes = DATA) -> Future[Receipt]:
        """Send a transaction in a thread; return when the node has the transaction."""
        sent = pool.submit((outbox or self.outbox()).send, self.payer, data, to=SAFE)
        eventually(
            lambda: self.chain.count(self.payer.address, with_pending=True) > self.chain.count(self.payer.address)
        )
        return sent

    def mine(self, blocks: int = 1) -> None:
        """Mine blocks."""
        for _ in range(blocks):
            rpc(self.chain, "evm_mine")

    @property
    def entries(self) -> list[SentTransaction]:
        """Return the unsettled transactions of the journal."""
        return self.outbox().unsettled()

    @property
    def used(self) -> int:
        """Return the number of mined transactions of the account."""
        return self.chain.count(self.payer.address)

    def signed(self, **changes: object) -> SignedTransaction:
        """Return a signed transaction without sending it."""
        market = self.chain.market()
        made = SignedTransaction(b"", 1337, self.used, gas=50_000, fees=market.offer(None), to=SAFE, data=DATA)
        return replace(made, **changes).signed_by(self.payer)  # type: ignore[arg-type]  # by name


@pytest.fixture
def desk(slow: Chain, tmp_path: Path) -> Desk:
    """A new funded account with an empty journal, on the chain that mines only on request."""
    payer = Account.create()
    rpc(slow, "anvil_setBalance", payer.address, hex(10**20))
    return Desk(slow, payer, Sending(0, None, tmp_path / "transactions", "blockota test", timeout=DEADLINE, outage=0.3))


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    """Threads that wait for confirmations."""
    with ThreadPoolExecutor() as threads:
        yield threads


def test_nothing_is_believed_before_its_confirmations(desk: Desk, pool: ThreadPoolExecutor) -> None:
    """A transaction remains in the journal until it has the required confirmations.

    Each state of the transaction is reported.
    """
    notes: list[str] = []
    outbox = desk.outbox(confirmations=2, note=notes.append)
    sent = desk.start(pool, outbox)
    states = []
    for count in (1, 2, 2):
        eventually(partial(lambda count: len(notes) == count, count))
        states.append(outbox.locate(desk.entries[0]).state)
        assert not sent.done()
        desk.mine()
    assert states == [TransactionState.WAITING, TransactionState.CONFIRMING, TransactionState.CONFIRMING]
    receipt = sent.result(DEADLINE)
    assert desk.chain.head().number - receipt.block_number == 2
    name = f"Waiting for the transaction 0x{receipt.transaction.hex()}"
    where = f"it is in block {receipt.block_number}, with 0 of 2 confirmations"
    assert notes == [f"{name}: the node has it, but it is not in a block yet.", f"{name}: {where}."]
    assert not desk.entries


def test_a_transaction_that_a_reorganisation_drops_is_handed_in_again(desk: Desk, pool: ThreadPoolExecutor) -> None:
    """After a reorganisation removed a transaction, the same signed bytes are submitted again."""
    outbox = desk.outbox(confirmations=2)
    sent = desk.start(pool, outbox)
    desk.mine(2)
    entry = desk.entries[0]
    rpc(desk.chain, "anvil_reorg", 2, [])
    eventually(lambda: outbox.locate(entry).state is TransactionState.WAITING)
    assert not sent.done()
    desk.mine(3)
    receipt = sent.result(DEADLINE)
    assert f"0x{receipt.transaction.hex()}" == entry.hash
    assert desk.chain.head(receipt.block_number).hash == receipt.block_hash
    assert desk.used == 1


def test_a_receipt_of_a_block_that_is_gone_is_not_believed(desk: Desk, pool: ThreadPoolExecutor) -> None:
    """A receipt from a block that a reorganisation removed does not confirm a transaction."""
    with line_to(desk.chain) as line:
        outbox = desk.outbox(line.url, confirmations=1, timeout=1)
        sent = desk.start(pool, outbox)
        desk.mine()
        eventually(lambda: outbox.locate(desk.entries[0]).state is TransactionState.CONFIRMING)
        line.stale = "eth_getTransactionReceipt"
        rpc(desk.chain, "anvil_reorg", 1, [])
        desk.mine()
        with pytest.raises(
            ChainError, match=r"it is in block \d+, with 1 of 1 confirmations, and that block was replaced"
        ):
            sent.result(DEADLINE)
    desk.mine()


def test_a_transaction_that_a_reorganisation_replaces_is_reported(desk: Desk, pool: ThreadPoolExecutor) -> None:
    """An error is raised if another transaction used the nonce; after `forget`, the request can be sent again."""
    outbox = desk.outbox(confirmations=1)
    other = desk.signed(data=b"something else")
    sent = desk.start(pool, outbox)
    desk.mine()
    rpc(desk.chain, "anvil_reorg", 1, [[f"0x{other.raw.hex()}", 0]])
    desk.mine()
    with pytest.raises(
        RefusedError, match=r"was replaced, and has no effect: another transaction, 0x.* in block \d+, has its nonce 0"
    ):
        sent.result(DEADLINE)
    with pytest.raises(RefusedError, match=r"its effect differs, forget this transaction and send again"):
        outbox.send(desk.payer, DATA, to=SAFE)
    outbox.forget(desk.entries[0].hash)
    again = desk.start(pool, outbox)
    desk.mine(2)
    assert again.result(DEADLINE).succeeded
    assert desk.used == 2


@pytest.mark.parametrize("lagging", [{"eth_getTransactionByHash"}, set()], ids=["and forgets it", "and knows it"])
def test_a_mined_transaction_whose_receipt_lags_is_not_called_replaced(
    desk: Desk, pool: ThreadPoolExecutor, lagging: set[str]
) -> None:
    """A mined transaction without a receipt has the state UNKNOWN until the node returns the receipt."""
    lagging = {"eth_getTransactionReceipt", *lagging}

    def answer(body: bytes) -> tuple[int, bytes]:
        hidden = method_of(body) in lagging
        return 200, b'{"jsonrpc":"2.0","id":1,"result":null}' if hidden else post(desk.chain.url, body)

    with stand_in(answer) as url:
        sent = desk.start(pool, desk.outbox(url))
        desk.mine()
        now = desk.outbox(url).locate(desk.entries[0])
        assert (now.state, now.is_settled) == (TransactionState.UNKNOWN, False)
        assert "and the node does not have its receipt yet" in now.details
        assert not sent.done()
        lagging.clear()
        assert sent.result(DEADLINE).succeeded
    assert not desk.entries


def test_a_node_without_old_state_cannot_tell_which_transaction_has_the_nonce(desk: Desk) -> None:
    """On a node without old data, `forget` refuses a transaction whose nonce is used, because its fate is unknown."""
    Journal(desk.sending.journal, 1337).write(SentTransaction((desk.signed(),), "", 5))
    desk.chain.submit(desk.signed(data=b"something else").raw)
    desk.mine()

    def answer(body: bytes) -> tuple[int, bytes]:
        is_count = method_of(body) == "eth_getTransactionCount"
        at_a_block = is_count and json.loads(body)["params"][1].startswith("0x")
        return 200, refusal("missing trie node") if at_a_block else post(desk.chain.url, body)

    with stand_in(answer) as url:
        outbox = desk.outbox(url, timeout=0.1)
        with pytest.raises(
            ChainError, match="nonce 0 is used, and the node does not report yet by which transaction"
        ) as gave_up:
            outbox.resume(desk.entries[0].hash)
        assert gave_up.value.action is Action.RESUME_TRANSACTION
        with pytest.raises(RefusedError, match="can still take effect"):
            outbox.forget(desk.entries[0].hash)
    assert desk.outbox().locate(desk.entries[0]).state is TransactionState.REPLACED


def test_a_replacement_in_an_old_block_is_found(desk: Desk) -> None:
    """The transaction that replaced another is found in its block, although many blocks follow."""
    Journal(desk.sending.journal, 1337).write(SentTransaction((desk.signed(),), "", 5))
    other = desk.signed(data=b"something else")
    desk.chain.submit(other.raw)
    desk.mine(37)
    now = desk.outbox(confirmations=3).locate(desk.entries[0])
    assert (now.state, other.hash.hex() in now.details) == (TransactionState.REPLACED, True)


def test_a_chain_that_makes_its_own_blocks_is_waited_for(desk: Desk) -> None:
    """On a chain that mines one block per second, `send` waits for two confirmations."""
    with fresh_anvil("--block-time", "1") as chain:
        rpc(chain, "anvil_setBalance", desk.payer.address, hex(10**20))
        receipt = desk.outbox(chain.url, confirmations=2).send(desk.payer, DATA, to=SAFE)
        assert chain.head().number - receipt.block_number >= 2
        assert chain.count(desk.payer.address) == 1


def test_a_transaction_is_recorded_before_it_is_sent(desk: Desk, pool: ThreadPoolExecutor) -> None:
    """Before confirmation, the journal file contains the signed bytes and the purpose, and has the mode 0600."""
    sent = desk.start(pool)
    (path,) = (desk.sending.journal or Path()).rglob("*.json")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    (entry,) = desk.entries
    assert (entry.sender, entry.newest.data, entry.purpose) == (desk.payer.address, DATA, "blockota test")
    assert desk.chain.knows(entry.newest.hash)
    desk.mine()
    assert sent.result(DEADLINE).transaction == entry.newest.hash
    assert not path.exists()


def test_a_journal_that_cannot_be_written_stops_the_sending(desk: Desk, tmp_path: Path) -> None:
    """A transaction that cannot be recorded in the journal is not sent."""
    (tmp_path / "full").write_text("a file where a folder should be")
    with pytest.raises(RefusedError, match="was not sent, because it cannot be recorded first"):
        desk.outbox(journal=tmp_path / "full").send(desk.payer, DATA, to=SAFE)
    assert desk.chain.count(desk.payer.address, with_pending=True) == 0


def test_a_crash_between_writing_and_sending_sends_once(desk: Desk, pool: ThreadPoolExecutor) -> None:
    """After a crash between recording and sending, a repeated command submits the recorded bytes and signs nothing."""
    signed = desk.signed()
    Journal(desk.sending.journal, 1337).write(SentTransaction((signed,), "it crashed", 5))
    assert desk.outbox().locate(desk.entries[0]).state is TransactionState.LOST
    sent = desk.start(pool)
    desk.mine()
    assert sent.result(DEADLINE).transaction == signed.hash
    assert desk.used == 1


@pytest.mark.parametrize("moment", ["cut_before", "cut_after"])
def test_a_line_that_breaks_at_the_sending(desk: Desk, pool: ThreadPoolExecutor, moment: str) -> None:
    """If the connection breaks during submission, the error contains the transaction's hash; a second call succeeds."""
    with line_to(desk.chain) as line:
        outbox = desk.outbox(line.url)
        setattr(line, moment, "eth_sendRawTransaction")
        with pytest.raises(ChainError, match=r"0x[0-9a-f]{64} was sent and is not confirmed: the node at .*") as cut:
            outbox.send(desk.payer, DATA, to=SAFE)
        (entry,) = desk.entries
        assert (cut.value.action, cut.value.values) == (Action.RESUME_TRANSACTION, {"hash": entry.hash})
        line.mend()
        sent = desk.start(pool, outbox)
        desk.mine()
        assert sent.result(DEADLINE).transaction == entry.newest.hash
    assert desk.used == 1


def test_a_short_connection_loss_is_tolerated(desk: Desk, pool: ThreadPoolExecutor) -> None:
    """A single lost response during the wait for confirmations is tolerated."""
    with line_to(desk.chain) as line:
        sent = desk.start(pool, desk.outbox(line.url, outage=DEADLINE))
        line.cut_after = "eth_getTransactionReceipt"
        eventually(lambda: line.is_cut)
        line.mend()
        desk.mine()
        assert sent.result(DEADLINE).succeeded


def test_a_line_that_breaks_before_signing_leaves_nothing(desk: Desk) -> None:
    """If the connection breaks before a transaction is signed, the journal remains empty."""
    with line_to(desk.chain) as line:
        outbox = desk.outbox(line.url)
        line.cut_before = "eth_estimateGas"
        with pytest.raises(ChainError, match="does not answer"):
            outbox.send(desk.payer, DATA, to=SAFE)
    assert not desk.entries


def test_what_is_not_mined_is_reported(desk: Desk) -> None:
    """If no block includes a transaction within the timeout, the error contains its state and the remedy."""
    with pytest.raises(
        ChainError, match=r"the node has it, but it is not in a block yet; nothing changed in 0 s\. Continue"
    ):
        desk.outbox(timeout=0.2).send(desk.payer, DATA, to=SAFE)
    assert desk.outbox().locate(desk.entries[0]).state is TransactionState.WAITING


def test_another_transaction_waits_for_the_first(desk: Desk, pool: ThreadPoolExecutor) -> None:
    """Another transaction of an account is refused until the account's first transaction is confirmed."""
    with pytest.raises(ChainError):
        desk.outbox(timeout=0.1).send(desk.payer, DATA, to=SAFE)
    with pytest.raises(RefusedError, match=r"earlier transaction .* not settled.*\(blockota test\): the node has it"):
        desk.outbox().send(desk.payer, b"other", to=SAFE)
    desk.mine()
    other = desk.start(pool, data=b"other")
    desk.mine()
    assert other.result(DEADLINE).succeeded
    assert desk.used == 2
    assert not desk.entries


def test_two_programs_that_do_the_same_send_it_once(desk: Desk, pool: ThreadPoolExecutor) -> None:
    """While a program sends a transaction, a second program with the same account gets an error after the timeout."""
    first = desk.start(pool)
    with pytest.raises(RefusedError, match="another command is sending from the same account"):
        desk.outbox(timeout=0.1).send(desk.payer, DATA, to=SAFE)
    desk.mine()
    assert first.result(DEADLINE).succeeded
    assert desk.used == 1


def test_a_transaction_from_elsewhere_is_not_queued_behind(desk: Desk) -> None:
    """`send` raises an error if the node has a pending transaction of the account that the journal does not contain."""
    desk.chain.submit(desk.signed().raw)
    with pytest.raises(RefusedError, match="pending transaction that is not in the journal"):
        desk.outbox().send(desk.payer, DATA, to=SAFE)
    desk.mine()


def test_a_gap_before_a_nonce_is_reported(desk: Desk) -> None:
    """A transaction whose nonce is higher than the account's next nonce has the state BEHIND."""
    Journal(desk.sending.journal, 1337).write(SentTransaction((desk.signed(nonce=7),), "", 5))
    now = desk.outbox().locate(desk.entries[0])
    assert (now.state, now.is_settled) == (TransactionState.BEHIND, False)
    assert "it has nonce 7, and the chain has 0 transactions" in now.details


def test_forgetting_calls_nothing_back(desk: Desk) -> None:
    """`forget` refuses a transaction that may still be mined, except with `even_if_pending`."""
    with pytest.raises(ChainError):
        desk.outbox(timeout=0.1).send(desk.payer, DATA, to=SAFE)
    name = desk.entries[0].hash
    with pytest.raises(RefusedError, match="can still take effect, and forgetting it does not cancel it"):
        desk.outbox().forget(name)
    desk.outbox().forget(name, even_if_pending=True)
    for act in (desk.outbox().forget, desk.outbox().resume):
        with pytest.raises(UsageError, match="the journal has no transaction 0x"):
            act(name)
    desk.mine()
    assert desk.used == 1


def test_what_fails_in_its_block_is_settled(desk: Desk, pool: ThreadPoolExecutor) -> None:
    """A reverted transaction is reported and removed from the journal."""
    rpc(desk.chain, "anvil_setCode", target := "0x" + "77" * 20, "0x")
    sent = pool.submit(desk.outbox().send, desk.payer, DATA, to=target)
    eventually(lambda: desk.entries)
    rpc(desk.chain, "anvil_setCode", target, "0x60006000fd")
    desk.mine()
    with pytest.raises(RevertedError, match=r"0x[0-9a-f]{64} was reverted in block \d+"):
        sent.result(DEADLINE)
    assert not desk.entries
