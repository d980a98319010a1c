"""A deployment: the contract, the Safe that owns it, and the file that tells where they are."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from blockota.errors import UsageError
from blockota.files import read_input, write_result
from blockota.strict_json import check_depth

_MAX_FILE_SIZE = 1 << 16


@dataclass(frozen=True)
class Deployment:
    """What was deployed.

    Attributes:
        chain_id: on which chain (EIP-155).
        contract: address of BlockOTA.
        replication: address of FirmwareReplication.
        safe: address of the vendor's Safe, its owner.
        owners: addresses of the Safe's owners when it was deployed.
        threshold: how many of them must sign.
        block_number: the block that holds the contract's creation.
    """

    chain_id: int
    contract: str
    replication: str
    safe: str
    owners: Sequence[str]
    threshold: int
    block_number: int

    @staticmethod
    def path(folder: Path, chain_id: int) -> Path:
        """Where the file of a chain lies: ``deployments/<chain id>.json``."""
        return folder / "deployments" / f"{chain_id}.json"

    @classmethod
    def read(cls, path: Path) -> Deployment:
        """Read the file.

        Raises:
            UsageError: it cannot be read or is none.
        """
        try:
            document = read_input(path, limit=_MAX_FILE_SIZE).decode()
            check_depth(document)
            deployment = cls(**json.loads(document))
            _check_types(deployment)
        except (TypeError, ValueError, RecursionError) as error:
            raise UsageError(
                f"{path} cannot be read",
                why="it is no deployment of ours",
                remedy="remove it and run `blockota dev up`, or `ape run deploy`",
            ) from error
        return deployment

    def write(self, folder: Path) -> Path:
        """Write the file below a folder, and return its path.

        Raises:
            UsageError: the folder cannot be written.
        """
        path = self.path(folder, self.chain_id)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"{path.parent} cannot be made", why=error.strerror or str(error)) from error
        write_result(path, (json.dumps(asdict(self), indent=2) + "\n").encode())
        return path


def _check_types(deployment: Deployment) -> None:
    numbers = (deployment.chain_id, deployment.threshold, deployment.block_number)
    addresses = (deployment.contract, deployment.replication, deployment.safe, *deployment.owners)
    if not all(type(number) is int for number in numbers) or not all(isinstance(word, str) for word in addresses):
        raise TypeError("a field is of the wrong kind")
