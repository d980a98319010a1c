"""What the chain says of what may be served: a vendor's releases, or a broker's agreements."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from eth_abi.exceptions import DecodingError

from blockota.abi import interface
from blockota.bindings import BlockOTAContract
from blockota.chain import Log
from blockota.cid import CID, RAW
from blockota.errors import ChainError
from blockota.release import Release, product_key
from blockota.replication import ReplicationContract
from blockota.repository.rights import Claim, agreed_claim

_REORGANISED = 256
"""Newest blocks whose events are read again each time, since the chain may have replaced them."""


@dataclass(frozen=True)
class Reading:
    """What was read.

    Attributes:
        time: the newest block's time, in Unix seconds.
        claims: the releases, and why each might be served.
        manifests_known: whether the node keeps the events that name manifests.
    """

    time: int
    claims: tuple[Claim, ...]
    manifests_known: bool = True


class Reader(Protocol):
    """Whoever knows what may be served."""

    def read(self) -> Reading:
        """Ask the chain.

        Raises:
            ChainError: it is out of reach.
            RefusedError: its answer cannot be understood.
        """


class VendorReader:
    """All that the contract records.

    Args:
        contract: the vendor's.
    """

    def __init__(self, contract: BlockOTAContract) -> None:
        """Remember; nothing is asked yet."""
        self._contract, self._manifests = contract, _Manifests(contract)

    def read(self) -> Reading:
        """Ask the chain for every release of every product."""
        head = self._contract.chain.head()
        known = self._manifests.update(head.number)
        products = self._contract.products(block=head.number)
        releases = (found for each in products for found in self._contract.history(each.name, block=head.number))
        return Reading(head.time, tuple(Claim(found, self._manifests.of(found)) for found in releases), known)


class BrokerReader:
    """What a broker holds agreements for.

    Args:
        contract: the vendor's.
        replication: where the agreements are kept.
        broker: the broker's address.
    """

    def __init__(self, contract: BlockOTAContract, replication: ReplicationContract, *, broker: str) -> None:
        """Remember; nothing is asked yet."""
        self._contract, self._replication, self._broker = contract, replication, broker.lower()
        self._manifests = _Manifests(contract)

    def read(self) -> Reading:
        """Ask the chain for the broker's agreements, and for the releases that they name."""
        head = self._contract.chain.head()
        known = self._manifests.update(head.number)
        return Reading(head.time, tuple(self._claims()), known)

    def _claims(self) -> Iterable[Claim]:
        for agreement in self._replication.agreements():
            if agreement.broker.lower() != self._broker:
                continue
            release = self._contract.release(agreement.product, agreement.version)
            if release and (claim := agreed_claim(agreement, release, manifest=self._manifests.of(release))):
                yield claim


class _Manifests:
    """The manifests that releases were published with; events are read once, and the newest ones again."""

    def __init__(self, contract: BlockOTAContract) -> None:
        self._contract = contract
        self._next = 0
        self._digests: dict[tuple[bytes, int, bytes], bytes] = {}

    def update(self, newest: int) -> bool:
        """Read what came since; whether the node keeps the events."""
        try:
            logs = self._contract.chain.logs(self._contract.address, [], from_block=self._next)
        except ChainError:
            return False
        self._digests |= dict(_published(logs))
        self._next = max(newest - _REORGANISED, 0)
        return True

    def of(self, release: Release) -> CID | None:
        digest = self._digests.get((product_key(release.product), release.version.packed, release.sha256))
        return CID(RAW, digest) if digest and any(digest) else None


def _published(logs: Iterable[Log]) -> Iterator[tuple[tuple[bytes, int, bytes], bytes]]:
    for log in logs:
        try:
            event = interface("BlockOTA").decode_event(log.topics, log.data)
        except DecodingError:
            event = None
        if event and event.name == "ReleasePublished":
            told = event.arguments
            yield (told["product"], told["version"], told["sha256"]), told["manifest"]
