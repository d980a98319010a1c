"""The desks for readings and commands, with files in a folder and a clock that a test sets."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

from blockota.gateway.commands import CommandDesk
from blockota.gateway.facts import KnownDevice, SiteFacts
from blockota.gateway.readings import ReadingDesk
from blockota.identity.request_outbox import RequestOutbox
from blockota.model.request import SignedRequest
from tests.support.gateway import known_device, site_facts

VALIDATOR, OTHER_VALIDATOR = UUID(int=13, version=4), UUID(int=14, version=4)
NOW = 1_800_000_000
ALLOWED = {"thermo2": ("open-valve", "close-valve")}
COMMAND = {"thing": 256, "id": "c-1", "name": "open-valve", "arguments": {"percent": 40}, "deadline": NOW + 30}


class ThingDesks:
    """The two desks of a gateway.

    Attributes:
        now: the time.
        notes: the reports of the desk for readings.
    """

    def __init__(self, folder: Path, *, validators: tuple[UUID, ...] = (VALIDATOR,)) -> None:
        self.folder, self.now = folder, NOW
        self.notes: list[str] = []
        self.outbox = RequestOutbox(folder / "outbox.sqlite")
        self.readings = ReadingDesk(self.outbox, validators, clock=lambda: self.now, note=self.notes.append)
        self.commands = CommandDesk(folder / "commands.sqlite", ALLOWED, readings=self.readings, clock=lambda: self.now)
        self.learn(known_device(256), known_device(257))

    def learn(self, *devices: KnownDevice, **changes: Any) -> None:
        """Set the devices of the site at the desk for commands."""
        facts: SiteFacts = replace(site_facts(devices), block=1, **changes)
        self.commands.learn(facts)

    def close(self) -> None:
        """Close the files."""
        self.commands.close()
        self.outbox.__exit__()

    def written(self) -> list[tuple[str, Any]]:
        """Return name and value of each reading in the outbox file, as another process reads them."""
        with sqlite3.connect(self.folder / "outbox.sqlite") as database:
            rows = [json.loads(body) for (body,) in database.execute("SELECT body FROM item ORDER BY number")]
        return [(row["name"], row["value"]) for row in rows]


def command_request(sender: UUID = VALIDATOR, **changed: Any) -> SignedRequest:
    """Return an accepted request with a command."""
    data = COMMAND | changed
    return SignedRequest(b"", 1, "command", sender, data, NOW, "n-1", None, None)  # type: ignore[arg-type]
