"""Deterministic CBOR (RFC 8949, section 4.2.1). Pure.

In deterministic CBOR, a value has exactly one encoding. `decode` refuses every other encoding of the same value: long
forms of integers and lengths, indefinite lengths, map keys out of order, and bytes after the value. `decode` also
refuses CBOR types that our formats do not use: tags, floats, and simple values other than false, true and null.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any, NoReturn

import cbor2

_DEEPEST = 4
"""The maximum nesting of arrays and maps."""
_KINDS = (bool, int, bytes, str, type(None))


def encode(value: object) -> bytes:
    """Return the deterministic encoding of a value."""
    return cbor2.dumps(value, canonical=True)


def decode(raw: bytes) -> Any:
    """Decode one value.

    Raises:
        ValueError: the bytes are not the deterministic encoding of a value of the supported types.
    """
    try:
        # Without this mapping, cbor2 would turn tagged values into dates, regular expressions or shared references.
        tags: Mapping[int, Any] = defaultdict(lambda: _refuse_tag)
        value = cbor2.loads(raw, semantic_decoders=tags, max_depth=_DEEPEST, allow_indefinite=False)
    except cbor2.CBORError as error:
        raise ValueError(f"it is not CBOR of the supported types ({error.__cause__ or error})") from error
    if not _is_supported(value):
        raise ValueError("it has a value of a type that is not supported")
    if encode(value) != raw:
        raise ValueError("it is not the deterministic encoding of its value")
    return value


def _is_supported(value: object) -> bool:
    if isinstance(value, list):
        return all(map(_is_supported, value))
    if isinstance(value, dict):
        return all(_is_supported(part) for pair in value.items() for part in pair)
    return isinstance(value, _KINDS)


def _refuse_tag(_: object, *__: object) -> NoReturn:
    raise ValueError("tags are not used")
