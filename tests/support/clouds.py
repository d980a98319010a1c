"""Run the cloud of the example city, in a thread or as a process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from blockota.bindings.identities import IdentitiesContract
from blockota.identity.founding import NewService, found_receiver
from blockota.identity.sending import RequestSigner, open_signer
from blockota.ledger.keys import open_log_key
from blockota.ledger.log import TileLog
from blockota.ledger.log_settings import load_log
from blockota.ledger.recording import LogParts
from blockota.model.warning import RequestWarning
from blockota.operations.cloud_service import CloudSetup, opened_cloud
from blockota.operations.cloud_settings import load_cloud, open_database
from tests.support import forks
from tests.support.city import KINDS, City
from tests.support.receiving_runs import running, service_process, warnings_in
from tests.support.validators import HOST, ValidatorClient

CLOUD, VALIDATOR, GATEWAY = (KINDS[kind].uuid for kind in ("cloud", "validator", "gateway"))


@dataclass
class CloudRun:
    """A cloud that runs.

    Attributes:
        url: the URL at which the cloud receives requests.
        folder: the folder of the cloud's settings.
        lines: the log lines that the cloud has written.
    """

    url: str
    folder: Path
    lines: list[str] = field(default_factory=list)

    @property
    def authority(self) -> Path:
        """The certificate of the authority that signed the cloud's certificate."""
        return self.folder / "cloud" / "authority.pem"

    def post(self, raw: bytes) -> dict[str, Any]:
        """Send a request over a new connection, and return the JSON-RPC response."""
        client = ValidatorClient(self.url, self.authority)
        try:
            return client.post(raw)
        finally:
            client.close()

    def warnings(self) -> list[RequestWarning]:
        """Return the warnings in the log, oldest first."""
        return warnings_in(self.folder / "cloud" / "log")


def signer_of(kind: str, folder: Path) -> RequestSigner:
    """Write the key of an example identity into a folder, and return the identity's signer."""
    path = folder / f"{kind}.pem"
    path.write_bytes(KINDS[kind].key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    path.chmod(0o600)
    return open_signer(KINDS[kind].uuid, f"file:{path}", environment={})


def write_cloud(city: City, folder: Path, *, database: str = "sqlite:///cloud.db", listen: str = f"{HOST}:0") -> Path:
    """Write the settings and keys of the city's cloud, and return the settings file."""
    signer_of("cloud", folder)
    log_key = folder / "log.pem"
    log_key.write_bytes(KINDS["cloud"].log_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    log_key.chmod(0o600)
    config = folder / "blockota.toml"
    new = NewService("cloud", CLOUD, "test", identity_key=folder / "cloud.pem", log_key=log_key)
    values = {"requests": f"{HOST}:0", "listen": listen, "database": database, "max_age": "30d"}
    found_receiver(config, new, values, hosts=[HOST], now=datetime.now(UTC))
    registries = "".join(f'{name} = "{address}"\n' for name, address in city.deployment.registries.items())
    config.write_text(f'{config.read_text()}\n[networks.local]\nurl = "{city.chain.url}"\n{registries}')
    return config


@contextmanager
def running_cloud(city: City, config: Path) -> Iterator[CloudRun]:
    """Run a cloud in a thread."""
    settings, log = load_cloud(config, environment={}), load_log(config, environment={})
    setup = CloudSetup(
        settings,
        open_database(settings.database, folder=settings.database_folder, environment={}),
        lambda: IdentitiesContract(city.chain, city.deployment.registries["identities"]),
        LogParts(TileLog(log.folder), open_log_key(*log.signing(), environment={})),
    )
    run = CloudRun("", config.parent)
    with running(lambda lines, stop: opened_cloud(setup, lines, stop), run.lines) as run.url:
        yield run


@contextmanager
def cloud_process(config: Path) -> Iterator[tuple[forks.Process, CloudRun]]:
    """Run ``blockota cloud run`` as a process. It is killed at the end."""
    with service_process("cloud", config) as (process, url):
        yield process, CloudRun(url, config.parent)
