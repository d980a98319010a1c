"""Functions that the ``ape run`` scripts share: access to the chain, proposal files, and error reports."""

from __future__ import annotations

import functools
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from blockota.approval.proposal import Proposal
from blockota.approval.signature import to_json
from blockota.bindings.block_ota import BlockOTAContract
from blockota.chain import Chain, Sending
from blockota.cli.keys import open_key
from blockota.cli.options import ProposalOptions, proposing_options, refuse_existing, warn_of_rivals
from blockota.cli.remedies import sentence_of
from blockota.errors import BlockOTAError, UsageError, plain
from blockota.files import result_files
from blockota.settings import Deployment, load_settings
from blockota.vendor.propose import Reason
from blockota.vendor.publish import sign_unattended


def node_chain(provider: Any, *, purpose: str) -> Chain:
    """Return the chain of an Ape provider, with journal, fee limits and confirmations from BlockOTA's settings.

    Raises:
        UsageError: the provider has no HTTP address.
    """
    url = getattr(provider, "http_uri", None) or getattr(provider, "uri", None)
    if not isinstance(url, str) or not url:
        raise UsageError(
            "cannot reach the node",
            why=f"Ape's provider {getattr(provider, 'name', provider)} has no HTTP address",
            remedy="choose with --network a provider that uses JSON-RPC over HTTP",
        )
    environment = os.environ | {"BLOCKOTA_CHAIN_ID": str(provider.chain_id)}
    settings = load_settings(None, network=None, environment=environment)
    limits = (settings.confirmations, settings.max_fee, settings.transactions)
    sending = Sending(*limits, purpose=purpose, max_cost=settings.max_cost)
    return Chain(url, chain_id=provider.chain_id, sending=sending)


def deployed_contract(provider: Any, address: str | None) -> BlockOTAContract:
    """Return the BlockOTA contract at an address, by default at the address in ``deployments/<chain id>.json``.

    Raises:
        UsageError: no address is given, and the deployment file cannot be read.
    """
    chain = node_chain(provider, purpose="ape run")
    return BlockOTAContract(chain, address or Deployment.read(Deployment.path(Path(), chain.chain_id)).contract)


def proposing_script(command: Callable[..., None]) -> Callable[..., None]:
    """Add ``--contract``, ``--sign`` and the options of every command that makes a proposal."""

    @proposing_options
    @click.option("--contract", help="Address of BlockOTA; by default from deployments/<chain id>.json.")
    @click.option("--sign", metavar="URI", help="Sign at once with this owner's key, such as env:OWNER_KEY.")
    @functools.wraps(command)
    def wrapped(**options: object) -> None:
        with errors_reported():
            command(**options)

    return wrapped


def write_proposal(
    contract: BlockOTAContract, make: Callable[[Reason], Proposal], proposing: ProposalOptions, *, sign: str | None
) -> None:
    """Make a proposal, sign it if the URI of an owner's key is given, and write both files or none.

    Raises:
        UsageError: a file exists already, or the key cannot be read.
        RefusedError: the contract would refuse the call, or the proposal has a red flag that a person must judge.
    """
    file = proposing.output
    refuse_existing(file)
    account = open_key(contract.chain.chain_id, sign) if sign else None
    proposal = make(proposing.as_reason())
    signed, signature = b"", None
    if account:
        signature = file.with_name(f"{file.stem}.{account.address.lower()[:10]}.signature.json")
        refuse_existing(signature, why="it can belong to an earlier proposal with the same file name")
        signed = to_json([sign_unattended(contract, proposal, account=account, now=int(time.time()))])
    with result_files(file, signature) as (main, companion):
        main.write(proposal.to_json())
        if companion:
            companion.write(signed)
    warn_of_rivals(proposal, file, lambda sentence: click.echo(plain(sentence), err=True))
    click.echo(f"Wrote {file}: transaction {proposal.nonce} of the Safe {proposal.safe}")
    if signature:
        click.echo(f"Wrote {signature}: an owner's signature of the proposal")


@contextmanager
def errors_reported() -> Iterator[None]:
    """Report a known error as one sentence on stderr, and exit with its status."""
    try:
        yield
    except BlockOTAError as error:
        click.secho(f"Error: {plain(sentence_of(error))}", fg="red", err=True)
        sys.exit(error.exit_status)
