"""An ERC-7730 wallet for the formats that our descriptors use; it refuses all others.

A function is identified by the descriptor's key: name, types and parameter names. Source: ERC-7730, sections
"Display" and "Field formats".
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
"""Size of the ABI word from which a number is sliced."""
KEYS = {"path", "label", "format", "params", "visible"}
PARAMS: dict[str, Any] = {
    "raw": None,
    "date": {"encoding": "timestamp"},
    "addressName": {"types": ["eoa", "wallet", "contract"]},
}
"""The supported formats with their parameters."""


class CannotShowError(Exception):
    """The descriptor uses an unknown feature, or has no display for the call."""


@dataclass(frozen=True)
class Shown:
    """The contents of the screen.

    Attributes:
        intent: the action.
        lines: label and text of each field, in order.
    """

    intent: str
    lines: list[tuple[str, str]]


def show(descriptor: dict[str, Any], calldata: bytes) -> Shown:
    """Render calldata.

    Raises:
        CannotShowError: the descriptor lacks the function or cannot be evaluated.
    """
    for key, display in descriptor["display"]["formats"].items():
        if call := Interface([abi_entry(key)]).decode_call(calldata):
            return Shown(display["intent"], list(lines(display["fields"], call.arguments)))
    raise CannotShowError("no display for this call")


def lines(fields: list[dict[str, Any]], scope: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Render the fields whose paths start in a scope; a group is repeated for each element of its list."""
    for field in fields:
        if "fields" not in field:
            yield line(field, scope)
            continue
        if field.keys() != {"path", "label", "iteration", "fields"} or field["iteration"] != "bundled":
            raise CannotShowError(f"a group with {sorted(field)}")
        for element in scope[field["path"].removesuffix(".[]")]:
            yield from lines(field["fields"], element)


def line(field: dict[str, Any], scope: dict[str, Any]) -> tuple[str, str]:
    """Render one field as label and text."""
    if not field.keys() <= KEYS or field.get("visible", "always") != "always":
        raise CannotShowError(f"a field with {sorted(field)}, visible {field.get('visible')}")
    if field["format"] not in PARAMS or field.get("params") != PARAMS[field["format"]]:
        raise CannotShowError(f"format {field['format']} with {field.get('params')}")
    name, _, part = field["path"].partition(".")
    if name not in scope:
        raise CannotShowError(f"no {name} among {sorted(scope)}")
    value = sliced(scope[name], part) if part else scope[name]
    return field["label"], text(field["format"], value)


def sliced(number: int, part: str) -> int:
    """Return some bytes of a number's ABI word, as a number: ``[-8:-6]`` or ``[-3:]``."""
    match = re.fullmatch(r"\[(-\d+):(-\d+)?\]", part)
    if match is None:
        raise CannotShowError(f"slice {part}")
    end = int(match[2]) if match[2] else None
    return int.from_bytes(number.to_bytes(WORD, "big")[int(match[1]) : end], "big")


def text(form: str, value: Any) -> str:
    """Render a value: numbers decimal, bytes in hexadecimal, text unchanged."""
    if form == "date":
        return datetime.fromtimestamp(value, UTC).isoformat()
    if form == "addressName":
        return to_checksum_address(value)
    return "0x" + value.hex() if isinstance(value, bytes) else str(value)


def abi_entry(key: str) -> dict[str, Any]:
    """Convert a descriptor's key, ``name(type parameter,…)``, to an entry of a JSON ABI with components of tuples."""
    name, _, rest = key.partition("(")
    inputs, rest = parameters(rest)
    if rest:
        raise CannotShowError(f"{rest!r} behind {name}")
    return {"type": "function", "name": name, "inputs": inputs}


def parameters(rest: str) -> tuple[list[dict[str, Any]], str]:
    """Parse the parameters up to a closing bracket; return them and the rest."""
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
