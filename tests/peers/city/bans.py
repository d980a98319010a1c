"""Ban a gateway while all tunnels carry packets, and measure when each validator stops answering the gateway."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from tests.peers.city.ledger import watched_blocks
from tests.peers.city.members import Member
from tests.peers.city.world import World, end_all
from tests.support import forks
from tests.support.waiting import eventually

_SECONDS = 0.2
"""Seconds between two packets in a tunnel."""
_SECONDS_OF_BANNED = 0.02
"""Seconds between two packets of the banned gateway, so that its last answer is known exactly."""
_QUIET = 2.0
"""Seconds without an answer after which the banned gateway counts as silent."""


@dataclass(frozen=True)
class BanOutcome:
    """What a ban did.

    Attributes:
        silent_after: for each validator, the seconds from the ban's block to the last answer to the banned gateway.
        sent: the number of packets of the other gateways.
        lost: the number of packets of the other gateways that were not answered.
        longest: the longest response time of a packet of the other gateways, in seconds.
    """

    silent_after: Sequence[float]
    sent: int
    lost: int
    longest: float


@contextmanager
def pinging(member: Member, others: Sequence[Member], interval: float) -> Iterator[forks.Process]:
    """Ping other members from the host of a member."""
    words = [str(interval), *(str(one.address) for one in others)]
    with member.run_module("tests.peers.city.pinger", *words) as process:
        yield process


def ban_gateway(world: World, banned: Member) -> BanOutcome:
    """Ban a stolen gateway, which does not close its tunnels and continues to send."""
    with ExitStack() as stack:
        blocks = stack.enter_context(watched_blocks(world.ledger.networks.city_urls))
        pings = {
            one.number: stack.enter_context(
                pinging(one, world.validators, _SECONDS_OF_BANNED if one is banned else _SECONDS)
            )
            for one in (*world.gateways, banned)
        }
        for process in pings.values():
            assert process.stdout.readline() == "ready\n", process.errors

        world.tunnels[banned.number].send_signal(signal.SIGSTOP)
        block = world.ledger.ban(banned)
        eventually(lambda: block in blocks.found, what=f"block {block}")
        world.stack.callback(world.tunnels[banned.number].send_signal, signal.SIGCONT)
        eventually(lambda: time.monotonic() > blocks.found[block] + _QUIET, what="the end of the measurement")
        outputs = end_all(list(pings.values()))

    counts = {number: json.loads(out) for number, out in zip(pings, outputs, strict=True)}
    silent = [one["last"] - blocks.found[block] for one in counts[banned.number].values()]
    kept = [one for member in world.gateways for one in counts[member.number].values()]
    return BanOutcome(
        silent_after=sorted(silent),
        sent=sum(one["sent"] for one in kept),
        lost=sum(one["sent"] - one["received"] for one in kept),
        longest=max((one["longest"] for one in kept), default=0.0),
    )
