"""Tests of a follower with an event file: restarts, kills, reorganisations, and files that are refused."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from blockota.chain import Chain
from blockota.chain.event_store import EventStore
from blockota.chain.follow import Follower
from blockota.chain.records import Log
from blockota.errors import BlockOTAError, ChainError, RefusedError, StoreError
from tests.support import forks
from tests.support.networks import fresh_anvil, line_to, rpc
from tests.support.sampling import EXHAUSTIVE, SEED, sampled
from tests.support.scripted_node import CONTRACT, OTHER, ScriptedNode, letters

CHAIN_ID = 4001
KILLED_AT = """
import os, signal, sys
from pathlib import Path
from blockota.chain.event_store import EventStore
from blockota.chain.follow import Follower
from tests.support.scripted_node import CONTRACT, OTHER, ScriptedNode, letters
left = int(sys.argv[1])
def count(frame, event, argument):
    global left
    if not frame.f_code.co_filename.endswith(("follow.py", "event_store.py", "sqlite_file.py")):
        return None
    left -= event == "line"
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return count
sys.settrace(count)
with EventStore.open(Path("events.sqlite"), chain_id=4001) as store:
    node = ScriptedNode("")
    follower = Follower(node, store=store)
    for blocks in sys.argv[2:]:
        node.blocks = blocks
        position = follower.advance()
        follower.events(CONTRACT, OTHER)
        follower.check()
        print(position.block.number, position.reorganised_from, flush=True)
        follower.acknowledge()
