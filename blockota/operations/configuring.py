"""Prepare a change of the devices' configuration for an operator, as ``blockota order configure`` does.

A configuration is a release in the city's own BlockOTA contract. If the configuration is not published yet, the room
prepares a proposal for the city's Safe. The proposal publishes the configuration. After the Safe has executed the
proposal, the same request prepares the operator's order.
"""

from __future__ import annotations

import re
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from blockota.approval.proposal import Proposal
from blockota.bindings.producers import ProducersContract
from blockota.connection import Connection
from blockota.errors import BlockOTAError, UsageError
from blockota.formats.cid import CHUNK_SIZE
from blockota.model.draft import Draft
from blockota.operations.city_reading import CityChain
from blockota.operations.ordering import WantedOrder, admitted_producer, check_configuration, configurations_of
from blockota.operations.preparing import PROPOSAL_TIME, PreparedCall, prepare_order
from blockota.vendor.propose import Reason
from blockota.vendor.publish import propose_releases

MAX_IMAGE = CHUNK_SIZE
"""The largest configuration that the page accepts, in bytes. The command line accepts larger configurations."""
_STRANGE = re.compile(r"[^A-Za-z0-9._-]+", re.ASCII)
_LONGEST_NAME = 80


@dataclass(frozen=True)
class WantedConfiguration:
    """The configuration that a person requests.

    Attributes:
        order: product, version, group and time window.
        image: the bytes of the configuration.
        file_name: the name of the configuration's file on the person's computer, for error messages.
        reason: the reason of the proposal.
    """

    order: WantedOrder
    image: bytes
    file_name: str
    reason: str

    @property
    def safe_name(self) -> str:
        """The name of the file without folders and unusual characters."""
        return (
            _STRANGE.sub("_", self.file_name.replace("\\", "/").rpartition("/")[2]).lstrip(".")[:_LONGEST_NAME]
            or "image"
        )


def prepare_configuration(
    city: CityChain, vendor: Connection, wanted: WantedConfiguration, account: str, *, now: int
) -> PreparedCall | Proposal:
    """Prepare the publication of a configuration, or its order if the configuration is already published.

    If a proposal is prepared, the image is also added to the store that the settings name.

    Args:
        city: the gateway chain.
        vendor: the producer chain whose settings name the city's BlockOTA contract.
        wanted: the requested configuration.
        account: address of the operator's account.
        now: Unix time.

    Returns:
        The order as a transaction of the operator, or the proposal for the city's Safe.

    Raises:
        UsageError: the settings do not name the city's BlockOTA contract, or the image is empty or too large.
        RefusedError: the account may not order, the group may not receive the product, or the version has another
            image.
        ChainError: a node is out of reach.
        StoreError: the store cannot be written.
    """
    draft, is_published = _check(city, vendor, wanted, account)
    contract = configurations_of(vendor)
    if is_published:
        producer = admitted_producer(vendor.open(ProducersContract), contract.address)
        call = prepare_order(city, vendor, wanted.order, producer.name, account)
        return replace(call, words=f"{call.words} as their configuration")
    why = Reason(wanted.reason, now, PROPOSAL_TIME)
    return propose_releases(contract, [draft], store=vendor.store, reason=why)[1]


def _check(city: CityChain, vendor: Connection, wanted: WantedConfiguration, account: str) -> tuple[Draft, bool]:
    """Write the image to a temporary file with the person's file name, and check the configuration."""
    if not 0 < len(wanted.image) <= MAX_IMAGE:
        raise UsageError(
            "the configuration cannot be used",
            why=f"the file has {len(wanted.image):,} bytes, and the page accepts 1 to {MAX_IMAGE:,}",
            remedy="choose another file, or order a larger file on the command line",
        )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / wanted.safe_name
        path.write_bytes(wanted.image)
        try:
            return check_configuration(city.connection, vendor, wanted.order, path, account)
        except BlockOTAError as error:
            # The person knows the file by its name, and need not know the folders of this machine.
            what, why = (text.replace(f"{folder}/", "") for text in (error.what, error.why))
            raise error.revised(what=what, why=why) from error
