"""Shared functions of the ``ape run`` scripts: connect to the chain, write proposal files, and report errors."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import wraps
from typing import Any

import click

from blockota.approval.proposal import Proposal
from blockota.cli.options import ProposalOptions, proposing_options, write_proposed
from blockota.cli.remedies import sentence_of
from blockota.connection import Connection
from blockota.errors import BlockOTAError, UsageError, plain
from blockota.settings import load_settings
from blockota.vendor.propose import Reason


def connect(provider: Any, *, purpose: str, contract: str | None = None, store: str | None = None) -> Connection:
    """Return the connection to the chain of an Ape provider, with the settings for the chain's id.

    Args:
        provider: the provider that Ape selected.
        purpose: the script's name, which the journal of transactions records.
        contract: address of BlockOTA; None selects the address in the settings.
        store: URL of the content store; None selects the URL in the settings.

    Raises:
        UsageError: the provider has no HTTP address, or a setting is not valid.
    """
    url = getattr(provider, "http_uri", None) or getattr(provider, "uri", None)
    if not isinstance(url, str) or not url:
        raise UsageError(
            "cannot reach the node",
            why=f"Ape's provider {getattr(provider, 'name', provider)} has no HTTP address",
            remedy="choose with --network a provider that uses JSON-RPC over HTTP",
        )
    settings = load_settings(None, network=None, environment=os.environ, node=(url, provider.chain_id))
    if contract and contract.lower() != (settings.contract or "").lower():
        # The other addresses in the settings belong to the configured contract.
        settings = replace(settings, contract=contract, replication=None, safe=None)
    return Connection(replace(settings, store=store or settings.store), purpose=purpose)


def proposing_script(command: Callable[..., None]) -> Callable[..., None]:
    """Add ``--contract`` and the options of every command that makes a proposal."""

    @proposing_options
    @click.option("--contract", help="Address of BlockOTA; by default from the settings.")
    @wraps(command)
    def wrapped(**options: object) -> None:
        with errors_reported():
            command(**options)

    return wrapped


def save_proposal(connection: Connection, make: Callable[[Reason], Proposal], proposing: ProposalOptions) -> None:
    """Make a proposal, sign it if a key is given, write all files or none, and print their names.

    Raises:
        UsageError: a file exists already, or the key cannot be read.
        RefusedError: the contract would revert the call, or the proposal has a red flag that a person must judge.
    """
    written, _, _ = write_proposed(
        connection, make, proposing, note=lambda warning: click.echo(plain(warning), err=True)
    )
    proposal = written.proposal
    click.echo(f"Wrote {written.path}: transaction {proposal.nonce} of the Safe {proposal.safe}")
    if written.signature:
        click.echo(f"Wrote {written.signature}: an owner's signature of the proposal")


@contextmanager
def errors_reported() -> Iterator[None]:
    """Report a known error as one sentence on stderr, and exit with its status."""
    try:
        yield
    except BlockOTAError as error:
        click.secho(f"Error: {plain(sentence_of(error))}", fg="red", err=True)
        sys.exit(error.exit_status)
