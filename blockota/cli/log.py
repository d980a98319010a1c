"""``blockota log``: the append-only log of a gateway, validator or bench."""

from __future__ import annotations

import click

from blockota.cli.log_verify import receipt, verify
from blockota.cli.session import VerbGroup


@click.group(cls=VerbGroup)
def log() -> None:
    """Prove entries of logs, and check proofs.

    A log is a list of entries that only grows. An entry that a device runs a release is a receipt.
    """


log.add_command(receipt)
log.add_command(verify)
