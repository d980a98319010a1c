"""A city on the chain of a test worker, for the tests of the cloud and of the room."""

from __future__ import annotations

from tests.gateway.conftest import city

__all__ = ["city"]
