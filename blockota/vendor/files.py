"""Reads proposals, signatures, chain views, Transaction Builder files and image keys. Errors name the file."""

from __future__ import annotations

import fnmatch
import glob
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from blockota.approval.chain_view import ChainView
from blockota.approval.proposal import Proposal
from blockota.approval.signature import Signature, check_signature, from_other_tool, merge
from blockota.approval.signature import from_json as read_signature_file
from blockota.approval.transaction_builder import BuilderTransaction, from_builder
from blockota.errors import Action, BlockOTAError, ChainError, ProposalError, UsageError
from blockota.files import naming_file, read_input
from blockota.formats.public_key import KeyKind, PublicKey, read_pem
from blockota.settings import REGISTRIES, Settings
from blockota.strict_json import MAX_FILE_SIZE

_HEAD_SIZE = 256
"""The mark of a file's format must be within this number of bytes at the start of the file."""
_PROPOSAL_MARK, VIEW_MARK = b"blockota-proposal-", b"blockota-view-"
_MAX_KEY_FILE = 1 << 12
"""The maximum size of the file of a public key, in bytes."""
PACK_MARK = b"\xa2\x65roots"
"""The first bytes of a CARv1's header. They are not valid UTF-8, so no JSON file contains them."""


@dataclass(frozen=True)
class ProposalFolder:
    """The proposals of a folder.

    Attributes:
        proposals: proposals by path, in the order of the file names.
        skipped: a dict from path to reason, for the proposal files that cannot be read.
    """

    proposals: dict[Path, Proposal]
    skipped: dict[Path, str]

    def without(self, unreachable: Mapping[int, ChainError]) -> ProposalFolder:
        """Skip the proposals for chains that cannot be reached.

        `unreachable` maps the chain id of each unreachable chain to the error.
        """
        left = {path: one for path, one in self.proposals.items() if one.chain_id not in unreachable}
        errors = {path: unreachable[self.proposals[path].chain_id] for path in self.proposals.keys() - left.keys()}
        skipped = {path: f"{path}: {error.what}, {error.why}".rstrip(", ") for path, error in errors.items()}
        return ProposalFolder(left, dict(sorted({**self.skipped, **skipped}.items())))


def read_proposal(path: Path) -> Proposal:
    """Read a proposal file.

    Raises:
        UsageError: the file cannot be read, or is a pack.
        ProposalError: the file is not a proposal.
    """
    if is_pack(path):
        raise UsageError(
            f"{path} is a pack",
            why="a pack is only for review and signing without a network",
            remedy="give the proposal file from which the pack was made",
        )
    raw = read_input(path, limit=MAX_FILE_SIZE)
    with naming_file(path):
        return Proposal.from_json(raw)


def read_signatures(path: Path, *, proposal: Proposal | None = None) -> list[Signature]:
    """Read a signature file.

    Args:
        path: the signature file.
        proposal: the signed proposal. If `proposal` is None, signature files of other tools are refused.
    """
    raw = read_input(path, limit=MAX_FILE_SIZE)
    with naming_file(path):
        if proposal is None or raw.lstrip().startswith(b"{"):
            return read_signature_file(raw)
        return from_other_tool(raw, proposal)


def read_builder(path: Path) -> BuilderTransaction:
    """Read a file of Safe's Transaction Builder."""
    raw = read_input(path, limit=MAX_FILE_SIZE)
    with naming_file(path):
        return from_builder(raw)


def read_view_file(path: Path, settings: Settings) -> ChainView:
    """Read a chain view file, and compare the view with the contracts and the Safe in the settings.

    Raises:
        ProposalError: the chain, contract or Safe of the view differs from the settings.
    """
    raw = read_input(path, limit=MAX_FILE_SIZE)
    with naming_file(path):
        view = replace(ChainView.from_json(raw), source=path.name)
    return check_view(view, settings)


def check_view(view: ChainView, settings: Settings) -> ChainView:
    """Compare an untrusted chain view with the contracts and the Safe in the settings.

    Only the addresses that the settings contain are compared.

    Returns:
        The view. If the settings do not name a contract, the view's `is_pinned` is False.

    Raises:
        ProposalError: the chain, contract or Safe of the view differs from the settings.
    """
    if settings.contract is None and not settings.registries:
        return replace(view, is_pinned=False)
    named = {"BlockOTA": view.contract, **view.registries}
    found = {name: place for name, place in named.items() if place}
    for name, place in found.items() or [("no contract", "")]:
        known = [settings.contract or ""] if name == "BlockOTA" else []
        known += [known_place for key, known_place in settings.registries.items() if REGISTRIES[key] == name]
        if settings.chain_id != view.chain_id or place.lower() not in map(str.lower, known):
            raise ProposalError(
                "the chain view is of another contract",
                why=f"the view is of {name} {place} on chain {view.chain_id}, but the settings name "
                f"{' and '.join(filter(None, known)) or 'none'} on chain {settings.chain_id}",
                remedy="do not sign; ask the sender for a view of your contract, or choose the network of this view",
                action=Action.CHOOSE_NETWORK,
            )
    # Replication contract and Safe are those of the configured BlockOTA.
    if settings.contract and (view.contract or "").lower() != settings.contract.lower():
        return view
    for what, place, wanted in (
        ("replication contract", view.replication or "", settings.replication),
        ("Safe", view.safe.address, settings.safe),
    ):
        if wanted and place.lower() != wanted.lower():
            raise ProposalError(
                f"the chain view is of another {what}",
                why=f"the view names {place or 'none'}, but the settings name {wanted}",
                remedy="ask the person who exported the view; if the vendor has a new address, correct the settings",
            )
    return view


