"""The objects that the gateway's service passes to a face."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from blockota.gateway.commands import CommandDesk
from blockota.gateway.core import Clock
from blockota.gateway.readings import ReadingDesk


@dataclass(frozen=True)
class FaceContext:
    """The objects that the gateway's service passes to a face.

    Attributes:
        identity: UUID of the gateway.
        folder: the folder of the gateway's state, in which a face may store files.
        clock: the gateway's clock. A face compares times by this clock, not by the time of the event loop.
        log: writes one line of JSON: ``log("ddi", "refused", device=256, why="…")``.
        identity_key: URI of the identity's private key, which signs documents for devices; None without a key.
        entries: reads up to 256 entries of the gateway's log, beginning at the given index.
        readings: accepts and stores the readings of devices; None if the gateway has no validator.
        commands: stores the commands to devices; None if the gateway accepts no commands.
    """

    identity: UUID
    folder: Path
    clock: Clock
    log: Callable[..., None]
    identity_key: str | None = None
    entries: Callable[[int], Sequence[bytes]] = lambda _: ()
    readings: ReadingDesk | None = None
    commands: CommandDesk | None = None
