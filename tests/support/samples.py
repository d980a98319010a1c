"""Valid sample values; a test passes the changes that it needs."""

from __future__ import annotations

import hashlib
import struct
from typing import Any

from blockota.approval.proposal import Proposal
from blockota.bindings.block_ota import publish_call
from blockota.keys import dev_account
from blockota.model.facts import BoardAnswer, ChainAnswer, Trust
from blockota.model.release import Product, Region, Release, Status, Version

FLASH, RAM = Region(0x0800_0000, 0x1_0000), Region(0x2000_0000, 0x5000)
CHIP_ID, OTHER_CHIP_ID = 0x410, 0x414
NOW = 1_800_000_000
CONTRACT, SAFE = dev_account(11).address, dev_account(12).address
TRUST = Trust(chain_id=1337, contract=CONTRACT, confirmations=12)
PRODUCT = Product("acme-thermo2", "acme", CHIP_ID, FLASH, minimum_version=None, paired=True)
BOARD = BoardAnswer(
    chip_id=CHIP_ID,
    flash=FLASH,
    ram=(RAM,),
    readout_protected=False,
    write_protected=(),
    installed=Version(1, 0, 0),
    other=None,
    holds_unknown=False,
    half_written=False,
)


def code(size: int = 64, *, stack: int = RAM.end, reset: int = FLASH.start + 9) -> bytes:
    """Return an image that starts with a vector table."""
    return struct.pack("<II", stack, reset).ljust(size, b"\xa5")[:size]


def release_of(image: bytes, **changes: Any) -> Release:
    """Return a release record for an image as version 1.1.0 of `PRODUCT`, with the given changes."""
    facts: dict[str, Any] = {
        "product": PRODUCT.name,
        "version": Version(1, 1, 0),
        "sha256": hashlib.sha256(image).digest(),
        "size": len(image),
        "load_address": FLASH.start,
        "active_from": 0,
        "chip_id": CHIP_ID,
        "status": Status.ACTIVE,
    }
    return Release(**(facts | changes))


def answer_with(**changes: Any) -> ChainAnswer:
    """Return a valid chain answer for the release of the sample image, with the given changes."""
    facts: dict[str, Any] = {
        "chain_id": TRUST.chain_id,
        "contract": CONTRACT,
        "block_number": 100,
        "block_time": NOW,
        "newest_block": 112,
        "paused": False,
        "requested": PRODUCT.name,
        "product": PRODUCT,
        "version": None,
        "release": release_of(code()),
        "newest": Version(1, 1, 0),
    }
    return ChainAnswer(**(facts | changes))


def proposal_with(**changes: Any) -> Proposal:
    """Return a proposal to publish one release, with the given changes."""
    facts: dict[str, Any] = {
        "chain_id": 1337,
        "safe": SAFE,
        "nonce": 7,
        "to": CONTRACT,
        "data": publish_call([release_of(code())]),
        "reason": "release 1.1.0",
        "created": NOW,
        "expires": NOW + 3600,
    }
    return Proposal(**(facts | changes))
