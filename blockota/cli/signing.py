"""The commands ``blockota proposal sign`` and ``execute``, and the options that all proposal commands share."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

import click

from blockota.approval.chain_view import ChainView
from blockota.approval.flags import Word
from blockota.approval.proposal import Proposal
from blockota.approval.red_flags import signature_flags
from blockota.approval.signature import accept, to_json, waive_text
from blockota.approval.signature import sign as sign_proposal
from blockota.bindings.safe import execute as execute_proposal
from blockota.cli.display import progress_bar
from blockota.cli.keys import key_option, open_key
from blockota.cli.next_steps import after_execution, after_signing
from blockota.cli.options import source_option
from blockota.cli.proposal_text import confirm_flags, confirm_signature, readable, show_flags, show_screen
from blockota.cli.session import Session, with_session
from blockota.desk import executed_on, view_of
from blockota.errors import Action, ChainError, UsageError
from blockota.files import check_new_file, write_result
from blockota.stores.store import Store
from blockota.vendor.files import check_view, collect_signatures, is_pack, read_proposal, read_view_file
from blockota.vendor.images import ImageInputs, ImageObserver
from blockota.vendor.pack import open_pack, read_packs_beside
from blockota.vendor.queue import check_next, check_pending, read_queue, with_queue
from blockota.vendor.review import Review, hash_fields, review_to_sign
from blockota.vendor.screen import screen_of
from blockota.vendor.unattended import signature_path

FILE = click.Path(path_type=Path)
view_option = click.option("--view", type=FILE, help="Chain view to use instead of asking a node; needs no network.")
signature_option = click.option(
    "--signature", "signatures", type=FILE, multiple=True, help="Signature file, in addition to those next to FILE."
)
unsigned_text_option = click.option(
    "--unsigned-text",
    is_flag=True,
    help="Count signatures of other tools, which cover neither reason, proposer nor expiry.",
)


def image_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--image``, ``--previous`` and ``--source``."""
    for option in (
        source_option,
        click.option("--previous", type=FILE, multiple=True, help="Image of the newest release, to compare with."),
        click.option("--image", type=FILE, multiple=True, help="Image that FILE publishes; searched for by default."),
    ):
        command = option(command)
    return command


@click.command()
@click.argument("file", type=FILE)
@key_option("An owner's")
@image_options
@view_option
@click.option("-o", "--output", type=FILE, help="Signature file to write; beside FILE by default.")
@click.option("--yes", is_flag=True, help="Sign without confirmation; red flags must still be confirmed.")
@with_session
def sign(
    session: Session,
    /,
    file: Path,
    key: str,
    password_fd: int | None,
    image: tuple[Path, ...],
    previous: tuple[Path, ...],
    source: tuple[str, ...],
    view: Path | None,
    output: Path | None,
    *,
    yes: bool,
) -> None:
    """Check FILE, hash its images, show it, and write a signature.

    FILE is a proposal, or a pack of `blockota proposal pack`, for which no network is needed. Images come from the
    pack or --image, or else from the store, or else from sources on the network.

    \b
    Example:  blockota proposal sign 1.4.0.json --key keystore:alice.json
              blockota proposal sign 1.4.0.pack --key ape:alice
    """
    now = int(time.time())
    with opened_proposal(session, file, view=view) as (proposal, read_view, open_store):
        # 1. The state of the proposal, which the review checks again. If it can no longer be executed, no password is
        # asked for.
        chain = with_neighbours(read_view(), file, proposal, now=now)
        require_pending(session, proposal, chain, now=now)

        # 2. The signer. The key is opened for the proposal's chain, so a development key never signs for a real chain.
        account = open_key(proposal.chain_id, key, password_fd)
        path = output or signature_path(file, account.address)
        if path.exists() and account.address in signers(session, file, proposal, view=chain):
            raise _signed_already(path, account.address)
        check_new_file(path, why="it can belong to an earlier proposal with the same file name")

        # 3. The review: the decoded calldata, the chain's state, and images that are hashed on this machine.
        inputs = image_inputs(session, image, previous, source, open_store=open_store)
        review = review_to_sign(proposal, chain, inputs, now=now, read_executed=executed_reader(session, chain))
    flags = review.red_flags(signer=account.address, now=now) or []
    if session.as_json:
        show_flags(session.err, flags)
    else:
        show_screen(session, screen_of(review, now=now), flags)
        session.out.print()

    # 4. Consent. --yes skips the question, but no red flag.
    confirm_flags(session, flags)
    if not yes:
        confirm_signature(session)

    # 5. The signature, in a separate file: owners can sign at the same time, and need not wait for each other.
    write_result(path, to_json([sign_proposal(proposal, account)]))
    fields = {
        "signature": str(path),
        "signer": account.address,
        **hash_fields(proposal),
        "images": [checked.fields for checked in review.images],
        "redFlags": [flag.as_fields() for flag in flags],
    }
    signed = signers(session, file, proposal, view=chain) | {account.address}
    then = after_signing(file, path, proposal, signed=len(signed), view=chain)
    session.result(fields, lambda: session.done(f"{path} is the signature of {account.address}"), then=then)


