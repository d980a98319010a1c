"""Tests of the follower: it reads each event of confirmed blocks once, even after a reorganisation."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blockota.bindings.block_ota import BlockOTAContract, pair_call
from blockota.chain.event_store import EventStore
from blockota.chain.follow import Follower
from blockota.errors import ChainError
from tests.conftest import Cast
from tests.support.networks import fresh_anvil, rpc
from tests.support.samples import PRODUCT
from tests.support.scripted_node import CONTRACT, ScriptedNode, letters


@pytest.mark.parametrize(("confirmations", "confirmed", "seen"), [(0, 5, "abcdef"), (2, 3, "abcd"), (5, 0, "a")])
def test_events_are_read_up_to_the_confirmed_block(confirmations: int, confirmed: int, seen: str) -> None:
    """Events are read up to the confirmed block; `advance` returns the confirmed block and the newest block."""
    follower = Follower(ScriptedNode("abcdef"), confirmations=confirmations)
    position = follower.advance()
    assert (position.block.number, position.newest.number, position.reorganised_from) == (confirmed, 5, None)
    assert letters(follower) == seen
    follower.check()


def test_a_block_is_read_once() -> None:
    """A request for events begins at the first unread block; if all blocks were read, no request is sent."""
    node = ScriptedNode("abcd")
    follower = Follower(node, first_block=1)
    for blocks in ("abcd", "abcd", "abcdef"):
        node.blocks = blocks
        follower.advance()
        assert letters(follower) == blocks[1:]
    assert node.asked == [(1, 3), (4, 5)]


def test_a_reorganisation_drops_what_was_read_from_it_on() -> None:
    """A reorganisation drops the events of the removed blocks; earlier blocks are not read again."""
    node = ScriptedNode("ab")
    follower = Follower(node)
    for blocks in ("ab", "abcd", "abcdef"):
        node.blocks = blocks
        follower.advance()
        letters(follower)
    node.blocks, node.asked = "abcdXYZ", []
    assert follower.advance().reorganised_from == 4  # blocks 0, 1, 3 and 5 are known; block 3 was not replaced
    assert (letters(follower), node.asked) == ("abcdXYZ", [(4, 6)])
    assert follower.advance().reorganised_from == 4  # the caller has not acknowledged it
    follower.acknowledge()
    assert follower.advance().reorganised_from is None


def test_a_restarted_chain_may_be_shorter() -> None:
    """If the genesis block differs, the follower reports a reorganisation from block 0 instead of a lagging node."""
    node = ScriptedNode("abcdef")
    store = EventStore()
    follower = Follower(node, store=store)
    follower.advance()
    letters(follower)
    node.blocks = "XY"
    assert follower.advance().reorganised_from == 0
    assert (letters(follower), list(store.blocks())) == ("XY", [0, 1])


def test_a_lagging_node_is_refused() -> None:
    """A node without a confirmed block raises an error, and the follower continues when the node has caught up."""
    node = ScriptedNode("abcdef")
    follower = Follower(node, confirmations=1)
    follower.advance()
    letters(follower)
    node.visible = 4
    with pytest.raises(ChainError, match=r"the node is behind: block 4 was confirmed before.* only block 2"):
        follower.advance()
    node.visible = None
    assert follower.advance().reorganised_from is None
    assert (letters(follower), len(node.asked)) == ("abcde", 1)


def test_a_reorganisation_during_the_reading_is_reported() -> None:
    """If the confirmed block is replaced, `check` raises an error, and the events of the block are read again."""
    node = ScriptedNode("abcd")
    follower = Follower(node)
    follower.advance()
    letters(follower)
    node.blocks = "abcdeX"
    follower.advance()
    letters(follower)
    node.blocks = "abcdef"
    with pytest.raises(ChainError, match="reorganised while it was read"):
        follower.check()
    follower.advance()
    assert letters(follower) == "abcdef"
    follower.check()
    assert node.asked == [(0, 3), (4, 5), (5, 5)]  # block 4 was not replaced


def test_events_that_the_node_does_not_keep_are_asked_for_again() -> None:
    """If a request for events fails, earlier events are kept, and the next call requests the same blocks again."""
    node = ScriptedNode("abcd")
    follower = Follower(node)
    follower.advance()
    letters(follower)
    node.blocks, node.has_logs = "abcdef", False
    follower.advance()
    with pytest.raises(ChainError, match="no history"):
        follower.events(CONTRACT)
    node.has_logs = True
    assert (letters(follower), node.asked) == ("abcdef", [(0, 3), (4, 5)])


def test_events_of_blocks_not_asked_for_are_refused() -> None:
    """A response with events outside the requested blocks raises an error, because events could be counted twice."""
    node = ScriptedNode("ab", is_careless=True)
    follower = Follower(node)
    follower.advance()
    letters(follower)
    node.blocks = "abc"
    follower.advance()
    with pytest.raises(ChainError, match="sent events that were not requested"):
        follower.events(CONTRACT)


def test_the_newest_event_is_checked_in_any_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Events are refused if the node sends the newest event first and this event's block was replaced."""
    node, sent = ScriptedNode("abc"), ScriptedNode("abX").all_logs((CONTRACT,), 0, 2)
    follower = Follower(node)
    follower.advance()
    monkeypatch.setattr(node, "logs", lambda *_, **__: sent[::-1])
    with pytest.raises(ChainError, match="reorganised"):
        follower.events(CONTRACT)


