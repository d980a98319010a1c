"""Tests of accounts that cannot pay: the error names the account, its balance and the cost, and nothing is sent."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor

import pytest
from eth_account import Account

from blockota.chain import Chain, Sending
from blockota.chain.node import UNFUNDED
from blockota.chain.outbox import TransactionState
from blockota.chain.transaction import Fees, SignedTransaction, cannot_pay
from blockota.errors import Action, ChainError, ContractRefusalError, RefusedError
from tests.chain.test_outbox import Desk, desk, pool, slow
from tests.conftest import Cast, Vendor
from tests.support.networks import method_of, post, refusal, rpc, stand_in
from tests.support.samples import SAFE
from tests.support.waiting import DEADLINE, eventually

__all__ = ["desk", "pool", "slow"]
POOR = 10**9


def check_empty_account(chain: Chain) -> None:
    """Check that a transaction of an empty account is refused, and that the node's own rejection is recognised."""
    payer = Account.create()
    with pytest.raises(RefusedError, match=r"it has 0 of .* units of gas at up to .* gwei can cost 0\.\d+"):
        chain.send(payer, b"", to=SAFE)
    fees = chain.market().offer(None)
    signed = SignedTransaction(b"", chain.chain_id, 0, gas=50_000, fees=fees, to=SAFE, data=b"").signed_by(payer)
    assert UNFUNDED.search(chain.submit(signed.raw))


def test_an_account_without_coin_is_refused_before_anything_is_sent(anvil: Chain) -> None:
    """The error names the account, its balance and the missing amount, for a call and for a contract creation."""
    payer = Account.create()
    for to in (SAFE, None):
        with pytest.raises(RefusedError, match="nothing was sent") as refused:
            anvil.send(payer, b"", to=to)
        error = refused.value
        cost = re.search(
            r"it has 0 of the chain's coin, and [\d,]+ units of gas at up to \S+ gwei can cost (\S+)", error.why
        )
        assert payer.address in error.what
        assert cost
        assert f"at least {cost[1]} to this account" in error.remedy
        assert error.action is Action.USE_KEY


def test_a_call_that_reverts_is_not_blamed_on_the_node(vendor: Vendor) -> None:
    """If an empty account calls `pause` without the right, the error is the contract's, not that of the node."""
    with pytest.raises(ContractRefusalError, match="may not pause the contract"):
        vendor.contract.pause(Account.create())


def test_the_accounts_that_could_not_pay_are_found(vendor: Vendor, cast: Cast) -> None:
    """Accounts with a balance below the cost are reported.

    Contracts without coin are not reported, because contracts send no transactions.
    """
    poor = Account.create().address
    cost, found = vendor.chain.find_poor([poor, cast.broker.address, vendor.safe], b"", to=SAFE)
    assert cost > 0
    assert found == {poor: 0}


def test_the_missing_amount_suffices(anvil: Chain) -> None:
    """An account that receives exactly the missing amount can send the transaction."""
    payer = Account.create()
    chain = Chain(anvil.url, sending=Sending(max_fee=10**10))
    rpc(anvil, "anvil_setBalance", payer.address, hex(POOR))
    with pytest.raises(RefusedError, match="can cost"):
        chain.send(payer, b"", to=SAFE)
    rpc(anvil, "anvil_setBalance", payer.address, hex(chain.find_poor([payer.address], b"", to=SAFE)[0]))
    assert chain.send(payer, b"", to=SAFE).succeeded


@pytest.mark.parametrize(
    "answer",
    ["gas required exceeds allowance (9)", "insufficient funds for transfer", "execution reverted"],
    ids=["geth, a little", "geth, nothing", "a Safe, a little"],
)
def test_a_node_that_estimates_only_what_can_be_paid(desk: Desk, answer: str) -> None:
    """The cost is estimated without fees if the node refuses an estimate with fees for a poor account, as Geth does."""

    def refuse(body: bytes) -> tuple[int, bytes]:
        if method_of(body) == "eth_estimateGas" and b"maxFeePerGas" in body:
            return 200, refusal(answer)
        return 200, post(desk.chain.url, body)

    rpc(desk.chain, "anvil_setBalance", desk.payer.address, hex(POOR))
    with stand_in(refuse) as url, pytest.raises(RefusedError, match=r"it has 0\.000000001 of .* can cost 0\.\d+"):
        desk.outbox(url).send(desk.payer, b"", to=SAFE)


