"""Keep the last readings of the chains in a file.

With them, a gateway serves devices even if a chain is out of reach at its start. The file is a cache. The first reading
replaces it, and a file that cannot be used is ignored. Images are proven again when they are read from the folder, so
the file cannot make a wrong image valid.
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
        """The readings without blocks and contracts, which differ even if nothing else has changed."""
        site = replace(self.site, block=_NOWHERE, newest=_NOWHERE)
        producers = {
            name: replace(one, position=replace(one.position, block=_NOWHERE, newest=_NOWHERE), replications={})
            for name, one in self.producers.items()
        }
        return Readings(site, producers)


class SnapshotFile:
    """The file with the last readings.

    Args:
        path: the file.
        identity: UUID of the gateway. The file of another gateway is ignored.
    """

    def __init__(self, path: Path, identity: UUID) -> None:
        self._path, self._identity = path, identity

    def save(self, readings: Readings) -> None:
        """Write the readings. If the file cannot be written, the old file stays."""
        kept = replace(readings, producers={n: replace(r, replications={}) for n, r in readings.producers.items()})
        content = {"format": _FORMAT, "identity": str(self._identity), "readings": encode(kept)}
        with suppress(OSError):
            write_durable(self._path, json.dumps(content).encode(), mode=0o600)

    def load(self) -> Readings | None:
        """Return the readings. Returns None if there are none, or if they cannot be used."""
        try:
            content = json.loads(self._path.read_bytes())
            if (content["format"], content["identity"]) != (_FORMAT, str(self._identity)):
                return None
            found: Readings = decode(Readings, content["readings"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return None
        return found


_SIMPLE: Mapping[Any, Callable[[Any], Any]] = {bytes: bytes.fromhex, UUID: UUID, Path: Path}


def encode(value: Any) -> Any:
    """Encode a value of dataclasses, mappings, sequences and simple types as JSON."""
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
        hints = _hints(kind)
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
        return None if raw is None else decode(arguments[0], raw)
    if origin is tuple and arguments[-1] is not Ellipsis:
        return tuple(decode(one, part) for one, part in zip(arguments, raw, strict=True))
    if origin in (tuple, frozenset):
        return origin(decode(arguments[0], one) for one in raw)
    return {decode(arguments[0], key): decode(arguments[1], one) for key, one in raw}


@functools.cache
def _hints(kind: Any) -> dict[str, Any]:
    return typing.get_type_hints(kind)
