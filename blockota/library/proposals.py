"""Proposal files, their signature files in the same folder, and the owners' keys."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from blockota.approval.proposal import Proposal
from blockota.approval.signature import Signature, to_json
from blockota.connection import Connection
from blockota.errors import UsageError
from blockota.files import check_new_file, reading, write_result
from blockota.keys import account_of
from blockota.vendor.files import collect_signatures, read_proposal
from blockota.vendor.unattended import signature_path

if TYPE_CHECKING:
    from eth_account.signers.base import BaseAccount


def load_proposal(path: str | Path) -> tuple[Proposal, list[Signature]]:
    """Read a proposal file, and its signature files in the same folder.

    Args:
        path: the proposal file, such as ``1.4.0.json``. The names of its signature files have the form
            ``1.4.0.*signature*.json``.

    Returns:
        The proposal, and its valid signatures. A signature file that is not valid is skipped.

    Raises:
        UsageError: the file cannot be read.
        RefusedError: the file is not a proposal, or two files have different signatures of one owner.

    Examples:
        >>> proposal, signatures = load_proposal("1.1.0.json")
        >>> proposal.reason, len(signatures)
        ('fixes the watchdog', 2)
    """
    proposal = read_proposal(Path(path))
    return proposal, collect_signatures(Path(path), proposal)


def save_proposal(path: str | Path, proposal: Proposal, *signatures: Signature) -> list[Path]:
    """Write a proposal file, and a file in the same folder for each signature.

    Args:
        path: the proposal file. An existing file is accepted only if it contains this proposal.
        proposal: the proposal.
        signatures: signatures of the proposal.

    Returns:
        The files that were written.

    Raises:
        UsageError: a file exists with other contents, or cannot be written.

    Examples:
        >>> proposal, signatures = load_proposal("1.1.0.json")
        >>> save_proposal("1.1.0.json", proposal, *signatures)
        []
        >>> [path.name for path in save_proposal("copy.json", proposal, signatures[0])]
        ['copy.json', 'copy.0x3c44cddd.signature.json']
    """
    file = Path(path)
    wanted = {file: proposal.to_json()}
    wanted |= {signature_path(file, one.signer): to_json([one]) for one in signatures}
    # All files are compared before the first is written.
    missing = {}
    for one, content in wanted.items():
        with reading(one):
            if not one.is_file() or one.read_bytes() != content:
                missing[one] = content
    for one in missing:
        check_new_file(one, why="it has other contents")
    for one, content in missing.items():
        write_result(one, content)
    return list(missing)


def open_key(connection: Connection, key: str | BaseAccount, *, password: str | None) -> BaseAccount:
    """Return the account that `key` names by a URI; if `key` is an account already, return `key`.

    Raises:
        UsageError: the key cannot be read, or a keystore needs a password and no password is given.
        RefusedError: the password is wrong, or a development key is named on a chain that is not local.
    """

    def give_password(prompt: str) -> str:
        if password is None:
            raise UsageError("no password given", why=prompt.rstrip(": "), remedy="give the keystore's password")
        return password

    if not isinstance(key, str):
        return key
    return account_of(key, is_local_chain=connection.is_local_chain, ask_password=give_password)
