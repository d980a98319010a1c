"""How Ctrl-C reaches the boards, each of which is worked on in a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from firmware_host.line.link import ControlledLink


class Stop:
    """The person's wish that the work ends; asked in one thread, and heard in all."""

    def __init__(self) -> None:
        """Nobody has asked yet."""
        self._asked = threading.Event()

    @property
    def is_asked(self) -> bool:
        """Whether the work shall end."""
        return self._asked.is_set()

    def ask(self) -> None:
        """Let the work end."""
        self._asked.set()

    def check(self) -> None:
        """End what is going on here, if the work shall end.

        Raises:
            KeyboardInterrupt: it shall.
        """
        if self.is_asked:
            raise KeyboardInterrupt

    def pause(self, seconds: float) -> None:
        """Let time pass.

        Raises:
            KeyboardInterrupt: the work shall end.
        """
        self._asked.wait(seconds)
        self.check()


class StoppableLink:
    """A link to a board that carries nothing more to it once the work shall end.

    While its flash is changed this does not hold: the flasher is told between two of its steps, so that the
    bootloader is not left in the middle of a frame.

    Args:
        link: what moves the bytes.
        stop: tells when the work shall end.
    """

    def __init__(self, link: ControlledLink, stop: Stop) -> None:
        """Pass everything on."""
        self._link, self._stop = link, stop
        self._is_changing = False

    @property
    def name(self) -> str:
        """The port as the caller gave it."""
        return self._link.name

    @property
    def baud(self) -> int:
        """The line's speed in bits a second."""
        return self._link.baud

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person should know of how the port was opened."""
        return self._link.notes

    @property
    def can_steer(self) -> bool:
        """Whether the port has a speed, control lines and a break."""
        return self._link.can_steer

    @contextmanager
    def changing(self) -> Iterator[None]:
        """While this lasts, the work is not ended here."""
        self._is_changing = True
        try:
            yield
        finally:
            self._is_changing = False

    def write(self, data: bytes, /) -> None:
        """Send a whole frame at once, unless the work shall end."""
        if not self._is_changing:
            self._stop.check()
        self._link.write(data)

    def read(self, count: int, /, *, timeout: float) -> bytes:
        """Wait for exactly `count` bytes."""
        return self._link.read(count, timeout=timeout)

    def drain(self) -> bytes:
        """Take what comes until the line is quiet."""
        return self._link.drain()

    def close(self) -> None:
        """Give the port back."""
        self._link.close()

    def set_baud(self, baud: int, /) -> None:
        """Go on at another speed."""
        self._link.set_baud(baud)

    def set_lines(self, *, dtr: bool, rts: bool) -> None:
        """Set both control lines."""
        self._link.set_lines(dtr=dtr, rts=rts)

    def send_break(self, seconds: float, /) -> None:
        """Hold the line to the board low for so long."""
        self._link.send_break(seconds)
