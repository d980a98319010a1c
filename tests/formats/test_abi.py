"""Tests of ABI encoding and decoding, compared with web3 and eth-abi."""

from __future__ import annotations

from typing import Any, cast

import pytest
from eth_abi.abi import encode
from eth_typing import ABIEvent
from eth_utils.abi import event_abi_to_log_topic
from eth_utils.crypto import keccak
from hypothesis import given, settings
from hypothesis import strategies as st
from web3 import Web3
from web3.contract import Contract

from blockota.errors import UsageError
from blockota.formats import abi
from blockota.formats.abi import artifact, encode_signature_call, interface, revert_text
from tests.support.samples import CONTRACT, SAFE

ABI: list[dict[str, Any]] = artifact("BlockOTA")["abi"]
OURS = interface("BlockOTA")
FUNCTIONS = {entry["name"]: entry for entry in ABI if entry["type"] == "function"}
ERRORS = {entry["name"]: entry for entry in ABI if entry["type"] == "error"}
EVENTS = {entry["name"]: entry for entry in ABI if entry["type"] == "event"}
word = st.binary(min_size=32, max_size=32)
PLAIN = {
    "bytes32": word,
    "address": st.sampled_from([CONTRACT, SAFE]),
    "string": st.text(max_size=50),
    "bool": st.booleans(),
} | {f"uint{bits}": st.integers(0, (1 << bits) - 1) for bits in range(8, 257, 8)}


