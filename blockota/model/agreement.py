"""Agreements with brokers: who serves which release, until when, and where."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from blockota.model.release import Version, read_name, read_status, read_version
from blockota.strict_json import address, integer, text


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

    def as_fields(self) -> dict[str, Any]:
        """The JSON object of an agreement, as in ``replica list --json`` and in chain views."""
        return {
            "number": self.number,
            "broker": self.broker,
            "product": self.product,
            "version": str(self.version),
            "expiresAt": self.expires_at,
            "status": str(self.status),
            "uri": self.uri,
        }

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> Agreement:
        """Read the JSON object of an agreement.

        Raises:
            KeyError, TypeError, ValueError: a field is missing or has a wrong value; `strict_json.fault` describes it.
        """
        return cls(
            number=integer(fields, "number"),
            broker=address(fields, "broker"),
            product=read_name(fields, "product"),
            version=read_version(fields, "version"),
            expires_at=integer(fields, "expiresAt"),
            status=read_status(AgreementStatus, fields),
            uri=text(fields, "uri"),
        )
