"""BlockOTA: firmware releases as public facts on a chain, checked before a board is written.

The names of `blockota.library` are available here. The library is imported at the first use of a name, so that commands
without the library start faster.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from blockota.library import (
        BlockOTAError,
        BoardError,
        BoardLine,
        ChainError,
        Consent,
        ContentError,
        ContractEvent,
        Draft,
        Network,
        Product,
        Proposal,
        ProvenRelease,
        RefusedError,
        Release,
        Signature,
        StoreError,
        UsageError,
        VerificationError,
        Version,
        load_proposal,
        open_store,
        save_proposal,
    )

__version__ = "0.1.0"
__all__ = [
    "BlockOTAError",
    "BoardError",
    "BoardLine",
    "ChainError",
    "Consent",
    "ContentError",
    "ContractEvent",
    "Draft",
    "Network",
    "Product",
    "Proposal",
    "ProvenRelease",
    "RefusedError",
    "Release",
    "Signature",
    "StoreError",
    "UsageError",
    "VerificationError",
    "Version",
    "load_proposal",
    "open_store",
    "save_proposal",
]


def __getattr__(name: str) -> Any:
    """Import a name of `blockota.library` at its first use (PEP 562)."""
    if name in __all__:
        return getattr(importlib.import_module("blockota.library"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """List the names of the library too, although they are not imported yet."""
    return sorted({*globals(), *__all__})
