"""Options of the commands that serve over HTTP: where to listen, TLS, trusted proxies and limits."""

from __future__ import annotations

import functools
from collections.abc import Callable
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from urllib.parse import urlsplit

import click

from blockota.cli.parameters import INTERVAL, NumberRange
from blockota.errors import UsageError

_FILE = click.Path(path_type=Path)


def host_and_port(text: str) -> tuple[str, int]:
    """Parse a host and a port, such as ``0.0.0.0:8080`` or ``[::]:8080``."""
    try:
        place = urlsplit(f"//{text}")
        host, port = place.hostname, place.port
    except ValueError:
        host = port = None
    if not host or port is None:
        raise click.BadParameter(f"{text!r} is not an address: use HOST:PORT, such as 0.0.0.0:8080.")
    return host, port


def proxy_list(text: str) -> tuple[IPv4Network | IPv6Network, ...]:
    """Parse a list of IP addresses and networks, such as ``127.0.0.1,10.0.0.0/8``."""
    proxies = []
    for word in filter(None, map(str.strip, text.split(","))):
        try:
            proxies.append(ip_network(word))
        except ValueError as error:
            reason = "it is neither an IP address nor a network of them. Use for example 127.0.0.1,10.0.0.0/8."
            raise click.BadParameter(f"{word!r} is not a proxy: {reason}") from error
    return tuple(proxies)


def listening_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options of a server, as the parameter `listening`.

    An invalid certificate is refused before the command runs.
    """

    @click.option(
        "--listen",
        type=host_and_port,
        default="127.0.0.1:8080",
        show_default=True,
        metavar="HOST:PORT",
        help="Address on which to listen.",
    )
    @_tls_options
    @click.option(
        "--proxy-headers",
        "proxies",
        type=proxy_list,
        default="",
        metavar="LIST",
        help="Proxies whose X-Forwarded-For is trusted.",
    )
    @click.option(
        "--clients", type=NumberRange(1), default=256, show_default=True, help="Responses sent at the same time."
    )
    @click.option(
        "--stop-within", type=INTERVAL, default="30s", show_default=True, help="Time to finish transfers at a stop."
    )
    @functools.wraps(command)
    def wrapped(
        *args: object,
        listen: tuple[str, int],
        tls: tuple[Path | None, Path | None],
        proxies: tuple[IPv4Network | IPv6Network, ...],
        clients: int,
        stop_within: int,
        **kwargs: object,
    ) -> None:
        from blockota.repository.server import Listening, tls_context

        listening = Listening(*listen, *tls, proxies, clients=clients, stop_seconds=stop_within)
        tls_context(listening)
        command(*args, listening=listening, **kwargs)

    return wrapped


def metrics_option(command: Callable[..., None]) -> Callable[..., None]:
    """Add ``--metrics``, as the parameter `metrics`: the address that serves the state of a service, or None."""
    return click.option(
        "--metrics",
        type=host_and_port,
        metavar="HOST:PORT",
        help="Address of /metrics (Prometheus) and /health; none by default.",
    )(command)


def _tls_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add ``--certificate`` and ``--private-key``, as the parameter `tls`."""

    @click.option("--certificate", type=_FILE, metavar="FILE", help="Certificate chain (PEM), to serve over TLS.")
    @click.option("--private-key", type=_FILE, metavar="FILE", help="The certificate's private key (PEM).")
    @functools.wraps(command)
    def wrapped(*args: object, certificate: Path | None, private_key: Path | None, **kwargs: object) -> None:
        if (certificate is None) != (private_key is None):
            raise UsageError("--certificate and --private-key must be passed together", why="TLS needs both files")
        command(*args, tls=(certificate, private_key), **kwargs)

    return wrapped
