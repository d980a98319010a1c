"""File descriptors as a shell opens them for a command."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager


def inherit(descriptor: int) -> None:
    """Make a file descriptor inheritable, as if the caller of the command had opened it."""
    os.set_inheritable(descriptor, True)  # noqa: FBT003 - os defines the parameter


@contextmanager
def descriptor(text: str) -> Iterator[str]:
    """Yield the number of a file descriptor from which a text can be read."""
    reader, writer = os.pipe()
    os.write(writer, text.encode())
    os.close(writer)
    inherit(reader)
    try:
        yield str(reader)
    finally:
        os.close(reader)
