"""Run an application on an emulated Cortex-M3 (Unicorn), until it crashes or asks for a reset.

Every instruction takes the same number of clock cycles. The only interrupt is SysTick. The emulator has no memory
protection and no bit-banding, and the application cannot program the flash.
"""

from __future__ import annotations

from typing import Any

from unicorn import UC_ARCH_ARM, UC_MODE_MCLASS, UC_MODE_THUMB, UC_PROT_EXEC, UC_PROT_READ
from unicorn.arm_const import (
    UC_ARM_REG_LR,
    UC_ARM_REG_PC,
    UC_ARM_REG_PRIMASK,
    UC_ARM_REG_SP,
    UC_CPU_ARM_CORTEX_M0,
    UC_CPU_ARM_CORTEX_M3,
)
from unicorn.unicorn_py3 import Uc, UcError

from firmware_host.simulator.peripherals import (
    LEFT_BY_ROM,
    RESET_VALUES,
    SCB_VTOR,
    SYST_CSR,
    Peripherals,
    PlainPeripherals,
)
from firmware_host.simulator.silicon import Silicon

PAGE = 0x1000
HANDLER_RETURN = 0x1200_0000
"""The return address of an exception handler, in place of EXC_RETURN, which Unicorn does not support."""
HANDLER_LIMIT = 1_000_000
"""The number of instructions after which an exception handler counts as not returning."""
SLICE = 2400
"""Clock cycles per emulation step, 0.1 ms at 24 MHz; a reset request is timed with this precision."""
HARD_FAULT_VECTOR, SYSTICK_VECTOR = 3, 15
WAIT_INSTRUCTIONS = (b"\x30\xbf", b"\x20\xbf")
"""The instructions WFI and WFE, at which the core sleeps until the next interrupt."""
CPU_MODELS = {"v6-M": UC_CPU_ARM_CORTEX_M0, "v7-M": UC_CPU_ARM_CORTEX_M3}
REGISTER_BLOCKS = ((0x4000_0000, 0x3_0000), (0xE000_E000, PAGE))


class CrashError(Exception):
    """The application caused a fault."""


