"""A strict reader of Intel HEX (Intel, "Hexadecimal Object File Format Specification", revision A, 1988).

A record is one line: ``:``, then in hexadecimal a byte count, a 16-bit offset, a type, the data and a checksum, which
makes the sum of all bytes a multiple of 256. Malformed and ambiguous records are refused with their line number.
"""

from __future__ import annotations

import binascii
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Record:
    """One record of the file.

    Attributes:
        line: its line number from 1, for messages.
        kind: its type.
        offset: the low 16 bits of the data's address.
        data: its data.
    """

    line: int
    kind: RecordType
    offset: int
    data: bytes


def parse_intel_hex(content: bytes) -> tuple[tuple[int, bytes], ...]:
    """Read the data of a HEX file, in the order of its records.

    Args:
        content: the whole file.

    Returns:
        Pairs of an address and the bytes at that address.

    Raises:
        ImageError: a record violates the specification, or the end record is missing or not the last one.
    """
    pieces, base, ended = [], 0, False
    for number, line in enumerate(content.splitlines(), start=1):
        if not line.rstrip():
            continue
        record = _parse_record(number, line.rstrip())
        if ended:
            raise _refused(record.line, "it follows the end record")
        ended = record.kind is RecordType.END_OF_FILE
        if record.kind in _BASE_SHIFTS:
            base = int.from_bytes(record.data, "big") << _BASE_SHIFTS[record.kind]
        elif record.kind is RecordType.DATA and record.data:
            pieces.append((base + record.offset, record.data))
    if not ended:
        raise ImageError("the HEX file has no end record", why="it was truncated", remedy="fetch or build it again")
    return tuple(pieces)


def _parse_record(line: int, text: bytes) -> Record:
    data = _decode_line(line, text)
    count, offset, code = data[0], int.from_bytes(data[1:3], "big"), data[3]
    body = data[_HEADER_SIZE:-1]
    if len(body) != count:
        raise _refused(line, f"its count is {count} bytes of data, and it has {len(body)}")
    if sum(data) % 256:
        raise _refused(line, "its checksum is wrong")
    if code not in set(RecordType):
        raise _refused(line, f"there is no record type {code:02X}")
    record = Record(line, RecordType(code), offset, body)
    _check_shape(record)
    return record


def _decode_line(line: int, text: bytes) -> bytes:
    if not text.startswith(b":"):
        raise _refused(line, "it does not begin with a colon")
    try:
        data = binascii.unhexlify(text[1:])
    except ValueError as error:
        raise _refused(line, "it is not a row of pairs of hexadecimal digits") from error
    if len(data) <= _HEADER_SIZE:
        raise _refused(line, "it is too short")
    return data


def _check_shape(record: Record) -> None:
    if record.kind is RecordType.DATA:
        if record.offset + len(record.data) > _OFFSET_LIMIT:
            raise _refused(record.line, "its data crosses a 64 KiB boundary")
    elif len(record.data) != _SIZES[record.kind] or record.offset:
        raise _refused(record.line, f"a record of type {record.kind:02X} has another length or offset")


def _refused(line: int, why: str) -> ImageError:
    return ImageError(f"line {line} of the HEX file is wrong", why=why, remedy="fetch or build it again")
