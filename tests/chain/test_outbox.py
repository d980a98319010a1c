"""Transactions on their way: what can happen to them between signing and the last confirmation."""

from __future__ import annotations

import stat
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from eth_account import Account
from eth_account.signers.local import LocalAccount

from blockota.chain import Chain, Receipt, Sending
from blockota.chain.journal import Journal, SentTransaction
from blockota.chain.outbox import TransactionState
from blockota.chain.transaction import SignedTransaction
from blockota.errors import Action, ChainError, RefusedError, RevertedError, UsageError
from tests.support.networks import fresh_anvil, line_to, rpc
from tests.support.samples import SAFE

PATIENCE = 30.0
DATA = b"what it carries"


@pytest.fixture(scope="module")
def slow() -> Iterator[Chain]:
    """A chain that makes a block when it is told to."""
    with fresh_anvil("--no-mining") as chain:
        yield chain


@dataclass(frozen=True)
class Desk:
    """A folder, a chain, and an account that no other test has.

    Attributes:
        chain: makes a block when it is told to.
        payer: the account.
        sending: with a journal in the folder.
    """

    chain: Chain
    payer: LocalAccount
    sending: Sending

    def outbox(self, url: str = "", **changes: object) -> Chain:
        """A new program that sends from here."""
        return Chain(url or self.chain.url, sending=replace(self.sending, **changes))  # type: ignore[arg-type]  # by name

    def start(self, pool: ThreadPoolExecutor, outbox: Chain | None = None, data: bytes = DATA) -> Future[Receipt]:
        """Send something, and come back when the node has it."""
        sent = pool.submit((outbox or self.outbox()).send, self.payer, data, to=SAFE)
        until(lambda: self.chain.count(self.payer.address, with_pending=True) > self.chain.count(self.payer.address))
        return sent

    def mine(self, blocks: int = 1) -> None:
        """Have the chain make blocks."""
        for _ in range(blocks):
            rpc(self.chain, "evm_mine")

    @property
    def entries(self) -> list[SentTransaction]:
        """What the journal holds."""
        return self.outbox().unsettled()

    @property
    def used(self) -> int:
        """How many transactions of the account are in blocks."""
        return self.chain.count(self.payer.address)

    def signed(self, **changes: object) -> SignedTransaction:
        """A transaction that was signed and not sent."""
        market = self.chain.market()
        made = SignedTransaction(b"", 1337, self.used, gas=50_000, fees=market.offer(None), to=SAFE, data=DATA)
        return replace(made, **changes).signed_by(self.payer)  # type: ignore[arg-type]  # by name


@pytest.fixture
def desk(slow: Chain, tmp_path: Path) -> Desk:
    """A desk with a rich account; a little patience, so that a test that hangs ends."""
    payer = Account.create()
    rpc(slow, "anvil_setBalance", payer.address, hex(10**20))
    return Desk(slow, payer, Sending(0, None, tmp_path / "transactions", "blockota test", timeout=PATIENCE, outage=0.3))


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    """Threads to wait in."""
    with ThreadPoolExecutor() as threads:
        yield threads


def until(holds: Callable[[], object]) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_nothing_is_believed_before_its_confirmations(desk: Desk, pool: ThreadPoolExecutor) -> None:
    """The journal keeps a transaction until so many blocks lie above it, and is empty then."""
    outbox = desk.outbox(confirmations=2)
    sent = desk.start(pool, outbox)
    states = []
    for _ in range(3):
        states.append(outbox.locate(desk.entries[0]).state)
        assert not sent.done()
        desk.mine()
    assert states == [TransactionState.WAITING, TransactionState.CONFIRMING, TransactionState.CONFIRMING]
    receipt = sent.result(PATIENCE)
    assert desk.chain.head().number - receipt.block_number == 2
    assert not desk.entries


def test_a_transaction_that_a_reorganisation_drops_is_handed_in_again(desk: Desk, pool: ThreadPoolExecutor) -> None:
    """The same signed bytes get into another block; the account has used one nonce."""
    outbox = desk.outbox(confirmations=2)
    sent = desk.start(pool, outbox)
    desk.mine(2)
    entry = desk.entries[0]
    rpc(desk.chain, "anvil_reorg", 2, [])
    until(lambda: outbox.locate(entry).state is TransactionState.WAITING)
    assert not sent.done()
    desk.mine(3)
    receipt = sent.result(PATIENCE)
    assert f"0x{receipt.transaction.hex()}" == entry.hash
    assert desk.chain.head(receipt.block_number).hash == receipt.block_hash
    assert desk.used == 1


