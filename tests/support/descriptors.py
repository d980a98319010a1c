"""File descriptors as a shell opens them for a command."""

from __future__ import annotations

import os


def inherit(descriptor: int) -> None:
    """Mark a descriptor of this process as one that the caller opened."""
    os.set_inheritable(descriptor, True)  # noqa: FBT003 - os defines the parameter