def values_of(parameter: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Return a Hypothesis strategy for the values of a parameter; structs are dicts."""
    kind: str = parameter["type"]
    if kind.endswith("[]"):
        return st.lists(values_of(parameter | {"type": kind[:-2]}), max_size=3)
    if kind == "tuple":
        parts = parameter["components"]
        return st.tuples(*map(values_of, parts)).map(
            lambda values: {p["name"]: v for p, v in zip(parts, values, strict=True)}
        )
    return PLAIN[kind]


def calls_of(entries: dict[str, Any], side: str = "inputs") -> st.SearchStrategy[tuple[str, list[Any]]]:
    """Return a Hypothesis strategy for the name and the arguments of a function, error or event."""
    return st.sampled_from(sorted(entries)).flatmap(
        lambda name: st.tuples(st.just(name), st.tuples(*map(values_of, entries[name][side])).map(list))
    )


@pytest.fixture(scope="module")
def theirs() -> type[Contract]:
    """Return a contract object of web3 that needs no chain."""
    return Web3().eth.contract(abi=ABI)


@settings(deadline=None)
@given(call=calls_of(FUNCTIONS))
def test_calls_are_encoded_as_web3_does(theirs: type[Contract], call: tuple[str, list[Any]]) -> None:
    """Any call is encoded to the same calldata as by web3, and decoded to the same arguments."""
    name, arguments = call
    data = OURS.encode_call(name, *arguments)
    assert data == bytes.fromhex(theirs.encode_abi(name, arguments)[2:])
    decoded = OURS.decode_call(data)
    assert decoded is not None
    assert (decoded.name, list(decoded.arguments.values())) == call


@settings(deadline=None)
@given(call=calls_of(FUNCTIONS), junk=st.binary(min_size=1, max_size=40))
def test_calldata_with_junk_behind_it_is_not_decoded(call: tuple[str, list[Any]], junk: bytes) -> None:
    """Trailing bytes and truncated calldata are refused."""
    data = OURS.encode_call(call[0], *call[1])
    assert OURS.decode_call(data + junk) is None
    assert OURS.decode_call(data[:-1]) is None


@settings(deadline=None)
@given(call=calls_of(FUNCTIONS, "outputs"))
def test_answers_are_decoded_as_web3_encodes_them(call: tuple[str, list[Any]]) -> None:
    """The result of a call, encoded by eth-abi, is decoded to the original values."""
    name, values = call
    if values:
        types = [canonical(output) for output in FUNCTIONS[name]["outputs"]]
        data = encode(types, [as_tuples(value) for value in values])
        assert OURS.decode_result(name, data) == values[0]


@settings(deadline=None)
@given(call=calls_of(ERRORS))
def test_errors_are_decoded(call: tuple[str, list[Any]]) -> None:
    """Revert data is decoded to the error's name and arguments."""
    name, arguments = call
    entry = ERRORS[name]
    types = [canonical(parameter) for parameter in entry["inputs"]]
    selector = keccak(text=f"{name}({','.join(types)})")[:4]
    decoded = OURS.decode_call(selector + encode(types, arguments))
    assert decoded is not None
    assert (decoded.name, list(decoded.arguments.values())) == call


@settings(deadline=None)
@given(event=calls_of(EVENTS))
def test_events_are_decoded(event: tuple[str, list[Any]]) -> None:
    """A log entry is decoded to the event's arguments, both indexed and not indexed."""
    name, arguments = event
    pairs = list(zip(EVENTS[name]["inputs"], arguments, strict=True))
    indexed = [encode([entry["type"]], [value]) for entry, value in pairs if entry["indexed"]]
    rest = [(entry["type"], value) for entry, value in pairs if not entry["indexed"]]
    data = encode([kind for kind, _ in rest], [value for _, value in rest])
    decoded = OURS.decode_event([event_abi_to_log_topic(cast("ABIEvent", EVENTS[name])), *indexed], data)
    assert decoded is not None
    assert decoded.arguments == {entry["name"]: value for entry, value in pairs}


def test_a_strange_event_is_none() -> None:
    """A log entry with an unknown topic or without topics is decoded to None."""
    assert OURS.decode_event([bytes(32)], b"") is None
    assert OURS.decode_event([], b"") is None


@settings(deadline=None, max_examples=300)
@given(name=st.sampled_from(sorted(FUNCTIONS)), data=st.binary(max_size=200))
def test_random_bytes_are_decoded_to_nothing(name: str, data: bytes) -> None:
    """Random bytes after a selector are decoded to None, or to a call that encodes to the same bytes."""
    selector = OURS.encode_call(name, *[default_of(i) for i in FUNCTIONS[name]["inputs"]])[:4]
    decoded = OURS.decode_call(selector + data)
    if decoded is not None:
        assert OURS.encode_call(decoded.name, *decoded.arguments.values()) == selector + data


@settings(deadline=None, max_examples=300)
@given(name=st.sampled_from(sorted(name for name in FUNCTIONS if FUNCTIONS[name]["outputs"])), noise=st.data())
def test_a_strange_answer_is_a_decoding_error(name: str, noise: st.DataObject) -> None:
    """Random return data is decoded, or raises `DecodingError`."""
    size = noise.draw(st.integers(0, 12))
    words = noise.draw(st.lists(st.integers(0, 400).map(lambda n: n.to_bytes(32, "big")) | word, max_size=size))
    try:
        OURS.decode_result(name, b"".join(words))
    except abi.DecodingError:
        return


@pytest.mark.parametrize(("chip", "size"), [(1 << 16, 1), (1, 1 << 32), (-1, 1)])
def test_a_value_that_does_not_fit_is_a_usage_error(chip: int, size: int) -> None:
    """A number outside the range of its type is refused, not truncated."""
    with pytest.raises(UsageError, match="the arguments of pairOem cannot be encoded"):
        OURS.encode_call("pairOem", bytes(32), bytes(32), chip, 0, size)


def test_a_signature_call_has_the_selector_of_its_text() -> None:
    """Encoding a call by its signature yields the signature's selector, followed by the encoded arguments."""
    assert encode_signature_call("getOwners()") == keccak(text="getOwners()")[:4]
    assert encode_signature_call("f(uint256,bytes)", 5, b"x")[4:] == encode(["uint256", "bytes"], [5, b"x"])


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (bytes.fromhex("08c379a0") + encode(["string"], ["GS026"]), "GS026"),
        (bytes.fromhex("4e487b71") + encode(["uint256"], [0x11]), "panic 0x11"),
        (bytes.fromhex("08c379a0"), None),
        (bytes.fromhex("4e487b71") + bytes(3), None),
        (b"", None),
        (bytes(40), None),
    ],
)
def test_plain_reverts_are_read(data: bytes, text: str | None) -> None:
    """The message of a `require` and the code of a panic are decoded; any other data is decoded to None."""
    assert revert_text(data) == text


def canonical(parameter: dict[str, Any]) -> str:
    """Return a parameter's canonical type."""
    kind: str = parameter["type"]
    parts = ",".join(canonical(part) for part in parameter.get("components", []))
    return kind.replace("tuple", f"({parts})")


def as_tuples(value: Any) -> Any:
    """Convert dicts to tuples, recursively."""
    if isinstance(value, list):
        return [as_tuples(item) for item in value]
    return tuple(map(as_tuples, value.values())) if isinstance(value, dict) else value


