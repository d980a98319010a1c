"""The message ids of a gateway's CoAP requests increase over its restarts."""

from __future__ import annotations

import asyncio

import pytest

from blockota.gateway.faces.lwm2m.client import ServerContext

NOW = 1_800_000_000
REMEMBERED = 247
"""Seconds for which a device remembers a message id: EXCHANGE_LIFETIME in RFC 7252, section 4.8.2."""


async def first_id(now: int) -> int:
    """Start a CoAP endpoint, and return the message id of its first request."""
    context = await ServerContext.create_server_context(None, bind=("127.0.0.1", 0), transports=["simplesocketserver"])
    try:
        [interface] = context.request_interfaces
        assert 0 <= interface.token_interface.message_id < 1 << 16  # the number that aiocoap drew
        context.continue_message_ids(now)
        found: int = interface.token_interface.message_id
        return found
    finally:
        await context.shutdown()


@pytest.mark.parametrize("seconds", [1, 60, REMEMBERED])
def test_a_restarted_gateway_does_not_repeat_message_ids(seconds: int) -> None:
    """After a restart, the gateway uses higher message ids than before, and repeats no id that a device remembers."""
    before, after = (asyncio.run(first_id(now)) for now in (NOW, NOW + seconds))
    ahead = (after - before) % (1 << 16)
    assert ahead == 160 * seconds
    assert ahead < 1 << 16
    assert (1 << 16) - 160 * REMEMBERED > 20_000
