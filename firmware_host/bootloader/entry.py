"""Start a board's bootloader, choose the speed of the serial line, and listen to the application.

A board enters its bootloader when it leaves reset with BOOT0 at 1. A USB adapter's control lines can drive NRST and
BOOT0. TTL adapters invert these lines. With the common wiring of DTR to NRST and RTS to BOOT0, the board is in reset
while DTR is asserted, and BOOT0 is 1 while RTS is not asserted.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Self

from blockota.errors import Action, BoardError, BoardProtocolError, LinkError, NoAnswerError, UsageError, plain
from firmware_host.bootloader.chips import Chip, find_chip
from firmware_host.bootloader.client import Bootloader
from firmware_host.line.link import DEFAULT_BAUD, PLAIN, LineMode, Link

Wait = Callable[[float], None]
RESET_SECONDS = 0.01
"""The length of the reset pulse. 100 nF with a pull-up of 40 kilohm need 4 ms (DS5319 section 5.3.15)."""
BREAK_SECONDS = 0.3
"""The length of a break, for boards with a circuit that resets the board on a break."""
SETTLE_SECONDS = (0.005, 0.1, 0.6, 3.0)
"""Seconds to wait between a reset and the first byte, tried in this order.

AN2606 specifies 1.2 ms for the STM32F103, 74 ms for the F4, and 2.6 s for the L47x.
"""
FASTEST = 0
"""A value of `BoardLine.baud` that selects the highest speed that the board supports."""
FASTER = (460800, 256000, 230400)
"""The speeds above `DEFAULT_BAUD` that are tried, fastest first. No board is known to support 921600 baud."""
FIRST_BYTE_SECONDS, QUIET_SECONDS = 0.5, 0.3
"""The first number is the time in seconds in which an application must begin to send. After the second number of
seconds of silence, its text counts as complete."""
_TRIALS = 2
"""The number of error-free reads of a block that are required before a speed is accepted."""
_BLOCK = 256
_DOCTOR_REMEDY = "reset the board by hand, or diagnose the line to find its wiring"


class ControlSignal(Enum):
    """The adapter's signal that drives a pin of the board."""

    DTR = "dtr"
    RTS = "rts"
    BREAK = "break"
    NONE = "none"


@dataclass(frozen=True)
class BoardWiring:
    """The signals that drive a board's NRST and BOOT0 pins.

    NONE means that the operator must reset the board by hand, or set BOOT0 by a jumper. With an inverted reset line,
    the board is in reset while the line is not asserted. With an inverted BOOT0 line, BOOT0 is 1 while the line is
    asserted.
    """

    reset: ControlSignal
    boot0: ControlSignal
    invert_reset: bool = False
    invert_boot0: bool = False

    @property
    def is_by_hand(self) -> bool:
        """Whether the board must be reset by hand."""
        return self.reset is ControlSignal.NONE

    @property
    def drives_boot0(self) -> bool:
        """Whether a control line drives BOOT0, so that a reset can also start the application."""
        return self.boot0 is not ControlSignal.NONE

    @property
    def uses_rts(self) -> bool:
        """Whether RTS drives a pin of the board."""
        return ControlSignal.RTS in {self.reset, self.boot0}

    @property
    def name(self) -> str:
        """The name of the wiring in `WIRINGS`, without its inversions."""
        return next(name for name, one in WIRINGS.items() if (one.reset, one.boot0) == (self.reset, self.boot0))


WIRINGS = {
    "by-hand": BoardWiring(ControlSignal.NONE, ControlSignal.NONE),
    "dtr-rts": BoardWiring(ControlSignal.DTR, ControlSignal.RTS),
    "rts-dtr": BoardWiring(ControlSignal.RTS, ControlSignal.DTR),
    "dtr": BoardWiring(ControlSignal.DTR, ControlSignal.NONE),
    "rts": BoardWiring(ControlSignal.RTS, ControlSignal.NONE),
    "break": BoardWiring(ControlSignal.BREAK, ControlSignal.NONE),
}
BY_HAND = WIRINGS["by-hand"]


class StartMethod(Enum):
    """How a board's program is started after the flash was proven.

    AUTO is RESET if the wiring can reset the board with BOOT0 at 0. Otherwise, AUTO is GO. The bootloader's Go command
    starts the program without a reset of the chip, so clocks and peripherals keep the bootloader's settings.
    """

    AUTO = "auto"
    RESET = "reset"
    GO = "go"
    NONE = "none"


