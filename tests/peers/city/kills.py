"""Kill a validator, the cloud, the database's primary and a ledger node in turn, while the sensors continue."""

from __future__ import annotations

from collections.abc import Iterator

from tests.peers.city.members import Member
from tests.peers.city.services import QUANTITY, Services
from tests.support.waiting import eventually


def kill_in_turn(services: Services) -> Iterator[str]:
    """Kill each process by SIGKILL, wait for new readings of all sensors, and yield a sentence about the kill.

    The database's primary is replaced by its standby; all other processes are started again.
    """
    world = services.world
    _restart(services, world.validators[0])
    yield "a validator was killed, and started again"
    _restart(services, world.cloud)
    yield "the cloud was killed, and started again"

    outcome = world.storage.fail_over(QUANTITY)
    world.figures["fail_over_seconds"] = outcome.seconds
    await_progress(services)
    yield (
        f"the primary of the database was killed: the promoted standby has all of its {outcome.kept:,} readings,"
        f" and the cloud wrote there after {outcome.seconds:.1f} s"
    )

    nodes = world.ledger.network
    nodes.sealers[-1].kill()
    nodes.sealers[-1].start()
    nodes.connect()
    head = nodes.sealers[0].head
    eventually(lambda: nodes.sealers[-1].head > head, what="a new block at the node that was killed")
    await_progress(services)
    yield "a node of the ledger was killed, and started again"


def _restart(services: Services, member: Member) -> None:
    services.kill(member)
    services.start(member)
    await_progress(services)


def await_progress(services: Services) -> None:
    """Wait until the cloud has a new reading of each sensor."""
    before = {thing: len(values) for thing, values in services.received().items()}
    eventually(
        lambda: all(len(values) > before[thing] for thing, values in services.received().items()),
        what="new readings of all sensors in the cloud",
    )


def await_all(services: Services) -> int:
    """Stop the sensors, wait until the cloud has each confirmed value, and return the number of values."""
    confirmed = services.stop_sensors()
    wanted = {thing: {float(value) for value in range(count)} for thing, count in confirmed.items()}
    eventually(
        lambda: all(wanted[thing] <= values for thing, values in services.received().items()),
        what="all confirmed readings in the cloud",
    )
    return sum(confirmed.values())
