"""Run an application on an emulated Cortex-M (Unicorn), until the application crashes or requests a reset.

Every instruction takes the same number of clock cycles. The only interrupt is SysTick. The emulator has no memory
protection and no bit-banding. While the flash controller is busy, a core that runs from flash waits. A core that runs
from RAM continues, and reads the flash without waiting.

The emulator models these parts of an STM32F103 (RM0008): clock control, the clock gates of APB2, USART1, SysTick, the
flash controller, the reset request, and I2C1 with a secure element. Every other register stores the written value
without any effect. Other chips have only the registers that the digest program uses.
"""

from __future__ import annotations

import ctypes
from collections import deque
from collections.abc import Callable, Mapping
from math import ceil
from typing import Any

from unicorn import (
    UC_ARCH_ARM,
    UC_HOOK_MEM_WRITE_PROT,
    UC_MODE_MCLASS,
    UC_MODE_THUMB,
    UC_PROT_EXEC,
    UC_PROT_READ,
    arm_const,
)
from unicorn.unicorn_py3 import Uc, UcError

from firmware_host.simulator import flash_controller, i2c
from firmware_host.simulator.flash_controller import FlashBusError, FlashController
from firmware_host.simulator.i2c import I2cMaster
from firmware_host.simulator.profiles import BoardProfile
from firmware_host.simulator.secure_element.element import SecureElement
from firmware_host.simulator.silicon import PowerCutError, Silicon

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
CPU_MODELS = {"v6-M": arm_const.UC_CPU_ARM_CORTEX_M0, "v7-M": arm_const.UC_CPU_ARM_CORTEX_M3}
REGISTER_BLOCKS = ((0x4000_0000, 0x3_0000), (0xE000_E000, PAGE))

RCC_CR, RCC_CFGR, RCC_APB2RSTR, RCC_APB2ENR = 0x4002_1000, 0x4002_1004, 0x4002_100C, 0x4002_1018
APB2_START, APB2_END, APB2_BLOCK = 0x4001_0000, 0x4001_4000, 0x400
EXTI_BLOCK = 1
GPIOA_CRH = 0x4001_0804
OUTPUT_OF_PERIPHERAL = 2
"""The pin configuration in which USART1 drives PA9 (RM0008 section 9.2.2)."""
TRANSMITTER_ON = 0x2008
"""USART1_CR1: UE and TE (RM0008 section 27.6.4)."""
AIRCR_KEY = 0x05FA
USART1_SR, USART1_DR, USART1_BRR, USART1_CR1 = 0x4001_3800, 0x4001_3804, 0x4001_3808, 0x4001_380C
SYST_CSR, SYST_RVR = 0xE000_E010, 0xE000_E014
SCB_ICSR, SCB_VTOR, SCB_AIRCR = 0xE000_ED04, 0xE000_ED08, 0xE000_ED0C
CLEAR_SYSTICK = 1 << 25
"""The bit of ICSR that takes back a pending SysTick (PM0056 section 4.4.3)."""

HSI_HZ = HSE_HZ = 8_000_000
RESET_VALUES: Mapping[int, int] = {
    RCC_CR: 0x83,
    **{APB2_START + APB2_BLOCK * port + at: 0x4444_4444 for port in range(2, 9) for at in (0, 4)},
}
"""Registers that are not zero after a reset (RM0008 sections 7.3 and 9.2)."""

LEFT_BY_ROM: Mapping[int, int] = {
    **RESET_VALUES,
    RCC_CR: 0x0100_0083,
    RCC_CFGR: 0x0010_0002,
    RCC_APB2ENR: 0x4004,
    GPIOA_CRH: 0x4444_44B4,
    USART1_BRR: 208,
    USART1_CR1: 0x340C,
}
"""Registers after the boot ROM's Go: 24 MHz from the PLL, USART1 at 115200 baud (AN2606)."""


class CrashError(Exception):
    """The application caused a fault."""


