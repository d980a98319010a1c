"""The commands of an STM32's bootloader that read, write, erase and start (ST application note AN3155).

Addresses are checked here before a byte goes out, because bootloaders before 3.1 do not refuse a wrong address:
they take the next two bytes for a command (AN3155 table 3).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from blockota.errors import RefusedError
from firmware_host.bootloader import an3155
from firmware_host.bootloader.an3155 import Capabilities, Command, Exchange, SpecialErase
from firmware_host.bootloader.chips import Chip
from firmware_host.bootloader.exchange import ANSWER_SECONDS, Transport
from firmware_host.line.link import Link

WRITE_SECONDS = 1.0
"""How long a board may take to program one block: a hundred times the data sheet's 9 ms."""
ERASE_MARGIN = 4
"""How many times the data sheet's longest erase time is waited for."""
CHECKSUM_WORD_SECONDS = 4e-6
"""How long a board may take for a word of a checksum: a loop of some instructions at 8 MHz or more."""
VERSION_ANSWER = 4
"""Bytes of the answer to Get Version: the version, two option bytes, ACK."""
_BANKS = {1: SpecialErase.BANK_1, 2: SpecialErase.BANK_2}


@dataclass(frozen=True)
class _Target:
    """The chip that answers, and its flash size in bytes, 0 while it is not known."""

    chip: Chip
    flash_size: int


