"""The script of the city test (S4.8)."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.peers.city.bans import ban_gateway
from tests.peers.city.commands import await_command, await_set_aside, write_rule
from tests.peers.city.kills import await_all, kill_in_turn
from tests.peers.city.log_tunnels import read_logs
from tests.peers.city.logs import anchor_warnings, prove_warning
from tests.peers.city.services import Services
from tests.peers.city.trials import refuse_banned, refuse_command, refuse_requests
from tests.peers.city.world import PhaseClock, Report, World, city
from tests.support.waiting import eventually

BAN_LIMIT = 1.0
"""Seconds within which a banned gateway must be silent at all validators."""


def run_city(folder: Path, size: int, report: Report) -> dict[str, float]:
    """Run a city of a size from its first host to its last check, and return the figures.

    Raises:
        AssertionError: a check failed.
    """
    clock = PhaseClock(report)
    with city(folder, size, clock) as world, ThreadPoolExecutor(1) as background:
        services = Services(world)
        registered = background.submit(services.register_devices)
        world.open_tunnels()
        clock(f"{len(world.members)} hosts follow the registry with `blockota vpn sync --watch`")

        _ban(world, clock)
        services.set_up()
        services.prepare_sites()
        # Services that run would read the registry of devices after each registration.
        registered.result()
        clock(f"a registrant, {size} sensors and an actuator registered")
        write_rule(services)
        services.start_all()
        clock(f"the cloud, {size} validators and {size + 1} gateways run")
        services.start_things()
        first = eventually(lambda: all(services.received().values()), what="a reading of each sensor")
        assert first
        clock(f"the weather of {size} of {size} sensors is in the cloud")
        clock(f"a hot sensor switched the actuator behind another gateway: {await_command(services)}")
        _refuse(world, clock)
        clock(f"the cloud reads the logs of {read_logs(world)} gateways and validators through its tunnels")
        for sentence in kill_in_turn(services):
            clock(sentence)
        clock(f"a command to the banned gateway was not sent: {await_set_aside(world)}")
        world.figures["readings"] = await_all(services)
        clock(f"{world.figures['readings']:,} confirmed readings, all of them in the cloud")
        figures = world.figures
    clock("all processes ended")
    return {**figures, "seconds": clock.seconds}


def _ban(world: World, clock: PhaseClock) -> None:
    """Ban the stolen gateway, and check that all validators drop its packets and no others."""
    size = len(world.validators)
    banned = ban_gateway(world, world.stolen)
    last = banned.silent_after[-1]
    clock(
        f"a banned gateway is silent at {size} of {size} validators {last:.3f} s after the block;"
        f" the others lost {banned.lost} of {banned.sent:,} packets"
    )
    assert last <= BAN_LIMIT, f"the banned gateway was silent only after {last:.3f} s"
    assert banned.lost == 0, f"the other gateways lost {banned.lost} packets"
    world.figures |= {"ban_seconds": last, "lost_packets": banned.lost, "sent_packets": banned.sent}


def _refuse(world: World, clock: PhaseClock) -> None:
    """Send requests that must be refused, and anchor the logs with the warnings about them."""
    size = len(world.validators)
    warnings = [*refuse_requests(world), refuse_command(world)]
    clock(
        f"forged, replayed, unknown and another's requests through the tunnels: {size} of {size} validators and a"
        f" gateway refused them, with {len(warnings)} warnings"
    )
    warnings.append(refuse_banned(world))
    clock(f"a gateway was banned: refused with a warning, and {size} of {size} validators closed its tunnel")
    count = anchor_warnings(world, warnings)
    prove_warning(world, warnings[0])
    clock(f"the ledger has the anchors of {count} logs with these warnings; the forged request's one is proven")
