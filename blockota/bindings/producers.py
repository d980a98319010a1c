"""The contract Producers: read producers as values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from blockota.bindings.contract import OwnedContract
from blockota.errors import Action, RefusedError
from blockota.ethereum import ZERO_ADDRESS
from blockota.model.identity import Producer
from blockota.model.release import product_key, product_name


class ProducersContract(OwnedContract):
    """The contract with the producers that a consortium admitted."""

    NAME, SETTING = "Producers", "producers"

    def producer(self, name: str, *, block: int | None = None) -> Producer | None:
        """Return one producer; None if no producer has the name."""
        return _producer(self._ask("producer", product_key(name), block=block))

    def known_producer(self, name: str) -> Producer:
        """Return one producer.

        Raises:
            RefusedError: the consortium did not admit a producer of this name.
        """
        found = self.producer(name)
        if found is None:
            raise RefusedError(
                f"{name!r:.60} is not a producer",
                why="the consortium did not admit a producer of this name",
                remedy="check the name",
                action=Action.LIST_PRODUCERS,
            )
        return found

    def producer_of(self, block_ota: str, *, block: int | None = None) -> Producer | None:
        """Return the producer of a BlockOTA contract; None if the contract belongs to no producer."""
        return _producer(self._ask("producerOf", block_ota, block=block))

    def producers(self, *, block: int | None = None) -> list[Producer]:
        """Return all producers in the order of their admission, including suspended producers."""
        return self._pages("producers", _producer, block=block)


def _producer(record: Mapping[str, Any]) -> Producer | None:
    if not any(record["name"]):
        return None
    return Producer(
        name=product_name(record["name"]),
        block_ota=record["blockOta"],
        replication=None if record["replication"] == ZERO_ADDRESS else record["replication"],
        suspended=record["suspended"],
        since=record["since"],
    )
