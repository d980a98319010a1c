"""Ask announced replicas for random blocks: who serves, who lies, who is gone.

A replica that does not hold the image cannot answer for a block that it did not expect. Every block is compared with
its address, and the way from the root to a leaf shows that the leaf belongs to the release.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import StrEnum

from blockota.errors import ContentError
from blockota.formats.car import largest_block
from blockota.formats.cid import CID, RAW, read_links
from blockota.model.agreement import Agreement
from blockota.model.release import Release
from blockota.stores.gateway import TrustlessClient
from blockota.stores.search import Candidate, announced
from blockota.stores.source import NO_CREDENTIALS, Credentials, Limits, Source, SourceError, Verdict

_AT_ONCE = 8
PROBE_SECONDS = 30.0
"""How long one replica is asked at most: one that drips is as good as gone."""
_MAX_DEPTH = 8


class ProbeStatus(StrEnum):
    """What a probe found."""

    SERVES = "serves"
    LIES = "lies"
    GONE = "gone"


@dataclass(frozen=True)
class Probe:
    """What one replica did.

    Attributes:
        agreement: whose replica.
        status: the result.
        blocks: how many good blocks it gave.
        seconds: how long that took.
        block: the block that was asked for last; where it lied, the one that it lied with.
        why: the reason, where it does not serve.
    """

    agreement: Agreement
    status: ProbeStatus
    blocks: int
    seconds: float
    block: CID
    why: str = ""


@dataclass(frozen=True)
class Challenge:
    """How replicas are asked.

    Attributes:
        randbelow: gives a random number from 0 to below its argument.
        clock: seconds that only rise.
        leaves: how many random leaves each is asked for, besides the root.
        allow_private: whether a URL may lead to this machine or a private network.
        credentials: the tokens of replicas that want one.
        limits: what a replica may cost.
    """

    randbelow: Callable[[int], int]
    clock: Callable[[], float]
    leaves: int = 3
    allow_private: bool = False
    credentials: Credentials = NO_CREDENTIALS
    limits: Limits = field(default_factory=lambda: Limits(total=PROBE_SECONDS))


def probe_all(replicas: Sequence[tuple[Agreement, Release]], challenge: Challenge) -> list[Probe]:
    """Ask every replica, some at once; the probes come in the order of the replicas."""
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(lambda one: probe(*one, challenge=challenge), replicas))


def probe(agreement: Agreement, release: Release, *, challenge: Challenge) -> Probe:
    """Ask one replica for the release's root and for random leaves below it."""
    began, walk = challenge.clock(), _Walk(release, challenge)
    found = _source(agreement, challenge)
    status, why = ProbeStatus.SERVES, ""
    if not isinstance(found, Source):
        status, why = ProbeStatus.GONE, found.reason
    else:
        try:
            walk.run(found)
        except SourceError as error:
            status = ProbeStatus.LIES if error.verdict is Verdict.LIED else ProbeStatus.GONE
            why = error.why
        except ContentError as error:  # the record's own address leads to no file: nobody who serves it lies
            why = str(error)
    return Probe(agreement, status, walk.count, challenge.clock() - began, walk.asked, why)


def _source(agreement: Agreement, challenge: Challenge) -> Candidate:
    [found] = announced([agreement], is_local_chain=challenge.allow_private, credentials=challenge.credentials)
    return found


class _Walk:
    """The way from a root down to random leaves, with what was asked and how much came."""

    def __init__(self, release: Release, challenge: Challenge) -> None:
        self._release, self._challenge = release, challenge
        self.asked, self.count = release.cid, 0

    def run(self, source: Source) -> None:
        with TrustlessClient(source, self._challenge.limits) as client:
            for _ in range(self._challenge.leaves if self._release.cid.codec != RAW else 1):
                self._descend(client)

    def _descend(self, client: TrustlessClient) -> None:
        """Follow a random byte of the image, so that each leaf is met as often as its size says."""
        size = self._release.size
        self.asked, offset = self._release.cid, self._challenge.randbelow(size)
        for _ in range(_MAX_DEPTH):
            block = client.block(self.asked, limit=largest_block(self.asked, size=size))
            self.count += 1
            if block.cid.codec == RAW:
                return
            for link in read_links(block):
                self.asked, size = link.cid, link.file_size
                if offset < link.file_size:
                    break
                offset -= link.file_size
