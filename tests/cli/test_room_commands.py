"""The commands that the pages of the operations room show."""

from __future__ import annotations

import shlex

import pytest

from blockota.cli.room_commands import command_line
from blockota.operations.commands import RoomCommand, Values
from tests.cli.test_help import CONTEXTS

UUID = "00000000-0000-4000-8000-000000000002"
ORDER = {"producer": "acme", "group": "two", "product": "acme-thermo2", "version": "1.0.0", "key": "URI"}
VALUES: dict[RoomCommand, Values] = {
    RoomCommand.SIGN_IN: {"url": "https://room.example", "key": "keystore:operator.json"},
    RoomCommand.VERIFY_ENTRY: {"file": "receipt-0.json", "trust": "trust-0.toml", "asks_chain": True},
    RoomCommand.CHECK_REPLICAS: {},
    RoomCommand.ORDER_UPDATE: {**ORDER, "not_before": "2026-12-01T08:00+00:00", "deadline": "2026-12-09T08:00+00:00"},
    RoomCommand.DEFINE_GROUP: {"name": "two", "site": UUID, "key": "URI"},
    RoomCommand.BAN_IDENTITY: {"name": UUID, "cause": "it's lost; `reboot`", "key": "URI"},
}


@pytest.mark.parametrize("command", RoomCommand)
def test_a_shown_command_is_accepted_by_the_command_line(command: RoomCommand) -> None:
    """If the text of a command is split as in a shell, the command line parses the original values."""
    words = shlex.split(command_line(command, VALUES[command]))
    path = " ".join(words[:3])
    read = CONTEXTS[path].command.make_context(path, words[3:], parent=CONTEXTS[path].parent).params
    assert {name: str(read[name]) for name in VALUES[command] if name not in {"not_before", "deadline"}} == {
        name: str(value) for name, value in VALUES[command].items() if name not in {"not_before", "deadline"}
    }


def test_an_option_is_spelled_as_the_command_declares_it() -> None:
    """The text of a command has each value as an argument, as an option with its value, or as a flag."""
    text = command_line(RoomCommand.VERIFY_ENTRY, VALUES[RoomCommand.VERIFY_ENTRY])
    assert text == "blockota log verify receipt-0.json --trust trust-0.toml --chain"
