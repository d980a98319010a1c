"""The script of the city test (S4.8)."""

from __future__ import annotations

from pathlib import Path

from tests.peers.city.bans import ban_gateway
from tests.peers.city.world import PhaseClock, Report, city

BAN_LIMIT = 1.0
"""Seconds within which a banned gateway must be silent at all validators."""


def run_city(folder: Path, size: int, report: Report) -> dict[str, float]:
    """Run a city of a size from its first host to its last check, and return the figures.

    Raises:
        AssertionError: the city does not do what it must.
    """
    clock = PhaseClock(report)
    with city(folder, size, clock) as world:
        world.open_tunnels()
        clock(f"{len(world.members)} hosts follow the registry with `blockota vpn sync --watch`")

        banned = ban_gateway(world, world.gateways[-1])
        last = banned.silent_after[-1]
        clock(
            f"a banned gateway is silent at {size} of {size} validators {last:.3f} s after the block;"
            f" the others lost {banned.lost} of {banned.sent:,} packets"
        )
        assert last <= BAN_LIMIT, f"the banned gateway was silent only after {last:.3f} s"
        assert banned.lost == 0, f"the other gateways lost {banned.lost} packets"
        world.figures |= {"ban_seconds": last, "lost_packets": banned.lost, "sent_packets": banned.sent}
        figures = world.figures
    clock("all processes ended")
    return {**figures, "seconds": clock.seconds}
