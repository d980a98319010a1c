"""The Python API of BlockOTA.

The library offers the functions of the commands to scripts, build servers and test benches. A `Network` is a vendor's
contract on a chain, with the content store and the sources of the settings. All calls are synchronous. All errors are
subclasses of `BlockOTAError`, and have the attributes ``what``, ``why`` and ``remedy``. Names that this package does
not export are private. The following example verifies the newest release of each product:

    >>> with Network.from_settings() as network:
    ...     for product in network.products():
    ...         proven = network.fetch(product.name)
    ...         print(product.name, proven.release.version, [check.number for check in proven.passed])
    acme-thermo2 1.0.0 [1, 2, 3, 4, 5]
"""

from __future__ import annotations

from blockota.approval.flags import RedFlag
from blockota.approval.proposal import Proposal
from blockota.approval.signature import Signature
from blockota.bindings.block_ota import ContractEvent
from blockota.chain import Receipt
from blockota.errors import BlockOTAError, BoardError, RefusedError, UnreachableError, UsageError, VerificationError
from blockota.formats.cid import CID
from blockota.library.network import Network
from blockota.library.proposals import load_proposal, save_proposal
from blockota.model.container import Container
from blockota.model.draft import Draft
from blockota.model.facts import Consent, ProvenRelease
from blockota.model.manifest import Requirements
from blockota.model.release import Product, Release, Version
from blockota.settings import Settings
from blockota.stores.store import Store, open_store
from firmware_host.bench.result import BoardResult
from firmware_host.bootloader.entry import BoardLine

__all__ = [
    "CID",
    "BlockOTAError",
    "BoardError",
    "BoardLine",
    "BoardResult",
    "Consent",
    "Container",
    "ContractEvent",
    "Draft",
    "Network",
    "Product",
    "Proposal",
    "ProvenRelease",
    "Receipt",
    "RedFlag",
    "RefusedError",
    "Release",
    "Requirements",
    "Settings",
    "Signature",
    "Store",
    "UnreachableError",
    "UsageError",
    "VerificationError",
    "Version",
    "load_proposal",
    "open_store",
    "save_proposal",
]
