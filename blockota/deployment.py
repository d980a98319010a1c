"""Deployment files.

A deployment file contains the addresses of the contracts that were deployed to a chain.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from blockota.errors import Action, UsageError
from blockota.files import make_folder, read_input, write_result
from blockota.strict_json import check_depth

LOCAL_CHAIN_ID = 1337
"""The chain id of the local chain, and of Ape's ``local`` network."""
LOCAL_GATEWAY_CHAIN_ID = 1338
"""The chain id of the local gateway chain, if it is separate from the local producer chain."""
LOCAL_CHAINS = frozenset({LOCAL_CHAIN_ID, LOCAL_GATEWAY_CHAIN_ID})
"""The chain ids of the chains that `blockota.chain.local` starts."""
GATEWAY_FOLDER = "gateway"
"""The folder of the local gateway chain, inside the folder of the local producer chain."""
_MAX_FILE_SIZE = 1 << 16
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)


@dataclass(frozen=True)
class Deployment:
    """The contracts of a deployment, as recorded in a deployment file.

    Attributes:
        chain_id: id of the chain (EIP-155).
        contract: address of BlockOTA.
        replication: address of FirmwareReplication.
        safe: address of the vendor's Safe, which owns the contract BlockOTA. On a chain without the vendor's contracts,
            `contract` and `replication` are empty, and `safe` is the address of the city's Safe.
        owners: addresses of the Safe's owners at its deployment.
        threshold: the number of owners who must sign.
        block_number: the block in which the first contract was created.
        registries: addresses of the deployed contracts, by the names of their settings
            (`blockota.settings.REGISTRIES`).
        safes: addresses of the Safes that own the contracts in `registries`; the keys are ``consortium``, ``city`` and
            ``configurations``.
    """

    chain_id: int
    contract: str
    replication: str
    safe: str
    owners: Sequence[str]
    threshold: int
    block_number: int
    registries: Mapping[str, str] = field(default_factory=dict)
    safes: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse fields of the wrong type, because the fields can come from a file."""
        numbers = (self.chain_id, self.threshold, self.block_number)
        words = (self.contract, self.replication, self.safe, *self.owners)
        if not (isinstance(self.registries, Mapping) and isinstance(self.safes, Mapping)):
            raise TypeError("a field has the wrong type")
        words += (*self.registries.values(), *self.safes.values())
        if not all(type(one) is int for one in numbers) or not all(isinstance(one, str) for one in words):
            raise TypeError("a field has the wrong type")

    def address(self, setting: str) -> str | None:
        """Return the address of a contract or Safe by its setting; None if it is not part of the deployment."""
        named = {"contract": self.contract, "replication": self.replication, "safe": self.safe}
        return (named | dict(self.registries)).get(setting) or None

    @staticmethod
    def path(folder: Path, chain_id: int) -> Path:
        """Return the path of a chain's deployment file, ``deployments/<chain id>.json``."""
        return folder / "deployments" / f"{chain_id}.json"

    @classmethod
    def read(cls, path: Path) -> Deployment:
        """Read a deployment file.

        Raises:
            UsageError: the file cannot be read, or is not a deployment file.
        """
        try:
            document = read_input(path, limit=_MAX_FILE_SIZE).decode()
            check_depth(document)
            deployment = cls(**json.loads(document))
        except (TypeError, ValueError, RecursionError) as error:
            raise UsageError(
                f"{path} cannot be read",
                why="the file is not a deployment of BlockOTA",
                remedy="remove it and deploy again",
                action=Action.START_LOCAL_CHAIN if path.stem in map(str, LOCAL_CHAINS) else Action.DEPLOY,
            ) from error
        return deployment

    def write(self, folder: Path) -> Path:
        """Write the deployment file below a folder, and return the file's path.

        Raises:
            UsageError: the folder cannot be written.
        """
        path = self.path(folder, self.chain_id)
        make_folder(path.parent)
        write_result(path, (json.dumps(asdict(self), indent=2) + "\n").encode())
        return path


def settings_text(networks: Mapping[str, tuple[str, Deployment]], *, comment: str) -> str:
    """Return the text of a settings file.

    If a network has the city's own BlockOTA contract, the file also has a network ``<name>-configurations``. With the
    network ``<name>-configurations``, the commands for products and releases use the city's contract.

    Args:
        networks: URL and deployment of each network by its name. The first network is on the producer chain, and the
            last network is on the gateway chain.
        comment: the first line of the file.
    """
    names = list(networks)
    roles = {"network": names[0], "producer_network": names[0], "gateway_network": names[-1]}
    if not any(deployment.registries for _, deployment in networks.values()):
        roles = {"network": names[0]}
    # Strings in TOML are written as in JSON.
    lines = [f"# {comment}", *(f"{key} = {json.dumps(name)}" for key, name in roles.items())]
    lines.append('store = "file:.blockota/store"')
    sections = []
    for name, (url, deployment) in networks.items():
        sections.append(network_text(name, url, deployment))
        if own := deployment.registries.get("configurations"):
            safe = deployment.safes["configurations"]
            city = replace(deployment, contract=own, replication="", safe=safe, registries={})
            sections.append(network_text(f"{name}-configurations", url, city))
    return "\n\n".join(["\n".join(lines), *sections]) + "\n"


def network_text(name: str, url: str, deployment: Deployment) -> str:
    """Return the section of a settings file for the network of a deployment."""
    named = {"contract": deployment.contract, "replication": deployment.replication, "safe": deployment.safe}
    known = {"url": url, "chain_id": deployment.chain_id, **named, **deployment.registries}
    lines = [f"[networks.{name if _BARE_KEY.fullmatch(name) else json.dumps(name)}]"]
    lines += [f"{key} = {json.dumps(value)}" for key, value in known.items() if value]
    return "\n".join([*lines, f"first_block = {deployment.block_number}"])
