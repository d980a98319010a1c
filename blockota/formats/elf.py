"""Reads the loadable segments of an ARM executable (System V ABI, chapter 4; ELF for the Arm Architecture).

Only executables for a microcontroller are accepted: ELF32, little-endian, ARM, type EXEC. A segment is placed at its
physical address, which is its address in flash; start-up code may copy it to its virtual address in RAM.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum

from blockota.errors import ImageError

MAGIC = b"\x7fELF"
"""The first four bytes of every ELF file."""

_CLASS_32, _LITTLE_ENDIAN = 1, 1
_TYPE_EXECUTABLE = 2
_MACHINE_ARM = 40
_SEGMENT_LOAD = 1
_SECTION_NO_BITS = 8
_SECTION_ALLOCATED = 2
_HEADER = struct.Struct("<16sHHIIIIIHHHHHH")
_SEGMENT = struct.Struct("<8I")
_SECTION = struct.Struct("<10I")
_TYPES = {0: "of no type", 1: "an object file that is not linked yet", 3: "a shared object", 4: "a core dump"}
_MACHINES = {
    3: "x86",
    8: "MIPS",
    20: "PowerPC",
    62: "x86-64",
    83: "AVR",
    94: "Xtensa",
    183: "64-bit ARM",
    243: "RISC-V",
}
_REMEDY = "build the firmware with arm-none-eabi-gcc, and give its linked executable"


class _Ident(IntEnum):
    """Offsets in the identification, the first 16 bytes."""

    CLASS = 4
    DATA = 5


@dataclass(frozen=True)
class _Header:
    segments_at: int
    segment_count: int
    sections_at: int
    section_count: int
    size: int

    @property
    def tables(self) -> range:
        """The file offsets of the header and the program header table, if the table follows the header."""
        return range(self.size + self.segment_count * _SEGMENT.size)


@dataclass(frozen=True)
class _Segment:
    offset: int
    address: int
    size: int

    def without_start(self, count: int) -> _Segment:
        return _Segment(self.offset + count, self.address + count, self.size - count)


def parse_elf(content: bytes) -> tuple[tuple[int, bytes], ...]:
    """Read the loadable segments of an ARM executable.

    Args:
        content: the whole file.

    Returns:
        Pairs of a physical address and the bytes at that address, in the order of the program header table.

    Raises:
        ImageError: the file is for another machine, not an executable, damaged, or has nothing to load.
    """
    _check_identification(content)
    try:
        header = _parse_header(content)
        segments = [_trim(content, header, segment=segment) for segment in _segments(content, header)]
    except struct.error as error:
        raise ImageError("the ELF file is damaged", why="one of its tables is truncated", remedy=_REMEDY) from error
    if not segments:
        raise ImageError("the ELF file has no loadable segment", why="it contains no program", remedy=_REMEDY)
    return tuple((segment.address, _bytes_of(content, segment)) for segment in segments)


def _check_identification(content: bytes) -> None:
    ident = content[:16].ljust(16, b"\0")
    bits = {1: 32, 2: 64}.get(ident[_Ident.CLASS], 0)
    order = {1: "little", 2: "big"}.get(ident[_Ident.DATA], "unknown")
    machine = int.from_bytes(content[18:20], "big" if order == "big" else "little")
    if (ident[_Ident.CLASS], ident[_Ident.DATA], machine) != (_CLASS_32, _LITTLE_ENDIAN, _MACHINE_ARM):
        name = _MACHINES.get(machine, "ARM" if machine == _MACHINE_ARM else f"machine {machine}")
        raise ImageError(
            "the ELF file is for another machine",
            why=f"it is for {name} with {bits} bits and {order}-endian, an STM32 is ARM, 32 bits, little-endian",
            remedy=_REMEDY,
        )


def _parse_header(content: bytes) -> _Header:
    fields = _HEADER.unpack_from(content)
    _, kind, _, _, _, segments_at, sections_at, _, size, segment_size, segment_count, section_size = fields[:12]
    if kind != _TYPE_EXECUTABLE:
        what = _TYPES.get(kind, f"of type {kind}")
        raise ImageError("the ELF file is not an executable", why=f"it is {what}", remedy=_REMEDY)
    section_count = fields[12] if section_size == _SECTION.size else 0
    if segment_count and segment_size != _SEGMENT.size:
        raise ImageError(
            "the ELF file is damaged", why="its program header table has an unknown entry size", remedy=_REMEDY
        )
    return _Header(segments_at, segment_count, sections_at, section_count, size)


def _segments(content: bytes, header: _Header) -> list[_Segment]:
    rows = [
        _SEGMENT.unpack_from(content, header.segments_at + number * _SEGMENT.size)
        for number in range(header.segment_count)
    ]
    return [
        _Segment(offset, physical, size)
        for kind, offset, _, physical, size, *_ in rows
        if kind == _SEGMENT_LOAD and size
    ]


def _trim(content: bytes, header: _Header, *, segment: _Segment) -> _Segment:
    """Remove the ELF header from the start of a segment.

    GNU ld maps the header into the first segment if the flash does not begin at a multiple of 64 KiB and `-n` was not
    given. objcopy omits these bytes, because no section has them.
    """
    if segment.offset not in header.tables:
        return segment
    places = range(header.sections_at, header.sections_at + header.section_count * _SECTION.size, _SECTION.size)
    starts = [
        offset
        for _, kind, flags, _, offset, size, *_ in (_SECTION.unpack_from(content, place) for place in places)
        if kind != _SECTION_NO_BITS and flags & _SECTION_ALLOCATED and size
        and segment.offset <= offset < segment.offset + segment.size
    ]  # fmt: skip
    if not starts:
        raise ImageError(
            "the ELF file would load its own header", why="no section states where the program begins",
            remedy="link it with -n, or convert it with arm-none-eabi-objcopy -O ihex",
        )  # fmt: skip
    return segment.without_start(min(starts) - segment.offset)


def _bytes_of(content: bytes, segment: _Segment) -> bytes:
    data = content[segment.offset : segment.offset + segment.size]
    if len(data) != segment.size:
        raise ImageError("the ELF file is damaged", why="a segment is truncated", remedy="fetch or build it again")
    return data
