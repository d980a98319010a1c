"""Mutation operators, which derive a list of mutants from a contract's source and syntax tree.

The syntax tree is solc's compact JSON. The positions in the tree are byte offsets into the source, so comments are not
changed. Each mutation operator takes one node of the tree and yields replacements of a part of the source.
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
"""The replacements of each Solidity operator: for a comparison, first the moved boundary, then the opposite."""
SENDERS = {("msg", "sender"): "tx.origin"}


@dataclass(frozen=True)
class Mutant:
    """One change of a contract's source.

    Attributes:
        place: contract and function, such as "BlockOTA.publish", or the contract alone.
        kind: the kind of the change, such as "require removed" or "operator".
        start: byte offset of the replaced text.
        original: the replaced text.
        replacement: the new text.
        occurrence: the number of the change among equal changes in the same place, counted from 1.
    """

    place: str
    kind: str
    start: int
    original: str
    replacement: str
    occurrence: int = 1

    @property
    def name(self) -> str:
        """The mutant's name, which does not depend on the position of its function in the file."""
        number = f" ({self.occurrence})" if self.occurrence > 1 else ""
        return f"{self.place}: {self.kind}: `{one_line(self.original)}` → `{one_line(self.replacement)}`{number}"

    def apply(self, source: bytes) -> bytes:
        """Return the source with this change."""
        end = self.start + len(self.original.encode())
        if source[self.start : end].decode() != self.original:
            raise ValueError(f"the text to replace is not in the source: {self.name}")
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
    """The source of a file, and the members of the enumerations in all files."""

    source: bytes
    enums: dict[str, tuple[str, ...]]

    def text(self, start: int, end: int) -> str:
        """Return a part of the source."""
        return self.source[start:end].decode()


def mutants_of(source: bytes, tree: Node, *, enums: dict[str, tuple[str, ...]]) -> list[Mutant]:
    """Return all mutants of the contracts in a file, in the order of the file; the names of the mutants are unique."""
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
    """Return the members of each enumeration by its name in the syntax tree, such as "IBlockOTA.Status"."""
    return {
        node["canonicalName"]: tuple(member["name"] for member in node["members"])
        for node in walk(tree)
        if node["nodeType"] == "EnumDefinition"
    }


def walk(tree: Any) -> Iterator[Node]:
    """Yield all nodes of a syntax tree, each parent before its children."""
    if isinstance(tree, dict):
        if "nodeType" in tree:
            yield tree
        for child in tree.values():
            yield from walk(child)
    elif isinstance(tree, list):
        for child in tree:
            yield from walk(child)


def one_line(text: str) -> str:
    """Return the text without its line breaks."""
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
    """Replace the condition of a branch by true and by false. The condition of a loop is replaced by false only."""
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
    """Replace a member of an enumeration by each of the other members."""
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
