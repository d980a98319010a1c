"""The gateway serves metrics and its log to any client.

The pages about devices are served only to clients on the gateway's own machine.
"""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import pytest

from blockota import __version__
from blockota.gateway.monitoring import AccessStatus, DevicePlan, GatewaySite, GatewayStatus, ask_plans
from blockota.ledger.log import TileLog
from blockota.ledger.recording import LogStatus
from blockota.repository.request import HttpRequest
from tests.support.scraping import samples_of

PLAN = DevicePlan(256, "acme/thermo2/SN-1", "default", is_banned=False, why="no order is open")
LOG = LogStatus(entries=5, anchored=4, unanchored_since=int(time.time()) - 100, appended={"install": 2})
STATUS = GatewayStatus(devices=2, stages={"offered": 1, "settled": 1}, block=7, waiting=3, log=LOG)
ACCESS = AccessStatus(9, 8, 7, 1_800_000_000, 2, accepted_requests=6, refused_requests={"BANNED": 5})


def ask(folder: Path, path: str, *, client: str = "127.0.0.1", status: GatewayStatus = STATUS) -> tuple[int, str]:
    """Return the status and the body of the response to a request."""
    site = GatewaySite(TileLog(folder), lambda: status, lambda: [PLAN], host="10.64.0.7")
    answer = site.answer(HttpRequest("GET", path, {}, client))
    return answer.status, b"".join(one for one in answer.pieces if isinstance(one, bytes)).decode()


@pytest.mark.parametrize(
    ("status", "word"),
    [(GatewayStatus(), "starting"), (STATUS, "serving"), (GatewayStatus(block=7, troubles={"a": "b"}), "degraded")],
)
def test_health_has_a_word_for_the_state(tmp_path: Path, status: GatewayStatus, word: str) -> None:
    """The gateway answers `/health` with status 200 even if it has failures, because a restart would not help."""
    code, body = ask(tmp_path, "/health", status=status)
    assert (code, json.loads(body)["status"]) == (200, word)


def test_metrics_have_prometheus_format(tmp_path: Path) -> None:
    """A client on another machine can read the gateway's metrics, its log, and the process metrics."""
    samples = samples_of(ask(tmp_path, "/metrics", client="192.0.2.7")[1])
    assert samples["blockota_gateway_components offered"] == 1
    assert samples["blockota_gateway_outbox_entries"] == 3
    assert (samples["blockota_gateway_log_entries"], samples["blockota_gateway_anchored_entries"]) == (5, 4)
    assert 100 <= samples["blockota_gateway_unanchored_age_seconds"] < 3600
    assert samples["blockota_gateway_appended_entries_total install"] == 2
    assert samples[f"blockota_info gateway {__version__}"] == 1
    assert samples["process_resident_memory_bytes"] > 0


def test_readings_and_commands_are_shown(tmp_path: Path) -> None:
    """With access settings, the state page shows the outbox, the last reading and the open commands."""
    status = replace(STATUS, access=ACCESS)
    found = json.loads(ask(tmp_path, "/health", status=status)[1])
    assert found["readings"] == {
        "waiting": 9,
        "accepted": 8,
        "refused": 7,
        "last": 1_800_000_000,
        "openCommands": 2,
    }
    samples = samples_of(ask(tmp_path, "/metrics", status=status)[1])
    expected = {
        "submissions": 9,
        "readings_total": 8,
        "refused_readings_total": 7,
        "last_reading_timestamp_seconds": 1_800_000_000,
        "open_commands": 2,
        "accepted_requests_total": 6,
        "refused_requests_total BANNED": 5,
    }
    assert {name: samples[f"blockota_gateway_{name}"] for name in expected} == expected
    assert "readings" not in json.loads(ask(tmp_path, "/health")[1])


def test_devices_are_shown_to_this_machine_only(tmp_path: Path) -> None:
    """A client on another machine can read the log and the metrics, but not the devices.

    A client whose address is the gateway's own virtual IP counts as a client on the gateway's machine.
    """
    assert ask(tmp_path, "/devices", client="10.64.0.7")[0] == 200
    assert ask(tmp_path, "/devices", client="10.64.0.8")[0] == 403
    assert ask(tmp_path, "/devices", client="192.0.2.7")[0] == 403
    code, body = ask(tmp_path, "/devices")
    assert (code, json.loads(body)) == (200, {"devices": [PLAN.as_fields()]})
    assert ask(tmp_path, "/checkpoint", client="192.0.2.7")[0] == 404
    assert ask_plans(("127.0.0.1", 9)) == {}