class EmulatedApplication:
    """An application in flash or RAM, started by a reset or by the ROM's Go command.

    Args:
        silicon: the chip's memories. The emulator changes the flash directly. It uses a copy of the RAM, which `stop`
            writes back.
        vector_table: the address of the initial stack pointer and the reset vector.
        from_rom: whether the ROM's Go command started the application. Clocks and USART1 then have the settings of the
            ROM, and the system memory is mapped at address 0.
        element: the secure element at I2C1, if the board has one.

    Attributes:
        seconds_left: the time that the last `run` did not use, because the application requested a reset.
        elapsed: the time that the application has run, in seconds.
    """

    def __init__(
        self,
        silicon: Silicon,
        vector_table: int,
        *,
        from_rom: bool,
        cycles_per_instruction: float,
        element: SecureElement | None = None,
    ) -> None:
        self.elapsed = 0.0
        self.seconds_left, self._cycles_per_instruction = 0.0, cycles_per_instruction
        self._silicon, profile = silicon, silicon.profile

        stack = _word(silicon.read(vector_table, 4))
        self._pc = _word(silicon.read(vector_table + 4, 4))
        if not any(part.start < stack <= part.stop for part in profile.ram) or not self._pc & 1:
            raise CrashError(f"no vector table at {vector_table:#010x}: {stack:#010x} {self._pc:#010x}")

        self._flash_controller = FlashController(silicon.flash)
        registers = LEFT_BY_ROM if from_rom else RESET_VALUES
        self.peripherals = Peripherals(registers) if profile.runs_code else PlainPeripherals(profile)
        has_bus = element is not None and profile.runs_code
        self._i2c = I2cMaster(element, self.peripherals.__getitem__) if element and has_bus else None
        self._flash_registers = flash_controller.REGISTERS if profile.runs_code else range(0)
        self._overwritten: list[range] = []
        self._failure: FlashBusError | PowerCutError | None = None

        self._uc = Uc(UC_ARCH_ARM, UC_MODE_THUMB | UC_MODE_MCLASS)
        self._uc.ctl_set_cpu_model(CPU_MODELS[profile.core])
        self._map_memories(from_rom=from_rom)
        for start, size in REGISTER_BLOCKS:
            self._uc.mmio_map(start, size, self._read_register, start, self._write_register, start)
        if profile.runs_code:
            self._uc.hook_add(UC_HOOK_MEM_WRITE_PROT, self._store_to_flash)

        self._uc.reg_write(arm_const.UC_ARM_REG_SP, stack)
        self._until_tick = 0
        self._asleep = self._tick_pending = self._has_faulted = self._core_waits = False

    def _map_memories(self, *, from_rom: bool) -> None:
        silicon, profile = self._silicon, self._silicon.profile
        # The option bytes follow the system memory of an F1. Address 0 maps the memory that the chip booted from.
        system = bytes(silicon.system + silicon.options.raw)
        read_only = [(profile.system.start, system), (HANDLER_RETURN, bytes(PAGE))]
        if profile.runs_code and from_rom:
            read_only.append((0, system))

        # The core reads the cells themselves, so that it sees what the flash controller does.
        cells = silicon.flash.cells
        self._cells = (ctypes.c_uint8 * len(cells)).from_buffer(cells)
        self._flash_starts = [profile.flash_start] + [0] * (profile.runs_code and not from_rom)
        for start in self._flash_starts:
            access = UC_PROT_READ | UC_PROT_EXEC
            self._uc.mem_map_ptr(start, len(cells), access, ctypes.addressof(self._cells))

        for start, content in read_only:
            self._uc.mem_map(start & -PAGE, _whole_pages(start % PAGE + len(content)), UC_PROT_READ | UC_PROT_EXEC)
            self._uc.mem_write(start, content)
        for part in profile.ram:
            self._uc.mem_map(part.start, _whole_pages(len(part)))
        self._uc.mem_write(profile.ram_start, bytes(silicon.ram))

    def run(self, seconds: float) -> bytes:
        """Run for a number of simulated seconds; return the bytes that USART1 sent.

        Raises:
            CrashError: the application caused a fault.
            PowerCutError: power failed in an operation of the flash controller.
        """
        clock_hz = self.peripherals.clock_hz
        left = round(seconds * clock_hz)
        while left > 0 and not self.peripherals.reset_requested:
            # (1) The application may have changed the clock.
            if self.peripherals.clock_hz != clock_hz:
                left = round(left * self.peripherals.clock_hz / clock_hz)
                clock_hz = self.peripherals.clock_hz

            # (2) A step ends at the next tick at the latest, and when the flash controller is ready.
            period = self.peripherals.tick_cycles
            if period and not 0 < self._until_tick <= period:
                self._until_tick = period
            busy = ceil(self._flash_controller.busy * clock_hz)
            waits = busy > 0 and self._core_waits
            cycles = min(left, busy or left, left if waits else SLICE)
            if period:
                cycles = min(cycles, self._until_tick)

            # (3) The core executes, unless it waits or sleeps. For Unicorn a count of zero means no limit.
            if not self._asleep and not waits:
                self._pc = self._execute(self._pc | 1, max(1, int(cycles / self._cycles_per_instruction)))
                try:
                    self._asleep = bytes(self._uc.mem_read(self._pc - 2, 2)) in WAIT_INSTRUCTIONS
                except UcError:  # the address before the first instruction of a memory is not mapped
                    self._asleep = False

            # (4) Time passes: the operation that was in progress goes on, and the timer counts.
            if busy:
                self._flash_controller.busy = max(self._flash_controller.busy - cycles / clock_hz, 0.0)
            self._until_tick -= cycles
            if period and self._until_tick <= 0:
                self._tick()
            left -= cycles
            self.elapsed += cycles / clock_hz
        if self.peripherals.reset_requested and self._core_waits:
            self._flash_controller.busy = 0.0  # the core waited before it asked for the reset
        self.seconds_left = left / clock_hz
        # Within a step, the core may run ahead of the flash controller. Bytes that it sent meanwhile leave the chip
        # when the controller is ready and the core continues.
        return b"" if self._core_waits and self._flash_controller.busy > 0 else self.take_sent()

    def take_sent(self) -> bytes:
        """Return the bytes that USART1 sent since the last call."""
        sent = bytes(self.peripherals.sent)
        self.peripherals.sent.clear()
        return sent

    def stop(self) -> None:
        """Copy the RAM back to the silicon, because a reset does not clear RAM; interrupt any flash operation."""
        self._flash_controller.interrupt()
        profile = self._silicon.profile
        self._silicon.ram[:] = self._uc.mem_read(profile.ram_start, profile.ram_size)

    def _execute(self, start: int, count: int) -> int:
        error: UcError | FlashBusError | PowerCutError | None = None
        try:
            self._uc.emu_start(start, HANDLER_RETURN, count=count)
        except UcError as raised:
            error = raised
        error, self._failure = self._failure or error, None

        # Unicorn has translated instructions that were overwritten. It can forget them only while it does not execute.
        for changed in self._overwritten:
            for mapped_at in self._flash_starts:
                first = changed.start - self._silicon.profile.flash_start + mapped_at
                self._uc.ctl_remove_cache(first, first + len(changed))
        self._overwritten.clear()

        at = int(self._uc.reg_read(arm_const.UC_ARM_REG_PC))
        if error is None:
            return at
        if isinstance(error, PowerCutError):
            raise error
        handler = self._fault_handler()
        if handler is None:
            raise CrashError(f"{error} at {at:#010x}") from error
        return handler

    def _fault_handler(self) -> int | None:
        """The address of the hard fault handler; None if VTOR was not set, or if a fault has already occurred."""
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
        if self._uc.reg_read(arm_const.UC_ARM_REG_PRIMASK) & 1:
            return
        self._tick_pending = False
        try:
            handler = _word(self._uc.mem_read(self.peripherals[SCB_VTOR] + 4 * SYSTICK_VECTOR, 4))
        except UcError as error:
            raise CrashError(f"no SysTick vector: {error}") from error

        # The emulator saves the registers itself; the exception frame on the stack stays empty.
        saved = self._uc.context_save()
        self._uc.reg_write(arm_const.UC_ARM_REG_SP, (self._uc.reg_read(arm_const.UC_ARM_REG_SP) - 32) & ~7)
        self._uc.reg_write(arm_const.UC_ARM_REG_LR, HANDLER_RETURN | 1)
        if not handler & 1 or self._execute(handler, HANDLER_LIMIT) != HANDLER_RETURN:
            raise CrashError(f"the SysTick handler at {handler:#010x} does not return")
        self._uc.context_restore(saved)

    # Unicorn passes all arguments by position; the last one is the block's start, given to `mmio_map`.
    def _read_register(self, _uc: Uc, offset: int, *rest: Any) -> int:
        size, start = rest
        if start + offset in self._flash_registers:
            value = self._flash_controller.read(start + offset)
            return value & ~flash_controller.BUSY if self._core_waits else value
        if self._i2c and start + offset in i2c.REGISTERS:
            return self._i2c.read(start + offset)
        return self.peripherals.read(start + offset, size)

    def _write_register(self, uc: Uc, offset: int, *rest: Any) -> None:
        size, value, start = rest
        if start + offset in self._flash_registers:
            self._change_flash(lambda: self._flash_controller.write(start + offset, value))
            return
        if self._i2c and start + offset in i2c.REGISTERS:
            self._i2c.write(start + offset, value)
            return
        if start + offset == SCB_ICSR and value & CLEAR_SYSTICK:
            self._tick_pending = False
            return

        self.peripherals.write(start + offset, value, size=size)
        if self.peripherals.reset_requested:
            uc.emu_stop()

    def _store_to_flash(self, _uc: Uc, _access: int, *rest: Any) -> bool:
        """Handle a store to read-only memory; return False for a bus error."""
        address, size, value, _ = rest
        if address not in self._silicon.profile.flash:
            return False
        self._change_flash(lambda: self._flash_controller.store(address, value & (1 << 8 * size) - 1, size=size))
        return self._failure is None

    def _change_flash(self, operation: Callable[[], range]) -> None:
        """Perform an operation of the flash controller."""
        # The core waits when it fetches the next instruction, so it never sees that the controller is busy.
        self._core_waits = self._uc.reg_read(arm_const.UC_ARM_REG_PC) in self._silicon.profile.flash
        try:
            overwritten = operation()
        except (FlashBusError, PowerCutError) as error:
            # An exception must not pass through Unicorn; `_execute` raises it.
            self._failure = error
            self._uc.emu_stop()
            return
        if overwritten:
            self._overwritten.append(overwritten)


