"""One table of the settings file.

The settings of the table are read by name and type.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from blockota.errors import UsageError
from blockota.files import home_path

_DURATION = re.compile(r"([1-9]\d{0,8})([smhd])", re.ASCII)
_SPANS = {"d": 86400, "h": 3600, "m": 60, "s": 1}
_MAX_PORT = 65535
_DECIMAL = re.compile(r"0|[1-9]\d{0,19}", re.ASCII)
_MAX_BITS = 256


@dataclass(frozen=True)
class SettingsTable:
    """A table of the settings file.

    If the table lacks a setting, the caller's default applies.

    Attributes:
        name: the table's name in the file, such as ``gateway.ddi``.
        values: the settings by name.
        folder: the folder of the settings file, to which paths in the file are relative.

    Examples:
        >>> table = SettingsTable("gateway.ddi", {"listen": "0.0.0.0:8443", "chunk": 3}, Path())
        >>> table.address("listen", "127.0.0.1:8443"), table.number("chunk", 1), table.flag("plain")
        (('0.0.0.0', 8443), 3, False)
    """

    name: str
    values: Mapping[str, Any]
    folder: Path

    def known(self, *names: str) -> None:
        """Refuse settings whose names are not in `names`.

        Raises:
            UsageError: the table has a setting that is not in `names`.
        """
        refuse_unknown(f"[{self.name}]", self.values, known=names)

    def text(self, key: str, default: str | None = None) -> str | None:
        """Return a text that is not empty.

        Raises:
            UsageError: the value is not a text, or is empty.
        """
        value = self.values.get(key, default)
        if value is None or (isinstance(value, str) and value and "\0" not in value):
            return value
        raise self.unusable(key, "its text is empty" if value == "" else f"{value!r:.80} is not a text in quotes")

    def required(self, key: str, *, example: str) -> str:
        """Return a required text.

        Raises:
            UsageError: the text is missing, empty, or not a text.
        """
        if (value := self.text(key)) is not None:
            return value
        raise UsageError(f"[{self.name}] has no {key}", why="it has no default", remedy=f'add {key} = "{example}"')

    def uuid(self, key: str, *, example: str = "0f8fad5b-d9cb-469f-a165-70867728950e") -> UUID:
        """Return a required UUID.

        Raises:
            UsageError: the UUID is missing, or is not a UUID.
        """
        return self.as_uuid(key, self.required(key, example=example))

    def as_uuid(self, key: str, text: str) -> UUID:
        """Return a UUID from the key or the value of a setting.

        Raises:
            UsageError: the text is not a UUID.
        """
        try:
            return UUID(text)
        except ValueError as error:
            raise self.unusable(key, f"{text!r:.60} is not a UUID") from error

    def path(self, key: str, default: str | None = None) -> Path | None:
        """Return a path.

        A relative path is resolved against the folder of the settings file.
        """
        value = self.text(key, default)
        return None if value is None else self.folder / home_path(value)

    def uri(self, key: str) -> str | None:
        """Return the URI of a key. The relative path of a ``file:`` URI begins at the folder of the settings file."""
        value = self.text(key)
        return value and beside(value, self.folder)

    def address(self, key: str, default: str) -> tuple[str, int]:
        """Return a host and a port.

        Raises:
            UsageError: the value is not of the form ``HOST:PORT``.
        """
        value = self.text(key, default) or default
        try:
            place = urlsplit(f"//{value}")
            if place.hostname and place.port is not None:
                return place.hostname, place.port
        except ValueError:
            pass
        raise self.unusable(key, f"{value!r:.80} is not an address: write HOST:PORT, such as {default}")

    def number(self, key: str, default: int, *, least: int = 0, most: int = 1 << 63) -> int:
        """Return a whole number between two limits.

        Raises:
            UsageError: the value is not a whole number between the limits.
        """
        value = self.values.get(key, default)
        if type(value) is int and least <= value <= most:
            return value
        raise self.unusable(key, f"{value!r:.80} is not a whole number from {least} to {most}")

    def port(self, key: str, default: int) -> int:
        """Return the number of a port."""
        return self.number(key, default, least=1, most=_MAX_PORT)

    def flag(self, key: str, *, default: bool = False) -> bool:
        """Return a flag.

        Raises:
            UsageError: the value is not true or false.
        """
        value = self.values.get(key, default)
        if isinstance(value, bool):
            return value
        raise self.unusable(key, f"{value!r:.80} is not true or false")

    def texts(self, key: str) -> tuple[str, ...]:
        """Return a list of texts; empty if the setting is missing.

        Raises:
            UsageError: the value is not a list of texts.
        """
        value = self.values.get(key, [])
        if isinstance(value, list) and all(isinstance(one, str) and one for one in value):
            return tuple(value)
        raise self.unusable(key, f"{value!r:.80} is not a list of texts in quotes")

    def numbers(self, key: str) -> tuple[int, ...]:
        """Return a list of whole numbers; empty if the setting is missing.

        Raises:
            UsageError: the value is not a list of whole numbers.
        """
        value = self.values.get(key, [])
        if isinstance(value, list) and all(type(one) is int and one >= 0 for one in value):
            return tuple(value)
        raise self.unusable(key, f"{value!r:.80} is not a list of whole numbers")

    def seconds(self, key: str, default: int) -> int:
        """Return a duration in seconds, from a text such as ``90s``, ``10m``, ``12h`` or ``7d``.

        Raises:
            UsageError: the value is not a duration.
        """
        return self._duration(key, self.values[key]) if key in self.values else default

    def durations(self, key: str, default: tuple[int, ...]) -> tuple[int, ...]:
        """Return a list of durations in seconds.

        Raises:
            UsageError: the value is not a list of durations.
        """
        return tuple(self._duration(key, one) for one in self.texts(key)) if key in self.values else default

    def table(self, key: str) -> SettingsTable | None:
        """Return a table that is nested in the table.

        Returns None if the nested table is missing.

        Raises:
            UsageError: the value is not a table.
        """
        value = self.values.get(key)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise UsageError(f"[{self.name}.{key}] cannot be used", why="it is not a table")
        return SettingsTable(f"{self.name}.{key}", value, self.folder)

    def unusable(self, key: str, why: str) -> UsageError:
        """Return the error for a setting with a wrong value."""
        return UsageError(
            f"the setting {key} in [{self.name}] cannot be used", why=why, remedy=f"correct {key} in the settings file"
        )

    def _duration(self, key: str, value: object) -> int:
        match = _DURATION.fullmatch(value) if isinstance(value, str) else None
        if match:
            return int(match[1]) * _SPANS[match[2]]
        raise self.unusable(key, f'{value!r:.80} is not a duration: write "90s", "10m", "12h" or "7d"')


def refuse_unknown(where: str, found: Iterable[str], *, known: Iterable[str]) -> None:
    """Refuse settings whose names are not known.

    Args:
        where: the table or the file, as the error names it.
        found: the names of the settings that were found.
        known: the names of the settings that are known.

    Raises:
        UsageError: a name is not known.
    """
    names = sorted(known)
    if unknown := sorted(set(found) - set(names)):
        meant = get_close_matches(unknown[0].lower(), names, n=1)
        raise UsageError(
            f"{where} has an unknown setting {unknown[0]!r}",
            why=f"the known settings are {', '.join(names)}",
            remedy=f"write {meant[0]}" if meant else "remove it",
        )


def beside(uri: str, folder: Path) -> str:
    """Resolve the relative path of a ``file:`` URI against the folder of the settings file."""
    kind, _, rest = uri.partition(":")
    return f"file:{folder / home_path(rest)}" if kind == "file" and rest else uri


def parse_toml(raw: bytes) -> dict[str, Any]:
    """Parse the bytes of a TOML file.

    Raises:
        UnicodeDecodeError: the bytes are not text in UTF-8.
        ValueError: the text is not TOML, is nested too deeply, or has a number of more than 256 bits.
    """
    # Editors on Windows begin a file in UTF-8 with a byte order mark.
    text = raw.decode("utf-8-sig")
    try:
        found = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        raise
    except RecursionError as error:
        raise ValueError("its arrays or tables are nested too deeply") from error
    except ValueError as error:  # Python's own error for thousands of digits names a function of Python
        raise ValueError("a number has too many digits") from error

    if _has_wide_number(found):
        raise ValueError("a number has too many digits")
    return found


def anchor_seconds(table: SettingsTable) -> int:
    """Return the seconds between two anchors of a service's log, from the setting ``anchor_minutes``.

    Raises:
        UsageError: the value is not a whole number from 1 to 1440.
    """
    return 60 * table.number("anchor_minutes", 10, least=1, most=24 * 60)


def decimal_number(text: str) -> int | None:
    """Return the value of a decimal number of at most 20 digits without leading zeros; None for another text."""
    return int(text) if _DECIMAL.fullmatch(text) else None


def _has_wide_number(value: object) -> bool:
    """Whether a value contains a number of more than `_MAX_BITS` bits, which TOML allows in hexadecimal."""
    if isinstance(value, dict):
        return any(map(_has_wide_number, value.values()))
    if isinstance(value, list):
        return any(map(_has_wide_number, value))
    return isinstance(value, int) and value.bit_length() > _MAX_BITS


def read_paths(file: Mapping[str, Any], name: str, *, folder: Path) -> dict[str, Path]:
    """Read a table of the settings file in which every value is a path, such as ``[image_keys]``.

    Args:
        file: the settings file.
        name: the name of the table. If the file lacks the table, the result is empty.
        folder: the folder of the settings file, at which relative paths begin.

    Raises:
        UsageError: the value is not a table, or has a value that is not a path.
    """
    values = file.get(name, {})
    if not isinstance(values, dict):
        raise UsageError(f"[{name}] cannot be used", why="it is not a table")
    table = SettingsTable(name, values, folder)
    return {key: path for key in values if (path := table.path(key))}