@dataclass(frozen=True)
class BoardLine:
    """The serial line to one board.

    Attributes:
        url: a serial device, a pseudo-terminal, ``socket://host:port`` or ``rfc2217://host:port``.
        baud: bits per second, or `FASTEST`.

    Examples:
        >>> BoardLine.parse("/dev/ttyUSB0", wiring="dtr-rts").description
        'wiring dtr-rts at 115200 baud'
    """

    url: str
    baud: int = DEFAULT_BAUD
    wiring: BoardWiring = BY_HAND
    mode: LineMode = field(default_factory=LineMode)
    start: StartMethod = StartMethod.AUTO

    def __post_init__(self) -> None:
        """Refuse a wiring that contradicts the other attributes."""
        if self.mode.rs485 and self.wiring.uses_rts:
            raise UsageError(
                "RTS cannot switch an RS485 transceiver and drive a pin of the board",
                why=f"the wiring {self.wiring.name} uses RTS",
                remedy="choose a wiring without RTS, such as dtr or by-hand",
                action=Action.CHOOSE_WIRING,
            )

        if self.start is StartMethod.RESET and not self.starts_by_reset:
            raise UsageError(
                f"the wiring {self.wiring.name} cannot start the program by a reset",
                why="no control line both resets the board and sets BOOT0 to 0",
                remedy="start the program by the bootloader's Go command",
                action=Action.CHOOSE_START,
            )

    @classmethod
    def parse(
        cls, url: str, *, baud: int = DEFAULT_BAUD, wiring: str = "by-hand", mode: str = PLAIN, start: str = "auto"
    ) -> Self:
        """Return the line that the settings of ``[bench]`` in ``blockota.toml`` describe.

        Args:
            url: the port, as `BoardLine.url` describes it.
            baud: bits per second; 0 means the highest speed that the board supports.
            wiring: ``by-hand``, ``dtr-rts``, ``rts-dtr``, ``dtr``, ``rts`` or ``break``.
            mode: ``plain``, or one or more of ``no-parity``, ``echo``, ``rs485`` and ``rs485-inverted``, separated by
                commas.
            start: ``auto``, ``reset``, ``go`` or ``none``.

        Raises:
            UsageError: a word is unknown, or the words contradict each other.
        """
        methods = {method.value: method for method in StartMethod}
        if start not in methods:
            raise UsageError(f"unknown start {start!r}", remedy=f"choose one of {', '.join(methods)}")
        return cls(url, baud, find_wiring(wiring), LineMode.parse(mode), methods[start])

    @property
    def first_baud(self) -> int:
        """The speed at which the first byte is sent, in bits per second."""
        return self.baud or DEFAULT_BAUD

    @property
    def description(self) -> str:
        """The wiring and the speed in words, such as ``wiring dtr-rts with BOOT0 inverted at 115200 baud``."""
        inverted = ["reset"] * self.wiring.invert_reset + ["BOOT0"] * self.wiring.invert_boot0
        inversions = f" with {' and '.join(inverted)} inverted" if inverted else ""
        mode = f" in mode {self.mode.words}" if self.mode != LineMode() else ""
        return f"wiring {self.wiring.name}{inversions} at {self.baud or 'the highest possible'} baud{mode}"

    @property
    def starts_by_reset(self) -> bool:
        """Whether the board's program is started by a reset with BOOT0 at 0."""
        is_wanted = self.start in {StartMethod.AUTO, StartMethod.RESET}
        return is_wanted and self.wiring.drives_boot0 and not self.wiring.is_by_hand


def find_wiring(name: str, *, invert_reset: bool = False, invert_boot0: bool = False) -> BoardWiring:
    """Return the wiring with this name and polarities.

    The inversion of an unused control line is refused.
    """
    if name not in WIRINGS:
        raise UsageError(f"unknown wiring {name!r}", remedy=f"choose one of {', '.join(WIRINGS)}")
    wiring = WIRINGS[name]

    lines = {ControlSignal.DTR, ControlSignal.RTS}
    if (invert_reset and wiring.reset not in lines) or (invert_boot0 and wiring.boot0 not in lines):
        raise UsageError(
            f"the wiring {name} does not use the control line to be inverted",
            remedy="omit the inversion, or choose a wiring that uses the control line, such as dtr-rts",
            action=Action.CHOOSE_WIRING,
        )
    return replace(wiring, invert_reset=invert_reset, invert_boot0=invert_boot0)