class Peripherals:
    """The registers at 0x40000000 and 0xE000E000 of one running application; `values` are the initial values."""

    def __init__(self, values: Mapping[int, int]) -> None:
        self.sent = bytearray()
        self.received: deque[int] = deque()
        self.reset_requested = False
        self.ticked = False
        self._values = dict(values)

    def __getitem__(self, address: int) -> int:
        """Return a register's value without the side effects of reading it."""
        return self._values.get(address, 0)

    def read(self, address: int, size: int) -> int:
        """Return the value that the core reads from `size` bytes at `address`."""
        register = address & ~3
        value = self[register]

        if register == RCC_CR:  # an oscillator is ready immediately after it is switched on
            value |= (value & 0x0101_0001) << 1
        elif register == RCC_CFGR:  # the clock switches immediately
            value = value & ~0xC | (value & 3) << 2
        elif register == USART1_SR:  # TXE and TC, and RXNE if a byte waits
            value = 0xC0 | (0x20 if self.received else 0)
        elif register == USART1_DR:
            value = self.received.popleft() if self.received else 0
        elif register == SYST_CSR:  # reading COUNTFLAG clears it
            value |= self.ticked << 16
            self.ticked = False
        return value >> (address - register) * 8 & ((1 << size * 8) - 1)

    def write(self, address: int, value: int, *, size: int) -> None:
        """Write `size` bytes to a register; an APB2 peripheral without a clock ignores the write."""
        register = address & ~3
        if not self._clocked(register):
            return
        shift = (address - register) * 8
        mask = ((1 << size * 8) - 1) << shift
        written = self._values[register] = self[register] & ~mask | value << shift & mask

        if register == SCB_AIRCR:
            self.reset_requested = written >> 16 == AIRCR_KEY and bool(written & 4)
        elif register == RCC_APB2RSTR:
            for other in [*self._values]:
                if APB2_START <= other < APB2_END and written >> (other - APB2_START) // APB2_BLOCK & 1:
                    self._values[other] = RESET_VALUES.get(other, 0)
        elif register == USART1_DR:
            # A byte leaves the chip only if the transmitter is on and the pin is configured for the USART.
            enabled = self[USART1_CR1] & TRANSMITTER_ON == TRANSMITTER_ON
            pin = self[GPIOA_CRH] >> 4 & 0xF
            if enabled and pin & 3 and pin >> 2 == OUTPUT_OF_PERIPHERAL and self._clocked(GPIOA_CRH):
                self.sent.append(written & 0xFF)

    def _clocked(self, register: int) -> bool:
        if not APB2_START <= register < APB2_END:
            return True
        block = (register - APB2_START) // APB2_BLOCK
        return block == EXTI_BLOCK or bool(self[RCC_APB2ENR] >> block & 1)

    @property
    def clock_hz(self) -> int:
        """The core's clock in Hz (RM0008 section 7.3.2)."""
        configuration = self[RCC_CFGR]
        pll_input = HSE_HZ // (1 + (configuration >> 17 & 1)) if configuration >> 16 & 1 else HSI_HZ // 2
        pll_hz = pll_input * min((configuration >> 18 & 0xF) + 2, 16)
        source = (HSI_HZ, HSE_HZ, pll_hz, HSI_HZ)[configuration & 3]
        divider = configuration >> 4 & 0xF
        return source >> (0, 1, 2, 3, 4, 6, 7, 8, 9)[max(divider - 7, 0)]

    @property
    def tick_cycles(self) -> int:
        """Core cycles from one SysTick to the next; 0 while SysTick is off (PM0056 section 4.5)."""
        if not self[SYST_CSR] & 1:
            return 0
        cycles = (self[SYST_RVR] & 0xFF_FFFF) + 1
        return cycles if self[SYST_CSR] & 4 else cycles * 8


