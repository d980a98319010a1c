"""A conversation with an STM32's bootloader over any link (ST application note AN3155).

Three habits make it safe. Only commands that the bootloader named in answer to Get are sent. Addresses are
checked here before a byte goes out, because bootloaders before 3.1 do not refuse a wrong address: they take
the next two bytes for a command (AN3155 table 3). And nothing is done about a silence: no pattern of bytes
is safe to send into the middle of a frame, so the person is told to reset the board.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from blockota.errors import BoardProtocolError, NoAnswerError, RefusedError
from firmware_host import an3155
from firmware_host.an3155 import Capabilities, Command, Exchange
from firmware_host.chips import Chip
from firmware_host.link import Link

ANSWER_SECONDS = 0.5
"""How long a board that need not work may take to answer, beside the time on the wire."""
WRITE_SECONDS = 1.0
"""How long a board may take to program one block: a hundred times the data sheet's 9 ms."""
ERASE_MARGIN = 4
"""How many times the data sheet's longest erase time is waited for."""
BITS_PER_BYTE = 11
"""Bits that a byte takes on the wire: start, eight, parity, stop (AN3155 section 2)."""

_SYNC_ATTEMPTS = 3
_BUSY_LIMIT = 16
_RESET_REMEDY = "set BOOT0 to 1 and reset the board, then run the command again"
_SILENT_REMEDY = (
    "set BOOT0 to 1 and reset the board; then check that TX and RX are crossed, that the grounds are joined, "
    "that the adapter sends even parity, and that no other program holds the line"
)


@dataclass(frozen=True)
class _Target:
    """The chip that answers, and its flash size in bytes, 0 while it is not known."""

    chip: Chip
    flash_size: int


