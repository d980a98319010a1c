"""``blockota vpn``: tunnels between enrolled identities, from the registry."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import click

from blockota.bindings.identities import IdentitiesContract
from blockota.chain.follow import Follower
from blockota.chain.wake import BlockSignal
from blockota.cli.listening import metrics_option
from blockota.cli.services import shown_state
from blockota.cli.session import Session, VerbGroup, with_session, with_session_offline
from blockota.errors import ChainError, UsageError
from blockota.identity.tunnel_keys import create_key, read_private_key
from blockota.identity.tunnel_monitoring import TunnelWatch
from blockota.identity.tunnel_settings import TunnelSettings, load_tunnels
from blockota.identity.tunnel_sync import TunnelSync, check_age, join_states, lock_settings, read_tunnels
from blockota.identity.tunnels import render_interface, render_peers
from blockota.identity.wireguard import WireGuard
from blockota.model.release import show_time
from blockota.shutdown import Stop, stop_on_signals

_PAUSE = 0.5
"""Seconds between two looks at the chain, if its node does not announce blocks: a ban takes effect within a second."""


@click.group(cls=VerbGroup)
def vpn() -> None:
    """Open tunnels from this host to enrolled identities, and close the tunnels of banned identities.

    The table [vpn] of the settings configures this host's end of the tunnels. The tunnels are WireGuard's.
    """


@vpn.command()
@click.argument("file", type=click.Path(path_type=Path))
@with_session_offline
def key(session: Session, /, file: Path) -> None:
    """Make the key of a tunnel, and print its public key.

    The private key is written to FILE, which must be new. The city enrols the public key with --tunnel-key.

    \b
    Example:  blockota vpn key vpn.key
    """
    public = create_key(file)

    def show() -> None:
        session.done(f"{file} contains the private key of a tunnel; it stays on this host")
        session.fields({"public key": public})

    then = f"Next: the city enrols this host with `--tunnel-key {public}` and `--virtual-ip ADDRESS`"
    session.result({"key": str(file), "publicKey": public}, show, then=then)


@vpn.command()
@click.option("--watch", is_flag=True, help="Follow the registry until SIGTERM or Ctrl-C, and then close the tunnels.")
@click.option("--print", "printed", is_flag=True, help="Print a configuration for WireGuard, and change nothing.")
@metrics_option
@with_session
def sync(session: Session, /, *, watch: bool, printed: bool, metrics: tuple[str, int] | None) -> None:
    """Synchronize the tunnels of this host with the registry.

    Tunnels need WireGuard, nftables and root privileges. On systems other than Linux, the command prints a
    configuration file for import into the WireGuard application. The file contains the private key.

    \b
    Example:  blockota vpn sync --watch
    """
    if metrics and not watch:
        raise UsageError("--metrics needs --watch", why="a single synchronization ends before its metrics can be read")

    settings = _settings(session)
    private_key = read_private_key(settings.key_file)

    if printed or not sys.platform.startswith("linux"):
        contract = session.gateway.open(IdentitiesContract)
        check_age(contract.chain.head().time, settings, now=int(time.time()))
        view = read_tunnels(contract, settings)
        head = render_interface(private_key, settings.listen_port, address=view.own.virtual_ip)
        fields = {**view.as_fields(), "configuration": head + render_peers(view.peers)}
        session.result(fields, lambda: click.echo(fields["configuration"], nl=False))
        return

    interface = WireGuard(settings.interface)
    tunnels = TunnelSync(settings, private_key, interface, session.note)
    if not watch:
        _sync_once(session, settings, tunnels)
        session.note("A ban takes effect here at the next `blockota vpn sync`; --watch follows the registry.")
        return

    state = TunnelWatch(interface.peers)
    with (
        lock_settings(settings),
        stop_on_signals() as stop,
        shown_state(session, metrics, "tunnels", lambda: state),
    ):
        tunnels.start_closed()
        try:
            _follow(session, _sync_once(session, settings, tunnels), tunnels, state, stop)
        finally:
            tunnels.close()


def _sync_once(session: Session, settings: TunnelSettings, tunnels: TunnelSync) -> Callable[[], None]:
    """Read the registry, print the number of peers, and return a function that reads the registry again."""
    contract = session.gateway.open(IdentitiesContract)
    follower = Follower(contract.chain, first_block=contract.first_block)

    def update() -> None:
        tunnels.update(contract, follower, now=int(time.time()))

    update()
    fields = {"identity": str(settings.identity), "interface": settings.interface, "peers": len(tunnels.peers)}
    sentence = f"{settings.interface} has {len(tunnels.peers)} peers"
    session.result(fields, lambda: session.done(sentence))
    return update


def _follow(session: Session, update: Callable[[], None], tunnels: TunnelSync, state: TunnelWatch, stop: Stop) -> None:
    """Keep the tunnels synchronized with the registry until a stop is requested."""
    signal, failure = BlockSignal(session.gateway.settings.url, pause=_PAUSE), ""
    try:
        while not stop.is_asked:
            state.fresh_at = tunnels.fresh_at
            signal.wait(stop)
            try:
                update()
                failure = state.trouble = ""
            except ChainError as error:
                tunnels.expire(now=int(time.time()))
                if error.what != failure:
                    session.warn(f"{error.what}: {error.why}")
                failure, state.trouble = error.what, f"{error.what}: {error.why}"
            # After the update, because checking rules and interface takes longer than removing a banned peer.
            tunnels.repair(now=int(time.time()))
    finally:
        signal.close()


@vpn.command()
@with_session
def status(session: Session, /) -> None:
    """List the tunnels of this host with their identities.

    \b
    Example:  blockota vpn status
    """
    settings = _settings(session)
    contract = session.gateway.open(IdentitiesContract)
    tunnels = join_states(list(contract.identities()), WireGuard(settings.interface).peers())
    fields = {"interface": settings.interface, "tunnels": [one.as_fields() for one in tunnels]}

    rows = []
    for one in tunnels:
        name: tuple[object, object] = ("unknown key", one.state.key)
        if one.identity:
            name = (one.identity.virtual_ip, f"{one.identity.kind} {one.identity.uuid}")
        handshake = show_time(one.state.last_handshake) if one.state.last_handshake else "never"
        rows.append((*name, handshake, f"{one.state.received:,}", f"{one.state.sent:,}", one.status))

    columns = ("address", "identity", "last handshake", "received", "sent", "registry")
    session.result(fields, lambda: session.table(columns, rows, empty=f"{settings.interface} has no peers."))


def _settings(session: Session) -> TunnelSettings:
    return load_tunnels(session.config, environment=os.environ)
