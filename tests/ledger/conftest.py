"""Fixture of the tests of anchors: a city on the chain of a test worker."""

from __future__ import annotations

from tests.gateway.conftest import city

__all__ = ["city"]
