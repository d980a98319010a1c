"""A proposal on the screen: what it does, what it is worth, and what is unusual about it."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from blockota.cli.replica import as_shown
from blockota.cli.session import Session
from blockota.errors import RefusedError, UsageError
from blockota.release import show_time

if TYPE_CHECKING:
    from blockota.chain_view import ChainView
    from blockota.proposal import Proposal
    from blockota.red_flags import RedFlag


def show_meaning(session: Session, proposal: Proposal, *, view: ChainView | None) -> None:
    """Print what it does, decoded from the calldata, and what the chain says of the things that it names."""
    from blockota.approval import agreements_of
    from blockota.intent import describe

    for group in describe(proposal):
        session.fields(group)
        product = view.product(group["product"]) if view and "product" in group else None
        if product:
            session.fields({"chip id": f"0x{product.chip_id:03x}", "region": product.region, "OEM": product.oem})
    for number in agreements_of([proposal]):
        agreement = view.agreement(number) if view else None
        session.fields(
            as_shown(agreement)
            if agreement
            else {"agreement": f"{number}; which one it is, the chain view does not say"}
        )


def show_identity(session: Session, proposal: Proposal, *, view: ChainView | None) -> None:
    """Print the transaction's place, and the three hashes to compare with a wallet's screen."""
    expired = " (EXPIRED)" if time.time() >= proposal.expires else ""
    session.fields(
        {
            "calls": f"{proposal.contract if proposal.is_known and not proposal.is_rejection else 'the address'} "
            f"{proposal.to}",
            "chain id": proposal.chain_id,
            "Safe": proposal.safe,
            "nonce": proposal.nonce if view is None else f"{proposal.nonce}; the Safe is at {view.safe.nonce}",
            "expires": show_time(proposal.expires) + expired,
            "domain hash": "0x" + proposal.domain_hash.hex(),
            "message hash": "0x" + proposal.message_hash.hex(),
            "safeTxHash": "0x" + proposal.safe_tx_hash.hex(),
            "reason given": repr(proposal.reason) if proposal.reason else "none",
            "proposer, as they say": repr(proposal.proposer) if proposal.proposer else "not named",
        }
    )


def show_view(session: Session, view: ChainView) -> None:
    """Print how old what is known of the chain is, and who may sign."""
    session.fields(
        {
            "chain view": f"block {view.block_number} of {show_time(view.block_time)}, hash 0x{view.block_hash.hex()}",
            "owners": f"{view.safe.threshold} of {', '.join(view.safe.owners)} must sign",
        }
    )


def show_flags(session: Session, flags: Sequence[RedFlag]) -> None:
    """Print what is unusual, on stderr."""
    for flag in flags:
        session.err.print(f"[bold red]RED FLAG {flag.word}[/bold red]  ", end="")
        session.err.print(flag.what, markup=False)


def face_flags(session: Session, flags: Sequence[RedFlag]) -> None:
    """Have a person type the word of each flag.

    Raises:
        RefusedError: there is nobody to type, or another word was typed.
    """
    show_flags(session, flags)
    if flags and not _is_terminal():
        words = ", ".join(flag.word for flag in flags)
        raise RefusedError(
            "nothing was signed",
            why=f"there are red flags ({words}), and no terminal on which their words could be typed",
            remedy="look into them; then sign on a terminal, where --yes does not pass them either",
        )
    for flag in flags:
        if click.prompt(f"Type {flag.word} to sign in spite of it", err=True) != flag.word:
            raise RefusedError("nothing was signed", why=f"the word {flag.word} was not typed")


def ask_consent(session: Session) -> None:
    """Ask whether to sign.

    Raises:
        UsageError: there is nobody to ask.
        RefusedError: the answer is no.
    """
    if session.as_json or not _is_terminal():
        raise UsageError(
            "nobody agreed to sign", why="there is no terminal to ask on", remedy="read the proposal, then say --yes"
        )
    if not click.confirm("Sign this", err=True):
        raise RefusedError("nothing was signed", why="you said no")


def as_fields(proposal: Proposal, *, flags: Sequence[RedFlag] | None, signers: Mapping[str, str]) -> dict[str, Any]:
    """A proposal for JSON."""
    fields: dict[str, Any] = json.loads(proposal.to_json())
    return fields | {
        "domainHash": "0x" + proposal.domain_hash.hex(),
        "messageHash": "0x" + proposal.message_hash.hex(),
        "safeTxHash": "0x" + proposal.safe_tx_hash.hex(),
        "contract": proposal.contract if proposal.is_known and not proposal.is_rejection else None,
        "expired": time.time() >= proposal.expires,
        "signers": dict(signers),
        "redFlags": None if flags is None else [{"word": flag.word, "what": flag.what} for flag in flags],
    }


def _is_terminal() -> bool:
    return bool(sys.stdin and sys.stdin.isatty())
