"""Bringing a board into its bootloader and out of it: by its adapter's control lines, by a break, or by hand.

USB adapters invert their control lines: an asserted line pulls its pin low. So with the common wiring, DTR to NRST
and RTS to BOOT0, the board is in reset while DTR is asserted, and BOOT0 is 1 while RTS is not.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from typing import Self

from blockota.errors import BoardProtocolError, LinkError, NoAnswerError, UsageError
from firmware_host.bootloader.client import Bootloader
from firmware_host.line.link import ControlledLink

Wait = Callable[[float], None]
"""Lets so many seconds pass."""
RESET_SECONDS = 0.01
"""How long NRST is held low: its capacitor of 100 nF and pull-up of 40 kilohm take 4 ms (DS5319 section 5.3.15)."""
BREAK_SECONDS = 0.3
"""How long a break lasts, for boards whose circuit turns one into a reset."""
SETTLE_SECONDS = (0.005, 0.1, 0.6, 3.0)
"""How long to wait after a reset before the first byte, and how long if that was too early (AN2606 names 1.2 ms for
the STM32F103, 74 ms for the F4, 2.6 s for the L47x)."""
DOCTOR_REMEDY = "let `blockota board doctor` try the wirings, or reset the board by hand and leave --wiring out"


class Wire(Enum):
    """What a control line is wired to the board with."""

    DTR = "dtr"
    RTS = "rts"
    BREAK = "break"
    NONE = "none"


@dataclass(frozen=True)
class Entry:
    """How a board is reset, and how its BOOT0 is set.

    Attributes:
        reset: what pulls NRST; NONE where a person presses the button.
        boot0: what drives BOOT0; NONE where a jumper does.
        invert_reset: the board is in reset while the line is not asserted.
        invert_boot0: BOOT0 is 1 while the line is asserted.
    """

    reset: Wire
    boot0: Wire
    invert_reset: bool = False
    invert_boot0: bool = False

    @property
    def is_by_hand(self) -> bool:
        """Whether a person has to reset the board."""
        return self.reset is Wire.NONE

    @property
    def drives_boot0(self) -> bool:
        """Whether a reset can start the application as well, because BOOT0 is not a jumper."""
        return self.boot0 is not Wire.NONE

    def inverted(self, *, reset: bool, boot0: bool) -> Self:
        """The same wiring with other polarities."""
        return replace(self, invert_reset=reset, invert_boot0=boot0)


PRESETS = {
    "by-hand": Entry(Wire.NONE, Wire.NONE),
    "dtr-rts": Entry(Wire.DTR, Wire.RTS),
    "rts-dtr": Entry(Wire.RTS, Wire.DTR),
    "dtr": Entry(Wire.DTR, Wire.NONE),
    "rts": Entry(Wire.RTS, Wire.NONE),
    "break": Entry(Wire.BREAK, Wire.NONE),
}
"""Wirings by name: what resets the board, then what drives BOOT0."""
BY_HAND = PRESETS["by-hand"]


def find_entry(name: str, *, invert_reset: bool = False, invert_boot0: bool = False) -> Entry:
    """The wiring of a name.

    Raises:
        UsageError: there is no such name, or a line is to be inverted that it does not have.
    """
    if name not in PRESETS:
        raise UsageError(f"there is no wiring {name!r}", remedy=f"choose one of {', '.join(PRESETS)}")
    entry = PRESETS[name]
    lines = {Wire.DTR, Wire.RTS}
    if (invert_reset and entry.reset not in lines) or (invert_boot0 and entry.boot0 not in lines):
        raise UsageError(
            f"the wiring {name} has no such line to invert",
            remedy="leave the inversion out, or name the wiring that has the line, as in --wiring dtr-rts",
        )
    return entry.inverted(reset=invert_reset, boot0=invert_boot0)


def reset_board(link: ControlledLink, entry: Entry, *, boot0: bool, wait: Wait = time.sleep) -> None:
    """Reset a board.

    Args:
        link: the port that it is on.
        entry: how it is wired; by hand nothing is done.
        boot0: what BOOT0 is to be at the reset, where a line drives it; it stays so.
        wait: lets time pass.

    Raises:
        LinkError: the port was lost, or has no such line.
    """
    if entry.is_by_hand:
        return
    _require_lines(link)
    if entry.reset is Wire.BREAK:
        link.send_break(BREAK_SECONDS)
        return
    link.set_lines(**_levels(entry, in_reset=True, boot0=boot0))
    wait(RESET_SECONDS)
    link.set_lines(**_levels(entry, in_reset=False, boot0=boot0))


def enter_bootloader(bootloader: Bootloader, link: ControlledLink, *, entry: Entry, wait: Wait = time.sleep) -> None:
    """Reset a board into its bootloader, and connect; by hand just connect.

    A bootloader that is spoken to before it listens may take the wrong speed for the line's, and is deaf from then
    on. So after a silence the board is reset again, and waited for longer.

    Raises:
        BoardError: no bootloader answers, or the port was lost.
    """
    if entry.is_by_hand:
        bootloader.connect()
        return
    for attempt, settle in enumerate(SETTLE_SECONDS, 1):
        reset_board(link, entry, boot0=True, wait=wait)
        wait(settle)
        try:
            bootloader.connect()
        except NoAnswerError as error:
            if attempt == len(SETTLE_SECONDS):
                raise _still_silent(link, error) from error
        except BoardProtocolError as error:
            raise BoardProtocolError(error.what, why=error.why, remedy=DOCTOR_REMEDY) from error
        else:
            return


def _require_lines(link: ControlledLink) -> None:
    if not link.can_steer:
        raise LinkError(
            f"the port {link.name} has no control lines",
            why="the wiring that was named needs them to reset the board",
            remedy="leave --wiring out and reset the board by hand, or use a serial device or rfc2217://",
        )


def _still_silent(link: ControlledLink, error: NoAnswerError) -> NoAnswerError:
    return NoAnswerError(
        error.what,
        why=f"the board on {link.name} was reset {len(SETTLE_SECONDS)} times as the wiring says, and stayed silent",
        remedy=DOCTOR_REMEDY,
    )


def _levels(entry: Entry, *, in_reset: bool, boot0: bool) -> dict[str, bool]:
    """Which lines to assert; one that nothing is wired to is not asserted."""
    asserted = {entry.reset: in_reset is not entry.invert_reset, entry.boot0: boot0 is entry.invert_boot0}
    return {"dtr": asserted.get(Wire.DTR, False), "rts": asserted.get(Wire.RTS, False)}
