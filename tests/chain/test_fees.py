"""Tests of transaction fees with and without `max_fee_gwei` and EIP-1559, and of replacing a stuck transaction."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from eth_account import Account
from hypothesis import given
from hypothesis import strategies as st

from blockota.chain import Chain, Sending
from blockota.chain.outbox import TransactionState
from blockota.chain.transaction import GWEI, Fees, Market, SignedTransaction, gwei
from blockota.errors import ChainError, RefusedError, UsageError
from tests.chain.test_outbox import Desk, desk, pool, slow
from tests.conftest import Cast
from tests.support.networks import fresh_anvil, method_of, post, rpc, stand_in
from tests.support.samples import SAFE
from tests.support.waiting import DEADLINE, eventually

__all__ = ["desk", "pool", "slow"]
amounts = st.integers(0, 10**15)


@given(amounts, amounts, amounts)
def test_an_offer_never_passes_the_ceiling(base_fee: int, tip: int, ceiling: int) -> None:
    """A base fee above the maximum fee is refused; otherwise, fee and tip do not exceed the maximum fee."""
    market = Market(base_fee, tip)
    if base_fee > ceiling:
        with pytest.raises(RefusedError, match="the gas price exceeds your limit"):
            market.offer(ceiling)
        return
    fees = market.offer(ceiling)
    assert base_fee <= fees.limit <= ceiling
    assert fees.tip is not None
    assert fees.tip <= fees.limit


@given(amounts, amounts, st.integers(1, 10**15), amounts)
def test_a_higher_offer_is_an_eighth_higher(base_fee: int, tip: int, limit: int, old_tip: int) -> None:
    """A replacement raises fee and tip by at least 12.5 %; if the maximum fee is too low for this, it is refused."""
    before = Fees(limit, min(old_tip, limit))
    raised = Market(base_fee, tip).outbid(before, ceiling=10**16)
    assert raised.tip is not None
    assert before.tip is not None
    assert 8 * raised.limit >= 9 * before.limit
    assert 8 * raised.tip >= 9 * before.tip
    assert raised.tip <= raised.limit
    with pytest.raises(RefusedError, match="nothing was sent"):
        Market(base_fee, tip).outbid(before, ceiling=-(-9 * limit // 8) - 1)


prices = st.integers(0, 10**15)


@given(prices, prices, prices, prices)
def test_without_a_limit_only_usual_prices_are_paid(base_fee: int, tip: int, usual: int, usual_tip: int) -> None:
    """Without `max_fee_gwei`, a base fee above 10 times the median, or a tip above twice the median, is refused.

    A base fee of up to 1 gwei and a tip of up to 3 gwei are accepted, whatever the median is.
    """
    market = Market(base_fee, tip, usual_price=usual, usual_tip=usual_tip)
    highest = max(3 * GWEI, 2 * usual_tip)
    if base_fee > max(GWEI, 10 * usual) or tip > highest:
        with pytest.raises(RefusedError, match="the gas price is unusually high; nothing was sent"):
            market.offer(None)
        return
    fees = market.offer(None)
    assert (fees.limit, fees.tip) == (2 * base_fee + tip, tip)
    with pytest.raises(RefusedError, match="the tip cannot be raised further"):
        market.outbid(Fees(max(fees.limit, highest), highest), ceiling=None)


@given(prices, prices)
def test_without_a_limit_a_gas_price_is_compared_with_the_usual_one(price: int, usual: int) -> None:
    """Without `max_fee_gwei`, a gas price above both 1 gwei and 10 times the median gas price is refused."""
    market = Market(None, price, usual_price=usual)
    if price > max(GWEI, 10 * usual):
        with pytest.raises(RefusedError, match=r"the gas price is \S+ gwei, the median of the last blocks is"):
            market.offer(None)
    else:
        assert market.offer(None) == Fees(price, None)


def test_a_node_that_asks_for_a_fortune_is_refused(anvil: Chain, cast: Cast) -> None:
    """A forged base fee of 900,000 gwei is refused as unusual, or as above `max_cost` if the median is forged too."""

    def forged(*, history: bool) -> Callable[[bytes], tuple[int, bytes]]:
        def answer(body: bytes) -> tuple[int, bytes]:
            reply, method, fortune = json.loads(post(anvil.url, body)), method_of(body), hex(900_000 * GWEI)
            if method == "eth_getBlockByNumber":
                reply[0]["result"]["baseFeePerGas"] = fortune  # the first answer of a batch
            if method == "eth_feeHistory" and history:
                reply["result"] = {"baseFeePerGas": [fortune] * 21, "reward": [[fortune]] * 20}
            return 200, json.dumps(reply).encode()

        return answer

    used = anvil.count(cast.broker.address)
    for history, words in ((False, "gas price is unusually high"), (True, r"can cost more than your limit.*0\.05")):
        with stand_in(forged(history=history)) as url, pytest.raises(RefusedError, match=words) as refused:
            Chain(url).send(cast.broker, b"", to=SAFE)
        assert refused.value.exit_status == 3
    assert anvil.count(cast.broker.address, with_pending=True) == used


def test_a_transaction_may_cost_what_the_settings_allow(anvil: Chain, cast: Cast) -> None:
    """A transaction is refused if its gas limit times its maximum fee exceeds `max_cost`."""
    with pytest.raises(RefusedError, match=r"units of gas at up to \S+ gwei can cost .* coin, and max_cost"):
        Chain(anvil.url, sending=Sending(max_cost=10)).send(cast.broker, b"", to=SAFE)


def test_the_usual_price_is_the_median_of_the_last_blocks(cast: Cast) -> None:
    """Without EIP-1559, the usual price is the median gas price; a single expensive transaction does not raise it."""
    with fresh_anvil("--hardfork", "berlin", "--gas-price", str(2 * GWEI)) as chain:
        assert chain.market().usual_price == 0
        for price in (2, 3, 90):
            rpc(chain, "eth_sendTransaction", {"from": cast.payer.address, "to": SAFE, "gasPrice": hex(price * GWEI)})
        eventually(lambda: chain.count(cast.payer.address) == 3, what="the last transaction's block")
        assert chain.market() == Market(None, 2 * GWEI, usual_price=3 * GWEI)


def test_amounts_are_printed_in_gwei() -> None:
    """`gwei` formats amounts with at most six significant digits and without an exponent."""
    printed = [gwei(amount) for amount in (0, 1, 30 * GWEI, 1_500_000_000, 123_456_789, 10**18)]
    assert printed == ["0", "0.000000001", "30", "1.5", "0.123457", "1000000000"]


def test_a_ceiling_refuses_before_anything_is_signed(anvil: Chain, cast: Cast) -> None:
    """A base fee above `max_fee_gwei` is refused before signing; the error contains both fees and the setting."""
    chain = Chain(anvil.url, sending=Sending(max_fee=1))
    used = anvil.count(cast.broker.address)
    with pytest.raises(RefusedError, match=r"base fee is \S+ gwei, but your max_fee_gwei is 0\.000000001") as refused:
        chain.send(cast.broker, b"", to=SAFE)
    assert "BLOCKOTA_MAX_FEE_GWEI" in refused.value.remedy
    assert refused.value.exit_status == 3
    assert anvil.count(cast.broker.address) == used


def test_a_ceiling_caps_the_offer(anvil: Chain, cast: Cast) -> None:
    """A transaction offers exactly the maximum fee if the usual fee is higher."""
    base_fee = anvil.market().base_fee or 0
    receipt = Chain(anvil.url, sending=Sending(max_fee=base_fee + 1)).send(cast.broker, b"", to=SAFE)
    sent = rpc(anvil, "eth_getTransactionByHash", f"0x{receipt.transaction.hex()}")
    assert int(sent["maxFeePerGas"], 16) == base_fee + 1


@pytest.fixture(scope="module")
def berlin() -> Iterator[Chain]:
    """A chain without EIP-1559."""
    with fresh_anvil("--hardfork", "berlin", "--gas-price", str(2 * GWEI)) as chain:
        yield chain


def test_a_chain_without_eip_1559_gets_a_gas_price(berlin: Chain, cast: Cast) -> None:
    """On a chain without EIP-1559, a legacy transaction with a chain id (EIP-155) is signed and confirmed."""
    assert replace(berlin.market(), usual_price=0) == Market(None, 2 * GWEI)
    receipt = Chain(berlin.url, sending=Sending(max_fee=2 * GWEI)).send(cast.broker, b"data", to=SAFE)
    sent = rpc(berlin, "eth_getTransactionByHash", f"0x{receipt.transaction.hex()}")
    assert (int(sent["type"], 16), int(sent["gasPrice"], 16), int(sent["chainId"], 16)) == (0, 2 * GWEI, 1337)


def test_the_ceiling_applies_to_a_gas_price(berlin: Chain, cast: Cast) -> None:
    """On a chain without EIP-1559, a gas price above `max_fee_gwei` is refused."""
    with pytest.raises(RefusedError, match="the chain's gas price is 2 gwei, but your max_fee_gwei is 1"):
        Chain(berlin.url, sending=Sending(max_fee=GWEI)).send(cast.broker, b"", to=SAFE)


@pytest.fixture
def stuck(desk: Desk) -> Iterator[Desk]:
    """An account whose pending transaction offers less than the base fee."""
    ceiling = 2 * (desk.chain.market().base_fee or 0)
    with pytest.raises(ChainError):
        desk.outbox(max_fee=ceiling, timeout=0).send(desk.payer, b"stuck", to=SAFE)
    before = desk.chain.market().base_fee or 0
    rpc(desk.chain, "anvil_setNextBlockBaseFeePerGas", hex(100 * GWEI))
    desk.mine()
    yield replace(desk, sending=replace(desk.sending, max_fee=ceiling))
    rpc(desk.chain, "anvil_setNextBlockBaseFeePerGas", hex(before))
    desk.mine()


def test_an_offer_that_is_too_low_is_reported(stuck: Desk) -> None:
    """The error for a pending transaction with a too low fee contains both fees; `max_fee` limits its replacement."""
    now = stuck.outbox().locate(stuck.entries[0])
    assert now.state is TransactionState.UNDERPAID
    with pytest.raises(ChainError, match=r"offers \S+ gwei .* asks for \S+; .*raise the fee of the same"):
        stuck.outbox(timeout=0).send(stuck.payer, b"stuck", to=SAFE)
    with pytest.raises(RefusedError, match="the gas price exceeds your limit"):
        stuck.outbox().resume(stuck.entries[0].hash, account=stuck.payer)
    assert len(stuck.entries[0].attempts) == 1


def newest_after(stuck: Desk, first: SignedTransaction) -> SignedTransaction:
    """Wait until the node has a replacement of the first transaction, and return the replacement."""
    eventually(
        lambda: stuck.entries and stuck.entries[0].newest != first and stuck.chain.knows(stuck.entries[0].newest.hash)
    )
    return stuck.entries[0].newest


def test_the_same_command_under_a_higher_ceiling_offers_more(stuck: Desk, pool: ThreadPoolExecutor) -> None:
    """A repeated command with a higher maximum fee replaces its stuck transaction, and the replacement is mined."""
    first = stuck.entries[0].newest
    sent = pool.submit(stuck.outbox(max_fee=1000 * GWEI).send, stuck.payer, b"stuck", to=SAFE)
    second = newest_after(stuck, first)
    assert (second.nonce, second.data, second.to) == (first.nonce, first.data, first.to)
    stuck.mine()
    assert sent.result(DEADLINE).transaction == second.hash
    assert stuck.used == 1
    assert not stuck.entries


def test_a_transaction_is_resumed_by_its_first_hash(stuck: Desk, pool: ThreadPoolExecutor) -> None:
    """With the sender's key, `resume` replaces a transaction at a higher fee; another account's key is refused."""
    first = stuck.entries[0].newest
    name = f"0x{first.hash.hex()}"
    stranger = Account.create()
    with pytest.raises(UsageError, match=f"the key does not belong to {stuck.payer.address}: its account is 0x"):
        stuck.outbox(max_fee=1000 * GWEI).resume(name, account=stranger)
    resumed = pool.submit(stuck.outbox(max_fee=1000 * GWEI).resume, name, account=stuck.payer)
    second = newest_after(stuck, first)
    stuck.mine()
    assert resumed.result(DEADLINE).transaction == second.hash
    assert stuck.used == 1
