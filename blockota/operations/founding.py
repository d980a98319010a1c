"""Set up an operations room: create its keys, and add its tables to a settings file.

Nothing is overwritten.
"""

from __future__ import annotations

from pathlib import Path

from blockota.identity.founding import FoundedService, NewService, ServiceFounding, toml_table

KIND = "operations"
"""The name of the room's table, and of its folder beside the settings file."""


def found_room(config: Path | None, new: NewService, *, listen: str, url: str | None) -> FoundedService:
    """Create the keys of an operations room, and add its tables to the settings file.

    Args:
        config: the settings file; None means ``blockota.toml`` in the current folder.
        new: the room.
        listen: address of the page.
        url: URL at which persons open the page; None to use the address on which the page is served.

    Raises:
        UsageError: the file already has a room or a log, a key exists, or the origin cannot be used.
    """
    founding = ServiceFounding(config, new)
    founding.make_keys()
    logs = toml_table(f"{KIND}.logs", {str(new.identity): f"{KIND}/log"})
    founding.write_settings({"listen": listen} | ({"url": url} if url else {}), [logs])
    return founding.found
