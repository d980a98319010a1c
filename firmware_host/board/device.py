"""The simulated board as a whole: reset, BOOT0, the serial line, and what runs behind it."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from firmware_host.board.emulator import Application, CrashError
from firmware_host.board.faults import NO_FAULTS, Faults
from firmware_host.board.profile import STM32F103C8, BoardProfile
from firmware_host.board.rom import Leave, Rom, Script, Transmitter
from firmware_host.board.silicon import BusFaultError, Silicon

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

logger = logging.getLogger("firmware_host.board")

BITS_PER_BYTE = 11
"""One start bit, eight data bits, even parity, one stop bit (AN3155 section 2)."""
UNIQUE_ID = bytes.fromhex("42 4c 4f 43 4b 4f 54 41 00 00 00 01")


@dataclass(frozen=True, kw_only=True)
class TimeModel:
    """How long the board and its line take.

    Attributes:
        baud: bits per second on the line.
        latency: seconds that the USB adapter holds an answer back.
        wait: called with the seconds to pass; `time.sleep`, or a clock of the caller's.
    """

    baud: int
    latency: float = 0.0
    wait: Callable[[float], None] = time.sleep

    def pass_time(self, byte_count: int, busy: float, *, answered: bool) -> None:
        """Wait for the bytes on the line, the flash's busy time, and the adapter."""
        line = byte_count * BITS_PER_BYTE / self.baud
        self.wait(line + busy + (self.latency if answered else 0.0))


class SimulatedBoard:
    """One powered board, its BOOT0 jumper at 1: bytes in, bytes out, no thread and no clock.

    Args:
        profile: which chip.
        flash: first contents of the flash, or the file that keeps them.
        faults: what is wrong with the board.
        times: how long things take; None for no time at all.
        unique_id: the chip's 96-bit id.

    Attributes:
        boot0: the jumper: True starts the boot ROM at reset, False what is in flash.
        application: what runs in place of the ROM, if anything does.

    Raises:
        UsageError: the first contents are larger than the flash.
        LinkError: the file cannot be used.
    """

    def __init__(
        self,
        profile: BoardProfile = STM32F103C8,
        *,
        flash: bytes | Path = b"",
        faults: Faults = NO_FAULTS,
        times: TimeModel | None = None,
        unique_id: bytes = UNIQUE_ID,
    ) -> None:
        """Power the board up, into the boot ROM."""
        self.boot0 = True
        self.application: Application | None = None
        self._faults, self._times = faults, times
        self._silicon = Silicon(profile, flash, faults=faults, unique_id=unique_id)
        self._until_silent = faults.silent_after
        self._line = Transmitter(faults)
        self._script: Script[Leave] | None = None
        self.reset()

    @property
    def profile(self) -> BoardProfile:
        """Which chip this is."""
        return self._silicon.profile

    @property
    def flash(self) -> bytes:
        """What the flash holds, all of it."""
        return bytes(self._silicon.flash)

    @property
    def readout_protected(self) -> bool:
        """Whether the flash can be read, since the last reset."""
        return self._silicon.readout_protected

    @property
    def protected_pages(self) -> frozenset[int]:
        """Numbers of the pages that are protected against writing, since the last reset."""
        return self._silicon.protected_pages

    def protect(self, *, readout: bool = False, pages: Iterable[int] = ()) -> None:
        """Set the option bytes as somebody may have done before; then reset.

        Args:
            readout: whether the flash is closed to readers.
            pages: pages against writing; a protection bit covers several, so more may be.
        """
        per_sector = self.profile.pages_per_sector
        self._silicon.set_readout_protection(active=readout)
        self._silicon.set_write_protection({page // per_sector for page in pages})
        self.reset()

    def reset(self) -> None:
        """Press the reset button: RAM is kept, and BOOT0 decides what starts."""
        if self.application:
            self.application.stop()
        self._silicon.load_options()
        self.application = self._script = None
        if not self.boot0:
            self._start(self.profile.flash_start, from_rom=False)
            return
        logger.info("reset with BOOT0 at 1: the boot ROM waits for 0x7F")
        nacks = 2 if self._faults.double_nack else 1
        self._script = Rom(self._silicon, self._line, nacks_when_protected=nacks).run()
        next(self._script)

    def connect(self) -> bytes:
        """Plug the line in and press reset; return what the host hears at once."""
        if self._until_silent is not None and self._until_silent < 0:
            self._until_silent = None
        self.reset()
        return bytes((7 * index + 0xA5) % 256 for index in range(self._faults.noise_at_open))

    def feed(self, data: bytes) -> bytes:
        """Receive bytes from the host; return the answer."""
        busy_before = self._silicon.busy_seconds
        answer = b"".join(self._receive(byte) for byte in data)
        if self._times:
            busy = self._silicon.busy_seconds - busy_before
            self._times.pass_time(len(data) + len(answer), busy, answered=bool(answer))
        return answer

    def run(self, seconds: float) -> bytes:
        """Let the application run for that long, by its own clock; return what it says.

        Nothing happens while the boot ROM runs: it only answers.
        """
        if self.application is None:
            return b""
        try:
            said = self.application.run(seconds)
        except CrashError as error:
            logger.warning("the application crashed: %s", error)
            said = self.application.take_sent()
            self._halt()
        else:
            if self.application.peripherals.reset_requested:
                logger.info("the application asks for a reset")
                self.reset()
        return said

    def _receive(self, byte: int) -> bytes:
        if self._until_silent is not None:
            self._until_silent -= 1
            if self._until_silent < 0:
                return b""
        if self.application:
            self.application.peripherals.received.append(byte)
        elif self._script:
            self._serve(self._script, byte)
        return self._line.take()

    def _serve(self, script: Script[Leave], byte: int) -> None:
        try:
            script.send(byte)
        except StopIteration as end:
            self._leave_rom(end.value)
        except BusFaultError as error:
            logger.warning("bus fault: %s; silent until reset", error)
            self._halt()

    def _leave_rom(self, leave: Leave) -> None:
        if leave.jump is None:
            self.reset()
        else:
            self._start(leave.jump, from_rom=True)

    def _start(self, vector_table: int, *, from_rom: bool) -> None:
        self._script = None
        try:
            self.application = Application(self._silicon, vector_table, from_rom=from_rom)
        except (BusFaultError, CrashError) as error:
            logger.warning("nothing boots: %s", error)
        else:
            logger.info("the application at %#010x starts", vector_table)

    def _halt(self) -> None:
        if self.application:
            self.application.stop()
        self.application = self._script = None
