"""Strict reading of JSON files that people exchange: every field has the right type, and no key is repeated."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, TypeVar

from blockota.errors import Action, ProposalError
from blockota.ethereum import is_checksum_address

MAX_FILE_SIZE = 1 << 20
"""Largest size of a proposal, signature or view file, in bytes."""
_DEEPEST = 32
"""Levels of objects and lists in a file: comparing and printing recurse into them."""
_DIGEST_SIZE = 32
Kind = TypeVar("Kind")
_TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)|[\[\]{}]', re.DOTALL)
_STEPS = {"[": 1, "{": 1, "]": -1, "}": -1}


def dump(fields: Mapping[str, Any]) -> bytes:
    """The bytes of a file; they are the same for equal fields."""
    return (json.dumps(fields, indent=2) + "\n").encode()


def load(raw: bytes, *, form: str, remedy: str = "", action: Action | None = None) -> dict[str, Any]:
    """Read a JSON object of one of our formats.

    Args:
        raw: the file.
        form: the required value of its field ``format``.
        remedy: what to do with a file of another format.
        action: the remedy as a command or option, if it has one.

    Raises:
        ProposalError: the file is not a JSON object, repeats a key, or is of another format.
    """
    fields = load_object(raw)
    if fields.get("format") != form:
        raise ProposalError(
            "the file is of another kind", why=f"its format is not {form}", remedy=remedy, action=action
        )
    return fields


def load_object(raw: bytes) -> dict[str, Any]:
    """Read any JSON object.

    Raises:
        ProposalError: it is not one, repeats a key, has a number that is not whole, or too many levels.
    """
    try:
        document = raw.decode()  # UnicodeDecodeError is a ValueError, as is the parser's error
        check_depth(document)
        fields = json.loads(document, object_pairs_hook=_unique, parse_float=_no_number, parse_constant=_no_number)
    except ValueError as error:
        raise ProposalError("the file cannot be read", why=f"it is not strict JSON ({error})") from error
    if not isinstance(fields, dict):
        raise ProposalError("the file cannot be read", why="it is not a JSON object")
    return fields


def check_depth(document: str) -> None:
    """Refuse a document with too many levels before the parser recurses into them.

    Some libraries (py_ecc, which Ape installs) raise Python's recursion limit so far that a nested file ends the
    process.

    Raises:
        ValueError: the document has too many levels.
    """
    depth = 0
    for token in _TOKEN.finditer(document):
        depth += _STEPS.get(token[0], 0)
        if depth > _DEEPEST:
            raise ValueError(f"it is nested in more than {_DEEPEST} levels")


def fault(error: Exception) -> str:
    """What is wrong with a field, from a KeyError, TypeError or ValueError."""
    return f"its field {error} is missing" if isinstance(error, KeyError) else f"its field {error}"


def mapping(fields: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A JSON object.

    Raises:
        TypeError: the field is something else.
    """
    return _of_kind(fields, name, kind=dict, otherwise="which is not a JSON object")


def mappings(fields: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """A list of JSON objects.

    Raises:
        TypeError: the field is something else.
    """
    value = fields[name]
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        raise TypeError(f"{name} is {value!r:.40}, which is not a list of JSON objects")
    return value


def text(fields: Mapping[str, Any], name: str) -> str:
    """A text with any characters; it must be made safe before it is shown (`blockota.errors.plain`).

    Raises:
        TypeError: the field is something else.
    """
    return _of_kind(fields, name, kind=str, otherwise="which is not a text")


def boolean(fields: Mapping[str, Any], name: str) -> bool:
    """True or false.

    Raises:
        TypeError: the field is something else.
    """
    return _of_kind(fields, name, kind=bool, otherwise="which is neither true nor false")


def integer(fields: Mapping[str, Any], name: str) -> int:
    """A whole number of at most 64 bits.

    Raises:
        ValueError: the field is something else.
    """
    value = fields[name]
    # Not isinstance: a bool is an int.
    if type(value) is not int or not 0 <= value < 1 << 64:
        raise ValueError(f"{name} is {value!r:.40}, which is not a whole number of at most 64 bits")
    return value


def decimal(fields: Mapping[str, Any], name: str) -> int:
    """A whole number of at most 256 bits, written as decimal text because others read JSON numbers as floats.

    Raises:
        ValueError: the field is something else.
    """
    value = fields[name]
    # The pattern bounds the length before int() reads it.
    if not isinstance(value, str) or not re.fullmatch(r"0|[1-9]\d{0,77}", value, re.ASCII) or int(value) >> 256:
        raise ValueError(f"{name} is {value!r:.80}, which is not a decimal number of at most 256 bits")
    return int(value)


def address(fields: Mapping[str, Any], name: str) -> str:
    """A checksummed address (EIP-55).

    Raises:
        ValueError: the field is something else.
    """
    value = fields[name]
    if not isinstance(value, str) or not is_checksum_address(value):
        raise ValueError(f"{name} is {value!r:.60}, which is not a checksummed address")
    return value


def hexadecimal(fields: Mapping[str, Any], name: str, *, prefix: str = "0x") -> bytes:
    """Bytes, written as hexadecimal text in lower case after a prefix.

    Raises:
        ValueError: the field is something else.
    """
    value = fields[name]
    if not isinstance(value, str) or not re.fullmatch(rf"{prefix}(?:[0-9a-f]{{2}})*", value):
        raise ValueError(f"{name} is {value!r:.40}, which is not hex text")
    return bytes.fromhex(value.removeprefix(prefix))


def digest(fields: Mapping[str, Any], name: str, *, prefix: str = "0x") -> bytes:
    """The 32 bytes of a hash, as `hexadecimal`.

    Raises:
        ValueError: the field is something else.
    """
    value = hexadecimal(fields, name, prefix=prefix)
    if len(value) != _DIGEST_SIZE:
        raise ValueError(f"{name} has {len(value)} bytes, a hash has {_DIGEST_SIZE}")
    return value


def _of_kind(fields: Mapping[str, Any], name: str, *, kind: type[Kind], otherwise: str) -> Kind:
    value = fields[name]
    if not isinstance(value, kind):
        raise TypeError(f"{name} is {value!r:.40}, {otherwise}")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # Parsers differ in which of two equal keys they keep: two programs would read different files.
    if len({key for key, _ in pairs}) != len(pairs):
        raise ValueError("a key is repeated")
    return dict(pairs)


def _no_number(literal: str) -> None:
    raise ValueError(f"{literal:.40} is not a whole number")
