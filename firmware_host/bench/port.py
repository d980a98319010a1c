"""One port of the bench, at which one board after another is connected.

A poll normally sends only the byte 0x7F. After a reset, a bootloader measures the line's speed from the first byte that
it receives. From any byte other than 0x7F, it measures a wrong speed, and then ignores all bytes (AN3155 section 2). A
connected bootloader answers NACK after two bytes 0x7F.

After an interrupted session, a bootloader can wait in the middle of a frame, and then takes each 0x7F for the next byte
of the frame. The polls could therefore complete an erase or a write: two bytes 0x7F are enough if only a page number is
missing, and 130 bytes if the count is missing. After an interrupted session, each poll therefore also sends `FEED`,
which almost always ends the frame with a NACK. Without an interrupted session, only every 60th unanswered poll sends
`FEED`.

One risk remains if another bench was interrupted after the count of an erase, and the board is connected to this port
without a reset. The polls then complete the erase, and the board loses page 127 if its chip has this page.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import cycle

from blockota.shutdown import Stop
from firmware_host.bench.doctor import Reply, Trial
from firmware_host.bench.session import BoardSession
from firmware_host.bootloader.an3155 import NACK, SYNC
from firmware_host.bootloader.client import FEED, Bootloader
from firmware_host.bootloader.entry import (
    FASTEST,
    FIRST_BYTE_SECONDS,
    SETTLE_SECONDS,
    BoardLine,
    StartMethod,
    Wait,
    connect_fastest,
    enter_bootloader,
    listen_to,
    reset_board,
)
from firmware_host.bootloader.identity import identify
from firmware_host.line.link import Link
from firmware_host.line.ports import open_link

BOOTLOADER = frozenset({Reply.FRESH, Reply.CONNECTED})
"""The replies that only a bootloader sends."""
LISTEN_SECONDS = 2.0
"""The maximum time to listen to a board's program after its start, in seconds."""
POLLS_BEFORE_FEED = 60
"""The number of unanswered polls after which `FEED` is sent. It is well below 130, the number of polls that could
complete a frame."""


@dataclass(frozen=True)
class Started:
    """The result of starting a board's program.

    `is_awaited` states whether the bench waited for output of the program. `text` is this output.
    """

    by: StartMethod
    text: str = ""
    is_awaited: bool = True

    @property
    def known(self) -> str:
        """Sentences for the operator: how the program was started, and whether the program is known to run."""
        if self.by is StartMethod.NONE:
            return "The program was not started: the board is still in its bootloader."
        how = "The board was reset to start its program."
        if self.by is StartMethod.GO:
            how = (
                "The bootloader acknowledged the start of the program. The chip was not reset, so its clocks and "
                "peripherals keep the bootloader's settings."
            )

        silence = f" The program sent nothing within {FIRST_BYTE_SECONDS:g} s, so it is not known whether it runs."
        if not self.is_awaited:
            return f"{how} Nothing was written, so the bench did not wait for the program's output."
        return how if self.text else how + silence


class BoardPort:
    """One open port of the bench.

    A request to `stop` interrupts waits immediately, and other work after the current bootloader command.
    """

    def __init__(self, link: Link, line: BoardLine, *, stop: Stop | None = None) -> None:
        self.line = line
        self._link, self._stop = link, stop
        self._wait: Wait = stop.pause if stop else time.sleep
        self._settles: Iterator[float] = cycle(SETTLE_SECONDS)
        self._unanswered = 0

    def connect(self, *, is_stuck: bool = False) -> BoardSession:
        """Start the board's bootloader and identify the board.

        `is_stuck` states that the bootloader may wait in the middle of a frame, for example after an interrupted
        session.
        """
        self._usual_speed()
        bootloader = Bootloader(self._link, before_command=self._stop.check if self._stop else None)
        if is_stuck and self.line.wiring.is_by_hand:
            bootloader.resynchronise()
        connect = connect_fastest if self.line.baud == FASTEST else enter_bootloader
        connect(bootloader, wiring=self.line.wiring, wait=self._wait)
        return BoardSession(bootloader, identify(bootloader), self._link.notes)

    def poll(self, *, reset: bool, is_stuck: bool = False) -> Reply:
        """Send 0x7F once, and return the kind of the answer.

        With `reset`, reset the board first if the wiring allows it. `is_stuck` has the same meaning as for `connect`.
        If the operator resets the board during polls with `is_stuck`, about one reset in 20 fails and must be repeated.
        """
        self._usual_speed()
        is_reset = reset and not self.line.wiring.is_by_hand
        if is_reset:
            reset_board(self._link, self.line.wiring, boot0=True, wait=self._wait)
            self._wait(next(self._settles))
        unasked = self._link.drain()
        self._link.write(bytes((SYNC,)))
        # The next poll reads an answer that arrives late.
        reply = Trial(self.line, unasked=b"", first=unasked + self._link.drain()).reply
        self._unanswered = 0 if is_reset or reply in BOOTLOADER else self._unanswered + 1
        if self._unanswered and (is_stuck or self._unanswered % POLLS_BEFORE_FEED == 0):
            self._link.write(FEED)
            return Reply.CONNECTED if NACK in self._link.drain() else reply
        return reply

    def start(self, board: BoardSession, address: int, *, listen: bool = True) -> Started:
        """Start the board's program as `BoardLine.start` specifies.

        The bootloader session ends, except with `StartMethod.NONE`, which does not start the program.
        """
        if self.line.start is StartMethod.NONE:
            return Started(StartMethod.NONE)
        if self.line.starts_by_reset:
            board.bootloader.end()
            self._usual_speed()
            reset_board(self._link, self.line.wiring, boot0=False, wait=self._wait)
        else:
            board.bootloader.go(address)
        text = listen_to(self._link, seconds=LISTEN_SECONDS if listen else 0.0)
        return Started(StartMethod.RESET if self.line.starts_by_reset else StartMethod.GO, text, listen)

    def _usual_speed(self) -> None:
        if self._link.baud != self.line.first_baud:
            self._link.set_baud(self.line.first_baud)


@contextmanager
def open_port(line: BoardLine, *, stop: Stop | None = None) -> Iterator[BoardPort]:
    """Open a port, as `open_link` does, and close it at the end of the ``with`` block."""
    with closing(open_link(line.url, baud=line.first_baud, mode=line.mode)) as link:
        yield BoardPort(link, line, stop=stop)
