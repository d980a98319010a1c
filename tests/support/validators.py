"""Run a validator of the example city, in a thread or as a process, and send requests as other programs do."""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from blockota.bindings.identities import IdentitiesContract
from blockota.identity.founding import NewService, found_receiver
from blockota.identity.sending import open_signer
from blockota.identity.validator_service import ValidatorSetup, opened_service
from blockota.identity.validator_settings import load_validator
from blockota.ledger.keys import open_log_key
from blockota.ledger.log import TileLog
from blockota.ledger.log_settings import load_log
from blockota.ledger.recording import LogParts
from blockota.model.warning import RequestWarning
from tests.support import forks
from tests.support.city import KINDS, City
from tests.support.receiving_runs import running, service_process, warnings_in
from tests.support.waiting import DEADLINE, eventually

VALIDATOR, SENDER, CLOUD = KINDS["validator"].uuid, KINDS["gateway"].uuid, KINDS["cloud"].uuid
HOST = "127.0.0.1"


@dataclass
class ValidatorRun:
    """A validator that runs.

    Attributes:
        url: the URL at which the validator receives requests.
        folder: the folder of the validator's settings.
        lines: the log lines that the validator has written.
    """

    url: str
    folder: Path
    lines: list[str] = field(default_factory=list)

    def client(self) -> ValidatorClient:
        """Return a client with a new connection."""
        return ValidatorClient(self.url, self.folder / "validator" / "authority.pem")

    @cached_property
    def kept_client(self) -> ValidatorClient:
        """The client of this run, whose connection stays open."""
        return self.client()

    def warnings(self) -> list[RequestWarning]:
        """Return the warnings in the log, oldest first."""
        return warnings_in(self.folder / "validator" / "log")

    def await_warning(self, identifier: str) -> RequestWarning:
        """Wait until the log contains the warning with an id."""
        found = eventually(
            lambda: next((one for one in self.warnings() if one.id == identifier), None), what=f"warning {identifier}"
        )
        assert found
        return found


class ValidatorClient:
    """A keep-alive HTTPS client."""

    def __init__(self, url: str, authority: Path) -> None:
        place = urlsplit(url)
        assert place.hostname
        self._connection: http.client.HTTPConnection
        if place.scheme == "https":
            context = ssl.create_default_context(cafile=str(authority))
            self._connection = http.client.HTTPSConnection(
                place.hostname, place.port, timeout=DEADLINE, context=context
            )
        else:
            self._connection = http.client.HTTPConnection(place.hostname, place.port, timeout=DEADLINE)

    def post(self, raw: bytes) -> dict[str, Any]:
        """Send a request, and return the JSON-RPC response."""
        self._connection.request("POST", "/requests", raw, {"Content-Type": "application/json"})
        response = self._connection.getresponse()
        body = response.read()
        assert response.status == 200, (response.status, body)
        fields: dict[str, Any] = json.loads(body)
        return fields

    def get(self, path: str) -> tuple[int, Any]:
        """Return the status and the JSON document of a page."""
        self._connection.request("GET", path)
        response = self._connection.getresponse()
        return response.status, json.loads(response.read())

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def write_validator(city: City, folder: Path, *, more: str = "", rules: str = "") -> Path:
    """Write the settings and keys of the city's validator, and return the settings file.

    Args:
        city: the city.
        folder: an empty folder.
        more: additional settings of the table ``[validator]``.
        rules: the content of ``validator.toml``.
    """
    config, key = folder / "blockota.toml", folder / "key.pem"
    form = (Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    key.write_bytes(KINDS["validator"].key.private_bytes(*form))
    (folder / "log.pem").write_bytes(KINDS["validator"].log_key.private_bytes(*form))
    for name in ("key.pem", "log.pem"):
        (folder / name).chmod(0o600)
    new = NewService("validator", VALIDATOR, "test", identity_key=key, log_key=folder / "log.pem")
    values = {"requests": f"{HOST}:0", "listen": f"{HOST}:0"}
    found_receiver(config, new, values, hosts=[HOST], now=datetime.now(UTC))
    text = config.read_text().replace("[validator]\n", f'[validator]\nmax_age = "30d"\n{more}')
    registries = "".join(f'{name} = "{address}"\n' for name, address in city.deployment.registries.items())
    network = f'[networks.local]\nurl = "{city.chain.url}"\n{registries}'
    config.write_text(f"{text}\n{network}")
    if rules:
        (folder / "validator.toml").write_text(rules)
    return config


@contextmanager
def running_validator(city: City, config: Path) -> Iterator[ValidatorRun]:
    """Run a validator in a thread.

    Args:
        city: the city, whose chain has the identity registry.
        config: the settings file.
    """
    settings, log = load_validator(config, environment={}), load_log(config, environment={})
    setup = ValidatorSetup(
        settings,
        open_signer(settings.identity, settings.identity_key, environment={}),
        lambda: IdentitiesContract(city.chain, city.deployment.registries["identities"]),
        LogParts(TileLog(log.folder), open_log_key(*log.signing(), environment={})),
    )
    run = ValidatorRun("", config.parent)
    with running(lambda lines, stop: opened_service(setup, lines, stop), run.lines) as run.url:
        yield run


@contextmanager
def validator_process(config: Path) -> Iterator[tuple[forks.Process, ValidatorRun]]:
    """Run ``blockota validator run`` as a process. It is killed at the end."""
    with service_process("validator", config) as (process, url):
        yield process, ValidatorRun(url, config.parent)
