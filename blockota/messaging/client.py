"""An MQTT client.

The client connects with TLS, subscribes and publishes, and reconnects after a lost connection. The client uses MQTT
3.1.1, and QoS 1 for all messages. The broker's confirmation of a message does not prove that a device has received the
message. A device therefore confirms the receipt with a message of its own.

The client normally confirms a message when the message is read from `BrokerConnection.messages`. A message that must
not be lost is confirmed only when the service calls `BrokerConnection.release`, after it has written the content to the
disk. If the client is killed before this call, the broker delivers the message again. The client confirms messages in
the order of their arrival (MQTT 3.1.1, section 4.6). A later message is therefore confirmed only after all earlier
messages.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn, Protocol

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.reasoncodes import ReasonCode

from blockota.errors import MessagingError, UsageError
from blockota.messaging.accounts import BrokerAccount

PAUSES = (1.0, 2.0, 5.0, 10.0, 30.0)
"""Seconds to wait before connecting again, after each failure in a row. The last value repeats."""
_QOS, _KEEP_ALIVE, _TIMEOUT, _FAREWELL = 1, 15, 10.0, 1.0
_FAILURE = 0x80
"""The bit in the codes of a SUBACK that means a refused subscription (MQTT 3.1.1, section 3.9.3)."""
_IN_FLIGHT = 128
"""The maximum number of messages of one caller that await the broker's confirmation."""
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
class Message:
    """A message.

    Attributes:
        topic: the topic.
        payload: the content.
        is_retained: whether the message is a retained message that was published before the subscription.
        number: the number of the message on its connection.
    """

    topic: str
    payload: bytes
    is_retained: bool = False
    number: int = field(default=0, compare=False)


class BrokerConnection(Protocol):
    """A connection to a broker. After the connection is lost, each method raises `MessagingError`."""

    async def subscribe(self, topic: str) -> bool:
        """Subscribe to a topic.

        Returns whether the broker grants the subscription. Some brokers grant every subscription, even if the access
        rules do not allow the client to receive the messages.
        """

    async def publish(self, topic: str, payload: bytes, *, is_retained: bool = False) -> None:
        """Publish a message.

        Returns when the broker has confirmed the message.
        """

    def hold(self, is_held: Callable[[str], bool]) -> None:
        """Choose the topics whose messages are confirmed only by `release`. Call this before `messages`.

        Args:
            is_held: returns whether the messages of a topic are confirmed only by `release`.
        """

    def release(self, message: Message) -> None:
        """Confirm a held message."""

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
    connection = _MqttConnection(account, asyncio.get_running_loop())
    try:
        await connection.open()
        yield connection
    finally:
        await connection.close()


async def keep_connected(
    connect: Connect,
    serve: Callable[[BrokerConnection], Awaitable[None]],
    *,
    note: Callable[[MessagingError], None],
    pauses: tuple[float, ...] = PAUSES,
) -> NoReturn:
    """Connect, and reconnect after each loss of the connection, until the task is cancelled.

    Args:
        connect: opens a connection.
        serve: uses the connection, and returns only after the connection is lost.
        note: called with the reason whenever the connection is lost or cannot be opened.
        pauses: seconds to wait after the first failure in a row, after the second, and so on. The last value repeats.
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

    Up to `_IN_FLIGHT` messages await the broker's confirmation at the same time.
    """
    for start in range(0, len(messages), _IN_FLIGHT):
        some = messages[start : start + _IN_FLIGHT]
        await asyncio.gather(*(connection.publish(one.topic, one.payload, is_retained=one.is_retained) for one in some))


class _Confirmations:
    """Confirms messages in their order, each after it was processed."""

    def __init__(self, confirm: Callable[[int, int], object]) -> None:
        self._confirm = confirm
        self._waiting: deque[tuple[int, int, int]] = deque()
        self._done: set[int] = set()

    def add(self, number: int, packet: int, qos: int) -> None:
        """Add a message that arrived."""
        self._waiting.append((number, packet, qos))

    def finish(self, number: int) -> None:
        """Confirm a message when all earlier messages are confirmed."""
        self._done.add(number)
        while self._waiting and self._waiting[0][0] in self._done:
            first, packet, qos = self._waiting.popleft()
            self._done.discard(first)
            self._confirm(packet, qos)


