"""JSON files that people pass on: read strictly, each field of the kind it must be, no key twice."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from eth_utils.address import is_checksum_address

from blockota.errors import ProposalError

MAX_FILE_SIZE = 1 << 20
"""Bytes that a proposal, signature or view file may have."""


def dump(fields: Mapping[str, Any]) -> bytes:
    """The file's bytes, the same for equal fields."""
    return (json.dumps(fields, indent=2) + "\n").encode()


def load(raw: bytes, *, form: str, remedy: str = "") -> dict[str, Any]:
    """Read a JSON object of one of our formats.

    Args:
        raw: the file.
        form: what its field ``format`` must say.
        remedy: what to do with a file of another kind.

    Raises:
        ProposalError: it is no JSON object, has a key twice, or is of another format.
    """
    fields = load_object(raw)
    if fields.get("format") != form:
        raise ProposalError("the file is of another kind", why=f"its format is not {form}", remedy=remedy)
    return fields


def load_object(raw: bytes) -> dict[str, Any]:
    """Read any JSON object.

    Raises:
        ProposalError: it is none, or has a key twice.
    """
    try:
        fields = json.loads(raw, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise ProposalError("the file cannot be read", why=f"it is no JSON object of ours ({error})") from error
    if not isinstance(fields, dict):
        raise ProposalError("the file cannot be read", why="it holds no JSON object")
    return fields


def fault(error: Exception) -> str:
    """What is wrong with a field, after a KeyError, TypeError or ValueError."""
    return f"its field {error} is missing" if isinstance(error, KeyError) else f"its field {error}"


def integer(fields: Mapping[str, Any], name: str) -> int:
    """A whole number of at most 64 bits.

    Raises:
        ValueError: it is none.
    """
    value = fields[name]
    if type(value) is not int or not 0 <= value < 1 << 64:
        raise ValueError(f"{name} is {value!r:.40}, no whole number of at most 64 bits")
    return value


def decimal(fields: Mapping[str, Any], name: str) -> int:
    """A whole number of at most 256 bits, written as decimal text because others read JSON numbers as floats.

    Raises:
        ValueError: it is none.
    """
    value = fields[name]
    if not isinstance(value, str) or not re.fullmatch(r"0|[1-9]\d{0,77}", value, re.ASCII) or int(value) >> 256:
        raise ValueError(f"{name} is {value!r:.80}, no decimal number of at most 256 bits")
    return int(value)


def address(fields: Mapping[str, Any], name: str) -> str:
    """A checksummed address (EIP-55).

    Raises:
        ValueError: it is none.
    """
    value = fields[name]
    if not isinstance(value, str) or not is_checksum_address(value):
        raise ValueError(f"{name} is {value!r:.60}, no checksummed address")
    return value


def hexadecimal(fields: Mapping[str, Any], name: str) -> bytes:
    """Bytes, as hex text in lower case behind 0x.

    Raises:
        ValueError: it is none.
    """
    value = fields[name]
    if not isinstance(value, str) or not re.fullmatch(r"0x(?:[0-9a-f]{2})*", value):
        raise ValueError(f"{name} is {value!r:.40}, no hex text")
    return bytes.fromhex(value[2:])


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({key for key, _ in pairs}) != len(pairs):
        raise ValueError("a key stands twice")
    return dict(pairs)
