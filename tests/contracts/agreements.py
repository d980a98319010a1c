"""The arguments by which calls name an agreement, read from the contract."""

from __future__ import annotations

from typing import Any

from ape.contracts import ContractInstance


def terms(replication: ContractInstance, number: int) -> tuple[Any, ...]:
    """Return id, broker, product, version and expiry, by which the vendor names an agreement."""
    record = replication.agreement(number)
    return number, record.broker, record.product, record.version, record.expiresAt


def release_of(replication: ContractInstance, number: int) -> tuple[Any, ...]:
    """Return id, product and version, by which the broker names its own agreement."""
    record = replication.agreement(number)
    return number, record.product, record.version


def named(replication: ContractInstance, verb: str, number: int) -> tuple[Any, ...]:
    """Return the arguments by which this function of the contract names an agreement."""
    return (release_of if verb in {"announce", "withdraw"} else terms)(replication, number)
