"""Measure the stages of a flash run, which are recognised by the frames that the client sends."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable

from firmware_host.bootloader.an3155 import SYNC, Command
from firmware_host.line.link import Link

_FLASH, _RAM = range(0x0800_0000, 0x0900_0000), range(0x2000_0000, 0x3000_0000)
_FRAMES = {
    Command.READ_MEMORY: 2,
    Command.WRITE_MEMORY: 2,
    Command.ERASE: 1,
    Command.EXTENDED_ERASE: 1,
    Command.GO: 1,
}
"""The number of frames after the command frame; zero for commands that are not listed."""
_COMMAND_SIZE, _ADDRESS_SIZE, _ALL_BITS = 2, 5, 0xFF


class Stages:
    """Measures the seconds of each stage of a flash run from the sent frames; `now` is the clock."""

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._now, self._since = now, now()
        self._stage, self._command, self._frames_left = "connect", 0, 0
        self._has_hashed = False

    def turn_to(self, stage: str) -> str:
        """Start another stage; return the stage that ends."""
        moment, ended = self._now(), self._stage
        self.seconds[ended] += moment - self._since
        self._since, self._stage = moment, stage
        return ended

    def frame(self, data: bytes) -> None:
        """Record a frame that is about to be sent."""
        if self._frames_left:
            self._frames_left -= 1
            if len(data) == _ADDRESS_SIZE and self._command in (Command.READ_MEMORY, Command.WRITE_MEMORY):
                self._stage = self._of_address(int.from_bytes(data[:4], "big"))
        elif data == bytes((SYNC,)):
            self.turn_to("come back" if self._has_hashed else "connect")
        elif len(data) == _COMMAND_SIZE and data[0] ^ data[1] == _ALL_BITS:
            self._command, self._frames_left = data[0], _FRAMES.get(Command(data[0]), 0)
            self.turn_to(self._of_command(data[0]))

    def _of_command(self, command: int) -> str:
        if command == Command.GO:
            self._has_hashed = True
            return "hash"
        if command == Command.GET:
            return "come back" if self._has_hashed else "connect"
        return "erase" if command in (Command.ERASE, Command.EXTENDED_ERASE) else "identify"

    def _of_address(self, address: int) -> str:
        reads = self._command == Command.READ_MEMORY
        if address in _FLASH:
            return "read back" if reads else "write"
        if address in _RAM:
            return "results" if reads else "upload"
        return "identify"


class WatchedLink:
    """A link that reports its frames to `Stages`."""

    def __init__(self, link: Link, stages: Stages) -> None:
        self._link, self._stages = link, stages
        self.name, self.baud, self.notes = link.name, link.baud, link.notes

    def write(self, data: bytes, /) -> None:
        """Report a frame to `Stages`, and send the frame."""
        self._stages.frame(data)
        self._link.write(data)

    def read(self, count: int, /, *, timeout: float) -> bytes:
        """Read bytes from the link."""
        return self._link.read(count, timeout=timeout)

    def drain(self) -> bytes:
        """Wait until the line is quiet, as a separate stage."""
        before = self._stages.turn_to("wait for a quiet line")
        drained = self._link.drain()
        self._stages.turn_to(before)
        return drained

    def close(self) -> None:
        """Close the port."""
        self._link.close()