@click.command()
@click.argument("file", type=FILE)
@key_option("Pays for the transaction, and need not be an owner's")
@signature_option
@unsigned_text_option
@with_session
def execute(
    session: Session,
    /,
    file: Path,
    key: str,
    password_fd: int | None,
    signatures: tuple[Path, ...],
    *,
    unsigned_text: bool,
) -> None:
    """Check FILE and its signatures, simulate it, and send it.

    Any account can execute a proposal that enough owners have signed.

    \b
    Example:  blockota proposal execute 1.4.0.json --key env:PAYER_KEY
    """
    # 1. The state of the proposal. If its execution was already sent, it is continued in any state.
    proposal, now = read_proposal(file), int(time.time())
    view = with_neighbours(open_view(session, [proposal], path=None), file, proposal, now=now)
    chain = session.connection_to(proposal.chain_id).chain
    if not any(entry.newest.to == proposal.safe for entry in chain.unsettled()):
        require_pending(session, proposal, view, now=now)
        check_next(proposal, view)

    # 2. The signatures and the payer.
    flags = Review(proposal, view).red_flags(signer=None, now=now) or []
    signed = collect_signatures(file, proposal, named=signatures, owners=view.safe.owners, note=session.note)
    if unsigned_text:
        signed = waive_text(signed)
        flags += signature_flags(signed)
    accept(proposal, signed, owners=view.safe.owners, threshold=view.safe.threshold)
    account = open_key(chain.chain_id, key, password_fd)

    # 3. The execution.
    if not session.as_json:
        session.print(readable(proposal.headline))
    show_flags(session.err, [flag for flag in flags if flag.word not in {Word.NONCE, Word.EXPIRED}])
    receipt = execute_proposal(chain, proposal, signatures=signed, account=account, now=now)
    transaction = "0x" + receipt.transaction.hex()
    fields = {"transaction": transaction, "block": receipt.block_number, "gas": receipt.gas_used}
    sentence = f"executed in block {receipt.block_number} for {receipt.gas_used:,} gas, transaction {transaction}"
    session.result(fields, lambda: session.done(sentence), then=after_execution(proposal))


def with_neighbours(view: ChainView, file: Path, proposal: Proposal, *, now: int) -> ChainView:
    """Add the other proposals in the folder of `file` to the queue of a chain view."""
    queue = (read_packs_beside(file) if is_pack(file) else {}) | read_queue(file.parent, without=file)
    return with_queue(view, proposal, queue, now=now)


def require_pending(session: Session, proposal: Proposal, view: ChainView, *, now: int) -> None:
    """Refuse a proposal that was executed, was replaced or has expired.

    Raises:
        ProposalError: the proposal can no longer be executed, or is for another chain or Safe.
    """
    check_pending(proposal, view, now=now, read_executed=executed_reader(session, view))


def executed_reader(session: Session, view: ChainView) -> Callable[[], frozenset[bytes]] | None:
    """Return a function that reads which transactions a Safe has executed; None if the view was read from a file.

    Only the events on the chain distinguish executed from replaced proposals, so a node is needed.
    """
    return None if view.source else functools.partial(executed_on, session.connection_to(view.chain_id), view)


def _signed_already(path: Path, signer: str) -> UsageError:
    remedy = "nothing is left to sign with this key; send the file to the proposer, if they do not have it"
    return UsageError(
        "this key has signed the proposal already", why=f"{path} is the signature of {signer}", remedy=remedy
    )


def signers(session: Session, file: Path, proposal: Proposal, *, view: ChainView) -> set[str]:
    """Return the owners whose valid signatures are in the folder of a proposal."""
    found = collect_signatures(file, proposal, owners=view.safe.owners, note=session.note)
    return {one.signer for one in found if one.counts}


@contextmanager
def opened_proposal(
    session: Session, file: Path, *, view: Path | None
) -> Iterator[tuple[Proposal, Callable[[], ChainView], Callable[[], Store]]]:
    """Open a proposal file or a pack; yields the proposal, and functions that return its chain view and its store.

    Args:
        session: the settings and the terminal.
        file: a proposal file, or a pack.
        view: a chain view file, which replaces the view of the node or of the pack.

    Raises:
        ProposalError: the file is neither a proposal file nor a pack, or the contract in the settings is not the
            contract in the pack.
    """
    if not is_pack(file):
        proposal = read_proposal(file)

        def read_view() -> ChainView:
            try:
                return open_view(session, [proposal], path=view)
            except ChainError as error:
                if error.action:
                    raise
                remedy = f"{error.remedy}. Off line, sign a pack, which is made on line"
                raise error.revised(remedy=remedy, action=Action.MAKE_PACK) from error

        yield proposal, read_view, lambda: session.store
        return

    with ExitStack() as opened:
        with progress_bar(session, "Checking", total=file.stat().st_size) as progress:
            pack = opened.enter_context(open_pack(file, on_progress=progress))
        settings = session.connection_to(pack.proposal.chain_id).settings
        packed = check_view(pack.view, settings)
        yield pack.proposal, lambda: read_view_file(view, settings) if view else packed, lambda: pack


def open_view(session: Session, proposals: Sequence[Proposal], *, path: Path | None) -> ChainView:
    """Return the state of the proposals' chain, from a chain view file, or from a node if no file is named.

    Without proposals, the chain is the producer chain.

    Raises:
        ProposalError: the chain or contract of the chain view differs from the settings.
    """
    connection = session.connection_to(proposals[0].chain_id) if proposals else session.connection
    return view_of(connection, proposals) if path is None else read_view_file(path, connection.settings)


def image_inputs(
    session: Session,
    images: Sequence[Path],
    previous: Sequence[Path],
    sources: Sequence[str],
    *,
    open_store: Callable[[], Store],
) -> ImageInputs:
    """Return where a proposal's images are found, from the values of ``--image``, ``--previous`` and ``--source``."""

    class _TerminalObserver(ImageObserver):
        """Prints notes and progress bars on the terminal."""

        def note(self, sentence: str) -> None:
            session.note(sentence)

        def progress(self, what: str, total: int) -> AbstractContextManager[Callable[[int], object]]:
            return progress_bar(session, what, total=total)

    return ImageInputs(
        open_store,
        sources=session.connection.image_sources(sources),
        images=images,
        previous=previous,
        observer=_TerminalObserver(),
        image_keys=session.settings.image_keys,
    )
