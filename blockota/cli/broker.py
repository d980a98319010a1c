"""``blockota broker``: store and announce copies of releases under accepted agreements."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from blockota.bindings.serving_rights import RightsReader
from blockota.broker.agreements import AgreementReader, check_uri
from blockota.broker.copies import Copies
from blockota.broker.monitoring import BrokerWatch
from blockota.broker.plan import AgreementFacts, AgreementState, Facts, state_of
from blockota.broker.state import BrokerState
from blockota.broker.sync import BrokerSync, Done, failure_of
from blockota.chain.follow import Follower
from blockota.cli.display import counting_bar
from blockota.cli.keys import key_option, open_key
from blockota.cli.listening import metrics_option
from blockota.cli.next_steps import after_announcing
from blockota.cli.parameters import ADDRESS, DURATION, INTERVAL, spelled
from blockota.cli.remedies import sentence_of
from blockota.cli.services import shown_state
from blockota.cli.session import Session, VerbGroup, with_session
from blockota.errors import BlockOTAError, RefusedError, UnreachableError, UsageError
from blockota.shutdown import Stop, stop_on_signals
from blockota.stores.source import base_url
from blockota.url_secrets import shown_url

if TYPE_CHECKING:  # eth-account takes 0.2 s to load
    from eth_account.signers.base import BaseAccount

_STATE = "broker.sqlite"
_FILE = click.Path(path_type=Path)
_STOPPING = "Stopping after the current step; another Ctrl-C or SIGTERM aborts the step."
_NOTES = {"left out": "skipped", "missed": "lost from disk"}
"""The terminal's words for steps that keep an older name in the JSON result."""


@click.group(cls=VerbGroup)
def broker() -> None:
    """Keep and announce the releases for which the vendor accepted an agreement with the broker."""


@broker.command()
@click.option("--vendor-source", "sources", multiple=True, metavar="URL", help="The vendor's repository; repeatable.")
@click.option("--announce", "url", default="", metavar="URL", help="URL at which gateways reach your repository.")
@click.option(
    "--broker", "address", type=ADDRESS, metavar="ADDRESS", help="The broker's address; by default the key's address."
)
@click.option("--once", is_flag=True, help="Run one round; this is the default.")
@click.option("--every", type=INTERVAL, help="Run a round this often, such as 10m, until a signal.")
@click.option("--verify", is_flag=True, help="Verify all copies first, and repair corrupt copies.")
@click.option("--verify-every", type=DURATION, default="7d", show_default=True, help="Verify each copy this often.")
@click.option("--state", "path", type=_FILE, metavar="FILE", help="State file; .blockota/broker.sqlite by default.")
@click.option("--allow-private", is_flag=True, help="Also use other replicas in private networks.")
@metrics_option
@click.option("--forgive", is_flag=True, help="Ask again sources that served a wrong block.")
@key_option("The broker's, to announce with", default="")
@with_session
def sync(
    session: Session,
    /,
    *,
    sources: tuple[str, ...],
    url: str,
    address: str | None,
    once: bool,
    every: int | None,
    verify: bool,
    verify_every: int,
    path: Path | None,
    allow_private: bool,
    metrics: tuple[str, int] | None,
    forgive: bool,
    key: str,
    password_fd: int | None,
) -> None:
    """Store and announce the images of accepted agreements.

    Images are fetched, verified, pinned and announced. Images of ended agreements are dropped.

    \b
    Example:  blockota broker sync --vendor-source https://firmware.acme.example \\
                  --announce https://broker.example --every 1m \\
                  --key keystore:broker.json
    """
    if once and every:
        raise UsageError("--once and --every exclude each other", remedy="pass one of them")
    if metrics and not every:
        raise UsageError("--metrics needs --every", why="a single round ends before its metrics can be read")
    # A wrong URL or token is reported before anything is done.
    vendor_sources, url = tuple(map(base_url, sources or session.settings.vendor_sources)), base_url(url)
    for source in vendor_sources:
        session.connection.credentials.source(source)
    if url:
        check_uri(url)
    account = open_key(session.settings.chain_id, key, password_fd) if key else None
    address = _address(account, address)
    # A state file belongs to one broker, contract and store; with another one's file, the plan would be wrong.
    identity = {
        "chain": str(session.settings.chain_id),
        "contract": session.replication.address.lower(),
        "broker": address.lower(),
        "store": session.store_url,
    }

    path = path or session.settings.transactions.with_name(_STATE)
    with BrokerState(path, identity) as state, stop_on_signals(interrupt_at=2) as stop:
        if forgive:
            state.forgive()
        work = BrokerSync(
            _reader(session, state, address=address),
            Copies(session.store, state.path.with_suffix(".arrivals")),
            state,
            session.replication,
            sources=vendor_sources,
            url=url,
            account=account,
            allow_private=allow_private or session.connection.is_local_chain,
            credentials=session.connection.credentials,
            verify_every=verify_every,
            must_stop=lambda: stop.is_asked,
            progress=lambda file: counting_bar(session, "Fetching", total=file.size),
        )

        rounds = _Rounds(session, work, broker=address, stop=stop, is_endless=every is not None)
        if every is not None and not session.as_json:
            session.note(f"A round runs every {spelled(every)} until SIGTERM or Ctrl-C.")
        with shown_state(session, metrics, "broker", lambda: rounds.watch.status):
            rounds.run(verify_all=verify)
            while every is not None and not stop.wait(every):
                rounds.run()


