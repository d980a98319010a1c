"""A proposal on the screen: what it does first, then why, where, and its hashes; what is unusual about it last."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from blockota.cli.replica import as_shown
from blockota.cli.session import Session
from blockota.errors import RefusedError, UsageError
from blockota.model.release import Region, show_time
from blockota.text import plain

if TYPE_CHECKING:
    from blockota.approval.chain_view import ChainView
    from blockota.approval.proposal import Proposal
    from blockota.approval.red_flags import RedFlag
    from blockota.cli.described import Description
    from blockota.cli.proposal_images import CheckedImage, UncheckedImage

Rows = dict[str, object]
_LONGEST = 400
"""Characters of a value that are shown; longer ones could push what matters off the screen."""
_MOST_LINES = 20
"""Lines of release notes that are shown before signing."""
_RUNS = re.compile(" {2,}")
_LABELS = {"sha256": "SHA-256", "cid": "CID"}
_DAY = 86400


def show_groups(session: Session, groups: Sequence[Rows]) -> None:
    """Print groups of label and value, with an empty line between groups; a tuple takes a line for each part."""
    width = max((len(label) for group in groups for label in group), default=0)
    for number, group in enumerate(groups):
        if number:
            session.out.print()
        for label, value in group.items():
            for line, part in enumerate(value if isinstance(value, tuple) else (value,)):
                session.out.print(f"[bold]{'' if line else label:<{width}}[/bold]  ", end="")
                session.out.print(_readable(part), markup=False)


def headline(proposal: Proposal) -> str:
    """What it does, in a few words."""
    groups = proposal.intent
    first = groups[0]
    action = re.split("[:,]", first["action"])[0]
    about = " ".join(first[label] for label in ("product", "version", "owner", "called") if label in first)
    more = f" and {len(groups) - 1} more" if len(groups) > 1 else ""
    return _readable(f"{action}: {about}{more}" if about else f"{action}{more}")


def meaning(
    proposal: Proposal, *, view: ChainView | None, images: Sequence[CheckedImage | UncheckedImage]
) -> list[Rows]:
    """What it does, decoded from the calldata, and what the chain says of the things that it names."""
    from blockota.vendor.propose import agreements_of

    groups: list[Rows] = []
    for number, group in enumerate(proposal.intent):
        rows: Rows = {_label(name): value for name, value in group.items()}
        if proposal.releases:
            rows = _with_place(rows, proposal.releases[number])
            rows |= images[number].shown | _described(images[number].description)
        groups.append(rows | _today(group.get("product"), view))
    if not proposal.is_known:
        groups[0]["data"] = "0x" + proposal.data.hex()
    for agreement in agreements_of([proposal]):
        found = view.agreement(agreement) if view else None
        groups.append(
            as_shown(found)
            if found
            else {
                "agreement": f"{agreement}, {'of which nothing is known' if view is None else 'which does not exist'}"
            }
        )
    return groups


def identity(proposal: Proposal, *, view: ChainView | None) -> list[Rows]:
    """Why and until when, then the transaction's place, then the three hashes to compare with a wallet's screen."""
    why: Rows = {
        "reason": repr(proposal.reason) if proposal.reason else "none given",
        "proposer": f"{proposal.proposer!r}, as they say" if proposal.proposer else "not named",
        "expires": show_time(proposal.expires) + _remaining(proposal.expires - int(time.time())),
    }
    hashes: Rows = {
        "domain hash": "0x" + proposal.domain_hash.hex(),
        "message hash": "0x" + proposal.message_hash.hex(),
        "safeTxHash": "0x" + proposal.safe_tx_hash.hex(),
    }
    return [why, _place(proposal, view), hashes]


def view_rows(view: ChainView) -> Rows:
    """Who may sign, and how old what is known of the chain is."""
    count = len(view.safe.owners)
    origin = f"as {view.source} says, not checked: " if view.source else ""
    return {
        "owners": (*view.safe.owners, f"{view.safe.threshold} of these {count} must sign"),
        "chain view": f"{origin}block {view.block_number:,} of {show_time(view.block_time)}",
        "block hash": "0x" + view.block_hash.hex(),
    }


def show_flags(session: Session, flags: Sequence[RedFlag]) -> None:
    """Print what is unusual, on stderr."""
    for flag in flags:
        session.err.print(f"[bold red]RED FLAG {flag.word}[/bold red]  ", end="")
        session.err.print(_readable(flag.what), markup=False)


def face_flags(session: Session, flags: Sequence[RedFlag]) -> None:
    """Have a person type the word of each flag.

    Raises:
        RefusedError: there is nobody to type, or another word was typed.
    """
    show_flags(session, flags)
    if flags and (session.as_json or not _is_terminal()):
        words = ", ".join(flag.word for flag in flags)
        raise RefusedError(
            "nothing was signed",
            why=f"there are red flags ({words}), and no terminal on which their words could be typed",
            remedy="look into them; then sign on a terminal, where --yes does not pass them either",
        )
    for flag in flags:
        if click.prompt(f"Type {flag.word} to sign in spite of it", err=True).strip() != flag.word:
            raise RefusedError(
                "nothing was signed",
                why=f"the word {flag.word} was not typed",
                remedy="ask who made the proposal, or sign again and type it",
            )


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
        "contract": proposal.call.contract if proposal.call else None,
        "expired": time.time() >= proposal.expires,
        "signers": dict(signers),
        "redFlags": None if flags is None else flag_fields(flags),
    }


def flag_fields(flags: Sequence[RedFlag]) -> list[dict[str, str]]:
    """Red flags for JSON."""
    return [{"word": flag.word, "what": flag.what} for flag in flags]


def _label(name: str) -> str:
    return _LABELS.get(name) or re.sub("[A-Z]", lambda letter: f" {letter[0].lower()}", name)


def _with_place(rows: Rows, release: Mapping[str, Any]) -> Rows:
    """A release's rows, with its range of addresses for its size and load address."""
    addresses = Region(release["loadAddress"], release["size"])
    return {name: value for name, value in rows.items() if name not in {"size", "load address"}} | {
        "addresses": addresses
    }


