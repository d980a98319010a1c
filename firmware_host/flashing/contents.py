"""Contents of a board's flash: read byte by byte, or hashed by a program in the chip's own RAM.

`FlashContents` reads, `OnChip` hashes: hashing 64 KiB on the chip takes 0.3 s, reading them 7 s. The CRC-32 of a unit
is a hint, used to plan what to write. The proof is always made of the bytes themselves or of a SHA-256.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator, Sequence
from enum import Enum

from blockota.errors import Action, BoardProtocolError, FlashProofError, NoAnswerError, RefusedError
from blockota.formats.firmware_image import FirmwareImage
from firmware_host.bootloader.an3155 import MAX_BLOCK
from firmware_host.bootloader.chips import EraseUnit
from firmware_host.bootloader.client import Bootloader
from firmware_host.bootloader.identity import reconnect
from firmware_host.flashing.digest_stub import MAX_LENGTHS, DigestStub, FlashDigests, Pages
from firmware_host.flashing.plan import FlashBuffer, FlashPlan, Preserved, chunks, common

WORTH = 2048
"""Spans up to this length are read: one run of the program takes as long at 115200 baud."""


class Proof(Enum):
    """How a flash is examined, and how it is proven at the end.

    Attributes:
        STUB: both by hashing on the chip.
        READ_BACK: examined by hashing on the chip, proven by reading every byte back.
        NO_STUB: both by reading every byte back; no program runs on the chip.
    """

    STUB = "stub"
    READ_BACK = "read-back"
    NO_STUB = "no-stub"


class FlashContents:
    """Contents of one board's flash during one session, read by Read Memory in whole blocks of 256 bytes.

    Answers are cached until `changed` is called. All questions raise BoardError if the board is silent or refuses.

    Attributes:
        notes: notes for the operator about how the flash was examined.
    """

    def __init__(self, bootloader: Bootloader) -> None:
        self._bootloader = bootloader
        self._blocks: dict[int, bytes] = {}
        self.notes: tuple[str, ...] = ()

    @property
    def method(self) -> str:
        """How the bytes are examined: ``read-back`` or ``stub``."""
        return "read-back"

    def expect(self, start: int, lengths: Sequence[int]) -> None:
        """Announce digests that will be asked for, so that one run on the chip can compute them together."""

    def sha256(self, start: int, lengths: Sequence[int]) -> tuple[bytes, ...]:
        """The SHA-256 of the flash from an address on, one for each length in bytes."""
        return tuple(hashlib.sha256(self.read(range(start, start + length))).digest() for length in lengths)

    def checksum(self, unit: EraseUnit) -> int:
        """The CRC-32 (zlib's) of an erase unit: a hint."""
        return zlib.crc32(self.read(unit.span))

    def read(self, span: range) -> bytes:
        """The bytes themselves."""
        first = _block_start(span)
        addresses = range(first, span.stop, MAX_BLOCK)
        for address in addresses:
            if address not in self._blocks:
                self._blocks[address] = self._bootloader.read(address, MAX_BLOCK)
        data = b"".join(self._blocks[address] for address in addresses)
        return data[span.start - first : span.stop - first]

    def has_read(self, span: range) -> bool:
        """Whether every byte of a span was read already."""
        return all(address in self._blocks for address in range(_block_start(span), span.stop, MAX_BLOCK))

    def changed(self) -> None:
        """Forget all answers, because the flash changes."""
        self._blocks.clear()

    def prove(self, wanted: FlashBuffer, spans: Sequence[range]) -> Iterator[int]:
        """Compare the flash with its wanted contents, without using cached answers.

        Yields:
            Bytes proven so far.

        Raises:
            FlashProofError: they differ; the error names the first address if that is known.
        """
        done = 0
        for chunk in (chunk for span in spans for chunk in chunks(span)):
            found = self._bootloader.read(chunk.start, len(chunk))
            if found != wanted[chunk]:
                raise _differing(chunk, found, wanted=wanted[chunk])
            done += len(chunk)
            yield done


class OnChip(FlashContents):
    """Contents hashed by a program on the chip; if that program fails, the flash is read back from then on.

    If the program was started and the board stays silent afterwards, a person has to reset the board.

    Args:
        plan: its units are examined; they are of one size.
        proof: how the flash is proven at the end.
    """

    def __init__(self, bootloader: Bootloader, stub: DigestStub, *, plan: FlashPlan, proof: Proof) -> None:
        super().__init__(bootloader)
        self._plan = plan
        self._stub: DigestStub | None = stub
        self._by_reading = proof is not Proof.STUB
        self._pages = Pages(plan.units[0].address, plan.units[0].size, len(plan.units))
        self._digests: dict[tuple[int, int], bytes] = {}
        self._sums: dict[int, int] = {}
        self._expected: tuple[int, list[int]] = (plan.image.load_address, [])

    @property
    def method(self) -> str:
        """How the image is proven: ``stub``, or ``read-back`` if every byte of it is read."""
        if self._by_reading or self._stub is None:
            return "read-back"
        image = self._plan.image
        is_long = len(image.data) > WORTH and not self.has_read(image.span)
        return "stub" if is_long or (image.load_address, len(image.data)) in self._digests else "read-back"

    def expect(self, start: int, lengths: Sequence[int]) -> None:
        """Let the next run compute these digests as well."""
        self._expected = (start, list(lengths)[:MAX_LENGTHS])

    def sha256(self, start: int, lengths: Sequence[int]) -> tuple[bytes, ...]:
        """Return the digests; those not cached are computed on the chip, unless reading the bytes is faster."""
        # A run takes as long as reading `WORTH` bytes.
        missing = sorted({length for length in lengths if (start, length) not in self._digests})
        runs = -(-len(missing) // MAX_LENGTHS)
        if missing and runs * WORTH < missing[-1]:
            for at in range(0, len(missing), MAX_LENGTHS):
                self._ask(start, missing[at : at + MAX_LENGTHS])
        read = super().sha256
        return tuple(self._digests.get((start, length)) or read(start, [length])[0] for length in lengths)

    def checksum(self, unit: EraseUnit) -> int:
        """Let the chip sum all units once."""
        if unit.address not in self._sums:
            self._ask(*self._expected)
        return self._sums[unit.address] if unit.address in self._sums else super().checksum(unit)

    def changed(self) -> None:
        """Forget all answers, because the flash changes."""
        self._digests.clear()
        self._sums.clear()
        super().changed()

    def prove(self, wanted: FlashBuffer, spans: Sequence[range]) -> Iterator[int]:
        """Hash long spans on the chip and read short ones; read all if the proof must be by reading."""
        done = 0
        # The seal is proven by itself: the rest of an image is read where all of it would be.
        longest_read = WORTH - len(self._plan.seal)
        for span in spans:
            by_reading = self._by_reading or len(span) <= longest_read
            steps = super().prove(wanted, [span]) if by_reading else self._prove_hash(wanted, span)
            for proven in steps:
                yield done + proven
            done += len(span)

    def _prove_hash(self, wanted: FlashBuffer, span: range) -> Iterator[int]:
        digest = hashlib.sha256(wanted[span]).digest()
        found = self._run(span.start, [len(span)])
        if found and found.sha256[0] != digest:
            # Read the pages whose checksum differs, to name the first wrong address.
            for unit, crc in zip(self._plan.units, found.pages, strict=True):
                part = common(unit.span, span)
                if part and crc != wanted.checksum(unit.span):
                    there = FlashContents(self._bootloader).read(part)
                    if there != wanted[part]:
                        raise _differing(part, there, wanted=wanted[part])
            # No page differs, so the answer itself was garbled on the line.
            found = self._run(span.start, [len(span)])
        if found is None:
            yield from super().prove(wanted, [span])
            return
        if found.sha256[0] != digest:
            raise FlashProofError(
                "check 10 failed, the flash does not hold what was written",
                why=f"from {span.start:#010x} to {span.stop:#010x} its SHA-256 is {found.sha256[0].hex()} "
                f"instead of {digest.hex()}",
                remedy="run the command again; if it fails again, replace the board",
            )
        yield len(span)

    def _ask(self, start: int, lengths: Sequence[int]) -> None:
        if found := self._run(start, lengths):
            self._digests |= {(start, length): sha for length, sha in zip(lengths, found.sha256, strict=True)}
            self._sums = {unit.address: crc for unit, crc in zip(self._plan.units, found.pages, strict=True)}

    def _run(self, start: int, lengths: Sequence[int]) -> FlashDigests | None:
        """Run the program. Returns None once it has failed and the board still answers its bootloader."""
        if self._stub is None:
            return None
        try:
            return self._stub.run(start, lengths, pages=self._pages)
        except (RefusedError, NoAnswerError, BoardProtocolError) as error:
            # A board that is silent cannot be read back either: report the first failure.
            try:
                reconnect(self._bootloader, self._plan.chip, flash_size=self._plan.flash_size)
            except (NoAnswerError, BoardProtocolError):
                raise error from None
            self._stub = None
            reason = f"{error.what}: {error.why}"
            self.notes = (f"The flash is read back, because the chip did not hash it itself ({reason}).",)
            return None


def holds(contents: FlashContents, image: FirmwareImage, *, beside: Sequence[Preserved]) -> bool:
    """Whether a flash holds an image, by its digest, and the preserved bytes beside it.

    Raises:
        BoardError: the board is silent or refuses.
    """
    (found,) = contents.sha256(image.load_address, [len(image.data)])
    is_there = found == hashlib.sha256(image.data).digest()
    return is_there and all(contents.read(one.span) == one.data for one in beside)


def confirm(contents: FlashContents, wanted: FlashBuffer, *, span: range) -> Iterator[int]:
    """Read a span back if the proof must be by reading and the span was hashed only.

    Yields:
        Bytes proven so far; nothing if every byte was read already.

    Raises:
        FlashProofError: a byte differs.
        BoardError: the board is silent or refuses.
    """
    is_read = contents.has_read(span) and contents.read(span) == wanted[span]
    if contents.method == "read-back" and not is_read:
        yield from contents.prove(wanted, [span])


def read_twice(bootloader: Bootloader, span: range) -> bytes:
    """Read bytes twice and compare: the answer of Read Memory has no checksum (AN3155 section 3.4).

    Raises:
        BoardProtocolError: the two answers differ.
        BoardError: the board is silent or refuses.
    """
    first, second = (b"".join(bootloader.read(chunk.start, len(chunk)) for chunk in chunks(span)) for _ in range(2))
    if first != second:
        raise BoardProtocolError(
            "the line to the board garbles bytes",
            why=f"reading {span.start:#010x} to {span.stop:#010x} twice gave two answers",
            remedy="check even parity and the common ground, and use a shorter cable or a lower speed",
            action=Action.LOWER_BAUD,
        )
    return first


def _block_start(span: range) -> int:
    return span.start - span.start % MAX_BLOCK


def _differing(span: range, found: bytes, *, wanted: bytes) -> FlashProofError:
    address, is_there, should_be = next(row for row in zip(span, found, wanted, strict=True) if row[1] != row[2])
    return FlashProofError(
        "check 10 failed, the flash does not hold what was written",
        why=f"at {address:#010x} it reads {is_there:#04x} instead of {should_be:#04x}",
        remedy="run the command again; if it fails at the same address, the page is worn out: replace the board",
    )
