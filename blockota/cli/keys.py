"""Options that name a key, and the input of the key's password from the terminal or a file descriptor.

Commands and the scripts of `ape run` share this module, so it does not need a `Session`.
"""

from __future__ import annotations

import functools
import os
import re
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from blockota.cli.layout import console, print_sentence
from blockota.errors import UsageError, plain

if TYPE_CHECKING:  # eth-account takes 0.2 s to load
    from eth_account.signers.base import BaseAccount

_Command = TypeVar("_Command", bound=Callable[..., Any])
OpenSigner = Callable[[int], "BaseAccount"]
"""Opens an owner's key for the chain with a given id."""
_MAX_PASSWORD_SIZE = 1024
_KINDS = "keystore:FILE, ape:ALIAS, env:NAME, pkcs11:…, or dev:N on a local chain"


def descriptor(value: Any) -> int:
    """Parse the number of an open file descriptor. Errors do not show invalid input, because it could be a password."""
    if not re.fullmatch(r"\d{1,6}", str(value), re.ASCII):
        raise click.BadParameter("it is not the number of a file descriptor, such as 3; the input is not shown")
    return int(value)


def key_option(whose: str, *, default: str | None = None) -> Callable[[_Command], _Command]:
    """Add ``--key URI`` and ``--password-fd N`` to a command, as the parameters ``key`` and ``password_fd``.

    Args:
        whose: the key's owner, as the help text names it, such as "The broker's".
        default: the default value of ``--key``; None makes the option required, and an empty string makes it optional.
    """
    key = click.option(
        "--key",
        metavar="URI",
        help=f"{whose}: {_KINDS}.",
        required=default is None,
        default=default,
        show_default=bool(default),
    )
    return lambda command: key(password_option(command))


def password_option(command: _Command) -> _Command:
    """Add ``--password-fd N``, as the parameter ``password_fd``."""
    words = "File descriptor with the key's password."
    return click.option("--password-fd", type=descriptor, metavar="N", help=words)(command)


def sign_option(command: Callable[..., None]) -> Callable[..., None]:
    """Add ``--sign URI`` and ``--password-fd N``, as the parameter `sign`: an `OpenSigner`, or None without a URI."""

    @click.option("--sign", metavar="URI", help="Sign, if no red flag is raised.")
    @password_option
    @functools.wraps(command)
    def wrapped(*args: object, sign: str | None, password_fd: int | None, **kwargs: object) -> None:
        opener = (lambda chain_id: open_key(chain_id, sign, password_fd)) if sign else None
        command(*args, sign=opener, **kwargs)

    return wrapped


def open_key(chain_id: int, key: str, password_fd: int | None = None) -> BaseAccount:
    """Return the account that ``--key`` names. Without a file descriptor, the password is asked for on the terminal.

    Raises:
        UsageError: the key or its password cannot be read.
        RefusedError: the key is a development key and the chain is not local, or the password is wrong.
    """
    from blockota.chain import LOCAL_CHAIN_IDS
    from blockota.keys import account_of

    return account_of(
        key,
        is_local_chain=chain_id in LOCAL_CHAIN_IDS,
        ask_password=password_source(password_fd),
        note=lambda sentence: print_sentence(console(stderr=True), sentence, style="dim"),
    )


def password_source(descriptor: int | None) -> Callable[[str], str]:
    """Return a function that asks for a password on the terminal, or reads it from a file descriptor."""
    return ask_password if descriptor is None else lambda _: read_password(descriptor)


def ask_password(prompt: str, *, is_new: bool = False) -> str:
    """Ask for a password on the terminal, with hidden input. A new password is asked for twice.

    Raises:
        UsageError: the command does not run on a terminal.
    """
    if not sys.stdin or not sys.stdin.isatty():  # click would wait for a line and show it
        raise UsageError(
            "the password cannot be asked for without a terminal",
            why=plain(prompt.rstrip(": ")),
            remedy="give the password through a file descriptor with --password-fd, or name a key with env:NAME",
        )
    return str(click.prompt(plain(prompt.rstrip(": ")), hide_input=True, confirmation_prompt=is_new, err=True))


def read_password(descriptor: int) -> str:
    """Read a password: the first line of a file descriptor, at most 1 KiB, without the line end.

    Raises:
        UsageError: the descriptor cannot be read, or its first line is empty, too long or not UTF-8.
    """
    line = b""
    while len(line) <= _MAX_PASSWORD_SIZE:
        try:
            if not os.get_inheritable(descriptor):  # a socket or file that this process opened itself: reading may hang
                raise _no_password(descriptor, "the caller did not open it")
            byte = os.read(descriptor, 1)  # a single byte: other processes that share the descriptor may read the rest
        except OSError as error:
            raise _no_password(descriptor, error.strerror or str(error)) from error
        if byte in (b"", b"\n"):
            break
        line += byte
    else:
        raise _no_password(descriptor, f"its first line is longer than {_MAX_PASSWORD_SIZE} bytes")

    line = line.removesuffix(b"\r")
    if not line:
        raise _no_password(descriptor, "its first line is empty")
    try:
        return line.decode()
    except UnicodeDecodeError:
        # The exception contains the bytes of the password, so it is not chained.
        raise _no_password(descriptor, "its first line is not UTF-8") from None


def _no_password(descriptor: int, why: str) -> UsageError:
    return UsageError(
        f"no password can be read from file descriptor {descriptor}",
        why=why,
        remedy="open the descriptor in the shell, as in --password-fd 3 3< FILE",
    )
