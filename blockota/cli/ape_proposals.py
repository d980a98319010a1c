"""What the scripts of ``ape run`` that make a proposal share: their options, the contract, and the files."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from blockota.approval.proposal import Proposal
from blockota.approval.signature import to_json
from blockota.bindings.block_ota import BlockOTAContract
from blockota.cli.ape_scripts import node_chain
from blockota.cli.keys import open_named_key
from blockota.cli.outputs import write_all
from blockota.cli.proposing import proposing_options, reason_from, refuse_existing
from blockota.deployment import Deployment
from blockota.vendor.propose import Reason
from blockota.vendor.publish import sign_unattended


@dataclass(frozen=True)
class Written:
    """What a script wrote.

    Attributes:
        proposal: the proposal.
        file: where it is.
        signature: the owner's signature file beside it; None where nobody signed.
    """

    proposal: Proposal
    file: Path
    signature: Path | None

    def tell(self) -> None:
        """Print it."""
        click.echo(f"Wrote {self.file}: transaction {self.proposal.nonce} of the Safe {self.proposal.safe}")
        if self.signature:
            click.echo(f"Wrote {self.signature}: an owner's signature to it")


def proposing_script(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--contract``, ``--sign``, and the options of every command that makes a proposal."""
    command = click.option("--sign", metavar="URI", help="Sign as this owner at once, such as env:OWNER_KEY.")(command)
    command = click.option("--contract", help="Address of BlockOTA; of deployments/<chain id>.json by default.")(
        command
    )
    return proposing_options(command)


def deployed_contract(provider: Any, address: str | None) -> BlockOTAContract:
    """The contract behind Ape's provider.

    Args:
        provider: Ape's (``ape.api.ProviderAPI``).
        address: where it lies; None takes it from ``deployments/<chain id>.json``.

    Raises:
        UsageError: nothing names one.
    """
    chain = node_chain(provider, purpose="ape run")
    return BlockOTAContract(chain, address or Deployment.read(Deployment.path(Path(), chain.chain_id)).contract)


def write_proposal(
    contract: BlockOTAContract, make: Callable[[Reason], Proposal], *, sign: str | None, **options: Any
) -> Written:
    """Make a proposal, have it signed where that is wanted, and write both files or none.

    Args:
        contract: the contract that is called.
        make: makes the proposal from what the options say.
        sign: URI of an owner's key; None has nobody sign.
        **options: the values of `proposing_options`.

    Raises:
        UsageError: a file is there already, or the key cannot be read.
        RefusedError: the contract would not do it, or the proposal should not be signed unseen.
    """
    file: Path = options["output"]
    refuse_existing(file)
    account = open_named_key(sign, chain_id=contract.chain.chain_id) if sign else None
    proposal = make(reason_from(options))
    if account is None:
        write_all({file: proposal.to_json()})
        return Written(proposal, file, None)
    signature = file.with_name(f"{file.stem}.{account.address.lower()[:10]}.signature.json")
    refuse_existing(signature, why="it may belong to an earlier proposal of that name")
    signed = sign_unattended(contract, proposal, account=account, now=int(time.time()))
    write_all({file: proposal.to_json(), signature: to_json([signed])})
    return Written(proposal, file, signature)
