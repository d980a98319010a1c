"""The commands that a page shows, for a person who works at a terminal instead of in the browser.

`blockota.cli.room_commands` builds the text of a command from the parameters that the command declares.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum, auto


class RoomCommand(Enum):
    """The actions for which a page shows a command."""

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
