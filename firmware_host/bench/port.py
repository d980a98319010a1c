"""A place at the bench: one port, where one board after another is put.

Whether a board is there is asked with the byte 0x7F alone: a bootloader that was just reset takes any other byte for a
wrong speed, and is deaf from then on (AN3155 section 2). One in conversation already takes two of them for a command
that there is not, and refuses it.

One that waits in the middle of a frame takes it for that frame's next byte. Two of them complete the erase of one page
that was cut behind its number of pages, and 130 an erase or a write that was cut before the number. Therefore, where a
conversation broke off, each look goes on to end the frame (`FEED`), and any look does so long before the 130th. What is
left is a board that waits behind the number of an erase, and of which nobody here knows: put in by hand and not reset,
it loses page 127 if it has one.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import cycle

from firmware_host.bench.doctor import Reply, Trial
from firmware_host.bench.session import Bench
from firmware_host.bootloader import application
from firmware_host.bootloader.an3155 import NACK, SYNC
from firmware_host.bootloader.client import Bootloader
from firmware_host.bootloader.entry import (
    FASTEST,
    SETTLE_SECONDS,
    BoardLine,
    Wait,
    connect_fastest,
    enter_bootloader,
    reset_board,
)
from firmware_host.bootloader.exchange import FEED
from firmware_host.bootloader.identity import identify
from firmware_host.line.link import ControlledLink

BOOTLOADER = frozenset({Reply.FRESH, Reply.IN_CONVERSATION})
"""Replies that only a bootloader gives."""
LISTEN_SECONDS = 2.0
"""How long a started board is listened to at most."""
LOOKS_BEFORE_FEED = 60
"""Looks without an answer after which a frame is ended in whose middle a board may wait; 130 could complete one."""


class Seat:
    """One port that is open.

    Args:
        link: to it.
        line: how the boards there are reached.
        wait: lets time pass.
    """

    def __init__(self, link: ControlledLink, line: BoardLine, *, wait: Wait = time.sleep) -> None:
        """Nothing is sent yet."""
        self._link, self._line, self._wait = link, line, wait
        self._settles: Iterator[float] = cycle(SETTLE_SECONDS)
        self._unanswered = 0

    @property
    def resets(self) -> bool:
        """Whether the board can be reset from here."""
        return not self._line.wiring.is_by_hand

    def meet(self, *, is_stuck: bool = False) -> Bench:
        """Bring the board into its bootloader, and ask it what it is.

        Args:
            is_stuck: whether it may wait in the middle of a frame, as after a cable that came off; where it cannot
                be reset, it is brought back by `Transport.resynchronise`, whose dangers are named there.

        Raises:
            BoardError: no answer, or one that is not AN3155's.
        """
        self._usual_speed()
        bootloader = Bootloader(self._link)
        if is_stuck and not self.resets:
            bootloader.transport.resynchronise()
        if self._line.baud == FASTEST:
            connect_fastest(bootloader, self._link, wiring=self._line.wiring, wait=self._wait)
        else:
            enter_bootloader(bootloader, self._link, wiring=self._line.wiring, wait=self._wait)
        return Bench(bootloader, identify(bootloader), self._link.notes)

    def look(self, *, reset: bool, is_stuck: bool = False) -> Reply:
        """Look once whether a bootloader is there.

        Args:
            reset: reset the board before, where that can be done: then also one that runs its program is found.
            is_stuck: as for `meet`; a board that is reset by hand just then stays deaf in one of 20 cases until it
                is reset again.

        Raises:
            LinkError: the port was lost.
        """
        self._usual_speed()
        is_reset = reset and self.resets
        if is_reset:
            reset_board(self._link, self._line.wiring, boot0=True, wait=self._wait)
            self._wait(next(self._settles))
        unasked = self._link.drain()
        self._link.write(bytes((SYNC,)))
        # What comes late is found by the next look.
        reply = Trial(self._line, unasked=b"", first=unasked + self._link.drain()).reply
        self._unanswered = 0 if is_reset or reply in BOOTLOADER else self._unanswered + 1
        if self._unanswered and (is_stuck or self._unanswered % LOOKS_BEFORE_FEED == 0):
            self._link.write(FEED)
            return Reply.IN_CONVERSATION if NACK in self._link.drain() else reply
        return reply

    def start(self, bench: Bench, address: int) -> str:
        """Start what the board holds, by a reset where BOOT0 is driven from here, otherwise by Go.

        Args:
            bench: the board; its conversation ends.
            address: of the program's vector table.

        Returns:
            What the board prints.

        Raises:
            RefusedError: there is no program memory at that address.
            BoardError: the board fell silent before it started, or the port was lost.
        """
        wiring = self._line.wiring
        if not (self.resets and wiring.drives_boot0):
            return application.start(bench.bootloader, address, listen=LISTEN_SECONDS)
        bench.bootloader.transport.end()
        self._usual_speed()
        reset_board(self._link, wiring, boot0=False, wait=self._wait)
        return application.listen_to(self._link, seconds=LISTEN_SECONDS)

    def _usual_speed(self) -> None:
        if self._link.baud != self._line.first_baud:
            self._link.set_baud(self._line.first_baud)