class EmulatedApplication:
    """An application in flash or RAM, started by a reset or by the ROM's Go command.

    Args:
        silicon: the chip's memories; the emulator works on a copy of the RAM, which `stop` copies back.
        vector_table: the address of the initial stack pointer and the reset vector.
        from_rom: whether Go started the application; clocks and USART1 are then as the ROM leaves them, and address 0
            maps the system memory.
        cycles_per_instruction: the average number of clock cycles per instruction.

    Attributes:
        seconds_left: the time that the last `run` did not use, because the application requested a reset.

    Raises:
        CrashError: `vector_table` is not the address of a plausible vector table.
    """

    def __init__(self, silicon: Silicon, vector_table: int, *, from_rom: bool, cycles_per_instruction: float) -> None:
        self.seconds_left, self._cycles_per_instruction = 0.0, cycles_per_instruction
        self._silicon, profile = silicon, silicon.profile
        stack = _word(silicon.read(vector_table, 4))
        self._pc = _word(silicon.read(vector_table + 4, 4))
        if not any(part.start < stack <= part.stop for part in profile.ram) or not self._pc & 1:
            raise CrashError(f"no vector table at {vector_table:#010x}: {stack:#010x} {self._pc:#010x}")
        self.peripherals: Peripherals = (
            Peripherals(LEFT_BY_ROM if from_rom else RESET_VALUES)
            if profile.runs_code
            else PlainPeripherals(profile.usarts, has_isr=profile.has_isr, clock_hz=profile.clock_hz)
        )
        self._uc = Uc(UC_ARCH_ARM, UC_MODE_THUMB | UC_MODE_MCLASS)
        self._uc.ctl_set_cpu_model(CPU_MODELS[profile.core])
        self._map_memories(from_rom=from_rom)
        for start, size in REGISTER_BLOCKS:
            self._uc.mmio_map(start, size, self._read_register, start, self._write_register, start)
        self._uc.reg_write(UC_ARM_REG_SP, stack)
        self._until_tick = 0
        self._asleep = self._tick_pending = self._has_faulted = False

    def _map_memories(self, *, from_rom: bool) -> None:
        silicon, profile = self._silicon, self._silicon.profile
        # The option bytes follow the system memory of an F1. Address 0 maps the memory that the chip booted from.
        system, flash = bytes(silicon.system + silicon.options.raw), bytes(silicon.flash.cells)
        read_only = [(profile.flash_start, flash), (profile.system.start, system), (HANDLER_RETURN, bytes(PAGE))]
        if profile.runs_code:
            read_only.append((0, system if from_rom else flash))
        for start, content in read_only:
            self._uc.mem_map(start & -PAGE, _whole_pages(start % PAGE + len(content)), UC_PROT_READ | UC_PROT_EXEC)
            self._uc.mem_write(start, content)
        for part in profile.ram:
            self._uc.mem_map(part.start, _whole_pages(len(part)))
        self._uc.mem_write(profile.ram_start, bytes(silicon.ram))

    def run(self, seconds: float) -> bytes:
        """Run for a number of simulated seconds; return the bytes that USART1 sent.

        Raises:
            CrashError: the core faulted; `peripherals.sent` contains the bytes sent before the fault.
        """
        clock_hz = self.peripherals.clock_hz
        left = round(seconds * clock_hz)
        while left > 0 and not self.peripherals.reset_requested:
            # (1) A step ends at the next tick at the latest.
            period = self.peripherals.tick_cycles
            if period and not 0 < self._until_tick <= period:
                self._until_tick = period
            cycles = min(left, SLICE, self._until_tick if period else SLICE)

            # (2) The core executes, unless it sleeps. For Unicorn a count of zero means no limit.
            if not self._asleep:
                self._pc = self._execute(self._pc | 1, max(1, int(cycles / self._cycles_per_instruction)))
                try:
                    self._asleep = bytes(self._uc.mem_read(self._pc - 2, 2)) in WAIT_INSTRUCTIONS
                except UcError:  # the address before the first instruction of a memory is not mapped
                    self._asleep = False

            # (3) The timer counts.
            self._until_tick -= cycles
            if period and self._until_tick <= 0:
                self._tick()
            left -= cycles
        self.seconds_left = left / clock_hz
        return self.take_sent()

    def take_sent(self) -> bytes:
        """Return the bytes that USART1 sent since the last call."""
        sent = bytes(self.peripherals.sent)
        self.peripherals.sent.clear()
        return sent

    def stop(self) -> None:
        """Copy the RAM back to the silicon, because RAM keeps its contents through a reset."""
        profile = self._silicon.profile
        self._silicon.ram[:] = self._uc.mem_read(profile.ram_start, profile.ram_size)

    def _execute(self, start: int, count: int) -> int:
        try:
            self._uc.emu_start(start, HANDLER_RETURN, count=count)
        except UcError as error:
            at = self._uc.reg_read(UC_ARM_REG_PC)
            handler = self._fault_handler()
            if handler is None:
                raise CrashError(f"{error} at {at:#010x}") from error
            return handler
        return int(self._uc.reg_read(UC_ARM_REG_PC))

    def _fault_handler(self) -> int | None:
        """The handler of a hard fault, which continues until a reset; None if VTOR was not set, or after a fault."""
        table = self.peripherals[SCB_VTOR]
        if not table or self._has_faulted:
            return None
        self._has_faulted = True
        try:
            vector = _word(self._uc.mem_read(table + 4 * HARD_FAULT_VECTOR, 4))
        except UcError:
            return None
        return vector & ~1 if vector & 1 else None

    def _tick(self) -> None:
        self.peripherals.ticked = True
        self._tick_pending |= bool(self.peripherals[SYST_CSR] & 2)
        if not self._tick_pending:
            return
        # A pending interrupt wakes the core even if PRIMASK prevents its handler from running.
        self._asleep = False
        if self._uc.reg_read(UC_ARM_REG_PRIMASK) & 1:
            return
        self._tick_pending = False
        try:
            handler = _word(self._uc.mem_read(self.peripherals[SCB_VTOR] + 4 * SYSTICK_VECTOR, 4))
        except UcError as error:
            raise CrashError(f"no SysTick vector: {error}") from error
        # The emulator saves the registers itself; the exception frame on the stack stays empty.
        saved = self._uc.context_save()
        self._uc.reg_write(UC_ARM_REG_SP, (self._uc.reg_read(UC_ARM_REG_SP) - 32) & ~7)
        self._uc.reg_write(UC_ARM_REG_LR, HANDLER_RETURN | 1)
        if not handler & 1 or self._execute(handler, HANDLER_LIMIT) != HANDLER_RETURN:
            raise CrashError(f"the SysTick handler at {handler:#010x} does not return")
        self._uc.context_restore(saved)

    # Unicorn passes all arguments by position; the last one is the block's start, given to `mmio_map`.
    def _read_register(self, _uc: Uc, offset: int, *rest: Any) -> int:
        size, start = rest
        return self.peripherals.read(start + offset, size)

    def _write_register(self, uc: Uc, offset: int, *rest: Any) -> None:
        size, value, start = rest
        self.peripherals.write(start + offset, value, size=size)
        if self.peripherals.reset_requested:
            uc.emu_stop()


def _whole_pages(size: int) -> int:
    return (size + PAGE - 1) & -PAGE


def _word(data: bytes | bytearray) -> int:
    return int.from_bytes(data, "little")
