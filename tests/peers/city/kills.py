"""Kill a validator, a node of the ledger and the cloud in turn, while the sensors go on."""

from __future__ import annotations

from tests.peers.city.services import Services
from tests.support.waiting import eventually


def kill_in_turn(services: Services) -> None:
    """Kill each by SIGKILL, start it again, and wait until readings pass it again."""
    world = services.world
    nodes = world.ledger.network
    for member in (world.validators[0], world.cloud):
        services.kill(member)
        services.start(member)
        await_progress(services)
    nodes.sealers[-1].kill()
    nodes.sealers[-1].start()
    nodes.connect()
    head = nodes.sealers[0].head
    eventually(lambda: nodes.sealers[-1].head > head, what="a new block at the node that was killed")
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
