"""Parameter types of the command line: versions, numbers, regions, durations, addresses, times, metadata."""

from __future__ import annotations

import re
import time
from datetime import datetime
from typing import Any

import click

from blockota.errors import UsageError
from blockota.model.release import Region, Version

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_SPANS = {"m": 60, "h": 3600, "d": 86400}
_MAX_ADDRESS = 1 << 32


class VersionWord(click.ParamType):
    """``1.4.0``."""

    name = "version"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Version:
        """Parse the word."""
        if isinstance(value, Version):
            return value
        try:
            return Version.parse(value)
        except UsageError as error:
            self.fail(str(error), param, ctx)


class NumberWord(click.ParamType):
    """``0x410`` or ``1040``, at most 32 bits."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Parse the word."""
        try:
            number = int(str(value), 0)
        except ValueError:
            number = -1
        if not 0 <= number < _MAX_ADDRESS:
            self.fail(f"{value!r} is not a number: write 0x410 or 1040.", param, ctx)
        return number


class RegionWord(click.ParamType):
    """``0x08000000:64K``: first address and size."""

    name = "region"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Region:
        """Parse the word."""
        match = re.fullmatch(r"(0x[0-9a-fA-F]{1,8}):(\d{1,10})([KMG]?)", str(value))
        region = Region(int(match[1], 16), int(match[2]) * _UNITS[match[3]]) if match else Region(0, 0)
        if region.size == 0 or region.end > _MAX_ADDRESS:
            self.fail(
                f"{value!r} is not a flash region: write START:SIZE (bytes, K, M, G), as 0x08000000:64K.", param, ctx
            )
        return region


class DurationWord(click.ParamType):
    """``7d``, ``12h`` or ``30m``, as seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Parse the word."""
        if isinstance(value, int):
            return value
        match = re.fullmatch(r"([1-9]\d{0,3})([mhd])", str(value))
        if match is None:
            self.fail(f"{value!r} is not a duration: write 30m, 12h or 7d.", param, ctx)
        return int(match[1]) * _SPANS[match[2]]


class AddressWord(click.ParamType):
    """``0x`` and 40 hex digits; mixed case must have the right checksum (EIP-55)."""

    name = "address"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Parse the word."""
        from blockota.ethereum import is_address, is_checksum_address, to_checksum_address

        digits = str(value)[2:]
        if not str(value).startswith("0x") or not is_address(value) or not int(digits, 16):
            self.fail(f"{value!r} is not an address: write 0x and 40 hex digits.", param, ctx)
        if digits not in (digits.lower(), digits.upper()) and not is_checksum_address(value):
            self.fail(f"{value} has a wrong checksum (EIP-55): a digit was mistyped.", param, ctx)
        return str(to_checksum_address(value))


class TimeWord(click.ParamType):
    """``2026-12-01T08:00+01:00``, or ``+7d`` from now, as Unix seconds."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Parse the word. A time without a zone is refused: two readers would take it for different moments."""
        if isinstance(value, int):
            return value
        if str(value).startswith("+"):
            return int(time.time()) + DURATION.convert(str(value)[1:], param, ctx)
        try:
            moment = datetime.fromisoformat(str(value))
        except ValueError:
            self.fail(f"{value!r} is not a time: write 2026-12-01T08:00+01:00, 2026-12-01T07:00Z or +7d.", param, ctx)
        if moment.tzinfo is None:
            self.fail(f"{value!r} has no time zone: append Z for UTC, or +01:00.", param, ctx)
        if moment.timestamp() < 1:
            self.fail(f"{value!r} lies before 1970: the chain has no such time.", param, ctx)
        return int(moment.timestamp())


class EntryWord(click.ParamType):
    """``KEY=VALUE``, as a pair."""

    name = "entry"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        """Parse the word; `blockota.model.manifest` checks key and value."""
        if isinstance(value, tuple):
            return value
        key, equals, text = str(value).partition("=")
        if not (key and equals):
            self.fail(f"{value!r} is not metadata: write KEY=VALUE.", param, ctx)
        return key, text


VERSION, NUMBER, REGION, DURATION = VersionWord(), NumberWord(), RegionWord(), DurationWord()
ADDRESS, TIME, ENTRY = AddressWord(), TimeWord(), EntryWord()
