"""Deploys the contracts of a vendor, of the consortium and of a city, each owned by a Safe."""

from __future__ import annotations

from collections.abc import Mapping
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

CONSORTIUM = {"producers": ("safe",)}
"""The consortium's contract on the producer chain by its setting, with the arguments of its constructor."""
CITY_CONFIGURATIONS = {"configurations": ("safe",)}
"""The city's contract on the producer chain."""
CITY = {
    "identities": ("safe",),
    "devices": ("safe", "identities"),
    "ledger": ("identities", "devices"),
    "orders": ("identities", "devices"),
}
"""The city's contracts on the gateway chain, in the order of their deployment."""


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


def deploy_registries(
    chain: Chain, account: BaseAccount, contracts: Mapping[str, tuple[str, ...]], *, safe: str
) -> dict[str, str]:
    """Deploy `CONSORTIUM`, `CITY_CONFIGURATIONS` or `CITY`, with a Safe as the owner.

    Returns:
        The addresses of the contracts by setting.

    Raises:
        RefusedError: the address is not a Safe, or the Safe's owners could not sign and execute proposals.
    """
    known = {"safe": require_owner(chain, safe).address}
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
