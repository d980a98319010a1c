"""A city on the chain of a test worker, for the tests of anchors."""

from __future__ import annotations

from tests.gateway.conftest import city

__all__ = ["city"]
