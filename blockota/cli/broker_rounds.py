"""A broker's rounds at the terminal: each step is told as it ends, then how the agreements stand."""

from __future__ import annotations

import json
import os
import select
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from blockota.cli.session import Session
from blockota.errors import (
    BlockOTAError,
    ChainError,
    ContentError,
    ContractRefusalError,
    RefusedError,
    StoreError,
    UnreachableError,
)

if TYPE_CHECKING:
    from blockota.broker.plan import Desk
    from blockota.broker.sync import Done, Sync

_KINDS = (ContentError, ContractRefusalError, RefusedError, ChainError, StoreError)


class Stop:
    """Whether a signal asked to stop. A pipe wakes whoever waits: locks are not safe in a signal handler."""

    def __init__(self) -> None:
        """Nobody asked."""
        self.is_asked = False
        self._read, self._write = os.pipe()

    def ask(self, *_: object) -> None:
        """Stop before the next step; asked a second time, at once.

        Raises:
            KeyboardInterrupt: it is the second time.
        """
        if self.is_asked:
            raise KeyboardInterrupt
        self.is_asked = True
        os.write(self._write, b"!")

    def wait(self, seconds: float) -> bool:
        """Wait that long, or until it is asked for; whether it is."""
        select.select([self._read], [], [], seconds)
        return self.is_asked

    def close(self) -> None:
        """Close the pipe."""
        os.close(self._read)
        os.close(self._write)


@contextmanager
def stopped_by_signals() -> Iterator[Stop]:
    """What the first SIGTERM or Ctrl-C asks to stop; the second one ends the step as well."""
    stop = Stop()
    kinds = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(kind, stop.ask) for kind in kinds]
    try:
        yield stop
    finally:
        for kind, handler in zip(kinds, before, strict=True):
            signal.signal(kind, handler)
        stop.close()


class Rounds:
    """Runs rounds, and tells of them.

    Args:
        session: where to tell it.
        work: carries the rounds out.
        broker: the broker's address.
        is_endless: whether one follows the other, so that one that failed is told and not raised.
    """

    def __init__(self, session: Session, work: Sync, *, broker: str, is_endless: bool) -> None:
        """Remember; nothing is asked yet."""
        self._session, self._work, self._broker, self._is_endless = session, work, broker, is_endless
        self._advised: tuple[str, ...] = ()

    def run(self, desk: Desk) -> None:
        """One round.

        Raises:
            UnreachableError: chain, store or state file are out of reach, or a step failed for that.
            RefusedError: an answer cannot be understood, or a step was refused.
            KeyboardInterrupt: it was to stop, and steps are left.
        """
        steps: list[Done] = []
        failure: BlockOTAError | None = None
        try:
            for done in self._work.round(desk):
                steps.append(done)
                self._show(done)
        except (UnreachableError, RefusedError) as error:
            if not self._is_endless:
                raise
            failure = error
            if not self._session.as_json:
                self._session.note(f"this round failed: {error}")
        if self._is_endless:
            self._tell_line(steps, failure, url=desk.url)
        else:
            self._tell_result(steps, _summary(steps), url=desk.url)

    def _show(self, done: Done) -> None:
        if self._session.as_json:
            return
        told = f"{done.subject}" + (f": {done.detail}" if done.detail else "")
        if done.error:
            self._session.note(f"could not {done.verb} {done.subject}: {done.error}")
        elif done.is_good:
            self._session.done(f"{done.verb} {told}")
        else:
            self._session.note(f"{done.verb}: {told}")

    def _tell_result(self, steps: Sequence[Done], failure: BlockOTAError | None, *, url: str) -> None:
        session, fields = self._session, self._as_fields(steps)
        if failure:
            session.result_of_failure(failure, fields)
            raise failure
        session.result(fields, lambda: self._show_standing(url, has_steps=bool(steps)))
        if self._work.left:
            raise KeyboardInterrupt(f"{self._work.left} steps of the round are left: the next run goes on.")

    def _tell_line(self, steps: Sequence[Done], failure: BlockOTAError | None, *, url: str) -> None:
        if not self._session.as_json:
            self._show_standing(url, has_steps=True)
            return
        errors = [done.error for done in steps if done.error] + ([failure] if failure else [])
        click.echo(json.dumps(self._as_fields(steps) | {"errors": [str(error) for error in errors]}))

    def _show_standing(self, url: str, *, has_steps: bool) -> None:
        """Say what a person should know, but not in each round anew."""
        from blockota.broker.standing import advice

        if self._work.facts is None or self._work.left:
            return
        confirmations = self._session.settings.confirmations
        advised = tuple(advice(self._work.facts, broker=self._broker, confirmations=confirmations, url=url))
        for sentence in advised if advised != self._advised else ():
            self._session.note(sentence)
        self._advised = advised
        if not has_steps and not advised:
            self._session.done("nothing to do: all is as agreed")

    def _as_fields(self, steps: Sequence[Done]) -> dict[str, Any]:
        from blockota.broker.standing import standings

        facts = self._work.facts
        return {
            "block": facts.block if facts else None,
            "agreements": [
                {"number": one.number, "release": one.release, "state": str(one.state), "url": one.url}
                for one in (standings(facts) if facts else ())
            ],
            "steps": [_step_fields(done) for done in steps],
            "left": self._work.left,
        }


def _summary(steps: Sequence[Done]) -> BlockOTAError | None:
    """One error for all that failed in a round, of the kind of the worst: a refusal weighs more than an absence."""
    failed = sorted(
        (done for done in steps if done.error), key=lambda done: done.error.exit_status if done.error else 0
    )
    if not failed:
        return None
    kind = next(kind for kind in (*_KINDS, BlockOTAError) if isinstance(failed[0].error, kind))
    what = "1 step of the round failed" if len(failed) == 1 else f"{len(failed)} steps of the round failed"
    names = ", ".join(f"could not {done.verb} {done.subject}" for done in failed)
    return kind(what, why=names, remedy="see what was said of it above, and run this again: what is done stays done")


def _step_fields(done: Done) -> dict[str, str | None]:
    error = str(done.error) if done.error else None
    return {"did": done.verb, "subject": done.subject, "detail": done.detail, "error": error}
