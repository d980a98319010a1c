"""The identities of the city with their hosts, folders and keys, and the settings that their commands read."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from uuid import UUID, uuid4

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from eth_account.signers.local import LocalAccount

from blockota.deployment import Deployment
from blockota.formats.public_key import read_pem
from blockota.identity.tunnel_keys import create_key
from blockota.keys import dev_account
from blockota.ledger.keys import create_log_key
from blockota.model.identity import Enrolment, IdentityKind, Keys, tunnel_key_of
from tests.support import forks
from tests.support.namespaces import NamespaceHost

DOMAIN = "city.example"
"""The first part of the origins of all logs."""
TUNNEL_PORT = 51820
FIRST_ACCOUNT = 100
"""The number of the first member's account. The test mnemonic's accounts before it belong to the example."""
_FIRST_ADDRESS = IPv4Address("10.64.0.1")


@dataclass
class Member:
    """An identity of the city, which has a host to itself.

    Attributes:
        number: its number among all members, from 0.
        kind: its kind.
        host: its host.
        folder: the folder with its settings and keys.
        uuid: its UUID.
    """

    number: int
    kind: IdentityKind
    host: NamespaceHost
    folder: Path
    uuid: UUID

    @property
    def address(self) -> IPv4Address:
        """The virtual IP."""
        return _FIRST_ADDRESS + self.number

    @property
    def account(self) -> LocalAccount:
        """The account that anchors the log."""
        return dev_account(FIRST_ACCOUNT + self.number)

    @property
    def interface(self) -> str:
        """The interface's name, which is unique because wireguard-go stores all its sockets in one folder."""
        return f"{self.host.namespace}w"

    @property
    def listens(self) -> bool:
        """Whether other members connect to this member.

        Gateways connect to validators; validators do not connect to gateways.
        """
        return self.kind is not IdentityKind.GATEWAY

    @property
    def tunnel_key(self) -> str:
        """The public key of its tunnel, in base64."""
        return (self.folder / "vpn.pub").read_text().strip()

    def make_keys(self) -> None:
        """Make the keys of identity, log and tunnel in the folder."""
        self.folder.mkdir(parents=True)
        private = generate_private_key(SECP256R1())
        pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        public = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        for name, content in (("identity.pem", pem), ("identity.pub", public)):
            (self.folder / name).write_bytes(content)
            (self.folder / name).chmod(0o600)
        create_log_key(self.folder / "log.pem")
        (self.folder / "vpn.pub").write_text(create_key(self.folder / "vpn.key"))

    @property
    def enrolment(self) -> Enrolment:
        """The enrolment, with the public keys of the folder."""
        keys = Keys(
            key=read_pem((self.folder / "identity.pub").read_text()),
            account=self.account.address,
            log_key=_public_log_key(self.folder / "log.pem"),
            tunnel_key=tunnel_key_of(self.tunnel_key),
        )
        return Enrolment(self.uuid, self.kind, keys, self.address)

    def run(self, *words: str, environment: Mapping[str, str] | None = None) -> AbstractContextManager[forks.Process]:
        """Start a command of BlockOTA on the host, in the folder, with further environment variables."""
        return self.run_module("blockota", *words, environment=environment)

    def run_module(
        self, module: str, *words: str, environment: Mapping[str, str] | None = None
    ) -> AbstractContextManager[forks.Process]:
        """Start a Python module on the host, in the folder, with further environment variables."""
        command = ["-m", "tests.peers.city.inside", self.host.namespace, module, *words]
        return forks.started(command, folder=self.folder, environment=environment, preloaded=PRELOADED)


PRELOADED = (
    *("blockota.cli.vpn", "blockota.cli.gateway", "blockota.identity.tunnel_sync", "blockota.identity.receiving"),
    *("blockota.cli.validator", "blockota.cli.cloud", "blockota.identity.validator_service", "blockota.line_log"),
    *("blockota.operations.cloud_service", "blockota.repository.asgi_server", "sqlalchemy", "psycopg"),
    *(
        "alembic",
        "paho.mqtt.client",
        "blockota.gateway.opening",
        "blockota.gateway.faces.mqtt",
        "websockets.sync.client",
    ),
)
"""The modules that the fork server imports before it forks a process of the city."""


@dataclass(frozen=True)
class Networks:
    """The two chains of the city.

    Attributes:
        vendor: the contracts of the vendor and the consortium, on the producer chain.
        city: the contracts of the city, on the gateway chain.
        vendor_url: the URL of the producer chain.
        city_urls: the URLs of the nodes of the gateway chain.
    """

    vendor: Deployment
    city: Deployment
    vendor_url: str
    city_urls: Sequence[str]

    def settings(self, number: int = 0) -> str:
        """Return the part of a settings file that describes both chains.

        Args:
            number: selects the node of the gateway chain to query, modulo the number of nodes.
        """
        urls = {"vendor": self.vendor_url, "city": self.city_urls[number % len(self.city_urls)]}
        lines = ['producer_network = "vendor"', 'gateway_network = "city"']
        for name, made in (("vendor", self.vendor), ("city", self.city)):
            contracts = {"contract": made.contract, "replication": made.replication, **made.registries}
            lines += [f"[networks.{name}]", f"url = {json.dumps(urls[name])}", f"chain_id = {made.chain_id}"]
            lines += ["confirmations = 0", f"first_block = {made.block_number}"]
            lines += [f'{setting} = "{address}"' for setting, address in contracts.items() if address]
        return "\n".join(lines) + "\n"


def tunnel_settings(member: Member, others: Sequence[Member]) -> str:
    """Return the table ``[vpn]`` of a member."""
    lines = ["[vpn]", f'identity = "{member.uuid}"', 'key = "vpn.key"', f'interface = "{member.interface}"']
    lines += [f"listen_port = {TUNNEL_PORT}"] if member.listens else []
    # Of two ends that listen, one connects: otherwise both would begin a handshake at the same time.
    reached = [one for one in others if one.listens and (not member.listens or one.number < member.number)]
    lines.append("[vpn.endpoints]")
    lines += [f'{one.uuid} = "{one.host.address}:{TUNNEL_PORT}"' for one in reached if one.kind is not member.kind]
    return "\n".join(lines) + "\n"


def new_members(hosts: Iterator[NamespaceHost], size: int, folder: Path) -> list[Member]:
    """Return the cloud, the validators, the gateways, and two gateways to be banned; each member has new keys."""
    kinds = [IdentityKind.CLOUD, *[IdentityKind.VALIDATOR] * size, *[IdentityKind.GATEWAY] * (size + 2)]
    members = []
    for number, (kind, host) in enumerate(zip(kinds, hosts, strict=False)):
        member = Member(number, kind, host, folder / f"{kind}-{number}", uuid4())
        member.make_keys()
        members.append(member)
    return members


def _public_log_key(path: Path) -> bytes:
    key = load_pem_private_key(path.read_bytes(), password=None)
    assert isinstance(key, Ed25519PrivateKey)
    return key.public_key().public_bytes_raw()
