"""Read from the chain which releases may be served.

A vendor may serve all its releases; a broker may serve the releases of its agreements. All data is read at one
confirmed block, because a reorganisation of a confirmed block is unlikely. If a reorganisation nevertheless removes a
release or an agreement, the right to serve ends at the next read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from blockota.bindings.block_ota import BlockOTAContract, Publication, publication_of, published_manifests
from blockota.bindings.replication import ReplicationContract
from blockota.chain.follow import Follower
from blockota.errors import ChainError
from blockota.formats.cid import CID
from blockota.model.agreement import Agreement
from blockota.model.rights import Claim


@dataclass(frozen=True)
class Reading:
    """The releases that may be served at one block, each with its conditions.

    Attributes:
        time: time of the newest block, in Unix seconds. A repository compares the expiry of agreements with this time.
        claims: the releases, with the conditions under which each may be served.
        manifests_known: whether the node returned the events with the content addresses of the manifests.
        block: number of the confirmed block that was read.
        block_time: time of the confirmed block, in Unix seconds. A broker compares the expiry of agreements with this
            time.
        reorganised_from: number of the first block that a reorganisation since the last read may have replaced; None
            without a reorganisation.
        agreements: all agreements of the replication contract, including those of other brokers; empty for a vendor.
    """

    time: int
    claims: tuple[Claim, ...]
    manifests_known: bool = True
    block: int = 0
    block_time: int = 0
    reorganised_from: int | None = None
    agreements: tuple[Agreement, ...] = ()


class RightsReader:
    """Reads which releases may be served at the newest confirmed block, with the content addresses of their manifests.

    Args:
        contract: the vendor's contract.
        follower: follows the chain of the contracts.
        replication: the contract with the replication agreements. If None, agreements are ignored, and all releases of
            the vendor are read.
        broker: address of the broker whose agreements are read; unused without `replication`.
    """

    def __init__(
        self,
        contract: BlockOTAContract,
        follower: Follower,
        *,
        replication: ReplicationContract | None = None,
        broker: str = "",
    ) -> None:
        self._contract, self._follower = contract, follower
        self._replication, self._broker = replication, broker.lower()
        self._manifests: dict[Publication, CID | None] = {}
        self._next_block = 0

    def read(self, *, acknowledge: bool = True) -> Reading:
        """Read the claims at the newest confirmed block.

        Args:
            acknowledge: whether to mark a reorganisation as handled. If the caller stores the results of earlier reads,
                it sets `acknowledge` to False. The caller then corrects the stored results, and calls
                `Follower.acknowledge`.

        Raises:
            ChainError: the node is out of reach or lags behind, or the chain was reorganised during the read.
            RefusedError: the contract's return data is not valid.
        """
        # (1) Find the newest confirmed block. After a reorganisation, everything read before is void.
        position = self._follower.advance()
        if position.reorganised_from is not None:
            self._manifests, self._next_block = {}, 0
        # (2) Read the addresses of the manifests, which are only in events.
        manifests_known = True
        try:
            events = self._follower.events(self._contract.address, first_block=self._next_block)
        except ChainError:  # the node does not keep the events; keep the manifests read before
            manifests_known = False
        else:
            self._manifests |= published_manifests(events)
            self._next_block = position.block.number + 1
        # (3) Read the claims at the confirmed block, and check afterwards that the block is still on the chain.
        block = position.block.number
        agreements = tuple(self._replication.agreements(block=block)) if self._replication else ()
        claims = tuple(self._claims(agreements, block))
        self._follower.check()
        if acknowledge:
            self._follower.acknowledge()
        return Reading(
            position.newest.time,
            claims,
            manifests_known,
            position.block.number,
            position.block.time,
            position.reorganised_from,
            agreements,
        )

    def _claims(self, agreements: Sequence[Agreement], block: int) -> Iterator[Claim]:
        if self._replication is None:
            names = (product.name for product in self._contract.products(block=block))
            for release in self._contract.histories(names, block=block):
                yield Claim(release, self._manifests.get(publication_of(release)))
            return

        own = [one for one in agreements if one.broker.lower() == self._broker]
        releases = self._contract.releases(((one.product, one.version) for one in own), block=block)
        for agreement in own:
            recorded = releases.get((agreement.product, agreement.version))
            if recorded:
                yield Claim(recorded, self._manifests.get(publication_of(recorded)), agreement)
