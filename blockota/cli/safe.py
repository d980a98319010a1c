"""``blockota safe``: show and change the owners and the threshold of a Safe that owns a contract."""

from __future__ import annotations

from collections.abc import Callable

import click

from blockota.approval.chain_view import SafeState
from blockota.bindings.safe import read_safe
from blockota.cli.options import ProposalOptions, of_option, proposing_options, save_proposal
from blockota.cli.parameters import ADDRESS, NumberRange
from blockota.cli.proposal_text import show_part
from blockota.cli.session import Session, VerbGroup, with_session
from blockota.vendor.propose import add_call, propose_to_itself, remove_call, replace_call, threshold_call

_THRESHOLD = NumberRange(1, 256)


@click.group(cls=VerbGroup)
def safe() -> None:
    """Show the owners and the threshold of a Safe, and propose to change them.

    The default Safe is the owner of the contract BlockOTA.
    """


@safe.command()
@of_option
@with_session
def owners(session: Session, /, of: str) -> None:
    """Show the Safe that owns the contract: owners, threshold, nonce.

    \b
    Example:  blockota safe owners
              blockota safe owners --of identities
    """
    connection, contract = session.owned(of)
    state = read_safe(connection.chain, contract.owner())
    fields = {"safe": state.address, **state.as_fields()}
    del fields["address"]
    rows = {
        "Safe": state.address,
        "owners": state.quorum,
        "next nonce": state.nonce,
    }
    session.result(fields, lambda: show_part(session, [rows]))


@safe.command()
@click.argument("owner", type=ADDRESS)
@click.option("--threshold", type=_THRESHOLD, help="New threshold; unchanged by default.")
@of_option
@proposing_options
@with_session
def add(session: Session, /, owner: str, threshold: int | None, of: str, proposing: ProposalOptions) -> None:
    """Propose to add OWNER to the Safe's owners.

    \b
    Example:  blockota safe add 0x15d34AAf54267DB7D7c367839AAf71A00a2C6A65 \\
                  --reason "Dora joins" -o add.json
    """
    _propose(session, lambda state: add_call(state, owner, threshold=threshold), of, proposing)


@safe.command()
@click.argument("owner", type=ADDRESS)
@click.option("--threshold", type=_THRESHOLD, help="New threshold; unchanged by default.")
@of_option
@proposing_options
@with_session
def remove(session: Session, /, owner: str, threshold: int | None, of: str, proposing: ProposalOptions) -> None:
    """Propose to remove OWNER from the Safe's owners.

    \b
    Example:  blockota safe remove 0x15d34AAf54267DB7D7c367839AAf71A00a2C6A65 \\
                  --reason "lost key" -o remove.json
    """
    _propose(session, lambda state: remove_call(state, owner, threshold=threshold), of, proposing)


@safe.command("replace")
@click.argument("old", type=ADDRESS)
@click.argument("new", type=ADDRESS)
@of_option
@proposing_options
@with_session
def replace_(session: Session, /, old: str, new: str, of: str, proposing: ProposalOptions) -> None:
    """Propose to replace the owner OLD of the Safe by NEW.

    The threshold stays the same. Use this command after an owner lost a key.

    \b
    Example:  blockota safe replace 0x70997970C51812dc3A010C7d01b50e0d17dc79C8 \\
                  0x15d34AAf54267DB7D7c367839AAf71A00a2C6A65 \\
                  --reason "Ann lost her key" -o replace.json
    """
    _propose(session, lambda state: replace_call(state, old, new), of, proposing)


@safe.command()
@click.argument("number", type=_THRESHOLD)
@of_option
@proposing_options
@with_session
def threshold(session: Session, /, number: int, of: str, proposing: ProposalOptions) -> None:
    """Propose to change the threshold to NUMBER.

    The threshold is the number of owners who must sign.

    \b
    Example:  blockota safe threshold 3 --reason "we are five now" \\
                  -o threshold.json
    """
    _propose(session, lambda state: threshold_call(state, number), of, proposing)


def _propose(session: Session, call: Callable[[SafeState], bytes], of: str, proposing: ProposalOptions) -> None:
    connection, contract = session.owned(of)
    save_proposal(
        session, lambda reason: propose_to_itself(contract, call, reason=reason), proposing, connection=connection
    )