def _address(account: BaseAccount | None, named: str | None) -> str:
    address = named or (account.address if account else None)
    if address is None:
        raise UsageError("no broker is named", remedy="pass --key URI, or --broker ADDRESS")
    if account and account.address != address:
        raise UsageError(
            "--key and --broker name different brokers",
            why=f"the key is that of {account.address}",
            remedy="use the key of the broker, or omit --broker",
        )
    return str(address)


def _reader(session: Session, state: BrokerState, *, address: str) -> AgreementReader:
    settings = session.settings
    follower = Follower(
        session.chain,
        confirmations=settings.confirmations,
        first_block=settings.first_block,
        store=state.chain,
    )
    reader = RightsReader(session.contract, follower, replication=session.replication, broker=address)
    return AgreementReader(reader, session.replication, follower=follower, state=state)


class _Rounds:
    """Runs rounds, prints each finished step of a round, and prints advice on the agreements after the round.

    If `is_endless` is True, the error of a round is printed and not raised.

    Attributes:
        watch: counts the rounds.
    """

    def __init__(self, session: Session, work: BrokerSync, *, broker: str, stop: Stop, is_endless: bool) -> None:
        self.watch = BrokerWatch()
        self._session, self._work, self._broker = session, work, broker
        self._stop, self._is_endless = stop, is_endless
        self._advice: tuple[str, ...] | None = None

    def run(self, *, verify_all: bool = False) -> None:
        """Run one round; with `verify_all`, the round first verifies all copies.

        Raises:
            UnreachableError: the chain, the store or the state file is out of reach.
            RefusedError: a response is malformed, or a step was refused.
            KeyboardInterrupt: a signal stopped the round before its last step.
        """
        steps: list[Done] = []
        failure: BlockOTAError | None = None
        self._stop.sentence = "" if self._session.as_json else _STOPPING
        try:
            for done in self._work.round(time.time(), verify_all=verify_all):
                steps.append(done)
                self._print_step(done)
        except (UnreachableError, RefusedError) as error:
            if not self._is_endless:
                raise
            failure = error
            if not self._session.as_json:
                self._session.note(f"this round failed: {sentence_of(error)}")

        self._stop.sentence = ""
        self.watch.record(steps, self._work.facts, has_failed=failure is not None)

        then = after_announcing(steps, broker=self._broker)
        if self._is_endless and self._session.as_json:
            errors = [done.error for done in steps if done.error] + ([failure] if failure else [])
            click.echo(json.dumps(self._fields(steps) | {"errors": [sentence_of(error) for error in errors]}))
        elif self._is_endless:
            self._print_advice(has_steps=bool(steps or failure))
            if then:
                self._session.note(then)
        else:
            fields = self._fields(steps)
            if failure := failure_of(steps):
                failure.result = fields
                raise failure
            self._session.result(fields, lambda: self._print_advice(has_steps=bool(steps)), then=then)
            if self._work.left:
                raise KeyboardInterrupt(f"{self._work.left} steps of the round are left: the next run continues.")

    def _print_step(self, done: Done) -> None:
        # The advice has the remedy of a missing key, and is not repeated in each round.
        if self._session.as_json or done.verb == "not announced":
            return
        text = f"{done.subject}: {done.detail}" if done.detail else done.subject
        if done.error:
            self._session.note(f"could not {done.verb} {done.subject}: {sentence_of(done.error)}")
        elif done.is_good:
            self._session.done(f"{done.verb} {text}")
        else:
            self._session.note(f"{_NOTES.get(done.verb, done.verb)}: {text}")

    def _print_advice(self, *, has_steps: bool) -> None:
        """Print the advice for the operator, unless it equals the advice of the last round."""
        if self._work.facts is None or self._work.left:
            return

        confirmations = self._session.settings.confirmations
        work, facts, has_key = self._work, self._work.facts, self._work.account is not None
        found = advice(facts, broker=self._broker, confirmations=confirmations, url=work.url, has_key=has_key)

        sentences, before = tuple(found), self._advice
        for sentence in sentences if sentences != before else ():
            self._session.note(sentence)
        self._advice = sentences
        if not has_steps and not sentences and sentences != before:
            self._session.done("nothing to do: the copies match the agreements")

    def _fields(self, steps: Sequence[Done]) -> dict[str, Any]:
        fields: dict[str, Any] = {"block": None, "agreements": [], "steps": [], "left": self._work.left}
        if facts := self._work.facts:
            fields |= {"block": facts.block, "agreements": [one.as_fields(facts.time) for one in facts.agreements]}

        for done in steps:
            error = sentence_of(done.error) if done.error else None
            step = {"did": done.verb, "subject": done.subject, "detail": done.detail, "error": error}
            fields["steps"].append(step)
        return fields


