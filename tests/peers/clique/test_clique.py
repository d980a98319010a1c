"""A vendor uses a real proof-of-authority network while sealers stop or are disconnected."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from blockota.errors import ChainError
from tests.chain.test_funds import check_empty_account
from tests.peers.clique.conftest import CliqueConsortium
from tests.peers.clique.network import Sealer
from tests.support.consortium import check_halt_and_resume
from tests.support.waiting import eventually


def grows(sealer: Sealer, *, by: int = 3) -> None:
    """Wait until the chain of a sealer has grown by `by` blocks."""
    target = sealer.head + by
    eventually(lambda: sealer.head >= target, what=f"block {target}")


def test_an_instruction_of_a_later_fork_gets_its_own_sentence(consortium: CliqueConsortium) -> None:
    """On a chain without PUSH0, creating or calling a contract with PUSH0 fails with an error that names PUSH0."""
    chain, payer = consortium.workshop.chain, consortium.workshop.cast.payer
    with pytest.raises(ChainError, match=r"the chain cannot run this contract: .*PUSH0"):
        chain.send(payer, bytes.fromhex("5f5ff3"))  # PUSH0 PUSH0 RETURN
    one_push0 = bytes.fromhex("605f60005360016000f3")  # creates a contract whose code is 5F
    created = chain.send(payer, one_push0).contract
    assert created
    with pytest.raises(ChainError, match=r"the chain cannot run this contract: .*PUSH0"):
        chain.call(created, b"")


def test_an_account_without_coin_is_refused(consortium: CliqueConsortium) -> None:
    """On a network of geth nodes, both BlockOTA's check and the node refuse a payment from an empty account."""
    check_empty_account(consortium.workshop.chain)


def test_the_network_goes_on_without_one_sealer_and_halts_without_two(consortium: CliqueConsortium) -> None:
    """While two of three sealers are stopped, `execute` stops waiting for its transaction.

    `transaction resume` confirms the transaction later.
    """
    first, second, third = consortium.network.sealers

    def restart() -> None:
        second.start()
        consortium.network.connect()
        grows(first, by=1)

    check_halt_and_resume(consortium, third, second, restart=restart)


def test_a_transaction_that_is_reorganised_away_is_confirmed_in_another_block(
    consortium: CliqueConsortium,
) -> None:
    """A transaction in a block that a longer chain replaces is confirmed in another block."""
    first, second, _ = consortium.network.sealers
    file = consortium.propose("1.0.0")
    first.seal(seals=False)
    grows(first)  # a sealer may seal the next block only if it did not seal one of the last (EIP-225)
    consortium.network.cut_off(first)

    with ThreadPoolExecutor() as pool:
        executed = pool.submit(consortium.execute, file)
        eventually(first.pending, what="the transaction")
        first.seal(seals=True)
        eventually(lambda: not first.pending(), what="a block with the transaction")
        alone = first.block(first.head)
        assert alone["transactions"]
        grows(second, by=4)
        assert not executed.done()

        consortium.network.join(first)
        outcome = executed.result()

    assert outcome.status == 0, outcome.err
    assert first.block(int(alone["number"], 16))["hash"] != alone["hash"]
    assert consortium.releases() == ["1.0.0"]
