"""Mutation operators: from the source and syntax tree of a contract to a list of mutants. Pure; `mutants.py` runs them.

The syntax tree is solc's compact JSON. Its positions are byte offsets into the source, so comments and strings are not
changed. Each operator takes one node and yields replacements of a part of the source.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

Node = dict[str, Any]
OPERATORS = {
    "<": ("<=", ">="),
    "<=": ("<", ">"),
    ">": (">=", "<="),
    ">=": (">", "<"),
    "==": ("!=",),
    "!=": ("==",),
    "&&": ("||",),
    "||": ("&&",),
    "+": ("-",),
    "-": ("+",),
    "*": ("+",),
    "<<": (">>",),
    ">>": ("<<",),
    "|": ("&",),
    "^": ("&",),
    "^=": ("|=",),
    "++": ("--",),
    "--": ("++",),
}
"""Replacements of an operator: first the moved boundary, then the opposite."""
SENDERS = {("msg", "sender"): "tx.origin"}


@dataclass(frozen=True)
class Mutant:
    """One change of a source.

    Attributes:
        place: contract and function, "BlockOTA.publish", or the contract alone.
        kind: the operator: "require removed", "operator", …
        start: byte offset of the replaced text.
        original: the replaced text.
        replacement: the new text.
        occurrence: number among equal changes in one place, from 1.
    """

    place: str
    kind: str
    start: int
    original: str
    replacement: str
    occurrence: int = 1

    @property
    def name(self) -> str:
        """A name that stays the same while the text of the function does, wherever it lies in the file."""
        number = f" ({self.occurrence})" if self.occurrence > 1 else ""
        return f"{self.place}: {self.kind}: `{one_line(self.original)}` → `{one_line(self.replacement)}`{number}"

    def apply(self, source: bytes) -> bytes:
        """The source with this change."""
        end = self.start + len(self.original.encode())
        if source[self.start : end].decode() != self.original:
            raise ValueError(f"{self.name}: not in this source")
        return source[: self.start] + self.replacement.encode() + source[end:]


@dataclass(frozen=True)
class Change:
    """A replacement of the bytes from `start` to `end`, with its kind."""

    kind: str
    start: int
    end: int
    replacement: str


@dataclass(frozen=True)
class Context:
    """The whole source, and the members of each enumeration of all files."""

    source: bytes
    enums: dict[str, tuple[str, ...]]

    def text(self, start: int, end: int) -> str:
        """A part of the source."""
        return self.source[start:end].decode()


def mutants_of(source: bytes, tree: Node, *, enums: dict[str, tuple[str, ...]]) -> list[Mutant]:
    """All mutants of the contracts that a file defines, in the order of the file; no two have the same name."""
    context = Context(source, enums)
    found: list[Mutant] = []
    alike: dict[str, int] = {}
    for place, change in sorted(_changes(tree, context), key=lambda pair: (pair[1].start, pair[1].kind)):
        original = context.text(change.start, change.end)
        plain = Mutant(place, change.kind, change.start, original, change.replacement)
        alike[plain.name] = alike.get(plain.name, 0) + 1
        found.append(Mutant(place, change.kind, change.start, original, change.replacement, alike[plain.name]))
    return found


def enumerations(tree: Node) -> dict[str, tuple[str, ...]]:
    """Members by the name of the enumeration ("IBlockOTA.Status", as types are written in the tree)."""
    return {
        node["canonicalName"]: tuple(member["name"] for member in node["members"])
        for node in walk(tree)
        if node["nodeType"] == "EnumDefinition"
    }


def walk(tree: Any) -> Iterator[Node]:
    """All nodes of a tree, parents first."""
    if isinstance(tree, dict):
        if "nodeType" in tree:
            yield tree
        for child in tree.values():
            yield from walk(child)
    elif isinstance(tree, list):
        for child in tree:
            yield from walk(child)


def one_line(text: str) -> str:
    """Text without its line breaks."""
    return " ".join(text.split())


def _changes(tree: Node, context: Context) -> Iterator[tuple[str, Change]]:
    contracts = (node for node in tree["nodes"] if node["nodeType"] == "ContractDefinition")
    for contract in contracts:
        if contract["contractKind"] == "interface":
            continue
        for member in contract["nodes"]:
            name = member.get("name") or member.get("kind", "")
            place = f"{contract['name']}.{name}" if member["nodeType"] == "FunctionDefinition" else contract["name"]
            for node in walk(member):
                for operator in _OPERATORS:
                    yield from ((place, change) for change in operator(node, context))


def _span(node: Node) -> tuple[int, int]:
    start, length, _ = map(int, node["src"].split(":"))
    return start, start + length


def _statements_removed(node: Node, context: Context) -> Iterator[Change]:
    if node["nodeType"] not in {"ExpressionStatement", "EmitStatement", "RevertStatement"}:
        return
    start, end = _span(node)
    if context.source[end : end + 1] != b";":  # the step of a loop
        return
    called = node.get("expression", {}).get("expression", {}).get("name")
    kinds = {"EmitStatement": "event removed", "RevertStatement": "revert removed"}
    kind = kinds.get(node["nodeType"], "require removed" if called == "require" else "effect removed")
    yield Change(kind, start, end + 1, "{}")


def _modifiers_removed(node: Node, _context: Context) -> Iterator[Change]:
    if node["nodeType"] == "ModifierInvocation" and node["kind"] == "modifierInvocation":
        yield Change("modifier removed", *_span(node), "")


def _operators_replaced(node: Node, context: Context) -> Iterator[Change]:
    if node["nodeType"] == "BinaryOperation":
        start, end = _span(node["leftExpression"])[1], _span(node["rightExpression"])[0]
    elif node["nodeType"] == "Assignment" and node["operator"] != "=":
        start, end = _span(node["leftHandSide"])[1], _span(node["rightHandSide"])[0]
    elif node["nodeType"] == "UnaryOperation" and node["operator"] in OPERATORS:
        start, end = _span(node)
    else:
        return
    symbol = node["operator"]
    for other in OPERATORS.get(symbol, ()):
        yield Change("operator", start, end, context.text(start, end).replace(symbol, other, 1))


def _operands_dropped(node: Node, context: Context) -> Iterator[Change]:
    """Keep one side of a conjunction or disjunction, or drop "!"."""
    if node["nodeType"] == "BinaryOperation" and node["operator"] in {"&&", "||"}:
        for side in ("leftExpression", "rightExpression"):
            yield Change("condition dropped", *_span(node), context.text(*_span(node[side])))
    if node["nodeType"] == "UnaryOperation" and node["operator"] == "!":
        yield Change("condition negated", *_span(node), context.text(*_span(node["subExpression"])))


def _branches_forced(node: Node, _context: Context) -> Iterator[Change]:
    """Force a branch either way. A loop is only skipped: every test fails on an endless one."""
    if node["nodeType"] in {"IfStatement", "Conditional"}:
        for value in ("true", "false"):
            yield Change("branch forced", *_span(node["condition"]), value)
    if node["nodeType"] in {"WhileStatement", "ForStatement"} and node.get("condition"):
        yield Change("loop not entered", *_span(node["condition"]), "false")


def _numbers_moved(node: Node, _context: Context) -> Iterator[Change]:
    if node["nodeType"] != "Literal":
        return
    if node["kind"] == "number":
        value = int(node["value"], 0)
        for other in (value + 1, value - 1) if value else (1,):
            yield Change("number", *_span(node), str(other))
    elif node["kind"] == "bool":
        yield Change("number", *_span(node), "false" if node["value"] == "true" else "true")
    elif node["kind"] == "string" and len(node["hexValue"]) == 2:  # noqa: PLR2004 - one character is a bound
        for step in (1, -1):
            yield Change("number", *_span(node), f'bytes1(hex"{int(node["hexValue"], 16) + step:02x}")')


def _arguments_swapped(node: Node, context: Context) -> Iterator[Change]:
    """Swap neighbouring arguments of one type in a call, event or error."""
    if node["nodeType"] != "FunctionCall":
        return
    for one, other in pairwise(node["arguments"]):
        if _type(one) != _type(other) or one["nodeType"] == "Literal":
            continue
        (start, middle), (next_, end) = _span(one), _span(other)
        swapped = context.text(next_, end) + context.text(middle, next_) + context.text(start, middle)
        yield Change("arguments swapped", start, end, swapped)


def _enumerations_moved(node: Node, context: Context) -> Iterator[Change]:
    """Every other member of the enumeration."""
    if node["nodeType"] != "MemberAccess" or not _type(node["expression"]).startswith("type(enum "):
        return
    name = _type(node).removeprefix("enum ")
    prefix = context.text(*_span(node["expression"]))
    for member in context.enums[name]:
        if member != node["memberName"]:
            yield Change("state", *_span(node), f"{prefix}.{member}")


def _senders_replaced(node: Node, _context: Context) -> Iterator[Change]:
    if node["nodeType"] == "MemberAccess":
        key = (node["expression"].get("name", ""), node["memberName"])
        if key in SENDERS:
            yield Change("sender", *_span(node), SENDERS[key])


def _type(node: Node) -> str:
    return str(node["typeDescriptions"].get("typeString", ""))


_OPERATORS: tuple[Callable[[Node, Context], Iterator[Change]], ...] = (
    _statements_removed,
    _modifiers_removed,
    _operators_replaced,
    _operands_dropped,
    _branches_forced,
    _numbers_moved,
    _arguments_swapped,
    _enumerations_moved,
    _senders_replaced,
)
