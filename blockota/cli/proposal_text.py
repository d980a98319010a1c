"""Prints proposals, manifests and red flags, and asks the signer to confirm.

Printed text cannot control the terminal.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click
from rich.console import Console

from blockota.approval.flags import RedFlag
from blockota.cli.layout import print_sentence
from blockota.cli.session import Session
from blockota.errors import RefusedError, UsageError, plain
from blockota.model.manifest import Description

if TYPE_CHECKING:  # the modules for proposals would delay every read
    from blockota.vendor.screen import Rows, Screen

_LONGEST = 400
"""Maximum length of a value, in characters: a longer one could push important lines off the screen."""
_RULE = 80
"""Length of the rule above the evidence, in columns."""
_RUNS = re.compile(" {2,}")


def show_screen(session: Session, screen: Screen, flags: Sequence[RedFlag] | None) -> None:
    """Print the signing screen: the proposed call, its changes, the red flags, and below a line the evidence.

    `flags` of None means that red flags were not checked.
    """
    parts = (screen.asked, screen.changes, screen.evidence)
    width = max(len(label) for part in parts for group in part for label in group)
    show_part(session, screen.asked, heading="What is asked", width=width)
    if screen.changes:
        session.out.print()
        show_part(session, screen.changes, heading="What changes", width=width)

    session.out.print("\n[bold]What is unusual[/bold]")
    if flags is None:
        session.out.print("not checked, because the state of the chain is not known")
    elif not flags:
        session.out.print("nothing")
    show_flags(session.out, flags or [])

    session.out.print(f"\n{'─' * min(session.out.width, _RULE)}")
    show_part(session, screen.evidence, heading="To compare with your build and your wallet", width=width)


def show_part(session: Session, groups: Sequence[Rows], *, heading: str = "", width: int = 0) -> None:
    """Print groups of labels and values, with empty lines between the groups; `width` is the labels' minimum width."""
    if heading:
        session.out.print(heading, style="bold", markup=False)
    width = max([width, *(len(label) for group in groups for label in group)])
    for number, group in enumerate(groups):
        if number:
            session.out.print()
        for label, value in group.items():
            for line, part in enumerate(value if isinstance(value, tuple) else (value,)):
                session.row("" if line else label, readable(part), column=width + 2)


def show_description(session: Session, found: Description) -> None:
    """Print what a release's manifest records; each line of the notes begins with a bar."""
    if found.trouble:
        session.note(f"The release's notes cannot be shown. {found.trouble}")
    if found.manifest is None:
        return
    for label, lines in found.manifest.option_lines.items():
        session.fields({f"  {label}": ", ".join(lines)})
    if found.manifest.metadata:
        session.fields({f"  {key}": value for key, value in found.manifest.metadata})
    for line in found.manifest.notes.split("\n") if found.manifest.notes else ():
        session.fields({"  │": line})


def show_flags(console: Console, flags: Sequence[RedFlag]) -> None:
    """Print red flags."""
    for flag in flags:
        print_sentence(console, readable(flag.what), mark=f"RED FLAG {flag.word}  ", mark_style="bold red")


def confirm_flags(session: Session, flags: Sequence[RedFlag]) -> None:
    """Ask the signer to type the word of each red flag that the screen has shown.

    Raises:
        RefusedError: the signer typed another word, or the command does not run on a terminal.
    """
    # The signer types each word, because a list would be confirmed without being read.
    if flags and (session.as_json or not _is_terminal()):
        words = ", ".join(flag.word for flag in flags)
        raise RefusedError(
            "nothing was signed",
            why=f"the proposal has red flags ({words}), and their words can be typed only on a terminal",
            remedy="examine the red flags, then sign on a terminal; --yes does not skip red flags",
        )

    for flag in flags:
        session.note(f"{readable(flag.what)}.")
        if click.prompt(f"Type {flag.word} to sign in spite of this red flag", err=True).strip() != flag.word:
            raise RefusedError(
                "nothing was signed",
                why=f"the word {flag.word} was not typed",
                remedy="ask the proposer, or sign again and type the word",
            )


def confirm_signature(session: Session) -> None:
    """Ask the signer whether to sign.

    Raises:
        UsageError: the command does not run on a terminal.
        RefusedError: the signer answered no.
    """
    if session.as_json or not _is_terminal():
        raise UsageError(
            "the signature was not confirmed",
            why="the signer can be asked only on a terminal",
            remedy="read the proposal, then pass --yes",
        )
    if not click.confirm("Sign this", err=True):
        raise RefusedError("nothing was signed", why="you answered no")


def readable(value: object) -> str:
    """Return a value as one line of text of limited length, without control characters and runs of spaces."""
    # Runs of spaces could push text out of sight, or imitate a row of the review.
    text = _RUNS.sub(lambda run: f" [{len(run[0])} spaces] ", plain(value))
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}… [{len(text)} characters in all]"


def _is_terminal() -> bool:
    return bool(sys.stdin and sys.stdin.isatty())
