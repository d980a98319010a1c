"""Open a board's port, bring the board into its bootloader, choose the speed of the line, and start the application.

A board enters its bootloader when it leaves reset with BOOT0 at 1. A USB adapter's control lines can drive both pins.
TTL adapters invert them: an asserted line pulls its pin low. With the common wiring, DTR to NRST and RTS to BOOT0, the
board is therefore in reset while DTR is asserted, and BOOT0 is 1 while RTS is not asserted.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from enum import Enum
from typing import Self

from blockota.errors import Action, BoardError, BoardProtocolError, LinkError, NoAnswerError, UsageError
from firmware_host.bootloader.chips import Chip, find_chip
from firmware_host.bootloader.client import Bootloader
from firmware_host.line.link import DEFAULT_BAUD, ControlledLink, Link, open_link

Wait = Callable[[float], None]
"""Waits for a number of seconds; tests pass a simulated clock's."""
RESET_SECONDS = 0.01
"""How long NRST is held low: its capacitor of 100 nF and pull-up of 40 kilohm take 4 ms (DS5319 section 5.3.15)."""
BREAK_SECONDS = 0.3
"""How long a break lasts, for boards whose circuit turns a break into a reset."""
SETTLE_SECONDS = (0.005, 0.1, 0.6, 3.0)
"""Waiting times between a reset and the first byte, tried in this order.

AN2606 gives 1.2 ms for the STM32F103, 74 ms for the F4, and 2.6 s for the L47x.
"""
FASTEST = 0
"""As a `BoardLine.baud`: the highest speed that the board understands."""
FASTER = (460800, 256000, 230400)
"""Speeds above `DEFAULT_BAUD` that are tried, the fastest first. No board was ever seen to understand 921600."""
QUIET_SECONDS = 0.3
"""After its first byte, an application that is silent for so long has printed its text."""
_TRIALS = 2
"""How often a block must be read without an error before a speed is accepted."""
_BLOCK = 256
_DOCTOR_REMEDY = "reset the board by hand, or diagnose the line to find its wiring"


class ControlSignal(Enum):
    """What drives a pin of the board."""

    DTR = "dtr"
    RTS = "rts"
    BREAK = "break"
    NONE = "none"


