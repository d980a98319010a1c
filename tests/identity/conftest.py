"""A city on the chain of a test worker, for the tests of services of identities."""

from __future__ import annotations

from tests.gateway.conftest import city

__all__ = ["city"]
