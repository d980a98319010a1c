"""The client of an STM32 bootloader.

The client reads, writes and erases memory, and starts programs (AN3155).

Example:
    bootloader = Bootloader(open_link("/dev/ttyUSB0"))
    bootloader.connect()
    identity = identify(bootloader)  # sets the target
    first_block = bootloader.read(0x0800_0000, 256)

The client follows four safety rules:

1. The client sends only commands that the bootloader listed in its answer to Get.
2. The client checks addresses before it sends a command. A bootloader before version 3.1 does not refuse a wrong
   address, but interprets the next two bytes as a command (AN3155 table 3).
3. The client sends a frame only after the previous frame was acknowledged.
4. If the board stops answering within a frame, the client does not send any further byte, because the board could take
   it for the rest of the frame. The client raises an error that asks the operator to reset the board. Only
   `Bootloader.resynchronise` sends bytes to a board that may be within a frame.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from blockota.errors import Action, BoardProtocolError, NoAnswerError, RefusedError
from firmware_host.bootloader import an3155
from firmware_host.bootloader.an3155 import Capabilities, Command, Exchange
from firmware_host.bootloader.chips import BoardMark, Chip
from firmware_host.line.link import BITS_PER_BYTE, Link

ANSWER_SECONDS = 0.5
"""The maximum delay of an answer if the command needs no work on the chip. The transmission time is not included."""
WRITE_SECONDS = 1.0
"""The maximum time to program one block. It is a hundred times the data sheet's 9 ms."""
ERASE_MARGIN = 4
"""An erase may take this many times the data sheet's maximum."""
PAGE_ERASE_SECONDS, MASS_ERASE_SECONDS = 5.0, 35.0
"""The shortest waits for the erase of one page and of the whole flash. Both values are from stm32flash 0.7."""
_SYNC_ATTEMPTS = 3
_MAX_SILENCES = 2
_BUSY_LIMIT = 16
_QUOTED = 16
"""The number of bytes of an unexpected answer that an error quotes."""
_RESET_REMEDY = "set BOOT0 to 1 and reset the board, then run the command again"

FEED = bytes((0x81, *[0x80] * 286))
"""Bytes that end any incomplete frame on a medium-density STM32F10x, after any number of 0x7F.

- A medium-density chip has no pages with the numbers 0x80 and 0x81.
- If the bootloader used a 0x7F as the count of pages or bytes, the 0x81 at the start makes the frame's checksum wrong.
- `FEED` is longer than the longest frame. The length of `FEED` and one 0x7F together is even, so that no half command
  remains.
"""
_FEED_BURST = 16


class CommandRefusedError(BoardProtocolError):
    """The bootloader answered NACK, and did not carry out the command."""


