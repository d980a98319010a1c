"""The ATECC608 on its I2C bus: wake, idle and sleep, packets, execution times and the watchdog."""

from __future__ import annotations

import random as pseudo_random
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from importlib import resources

from firmware_host.simulator.secure_element import digest_commands as digests
from firmware_host.simulator.secure_element import key_commands as keys
from firmware_host.simulator.secure_element import zone_commands as zones
from firmware_host.simulator.secure_element.core import ChipCore, Registers
from firmware_host.simulator.secure_element.memory import CHIP_MODE, I2C_ADDRESS, ElementMemory
from firmware_host.simulator.secure_element.protocol import (
    WAKE_ANSWER,
    ChipCommand,
    ChipStatus,
    ChipStatusError,
    Opcode,
    WordAddress,
    decode,
    with_checksum,
)

_LIMITS = tomllib.loads((resources.files(__package__) / "limits.toml").read_text())
EXECUTION_TIMES: dict[Opcode, float] = {Opcode[name]: seconds for name, seconds in _LIMITS["commands"].items()}
"""The time of each command in seconds."""
WAKE_TIME: float = _LIMITS["chip"]["wake"]
WATCHDOG: float = _LIMITS["chip"]["watchdog"]
LONG_WATCHDOG: float = _LIMITS["chip"]["long_watchdog"]
_REFUSAL_TIME: float = _LIMITS["chip"]["refusal"]
_HANDLERS: dict[int, Callable[[ChipCore, ChipCommand], bytes]] = {
    Opcode.INFO: zones.info,
    Opcode.READ: zones.read,
    Opcode.WRITE: zones.write,
    Opcode.UPDATE_EXTRA: zones.update_extra,
    Opcode.LOCK: zones.lock,
    Opcode.COUNTER: zones.counter,
    Opcode.RANDOM: zones.random,
    Opcode.NONCE: zones.nonce,
    Opcode.GENKEY: keys.genkey,
    Opcode.SIGN: keys.sign,
    Opcode.VERIFY: keys.verify,
    Opcode.SECUREBOOT: keys.secureboot,
    Opcode.SHA: digests.sha,
    Opcode.MAC: digests.mac,
    Opcode.CHECKMAC: digests.checkmac,
}


class PowerState(Enum):
    """Whether the chip reacts to everything on the bus, or only to the wake condition."""

    AWAKE = auto()
    IDLE = auto()
    ASLEEP = auto()


@dataclass(frozen=True)
class ChipFaults:
    """Faults of the chip and its wires, in effect while they are set.

    Attributes:
        is_absent: nothing acknowledges on the bus, because the chip is missing or a wire is cut.
        late: the time by which every command exceeds its maximum execution time, in seconds.
        has_wrong_checksum: one bit of every answer's checksum is inverted.
        truncated_to: the maximum number of bytes of an answer; the bus delivers 0xFF in place of all further bytes.
        kept_when_cut: for a power failure during a command, the fraction (0 to 1) of the changed slot bytes that keep
            their new value.
    """

    is_absent: bool = False
    late: float = 0.0
    has_wrong_checksum: bool = False
    truncated_to: int | None = None
    kept_when_cut: float = 0.0


