"""How each agreement of a broker's stands, and what a person has to know of it: a pure function of chain facts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from blockota.broker.plan import Facts, Promise
from blockota.model.agreement import AgreementStatus
from blockota.model.release import Status


class State(StrEnum):
    """How an agreement stands."""

    PROPOSED = "proposed"
    UNCONFIRMED = "unconfirmed"
    UNANNOUNCED = "unannounced"
    ANNOUNCED = "announced"
    EXPIRED = "expired"
    REVOKED = "revoked"


@dataclass(frozen=True)
class Standing:
    """One agreement.

    Attributes:
        number: its number.
        release: product and version.
        state: how it stands.
        url: where the broker serves, as the chain's newest block has it; empty where it has none.
    """

    number: int
    release: str
    state: State
    url: str


def standings(facts: Facts) -> tuple[Standing, ...]:
    """How the agreements stand that nobody has ended."""
    return tuple(
        Standing(one.agreement.number, one.label, _state(one, facts.time), one.newest.uri) for one in facts.promises
    )


def advice(facts: Facts, *, broker: str, confirmations: int, url: str = "") -> Iterator[str]:
    """What a person should know or do, a sentence each; nothing where all agreements are announced or over.

    Args:
        facts: what the chain says.
        broker: the broker's address.
        confirmations: blocks that had to lie above the block of the facts.
        url: where the broker said that it serves; what is not announced there, its round has told.
    """
    if not facts.promises:
        depth = f", which has {confirmations} above it" if confirmations else ""
        yield (
            f"{broker} has no open agreement with this vendor as of block {facts.block}{depth}. "
            "Offer to serve a release with `blockota replica propose`, or check the key and the settings."
        )
    for one in standings(facts):
        agreement = f"Agreement {one.number} for {one.release}"
        if one.state is State.PROPOSED:
            yield f"{agreement} is proposed: the vendor has not decided yet."
        elif one.state is State.UNCONFIRMED:
            yield f"{agreement} is accepted: it counts once {confirmations} blocks lie above that."
        elif one.state is State.UNANNOUNCED and not url:
            yield f"{agreement} is not announced: nobody finds the copy before you say --announce URL."


def _state(promise: Promise, time: int) -> State:
    if promise.is_good(time):
        return State.ANNOUNCED if promise.newest.uri else State.UNANNOUNCED
    if promise.release.status is not Status.ACTIVE:
        return State.REVOKED
    if time >= promise.agreement.expires_at:
        return State.EXPIRED
    return State.UNCONFIRMED if promise.newest.status is AgreementStatus.ACCEPTED else State.PROPOSED
