"""One conversation with an STM32's bootloader: waking it, and carrying exchanges over a link (ST's AN3155).

Three habits make it safe. Only commands that the bootloader named in answer to Get are sent. An acknowledgement is
waited for before the next frame goes out. And nothing is done by itself about a silence in the middle of a frame,
because no pattern of bytes is safe to send there: the person is told to reset the board.
"""

from __future__ import annotations

from blockota.errors import BoardProtocolError, NoAnswerError, RefusedError
from firmware_host.bootloader import an3155
from firmware_host.bootloader.an3155 import Capabilities, Command, Exchange
from firmware_host.line.link import Link

ANSWER_SECONDS = 0.5
"""How long a board that need not work may take to answer, beside the time on the wire."""
BITS_PER_BYTE = 11
"""Bits that a byte takes on the wire: start, eight, parity, stop (AN3155 section 2)."""

_SYNC_ATTEMPTS = 3
_BUSY_LIMIT = 16
_RESET_REMEDY = "set BOOT0 to 1 and reset the board, then run the command again"
_SILENT_REMEDY = (
    "set BOOT0 to 1 and reset the board; then check that TX and RX are crossed, that the grounds are joined, "
    "that the adapter sends even parity, and that no other program holds the line; "
    "`blockota board doctor` looks into all of this"
)
_FEED_BURST = 16


FEED = bytes((0x81, *[0x80] * 286))
"""What ends any frame in whose middle a medium-density part may wait, whatever number of 0x7F it took before.

Its numbers of pages are none that such a part has. Where 0x7F was taken for the number of pages or of bytes, the
checksum would have to be that of an even number of 0x7F and 0x80, or of an odd one: 0x81 at the head fits neither. It
is longer than the longest frame, and with the 0x7F before it even, so that no half command is left.
"""


