"""A NATS cluster of three nodes with MQTT over TLS, whose users have the same permissions as with mosquitto."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

from blockota.chain.local import free_port
from blockota.errors import MessagingError
from blockota.messaging.accounts import BrokerAccount
from blockota.messaging.client import BrokerConnection, connected
from blockota.messaging.mosquitto import GATEWAY, MANAGEMENT, PROBE, BrokerFiles, write_broker_files

NODES = 3
_SETTINGS = """
server_name: n{node}
listen: 127.0.0.1:{client}
jetstream {{ store_dir: "{folder}/n{node}" }}
cluster {{ name: site, listen: 127.0.0.1:{route}, routes: [{routes}] }}
mqtt {{
  listen: 127.0.0.1:{mqtt}, stream_replicas: {nodes}, consumer_replicas: {nodes}
  tls {{ cert_file: "{folder}/server.pem", key_file: "{folder}/server.key" }}
}}
accounts {{
  site {{ jetstream: enabled, users: [{users}] }}
}}
"""
_WRITES = ("jobs.start-next", "jobs.get", "jobs.*.get", "jobs.*.update", "shadow.update", "shadow.get")
_READS = ("jobs", "jobs.>", "shadow", "shadow.>")  # MQTT's jobs/# also matches jobs itself
_OWN_WRITES, _OWN_READS = ("events", "readings", "commands.ack"), ("events.ack", "readings.rejected", "commands")
_OWN = ("$MQTT.sub.>",)
"""What a client may subscribe to for messages with QoS 1: its own deliveries, under a random name."""


class Node:
    """A node of the cluster.

    Args:
        program: nats-server.
        settings: its settings file.
        port: the port of MQTT.
    """

    def __init__(self, program: Path, settings: Path, port: int) -> None:
        self.port = port
        self._command = [str(program), "-c", str(settings), "-l", str(settings.with_suffix(".log"))]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it."""
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def kill(self) -> None:
        """Kill it."""
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None


class NatsCluster:
    """A cluster.

    Attributes:
        nodes: its nodes.
        passwords: the passwords of devices and management systems.
        files: the certificates, and the passwords of the gateway and of the probe user.
    """

    def __init__(self, program: Path, folder: Path, devices: Iterable[int]) -> None:
        self.passwords = write_broker_files(folder, devices, hosts=["localhost", "127.0.0.1"])
        self.files = BrokerFiles(folder)
        ports = [(free_port(), free_port(), free_port()) for _ in range(NODES)]
        routes = ", ".join(f"nats://127.0.0.1:{route}" for _, route, _ in ports)
        secrets = self.passwords | {name: self.files.secret(name) for name in (GATEWAY, PROBE)}
        users = ", ".join(_user(name, password) for name, password in secrets.items())
        self.nodes = []
        for node, (client, route, mqtt) in enumerate(ports):
            settings = folder / f"n{node}.conf"
            settings.write_text(
                _SETTINGS.format_map(
                    {"node": node, "nodes": NODES, "client": client, "route": route, "mqtt": mqtt}
                    | {"folder": folder, "routes": routes, "users": users}
                )
            )
            self.nodes.append(Node(program, settings, mqtt))

    def account(self, name: object, node: Node, *, is_persistent: bool = False) -> BrokerAccount:
        """Return the account of a user at a node."""
        password = self.passwords.get(str(name)) or self.files.secret(str(name))
        return BrokerAccount("127.0.0.1", node.port, str(name), password, self.files.authority, is_persistent)


def _user(name: str, password: str) -> str:
    """Return the settings of a user; the subjects are MQTT's topics with dots in place of slashes."""
    if name == GATEWAY:
        publish = subscribe = ["$aws.things.>", "blockota.v1.>"]
    elif name == MANAGEMENT:
        publish, subscribe = [], ["blockota.v1.cms.*.events"]
    else:
        own = f"blockota.v1.things.{name}"
        publish = [*(f"$aws.things.{name}.{end}" for end in _WRITES), *(f"{own}.{end}" for end in _OWN_WRITES)]
        subscribe = [*(f"$aws.things.{name}.{end}" for end in _READS), *(f"{own}.{end}" for end in _OWN_READS)]
    permissions = {"publish": {"allow": publish}, "subscribe": {"allow": [*subscribe, *_OWN]}}
    return json.dumps({"user": name, "password": password, "permissions": permissions})


@asynccontextmanager
async def nats_cluster(program: Path, folder: Path, *devices: int) -> AsyncIterator[NatsCluster]:
    """Run a cluster."""
    cluster = NatsCluster(program, folder, devices)
    for node in cluster.nodes:
        node.start()
    try:
        for node in cluster.nodes:
            await admits(cluster, node)
        yield cluster
    finally:
        for node in cluster.nodes:
            node.kill()


async def admits(cluster: NatsCluster, node: Node) -> None:
    """Wait until a node accepts clients; the cluster has then elected the leader of its streams."""
    async with AsyncExitStack() as stack:
        await reach(stack, cluster.account(PROBE, node))


async def reach(stack: AsyncExitStack, account: BrokerAccount) -> BrokerConnection:
    """Connect as soon as the node accepts the connection."""
    async with asyncio.timeout(120):
        while True:
            with suppress(MessagingError):
                return await stack.enter_async_context(connected(account))
            await asyncio.sleep(0.1)
