"""The arguments that identify an agreement in a call of FirmwareReplication, read from the contract."""

from __future__ import annotations

from typing import Any

from ape.contracts import ContractInstance


def terms(replication: ContractInstance, number: int) -> tuple[Any, ...]:
    """Return id, broker, product, version and expiry, which identify an agreement in the vendor's calls."""
    record = replication.agreement(number)
    return number, record.broker, record.product, record.version, record.expiresAt


def release_of(replication: ContractInstance, number: int) -> tuple[Any, ...]:
    """Return id, product and version, which identify an agreement in the broker's calls."""
    record = replication.agreement(number)
    return number, record.product, record.version


def named(replication: ContractInstance, verb: str, number: int) -> tuple[Any, ...]:
    """Return the arguments that identify an agreement in a call of the given contract function."""
    return (release_of if verb in {"announce", "withdraw"} else terms)(replication, number)
