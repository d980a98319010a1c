"""Prometheus itself scrapes running services, and evaluates the alert rules over them."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import requests

from blockota.chain import Chain
from blockota.chain.local import free_port
from blockota.connection import Connection
from blockota.formats.notes import NoteAlgorithm, NoteSigner, VerifierKey
from blockota.gateway.opening import GatewaySetup
from blockota.gateway.settings import GatewaySettings
from blockota.ledger.log import TileLog
from blockota.ledger.recording import LogParts
from tests.conftest import Cast
from tests.peers.browser.test_metrics import RULES
from tests.support import forks
from tests.support.city import GATEWAY, City, settings_of
from tests.support.clouds import cloud_process, write_cloud
from tests.support.gateway_runs import running_gateway
from tests.support.operations_room import make_scene, running_room
from tests.support.validators import validator_process, write_validator
from tests.support.waiting import DEADLINE, eventually

HOST = "127.0.0.1"
CONFIGURATION = """
global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}
rule_files: [{rules}]
scrape_configs:
  - job_name: blockota
    static_configs: [{{targets: {targets}}}]
"""


class Prometheus:
    """A running Prometheus.

    Args:
        url: the URL of its API.
    """

    def __init__(self, url: str) -> None:
        self._url = url

    def values(self, query: str, label: str = "instance") -> dict[str, float]:
        """Return the results of a query, by the value of a label."""
        found = self._ask("query", query=query)["result"]
        return {one["metric"].get(label, ""): float(one["value"][1]) for one in found}

    def alerts(self) -> set[tuple[str, str]]:
        """Return the names and instances of the pending and firing alerts."""
        return {(one["labels"]["alertname"], one["labels"]["instance"]) for one in self._ask("alerts")["alerts"]}

    def _ask(self, what: str, **parameters: str) -> dict[str, Any]:
        answer = requests.get(f"{self._url}/api/v1/{what}", params=parameters, timeout=DEADLINE).json()
        assert answer["status"] == "success", answer
        found: dict[str, Any] = answer["data"]
        return found


@contextmanager
def prometheus(folder: Path, targets: Sequence[str]) -> Iterator[Prometheus]:
    """Run Prometheus with services at these addresses as its targets."""
    config, port = folder / "prometheus.yml", free_port()
    config.write_text(CONFIGURATION.format(rules=RULES, targets=json.dumps(targets)))
    words = [f"--config.file={config}", f"--storage.tsdb.path={folder / 'data'}", f"--web.listen-address={HOST}:{port}"]
    url, program = f"http://{HOST}:{port}", shutil.which("prometheus")
    assert program
    with (folder / "prometheus.log").open("wb") as log, subprocess.Popen([program, *words], stderr=log) as process:
        try:
            eventually(lambda: _is_ready(url), what="Prometheus")
            yield Prometheus(url)
        finally:
            process.terminate()


def _is_ready(url: str) -> bool:
    try:
        return requests.get(f"{url}/-/ready", timeout=DEADLINE).ok
    except requests.ConnectionError:
        return False


def gateway_setup(city: City, folder: Path, port: int) -> GatewaySetup:
    """Return a gateway of the city that does not anchor its log."""
    name = f"city.example/gateway/{GATEWAY.uuid.hex}"
    key = VerifierKey(name, NoteAlgorithm.ED25519, GATEWAY.log_key.public_key().public_bytes_raw())
    connection = Connection(settings_of(city, folder))
    return GatewaySetup(
        GatewaySettings(GATEWAY.uuid, folder, listen=(HOST, port)),
        LogParts(TileLog(folder / "log"), NoteSigner(key, GATEWAY.log_key.sign)),
        connection,
        {"local": connection},
    )


@contextmanager
def city_services(city: City, folder: Path, log: Path) -> Iterator[tuple[dict[str, str], forks.Process]]:
    """Run a gateway, a validator, a cloud and a server of a log.

    Yields:
        The services' addresses, by the prefix of their metrics, and the process of the log's server.
    """
    places = {name: f"{HOST}:{free_port()}" for name in ("gateway", "validator", "cloud", "log")}
    for name in places:
        (folder / name).mkdir()
    config = write_validator(city, folder / "validator")
    config.write_text(config.read_text().replace(f'listen = "{HOST}:0"', f'listen = "{places["validator"]}"'))
    port = int(places["gateway"].rpartition(":")[2])
    words = ["-m", "blockota", "log", "serve", str(log), "--listen", f"{HOST}:0", "--metrics", places["log"], "--json"]
    with ExitStack() as stack:
        stack.enter_context(running_gateway(gateway_setup(city, folder / "gateway", port), []))
        stack.enter_context(validator_process(config))
        stack.enter_context(cloud_process(write_cloud(city, folder / "cloud", listen=places["cloud"])))
        server = stack.enter_context(forks.started(words, folder=folder / "log"))
        assert server.stdout.readline()
        yield places, server


def test_prometheus_scrapes_the_services_of_a_city(anvil: Chain, cast: Cast, tmp_path: Path) -> None:
    """Each running service is up, its metrics are stored, and a service that ends causes an alert."""
    scene = make_scene(anvil, cast, tmp_path)
    services = tmp_path / "services"
    services.mkdir()
    with (
        running_room(scene.setup) as url,
        city_services(scene.city, services, scene.gateway.folder) as (places, server),
        prometheus(tmp_path, [*places.values(), room := url.removeprefix("http://")]) as found,
    ):
        places["operations"] = room
        everyone = dict.fromkeys(places.values(), 1.0)
        eventually(lambda: found.values("up") == everyone, what="the services")
        versions = found.values("blockota_info", label="service")
        assert versions == dict.fromkeys(places, 1.0)
        starts = found.values("process_start_time_seconds")
        assert set(starts) == set(places.values())
        block = scene.city.chain.head().number
        eventually(
            lambda: (
                found.values("blockota_validator_newest_block") == {places["validator"]: block}
                and found.values("blockota_cloud_newest_block") == {places["cloud"]: block}
                and found.values("blockota_gateway_confirmed_block") == {places["gateway"]: block}
            ),
            what="the newest block in each service",
        )
        eventually(lambda: found.values("blockota_gateway_devices") == {places["gateway"]: 3.0}, what="the devices")
        assert found.values("blockota_log_published_entries") == {places["log"]: len(scene.gateway.log)}
        assert found.values("blockota_operations_devices") == {room: 3.0}
        assert ("BlockOTAServiceDown", places["log"]) not in found.alerts()

        server.send_signal(signal.SIGTERM)
        assert server.wait() == 0
        down = ("BlockOTAServiceDown", places["log"])
        eventually(lambda: down in found.alerts(), what="the alert")
