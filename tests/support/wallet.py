"""An ERC-7730 wallet that supports only the formats that our descriptors use.

A descriptor's key identifies a function by name, types and parameter names. The simulated wallet follows ERC-7730,
sections "Display" and "Field formats".
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from eth_utils.address import to_checksum_address

from blockota.formats.abi import Interface

WORD = 32
"""Length in bytes of the ABI word that represents a number."""
KEYS = {"path", "label", "format", "params", "visible"}
PARAMS: dict[str, Any] = {
    "raw": None,
    "date": {"encoding": "timestamp"},
    "addressName": {"types": ["eoa", "wallet", "contract"]},
}
"""The supported field formats, each with its required parameters."""


class CannotShowError(Exception):
    """The descriptor uses an unsupported feature, or does not describe the call."""


@dataclass(frozen=True)
class Shown:
    """The contents of the wallet's screen.

    Attributes:
        intent: the name of the action.
        lines: label and text of each field, in order.
    """

    intent: str
    lines: list[tuple[str, str]]


def show(descriptor: dict[str, Any], calldata: bytes) -> Shown:
    """Render calldata as the wallet's screen.

    Raises:
        CannotShowError: the descriptor does not describe the function or cannot be evaluated.
    """
    for key, display in descriptor["display"]["formats"].items():
        if call := Interface([abi_entry(key)]).decode_call(calldata):
            enums = descriptor["metadata"].get("enums", {})
            return Shown(display["intent"], list(lines(display["fields"], call.arguments, enums)))
    raise CannotShowError("no display for this call")


def lines(fields: list[dict[str, Any]], scope: dict[str, Any], enums: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Render the fields of a call or a tuple; a group or field is repeated for each element of its list."""
    for field in fields:
        if "fields" not in field:
            yield from line(field, scope, enums)
            continue
        if field.keys() != {"path", "label", "iteration", "fields"} or field["iteration"] != "bundled":
            raise CannotShowError(f"a group with {sorted(field)}")
        for element in scope[field["path"].removesuffix(".[]")]:
            yield from lines(field["fields"], element, enums)


def line(field: dict[str, Any], scope: dict[str, Any], enums: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Render one field as its label and text, once for each element of a list."""
    if not field.keys() <= KEYS or field.get("visible", "always") != "always":
        raise CannotShowError(f"a field with {sorted(field)}, visible {field.get('visible')}")
    form, params = field["format"], field.get("params")
    if form == "enum" and params:
        table = enums[params["$ref"].removeprefix("$.metadata.enums.")]
        yield from ((field["label"], table.get(str(value), str(value))) for value in values_at(field["path"], scope))
        return
    if form not in PARAMS or params != PARAMS[form]:
        raise CannotShowError(f"format {form} with {params}")
    yield from ((field["label"], text(form, value)) for value in values_at(field["path"], scope))


def values_at(path: str, scope: Any) -> list[Any]:
    """Return the values at a path: ``name``, ``struct.name``, ``list.[]``, or a slice of a number, ``name.[-3:]``."""
    name, _, rest = path.partition(".")
    if name == "[]":
        return [value for element in scope for value in (values_at(rest, element) if rest else [element])]
    if name.startswith("["):
        return [sliced(scope, name)]
    if name not in scope:
        raise CannotShowError(f"no {name} among {sorted(scope)}")
    return values_at(rest, scope[name]) if rest else [scope[name]]


def sliced(number: int, part: str) -> int:
    """Cut bytes out of the ABI encoding of a number, and return these bytes as a number.

    `part` selects the bytes, as in ``[-8:-6]`` or ``[-3:]``.
    """
    match = re.fullmatch(r"\[(-\d+):(-\d+)?\]", part)
    if match is None:
        raise CannotShowError(f"slice {part}")
    end = int(match[2]) if match[2] else None
    return int.from_bytes(number.to_bytes(WORD, "big")[int(match[1]) : end], "big")


def text(form: str, value: Any) -> str:
    """Render a value: numbers in decimal, bytes in hexadecimal, text unchanged."""
    if form == "date":
        return datetime.fromtimestamp(value, UTC).isoformat()
    if form == "addressName":
        return to_checksum_address(value)
    return "0x" + value.hex() if isinstance(value, bytes) else str(value)


def abi_entry(key: str) -> dict[str, Any]:
    """Convert a descriptor's key, ``name(type parameter,…)``, to an entry of a JSON ABI."""
    name, _, rest = key.partition("(")
    inputs, rest = parameters(rest)
    if rest:
        raise CannotShowError(f"{rest!r} behind {name}")
    return {"type": "function", "name": name, "inputs": inputs}


def parameters(rest: str) -> tuple[list[dict[str, Any]], str]:
    """Parse parameters up to a closing parenthesis; return them and the remaining text."""
    found: list[dict[str, Any]] = []
    while rest and rest[0] != ")":
        components: list[dict[str, Any]] | None = None
        if rest[0] == "(":
            components, rest = parameters(rest[1:])
        match = re.match(r"([a-z0-9]*(?:\[\])?) (\w+),?", rest)
        if match is None:
            raise CannotShowError(f"no parameter: {rest!r}")
        entry = {"name": match[2], "type": match[1]}
        found.append(entry if components is None else {**entry, "type": f"tuple{match[1]}", "components": components})
        rest = rest[match.end() :]
    return found, rest[1:]
