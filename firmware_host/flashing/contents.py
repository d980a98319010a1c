"""The contents of a board's flash.

The contents are read byte by byte, or hashed by the digest program in the chip's RAM. `FlashContents` reads the flash,
and `OnChip` hashes it on the chip. For 64 KiB, hashing takes 0.3 s and reading takes 7 s. The CRC-32 of an erase unit
is only a hint for the plan. The proof always compares the bytes themselves or a SHA-256.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Iterator, Sequence
from enum import Enum
from typing import TypeVar

from blockota.errors import BoardProtocolError, FlashProofError, NoAnswerError, RefusedError
from firmware_host.bootloader.an3155 import MAX_BLOCK
from firmware_host.bootloader.chips import EraseUnit, joined
from firmware_host.bootloader.client import Bootloader
from firmware_host.bootloader.identity import agreed_answer, reconnect
from firmware_host.flashing.digest_stub import MAX_GROUPS, MAX_LENGTHS, DigestStub, FlashDigests, Pages
from firmware_host.flashing.plan import LOOK_SECONDS, FlashBuffer, FlashPlan, chunks, common

Answer = TypeVar("Answer")
_WORD = 4
WORTH = 2048
"""Spans of up to this many bytes are read, because a run of the digest program would take as long at 115200 baud."""


class Proof(Enum):
    """The method to examine a flash before a run and to prove it at the end: hash it on the chip, or read every byte.

    STUB hashes for both purposes. READ_BACK hashes for the examination, and reads for the proof. NO_STUB reads for both
    purposes, so no program runs on the chip.
    """

    STUB = "stub"
    READ_BACK = "read-back"
    NO_STUB = "no-stub"


class FlashContents:
    """The contents of one board's flash.

    The contents are read with Read Memory in whole blocks of 256 bytes, and cached until `changed` is called. All
    methods that read raise BoardError if the board is silent or answers NACK. `notes` describe for the operator how the
    flash was examined.
    """

    def __init__(self, bootloader: Bootloader) -> None:
        self._bootloader = bootloader
        self._blocks: dict[int, bytes] = {}
        self.notes: tuple[str, ...] = ()

    @property
    def method(self) -> str:
        """The method that proves the image: ``read-back`` or ``stub``."""
        return "read-back"

    def expect(self, start: int, lengths: Sequence[int]) -> None:
        """Announce which digests the caller will request, so that the chip can compute all of them in one run."""

    def sha256(self, start: int, lengths: Sequence[int]) -> tuple[bytes, ...]:
        """Return the SHA-256 digests of the flash from the address `start`, one digest for each length in bytes."""
        return tuple(hashlib.sha256(self.read(range(start, start + length))).digest() for length in lengths)

    def checksum(self, unit: EraseUnit) -> int:
        """Return the CRC-32 (zlib's) of an erase unit.

        The CRC-32 is a hint, not a proof.
        """
        return zlib.crc32(self.read(unit.span))

    def read(self, span: range) -> bytes:
        """Return the bytes of the flash at these addresses."""
        first = _block_start(span)
        addresses = range(first, span.stop, MAX_BLOCK)
        for address in addresses:
            if address not in self._blocks:
                self._blocks[address] = self._bootloader.read(address, MAX_BLOCK)
        data = b"".join(self._blocks[address] for address in addresses)
        return data[span.start - first : span.stop - first]

    def has_read(self, span: range) -> bool:
        """Whether every byte of `span` was already read and is cached."""
        return all(address in self._blocks for address in range(_block_start(span), span.stop, MAX_BLOCK))

    def read_beside(self, span: range) -> bytes:
        """Read bytes that must be written back after an erase. The bytes are read twice and compared."""
        return read_twice(self._bootloader, span)

    def is_rest_blank(self) -> bool:
        """Whether all flash outside the plan is known to be erased.

        Returns False if the answer would require reading the flash outside the plan.
        """
        return False

    def changed(self) -> None:
        """Clear the cache, because the flash is about to change."""
        self._blocks.clear()

    def prove(self, wanted: FlashBuffer, spans: Sequence[range]) -> Iterator[int]:
        """Compare the flash with its wanted contents, without the cache.

        Yields the number of bytes proven so far.

        Raises:
            FlashProofError: the flash differs. The error names the first wrong address, if this address is known.
        """
        done = 0
        for chunk in (chunk for span in spans for chunk in chunks(span)):
            found = self._bootloader.read(chunk.start, len(chunk))
            if found != wanted[chunk]:
                raise _differing(chunk, found, wanted=wanted[chunk])
            done += len(chunk)
            yield done


class OnChip(FlashContents):
    """The contents of one board's flash, hashed by the digest program on the chip.

    If the digest program fails, all further contents are read over the serial line.
    """

    def __init__(self, bootloader: Bootloader, stub: DigestStub, *, plan: FlashPlan, proof: Proof) -> None:
        super().__init__(bootloader)
        self._plan = plan
        self._stub: DigestStub | None = stub
        self._by_reading = proof is not Proof.STUB
        self._page_size = min(unit.size for unit in plan.units)
        self._digests: dict[tuple[int, int], bytes] = {}
        self._sums: dict[range, int] = {}
        self._expected: tuple[int, list[int]] = (plan.image.load_address, [])
        self._has_proven = False  # whether a hash has proven the image since the last change

    @property
    def method(self) -> str:
        """The method that proves the image: ``stub``, or ``read-back`` if every byte of the image is read."""
        if self._has_proven:
            return "stub"
        if self._by_reading or self._stub is None:
            return "read-back"
        image = self._plan.image
        is_long = len(image.data) > WORTH and not self.has_read(image.span)
        return "stub" if is_long or (image.load_address, len(image.data)) in self._digests else "read-back"

    def expect(self, start: int, lengths: Sequence[int]) -> None:
        """Add the digests for these lengths to the next run of the digest program."""
        self._expected = (start, list(lengths)[:MAX_LENGTHS])

    def sha256(self, start: int, lengths: Sequence[int]) -> tuple[bytes, ...]:
        """Return the SHA-256 digests, one for each length.

        A digest that is not cached is computed on the chip, or from the bytes if reading them is faster.
        """
        # A run of the digest program takes as long as reading `WORTH` bytes.
        missing = sorted({length for length in lengths if (start, length) not in self._digests})
        runs = -(-len(missing) // MAX_LENGTHS)
        if missing and runs * WORTH < missing[-1]:
            for at in range(0, len(missing), MAX_LENGTHS):
                self._ask(start, missing[at : at + MAX_LENGTHS])
        read = super().sha256
        return tuple(self._digests.get((start, length)) or read(start, [length])[0] for length in lengths)

    def checksum(self, unit: EraseUnit) -> int:
        """Return the CRC-32 of an erase unit.

        The first call computes the CRC-32 of all units on the chip.
        """
        if unit.span not in self._sums:
            self._ask(*self._expected)
        found = self._sums.get(unit.span)
        return super().checksum(unit) if found is None else found

    def changed(self) -> None:
        """Clear the cache, because the flash changes."""
        self._digests.clear()
        self._sums.clear()
        self._has_proven = False
        super().changed()

    def prove(self, wanted: FlashBuffer, spans: Sequence[range]) -> Iterator[int]:
        """Prove the flash.

        If `proof` is STUB, long spans are hashed on the chip and short spans are read; otherwise, all spans are read.
        """
        done = 0
        # The seal is proven separately. The rest of an image is read if the whole image would be read.
        longest_read = WORTH - len(self._plan.seal)
        for span in joined(spans):
            by_reading = self._by_reading or len(span) <= longest_read
            steps = super().prove(wanted, [span]) if by_reading else self._prove_hash(wanted, span)
            for proven in steps:
                yield done + proven
            done += len(span)

    def _prove_hash(self, wanted: FlashBuffer, span: range) -> Iterator[int]:
        digest = hashlib.sha256(wanted[span]).digest()
        found = self._run(span.start, [len(span)])
        there = found.sha256[0] if found else None

        if there not in (None, digest):
            # Noise may have corrupted the answer: hash once more, and read the pages whose checksum differs.
            self._bootloader.link.drain()
            self.changed()
            self._ask(span.start, [len(span)])
            there = self._digests.get((span.start, len(span)))

        if there not in (None, digest):
            for unit in self._plan.units:
                part = common(unit.span, span)
                if part and self.checksum(unit) != wanted.checksum(unit.span):
                    data = FlashContents(self._bootloader).read(part)
                    if data != wanted[part]:
                        raise _differing(part, data, wanted=wanted[part])

        if there is None:
            yield from super().prove(wanted, [span])
            return
        if there != digest:
            raise FlashProofError(
                "check 10 failed, the flash does not contain the written bytes",
                why=f"from {span.start:#010x} to {span.stop:#010x} its SHA-256 is {there.hex()} "
                f"instead of {digest.hex()}",
                remedy="run the command again; if it fails again, replace the board",
            )
        self._has_proven |= any(common(part, span) == part for part in self._plan.body)
        yield len(span)

    def read_beside(self, span: range) -> bytes:
        """Read bytes that an erase will destroy.

        A short span is read twice. A long span is read once and compared with a checksum from the chip. A long blank
        span is not read.
        """
        words = _whole_words(span)
        there = self._sum(words) if len(words) > WORTH else None
        if there is None:
            return super().read_beside(span)

        if there == self._plan.chip.blank_checksum(len(words)):
            read = super().read_beside
            edges = (range(span.start, words.start), range(words.stop, span.stop))
            before, after = (read(edge) if edge else b"" for edge in edges)
            return before + bytes((self._plan.chip.erased_byte,)) * len(words) + after

        data = FlashContents(self._bootloader).read(span)
        if zlib.crc32(data[words.start - span.start :][: len(words)]) == there:
            return data
        return super().read_beside(span)

    def is_rest_blank(self) -> bool:
        """Whether the chip's checksums show that all flash outside the plan is erased or does not exist."""
        plan = self._plan
        for span in plan.rest:
            if self._sum(span) != plan.chip.blank_checksum(len(span)):
                return False
        return plan.may_erase_all or bool(self._guarded(lambda stub: stub.has_no_hidden_flash()))

    def _sum(self, span: range) -> int | None:
        """Return the CRC-32 of whole words of the flash; None if the chip cannot compute it."""
        if span not in self._sums and (found := self._run(span.start, [], pages=[Pages(span.start, len(span))])):
            self._sums[span] = found.pages[0]
        return self._sums.get(span)

    def _ask(self, start: int, lengths: Sequence[int]) -> None:
        """Hash the flash for the given lengths.

        The first call also computes the checksums of the plan's units and of `_others`.
        """
        units, page_size = self._plan.units, self._page_size
        is_first = units[0].span not in self._sums
        runs: list[list[Pages]] = self._runs() if is_first else [[]]
        sums: list[int] = []
        for number, pages in enumerate(runs):
            found = self._run(start, () if number else lengths, pages=pages)
            if found is None:
                return
            self._digests |= {(start, length): sha for length, sha in zip(lengths, found.sha256, strict=False)}
            sums += found.pages

        if is_first:
            for unit in units:
                count = unit.size // page_size
                self._sums[unit.span] = joined_checksum(sums[:count], page_size)
                del sums[:count]
            self._sums |= {pages.span: there for pages, there in zip(runs[-1][1:], sums, strict=True)}

    def _runs(self) -> list[list[Pages]]:
        """The groups of pages for each run.

        All pages of the plan are included, and the last run also has as many of `_others` as fit.
        """
        limit = max(self._stub.page_limit, 1) if self._stub else 1
        starts, size = self._plan.span[:: self._page_size], self._page_size
        parts = [starts[first : first + limit] for first in range(0, len(starts), limit)]
        runs = [[Pages(part.start, size, len(part))] for part in parts]
        for span in self._others():
            if len(runs[-1]) < min(MAX_GROUPS, limit - runs[-1][0].count + 1):
                runs[-1].append(Pages(span.start, len(span)))
        return runs

    def _others(self) -> Iterator[range]:
        """Yield the spans outside the image whose checksum saves time, because the bytes are then not read."""
        plan = self._plan
        yield from (words for span in plan.beside if len(words := _whole_words(span)) > WORTH)
        if plan.mass_erase_saving(plan.units) > LOOK_SECONDS:
            yield from plan.rest

    def _run(self, start: int, lengths: Sequence[int], *, pages: Sequence[Pages] = ()) -> FlashDigests | None:
        return self._guarded(lambda stub: stub.run(start, lengths, pages=pages))

    def _guarded(self, work: Callable[[DigestStub], Answer]) -> Answer | None:
        """Call `work` with the digest program. Returns None if the program fails but the bootloader still answers."""
        if self._stub is None:
            return None
        try:
            return work(self._stub)
        except (RefusedError, NoAnswerError, BoardProtocolError) as error:
            # A silent board cannot be read back either: report the first error.
            try:
                reconnect(self._bootloader, self._plan.chip, flash_size=self._plan.flash_size)
            except (NoAnswerError, BoardProtocolError):
                raise error from None
            self._stub = None
            reason = f"{error.what}: {error.why}"
            self.notes = (f"The flash is read back, because the chip did not hash it itself ({reason}).",)
            return None


def read_twice(bootloader: Bootloader, span: range) -> bytes:
    """Read bytes twice and compare them, because the answer to Read Memory has no checksum (AN3155 section 3.4)."""
    return agreed_answer(
        lambda: b"".join(bootloader.read(chunk.start, len(chunk)) for chunk in chunks(span)),
        f"{span.start:#010x} to {span.stop:#010x}",
    )


def joined_checksum(parts: Sequence[int], size: int) -> int:
    """Compute the CRC-32 of data from the CRC-32 of each of its parts.

    Each part has `size` bytes. A CRC is linear, so the CRC-32 of the earlier parts only needs to be shifted over the
    length of the next part.
    """
    zeros = bytes(size)
    unshifted = zlib.crc32(zeros)
    result = parts[0]
    for part in parts[1:]:
        result = zlib.crc32(zeros, result) ^ unshifted ^ part
    return result


def _whole_words(span: range) -> range:
    """Return the part of a span that consists of whole words, as the digest program requires."""
    return range(span.start + -span.start % _WORD, span.stop - span.stop % _WORD)


def _block_start(span: range) -> int:
    return span.start - span.start % MAX_BLOCK


def _differing(span: range, found: bytes, *, wanted: bytes) -> FlashProofError:
    address, is_there, should_be = next(row for row in zip(span, found, wanted, strict=True) if row[1] != row[2])
    return FlashProofError(
        "check 10 failed, the flash does not contain the written bytes",
        why=f"the byte at {address:#010x} was read as {is_there:#04x} instead of {should_be:#04x}",
        remedy="run the command again; if it fails at the same address, the page is worn out: replace the board",
    )