class _MqttConnection:
    """A connection that runs the client of Eclipse Paho in an asyncio loop.

    Args:
        account: the account.
        loop: the running loop.
    """

    def __init__(self, account: BrokerAccount, loop: asyncio.AbstractEventLoop) -> None:
        self._account, self._loop = account, loop
        self._client = client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=account.name or None,
            clean_session=not account.is_persistent,
            protocol=MQTTProtocolVersion.MQTTv311,
            reconnect_on_failure=False,
            manual_ack=True,
        )
        client.enable_logger(_LOGGER)
        client.max_inflight_messages_set(_MAX_IN_FLIGHT)
        if account.name:
            client.username_pw_set(account.name, account.password or None)
        if account.authority:
            client.tls_set_context(_tls(account.authority))

        self._accepted: asyncio.Future[None] = loop.create_future()
        self._ended: asyncio.Future[None] = loop.create_future()
        self._pending: dict[int, asyncio.Future[Any]] = {}
        self._arrived: asyncio.Queue[Message | None] = asyncio.Queue()
        self._confirmations = _Confirmations(client.ack)
        self._is_held: Callable[[str], bool] = lambda _: False
        self._number = 0
        self._why = "the connection was lost"
        self._beat: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Connect.

        Raises:
            MessagingError: the broker is out of reach, or refuses the client.
        """
        account = self._account
        try:
            # TCP and TLS are connected in a thread, because that blocks. All of paho's callbacks run in the loop.
            await asyncio.to_thread(self._client.connect, account.host, account.port, _KEEP_ALIVE)
            self._attach()
            async with asyncio.timeout(_TIMEOUT):
                await asyncio.wait([self._accepted, self._ended], return_when=asyncio.FIRST_COMPLETED)
        except (OSError, ValueError) as error:  # a time limit is an OSError
            raise self._lost(str(error) or "it does not answer") from error
        if not self._accepted.done():
            raise self._lost(self._why)
        self._accepted.result()
        self._beat = asyncio.create_task(self._keep_alive())

    async def close(self) -> None:
        """Disconnect.

        The wait is short, so that a broker that does not answer does not delay the end of the service.
        """
        if self._beat:
            self._beat.cancel()
        if not self._ended.done():
            self._client.disconnect()
            await asyncio.wait([self._ended], timeout=_FAREWELL)
        if left := self._client.socket():
            self._on_close(self._client, None, left)
            left.close()
        self._end("the connection was closed")

    async def subscribe(self, topic: str) -> bool:
        codes: list[ReasonCode] = await self._confirmed(*self._client.subscribe(topic, qos=_QOS))
        return not any(code.value & _FAILURE for code in codes)

    async def publish(self, topic: str, payload: bytes, *, is_retained: bool = False) -> None:
        info = self._client.publish(topic, payload, qos=_QOS, retain=is_retained)
        await self._confirmed(info.rc, info.mid)

    def hold(self, is_held: Callable[[str], bool]) -> None:
        self._is_held = is_held

    def release(self, message: Message) -> None:
        if not self._ended.done():
            self._confirmations.finish(message.number)

    async def messages(self) -> AsyncIterator[Message]:
        while (message := await self._arrived.get()) is not None:
            if not self._is_held(message.topic):
                self.release(message)
            yield message
        self._arrived.put_nowait(None)  # for the next call
        raise self._lost(self._why)

    async def _confirmed(self, code: MQTTErrorCode, packet: int | None) -> Any:
        """Wait until the broker confirms a packet."""
        if code is not MQTTErrorCode.MQTT_ERR_SUCCESS or packet is None or self._ended.done():
            raise self._lost(self._why)
        self._pending[packet] = self._loop.create_future()
        try:
            async with asyncio.timeout(_TIMEOUT):
                return await self._pending[packet]
        except TimeoutError as error:
            raise self._lost("it does not answer") from error
        finally:
            self._pending.pop(packet, None)

    async def _keep_alive(self) -> None:
        while self._client.loop_misc() is MQTTErrorCode.MQTT_ERR_SUCCESS:  # noqa: ASYNC110 - paho counts the time
            await asyncio.sleep(1)

    def _end(self, why: str) -> None:
        """Record the end of the connection, and raise the error in all waiting calls."""
        if self._ended.done():
            return
        self._why = why
        self._ended.set_result(None)
        self._arrived.put_nowait(None)
        for waiting in self._pending.values():
            if not waiting.done():
                waiting.set_exception(self._lost(why))

    def _lost(self, why: str, *, is_refusal: bool = False) -> MessagingError:
        return MessagingError(
            f"the message broker {self._account} " + ("refuses the connection" if is_refusal else "is out of reach"),
            why=why,
            remedy="check the address and the account of the message broker",
        )

    def _attach(self) -> None:
        """Serve the connected socket in the loop."""
        client, opened = self._client, self._client.socket()
        if opened is None:
            raise ConnectionError(self._why)
        if isinstance(opened, socket.socket):
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        client.on_connect, client.on_disconnect = self._on_connect, self._on_disconnect
        client.on_subscribe, client.on_publish = self._on_subscribe, self._on_publish
        client.on_message, client.on_socket_close = self._on_message, self._on_close
        client.on_socket_register_write = self._on_write_wanted
        client.on_socket_unregister_write = self._on_write_done

        self._loop.add_reader(opened, self._read)
        if client.want_write():
            self._loop.add_writer(opened, self._write)

    def _read(self) -> None:
        try:
            self._client.loop_read()
            # TLS may have decrypted more than one packet, which the loop does not see.
            while isinstance(found := self._client.socket(), ssl.SSLSocket) and found.pending():
                self._client.loop_read()
        except Exception as error:  # noqa: BLE001 - paho raises many kinds for a broken connection
            self._end(str(error))

    def _write(self) -> None:
        try:
            self._client.loop_write()
        except Exception as error:  # noqa: BLE001
            self._end(str(error))

    def _on_close(self, _: Client, __: Any, closed: Any) -> None:
        self._loop.remove_reader(closed)
        self._loop.remove_writer(closed)

    def _on_write_wanted(self, _: Client, __: Any, wanted: Any) -> None:
        self._loop.add_writer(wanted, self._write)

    def _on_write_done(self, _: Client, __: Any, done: Any) -> None:
        self._loop.remove_writer(done)

    def _on_connect(self, _: Client, __: Any, ___: Any, code: ReasonCode, ____: Any) -> None:
        if self._accepted.done():
            return
        if code.is_failure:
            self._accepted.set_exception(self._lost(_REFUSALS.get(code.value, str(code)), is_refusal=True))
        else:
            self._accepted.set_result(None)

    def _on_disconnect(self, _: Client, __: Any, ___: Any, code: ReasonCode, ____: Any) -> None:
        self._end(str(code) if code.is_failure else "the connection was closed")

    def _on_subscribe(self, _: Client, __: Any, packet: int, codes: list[ReasonCode], ___: Any) -> None:
        self._resolve(packet, codes)

    def _on_publish(self, _: Client, __: Any, packet: int, ___: ReasonCode, ____: Any) -> None:
        self._resolve(packet, None)

    def _resolve(self, packet: int, result: object) -> None:
        waiting = self._pending.get(packet)
        if waiting and not waiting.done():
            waiting.set_result(result)

    def _on_message(self, _: Client, __: Any, found: MQTTMessage) -> None:
        self._number += 1
        self._confirmations.add(self._number, found.mid, found.qos)
        self._arrived.put_nowait(Message(found.topic, bytes(found.payload), found.retain, self._number))


def _tls(authority: Path) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=str(authority))
    except (OSError, ssl.SSLError) as error:
        raise UsageError(
            f"the certificate {authority} cannot be used",
            why=getattr(error, "strerror", None) or str(error),
            remedy="give the PEM file of the message broker's certificate authority",
        ) from error
