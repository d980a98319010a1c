"""The simulated board: reset, BOOT0, power, the serial line, and the running program.

The current state and an event determine the next state:

=============  ================================================================  ======================
State          Event                                                             Next state
=============  ================================================================  ======================
any            reset, NRST released, or an application requests a reset          ROM (BOOT0 at 1), else application
ROM            a command that ends in a reset                                    ROM (BOOT0 at 1), else application
ROM            Go                                                                application
ROM            bus fault                                                         halted
application    crash; no valid vector table                                      halted
any            NRST low                                                          halted
any            power cut                                                         halted, RAM lost
=============  ================================================================  ======================

A halted board is silent until it is reset. The attribute `_script` contains the running ROM, and `application` the
running application; on a halted board both are None.
"""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Iterable
from pathlib import Path

from firmware_host.simulator.emulator import CrashError, EmulatedApplication
from firmware_host.simulator.faults import NO_FAULTS, Faults
from firmware_host.simulator.line import BoardSide, Cable, LineSettings, Timeline, TimeModel, received
from firmware_host.simulator.profiles import STM32F103C8, BoardProfile
from firmware_host.simulator.rom import RESET, Leave, Rom, Script, Transmitter
from firmware_host.simulator.secure_element.element import SecureElement
from firmware_host.simulator.silicon import BusFaultError, PowerCutError, Silicon

logger = logging.getLogger("firmware_host.simulator")

UNIQUE_ID = bytes.fromhex("42 4c 4f 43 4b 4f 54 41 00 00 00 01")
GLITCH = 0x00
"""The byte that stands for a partly received first byte: the ROM measures a wrong rate from it, and does not answer."""


