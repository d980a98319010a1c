"""That a store works and does not hold what was asked for: then others are asked, and nothing has to be mended."""

from __future__ import annotations

from blockota.errors import StoreError


class NotHeldError(StoreError):
    """The store does not hold it."""
