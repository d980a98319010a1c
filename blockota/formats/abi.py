"""Encode and decode calldata, results, errors and events with the packaged ABI of a contract.

Source: Solidity, Contract ABI Specification. Decoding follows the strict mode of the specification: offsets are as
small as possible, data does not overlap, padding is zero, and no byte is unused. Only the types of our contracts and
the Safe are supported: uint8 to uint256, bytes1 to bytes32, address, bool, bytes, string, tuples, and lists of them.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

from blockota.errors import UsageError
from blockota.ethereum import is_address, is_checksum_address, keccak, to_checksum_address

SELECTOR_SIZE = 4
"""Size in bytes of the selector of a function or an error."""
_WORD = 32
_ADDRESS_SIZE = 20
# Selectors of Panic(uint256) and Error(string).
_PANIC, _REVERT = bytes.fromhex("4e487b71"), bytes.fromhex("08c379a0")


class DecodingError(ValueError):
    """The data is not the strict encoding of values of the expected types."""


class EncodingError(ValueError):
    """A value is not valid for its ABI type."""


@dataclass(frozen=True)
class Decoded:
    """A decoded function call, error or event.

    Attributes:
        name: the name in the Solidity source.
        arguments: values by parameter name; a struct is a dict, an array a list.
    """

    name: str
    arguments: dict[str, Any]


@dataclass(frozen=True)
class AbiType:
    """A type of the ABI.

    Attributes:
        name: ``uint``, ``bytesN``, ``address``, ``bool``, ``bytes``, ``string``, ``tuple`` or ``list``.
        size: number of bits of a ``uint``; number of bytes of a ``bytesN``; 0 for other types.
        parts: the field types of a ``tuple``; the element type of a ``list``.
        labels: the field names of a ``tuple``, which are the keys of the decoded dict.
    """

    name: str
    size: int = 0
    parts: tuple[AbiType, ...] = ()
    labels: tuple[str, ...] = ()

    @functools.cached_property
    def is_dynamic(self) -> bool:
        """Whether the type is dynamic.

        The head of a dynamic value is an offset. The value itself follows after the heads of all values.
        """
        return self.name in {"bytes", "string", "list"} or any(part.is_dynamic for part in self.parts)

    @functools.cached_property
    def head_size(self) -> int:
        """Size of the head in bytes. The head is a static value itself, or the offset of a dynamic value."""
        is_word = self.is_dynamic or self.name != "tuple"
        return _WORD if is_word else sum(part.head_size for part in self.parts)

    @functools.cached_property
    def canonical(self) -> str:
        """The canonical name of the type, as in function signatures."""
        if self.name == "tuple":
            return f"({','.join(part.canonical for part in self.parts)})"
        if self.name == "list":
            return f"{self.parts[0].canonical}[]"
        return f"{'bytes' if self.name == 'bytesN' else self.name}{self.size or ''}"

    def encode(self, value: Any) -> bytes:
        """Encode a value of this type.

        Raises:
            EncodingError: the value is not valid for this type.
        """
        match self.name, value:
            # True and False are ints in Python, but not numbers of the ABI.
            case "uint", int() if not isinstance(value, bool) and 0 <= value < 1 << self.size:
                encoded = value.to_bytes(_WORD)
            case "bool", bool():
                encoded = int(value).to_bytes(_WORD)
            case "address", str() if is_address(value) and _has_no_wrong_checksum(value):
                encoded = bytes.fromhex(value[2:]).rjust(_WORD, b"\0")
            case "bytesN", bytes() if len(value) == self.size:
                encoded = value.ljust(_WORD, b"\0")
            case "bytes", bytes():
                encoded = len(value).to_bytes(_WORD) + value + bytes(-len(value) % _WORD)
            case "string", str():
                encoded = AbiType("bytes").encode(_utf8(value))
            case "list", Sequence() if not isinstance(value, str | bytes):
                encoded = len(value).to_bytes(_WORD) + encode_all(self.parts * len(value), value)
            case "tuple", Mapping() if set(value) == set(self.labels):
                encoded = encode_all(self.parts, [value[label] for label in self.labels])
            case "tuple", Sequence() if len(value) == len(self.parts) and not isinstance(value, str | bytes):
                encoded = encode_all(self.parts, value)
            case _:
                raise EncodingError(f"{value!r:.80} is not a value of the type {self.canonical}")
        return encoded

    def decode(self, data: memoryview) -> tuple[Any, int]:
        """Read one value from the beginning of the data.

        Returns:
            The value, and the size of its encoding in bytes.

        Raises:
            DecodingError: the data does not begin with the strict encoding of a value of this type.
        """
        match self.name:
            case "tuple":
                values, used = decode_all(self.parts, data)
                return dict(zip(self.labels, values, strict=True)), used
            case "list":
                count = _number(data)
                # Each element has a head, so a forged number of elements is refused before memory is allocated.
                if count * self.parts[0].head_size > len(data) - _WORD:
                    raise DecodingError(f"a list of {count} elements exceeds the data")
                values, used = decode_all(self.parts * count, data[_WORD:])
                return values, _WORD + used
            case "bytes" | "string":
                size = _number(data)
                used = _WORD + size + -size % _WORD
                if used > len(data):
                    raise DecodingError(f"a value of {size} bytes exceeds the data")
                # With other padding, one value would have several encodings with different hashes.
                if any(data[_WORD + size : used]):
                    raise DecodingError("the padding is not zero")
                content = bytes(data[_WORD : _WORD + size])
                if self.name == "bytes":
                    return content, used
                try:
                    return content.decode(), used
                except UnicodeDecodeError as error:
                    raise DecodingError("a string is not UTF-8") from error
        return self._decode_word(_word(data)), _WORD

    def _decode_word(self, word: bytes) -> Any:
        number = int.from_bytes(word)
        match self.name:
            case "uint" if not number >> self.size:
                return number
            case "bool" if number <= 1:
                return bool(number)
            case "address" if not number >> 8 * _ADDRESS_SIZE:
                return to_checksum_address(word[-_ADDRESS_SIZE:])
            case "bytesN" if not any(word[self.size :]):
                return word[: self.size]

        # A strict decoder accepts only the padding that an encoder writes.
        raise DecodingError(f"0x{word.hex()} is not a value of the type {self.canonical}")


def encode_all(types: Sequence[AbiType], values: Sequence[Any]) -> bytes:
    """Encode several values: first all heads, then the tails to which the heads point."""
    if len(types) != len(values):
        raise EncodingError(f"{len(values)} values were given for {len(types)} types")
    heads, tails = b"", b""
    tail_start = sum(kind.head_size for kind in types)
    for kind, value in zip(types, values, strict=True):
        encoded = kind.encode(value)
        if kind.is_dynamic:
            # Offsets count from the beginning of the heads.
            heads += (tail_start + len(tails)).to_bytes(_WORD)
            tails += encoded
        else:
            heads += encoded
    return heads + tails


def decode_all(types: Sequence[AbiType], data: memoryview) -> tuple[list[Any], int]:
    """Decode several values, the reverse of `encode_all`. Returns the values and the number of bytes read."""
    values, head, tail = [], 0, sum(kind.head_size for kind in types)
    for kind in types:
        if kind.is_dynamic:
            # With gaps or shared tails, one value would have several encodings.
            if _number(data[head:]) != tail:
                raise DecodingError("an offset does not point to the end of the preceding data")
            value, used = kind.decode(data[tail:])
            tail += used
            head += _WORD
        else:
            value, used = kind.decode(data[head:])
            head += used
        values.append(value)
    return values, tail


def encode(types: Iterable[str], values: Sequence[Any]) -> bytes:
    """Encode values of the named types, such as ``uint256`` or ``address[]``.

    Raises:
        EncodingError: a value is not valid for its type.
    """
    return encode_all([parse_type(kind) for kind in types], values)


def decode(types: Iterable[str], data: bytes) -> list[Any]:
    """Decode all of the data to values of the named types.

    Raises:
        DecodingError: the data is not the strict encoding of values of these types.
    """
    return _decode_whole([parse_type(kind) for kind in types], data)


@functools.cache
def parse_type(text: str) -> AbiType:
    """Parse a type name of a function signature. Tuples are supported only in the JSON ABI.

    Raises:
        ValueError: the type is not supported.
    """
    if text.endswith("[]"):
        return AbiType("list", parts=(parse_type(text[:-2]),))
    if text in {"address", "bool", "bytes", "string"}:
        return AbiType(text)

    found = re.fullmatch(r"(uint|bytes)([1-9]\d{0,2})", text)
    size = int(found[2]) if found else 0
    if found and found[1] == "uint" and size % 8 == 0 and size <= 8 * _WORD:
        return AbiType("uint", size)
    if found and found[1] == "bytes" and size <= _WORD:
        return AbiType("bytesN", size)

    raise ValueError(f"the ABI type {text} is not known")


class Interface:
    """The functions, errors and events of a contract.

    Args:
        entries: the JSON ABI.
    """

    def __init__(self, entries: Iterable[dict[str, Any]]) -> None:
        self._functions: dict[str, _AbiEntry] = {}
        self._by_selector: dict[bytes, _AbiEntry] = {}
        self._events: dict[bytes, _AbiEntry] = {}
        self._constructor = _AbiEntry({"type": "constructor", "inputs": []})

        for entry in map(_AbiEntry, entries):
            if entry.kind == "function":
                self._functions[entry.name] = entry
            if entry.kind in {"function", "error"}:
                self._by_selector[entry.topic[:SELECTOR_SIZE]] = entry
            if entry.kind == "event":
                self._events[entry.topic] = entry
            if entry.kind == "constructor":
                self._constructor = entry

    def encode_call(self, function: str, *arguments: Any) -> bytes:
        """Encode the calldata of a function. A struct argument is a dict or a tuple.

        Raises:
            UsageError: an argument is not valid for its parameter's type, or the number of arguments is wrong.
        """
        entry = self._functions[function]
        try:
            return entry.topic[:SELECTOR_SIZE] + encode_all(entry.inputs.parts, arguments)
        except EncodingError as error:
            raise UsageError(f"the arguments of {function} cannot be encoded", why=str(error)) from error

    def encode_constructor(self, *arguments: Any) -> bytes:
        """Encode the constructor arguments, which the caller appends to the creation bytecode."""
        return encode_all(self._constructor.inputs.parts, arguments)

    def decode_call(self, data: bytes) -> Decoded | None:
        """Decode a call or an error of this contract.

        Returns None if the selector is unknown, the arguments cannot be decoded, or bytes follow the arguments.
        """
        entry = self._by_selector.get(data[:SELECTOR_SIZE])
        if entry is None:
            return None
        try:
            values = _decode_whole(entry.inputs.parts, data[SELECTOR_SIZE:])
        except DecodingError:
            return None
        return Decoded(entry.name, dict(zip(entry.inputs.labels, values, strict=True)))

    def decode_result(self, function: str, data: bytes) -> Any:
        """Decode the return data of a function: one value, or a dict of several values.

        Raises:
            DecodingError: the data is not the strict encoding of a result of this function.
        """
        outputs = self._functions[function].outputs
        values = _decode_whole(outputs.parts, data)
        return values[0] if len(values) == 1 else dict(zip(outputs.labels, values, strict=True))

    def decode_event(self, topics: Sequence[bytes], data: bytes) -> Decoded | None:
        """Decode the event of a log entry.

        Returns None if the contract's ABI does not have the event.

        Raises:
            DecodingError: the log entry has the topic of an event, but its arguments cannot be decoded.
        """
        entry = self._events.get(topics[0]) if topics else None
        if entry is None:
            return None
        # Our events index only static types. The topic of a dynamic type would be a hash.
        parameters = list(zip(entry.inputs.labels, entry.inputs.parts, entry.indexed, strict=True))
        indexed = {label: kind for label, kind, is_indexed in parameters if is_indexed}
        others = {label: kind for label, kind, is_indexed in parameters if not is_indexed}
        values = _decode_whole([*indexed.values()], b"".join(topics[1:])) + _decode_whole([*others.values()], data)
        return Decoded(entry.name, dict(zip([*indexed, *others], values, strict=True)))


class _AbiEntry:
    """One entry of a JSON ABI. The types of the entry are parsed when they are first used."""

    def __init__(self, fields: dict[str, Any]) -> None:
        self._fields = fields
        self.kind: str = fields["type"]
        self.name: str = fields.get("name", "")

    @functools.cached_property
    def inputs(self) -> AbiType:
        """The parameters, as one tuple."""
        return _tuple_of(self._fields.get("inputs", []))

    @functools.cached_property
    def outputs(self) -> AbiType:
        """The results, as one tuple."""
        return _tuple_of(self._fields.get("outputs", []))

    @functools.cached_property
    def topic(self) -> bytes:
        """Keccak-256 of the signature.

        The hash is the first topic of an event, and its first four bytes are a selector.
        """
        return keccak(text=f"{self.name}{self.inputs.canonical}")

    @property
    def indexed(self) -> list[bool]:
        """For each parameter of an event, whether the parameter is indexed.

        An indexed parameter is a topic of the event.
        """
        return [bool(parameter["indexed"]) for parameter in self._fields["inputs"]]


def encode_signature_call(signature: str, *arguments: Any) -> bytes:
    """Encode a call from a function signature such as ``getOwners()``. Tuple arguments are not supported."""
    types = [part for part in signature[signature.index("(") + 1 : -1].split(",") if part]
    return keccak(text=signature)[:SELECTOR_SIZE] + encode(types, arguments)


def revert_text(data: bytes) -> str | None:
    """Decode the message of a ``require`` or the code of a Solidity panic; None for other revert data."""
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
    """Load a contract's packaged artifact, with the keys ``abi``, ``bytecode`` (hex) and ``compiler``."""
    text = resources.files("blockota").joinpath("artifacts", f"{contract}.json").read_text("utf-8")
    loaded: dict[str, Any] = json.loads(text)
    return loaded


