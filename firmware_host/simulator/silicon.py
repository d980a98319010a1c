"""The memories of a simulated chip, by absolute address: flash, option bytes, RAM and system memory.

The flash controller programs and erases flash and option bytes, and its power supply can fail. A page or sector is
identified by its number. Option bytes take effect at the next reset (PM0075 section 2.5). The option bytes of the F1
are modelled completely. Of the other families, only the option byte RDP is modelled, and write protection is stored
separately.
"""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from blockota.errors import LinkError, UsageError
from firmware_host.simulator.faults import Faults
from firmware_host.simulator.profiles import BoardProfile

READOUT_OPEN = 0xA5
"""The only value of RDP that leaves the flash of an F1 readable (PM0075 section 2.5)."""
WRITE_PROTECTION = 8
PROTECTION_BITS = 32
HIDDEN_SIZE = 16
"""The number of option bytes in the model of a chip whose ROM cannot read the option bytes."""
ERASED = 0xFF
LEVEL_0, LEVEL_2 = 0xAA, 0xCC
"""RDP values of the other families; any other value means level 1. Level 2 is permanent and disables the boot ROM."""
FORMATS = {"F1": (0, 1), "F0": (0, 1), "F4": (1, 0), "L0": (0, 2), "L4": (0, 4), "none": (0, 0)}
"""The place of RDP, and the number of option bytes that are followed by their complement; 0 without complements."""

TORN_NOT, TORN_DONE, TORN_HALF = 1, 2, 3
"""Values of the fault `torn`: none, all, or the first half of the cells have changed; else some of the bits."""

Cells = bytearray | mmap.mmap


class PowerCutError(Exception):
    """The power supply failed, so the chip stops until power returns."""


