"""Test a validator's rule: a hot sensor switches an actuator behind another gateway, through the tunnels."""

from __future__ import annotations

import json

from tests.peers.city.services import COMMAND, QUANTITY, Services
from tests.peers.city.world import World
from tests.support.waiting import eventually

_RULES = """
commands = ["{command}"]

[[rule]]
name = "cool"
thing = {sensor}
reading = "{quantity}"
comparison = ">"
limit = 1
target = "{gateway}"
device = {actuator}
command = "{command}"
arguments = {{ on = true }}
"""


def write_rule(services: Services) -> None:
    """Write the rule of the first validator, which reads the sensor of the first gateway."""
    world, devices = services.world, services.devices
    sensor, actuator = devices[world.gateways[0].number], devices[world.captured.number]
    text = _RULES.format(
        command=COMMAND, sensor=sensor, quantity=QUANTITY, gateway=world.captured.uuid, actuator=actuator
    )
    (world.validators[0].folder / "validator.toml").write_text(text)


def await_command(services: Services) -> str:
    """Wait until the cloud has the outcome of the command, and check what the actuator received. Returns the outcome.

    The outcome is a reading of the actuator, which its gateway signs. The command therefore reached this gateway and
    the actuator through the tunnel, and its outcome reached the cloud.
    """
    world = services.world
    actuator = services.devices[world.captured.number]
    eventually(lambda: world.storage.outcomes(actuator), what="the outcome of the command in the cloud")
    [outcome] = world.storage.outcomes(actuator)
    assert outcome == "done"
    command = json.loads(services.things[world.captured.number].stdout.readline())
    assert command == {"name": COMMAND, "arguments": {"on": True}}
    return outcome


def await_set_aside(world: World) -> str:
    """Wait until the validator discards a command to the banned gateway. Returns the reason.

    The validator was killed after the ban. The validator stores the state of a rule only in memory, so the rule fires
    again after the kill.
    """
    validator, target = world.validators[0], str(world.captured.uuid)

    def reasons() -> list[str]:
        with validator.run("validator", "status", "--json") as process:
            out, errors = process.communicate()
        assert process.returncode == 0, errors
        return [one["why"] for one in json.loads(out)["refused"] if one["receiver"] == target]

    reason = eventually(reasons, what="a command that is set aside")[0]
    assert "banned" in reason, reason
    return reason
