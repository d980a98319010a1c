"""The metrics of all services and the alert rules are checked by Prometheus' own tool, promtool."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from pathlib import Path
from urllib.request import urlopen

import pytest

from blockota.broker.monitoring import BrokerStatus
from blockota.chain import Chain
from blockota.gateway.monitoring import AccessStatus, GatewayStatus
from blockota.identity.tunnel_monitoring import TunnelWatch
from blockota.identity.validator_service import ValidatorStatus
from blockota.identity.wireguard import PeerState
from blockota.ledger.log import TileLog
from blockota.ledger.recording import LogStatus
from blockota.operations.cloud_service import CloudStatus
from blockota.repository.access_log import AccessRecord
from blockota.repository.catalogue import Catalogue
from blockota.repository.metrics import MetricsPage
from blockota.repository.request import HttpRequest
from blockota.repository.serving_status import RepositoryStatus, ServedCounts, ServedLogStatus
from blockota.repository.status_site import StatusPages
from blockota.stores.local import LocalStore
from tests.conftest import Cast
from tests.support.operations_room import make_scene, running_room
from tests.support.repository_process import read_fixed
from tests.support.waiting import eventually

RULES = Path(__file__).resolve().parents[3] / "examples" / "prometheus" / "blockota.rules.yml"
LOG = LogStatus(7, 4, int(time.time()) - 100, {"install": 3, "reinstall": 1})
ALERTS = """
rule_files: [{rules}]
evaluation_interval: 1m
tests:
  - interval: 1m
    input_series:
      - {{series: 'blockota_gateway_components{{instance="g",stage="stopped"}}', values: "0x10 2x20"}}
      - {{series: 'blockota_gateway_troubles{{instance="g"}}', values: "0x10 1x20"}}
      - {{series: 'blockota_cloud_unanchored_age_seconds{{instance="c"}}', values: "60x10 7201x20"}}
      - {{series: 'blockota_validator_refused_requests_total{{instance="v",fault="BANNED"}}', values: "0x10 0+60x20"}}
      - {{series: 'blockota_broker_last_round_timestamp_seconds{{instance="b"}}', values: "0x1000"}}
      - {{series: 'up{{instance="g",job="blockota"}}', values: "1x10 0x20"}}
    alert_rule_test:
      - {{alertname: BlockOTADeliveriesStopped, eval_time: 9m}}
      - alertname: BlockOTADeliveriesStopped
        eval_time: 20m
        exp_alerts:
          - exp_labels: {{severity: warning, instance: g, stage: stopped}}
            exp_annotations:
              summary: "2 deliveries of g have stopped, and wait for `blockota gateway retry`."
      - alertname: BlockOTAServiceTrouble
        eval_time: 20m
        exp_alerts:
          - exp_labels: {{severity: warning, instance: g}}
            exp_annotations:
              summary: "1 parts of g are in trouble: its page /health has the reasons."
      - alertname: BlockOTAEntriesNotAnchored
        eval_time: 20m
        exp_alerts:
          - exp_labels: {{severity: warning, instance: c}}
            exp_annotations: {{summary: "An entry of c has waited 2h 0m 1s for an anchor."}}
      - alertname: BlockOTARequestsRefused
        eval_time: 25m
        exp_alerts:
          - exp_labels: {{severity: warning, instance: v, fault: BANNED}}
            exp_annotations: {{summary: "v refuses 1 requests a second: BANNED."}}
      - {{alertname: BlockOTABrokerStopped, eval_time: 900m}}
      - alertname: BlockOTAServiceDown
        eval_time: 15m
        exp_alerts:
          - exp_labels: {{severity: critical, instance: g, job: blockota}}
            exp_annotations: {{summary: "g does not answer."}}
"""


def promtool(*words: str, given: bytes = b"") -> str:
    """Run promtool, and return its output; if it reports an error, the test fails."""
    program = shutil.which("promtool")
    assert program
    done = subprocess.run([program, *words], input=given, capture_output=True, check=False)
    output = (done.stdout + done.stderr).decode()
    assert done.returncode == 0, output
    return output


def states(folder: Path) -> dict[str, StatusPages]:
    """Return, by service name, a state of each service with all metrics."""
    counts = ServedCounts()
    counts.count(AccessRecord(HttpRequest("GET", "/", {}, "192.0.2.1"), status=200, sent=3, is_complete=True))
    store = LocalStore(folder / "store")
    store.folder.mkdir()
    faults = {"BANNED": 2}
    return {
        "gateway": GatewayStatus(2, {"offered": 1}, 7, log=LOG, access=AccessStatus(refused_requests=faults)),
        "validator": ValidatorStatus(7, 3, refused=faults, log=LOG),
        "cloud": CloudStatus(7, 3, refused=faults, log=LOG),
        "repository": RepositoryStatus(Catalogue(read_fixed, store), None, counts),
        "log": ServedLogStatus(TileLog(folder / "log"), counts),
        "broker": BrokerStatus(2, 1, {"fetched": 1}, {"fetch": 1}, {"announced": 1}),
        "tunnels": TunnelWatch(lambda: [PeerState("key", "", None, 1, 2)]),
    }


@pytest.fixture(scope="module")
def room_text(anvil: Chain, cast: Cast, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the metrics of a running room that has read its log."""
    scene = make_scene(anvil, cast, tmp_path_factory.mktemp("room"))

    def metrics() -> str:
        with urlopen(f"{url}/metrics") as answer:  # noqa: S310 - our own server
            return str(answer.read().decode())

    with running_room(scene.setup) as url:
        eventually(lambda: 'running_devices{product="acme-thermo2",version="1.1.0"} 2.0' in metrics(), what="the log")
        return metrics()


def test_the_configuration_and_the_alert_rules_are_valid() -> None:
    """Promtool accepts the settings file and the alert rules, and finds all rules."""
    assert "19 rules found" in promtool("check", "config", str(RULES.with_name("prometheus.yml")))


def test_the_alerts_fire_when_they_should(tmp_path: Path) -> None:
    """Promtool evaluates the rules over time series in which a service fails after ten minutes."""
    path = tmp_path / "alerts.yml"
    path.write_text(ALERTS.format(rules=RULES))
    assert "SUCCESS" in promtool("test", "rules", str(path))


def test_the_metrics_are_valid(room_text: str, tmp_path: Path) -> None:
    """Promtool accepts the metrics of each service, which include each metric that the rules use."""
    assert "SN-4001" not in room_text
    pages = {name: MetricsPage(name, state.metrics).text().decode() for name, state in states(tmp_path).items()}
    pages["operations"] = room_text
    for name, text in pages.items():
        assert not promtool("check", "metrics", given=text.encode()), name
        assert re.findall(r"^blockota_(?!info)([a-z]+)_", text, re.MULTILINE).count(name) > 2
    known = {name for text in pages.values() for name in re.findall(r"^# TYPE (\w+)", text, re.MULTILINE)}
    named = set(re.findall(r"\bblockota_\w+", RULES.read_text()))
    assert len(named) > 20
    assert named <= known


@pytest.mark.parametrize("name", ["expr: up == 1", "alert: [broken"])
def test_promtool_would_notice_a_wrong_rule(tmp_path: Path, name: str) -> None:
    """Promtool refuses broken rules."""
    wrong = tmp_path / "wrong.yml"
    wrong.write_text(RULES.read_text().replace("alert: BlockOTATrouble", name))
    program = shutil.which("promtool")
    assert program
    assert subprocess.run([program, "check", "rules", str(wrong)], capture_output=True, check=False).returncode
