"""A small fleet of MQTT devices with faults at mosquitto, while the gateway is killed."""

from __future__ import annotations

from pathlib import Path

from benchmarks.fleet_campaign import CampaignPlan, run_campaign
from benchmarks.fleet_mqtt_device import MqttDevice
from benchmarks.fleet_site import SiteSettings, fleet_site


def test_mqtt_devices_with_faults_end_right(tmp_path: Path) -> None:
    """After all kinds of faults and a kill of the gateway, no log entry is false, lost or duplicate.

    Every device finishes its update.
    """
    with fleet_site(tmp_path, SiteSettings(faces=("mqtt", "ddi"), blocks=1)) as site:
        result = run_campaign(site, CampaignPlan({"mqtt": 30}, faults=100, rounds=1, size=4096, kills=1))
    verdict = result.verdict
    assert (verdict.false, verdict.lost, verdict.doubled, result.stuck, result.unverified) == ([], [], [], [], 0)
    assert {fault for _, fault in result.faults} == set(MqttDevice.FAULTS)
    assert result.kills == 1