def advice(facts: Facts, *, broker: str, confirmations: int, url: str, has_key: bool) -> Iterator[str]:
    """Yield advice for the operator: one sentence for each agreement that needs an action or a confirmation.

    Args:
        facts: agreements and time at one block of the chain.
        broker: the broker's address.
        confirmations: number of blocks that follow the block at which the facts were read.
        url: announced URL of the broker's repository; empty if the broker announces none.
        has_key: whether the broker has a key to sign announcements.
    """
    if not facts.agreements:
        depth = f", which has {confirmations} above it" if confirmations else ""
        yield (
            f"{broker} has no open agreement with this vendor as of block {facts.block}{depth}. "
            "Offer to serve a release with `blockota replica propose`, or check the key and the settings."
        )

    for one in facts.agreements:
        agreement = f"Agreement {one.newest.number} for {one.claim.label}"
        match state_of(one, facts.time):
            case AgreementState.PROPOSED:
                yield (
                    f"{agreement} is proposed: the vendor has not decided yet. "
                    f"The vendor accepts with `blockota replica accept {one.newest.number} -o FILE`."
                )
            case AgreementState.UNCONFIRMED:
                yield f"{agreement} is accepted: it counts once {confirmations} blocks follow the acceptance."
            case AgreementState.UNANNOUNCED if not url:
                yield f"{agreement} is not announced: gateways find the copy once you pass --announce URL."
            case AgreementState.UNANNOUNCED if not has_key:
                yield f"{agreement} is not announced: {_to_announce(one, url)}."
            case AgreementState.ANNOUNCED if url and not has_key and base_url(one.newest.uri) != url:
                yield f"{agreement} is announced at {shown_url(one.newest.uri)}: {_to_announce(one, url)}."


def _to_announce(one: AgreementFacts, url: str) -> str:
    return f"pass --key URI, or run `blockota replica announce {one.newest.number} {url} --key URI`"