class SimulatedBoard:
    """A powered board with BOOT0 at 1. It receives and returns bytes, and uses neither ports nor threads.

    Args:
        flash: the initial contents of the flash, or the file that stores the flash.
        times: the time model; None makes every operation instantaneous.

    Attributes:
        boot0: the level of BOOT0; at a reset, True starts the boot ROM, and False starts the application in flash.
        side: the board's side of the serial line, to be set before the board is used.
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
        self.profile, self.boot0, self.powered = profile, True, True
        self.application: EmulatedApplication | None = None
        self._element: SecureElement | None = None
        self._ran_before = 0.0
        self.side = BoardSide()

        self._faults, self._time = faults, Timeline(times)
        self._silicon = Silicon(profile, flash, faults=faults, unique_id=unique_id)
        self._line = Transmitter(faults, greets_twice=profile.greets_twice)
        self._cable = Cable(faults)

        self._script: Script[Leave] | None = None
        self._in_reset = self._is_measured = False
        self._host = self._measured = LineSettings()
        self._ran_until = self._reset_at = self._listens_from = -math.inf

        self.reset()

    @property
    def flash(self) -> bytes:
        """The contents of the flash."""
        return bytes(self._silicon.flash.cells)

    @property
    def seconds_run(self) -> float:
        """The simulated time that applications have run on the board, in seconds."""
        return self._ran_before + (self.application.elapsed if self.application else 0.0)

    def attach(self, element: SecureElement) -> None:
        """Connect a secure element to I2C1, from the next reset on. Its clock is `seconds_run`."""
        self._element = element

    @property
    def flash_operations(self) -> int:
        """The number of operations that the flash controller began since the board's creation."""
        return self._silicon.flash.operations

    @property
    def readout_protected(self) -> bool:
        """Whether readout protection is in effect since the last reset."""
        return self._silicon.options.readout_protected

    @property
    def protected_pages(self) -> frozenset[int]:
        """The pages whose write protection is in effect since the last reset."""
        return self._silicon.options.protected_pages

    def protect(self, *, readout: bool = False, pages: Iterable[int] = ()) -> None:
        """Set the protection directly in the option bytes, and reset the board.

        Write protection always covers whole sectors: all sectors that contain one of `pages` are protected.
        """
        per_sector = self.profile.pages_per_sector
        self._silicon.protect(readout=readout, sectors={page // per_sector for page in pages})
        self.reset()

    def reset(self) -> None:
        """Reset the board by hand, and restore the power; the ROM can receive the next byte without a delay."""
        self._time.arrive()
        self.powered, self._in_reset = True, False
        self._boot(self._time.moment)
        self._listens_from = -math.inf

    def hold_reset(self, *, low: bool) -> None:
        """Pull NRST low, or release NRST. After the release, the ROM needs its start-up time before it listens."""
        if low:
            self._halt()
        elif self._in_reset and self.powered:
            self._time.arrive()
            self._boot(self._time.moment)
        self._in_reset = low

    def hear_break(self) -> None:
        """Receive a break, which the board sees as a zero byte."""
        self.feed(b"\0")

    def set_line(self, settings: LineSettings) -> None:
        """Set the host's line settings; this has no effect if the time model has a fixed baud rate."""
        if not self._time.times or not self._time.times.baud:
            self._host = settings
            self._time.line_baud = settings.baud

    def cut_power(self) -> None:
        """Cut the power; the board is silent until `reset` or `connect`, and the contents of RAM are lost."""
        self._halt()
        if self._element:
            self._element.power_cycle()
        ram = self._silicon.ram
        ram[:] = hashlib.shake_128(b"power-on").digest(len(ram))
        self.powered = False

    def connect(self, *, reset: bool = True) -> bytes:
        """Connect the cable and the power, and return the noise on the line.

        The board is reset, but a powered board is not reset after an `unplug` fault, or if `reset` is False.
        """
        if (self._cable.reconnect() and reset) or not self.powered:
            self.reset()
        return bytes((7 * index + 0xA5) % 256 for index in range(self._faults.noise_at_open))

    def feed(self, data: bytes) -> bytes:
        """Receive bytes from the host; return the answer."""
        self._time.arrive()
        echo = self._cable.echo(data) if self.side.half_duplex else b""
        if self._script and self._is_measured:
            data = received(data, self._host, heard=self._measured)
        elif self._script:
            # AN3155 section 2: the ROM measures the rate from the first byte, so the first byte arrives unchanged.
            data = data[:1] + received(data[1:], self._host, heard=LineSettings(self._host.baud, self.side.parity))
        answer = b"".join([self._receive(byte) for byte in data])
        if answer:
            self._time.deliver()
        return echo + (received(answer, self._measured, heard=self._host) if self._script else answer)

    def run(self, seconds: float) -> bytes:
        """Run the application, if one is running, for a number of simulated seconds; return the bytes that it sends."""
        if self.application is None or seconds <= 0:
            return b""
        application = self.application

        try:
            sent = application.run(seconds)
        except CrashError as error:
            logger.warning("the application crashed: %s", error)
            sent = application.take_sent()
            self._halt()
        except PowerCutError as error:
            logger.warning("power fails %s", error)
            sent = application.take_sent()
            self.cut_power()

        self._ran_until += seconds - application.seconds_left
        if self.application and application.peripherals.reset_requested:
            logger.info("the application asks for a reset")
            self._boot(self._ran_until)
        return sent

    def idle(self, tick: float) -> bytes:
        """Run the application until now, or for `tick` seconds without a time model; return the bytes that it sent."""
        return self._cable.to_host(self.run(self._time.since(self._ran_until, otherwise=tick)))

    def _receive(self, byte: int) -> bytes:
        # (1) A running application continues during the transmission time of the byte.
        begun = self._time.moment
        self._time.pass_bytes(1)
        sent = self.run(self._time.moment - self._ran_until) if self._time.times else b""

        # (2) The cable may lose or damage it.
        arrived = self._cable.to_board(byte)
        if arrived is None or not self.powered:
            return self._cable.to_host(sent)

        # (3) The application or the ROM receives the byte; a ROM that does not listen yet loses the byte.
        is_lost = self._reset_at <= begun and self._time.moment <= self._listens_from
        if self.application:
            self.application.peripherals.received.append(arrived)
        elif self._script and not is_lost:
            if not self._is_measured:
                # AN3155 section 2: the ROM measures the rate from the first byte, and measures a wrong one if it
                # receives only a part of the byte, or if the rate is too high.
                self._measured, self._is_measured = LineSettings(self._host.baud, self.side.parity), True
                is_too_fast = self._host.baud > self.profile.max_baud
                if is_too_fast:
                    logger.warning("%d baud are too many for this ROM, no answers until reset", self._host.baud)
                if is_too_fast or begun < max(self._reset_at, self._listens_from):
                    arrived = GLITCH
            self._serve(self._script, arrived)

        # (4) Power may fail.
        if self._cable.received == self._faults.power_cut_after:
            logger.warning("power fails after %d bytes", self._cable.received)
            self.cut_power()
            self._line.take()
        return self._cable.to_host(sent + self._line.take())

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

        self._time.pass_bytes(len(self._line.pending), busy=self._silicon.flash.busy_seconds - busy_before)
        if leave == RESET:
            self._boot(self._time.moment)
        elif leave and leave.jump is not None:
            self._start(leave.jump, from_rom=True)

    def _boot(self, moment: float) -> None:
        """Leave the reset state at the time `moment`, and start the ROM or the application."""
        self._halt()
        self._silicon.load_options()
        self._measured, self._is_measured = LineSettings(), False
        if self._time.times:
            self._reset_at, self._listens_from = moment, moment + self.profile.boot_seconds

        if self._silicon.options.boot_rom_disabled:
            logger.warning("readout protection at level 2: the boot ROM is disabled")
        if not self.boot0 or self._silicon.options.boot_rom_disabled:
            self._start(self.profile.flash_start, from_rom=False)
            return

        logger.info("reset with BOOT0 at 1: the boot ROM waits for 0x7F")
        self._script = Rom(self._silicon, self._line, faults=self._faults).run()
        next(self._script)

    def _start(self, vector_table: int, *, from_rom: bool) -> None:
        self._script = None

        # The digest program in RAM needs no peripheral but the USART, so it runs on every chip.
        if not (self.profile.runs_code or (from_rom and vector_table in self.profile.rom_ram)):
            logger.warning("running code on the %s is not simulated; silent until reset", self.profile.name)
            return
        speed = self._time.times.cycles_per_instruction if self._time.times else 1.0

        try:
            self.application = EmulatedApplication(
                self._silicon,
                vector_table,
                from_rom=from_rom,
                cycles_per_instruction=speed,
                element=self._element,
            )
        except (BusFaultError, CrashError) as error:
            logger.warning("nothing boots: %s", error)
        else:
            self._ran_until = self._time.moment if from_rom else self._reset_at
            logger.info("the application at %#010x starts", vector_table)

    def _halt(self) -> None:
        if self.application:
            self.application.stop()
            self._ran_before += self.application.elapsed
        self.application = self._script = None
