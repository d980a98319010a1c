"""The simulated board as a whole: reset, BOOT0, power, the serial line, and what runs behind it."""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING

from firmware_host.simulator.clock import Timeline, TimeModel
from firmware_host.simulator.emulator import Application, CrashError
from firmware_host.simulator.faults import NO_FAULTS, Faults
from firmware_host.simulator.frames import Leave, Script, Transmitter
from firmware_host.simulator.power import PowerCutError
from firmware_host.simulator.profiles import STM32F103C8, BoardProfile
from firmware_host.simulator.rom import Rom
from firmware_host.simulator.silicon import BusFaultError, Silicon
from firmware_host.simulator.uart import LineSettings, received
from firmware_host.simulator.wire import Wire

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

logger = logging.getLogger("firmware_host.simulator")

UNIQUE_ID = bytes.fromhex("42 4c 4f 43 4b 4f 54 41 00 00 00 01")
GLITCH = 0x00
"""What a ROM measures in place of 0x7F when only a part of a byte reaches it: it is deaf then."""


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
        powered: whether the supply is there.
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
        self.boot0 = self.powered = True
        self.application: Application | None = None
        self._faults, self._time = faults, Timeline(times)
        self._silicon = Silicon(profile, flash, faults=faults, unique_id=unique_id)
        self._line = Transmitter(faults, greets_twice=profile.greets_twice)
        self._wire = Wire(faults)
        self._script: Script[Leave] | None = None
        self._held = self._is_measured = False
        self._host = self._measured = LineSettings()
        self._ran_until = self._reset_at = self._listens_from = -math.inf
        self.reset()

    @property
    def profile(self) -> BoardProfile:
        """Which chip this is."""
        return self._silicon.profile

    @property
    def flash(self) -> bytes:
        """What the flash holds, all of it."""
        return bytes(self._silicon.flash.cells)

    @property
    def readout_protected(self) -> bool:
        """Whether the flash can be read, since the last reset."""
        return self._silicon.options.readout_protected

    @property
    def protected_pages(self) -> frozenset[int]:
        """Numbers of the pages that are protected against writing, since the last reset."""
        return self._silicon.options.protected_pages

    def protect(self, *, readout: bool = False, pages: Iterable[int] = ()) -> None:
        """Set the option bytes as somebody may have done before; then reset.

        Args:
            readout: whether the flash is closed to readers.
            pages: pages against writing; a protection bit covers several, so more may be.
        """
        per_sector = self.profile.pages_per_sector
        self._silicon.protect(readout=readout, sectors={page // per_sector for page in pages})
        self.reset()

    def reset(self) -> None:
        """Press the reset button, and release it long enough ago for the ROM to listen.

        Power comes back if it was cut. RAM is kept but for what the ROM takes, and BOOT0 decides what starts.
        """
        self._time.arrive()
        self.powered, self._held = True, False
        self._boot(self._time.moment)
        self._listens_from = -math.inf

    def hold_reset(self, *, low: bool) -> None:
        """Pull NRST low, or let it rise: then BOOT0 decides what starts, and the ROM takes its time to listen."""
        if low:
            self._halt()
        elif self._held and self.powered:
            self._time.arrive()
            self._boot(self._time.moment)
        self._held = low

    def hear_break(self) -> None:
        """Hold the line low for long: a zero to what listens, and no 0x7F to a ROM that waits for it."""
        self.feed(b"\0")

    def set_line(self, settings: LineSettings) -> None:
        """Tell how the host has set the line; of no effect where the time model fixes its rate."""
        if not self._time.is_fixed:
            self._host = settings
            self._time.line_baud = settings.baud

    def cut_power(self) -> None:
        """Take the supply away: the board is silent until `reset` or `connect`, and RAM is lost."""
        self._halt()
        self._silicon.lose_power()
        self.powered = False

    def connect(self) -> bytes:
        """Plug the line in and press reset; return what the host hears at once.

        A cable that an `unplug` fault took off is only put back: the board goes on as it was.
        """
        return self.plug_in(reset=True)

    def plug_in(self, *, reset: bool) -> bytes:
        """Plug the line in, and supply power if it was cut; return what the host hears at once.

        Args:
            reset: whether somebody presses the button as well.
        """
        if (self._wire.put_back() and reset) or not self.powered:
            self.reset()
        return bytes((7 * index + 0xA5) % 256 for index in range(self._faults.noise_at_open))

    def feed(self, data: bytes) -> bytes:
        """Receive bytes from the host; return the answer."""
        self._time.arrive()
        answer = b"".join([self._receive(byte) for byte in self._heard(data)])
        if answer:
            self._time.deliver()
        return received(answer, self._measured, heard=self._host) if self._script else answer

    def _heard(self, data: bytes) -> bytes:
        """What of the data the ROM's USART understands; the byte that it measures is taken as it is."""
        if self._is_measured or not self._script:
            return received(data, self._host, heard=self._measured) if self._script else data
        return data[:1] + received(data[1:], self._host, heard=LineSettings(self._host.baud))

    def run(self, seconds: float) -> bytes:
        """Let the application run for that long, by its own clock; return what it says.

        Nothing happens while the boot ROM runs: it only answers.
        """
        if self.application is None or seconds <= 0:
            return b""
        application = self.application
        try:
            said = application.run(seconds)
        except CrashError as error:
            logger.warning("the application crashed: %s", error)
            said = application.take_sent()
            self._halt()
        self._ran_until += seconds - application.seconds_left
        if self.application and application.peripherals.reset_requested:
            logger.info("the application asks for a reset")
            self._boot(self._ran_until)
        return said

    def idle(self, tick: float) -> bytes:
        """Let the application run up to now; without a time model, for `tick` seconds."""
        return self._wire.to_host(self.run(self._time.since(self._ran_until, otherwise=tick)))

    def _receive(self, byte: int) -> bytes:
        begun = self._time.moment
        self._time.pass_bytes(1)
        said = self.run(self._time.moment - self._ran_until) if self._time.is_modelled else b""
        arrived = self._wire.to_board(byte)
        if arrived is None or not self.powered:
            return self._wire.to_host(said)
        if self.application:
            self.application.peripherals.received.append(arrived)
        elif self._script and not self._is_lost(begun):
            self._serve(self._script, arrived if self._is_measured else self._measure(arrived, begun=begun))
        if self._wire.received == self._faults.power_cut_after:
            logger.warning("power fails after %d bytes", self._wire.received)
            self.cut_power()
            self._line.take()
        return self._wire.to_host(said + self._line.take())

    def _is_lost(self, begun: float) -> bool:
        """Return whether a byte that has just ended came while the ROM did not listen yet."""
        return self._reset_at <= begun and self._time.moment <= self._listens_from

    def _measure(self, byte: int, *, begun: float) -> int:
        """Let the ROM measure the line's rate in its first byte; return what it takes that for."""
        self._measured, self._is_measured = LineSettings(self._host.baud), True
        cut_short = begun < max(self._reset_at, self._listens_from)
        if self._host.baud > self.profile.max_baud:
            logger.warning("%d baud are too many for this ROM, it is deaf until reset", self._host.baud)
        return GLITCH if cut_short or self._host.baud > self.profile.max_baud else byte

    def _serve(self, script: Script[Leave], byte: int) -> None:
        busy_before, leave = self._silicon.flash.busy_seconds, None
        try:
            script.send(byte)
        except StopIteration as end:
            leave = end.value
        except BusFaultError as error:
            logger.warning("bus fault: %s; silent until reset", error)
            self._halt()
        except PowerCutError as error:
            logger.warning("power fails %s", error)
            self.cut_power()
        self._time.pass_busy(self._silicon.flash.busy_seconds - busy_before)
        self._time.pass_bytes(len(self._line.pending))
        if leave:
            self._leave_rom(leave)

    def _leave_rom(self, leave: Leave) -> None:
        if leave.jump is None:
            self._boot(self._time.moment)
        else:
            self._start(leave.jump, from_rom=True)

    def _boot(self, moment: float) -> None:
        """Come out of a reset at that moment."""
        if self.application:
            self.application.stop()
        self._silicon.load_options()
        self.application = self._script = None
        self._measured, self._is_measured = LineSettings(), False
        if self._time.is_modelled:
            self._reset_at, self._listens_from = moment, moment + self.profile.boot_seconds
        if self._silicon.options.closed_for_ever:
            logger.warning("readout protection at level 2: there is no boot ROM any more")
        if not self.boot0 or self._silicon.options.closed_for_ever:
            self._start(self.profile.flash_start, from_rom=False)
            return
        logger.info("reset with BOOT0 at 1: the boot ROM waits for 0x7F")
        nacks = 2 if self._faults.double_nack else 1
        self._script = Rom(self._silicon, self._line, nacks_when_protected=nacks).run()
        next(self._script)

    def _start(self, vector_table: int, *, from_rom: bool) -> None:
        self._script = None
        if not self.profile.runs_code:
            logger.warning("running code on the %s is not simulated; silent until reset", self.profile.name)
            return
        cycles = self._time.cycles_per_instruction
        try:
            self.application = Application(
                self._silicon, vector_table, from_rom=from_rom, cycles_per_instruction=cycles
            )
        except (BusFaultError, CrashError) as error:
            logger.warning("nothing boots: %s", error)
        else:
            self._ran_until = self._time.moment if from_rom else self._reset_at
            logger.info("the application at %#010x starts", vector_table)

    def _halt(self) -> None:
        if self.application:
            self.application.stop()
        self.application = self._script = None