def _described(found: Description) -> Rows:
    """What the vendor says of the release; behind a line each, so that none can be taken for one of ours."""
    if found.trouble:
        return {"notes": f"not shown: {found.trouble}"}
    if found.manifest is None:
        return {}
    lines = found.manifest.notes.split("\n") if found.manifest.notes else []
    more = [f"and {len(lines) - _MOST_LINES} more lines"] if len(lines) > _MOST_LINES else []
    notes: Rows = {"notes": tuple([f"│ {line}" for line in lines[:_MOST_LINES]] + more)} if lines else {}
    metadata = tuple(f"│ {key} = {value}" for key, value in found.manifest.metadata)
    return notes | ({"metadata": metadata} if metadata else {})


def _today(name: str | None, view: ChainView | None) -> Rows:
    """What the chain says of a product."""
    if view is None or name is None:
        return {}
    product, newest = view.product(name), view.newest_of(name)
    if product is None:
        return {"today": "the chain knows no such product"}
    pairing = f"OEM {product.oem}, chip id 0x{product.chip_id:03x}" if product.paired else "NOT PAIRED"
    releases = f"newest {newest.version}" if newest else "no release"
    floor = f"floor {product.minimum_version}" if product.minimum_version else "no floor"
    return {"today": (f"{pairing}, {releases}, {floor}", f"region {product.region}")}


def _place(proposal: Proposal, view: ChainView | None) -> Rows:
    name = f"{proposal.call.contract} " if proposal.call else ""
    rows: Rows = {
        "calls": f"{name}{proposal.to}",
        "Safe": proposal.safe,
        "chain id": proposal.chain_id,
        "nonce": proposal.nonce if view is None else _nonce(proposal.nonce, view),
    }
    return _unusual(proposal) | rows | (view_rows(view) if view else {})


def _nonce(nonce: int, view: ChainView) -> str:
    return f"{nonce}, the Safe's next" if nonce == view.safe.nonce else f"{nonce}; the Safe is at {view.safe.nonce}"


def _unusual(proposal: Proposal) -> Rows:
    """What a transaction of ours never has, to be seen also where nobody looks for red flags."""
    gas = proposal.safe_tx_gas, proposal.base_gas, proposal.gas_price
    return {
        **({"operation": "DELEGATECALL"} if proposal.operation else {}),
        **({"sends": f"{proposal.value} wei"} if proposal.value else {}),
        **({"gas limits": "{}, base {}, price {}".format(*gas)} if any(gas) else {}),
    }


def _remaining(seconds: int) -> str:
    if seconds <= 0:
        return " (EXPIRED)"
    return f", in {seconds // _DAY} days" if seconds > 2 * _DAY else f", in {seconds // 3600} hours"


def _readable(value: object) -> str:
    """Text that stays on its line: no control characters, no runs of spaces, not without end."""
    text = _RUNS.sub(lambda run: f" [{len(run[0])} spaces] ", plain(value))
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}… [{len(text)} characters in all]"


def _is_terminal() -> bool:
    return bool(sys.stdin and sys.stdin.isatty())
