"""The contract's ABI as package data: calldata, results, errors and events to values and back.

Source: Solidity, Contract ABI Specification.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

from eth_abi.codec import ABICodec
from eth_abi.decoding import UnsignedIntegerDecoder
from eth_abi.encoding import UnsignedIntegerEncoder
from eth_abi.exceptions import DecodingError, EncodingError
from eth_abi.registry import ABIRegistry, BaseEquals, registry
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

from blockota.errors import UsageError


def _strict_registry() -> ABIRegistry:
    """Types of our own: Ape puts a decoder that pads short numbers into the shared ones, before or after us."""
    strict: ABIRegistry = registry.copy()  # type: ignore[no-untyped-call]  # eth-abi leaves it untyped
    strict.unregister("uint")
    strict.register(BaseEquals("uint"), UnsignedIntegerEncoder, UnsignedIntegerDecoder, label="uint")  # type: ignore[no-untyped-call]
    return strict


_CODEC = ABICodec(_strict_registry())
encode, decode = _CODEC.encode, _CODEC.decode
SELECTOR_SIZE = 4
"""Bytes that name a function or an error."""
_PANIC, _REVERT = bytes.fromhex("4e487b71"), bytes.fromhex("08c379a0")


@dataclass(frozen=True)
class Decoded:
    """A function call, an error or an event in words.

    Attributes:
        name: as in the Solidity source.
        arguments: by parameter name; a struct is a dict, an array a list.
    """

    name: str
    arguments: dict[str, Any]


class Interface:
    """What a contract understands and says.

    Args:
        entries: the JSON ABI.
    """

    def __init__(self, entries: Iterable[dict[str, Any]]) -> None:
        """Index the entries by name and selector."""
        entries = [entry for entry in entries if entry["type"] in {"function", "error", "event", "constructor"}]
        self._functions = {e["name"]: e for e in entries if e["type"] == "function"}
        self._constructor: dict[str, Any] = next((e for e in entries if e["type"] == "constructor"), {"inputs": []})
        self._by_selector = {_topic(e)[:SELECTOR_SIZE]: e for e in entries if e["type"] in {"function", "error"}}
        self._events = {_topic(e): e for e in entries if e["type"] == "event"}

    def encode_call(self, function: str, *arguments: Any) -> bytes:
        """Calldata of a function; a struct argument is given as a dict or a tuple.

        Raises:
            UsageError: a value is too large for the contract.
        """
        entry = self._functions[function]
        try:
            return _topic(entry)[:SELECTOR_SIZE] + _encode(entry["inputs"], arguments)
        except EncodingError as error:
            raise UsageError(f"the contract cannot be asked to {function}", why=str(error).rstrip(".")) from error

    def encode_constructor(self, *arguments: Any) -> bytes:
        """Constructor arguments, to be put behind the creation bytecode."""
        return _encode(self._constructor["inputs"], arguments)

    def decode_call(self, data: bytes) -> Decoded | None:
        """What calldata (or error data) asks for; None where it is none of this contract's, to the last byte."""
        entry = self._by_selector.get(data[:SELECTOR_SIZE])
        if entry is None:
            return None
        try:
            values = _decode(entry["inputs"], data[SELECTOR_SIZE:])
        except (DecodingError, ValueError, OverflowError):
            return None
        if _encode(entry["inputs"], list(values.values())) != data[SELECTOR_SIZE:]:
            return None
        return Decoded(entry["name"], values)

    def decode_result(self, function: str, data: bytes) -> Any:
        """What a function returned: its only value, or a dict of several."""
        values = _decode(self._functions[function]["outputs"], data)
        return next(iter(values.values())) if len(values) == 1 else values

    def decode_event(self, topics: Sequence[bytes], data: bytes) -> Decoded | None:
        """What a log entry says; None where it is none of this contract's events."""
        entry = self._events.get(topics[0]) if topics else None
        if entry is None:
            return None
        indexed = [i for i in entry["inputs"] if i["indexed"]]
        rest = [i for i in entry["inputs"] if not i["indexed"]]
        return Decoded(entry["name"], _decode(indexed, b"".join(topics[1:])) | _decode(rest, data))

    @property
    def functions(self) -> frozenset[str]:
        """Names of all functions."""
        return frozenset(self._functions)

    @property
    def errors(self) -> frozenset[str]:
        """Names of all custom errors."""
        return frozenset(e["name"] for e in self._by_selector.values() if e["type"] == "error")


def encode_signature_call(signature: str, *arguments: Any) -> bytes:
    """Calldata of a function known by its signature, such as ``getOwners()``, with plain argument types."""
    types = [part for part in signature[signature.index("(") + 1 : -1].split(",") if part]
    return keccak(text=signature)[:SELECTOR_SIZE] + encode(types, arguments)


def revert_text(data: bytes) -> str | None:
    """The text of a plain ``require``, or of a Solidity panic; None for anything else."""
    try:
        if data[:SELECTOR_SIZE] == _REVERT:
            return str(decode(["string"], data[SELECTOR_SIZE:])[0])
        if data[:SELECTOR_SIZE] == _PANIC:
            return f"panic 0x{decode(['uint256'], data[SELECTOR_SIZE:])[0]:02x}"
    except DecodingError:
        return None
    return None


@functools.cache
def artifact(contract: str) -> dict[str, Any]:
    """A contract's packaged artifact: ``abi``, ``bytecode`` (hex) and ``compiler``."""
    text = resources.files("blockota").joinpath("artifacts", f"{contract}.json").read_text("utf-8")
    loaded: dict[str, Any] = json.loads(text)
    return loaded


@functools.cache
def interface(contract: str) -> Interface:
    """The interface of a packaged contract."""
    return Interface(artifact(contract)["abi"])


def _topic(entry: dict[str, Any]) -> bytes:
    return keccak(text=f"{entry['name']}({','.join(_type(i) for i in entry['inputs'])})")


def _type(parameter: dict[str, Any]) -> str:
    kind: str = parameter["type"]
    if kind.startswith("tuple"):
        return f"({','.join(_type(c) for c in parameter['components'])}){kind[len('tuple') :]}"
    return kind


def _encode(parameters: list[dict[str, Any]], values: Sequence[Any]) -> bytes:
    plain = [_to_tuples(p, value) for p, value in zip(parameters, values, strict=True)]
    return encode([_type(p) for p in parameters], plain)


def _decode(parameters: list[dict[str, Any]], data: bytes) -> dict[str, Any]:
    values = decode([_type(p) for p in parameters], data)
    return {p["name"] or str(i): _to_dicts(p, v) for i, (p, v) in enumerate(zip(parameters, values, strict=True))}


def _to_tuples(parameter: dict[str, Any], value: Any) -> Any:
    if parameter["type"].endswith("[]"):
        return [_to_tuples(_element(parameter), item) for item in value]
    if parameter["type"] != "tuple":
        return value
    fields = [value[c["name"]] for c in parameter["components"]] if isinstance(value, dict) else value
    return tuple(_to_tuples(c, field) for c, field in zip(parameter["components"], fields, strict=True))


def _to_dicts(parameter: dict[str, Any], value: Any) -> Any:
    if parameter["type"].endswith("[]"):
        return [_to_dicts(_element(parameter), item) for item in value]
    if parameter["type"] == "address":
        return to_checksum_address(value)
    if parameter["type"] != "tuple":
        return value
    return {c["name"]: _to_dicts(c, field) for c, field in zip(parameter["components"], value, strict=True)}


def _element(parameter: dict[str, Any]) -> dict[str, Any]:
    return parameter | {"type": parameter["type"].removesuffix("[]")}