def reset_board(link: Link, wiring: BoardWiring, *, boot0: bool, wait: Wait = time.sleep) -> None:
    """Reset the board, unless it is reset by hand.

    If a control line drives BOOT0, BOOT0 has the level `boot0` during and after the reset.
    """
    if wiring.is_by_hand:
        return

    if not link.can_steer:
        raise LinkError(
            f"the port {link.name} has no control lines",
            why="the chosen wiring needs control lines to reset the board",
            remedy="use a serial device or an rfc2217:// port, or reset the board by hand",
            action=Action.RESET_BY_HAND,
        )

    if wiring.reset is ControlSignal.BREAK:
        link.send_break(BREAK_SECONDS)
        return
    link.set_lines(**_levels(wiring, in_reset=True, boot0=boot0))
    wait(RESET_SECONDS)
    link.set_lines(**_levels(wiring, in_reset=False, boot0=boot0))


def enter_bootloader(bootloader: Bootloader, *, wiring: BoardWiring, wait: Wait = time.sleep) -> None:
    """Reset the board into its bootloader, and connect.

    If the board is reset by hand, only connect. A byte that arrives during start-up can make the bootloader measure a
    wrong speed. The bootloader then ignores everything until the next reset (AN3155 section 2). A silent board is
    therefore reset again, with a longer wait.
    """
    if wiring.is_by_hand:
        bootloader.connect()
        return

    for settle in SETTLE_SECONDS:
        reset_board(bootloader.link, wiring, boot0=True, wait=wait)
        wait(settle)
        try:
            bootloader.connect()
        except NoAnswerError as error:
            silence = error
        except BoardProtocolError as error:
            raise error.revised(remedy=_DOCTOR_REMEDY, action=Action.DIAGNOSE_LINE) from error
        else:
            return

    raise silence.revised(
        why=f"the board on {bootloader.link.name} was reset {len(SETTLE_SECONDS)} times through its wiring and did not "
        "answer",
        remedy=_DOCTOR_REMEDY,
        action=Action.DIAGNOSE_LINE,
    ) from silence


def connect_fastest(bootloader: Bootloader, *, wiring: BoardWiring, wait: Wait = time.sleep) -> None:
    """Connect at the highest speed at which a block of memory is read without errors.

    The link keeps this speed. ST tests its bootloaders only up to 115200 baud, but many boards support more. A
    bootloader that does not support a speed ignores everything until it is reset. Higher speeds are therefore tried
    only if the port can reset the board.
    """
    enter_bootloader(bootloader, wiring=wiring, wait=wait)
    link = bootloader.link
    if wiring.is_by_hand or not link.can_steer:
        return

    chip, first_baud = find_chip(bootloader.product_id()), link.baud
    sample = _sample(bootloader, chip)  # a higher speed is accepted if it reads the same bytes
    for baud in (one for one in FASTER if one > first_baud):
        try:
            link.set_baud(baud)
            reset_board(link, wiring, boot0=True, wait=wait)
            wait(chip.ready_seconds if chip else SETTLE_SECONDS[-1])
            bootloader.connect()
            if all(_sample(bootloader, chip) == sample for _ in range(_TRIALS)):
                return
        except BoardError:
            # The board or the adapter does not support this speed.
            continue

    # No higher speed works: return to the first speed.
    link.set_baud(first_baud)
    enter_bootloader(bootloader, wiring=wiring, wait=wait)


def listen_to(link: Link, *, seconds: float) -> str:
    """Return the text that an application prints within `seconds`.

    Unprintable characters are escaped.
    """
    deadline = time.monotonic() + seconds
    heard, silence = b"", FIRST_BYTE_SECONDS
    # A lost line or Ctrl-C ends the listening; the text received before is returned.
    with suppress(NoAnswerError, LinkError, KeyboardInterrupt):
        while (left := deadline - time.monotonic()) > 0:
            heard += link.read(1, timeout=min(silence, left))
            silence = QUIET_SECONDS
    text = heard.decode("utf-8", errors="backslashreplace").replace("\r\n", "\n")
    return "\n".join(map(plain, text.split("\n")))


def _sample(bootloader: Bootloader, chip: Chip | None) -> bytes:
    """Read values that must be equal at each speed: the product id and, if readable, the start of the boot ROM."""
    product_id = bootloader.product_id().to_bytes(2, "big")
    if chip is None:
        return product_id
    bootloader.target(chip)
    return product_id + (bootloader.read_unless_protected(chip.system_memory.start, _BLOCK) or b"")


def _levels(wiring: BoardWiring, *, in_reset: bool, boot0: bool) -> dict[str, bool]:
    """Return the levels of DTR and RTS.

    A control line that the wiring does not use is not asserted.
    """
    asserted = {wiring.reset: in_reset is not wiring.invert_reset, wiring.boot0: boot0 is wiring.invert_boot0}
    return {"dtr": asserted.get(ControlSignal.DTR, False), "rts": asserted.get(ControlSignal.RTS, False)}
