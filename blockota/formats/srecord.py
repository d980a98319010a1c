"""A strict reader of Motorola S-records (srec(5), Motorola M68000 Family Programmer's Reference Manual, appendix C).

Each record is one line: the letter S and a type, then in hexadecimal a count of the following bytes, an address, the
data and a checksum. The checksum is the ones' complement of the sum of the count, the address and the data. The parser
refuses malformed records, and reports their line number.
"""

from __future__ import annotations

import binascii
import re

from blockota.errors import ImageError

START = re.compile(rb"\s*S[0-9][0-9A-Fa-f]{8}")
"""The beginning of an S-record file."""
_ALL_ONES = 0xFF
_HEADER, _DATA, _COUNTS, _ENDS = 0, (1, 2, 3), (5, 6), (7, 8, 9)
_ADDRESS_SIZES = {0: 2, 1: 2, 2: 3, 3: 4, 5: 2, 6: 3, 7: 4, 8: 3, 9: 2}
"""The number of bytes of the address, or of the count of records, in each type of record."""


def parse_srecord(content: bytes) -> tuple[tuple[int, bytes], ...]:
    """Read the data records of a Motorola S-record file, in file order.

    Args:
        content: the whole file.

    Returns:
        Pairs of an address and the bytes at that address.

    Raises:
        ImageError: a record is malformed, a count is wrong, records follow the end record, or the end is missing.
    """
    pieces, count, last = [], 0, _HEADER
    for number, line in enumerate(content.splitlines(), start=1):
        if not line.strip():
            continue
        kind, address, data = _parse_record(number, line.strip())
        if last in _ENDS:
            raise _refused(number, "the record follows the end record")
        last = kind
        if kind in _DATA:
            count += 1
            pieces += [(address, data)] if data else []
        elif kind in _COUNTS and address != count % (1 << 8 * _ADDRESS_SIZES[kind]):
            raise _refused(number, f"it states {address} data records, but the file has {count}")
        if kind not in (*_DATA, _HEADER) and data:
            raise _refused(number, f"a record of type S{kind} has no data")
    # Without a start address, some tools write no end record. The count record then shows that the file is complete.
    if last not in (*_ENDS, *_COUNTS):
        raise ImageError(
            "the S-record file has no end record and no count",
            why="it was truncated",
            remedy="fetch or build the file again",
        )
    return tuple(pieces)


def _parse_record(line: int, text: bytes) -> tuple[int, int, bytes]:
    """Parse one record into its type, address and data. `line` is the line number for error messages."""
    if not re.match(rb"S[0-9]", text):
        raise _refused(line, "it does not begin with S and a digit")
    kind = int(text[1:2])
    if kind not in _ADDRESS_SIZES:
        raise _refused(line, f"record type S{kind} does not exist")

    try:
        record = binascii.unhexlify(text[2:])
    except ValueError as error:
        raise _refused(line, "it does not consist of pairs of hexadecimal digits") from error

    size = _ADDRESS_SIZES[kind]
    if len(record) < 1 + size + 1:
        raise _refused(line, "it is too short")
    if record[0] != len(record) - 1:
        raise _refused(line, f"it states {record[0]} bytes, but has {len(record) - 1}")
    if sum(record) & _ALL_ONES != _ALL_ONES:
        raise _refused(line, "its checksum is wrong")

    return kind, int.from_bytes(record[1 : 1 + size]), record[1 + size : -1]


def _refused(line: int, why: str) -> ImageError:
    return ImageError(f"line {line} of the S-record file is wrong", why=why, remedy="fetch or build the file again")
