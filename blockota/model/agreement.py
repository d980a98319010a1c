"""Agreements with brokers: who serves which release, until when, and where."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from blockota.model.release import Version


class AgreementStatus(enum.Enum):
    """How far an agreement came; whether it expired is told by its time alone."""

    PROPOSED = 1
    ACCEPTED = 2
    DECLINED = 3
    WITHDRAWN = 4
    TERMINATED = 5

    def __str__(self) -> str:
        """The word, in lower case."""
        return self.name.lower()


@dataclass(frozen=True)
class Agreement:
    """One agreement, as the chain keeps it.

    Attributes:
        number: its id, counted from 1.
        broker: address of whoever proposed it.
        product: the product's name.
        version: the release that is served.
        expires_at: Unix time, in seconds, from which on it counts no more.
        status: how far it came.
        uri: where the replica is; empty until announced.
    """

    number: int
    broker: str
    product: str
    version: Version
    expires_at: int
    status: AgreementStatus
    uri: str
