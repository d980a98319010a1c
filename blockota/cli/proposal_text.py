"""Prints proposals, manifests and red flags, and asks the signer. Printed text cannot control the terminal."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from blockota.cli.session import Session
from blockota.errors import RefusedError, UsageError, plain

if TYPE_CHECKING:
    from blockota.approval.red_flags import RedFlag
    from blockota.model.manifest import Description
    from blockota.vendor.review import Rows

_LONGEST = 400
"""Maximum length of a value, in characters: a longer one could push important lines off the screen."""
_RUNS = re.compile(" {2,}")


def show_groups(session: Session, groups: Sequence[Rows]) -> None:
    """Print groups of labels and values, separated by empty lines."""
    width = max((len(label) for group in groups for label in group), default=0)
    for number, group in enumerate(groups):
        if number:
            session.out.print()
        for label, value in group.items():
            for line, part in enumerate(value if isinstance(value, tuple) else (value,)):
                session.row("" if line else label, readable(part), column=width + 2)


def show_description(session: Session, found: Description) -> None:
    """Print the metadata and the notes of a release; each line of the notes begins with a bar."""
    if found.trouble:
        session.note(f"The release's notes cannot be shown. {found.trouble}")
    if found.manifest is None:
        return
    if found.manifest.metadata:
        session.fields({f"  {key}": value for key, value in found.manifest.metadata})
    for line in found.manifest.notes.split("\n") if found.manifest.notes else ():
        session.fields({"  │": line})


def show_flags(session: Session, flags: Sequence[RedFlag]) -> None:
    """Print red flags on stderr."""
    for flag in flags:
        session.err.print(f"[bold red]RED FLAG {flag.word}[/bold red]  ", end="")
        session.err.print(readable(flag.what), markup=False)


def confirm_flags(session: Session, flags: Sequence[RedFlag]) -> None:
    """Print red flags, and have the signer type the word of each flag.

    Raises:
        RefusedError: the signer typed another word, or the command does not run on a terminal.
    """
    # The signer types each word, because a list would be confirmed without being read.
    show_flags(session, flags)
    if flags and (session.as_json or not _is_terminal()):
        words = ", ".join(flag.word for flag in flags)
        raise RefusedError(
            "nothing was signed",
            why=f"the proposal has red flags ({words}), and their words can be typed only on a terminal",
            remedy="examine the red flags, then sign on a terminal; --yes does not skip red flags",
        )
    for flag in flags:
        if click.prompt(f"Type {flag.word} to sign in spite of it", err=True).strip() != flag.word:
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
    """Return a value as text on one line, without control characters and runs of spaces, and of limited length."""
    # Runs of spaces could push text out of sight, or imitate a row of the review.
    text = _RUNS.sub(lambda run: f" [{len(run[0])} spaces] ", plain(value))
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}… [{len(text)} characters in all]"


def _is_terminal() -> bool:
    return bool(sys.stdin and sys.stdin.isatty())
