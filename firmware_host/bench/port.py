"""One port of the bench, at which one board after another is connected.

Whether a board is there is asked with the byte 0x7F alone: a bootloader that was just reset takes any other byte for a
wrong speed, and ignores everything from then on (AN3155 section 2). A bootloader that was connected before takes two
of them for an unknown command, and answers NACK.

A bootloader that waits in the middle of a frame takes 0x7F for the frame's next byte. Two such bytes complete an erase
of one page that was cut before its page number. 130 such bytes complete an erase or write that was cut before the
count. Therefore, if a session broke off, every poll also completes the frame harmlessly (`FEED`). Otherwise one poll
of 60 without an answer does so, long before the 130th byte. One case remains: a board from elsewhere that waits after
the count of an erase, and is connected here without a reset, loses page 127 if it has one.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import cycle

from blockota.shutdown import Stop
from firmware_host.bench.doctor import Reply, Trial
from firmware_host.bench.session import BoardSession
from firmware_host.bootloader.an3155 import NACK, SYNC
from firmware_host.bootloader.client import FEED, Bootloader
from firmware_host.bootloader.entry import (
    SETTLE_SECONDS,
    BoardLine,
    Wait,
    connect_board,
    listen_to,
    reset_board,
    start_application,
)
from firmware_host.bootloader.identity import identify
from firmware_host.line.link import ControlledLink, open_link

BOOTLOADER = frozenset({Reply.FRESH, Reply.CONNECTED})
"""Replies that only a bootloader gives."""
LISTEN_SECONDS = 2.0
"""How long to listen to a board that was started, at most."""
POLLS_BEFORE_FEED = 60
"""Polls without an answer after which `FEED` is sent; 130 could complete a frame."""


class BoardPort:
    """One open port.

    Args:
        stop: ends waiting, and work between two commands; None never does.

    Attributes:
        line: the speed of the line, and the wiring of reset and BOOT0.
    """

    def __init__(self, link: ControlledLink, line: BoardLine, *, stop: Stop | None = None) -> None:
        self.line = line
        self._link, self._stop = link, stop
        self._wait: Wait = stop.pause if stop else time.sleep
        self._settles: Iterator[float] = cycle(SETTLE_SECONDS)
        self._unanswered = 0

    @property
    def resets(self) -> bool:
        """Whether the board can be reset through the port."""
        return not self.line.wiring.is_by_hand

    def connect(self, *, is_stuck: bool = False) -> BoardSession:
        """Bring the board into its bootloader, and identify it.

        Args:
            is_stuck: whether it may wait in the middle of a frame, as after a cable came off. Where it cannot be
                reset, it is brought back by feeding it bytes, whose risks `FEED` describes.

        Raises:
            BoardError: the board is silent, or its answer does not follow AN3155.
        """
        self._usual_speed()
        bootloader = Bootloader(self._link, before_command=self._stop.check if self._stop else None)
        if is_stuck and not self.resets:
            bootloader.resynchronise()
        connect_board(bootloader, self._link, line=self.line, wait=self._wait)
        return BoardSession(bootloader, identify(bootloader), self._link.notes)

    def poll(self, *, reset: bool, is_stuck: bool = False) -> Reply:
        """Ask once whether a bootloader is there.

        Args:
            reset: reset the board before, if possible, so that one that runs its program is found as well.
            is_stuck: as for `connect`. A board that is reset by hand at that moment ignores everything until it is
                reset again, in one of 20 cases.

        Raises:
            LinkError: the port was lost.
        """
        self._usual_speed()
        is_reset = reset and self.resets
        if is_reset:
            reset_board(self._link, self.line.wiring, boot0=True, wait=self._wait)
            self._wait(next(self._settles))
        unasked = self._link.drain()
        self._link.write(bytes((SYNC,)))
        # An answer that comes late is seen by the next poll.
        reply = Trial(self.line, unasked=b"", first=unasked + self._link.drain()).reply
        self._unanswered = 0 if is_reset or reply in BOOTLOADER else self._unanswered + 1
        if self._unanswered and (is_stuck or self._unanswered % POLLS_BEFORE_FEED == 0):
            self._link.write(FEED)
            return Reply.CONNECTED if NACK in self._link.drain() else reply
        return reply

    def start(self, board: BoardSession, address: int) -> str:
        """Start the board's program, which ends its session: by a reset if a line drives BOOT0, otherwise by Go.

        Returns:
            What the board prints.

        Raises:
            RefusedError: there is no program memory at that address.
            BoardError: the board fell silent before it started, or the port was lost.
        """
        wiring = self.line.wiring
        if not (self.resets and wiring.drives_boot0):
            return start_application(board.bootloader, address, listen=LISTEN_SECONDS)
        board.bootloader.end()
        self._usual_speed()
        reset_board(self._link, wiring, boot0=False, wait=self._wait)
        return listen_to(self._link, seconds=LISTEN_SECONDS)

    def _usual_speed(self) -> None:
        if self._link.baud != self.line.first_baud:
            self._link.set_baud(self.line.first_baud)


@contextmanager
def open_port(line: BoardLine, *, stop: Stop | None = None) -> Iterator[BoardPort]:
    """Open a port, and close it in the end.

    Raises:
        UsageError: the URL or the speed is invalid.
        LinkError: the port does not exist, is busy, or cannot be opened.
    """
    with closing(open_link(line.url, baud=line.first_baud)) as link:
        yield BoardPort(link, line, stop=stop)
