"""What a board's flash holds: read byte by byte, or hashed by a program in the chip's own RAM.

Both ways answer the same questions. A CRC-32 of an erase unit is a hint, from which it is planned what to write; the
proof is always made of the bytes themselves or of a SHA-256 over them.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator, Sequence
from typing import Protocol

from blockota.errors import BoardProtocolError, FlashProofError
from blockota.formats.firmware_image import FirmwareImage
from firmware_host.bootloader.an3155 import MAX_BLOCK
from firmware_host.bootloader.chips import EraseUnit
from firmware_host.bootloader.client import Bootloader
from firmware_host.flashing.memory import Memory, Preserved
from firmware_host.flashing.plan import chunks


class FlashContents(Protocol):
    """What one board's flash holds, in one session; nothing is asked of the board twice while nothing changes."""

    @property
    def method(self) -> str:
        """How the bytes are looked at: ``read-back`` or ``stub``."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person should know of how the flash was looked at."""

    def expect(self, start: int, lengths: Sequence[int]) -> None:
        """Say which digests will be asked for, so that they can be had together with something else."""

    def sha256(self, start: int, lengths: Sequence[int]) -> tuple[bytes, ...]:
        """The SHA-256 of the flash from an address on, one for each length in bytes.

        Raises:
            BoardError: the board fell silent, or refused.
        """

    def checksum(self, unit: EraseUnit) -> int:
        """The CRC-32 of an erase unit, as zlib computes it: a hint.

        Raises:
            BoardError: the board fell silent, or refused.
        """

    def read(self, span: range) -> bytes:
        """The bytes themselves.

        Raises:
            BoardError: the board fell silent, or refused.
        """

    def has_read(self, span: range) -> bool:
        """Whether the bytes themselves are known, every one of them."""

    def changed(self) -> None:
        """Forget everything: the flash is being changed."""

    def prove(self, wanted: Memory, spans: Sequence[range]) -> Iterator[int]:
        """Look anew whether the flash holds what it should, whatever is known of it already.

        Args:
            wanted: what it should hold.
            spans: the addresses that count.

        Yields:
            Bytes proven so far.

        Raises:
            FlashProofError: it holds something else; the error names the first such address, if that can be told.
            BoardError: the board fell silent, or refused.
        """


class ReadBack:
    """The contents as Read Memory shows them, kept until they change.

    Args:
        bootloader: connected, and told which chip it is.
    """

    method = "read-back"
    notes: tuple[str, ...] = ()

    def __init__(self, bootloader: Bootloader) -> None:
        """Nothing is read yet."""
        self._bootloader = bootloader
        self._blocks: dict[int, bytes] = {}

    def expect(self, start: int, lengths: Sequence[int]) -> None:
        """Of no use here: every byte is read once, whatever is asked for first."""

    def sha256(self, start: int, lengths: Sequence[int]) -> tuple[bytes, ...]:
        """Read what is not known yet, and hash it here."""
        return tuple(hashlib.sha256(self.read(range(start, start + length))).digest() for length in lengths)

    def checksum(self, unit: EraseUnit) -> int:
        """Read the unit, and sum it here."""
        return zlib.crc32(self.read(unit.span))

    def read(self, span: range) -> bytes:
        """Read what is not known yet, in whole blocks of 256 bytes."""
        first = _block_start(span)
        data = b"".join(self._block(address) for address in range(first, span.stop, MAX_BLOCK))
        return data[span.start - first : span.stop - first]

    def has_read(self, span: range) -> bool:
        """Whether all their blocks were read."""
        return all(address in self._blocks for address in range(_block_start(span), span.stop, MAX_BLOCK))

    def changed(self) -> None:
        """Forget everything."""
        self._blocks.clear()

    def prove(self, wanted: Memory, spans: Sequence[range]) -> Iterator[int]:
        """Read every byte again, and compare."""
        done = 0
        for chunk in (chunk for span in spans for chunk in chunks(span)):
            found = self._bootloader.read(chunk.start, len(chunk))
            if found != wanted[chunk]:
                raise differing(chunk, found, wanted=wanted[chunk])
            done += len(chunk)
            yield done

    def _block(self, address: int) -> bytes:
        if address not in self._blocks:
            self._blocks[address] = self._bootloader.read(address, MAX_BLOCK)
        return self._blocks[address]


def holds(contents: FlashContents, image: FirmwareImage, *, beside: Sequence[Preserved]) -> bool:
    """Whether a flash holds an image, by its digest, and bytes beside it.

    Args:
        contents: of the flash.
        image: what it may hold.
        beside: what it shall hold as well.

    Raises:
        BoardError: the board fell silent, or refused.
    """
    (found,) = contents.sha256(image.load_address, [len(image.data)])
    is_there = found == hashlib.sha256(image.data).digest()
    return is_there and all(contents.read(one.span) == one.data for one in beside)


def confirm(contents: FlashContents, wanted: Memory, *, span: range) -> Iterator[int]:
    """Read what a digest of the chip's own says, where the proof is to be by reading and not all was read yet.

    Args:
        contents: of the flash, by whose digest it holds what it should.
        wanted: what that is.
        span: the addresses that count.

    Yields:
        Bytes proven so far; nothing where nothing is to be read.

    Raises:
        FlashProofError: what is read is something else.
        BoardError: the board fell silent, or refused.
    """
    is_read = contents.has_read(span) and contents.read(span) == wanted[span]
    if contents.method == "read-back" and not is_read:
        yield from contents.prove(wanted, [span])


def read_surely(bootloader: Bootloader, span: range) -> bytes:
    """Read bytes twice, because nothing protects the answer of Read Memory on its way (AN3155 section 3.4).

    Args:
        bootloader: connected, and told which chip it is.
        span: the addresses.

    Raises:
        BoardProtocolError: the two answers differ.
        BoardError: the board fell silent, or refused.
    """
    first, second = (b"".join(bootloader.read(chunk.start, len(chunk)) for chunk in chunks(span)) for _ in range(2))
    if first != second:
        raise BoardProtocolError(
            "the line to the board garbles bytes",
            why=f"reading {span.start:#010x} to {span.stop:#010x} twice gave two answers",
            remedy="use a shorter cable or a lower --baud, and check even parity and the common ground",
        )
    return first


def _block_start(span: range) -> int:
    return span.start - span.start % MAX_BLOCK


def differing(span: range, found: bytes, *, wanted: bytes) -> FlashProofError:
    """The error for a stretch of flash that holds something else than it should.

    Args:
        span: its addresses.
        found: what it holds.
        wanted: what it should hold.
    """
    address, is_there, should_be = next(row for row in zip(span, found, wanted, strict=True) if row[1] != row[2])
    return FlashProofError(
        "check 10 failed, the flash does not hold what was written",
        why=f"at {address:#010x} it reads {is_there:#04x} instead of {should_be:#04x}",
        remedy="run the command again; if it fails at the same address, the page is worn out: replace the board",
    )
