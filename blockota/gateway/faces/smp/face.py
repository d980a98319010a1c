"""The face for boards with MCUboot and SMP: its settings, and the schedule of visits to the boards."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

from blockota.errors import BlockOTAError, BoardError, UnreachableError, UsageError
from blockota.gateway.core import Core
from blockota.gateway.face import FaceContext
from blockota.gateway.faces.smp.board import SmpLine, open_board, udp_address
from blockota.gateway.faces.smp.sectors import read_mac_keys
from blockota.gateway.faces.smp.visit import BoardNotes, ProvenDigests, SmpVisit, VisitRules
from blockota.identity.identity_key import IdentityKey, open_identity_key
from blockota.settings_table import SettingsTable, decimal_number

_KNOWN = ("devices", "poll", "trial", "retry", "speed", "check", "mac_keys")
_BOOT_PAUSE = 0.2
"""Seconds between two attempts to reach a board that starts."""


@dataclass(frozen=True)
class SmpSettings:
    """The table ``[gateway.smp]``.

    Attributes:
        lines: the port and the timeouts for each board, by the number of the device.
        poll: seconds between two visits to a board without an offer.
        trial: seconds for which a new program must work before it is confirmed.
        retry: seconds until the next visit to a board after its connection failed.
        check: seconds between two checks of a board's flash pages.
        mac_keys: the known MAC keys of secure elements, by the number of the device.
    """

    lines: Mapping[int, SmpLine]
    poll: float = 60.0
    trial: float = 10.0
    retry: float = 5.0
    check: float = 3600.0
    mac_keys: Mapping[int, bytes] = field(default_factory=dict)

    @classmethod
    def read(cls, table: SettingsTable) -> SmpSettings:
        """Read the table.

        Raises:
            UsageError: a setting is not valid, or two devices have one port.
            RefusedError: other users can read a MAC key.
        """
        table.known(*_KNOWN)
        devices, speed = table.table("devices"), table.number("speed", 115_200, least=1200)
        ports: dict[int, str] = {}
        for name in devices.values if devices else ():
            if devices is None or (number := decimal_number(name)) is None:
                raise table.unusable("devices", f"{name!r:.40} is not the number of a device")
            port = devices.text(name) or ""
            if port in ports.values():
                raise table.unusable("devices", f"two devices have the port {port:.60}")
            if port.startswith("udp:"):
                udp_address(port)
            ports[number] = port

        if not ports:
            raise UsageError(
                "[gateway.smp] has no devices",
                why="the face serves the boards that the table [gateway.smp.devices] names",
                remedy='add the table [gateway.smp.devices] with lines such as 300 = "/dev/ttyACM0"',
            )

        return cls(
            {number: SmpLine(port, speed) for number, port in ports.items()},
            poll=table.seconds("poll", 60),
            trial=table.seconds("trial", 10),
            retry=table.seconds("retry", 5),
            check=table.seconds("check", 3600),
            mac_keys=read_mac_keys(folder, ports) if (folder := table.path("mac_keys")) else {},
        )


class SmpFace:
    """Serves boards that speak SMP.

    Args:
        settings: the settings.
        context: the objects that the gateway's service passes to the face.
        identity_key: the key of the gateway's identity, which signs offers; None if the settings name no key.
    """

    name = "smp"

    def __init__(self, settings: SmpSettings, context: FaceContext, identity_key: IdentityKey | None = None) -> None:
        self.settings, self._context, self._identity_key = settings, context, identity_key
        self._changed = {number: asyncio.Event() for number in settings.lines}
        self._digests = ProvenDigests(context.folder / "images")
        self._notes = {number: BoardNotes(partial(context.log, self.name, device=number)) for number in settings.lines}

    async def run(self, core: Core, *, on_ready: Callable[[], None] = lambda: None) -> None:
        """Serve the boards until the task is cancelled."""
        on_ready()
        async with asyncio.TaskGroup() as group:
            for number, line in self.settings.lines.items():
                group.create_task(self._serve(core, number, line))

    def offer_changed(self, device: int) -> None:
        """Visit a board whose offer changed."""
        if device in self._changed:
            self._changed[device].set()

    async def _serve(self, core: Core, number: int, line: SmpLine) -> None:
        """Visit a board repeatedly. A repeated failure is logged only once."""
        settings, failure = self.settings, ""
        rules = VisitRules(settings.trial, settings.check, self._identity_key, settings.mac_keys.get(number))
        while True:
            self._changed[number].clear()
            pause = settings.retry
            try:
                if (device := core.device(number)) and not device.is_banned:
                    async with open_board(line) as board:
                        visit = SmpVisit(core, number, board, self._digests, self._notes[number], rules)
                        pause = _BOOT_PAUSE if await visit.run() else settings.poll
                failure = ""
            except (BoardError, UnreachableError) as error:
                failure = self._note(number, error, failure)
            except BlockOTAError as error:  # the core refused the report, and logged why
                failure, pause = self._note(number, error, failure), settings.poll

            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._changed[number].wait()

    def _note(self, number: int, error: BlockOTAError, before: str) -> str:
        """Log an error if it differs from the previous error. Returns its text."""
        now = f"{error.what}: {error.why}"
        if now != before:
            self._context.log(self.name, "failed", device=number, why=now)
        return now


def create(table: SettingsTable, context: FaceContext) -> SmpFace:
    """Make the face.

    Raises:
        UsageError: a setting is not valid.
        RefusedError: the key of the identity, or a MAC key, cannot be used.
    """
    key = open_identity_key(context.identity_key, environment=os.environ) if context.identity_key else None
    return SmpFace(SmpSettings.read(table), context, key)
