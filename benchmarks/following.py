"""Measure a chain follower that stores 50,000 events: ``python -m benchmarks.following [--json]``.

The chain has 50,000 events in 500 blocks. Each event has two indexed arguments and 96 bytes of data.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Iterator

from benchmarks.chains import local_chain
from benchmarks.figure import Figure, folder_on_disk, options, report, seconds_of
from blockota.chain import Chain
from blockota.chain.event_store import EventStore
from blockota.chain.follow import Follower
from blockota.keys import dev_account

BLOCKS = 500
EVENTS_OF_A_BLOCK = 100
RUNS, POLLS = 5, 50
_CREATION = bytes.fromhex("60158060093d393df3 60645b803360aa60606000a3600190038060025700")
"""Creates a contract whose calls emit 100 events: LOG3 with the topics 0xaa, caller and counter."""


def figures() -> Iterator[Figure]:
    """Yield the seconds to read all events for the first time, and the milliseconds of a read without new blocks."""
    with local_chain() as chain, folder_on_disk() as folder:
        contract = emit_events(chain)
        cold, polls = list[float](), list[float]()
        for run in range(RUNS + 1):
            with EventStore.open(folder / f"{run}.sqlite", chain_id=chain.chain_id) as store:
                follower = Follower(chain, store=store)
                cold.append(seconds_of(lambda: read(follower, contract, first_block=0)))  # noqa: B023 - called at once
                polls += [1000 * seconds_of(lambda: read(follower, contract)) for _ in range(POLLS)]  # noqa: B023

    events = BLOCKS * EVENTS_OF_A_BLOCK
    times = "A reading requests the blocks, the events and their check, and stores the events in SQLite."
    runs = tuple(cold[1:])  # the first run is a warm-up
    yield Figure(f"first reading of {events:,} events", statistics.median(runs), "s", 1.0, times=times, runs=runs)
    yield Figure("reading without new blocks", statistics.median(polls), "ms", 5.0, runs=tuple(polls))


def read(follower: Follower, contract: str, *, first_block: int | None = None) -> None:
    """Read the events since `first_block`, or by default the events of new blocks, as a gateway does."""
    position = follower.advance()
    follower.events(contract, first_block=position.block.number + 1 if first_block is None else first_block)
    follower.check()
    follower.acknowledge()


def emit_events(chain: Chain) -> str:
    """Deploy a contract, emit all events, and return the contract's address."""
    payer = dev_account(0)
    contract = chain.send(payer, _CREATION).contract
    if contract is None:
        raise AssertionError("the contract was not created")
    for _ in range(BLOCKS):
        chain.send(payer, b"", to=contract)
    return contract


if __name__ == "__main__":
    options(__doc__, has_quick=False)
    sys.exit(report(figures()))
