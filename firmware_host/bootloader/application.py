"""Starts the program that a board holds, and listens to what it says."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from blockota.errors import LinkError, NoAnswerError
from firmware_host.bootloader.client import Bootloader
from firmware_host.line.link import Link

QUIET_SECONDS = 0.3
"""How long a started program that has said something may be silent before `start` stops listening."""


def start(bootloader: Bootloader, address: int, *, listen: float) -> str:
    """Start the program at an address, and listen to what it prints.

    Args:
        bootloader: connected; it is gone afterwards.
        address: of the program's vector table.
        listen: seconds to wait for the text; less is waited once the board has said something and is quiet.

    Returns:
        The text, with control characters and bytes that are no UTF-8 in an escaped form.

    Raises:
        RefusedError: the chip has no program memory there.
        BoardError: the board fell silent before it started, or refused.
    """
    bootloader.go(address)
    return listen_to(bootloader.link, seconds=listen)


def listen_to(link: Link, *, seconds: float) -> str:
    """Listen to what a program prints that was started by a reset.

    Args:
        link: to the board.
        seconds: as `listen` of `start`.

    Returns:
        The text, as `start` gives it.
    """
    return _printable(b"".join(_heard(link, seconds)))


def _heard(link: Link, listen: float) -> Iterator[bytes]:
    deadline = time.monotonic() + listen
    patience = listen
    # A lost line or the person's Control-C ends the listening, and takes nothing back.
    with contextlib.suppress(NoAnswerError, LinkError, KeyboardInterrupt):
        while (left := deadline - time.monotonic()) > 0:
            yield link.read(1, timeout=min(patience, left))
            patience = QUIET_SECONDS


def _printable(data: bytes) -> str:
    text = data.decode("utf-8", errors="backslashreplace").replace("\r\n", "\n")
    return "".join(letter if letter.isprintable() or letter == "\n" else _escaped(letter) for letter in text)


def _escaped(letter: str) -> str:
    return letter.encode("unicode_escape").decode("ascii")
