"""Deploys the contracts of a vendor, of the consortium and of a city.

The contracts of each party are owned by the party's Safe.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from blockota.approval.chain_view import SafeState
from blockota.bindings.block_ota import BlockOTAContract
from blockota.bindings.contract import create
from blockota.bindings.replication import ReplicationContract
from blockota.bindings.safe import read_safe
from blockota.chain import Chain
from blockota.deployment import Deployment
from blockota.errors import RefusedError
from blockota.ethereum import to_checksum_address
from blockota.settings import REGISTRIES

if TYPE_CHECKING:
    from eth_account.signers.base import BaseAccount

VENDOR = "vendor"
PARTS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "consortium": {"producers": ("safe",)},
    "configurations": {"configurations": ("safe",)},
    "city": {
        "identities": ("safe",),
        "devices": ("safe", "identities"),
        "ledger": ("identities", "devices"),
        "orders": ("identities", "devices"),
    },
}
"""The contracts of three parties: of the consortium, of the city on the producer chain (for configurations), and of the
city on the gateway chain. Each contract's setting is listed in the order of deployment, with the arguments of the
constructor."""


def deploy(chain: Chain, account: BaseAccount, *, safe: str) -> Deployment:
    """Deploy the contract BlockOTA, with a Safe as its owner, and the contract FirmwareReplication for its releases.

    Raises:
        RefusedError: the address is not a Safe, or the Safe's owners could not sign and execute proposals.
    """
    state = require_owner(chain, safe)
    contract, receipt = BlockOTAContract.deploy(chain, account, owner=state.address)
    replication = ReplicationContract.deploy(chain, account, block_ota=contract.address)

    return Deployment(
        chain_id=chain.chain_id,
        contract=to_checksum_address(contract.address),
        replication=to_checksum_address(replication.address),
        safe=state.address,
        owners=list(state.owners),
        threshold=state.threshold,
        block_number=receipt.block_number,
    )


def deploy_part(
    chain: Chain, account: BaseAccount, part: str, *, safe: str, known: Deployment | None = None
) -> Deployment:
    """Deploy the contracts of one party (`VENDOR` or one of `PARTS`), with a Safe as their owner.

    Args:
        chain: the chain.
        account: the account that pays.
        part: the name of the party whose contracts are deployed.
        safe: address of the Safe.
        known: the existing deployment of other parties on this chain. The result also contains its addresses.

    Raises:
        RefusedError: the address is not a Safe, or the Safe's owners could not sign and execute proposals.
    """
    if part == VENDOR:
        made = deploy(chain, account, safe=safe)
        return replace(made, registries=known.registries, safes=known.safes) if known else made

    first_block, state = chain.head().number, require_owner(chain, safe)
    known = known or Deployment(
        chain_id=chain.chain_id,
        contract="",
        replication="",
        safe=state.address,
        owners=list(state.owners),
        threshold=state.threshold,
        block_number=first_block,
    )
    addresses = deploy_registries(chain, account, PARTS[part], safe=state.address)
    return replace(known, registries={**known.registries, **addresses}, safes={**known.safes, part: state.address})


def deploy_registries(
    chain: Chain, account: BaseAccount, contracts: Mapping[str, tuple[str, ...]], *, safe: str
) -> dict[str, str]:
    """Deploy contracts, such as an entry of `PARTS`, and return a dict from setting name to address."""
    known = {"safe": safe}
    for setting, arguments in contracts.items():
        address, _ = create(chain, account, REGISTRIES[setting], *(known[argument] for argument in arguments))
        known[setting] = to_checksum_address(address)
    return {setting: known[setting] for setting in contracts}


def require_owner(chain: Chain, safe: str) -> SafeState:
    """Read a Safe that is to own contracts.

    Raises:
        RefusedError: the address is not a Safe, or the Safe's owners could not sign and execute proposals.
    """
    state = read_safe(chain, safe)
    if why := state.obstacle(chain.find_contracts(state.owners)):
        raise RefusedError(
            f"the Safe {state.address} cannot own the contracts",
            why=why,
            remedy="choose a Safe of version 1.3 or newer in which enough owners have keys to reach the threshold",
        )
    return state
