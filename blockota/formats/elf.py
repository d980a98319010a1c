"""Reads the loadable segments of an ARM executable (System V ABI, chapter 4; ELF for the Arm Architecture).

Only executables for a microcontroller are accepted (ELF32, little-endian, ARM, type EXEC). Each segment is placed
at its physical address, which is its address in flash. Start-up code may copy a segment to its virtual address in RAM.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

from blockota.errors import ImageError

MAGIC = b"\x7fELF"
"""The first four bytes of every ELF file."""

# Offsets of EI_CLASS and EI_DATA in the identification, the first 16 bytes.
_CLASS_AT, _DATA_AT = 4, 5
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
_REMEDY = "build the firmware with arm-none-eabi-gcc, and pass the linked executable"


@dataclass(frozen=True)
class _Header:
    segments_at: int
    segment_count: int
    sections_at: int
    section_count: int
    size: int


def parse_elf(content: bytes) -> tuple[tuple[int, bytes], ...]:
    """Read the loadable segments of an ARM executable.

    Args:
        content: the whole file.

    Returns:
        Pairs of a physical address and the bytes at that address, in the order of the program header table.

    Raises:
        ImageError: the file is for another machine, not an executable, damaged, or has no loadable segment.
    """
    header = _read_header(content)
    pieces = []
    for kind, offset, _, address, size, *_ in _rows(_SEGMENT, content, header.segments_at, header.segment_count):
        # The start-up code writes the zeros of sections that are not in the file, such as .bss.
        if kind != _SEGMENT_LOAD or not size:
            continue
        skipped = _count_header_bytes(content, header, range(offset, offset + size))
        data = content[offset + skipped : offset + size]
        if len(data) != size - skipped:
            raise ImageError("the ELF file is damaged", why="a segment is truncated", remedy="fetch or build it again")
        pieces.append((address + skipped, data))
    if not pieces:
        raise ImageError("the ELF file has no loadable segment", why="it contains no program", remedy=_REMEDY)
    return tuple(pieces)


def _read_header(content: bytes) -> _Header:
    if len(content) < _HEADER.size:
        why = f"it has {len(content)} bytes, and an ELF header has {_HEADER.size}"
        raise ImageError("the ELF file is truncated", why=why, remedy="fetch or build it again")
    # (1) The machine. The identification bytes give the byte order of the machine field.
    ident = content[:16].ljust(16, b"\0")
    bits, order = {1: 32, 2: 64}.get(ident[_CLASS_AT], 0), {1: "little", 2: "big"}.get(ident[_DATA_AT], "unknown")
    machine = int.from_bytes(content[18:20], "big" if order == "big" else "little")
    if (bits, order, machine) != (32, "little", _MACHINE_ARM):
        name = _MACHINES.get(machine, "ARM" if machine == _MACHINE_ARM else f"machine {machine}")
        raise ImageError(
            "the ELF file is for another machine",
            why=f"the file is for {name} with {bits} bits and {order}-endian; an STM32 is ARM, 32 bits, little-endian",
            remedy=_REMEDY,
        )
    # (2) The type. Only the addresses of an executable are final.
    (fields,) = _rows(_HEADER, content, 0, 1)
    _, kind, _, _, _, segments_at, sections_at, _, size, segment_size, segment_count, section_size = fields[:12]
    if kind != _TYPE_EXECUTABLE:
        what = _TYPES.get(kind, f"of type {kind}")
        raise ImageError("the ELF file is not an executable", why=f"it is {what}", remedy=_REMEDY)
    # (3) The tables. Without a usable section table, a segment with the ELF header is refused.
    if segment_count and segment_size != _SEGMENT.size:
        why = "the program header table has an unknown entry size"
        raise ImageError("the ELF file is damaged", why=why, remedy=_REMEDY)
    section_count = fields[12] if section_size == _SECTION.size else 0
    return _Header(segments_at, segment_count, sections_at, section_count, size)


def _count_header_bytes(content: bytes, header: _Header, segment: range) -> int:
    """Count the bytes of the ELF headers at the start of a segment.

    `segment` is the segment's range of file offsets. GNU ld includes the ELF headers in the first segment. GNU ld omits
    them with the option `-n`, and if the flash begins at a multiple of 64 KiB. `objcopy` always omits the headers,
    because they do not belong to a section.
    """
    # The program header table follows the header.
    if segment.start >= header.size + header.segment_count * _SEGMENT.size:
        return 0

    starts: list[int] = []
    for _, kind, flags, _, offset, size, *_ in _rows(_SECTION, content, header.sections_at, header.section_count):
        is_loaded = kind != _SECTION_NO_BITS and flags & _SECTION_ALLOCATED
        if is_loaded and size and offset in segment:
            starts.append(offset)
    if not starts:
        raise ImageError(
            "the ELF file would load its own header",
            why="no section shows where the program begins after the header",
            remedy="link the program with -n, or convert the file with arm-none-eabi-objcopy -O ihex",
        )
    return min(starts) - segment.start


def _rows(form: struct.Struct, content: bytes, start: int, count: int) -> list[tuple[Any, ...]]:
    try:
        return [form.unpack_from(content, start + number * form.size) for number in range(count)]
    except struct.error as error:
        why = "the ELF header or a table is truncated"
        raise ImageError("the ELF file is damaged", why=why, remedy=_REMEDY) from error
