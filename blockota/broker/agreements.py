"""Propose a broker's agreements, announce replicas, and read agreements and releases from the chain."""

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
from blockota.model.agreement import Agreement
from blockota.model.release import Version
from blockota.model.rights import Claim
from blockota.stores.search import MAX_URL, announced
from blockota.stores.source import Source
from blockota.url_secrets import shown_url

if TYPE_CHECKING:
    from eth_account.signers.base import BaseAccount


def offer(
    contract: ReplicationContract, account: BaseAccount, *, product: str, version: Version, expires_at: int
) -> Agreement:
    """Propose to serve a release, and return the agreement that the chain records.

    Raises:
        ContractRefusalError: the release is unknown or revoked, or an agreement is open already.
    """
    number, _ = contract.propose(account, product, version=version, expires_at=expires_at)
    return find_agreement(contract, number)


def announce(contract: ReplicationContract, account: BaseAccount, *, agreement: Agreement, uri: str) -> Receipt:
    """Announce the URL at which a replica is served.

    Raises:
        UsageError: the URL has a form from which gateways cannot fetch.
        ContractRefusalError: the agreement is not accepted, has expired, or belongs to another broker, or a
            reorganisation gave its number to another agreement.
    """
    check_uri(uri)
    return contract.announce(account, agreement, uri=uri)


def find_agreement(contract: ReplicationContract, number: int) -> Agreement:
    """Read one agreement.

    Raises:
        RefusedError: the agreement does not exist.
    """
    found = contract.agreement(number)
    if found is None:
        remedy = "choose another number"
        raise RefusedError(f"agreement {number} does not exist", remedy=remedy, action=Action.LIST_AGREEMENTS)
    return found


def find_deep_agreement(contract: ReplicationContract, number: int, *, confirmations: int) -> Agreement:
    """Read an agreement that the vendor is about to decide, and require that its proposal is confirmed.

    Args:
        contract: the contract with the agreement.
        number: the agreement's id.
        confirmations: the number of blocks that must follow the block with the agreement's proposal.

    Raises:
        RefusedError: the agreement does not exist, or a reorganisation can still give its number to another proposal.
    """
    found, head = find_agreement(contract, number), contract.chain.head()
    if contract.shallow([found], block=head.last_confirmed(confirmations)):
        raise RefusedError(
            f"agreement {number} is not confirmed yet",
            why=f"fewer than {confirmations} blocks follow its proposal, and a reorganisation can replace the proposal",
            remedy="wait for more blocks, and repeat the command",
        )
    return found


def check_uri(uri: str) -> None:
    """Check that a URL has a form from which gateways can fetch.

    Raises:
        UsageError: the URL is not ``http(s)://HOST`` in printable ASCII, has a user, query or fragment, or is too long.
    """
    why = ""
    if len(uri) > MAX_URL:
        why = f"the URL has {len(uri)} characters, and gateways read at most {MAX_URL}"
    try:
        Source(uri)
    except UsageError as error:
        why = error.why
    if why:
        remedy = "use the URL at which gateways reach your repository, such as https://broker.example"
        raise UsageError(f"{shown_url(uri)!r} cannot be announced", why=why, remedy=remedy)


class AgreementReader:
    """Reads a broker's agreements and their releases from the chain.

    Args:
        reader: reads the broker's claims at a confirmed block.
        replication: the contract with the agreements.
        follower: follows the chain for `reader`, and stores its blocks in `state`.
        state: the state file, which records confirmed blocks and manifests.
    """

    def __init__(
        self, reader: RightsReader, replication: ReplicationContract, *, follower: Follower, state: BrokerState
    ) -> None:
        self._reader, self._replication = reader, replication
        self._follower, self._state = follower, state

    def read(self, *, url: str) -> Facts:
        """Read the chain facts for the plan.

        Args:
            url: the URL at which the broker serves; empty if the broker announces nothing.

        Raises:
            ChainError: the node is out of reach or lags behind, or the chain was reorganised during the read.
            RefusedError: a contract's return data is not valid.
        """
        reading = self._reader.read(acknowledge=False)
        if reading.reorganised_from is not None:
            self._state.forget_manifests()
        agreements = tuple(self._facts(reading, url=url))
        # Check that no block was replaced during the reading, because facts of different chains must not be combined.
        self._follower.check()
        self._follower.acknowledge()
        return Facts(reading.block_time, agreements, reading.block, is_reorganised=reading.reorganised_from is not None)

    def _facts(self, reading: Reading, *, url: str) -> Iterator[AgreementFacts]:
        claims = [(one, one.agreement) for one in reading.claims if one.agreement]
        open_ones = [(claim, agreement) for claim, agreement in claims if not agreement.status.is_final]
        # An announcement that was just sent is visible only at the newest block.
        newest = self._replication.agreements_of(agreement.number for _, agreement in open_ones)

        for claim, agreement in open_ones:
            # If the node no longer keeps the events, use the manifest that was read before.
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
    """Return the URLs that other brokers announced for a release. The newest agreements come first.

    The HTTP client checks at each connection that a URL leads to a public address.
    """
    others: list[Agreement] = []
    for one in reversed(reading.agreements):
        is_same_release = (one.product, one.version) == (own.product, own.version)
        if is_same_release and one.broker.lower() != own.broker.lower() and one.serves(reading.block_time):
            others.append(one)
    return tuple(one.url for one in announced(others, is_local_chain=False) if isinstance(one, Source))
