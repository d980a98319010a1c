"""Commands, and the answers of devices: accepted and refused values."""

from __future__ import annotations

import json
from typing import Any

import pytest

from blockota.model.command import MAX_ARGUMENTS, CommandAnswer, CommandState, DeviceCommand

DATA = {"thing": 256, "id": "c-1", "name": "open-valve", "arguments": {"percent": 40}, "deadline": 1_800_000_030}


def test_a_command_is_read_and_sent() -> None:
    """The data of a request become the message to the device, without the device's number."""
    command = DeviceCommand.of_data(DATA)
    assert DeviceCommand.of_data(DATA | {"thing": "256"}) == command
    assert json.loads(command.message()) == {name: value for name, value in DATA.items() if name != "thing"}
    outcome = command.outcome(CommandState.NO_ANSWER, 7)
    assert (outcome.thing, outcome.time, outcome.name, outcome.value) == ("256", 7, "command:c-1", "no answer")


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"more": 1}, "members"),
        ({"thing": -1}, "thing"),
        ({"thing": "0256"}, "thing"),
        ({"thing": True}, "thing"),
        ({"thing": 1 << 90}, "thing"),
        ({"id": ""}, "id"),
        ({"id": "a" * 49}, "id"),
        ({"id": "a/b"}, "id"),
        ({"id": 7}, "id"),
        ({"name": ""}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"name": "a" * 65}, "name"),
        ({"arguments": []}, "arguments"),
        ({"arguments": {"a": "x" * MAX_ARGUMENTS}}, "arguments"),
        ({"deadline": 1.5}, "deadline"),
        ({"deadline": True}, "deadline"),
        ({"deadline": -1}, "deadline"),
    ],
)
def test_other_data_are_refused(changed: dict[str, Any], why: str) -> None:
    """Each wrong member is named."""
    with pytest.raises(ValueError, match=f"the command's {why}"):
        DeviceCommand.of_data(DATA | changed)


def test_answers() -> None:
    """The state in a device's answer must be done, refused or failed."""
    assert CommandAnswer.of_fields({"id": "c-1", "state": "done"}) == CommandAnswer("c-1", CommandState.DONE)
    found = CommandAnswer.of_fields({"id": "c-1", "state": "failed", "reason": "stuck"})
    assert (found.state, found.reason) == (CommandState.FAILED, "stuck")
    for fields in (
        {"id": "c-1"},
        {"id": "c-1", "state": "done", "more": 1},
        {"id": 1, "state": "done"},
        {"id": "c-1", "state": "sent"},
        {"id": "c-1", "state": "no answer"},
        {"id": "c-1", "state": ["done"]},
        {"id": "c-1", "state": "done", "reason": "x" * 201},
        {"id": "c-1", "state": "done", "reason": None},
    ):
        with pytest.raises(ValueError, match="the answer's"):
            CommandAnswer.of_fields(fields)