@dataclass(frozen=True)
class BoardWiring:
    """How the control lines of an adapter reach a board's NRST and BOOT0 pins.

    Attributes:
        reset: what pulls NRST; NONE if the board is reset by hand.
        boot0: what drives BOOT0; NONE if a jumper sets it.
        invert_reset: the board is in reset while the line is not asserted.
        invert_boot0: BOOT0 is 1 while the line is asserted.
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
        """Whether a line drives BOOT0, so that a reset can also start the application."""
        return self.boot0 is not ControlSignal.NONE

    def inverted(self, *, reset: bool, boot0: bool) -> Self:
        """The same wiring with these polarities."""
        return replace(self, invert_reset=reset, invert_boot0=boot0)


WIRINGS = {
    "by-hand": BoardWiring(reset=ControlSignal.NONE, boot0=ControlSignal.NONE),
    "dtr-rts": BoardWiring(reset=ControlSignal.DTR, boot0=ControlSignal.RTS),
    "rts-dtr": BoardWiring(reset=ControlSignal.RTS, boot0=ControlSignal.DTR),
    "dtr": BoardWiring(reset=ControlSignal.DTR, boot0=ControlSignal.NONE),
    "rts": BoardWiring(reset=ControlSignal.RTS, boot0=ControlSignal.NONE),
    "break": BoardWiring(reset=ControlSignal.BREAK, boot0=ControlSignal.NONE),
}
"""Wirings by name."""
BY_HAND = WIRINGS["by-hand"]


@dataclass(frozen=True)
class BoardLine:
    """The line to one board.

    Attributes:
        url: a serial device, a pseudo-terminal, ``socket://host:port`` or ``rfc2217://host:port``.
        baud: bits per second, or `FASTEST`.
        wiring: how the board is reset.
    """

    url: str
    baud: int = DEFAULT_BAUD
    wiring: BoardWiring = BY_HAND

    @property
    def first_baud(self) -> int:
        """The speed of the first byte."""
        return self.baud or DEFAULT_BAUD

    @property
    def description(self) -> str:
        """The wiring and the speed in words, such as ``wiring dtr-rts with BOOT0 inverted at 115200 baud``."""
        plain = self.wiring.inverted(reset=False, boot0=False)
        name = next(name for name, wiring in WIRINGS.items() if wiring == plain)
        inverted = ["reset"] * self.wiring.invert_reset + ["BOOT0"] * self.wiring.invert_boot0
        inversions = f" with {' and '.join(inverted)} inverted" if inverted else ""
        return f"wiring {name}{inversions} at {self.baud or 'the highest possible'} baud"


def find_wiring(name: str, *, invert_reset: bool = False, invert_boot0: bool = False) -> BoardWiring:
    """Return the wiring with this name and these polarities.

    Raises:
        UsageError: the name is unknown, or a line is inverted that the wiring does not use.
    """
    if name not in WIRINGS:
        raise UsageError(f"unknown wiring {name!r}", remedy=f"choose one of {', '.join(WIRINGS)}")
    wiring = WIRINGS[name]
    lines = {ControlSignal.DTR, ControlSignal.RTS}
    if (invert_reset and wiring.reset not in lines) or (invert_boot0 and wiring.boot0 not in lines):
        raise UsageError(
            f"the wiring {name} has no such line to invert",
            remedy="do not invert it, or choose a wiring that uses the line, such as dtr-rts",
            action=Action.CHOOSE_WIRING,
        )
    return wiring.inverted(reset=invert_reset, boot0=invert_boot0)


@contextmanager
def open_bootloader(line: BoardLine, *, wait: Wait = time.sleep) -> Iterator[Bootloader]:
    """Open the port, bring the board into its bootloader, and connect; close the port at the end.

    Yields:
        The bootloader, connected at the speed that `line` asks for.

    Raises:
        UsageError: the URL or the speed is invalid.
        BoardError: the port cannot be opened, or no bootloader answers as AN3155 specifies.
    """
    with closing(open_link(line.url, baud=line.first_baud)) as link:
        bootloader = Bootloader(link)
        connect_board(bootloader, link, line=line, wait=wait)
        yield bootloader


def connect_board(bootloader: Bootloader, link: ControlledLink, *, line: BoardLine, wait: Wait = time.sleep) -> None:
    """Bring the board into its bootloader, and connect at the speed that `line` asks for.

    Raises:
        BoardError: no bootloader answers as AN3155 specifies, or the port was lost.
    """
    if line.baud == FASTEST:
        connect_fastest(bootloader, link, wiring=line.wiring, wait=wait)
    else:
        enter_bootloader(bootloader, link, wiring=line.wiring, wait=wait)


def reset_board(link: ControlledLink, wiring: BoardWiring, *, boot0: bool, wait: Wait = time.sleep) -> None:
    """Reset the board, with BOOT0 at this level if a line drives it; do nothing if it must be reset by hand.

    Raises:
        LinkError: the port was lost, or has no control lines.
    """
    if wiring.is_by_hand:
        return
    if not link.can_steer:
        raise LinkError(
            f"the port {link.name} has no control lines",
            why="the chosen wiring needs them to reset the board",
            remedy="use a serial device or an rfc2217:// port, or reset the board by hand",
            action=Action.RESET_BY_HAND,
        )
    if wiring.reset is ControlSignal.BREAK:
        link.send_break(BREAK_SECONDS)
        return
    link.set_lines(**_levels(wiring, in_reset=True, boot0=boot0))
    wait(RESET_SECONDS)
    link.set_lines(**_levels(wiring, in_reset=False, boot0=boot0))


def enter_bootloader(
    bootloader: Bootloader, link: ControlledLink, *, wiring: BoardWiring, wait: Wait = time.sleep
) -> None:
    """Reset the board into its bootloader, and connect; if it is reset by hand, only connect.

    A byte that arrives while the bootloader starts can make it measure a wrong speed, and it then ignores everything
    until the next reset (AN3155 section 2). After a silence the board is therefore reset again, with a longer wait.

    Raises:
        BoardError: no bootloader answers, or the port was lost.
    """
    if wiring.is_by_hand:
        bootloader.connect()
        return
    for settle in SETTLE_SECONDS:
        reset_board(link, wiring, boot0=True, wait=wait)
        wait(settle)
        try:
            bootloader.connect()
        except NoAnswerError as error:
            silence = error
        except BoardProtocolError as error:
            raise BoardProtocolError(
                error.what, why=error.why, remedy=_DOCTOR_REMEDY, action=Action.DIAGNOSE_LINE
            ) from error
        else:
            return
    raise NoAnswerError(
        silence.what,
        why=f"the board on {link.name} was reset {len(SETTLE_SECONDS)} times through its wiring and did not answer",
        remedy=_DOCTOR_REMEDY,
        action=Action.DIAGNOSE_LINE,
    ) from silence


def connect_fastest(
    bootloader: Bootloader,
    link: ControlledLink,
    *,
    wiring: BoardWiring,
    highest: int = FASTER[0],
    wait: Wait = time.sleep,
) -> int:
    """Connect at the highest speed at which a block of memory is read without errors.

    The bootloader measures the speed from the first byte after a reset and keeps it (AN3155 section 2). ST tests up to
    115200 baud; many boards understand more, and one that does not is deaf until it is reset. Faster speeds are
    therefore tried only if the board can be reset through the port.

    Args:
        bootloader: of the board.
        link: the port of the board, at the speed to fall back to.
        wiring: how the board is reset.
        highest: the highest speed to try, in bits per second.
        wait: waits for some seconds.

    Returns:
        The speed at which the bootloader is now connected.

    Raises:
        BoardError: no bootloader answers at the link's first speed.
    """
    enter_bootloader(bootloader, link, wiring=wiring, wait=wait)
    if wiring.is_by_hand or not link.can_steer:
        return link.baud
    chip, first_baud = find_chip(bootloader.product_id()), link.baud
    sample = _sample(bootloader, chip)  # what every faster speed has to read as well
    for baud in FASTER:
        if not first_baud < baud <= highest:
            continue
        try:
            link.set_baud(baud)
            reset_board(link, wiring, boot0=True, wait=wait)
            wait(chip.ready_seconds if chip else SETTLE_SECONDS[-1])
            bootloader.connect()
            if all(_sample(bootloader, chip) == sample for _ in range(_TRIALS)):
                return baud
        except BoardError:
            # Deaf or garbled at this speed, or the adapter does not support it.
            continue
    # None of the faster speeds works: return to the one that does.
    link.set_baud(first_baud)
    enter_bootloader(bootloader, link, wiring=wiring, wait=wait)
    return first_baud


def start_application(bootloader: Bootloader, address: int, *, listen: float) -> str:
    """Start the application with its vector table at an address, and return what it prints in `listen` seconds.

    Returns:
        The text, in which control characters and bytes that are not UTF-8 are escaped.

    Raises:
        RefusedError: the chip has no program memory at the address.
        BoardError: the board answered with NACK, or not at all.
    """
    bootloader.go(address)
    return listen_to(bootloader.link, seconds=listen)


def listen_to(link: Link, *, seconds: float) -> str:
    """Return the text that an application prints after a reset; see `start_application`."""
    deadline = time.monotonic() + seconds
    heard, silence = b"", seconds
    # A lost line or Control-C ends the listening; what was heard before is returned.
    with suppress(NoAnswerError, LinkError, KeyboardInterrupt):
        while (left := deadline - time.monotonic()) > 0:
            heard += link.read(1, timeout=min(silence, left))
            silence = QUIET_SECONDS
    text = heard.decode("utf-8", errors="backslashreplace").replace("\r\n", "\n")
    return "".join(
        letter if letter.isprintable() or letter == "\n" else letter.encode("unicode_escape").decode("ascii")
        for letter in text
    )


def _sample(bootloader: Bootloader, chip: Chip | None) -> bytes:
    """Read bytes that are the same at every speed: the product id and, if allowed, the start of the bootloader."""
    product_id = bootloader.product_id().to_bytes(2, "big")
    if chip is None:
        return product_id
    bootloader.target(chip)
    return product_id + (b"" if bootloader.readout_protected() else bootloader.read(chip.system_memory.start, _BLOCK))


def _levels(wiring: BoardWiring, *, in_reset: bool, boot0: bool) -> dict[str, bool]:
    """Which lines to assert; a line that is not connected is not asserted."""
    asserted = {wiring.reset: in_reset is not wiring.invert_reset, wiring.boot0: boot0 is wiring.invert_boot0}
    return {"dtr": asserted.get(ControlSignal.DTR, False), "rts": asserted.get(ControlSignal.RTS, False)}
