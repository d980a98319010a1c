"""BlockOTA records firmware releases on a chain, and checks an image against its record before a board is written.

The names of `blockota.library` are available here. The library is imported at the first use of a name, so that commands
that do not use the library start faster.
"""

# ruff: noqa: F403, F405 - only type checkers read this import, and a test compares the names below with the library's
from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from blockota.library import *
else:  # hidden from type checkers: with this function they would accept any name

    def __getattr__(name: str) -> Any:
        """Import a name of `blockota.library` at its first use (PEP 562)."""
        if name in __all__:
            return getattr(importlib.import_module("blockota.library"), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__version__ = "0.1.0"
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


def __dir__() -> list[str]:
    """List also the names of the library that are not imported yet."""
    return sorted({*globals(), *__all__})
