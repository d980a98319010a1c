"""Store the last readings of the chains in two files.

With the stored readings, a gateway serves devices even if a chain is out of reach at the gateway's start. The files are
caches: new readings replace the stored readings, and an unusable file is ignored. A wrong file cannot make a wrong
    image valid, because each image is proven again when it is read from the folder.

The readings of the producer chains are small, and have a separate file. The separate file is written before a release
is offered. A gateway that was killed therefore recognises the release when a device reports it. The readings of the
gateway chain can be large, and are written some seconds later.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import types
import typing
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import Any
from uuid import UUID

from blockota.chain.records import BlockHead
from blockota.files import write_durable
from blockota.gateway.producer_chain import ProducerReading
from blockota.gateway.site_chain import SiteReading

_FORMAT = 1
_NOWHERE = BlockHead(0, 0, b"")


@dataclass(frozen=True)
class Readings:
    """The last readings of a gateway.

    Attributes:
        site: the last reading of the gateway chain.
        producers: the last readings of the producer chains, by the name of the network.
    """

    site: SiteReading
    producers: Mapping[str, ProducerReading] = field(default_factory=dict)

    def without_position(self) -> Readings:
        """The readings without blocks and contract objects, for the comparison of two readings."""
        site = replace(self.site, block=_NOWHERE, newest=_NOWHERE)
        producers = {
            name: replace(one, position=replace(one.position, block=_NOWHERE, newest=_NOWHERE), replications={})
            for name, one in self.producers.items()
        }
        return Readings(site, producers)


class SnapshotFile:
    """The files with the last readings.

    Args:
        path: the file with all readings; the file with the readings of the producer chains is in the same folder.
        identity: UUID of the gateway; the files of another gateway are ignored.
    """

    def __init__(self, path: Path, identity: UUID) -> None:
        self._path, self._identity = path, identity
        self._producers_path = path.with_name(f"producer-{path.name}")

    def save(self, readings: Readings) -> None:
        """Write all readings. If the new file cannot be written, the old file is kept."""
        self._write(self._path, replace(readings, producers=_kept(readings.producers)))

    def save_producers(self, producers: Mapping[str, ProducerReading]) -> None:
        """Write the readings of the producer chains to a separate file; `load` prefers the readings in this file."""
        self._write(self._producers_path, _kept(producers))

    def load(self) -> Readings | None:
        """Return the readings. Returns None if no readings were stored, or if the file cannot be used."""
        found: Readings | None = self._read(self._path, Readings)
        producers = self._read(self._producers_path, dict[str, ProducerReading])
        return replace(found, producers=producers) if found and producers else found

    def _write(self, path: Path, value: Any) -> None:
        content = {"format": _FORMAT, "identity": str(self._identity), "readings": encode(value)}
        # Losing the file costs only the time of a new reading.
        with suppress(OSError):
            write_durable(path, json.dumps(content).encode(), mode=0o600)

    def _read(self, path: Path, kind: Any) -> Any:
        try:
            content = json.loads(path.read_bytes())
            is_ours = (content["format"], content["identity"]) == (_FORMAT, str(self._identity))
            return decode(kind, content["readings"]) if is_ours else None
        # Without a usable file, the gateway waits for its first reading of the chains.
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return None


def _kept(producers: Mapping[str, ProducerReading]) -> dict[str, ProducerReading]:
    """Return the readings without their contract objects, because an open connection cannot be stored."""
    return {name: replace(reading, replications={}) for name, reading in producers.items()}


_SIMPLE: Mapping[Any, Callable[[Any], Any]] = {bytes: bytes.fromhex, UUID: UUID, Path: Path}


def encode(value: Any) -> Any:
    """Encode a value as JSON; the value consists of dataclasses, mappings, sequences and simple types."""
    found = value
    if isinstance(value, bytes):
        found = value.hex()
    elif isinstance(value, Enum):
        found = value.name
    elif isinstance(value, UUID | Path):
        found = str(value)
    elif dataclasses.is_dataclass(value):
        found = {one.name: encode(getattr(value, one.name)) for one in dataclasses.fields(value)}
    elif isinstance(value, Mapping):
        found = [[encode(key), encode(one)] for key, one in value.items()]
    elif isinstance(value, list | tuple | frozenset):
        found = [encode(one) for one in value]
    return found


def decode(kind: Any, raw: Any) -> Any:
    """Decode a value of a given type from the output of `encode`.

    Raises:
        ValueError, KeyError, TypeError, AttributeError: the JSON does not encode a value of this type.
    """
    if typing.get_origin(kind):
        return _decode_generic(typing.get_origin(kind), typing.get_args(kind), raw)
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        hints = _type_hints(kind)
        return kind(**{name: decode(hints[name], one) for name, one in raw.items()})

    if kind in _SIMPLE:
        return _SIMPLE[kind](raw)
    if issubclass(kind, Enum):
        return kind[raw]
    if type(raw) is not kind:
        raise TypeError(f"{raw!r:.60} is not of the type {kind}")
    return raw


def _decode_generic(origin: Any, arguments: tuple[Any, ...], raw: Any) -> Any:
    if origin in (typing.Union, types.UnionType):
        # The only unions in these types are optional values.
        return None if raw is None else decode(arguments[0], raw)
    if origin is tuple and arguments[-1] is not Ellipsis:
        return tuple(decode(one, part) for one, part in zip(arguments, raw, strict=True))
    if origin in (tuple, frozenset):
        return origin(decode(arguments[0], one) for one in raw)
    return {decode(arguments[0], key): decode(arguments[1], one) for key, one in raw}


_type_hints = functools.cache(typing.get_type_hints)
