"""Read from the chain what a repository may serve: a vendor's releases, or those of a broker's agreements.

Everything is read at one confirmed block. A right therefore begins when a reorganisation has become unlikely; if one
removes the release or agreement all the same, the right ends with the next reading.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from blockota.bindings.block_ota import BlockOTAContract
from blockota.bindings.replication import ReplicationContract
from blockota.chain import Log
from blockota.chain.follow import Follower
from blockota.errors import ChainError
from blockota.formats.abi import DecodingError, interface
from blockota.formats.cid import CID, RAW
from blockota.model.release import Release, product_key
from blockota.model.rights import Claim


@dataclass(frozen=True)
class Reading:
    """The claims at one block.

    Attributes:
        time: the newest block's time in Unix seconds, by which a repository lets agreements expire.
        claims: the releases, and under which conditions each may be served.
        manifests_known: whether the node keeps the events that name manifests.
        block: number of the confirmed block that was read.
        block_time: that block's time in Unix seconds, by which a broker lets agreements expire.
        reorganised_from: the first block that may have been replaced since the last reading; None if none was.
    """

    time: int
    claims: tuple[Claim, ...]
    manifests_known: bool = True
    block: int = 0
    block_time: int = 0
    reorganised_from: int | None = None


class Reader(Protocol):
    """Reads from the chain what may be served."""

    def read(self) -> Reading:
        """Read it at the newest confirmed block.

        Raises:
            ChainError: the node is out of reach or lags behind, or the chain was reorganised meanwhile.
            RefusedError: the contract's answer cannot be understood.
        """


class _ClaimReader:
    """Reads claims at the newest confirmed block, and the manifests from the events up to it."""

    def __init__(self, contract: BlockOTAContract, follower: Follower) -> None:
        self._contract, self._follower = contract, follower
        self._events: tuple[Log, ...] = ()
        self._manifests: dict[tuple[bytes, int, bytes], bytes] = {}

    def read(self) -> Reading:
        """Read the claims at the newest confirmed block."""
        position = self._follower.advance()
        if position.reorganised_from is not None:
            self._events, self._manifests = (), {}
        manifests_known = self._read_manifests()
        claims = tuple(self._claims(position.block.number))
        self._follower.check()
        return Reading(
            position.newest.time,
            claims,
            manifests_known,
            position.block.number,
            position.block.time,
            position.reorganised_from,
        )

    def _claims(self, block: int) -> Iterator[Claim]:
        raise NotImplementedError

    def _read_manifests(self) -> bool:
        """Update the manifests; False if the node does not keep the events, and what was read before stays."""
        try:
            events = self._follower.events(self._contract.address)
        except ChainError:
            return False
        if events != self._events:
            self._events, self._manifests = events, dict(_published(events))
        return True

    def _manifest(self, release: Release) -> CID | None:
        digest = self._manifests.get((product_key(release.product), release.version.packed, release.sha256))
        return CID(RAW, digest) if digest and any(digest) else None


class VendorReader(_ClaimReader):
    """Reads all releases that the vendor's contract records."""

    def _claims(self, block: int) -> Iterator[Claim]:
        for product in self._contract.products(block=block):
            for release in self._contract.history(product.name, block=block):
                yield Claim(release, self._manifest(release))


class BrokerReader(_ClaimReader):
    """Reads the agreements of one broker and the releases that they name.

    Args:
        contract: the vendor's contract.
        replication: the contract with the agreements.
        broker: the broker's address.
        follower: follows the chain of both contracts.
    """

    def __init__(
        self, contract: BlockOTAContract, replication: ReplicationContract, *, broker: str, follower: Follower
    ) -> None:
        super().__init__(contract, follower)
        self._replication, self._broker = replication, broker.lower()

    def _claims(self, block: int) -> Iterator[Claim]:
        for agreement in self._replication.agreements(block=block):
            if agreement.broker.lower() != self._broker:
                continue
            release = self._contract.release(agreement.product, agreement.version, block=block)
            if release:
                yield Claim(release, self._manifest(release), agreement)


def _published(logs: Iterable[Log]) -> Iterator[tuple[tuple[bytes, int, bytes], bytes]]:
    for log in logs:
        try:
            event = interface("BlockOTA").decode_event(log.topics, log.data)
        except DecodingError:
            event = None
        if event and event.name == "ReleasePublished":
            found = event.arguments
            yield (found["product"], found["version"], found["sha256"]), found["manifest"]
