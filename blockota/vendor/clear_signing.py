"""Makes ERC-7730 descriptors, which let a wallet show BlockOTA's transactions as readable text (clear signing).

A descriptor applies to the address of a contract on one chain. The packaged descriptors have no address, so wallets
refuse them until a vendor adds the addresses of its contracts. Wallet screens are described in docs/vendor.md.
"""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from typing import Any

from blockota.deployment import Deployment
from blockota.errors import UsageError
from blockota.files import write_result

CONTRACTS = {
    "BlockOTA": "contract",
    "FirmwareReplication": "replication",
    "Producers": "producers",
    "IdentityRegistry": "identities",
    "DeviceRegistry": "devices",
}
"""The contracts that have a descriptor, with the settings that name their addresses."""
VENDOR_LENGTH = 22
"""Maximum length of the vendor's name on Ledger's wallets, in characters."""


def file_name(contract: str) -> str:
    """Return the file name of a descriptor. The public registry recognises descriptors by the prefix ``calldata-``."""
    return f"calldata-{contract}.json"


def descriptor(contract: str) -> dict[str, Any]:
    """Return the packaged descriptor of a contract (ERC-7730, version 2), without addresses."""
    text = resources.files("blockota").joinpath("clear-signing", file_name(contract)).read_text("utf-8")
    loaded: dict[str, Any] = json.loads(text)
    return loaded


def descriptor_for(contract: str, deployment: Deployment, *, vendor: str) -> dict[str, Any]:
    """Return the descriptor of a contract with the addresses of a deployment.

    Args:
        contract: one of `CONTRACTS`.
        deployment: addresses of the deployed contracts, including this contract.
        vendor: the vendor's name that wallets show: 1 to 22 printable ASCII characters, not only spaces.

    Raises:
        UsageError: a wallet cannot show the vendor's name.
    """
    if not (vendor.strip() and len(vendor) <= VENDOR_LENGTH and vendor.isascii() and vendor.isprintable()):
        raise UsageError(
            f"{vendor!r} cannot be shown by a wallet",
            why=f"a vendor's name has 1 to {VENDOR_LENGTH} printable ASCII characters",
            remedy="choose a shorter name in ASCII",
        )

    bound = descriptor(contract)
    address = deployment.address(CONTRACTS[contract])
    bound["context"]["contract"]["deployments"] = [{"chainId": deployment.chain_id, "address": address}]
    bound["metadata"]["owner"] = vendor
    return bound


def write_descriptors(folder: Path, deployment: Deployment, *, vendor: str) -> list[Path]:
    """Write the descriptors of the contracts of a deployment into an existing folder.

    Returns:
        The paths of the files.

    Raises:
        UsageError: a wallet cannot show the vendor's name, or the folder cannot be written.
    """
    paths = []
    for contract in (name for name, setting in CONTRACTS.items() if deployment.address(setting)):
        bound = descriptor_for(contract, deployment, vendor=vendor)
        path = folder / file_name(contract)
        write_result(path, (json.dumps(bound, indent=2) + "\n").encode())
        paths.append(path)
    return paths
