"""``blockota contract``: show the contract, pause and resume it."""

from __future__ import annotations

import click

from blockota.approval.chain_view import SafeState
from blockota.bindings.block_ota import pause_call, resume_call
from blockota.bindings.safe import read_safe
from blockota.chain.transaction import coins
from blockota.cli.keys import key_option, open_key
from blockota.cli.next_steps import after_pausing
from blockota.cli.options import ProposalOptions, may_propose_options, proposing_options, save_proposal
from blockota.cli.proposal_text import show_part
from blockota.cli.session import Session, VerbGroup, with_session
from blockota.errors import ChainError, RefusedError, UsageError
from blockota.vendor.propose import propose


@click.group(cls=VerbGroup)
def contract() -> None:
    """Show the contract that records releases, and pause or resume it."""


@contract.command()
@with_session
def show(session: Session, /) -> None:
    """Show the contract, the Safe that owns it, and whether it is paused.

    \b
    Example:  blockota contract show
    """
    owner, paused = session.contract.owner_and_paused()
    safe = read_safe(session.chain, owner)
    fields = {
        "contract": session.contract.address,
        "chainId": session.chain.chain_id,
        "paused": paused,
        "safe": safe.as_fields(),
        "ownersUnableToPause": [] if paused else _warn_of_poor_owners(session, safe),
    }

    rows = {
        "contract": session.contract.address,
        "chain id": session.chain.chain_id,
        "paused": "YES, nothing can be published or installed" if paused else "no",
        "Safe": safe.address,
        "owners": safe.quorum,
        "next nonce": safe.nonce,
    }
    session.result(fields, lambda: show_part(session, [rows]))


def _warn_of_poor_owners(session: Session, safe: SafeState) -> list[str] | None:
    """Return the owners that cannot pay for an emergency pause (None if unknown), and print a warning for each."""
    try:
        cost, poor = session.contract.find_poor(safe.owners)
    except RefusedError as error:
        session.note(f"Warning: no owner could pause the contract now: {error.what}, {error.why}.")
        return list(safe.owners)
    except ChainError as error:  # the contract can be shown nevertheless
        session.note(f"Warning: it is unknown which owners could pay for a pause: {error.what}, {error.why}.")
        return None

    for owner, balance in poor.items():
        session.note(
            f"Warning: the owner {owner} has {coins(balance)} of the chain's coin, but an emergency pause can cost "
            f"{coins(cost)}. Send coin to this account before it is needed."
        )
    return list(poor)


@contract.command()
@key_option("Key of an owner, who pauses at once without a proposal", default="")
@may_propose_options
@with_session
def pause(session: Session, /, key: str, password_fd: int | None, proposing: ProposalOptions | None) -> None:
    """Stop all publishing and installing.

    With --key of one owner, the contract is paused immediately; with -o, a proposal is written.

    Any single owner of the Safe can pause the contract, but only a proposal can resume it.

    \b
    Example:  blockota contract pause --key keystore:alice.json
    """
    # One owner is enough to pause, because an incident cannot wait for a quorum. Resuming takes the threshold.
    if bool(key) == bool(proposing):
        raise UsageError(
            "exactly one of --key and -o is needed",
            why="--key URI pauses immediately as an owner, -o FILE writes a proposal to pause",
            remedy="pass one of them",
        )

    if proposing:
        save_proposal(session, lambda reason: propose(session.contract, pause_call(), reason=reason), proposing)
        return

    receipt = session.contract.pause(open_key(session.settings.chain_id, key, password_fd))
    transaction = "0x" + receipt.transaction.hex()
    fields = {"paused": True, "transaction": transaction, "block": receipt.block_number}
    sentence = f"publishing and installing are paused since block {receipt.block_number}, transaction {transaction}"
    session.result(fields, lambda: session.done(sentence), then=after_pausing())


@contract.command()
@proposing_options
@with_session
def resume(session: Session, /, proposing: ProposalOptions) -> None:
    """Propose to allow publishing and installing again.

    The Safe's owners decide.

    \b
    Example:  blockota contract resume --reason "1.4.1 is sound" -o resume.json
    """
    save_proposal(session, lambda reason: propose(session.contract, resume_call(), reason=reason), proposing)
