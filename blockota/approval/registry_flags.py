"""Finds red flags in calls to Producers, IdentityRegistry and DeviceRegistry. Pure.

The flags depend on records of these contracts (`blockota.approval.registry_records`). For a call that admits a
producer, the flags also depend on the producer's own contracts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from blockota.approval.chain_view import ChainView
from blockota.approval.flags import RedFlag, Word
from blockota.approval.intent import ADMINISTRATOR, SAFE, KnownCall, show_value
from blockota.approval.lookalikes import find_lookalike
from blockota.approval.registry_records import Ask, Question, record_today, registry_question
from blockota.errors import shortened
from blockota.ethereum import ZERO_ADDRESS
from blockota.model.release import product_name, show_time

MOST_ITEMS = 8
"""Largest number of enrolments, or of imported things, in a proposal that is not flagged."""
MOST_BLOCKS = 64
"""Largest number of blocks of device numbers for one site that is not flagged: 16,384 devices."""
_PAGE = 256
_KEYS = {"account": "its account", "key": "its key", "logKey": "the key of its log", "tunnelKey": "its tunnel's key"}
"""The parts of an identity that a rotation can change, in words."""


def registry_flags(call: KnownCall | None, view: ChainView) -> list[RedFlag]:
    """Return the red flags of a call to a registry.

    The list is empty for a call to any other contract.
    """
    flags, missing = _examine(call, view)
    if missing:
        names = shortened(dict.fromkeys(f"{one.contract}.{one.getter}" for one in missing))
        lacks = f"the chain view lacks records that the checks need: {names}"
        flags.append(RedFlag(Word.UNREAD, lacks, is_absence=True))
    return flags


def open_questions(call: KnownCall | None, view: ChainView) -> list[Question]:
    """Return the questions about a call that the chain view cannot answer.

    The answer to a question can lead to further questions.
    """
    return _examine(call, view)[1]


def registry_changes(call: KnownCall | None, view: ChainView) -> str:
    """Describe the present state of the record that a call to a registry would change; empty for other calls."""
    return record_today(call, view, _Answers(view))


def _examine(call: KnownCall | None, view: ChainView) -> tuple[list[RedFlag], list[Question]]:
    ask = _Answers(view)
    record_today(call, view, ask)  # its questions belong to the review too
    find = _FINDERS.get(call.contract) if call else None
    flags = list(find(call, view, ask)) if call and find else []
    return flags, list(dict.fromkeys(ask.missing))


class _Answers:
    """Answers questions from a chain view, and collects the unanswered questions."""

    def __init__(self, view: ChainView) -> None:
        self._view = view
        self.missing: list[Question] = []

    def __call__(self, question: Question) -> Any:
        key = (question.address, question.calldata)
        if key not in self._view.answers:
            self.missing.append(question)
            return None
        result = self._view.answers[key]
        return None if result is None else question.decode(result)


def _of_producers(call: KnownCall, view: ChainView, ask: Ask) -> Iterator[RedFlag]:
    if call.name == "restore":
        yield RedFlag(Word.UNBAN, f"gateways would install releases of {product_name(call.arguments['name'])} again")
    if call.name != "admit":
        return
    name, contract, replication = product_name(call.arguments["name"]), *list(call.arguments.values())[1:]
    yield from _of_new_name("producer", name, ask(registry_question(view, "Producers", "producers", 0, _PAGE)))

    # Many contracts have an owner, and only a BlockOTA has products too.
    owner = ask(Question(contract, "BlockOTA", "owner"))
    if owner is None or ask(Question(contract, "BlockOTA", "products", (0, 1))) is None:
        yield RedFlag(Word.PRODUCER, f"{contract}, the contract of {name}, is not a BlockOTA: it lists no products")
        return
    threshold = ask(Question(owner, SAFE, "getThreshold"))
    if owner == view.safe.address:
        yield RedFlag(Word.PRODUCER, f"the BlockOTA of {name} is owned by this Safe, not by a producer's")
    if threshold is None:
        yield RedFlag(Word.PRODUCER, f"the BlockOTA of {name} is owned by {owner}, which is not a Safe")
    elif threshold == 1:
        yield RedFlag(Word.PRODUCER, f"a single owner of the Safe {owner} could publish for {name}")
    if (pending := ask(Question(contract, "BlockOTA", "pendingOwner"))) not in (None, ZERO_ADDRESS):
        yield RedFlag(
            Word.PRODUCER, f"the BlockOTA of {name} is offered to {pending}, who can take it over at any time"
        )
    if replication != ZERO_ADDRESS and ask(Question(replication, "FirmwareReplication", "blockOta")) != contract:
        yield RedFlag(Word.PRODUCER, f"{replication} does not record agreements about the releases of {contract}")


def _of_identities(call: KnownCall, view: ChainView, ask: Ask) -> Iterator[RedFlag]:
    if call.name in ("enrol", "enrolAll"):
        yield from _of_count(call, "identities")
        for one in call.items if call.name == "enrolAll" else [call.arguments["enrolment"]]:
            if one["kind"] == ADMINISTRATOR:
                uuid = show_value("uuid", one["uuid"])
                yield RedFlag(
                    Word.ADMINISTRATOR, f"{uuid} becomes an Administrator, who can ban identities and devices"
                )

    if call.name not in ("rotate", "unban"):
        return
    uuid = show_value("uuid", call.arguments["uuid"])
    identity = ask(registry_question(view, "IdentityRegistry", "identity", call.arguments["uuid"]))
    if identity is None:
        word = Word.UNBAN if call.name == "unban" else Word.KEYS
        yield RedFlag(word, f"the identity {uuid} would be changed, and its record cannot be read")
        return

    kind = show_value("kind", identity["kind"])
    if call.name == "unban":
        since = f"banned on {show_time(identity['bannedAt'])}" if identity["banned"] else "not banned"
        yield RedFlag(Word.UNBAN, f"the {kind} {uuid}, {since}, would be active again")
        return

    changes = [name for name in _KEYS if identity[name] != call.arguments[name]]
    words = ", ".join(f"{_KEYS[name]} from {show_value(name, identity[name])}" for name in changes) or "nothing"
    yield RedFlag(Word.KEYS, f"the {kind} {uuid} changes {words}")
    if identity["kind"] == ADMINISTRATOR:
        yield RedFlag(Word.ADMINISTRATOR, f"the keys of the Administrator {uuid} change: who has the new ones can ban")


def _of_devices(call: KnownCall, view: ChainView, ask: Ask) -> Iterator[RedFlag]:
    arguments = call.arguments
    match call.name:
        case "admitRegistrant":
            known = ask(registry_question(view, "DeviceRegistry", "registrants", 0, _PAGE))
            yield from _of_new_name("registrant", product_name(arguments["name"]), known)
        case "setRegistrantAccount":
            registrant = ask(registry_question(view, "DeviceRegistry", "registrant", arguments["name"]))
            before = registrant["account"] if registrant else "an account that is not known"
            name = product_name(arguments["name"])
            yield RedFlag(Word.KEYS, f"{arguments['account']} would register devices for {name}, in place of {before}")
        case "restoreRegistrant":
            yield RedFlag(Word.UNBAN, f"the registrant {product_name(arguments['name'])} could register devices again")
        case "unban":
            yield RedFlag(Word.UNBAN, f"gateways would offer releases to the device {arguments['number']} again")
        case "importThings" | "importSpec":
            yield from _of_count(call, "things")
            what = f"{len(call.items)} things are" if call.name == "importThings" else "a spec is"
            yield RedFlag(
                Word.IMPORT,
                f"{what} imported on the word of the proposer: the old signature does not cover the nonce, "
                "and nothing verifies it",
            )
        case "giveBlocks" if arguments["count"] > MOST_BLOCKS:
            numbers = f"{arguments['count']:,} blocks, {arguments['count'] * 256:,} device numbers"
            yield RedFlag(Word.BLOCKS, f"the site {show_value('site', arguments['site_'])} gets {numbers}, for good")


def _of_count(call: KnownCall, what: str) -> Iterator[RedFlag]:
    if len(call.items) > MOST_ITEMS:
        yield RedFlag(Word.MANY, f"the proposal has {len(call.items)} {what}, too many for one screen: read all")


def _of_new_name(what: str, name: str, known: Sequence[Mapping[str, Any]] | None) -> Iterator[RedFlag]:
    if other := find_lookalike(name, [product_name(one["name"]) for one in known or ()]):
        yield RedFlag(Word.LOOKALIKE, f"the new {what} {name} can be taken for {other}")


_FINDERS: Mapping[str, Callable[[KnownCall, ChainView, Ask], Iterator[RedFlag]]] = {
    "Producers": _of_producers,
    "IdentityRegistry": _of_identities,
    "DeviceRegistry": _of_devices,
}
