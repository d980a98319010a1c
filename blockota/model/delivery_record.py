"""The encoding in which a gateway stores a `Delivery` on its disk.

Pure. A delivery is one array in deterministic CBOR. The array contains the number of the format, and then the fields in
the order of the class `Delivery`. A target is the array ``[chain id, contract, product, packed version, image,
order]``.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from blockota.ethereum import to_checksum_address
from blockota.formats import cbor
from blockota.model.delivery import Delivery, Stage, Target
from blockota.model.receipt import EvidenceLevel, ReleaseId
from blockota.model.release import Version

_FORMAT = 1


def encode_delivery(delivery: Delivery) -> bytes:
    """Encode a delivery."""
    return cbor.encode(
        [
            _FORMAT,
            str(delivery.stage),
            delivery.target and _target(delivery.target),
            delivery.is_withheld,
            sorted(cbor.encode(_target(one)) for one in delivery.given_up),
            delivery.running,
            delivery.logged and [delivery.logged[0], str(delivery.logged[1])],
            sorted(delivery.installed),
            delivery.tries,
            delivery.attempt,
            delivery.offered_at,
            delivery.postponements,
            delivery.postponed_since,
            delivery.wake,
            delivery.received,
            delivery.reason,
        ]
    )


def decode_delivery(raw: bytes) -> Delivery:
    """Decode a delivery.

    Raises:
        ValueError: the bytes are not a delivery of this format.
    """
    items = cbor.decode(raw)
    if not isinstance(items, list) or items[:1] != [_FORMAT]:
        raise ValueError("the state of a delivery has an unknown format")

    try:
        stage, target, is_withheld, given_up, running, logged, installed, *rest = items[1:]
        tries, attempt, offered_at, postponements, postponed_since, wake, received, reason = rest
        return Delivery(
            stage=Stage(stage),
            target=target and _read_target(target),
            is_withheld=is_withheld,
            given_up=frozenset(_read_target(cbor.decode(one)) for one in given_up),
            running=running,
            logged=logged and (logged[0], EvidenceLevel(logged[1])),
            installed=frozenset(installed),
            tries=tries,
            attempt=attempt,
            offered_at=offered_at,
            postponements=postponements,
            postponed_since=postponed_since,
            wake=wake,
            received=received,
            reason=reason,
        )
    except (TypeError, IndexError) as error:
        raise ValueError("the state of a delivery does not have the fields of its format") from error


def _target(target: Target) -> list[Any]:
    release = target.release
    contract = bytes.fromhex(release.contract[2:])
    return [release.chain_id, contract, release.product, release.version.packed, target.image, target.order]


def _read_target(items: list[Any]) -> Target:
    chain_id, contract, product, packed, image, order = items
    version = Version.unpack(packed)
    if version is None:
        raise ValueError("a target has no version")
    return Target(ReleaseId(chain_id, _address(contract), product, version), image, order)


@lru_cache
def _address(raw: bytes) -> str:
    return to_checksum_address(raw)
