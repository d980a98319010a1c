"""``blockota key``: make a key in a keystore file, and print the address of a key."""

from __future__ import annotations

import functools
import shlex
from pathlib import Path

import click

from blockota.cli.keys import ask_password, open_key, password_option, password_source
from blockota.cli.session import Session, VerbGroup, with_session_offline
from blockota.deployment import LOCAL_CHAIN_ID
from blockota.files import home_path


def _keystore_path(value: str) -> Path:
    """Parse the path of a new keystore, also in the form ``keystore:FILE`` that ``--key`` takes."""
    kind, colon, name = value.partition(":")
    if colon and kind in ("ape", "env", "dev"):
        raise click.BadParameter(f"{kind}: names a key that exists already; a new key is made in a file.")
    return home_path(name if colon and kind == "keystore" else value)


@click.group(cls=VerbGroup)
def key() -> None:
    """Make the key of an owner or a broker, and print the addresses of keys."""


@key.command()
@click.argument("file", type=_keystore_path)
@password_option
@with_session_offline
def new(session: Session, /, file: Path, password_fd: int | None) -> None:
    """Make a key, and write it to the keystore FILE.

    FILE must be new. The file is encrypted with a password, which is asked for twice.

    \b
    Example:  blockota key new alice.json
    """
    from blockota.keys import create_keystore

    ask = functools.partial(ask_password, is_new=True) if password_fd is None else password_source(password_fd)
    address = create_keystore(file, ask_password=ask)
    uri = f"keystore:{file}"

    def show() -> None:
        session.done(f"{file} contains the key of {address}, encrypted with your password")
        session.note("Keep a copy of the file and of its password elsewhere: if one of them is lost, so is the key.")

    session.result(
        {"keystore": str(file), "address": address, "key": uri},
        show,
        then=f"Send the address to the vendor, never the file. Commands use the key with `--key {shlex.quote(uri)}`",
    )


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