class PlainPeripherals(Peripherals):
    """The registers that the digest program uses, on a chip whose clock tree is not simulated.

    Only the first of the USARTs on which the ROM listens is connected and switched on.
    """

    def __init__(self, profile: BoardProfile) -> None:
        # The control register, its bit UE, and the registers of status and data.
        control, enabled, status, data = (0x00, 1, 0x1C, 0x28) if profile.has_isr else (0x0C, 1 << 13, 0x00, 0x04)
        connected = profile.usarts[:1]
        super().__init__({base + control: enabled for base in connected})
        self._profile = profile
        self._status, self._data = ([base + at for base in connected] for at in (status, data))

    def read(self, address: int, size: int) -> int:
        """Return the value that the core reads; a transmitter is always ready."""
        value = 0xC0 if address in self._status else self[address & ~3]
        return value >> address % 4 * 8 & ((1 << size * 8) - 1)

    def write(self, address: int, value: int, *, size: int) -> None:
        """Write to the connected USART, set VTOR or request a reset; other registers ignore the value."""
        del size
        if address == SCB_VTOR:
            self._values[address] = value
        if address in self._data:
            self.sent.append(value & 0xFF)
        elif address == SCB_AIRCR:
            self.reset_requested = value >> 16 == AIRCR_KEY and bool(value & 4)

    @property
    def clock_hz(self) -> int:
        """The core's clock in Hz."""
        return self._profile.clock_hz


def _whole_pages(size: int) -> int:
    return (size + PAGE - 1) & -PAGE


def _word(data: bytes | bytearray) -> int:
    return int.from_bytes(data, "little")