def read_folder(folder: Path, *, without: Path | None = None) -> ProposalFolder:
    """Read the proposals in a folder. The file `without` is skipped, because it is open already.

    Raises:
        UsageError: the folder does not exist.
    """
    if not (os.path.lexists(folder) and folder.is_dir()):
        why = "this command lists the proposals of a folder"
        raise UsageError(f"{folder} is not a folder", why=why, remedy="name a folder")

    found = ProposalFolder({}, {})
    for path in sorted(folder.glob("*.json")):
        if path == without or _PROPOSAL_MARK not in _head(path):
            continue
        try:
            found.proposals[path] = read_proposal(path)
        except BlockOTAError as error:
            found.skipped[path] = f"{error.what}: {error.why}"
    return found


def collect_signatures(
    file: Path,
    proposal: Proposal,
    *,
    named: Sequence[Path] = (),
    owners: Sequence[str] | None = None,
    note: Callable[[str], object] = lambda _: None,
) -> list[Signature]:
    """Read the signature files that the user named, and the proposal's signature files in its folder.

    Args:
        file: path of the proposal file, ``NAME.json``. Files ``NAME.*signature*.json`` in the same folder are also
            read.
        proposal: the proposal in `file`.
        named: signature files that the user named. Their signatures are returned unchecked. An invalid signature in
            these files is therefore not skipped, but refused when it is used.
        owners: owners of the Safe, or None. If the owners are given, signatures of other signers in the folder are
            skipped.
        note: called with a sentence for each file or signature that is skipped.

    Returns:
        One signature for each signer, in ascending order of the signers' addresses.
    """
    given = [signature for path in named for signature in read_signatures(path, proposal=proposal)]
    known = {path.resolve() for path in named}

    beside = {}
    for path in sorted(file.parent.glob(_signature_pattern(file))):
        if path.resolve() in known:
            continue
        try:
            for signature in read_signatures(path):
                check_signature(proposal, signature)
                beside[signature.signer] = signature
        except BlockOTAError as error:  # an invalid file that the user did not name is only skipped
            note(f"Skipped {path.name}: {error.what}: {error.why}")
    for signer in sorted(beside.keys() - {signature.signer for signature in given}):
        if owners is None or signer in owners:
            given.append(beside[signer])
        else:
            note(f"Skipped the signature of {signer}: not an owner of the Safe")
    return merge(given)


def is_beside(signature: Path, file: Path) -> bool:
    """Return whether `collect_signatures` reads a signature file because of its folder and name."""
    is_same_folder = signature.parent.resolve() == file.parent.resolve()
    return is_same_folder and fnmatch.fnmatchcase(signature.name, _signature_pattern(file))


def _signature_pattern(file: Path) -> str:
    return f"{glob.escape(file.stem)}.*signature*.json"


def refuse_to_replace(path: Path, mark: bytes) -> None:
    """Refuse to overwrite an existing file, unless the file's first bytes contain `mark`.

    Raises:
        UsageError: the file exists and has another format.
    """
    if os.path.lexists(path) and mark not in _head(path):
        raise UsageError(
            f"{path} already exists", why="the existing file has another format", remedy="choose another output file"
        )


def is_pack(path: Path) -> bool:
    """Whether the first bytes of a file are those of a pack (`blockota.vendor.pack`)."""
    return PACK_MARK in _head(path)


def _head(path: Path) -> bytes:
    """Return the first bytes of a file; empty if it is not a regular file, or cannot be read."""
    try:
        if not path.is_file():
            return b""
        with path.open("rb") as file:
            return file.read(_HEAD_SIZE)
    except OSError:
        return b""


def read_image_key(files: Mapping[str, Path], product: str) -> PublicKey | None:
    """Read the key of a product's images from the file that the settings name.

    Returns None if the settings name no file for the product.

    Raises:
        UsageError: the file cannot be read, or is not a public key on P-256.
    """
    path = files.get(product)
    if path is None:
        return None

    try:
        key = read_pem(read_input(path, limit=_MAX_KEY_FILE).decode("ascii", "replace"))
    except UsageError as error:
        raise error.revised(what=f"the image key {path} cannot be used: {error.what}") from error

    if key.kind is not KeyKind.P256:
        raise UsageError(
            f"the image key {path} cannot be used",
            why=f"it is a key of the kind {key}, and images are signed on P-256",
            remedy=f"correct {product} in [image_keys] of the settings file",
        )
    return key
