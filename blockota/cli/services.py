"""Functions that the commands of several services share: show a new service, open its log, and serve its state."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from uuid import UUID

from blockota.cli.keys import open_key
from blockota.cli.session import Session
from blockota.errors import Action, UsageError

if TYPE_CHECKING:
    from eth_account.signers.base import BaseAccount

    from blockota.identity.founding import FoundedService, NewService
    from blockota.ledger.log_anchor import LogAnchor
    from blockota.ledger.recording import LogParts
    from blockota.repository.status_site import StatusPages


class ServiceSettings(Protocol):
    """The settings that every service with a log has."""

    @property
    def identity(self) -> UUID:
        """The service's UUID in the registry."""

    @property
    def folder(self) -> Path:
        """The folder of the service's state."""

    @property
    def key(self) -> str | None:
        """The URI of the account that anchors the service's log; None if the log is not anchored."""

    @property
    def anchor_seconds(self) -> int:
        """Seconds between two anchors."""


def show_foundation(
    session: Session, new: NewService, found: FoundedService, *, authority: tuple[Path | None, str], is_enrolled: bool
) -> None:
    """Print what was written for a new service, and the command that comes next.

    Args:
        session: the session.
        new: the service.
        found: the files of the service.
        authority: two values: the file of the certificate authority that signed the service's certificate, or None; and
            the clients that must trust this authority.
        is_enrolled: whether the city has already enrolled the identity.
    """
    certificate, readers = authority
    fields: dict[str, Any] = {
        "identity": str(new.identity),
        "origin": new.origin,
        "folder": str(found.folder),
        "publicKey": str(found.public_key),
        "logKey": str(found.log_public_key),
        "authority": str(certificate) if certificate else None,
    }
    enrol = (
        f"blockota identity enrol --kind {new.kind} --uuid {new.identity} --public-key {found.public_key} "
        f"--log-key {found.log_public_key} --account ADDRESS --virtual-ip IP -o enrol.json"
    )
    then = f"Next: `blockota {new.kind} run`" if is_enrolled else f"Next: the city enrols it with `{enrol}`"

    def show() -> None:
        session.done(f"the {new.kind} {new.identity} is set up in {found.settings}")
        rows = {"log": new.origin, "public key": fields["publicKey"], "log key": fields["logKey"]}
        session.fields(rows | ({"authority": f"{certificate}, for the {readers}"} if certificate else {}))

    session.result(fields, show, then=then)


def open_log_parts(session: Session, settings: ServiceSettings, password_fd: int | None, *, table: str) -> LogParts:
    """Open the log, the log's key and the anchoring account of a service.

    A missing setting ends the command before the service starts.

    Args:
        session: the session.
        settings: the settings of the service.
        password_fd: the file descriptor with the password of the anchoring account.
        table: the service's table in the settings.

    Raises:
        UsageError: a contract, a key or the log is not set, or the log belongs to another identity.
    """
    from blockota.bindings.identities import IdentitiesContract
    from blockota.bindings.update_ledger import UpdateLedgerContract
    from blockota.ledger.keys import open_log_key
    from blockota.ledger.log import TileLog
    from blockota.ledger.log_anchor import LogAnchor
    from blockota.ledger.log_settings import check_keeper, load_log
    from blockota.ledger.recording import LogParts

    log = load_log(session.config, environment=os.environ)
    signer = open_log_key(*log.signing(), environment=os.environ)
    site, tiles = session.gateway, TileLog(log.folder)
    for contract in (IdentitiesContract, *((UpdateLedgerContract,) if settings.key else ())):
        site.registry_address(contract.SETTING)
    check_keeper(signer.key.name, settings.identity, table=table)
    account = open_key(site.settings.chain_id, settings.key, password_fd) if settings.key else None
    if account is None:
        session.note(f"key in [{table}] is missing: the log is not anchored.")

    def open_anchor(account: BaseAccount) -> LogAnchor:
        ledger, identities = site.open(UpdateLedgerContract), site.open(IdentitiesContract)
        return LogAnchor(tiles.published, account, ledger, identities, folder=settings.folder)

    anchor = partial(open_anchor, account) if account else None
    return LogParts(tiles, signer, log.witnesses, anchor, settings.anchor_seconds)


@contextmanager
def shown_state(
    session: Session, address: tuple[str, int] | None, service: str, status: Callable[[], StatusPages]
) -> Iterator[str | None]:
    """Serve ``/metrics`` and ``/health`` for a service whose settings have no address for these pages.

    Args:
        session: the session.
        address: the option ``--metrics``; None serves nothing.
        service: the service's name, such as ``broker``.
        status: returns the state of the service.

    Yields:
        The URL; None if nothing is served.

    Raises:
        UsageError: the address cannot be used.
    """
    if address is None:
        yield None
        return
    from blockota.repository.status_site import MonitorSite, monitored

    with monitored(address, MonitorSite(service, status)) as url:
        session.note(f"/metrics and /health are served at {url}.")
        yield url


@contextmanager
def addresses_from_settings() -> Iterator[None]:
    """Change errors about an address in use, so that their remedy refers to the settings file.

    A service's addresses are in the settings, not in options.
    """
    try:
        yield
    except UsageError as error:
        if error.action is Action.LISTEN_ELSEWHERE:
            raise error.revised(remedy=f"{error.remedy} in the settings file", action=None) from error
        raise
