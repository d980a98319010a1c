"""The client of an STM32 bootloader: read, write, erase and start (AN3155).

Example:
    link = open_link("/dev/ttyUSB0")
    bootloader = Bootloader(link)
    bootloader.connect()
    identity = identify(bootloader)  # sets the target
    first_block = bootloader.read(0x0800_0000, 256)

Addresses are checked here before anything is sent, because a bootloader before version 3.1 does not refuse a wrong
address: it takes the next two bytes as a command (AN3155 table 3).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from blockota.errors import RefusedError
from firmware_host.bootloader import an3155
from firmware_host.bootloader.an3155 import Capabilities, Command, Exchange, SpecialErase
from firmware_host.bootloader.chips import Chip
from firmware_host.bootloader.exchange import ANSWER_SECONDS, Transport
from firmware_host.line.link import Link

WRITE_SECONDS = 1.0
"""How long programming one block may take: a hundred times the data sheet's 9 ms."""
ERASE_MARGIN = 4
"""How many times the data sheet's maximum an erase may take."""
CHECKSUM_WORD_SECONDS = 4e-6
"""How long the checksum of one word may take: a loop of some instructions at 8 MHz or more."""
VERSION_ANSWER = 4
"""Bytes of the answer to Get Version: version, two option bytes, ACK (AN3155 section 3.2)."""
_BANKS = {1: SpecialErase.BANK_1, 2: SpecialErase.BANK_2}


@dataclass(frozen=True)
class BoardMark:
    """The values that distinguish one board from another.

    Attributes:
        product_id: the answer to Get ID.
        flash_size: in bytes, from the chip's register; 0 if it was not read.
        unique_id: the chip's 96 bits as hexadecimal digits; empty if they were not read.
    """

    product_id: int
    flash_size: int = 0
    unique_id: str = ""

    def __str__(self) -> str:
        """``the board 00..01 (0x410, 64 KiB)``."""
        size = f", {self.flash_size // 1024} KiB" if self.flash_size else ""
        return f"the board {self.unique_id or 'of another family'} ({self.product_id:#05x}{size})"


