"""Read JSON files that people exchange. Fields of the wrong type and repeated keys are refused."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from itertools import accumulate
from typing import Any, TypeVar

from blockota.errors import Action, BlockOTAError, ProposalError
from blockota.ethereum import is_checksum_address

MAX_FILE_SIZE = 1 << 20
"""Largest size of a proposal, signature or view file, in bytes."""
_DEEPEST = 32
"""The maximum nesting of objects and lists in a file. There is a limit because comparing and printing recurse into
them."""
_MAX_DIGITS = 100
"""The maximum number of digits of a whole number; the largest numbers of a contract have 78."""
_DIGEST_SIZE = 32
Kind = TypeVar("Kind")
_STRING = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)', re.DOTALL)
_STEPS = dict(zip(b"[{]}", (1, 1, -1, -1), strict=True))
_OTHER_BYTES = bytes(set(range(256)) - set(b'[{]}"\\'))


def dump(fields: Mapping[str, Any]) -> bytes:
    """Encode fields as the bytes of a JSON file, in the order of the fields."""
    return (json.dumps(fields, indent=2) + "\n").encode()


def load(raw: bytes, *, form: str, remedy: str = "", action: Action | None = None) -> dict[str, Any]:
    """Read a JSON object that names its format.

    Args:
        raw: the file's bytes.
        form: the required value of the field ``format``.
        remedy: the remedy in the error for a file of another format.
        action: the command or option that carries out the remedy; None without a command.

    Raises:
        ProposalError: the file is not a JSON object, repeats a key, or has another format.
    """
    try:
        fields = load_object(raw)
    except ProposalError as error:
        raise error.revised(remedy=remedy, action=action) from error
    if (found := fields.get("format")) != form:
        why = f"its format is {found!r:.40}, not {form!r}" if found else f"it does not name the format {form!r}"
        raise ProposalError("the file is of another kind", why=why, remedy=remedy, action=action)
    return fields


def load_object(raw: bytes, *, has_fractions: bool = False) -> dict[str, Any]:
    """Read any JSON object.

    Args:
        raw: the file's bytes.
        has_fractions: whether fractions such as 0.5 are accepted; without it, numbers must be whole.

    Raises:
        ProposalError: the file is not a JSON object, repeats a key, has a number that is not whole, or is nested too
            deeply.
    """
    parse_float = float if has_fractions else _no_number
    if not raw.strip():
        raise ProposalError("the file cannot be read", why="it is empty")

    try:
        try:
            document = raw.decode()
        except UnicodeDecodeError as error:
            raise ValueError("its bytes are not text") from error
        check_depth(document)
        fields = json.loads(
            document, object_pairs_hook=_unique, parse_float=parse_float, parse_int=whole, parse_constant=_no_number
        )
    except ValueError as error:
        raise ProposalError("the file cannot be read", why=f"it is not valid JSON ({error})") from error

    if not isinstance(fields, dict):
        raise ProposalError("the file cannot be read", why="it is not a JSON object")
    return fields


def check_depth(document: str) -> None:
    """Refuse a document that is nested too deeply, before the parser recurses into it.

    Some libraries (py_ecc, which Ape installs) raise Python's recursion limit so far that parsing a deeply nested file
    crashes the process.

    Raises:
        ValueError: the document is nested too deeply.
    """
    # Brackets inside strings do not count. Most strings have neither brackets nor escapes, and become pairs of quotes.
    brackets = document.encode(errors="replace").translate(None, delete=_OTHER_BYTES).replace(b'""', b"")
    if b'"' in brackets or b"\\" in brackets:
        outside = "".join(_STRING.split(document)).encode(errors="replace")
        brackets = outside.translate(None, delete=_OTHER_BYTES + b'"\\')
    if max(accumulate(map(_STEPS.__getitem__, brackets)), default=0) > _DEEPEST:
        raise ValueError(f"the document is nested in more than {_DEEPEST} levels")


def fault(error: Exception) -> str:
    """Describe an error in a file: a KeyError, TypeError or ValueError of a field, or an error of the whole file."""
    if isinstance(error, BlockOTAError):
        return error.why or error.what
    return f"its field {error} is missing" if isinstance(error, KeyError) else f"its field {error}"


def mapping(fields: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return a field that is a JSON object.

    Raises:
        TypeError: the field is not a JSON object.
    """
    return _of_kind(fields, name, kind=dict, otherwise="which is not a JSON object")


