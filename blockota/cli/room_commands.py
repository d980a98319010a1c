"""The commands that the pages of the operations room show."""

from __future__ import annotations

import shlex
from typing import cast

import click

from blockota.cli.main import cli
from blockota.operations.commands import RoomCommand, Values

_COMMANDS = {
    RoomCommand.SIGN_IN: "operations sign-in",
    RoomCommand.VERIFY_ENTRY: "log verify",
    RoomCommand.CHECK_REPLICAS: "replica check",
    RoomCommand.ORDER_UPDATE: "order update",
    RoomCommand.DEFINE_GROUP: "order group",
    RoomCommand.BAN_IDENTITY: "identity ban",
}


def command_line(command: RoomCommand, values: Values) -> str:
    """Return a command to type in a shell. The options are those that the command declares.

    Raises:
        KeyError: the command has no parameter of this name.
    """
    noun, verb = _COMMANDS[command].split()
    group = cast("click.Group", cli.get_command(click.Context(cli), noun))
    parameters = {one.name: one for one in group.commands[verb].params}
    words = ["blockota", noun, verb]
    for name, value in values.items():
        if isinstance(parameters[name], click.Option):
            words.append(parameters[name].opts[0])
        if isinstance(value, str):
            words.append(value)
    return shlex.join(words)
