"""What the scripts of ``ape run`` share: the node behind Ape's provider, and errors as sentences."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from blockota.chain.chain import Chain, Sending
from blockota.errors import BlockOTAError, UsageError
from blockota.settings import load_settings
from blockota.text import plain


def node_url(provider: Any) -> str:
    """The HTTP address of the node behind a provider of Ape (``ape.api.ProviderAPI``).

    Raises:
        UsageError: it has none.
    """
    url = getattr(provider, "http_uri", None) or getattr(provider, "uri", None)
    if not isinstance(url, str) or not url:
        raise UsageError(
            "the node cannot be reached",
            why=f"Ape's provider {getattr(provider, 'name', provider)} has no HTTP address",
            remedy="name a network with --network whose provider speaks JSON-RPC over HTTP",
        )
    return url


def node_chain(provider: Any, *, purpose: str) -> Chain:
    """The chain behind a provider of Ape; what is sent there is journalled, paid for and confirmed by our settings.

    Args:
        provider: Ape's (``ape.api.ProviderAPI``).
        purpose: the command, for whoever finds a transaction in the journal.
    """
    environment = os.environ | {"BLOCKOTA_CHAIN_ID": str(provider.chain_id)}
    settings = load_settings(None, network=None, environment=environment)
    sending = Sending(settings.confirmations, settings.max_fee, settings.transactions, purpose=purpose)
    return Chain(node_url(provider), chain_id=provider.chain_id, sending=sending)


@contextmanager
def told_errors() -> Iterator[None]:
    """End the script with one sentence on stderr, and the exit status that belongs to it, when something goes wrong."""
    try:
        yield
    except BlockOTAError as error:
        click.secho(f"Error: {plain(error)}", fg="red", err=True)
        sys.exit(error.exit_status)
