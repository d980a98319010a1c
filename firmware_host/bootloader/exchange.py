"""Carry the commands of AN3155 over a link, one exchange at a time.

Three rules make this safe:

1. Only commands that the bootloader listed in its answer to Get are sent.
2. Each frame waits for the acknowledgement of the one before.
3. After a silence within a frame nothing is sent, because no byte sequence is safe there: the error asks for a reset.
   `Transport.resynchronise` is the one exception, for a flash that is verified afterwards.
"""

from __future__ import annotations

from collections.abc import Callable

from blockota.errors import Action, BoardProtocolError, NoAnswerError, RefusedError
from firmware_host.bootloader import an3155
from firmware_host.bootloader.an3155 import Capabilities, Command, Exchange
from firmware_host.line.link import Link

ANSWER_SECONDS = 0.5
"""How long an answer may take that needs no work, in addition to the time on the wire."""
BITS_PER_BYTE = 11
"""Bits of a byte on the wire: start bit, eight data bits, parity, stop bit (AN3155 section 2)."""
_SYNC_ATTEMPTS = 3
_MAX_SILENCES = 2
_BUSY_LIMIT = 16
_QUOTED = 24
"""Bytes of an unexpected answer that an error quotes."""
_RESET_REMEDY = "set BOOT0 to 1 and reset the board, then run the command again"

FEED = bytes((0x81, *[0x80] * 286))
"""Ends every frame in whose middle a medium-density part may wait, after any number of 0x7F.

- Its page numbers do not exist on such a part.
- Where 0x7F was taken as the number of pages or bytes, the checksum of the frame would have to be that of an even or an
  odd number of 0x7F and 0x80: the 0x81 at the start fits neither.
- It is longer than the longest frame, and its length with the 0x7F before it is even, so that no half command is left.
"""
_FEED_BURST = 16


