"""``blockota proposal list``: the proposals of a folder beside each other."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from blockota.cli.proposal_files import (
    FILE,
    collect_signatures,
    open_view,
    proposals_in,
    standing,
    view_option,
)
from blockota.cli.proposal_shown import headline
from blockota.cli.session import Session, with_session
from blockota.model.release import show_time

if TYPE_CHECKING:
    from blockota.approval.chain_view import ChainView
    from blockota.approval.proposal import Proposal

_Rivals = Mapping[tuple[int, str, int], Mapping[Path, bytes]]
"""The safeTxHash of each proposal, by chain, Safe and nonce."""
_FOREIGN, _PAST, _EXPIRED = "for another chain or Safe", "executed or replaced", "expired"
_NEXT, _LATER, _EXECUTED, _REPLACED = "next", "waits for those before it", "executed", "replaced"
_ORDER = (_NEXT, _LATER, _EXPIRED, _EXECUTED, _REPLACED, _PAST, _FOREIGN)


@click.command("list")
@click.argument("folder", type=FILE, default=".")
@view_option
@with_session
def list_(session: Session, /, folder: Path, view: Path | None) -> None:
    """List the proposals in FOLDER: who signed, what is next, what competes.

    \b
    Example:  blockota proposal list proposals/
    """
    found = proposals_in(folder)
    known = open_view(session, [], path=view) if found.proposals else None
    rivals = _rivals(found.proposals)
    rows = (
        [_row(session, path, found=p, rivals=rivals, view=known) for path, p in found.proposals.items()]
        if known
        else []
    )
    if view is None and any(row["state"] == _PAST for row in rows):
        _tell_past(session, rows, safe=known.safe.address if known else "")
    rows.sort(key=lambda row: (_ORDER.index(row["state"]), row["nonce"], row["file"]))
    for path, why in found.left_aside.items():
        session.note(f"{path.name} was left aside: {why}")
    aside = [{"file": path.name, "why": why} for path, why in found.left_aside.items()]
    session.result({"proposals": rows, "leftAside": aside}, lambda: _show(session, folder, rows=rows))


def _tell_past(session: Session, rows: list[dict[str, Any]], *, safe: str) -> None:
    """Say of proposals whose nonce is used whether it was they that were executed."""
    from blockota.bindings.safe import executed_hashes

    executed = executed_hashes(session.chain, safe, from_block=session.settings.first_block)
    for row in rows:
        if row["state"] == _PAST:
            row["state"] = _EXECUTED if bytes.fromhex(row["safeTxHash"][2:]) in executed else _REPLACED


def _show(session: Session, folder: Path, *, rows: list[dict[str, Any]]) -> None:
    if not rows:
        session.out.print(f"There are no proposals in {folder}.", markup=False)
        return
    columns = ("FILE", "NONCE", "WHAT", "SIGNED", "STATE", "EXPIRES")
    session.table(
        columns,
        [(r["file"], r["nonce"], r["what"], r["signed"], _state_shown(r), show_time(r["expires"])) for r in rows],
    )


def _state_shown(row: Mapping[str, Any]) -> str:
    rivals = ", ".join(row["competesWith"])
    return f"{row['state']}, COMPETES with {rivals}" if rivals else str(row["state"])


def _rivals(proposals: Mapping[Path, Proposal]) -> _Rivals:
    by_place: dict[tuple[int, str, int], dict[Path, bytes]] = defaultdict(dict)
    for path, one in proposals.items():
        by_place[(one.chain_id, one.safe, one.nonce)][path] = one.safe_tx_hash
    return by_place


def _row(session: Session, path: Path, *, found: Proposal, rivals: _Rivals, view: ChainView) -> dict[str, Any]:
    """One row: a proposal among the others of its folder."""
    collected = collect_signatures(session, path, proposal=found, named=())
    good = [s.signer for s in collected if standing(found, s, view=view).endswith("an owner's")]
    own, state = found.safe_tx_hash, _state(found, view)
    others = rivals[(found.chain_id, found.safe, found.nonce)]
    return {
        "file": path.name,
        "nonce": found.nonce,
        "what": headline(found),
        "signed": f"{len(good)} of {view.safe.threshold}",
        "signers": good,
        "state": state,
        "competesWith": [] if state == _PAST else [place.name for place, other in others.items() if other != own],
        "expires": found.expires,
        "safeTxHash": "0x" + own.hex(),
    }


def _state(found: Proposal, view: ChainView) -> str:
    if (found.chain_id, found.safe) != (view.chain_id, view.safe.address):
        return _FOREIGN
    if found.nonce < view.safe.nonce:
        return _PAST
    if time.time() >= found.expires:
        return _EXPIRED
    return _NEXT if found.nonce == view.safe.nonce else _LATER
