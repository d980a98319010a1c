"""``blockota key``: make a key in a keystore file, and print the address of a key."""

from __future__ import annotations

import functools
from pathlib import Path

import click

from blockota.cli.keys import ask_password, open_key, password_option, password_source
from blockota.cli.session import Session, VerbGroup, with_session_offline
from blockota.settings import LOCAL_CHAIN_ID


@click.group(cls=VerbGroup)
def key() -> None:
    """Make the key of an owner or a broker, and print the addresses of keys."""


@key.command()
@click.argument("file", type=click.Path(path_type=Path))
@password_option
@with_session_offline
def new(session: Session, /, file: Path, password_fd: int | None) -> None:
    """Make a key, and write it to the keystore FILE.

    FILE must be new. It is encrypted with a password, which is asked for twice.

    \b
    Example:  blockota key new alice.json
    """
    from blockota.keys import create_keystore

    path = Path(str(file).removeprefix("keystore:"))  # people type the name that --key takes
    ask = functools.partial(ask_password, is_new=True) if password_fd is None else password_source(password_fd)
    address = create_keystore(path, ask_password=ask)
    fields = {"keystore": str(path), "address": address, "key": f"keystore:{path}"}

    def show() -> None:
        session.done(f"{path} is the keystore of {address}")
        session.note("Keep copies of the file and of its password in other places: they cannot be restored.")
        session.note(f"Next: send the address to the vendor, and use the key with --key keystore:{path}")

    session.result(fields, show)


@key.command()
@click.argument("uri")
@password_option
@with_session_offline
def address(session: Session, /, uri: str, password_fd: int | None) -> None:
    """Open the key URI and print its address.

    URI is keystore:FILE, ape:ALIAS or env:NAME.

    \b
    Example:  blockota key address keystore:alice.json
    """
    # The address of a development key is public, so the key may be named although no chain is chosen.
    found = open_key(LOCAL_CHAIN_ID, uri, password_fd).address
    session.result({"address": found}, lambda: click.echo(found))