"""
"""Python program that follows a chain through several states, and is killed before the n-th line of our code."""
STATES = ("abcd", "abcdef", "abXYZ ", "abXYZ ghij")


def open_store(chain_id: int = CHAIN_ID) -> EventStore:
    """Open the file of events in the current folder."""
    return EventStore.open(Path("events.sqlite"), chain_id=chain_id)


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_restarted_follower_asks_only_for_blocks_that_it_has_not_read() -> None:
    """After a restart, stored events are not requested again, and a read without new blocks requests one block."""
    node = ScriptedNode("abcd")
    for blocks in ("abcd", "abcdef", "abcdef"):
        node.blocks = blocks
        with open_store() as store:
            follower = Follower(node, store=store)
            follower.advance()
            assert letters(follower) == blocks
            assert letters(follower, first_block=3) == blocks[3:]
            node.block_requests = 0
            follower.advance()
            letters(follower)
            assert node.block_requests == 1
    assert node.asked == [(0, 3), (4, 5)]


def test_several_contracts_are_read_with_one_request() -> None:
    """Events of several contracts are returned in chain order, even if a contract is added later."""
    node = ScriptedNode("abcd")
    with open_store() as store:
        follower = Follower(node, store=store)
        follower.advance()
        letters(follower)
        node.blocks = "abcdef"
        follower.advance()
        both = follower.events(CONTRACT, OTHER)
        assert list(both) == node.all_logs((CONTRACT, OTHER), 0, 5)
        assert node.asked == [(0, 3), (4, 5), (0, 5)]
        node.blocks = "abcdefg"
        follower.advance()
        assert follower.events(OTHER, CONTRACT, first_block=6) == tuple(node.all_logs((CONTRACT, OTHER), 6, 6))
        assert node.asked[3:] == [(6, 6)]


def test_an_earlier_first_block_is_read_too() -> None:
    """If the settings are changed to an earlier first block, the events of the added blocks are read."""
    node = ScriptedNode("abcdef")
    for first in (3, 1, 2):
        with open_store() as store:
            follower = Follower(node, store=store, first_block=first)
            follower.advance()
            assert letters(follower, first_block=first) == "abcdef"[first:]
    assert node.asked == [(3, 5), (1, 5)]


def test_a_reorganisation_while_the_follower_did_not_run_is_reported_until_it_is_acknowledged() -> None:
    """A restarted follower refuses a lagging node, and reports a reorganisation until it is acknowledged."""
    with open_store() as store:
        Follower(ScriptedNode("abcd"), store=store).advance()
    with open_store() as store, pytest.raises(ChainError, match="the node is behind"):
        Follower(ScriptedNode("abc"), store=store).advance()
    for _ in range(2):
        with open_store() as store:
            follower = Follower(ScriptedNode("abXdef"), store=store)
            assert follower.advance().reorganised_from == 1
    with open_store() as store:
        follower = Follower(ScriptedNode("abXdef"), store=store)
        follower.acknowledge()
        assert follower.advance().reorganised_from is None


def test_a_long_history_is_read_in_ranges() -> None:
    """The block range of event queries grows up to a limit while the answers contain few events."""
    node = ScriptedNode(" " * 20_000 + "a")
    with open_store() as store:
        follower = Follower(node, store=store)
        follower.advance()
        assert letters(follower) == "a"
    sizes = [last - first + 1 for first, last in node.asked]
    assert (sizes[:4], max(sizes), sum(sizes)) == ([256, 512, 1024, 2048], 8192, 20_001)


@pytest.mark.sampled
@pytest.mark.parametrize("count", sorted({1, 60, *sampled(range(1, 1390), one_in=130)}))
def test_a_follower_that_is_killed_loses_nothing_and_reads_nothing_twice(count: int) -> None:
    """After a kill at any line of its code, a follower has all events once, and reports reorganisations."""
    done = forks.run(["-c", KILLED_AT, str(count), *STATES], folder=Path.cwd())
    assert done.returncode in {-signal.SIGKILL, 0}, done.stderr
    processed = [line.split() for line in done.stdout.splitlines()]
    node = ScriptedNode(STATES[-1])
    with open_store() as store:
        follower = Follower(node, store=store)
        reported = {replaced for _, replaced in processed} | {str(follower.advance().reorganised_from)}
        assert list(follower.events(CONTRACT, OTHER)) == node.all_logs((CONTRACT, OTHER), 0, 99)
    if processed:  # block 1 is the last that the chain's states have in common
        last = int(processed[-1][0]) if len(processed) > 2 else 1
        assert all(first > last for first, _ in node.asked)
        assert reported & {"2", "3"}


@pytest.mark.sampled
def test_random_reorganisations_leave_the_events_of_the_chain() -> None:
    """After each of 1,000 reorganisations, 1 to 8 blocks deep, the stored events equal those of the chain."""
    draw = random.Random(SEED)  # noqa: S311 - a draw that can be repeated
    node, processed = ScriptedNode("abcdefghi"), list[str]()
    store = open_store()
    for _ in range(1000 if EXHAUSTIVE else 60):
        kept = len(node.blocks) - draw.randint(1, 8)
        added = "".join(draw.choices("uvwxyz ", k=len(node.blocks) - kept + draw.randint(0, 3)))
        node.blocks = f"{node.blocks[: max(kept, 1)]}{added}"
        if draw.random() < 0.1:  # a restart
            store.__exit__()
            store = open_store()
        follower = Follower(node, store=store)
        position = follower.advance()
        if position.reorganised_from is not None:
            processed = processed[: position.reorganised_from]
        contracts = draw.sample((CONTRACT, OTHER), draw.randint(1, 2))
        assert list(follower.events(*contracts)) == node.all_logs(contracts, 0, len(node.blocks))
        new = {log.block_number: log.data.decode() for log in follower.events(CONTRACT, first_block=len(processed))}
        processed += [new.get(number, " ") for number in range(len(processed), len(node.blocks))]
        assert "".join(processed) == node.blocks
        follower.check()
        follower.acknowledge()
    store.__exit__()


@pytest.mark.sampled
def test_a_pruned_node_is_followed_through_reorganisations() -> None:
    """After each reorganisation of a pruned anvil node, the stored events equal the result of eth_getLogs."""
    draw = random.Random(SEED)  # noqa: S311 - a draw that can be repeated
    with fresh_anvil("--no-mining", history=16) as chain, line_to(chain) as line, open_store(chain.chain_id) as store:
        emitter = deploy_emitter(chain)
        follower = Follower(Chain(line.url), confirmations=1, store=store)
        transaction = emission(chain, emitter)
        for _ in range(1000 if EXHAUSTIVE else 12):
            for _ in range(draw.randint(1, 9)):
                rpc(chain, "eth_sendTransaction", transaction)
                rpc(chain, "evm_mine")
            depth = draw.randint(1, min(8, chain.head().number - 1))
            offsets = draw.sample(range(depth), draw.randint(0, depth))
            rpc(chain, "anvil_reorg", depth, [[transaction, offset] for offset in sorted(offsets)])
            rpc(chain, "anvil_mine", hex(draw.randint(1, 2)))
            position = follower.advance()
            assert follower.events(emitter) == tuple(chain.logs([emitter], [], to_block=position.block.number))
            follower.check()
            follower.acknowledge()
    assert set(line.requests) == {"eth_chainId", "eth_getBlockByNumber", "eth_getLogs"}


def deploy_emitter(chain: Chain) -> str:
    """Deploy a contract that emits one event in each call: LOG1 with the block number and the topic 0x11."""
    sender = rpc(chain, "eth_accounts")[0]
    code = "0x600c8060093d393df3" + "4360005260116020" + "6000a100"
    transaction = rpc(chain, "eth_sendTransaction", {"from": sender, "data": code})
    rpc(chain, "evm_mine")
    address: str = rpc(chain, "eth_getTransactionReceipt", transaction)["contractAddress"]
    return address


def emission(chain: Chain, emitter: str) -> dict[str, str]:
    """Return a transaction that emits one event."""
    return {"from": rpc(chain, "eth_accounts")[0], "to": emitter, "gas": hex(50_000)}


def test_a_store_is_closed_when_no_thread_uses_it() -> None:
    """`close` waits for a thread that stores events in the file.

    Later calls are refused.
    """
    began, ended = threading.Event(), threading.Event()

    class SlowLogs(list[Log]):
        def __iter__(self) -> Iterator[Log]:
            began.set()
            assert ended.wait(60)
            return super().__iter__()

    store = EventStore()
    writer = threading.Thread(target=store.append, args=([CONTRACT], 0, 1, SlowLogs()))
    writer.start()
    assert began.wait(60)
    closer = threading.Thread(target=store.__exit__)
    closer.start()
    closer.join(0.05)
    assert closer.is_alive()
    ended.set()
    for thread in (writer, closer):
        thread.join(60)
        assert not thread.is_alive()
    with pytest.raises(StoreError, match="closed database"):
        store.blocks()


def test_a_file_of_another_chain_is_refused() -> None:
    """A file with the events of another chain is refused with both chain ids, and is not changed."""
    open_store().__exit__()
    with pytest.raises(RefusedError, match=r"belongs to another chain: .* chain 4001, but the node serves chain 1\."):
        open_store(1)
    open_store().__exit__()


def test_a_file_in_use_is_refused() -> None:
    """While a follower has a file open, a second follower is refused."""
    with open_store(), pytest.raises(RefusedError, match="is in use: another process follows"):
        open_store()


def foreign() -> None:
    """Write a database of another program."""
    with closing(sqlite3.connect("events.sqlite")) as database:
        database.execute("CREATE TABLE followed_chain (chain_id INTEGER)")


def newer() -> None:
    """Write a file of a newer version."""
    open_store().__exit__()
    with closing(sqlite3.connect("events.sqlite")) as database:
        database.execute("PRAGMA user_version = 2")


def truncated() -> None:
    """Write a file of events, and truncate it."""
    fill()
    os.truncate("events.sqlite", Path("events.sqlite").stat().st_size - 4096)


def overwritten() -> None:
    """Write a file of events, and overwrite a page in its middle."""
    fill()
    content = bytearray(Path("events.sqlite").read_bytes())
    middle = len(content) // 8192 * 4096
    content[middle : middle + 4096] = b"\xff" * 4096
    Path("events.sqlite").write_bytes(content)


def senseless() -> None:
    """Write a file that is not a database."""
    Path("events.sqlite").write_text("not a database" * 99)


def folder() -> None:
    """Make a folder with the name of the file."""
    Path("events.sqlite").mkdir()


def fill() -> None:
    """Write a file with many events."""
    with open_store() as store:
        follower = Follower(ScriptedNode("abcd" * 100), store=store)
        follower.advance()
        follower.events(CONTRACT)


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (foreign, RefusedError, "is not a file of events: another program wrote it. Use another file."),
        (newer, RefusedError, "is not a file of events: a newer version of BlockOTA wrote it. Update BlockOTA"),
        (senseless, StoreError, "is damaged: file is not a database"),
        (truncated, StoreError, r"is damaged: .*\. Move the file away; the events are then read from the chain again"),
        (overwritten, StoreError, "is damaged"),
        (folder, StoreError, "events.sqlite cannot be read or written: it is a folder"),
    ],
)
def test_an_unusable_file_is_refused(make: Callable[[], None], error: type[BlockOTAError], text: str) -> None:
    """Damaged files, folders, and files of other programs or newer versions are refused, each with a specific error."""
    make()
    with pytest.raises(error, match=text):
        open_store()