class Transport:
    """Exchanges with one board's bootloader, one after the other.

    Attributes:
        link: what moves the bytes.
    """

    def __init__(self, link: Link) -> None:
        """Use a link that is open already; nothing is sent yet."""
        self.link = link
        self._capabilities: Capabilities | None = None

    @property
    def capabilities(self) -> Capabilities:
        """What the bootloader said of itself.

        Raises:
            RefusedError: it was not asked yet, or the conversation has ended since.
        """
        if self._capabilities is None:
            raise RefusedError("the bootloader was not asked yet what it can do", remedy="connect first")
        return self._capabilities

    def connect(self) -> Capabilities:
        """Find the bootloader, freshly reset or in conversation already, and ask what it can do.

        Raises:
            NoAnswerError: nothing answers.
            BoardProtocolError: something answers that is no bootloader.
            LinkError: the port was lost.
        """
        self._capabilities = None
        self.link.drain()
        self._synchronise()
        self._capabilities = an3155.parse_capabilities(self.counted_answer(an3155.get()))
        return self._capabilities

    def end(self) -> None:
        """Forget the board: it has left its bootloader, or resets."""
        self._capabilities = None

    def resynchronise(self) -> None:
        """Bring a bootloader back that waits in the middle of a frame, as after a cable that came off.

        Call it before `connect`, not when that has failed: its second 0x7F would complete a frame that erases page
        127 where one was cut behind the number of its pages. After one 0x7F, which a fresh board takes for the
        ordinary beginning, `FEED` is fed until the board refuses; it completes none of their frames from its start.
        Of frames that were cut within their data one in 256 is completed: this is only for a flash that is proven
        afterwards, and a reset is always better.

        Raises:
            NoAnswerError: the board stays silent.
            LinkError: the port was lost.
        """
        self.link.write(bytes((an3155.SYNC,)))
        for start in range(0, len(FEED), _FEED_BURST):
            if an3155.NACK in self.link.drain():
                return
            self.link.write(FEED[start : start + _FEED_BURST])
        if an3155.NACK in self.link.drain():
            return
        raise self._no_bootloader(b"")

    def counted_answer(self, exchange: Exchange) -> bytes:
        """Carry out an exchange that is answered by a count, so many bytes and one more, and ACK.

        Raises:
            BoardError: silence, a refusal, or another answer.
        """
        self.perform(exchange, seconds=ANSWER_SECONDS)
        count = self.data(exchange, 1)[0] + 1
        payload = self.data(exchange, count)
        if not self._acknowledged(exchange, seconds=ANSWER_SECONDS):
            raise self.refusal(exchange)
        return payload

    def perform(self, exchange: Exchange, *, seconds: float) -> None:
        """Carry out an exchange that must be acknowledged to the end.

        Args:
            exchange: what to send.
            seconds: how long the board may take for its last answer.

        Raises:
            RefusedError: this bootloader does not have the command; nothing was sent.
            BoardError: silence, a refusal, or another answer.
        """
        if self.attempt(exchange, seconds=seconds) is not None:
            raise self.refusal(exchange)
        if exchange.closing_ack and not self._acknowledged(exchange, seconds=seconds):
            raise self.refusal(exchange)

    def attempt(self, exchange: Exchange, *, seconds: float) -> int | None:
        """Send the frames one by one.

        Returns:
            The number of the frame that the board refused, or None.

        Raises:
            RefusedError: this bootloader does not have the command; nothing was sent.
            BoardError: silence, or an answer that is neither ACK nor NACK.
        """
        if exchange.command != Command.GET and exchange.command not in self.capabilities.commands:
            raise RefusedError(
                f"{exchange.title} was not sent",
                why=f"this bootloader (version {self.capabilities.version_text}) does not have the command",
            )
        for number, frame in enumerate(exchange.frames):
            self.link.write(frame)
            last = number == len(exchange.frames) - 1
            patience = (seconds if last else ANSWER_SECONDS) + self._wire_seconds(len(frame))
            if not self._acknowledged(exchange, seconds=patience):
                return number
        return None

    def _acknowledged(self, exchange: Exchange, *, seconds: float) -> bool:
        """Wait for ACK or NACK; after a NACK drain the line, because some boards send two."""
        answer = an3155.BUSY
        for _ in range(_BUSY_LIMIT):
            if answer == an3155.BUSY:
                answer = self._read(exchange, 1, seconds=seconds)[0]
        if answer == an3155.ACK:
            return True
        rest = self.link.drain()
        if answer == an3155.NACK:
            return False
        raise BoardProtocolError(
            f"the board on {self.link.name} answers {exchange.title} with neither ACK nor NACK",
            why=f"it said {bytes((answer,)) + rest[:24]!r}",
            remedy=f"check the cable and the speed; {_RESET_REMEDY}",
        )

    def data(self, exchange: Exchange, count: int) -> bytes:
        """Wait for the bytes that an exchange brings.

        Raises:
            BoardError: fewer came, or the port was lost.
        """
        return self._read(exchange, count, seconds=ANSWER_SECONDS)

    def _read(self, exchange: Exchange, count: int, *, seconds: float) -> bytes:
        try:
            return self.link.read(count, timeout=seconds + self._wire_seconds(count))
        except NoAnswerError as error:
            raise NoAnswerError(
                f"the board on {self.link.name} fell silent in {exchange.title}",
                why=error.why,
                remedy=_RESET_REMEDY,
            ) from error

    def _wire_seconds(self, count: int) -> float:
        return count * BITS_PER_BYTE / self.link.baud

    def refusal(self, exchange: Exchange) -> BoardProtocolError:
        """The error for an exchange that the board answered with NACK."""
        return BoardProtocolError(
            f"the board on {self.link.name} refused {exchange.title}",
            why="it answered NACK",
            remedy=_RESET_REMEDY,
        )

    def _synchronise(self) -> None:
        heard, silences = b"", 0
        for _ in range(_SYNC_ATTEMPTS):
            self.link.write(bytes((an3155.SYNC,)))
            answer = self._sync_answer()
            # Some boards acknowledge twice: the line is drained after the answer, whatever it was.
            rest = self.link.drain() if answer else b""
            if answer in (bytes((an3155.ACK,)), bytes((an3155.NACK,))):
                return
            heard, silences = heard + answer + rest, silences + (not answer)
            if silences > 1:
                break
        raise self._no_bootloader(heard)

    def _sync_answer(self) -> bytes:
        """The byte that answers, after one 0x00 that some boards put before it; empty for silence.

        A board in conversation already takes 0x7F for half a command: it is silent at first, and refuses
        the second 0x7F, which shows that it is alive.
        """
        try:
            answer = self.link.read(1, timeout=ANSWER_SECONDS)
            return answer if any(answer) else self.link.read(1, timeout=ANSWER_SECONDS)
        except NoAnswerError:
            return b""

    def _no_bootloader(self, heard: bytes) -> BoardProtocolError | NoAnswerError:
        if heard:
            return BoardProtocolError(
                f"what answers on {self.link.name} is no STM32 bootloader",
                why=f"it said {heard[:24]!r}",
                remedy=f"{_RESET_REMEDY}: perhaps its application runs; check the speed and even parity too",
            )
        return NoAnswerError(
            f"no bootloader answers on {self.link.name}",
            why=f"it stayed silent for {2 * ANSWER_SECONDS:.0f} s",
            remedy=_SILENT_REMEDY,
        )
