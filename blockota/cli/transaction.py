"""``blockota transaction``: list, resume or forget transactions that were sent and are not settled."""

from __future__ import annotations

from typing import Any

import click

from blockota.chain import Chain
from blockota.chain.journal import SentTransaction
from blockota.chain.outbox import Situation
from blockota.cli.keys import key_option, open_key
from blockota.cli.session import Session, VerbGroup, with_session
from blockota.model.release import show_time

_HASH = click.argument("transaction", metavar="HASH")


@click.group(cls=VerbGroup)
def transaction() -> None:
    """List, resume or forget the transactions that were sent from this folder and are not settled."""


@transaction.command("list")
@with_session
def list_(session: Session, /) -> None:
    """List the unsettled transactions of this folder, with their states.

    \b
    Example:  blockota transaction list
    """
    chains = _chains(session)
    found = [(entry, chain.locate(entry)) for chain in chains for entry in chain.unsettled()]

    def show() -> None:
        rows: list[tuple[object, ...]] = [
            (entry.hash, entry.newest.nonce, entry.purpose, now.state.value, now.details) for entry, now in found
        ]
        columns: tuple[str, ...] = ("HASH", "NONCE", "COMMAND", "STATE", "DETAILS")
        if len(chains) > 1:
            columns = (*columns, "CHAIN")
            rows = [(*row, entry.newest.chain_id) for row, (entry, _) in zip(rows, found, strict=True)]
        session.table(columns, rows, empty="No transaction is unsettled.")

    session.result({"transactions": [_fields(entry, now) for entry, now in found]}, show)


def _fields(entry: SentTransaction, now: Situation) -> dict[str, Any]:
    return {
        "transaction": entry.hash,
        "chainId": entry.newest.chain_id,
        "attempts": [f"0x{attempt.hash.hex()}" for attempt in entry.attempts],
        "from": entry.sender,
        "nonce": entry.newest.nonce,
        "to": entry.newest.to,
        "command": entry.purpose,
        "written": show_time(entry.written),
        "state": now.state.name.lower(),
        "details": now.details,
    }


@transaction.command()
@_HASH
@key_option("The sender's, to sign it again with a higher fee", default="")
@with_session
def resume(session: Session, /, transaction: str, key: str, password_fd: int | None) -> None:
    """Wait until the transaction HASH is confirmed.

    If the node lost the transaction, the same signed bytes are submitted again.

    With --key, a transaction that is in no block is signed again with the same nonce and a fee that is at least one
    eighth higher. Only one of the two transactions can get into a block.

    \b
    Example:  blockota transaction resume 0x1b2f… --key keystore:payer.json
    """
    chain = _chain_of(session, transaction)
    account = open_key(chain.chain_id, key, password_fd) if key else None
    receipt = chain.resume(transaction, account=account)
    fields = {"transaction": f"0x{receipt.transaction.hex()}", "block": receipt.block_number}
    session.result(fields, lambda: session.done(f"{fields['transaction']} is confirmed in block {fields['block']}"))


@transaction.command()
@_HASH
@click.option("--yes", is_flag=True, help="Forget it even if it can still take effect.")
@with_session
def forget(session: Session, /, transaction: str, *, yes: bool) -> None:
    """Remove the transaction HASH from the journal.

    The removal does not cancel the transaction, which can still take effect.

    \b
    Example:  blockota transaction forget 0x1b2f…
    """
    _chain_of(session, transaction).forget(transaction, even_if_pending=yes)
    session.result({"forgotten": transaction}, lambda: session.done(f"forgot {transaction}"))


def _chains(session: Session) -> list[Chain]:
    """Return the producer chain, and the gateway chain if the two differ."""
    chains = [session.chain]
    if session.gateway.settings.chain_id != session.settings.chain_id:
        chains.append(session.gateway.chain)
    return chains


def _chain_of(session: Session, transaction: str) -> Chain:
    """Return the chain whose journal has an unsettled transaction; the producer chain if no journal has it."""
    for chain in _chains(session):
        if any(transaction == f"0x{attempt.hash.hex()}" for entry in chain.unsettled() for attempt in entry.attempts):
            return chain
    return session.chain
