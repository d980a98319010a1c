"""The commands that a page shows, for a person who works at a terminal instead of in the browser.

The library does not spell commands: `blockota.cli.room_commands` does, from the parameters that the commands declare.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum, auto


class RoomCommand(Enum):
    """What a person can do with a command."""

    SIGN_IN = auto()
    VERIFY_ENTRY = auto()
    CHECK_REPLICAS = auto()
    ORDER_UPDATE = auto()
    DEFINE_GROUP = auto()
    BAN_IDENTITY = auto()


Values = Mapping[str, str | bool]
"""The values of a command, by the name of its parameter. The value of a flag is True."""
CommandLine = Callable[[RoomCommand, Values], str]
"""Returns the text of a command, to type in a shell."""