def test_a_contract_newer_than_the_confirmed_block_is_waited_for() -> None:
    """If the contract's first block is not confirmed yet, the error contains both blocks and the confirmations."""
    follower = Follower(ScriptedNode("abcdef"), confirmations=3, first_block=3)
    with pytest.raises(
        ChainError, match=r"first block is 3, the newest block is 5, and a block is confirmed when 3 blocks follow it"
    ):
        follower.advance()


def test_the_oldest_known_blocks_are_forgotten() -> None:
    """A follower keeps at most 1024 known blocks: the newest blocks and the chain's first block."""
    node = ScriptedNode("a")
    store = EventStore()
    follower = Follower(node, store=store)
    for _ in range(1100):
        node.blocks += "b"
        follower.advance()
    numbers = list(store.blocks())
    assert (len(numbers), numbers[:2], numbers[-1]) == (1024, [0, 1100 - 1022], 1100)


@given(st.lists(st.tuples(st.integers(0, 12), st.text("xyz", max_size=6)), max_size=12), st.integers(0, 3))
def test_any_history_leaves_the_events_of_the_present_chain(
    rewrites: list[tuple[int, str]], confirmations: int
) -> None:
    """After any sequence of reorganisations, the follower has the events of the present chain's confirmed blocks."""
    node = ScriptedNode("abcdef")
    follower = Follower(node, confirmations=confirmations)
    for kept, added in rewrites:
        node.blocks = f"{node.blocks[: max(kept, 1)]}{added}"
        try:
            follower.advance()
        except ChainError:
            continue
        assert letters(follower) == node.blocks[: len(node.blocks) - confirmations]


def test_a_real_node_is_followed_through_a_reorganisation(cast: Cast) -> None:
    """After a reorganisation on a real anvil node, the follower drops the pairing event of the removed block."""
    with fresh_anvil() as chain:
        contract, receipt = BlockOTAContract.deploy(chain, cast.payer, owner=cast.payer.address)
        follower = Follower(chain, confirmations=1, first_block=receipt.block_number)
        rpc(chain, "anvil_mine", hex(3))
        follower.advance()
        before = follower.events(contract.address)
        chain.send(cast.payer, pair_call(PRODUCT), to=contract.address)
        rpc(chain, "anvil_mine", hex(2))
        follower.advance()
        assert len(follower.events(contract.address)) == len(before) + 1
        rpc(chain, "anvil_reorg", 3, [])
        rpc(chain, "anvil_mine", hex(1))
        assert follower.advance().reorganised_from is not None
        assert follower.events(contract.address) == before
        follower.check()