@functools.cache
def interface(contract: str) -> Interface:
    """Return the ABI of a packaged contract as an `Interface`."""
    return Interface(artifact(contract)["abi"])


def _tuple_of(parameters: Sequence[dict[str, Any]]) -> AbiType:
    labels = tuple(parameter["name"] or str(number) for number, parameter in enumerate(parameters))
    parts = []
    for parameter in parameters:
        base = parameter["type"].removesuffix("[]")
        kind = _tuple_of(parameter["components"]) if base == "tuple" else parse_type(base)
        parts.append(AbiType("list", parts=(kind,)) if base != parameter["type"] else kind)
    return AbiType("tuple", parts=tuple(parts), labels=labels)


def _decode_whole(types: Sequence[AbiType], data: bytes) -> list[Any]:
    values, used = decode_all(types, memoryview(data))
    if used != len(data):
        raise DecodingError(f"{len(data) - used} bytes follow the last value")
    return values


def _word(data: memoryview) -> bytes:
    if len(data) < _WORD:
        raise DecodingError("the data ends too early")
    return bytes(data[:_WORD])


def _number(data: memoryview) -> int:
    return int.from_bytes(_word(data))


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise EncodingError("a string cannot be encoded in UTF-8") from error


def _has_no_wrong_checksum(address: str) -> bool:
    """Whether an address has a valid EIP-55 checksum, or has no checksum because all its letters have the same case."""
    digits = address[2:]
    return digits in {digits.lower(), digits.upper()} or is_checksum_address(address)