def test_amounts_that_nearly_suffice_never_look_equal() -> None:
    """In an error, the balance is rounded down, and the cost and the missing amount are rounded up."""
    error = cannot_pay(SAFE, 122_000_000_000_000 - 1, gas=61_000, fees=Fees(2 * 10**9, None))
    assert "it has 0.0001219 of" in error.why
    assert "can cost 0.000122" in error.why
    assert "at least 0.000000000000000001 to" in error.remedy
    assert "at least 0.000122 to" in cannot_pay(SAFE, 1, gas=61_000, fees=Fees(2 * 10**9, None)).remedy


@pytest.mark.parametrize(
    ("code", "answer"),
    [
        (-32003, "Insufficient funds for gas * price + value"),  # anvil
        (-32003, "insufficient funds for gas * price + value"),  # ganache
        (-32000, "insufficient funds for gas * price + value: balance 0, tx cost 60, overshot 60"),  # geth
        (-32010, "InsufficientFunds, Account balance: 0, cumulative cost: 60"),  # Nethermind
        (-32004, "Upfront cost exceeds account balance"),  # Besu
    ],
)
def test_a_node_that_rejects_for_lack_of_funds_is_not_blamed(desk: Desk, code: int, answer: str) -> None:
    """If the balance is spent between check and submission, the error reports that the account cannot pay."""

    def spend_then_reject(body: bytes) -> tuple[int, bytes]:
        if method_of(body) != "eth_sendRawTransaction":
            return 200, post(desk.chain.url, body)
        rpc(desk.chain, "anvil_setBalance", desk.payer.address, hex(POOR))
        return 200, refusal(answer, code=code)

    with (
        stand_in(spend_then_reject) as url,
        pytest.raises(RefusedError, match=rf"{desk.payer.address} cannot pay .* it has 0\.000000001 of"),
    ):
        desk.outbox(url).send(desk.payer, b"", to=SAFE)
    assert not desk.entries


@pytest.mark.parametrize("method", ["eth_estimateGas", "eth_sendRawTransaction"])
def test_the_answer_of_a_node_with_another_balance_is_quoted(desk: Desk, method: str) -> None:
    """If a node rejects an account with enough balance, as for queued transactions, the error quotes the node."""
    answer = "insufficient funds for gas * price + value: queued cost 9"

    def reject(body: bytes) -> tuple[int, bytes]:
        if method_of(body) != method:
            return 200, post(desk.chain.url, body)
        return 200, refusal(answer)

    with stand_in(reject) as url, pytest.raises(RefusedError, match=r"it has 100 of .* queued cost 9\. Send coin"):
        desk.outbox(url).send(desk.payer, b"", to=SAFE)
    assert not desk.entries


def test_a_dropped_transaction_without_funds_waits_for_coin(desk: Desk, pool: ThreadPoolExecutor) -> None:
    """A transaction that the node dropped for lack of funds stays in the journal, and is sent again after funding."""
    with pytest.raises(ChainError):
        desk.outbox(timeout=0).send(desk.payer, b"", to=SAFE)
    (entry,) = desk.entries
    rpc(desk.chain, "anvil_dropTransaction", entry.hash)
    rpc(desk.chain, "anvil_setBalance", desk.payer.address, hex(POOR))
    assert desk.outbox().locate(entry).state is TransactionState.UNFUNDED
    with pytest.raises(ChainError, match=r"has 0\.000000001 of .*Send coin to its sender, then continue") as refused:
        desk.outbox().resume(entry.hash)
    assert refused.value.action is Action.RESUME_TRANSACTION

    rpc(desk.chain, "anvil_setBalance", desk.payer.address, hex(10**20))
    sent = pool.submit(desk.outbox().resume, entry.hash)
    eventually(lambda: desk.chain.knows(entry.newest.hash))
    desk.mine()
    assert sent.result(DEADLINE).succeeded


def test_a_higher_offer_needs_coin_too(desk: Desk) -> None:
    """If the account cannot pay a higher fee, the transaction keeps its first fee."""
    with pytest.raises(ChainError):
        desk.outbox(timeout=0).send(desk.payer, b"", to=SAFE)
    (entry,) = desk.entries
    rpc(desk.chain, "anvil_setBalance", desk.payer.address, hex(entry.newest.max_cost))
    with pytest.raises(RefusedError, match="cannot pay"):
        desk.outbox().resume(entry.hash, account=desk.payer)
    assert desk.entries == [entry]
    rpc(desk.chain, "anvil_dropTransaction", entry.hash)
