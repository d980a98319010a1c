"""Which release a component of a device is to run. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from blockota.model.receipt import ReleaseId
from blockota.model.release import Version


@dataclass(frozen=True, order=True)
class Component:
    """A product on the list of a Spec: its releases may update one component of the Spec's devices.

    Attributes:
        chain_id: the id of the producer chain.
        contract: address of the BlockOTA contract, checksummed.
        product: name of the product.
    """

    chain_id: int
    contract: str
    product: str

    def release(self, version: Version) -> ReleaseId:
        """Return the name of a release of the product."""
        return ReleaseId(self.chain_id, self.contract, self.product, version)
