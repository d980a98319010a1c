"""A strict reader of Intel HEX (Intel, "Hexadecimal Object File Format Specification", revision A, 1988).

Each record is one line: a colon, then in hexadecimal a byte count, a 16-bit offset, a type, the data and a checksum.
The checksum makes the sum of all bytes of the record a multiple of 256. The parser refuses malformed and ambiguous
records, and reports their line number.
"""

from __future__ import annotations

import binascii
from enum import IntEnum

from blockota.errors import ImageError

_HEADER_SIZE = 4
_OFFSET_LIMIT = 0x1_0000


class RecordType(IntEnum):
    """The record types of the specification."""

    DATA = 0
    END_OF_FILE = 1
    EXTENDED_SEGMENT_ADDRESS = 2
    START_SEGMENT_ADDRESS = 3
    EXTENDED_LINEAR_ADDRESS = 4
    START_LINEAR_ADDRESS = 5


_SIZES = {
    RecordType.END_OF_FILE: 0,
    RecordType.EXTENDED_SEGMENT_ADDRESS: 2,
    RecordType.START_SEGMENT_ADDRESS: 4,
    RecordType.EXTENDED_LINEAR_ADDRESS: 2,
    RecordType.START_LINEAR_ADDRESS: 4,
}
_BASE_SHIFTS = {RecordType.EXTENDED_SEGMENT_ADDRESS: 4, RecordType.EXTENDED_LINEAR_ADDRESS: 16}


def parse_intel_hex(content: bytes) -> tuple[tuple[int, bytes], ...]:
    """Read the data records of an Intel HEX file, in file order.

    Args:
        content: the whole file.

    Returns:
        Pairs of an address and the bytes at that address.

    Raises:
        ImageError: a record violates the specification, or the last record is not the end record.
    """
    pieces, base, ended = [], 0, False
    for number, line in enumerate(content.splitlines(), start=1):
        if not line.rstrip():
            continue

        kind, offset, data = _parse_record(number, line.rstrip())
        if ended:
            raise _refused(number, "the record follows the end record")
        ended = kind is RecordType.END_OF_FILE
        if kind in _BASE_SHIFTS:
            base = int.from_bytes(data) << _BASE_SHIFTS[kind]
        elif kind is RecordType.DATA and data:
            pieces.append((base + offset, data))

    if not ended:
        raise ImageError(
            "the HEX file has no end record", why="it was truncated", remedy="fetch or build the file again"
        )
    return tuple(pieces)


def _parse_record(line: int, text: bytes) -> tuple[RecordType, int, bytes]:
    """Parse one record into its type, offset and data. `line` is the line number for error messages."""
    if not text.startswith(b":"):
        raise _refused(line, "it does not begin with a colon")
    try:
        record = binascii.unhexlify(text[1:])
    except ValueError as error:
        raise _refused(line, "it does not consist of pairs of hexadecimal digits") from error
    if len(record) <= _HEADER_SIZE:
        raise _refused(line, "it is too short")

    count, offset, code = record[0], int.from_bytes(record[1:3]), record[3]
    data = record[_HEADER_SIZE:-1]
    if len(data) != count:
        raise _refused(line, f"it states {count} bytes of data, but has {len(data)}")
    if sum(record) % 256:
        raise _refused(line, "its checksum is wrong")
    if code not in set(RecordType):
        raise _refused(line, f"record type {code:02X} does not exist")

    kind = RecordType(code)
    if kind is RecordType.DATA:
        # Data that crosses the boundary wraps after a segment address, and continues after a linear address. Readers
        # disagree about this.
        if offset + count > _OFFSET_LIMIT:
            raise _refused(line, "its data crosses a 64 KiB boundary")
    elif count != _SIZES[kind] or offset:
        raise _refused(line, f"a record of type {kind:02X} has a wrong length or offset")
    return kind, offset, data


def _refused(line: int, why: str) -> ImageError:
    return ImageError(f"line {line} of the HEX file is wrong", why=why, remedy="fetch or build the file again")