@dataclass(frozen=True)
class BoardMark:
    """What tells one board from another.

    Attributes:
        product_id: its family of chips.
        flash_size: in bytes, as its register says; 0 where it was not read.
        unique_id: the chip's 96 bits in hexadecimal; empty where they were not read.
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

    Call `connect` first, then `target` once the chip is known; until then no address is sent.

    Attributes:
        conversation: carries the exchanges.
        mark: of the board that was identified last; None before that, and where it does not tell.
    """

    def __init__(self, link: Link) -> None:
        """Use a link that is open already; nothing is sent yet."""
        self.transport = Transport(link)
        self.mark: BoardMark | None = None
        self._target: _Target | None = None

    @property
    def link(self) -> Link:
        """What moves the bytes."""
        return self.transport.link

    @property
    def capabilities(self) -> Capabilities:
        """What the bootloader said of itself.

        Raises:
            RefusedError: it was not asked yet.
        """
        return self.transport.capabilities

    def connect(self) -> Capabilities:
        """Find the bootloader, freshly reset or in conversation already, and ask what it can do.

        Raises:
            NoAnswerError: nothing answers.
            BoardProtocolError: something answers that is no bootloader.
            LinkError: the port was lost.
        """
        self._target = None
        return self.transport.connect()

    def require_flashing(self) -> None:
        """Make sure that it reads, writes and erases.

        Raises:
            RefusedError: it lacks a command for it.
        """
        commands = self.capabilities.commands
        erasers = {Command.ERASE, Command.EXTENDED_ERASE}
        if not {Command.READ_MEMORY, Command.WRITE_MEMORY} <= commands or not erasers & commands:
            raise RefusedError(
                "this bootloader cannot flash",
                why=f"its commands are {', '.join(f'{code:02x}' for code in sorted(commands))}",
                remedy="use a board whose bootloader reads, writes and erases",
            )

    def product_id(self) -> int:
        """Ask which family of chips the board has.

        Raises:
            BoardError: silence, or an answer that AN3155 does not know.
        """
        return an3155.parse_product_id(self.transport.counted_answer(an3155.get_id()))

    def version(self) -> tuple[int, bytes]:
        """Ask for the protocol version and the two option bytes that old bootloaders told with it.

        Returns:
            The version in packed decimal, and the two bytes.

        Raises:
            BoardError: silence, or a refusal.
        """
        exchange = an3155.get_version()
        self.transport.perform(exchange, seconds=ANSWER_SECONDS)
        version, *option_bytes, _ = self.transport.data(exchange, VERSION_ANSWER)
        return version, bytes(option_bytes)

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
        self.transport.perform(exchange, seconds=ANSWER_SECONDS)
        return self.transport.data(exchange, length)

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
        self.transport.perform(exchange, seconds=WRITE_SECONDS)

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
            self.transport.perform(exchange, seconds=seconds)

    def erase_all(self) -> None:
        """Erase the whole flash by one command.

        Raises:
            RefusedError: this chip's bootloader has no such erase; nothing was sent.
            BoardError: silence, or a refusal.
        """
        chip, _ = self._known_target()
        extended = Command.EXTENDED_ERASE in self.capabilities.commands
        exchange = an3155.extended_erase_special(SpecialErase.MASS) if extended else an3155.erase_all()
        self._erase_much(exchange, seconds=chip.mass_erase_seconds)

    def erase_bank(self, bank: int) -> None:
        """Erase one half, 1 or 2, of a flash that has two banks.

        Raises:
            RefusedError: there is no such bank; nothing was sent.
            BoardError: silence, or a refusal.
        """
        chip, _ = self._known_target()
        if chip.banks != len(_BANKS) or bank not in _BANKS:
            raise RefusedError("erase was not sent", why=f"{chip.name} has no bank {bank}")
        self._erase_much(an3155.extended_erase_special(_BANKS[bank]), seconds=chip.mass_erase_seconds)

    def checksum(self, address: int, words: int) -> int:
        """Ask for the CRC-32 of a stretch of flash, where the bootloader has the command (from 3.3 on).

        Args:
            address: of the first word, a multiple of four.
            words: of 32 bits each.

        Returns:
            The register of the chip's CRC unit (polynomial 0x04C11DB7, all ones at first, nothing reflected).

        Raises:
            RefusedError: the bootloader lacks the command, or the chip has no flash there; nothing was sent.
            BoardError: silence, or a refusal.
        """
        exchange = an3155.get_checksum(address, words)
        chip, flash_size = self._known_target()
        self._check_span(exchange, length=4 * words, spans=(chip.flash(flash_size),))
        self.transport.perform(exchange, seconds=ANSWER_SECONDS + words * CHECKSUM_WORD_SECONDS)
        return an3155.parse_checksum(self.transport.data(exchange, an3155.CHECKSUM_ANSWER))

    def go(self, address: int) -> None:
        """Start the program whose vector table is at an address; the conversation ends with it.

        Raises:
            RefusedError: no program can be there; nothing was sent.
            BoardError: silence, or a refusal.
        """
        exchange = an3155.go(address)
        chip, flash_size = self._known_target()
        self._check_span(exchange, length=8, spans=chip.writable(flash_size))
        self.transport.perform(exchange, seconds=ANSWER_SECONDS)
        self.transport.end()

    def readout_protected(self) -> bool:
        """Whether the flash is protected from being read: the board then refuses Read Memory itself.

        Raises:
            BoardError: silence, or a refusal for another reason.
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
        """The numbers of the pages that are protected from writing, or None where this cannot be told.

        Raises:
            BoardError: silence, or a refusal.
        """
        chip, flash_size = self._known_target()
        option_bytes = self.read(chip.option_bytes.start, len(chip.option_bytes))
        return chip.write_protected_units(option_bytes, flash_size)

    def _known_target(self) -> tuple[Chip, int]:
        if self._target is None:
            raise RefusedError("the chip is not known yet, so no address can be checked")
        return self._target.chip, self._target.flash_size

    def _check_span(self, exchange: Exchange, *, length: int, spans: Sequence[range]) -> None:
        first = exchange.address or 0
        if not any(first in span and first + length - 1 in span for span in spans):
            known = ", ".join(f"{span.start:#010x}-{span.stop - 1:#010x}" for span in spans if span)
            raise RefusedError(f"{exchange.title} was not sent", why=f"{length} bytes there are not all within {known}")

    def _erase_much(self, exchange: Exchange, *, seconds: float) -> None:
        if not seconds:
            raise RefusedError("erase was not sent", why=f"{self._known_target()[0].name} has no erase of all at once")
        self.transport.perform(exchange, seconds=ANSWER_SECONDS + ERASE_MARGIN * seconds)