class Transport:
    """Carries exchanges with the bootloader of one board.

    Args:
        link: an open link; nothing is sent before `connect`.
        before_command: called before each command; it raises an exception to stop the work.
    """

    def __init__(self, link: Link, *, before_command: Callable[[], None] | None = None) -> None:
        self.link, self._before_command = link, before_command
        self._capabilities: Capabilities | None = None

    @property
    def capabilities(self) -> Capabilities:
        """The bootloader's answer to Get.

        Raises:
            RefusedError: the bootloader is not connected.
        """
        if self._capabilities is None:
            raise RefusedError("the bootloader was not asked for its commands", remedy="connect first")
        return self._capabilities

    def connect(self) -> Capabilities:
        """Find the bootloader, whether just reset or connected before, and ask for its commands.

        Raises:
            NoAnswerError: nothing answers.
            BoardProtocolError: something other than a bootloader answers.
            LinkError: the port was lost.
        """
        self._capabilities = None
        self.link.drain()
        self._synchronise()
        self._capabilities = an3155.parse_capabilities(self.counted_answer(an3155.get()))
        return self._capabilities

    def end(self) -> None:
        """Forget the bootloader: the board leaves it, or resets."""
        self._capabilities = None

    def resynchronise(self) -> None:
        """Recover a bootloader that waits in the middle of a frame, for example after the cable came off.

        Call this before `connect`, not after it failed: the second 0x7F of `connect` would complete a frame that was
        cut after its number of pages, and erase page 127. After one 0x7F, which a board that was just reset takes as
        the start, `FEED` is sent until the board answers NACK. It completes none of the frames cut before their data;
        of those cut within their data it completes one in 256. Use this only where the flash is verified afterwards,
        and prefer a reset.

        Raises:
            NoAnswerError: the board stays silent.
            LinkError: the port was lost.
        """
        self.link.write(bytes((an3155.SYNC,)))
        for start in range(0, len(FEED), _FEED_BURST):
            if an3155.NACK in self.link.drain():
                return
            self.link.write(FEED[start : start + _FEED_BURST])
        if an3155.NACK not in self.link.drain():
            raise self._no_bootloader(b"")

    def counted_answer(self, exchange: Exchange) -> bytes:
        """Carry out an exchange whose answer is a count N, then N + 1 bytes, then ACK; return the bytes.

        Raises:
            BoardError: silence, NACK, or another answer.
        """
        self.perform(exchange, seconds=ANSWER_SECONDS)
        count = self.data(exchange, 1)[0] + 1
        payload = self.data(exchange, count)
        if not self._acknowledged(exchange, seconds=ANSWER_SECONDS):
            raise self.refusal(exchange)
        return payload

    def perform(self, exchange: Exchange, *, seconds: float) -> None:
        """Carry out an exchange of which every frame must be acknowledged.

        Args:
            exchange: what to send.
            seconds: how long the last answer may take.

        Raises:
            RefusedError: this bootloader does not have the command; nothing was sent.
            BoardError: silence, NACK, or another answer.
        """
        if self.attempt(exchange, seconds=seconds) is not None:
            raise self.refusal(exchange)
        if exchange.closing_ack and not self._acknowledged(exchange, seconds=seconds):
            raise self.refusal(exchange)

    def attempt(self, exchange: Exchange, *, seconds: float) -> int | None:
        """Send the frames one by one, until one is answered with NACK.

        Returns:
            The index of the frame that was answered with NACK; None if all were acknowledged.

        Raises:
            RefusedError: this bootloader does not have the command; nothing was sent.
            BoardError: silence, or an answer other than ACK and NACK.
        """
        if exchange.command != Command.GET and exchange.command not in self.capabilities.commands:
            raise RefusedError(
                f"{exchange.title} was not sent",
                why=f"this bootloader (version {self.capabilities.version_text}) does not have the command",
            )
        # Work is stopped here and nowhere else, so that the bootloader never waits for the rest of a frame.
        if self._before_command:
            self._before_command()
        last = len(exchange.frames) - 1
        for number, frame in enumerate(exchange.frames):
            self.link.write(frame)
            # Only the last frame starts work, such as an erase.
            allowed = seconds if number == last else ANSWER_SECONDS
            if not self._acknowledged(exchange, seconds=allowed + self._wire_seconds(len(frame))):
                return number
        return None

    def data(self, exchange: Exchange, count: int) -> bytes:
        """Return the next `count` bytes of an exchange's answer.

        Raises:
            BoardError: fewer arrived, or the port was lost.
        """
        return self._read(exchange, count, seconds=ANSWER_SECONDS)

    def refusal(self, exchange: Exchange) -> BoardProtocolError:
        """Return the error for an exchange that was answered with NACK."""
        return BoardProtocolError(
            f"the board on {self.link.name} refused {exchange.title}",
            why="it answered NACK",
            remedy=_RESET_REMEDY,
        )

    def _acknowledged(self, exchange: Exchange, *, seconds: float) -> bool:
        answer = an3155.BUSY
        for _ in range(_BUSY_LIMIT):
            if answer == an3155.BUSY:
                answer = self._read(exchange, 1, seconds=seconds)[0]
        if answer == an3155.ACK:
            return True
        # Some bootloaders send NACK twice under readout protection.
        rest = self.link.drain()
        if answer == an3155.NACK:
            return False
        raise BoardProtocolError(
            f"the board on {self.link.name} answers {exchange.title} with neither ACK nor NACK",
            why=f"its answer was {bytes((answer,)) + rest[:_QUOTED]!r}",
            remedy=f"check the cable and the speed; {_RESET_REMEDY}",
        )

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

    def _synchronise(self) -> None:
        """Send 0x7F until it is answered (AN3155 section 2).

        ======================  ==============================================================================
        Answer to 0x7F          Meaning
        ======================  ==============================================================================
        ACK                     the bootloader has measured the speed
        NACK                    it was connected already, and refuses 0x7F 0x7F as a command
        silence                 it was connected already, and waits for the second byte of a command; or nothing
                                is there: a second silence in a row shows that
        anything else           not a bootloader, or noise before its first answer
        ======================  ==============================================================================
        """
        heard, silences = b"", 0
        for _ in range(_SYNC_ATTEMPTS):
            self.link.write(bytes((an3155.SYNC,)))
            answer = self._sync_answer()
            # Some bootloaders acknowledge twice: drain the line in any case.
            rest = self.link.drain() if answer else b""
            if answer in (bytes((an3155.ACK,)), bytes((an3155.NACK,))):
                return
            heard, silences = heard + answer + rest, silences + (not answer)
            if silences == _MAX_SILENCES:
                break
        raise self._no_bootloader(heard)

    def _sync_answer(self) -> bytes:
        """Return the answer byte, without the one 0x00 that some bootloaders send before it; empty for silence."""
        try:
            answer = self.link.read(1, timeout=ANSWER_SECONDS)
            return answer if any(answer) else self.link.read(1, timeout=ANSWER_SECONDS)
        except NoAnswerError:
            return b""

    def _no_bootloader(self, heard: bytes) -> BoardProtocolError | NoAnswerError:
        if heard:
            return BoardProtocolError(
                f"what answers on {self.link.name} is not an STM32 bootloader",
                why=f"its answer was {heard[:_QUOTED]!r}",
                remedy=f"{_RESET_REMEDY}: its application may be running; also check the speed and even parity",
            )
        return NoAnswerError(
            f"no bootloader answers on {self.link.name}",
            why=f"it stayed silent for {2 * ANSWER_SECONDS:.0f} s",
            remedy="set BOOT0 to 1 and reset the board; then check that TX and RX are crossed, that the grounds are "
            "connected, that the adapter sends even parity, and that no other program uses the line, or diagnose it",
            action=Action.DIAGNOSE_LINE,
        )
