"""An MQTT client.

It connects with TLS, subscribes and publishes, and connects again after a lost connection. The client uses MQTT 3.1.1,
and QoS 1 for all messages. The broker confirms a message when the broker has it, not when a device has it. If the
device itself must confirm, it does so with another message.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn, Protocol

import aiomqtt

from blockota.errors import MessagingError, UsageError

PAUSES = (1.0, 2.0, 5.0, 10.0, 30.0)
"""Seconds to wait before connecting again, after each failure in a row. The last value repeats."""
_QOS, _KEEP_ALIVE, _TIMEOUT, _FAREWELL = 1, 15, 10.0, 1.0
_FAILURE = 0x80
"""The bit in the codes of a SUBACK that means a refused subscription (MQTT 3.1.1, section 3.9.3)."""
_IN_FLIGHT = 128
"""The maximum number of messages that await the broker's confirmation. There is a limit because aiomqtt searches all of
them for each message."""
_MAX_IN_FLIGHT = 65535
_LOGGER = logging.getLogger(__name__)
_LOGGER.addHandler(logging.NullHandler())
_LOGGER.propagate = False
_REFUSALS = {
    132: "it does not support MQTT 3.1.1",
    133: "it does not accept the client identifier",
    134: "it does not accept the user name or password",
    135: "it does not accept the user name or password",
    136: "it is not available",
}
"""The reasons for which a broker refuses a connection. paho uses the codes of MQTT 5 (section 3.2.2.2) for MQTT 3.1.1
too."""


@dataclass(frozen=True)
class BrokerAccount:
    """The address of a broker, and the account with which the client signs in.

    Attributes:
        host: host name or address of the broker.
        port: its port.
        name: the user name, which is also the client identifier; empty for no user name.
        password: the password.
        authority: PEM file of the certificate authority of the broker. With None, the connection does not use TLS.
        is_persistent: whether the broker keeps messages for the client while it is not connected.
    """

    host: str
    port: int
    name: str = ""
    password: str = field(default="", repr=False)
    authority: Path | None = None
    is_persistent: bool = False

    def __str__(self) -> str:
        """The address of the broker, as errors name it."""
        return f"{self.host}:{self.port}"


@dataclass(frozen=True)
class Message:
    """A message.

    Attributes:
        topic: the topic.
        payload: the content.
        is_retained: whether the broker had already kept the message before the subscription.
    """

    topic: str
    payload: bytes
    is_retained: bool = False


class BrokerConnection(Protocol):
    """A connection to a broker. After its loss, each method raises `MessagingError`."""

    async def subscribe(self, topic: str) -> bool:
        """Subscribe to a topic.

        Returns whether the broker grants the subscription; some brokers grant every subscription.
        """

    async def publish(self, topic: str, payload: bytes, *, is_retained: bool = False) -> None:
        """Publish a message.

        Returns when the broker has the message.
        """

    def messages(self) -> AsyncIterator[Message]:
        """Yield the messages of all subscriptions."""


Connect = Callable[[], AbstractAsyncContextManager[BrokerConnection]]


@asynccontextmanager
async def connected(account: BrokerAccount) -> AsyncIterator[BrokerConnection]:
    """Connect to a broker while the ``async with`` block runs.

    Raises:
        UsageError: the certificate of the authority cannot be read.
        MessagingError: the broker is out of reach, or refuses the client.
    """
    client = aiomqtt.Client(
        account.host,
        account.port,
        username=account.name or None,
        password=account.password or None,
        identifier=account.name or None,
        clean_session=not account.is_persistent,
        tls_context=_tls(account.authority) if account.authority else None,
        keepalive=_KEEP_ALIVE,
        timeout=_TIMEOUT,
        max_inflight_messages=_MAX_IN_FLIGHT,
        socket_options=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],
        logger=_LOGGER,
    )
    try:
        await client.__aenter__()
    except aiomqtt.MqttError as error:
        raise _out_of_reach(account, error) from error
    try:
        yield _MqttConnection(client, account)
    finally:
        # A broker that does not answer must not delay the end of the service.
        with suppress(aiomqtt.MqttError, TimeoutError):
            async with asyncio.timeout(_FAREWELL):
                await client.__aexit__(None, None, None)


async def keep_connected(
    connect: Connect,
    serve: Callable[[BrokerConnection], Awaitable[None]],
    *,
    note: Callable[[MessagingError], None],
    pauses: tuple[float, ...] = PAUSES,
) -> NoReturn:
    """Connect, serve the connection until it is lost, and connect again, without end.

    Args:
        connect: opens a connection.
        serve: uses the connection. It must not return before the connection is lost.
        note: called with the reason whenever the connection is lost, or cannot be opened.
        pauses: seconds to wait before connecting again, after each failure in a row. The last value repeats.
    """
    failures = 0
    while True:
        try:
            async with connect() as connection:
                failures = 0
                await serve(connection)
        except MessagingError as error:
            note(error)
        await asyncio.sleep(pauses[min(failures, len(pauses) - 1)])
        failures += 1


async def publish_all(connection: BrokerConnection, messages: Sequence[Message]) -> None:
    """Publish messages in their order.

    Many messages await the broker's confirmation at the same time.
    """
    for start in range(0, len(messages), _IN_FLIGHT):
        some = messages[start : start + _IN_FLIGHT]
        await asyncio.gather(*(connection.publish(one.topic, one.payload, is_retained=one.is_retained) for one in some))


class _MqttConnection:
    def __init__(self, client: aiomqtt.Client, account: BrokerAccount) -> None:
        self._client, self._account = client, account

    async def subscribe(self, topic: str) -> bool:
        try:
            codes = await self._client.subscribe(topic, qos=_QOS)
        except aiomqtt.MqttError as error:
            raise _out_of_reach(self._account, error) from error
        return not any((code if isinstance(code, int) else code.value) & _FAILURE for code in codes)

    async def publish(self, topic: str, payload: bytes, *, is_retained: bool = False) -> None:
        try:
            await self._client.publish(topic, payload, qos=_QOS, retain=is_retained)
        except aiomqtt.MqttError as error:
            raise _out_of_reach(self._account, error) from error

    async def messages(self) -> AsyncIterator[Message]:
        try:
            async for message in self._client.messages:
                payload = message.payload if isinstance(message.payload, bytes) else b""
                yield Message(message.topic.value, payload, is_retained=message.retain)
        except aiomqtt.MqttError as error:
            raise _out_of_reach(self._account, error) from error


def _tls(authority: Path) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=str(authority))
    except (OSError, ssl.SSLError) as error:
        raise UsageError(
            f"the certificate {authority} cannot be used",
            why=getattr(error, "strerror", None) or str(error),
            remedy="name the PEM file of the certificate authority of the message broker",
        ) from error


def _out_of_reach(account: BrokerAccount, error: aiomqtt.MqttError) -> MessagingError:
    is_refusal = isinstance(error, aiomqtt.exceptions.MqttConnectError)
    code = getattr(getattr(error, "rc", None), "value", 0)
    why = _REFUSALS.get(code, str(error)) if is_refusal else str(error)
    return MessagingError(
        f"the message broker {account} " + ("refuses the connection" if is_refusal else "is out of reach"),
        why=why,
        remedy="check the address and the account of the message broker",
    )
