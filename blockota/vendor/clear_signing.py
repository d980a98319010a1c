"""What a wallet shows of our transactions: ERC-7730 descriptors, which belong to the package.

A descriptor is bound to the contract's address on one chain, so the packaged ones are bound to none: a wallet refuses
them until a vendor fills in its own deployment. docs/vendor.md describes what a wallet shows.
"""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from typing import Any

from blockota.deployment import Deployment
from blockota.errors import UsageError
from blockota.files import write_result

CONTRACTS = ("BlockOTA", "FirmwareReplication")
"""The contracts that have a descriptor."""
VENDOR_LENGTH = 22
"""Characters of a contract's owner that Ledger's wallets have room for."""


def file_name(contract: str) -> str:
    """What a descriptor's file is called; tools and the public registry go by the prefix."""
    return f"calldata-{contract}.json"


def descriptor(contract: str) -> dict[str, Any]:
    """A contract's packaged descriptor (ERC-7730, version 2), bound to no deployment."""
    text = resources.files("blockota").joinpath("clear-signing", file_name(contract)).read_text("utf-8")
    loaded: dict[str, Any] = json.loads(text)
    return loaded


def descriptor_for(contract: str, deployment: Deployment, *, vendor: str) -> dict[str, Any]:
    """A contract's descriptor, bound to where a vendor deployed it.

    Args:
        contract: one of `CONTRACTS`.
        deployment: where the contracts are.
        vendor: the name that a wallet shows as the owner, 1 to 22 visible ASCII characters and spaces.

    Raises:
        UsageError: a wallet cannot show the vendor's name.
    """
    if not (vendor.strip() and len(vendor) <= VENDOR_LENGTH and vendor.isascii() and vendor.isprintable()):
        raise UsageError(
            f"{vendor!r} cannot be shown by a wallet",
            why=f"the vendor's name has 1 to {VENDOR_LENGTH} visible ASCII characters",
        )
    bound = descriptor(contract)
    address = deployment.contract if contract == "BlockOTA" else deployment.replication
    bound["context"]["contract"]["deployments"] = [{"chainId": deployment.chain_id, "address": address}]
    bound["metadata"]["owner"] = vendor
    return bound


def write_descriptors(folder: Path, deployment: Deployment, *, vendor: str) -> list[Path]:
    """Write both contracts' descriptors for a deployment into a folder that exists, and return their paths.

    Raises:
        UsageError: the vendor's name cannot be shown, or the folder cannot be written.
    """
    paths = []
    for contract in CONTRACTS:
        bound = descriptor_for(contract, deployment, vendor=vendor)
        path = folder / file_name(contract)
        write_result(path, (json.dumps(bound, indent=2) + "\n").encode())
        paths.append(path)
    return paths
