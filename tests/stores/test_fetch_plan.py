"""A fetch plan completes valid trees in any order of blocks, and refuses unreasonable trees."""

from __future__ import annotations

import io
import random
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blockota.errors import ContentError
from blockota.formats.cid import CID, RAW, Block
from blockota.stores.fetch import FileDestination
from blockota.stores.fetch_plan import FetchPlan
from tests.support.car_samples import Tree, balanced, leaf, node

AT_ONCE = 0.0
leaf_lists = st.lists(st.sampled_from([b"a", b"bb", b"\xff" * 9]) | st.binary(min_size=1, max_size=9), min_size=1)


def plan_of(tree: Tree, file: io.BytesIO) -> FetchPlan:
    """Return the plan of a tree whose bytes are written to a file."""
    return FetchPlan(tree.root, size=len(tree.data), destination=FileDestination(file))


def carry_out(tree: Tree) -> bytes:
    """Take one block after another from a plan, as a single source does, and return the file."""
    file = io.BytesIO()
    plan = plan_of(tree, file)
    while (cid := plan.take("alice", duplicate_after=AT_ONCE)) is not None:
        plan.arrived(Block(cid, tree.blocks[cid]))
    assert plan.is_whole
    assert plan.placed == len(tree.data)
    return file.getvalue()


@settings(max_examples=200, deadline=None)
@given(leaves=leaf_lists, width=st.integers(2, 4))
def test_any_tree_comes_whole(leaves: list[bytes], width: int) -> None:
    """Trees with repeated leaves and subtrees at any depth are fetched completely."""
    tree = balanced(leaves, width=width)
    assert carry_out(tree) == tree.data


def test_a_subtree_that_is_met_again_at_another_depth_comes_whole() -> None:
    """A file becomes complete even if a subtree whose leaves have arrived occurs again at another depth."""
    pair = node([leaf(b"one"), leaf(b"two")])
    deeper = node([node([pair]), leaf(b"three")])
    tree = node([pair, deeper, deeper, leaf(b"one")])
    assert carry_out(tree) == tree.data


@settings(max_examples=100, deadline=None)
@given(leaves=leaf_lists, seed=st.integers(0, 99))
def test_blocks_may_arrive_in_any_order(leaves: list[bytes], seed: int) -> None:
    """A file is complete even if sources fail, or deliver blocks in any order or twice."""
    tree, file, chance = balanced(leaves, width=3), io.BytesIO(), random.Random(seed)  # noqa: S311 - order, not secrets
    plan, asked = plan_of(tree, file), list[tuple[str, CID]]()
    while not plan.is_whole:
        asker = chance.choice("abc")
        if all(name != asker for name, _ in asked) and (cid := plan.take(asker, duplicate_after=AT_ONCE)) is not None:
            asked.append((asker, cid))
        asker, cid = asked.pop(chance.randrange(len(asked)))
        if chance.random() < 0.3:
            plan.give_back(asker)
        else:
            plan.arrived(Block(cid, tree.blocks[cid]))
    assert file.getvalue() == tree.data


def test_what_another_was_asked_for_is_left_to_it_for_a_while() -> None:
    """If a source is slow, its block is also requested from another source, and the first response is used."""
    tree = leaf(b"only")
    clock = iter((0.0, 0.1, 98.9, 99.1))
    destination = FileDestination(io.BytesIO())
    plan = FetchPlan(tree.root, size=len(tree.data), destination=destination, clock=lambda: next(clock))
    assert plan.take("slow", duplicate_after=99) == tree.root
    assert plan.take("quick", duplicate_after=99) == tree.root
    assert list(clock) == []
    assert plan.arrived(Block(tree.root, tree.data))
    assert not plan.arrived(Block(tree.root, tree.data))
    assert plan.take("slow", duplicate_after=99) is None


def test_waiting_threads_are_released_at_the_end() -> None:
    """A thread that waits for a block is released when the fetch is stopped."""
    tree = leaf(b"only")
    plan = plan_of(tree, io.BytesIO())
    plan.take("first", duplicate_after=9)
    found: list[CID | None] = []
    waiting = threading.Thread(target=lambda: found.append(plan.take("second", duplicate_after=9)))
    waiting.start()
    plan.stop()
    waiting.join(60)
    assert found == [None]
    assert not plan.is_whole


def test_a_root_of_another_size_is_refused() -> None:
    """A root block that states another file size is refused before a child is requested."""
    tree = balanced([b"one", b"two"], width=2)
    plan = FetchPlan(tree.root, size=7, destination=FileDestination(io.BytesIO()))
    with pytest.raises(ContentError, match="has 6 bytes, and its parent records 7"):
        plan.arrived(Block(tree.root, tree.blocks[tree.root]))


def test_a_leaf_whose_size_differs_from_its_parent_s_entry_is_refused() -> None:
    """A leaf is refused if its size differs from the size in its parent."""
    child = leaf(b"four")
    lying = Tree(child.root, child.blocks, child.order, b"sixsix")
    tree = node([lying])
    plan = FetchPlan(tree.root, size=6, destination=FileDestination(io.BytesIO()))
    plan.arrived(Block(tree.root, tree.blocks[tree.root]))
    with pytest.raises(ContentError, match="has 4 bytes, and its parent records 6"):
        plan.arrived(Block(child.root, b"four"))


def test_a_tree_of_nothing_but_links_is_refused() -> None:
    """A tree with a million leaves of one byte is refused, because a few small blocks can describe it."""
    tree = leaf(b"\xff")
    for _ in range(3):
        tree = node([tree] * 100)
    with pytest.raises(ContentError, match="has smaller pieces, than any image needs"):
        carry_out(tree)


def test_too_deep_a_tree_is_refused() -> None:
    """A tree of eight levels with one child each is accepted, and a tree of nine levels is refused."""
    tree = leaf(b"deep")
    for _ in range(8):
        tree = node([tree])
    assert carry_out(tree) == b"deep"
    with pytest.raises(ContentError, match="deeper"):
        carry_out(node([tree]))


def test_the_first_error_is_kept() -> None:
    """A plan reports the first error, and ignores later errors."""
    plan = plan_of(leaf(b"only"), io.BytesIO())
    first, second = ContentError("first"), ContentError("second")
    plan.stop(first)
    plan.stop(second)
    assert plan.error is first
    assert not plan.is_whole


def test_a_corrupt_block_that_is_kept_is_not_taken() -> None:
    """If a block that is read back from the destination file is corrupt, the block is not used."""

    class Rotten(FileDestination):
        """A destination file that returns other bytes than were written."""

        def kept(self, cid: CID) -> bytes | None:
            """Return wrong bytes."""
            return b"rotten" if cid.codec == RAW else None

    plan = FetchPlan(leaf(b"only").root, size=4, destination=Rotten(io.BytesIO()))
    plan.take_kept()
    assert plan.is_untouched
