"""Check the announced replicas: request random blocks, and report which replicas serve correct blocks.

Only a replica that stores the whole image can serve any random block of it. Every received block is verified against
its CID. The links from the root to a leaf prove that the leaf belongs to the release.
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
from blockota.stores.search import announced
from blockota.stores.source import NO_CREDENTIALS, Credentials, Limits, Source, SourceError, Verdict

_AT_ONCE = 8
PROBE_SECONDS = 30.0
"""Seconds within which a replica must answer a probe. A slower replica counts as one that does not serve."""
_MAX_DEPTH = 8


class ProbeStatus(StrEnum):
    """The result of a probe."""

    SERVES = "serves"
    LIES = "lies"
    UNUSABLE = "unusable"
    GONE = "gone"


_STATUSES = {Verdict.WRONG: ProbeStatus.LIES, Verdict.UNUSABLE: ProbeStatus.UNUSABLE}
"""The probe status for a verdict. Every other verdict means that the replica does not serve."""


@dataclass(frozen=True)
class Probe:
    """The result of probing one replica.

    Attributes:
        agreement: the replica's agreement.
        status: the result.
        blocks: number of valid blocks that the replica served.
        seconds: duration of the probe.
        block: CID of the last requested block, even if the replica served another block.
        why: why the probe failed; empty if the replica serves correct blocks.
    """

    agreement: Agreement
    status: ProbeStatus
    blocks: int
    seconds: float
    block: CID
    why: str = ""

    def as_fields(self) -> dict[str, object]:
        """The JSON object of a probe, as in ``replica check --json``."""
        return {
            "number": self.agreement.number,
            "broker": self.agreement.broker,
            "product": self.agreement.product,
            "version": str(self.agreement.version),
            "uri": self.agreement.uri,
            "standing": str(self.status),
            "blocks": self.blocks,
            "seconds": round(self.seconds, 3),
            "lastBlock": str(self.block),
            "why": self.why,
        }


@dataclass(frozen=True)
class Challenge:
    """The settings of a probe.

    Attributes:
        randbelow: returns a random number that is at least 0 and less than its argument.
        clock: a monotonic clock, in seconds.
        leaves: number of random leaves that are requested from each replica, besides the root.
        allow_private: whether a URL may lead to this machine or a private network.
        credentials: the bearer tokens of replicas.
        limits: the time and size limits of a replica.
    """

    randbelow: Callable[[int], int]
    clock: Callable[[], float]
    leaves: int = 3
    allow_private: bool = False
    credentials: Credentials = NO_CREDENTIALS
    limits: Limits = field(default_factory=lambda: Limits(total=PROBE_SECONDS))


def probe_all(replicas: Sequence[tuple[Agreement, Release]], challenge: Challenge) -> list[Probe]:
    """Probe several replicas concurrently. The results are in the order of the replicas."""
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(lambda one: probe(*one, challenge=challenge), replicas))


def probe(agreement: Agreement, release: Release, *, challenge: Challenge) -> Probe:
    """Request the release's root block and random leaves from one replica."""
    began, walk = challenge.clock(), _Walk(release, challenge)
    [source] = announced([agreement], is_local_chain=challenge.allow_private, credentials=challenge.credentials)
    status, why = ProbeStatus.SERVES, ""
    if not isinstance(source, Source):
        status, why = ProbeStatus.GONE, source.reason
    else:
        try:
            with TrustlessClient(source, challenge.limits) as client:
                for _ in range(challenge.leaves if release.cid.codec != RAW else 1):
                    walk.descend(client)
        except SourceError as error:
            status = _STATUSES.get(error.verdict, ProbeStatus.GONE)
            why = error.why
        except ContentError as error:
            # The recorded CID is not the root of a file. A replica that serves these blocks is honest nevertheless.
            why = str(error)
    return Probe(agreement, status, walk.count, challenge.clock() - began, walk.asked, why)


class _Walk:
    """Walks from the root to random leaves, and records the last requested CID and the number of valid blocks."""

    def __init__(self, release: Release, challenge: Challenge) -> None:
        self._release, self._randbelow = release, challenge.randbelow
        self.asked, self.count = release.cid, 0

    def descend(self, client: TrustlessClient) -> None:
        """Choose a random byte of the image, and request all blocks from the root to the leaf with this byte."""
        size = self._release.size
        self.asked, offset = self._release.cid, self._randbelow(size)
        for _ in range(_MAX_DEPTH):
            block = client.block(self.asked, limit=largest_block(self.asked, size=size))
            self.count += 1
            if block.cid.codec == RAW:
                return

            # Go on in the child that contains the byte. `offset` then counts from the start of this child.
            for link in read_links(block):
                self.asked, size = link.cid, link.file_size
                if offset < link.file_size:
                    break
                offset -= link.file_size
