"""Agreements under which brokers serve copies of a release until an expiry time, with their JSON. Pure."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from blockota.model.release import Version, read_name, read_status, read_version
from blockota.strict_json import address, integer, text


class AgreementStatus(enum.Enum):
    """The status of an agreement on the chain. Expiry is not a status, because it depends only on the time."""

    PROPOSED = 1
    ACCEPTED = 2
    DECLINED = 3
    WITHDRAWN = 4
    TERMINATED = 5

    @property
    def is_final(self) -> bool:
        """Whether the agreement was declined, withdrawn or terminated."""
        return self not in (AgreementStatus.PROPOSED, AgreementStatus.ACCEPTED)

    def __str__(self) -> str:
        """The name of the status, in lower case."""
        return self.name.lower()


@dataclass(frozen=True)
class Agreement:
    """The record of an agreement.

    Attributes:
        number: id of the agreement, from 1.
        broker: address of the broker that proposed the agreement.
        expires_at: Unix time, in seconds, at which the agreement expires.
        uri: URI of the replica; empty before the broker's announcement.
    """

    number: int
    broker: str
    product: str
    version: Version
    expires_at: int
    status: AgreementStatus
    uri: str

    def has_terms_of(self, other: Agreement) -> bool:
        """Whether number, broker, release and expiry are the same as in `other`. Status and URI may differ."""
        return replace(other, status=self.status, uri=self.uri) == self

    def is_open(self, time: int) -> bool:
        """Whether the agreement is proposed or accepted, and not expired at the chain time `time` (Unix seconds)."""
        return not self.status.is_final and not self.has_expired(time)

    def has_expired(self, time: int) -> bool:
        """Whether the agreement is expired: `time` is `expires_at` or later, as in the contract."""
        return time >= self.expires_at

    def is_in_force(self, time: int) -> bool:
        """Whether the agreement is accepted, and not yet expired at the chain time `time` (Unix seconds)."""
        return self.status is AgreementStatus.ACCEPTED and not self.has_expired(time)

    def serves(self, time: int) -> bool:
        """Whether the agreement is accepted, announced, and not yet expired at the chain time `time` (Unix seconds).

        The contract's own check also requires that the release is not revoked.
        """
        return self.is_in_force(time) and bool(self.uri)

    def as_fields(self) -> dict[str, Any]:
        """The JSON object of an agreement, as in ``replica list --json`` and in exported chain views."""
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
