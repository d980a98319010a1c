"""Parameter types of the command line: versions, numbers, sizes, regions, durations, addresses, times, metadata.

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
from blockota.model.container import Container
from blockota.model.release import Region, Version

_SIZE = re.compile(r"(?:(0x[0-9a-f]{1,8})|(\d{1,10}))(?:([KMG])(?:iB)?)?", re.ASCII | re.IGNORECASE)
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_DURATION = re.compile(r"\+?([1-9]\d{0,8})([smhd]?)", re.ASCII)
_SPANS = {"d": 86400, "h": 3600, "m": 60, "s": 1}
_DAY, _LONGEST = 86400, 9999 * 86400
_MAX_ADDRESS = 1 << 32
_MAX_NONCE = _MAX_ID = 1 << 64


class NumberRange(click.IntRange):
    """A whole number between two limits; errors use the word "number", where click uses "integer range"."""

    name = "number"


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


def agreement(value: Any) -> int:
    """Parse the number of an agreement, which has at most 64 bits on the chain."""
    text = str(value)
    if not (text.isascii() and text.isdigit()) or not 0 < int(text) < _MAX_ID:
        words = "write a number such as 3; where several can be given, separate them with spaces."
        raise click.BadParameter(f"{value!r} is not the number of an agreement: {words}")
    return int(text)


def size(value: Any) -> int:
    """Parse a size such as ``64K``, ``0x400`` or ``1024``, and return it in bytes."""
    found = -1
    if match := _SIZE.fullmatch(str(value)):
        hexadecimal, decimal, unit = match.groups()
        found = (int(hexadecimal, 16) if hexadecimal else int(decimal)) * _UNITS[(unit or "").upper()]
    if not 0 <= found <= _MAX_ADDRESS:
        raise click.BadParameter(f"{value!r} is not a size: write 64K, 1M, 1024 or 0x400.")
    return found


def region(value: Any) -> Region:
    """Parse a flash region such as ``0x08000000:64K``, with its first address and its size."""
    match = re.fullmatch(r"(0|0x[0-9a-fA-F]{1,8}):(.*)", str(value))
    try:
        found = Region(int(match[1], 16), size(match[2])) if match else Region(0, 0)
    except click.BadParameter:
        found = Region(0, 0)
    if found.size == 0 or found.end > _MAX_ADDRESS:
        raise click.BadParameter(
            f"{value!r} is not a flash region: write START:SIZE (bytes, K, M, G), as 0x08000000:64K."
        )
    return found


def duration(value: Any) -> int:
    """Parse a duration such as ``7d``, ``12h``, ``30m``, ``90s`` or ``90``, and return it in seconds."""
    if isinstance(value, int):
        return value
    match = _DURATION.fullmatch(str(value))
    found = int(match[1]) * _SPANS[match[2] or "s"] if match else 0
    if not 0 < found <= _LONGEST:
        raise click.BadParameter(f"{value!r} is not a duration: write 90s, 30m, 12h or 7d.")
    return found


def duration_between(least: int, most: int = _LONGEST) -> click.ParamType:
    """Return the parameter type of a duration between two limits; the limits are in seconds."""

    def limited(value: Any) -> int:
        found = duration(value)
        if not least <= found <= most:
            # A number alone counts seconds, which is easily forgotten where days are usual.
            days = f", such as {value}d" if str(value).isdigit() and found * _DAY <= most else ""
            raise click.BadParameter(f"{value!r} is {spelled(found)}: write {spelled(least)} to {spelled(most)}{days}.")
        return found

    kind = FuncParamType(limited)
    kind.name = "duration"
    return kind


def spelled(seconds: int) -> str:
    """Format a duration in seconds as a user types it, such as ``7d`` or ``90s``."""
    unit = next(unit for unit, span in _SPANS.items() if seconds % span == 0)
    return f"{seconds // _SPANS[unit]}{unit}"


def address(value: Any) -> str:
    """Parse an address, ``0x`` and 40 hex digits; digits in mixed case must have a valid checksum (EIP-55)."""
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
    if str(value).startswith("+") or re.fullmatch(r"\d+[smhd]", str(value), re.ASCII):
        return int(clock.time()) + duration(value)
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


def container(value: Any) -> tuple[str, Container]:
    """Parse ``NAME`` or ``PRODUCT=NAME`` into ⟨product, container⟩; the product is empty if only NAME is given."""
    if isinstance(value, tuple):
        return value
    product, _, name = str(value).rpartition("=")
    try:
        return product, Container.parse(name)
    except UsageError as error:
        raise click.BadParameter(str(error)) from error


VERSION, NUMBER, SIZE, REGION = map(FuncParamType, (version, number, size, region))
DURATION = duration_between(60)
"""At least a minute, because a number alone is seldom meant in seconds."""
VALIDITY = duration_between(600)
"""At least ten minutes, because ``--expires-in 7`` and ``--expires-in 90`` are mistakes for days."""
INTERVAL = duration_between(1, _DAY)
"""The time between two repetitions, or until a stop."""
ADDRESS, TIME, ENTRY, NONCE, AGREEMENT = map(FuncParamType, (address, time, entry, nonce, agreement))
CONTAINER = FuncParamType(container)