def test_a_receipt_of_a_block_that_is_gone_is_not_believed(desk: Desk, pool: ThreadPoolExecutor) -> None:
    """A node may still give a receipt of a block whose place another one has taken."""
    with line_to(desk.chain) as line:
        outbox = desk.outbox(line.url, confirmations=1, timeout=1)
        sent = desk.start(pool, outbox)
        desk.mine()
        until(lambda: outbox.locate(desk.entries[0]).state is TransactionState.CONFIRMING)
        line.stale = "eth_getTransactionReceipt"
        rpc(desk.chain, "anvil_reorg", 1, [])
        desk.mine()
        with pytest.raises(ChainError, match=r"it is in block \d+, with 1 of 1 confirmations, and that block is gone"):
            sent.result(PATIENCE)
    desk.mine()


def test_a_transaction_that_a_reorganisation_replaces_is_told(desk: Desk, pool: ThreadPoolExecutor) -> None:
    """Where another one took the nonce, the sentence says so; only `forget` lets the command send again."""
    outbox = desk.outbox(confirmations=1)
    other = desk.signed(data=b"something else")
    sent = desk.start(pool, outbox)
    desk.mine()
    rpc(desk.chain, "anvil_reorg", 1, [[f"0x{other.raw.hex()}", 0]])
    desk.mine()
    with pytest.raises(RefusedError, match=r"was replaced, and did nothing: another transaction of .* has its nonce 0"):
        sent.result(PATIENCE)
    with pytest.raises(RefusedError, match=r"did not do the same, forget this one and send again"):
        outbox.send(desk.payer, DATA, to=SAFE)
    outbox.forget(desk.entries[0].hash)
    again = desk.start(pool, outbox)
    desk.mine(2)
    assert again.result(PATIENCE).succeeded
    assert desk.used == 2


def test_a_chain_that_makes_its_own_blocks_is_waited_for(desk: Desk) -> None:
    """With a block a second, two confirmations take two blocks more."""
    with fresh_anvil("--block-time", "1") as chain:
        rpc(chain, "anvil_setBalance", desk.payer.address, hex(10**20))
        receipt = desk.outbox(chain.url, confirmations=2).send(desk.payer, DATA, to=SAFE)
        assert chain.head().number - receipt.block_number >= 2
        assert chain.count(desk.payer.address) == 1


def test_it_is_written_down_before_it_is_sent(desk: Desk, pool: ThreadPoolExecutor) -> None:
    """The file holds the signed bytes, says what they are for, and only its owner reads it."""
    sent = desk.start(pool)
    (path,) = (desk.sending.journal or Path()).rglob("*.json")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    (entry,) = desk.entries
    assert (entry.sender, entry.newest.data, entry.purpose) == (desk.payer.address, DATA, "blockota test")
    assert desk.chain.knows(entry.newest.hash)
    desk.mine()
    assert sent.result(PATIENCE).transaction == entry.newest.hash
    assert not path.exists()


def test_a_journal_that_cannot_be_written_stops_the_sending(desk: Desk, tmp_path: Path) -> None:
    """Nothing leaves that was not written down."""
    (tmp_path / "full").write_text("a file where a folder should be")
    with pytest.raises(RefusedError, match="was not sent, because it cannot be recorded first"):
        desk.outbox(journal=tmp_path / "full").send(desk.payer, DATA, to=SAFE)
    assert desk.chain.count(desk.payer.address, with_pending=True) == 0


def test_a_crash_between_writing_and_sending_sends_once(desk: Desk, pool: ThreadPoolExecutor) -> None:
    """The same command finds the signed bytes and hands them in, and makes no others."""
    signed = desk.signed()
    Journal(desk.sending.journal, 1337).write(SentTransaction((signed,), "it crashed", 5))
    assert desk.outbox().locate(desk.entries[0]).state is TransactionState.LOST
    sent = desk.start(pool)
    desk.mine()
    assert sent.result(PATIENCE).transaction == signed.hash
    assert desk.used == 1


@pytest.mark.parametrize("moment", ["cut_before", "cut_after"])
def test_a_line_that_breaks_at_the_sending(desk: Desk, pool: ThreadPoolExecutor, moment: str) -> None:
    """The error names the transaction and the way on, and the same call goes on with it, whoever has it."""
    with line_to(desk.chain) as line:
        outbox = desk.outbox(line.url)
        setattr(line, moment, "eth_sendRawTransaction")
        with pytest.raises(ChainError, match=r"0x[0-9a-f]{64} was sent and is not confirmed: no chain answers") as cut:
            outbox.send(desk.payer, DATA, to=SAFE)
        (entry,) = desk.entries
        assert (cut.value.action, cut.value.values) == (Action.RESUME_TRANSACTION, {"hash": entry.hash})
        line.mend()
        sent = desk.start(pool, outbox)
        desk.mine()
        assert sent.result(PATIENCE).transaction == entry.newest.hash
    assert desk.used == 1