class Bootloader:
    """The commands of one board's bootloader.

    Call `connect` first, then `target` once the chip is known; until then no address is sent.

    Attributes:
        link: what moves the bytes.
    """

    def __init__(self, link: Link) -> None:
        """Use a link that is open already; nothing is sent yet."""
        self.link = link
        self._capabilities: Capabilities | None = None
        self._target: _Target | None = None

    @property
    def capabilities(self) -> Capabilities:
        """What the bootloader said of itself.

        Raises:
            RefusedError: it was not asked yet.
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
        self._capabilities = self._target = None
        self.link.drain()
        self._synchronise()
        self._capabilities = an3155.parse_capabilities(self._counted_answer(an3155.get()))
        return self._capabilities

    def product_id(self) -> int:
        """Ask which family of chips the board has.

        Raises:
            BoardError: silence, or an answer that AN3155 does not know.
        """
        return an3155.parse_product_id(self._counted_answer(an3155.get_id()))

    def target(self, chip: Chip, *, flash_size: int = 0) -> None:
        """Say which chip answers, so that addresses can be checked.

        Args:
            chip: its row in the table.
            flash_size: in bytes; while it is 0 the flash is out of bounds.
        """
        self._target = _Target(chip, flash_size)

    def read(self, address: int, length: int) -> bytes:
        """Read 1 to 256 bytes.

        Raises:
            RefusedError: the chip has no memory there that may be read; nothing was sent.
            BoardError: silence, or a refusal.
        """
        exchange = an3155.read_memory(address, length)
        chip, flash_size = self._known_target()
        self._check_span(exchange, length=length, spans=chip.readable(flash_size))
        self._perform(exchange, seconds=ANSWER_SECONDS)
        return self._data(exchange, length)

    def write(self, address: int, data: bytes) -> None:
        """Write up to 256 bytes, aligned as the chip asks for.

        An acknowledgement proves nothing: protected and unerased pages are acknowledged as well.

        Raises:
            RefusedError: the chip has no memory there that may be written; nothing was sent.
            BoardError: silence, or a refusal.
        """
        exchange = an3155.write_memory(address, data)
        chip, flash_size = self._known_target()
        self._check_span(exchange, length=len(data), spans=chip.writable(flash_size))
        if address % chip.write_alignment or len(data) % chip.write_alignment:
            raise RefusedError(
                f"{exchange.title} was not sent",
                why=f"{chip.name} is written in multiples of {chip.write_alignment} bytes",
            )
        self._perform(exchange, seconds=WRITE_SECONDS)

    def erase_pages(self, pages: Sequence[int]) -> None:
        """Erase pages or sectors by number, in as many commands as the chip's limit asks for.

        Raises:
            RefusedError: the chip has no such page; nothing was sent.
            BoardError: silence, or a refusal.
        """
        chip, flash_size = self._known_target()
        known = len(chip.erase_units(flash_size))
        if wrong := [page for page in pages if not 0 <= page < known]:
            raise RefusedError("erase was not sent", why=f"there is no page {wrong[0]}; the last is {known - 1}")
        extended = Command.EXTENDED_ERASE in self.capabilities.commands
        limit = chip.erase_limit if extended else min(chip.erase_limit, an3155.MAX_ERASE_PAGES)
        for start in range(0, len(pages), limit):
            part = pages[start : start + limit]
            exchange = an3155.extended_erase(part) if extended else an3155.erase(part)
            seconds = ANSWER_SECONDS + ERASE_MARGIN * chip.unit_erase_seconds * len(part)
            self._perform(exchange, seconds=seconds)

    def go(self, address: int) -> None:
        """Start the program whose vector table is at an address; the conversation ends with it.

        Raises:
            RefusedError: no program can be there; nothing was sent.
            BoardError: silence, or a refusal.
        """
        exchange = an3155.go(address)
        chip, flash_size = self._known_target()
        self._check_span(exchange, length=8, spans=chip.writable(flash_size))
        self._perform(exchange, seconds=ANSWER_SECONDS)
        self._capabilities = None

    def readout_protected(self) -> bool:
        """Whether the flash is protected from being read: the board then refuses Read Memory itself.

        Raises:
            BoardError: silence, or a refusal for another reason.
        """
        chip, _ = self._known_target()
        exchange = an3155.read_memory(chip.identity.span.start, len(chip.identity.span))
        refused_frame = self._attempt(exchange, seconds=ANSWER_SECONDS)
        if refused_frame is None:
            self._data(exchange, len(chip.identity.span))
        elif refused_frame > 0:
            raise self._refusal(exchange)
        return refused_frame == 0

    def write_protected_pages(self) -> tuple[int, ...] | None:
        """The numbers of the pages that are protected from writing, or None where this cannot be told.

        Raises:
            BoardError: silence, or a refusal.
        """
        chip, flash_size = self._known_target()
        option_bytes = self.read(chip.option_bytes.start, len(chip.option_bytes))
        return chip.write_protected_units(option_bytes, flash_size)

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

    def _known_target(self) -> tuple[Chip, int]:
        if self._target is None:
            raise RefusedError("the chip is not known yet, so no address can be checked")
        return self._target.chip, self._target.flash_size

    def _check_span(self, exchange: Exchange, *, length: int, spans: Sequence[range]) -> None:
        first = exchange.address or 0
        if not any(first in span and first + length - 1 in span for span in spans):
            known = ", ".join(f"{span.start:#010x}-{span.stop - 1:#010x}" for span in spans if span)
            raise RefusedError(f"{exchange.title} was not sent", why=f"{length} bytes there are not all within {known}")

    def _counted_answer(self, exchange: Exchange) -> bytes:
        self._perform(exchange, seconds=ANSWER_SECONDS)
        count = self._data(exchange, 1)[0] + 1
        payload = self._data(exchange, count)
        if not self._acknowledged(exchange, seconds=ANSWER_SECONDS):
            raise self._refusal(exchange)
        return payload

    def _perform(self, exchange: Exchange, *, seconds: float) -> None:
        if self._attempt(exchange, seconds=seconds) is not None:
            raise self._refusal(exchange)

    def _attempt(self, exchange: Exchange, *, seconds: float) -> int | None:
        """Send the frames one by one; return the number of the one that the board refused, if any."""
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

    def _data(self, exchange: Exchange, count: int) -> bytes:
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

    def _refusal(self, exchange: Exchange) -> BoardProtocolError:
        return BoardProtocolError(
            f"the board on {self.link.name} refused {exchange.title}",
            why="it answered NACK",
            remedy=_RESET_REMEDY,
        )
