"""``blockota broker``: keep, serve and announce what the accepted agreements name."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from blockota.cli.keys import key_option
from blockota.cli.parameters import ADDRESS
from blockota.cli.session import Session, with_session
from blockota.errors import UsageError

if TYPE_CHECKING:
    from blockota.broker.plan import Desk
    from blockota.broker.state import BrokerState
    from blockota.broker.sync import Sync
    from blockota.cli.broker_rounds import Stop

_STATE = "broker.sqlite"


@click.group()
def broker() -> None:
    """A broker's work: fetch, keep and announce the releases for which the vendor accepted an agreement."""


@broker.command()
@click.option("--vendor-source", "sources", multiple=True, metavar="URL", help="The vendor's repository; repeatable.")
@click.option("--announce", "url", default="", metavar="URL", help="Where gateways reach your repository.")
@click.option("--broker", "address", type=ADDRESS, metavar="ADDRESS", help="Whose agreements; the key's by default.")
@click.option("--once", is_flag=True, help="One round; so it is by default.")
@click.option("--every", type=click.IntRange(1, 86400), metavar="SECONDS", help="Round after round, until a signal.")
@click.option("--state", type=click.Path(path_type=Path), metavar="FILE", help="By default .blockota/broker.sqlite.")
@click.option("--allow-private", is_flag=True, help="Ask other replicas also in private networks.")
@click.option("--forgive", is_flag=True, help="Ask also who is left out for having lied.")
@key_option("The broker's, to announce with", is_optional=True)
@with_session
def sync(session: Session, /, every: int | None, state: Path | None, **options: Any) -> None:
    """Follow the chain: fetch what accepted agreements name, verify, pin and announce it; drop what has ended.

    \b
    Example:  blockota broker sync --vendor-source https://firmware.acme.example \\
                  --announce https://broker.example --key keystore:broker.json --every 60
    """
    from blockota.broker.state import BrokerState
    from blockota.cli.broker_rounds import Rounds, stopped_by_signals

    desk_at = _desk(session, options, every=every)
    address = _address(session, options)
    path = state or session.settings.transactions.with_name(_STATE)
    with BrokerState(path, _identity(session, address)) as memory, stopped_by_signals() as stop:
        if options["forgive"]:
            memory.forgive()
        work = _sync(session, memory, address=address, stop=stop, options=options)
        rounds = Rounds(session, work, broker=address, is_endless=every is not None)
        rounds.run(desk_at(time.time()))
        while every is not None and not stop.wait(every):
            rounds.run(desk_at(time.time()))


def _desk(session: Session, options: dict[str, Any], *, every: int | None) -> Callable[[float], Desk]:
    """What the options say of sources and of our own URL, for each time of a round; mistakes are told at once."""
    from blockota.broker.agreements import check_uri
    from blockota.broker.plan import Desk, base_url

    if options.pop("once") and every:
        raise UsageError("--once and --every exclude each other", remedy="say one of them")
    sources = tuple(map(base_url, options.pop("sources") or session.settings.vendor_sources))
    for source in sources:
        session.credentials.source(source)
    url = base_url(options.pop("url"))
    if url:
        check_uri(url)
    return lambda now: Desk(now, sources, url)


def _address(session: Session, options: dict[str, Any]) -> str:
    key, descriptor = options.pop("key"), options.pop("password_fd")
    options["account"] = account = session.open_key(key, descriptor) if key else None
    named = options.pop("address") or (account.address if account else None)
    if named is None:
        raise UsageError("whose agreements these are is not said", remedy="say --key URI, or --broker ADDRESS")
    if account and account.address != named:
        raise UsageError(
            "--key and --broker are not the same",
            why=f"the key is that of {account.address}",
            remedy="name the key of that broker, or leave --broker out",
        )
    return str(named)


def _identity(session: Session, address: str) -> dict[str, str]:
    return {
        "chain": str(session.settings.chain_id),
        "contract": session.replication.address.lower(),
        "broker": address.lower(),
        "store": session.store_url,
    }


def _sync(session: Session, state: BrokerState, *, address: str, stop: Stop, options: dict[str, Any]) -> Sync:
    from blockota.broker.copies import open_depot
    from blockota.broker.facts import Depth, FactReader
    from blockota.broker.sync import Means, Sync

    settings = session.settings
    depth = Depth(settings.confirmations, settings.first_block)
    means = Means(
        FactReader(session.contract, session.replication, state=state, depth=depth),
        open_depot(session.store, state.path.with_suffix(".arrivals")),
        state,
        session.replication,
        account=options["account"],
        allow_private=options["allow_private"] or session.is_local_chain,
        credentials=session.credentials,
    )
    return Sync(means, address, must_stop=lambda: stop.is_asked)