def default_of(parameter: dict[str, Any]) -> Any:
    """Return an example value of a parameter's type."""
    kind: str = parameter["type"]
    return {"bytes32": bytes(32), "address": SAFE, "string": ""}.get(kind, [] if kind.endswith("[]") else 0)


@settings(deadline=None)
@given(values=st.tuples(st.lists(st.text(max_size=40), max_size=4), st.binary(max_size=70), st.booleans(), word))
def test_plain_values_are_encoded_as_eth_abi_does(values: tuple[list[str], bytes, bool, bytes]) -> None:
    """Nested dynamic types are encoded as by eth-abi, and decoded to the original values."""
    types = ["string[]", "bytes", "bool", "bytes32"]
    data = encode(types, values)
    assert abi.encode(types, values) == data
    assert tuple(abi.decode(types, data)) == values


@settings(deadline=None, max_examples=300)
@given(
    words=st.lists(st.sampled_from([0, 1, 2, 32, 64, 96, 1 << 255]) | st.integers(0, 160), max_size=9),
    kind=st.sampled_from(["string[]", "bytes", "address[]", "bool", "uint8", "bytes4"]),
)
def test_decoding_is_strict(words: list[int], kind: str) -> None:
    """Data is refused unless it is the canonical encoding of the decoded values."""
    data = b"".join(number.to_bytes(32, "big") for number in words)
    try:
        values = abi.decode([kind], data)
    except abi.DecodingError:
        return
    assert encode([kind], values) == data


BAD_DATA = {
    "nothing": ("uint256", ""),
    "a cut word": ("uint256", "00" * 31),
    "bytes after the value": ("uint256", "00" * 33),
    "a number too large": ("uint8", f"{256:064x}"),
    "a bool of two": ("bool", f"{2:064x}"),
    "an address of 21 bytes": ("address", f"{1 << 160:064x}"),
    "short bytes with more after them": ("bytes4", f"{1:064x}"),
    "an offset into the heads": ("bytes", f"{0:064x}"),
    "an offset with a gap": ("bytes", f"{64:064x}{0:064x}{0:064x}"),
    "a content that does not fit": ("bytes", f"{32:064x}{33:064x}{0:064x}"),
    "a padding that is not zero": ("bytes", f"{32:064x}{1:064x}{1:064x}"),
    "a text that is not UTF-8": ("string", f"{32:064x}{1:064x}{'ff':0<64}"),
    "a list without its elements": ("uint256[]", f"{32:064x}{1 << 200:064x}"),
    "two elements at one place": ("bytes[]", f"{32:064x}{2:064x}{64:064x}{64:064x}{0:064x}"),
}


@pytest.mark.parametrize(("kind", "data"), BAD_DATA.values(), ids=BAD_DATA)
def test_data_that_is_not_a_strict_encoding_is_refused(kind: str, data: str) -> None:
    """Data is refused if it violates a rule of the strict mode in the ABI specification."""
    with pytest.raises(abi.DecodingError):
        abi.decode([kind], bytes.fromhex(data))


WRONG_CHECKSUM = SAFE.swapcase().replace("0X", "0x")


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        *[("uint8", 256), ("uint8", -1), ("uint8", True), ("uint8", "1"), ("bool", 1), ("string", b""), ("bytes", "")],
        *[("bytes4", b"abc"), ("bytes4", b"abcde"), ("address", "0x00"), ("address", bytes(20))],
        *[("address", WRONG_CHECKSUM), ("uint8[]", b"abc"), ("uint8[]", 5), ("string", chr(0xD800))],
    ],
)
def test_a_value_of_another_type_is_not_encoded(kind: str, value: Any) -> None:
    """A value of another type or size is refused instead of being padded, truncated or converted."""
    with pytest.raises(abi.EncodingError):
        abi.encode([kind], [value])


def test_the_number_of_values_is_checked() -> None:
    """Encoding is refused if the numbers of values and of types differ."""
    with pytest.raises(abi.EncodingError):
        abi.encode(["bool"], [])
    with pytest.raises(UsageError):
        OURS.encode_call("pause", 5)


@pytest.mark.parametrize("kind", ["uint", "uint7", "uint264", "uint0", "bytes33", "int8", "fixed", "(bool)", "bool[2]"])
def test_other_types_are_not_known(kind: str) -> None:
    """Unsupported ABI types are refused."""
    with pytest.raises(ValueError, match="is not known"):
        abi.encode([kind], [0])