class SecureElement:
    """An ATECC608, as the bus master sees the chip.

    The model does no I/O. The model reads the time from `clock`, so that a test or a simulated board decides when a
    command has ended. A new element is asleep, as a real chip is after power-on.

    Attributes:
        faults: the faults in effect.
        core: the part that executes commands.

    Args:
        memory: the chip's permanent memory; by default the memory of a new chip.
        clock: returns a monotonic time in seconds.
        random: returns a number of random bytes; by default a sequence seeded with the serial number, so that a run can
            be repeated. An element that is used by several processes, one after another, needs different random numbers
            in each process.
    """

    def __init__(
        self,
        memory: ElementMemory | None = None,
        *,
        clock: Callable[[], float],
        random: Callable[[int], bytes] | None = None,
    ) -> None:
        self.faults = ChipFaults()
        memory = memory or ElementMemory()
        seeded = pseudo_random.Random(memory.serial)  # noqa: S311  # a model's keys protect nothing
        self.core = ChipCore(memory, random or seeded.randbytes)
        self._clock = clock
        self._state = PowerState.ASLEEP
        self._woke_at = self._ready_at = clock()
        self._answer, self._position = b"", 0
        self._before = self.memory.image()

    @property
    def memory(self) -> ElementMemory:
        """Return the chip's permanent memory."""
        return self.core.memory

    @property
    def address(self) -> int:
        """Return the chip's I2C address, 7 bits."""
        return self.memory.config[I2C_ADDRESS] >> 1

    def power_state(self) -> PowerState:
        """Return the current state. The watchdog puts the chip to sleep if the chip has been awake for too long."""
        limit = LONG_WATCHDOG if self.memory.config[CHIP_MODE] & 4 else WATCHDOG
        if self._state is PowerState.AWAKE and self._clock() - self._woke_at >= limit:
            self._sleep()
        return self._state

    def power_cycle(self) -> None:
        """Switch the power off and on: registers, latch and prohibition of SecureBoot are lost.

        A running command is undone; with the fault `kept_when_cut`, the command is only partly undone.
        """
        if self._clock() < self._ready_at:
            self.memory.tear(self._before, self.faults.kept_when_cut)
        self._ready_at = self._clock()
        self._sleep()
        self.core.is_latched = self.core.is_boot_prohibited = False

    def wake(self) -> None:
        """Receive the wake condition; a chip that is awake ignores it."""
        if self.faults.is_absent or self.power_state() is PowerState.AWAKE:
            return
        self._state, self._woke_at, self._before = PowerState.AWAKE, self._clock(), self.memory.image()
        self._put(WAKE_ANSWER, WAKE_TIME)

    def write(self, word_address: int, data: bytes = b"") -> bool:
        """Receive a write, and return whether the chip acknowledged it.

        Args:
            word_address: the first byte, one of `WordAddress`; the chip ignores other values.
            data: the bytes after the word address; with `WordAddress.COMMAND`, one packet.
        """
        if not self.acknowledges():
            return False

        if word_address == WordAddress.RESET:
            self._position = 0
        elif word_address == WordAddress.SLEEP:
            self._sleep()
        elif word_address == WordAddress.IDLE:
            self._state = PowerState.IDLE
            self._answer = b""
        elif word_address == WordAddress.COMMAND:
            self._execute_packet(data)
        return True

    def read(self, length: int) -> bytes | None:
        """Return the next bytes of the answer; None if the chip is asleep or busy, or has no answer.

        Bytes after the end of the answer are 0xFF, as on an idle bus.
        """
        if not self.acknowledges() or not self._answer:
            return None
        end = self._position + length
        found = self._answer[self._position : end]
        self._position = end
        return found.ljust(length, b"\xff")

    def execute(self, opcode: int, mode: int = 0, param2: int = 0, data: bytes = b"") -> bytes:
        """Execute a command immediately, without bus and execution time; return the answer's data, which may be empty.

        Raises:
            ChipStatusError: the chip refuses the command, or a comparison failed.
        """
        handler = _HANDLERS.get(opcode)
        if handler is None:
            raise ChipStatusError(ChipStatus.PARSE_ERROR)
        if opcode != Opcode.SHA:  # any other command ends a computation that SHA began
            self.core.registers.sha = None
        return handler(self.core, ChipCommand(opcode, mode, param2, data))

    def acknowledges(self) -> bool:
        """Return whether the chip acknowledges its address now: the chip is awake and does not execute a command."""
        is_ready = self._clock() >= self._ready_at
        return not self.faults.is_absent and self.power_state() is PowerState.AWAKE and is_ready

    def _sleep(self) -> None:
        """Enter sleep mode, in which the registers are lost."""
        self._state = PowerState.ASLEEP
        self.core.registers = Registers()
        self._answer = b""

    def _execute_packet(self, packet: bytes) -> None:
        """Execute a command packet, whose answer can be read when the command's execution time has passed."""
        self._before = self.memory.image()  # to be restored if power fails during the command
        seconds = _REFUSAL_TIME
        try:
            command = decode(packet)
            seconds = EXECUTION_TIMES.get(Opcode(command.opcode), seconds) if command.opcode in _HANDLERS else seconds
            answer = self.execute(command.opcode, command.mode, command.param2, command.data)
        except ChipStatusError as refusal:
            answer = bytes([refusal.status])
        self._put(with_checksum(answer or bytes([ChipStatus.SUCCESS])), seconds + self.faults.late)

    def _put(self, answer: bytes, seconds: float) -> None:
        """Put an answer into the output buffer, from which it can be read after `seconds` seconds."""
        if self.faults.has_wrong_checksum:
            answer = answer[:-1] + bytes([answer[-1] ^ 1])
        self._answer, self._position = answer[: self.faults.truncated_to], 0
        self._ready_at = self._clock() + seconds
