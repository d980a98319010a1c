"""The gateway serves some pages to monitors, and some only to its own machine."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from blockota.gateway.monitoring import AccessStatus, DevicePlan, GatewaySite, GatewayStatus, ask_plans
from blockota.ledger.log import TileLog
from blockota.repository.request import HttpRequest

PLAN = DevicePlan(256, "acme/thermo2/SN-1", "default", is_banned=False, why="no order is open")
STATUS = GatewayStatus(devices=2, stages={"offered": 1, "settled": 1}, block=7, waiting=3, entries=5, anchored=4)
ACCESS = AccessStatus(waiting=9, accepted=8, refused=7, last=1_800_000_000, open_commands=2)


def ask(folder: Path, path: str, *, client: str = "127.0.0.1", status: GatewayStatus = STATUS) -> tuple[int, str]:
    """Return the status and the body of the answer to a request."""
    site = GatewaySite(TileLog(folder), lambda: status, lambda: [PLAN])
    answer = site.answer(HttpRequest("GET", path, {}, client))
    return answer.status, b"".join(one for one in answer.pieces if isinstance(one, bytes)).decode()


@pytest.mark.parametrize(
    ("status", "word"),
    [(GatewayStatus(), "starting"), (STATUS, "serving"), (GatewayStatus(block=7, troubles={"a": "b"}), "degraded")],
)
def test_health_has_a_word_for_the_state(tmp_path: Path, status: GatewayStatus, word: str) -> None:
    """A gateway with failures also answers with 200, because a restart would not help."""
    code, body = ask(tmp_path, "/health", status=status)
    assert (code, json.loads(body)["status"]) == (200, word)


def test_metrics_have_prometheus_format(tmp_path: Path) -> None:
    """Each metric has a help text and a type before its samples. Each line has the right format."""
    _, body = ask(tmp_path, "/metrics", client="192.0.2.7")
    lines = body.splitlines()
    form = re.compile(r'# (HELP|TYPE) [a-z_]+ .+|[a-z_]+(\{[a-z]+="[a-z]+"\})? \d+', re.ASCII)
    assert not [line for line in lines if not form.fullmatch(line)]
    assert 'blockota_gateway_components{stage="offered"} 1' in lines
    assert "blockota_gateway_outbox_entries 3" in lines
    assert body.endswith("\n")


def test_readings_and_commands_are_shown(tmp_path: Path) -> None:
    """A gateway with access settings shows its outbox, its last reading and its open commands."""
    status = replace(STATUS, access=ACCESS)
    found = json.loads(ask(tmp_path, "/health", status=status)[1])
    assert found["readings"] == {
        "waiting": 9,
        "accepted": 8,
        "refused": 7,
        "last": 1_800_000_000,
        "openCommands": 2,
    }
    _, body = ask(tmp_path, "/metrics", status=status)
    for line in ("submissions 9", "readings_total 8", "last_reading_timestamp_seconds 1800000000", "open_commands 2"):
        assert f"blockota_gateway_{line}\n" in body
    assert "readings" not in json.loads(ask(tmp_path, "/health")[1])


def test_devices_are_shown_to_this_machine_only(tmp_path: Path) -> None:
    """A client on another machine gets the log and the numbers, but not the devices."""
    assert ask(tmp_path, "/devices", client="192.0.2.7")[0] == 403
    code, body = ask(tmp_path, "/devices")
    assert (code, json.loads(body)) == (200, {"devices": [PLAN.as_fields()]})
    assert ask(tmp_path, "/checkpoint", client="192.0.2.7")[0] == 404
    assert ask_plans(("127.0.0.1", 9)) == {}
