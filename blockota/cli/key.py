"""``blockota key``: make a key in a keystore file, print a key's address or public key, and sign an MCUboot image."""

from __future__ import annotations

import functools
import os
import shlex
from pathlib import Path

import click

from blockota.cli.keys import ask_password, open_key, password_option, password_source
from blockota.cli.session import Session, VerbGroup, with_session_offline
from blockota.deployment import LOCAL_CHAIN_ID
from blockota.errors import UsageError
from blockota.files import check_new_file, home_path, read_input, write_result
from blockota.formats.iotregistry import compressed
from blockota.formats.mcuboot_signature import digest_to_sign, key_hash, with_signature
from blockota.formats.public_key import KeyKind, PublicKey
from blockota.keys import create_keystore, open_token_key, public_key_of
from blockota.model.draft import MAX_PROGRAM


def _keystore_path(value: str) -> Path:
    """Parse the path of a new keystore, also in the form ``keystore:FILE`` that ``--key`` takes."""
    kind, colon, name = value.partition(":")
    if colon and kind in ("ape", "env", "pkcs11", "dev"):
        raise click.BadParameter(f"{kind}: names a key that exists already; a new key is made in a file.")
    return home_path(name if colon and kind == "keystore" else value)


@click.group(cls=VerbGroup)
def key() -> None:
    """Make the key of an owner or a broker, print addresses and public keys, and sign images."""


@key.command()
@click.argument("file", type=_keystore_path)
@password_option
@with_session_offline
def new(session: Session, /, file: Path, password_fd: int | None) -> None:
    """Make a key, and write it to the keystore FILE.

    FILE must be new. The file is encrypted with a password, for which the command prompts twice.

    \b
    Example:  blockota key new alice.json
    """
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

    URI is keystore:FILE, ape:ALIAS, env:NAME or pkcs11:….

    \b
    Example:  blockota key address keystore:alice.json
    """
    # The address of a development key is public, so the key may be named although no chain is chosen.
    found = open_key(LOCAL_CHAIN_ID, uri, password_fd).address
    session.result({"address": found}, lambda: click.echo(found))


@key.command()
@click.argument("uri")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="File to write; printed by default.")
@password_option
@with_session_offline
def public(session: Session, /, uri: str, output: Path | None, password_fd: int | None) -> None:
    """Print the public key of a key.

    The key of an account is printed in hexadecimal, as needed by `blockota device registrant admit`. The key of an
    identity (P-256) or of a log (Ed25519) in a PKCS #11 token is printed in PEM.

    \b
    Example:  blockota key public keystore:acme.json
              blockota key public -o log.pem \\
                  'pkcs11:token=gateway;object=log?module-path=/lib/p11.so'
    """
    curve, text = "secp256k1", ""
    if uri.startswith("pkcs11:"):
        found = open_token_key(uri, environment=os.environ, ask_pin=password_source(password_fd))
        curve, key = found.curve, found.public_key
        if kind := {"P-256": KeyKind.P256, "Ed25519": KeyKind.ED25519}.get(curve):
            text = PublicKey(kind, key).pem
    else:
        key = public_key_of(open_key(LOCAL_CHAIN_ID, uri, password_fd))

    text = text or compressed(b"\x04" + key).hex() + "\n"

    if output:
        write_result(output, text.encode())
    sentence = f"{output} contains the {curve} public key"
    fields = {"curve": curve, "publicKey": text, "output": str(output) if output else None}
    session.result(fields, lambda: session.done(sentence) if output else click.echo(text, nl=False))


@key.command("sign-image")
@click.argument("image", type=click.Path(path_type=Path))
@click.option("--key", metavar="URI", required=True, help="A P-256 key in a token: pkcs11:….")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="Signed image to write.")
@password_option
@with_session_offline
def sign_image(session: Session, /, image: Path, *, key: str, output: Path, password_fd: int | None) -> None:
    """Sign IMAGE, an unsigned MCUboot image, with a key in a token.

    IMAGE is made by `imgtool sign` without a key. The signed image has the same form as an image that `imgtool` signs;
    the key stays in the token.

    \b
    Example:  blockota key sign-image unsigned.bin -o signed.bin \\
                  --key 'pkcs11:token=acme;object=image?module-path=/lib/p11.so'
    """
    if not key.startswith("pkcs11:"):
        raise UsageError(
            "the key cannot sign an image here",
            why="it is not in a PKCS #11 token",
            remedy="write a URI that begins with pkcs11:, or use `imgtool sign -k` for a key in a file",
        )
    # The image is checked before the PIN is asked for.
    check_new_file(output, why="it may be an image that was published")
    unsigned = read_input(image, limit=MAX_PROGRAM)
    digest = digest_to_sign(unsigned)
    found = open_token_key(key, environment=os.environ, ask_pin=password_source(password_fd), curve="P-256")
    public = PublicKey(KeyKind.P256, found.public_key)
    write_result(output, with_signature(unsigned, public, found.sign_digest(digest)))
    sentence = f"{output} is signed by the key with SHA-256 {key_hash(public).hex()}"
    fields = {"output": str(output), "digest": digest.hex(), "imageKey": key_hash(public).hex()}
    session.result(fields, lambda: session.done(sentence))