class Bootloader:
    """The commands of one board's bootloader.

    Call `connect` first, then `target` once the chip is known. No address is sent before.

    Args:
        link: an open link; nothing is sent before `connect`.
        before_command: called before each command; it raises an exception to stop the work.

    Attributes:
        transport: carries the exchanges.
        mark: of the board that was identified last; None before, and where its flash cannot be read.
    """

    def __init__(self, link: Link, *, before_command: Callable[[], None] | None = None) -> None:
        self.transport = Transport(link, before_command=before_command)
        self.mark: BoardMark | None = None
        self._target: tuple[Chip, int] | None = None

    @property
    def link(self) -> Link:
        """The link to the board."""
        return self.transport.link

    @property
    def capabilities(self) -> Capabilities:
        """The answer to Get.

        Raises:
            RefusedError: the bootloader is not connected.
        """
        return self.transport.capabilities

    def connect(self) -> Capabilities:
        """Find the bootloader, whether just reset or connected before, and ask for its commands.

        Raises:
            NoAnswerError: nothing answers.
            BoardProtocolError: something other than a bootloader answers.
            LinkError: the port was lost.
        """
        self._target = None
        return self.transport.connect()

    def require_flashing(self) -> None:
        """Require the commands to read, write and erase.

        Raises:
            RefusedError: the bootloader does not have one of them.
        """
        commands = self.capabilities.commands
        erasers = {Command.ERASE, Command.EXTENDED_ERASE}
        if not {Command.READ_MEMORY, Command.WRITE_MEMORY} <= commands or not erasers & commands:
            raise RefusedError(
                "this bootloader cannot flash",
                why=f"its commands are {', '.join(f'{code:02x}' for code in sorted(commands))}",
                remedy="use a board whose bootloader reads, writes and erases",
            )

    def target(self, chip: Chip, *, flash_size: int = 0) -> None:
        """Set the chip whose memories bound the addresses that may be sent.

        Args:
            chip: its row in the table.
            flash_size: in bytes; 0 forbids every flash address.
        """
        self._target = chip, flash_size

    def product_id(self) -> int:
        """Return the answer to Get ID.

        Raises:
            BoardError: silence, or an answer that AN3155 does not define.
        """
        return an3155.parse_product_id(self.transport.counted_answer(an3155.get_id()))

    def version(self) -> tuple[int, bytes]:
        """Return the protocol version in packed decimal, and the two legacy option bytes of Get Version.

        Raises:
            BoardError: silence or NACK.
        """
        exchange = an3155.get_version()
        self.transport.perform(exchange, seconds=ANSWER_SECONDS)
        version, *option_bytes, _ = self.transport.data(exchange, VERSION_ANSWER)
        return version, bytes(option_bytes)

    def read(self, address: int, length: int) -> bytes:
        """Read 1 to 256 bytes.

        Raises:
            RefusedError: the chip has no such memory, or it cannot be read; nothing was sent.
            BoardError: silence or NACK.
        """
        exchange = an3155.read_memory(address, length)
        chip, flash_size = self._known_target()
        _require_span(exchange, length=length, spans=chip.readable(flash_size))
        self.transport.perform(exchange, seconds=ANSWER_SECONDS)
        return self.transport.data(exchange, length)

    def write(self, address: int, data: bytes) -> None:
        """Write up to 256 bytes, aligned as the chip requires.

        An acknowledgement proves nothing: a write to a protected or not erased page is acknowledged as well.

        Raises:
            RefusedError: the chip has no such memory, or it cannot be written; nothing was sent.
            BoardError: silence or NACK.
        """
        exchange = an3155.write_memory(address, data)
        chip, flash_size = self._known_target()
        _require_span(exchange, length=len(data), spans=chip.writable(flash_size))
        if address % chip.write_alignment or len(data) % chip.write_alignment:
            raise RefusedError(
                f"{exchange.title} was not sent",
                why=f"{chip.name} is written in multiples of {chip.write_alignment} bytes",
            )
        self.transport.perform(exchange, seconds=WRITE_SECONDS)

    def erase_pages(self, pages: Sequence[int]) -> None:
        """Erase pages or sectors by number, in as many commands as the chip's limit requires.

        Raises:
            RefusedError: the chip has no such page; nothing was sent.
            BoardError: silence or NACK.
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
            self.transport.perform(exchange, seconds=seconds)

    def erase_all(self) -> None:
        """Erase the whole flash by one command.

        Raises:
            RefusedError: this chip's bootloader has no such command; nothing was sent.
            BoardError: silence or NACK.
        """
        extended = Command.EXTENDED_ERASE in self.capabilities.commands
        self._erase_at_once(an3155.extended_erase_special(SpecialErase.MASS) if extended else an3155.erase_all())

    def erase_bank(self, bank: int) -> None:
        """Erase bank 1 or 2 of a flash that has two banks.

        Raises:
            RefusedError: there is no such bank; nothing was sent.
            BoardError: silence or NACK.
        """
        chip, _ = self._known_target()
        if chip.banks != len(_BANKS) or bank not in _BANKS:
            raise RefusedError("erase was not sent", why=f"{chip.name} has no bank {bank}")
        self._erase_at_once(an3155.extended_erase_special(_BANKS[bank]))

    def checksum(self, address: int, words: int) -> int:
        """Return the CRC-32 of flash, where the bootloader has Get Checksum (version 3.3 and later).

        Args:
            address: of the first word, a multiple of four.
            words: number of 32-bit words.

        Returns:
            The register of the chip's CRC unit: polynomial 0x04C11DB7, initial value all ones, not reflected.

        Raises:
            RefusedError: the bootloader does not have the command, or the chip has no such flash; nothing was sent.
            BoardError: silence or NACK.
        """
        exchange = an3155.get_checksum(address, words)
        chip, flash_size = self._known_target()
        _require_span(exchange, length=4 * words, spans=(chip.flash(flash_size),))
        self.transport.perform(exchange, seconds=ANSWER_SECONDS + words * CHECKSUM_WORD_SECONDS)
        return an3155.parse_checksum(self.transport.data(exchange, an3155.CHECKSUM_ANSWER))

    def go(self, address: int) -> None:
        """Start the program whose vector table is at an address; the connection ends.

        Raises:
            RefusedError: no program can be there; nothing was sent.
            BoardError: silence or NACK.
        """
        exchange = an3155.go(address)
        chip, flash_size = self._known_target()
        # The bootloader reads stack pointer and reset vector, eight bytes (AN3155 section 3.5).
        _require_span(exchange, length=8, spans=chip.writable(flash_size))
        self.transport.perform(exchange, seconds=ANSWER_SECONDS)
        self.transport.end()

    def readout_protected(self) -> bool:
        """Whether the flash is protected from being read.

        Under readout protection the bootloader answers NACK to the command itself, before the address.

        Raises:
            BoardError: silence, or NACK for another reason.
        """
        chip, _ = self._known_target()
        exchange = an3155.read_memory(chip.identity.span.start, len(chip.identity.span))
        refused_frame = self.transport.attempt(exchange, seconds=ANSWER_SECONDS)
        if refused_frame is None:
            self.transport.data(exchange, len(chip.identity.span))
        elif refused_frame > 0:
            raise self.transport.refusal(exchange)
        return refused_frame == 0

    def write_protected_pages(self) -> tuple[int, ...] | None:
        """Return the numbers of the pages that cannot be written; None where the chip table cannot decode them.

        Raises:
            BoardError: silence or NACK.
        """
        chip, flash_size = self._known_target()
        option_bytes = self.read(chip.option_bytes.start, len(chip.option_bytes))
        return chip.write_protected_units(option_bytes, flash_size)

    def _known_target(self) -> tuple[Chip, int]:
        if self._target is None:
            raise RefusedError("the chip is not known yet, so no address can be checked")
        return self._target

    def _erase_at_once(self, exchange: Exchange) -> None:
        chip, _ = self._known_target()
        if not chip.mass_erase_seconds:
            raise RefusedError("erase was not sent", why=f"{chip.name} has no erase of all at once")
        self.transport.perform(exchange, seconds=ANSWER_SECONDS + ERASE_MARGIN * chip.mass_erase_seconds)


def _require_span(exchange: Exchange, *, length: int, spans: Sequence[range]) -> None:
    first = exchange.address or 0
    if not any(first in span and first + length - 1 in span for span in spans):
        known = ", ".join(f"{span.start:#010x}-{span.stop - 1:#010x}" for span in spans if span)
        raise RefusedError(f"{exchange.title} was not sent", why=f"{length} bytes there are not all within {known}")
