"""Start the application on a board, and read the text that it prints."""

from __future__ import annotations

import contextlib
import time

from blockota.errors import LinkError, NoAnswerError
from firmware_host.bootloader.client import Bootloader
from firmware_host.line.link import Link

QUIET_SECONDS = 0.3
"""After its first byte, an application that is silent for so long has printed its text."""


def start(bootloader: Bootloader, address: int, *, listen: float) -> str:
    """Start the application at an address, and return the text that it prints.

    Args:
        bootloader: connected; it ends with this call.
        address: of the application's vector table.
        listen: the longest to wait for text, in seconds.

    Returns:
        The text, in which control characters and bytes that are not UTF-8 are escaped.

    Raises:
        RefusedError: the chip has no program memory at the address.
        BoardError: the board answered with NACK, or not at all.
    """
    bootloader.go(address)
    return listen_to(bootloader.link, seconds=listen)


def listen_to(link: Link, *, seconds: float) -> str:
    """Return the text that an application prints after a reset; see `start`."""
    deadline = time.monotonic() + seconds
    heard, silence = b"", seconds
    # A lost line or Control-C ends the listening; what was heard before is returned.
    with contextlib.suppress(NoAnswerError, LinkError, KeyboardInterrupt):
        while (left := deadline - time.monotonic()) > 0:
            heard += link.read(1, timeout=min(silence, left))
            silence = QUIET_SECONDS
    text = heard.decode("utf-8", errors="backslashreplace").replace("\r\n", "\n")
    return "".join(
        letter if letter.isprintable() or letter == "\n" else letter.encode("unicode_escape").decode("ascii")
        for letter in text
    )
