"""``blockota broker``: keep, serve and announce what the accepted agreements name."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from blockota.cli.keys import key_option
from blockota.cli.parameters import ADDRESS
from blockota.cli.session import Session, with_session
from blockota.errors import BlockOTAError, ChainError, RefusedError, UsageError

if TYPE_CHECKING:
    from blockota.broker_state import BrokerState
    from blockota.broker_sync import Done, Sync

_STATE = Path(".blockota") / "broker.sqlite"


@click.group()
def broker() -> None:
    """A broker's work: fetch, keep and announce the releases for which the vendor accepted an agreement."""


@broker.command()
@click.option("--vendor-source", "sources", multiple=True, metavar="URL", help="The vendor's repository; repeatable.")
@click.option("--announce", "url", default="", metavar="URL", help="Where gateways reach your repository.")
@click.option("--broker", "address", type=ADDRESS, metavar="ADDRESS", help="Whose agreements; the key's by default.")
@click.option("--once", is_flag=True, help="One round; so it is by default.")
@click.option("--every", type=click.IntRange(1, 86400), metavar="SECONDS", help="Round after round, until a signal.")
@click.option("--state", type=click.Path(path_type=Path), default=_STATE, show_default=True, metavar="FILE")
@click.option("--allow-private", is_flag=True, help="Ask other replicas also in private networks.")
@key_option("The broker's, to announce with", is_optional=True)
@with_session
def sync(session: Session, /, every: int | None, state: Path, **options: Any) -> None:
    """Follow the chain: fetch what accepted agreements name, verify, pin and announce it; drop what has ended.

    \b
    Example:  blockota broker sync --vendor-source https://firmware.acme.example \\
                  --announce https://broker.example --key keystore:broker.json --every 60
    """
    from blockota.broker_state import BrokerState

    _check(options, every=every)
    address = _address(session, options)
    with BrokerState(state, _identity(session, address)) as memory, _stoppable() as stop:
        work = _sync(session, memory, address=address, stop=stop, options=options)
        while True:
            failures = _round(session, work, options=options, is_line=every is not None)
            if every is None or stop.wait(every):
                break
    if every is None and failures:
        raise failures[0]


def _check(options: dict[str, Any], *, every: int | None) -> None:
    from blockota.broker import check_uri

    if options.pop("once") and every:
        raise UsageError("--once and --every exclude each other", remedy="say one of them")
    if options["url"]:
        check_uri(options["url"])


def _address(session: Session, options: dict[str, Any]) -> str:
    key, descriptor = options.pop("key"), options.pop("password_fd")
    options["account"] = account = session.open_key(key, descriptor) if key else None
    named = options.pop("address") or (account.address if account else None)
    if named is None:
        raise UsageError("whose agreements these are is not said", remedy="say --key URI, or --broker ADDRESS")
    if account and account.address != named:
        raise UsageError("--key and --broker are not the same", why=f"the key is that of {account.address}")
    return str(named)


def _identity(session: Session, address: str) -> dict[str, str]:
    return {
        "chain": str(session.settings.chain_id),
        "contract": session.replication.address.lower(),
        "broker": address.lower(),
        "store": session.store_url,
    }


def _sync(
    session: Session, state: BrokerState, *, address: str, stop: threading.Event, options: dict[str, Any]
) -> Sync:
    from blockota.broker_facts import Depth, FactReader
    from blockota.broker_sync import Means, Sync
    from blockota.depot import open_depot

    settings = session.settings
    depth = Depth(settings.confirmations, settings.first_block)
    means = Means(
        FactReader(session.contract, session.replication, state=state, depth=depth),
        open_depot(session.store, state.path.with_suffix(".arrivals")),
        state,
        session.replication,
        account=options["account"],
        allow_private=options["allow_private"] or session.is_local_chain,
    )
    return Sync(means, address, must_stop=stop.is_set)


def _round(session: Session, work: Sync, *, options: dict[str, Any], is_line: bool) -> list[BlockOTAError]:
    """One round, told step by step; what failed is returned, the refusals first."""
    from blockota.broker_plan import Desk

    steps: list[Done] = []
    sources = options["sources"] or session.settings.vendor_sources
    failures: list[BlockOTAError] = []
    try:
        for done in work.round(Desk(time.time(), tuple(sources), options["url"].rstrip("/"))):
            steps.append(done)
            _show(session, done)
    except (ChainError, RefusedError) as error:
        if not is_line:
            raise
        session.note(f"This round failed: {error}")
        failures.append(error)
    failures += [done.error for done in steps if done.error]
    failures.sort(key=lambda error: error.exit_status)
    _report(session, steps, failures=failures, is_line=is_line)
    return failures


def _show(session: Session, done: Done) -> None:
    if session.as_json:
        return
    if done.error:
        session.note(f"could not {done.verb} {done.subject}: {done.error}")
    else:
        session.done(f"{done.verb} {done.subject}" + (f": {done.detail}" if done.detail else ""))


def _report(session: Session, steps: list[Done], *, failures: list[BlockOTAError], is_line: bool) -> None:
    fields = {"steps": [_as_fields(done) for done in steps]}
    if session.as_json and is_line:
        click.echo(json.dumps(fields | {"errors": [str(error) for error in failures]}))
    elif failures and not is_line:
        session.result_of_failure(failures[0], fields)
    elif not is_line:
        session.result(fields, lambda: None if steps else session.done("nothing to do: all is as agreed"))


def _as_fields(done: Done) -> dict[str, str | None]:
    error = str(done.error) if done.error else None
    return {"did": done.verb, "subject": done.subject, "detail": done.detail, "error": error}


@contextmanager
def _stoppable() -> Iterator[threading.Event]:
    """An event that the first SIGTERM or Ctrl-C sets; the second one ends the step as well."""
    stop = threading.Event()

    def ask(*_: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    kinds = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(kind, ask) for kind in kinds]
    try:
        yield stop
    finally:
        for kind, handler in zip(kinds, before, strict=True):
            signal.signal(kind, handler)
