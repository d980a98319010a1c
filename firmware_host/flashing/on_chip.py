"""What a board's flash holds, as a program in the chip's own RAM hashes it: 0.3 s for 64 KiB instead of 7.

Where the program cannot be had, the flash is read back instead, and a note says so. A board on which it was started
and that stays silent cannot be helped from here: the person resets it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from enum import Enum

from blockota.errors import BlockOTAError, BoardProtocolError, FlashProofError, NoAnswerError, RefusedError
from firmware_host.bootloader.chips import EraseUnit
from firmware_host.bootloader.client import Bootloader
from firmware_host.bootloader.identity import reconnect
from firmware_host.flashing.contents import ReadBack, differing
from firmware_host.flashing.digest_stub import MAX_LENGTHS, DigestStub, FlashDigests, Pages
from firmware_host.flashing.memory import Memory
from firmware_host.flashing.plan import FlashPlan, common

WORTH = 2048
"""Bytes that are read back in the time of one run of the program, at 115200 baud."""


class Proof(Enum):
    """How a flash is looked at, and how it is proven at the end.

    Attributes:
        STUB: both by hashing on the chip.
        READ_BACK: planned by hashing on the chip, proven by reading every byte back.
        NO_STUB: both by reading every byte back; no program is run on the chip.
    """

    STUB = "stub"
    READ_BACK = "read-back"
    NO_STUB = "no-stub"


class OnChip:
    """The contents as the chip itself hashes them, kept until they change.

    Args:
        bootloader: connected, and told which chip it is.
        stub: the program, for this board.
        plan: whose units are looked at; they are of one size.
        proof: how the flash is proven at the end.
    """

    def __init__(self, bootloader: Bootloader, stub: DigestStub, *, plan: FlashPlan, proof: Proof) -> None:
        """Nothing is asked of the board yet."""
        self._bootloader, self._plan = bootloader, plan
        self._stub: DigestStub | None = stub
        self._by_reading = proof is not Proof.STUB
        self._reader = ReadBack(bootloader)
        self._pages = Pages(plan.units[0].address, plan.units[0].size, len(plan.units))
        self._digests: dict[tuple[int, int], bytes] = {}
        self._sums: dict[int, int] = {}
        self._expected: tuple[int, list[int]] = (plan.image.load_address, [])
        self.notes: tuple[str, ...] = ()

    @property
    def method(self) -> str:
        """How the image is proven: ``stub``, or ``read-back`` where every byte of it is read."""
        if self._by_reading or self._stub is None:
            return "read-back"
        image = self._plan.image
        is_long = len(image.data) > WORTH and not self.has_read(image.span)
        return "stub" if is_long or (image.load_address, len(image.data)) in self._digests else "read-back"

    def expect(self, start: int, lengths: Sequence[int]) -> None:
        """Say which digests will be asked for: one run answers several questions."""
        self._expected = (start, list(lengths)[:MAX_LENGTHS])

    def sha256(self, start: int, lengths: Sequence[int]) -> tuple[bytes, ...]:
        """Hash on the chip what is not known yet, unless it takes less time to read it."""
        missing = sorted({length for length in lengths if (start, length) not in self._digests})
        runs = -(-len(missing) // MAX_LENGTHS)
        if missing and runs * WORTH < missing[-1]:
            for at in range(0, len(missing), MAX_LENGTHS):
                self._ask(start, missing[at : at + MAX_LENGTHS])
        return tuple(self._digests.get((start, length)) or self._read_digest(start, length) for length in lengths)

    def checksum(self, unit: EraseUnit) -> int:
        """Let the chip sum all units, if it has not yet."""
        if unit.address not in self._sums:
            self._ask(*self._expected)
        return self._sums[unit.address] if unit.address in self._sums else self._reader.checksum(unit)

    def read(self, span: range) -> bytes:
        """Read the bytes themselves."""
        return self._reader.read(span)

    def has_read(self, span: range) -> bool:
        """Whether the bytes themselves are known."""
        return self._reader.has_read(span)

    def changed(self) -> None:
        """Forget everything."""
        self._digests.clear()
        self._sums.clear()
        self._reader.changed()

    def prove(self, wanted: Memory, spans: Sequence[range]) -> Iterator[int]:
        """Hash long spans on the chip, and read short ones; read all where that is how it shall be proven."""
        done = 0
        # The seal is proven by itself: the rest of an image is read where all of it would be.
        longest_read = WORTH - len(self._plan.seal)
        for span in spans:
            if self._by_reading or len(span) <= longest_read:
                yield from (done + read for read in self._reader.prove(wanted, [span]))
            else:
                yield from (done + proven for proven in self._prove_hash(wanted, span))
            done += len(span)

    def _prove_hash(self, wanted: Memory, span: range) -> Iterator[int]:
        digest = hashlib.sha256(wanted[span]).digest()
        found = self._run(span.start, [len(span)])
        if found and found.sha256[0] != digest:
            self._raise_where_it_differs(wanted, span, sums=found.pages)
            # No page differs: the answer itself was garbled on its way.
            found = self._run(span.start, [len(span)])
        if found is None:
            yield from self._reader.prove(wanted, [span])
            return
        if found.sha256[0] != digest:
            raise FlashProofError(
                "check 10 failed, the flash does not hold what was written",
                why=f"from {span.start:#010x} to {span.stop:#010x} its SHA-256 is {found.sha256[0].hex()} "
                f"instead of {digest.hex()}",
                remedy="run the command again; if it fails again, replace the board",
            )
        yield len(span)

    def _raise_where_it_differs(self, wanted: Memory, span: range, *, sums: Sequence[int]) -> None:
        for unit, found in zip(self._plan.units, sums, strict=True):
            part = common(unit.span, span)
            if part and found != wanted.checksum(unit.span):
                there = ReadBack(self._bootloader).read(part)
                if there != wanted[part]:
                    raise differing(part, there, wanted=wanted[part])

    def _ask(self, start: int, lengths: Sequence[int]) -> None:
        if found := self._run(start, lengths):
            self._digests |= {(start, length): sha for length, sha in zip(lengths, found.sha256, strict=True)}
            self._sums = {unit.address: crc for unit, crc in zip(self._plan.units, found.pages, strict=True)}

    def _run(self, start: int, lengths: Sequence[int]) -> FlashDigests | None:
        """Run the program; None where it cannot be had, from then on."""
        if self._stub is None:
            return None
        try:
            return self._stub.run(start, lengths, pages=self._pages)
        except (RefusedError, NoAnswerError, BoardProtocolError) as error:
            self._give_up(error)
            return None

    def _give_up(self, error: BlockOTAError) -> None:
        """Go on by reading back, if the board still answers."""
        try:
            reconnect(self._bootloader, self._plan.chip, flash_size=self._plan.flash_size)
        except (NoAnswerError, BoardProtocolError):
            raise error from None
        self._stub = None
        self.notes = (f"The flash is read back, because the chip did not hash it itself ({error.what}: {error.why}).",)

    def _read_digest(self, start: int, length: int) -> bytes:
        (digest,) = self._reader.sha256(start, [length])
        return digest