def test_a_line_that_breaks_for_a_moment_is_borne(desk: Desk, pool: ThreadPoolExecutor) -> None:
    """One lost answer while waiting ends nothing."""
    with line_to(desk.chain) as line:
        sent = desk.start(pool, desk.outbox(line.url, outage=PATIENCE))
        line.cut_after = "eth_getTransactionReceipt"
        until(lambda: line.is_cut)
        line.mend()
        desk.mine()
        assert sent.result(PATIENCE).succeeded


def test_a_line_that_breaks_before_signing_leaves_nothing(desk: Desk) -> None:
    """Where nothing was signed, nothing is in the journal."""
    with line_to(desk.chain) as line:
        outbox = desk.outbox(line.url)
        line.cut_before = "eth_estimateGas"
        with pytest.raises(ChainError, match="no chain answers"):
            outbox.send(desk.payer, DATA, to=SAFE)
    assert not desk.entries


def test_what_no_block_takes_is_told(desk: Desk) -> None:
    """After the time-out the sentence says where it is, and how to go on or offer more."""
    with pytest.raises(ChainError, match=r"the node has it, but no block does; nothing changed in 0 s\. Continue"):
        desk.outbox(timeout=0.2).send(desk.payer, DATA, to=SAFE)
    assert desk.outbox().locate(desk.entries[0]).state is TransactionState.WAITING


def test_another_transaction_waits_for_the_first(desk: Desk, pool: ThreadPoolExecutor) -> None:
    """A second, different one is refused while the first is unsettled, and sent when that is confirmed."""
    with pytest.raises(ChainError):
        desk.outbox(timeout=0.1).send(desk.payer, DATA, to=SAFE)
    with pytest.raises(RefusedError, match=r"earlier transaction .* not settled.*\(blockota test\): the node has it"):
        desk.outbox().send(desk.payer, b"other", to=SAFE)
    desk.mine()
    other = desk.start(pool, data=b"other")
    desk.mine()
    assert other.result(PATIENCE).succeeded
    assert desk.used == 2
    assert not desk.entries


def test_two_programs_that_do_the_same_send_it_once(desk: Desk, pool: ThreadPoolExecutor) -> None:
    """The second waits for the first's lock; it refuses where that takes too long."""
    first = desk.start(pool)
    with pytest.raises(RefusedError, match="another command is sending from the same account"):
        desk.outbox(timeout=0.1).send(desk.payer, DATA, to=SAFE)
    desk.mine()
    assert first.result(PATIENCE).succeeded
    assert desk.used == 1


def test_a_transaction_from_elsewhere_is_not_queued_behind(desk: Desk) -> None:
    """One that the node has and the journal has not may be the same: it is waited for by a person."""
    desk.chain.submit(desk.signed().raw)
    with pytest.raises(RefusedError, match="pending transaction that the journal does not know"):
        desk.outbox().send(desk.payer, DATA, to=SAFE)
    desk.mine()


def test_a_gap_before_a_nonce_is_told(desk: Desk) -> None:
    """After the chain was taken back, a transaction may wait for earlier ones that nobody has."""
    Journal(desk.sending.journal, 1337).write(SentTransaction((desk.signed(nonce=7),), "", 5))
    now = desk.outbox().locate(desk.entries[0])
    assert (now.state, now.is_settled) == (TransactionState.BEHIND, False)
    assert "it has nonce 7, and the chain has 0 transactions" in now.details


def test_forgetting_calls_nothing_back(desk: Desk) -> None:
    """One that can still take effect is forgotten only on demand."""
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
    """A reverted transaction is told and taken out of the journal."""
    rpc(desk.chain, "anvil_setCode", target := "0x" + "77" * 20, "0x")
    sent = pool.submit(desk.outbox().send, desk.payer, DATA, to=target)
    until(lambda: desk.entries)
    rpc(desk.chain, "anvil_setCode", target, "0x60006000fd")
    desk.mine()
    with pytest.raises(RevertedError, match=r"0x[0-9a-f]{64} was reverted in block \d+"):
        sent.result(PATIENCE)
    assert not desk.entries
