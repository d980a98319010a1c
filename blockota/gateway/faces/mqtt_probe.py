"""Checks that the broker gives each device access to its own topics only.

The check runs before a gateway serves the devices. A broker may grant a subscription but deliver nothing, or accept a
message but drop it. The check therefore observes which messages arrive. The probe signs in as device 0, a number that
no device has. If the rules of the broker depend on the user name, the rules of devices also apply to the probe. The
gateway and the probe first send to the topics of another device, and then to the topics of the probe.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from blockota.errors import MessagingError, RefusedError
from blockota.messaging.client import BrokerConnection, Connect, Message
from blockota.messaging.topics import notify_next

PROBE = "0"
"""The user name of the probe, and its number as a device."""
TIMEOUT = 10.0
"""Seconds until the messages on the probe's own topics must have arrived."""
_OTHER = "probed"
"""A device name that is not a number."""
_LISTENED = ("$aws/things/#", f"$aws/things/{_OTHER}/jobs/#", notify_next("+"), "#", notify_next(PROBE))
_SENT = "$aws/things/{}/jobs/start-next"


async def check_access(gateway: BrokerConnection, as_probe: Connect, as_stranger: Connect) -> list[Message]:
    """Check that a device receives and sends only its own messages.

    Args:
        gateway: the gateway's connection, with its subscriptions.
        as_probe: connects as the probe.
        as_stranger: connects without a user name.

    Returns:
        The messages that devices sent to the gateway during the check.

    Raises:
        RefusedError: the broker lets a device read or send another device's messages.
        MessagingError: the broker is out of reach, or refuses the probe's connection or subscription.
    """
    # (1) A client without a user name must be refused.
    try:
        async with as_stranger():
            raise _refused("it accepts clients without a user name")
    except MessagingError:
        pass

    # (2) The probe must receive its own messages, and no other device's.
    async with as_probe() as probe:
        granted = [await probe.subscribe(topic) for topic in _LISTENED]
        if not granted[-1]:  # a cluster without a leader refuses for some seconds
            raise MessagingError(
                "the message broker is not ready", why="the broker refuses a device's own subscription"
            )
        for thing in (_OTHER, PROBE):
            await gateway.publish(notify_next(thing), b"")
        for message in await _until(probe.messages(), notify_next(PROBE), "does not deliver a device's own messages"):
            if message.topic != notify_next(PROBE):
                raise _refused(f"a device received a message with the topic {message.topic!r:.80}")

        # (3) The gateway must receive what the probe sends in its own name, and nothing in another name.
        for thing in (_OTHER, PROBE):
            await probe.publish(_SENT.format(thing), b"")
        arrived = await _until(gateway.messages(), _SENT.format(PROBE), "does not take a device's own messages")
    if any(message.topic == _SENT.format(_OTHER) for message in arrived):
        raise _refused("a device can send messages in the name of another one")
    return [message for message in arrived if message.topic != _SENT.format(PROBE)]


async def _until(messages: AsyncIterator[Message], topic: str, otherwise: str) -> list[Message]:
    """Return the received messages, up to and including the first message on a topic."""
    arrived: list[Message] = []
    try:
        async with asyncio.timeout(TIMEOUT):
            async for message in messages:
                arrived.append(message)
                if message.topic == topic:
                    return arrived
    except TimeoutError:
        pass
    raise _refused(f"it {otherwise}")


def _refused(why: str) -> RefusedError:
    return RefusedError(
        "the message broker is not used, because it does not isolate the devices",
        why=why,
        remedy="let each device use only the topics of its own number, as in the files that BlockOTA writes for "
        "mosquitto",
    )
