"""A broker's agreements: propose, announce, and read from the chain what they cover."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from blockota.bindings.replication import ReplicationContract
from blockota.bindings.serving_rights import Reading, RightsReader
from blockota.broker.plan import AgreementFacts, Facts
from blockota.broker.state import BrokerState
from blockota.chain import Receipt
from blockota.chain.follow import Follower
from blockota.errors import Action, RefusedError, UsageError
from blockota.model.agreement import Agreement, AgreementStatus
from blockota.model.release import Version
from blockota.model.rights import Claim
from blockota.stores.search import MAX_URL, announced
from blockota.stores.source import Source
from blockota.url_secrets import shown_url

if TYPE_CHECKING:
    from eth_account.signers.base import BaseAccount

_OVER = frozenset({AgreementStatus.DECLINED, AgreementStatus.WITHDRAWN, AgreementStatus.TERMINATED})


def offer(
    contract: ReplicationContract, account: BaseAccount, *, product: str, version: Version, expires_at: int
) -> Agreement:
    """Propose to serve a release, and return the agreement as the chain records it.

    Raises:
        ContractRefusalError: the release is unknown or revoked, or an agreement is open already.
    """
    number, _ = contract.propose(account, product, version=version, expires_at=expires_at)
    return find_agreement(contract, number)


def announce(contract: ReplicationContract, account: BaseAccount, *, agreement: Agreement, uri: str) -> Receipt:
    """Announce the URL of a replica.

    Raises:
        UsageError: gateways could not use the URL.
        ContractRefusalError: the agreement is not accepted, has expired, is another broker's, or the number is now
            that of another agreement.
    """
    check_uri(uri)
    return contract.announce(account, agreement, uri=uri)


def find_agreement(contract: ReplicationContract, number: int) -> Agreement:
    """Read one agreement.

    Raises:
        RefusedError: it does not exist.
    """
    found = contract.agreement(number)
    if found is None:
        remedy = "choose another number"
        raise RefusedError(f"agreement {number} does not exist", remedy=remedy, action=Action.LIST_AGREEMENTS)
    return found


def find_deep_agreement(contract: ReplicationContract, number: int, *, confirmations: int) -> Agreement:
    """Read an agreement on which the vendor is to decide.

    Args:
        contract: the contract with the agreement.
        number: its id.
        confirmations: blocks that must lie above the block with its proposal.

    Raises:
        RefusedError: it does not exist, or a reorganisation can still give its number to another proposal.
    """
    found, head = find_agreement(contract, number), contract.chain.head().number
    if contract.shallow([found], block=max(head - confirmations, 0)):
        raise RefusedError(
            f"agreement {number} is not confirmed yet",
            why=f"fewer than {confirmations} blocks lie above it, and a reorganisation can replace it",
            remedy="wait for more blocks, and repeat the command",
        )
    return found


def check_uri(uri: str) -> None:
    """Refuse a URL that gateways could not fetch from.

    Raises:
        UsageError: it is not ``http://`` or ``https://`` with a host, in printable ASCII without spaces; it has a
            user, a query or a fragment; or it is too long.
    """
    why = ""
    if len(uri) > MAX_URL:
        why = f"it has {len(uri)} characters, and gateways read at most {MAX_URL}"
    try:
        Source(uri)
    except UsageError as error:
        why = error.why
    if why:
        remedy = "use the URL at which gateways reach your repository, such as https://broker.example"
        raise UsageError(f"{shown_url(uri)!r} cannot be announced", why=why, remedy=remedy)


class AgreementReader:
    """Reads what a broker's agreements cover.

    Args:
        reader: reads the broker's claims at a confirmed block.
        replication: the contract with the agreements.
        follower: the follower of `reader`, made with the blocks that `state` remembers.
        state: remembers confirmed blocks and manifests.
    """

    def __init__(
        self, reader: RightsReader, replication: ReplicationContract, *, follower: Follower, state: BrokerState
    ) -> None:
        self._reader, self._replication = reader, replication
        self._follower, self._state = follower, state

    def read(self, *, url: str) -> Facts:
        """Read all that the plan depends on.

        Args:
            url: where the broker serves; empty if it announces nothing.

        Raises:
            ChainError: the node is out of reach or lags behind, or the chain was reorganised meanwhile.
            RefusedError: an answer cannot be understood.
        """
        reading = self._reader.read()
        if reading.reorganised_from is not None:
            self._state.forget_blocks(reading.reorganised_from)
        agreements = tuple(self._facts(reading, url=url))
        # Facts of blocks that were replaced during the reading do not belong together.
        self._follower.check()
        self._state.remember_blocks(self._follower.known)
        return Facts(reading.block_time, agreements, reading.block, is_reorganised=reading.reorganised_from is not None)

    def _facts(self, reading: Reading, *, url: str) -> Iterator[AgreementFacts]:
        open_ones = [(one, one.agreement) for one in reading.claims if one.agreement]
        open_ones = [(claim, agreement) for claim, agreement in open_ones if agreement.status not in _OVER]
        # An announcement that was just sent shows in the newest block first.
        newest = self._replication.agreements_of(agreement.number for _, agreement in open_ones)
        for claim, agreement in open_ones:
            # If the node does not keep the events any more, the manifest is the one that was read before.
            name = f"{claim.release.product} {claim.release.version} {claim.release.sha256.hex()}"
            if reading.manifests_known:
                self._state.put_manifest(name, claim.manifest)
            manifest = claim.manifest if reading.manifests_known else self._state.manifest(name)
            yield AgreementFacts(
                Claim(claim.release, manifest, agreement),
                newest.get(agreement.number, agreement),
                _replicas(agreement, reading),
                is_announcing=bool(url) and self._replication.is_announcing(agreement, uri=url),
            )


def _replicas(own: Agreement, reading: Reading) -> tuple[str, ...]:
    """The URLs that other brokers announced for a release, the newest first, derived from all agreements.

    Whether they are public is checked when they are connected to.
    """
    others = (
        one
        for one in reversed(reading.agreements)
        if (one.product, one.version) == (own.product, own.version)
        and one.broker.lower() != own.broker.lower()
        and one.serves(reading.block_time)
    )
    return tuple(one.url for one in announced(others, is_local_chain=False) if isinstance(one, Source))
