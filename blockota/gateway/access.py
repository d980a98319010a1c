"""Send the readings of a gateway to validators, and receive commands from validators.

======================  =====================================================================================
``submissions.sqlite``  the readings that were not delivered to a validator yet (`blockota.identity.request_outbox`)
``commands.sqlite``     the commands with their states (`blockota.gateway.commands`)
``requests.sqlite``     the ids of received requests, and the log entries of warnings about refused requests
======================  =====================================================================================
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import Any

from blockota.bindings.identities import IdentitiesContract
from blockota.errors import UsageError, missing_package
from blockota.gateway.commands import CommandDesk
from blockota.gateway.monitoring import AccessStatus
from blockota.gateway.readings import ReadingDesk
from blockota.gateway.settings import GatewaySettings
from blockota.identity.intake import RequestIntake
from blockota.identity.receiving import ReceiverParts, RequestReceiver
from blockota.identity.registry import IdentityReader
from blockota.identity.request_outbox import RequestCourier, RequestOutbox
from blockota.identity.request_state import RequestState
from blockota.identity.sending import RequestLine, open_signer
from blockota.identity.warnings import WarningMaker
from blockota.ledger.recording import Outbox
from blockota.line_log import LineLog
from blockota.model.identity import IdentityKind
from blockota.model.request import Receiver
from blockota.shutdown import Stop

OUTBOX_NAME, COMMANDS_NAME, STATE_NAME = "submissions.sqlite", "commands.sqlite", "requests.sqlite"
METHODS = {"command": frozenset({IdentityKind.VALIDATOR})}
"""The methods of a gateway, and the kinds of identities that may call them."""
ENTRIES, WARNINGS = 240, 16
"""The largest numbers of entries of the gateway's state, and of warnings about requests, that are appended in one
batch. `blockota.ledger.log` recognises repeats among as many entries as the sum of these numbers.
"""
_LIBRARIES = ("starlette", "joserfc")
_PAUSE = 1.0


@dataclass(frozen=True)
class CommandPort:
    """The port to which validators send commands, and the objects that process the commands.

    Attributes:
        desk: takes the commands.
        receiver: accepts or refuses the signed requests.
        state: stores the ids of received requests, and the log entries of warnings.
        place: host and port at which the gateway listens.
    """

    desk: CommandDesk
    receiver: RequestReceiver
    state: RequestState
    place: tuple[str, int]


class GatewayAccess:
    """The readings and commands of a gateway.

    Args:
        outbox: keeps the readings.
        readings: takes the readings.
        couriers: one sender of readings for each validator, by the name of the validator.
        port: the port to which validators send commands; None if the gateway accepts no commands.
        lines: the line log, to which failures and recoveries are written.
    """

    def __init__(
        self,
        outbox: RequestOutbox,
        readings: ReadingDesk,
        couriers: Mapping[str, RequestCourier],
        port: CommandPort | None,
        lines: LineLog,
    ) -> None:
        self._outbox, self._couriers, self._port, self._lines = outbox, couriers, port, lines
        self.readings = readings

    @property
    def commands(self) -> CommandDesk | None:
        """The object that stores commands and their states; None if the gateway accepts no commands."""
        return self._port.desk if self._port else None

    @property
    def warnings(self) -> Outbox | None:
        """The log entries of warnings about refused requests; None if the gateway receives no requests."""
        return self._port.state if self._port else None

    def status(self) -> AccessStatus:
        """Return the counts of readings, commands and requests for the status page."""
        readings, port = self.readings, self._port
        counts = dict(port.receiver.counts) if port else {}
        return AccessStatus(
            waiting=readings.waiting(),
            accepted=readings.accepted,
            refused=readings.refused,
            last=max(readings.last.values(), default=None),
            open_commands=port.desk.count_open() if port else 0,
            accepted_requests=counts.pop(None, 0),
            refused_requests={fault.name: count for fault, count in counts.items() if fault},
        )

    def threads(self, stop: Stop) -> dict[str, Callable[[], None]]:
        """Return the functions to run in threads until `stop` is requested, by the name of the thread."""
        found: dict[str, Callable[[], None]] = {}
        for name, courier in self._couriers.items():
            report, refused = partial(self._lines.state, name), partial(self._log_refused, name)
            found[f"courier to {name}"] = partial(courier.run, stop, report=report, refused=refused)
        if port := self._port:
            found["commands"] = partial(self._maintain, port, stop)
        return found

    async def serve(self, on_ready: Callable[[], None]) -> None:
        """Receive commands until the task is cancelled.

        Args:
            on_ready: called when the port is open; called immediately if the gateway accepts no commands.

        Raises:
            UsageError: the gateway cannot listen on the address.
        """
        if self._port is None:
            on_ready()
            return
        # Only a gateway with a command port needs the libraries of the server.
        from blockota.identity.request_server import RequestPort, RequestServer  # noqa: PLC0415

        intake = RequestIntake(self._port.receiver)
        try:
            await RequestServer(RequestPort(*self._port.place), intake).run(on_ready=lambda _: on_ready())
        finally:
            intake.close()

    def wake(self) -> None:
        """Wake the waiting threads, so that they notice a requested stop."""
        self._outbox.wake()

    def _log_refused(self, name: str, why: str) -> None:
        self._lines.event(name, "refused", why=why)

    def _maintain(self, port: CommandPort, stop: Stop) -> None:
        port.desk.expire()
        port.receiver.write_due_warnings()
        stop.wait(_PAUSE)


@contextmanager
def opened_access(
    settings: GatewaySettings,
    open_registry: Callable[[], IdentitiesContract],
    lines: LineLog,
    *,
    clock: Callable[[], int],
) -> Iterator[GatewayAccess | None]:
    """Open the files, and yield a `GatewayAccess`; yield None if the settings have no ``[gateway.access]``.

    Args:
        settings: the settings of the gateway.
        open_registry: opens the registry of identities. A failed call is repeated until the node answers.
        lines: the line log, to which failures and recoveries are written.
        clock: returns Unix time.

    Raises:
        UsageError: a setting cannot be used.
        RefusedError: another process uses a file, or the key cannot be used.
        StoreError: a file cannot be used.
    """
    access, folder = settings.access, settings.folder
    if access is None:
        yield None
        return
    if settings.identity_key is None:
        raise UsageError(
            "[gateway.access] cannot be used",
            why="the gateway signs its requests, and [gateway] names no identity_key",
            remedy='add identity_key = "file:gateway/identity.pem" to [gateway]',
        )

    # The outbox keeps the readings for each validator until the validator has accepted them.
    signer = open_signer(settings.identity, settings.identity_key, environment=os.environ)
    lines_to = {uuid: RequestLine(url, authority=access.authority) for uuid, url in access.validators.items()}
    with ExitStack() as stack:
        outbox = stack.enter_context(RequestOutbox(folder / OUTBOX_NAME))
        for receiver, count in outbox.waiting_for().items():
            if receiver not in lines_to:
                why = f"{count:,} readings wait for a validator that [gateway.access.validators] does not name"
                lines.state(f"validator {receiver}", why)

        readings = ReadingDesk(outbox, list(lines_to), clock=clock, note=partial(lines.state, "readings"))
        couriers = {
            f"validator {uuid}": RequestCourier(outbox, uuid, signer, line, clock=clock)
            for uuid, line in lines_to.items()
        }
        port = _command_port(settings, stack, readings, IdentityReader(open_registry), clock)
        yield GatewayAccess(outbox, readings, couriers, port, lines)


def outbox_status(settings: GatewaySettings) -> dict[str, Any] | None:
    """Count the waiting readings and the refused requests in the outbox; return None if the outbox does not exist.

    Raises:
        StoreError: the file cannot be read.
    """
    path = settings.folder / OUTBOX_NAME
    if not path.exists():
        return None
    with RequestOutbox(path, is_owner=False) as outbox:
        refused = outbox.refused()
        return {"waiting": outbox.waiting(), "refused": len(refused), "why": refused[0][1] if refused else None}


def _command_port(
    settings: GatewaySettings,
    stack: ExitStack,
    readings: ReadingDesk,
    registry: IdentityReader,
    clock: Callable[[], int],
) -> CommandPort | None:
    access = settings.access
    if access is None or access.listen is None:
        return None
    if missing := [name for name in _LIBRARIES if find_spec(name) is None]:
        raise missing_package("the gateway cannot receive commands", missing[0], "gateway", "access")

    desk = CommandDesk(settings.folder / COMMANDS_NAME, access.commands, readings=readings, clock=clock)
    stack.callback(desk.close)
    state = stack.enter_context(RequestState(settings.folder / STATE_NAME))
    parts = ReceiverParts(registry, state, WarningMaker(settings.identity), clock)
    receiver = RequestReceiver(Receiver(settings.identity, METHODS, access.max_age), parts, keep=desk.keep)
    return CommandPort(desk, receiver, state, access.listen)


class LimitedOutbox:
    """Wraps an outbox, and limits the number of entries that one call returns.

    The log recognises a repeated entry only among its newest entries. All outboxes must therefore append small batches.

    Args:
        outbox: the outbox.
        most: the largest number of entries that one call of `outbox` returns.
    """

    def __init__(self, outbox: Outbox, most: int) -> None:
        self._outbox, self._most = outbox, most

    def outbox(self, limit: int = ENTRIES) -> list[tuple[int, bytes]]:
        """Return the oldest entries with their sequence numbers."""
        return self._outbox.outbox(min(limit, self._most))

    def appended(self, positions: Iterable[tuple[int, int]], /) -> None:
        """Record the log indices of appended entries, as pairs (sequence number, log index)."""
        self._outbox.appended(positions)
