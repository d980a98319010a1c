"""Decides which transactions of IOTRegistry, a chaincode for Hyperledger Fabric, a city can import. Pure.

Each line of a file contains one transaction, in the form in which clients of Hyperledger Fabric call a chaincode:
``{"Function": "registerThing", "Args": ["0a10…"]}``. The registrants and specs of the things must already be registered
in the city's DeviceRegistry.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from blockota.errors import Action, RefusedError, UsageError, shortened
from blockota.formats.iotregistry import (
    RegistrantTransaction,
    SpecTransaction,
    ThingTransaction,
    Transaction,
    compressed,
    is_signed,
    read_transaction,
    replays,
)
from blockota.model.device import Registrant, Registration

MOST_THINGS = 50
"""The number of things that one transaction imports. Each thing costs up to 300,000 gas."""
_ALIAS_LIMIT, _ALIASES, _NONCE_LIMIT, _DATA_LIMIT, _SIGNATURE_LIMIT = 128, 16, 64, 2048, 255


@dataclass(frozen=True)
class Known:
    """The records of the city's DeviceRegistry that are needed to import the things in a file.

    Attributes:
        registrants: all registrants.
        specs: a dict from the name of each registered spec to the name of its registrant.
        nonces: nonces of things in the file that are registered already.
        aliases: a dict from alias to device number. It contains the aliases in the file that a registered device uses
            already.
    """

    registrants: Sequence[Registrant]
    specs: Mapping[str, str]
    nonces: frozenset[bytes] = frozenset()
    aliases: Mapping[str, int] = field(default_factory=dict)

    def registrant_of(self, named: str) -> Registrant | None:
        """Find a registrant by the hexadecimal key or the name in a transaction; None for an unknown registrant."""
        return next((one for one in self.registrants if named in (one.public_key.hex(), one.name)), None)


@dataclass(frozen=True)
class OmittedThing:
    """A transaction that is not imported.

    Attributes:
        line: number of the transaction's line in the file.
        what: the thing or spec.
        why: the reason.
        is_done: whether the thing or spec is already registered.
    """

    line: int
    what: str
    why: str
    is_done: bool = False


@dataclass(frozen=True)
class ThingImport:
    """The plan for importing a file: the things to import, and the things to leave out.

    Attributes:
        things: the registrations to import, each with its original signature.
        omitted: the things that are left out, with the reasons.
        ambiguous: names of things to import whose signature is also valid for other aliases.
        missing_specs: names of the specs that the file's things need and that are not registered.
        missing_registrants: ⟨name, key⟩ of the registrants in the file that are not admitted.
    """

    things: tuple[tuple[Registration, bytes], ...]
    omitted: tuple[OmittedThing, ...]
    ambiguous: tuple[str, ...]
    missing_specs: tuple[str, ...]
    missing_registrants: tuple[tuple[str, bytes], ...]

    def require_things(self) -> None:
        """Require that the plan imports at least one thing.

        Raises:
            RefusedError: the plan imports nothing.
        """
        if self.things:
            return

        done = sum(one.is_done for one in self.omitted)
        why = f"of its {len(self.omitted)} things, {done} are registered already"
        remedy, action = "", None
        values: dict[str, object] = {}
        if self.missing_registrants:
            name, key = self.missing_registrants[0]
            why = f"its registrant {name:.80} with the key {key.hex()} is not admitted"
            remedy, action, values = "admit it first", Action.ADMIT_REGISTRANT, {"key": key.hex()}
        elif self.missing_specs:
            why = f"these specs are not registered: {shortened(self.missing_specs)}"
            remedy, action, values = "import them first", Action.IMPORT_SPEC, {"spec": self.missing_specs[0]}

        raise RefusedError(
            "none of the things in the file can be imported", why=why, remedy=remedy, action=action, values=values
        )


def read_transactions(raw: bytes) -> list[tuple[int, Transaction]]:
    """Read a file of transactions.

    Returns:
        ⟨number of the line, transaction⟩ of each line that is not empty.

    Raises:
        UsageError: a line is not a transaction of IOTRegistry.
    """
    found = []
    for number, line in enumerate(raw.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            found.append((number, read_transaction(*_invocation(line))))
        except UsageError as error:
            raise error.revised(what=f"line {number} is not a transaction of IOTRegistry") from error

    if not found:
        raise UsageError("the file has no transaction of IOTRegistry", why="all lines are empty")
    return found


def things_of(transactions: Sequence[tuple[int, Transaction]]) -> list[ThingTransaction]:
    """Return the things of a file."""
    return [one for _, one in transactions if isinstance(one, ThingTransaction)]


def plan_things(transactions: Sequence[tuple[int, Transaction]], known: Known, *, site: UUID) -> ThingImport:
    """Decide which things of a file are imported.

    All imported things receive device numbers of the given site.
    """
    replayed = replays(things_of(transactions))
    nonces: set[bytes] = set()
    aliases: set[str] = set()
    things, omitted, ambiguous = [], [], []
    for line, one in transactions:
        if not isinstance(one, ThingTransaction):
            continue
        what = one.aliases[0] if one.aliases else one.nonce.hex()
        # A file may be imported again, for example after the remaining registrants were admitted.
        if one.nonce in known.nonces:
            omitted.append(OmittedThing(line, what, "it is registered already", is_done=True))
            continue

        why = next(_faults_of(one, known), "") or replayed.get(one.nonce, "")
        if one.nonce in nonces:
            why = f"another thing of the file has its nonce {one.nonce.hex()}"
        elif shared := aliases.intersection(one.aliases):
            why = why or f"another thing of the file has its alias {min(shared)!r:.80}"
        registrant = known.registrant_of(one.registrant)
        if why or registrant is None:
            omitted.append(OmittedThing(line, what, why))
            continue
        nonces.add(one.nonce)
        aliases.update(one.aliases)
        thing = Registration(registrant.name, one.nonce, one.aliases, one.data, one.spec, site)
        things.append((thing, one.signature))
        ambiguous += [what] if one.is_ambiguous else []

    specs = {one.spec for one in things_of(transactions) if known.registrant_of(one.registrant)} - known.specs.keys()
    return ThingImport(
        tuple(things), tuple(omitted), tuple(ambiguous), tuple(sorted(specs)), _unadmitted(transactions, known)
    )


def find_spec(
    transactions: Sequence[tuple[int, Transaction]], known: Known, *, name: str
) -> tuple[str, SpecTransaction]:
    """Find a spec to import.

    Returns:
        The name of the spec's registrant, and the transaction that registers the spec.

    Raises:
        UsageError: the spec is not in the file, or cannot be imported.
    """
    specs = [one for _, one in transactions if isinstance(one, SpecTransaction)]
    found = [one for one in specs if one.name == name]
    if len(found) != 1:
        names = shortened([one.name for one in specs]) if specs else "none"
        why = f"{len(found)} transactions of the file register it; its specs are: {names}"
        raise UsageError(f"the spec {name!r:.80} cannot be imported", why=why, remedy="check the name and the file")

    registrant = known.registrant_of(found[0].registrant)
    why = "" if registrant else f"its registrant {found[0].registrant:.80} is not admitted"
    if registrant and not is_signed(found[0], registrant.public_key):
        why = f"its signature is not that of the registrant {registrant.name}"
    if why or registrant is None:
        raise UsageError(f"the spec {name!r:.80} cannot be imported", why=why, remedy="admit the registrant first")
    return registrant.name, found[0]


def _unadmitted(transactions: Sequence[tuple[int, Transaction]], known: Known) -> tuple[tuple[str, bytes], ...]:
    """Return ⟨name, compressed key⟩ of each validly signed registrant in the file that is not admitted yet."""
    admitted = {one.public_key for one in known.registrants}
    found = []
    for _, one in transactions:
        if isinstance(one, RegistrantTransaction) and is_signed(one, one.public_key):
            key = compressed(one.public_key)
            if key not in admitted:
                found.append((one.name, key))
    return tuple(found)


def _faults_of(thing: ThingTransaction, known: Known) -> Iterator[str]:
    """Yield the faults that prevent the import of a thing, in the order of the checks."""
    registrant = known.registrant_of(thing.registrant)
    if registrant is None:
        yield f"its registrant {thing.registrant:.80} is not admitted"
        return

    if not is_signed(thing, registrant.public_key):
        yield f"its signature is not that of the registrant {registrant.name}"
    if thing.spec not in known.specs:
        yield f"its spec {thing.spec!r:.80} is not registered"
    elif known.specs[thing.spec] != registrant.name:
        yield f"its spec {thing.spec!r:.80} belongs to the registrant {known.specs[thing.spec]}"

    yield from _alias_faults(thing, registrant.name, known.aliases)
    sizes = ((thing.nonce, _NONCE_LIMIT), (thing.data.encode(), _DATA_LIMIT), (thing.signature, _SIGNATURE_LIMIT))
    for part, limit in sizes:
        if len(part) > limit:
            yield f"its nonce, data or signature has {len(part)} bytes, and {limit} can be recorded"


def _alias_faults(thing: ThingTransaction, registrant: str, taken: Mapping[str, int]) -> Iterator[str]:
    if not 0 < len(thing.aliases) <= _ALIASES:
        yield f"it has {len(thing.aliases)} aliases, and 1 to {_ALIASES} can be recorded"
    if len(set(thing.aliases)) < len(thing.aliases):
        yield "it has an alias twice"

    for alias in thing.aliases:
        if not 0 < len(alias.encode()) <= _ALIAS_LIMIT:
            yield f"its alias {alias!r:.40} does not have 1 to {_ALIAS_LIMIT} bytes"
        if "/" in alias and not alias.startswith(f"{registrant}/"):
            yield f"its alias {alias!r:.80} has a '/', and does not begin with {registrant}/"
        if alias in taken:
            yield f"its alias {alias!r:.80} belongs to the device {taken[alias]}"


def _invocation(line: bytes) -> tuple[str, bytes]:
    """Read a line.

    A call names a function, and contains the function's argument as a hexadecimal message.
    """
    try:
        fields = {name.lower(): value for name, value in json.loads(line).items()}
        function, (argument,) = fields["function"], fields["args"]
        return str(function), bytes.fromhex(argument)
    except (ValueError, AttributeError, KeyError, TypeError, RecursionError) as error:
        why = 'a line has the form {"Function": "registerThing", "Args": ["<message in hexadecimal>"]}'
        raise UsageError("the line is not a chaincode call", why=why) from error