class Supply:
    """The power supply, which counts the flash controller's operations, and fails at the operation set in `faults`."""

    def __init__(self, faults: Faults) -> None:
        self._faults, self._programs, self._erases = faults, 0, 0

    @property
    def operations(self) -> int:
        """The number of program and erase operations that began."""
        return self._programs + self._erases

    def count_programs(self, count: int) -> bool:
        """Return whether power lasts for `count` more program operations, and count these operations if it does."""
        faults, done = self._faults, self._programs
        cuts = [faults.power_cut_before_program, faults.power_cut_in_program]
        if faults.power_cut_in_operation is not None:
            cuts.append(faults.power_cut_in_operation - self._erases)
        lasts = not any(cut is not None and done < cut <= done + count for cut in cuts)
        self._programs += count * lasts
        return lasts

    def program(self, cells: Cells, at: int, new: bytes, *, what: str) -> None:
        """Program one unit of flash cells in one operation, or fail."""
        self._programs += 1
        if self._programs == self._faults.power_cut_before_program:
            raise PowerCutError(f"before program operation {self._programs}")

        cuts = (
            (self._programs, self._faults.power_cut_in_program),
            (self.operations, self._faults.power_cut_in_operation),
        )
        span, fails = slice(at, at + len(new)), any(number == cut for number, cut in cuts)

        if fails:
            new = self.interrupted(bytes(cells[span]), new, operation=f"program {self._programs}")
        cells[span] = new
        if fails:
            raise PowerCutError(f"while programming {what}")

    def erase(self, cells: Cells, spans: Sequence[range], *, erased: bytes, what: str = "") -> None:
        """Erase spans of flash cells in one operation, or fail within it."""
        self._erases += 1
        cuts = ((self._erases, self._faults.power_cut_in_erase), (self.operations, self._faults.power_cut_in_operation))
        fails = any(number == cut for number, cut in cuts)

        old = b"".join(cells[span.start : span.stop] for span in spans)
        new = erased * len(old)
        if fails:
            new = self.interrupted(old, new, operation=f"erase {self._erases}")

        for span in spans:
            cells[span.start : span.stop], new = new[: len(span)], new[len(span) :]
        if fails:
            raise PowerCutError(f"while erasing{what}")

    def interrupted(self, old: bytes, new: bytes, *, operation: str) -> bytes:
        """Return the contents of cells after an interrupted operation, as the fault `torn` selects."""
        size, torn = len(old), self._faults.torn
        if torn in {TORN_NOT, TORN_DONE, TORN_HALF}:
            changed_size = {TORN_NOT: 0, TORN_DONE: size, TORN_HALF: size // 2}[torn]
            return new[:changed_size] + old[changed_size:]
        # A quarter, a half or three quarters of the bits have changed, chosen by the seed.
        seed = hashlib.shake_128(f"{self._faults.seed} {operation}".encode()).digest(2 * size + 1)
        first, second = int.from_bytes(seed[:size]), int.from_bytes(seed[size : 2 * size])
        changed = (first & second, first, first | second)[seed[-1] % 3]
        before = int.from_bytes(old)
        return (before ^ (before ^ int.from_bytes(new)) & changed).to_bytes(size)


class Flash:
    """The cells and the controller of the main flash. The contents are in memory or in a file (see `_cells`).

    Attributes:
        busy_seconds: the time that all programming and erasing so far would have taken on the chip.
        protected: the numbers of the pages that cannot be programmed or erased.
    """

    def __init__(self, profile: BoardProfile, contents: bytes | Path, *, faults: Faults, supply: Supply) -> None:
        self._profile, self._faults, self._supply = profile, faults, supply
        self.busy_seconds = 0.0
        self.protected: frozenset[int] = frozenset()
        self.cells = _cells(contents, profile)

    @property
    def addresses(self) -> range:
        """The addresses of all cells."""
        return self._profile.flash

    @property
    def operations(self) -> int:
        """The number of program and erase operations that began, including operations on the option bytes."""
        return self._supply.operations

    def page_around(self, address: int) -> range:
        """Return the addresses of the page that contains an address; empty if no page contains it."""
        if address not in self.addresses:
            return range(0)
        span = self._profile.page_span(self._profile.page_at(address - self._profile.flash_start))
        return range(span.start + self._profile.flash_start, span.stop + self._profile.flash_start)

    def is_protected(self, addresses: range) -> bool:
        """Return whether one of these addresses is in a page that cannot be programmed or erased."""
        if not self.protected or not addresses:
            return False
        first, last = (self._profile.page_at(at - self._profile.flash_start) for at in (addresses[0], addresses[-1]))
        return not self.protected.isdisjoint(range(first, last + 1))

    def read(self, addresses: range) -> bytes:
        """Return the contents of cells."""
        start = self._profile.flash_start
        return bytes(self.cells[addresses.start - start : addresses.stop - start])

    def interrupt(self, addresses: range, before: bytes) -> None:
        """Change cells as if their last operation had been interrupted; `before` has the cells' earlier contents."""
        first = addresses.start - self._profile.flash_start
        torn = self._supply.interrupted(before, self.read(addresses), operation=f"{self.operations}")
        self.cells[first : first + len(torn)] = torn

    def program(self, address: int, data: bytes) -> bool:
        """Program data unit by unit; return False if the controller refused cells that are not erased.

        Writes to protected pages and beyond the end of the flash are ignored, and count as successful.
        """
        profile, first = self._profile, address - self._profile.flash_start
        end, count = first + len(data), len(data) // profile.program_unit
        # The common case in one step: erased cells that are neither worn out nor protected, and no power cut.
        worn = self._faults.flipped_bit
        is_worn = worn is not None and first <= worn - profile.flash_start < end
        is_erased = end <= len(self.cells) and self.cells[first:end] == profile.erased * len(data)
        if is_erased and not is_worn and not self.protected and self._supply.count_programs(count):
            self.busy_seconds += count * profile.program_time
            self.cells[first:end] = data
            return True
        whole = True
        for at in range(0, len(data), profile.program_unit):
            whole &= self._program_unit(first + at, data[at : at + profile.program_unit])
        return whole

    def erase_page(self, page: int) -> None:
        """Erase one page. A protected or missing page does not change anything, and is not reported as an error."""
        profile = self._profile
        self.busy_seconds += profile.erase_time(page)
        if page < profile.page_count and page not in self.protected:
            self._erase((page,))

    def erase_at_once(self, pages: range, *, despite_protection: bool = False) -> None:
        """Erase a bank or the whole flash in one operation; do nothing if a page is protected.

        With `despite_protection`, protected pages are erased, too.
        """
        self.busy_seconds += self._profile.mass_erase
        if despite_protection or not self.protected.intersection(pages):
            self._erase(pages)

    def erase(self, addresses: range) -> bool:
        """Erase one page or all pages in one operation, and return True. With no addresses, nothing is erased."""
        if addresses == self.addresses:
            self.erase_at_once(range(self._profile.page_count))
        elif addresses:
            self.erase_page(self._profile.page_at(addresses.start - self._profile.flash_start))
        return True

    def _program_unit(self, offset: int, value: bytes) -> bool:
        self.busy_seconds += self._profile.program_time
        if offset >= len(self.cells) or self._profile.page_at(offset) in self.protected:
            return True

        old = bytes(self.cells[offset : offset + len(value)])
        # PM0075 section 2.3.3, "Main Flash memory programming": a cell that is not erased takes only zero.
        if self._profile.blank_only and any(value) and old != self._profile.erased * len(value):
            return False
        # Bits change only away from the erased state.
        before, wanted = int.from_bytes(old, "little"), int.from_bytes(value, "little")
        merged = before & wanted if self._profile.erased == b"\xff" else before | wanted

        # A worn-out cell: one of its bits is always programmed wrong.
        worn = (self._faults.flipped_bit or 0) - self._profile.flash_start - offset
        if 0 <= worn < len(value):
            merged ^= 1 << 8 * worn

        what = f"{self._profile.flash_start + offset:#010x}"
        self._supply.program(self.cells, offset, merged.to_bytes(len(value), "little"), what=what)
        return True

    def _erase(self, pages: Iterable[int]) -> None:
        spans = [self._profile.page_span(page) for page in pages if page != self._faults.sticky_page]
        self._supply.erase(self.cells, spans, erased=self._profile.erased)


class OptionBytes:
    """The option bytes; on an STM32F1 they are RDP, USER, two data bytes and WRP0 to WRP3, each with its complement.

    Attributes:
        raw: the option bytes as the core reads them. All other attributes have the values of the last `load`.
        boot_rom_disabled: whether readout protection is at level 2, which an F1 does not have.
    """

    def __init__(self, profile: BoardProfile, *, supply: Supply) -> None:
        self._profile, self._supply = profile, supply
        self._is_f1 = profile.option_format == "F1"
        self._open = READOUT_OPEN if self._is_f1 else LEVEL_0
        self._rdp, self._complemented = FORMATS[profile.option_format]
        self._sectors: frozenset[int] = frozenset()  # protected from the next reset on; an F1 has bits for them instead
        self.raw = bytearray(bytes([ERASED]) * (len(profile.options) or HIDDEN_SIZE))
        self.store(self.with_readout(protected=False))
        self.load()

    def load(self) -> None:
        """Make the option bytes effective, as every reset does."""
        level, sectors = self.raw[self._rdp], self._sectors
        if self._is_f1:
            # A byte that does not match its complement counts as erased, and protects the flash (PM0075 section 2.5).
            level, _, _, _, *words = (
                byte if byte == ~other & 0xFF else ERASED
                for byte, other in zip(self.raw[::2], self.raw[1::2], strict=True)
            )
            bits = int.from_bytes(bytes(words), "little")
            # Bit 31 covers the rest of the flash (PM0075 section 2.5).
            last = range(PROTECTION_BITS - 1, self._profile.page_count) if not bits >> PROTECTION_BITS - 1 else ()
            sectors = frozenset((*(one for one in range(PROTECTION_BITS) if not bits >> one & 1), *last))
        self.readout_protected, self.boot_rom_disabled = level != self._open, level == LEVEL_2 and not self._is_f1
        pages, per_sector = range(self._profile.page_count), self._profile.pages_per_sector
        self.protected_pages = frozenset(page for page in pages if page // per_sector in sectors)

    def write(self, data: bytes) -> None:
        """Erase all option bytes, and program `data`; the hardware computes the complements."""
        self._supply.erase(self.raw, [range(len(self.raw))], erased=b"\xff", what=" the option bytes")
        for index, unit in enumerate(self._units(data)):
            self._supply.program(self.raw, index * len(unit), unit, what="the option bytes")

    def store(self, data: bytes) -> None:
        """Set the option bytes without an operation of the flash controller."""
        kept = b"".join(self._units(data))
        self.raw[: len(kept)] = kept

    def _units(self, data: bytes) -> Iterator[bytes]:
        """Yield the units that the controller programs, one unit per operation."""
        width = self._complemented
        step = 2 * width or 4
        for at in range(0, len(data), step):
            value = data[at : at + (width or step)]
            yield value + (bytes(byte ^ 0xFF for byte in value) if width else b"")

    def with_readout(self, *, protected: bool) -> bytes:
        """Return option bytes that set or remove readout protection and keep the other settings."""
        data = bytearray(self.raw)
        data[self._rdp] = ERASED if protected else self._open
        return bytes(data)

    def with_write_protection(self, sectors: Iterable[int]) -> bytes:
        """Return option bytes that write-protect exactly these sectors and keep the other settings."""
        if not self._is_f1:
            self._sectors = frozenset(sectors)
            return bytes(self.raw)
        bits = (1 << PROTECTION_BITS) - 1
        for sector in sectors:  # one without a bit is ignored: the ROM does not check the numbers (AN3155 section 3.9)
            bits &= ~(1 << sector)
        halfwords = b"".join(bytes((byte, 0)) for byte in (bits & 0xFFFF_FFFF).to_bytes(4, "little"))
        return bytes(self.raw[:WRITE_PROTECTION]) + halfwords


class BusFaultError(Exception):
    """The core accessed an address without memory, and stops until it is reset."""


class Silicon:
    """The memories of one chip: flash, RAM, system memory, option bytes, and other memory that the factory wrote."""

    def __init__(self, profile: BoardProfile, flash: bytes | Path, *, faults: Faults, unique_id: bytes) -> None:
        self.profile = profile
        supply = Supply(faults)
        self.flash = Flash(profile, flash, faults=faults, supply=supply)
        self.options = OptionBytes(profile, supply=supply)
        self.ram = bytearray(profile.ram_size)
        self.system, self.factory = bytearray(len(profile.system)), bytearray(len(profile.factory))

        kib = (profile.reported_flash_size or profile.flash_size) // 1024
        if kib in profile.flash_size_codes:
            kib = profile.flash_size_codes.index(kib)
        words = [(at, unique_id[4 * index :][:4]) for index, at in enumerate(profile.unique_id_registers)]
        if profile.flash_size_register:
            words.append((profile.flash_size_register, kib.to_bytes(2, "little")))

        span, cells = (profile.factory, self.factory) if profile.factory else (profile.system, self.system)
        for address, value in words:
            cells[address - span.start : address - span.start + len(value)] = value
        self.load_options()

    def load_options(self) -> None:
        """Load the option bytes, and apply their write protection to the flash."""
        self.options.load()
        self.flash.protected = self.options.protected_pages

    def protect(self, *, readout: bool, sectors: Iterable[int]) -> None:
        """Set the option bytes without an operation of the flash controller; they take effect at the next reset."""
        self.options.store(self.options.with_readout(protected=readout))
        self.options.store(self.options.with_write_protection(sectors))

    def read(self, address: int, length: int) -> bytes:
        """Return `length` bytes from `address` on; an address without memory raises BusFaultError."""
        profile = self.profile
        regions = (
            (profile.flash_start, self.flash.cells),
            (profile.ram_start, self.ram),
            (profile.system.start, self.system),
            (profile.options.start, self.options.raw[: len(profile.options)]),
            (profile.factory.start, self.factory),
        )

        data, end = b"", address + length
        # A read may continue from one region into the next.
        while (at := address + len(data)) < end:
            for start, cells in regions:
                if start <= at < start + len(cells):
                    data += bytes(cells[at - start : end - start])
                    break
            else:
                raise BusFaultError(f"reading at {at:#010x}")
        return data

    def write_ram(self, address: int, data: bytes) -> None:
        """Write data to RAM; an address without RAM raises BusFaultError."""
        first = address - self.profile.ram_start
        if first + len(data) > len(self.ram):
            raise BusFaultError(f"writing {len(data)} bytes at {address:#010x}")
        self.ram[first : first + len(data)] = data


def _cells(contents: bytes | Path, profile: BoardProfile) -> Cells:
    """Return the cells of the flash, in memory or in a file, which is created if it does not exist."""
    if isinstance(contents, bytes):
        return bytearray(contents + _rest(len(contents), profile))

    try:
        with contents.open("a+b") as file:
            if file.tell() not in (0, profile.flash_size):
                raise UsageError(
                    f"{contents} is not a flash file of an {profile.name}",
                    why=f"it has {file.tell():,} bytes, the flash has {profile.flash_size:,}; it was not overwritten",
                    remedy="name a new file, or a flash file of this chip",
                )
            file.write(_rest(file.tell(), profile))
        with contents.open("r+b") as file:
            return mmap.mmap(file.fileno(), profile.flash_size)
    except OSError as error:
        raise LinkError(
            f"the flash file {contents} cannot be used",
            why=error.strerror or str(error),
            remedy="choose a file that can be written",
        ) from error


def _rest(length: int, profile: BoardProfile) -> bytes:
    """Return the erased cells that follow initial contents of the given length."""
    if length > profile.flash_size:
        why = f"they have {length} bytes, but the chip's flash has {profile.flash_size} bytes"
        raise UsageError("the initial flash contents are too large", why=why, remedy="choose a smaller image")
    return profile.erased * (profile.flash_size - length)
