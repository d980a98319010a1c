"""Kill a validator, the cloud, the primary of its database and a node of the ledger in turn; the sensors go on."""

from __future__ import annotations

from tests.peers.city.services import QUANTITY, Services
from tests.peers.city.storage import FailOver
from tests.support.waiting import eventually


def kill_in_turn(services: Services) -> FailOver:
    """Kill each by SIGKILL, and wait until readings of all sensors arrive again.

    All but the primary of the database are started again; its standby takes its place.
    """
    world = services.world
    nodes = world.ledger.network
    for member in (world.validators[0], world.cloud):
        services.kill(member)
        services.start(member)
        await_progress(services)
    outcome = world.storage.fail_over(QUANTITY)
    await_progress(services)
    nodes.sealers[-1].kill()
    nodes.sealers[-1].start()
    nodes.connect()
    head = nodes.sealers[0].head
    eventually(lambda: nodes.sealers[-1].head > head, what="a new block at the node that was killed")
    await_progress(services)
    return outcome


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