class Bootloader:
    """The commands of one board's bootloader.

    Call `connect` first, and `target` when the chip is known. Commands with an address need the target. A command
    raises RefusedError and sends nothing if the bootloader lacks the command, or the chip lacks the page or memory. A
    command raises BoardError if the board is silent, the board answers NACK, or the port was lost. `before_command` may
    raise an exception to stop the work.

    Attributes:
        mark: the values that identify the board, such as its unique id; None before the identification, or if the
            board's flash cannot be read.
    """

    def __init__(self, link: Link, *, before_command: Callable[[], None] | None = None) -> None:
        self.link, self._before_command = link, before_command
        self.mark: BoardMark | None = None
        self._capabilities: Capabilities | None = None
        self._target: tuple[Chip, int] | None = None

    @property
    def capabilities(self) -> Capabilities:
        """The answer to Get of the connected bootloader."""
        if self._capabilities is None:
            raise RefusedError("the bootloader is not connected, so its commands are unknown", remedy="connect first")
        return self._capabilities

    def connect(self) -> Capabilities:
        """Connect to the bootloader and get its commands.

        The bootloader may have just been reset, or may already be connected. A silent board raises NoAnswerError. An
        answer that does not come from a bootloader raises BoardProtocolError.
        """
        self._target = self._capabilities = None
        self.link.drain()
        self._synchronise()
        self._capabilities = an3155.parse_capabilities(self._counted_answer(an3155.bare(Command.GET)))
        return self._capabilities

    def end(self) -> None:
        """Mark the connection as ended, because the board leaves the bootloader or resets."""
        self._capabilities = None

    def resynchronise(self) -> None:
        """Recover a bootloader that waits in the middle of a frame, for example after the cable was unplugged.

        Call this method before `connect`, because the second 0x7F of `connect` could complete an interrupted erase
        frame, and erase page 127. The method sends one 0x7F, which starts a bootloader that was just reset. Then it
        sends `FEED` until the board answers NACK. A frame that was interrupted before its data always ends with a NACK.
        A frame that was interrupted within its data is completed by chance in one of 256 cases. The flash must
        therefore be verified afterwards. A reset is safer.
        """
        self.link.write(bytes((an3155.SYNC,)))
        for start in range(0, len(FEED), _FEED_BURST):
            if an3155.NACK in self.link.drain():
                return
            self.link.write(FEED[start : start + _FEED_BURST])
        if an3155.NACK not in self.link.drain():
            raise self._no_bootloader(b"")

    def require_flashing(self) -> None:
        """Require that the bootloader has commands to read, write and erase."""
        commands = self.capabilities.commands
        erasers = {Command.ERASE, Command.EXTENDED_ERASE}
        if not {Command.READ_MEMORY, Command.WRITE_MEMORY} <= commands or not erasers & commands:
            raise RefusedError(
                "the bootloader did not list the commands that flashing needs",
                why=f"it listed {', '.join(f'{code:02x}' for code in sorted(commands))}; nothing was changed",
                remedy="run the command again, because noise on the line can change the list of commands; or use a "
                "board whose bootloader can read, write and erase",
            )

    def target(self, chip: Chip, *, flash_size: int = 0) -> None:
        """Set the chip whose memories limit the allowed addresses.

        A `flash_size` of 0 forbids all flash addresses.
        """
        self._target = chip, flash_size

    def product_id(self) -> int:
        """Read the chip's product id with the command Get ID."""
        return an3155.parse_product_id(self._counted_answer(an3155.bare(Command.GET_ID)))

    def read(self, address: int, length: int) -> bytes:
        """Read 1 to 256 bytes."""
        data = self.read_unless_protected(address, length)
        if data is None:
            raise self._refusal(an3155.read_memory(address, length))
        return data

    def read_unless_protected(self, address: int, length: int) -> bytes | None:
        """Read 1 to 256 bytes.

        Returns None if readout protection is on. The bootloader then refuses the command before it receives the
        address.
        """
        exchange = an3155.read_memory(address, length)
        self._require_memory(exchange, length=length, is_read=True)
        refused_frame = self._attempt(exchange, seconds=ANSWER_SECONDS)
        if refused_frame:
            raise self._refusal(exchange)
        return None if refused_frame == 0 else self._read(exchange, length)

    def write(self, address: int, data: bytes) -> None:
        """Write up to 256 bytes, aligned as the chip requires.

        The bootloader also acknowledges a write to a protected page, although the page does not change.
        """
        exchange = an3155.write_memory(address, data)
        chip = self._require_memory(exchange, length=len(data))
        if address % chip.write_alignment or len(data) % chip.write_alignment:
            raise RefusedError(
                f"{exchange.title} was not sent",
                why=f"{chip.name} is written in multiples of {chip.write_alignment} bytes",
            )
        self.perform(exchange, seconds=WRITE_SECONDS)

    def erase_pages(self, pages: Sequence[int]) -> None:
        """Erase pages or sectors by number, with several commands if the chip's limit requires it."""
        chip, flash_size = self._known_target()
        if chip.is_erased_whole and list(pages) == [0]:
            self.erase_all()
            return

        units = chip.erase_units(flash_size)
        known = {unit.number for unit in units} | {unit.other_number or unit.number for unit in units}
        if wrong := [page for page in pages if page not in known]:
            why = f"page {wrong[0]} does not exist; the last page is {max(known)}"
            raise RefusedError("erase was not sent", why=why)

        command = self._erase_command()
        limit = min(chip.erase_limit, an3155.ERASE_LIMITS[command])
        for start in range(0, len(pages), limit):
            part = pages[start : start + limit]
            seconds = max(ERASE_MARGIN * chip.unit_erase_seconds, PAGE_ERASE_SECONDS) * len(part)
            self.perform(an3155.erase(command, part), seconds=ANSWER_SECONDS + seconds)

    def erase_all(self) -> None:
        """Erase the whole flash with one command."""
        chip, _ = self._known_target()
        if not chip.mass_erase_seconds:
            raise RefusedError("erase was not sent", why=f"{chip.name} has no mass erase")
        seconds = max(ERASE_MARGIN * chip.mass_erase_seconds, MASS_ERASE_SECONDS)
        self.perform(an3155.erase_all(self._erase_command()), seconds=ANSWER_SECONDS + seconds)

    def _erase_command(self) -> Command:
        """The erase command of the bootloader.

        A bootloader has either Erase or Extended Erase, never both commands (AN3155 table 2).
        """
        has_extended = Command.EXTENDED_ERASE in self.capabilities.commands
        return Command.EXTENDED_ERASE if has_extended else Command.ERASE

    def go(self, address: int) -> None:
        """Start the program whose vector table is at `address`.

        The connection to the bootloader ends.
        """
        exchange = an3155.go(address)
        # The bootloader reads stack pointer and reset vector, eight bytes (AN3155 section 3.5).
        self._require_memory(exchange, length=8)
        self.perform(exchange, seconds=ANSWER_SECONDS)
        self.end()

    def write_protected_pages(self) -> tuple[int, ...] | None:
        """Return the numbers of the write-protected pages; None if the chip table does not describe the protection."""
        chip, flash_size = self._known_target()
        if not chip.protected_bytes:
            return None
        return chip.write_protected_units(self.read(chip.option_bytes.start, len(chip.option_bytes)), flash_size)

    def _counted_answer(self, exchange: Exchange) -> bytes:
        """Perform an exchange whose answer is a count N, N + 1 bytes, and ACK.

        Returns the N + 1 bytes.
        """
        self.perform(exchange, seconds=ANSWER_SECONDS)
        count = self._read(exchange, 1)[0] + 1
        payload = self._read(exchange, count)
        if not self._acknowledged(exchange, seconds=ANSWER_SECONDS):
            raise self._refusal(exchange)
        return payload

    def perform(self, exchange: Exchange, *, seconds: float) -> None:
        """Perform an exchange, and require an ACK for every frame.

        The last ACK may take up to `seconds` seconds.
        """
        is_refused = self._attempt(exchange, seconds=seconds) is not None
        if is_refused or (exchange.closing_ack and not self._acknowledged(exchange, seconds=seconds)):
            raise self._refusal(exchange)

    def _attempt(self, exchange: Exchange, *, seconds: float) -> int | None:
        """Send the frames of an exchange until the board refuses a frame.

        Returns the index of the refused frame, or None if the board acknowledged all frames.
        """
        if exchange.command != Command.GET and exchange.command not in self.capabilities.commands:
            raise RefusedError(
                f"{exchange.title} was not sent",
                why=f"this bootloader (version {self.capabilities.version_text}) did not list the command",
            )
        # A request to stop takes effect only here, so that the bootloader never waits for the rest of a frame.
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

    def _refusal(self, exchange: Exchange) -> CommandRefusedError:
        return CommandRefusedError(
            f"the board on {self.link.name} refused {exchange.title}", why="it answered NACK", remedy=_RESET_REMEDY
        )

    def _known_target(self) -> tuple[Chip, int]:
        if self._target is None:
            raise RefusedError("the chip is not identified yet, so no address can be checked")
        return self._target

    def _require_memory(self, exchange: Exchange, *, length: int, is_read: bool = False) -> Chip:
        """Require that a command's addresses lie in memory for which the bootloader accepts the command."""
        chip, flash_size = self._known_target()
        first, spans = exchange.address or 0, chip.readable(flash_size) if is_read else chip.writable(flash_size)
        if not any(first in span and first + length - 1 in span for span in spans):
            known = ", ".join(f"{span.start:#010x}-{span.stop - 1:#010x}" for span in spans if span)
            why = f"its {length} bytes do not all lie within {known}"
            raise RefusedError(f"{exchange.title} was not sent", why=why)
        return chip

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
            why=f"its answer was {(bytes((answer,)) + rest)[:_QUOTED]!r}",
            remedy=f"check the cable and the speed; {_RESET_REMEDY}",
        )

    def _read(self, exchange: Exchange, count: int, *, seconds: float = ANSWER_SECONDS) -> bytes:
        try:
            return self.link.read(count, timeout=seconds + self._wire_seconds(count))
        except NoAnswerError as error:
            what = f"the board on {self.link.name} fell silent in {exchange.title}"
            raise error.revised(what=what, remedy=_RESET_REMEDY) from error

    def _wire_seconds(self, count: int) -> float:
        return count * BITS_PER_BYTE / self.link.baud

    def _synchronise(self) -> None:
        """Send 0x7F until the board answers ACK or NACK (AN3155 section 2).

        A connected bootloader takes two bytes 0x7F for an invalid command. It is silent after the first byte, and
        answers NACK after the second byte. If the board is silent twice, no bootloader is connected. Any other answer
        is noise, or does not come from a bootloader.
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
        """Return the answer byte, without the 0x00 that some bootloaders send first.

        Returns empty bytes if the board is silent.
        """
        try:
            answer = self.link.read(1, timeout=ANSWER_SECONDS)
            return answer if any(answer) else self.link.read(1, timeout=ANSWER_SECONDS)
        except NoAnswerError:
            return b""

    def _no_bootloader(self, heard: bytes) -> BoardProtocolError | NoAnswerError:
        if heard:
            return BoardProtocolError(
                f"the answer on {self.link.name} does not come from an STM32 bootloader",
                why=f"the answer was {repr(heard[:_QUOTED])[1:]}",
                remedy=f"{_RESET_REMEDY}: its application may be running; also check the speed and even parity",
            )

        return NoAnswerError(
            f"no bootloader answers on {self.link.name}",
            why=f"it stayed silent for {2 * ANSWER_SECONDS:.0f} s",
            remedy="set BOOT0 to 1 and reset the board; then check that TX and RX are crossed, that the grounds are "
            "connected, that the adapter sends even parity, and that no other program uses the port, or diagnose the "
            "line",
            action=Action.DIAGNOSE_LINE,
        )
