"""``blockota cid``: print the content address of a file."""

from __future__ import annotations

from pathlib import Path

import click

from blockota.cli.session import Session, with_session
from blockota.files import reading
from blockota.formats.cid import cid_of


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@with_session
def cid(session: Session, file: Path) -> None:
    """Print the content address (CID) of FILE, in the profile unixfs-v1-2025 (IPIP-499).

    \b
    Example:  blockota cid examples/bluepill/images/bluepill-1.0.0.bin
    """
    with reading(file), file.open("rb") as stream:
        address = cid_of(stream)
    session.result({"file": str(file), "cid": str(address)}, lambda: click.echo(str(address)))
