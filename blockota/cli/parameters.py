"""Parameter types of the command line: versions, numbers, regions, durations, addresses, times, metadata.

Each parameter type is a function that parses one word of the command line. A default value already has the right type,
and is returned unchanged.
"""

from __future__ import annotations

import re
import time as clock
from datetime import datetime
from typing import Any

import click
from click.types import FuncParamType

from blockota.errors import UsageError
from blockota.ethereum import is_address, is_checksum_address, to_checksum_address
from blockota.model.release import Region, Version

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_SPANS = {"m": 60, "h": 3600, "d": 86400}
_MAX_ADDRESS = 1 << 32
_MAX_NONCE = 1 << 64


def version(value: Any) -> Version:
    """Parse a version such as ``1.4.0``."""
    try:
        return value if isinstance(value, Version) else Version.parse(value)
    except UsageError as error:
        raise click.BadParameter(str(error)) from error


def number(value: Any) -> int:
    """Parse a number of at most 32 bits, such as ``0x410`` or ``1040``."""
    try:
        found = int(str(value), 0)
    except ValueError:
        found = -1
    if not 0 <= found < _MAX_ADDRESS:
        raise click.BadParameter(f"{value!r} is not a number: write 0x410 or 1040.")
    return found


def nonce(value: Any) -> int:
    """Parse a nonce of a Safe, which has at most 64 bits in a proposal."""
    text = str(value)
    if not (text.isascii() and text.isdigit()) or int(text) >= _MAX_NONCE:
        raise click.BadParameter(f"{value!r} is not a nonce: write a number such as 12.")
    return int(text)


def region(value: Any) -> Region:
    """Parse a flash region such as ``0x08000000:64K``, with its first address and its size."""
    match = re.fullmatch(r"(0x[0-9a-fA-F]{1,8}):(\d{1,10})([KMG]?)", str(value))
    found = Region(int(match[1], 16), int(match[2]) * _UNITS[match[3]]) if match else Region(0, 0)
    if found.size == 0 or found.end > _MAX_ADDRESS:
        raise click.BadParameter(
            f"{value!r} is not a flash region: write START:SIZE (bytes, K, M, G), as 0x08000000:64K."
        )
    return found


def duration(value: Any) -> int:
    """Parse a duration such as ``7d``, ``12h`` or ``30m``, and return it in seconds."""
    if isinstance(value, int):
        return value
    match = re.fullmatch(r"([1-9]\d{0,3})([mhd])", str(value))
    if match is None:
        raise click.BadParameter(f"{value!r} is not a duration: write 30m, 12h or 7d.")
    return int(match[1]) * _SPANS[match[2]]


def address(value: Any) -> str:
    """Parse an address of 40 hex digits after ``0x``; mixed case must have the right checksum (EIP-55)."""
    digits = str(value)[2:]
    if not str(value).startswith("0x") or not is_address(value) or not int(digits, 16):
        raise click.BadParameter(f"{value!r} is not an address: write 0x and 40 hex digits.")
    if digits not in (digits.lower(), digits.upper()) and not is_checksum_address(value):
        raise click.BadParameter(f"{value} has a wrong checksum (EIP-55): a digit was mistyped.")
    return str(to_checksum_address(value))


def time(value: Any) -> int:
    """Parse a time such as ``2026-12-01T08:00+01:00``, or ``+7d`` from now, and return it in Unix seconds."""
    if isinstance(value, int):
        return value
    if str(value).startswith("+"):
        return int(clock.time()) + duration(str(value)[1:])
    try:
        moment = datetime.fromisoformat(str(value))
    except ValueError:
        words = "write 2026-12-01T08:00+01:00, 2026-12-01T07:00Z or +7d."
        raise click.BadParameter(f"{value!r} is not a time: {words}") from None
    # A time without a zone means different moments to readers in different zones.
    if moment.tzinfo is None:
        raise click.BadParameter(f"{value!r} has no time zone: append Z for UTC, or +01:00.")
    if moment.timestamp() < 1:
        raise click.BadParameter(f"{value!r} lies before 1970: the chain has no such time.")
    return int(moment.timestamp())


def entry(value: Any) -> tuple[str, str]:
    """Parse ``KEY=VALUE`` into a pair; `blockota.model.manifest` checks key and value."""
    if isinstance(value, tuple):
        return value
    key, equals, text = str(value).partition("=")
    if not (key and equals):
        raise click.BadParameter(f"{value!r} is not metadata: write KEY=VALUE.")
    return key, text


VERSION, NUMBER, REGION, DURATION = map(FuncParamType, (version, number, region, duration))
ADDRESS, TIME, ENTRY, NONCE = map(FuncParamType, (address, time, entry, nonce))
