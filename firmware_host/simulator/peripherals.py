"""The peripheral registers of a simulated STM32F103 (RM0008), and the few that the digest program uses on other chips.

Clock control, the clock gates of APB2, USART1, SysTick and the reset request are modelled; every other register keeps
the value that was written.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

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
SCB_VTOR, SCB_AIRCR = 0xE000_ED08, 0xE000_ED0C

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


class Peripherals:
    """All registers at 0x40000000 and 0xE000E000 of one running application, with their initial values."""

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

    Args:
        usarts: base addresses of the USARTs on which the ROM listens; the first one is connected and switched on.
        has_isr: whether the USARTs have the registers ISR and TDR, not SR and DR.
        clock_hz: the core clock.
    """

    def __init__(self, usarts: tuple[int, ...], *, has_isr: bool, clock_hz: int) -> None:
        control, status, data = (0x00, 0x1C, 0x28) if has_isr else (0x0C, 0x00, 0x04)
        enabled = 1 if has_isr else 1 << 13
        super().__init__({base + control: enabled for base in usarts[:1]})
        self._clock_hz = clock_hz
        self._status, self._data = {base + status for base in usarts[:1]}, {base + data for base in usarts[:1]}

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
        return self._clock_hz
