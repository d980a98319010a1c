"""The broker's work: offer to serve releases, and tell where the copies are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blockota.bindings.replication import ReplicationContract
from blockota.chain import Receipt
from blockota.errors import RefusedError, UsageError
from blockota.model.agreement import Agreement
from blockota.model.release import Version
from blockota.stores.search import MAX_URL
from blockota.stores.source import Source

if TYPE_CHECKING:
    from eth_account.signers.base import BaseAccount


def offer(
    contract: ReplicationContract, account: BaseAccount, *, product: str, version: Version, expires_at: int
) -> Agreement:
    """Propose to serve a release, and return the agreement as the chain keeps it.

    Raises:
        ContractRefusalError: the release is unknown or revoked, or an agreement is open already.
    """
    number, _ = contract.propose(account, product, version=version, expires_at=expires_at)
    return find_agreement(contract, number)


def announce(contract: ReplicationContract, account: BaseAccount, *, number: int, uri: str) -> Receipt:
    """Tell where the replica is.

    Raises:
        UsageError: that is no address that a gateway can ask.
        ContractRefusalError: the agreement is not accepted, expired, or another broker's.
    """
    check_uri(uri)
    return contract.announce(account, number, uri=uri)


def find_agreement(contract: ReplicationContract, number: int) -> Agreement:
    """One agreement.

    Raises:
        RefusedError: there is none.
    """
    found = contract.agreement(number)
    if found is None:
        raise RefusedError(
            f"there is no agreement {number}", why="nobody proposed it", remedy="see `blockota replica list --all`"
        )
    return found


def check_uri(uri: str) -> None:
    """Refuse an address that could not be fetched from, or would not be shown as it is.

    Raises:
        UsageError: it is not ``http://`` or ``https://`` with a host, in printable ASCII without spaces; it has a
            user, a query or a fragment; or it is longer than whoever fetches reads.
    """
    why = ""
    if len(uri) > MAX_URL:
        why = f"it has {len(uri)} characters, and gateways read at most {MAX_URL}"
    try:
        Source(uri)
    except UsageError as error:
        why = error.why
    if why:
        remedy = "name the address that gateways reach your repository at, such as https://broker.example"
        raise UsageError(f"{uri!r} cannot be announced", why=why, remedy=remedy)
