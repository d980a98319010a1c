"""Finds red flags in calls to Producers, IdentityRegistry and DeviceRegistry. Pure.

The flags depend on records of these contracts, and on contracts that a call names. They ask for them by `Question`. A
chain view contains the answers: its maker asks the chain the `open_questions` of a call until none is left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from blockota.approval.chain_view import ChainView
from blockota.approval.flags import RedFlag, Word
from blockota.approval.intent import SAFE, KnownCall
from blockota.approval.lookalikes import find_lookalike
from blockota.approval.safe_transaction import ZERO_ADDRESS
from blockota.errors import shortened
from blockota.formats.abi import DecodingError, interface
from blockota.model.release import product_name

MOST_ENROLMENTS = 8
"""Largest number of enrolments in a proposal that is not flagged."""
MOST_BLOCKS = 64
"""Largest number of blocks of device numbers for one site that is not flagged: 16,384 devices."""
_PAGE = 256


@dataclass(frozen=True)
class Question:
    """A call of a getter whose result a red flag depends on.

    Attributes:
        address: address of the called contract.
        contract: name of the contract whose ABI has the getter.
    """

    address: str
    contract: str
    getter: str
    arguments: tuple[Any, ...] = ()

    @property
    def calldata(self) -> bytes:
        """The calldata of the getter."""
        return interface(self.contract).encode_call(self.getter, *self.arguments)

    def decode(self, result: bytes) -> Any:
        """Decode the result of the getter; None if the called contract is not of this kind."""
        try:
            return interface(self.contract).decode_result(self.getter, result)
        except DecodingError:
            return None


_Ask = Callable[[Question], Any]


def registry_flags(call: KnownCall | None, view: ChainView) -> list[RedFlag]:
    """Return the red flags of a call to a registry; none for another call."""
    flags, missing = _examine(call, view)
    if missing:
        names = shortened(dict.fromkeys(f"{one.contract}.{one.getter}" for one in missing))
        lacks = f"the chain view lacks records that the checks need: {names}"
        flags.append(RedFlag(Word.UNREAD, lacks, is_absence=True))
    return flags


def open_questions(call: KnownCall | None, view: ChainView) -> list[Question]:
    """Return the questions that a call asks and the chain view does not answer; an answer can raise further ones."""
    return _examine(call, view)[1]


def _examine(call: KnownCall | None, view: ChainView) -> tuple[list[RedFlag], list[Question]]:
    missing: list[Question] = []

    def ask(question: Question) -> Any:
        key = (question.address, question.calldata)
        if key not in view.answers:
            missing.append(question)
            return None
        result = view.answers[key]
        return None if result is None else question.decode(result)

    find = _FINDERS.get(call.contract) if call else None
    return (list(find(call, view, ask)) if call and find else []), missing


def _of_producers(call: KnownCall, view: ChainView, ask: _Ask) -> Iterator[RedFlag]:
    if call.name == "restore":
        name = product_name(call.arguments["name"])
        yield RedFlag(Word.UNBAN, f"gateways would install releases of the suspended producer {name} again")
    if call.name != "admit":
        return
    name, contract = product_name(call.arguments["name"]), call.arguments["blockOta"]
    known = ask(Question(view.registries.get("Producers", ""), "Producers", "producers", (0, _PAGE))) or []
    if other := find_lookalike(name, [product_name(one["name"]) for one in known]):
        yield RedFlag(Word.LOOKALIKE, f"the new producer {name} can be taken for {other}")
    owner = ask(Question(contract, "BlockOTA", "owner"))
    if owner is None:
        yield RedFlag(Word.PRODUCER, f"{contract}, the contract of {name}, is not a BlockOTA: it names no owner")
        return
    threshold = ask(Question(owner, SAFE, "getThreshold"))
    if threshold is None:
        yield RedFlag(Word.PRODUCER, f"the BlockOTA of {name} is owned by {owner}, which is not a Safe")
    elif threshold == 1:
        yield RedFlag(Word.PRODUCER, f"a single owner of the Safe {owner} publishes for {name}")
    pending = ask(Question(contract, "BlockOTA", "pendingOwner"))
    if pending not in (None, ZERO_ADDRESS):
        yield RedFlag(Word.PRODUCER, f"the BlockOTA of {name} is offered to {pending}, who can take it over any time")


_FINDERS: dict[str, Callable[[KnownCall, ChainView, _Ask], Iterator[RedFlag]]] = {
    "Producers": _of_producers,
}