def mappings(fields: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """Return a field that is a list of JSON objects.

    Raises:
        TypeError: the field is not a list of JSON objects.
    """
    value = fields[name]
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        raise TypeError(f"{name} is {value!r:.40}, which is not a list of JSON objects")
    return value


def texts(fields: Mapping[str, Any], name: str) -> list[str]:
    """Return a field that is a list of texts.

    Raises:
        TypeError: the field is not a list of texts.
    """
    value = fields[name]
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise TypeError(f"{name} is {value!r:.40}, which is not a list of texts")
    return value


def text(fields: Mapping[str, Any], name: str) -> str:
    """Return a field that is a text with any characters. Escape the text with `blockota.errors.plain` to print it.

    Raises:
        TypeError: the field is not a text.
    """
    return _of_kind(fields, name, kind=str, otherwise="which is not a text")


def boolean(fields: Mapping[str, Any], name: str) -> bool:
    """Return a field that is true or false.

    Raises:
        TypeError: the field is neither true nor false.
    """
    return _of_kind(fields, name, kind=bool, otherwise="which is neither true nor false")


def integer(fields: Mapping[str, Any], name: str) -> int:
    """Return a field that is a whole number of at most 64 bits.

    Raises:
        ValueError: the field is not a whole number of at most 64 bits.
    """
    value = fields[name]
    # Not isinstance: a bool is an int.
    if type(value) is not int or not 0 <= value < 1 << 64:
        raise ValueError(f"{name} is {value!r:.40}, which is not a whole number of at most 64 bits")
    return value


def decimal(fields: Mapping[str, Any], name: str) -> int:
    """Return a field that is a whole number of at most 256 bits, written as decimal text.

    The number is not a JSON number, because many JSON parsers read numbers as floats and lose digits.

    Raises:
        ValueError: the field is not a decimal number of at most 256 bits.
    """
    value = fields[name]
    # The pattern limits the length of the text before int() parses the text.
    if not isinstance(value, str) or not re.fullmatch(r"0|[1-9]\d{0,77}", value, re.ASCII) or int(value) >> 256:
        raise ValueError(f"{name} is {value!r:.80}, which is not a decimal number of at most 256 bits")
    return int(value)


def address(fields: Mapping[str, Any], name: str) -> str:
    """Return a field that is a checksummed address (EIP-55).

    Raises:
        ValueError: the field is not a checksummed address.
    """
    value = fields[name]
    if not isinstance(value, str) or not is_checksum_address(value):
        raise ValueError(f"{name} is {value!r:.60}, which is not a checksummed address")
    return value


def hexadecimal(fields: Mapping[str, Any], name: str, *, prefix: str = "0x") -> bytes:
    """Return the bytes of a field that is lower-case hexadecimal text after a prefix.

    Raises:
        ValueError: the field is not lower-case hexadecimal text after the prefix.
    """
    value = fields[name]
    if not isinstance(value, str) or not re.fullmatch(rf"{prefix}(?:[0-9a-f]{{2}})*", value):
        raise ValueError(f"{name} is {value!r:.40}, which is not hex text")
    return bytes.fromhex(value.removeprefix(prefix))


def digest(fields: Mapping[str, Any], name: str, *, prefix: str = "0x") -> bytes:
    """Return the bytes of a field that is a 32-byte hash in lower-case hexadecimal text after a prefix.

    Raises:
        ValueError: the field is not a 32-byte hash in hexadecimal text.
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
    # Of two equal keys, some JSON parsers keep the first and some the last: two programs would read different values.
    if len({key for key, _ in pairs}) != len(pairs):
        raise ValueError("a key is repeated")
    return dict(pairs)


def whole(text: str) -> int:
    """Read a whole number of a JSON text, as the argument `parse_int` of `json.loads`.

    The number may have at most 100 digits. Python's own limit is higher, and its error text names a Python function,
    which the operator does not know.

    Raises:
        ValueError: the number has more than 100 digits.
    """
    if len(text) > _MAX_DIGITS:
        raise ValueError(f"a number has {len(text):,} digits, and at most {_MAX_DIGITS} are read")
    return int(text)


def _no_number(literal: str) -> None:
    raise ValueError(f"{literal:.40} is not a whole number")
