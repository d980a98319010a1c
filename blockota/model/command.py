"""Commands for devices: the data of a signed `command` request, and the message to the device. Pure.

The data of the request have exactly these members:

=============  ==============================================================================
``thing``      the device's number in DeviceRegistry, as a number or a text
``id``         1 to 48 letters, digits and ``_.:-``; unique among the commands to the device
``name``       name of the command, such as ``open-valve``; at most 64 characters
``arguments``  a JSON object of at most 2,048 bytes
``deadline``   Unix time in seconds after which the device must not execute the command
=============  ==============================================================================

The message to the device has the same members without ``thing``. The device's answer has the members ``id`` and
``state``, and may have ``reason``. The state is ``done``, ``refused`` or ``failed``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

from blockota.model.reading import MAX_NAME, SensorReading

MAX_ARGUMENTS, MAX_REASON = 2048, 200
"""The largest size of the arguments in bytes, and the largest number of characters of a reason."""
OUTCOME = "command:"
"""The beginning of the name of the reading that reports a command's outcome. The id follows. A device cannot use it."""
_ID = re.compile(r"[A-Za-z0-9_.:-]{1,48}", re.ASCII)
_THING = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII)
_LATEST = 1 << 40
_MEMBERS = {"thing", "id", "name", "arguments", "deadline"}


class CommandState(StrEnum):
    """The state of a command."""

    WAITING = "waiting"
    """The gateway has it, and the device was not reached yet."""
    SENT = "sent"
    """It was sent to the device once, and is not sent again."""
    DONE = "done"
    REFUSED = "refused"
    FAILED = "failed"
    NO_ANSWER = "no answer"
    """The device did not answer before the deadline. It may have carried the command out."""

    @property
    def is_answer(self) -> bool:
        """Whether a device states it."""
        return self in {CommandState.DONE, CommandState.REFUSED, CommandState.FAILED}


@dataclass(frozen=True)
class DeviceCommand:
    """A command for a device.

    Attributes:
        thing: number of the device.
        id: the id of this command, unique among the commands to the device.
        name: name of the command.
        arguments: the arguments.
        deadline: Unix time in seconds after which the device must not execute the command.
    """

    thing: int
    id: str
    name: str
    arguments: Mapping[str, Any]
    deadline: int

    @classmethod
    def of_data(cls, data: Mapping[str, Any]) -> Self:
        """Read the data of a request.

        Raises:
            ValueError: the data are not a valid command.
        """
        if set(data) != _MEMBERS:
            raise ValueError(f"the command's members are not exactly {', '.join(sorted(_MEMBERS))}")
        thing, arguments, deadline = str(data["thing"]), data["arguments"], data["deadline"]
        if type(data["thing"]) not in {int, str} or not _THING.fullmatch(thing):
            raise ValueError("the command's thing is not the number of a device")
        if not isinstance(data["id"], str) or not _ID.fullmatch(data["id"]):
            raise ValueError("the command's id does not consist of 1 to 48 letters, digits, and _.:-")

        name = data["name"]
        if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME or not name.isprintable():
            raise ValueError(f"the command's name is not a text of 1 to {MAX_NAME} printable characters")
        if not isinstance(arguments, dict) or len(_json(arguments)) > MAX_ARGUMENTS:
            raise ValueError(f"the command's arguments are not an object of at most {MAX_ARGUMENTS:,} bytes")
        if type(deadline) is not int or not 0 <= deadline <= _LATEST:
            raise ValueError("the command's deadline is not a Unix time in whole seconds")

        return cls(int(thing), data["id"], name, arguments, deadline)

    def message(self) -> bytes:
        """Return the message to the device."""
        return _json({"id": self.id, "name": self.name, "arguments": self.arguments, "deadline": self.deadline})

    def outcome(self, state: CommandState, time: int) -> SensorReading:
        """Return the command's outcome as a reading, which the gateway sends to validators."""
        return SensorReading(str(self.thing), time, f"{OUTCOME}{self.id}", str(state))


@dataclass(frozen=True)
class CommandAnswer:
    """The answer of a device to a command.

    Attributes:
        id: the id of the command.
        state: `CommandState.DONE`, `CommandState.REFUSED` or `CommandState.FAILED`.
        reason: the device's reason; empty if the device gave no reason.
    """

    id: str
    state: CommandState
    reason: str = ""

    @classmethod
    def of_fields(cls, fields: Mapping[str, Any]) -> Self:
        """Read the JSON object of an answer.

        Raises:
            ValueError: the object is not a valid answer.
        """
        if set(fields) - {"reason"} != {"id", "state"}:
            raise ValueError("the answer's members are not id, state and optionally reason")
        state, reason = fields["state"], fields.get("reason", "")
        if not isinstance(fields["id"], str) or not _ID.fullmatch(fields["id"]):
            raise ValueError("the answer's id is not a valid id of a command")
        if not isinstance(state, str) or state not in {str(one) for one in CommandState if one.is_answer}:
            raise ValueError("the answer's state is not done, refused or failed")
        if not isinstance(reason, str) or len(reason) > MAX_REASON or not reason.isprintable():
            raise ValueError(f"the answer's reason is not a text of at most {MAX_REASON} printable characters")
        return cls(fields["id"], CommandState(state), reason)


def _json(fields: Mapping[str, Any]) -> bytes:
    return json.dumps(fields, separators=(",", ":")).encode()
