"""The cloud reads the logs of gateways and validators through its tunnels.

Other members cannot read these logs.
"""

from __future__ import annotations

import subprocess

from tests.peers.city.members import DOMAIN, Member
from tests.peers.city.services import LOGS
from tests.peers.city.world import World


def read_logs(world: World) -> int:
    """Check who reaches the logs.

    Returns:
        The number of services whose state and log the cloud reads.
    """
    services = [*world.gateways, *world.validators]
    for one in services:
        assert '"status"' in fetched(world.cloud, one, "/health"), one.uuid
    for validator in world.validators:  # each has the warnings of the requests that it refused
        assert fetched(world.cloud, validator, "/checkpoint").startswith(f"{DOMAIN}/"), validator.uuid
    gateway, validator = world.gateways[0], world.validators[0]
    assert not fetched(validator, gateway, "/health")
    assert not fetched(gateway, validator, "/health")
    return len(services)


def fetched(client: Member, server: Member, path: str) -> str:
    """Return the response of another member's log port to a member; empty if the tunnel drops the request."""
    command = client.host.command("curl", "-s", "-m", "3", f"http://{server.address}:{LOGS}{path}")
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout
